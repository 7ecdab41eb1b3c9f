"""The largest scores of each shuffling, over all voxels: what templates of true discoveries are calibrated by.

Blocks pick the scores of the first shufflings above a threshold as they pass, beside those of clusters; what is left is
to take the largest over all blocks, and to make p of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats, Ints
from numbaglm.engine.permutation.records import Listing, Picks, Smallest, Spec
from numbaglm.kernels.discoveries import join_keys, join_rows, p_of_scores

N_LISTED = 1000
"""Scores of each shuffling: more find next to nothing more, in maps of a brain."""

N_SHUFFLINGS = 1000
"""As many are enough for a level of 5 %; where they are enumerated, or the user's own, all are taken."""

LISTED_TO = 1e-5
"""Share to which p that are listed are known, where scores are of double precision."""

N_LEARNED = 500
"""Shufflings beside these that a template is learned from."""

_ROOM = 1.25  # times as many scores are picked as are listed, were there no effect: a template rises no further
_KNOTS = 4001
_AT_ONCE = 64  # shufflings
_MAGNITUDE = 0x7FFFFFFF  # all bits but the sign
_HIGHEST = 0.4  # p; beyond 0.5 a one-sided statistic is below 0


def with_listing(spec: Spec, n_voxels: int, learns: bool = False, elements: bool = False) -> Spec:
    """Let a test list its largest scores on its way.

    Scores above a threshold are picked, as those of clusters are, that a few more of pure noise exceed.

    Parameters
    ----------
    learns
        Whether there are to be shufflings to learn a template from, beside those that calibrate it.
    elements
        Whether to list whose they are.
    """
    n_listed = listed_of(n_voxels)
    threshold = spec.family.scale.to_score("p", min(_HIGHEST, _ROOM * n_listed / n_voxels), spec.two_sided)
    n, n_learning = spec.shufflings.n_shufflings, 0
    if spec.shufflings.sampled:
        # Of random ones, those learned from are others than those calibrated. All of a set are the same whichever of
        # them is the data.
        n = min(n, N_SHUFFLINGS + learns * N_LEARNED)
        n_learning = n_learned(n) * learns
    return replace(spec, listing=Listing(float(threshold), n_listed, n, elements, n_learning))


def n_learned(n_shufflings: int) -> int:
    """How many of those listed are there to learn from."""
    return n_shufflings * N_LEARNED // (N_SHUFFLINGS + N_LEARNED)


def listed_of(n_voxels: int) -> int:
    """How many scores of each shuffling are listed."""
    return max(1, min(N_LISTED, int(n_voxels * _HIGHEST / _ROOM)))


def lists_on_its_way(spec: Spec) -> bool:
    """Whether a lower threshold leaves clusters as they are: not where scores are made after they were held against it.

    Such scores, of elements whose degrees of freedom differ, are listed by themselves.
    """
    return spec.family.patterns is None


def listing_alone(spec: Spec) -> Spec:
    """Turn a test into one that does nothing but list."""
    assert spec.listing is not None
    shufflings = spec.shufflings
    if shufflings.sampled:
        shufflings = replace(shufflings, n_shufflings=spec.listing.n_shufflings)
    return replace(spec, shufflings=shufflings, threshold=None, tfce=False, tfce_counts=False, tail="counts")


def smallest_of(spec: Spec, rounds: Sequence[Sequence[Picks]], n_voxels: int) -> Smallest:
    """List the smallest parametric p of shufflings.

    Parameters
    ----------
    spec
        With a listing.
    rounds
        What the blocks picked, round by round.
    n_voxels
        Of the cohort: the number of what fills a list up.
    """
    listing = spec.listing
    assert listing is not None
    n_listed = listing.n_listed
    shape = sum(parts[0][0].size - 1 for parts in rounds), n_listed
    scores = np.full(shape, listing.threshold, rounds[0][0][2].dtype)
    n_calibrating = shape[0] - listing.n_learned
    voxels, row = np.full((n_calibrating if listing.elements else 0, n_listed), n_voxels, np.int32), 0
    for parts in rounds:
        n_there = parts[0][0].size - 1
        for first in range(0, n_there, _AT_ONCE):
            some = slice(row + first, row + min(first + _AT_ONCE, n_there))
            _list(parts, first, spec.two_sided, scores[some], voxels[some])
        row += n_there
    return Smallest(_p_of(spec, scores), voxels if listing.elements else None)


