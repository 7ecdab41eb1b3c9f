"""Shufflings of a block, batch by batch: products of the layers, scores, and what follows of a score.

What follows is the same for every family: the largest, how many reach what was observed, those above the
cluster-forming threshold, and all of them where whole maps or tails are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import ObservedBlock, Picks, Spec
from numbaglm.kernels.panels import fused, shuffle
from numbaglm.kernels.panels.scores import Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.kernels.panels.vectors import ROWS
from numbaglm.stats.families.family import Gathered, Rows
from numbaglm.stats.scales import largest_z

if TYPE_CHECKING:
    from numbaglm.engine.permutation.arranged import Arranged

Weights = list[Floats | fused.Gather]

_FINISHED = 16  # shufflings at once, where every score is finished
_DIRECTLY = 2**19  # values of data that are shuffled at once, where the kernel could not tell


@dataclass(frozen=True, eq=False)
class VoxelBlock:
    """Voxels ``start`` to ``stop``, in layers and tiled, with what was observed there.

    Attributes
    ----------
    tiles
        (n_tiles, n_units, TILE) the layers, one below the other.
    fixed
        (n_tiles, n_fixed, TILE) what no shuffling changes.
    arranged
        How voxels stand in the tiles, where it is by their patterns; None where each stands in its place.
    """

    start: int
    stop: int
    tiles: Floats
    fixed: Floats
    observed: ObservedBlock
    arranged: Arranged | None = None

    @property
    def n_voxels(self) -> int:
        """Voxels in the block."""
        return self.stop - self.start

    @property
    def n_columns(self) -> int:
        """Columns of the tiles that hold them."""
        return self.n_voxels if self.arranged is None else len(self.arranged.place)


@dataclass(frozen=True, eq=False)
class Scored:
    """What a batch of shufflings leaves.

    Attributes
    ----------
    maxima
        (n_batch,) largest score (absolute if two-sided); none where whole maps come first.
    picks
        Scores that reach the cluster-forming threshold.
    maps
        (n_batch, n_voxels) scores, or each field that they are made of; of no columns where they are not kept.
    """

    maxima: NDArray[np.float64]
    picks: Picks
    maps: tuple[Floats, ...]


class Scorer(Protocol):
    """A block on its way through shufflings, and its counts."""

    @property
    def counts(self) -> NDArray[np.int32]:
        """(n_voxels,) shufflings so far whose score reaches the observed one."""
        ...

    @property
    def undefined(self) -> NDArray[np.int32] | None:
        """(n_voxels,) shufflings so far that leave nothing to test there; None where that can't be."""
        ...

    def batch(self, first: int, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        """Take the block through a batch of shufflings, the number of whose first is given."""
        ...


def make_scorer(block: VoxelBlock, spec: Spec, plan: Plan, keep_maps: bool) -> Scorer:
    """Choose how the scores of a family come about."""
    if spec.family.whole is not None:
        return Fields(block, spec, plan)
    if spec.family.patterns is not None:
        return Graded(block, spec, plan, keep_maps)
    if spec.family.finish is not None:
        return Finished(block, spec, plan, keep_maps)
    return Scores(block, spec, plan, keep_maps)


class _Rows:
    """The rows of a batch of shufflings, of all layers."""

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan) -> None:
        self.layers = spec.family.layers
        self.weights = [_room(layer.rows, plan.batch, block.tiles.dtype) for layer in self.layers]

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Weights:
        """Rows (n_rows, height, n_units) of each layer, or the places that are gathered instead."""
        for layer, out in zip(self.layers, self.weights, strict=True):
            layer.rows.fill(index, sign, out.places[None] if isinstance(out, fused.Gather) else out)
        return self.weights


def _room(rows: Rows, batch: int, dtype: np.dtype[Any]) -> Floats | fused.Gather:
    """Room for the rows of a batch."""
    n_rows, n_units = rows.shape
    if isinstance(rows, Gathered):
        return fused.Gather(rows.permuted, np.zeros((batch, n_units), np.int32))
    return np.zeros((n_rows, batch, n_units), dtype)


