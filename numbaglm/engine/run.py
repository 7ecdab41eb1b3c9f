"""A permutation test as tasks over a cohort: voxel scope, then map scope, then the reduction."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.store import CohortStore
from numbaglm.engine import schedule
from numbaglm.engine.maps import ClusterTask, TfceTask, merge_blocks, slice_picks
from numbaglm.engine.plan import BATCH_ROWS, Plan
from numbaglm.engine.voxels import Block, Floats, Picks, Round, Spec, permute_block


@dataclass(frozen=True, eq=False)
class RunResult:
    """Raw results: scores, counts and nulls; nothing is corrected yet.

    Attributes
    ----------
    score, statistic, effect, degenerate
        As in `numbaglm.engine.voxels.Block`, over all voxels.
    counts
        (n_voxels,) shufflings whose score reaches the observed one, the observed among them.
    max_score
        (n_shufflings,) largest score of each shuffling (absolute if two-sided).
    max_size, max_mass
        (n_shufflings,) of the largest cluster, where clusters were asked for.
    observed_picks
        Voxels above the cluster-forming threshold in the observed map, and their scores.
    tfce, max_tfce
        (n_voxels,) observed TFCE, and (n_shufflings,) its maximum, where it was asked for.
    """

    score: NDArray[np.float64]
    statistic: NDArray[np.float64]
    effect: NDArray[np.float64]
    degenerate: NDArray[np.bool_]
    counts: NDArray[np.int64]
    max_score: NDArray[np.float64]
    max_size: NDArray[np.int64] | None
    max_mass: NDArray[np.float64] | None
    observed_picks: tuple[NDArray[np.int32], Floats] | None
    tfce: NDArray[np.float64] | None
    max_tfce: NDArray[np.float64] | None


@dataclass
class _Nulls:
    """Nulls as they grow, round by round."""

    counts: NDArray[np.int64]
    score: list[NDArray[np.float64]] = field(default_factory=list)
    size: list[NDArray[np.int32]] = field(default_factory=list)
    mass: list[NDArray[np.float64]] = field(default_factory=list)
    tfce: list[NDArray[np.float64]] = field(default_factory=list)


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
    sources: list[Any] = [(store, start, stop) for start, stop in plan.blocks]
    nulls = _Nulls(np.zeros(store.n_voxels, np.int64))
    observed_picks = None
    blocks: list[Block] = []
    with _scratch(spec, plan, store.n_voxels, shared=client is not None) as scratch:
        for first, last in plan.ranges:
            blocks, rounds = _voxel_scope(sources, spec, plan, (first, last), scratch, running)
            if plan.resident:
                sources = list(blocks)
            nulls.score.append(np.max([r.maxima for r in rounds], axis=0))
            for (start, stop), result in zip(plan.blocks, rounds, strict=True):
                nulls.counts[start:stop] += result.counts
            picks = [r.picks for r in rounds]
            if spec.threshold is not None and first == 0:
                _, voxel, value = merge_blocks([slice_picks(p, 0, 1) for p in picks])
                observed_picks = voxel, value
            _map_scope(store, spec, picks, scratch, last - first, nulls, running)
    score = np.concatenate([block.score for block in blocks])
    max_score = np.concatenate(nulls.score)
    # The kernels' correlations of single precision round to 1, an infinite t, where the observed one does not.
    max_score[0] = (np.abs(score) if spec.two_sided else score).max()
    return RunResult(
        score=score,
        statistic=np.concatenate([block.statistic for block in blocks]),
        effect=np.concatenate([block.effect for block in blocks], axis=1),
        degenerate=np.concatenate([block.degenerate for block in blocks]),
        counts=nulls.counts,
        max_score=max_score,
        max_size=np.concatenate(nulls.size).astype(np.int64) if nulls.size else None,
        max_mass=np.concatenate(nulls.mass) if nulls.mass else None,
        observed_picks=observed_picks,
        tfce=TfceTask.build(spec, store.geometry).enhance(score) if spec.tfce else None,
        max_tfce=np.concatenate(nulls.tfce) if nulls.tfce else None,
    )


def _voxel_scope(
    sources: Sequence[Any],
    spec: Spec,
    plan: Plan,
    span: tuple[int, int],
    scratch: Any,
    running: dict[str, Any],
) -> tuple[list[Block], list[Round]]:
    results = schedule.run_tasks(
        permute_block,
        [(source, spec, plan, *span, scratch) for source in sources],
        label="Shuffling",
        unit="voxel",
        weights=[(span[1] - span[0]) * (stop - start) for start, stop in plan.blocks],
        **running,
    )
    return [block for block, _ in results], [result for _, result in results]


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
        spans = _spans(n_shufflings, 4 * BATCH_ROWS)
        arguments: list[Any] = [([slice_picks(p, *span) for p in picks],) for span in spans]
        for size, mass in _run(task.largest, arguments, "Merging clusters", spans, running):
            nulls.size.append(size)
            nulls.mass.append(mass)
    if spec.tfce:
        enhance = TfceTask.build(spec, store.geometry)
        spans = _spans(n_shufflings, BATCH_ROWS // 8)
        arguments = [(scratch, *span) for span in spans]
        nulls.tfce += _run(enhance.largest, arguments, "Enhancing (TFCE)", spans, running)


def _spans(n: int, step: int) -> list[tuple[int, int]]:
    return [(i, min(i + step, n)) for i in range(0, n, step)]


def _run(
    function: Any, arguments: list[Any], label: str, spans: list[tuple[int, int]], running: dict[str, Any]
) -> list[Any]:
    weights = [last - first for first, last in spans]
    return schedule.run_tasks(function, arguments, label=label, unit="map", weights=weights, **running)


@contextmanager
def _scratch(spec: Spec, plan: Plan, n_voxels: int, shared: bool) -> Iterator[Any]:
    """Room for the scores of one round of shufflings, where whole maps are needed.

    In memory where a plan keeps the residuals there too; otherwise, and for a cluster's workers, on disk.
    """
    if not spec.tfce:
        yield None
        return
    shape = (max(last - first for first, last in plan.ranges), n_voxels)
    if plan.resident and not shared:
        yield np.empty(shape, dtype=spec.precision)
        return
    with tempfile.TemporaryDirectory(prefix="numbaglm-") as folder:
        file = Path(folder) / "scores.npy"
        np.lib.format.open_memmap(file, mode="w+", dtype=np.dtype(spec.precision), shape=shape)
        yield DiskScores(str(file))


@dataclass(frozen=True)
class DiskScores:
    """Scores in a file that all workers see: an array in rows, opened where it is used."""

    path: str

    def __setitem__(self, where: Any, values: Floats) -> None:
        np.load(self.path, mmap_mode="r+")[where] = values

    def __getitem__(self, row: int) -> Floats:
        return np.asarray(np.load(self.path, mmap_mode="r")[row])
