"""Voxel scope: a task takes a block of voxels through shufflings.

It returns the maximum of each shuffling, the counts of exceedance of each voxel, and the few voxels above the
cluster-forming threshold; where scores need whole maps, these alone are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.data.cohort.presence import Patterns
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import Ledger, Shared
from numbaglm.data.runs.maps import Maps
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import (
    Drawn,
    Listing,
    ObservedBlock,
    Picks,
    Refined,
    Round,
    Spec,
    slice_picks,
)
from numbaglm.engine.permutation.scorers import VoxelBlock, make_scorer
from numbaglm.engine.permutation.size import columns_at_once, columns_given
from numbaglm.engine.schedule import checkpoint
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import PRESENCE, REASON, Given


def draw_batch(spec: Shared, first: int, last: int) -> Drawn:
    """Draw shufflings ``first`` to ``last`` once, for all blocks."""
    shufflings = spec.get().shufflings
    index, sign = shufflings.draw(first, last)
    return Drawn(
        None if shufflings.errors == "ise" else index.astype(np.min_scalar_type(index.shape[1])),
        None if shufflings.errors == "ee" else np.packbits(sign < 0, axis=1),
    )


class Draw(Protocol):
    """Where a task has its shufflings from."""

    def draw(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Shufflings number ``start`` to ``stop`` - 1, see `Shufflings.draw`."""