class Scores:
    """Scores that the kernel makes."""

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan, keep_maps: bool) -> None:
        self.block, self.spec, self.rows = block, spec, _Rows(block, spec, plan)
        dtype, family = block.tiles.dtype, spec.family
        self.scoring = Scoring(
            family.score,
            np.array(family.sizes, np.int64),
            family.constants.astype(dtype),
            family.n_scratch,
            0 if family.patterns is None else family.patterns.n_kept,
        )
        self.tally = np.zeros((len(block.tiles), TILE), dtype=np.int32)
        self.limits = self._limits()
        # Room for all: pages that are never touched cost nothing.
        room = plan.batch * block.n_columns if spec.threshold is not None else 0
        self.raw = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, dtype))
        self.maps = np.empty((plan.batch, block.n_columns if keep_maps else 0), dtype)

    @property
    def counts(self) -> NDArray[np.int32]:
        """See `Scorer`."""
        return self.tally.reshape(-1)[: self.block.n_voxels]

    @property
    def undefined(self) -> NDArray[np.int32] | None:
        """None can be."""
        return None

    def _limits(self) -> fused.Limits:
        """What scores are held against; the voxels that fill up reach nothing."""
        dtype, n_tiles = self.block.tiles.dtype, len(self.block.tiles)
        reference = np.full(n_tiles * TILE, np.nan, dtype)
        reference[: self.block.n_voxels] = self._reference()
        return fused.Limits(reference.reshape(n_tiles, TILE), np.array([self.threshold], dtype))

    def _reference(self) -> Floats:
        """Scores (n_voxels,) that count as equal to the observed ones."""
        spec = self.spec
        lowered = spec.family.scale.least_equal(spec.height(self.block.observed.score), spec.precision)
        return np.maximum(lowered, 0.0) if spec.two_sided else lowered

    @property
    def threshold(self) -> np.floating[Any]:
        """Score that is picked; NaN for none."""
        dtype = self.block.tiles.dtype.type
        threshold = self.spec.threshold
        if threshold is None:
            return dtype(np.nan)
        return np.nextafter(dtype(threshold), dtype(np.inf)) if self.spec.conventions.strict else dtype(threshold)

    def batch(self, first: int, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        """See `Scorer`."""
        # Residuals of the whole model, left as they are, say nothing of what was observed.
        if first == 0 and self.spec.hypothesis.method.data == "full residuals":
            return self._with_observed(self._batch(index[1:], sign[1:]))
        return self._batch(index, sign)

    def _batch(self, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        n_batch = len(index)
        peaks = np.empty(n_batch, self.block.tiles.dtype)
        n_picks = self._permute(self.rows.fill(index, sign), n_batch, peaks, None)
        return Scored(peaks.astype(np.float64), self._grouped(self.raw, n_batch, n_picks), (self.maps[:n_batch],))

    def _permute(
        self,
        weights: Weights,
        n_batch: int,
        peaks: Floats,
        waiting: fused.Waiting | None,
        extra: fused.Extra | None = None,
    ) -> int:
        block = self.block
        return fused.permute_panels(
            weights,
            block.tiles,
            (n_batch, block.n_columns),
            block.fixed,
            self.scoring,
            self.spec.two_sided,
            self.limits,
            self.tally,
            peaks,
            self.raw,
            self.maps,
            waiting,
            extra,
        )

    def _grouped(self, raw: fused.Picks, n_batch: int, n_picks: int) -> Picks:
        bounds, voxel = np.empty(n_batch + 1, np.int64), np.empty(n_picks, np.int32)
        value = np.empty(n_picks, raw[2].dtype)
        shuffle.group_picks(raw, n_picks, bounds, voxel, value)
        voxel += self.block.start
        return bounds, voxel, value

    def _with_observed(self, scored: Scored) -> Scored:
        """Put the observed scores before those of a batch that begins with shuffling 1."""
        score = self.block.observed.score.astype(self.spec.precision)
        height = np.abs(score) if self.spec.two_sided else score
        self.tally += 1
        above = np.flatnonzero((height > 0) & (height >= self.threshold))
        bounds, voxel, value = scored.picks
        picks = (
            np.concatenate([[0], bounds + above.size]),
            np.concatenate([(above + self.block.start).astype(np.int32), voxel]),
            np.concatenate([score[above], value]),
        )
        (maps,) = scored.maps
        maps = np.vstack([score[None, : maps.shape[1]], maps])
        return Scored(np.concatenate([[height.max()], scored.maxima]), picks, (maps,))


class Finished(Scores):
    """Scores that are finished where they may count, be picked, or be a maximum; or all of them, where all are kept."""

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan, keep_maps: bool) -> None:
        self.every = keep_maps
        super().__init__(block, spec, plan, keep_maps)
        dtype = block.tiles.dtype
        room = (_FINISHED if keep_maps else plan.batch) * block.n_voxels
        self.waiting = fused.Waiting(
            np.empty(room, np.int32),
            np.empty(room, np.int32),
            np.empty(room, dtype),
            np.empty(room, dtype),
            np.zeros(block.n_voxels, np.int32),
        )

    @property
    def undefined(self) -> NDArray[np.int32] | None:
        """Shufflings that leave the kernel nothing to test."""
        return self.waiting.nothing if self.spec.family.lacks else None

    def _limits(self) -> fused.Limits:
        """Numbers of the kernel that surely, or perhaps, stand for the scores that others are held against."""
        family, n_tiles, dtype = self.spec.family, len(self.block.tiles), self.block.tiles.dtype
        assert family.finish is not None
        numbers, least, largest = family.finish.bounds
        self.reference = self._reference()
        below, above = np.concatenate([[-np.inf], numbers]), np.concatenate([numbers, [np.inf]])

        def perhaps(score: Floats) -> Floats:
            return np.asarray(np.where(np.isnan(score), np.nan, below[np.searchsorted(largest, score)]), dtype=dtype)

        surely, low = np.full((2, n_tiles * TILE), np.nan, dtype)
        surely[: self.block.n_voxels] = above[np.searchsorted(least, self.reference)]
        low[: self.block.n_voxels] = perhaps(self.reference)
        threshold = np.array([self.threshold], np.float64)
        return fused.Limits(
            surely.reshape(n_tiles, TILE),
            perhaps(threshold) if not self.every else np.array([-np.inf], dtype),
            low.reshape(n_tiles, TILE),
            perhaps(least),
            float(numbers[0]),
            1.0 / float(numbers[1] - numbers[0]),
        )

    def _batch(self, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        n_batch, step = len(index), _FINISHED if self.every else len(index)
        maxima = np.full(n_batch, -np.inf)
        n_picks = 0
        for first in range(0, n_batch, step):
            some = slice(first, first + step)
            weights = self.rows.fill(index[some], sign[some])
            peaks = np.empty(len(index[some]), self.block.tiles.dtype)
            n_waiting = self._permute(weights, len(peaks), peaks, self.waiting)
            which, voxel = self.waiting.which[:n_waiting], self.waiting.voxel[:n_waiting]
            number, more = self.waiting.score[:n_waiting], self.waiting.more[:n_waiting]
            counted = self._height(number) >= self.limits.reference.reshape(-1)[voxel]  # by the kernel
            score = self._finish(index[some], sign[some], which, voxel, number, more)
            height = self._height(score)
            reached = ~counted & (height >= self.reference[voxel])
            self.counts[:] += np.bincount(voxel[reached], minlength=self.block.n_voxels).astype(np.int32)
            np.maximum.at(maxima, which + first, height)
            if self.every:
                self.maps[which + first, voxel] = score
            picked = np.flatnonzero(height >= self.threshold)
            there = slice(n_picks, n_picks + picked.size)
            for room, values in zip(self.raw, (which[picked] + first, voxel[picked], score[picked]), strict=True):
                room[there] = values
            n_picks += picked.size
        return Scored(maxima, self._grouped(self.raw, n_batch, n_picks), (self.maps[:n_batch],))

    def _height(self, score: Floats) -> Floats:
        return np.abs(score) if self.spec.two_sided else score

    def _finish(
        self,
        index: NDArray[np.int32],
        sign: NDArray[np.int8],
        which: NDArray[np.int32],
        voxel: NDArray[np.int32],
        number: Floats,
        more: Floats,
    ) -> Floats:
        """Scores of the numbers that wait."""
        finish = self.spec.family.finish
        assert finish is not None
        unknown = np.flatnonzero(np.isnan(number))
        step = max(1, _DIRECTLY // index.shape[1])
        for i in range(0, unknown.size, step):
            some = unknown[i : i + step]
            place = voxel[some]
            data = self.block.tiles[place[:, None] // TILE, index[which[some]], place[:, None] % TILE]
            number[some], more[some] = finish.directly((sign[which[some]] * data).T)
        return finish.score(number, more)


class Graded(Scores):
    """Scores of voxels whose degrees of freedom differ: the kernel's numbers, grade by grade, become z.

    Counts need no z, and of a maximum only the largest number of each grade does.
    """

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan, keep_maps: bool) -> None:
        assert block.arranged is not None
        assert spec.family.patterns is not None
        self.arranged, self.patterns = block.arranged, spec.family.patterns
        super().__init__(block, spec, plan, keep_maps)
        patterns = self.patterns
        self.singular = np.zeros_like(self.tally)
        self.factor = Scoring(
            patterns.factor, np.array(patterns.sizes, np.int64), patterns.constants, patterns.n_scratch
        )
        shape = (0, 0) if patterns.rows is None else patterns.rows.shape
        self.pattern_rows = np.zeros((shape[0], plan.batch, shape[1]))
        self.numbers = np.empty((-(-plan.batch // ROWS), patterns.n_kept, ROWS, self.arranged.most), block.tiles.dtype)
        self.whole_sizes = self.scoring.sizes
        if patterns.whole is not None:
            self.whole_sizes = np.array(patterns.whole, np.int64)

    @property
    def counts(self) -> NDArray[np.int32]:
        """See `Scorer`."""
        return self._of_voxels(self.tally)

    @property
    def undefined(self) -> NDArray[np.int32] | None:
        """Shufflings under which a pattern's factor is 0."""
        return None if self.patterns.rows is None else self._of_voxels(self.singular)

    def _of_voxels(self, tally: NDArray[np.int32]) -> NDArray[np.int32]:
        """Counts (n_voxels,) of those of columns (n_tiles, TILE)."""
        own, counts = self.arranged.own, np.empty(self.block.n_voxels, np.int32)
        counts[self.arranged.place[own]] = tally.reshape(-1)[: self.block.n_columns][own]
        return counts

    def _watched(self, numbers: Iterable[tuple[int, Floats]], n_batch: int) -> Iterator[tuple[int, Floats]]:
        """Pass numbers on, and count where they are those of a pattern that leaves nothing to test.

        A last group is filled up with shufflings that are not there, of which nothing is counted.
        """
        first = 0
        for n_tiles, of_patterns in numbers:
            last = first + n_tiles
            if of_patterns.shape[1]:
                nothing = (of_patterns[:, -1] == 0).reshape(-1, of_patterns.shape[3])[:n_batch]
                if nothing.any():
                    n_singular = np.count_nonzero(nothing, axis=0).astype(np.int32)
                    self.singular[first:last] += n_singular[self.arranged.of[first:last]]
            yield n_tiles, of_patterns
            first = last

    def _limits(self) -> fused.Limits:
        """Numbers that count as equal to the observed ones, and what those of each grade must reach to be picked."""
        arranged, spec, dtype = self.arranged, self.spec, self.block.tiles.dtype.type
        n_tiles, scales = len(self.block.tiles), arranged.scales
        lowered = scales[0].least_equal(spec.height(arranged.number), spec.precision)
        lowered = np.maximum(lowered, 0.0) if spec.two_sided else lowered
        reference = np.full(n_tiles * TILE, np.nan, dtype)
        reference[: self.block.n_columns] = np.where(arranged.own, lowered[arranged.place], np.nan)
        thresholds = np.full(len(scales), np.nan, dtype)
        if spec.threshold is not None:
            thresholds[:] = [scale.to_score("z", spec.threshold, spec.two_sided) for scale in scales]
            thresholds = np.nextafter(thresholds, dtype(np.inf)) if spec.conventions.strict else thresholds
        return fused.Limits(reference.reshape(n_tiles, TILE), thresholds, grades=arranged.grades)

    def _batch(self, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        n_batch, arranged, scales = len(index), self.arranged, self.arranged.scales
        peaks = np.empty((len(scales), n_batch), self.block.tiles.dtype)
        rows = None
        if self.patterns.rows is not None:
            self.patterns.rows.fill(index, sign, self.pattern_rows)
            rows = fused.grouped([self.pattern_rows], n_batch, self.pattern_rows.dtype)
        numbers = arranged.numbers(rows, self.factor, self.patterns.n_kept, self.numbers[: -(-n_batch // ROWS)])
        extra = fused.Extra(self._watched(numbers, n_batch), arranged.of, arranged.whole, self.whole_sizes)
        n_picks = self._permute(self.rows.fill(index, sign), n_batch, peaks, None, extra)
        maxima = largest_z(scales, peaks)
        own = np.flatnonzero(arranged.own[self.raw[1][:n_picks]])
        which, column, value = self.raw[0][own], self.raw[1][own], self.raw[2][own]
        voxel = arranged.place[column]
        order = np.lexsort((voxel, which))
        bounds = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=n_batch))])
        z = self._z(value, column)[order].astype(value.dtype)
        return Scored(maxima, (bounds, voxel[order] + self.block.start, z), (self._whole(self.maps[:n_batch]),))

    def _z(self, number: Floats, column: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """z of numbers (..., m) in some columns (m,)."""
        grade, z = self.arranged.grade[column], np.empty(number.shape)
        for one in np.unique(grade):
            which = np.flatnonzero(grade == one)
            z[..., which] = self.arranged.scales[one].quick_z(number[..., which])
        return z

    def _whole(self, maps: Floats) -> Floats:
        """Maps of z, a voxel a column, of maps of numbers."""
        if not maps.shape[1]:
            return maps
        columns, out = np.flatnonzero(self.arranged.own), np.empty((len(maps), self.block.n_voxels), maps.dtype)
        places = self.arranged.place[columns]
        for first in range(0, len(maps), _FINISHED):  # in double precision on their way
            some = slice(first, first + _FINISHED)
            out[some, places] = self._z(maps[some, columns], columns)
        return out


class Fields:
    """Fields of scores that are made of whole maps, by products in double precision."""

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan) -> None:
        self.block, self.rows = block, _Rows(block, spec, plan)
        assert spec.family.whole is not None
        self.whole = spec.family.whole

    @property
    def counts(self) -> NDArray[np.int32]:
        """None yet."""
        return np.empty(0, np.int32)

    @property
    def undefined(self) -> NDArray[np.int32] | None:
        """None can be."""
        return None

    def batch(self, first: int, index: NDArray[np.int32], sign: NDArray[np.int8]) -> Scored:
        """See `Scorer`."""
        (weights,) = self.rows.fill(index, sign)
        assert not isinstance(weights, fused.Gather)
        n_rows, height, n_units = weights.shape
        maps = np.empty((self.whole.n_fields, len(index), self.block.n_voxels))
        for t, tile in enumerate(self.block.tiles):
            columns = slice(t * TILE, min((t + 1) * TILE, self.block.n_voxels))
            width = columns.stop - columns.start
            products = (weights.reshape(-1, n_units) @ tile[:, :width]).reshape(n_rows, height, width)
            fixed = self.block.fixed[t, :, :width]
            for one, values in zip(maps, self.whole.fields(products[:, : len(index)], fixed), strict=True):
                one[:, columns] = values
        nothing = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0)
        return Scored(np.empty(0), nothing, tuple(maps))
