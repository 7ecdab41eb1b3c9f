"""The largest scores of each shuffling, over all voxels: what templates of true discoveries are calibrated by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.maps import merge_blocks
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import Picks, Round, Spec
from numbaglm.engine.permutation.stages import Stages
from numbaglm.engine.permutation.voxels import Source, permute_block
from numbaglm.engine.permutation.workspace import Workspace

N_LISTED = 1000
"""Scores of each shuffling: more find next to nothing more, in maps of a brain."""

N_SHUFFLINGS = 1000
"""As many are enough for a level of 5 %; where all of them are enumerated, all are taken."""

_ROOM = 2.0  # times as many scores are picked as are listed, were there no effect
_KNOTS = 20_001
_HIGHEST = 0.4  # p; beyond 0.5 a one-sided statistic is below 0


def listing(spec: Spec, n_voxels: int) -> tuple[Spec, int]:
    """Turn a test into one that lists its largest scores, and say how many of each shuffling.

    Scores above a threshold are picked, as those of clusters are, that twice as many of pure noise exceed.
    """
    n_listed = max(1, min(N_LISTED, int(n_voxels * _HIGHEST / _ROOM)))
    threshold = spec.family.scale.to_score("p", min(_HIGHEST, _ROOM * n_listed / n_voxels), spec.two_sided)
    shufflings = spec.shufflings
    if not shufflings.exhaustive:
        shufflings = replace(shufflings, n_shufflings=min(shufflings.n_shufflings, N_SHUFFLINGS))
    bare = replace(spec, shufflings=shufflings, threshold=threshold, tfce=False, tfce_counts=False, tail="counts")
    return bare, n_listed


def smallest_p(store: CohortStore, spec: Spec, plan: Plan, work: Workspace, name: str, n_listed: int) -> Doubles:
    """List the smallest parametric p of each shuffling.

    Parameters
    ----------
    store, spec, plan, work, name
        As in `numbaglm.engine.permutation.run.run_test`; the specification is that of `listing`.
    n_listed
        How many.

    Returns
    -------
    (n_shufflings, n_listed) increasing along rows. A shuffling with fewer scores above the threshold is filled up with
    its p: what it lacks is no smaller.
    """
    shared, stages = work.share(name, spec), Stages(name, plan.blocks, plan.ranges)
    source = Source(store, shared, plan, None, {} if plan.resident else None)
    found = []
    for number, (first, last) in enumerate(plan.ranges):
        stage = stages.voxels(number)
        keys = work.run(
            stage.name,
            permute_block,
            [(source, *span, first, last, work.ledger, None, ()) for span in stage.spans],
            label="Listing",
            unit="voxel",
            weights=[(last - first) * size for size in stage.sizes],
        )
        sizes = {"n_maxima": last - first, "n_elements": store.n_voxels}
        parts = [
            work.ledger.get(key, Round, n_voxels=stop - start, **sizes)
            for key, (start, stop) in zip(keys, stage.spans, strict=True)
        ]
        found += list(_largest(spec, merge_blocks([part.picks for part in parts]), n_listed))
    return _p_of(spec, np.stack(found))


def _p_of(spec: Spec, scores: Doubles) -> Doubles:
    """p of scores, by interpolation between many: to 1e-6 of them, in a tenth of the time."""
    low, high = scores.min(), scores.max()
    few = np.linspace(low, high, _KNOTS)
    log = np.log(np.clip(spec.parametric_p(spec.family.scale.to_z(few)), np.finfo(float).tiny, 1.0))
    rise, p = np.diff(log), np.empty(scores.shape)
    per_knot = (_KNOTS - 1) / (high - low) if high > low else 0.0  # where nothing varies all are the same
    for row, found in zip(scores, p, strict=True):  # one at a time: it stays in the cache
        place = (row - low) * per_knot
        knot = np.minimum(place.astype(np.int32), _KNOTS - 2)  # evenly apart: there is nothing to search for
        place -= knot
        np.exp(log[knot] + place * rise[knot], out=found)
    return np.minimum(p, 1.0)


def _largest(spec: Spec, picks: Picks, n_listed: int) -> Iterator[NDArray[np.float64]]:
    """Largest heights (n_listed,) of each shuffling, descending."""
    bounds, _, score = picks
    assert spec.threshold is not None
    for begin, end in pairwise(bounds):
        height = score[begin:end]  # in the precision that they have: half the bytes to sort
        height = np.abs(height) if spec.two_sided else height
        if height.size > n_listed:
            height = np.partition(height, height.size - n_listed)[-n_listed:]
        listed = np.full(n_listed, spec.threshold)
        listed[: height.size] = np.sort(height)[::-1]
        yield listed