@dataclass(frozen=True, eq=False)
class DrawTable:
    """Shufflings that were drawn before, ``n`` of them, so many a record."""

    ledger: Ledger
    stage: str
    drawn: int
    n: int
    n_shuffled: int

    def draw(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """See `Draw`; both are within a record."""
        number = start // self.drawn
        sizes = {
            "n_batch": min(self.drawn, self.n - number * self.drawn),
            "n_shuffled": self.n_shuffled,
            "n_flip_bytes": -(-self.n_shuffled // 8),
        }
        drawn = self.ledger.get(f"{self.stage}/{number:05d}", Drawn, **sizes)
        shape = stop - start, self.n_shuffled
        rows = slice(start % self.drawn, start % self.drawn + shape[0])
        if drawn.index is None:
            index = np.broadcast_to(np.arange(self.n_shuffled, dtype=np.int32), shape)
        else:
            index = drawn.index[rows].astype(np.int32)
        if drawn.flips is None:
            return np.ascontiguousarray(index), np.ones(shape, np.int8)
        bits = np.unpackbits(drawn.flips[rows], axis=1, count=self.n_shuffled)
        return np.ascontiguousarray(index), 1 - 2 * bits.view(np.int8)


def prepare_block(store: CohortStore, spec: Spec, start: int, stop: int) -> VoxelBlock:
    """Read a block of voxels, and make of it the layers and what is observed: of residuals, or as the family does."""
    if spec.family.prepare is not None:
        return _prepared(store, spec, start, stop)
    return _residualised(store, spec, start, stop)


def _prepared(store: CohortStore, spec: Spec, start: int, stop: int) -> VoxelBlock:
    """Hand a family the data of a block and what it needs beside them, a few voxels at a time."""
    family, n_voxels = spec.family, stop - start
    assert family.prepare is not None
    data = store.read(start, stop)
    layers = {name: store.read(start, stop, name) for name in family.needs if name != PRESENCE}
    present = store.present(start, stop) if PRESENCE in family.needs and not store.all_present else None
    place, arranged, number = np.arange(n_voxels), None, np.empty(n_voxels)
    if family.patterns is not None:
        from numbaglm.engine.permutation.arranged import Arranged  # where a family has them

        size = np.dtype(spec.precision).itemsize
        known = Patterns.whole(store.n_subjects, n_voxels)
        if present is not None:
            known = store.patterns_of(start, stop, present)
        arranged = Arranged.by_pattern(known, family.patterns, size)
        place = arranged.place.astype(np.intp)
    tiles = np.empty((-(-len(place) // TILE), family.n_units, TILE), dtype=spec.precision)
    found = ObservedBlock.empty(spec.hypothesis.effect.shape[0], n_voxels, len(family.more))
    fixed = []
    width = columns_given(max(family.n_units, store.n_subjects * (1 + len(family.needs))))
    for first, last in _pieces(len(place), width):
        where = place[first:last]
        columns = slice(first, last) if arranged is None else where
        given = Given(
            _columns(data, columns),
            {name: _columns(values, columns) for name, values in layers.items()},
            None if present is None else _columns(present, columns),
            None if arranged is None else arranged.patterns_of(where),
        )
        made = family.prepare(given)
        found.score[where], found.statistic[where] = made.score, made.statistic
        found.effect[:, where], found.degenerate[where] = made.effect, made.degenerate
        found.length[where] = made.length
        found.z[where] = np.where(made.degenerate, 0.0, family.scale.to_z(made.score))
        if found.more is not None:
            found.more[:, where] = made.more
        number[where] = made.score if made.number is None else made.number
        for v in range(first, last, TILE):
            n_there = min(TILE, last - v)
            some = tiles[v // TILE, :, v % TILE : v % TILE + n_there]
            family.lay((layer[:, v - first : v - first + n_there] for layer in made.layers), some)
        fixed.append(made.fixed)
    if rest := -len(place) % TILE:
        tiles[-1, :, -rest:] = tiles[-1, :, -rest - 1 : -rest]  # a copy of a voxel changes no maximum
    arranged = None if arranged is None else arranged.with_number(number)
    return VoxelBlock(start, stop, tiles, _tiled(np.concatenate(fixed, axis=1), spec.precision), found, arranged)


def _columns(values: NDArray[Any], which: slice | NDArray[np.intp]) -> NDArray[Any]:
    """Copy some columns; those that stand together at a tenth of the cost."""
    return values[:, which].copy() if isinstance(which, slice) else values.take(which, axis=1)


def observe_untested(store: CohortStore, spec: Spec) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """Look, before any shuffling, for an element that a family with `Family.reasons` can test.

    Returns
    -------
    None once there is one, as a rule among the first; else (n_voxels,) reasons, and which are degenerate.
    """
    family = spec.family
    if not family.reasons:
        return None
    reasons, degenerate, start, step = [], [], 0, _FIRST_LOOK
    while start < store.n_voxels:
        stop = min(start + step, store.n_voxels)
        observed = prepare_block(store, spec, start, stop).observed
        assert observed.more is not None
        reasons.append(observed.more[family.more.index(REASON)])
        degenerate.append(observed.degenerate)
        if not (degenerate[-1] | (reasons[-1] > 0)).all():
            return None
        start, step = stop, min(2 * step, TILE)
    return np.concatenate(reasons), np.concatenate(degenerate)


_FIRST_LOOK = 32  # elements


def _pieces(n: int, width: int) -> list[tuple[int, int]]:
    """Columns (first, last) of each piece: of several tiles, or of a part of one."""
    if width >= TILE:
        return [(first, min(first + width, n)) for first in range(0, n, width)]
    tiles = [(first, min(first + TILE, n)) for first in range(0, n, TILE)]
    return [(v, min(v + width, last)) for first, last in tiles for v in range(first, last, width)]


def _residualised(store: CohortStore, spec: Spec, start: int, stop: int) -> VoxelBlock:
    """Residualise a block, bring every voxel to unit length, and make the layers of it."""
    hypothesis, family = spec.hypothesis, spec.family
    n_voxels, n_subjects = stop - start, store.n_subjects
    tiles = np.empty((-(-n_voxels // TILE), family.n_units, TILE), dtype=spec.precision)
    found = ObservedBlock.empty(hypothesis.effect.shape[0], n_voxels)
    # The data go where their layers will be, piece by piece: a block is the largest thing that a task holds.
    data = tiles[:, :n_subjects]
    if family.n_units < n_subjects:  # residuals that were rotated are fewer
        data = np.empty((len(tiles), n_subjects, TILE), np.float32)
    for rows, piece in store.pieces(start, stop):
        for t, tile in enumerate(data):
            there = piece[:, t * TILE : (t + 1) * TILE]
            tile[rows, : there.shape[1]] = there
        del piece, there  # before the next is read
    width = columns_at_once(family.n_units)
    for t, tile in enumerate(tiles):
        n_there = min(TILE, n_voxels - t * TILE)
        for v in range(0, n_there, width):
            columns = slice(v, min(v + width, n_there))
            observed = hypothesis.observe(np.ascontiguousarray(data[t][:, columns], dtype=np.float32))
            where = slice(t * TILE + columns.start, t * TILE + columns.stop)
            found.score[where], found.statistic[where] = observed.score, observed.statistic
            found.effect[:, where], found.degenerate[where] = observed.effect, observed.degenerate
            found.length[where] = observed.length
            found.z[where] = np.where(observed.degenerate, 0.0, family.scale.to_z(observed.score))
            family.stack(observed.E, tile[:, columns])
        tile[:, n_there:] = tile[:, n_there - 1 : n_there]  # a copy of a voxel changes no maximum
    fixed = np.empty((0, n_voxels)) if family.fixed is None else family.fixed(found.length)
    return VoxelBlock(start, stop, tiles, _tiled(fixed, spec.precision), found)


def _tiled(values: NDArray[np.float64], precision: str) -> Floats:
    """Rows (n, n_voxels) of what no shuffling changes, as (n_tiles, n, TILE)."""
    n_tiles = -(-values.shape[1] // TILE)
    if not len(values):
        return np.empty((n_tiles, 0, TILE), precision)
    filled = np.pad(values, ((0, 0), (0, n_tiles * TILE - values.shape[1])), mode="edge").astype(precision)
    return np.ascontiguousarray(filled.reshape(len(values), n_tiles, TILE).transpose(1, 0, 2))


@dataclass(frozen=True, eq=False)
class Source:
    """Where tasks of voxel scope have their blocks from.

    Attributes
    ----------
    kept
        Blocks that this process has prepared, by their start; None where each is prepared in its turn.
    """

    store: CohortStore
    spec: Shared
    plan: Plan
    draw: Draw | None
    kept: dict[int, VoxelBlock] | None

    def block(self, start: int, stop: int) -> VoxelBlock:
        """Return a block, prepared."""
        if self.kept is None:
            return prepare_block(self.store, self.spec.get(), start, stop)
        if start not in self.kept:
            self.kept[start] = prepare_block(self.store, self.spec.get(), start, stop)
        return self.kept[start]

    def batches(self, first: int, last: int) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int8]]]:
        """Shufflings ``first`` to ``last``, batch by batch: where each begins, indices and signs."""
        draw: Draw = self.spec.get().shufflings if self.draw is None else self.draw
        step, batch = self.plan.drawn, self.plan.batch
        for record in range(first // step * step, last, step):
            start = max(record, first)
            index, sign = draw.draw(start, min(record + step, last))
            for i in range(0, len(index), batch):
                checkpoint()
                yield start + i, index[i : i + batch], sign[i : i + batch]


def permute_block(
    source: Source,
    start: int,
    stop: int,
    first: int,
    last: int,
    ledger: Ledger,
    observed: str | None,
    maps: tuple[Maps, ...],
) -> Round:
    """Take voxels ``start`` to ``stop`` through shufflings ``first`` to ``last``.

    Parameters
    ----------
    ledger, observed
        Where to keep what was observed in the block; None where it is known.
    maps
        Of (n_shufflings, n_voxels), for whole maps: one that takes all scores, or one for each field that they are made
        of; or none.
    """
    block, spec, plan = source.block(start, stop), source.spec.get(), source.plan
    if observed is not None:
        ledger.put(observed, block.observed)
    watch = _Watch(block, spec, plan) if spec.tail_length else None
    listing = spec.listing if spec.listing is not None and first < spec.listing.n_shufflings else None
    its = spec if listing is None else _lowered(spec, listing)
    scorers = [make_scorer(block, its, plan, bool(maps) or watch is not None)]
    maxima, parts, listed = [], [], []
    for i, index, sign in source.batches(first, last):
        if listing is not None and len(scorers) == 1 and i >= listing.n_shufflings:
            scorers.append(make_scorer(block, spec, plan, bool(maps) or watch is not None))
        scored = scorers[-1].batch(i, index, sign)
        if listing is not None and len(scorers) == 1:
            listed.append(_listed(scored.picks, its, listing, listing.n_shufflings - i))
            if its is not spec:
                scored = replace(scored, picks=_above(scored.picks, spec, spec.threshold, spec.conventions.strict))
        for one, values in zip(maps, scored.maps, strict=False):
            one.write(i - first, start, values)
        if watch is not None:
            watch.see(scored.maps[0][int(i == 0) :])
        maxima.append(scored.maxima)
        parts.append(scored.picks)
    undefined = [scorer.undefined for scorer in scorers if scorer.undefined is not None]
    found = Round(
        np.concatenate(maxima),
        scorers[0].counts if len(scorers) == 1 else scorers[0].counts + scorers[1].counts,
        *_chain(parts),
        tail_voxels=None if watch is None else watch.voxels,
        tails=None if watch is None else watch.largest(),
        undefined=sum(undefined[1:], undefined[0]) if undefined else None,
    )
    if listing is None:
        return found
    bounds, voxel, value = _chain(listed)
    return replace(found, listed_bounds=bounds, listed_voxel=voxel, listed_value=value)


def _lowered(spec: Spec, listing: Listing) -> Spec:
    """The same test, with the lower threshold of clusters and a listing."""
    if spec.threshold is not None and spec.threshold <= listing.threshold:
        return spec
    return replace(spec, threshold=listing.threshold, conventions=replace(spec.conventions, strict=False))


def _listed(picks: Picks, spec: Spec, listing: Listing, n: int) -> Picks:
    """Of what is picked of a batch, what a listing takes: of its first ``n`` shufflings."""
    bounds, voxel, value = picks if n >= picks[0].size - 1 else slice_picks(picks, 0, n)
    if spec.threshold != listing.threshold:
        bounds, voxel, value = _above((bounds, voxel, value), spec, listing.threshold, strict=False)
    return bounds, voxel if listing.elements else voxel[:0], value


def _above(picks: Picks, spec: Spec, threshold: float | None, strict: bool) -> Picks:
    """Those of picks that reach a threshold, as kernels compare them."""
    bounds, voxel, value = picks
    if threshold is None:
        return np.zeros_like(bounds), voxel[:0], value[:0]
    height = np.abs(value) if spec.two_sided else value
    limit = value.dtype.type(threshold)
    above = np.flatnonzero(height > limit if strict else height >= limit)
    return np.searchsorted(above, bounds), voxel[above], value[above]


def refine_block(shared: Shared, ledger: Ledger, observed: str, rounds: Sequence[str]) -> Refined:
    """Refine the uncorrected p of the voxels of a block that were watched.

    Parameters
    ----------
    observed, rounds
        Keys of what was observed in the block, and of all its rounds.

    Returns
    -------
    p (n_voxels,), counted where nothing refines it; and where each comes from, see `numbaglm.stats.tails`.
    """
    from numbaglm.kernels.tails import COUNTED
    from numbaglm.stats import tails  # where something is refined

    spec: Spec = shared.get()
    height = spec.height(ledger.get(observed, ObservedBlock).score)
    parts = [ledger.get(key, Round, n_voxels=height.size) for key in rounds]
    counts: NDArray[np.int64] = np.sum([part.counts for part in parts], axis=0, dtype=np.int64)
    voxels = parts[0].tail_voxels
    assert voxels is not None
    largest = reduce(tails.merge_largest, [part.tails for part in parts if part.tails is not None])
    scale, n_shufflings = spec.hypothesis.scale, spec.shufflings.n_shufflings
    least = 1 / spec.shufflings.n_distinct
    p = pvalues.from_counts(counts, n_shufflings)
    source = np.full(p.shape, COUNTED, np.uint8)
    for i in range(0, voxels.size, TILE):  # a tail in double precision takes room
        some = voxels[i : i + TILE]
        reached, tail = scale.to_statistic(height[some]), scale.to_statistic(largest[i : i + TILE])
        p[some], source[some] = tails.pareto_p_voxels(reached, tail, counts[some], n_shufflings, least)
    return Refined(p, source)


class _Watch:
    """Voxels that may be worth refining, and their largest scores as batches pass."""

    def __init__(self, block: VoxelBlock, spec: Spec, plan: Plan) -> None:
        from numbaglm.stats.tails import watched  # where something is refined

        self.two_sided, self.k = spec.two_sided, spec.tail_length
        self.voxels = watched(np.where(block.observed.degenerate, 1.0, spec.parametric_p(block.observed.z)))
        n = self.voxels.size
        self.kept = np.empty((n, 2 * self.k + plan.batch), spec.precision)
        self.n_kept = np.zeros(n, np.int32)
        self.floor = np.full(n, -np.inf, spec.precision)

    def see(self, maps: Floats) -> None:
        """Take in the scores of random shufflings."""
        from numbaglm.kernels.tails import keep_largest

        keep_largest(maps, self.voxels, self.two_sided, self.k, self.kept, self.n_kept, self.floor)

    def largest(self) -> Floats:
        """Largest scores of each voxel; see `Round.tails`."""
        from numbaglm.kernels.tails import finish_largest

        start = self.kept[:, : self.k]
        start[np.arange(self.k) >= self.n_kept[:, None]] = -np.inf
        largest = np.empty(start.shape, self.kept.dtype)
        finish_largest(self.kept, np.maximum(self.n_kept, self.k), largest)
        return largest


def _chain(parts: Sequence[Picks]) -> Picks:
    """Join picks of batches that follow each other."""
    sizes = np.concatenate([np.diff(bounds) for bounds, _, _ in parts])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return bounds, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])
