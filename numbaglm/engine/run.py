"""A permutation test as tasks over a cohort, in two scopes.

Voxel scope: a task takes a block of voxels through shufflings and returns the maximum of each shuffling, the
counts of exceedance of each voxel, and the few voxels above the cluster-forming threshold. Map scope: a task
takes shufflings, gathers their voxels from all blocks, and returns the largest clusters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.data.store import CohortStore
from numbaglm.engine import schedule
from numbaglm.engine.plan import BATCH_ROWS, Plan
from numbaglm.kernels import clusters, glm, shuffle
from numbaglm.kernels.shuffle import TILE
from numbaglm.stats.exchangeability import Shufflings
from numbaglm.stats.inference import TIE_TOLERANCE, Conventions, Hypothesis

Floats = NDArray[np.floating[Any]]
Picks = tuple[NDArray[np.int64], NDArray[np.int32], Floats]
"""(bounds, voxel, score): the picks of shuffling i are those in bounds[i]:bounds[i + 1], voxels increasing."""

_KEYS = {"float32": np.int32, "float64": np.int64}
_SMALLEST_VARIANCE = 1e-14  # of the data's mean square: below it residuals are float32's rounding


@dataclass(frozen=True, eq=False)
class Spec:
    """All that a task must know of a test; small, and the same on every worker.

    Attributes
    ----------
    threshold
        Cluster-forming threshold on the statistic's own scale (t or F); None for no clusters.
    tfce
        Whether TFCE is computed.
    precision
        "float32" or "float64", of the products.
    """

    hypothesis: Hypothesis
    shufflings: Shufflings
    conventions: Conventions
    two_sided: bool
    threshold: float | None
    tfce: bool
    precision: str

    @property
    def n_rows(self) -> int:
        """Rows a shuffling."""
        return int(self.hypothesis.basis.shape[0])


@dataclass(frozen=True, eq=False)
class Block:
    """Voxels ``start`` to ``stop``, residualised and tiled, with what was observed there.

    Attributes
    ----------
    tiles
        (n_tiles, n_subjects, TILE) residuals of unit length.
    score
        (n_voxels,) float64 observed score; 0 where nothing varies.
    effect
        (n_interest, n_voxels) contrast of the parameter estimates.
    degenerate
        (n_voxels,) whether the nuisance explains all of the data, so that nothing is left to test.
    """

    start: int
    stop: int
    tiles: Floats
    score: NDArray[np.float64]
    effect: NDArray[np.float64]
    degenerate: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Round:
    """What a block returns of a range of shufflings."""

    maxima: NDArray[np.float64]
    counts: NDArray[np.int32]
    picks: Picks


@dataclass(frozen=True, eq=False)
class RunResult:
    """Raw results: scores, counts and nulls; nothing is corrected yet.

    Attributes
    ----------
    score, effect, degenerate
        As in `Block`, over all voxels.
    counts
        (n_voxels,) shufflings whose score reaches the observed one, the observed among them.
    max_score
        (n_shufflings,) largest score of each shuffling (absolute if two-sided).
    max_size, max_mass
        (n_shufflings,) of the largest cluster, where clusters were asked for.
    tfce, max_tfce
        (n_voxels,) observed TFCE, and (n_shufflings,) its maximum, where it was asked for.
    observed_picks
        Voxels above the cluster-forming threshold in the observed map, and their scores.
    """

    score: NDArray[np.float64]
    effect: NDArray[np.float64]
    degenerate: NDArray[np.bool_]
    counts: NDArray[np.int64]
    max_score: NDArray[np.float64]
    max_size: NDArray[np.int64] | None = None
    max_mass: NDArray[np.float64] | None = None
    tfce: NDArray[np.float64] | None = None
    max_tfce: NDArray[np.float64] | None = None
    observed_picks: tuple[NDArray[np.int32], Floats] | None = None


def prepare_block(store: CohortStore, spec: Spec, start: int, stop: int) -> Block:
    """Read a block of voxels, residualise it, bring every voxel to unit length."""
    hypothesis = spec.hypothesis
    Y = store.read(start, stop)
    n_subjects, n_voxels = Y.shape
    n_tiles = -(-n_voxels // TILE)
    tiles = np.empty((n_tiles, n_subjects, TILE), dtype=spec.precision)
    score = np.empty(n_voxels)
    effect = np.empty((hypothesis.effect.shape[0], n_voxels))
    degenerate = np.empty(n_voxels, dtype=bool)
    for t in range(n_tiles):
        columns = slice(t * TILE, min((t + 1) * TILE, n_voxels))
        y = np.ascontiguousarray(Y[:, columns])
        E = np.empty(y.shape)
        glm.residuals(y, hypothesis.residualiser, E)
        effect[:, columns] = hypothesis.effect @ y.astype(np.float64)
        length = np.sqrt(np.einsum("ij,ij->j", E, E))
        total = np.sqrt(np.einsum("ij,ij->j", y, y, dtype=np.float64))
        degenerate[columns] = length <= np.sqrt(_SMALLEST_VARIANCE) * total
        E *= np.where(degenerate[columns], 0.0, 1.0 / np.where(length > 0, length, 1.0))
        score[columns] = _observed_score(hypothesis, E)
        tiles[t, :, : y.shape[1]] = E
        tiles[t, :, y.shape[1] :] = E[:, -1:]  # a copy of a voxel changes no maximum
    return Block(start, stop, tiles, score, effect, degenerate)


def _observed_score(hypothesis: Hypothesis, E: NDArray[np.float64]) -> NDArray[np.float64]:
    products = hypothesis.basis @ E
    interest, nuisance = products[: hypothesis.n_interest], products[hypothesis.n_interest :]
    left = np.maximum(1.0 - (nuisance**2).sum(axis=0), np.finfo(np.float64).eps)
    if hypothesis.is_t:
        return np.asarray(interest[0] / np.sqrt(left), dtype=np.float64)
    return np.asarray((interest**2).sum(axis=0) / left, dtype=np.float64)


def permute_block(
    source: Block | tuple[CohortStore, int, int],
    spec: Spec,
    plan: Plan,
    first: int,
    last: int,
    scratch: NDArray[np.floating[Any]] | None = None,
) -> tuple[Block, Round]:
    """Take a block through shufflings ``first`` to ``last``; put all scores into ``scratch`` where it is given."""
    block = source if isinstance(source, Block) else prepare_block(source[0], spec, source[1], source[2])
    dtype, n_voxels = np.dtype(spec.precision), block.stop - block.start
    key_type = _KEYS[spec.precision]
    reference = _keys(block.score, spec, -TIE_TOLERANCE[spec.precision], fill_to=block.tiles.shape[0] * TILE)
    counts = np.zeros((block.tiles.shape[0], TILE), dtype=np.int32)
    best = np.full(last - first, -np.iinfo(key_type).max, dtype=key_type)
    room = plan.batch * n_voxels if spec.threshold is not None else 0  # pages that are never touched cost nothing
    raw = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, dtype))
    weights = np.zeros((plan.batch * spec.n_rows, block.tiles.shape[1]), dtype)
    work = (np.empty((weights.shape[0], TILE), dtype), np.empty(TILE, np.int32))
    maps = np.empty((plan.batch, n_voxels if scratch is not None else 0), dtype)
    parts: list[Picks] = []
    hypothesis = spec.hypothesis
    for i in range(first, last, plan.batch):
        index, sign = spec.shufflings.draw(i, min(i + plan.batch, last))
        n_batch = index.shape[0]
        hypothesis.weights(index, sign, weights)
        n_picks = shuffle.permute_batch(
            weights,
            block.tiles,
            (n_batch, spec.n_rows, hypothesis.n_interest, n_voxels, hypothesis.is_t),
            spec.two_sided,
            reference,
            _threshold_key(spec),
            counts,
            best[i - first : i - first + n_batch],
            raw,
            maps,
            work,
        )
        if scratch is not None:
            scratch[i - first : i - first + n_batch, block.start : block.stop] = maps[:n_batch]
        if spec.threshold is not None:
            grouped = np.empty(n_batch + 1, np.int64), np.empty(n_picks, np.int32), np.empty(n_picks, dtype)
            shuffle.group_picks(raw, n_picks, *grouped)
            grouped[1][:] += block.start
            parts.append(grouped)
    return block, Round(_scores(best, spec), counts.reshape(-1)[:n_voxels], _chain(parts, dtype))


def _keys(scores: NDArray[np.float64], spec: Spec, shift: float, fill_to: int) -> NDArray[np.signedinteger[Any]]:
    """Keys of scores, moved by ``shift`` first, as (n_tiles, TILE); those that fill up are never reached."""
    moved = np.abs(scores) + shift if spec.two_sided else scores + shift
    if spec.two_sided:
        moved = np.maximum(moved, 0.0)
    key_type = _KEYS[spec.precision]
    keys = np.full(fill_to, np.iinfo(key_type).max, dtype=key_type)
    shuffle.order_keys(moved.astype(spec.precision), spec.two_sided, keys[: scores.size])
    return keys.reshape(-1, TILE)


def _scores(keys: NDArray[np.signedinteger[Any]], spec: Spec) -> NDArray[np.float64]:
    """Scores of keys: the way back from `shuffle.order_keys`."""
    bits = np.where(keys < 0, keys ^ np.iinfo(keys.dtype).max, keys)
    return bits.view(spec.precision).astype(np.float64)


def _threshold_key(spec: Spec) -> int:
    key_type = _KEYS[spec.precision]
    if spec.threshold is None:
        return int(np.iinfo(key_type).max)
    score = np.array([spec.hypothesis.statistic_to_score(spec.threshold)], dtype=spec.precision)
    return int(score.view(key_type)[0]) + int(spec.conventions.strict)


def _chain(parts: Sequence[Picks], dtype: np.dtype[Any]) -> Picks:
    """Join picks of batches that follow each other."""
    if not parts:
        return np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, dtype)
    sizes = np.concatenate([np.diff(bounds) for bounds, _, _ in parts])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return bounds, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])


def _slice(picks: Picks, first: int, last: int) -> Picks:
    bounds, voxel, value = picks
    inside = slice(bounds[first], bounds[last])
    return bounds[first : last + 1] - bounds[first], voxel[inside], value[inside]


def merge_blocks(parts: Sequence[Picks]) -> Picks:
    """Merge the picks of all blocks, which follow each other in space, shuffling by shuffling."""
    sizes = np.stack([np.diff(bounds) for bounds, _, _ in parts])
    bounds = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))])
    before = np.cumsum(sizes, axis=0) - sizes  # picks of earlier blocks in the same shuffling
    voxel = np.empty(bounds[-1], np.int32)
    value = np.empty(bounds[-1], parts[0][2].dtype)
    for part, offset, size in zip(parts, before, sizes, strict=True):
        start = np.repeat(bounds[:-1] + offset - part[0][:-1], size)
        place = start + np.arange(part[1].size)
        voxel[place], value[place] = part[1], part[2]
    return bounds, voxel, value


@dataclass(frozen=True, eq=False)
class ClusterTask:
    """What map-scope tasks share: the neighbourhood and the scale."""

    spec: Spec
    padded_index: NDArray[np.int32]
    grid_size: int
    offsets: NDArray[np.int64] = field(repr=False)

    @classmethod
    def build(cls, spec: Spec, geometry: Geometry) -> ClusterTask:
        """Take from a geometry what clusters need."""
        offsets = geometry.neighbour_offsets(spec.conventions.cluster_connectivity)
        return cls(spec, geometry.padded_index, int(np.prod(geometry.padded_shape)), offsets[offsets < 0])

    def contributions(self, score: Floats) -> NDArray[np.float64]:
        """What each voxel adds to its cluster's mass."""
        spec = self.spec
        statistic = spec.hypothesis.score_to_statistic(score)
        threshold = spec.threshold or 0.0
        if spec.conventions.statistic == "z":
            statistic = spec.hypothesis.to_z(statistic)
            threshold = float(spec.hypothesis.to_z(np.array([threshold]))[0])
        excess = threshold if spec.conventions.mass == "excess" else 0.0
        return np.asarray(np.abs(statistic) - excess, dtype=np.float64)

    def largest(self, parts: Sequence[Picks]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Largest extent and mass of each shuffling."""
        bounds, voxel, value = merge_blocks(parts)
        n_batch, most = bounds.size - 1, int(np.diff(bounds).max(initial=0))
        size, mass = np.empty(n_batch, np.int32), np.empty(n_batch)
        clusters.largest_clusters(
            bounds,
            self.padded_index[voxel],
            self.contributions(value),
            np.sign(value).astype(np.int8),
            self.offsets,
            (np.zeros(self.grid_size, np.int32), np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most)),
            size,
            mass,
        )
        return size, mass

    def label(self, voxel: NDArray[np.int32], value: Floats) -> NDArray[np.int64]:
        """Label (k,) the clusters of one map from 1, in the order of their first voxel."""
        parent = np.empty(voxel.size, np.int32)
        clusters.label_components(
            self.padded_index[voxel],
            np.sign(value).astype(np.int8),
            self.offsets,
            np.zeros(self.grid_size, np.int32),
            parent,
        )
        return np.asarray(np.unique(parent, return_inverse=True)[1] + 1, dtype=np.int64)


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
    common: dict[str, Any] = {"client": client, "n_workers": n_workers, "progress": progress}
    sources: list[Any] = [(store, start, stop) for start, stop in plan.blocks]
    n_blocks = len(sources)
    max_score, sizes, masses = [], [], []
    counts = np.zeros(store.n_voxels, np.int64)
    observed_picks = None
    blocks: list[Block] = []
    for first, last in plan.ranges:
        arguments = [(source, spec, plan, first, last) for source in sources]
        results = schedule.run_tasks(
            permute_block,
            arguments,
            label="Shuffling voxels",
            unit="voxel·shuffling",
            weights=[(last - first) * (stop - start) for start, stop in plan.blocks],
            **common,
        )
        blocks = [block for block, _ in results]
        rounds = [result for _, result in results]
        if plan.resident and client is None:
            sources = list(blocks)
        max_score.append(np.max([r.maxima for r in rounds], axis=0))
        for b in range(n_blocks):
            counts[slice(*plan.blocks[b])] += rounds[b].counts
        if spec.threshold is not None:
            picks = [r.picks for r in rounds]
            if first == 0:
                _, voxel, value = merge_blocks([_slice(p, 0, 1) for p in picks])
                observed_picks = voxel, value
            for size, mass in _cluster_rounds(ClusterTask.build(spec, store.geometry), picks, last - first, common):
                sizes.append(size)
                masses.append(mass)
    return RunResult(
        score=np.concatenate([block.score for block in blocks]),
        effect=np.concatenate([block.effect for block in blocks], axis=1),
        degenerate=np.concatenate([block.degenerate for block in blocks]),
        counts=counts,
        max_score=np.concatenate(max_score),
        max_size=np.concatenate(sizes).astype(np.int64) if sizes else None,
        max_mass=np.concatenate(masses) if masses else None,
        observed_picks=observed_picks,
    )


def _cluster_rounds(
    task: ClusterTask, picks: Sequence[Picks], n_shufflings: int, common: dict[str, Any]
) -> list[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    step = 4 * BATCH_ROWS
    spans = [(i, min(i + step, n_shufflings)) for i in range(0, n_shufflings, step)]
    return schedule.run_tasks(
        task.largest,
        [([_slice(p, *span) for p in picks],) for span in spans],
        label="Merging clusters",
        unit="shuffling",
        weights=[b - a for a, b in spans],
        **common,
    )
