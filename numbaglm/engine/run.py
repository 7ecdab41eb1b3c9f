"""A permutation test as tasks over a cohort: voxel scope, then map scope, then the reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.store import CohortStore
from numbaglm.engine import schedule
from numbaglm.engine.maps import ClusterTask, TfceTask, merge_blocks, slice_picks
from numbaglm.engine.outcome import RunResult, map_scratch
from numbaglm.engine.plan import Plan
from numbaglm.engine.pseudo import PseudoRound, PseudoTask, fill_block
from numbaglm.engine.voxels import Block, Floats, Picks, Round, Spec, permute_block, refine_block
from numbaglm.stats.tails import merge_largest

_MAPS_A_TASK = 16  # whole maps: some tenths of a second
_CLUSTERINGS_A_TASK = 512  # sparse ones


@dataclass
class _Nulls:
    """Nulls as they grow, round by round."""

    counts: NDArray[np.int64]
    score: list[NDArray[np.float64]] = field(default_factory=list)
    size: list[NDArray[np.int32]] = field(default_factory=list)
    mass: list[NDArray[np.float64]] = field(default_factory=list)
    tfce: list[NDArray[np.float64]] = field(default_factory=list)
    tails: list[tuple[NDArray[np.int32], Floats]] = field(default_factory=list)

    def keep_tails(self, rounds: Sequence[Round]) -> None:
        """Take in the largest scores of the voxels of each block, where they are kept."""
        found = [one.tails for one in rounds if one.tails is not None]
        if self.tails:
            pairs = zip(self.tails, found, strict=True)
            found = [(voxels, merge_largest(before, now)) for (voxels, before), (_, now) in pairs]
        self.tails = found

    def add(self, one: PseudoRound) -> None:
        """Take in what map scope returned of a span."""
        self.counts += one.counts
        self.score.append(one.maxima)
        if one.size is not None and one.mass is not None:
            self.size.append(one.size)
            self.mass.append(one.mass)
        if one.tfce is not None:
            self.tfce.append(one.tfce)


def run_test(
    store: CohortStore,
    spec: Spec,
    plan: Plan,
    *,
    client: Any | None = None,
    n_workers: int | None = None,
    progress: bool = False,
) -> RunResult:
    """Run a permutation test over a cohort.

    Parameters
    ----------
    store, spec, plan
        What is tested, how, and how it is cut up.
    client, n_workers, progress
        As in `schedule.run_tasks`.
    """
    running = {"client": client, "n_workers": n_workers, "progress": progress}
    plan = replace(plan, resident=plan.resident and client is None)  # residuals never leave a cluster's workers
    if spec.variance_fwhm is not None:
        return _run_pseudo(store, spec, plan, running)
    sources: list[Any] = [(store, start, stop) for start, stop in plan.blocks]
    nulls = _Nulls(np.zeros(store.n_voxels, np.int64))
    observed_picks = None
    blocks: list[Block] = []
    with map_scratch(spec, plan, store.n_voxels, client is not None, int(spec.tfce)) as scratch:
        scores = scratch[0] if spec.tfce else None
        for first, last in plan.ranges:
            results = _voxel_scope(permute_block, sources, spec, plan, (first, last), scores, running)
            blocks, rounds = [block for block, _ in results], [result for _, result in results]
            if plan.resident:
                sources = list(blocks)
            nulls.score.append(np.max([r.maxima for r in rounds], axis=0))
            for (start, stop), result in zip(plan.blocks, rounds, strict=True):
                nulls.counts[start:stop] += result.counts
            nulls.keep_tails(rounds)
            picks = [r.picks for r in rounds]
            if spec.threshold is not None and first == 0:
                _, voxel, value = merge_blocks([slice_picks(p, 0, 1) for p in picks])
                observed_picks = voxel, value
            _map_scope(store, spec, picks, scores, last - first, nulls, running)
    score = np.concatenate([block.score for block in blocks])
    statistic = np.concatenate([block.statistic for block in blocks])
    raw = _outcome(store, spec, blocks, score, statistic, nulls, observed_picks)
    return replace(raw, refined=_refine(spec, plan, raw, nulls, running)) if nulls.tails else raw


def _refine(
    spec: Spec, plan: Plan, raw: RunResult, nulls: _Nulls, running: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Uncorrected p by the tails of the voxels, and where each comes from."""
    arguments = [
        (spec, raw.score[start:stop], raw.counts[start:stop], *tail)
        for (start, stop), tail in zip(plan.blocks, nulls.tails, strict=True)
    ]
    found = schedule.run_tasks(
        refine_block,
        arguments,
        label="Refining p",
        unit="voxel",
        weights=[stop - start for start, stop in plan.blocks],
        **running,
    )
    return np.concatenate([p for p, _ in found]), np.concatenate([source for _, source in found])