def _list(parts: Sequence[Picks], first: int, two_sided: bool, scores: Floats, voxels: Ints) -> None:
    """List the largest scores of some shufflings, from ``first`` on, and whose those of the first of them are."""
    bounds = [part[0][first : first + len(scores) + 1] for part in parts]
    ends = np.cumsum(np.sum([np.diff(one) for one in bounds], axis=0))
    begins = np.concatenate([[0], ends[:-1]])
    if not len(voxels):
        _keep_largest(_heights(parts, bounds, begins, two_sided), begins, ends, scores)
    elif scores.dtype == np.float32:
        keys, place = np.empty(ends[-1], np.int64), begins.copy()
        for its, (_, voxel, value) in zip(bounds, parts, strict=True):
            join_keys(its, voxel, value.view(np.int32), _MAGNITUDE if two_sided else -1, place, keys)
        largest = np.zeros(scores.shape, np.int64)
        halves = largest.view(np.int32).reshape(*scores.shape, 2)  # (low, high) as all of numpy's wheels have it
        halves[: len(voxels), :, 0], halves[..., 1] = voxels, scores.view(np.int32)
        _keep_largest(keys, begins, ends, largest)
        voxels[:], scores[:] = halves[: len(voxels), :, 0], halves[..., 1].view(np.float32)
    else:
        height, place = _heights(parts, bounds, begins, two_sided), begins.copy()
        whose = np.empty(height.size, np.int32)
        for its, (_, voxel, _) in zip(bounds, parts, strict=True):
            join_rows(its, voxel, place, whose)
        for i, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            order = np.argsort(height[begin:end], kind="stable")[::-1][: scores.shape[1]]
            scores[i, : order.size] = height[begin:end][order]
            if i < len(voxels):
                voxels[i, : order.size] = whose[begin:end][order]


def _heights(
    parts: Sequence[Picks], bounds: Sequence[NDArray[np.int64]], begins: NDArray[np.int64], two_sided: bool
) -> Floats:
    """What counts of the scores that all blocks left, shuffling by shuffling."""
    out, place = np.empty(sum(int(its[-1] - its[0]) for its in bounds), parts[0][2].dtype), begins.copy()
    for its, (_, _, value) in zip(bounds, parts, strict=True):
        join_rows(its, value, place, out)
    return np.abs(out, out=out) if two_sided else out


def _keep_largest(
    values: NDArray[Any], begins: NDArray[np.int64], ends: NDArray[np.int64], largest: NDArray[Any]
) -> None:
    """Fill rows with the largest of their values, falling, as far as there are any; values change places."""
    n_kept = largest.shape[1]
    for row, begin, end in zip(largest, begins.tolist(), ends.tolist(), strict=True):
        there = values[begin:end]
        if there.size > 2 * n_kept:  # of fewer it takes as long as it saves
            there.partition(there.size - n_kept)
            there = there[-n_kept:]
        there.sort()
        row[: min(there.size, n_kept)] = there[: -n_kept - 1 : -1]


def _p_of(spec: Spec, scores: Floats) -> Doubles:
    """p of scores, by interpolation between many: to a tenth of `LISTED_TO`, in a tenth of the time.

    Where p changes too fast for that (the model nearly fits), it is computed.
    """
    low, high = float(scores.min()), float(scores.max())
    few = np.linspace(low, high, _KNOTS)

    def p_of(some: Floats) -> Doubles:
        return np.clip(spec.parametric_p(spec.family.scale.to_z(some)), np.finfo(float).tiny, 1.0)

    knots = p_of(few)
    log = np.log(knots)
    rise = np.diff(log)
    bend = np.diff(rise)
    table = np.ascontiguousarray(np.transpose([knots[:-2], rise[:-1] - bend / 2, bend / 2]))
    # The error of a parabola is at most a sixteenth of what the next bends otherwise, near enough.
    rough = np.flatnonzero(np.abs(np.diff(bend)) > LISTED_TO)
    limit, p = few[rough[0]] if rough.size else np.inf, np.empty(scores.shape)
    if high > limit:
        far = scores > limit
        p[far] = p_of(scores[far])
    p_of_scores(scores, table, low, (_KNOTS - 1) / (high - low) if high > low else 0.0, limit, p)
    return p
