"""The largest scores of each shuffling, over all voxels: what templates of true discoveries are calibrated by.

Blocks pick the scores of the first shufflings above a threshold as they pass, beside those of clusters; what is left is
to take the largest over all blocks, and to make p of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from numbaglm.arrays import Doubles, Floats
from numbaglm.engine.permutation.records import Listing, Picks, Smallest, Spec

N_LISTED = 1000
"""Scores of each shuffling: more find next to nothing more, in maps of a brain."""

N_SHUFFLINGS = 1000
"""As many are enough for a level of 5 %; where they are enumerated, or the user's own, all are taken."""

LISTED_TO = 1e-5
"""Share to which p that are listed are known, where scores are of double precision."""

N_LEARNED = 500
"""Shufflings beside these that a template is learned from."""

_ROOM = 1.25  # times as many scores are picked as are listed, were there no effect: a template rises no further
_KNOTS = 20_001
_AT_ONCE = 16  # rows: they stay in the cache
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
    n_shufflings = spec.shufflings.n_shufflings
    if spec.shufflings.sampled:
        n_shufflings = min(n_shufflings, N_SHUFFLINGS + learns * N_LEARNED)
    return replace(spec, listing=Listing(float(threshold), n_listed, n_shufflings, elements))


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
    voxels, row = np.full(shape if listing.elements else (0, n_listed), n_voxels, np.int32), 0
    for parts in rounds:
        bounds = [part[0].tolist() for part in parts]
        for i in range(len(bounds[0]) - 1):
            places = [slice(its[i], its[i + 1]) for its in bounds]
            height = np.concatenate([part[2][where] for part, where in zip(parts, places, strict=True)])
            height = np.abs(height, out=height) if spec.two_sided else height
            n_there = min(height.size, n_listed)
            least = height.size - n_there
            if listing.elements:
                voxel = np.concatenate([part[1][where] for part, where in zip(parts, places, strict=True)])
                order = np.argsort(height)[: least - 1 if least else None : -1]
                scores[row, :n_there], voxels[row, :n_there] = height[order], voxel[order]
            else:  # their order alone takes a third of the time
                if least:
                    height.partition(least)
                scores[row, :n_there] = np.sort(height[least:])[::-1]
            row += 1
    return Smallest(_p_of(spec, scores), voxels if listing.elements else None)


def _p_of(spec: Spec, scores: Floats) -> Doubles:
    """p of scores, by interpolation between many: to `LISTED_TO` of them, in a tenth of the time."""
    low, high = float(scores.min()), float(scores.max())
    few = np.linspace(low, high, _KNOTS)
    log = np.log(np.clip(spec.parametric_p(spec.family.scale.to_z(few)), np.finfo(float).tiny, 1.0))
    rise, log, p = np.diff(log).astype(scores.dtype), log.astype(scores.dtype), np.empty(scores.shape)
    lowest = scores.dtype.type(low)
    per_knot = scores.dtype.type((_KNOTS - 1) / (high - low) if high > low else 0.0)  # where all are the same
    for first in range(0, len(scores), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        place = (scores[some] - lowest) * per_knot
        knot = np.minimum(place.astype(np.int32), _KNOTS - 2)  # evenly apart: there is nothing to search for
        place -= knot
        place *= rise.take(knot)
        place += log.take(knot)
        np.minimum(np.exp(place, out=place), 1.0, out=place)
        np.maximum.accumulate(place, axis=1, out=p[some])  # scores that are nearly equal may fall by rounding
    return p