def _run_pseudo(store: CohortStore, spec: Spec, plan: Plan, running: dict[str, Any]) -> RunResult:
    """As `run_test`, for pseudo-t: whole maps first, scores after."""
    sources: list[Any] = [(store, start, stop) for start, stop in plan.blocks]
    nulls = _Nulls(np.zeros(store.n_voxels, np.int64))
    task = PseudoTask.build(spec, store.geometry)
    blocks: list[Block] = []
    with map_scratch(spec, plan, store.n_voxels, running["client"] is not None, 2) as scratch:
        for first, last in plan.ranges:
            results = _voxel_scope(fill_block, sources, spec, plan, (first, last), scratch, running)
            blocks = [block for block, _ in results]
            if plan.resident:
                sources = list(blocks)
            if first == 0:
                task = replace(task, observed=task.score(scratch[0][0], scratch[1][0]))
            spans = _spans(last - first, _MAPS_A_TASK)
            arguments: list[Any] = [(scratch, *span) for span in spans]
            for one in _run(task.reduce, arguments, "Smoothing variances", spans, running):
                nulls.add(one)
    assert task.observed is not None
    return _outcome(store, spec, blocks, task.observed, task.observed, nulls, task.observed_picks())


def _outcome(
    store: CohortStore,
    spec: Spec,
    blocks: Sequence[Block],
    score: NDArray[np.float64],
    statistic: NDArray[np.float64],
    nulls: _Nulls,
    observed_picks: tuple[NDArray[np.int32], Any] | None,
) -> RunResult:
    max_score = np.concatenate(nulls.score)
    # The kernels' correlations of single precision round to 1, an infinite t, where the observed one does not.
    max_score[0] = (np.abs(score) if spec.two_sided else score).max()
    return RunResult(
        score=score,
        statistic=statistic,
        effect=np.concatenate([block.effect for block in blocks], axis=1),
        degenerate=np.concatenate([block.degenerate for block in blocks]),
        length=np.concatenate([block.length for block in blocks]),
        counts=nulls.counts,
        max_score=max_score,
        max_size=np.concatenate(nulls.size).astype(np.int64) if nulls.size else None,
        max_mass=np.concatenate(nulls.mass) if nulls.mass else None,
        observed_picks=observed_picks,
        tfce=TfceTask.build(spec, store.geometry).enhance(score) if spec.tfce else None,
        max_tfce=np.concatenate(nulls.tfce) if nulls.tfce else None,
        refined=None,
    )


def _voxel_scope(
    function: Any,
    sources: Sequence[Any],
    spec: Spec,
    plan: Plan,
    span: tuple[int, int],
    scratch: Any,
    running: dict[str, Any],
) -> list[tuple[Block, Any]]:
    return schedule.run_tasks(
        function,
        [(source, spec, plan, *span, scratch) for source in sources],
        label="Shuffling",
        unit="voxel",
        weights=[(span[1] - span[0]) * (stop - start) for start, stop in plan.blocks],
        **running,
    )


def _map_scope(
    store: CohortStore,
    spec: Spec,
    picks: Sequence[Picks],
    scratch: Any,
    n_shufflings: int,
    nulls: _Nulls,
    running: dict[str, Any],
) -> None:
    if spec.threshold is not None:
        task = ClusterTask.build(spec, store.geometry)
        spans = _spans(n_shufflings, _CLUSTERINGS_A_TASK)
        arguments: list[Any] = [([slice_picks(p, *span) for p in picks],) for span in spans]
        for size, mass in _run(task.largest, arguments, "Merging clusters", spans, running):
            nulls.size.append(size)
            nulls.mass.append(mass)
    if spec.tfce:
        enhance = TfceTask.build(spec, store.geometry)
        spans = _spans(n_shufflings, _MAPS_A_TASK)
        arguments = [(scratch, *span) for span in spans]
        nulls.tfce += _run(enhance.largest, arguments, "Enhancing (TFCE)", spans, running)


def _spans(n: int, step: int) -> list[tuple[int, int]]:
    return [(i, min(i + step, n)) for i in range(0, n, step)]


def _run(
    function: Any, arguments: list[Any], label: str, spans: list[tuple[int, int]], running: dict[str, Any]
) -> list[Any]:
    weights = [last - first for first, last in spans]
    return schedule.run_tasks(function, arguments, label=label, unit="map", weights=weights, **running)
