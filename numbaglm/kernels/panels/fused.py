"""A batch of shufflings through a block of voxels, in panels as wide as the vector code.

A tile is cut into panels of a few voxels; a panel meets all shufflings, a few at a time, whose scores are reduced
while they are in the first-level cache. Units come in chunks. A sum runs over a chunk's units in order, and chunks
are added up in order: nothing else decides a product, so that it is the same number wherever a block or a batch
begins. A score kernel (`scores`) makes scores of products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.patterns import spread
from numbaglm.kernels.panels.scores import Scoring, call
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS, above, borrowed, first_bit, gather, multiply, reduce

CHUNK = 256
"""Units a chunk. A panel of as many (32 KiB) stays in the second-level cache, whatever the size of the cohort. And
the rounding of a sum grows with its length: terms that are all equal, the worst, leave an error of up to 3.4e-6 in a
correlation of 1 (n = 100 to 1100, single precision), where sums of 512 leave 7e-6 and a BLAS left 15e-6."""

Picks = tuple[NDArray[np.int32], NDArray[np.int32], Floats]

_Gathering = tuple[NDArray[np.int32], NDArray[np.int64], Floats]
_Undecided = tuple[Floats, Floats, float, float]
_Patterns = tuple[Floats, NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]
_Waiting = tuple[NDArray[np.int32], NDArray[np.int32], Floats, Floats, NDArray[np.int32]]


class Limits(NamedTuple):
    """What scores are held against.

    Attributes
    ----------
    reference
        (n_tiles, TILE) what a score must reach to be counted; NaN where none is.
    threshold
        (n_grades,) what it must reach to be picked; NaN picks none.
    low
        (n_tiles, TILE), or of no columns: between it and the reference a score is undecided, see `Waiting`.
    peaks
        (n,) Beside a score from ``first + i / steps`` on: what another must reach to be perhaps the larger one.
    first, steps
        Of ``peaks``.
    grades
        (n_tiles, panels of a tile) number of the threshold of each panel, and of the maximum that it counts for; of no
        columns where all are of one.
    """

    reference: Floats
    threshold: Floats
    low: Floats = np.empty((0, 0))
    peaks: Floats = np.empty(0)
    first: float = 0.0
    steps: float = 1.0
    grades: NDArray[np.int32] = np.empty((0, 0), np.int32)


class Extra(NamedTuple):
    """Numbers of the shufflings that stand beside the products of a voxel, and are made of its pattern alone.

    Attributes
    ----------
    numbers
        Of a few tiles at a time: how many, and (n_groups, n_kept, ROWS, n_patterns) numbers of the patterns there.
    of
        (n_tiles, TILE) which of these patterns each voxel has.
    whole
        (n_tiles, panels of a tile) where all have the pattern that needs no numbers, and kernels are told ``sizes``.
    sizes
        See `Score`.
    """

    numbers: Iterable[tuple[int, Floats]]
    of: NDArray[np.int32]
    whole: NDArray[np.bool_]
    sizes: NDArray[np.int64]


class Waiting(NamedTuple):
    """Room for scores that are not decided by themselves: they are finished elsewhere.

    Attributes
    ----------
    which, voxel
        (room,) shuffling in the batch, voxel in the block.
    score, more
        (room,) what the score kernel left in its first and its second row; NaN where it could not tell.
    nothing
        (n_columns,) added to: shufflings of which the kernel left 0 in both, as there is nothing to test.
    """

    which: NDArray[np.int32]
    voxel: NDArray[np.int32]
    score: Floats
    more: Floats
    nothing: NDArray[np.int32]


class Gather(NamedTuple):
    """In place of the rows of a layer: another layer of as many units, permuted, and multiplied with it voxel by voxel.

    Attributes
    ----------
    permuted
        Number of that layer.
    places
        (height, n_units) the unit of it that takes the place of each under a shuffling; n_units more where its sign is
        changed.
    """

    permuted: int
    places: NDArray[np.int32]


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
    """Array that begins where a vector may: one that straddles cache lines costs two loads."""
    n, item = prod(shape), dtype.itemsize
    room = np.empty(n + BYTES // item, dtype)
    first = -room.ctypes.data % BYTES // item
    return room[first : first + n].reshape(shape)


def grouped(weights: Sequence[Floats | Gather], n_batch: int, dtype: np.dtype[Any]) -> Floats:
    """Weights as `multiply` reads them, (n_groups, n_rows, n_units, ROWS); NaN for shufflings not there.

    Of a layer with fewer units than the longest the others are left as they are: nothing reads them; nor rows of one
    that is gathered.
    """
    n_rows, most = sum(_shape(one)[0] for one in weights), max(_shape(one)[1] for one in weights)
    full, rest = divmod(n_batch, ROWS)
    out = np.empty((-(-n_batch // ROWS), n_rows, most, ROWS), dtype)
    if rest:
        out[full] = np.nan
    first = 0
    for one in weights:
        k, n_units = _shape(one)
        if not isinstance(one, Gather):
            groups = one[:, : full * ROWS].reshape(k, full, ROWS, n_units)
            out[:full, first : first + k, :n_units] = groups.transpose(1, 0, 3, 2)
            out[full:, first : first + k, :n_units, :rest] = one[:, full * ROWS : n_batch].transpose(0, 2, 1)
        first += k
    return out


def _shape(weights: Floats | Gather) -> tuple[int, int]:
    """Rows of a layer, and its units."""
    if isinstance(weights, Gather):
        return 1, weights.places.shape[1]
    return weights.shape[0], weights.shape[2]


def _gathering(
    weights: Sequence[Floats | Gather], layers: NDArray[np.int64], n_batch: int, width: int, dtype: np.dtype[Any]
) -> _Gathering:
    """What `_gather` needs, and of each layer that is gathered its number there and that of what is permuted.

    Returns
    -------
    Places as `gather` reads them (n_gathered, n_groups, n_units, ROWS), those of a row of NaN for shufflings that are
    not there; the first unit of each layer that is permuted; and room for panels of all units of these, see `_whole`.
    """
    gathers = [(m, one) for m, one in enumerate(weights) if isinstance(one, Gather)]
    if not gathers:
        return np.empty((0, 0, 0, ROWS), np.int32), np.empty(0, np.int64), np.empty((0, 1, width), dtype)
    n_units, n_groups = gathers[0][1].places.shape[1], -(-n_batch // ROWS)
    sources = sorted({one.permuted for _, one in gathers})
    places = np.full((len(gathers), n_groups * ROWS, n_units), 2 * n_units, np.int32)
    for number, (m, one) in enumerate(gathers):
        assert layers[one.permuted, 1] == layers[m, 1] == n_units, "gathered layers are of the same units"
        layers[m, 4:] = number, sources.index(one.permuted)
        places[number, :n_batch] = one.places[:n_batch]
    places = np.ascontiguousarray(places.reshape(len(places), n_groups, ROWS, n_units).transpose(0, 1, 3, 2))
    return places, layers[sources, 0], _aligned((len(sources), 2 * n_units + 1, width), dtype)


@kernel
def _whole(tile: Floats, column: int, panel: Floats) -> None:
    """A panel of all units (2 * n_units + 1, width): as they are, with their signs changed, and a row of NaN."""
    n, width = tile.shape[0], panel.shape[1]
    for s in range(n):
        there, here, changed = tile[s, column : column + width], panel[s], panel[n + s]
        for j in range(width):
            here[j] = there[j]
            changed[j] = -there[j]
    panel[2 * n] = np.nan


@kernel
def _gather(
    gathering: _Gathering,
    layers: NDArray[np.int64],
    which: tuple[int, int, int, int, int],
    panel: Floats,
    sums: Floats,
) -> None:
    """Products of a layer that is gathered: number m, of shufflings g and units ``first`` to ``last``, into sums i.

    Arrays are whole, as in `_wait`.
    """
    places, _, whole = gathering
    m, g, first, last, i = which
    gather(places[layers[m, 4], g, first:last], whole[layers[m, 5]], panel, sums[i, layers[m, 2]], first > 0)


@kernel
def _in_panels(tile: Floats, panels: Floats) -> None:
    """A tile as (n_panels, n_units, width): read in order, since lines a page apart come one by one."""
    width = panels.shape[2]
    for s in range(tile.shape[0]):
        for p in range(panels.shape[0]):
            there, here = tile[s, p * width : (p + 1) * width], panels[p, s]
            for j in range(width):
                here[j] = there[j]


@kernel
def _pick(
    scores: Floats,
    two_sided: bool,
    threshold: Floats,
    reached: int,
    place: tuple[int, int, int],
    picks: Picks,
    n_picks: int,
) -> int:
    """Note the scores that reach the threshold.

    Parameters
    ----------
    scores, threshold, reached
        (ROWS, width), what they must reach, and the bits of the rows that do, from `reduce`.
    place
        (first shuffling, first voxel, voxels there).
    """
    which, voxel, value = picks
    first, start, n_there = place
    inside = (1 << n_there) - 1
    while reached != 0:
        r = first_bit(reached)
        reached &= reached - 1
        row = scores[r]
        bits = above(row, two_sided, threshold) & inside
        while bits != 0:
            j = first_bit(bits)
            bits &= bits - 1
            which[n_picks] = first + r
            voxel[n_picks] = start + j
            value[n_picks] = row[j]
            n_picks += 1
    return n_picks


@kernel
def _keep(scores: Floats, place: tuple[int, int, int], maps: Floats) -> None:
    """Copy scores to where they belong in the maps of a batch; ``place`` as in `_pick`."""
    first, start, n_there = place
    for r in range(min(ROWS, maps.shape[0] - first)):
        row, kept = scores[r], maps[first + r, start : start + n_there]
        for j in range(n_there):
            kept[j] = row[j]


@kernel
def _wait(
    scores: Floats,
    more: Floats,
    two_sided: bool,
    reference: Floats,
    threshold: Floats,
    undecided: _Undecided,
    best: Floats,
    place: tuple[int, int, int, int, int, int],
    waiting: _Waiting,
    n_waiting: int,
) -> int:
    """Note the scores that may count, be picked, or be a maximum, and that nothing decides yet.

    Parameters
    ----------
    scores, more
        (ROWS, width) from the score kernel.
    reference, threshold
        (width,) and (1,) of the panel.
    undecided
        low, peaks, first, steps: see `Limits`.
    best
        (ROWS, lanes) largest scores so far, from `reduce`.
    place
        As in `_pick`, and shufflings of the batch, the tile, and its first column there.
    """
    every_low, peaks, first_peak, steps = undecided
    which, voxel, value, extra, nothing = waiting
    first, start, n_there, n_batch, t, column = place
    low = every_low[t, column:]
    for r in range(min(ROWS, n_batch - first)):
        row, beside, top = scores[r], more[r], best[r, 0]
        for c in range(1, best.shape[1]):
            top = max(top, best[r, c])
        floor = row.dtype.type(-np.inf)
        if top >= first_peak:
            floor = peaks[int(min((top - first_peak) * steps, np.float64(peaks.shape[0] - 1)))]
        floor = threshold[0] if threshold[0] < floor else floor
        n_undecided, tally = 0, nothing[start : start + n_there]
        for j in range(n_there):
            tally[j] += 1 if beside[j] == 0.0 else 0
            height = abs(row[j]) if two_sided else row[j]
            decided = (height < floor) & ((height < low[j]) | (height >= reference[j]))
            n_undecided += 0 if decided else 1
        if n_undecided == 0:
            continue
        for j in range(n_there):
            height = abs(row[j]) if two_sided else row[j]
            if not ((height < floor) & ((height < low[j]) | (height >= reference[j]))):
                which[n_waiting] = first + r
                voxel[n_waiting] = start + j
                value[n_waiting] = row[j]
                extra[n_waiting] = beside[j]
                n_waiting += 1
    return n_waiting


def permute_panels(
    weights: Sequence[Floats | Gather],
    tiles: Floats,
    size: tuple[int, int],
    fixed: Floats,
    scoring: Scoring,
    two_sided: bool,
    limits: Limits,
    counts: NDArray[np.int32],
    peaks: Floats,
    picks: Picks,
    maps: Floats,
    waiting: Waiting | None = None,
    extra: Extra | None = None,
) -> int:
    """Take a batch of shufflings through a block of voxels.

    Parameters
    ----------
    weights
        (n_rows, height, n_units) of each layer: its rows under each shuffling; ``height`` is the batch or more. Or what
        is gathered instead, which makes one row.
    tiles
        (n_tiles, n_units, TILE) the layers of the block, one below the other. Past the last voxel the last tile repeats
        it.
    size
        (n_batch, n_voxels): shufflings, and voxels of the block.
    fixed
        (n_tiles, n_fixed, TILE) what no shuffling changes.
    scoring
        What makes scores of the products.
    two_sided
        Whether absolute scores count.
    limits
        What scores are held against.
    counts
        (n_tiles, TILE), added to: shufflings that reached the reference.
    peaks
        (n_batch,), or (n_grades, n_batch), filled: maximum of each shuffling.
    picks
        (shuffling in the batch, voxel in the block, score) of the scores that reach the threshold; each must have room
        for n_batch * n_voxels. Voxels increase within a shuffling, and nothing more is said of their order.
    maps
        (n_batch, n_voxels), filled with all scores; or of no columns, to keep none.
    waiting
        Where scores have to be finished: filled with those that nothing decides yet; then nothing else is filled but
        ``counts``, with what is decided.
    extra
        What score kernels find in the rows behind the products; None for nothing.

    Returns
    -------
    How many were picked, or wait.
    """
    n_batch, n_voxels = size
    n_columns, n_layers, dtype = tiles.shape[2], len(weights), tiles.dtype
    width = VECTORS * BYTES // tiles.itemsize
    n_groups, n_panels = -(-n_batch // ROWS), n_columns // width
    # First unit, units, first row, the row after the last; where it is gathered its number there, and what is permuted.
    layers = np.full((n_layers, 6), -1, np.int64)
    row = unit = 0
    for layer, one in zip(layers, weights, strict=True):
        n_rows, n_units = _shape(one)
        layer[:4] = unit, n_units, row, row + n_rows
        row, unit = row + n_rows, unit + n_units
    assert unit == tiles.shape[1]
    most = int(layers[:, 1].max())
    # Sums of several chunks wait for the last one; those of a single chunk are done with at once.
    n_waiting = n_panels * n_groups if most > CHUNK else 1
    # Memory is set up here, where nothing needs to be compiled.
    n_grades, n_kept = len(limits.threshold), scoring.n_kept
    table = _aligned((row + n_kept + scoring.n_scratch, ROWS, width), dtype)
    sums = table[None] if n_waiting == 1 else _aligned((n_waiting, row, ROWS, width), dtype)
    panels = _aligned((n_layers, n_panels, min(most, CHUNK), width), dtype)
    best = np.full((n_grades, n_groups * ROWS, width // VECTORS), -np.inf, dtype)
    beside = np.empty((fixed.shape[1], width), dtype)
    memory = (grouped(weights, n_batch, dtype), sums, table, table.reshape(len(table), -1), panels, best, beside)
    how = (n_batch, n_voxels, waiting is None, scoring.address(dtype))
    told = (scoring.sizes, scoring.constants)
    gathered = any(isinstance(one, Gather) for one in weights)
    if waiting is None and extra is None and not limits.grades.size and not gathered:  # most families
        held = (limits.reference, limits.threshold)
        n_picks = _permute(tiles, fixed, layers, how, told, two_sided, held, counts, picks, maps, memory, (0, 0), None)
        np.max(best[0, :n_batch], axis=1, out=peaks)  # as `_of_lanes`, which takes a process 3 ms to load
        return n_picks
    gathering = _gathering(weights, layers, n_batch, width, dtype)
    low, floors = limits.low.astype(dtype, copy=False), limits.peaks.astype(dtype, copy=False)
    grades = limits.grades if limits.grades.size else np.zeros((len(tiles), n_panels), np.int32)
    room = Waiting(*picks, picks[2], picks[0]) if waiting is None else waiting
    # Without patterns all tiles go at once, with nothing beside their products.
    if extra is None:
        none = np.empty((n_groups, 0, ROWS, 1), dtype)
        flags = np.zeros((len(tiles), n_panels), np.bool_)
        extra = Extra([(len(tiles), none)], np.zeros((len(tiles), n_columns), np.int32), flags, scoring.sizes)
    n_picks = first = 0
    for n_tiles, numbers in extra.numbers:
        some = slice(first, first + n_tiles)
        n_picks = _permute(
            tiles[some],
            fixed[some],
            layers,
            how,
            told,
            two_sided,
            (limits.reference[some], limits.threshold),
            counts[some],
            picks,
            maps,
            memory,
            (first * n_columns, n_picks),
            (
                grades[some],
                (numbers, extra.of[some], extra.whole[some], extra.sizes),
                (low[some], floors, limits.first, limits.steps),
                (room.which, room.voxel, room.score, room.more, room.nothing),
                gathering,
            ),
        )
        first += n_tiles
    assert first == len(tiles)
    _of_lanes(best, peaks.reshape(n_grades, n_batch))
    return n_picks


@kernel
def _of_lanes(best: Floats, out: Floats) -> None:
    """Fill the largest (n_grades, n_batch) of lanes (n_grades, n_batch or more, n)."""
    for g in range(out.shape[0]):
        for b in range(out.shape[1]):
            top = best[g, b, 0]
            for c in range(1, best.shape[2]):
                top = max(top, best[g, b, c])
            out[g, b] = top


@kernel
def _permute(
    tiles: Floats,
    fixed: Floats,
    layers: NDArray[np.int64],
    how: tuple[int, int, bool, Any],
    told: tuple[NDArray[np.int64], Floats],
    two_sided: bool,
    limits: tuple[Floats, Floats],
    counts: NDArray[np.int32],
    picks: Picks,
    maps: Floats,
    memory: tuple[Floats, Floats, Floats, Floats, Floats, Floats, Floats],
    begin: tuple[int, int],
    more: tuple[NDArray[np.int32], _Patterns, _Undecided, _Waiting, _Gathering] | None,
) -> int:
    """The loops of `permute_panels`, in the memory that it sets up; returns how many were picked, or wait.

    Parameters
    ----------
    how
        Shufflings, voxels, whether scores are finished, and the address of the score kernel.
    begin
        First voxel of the tiles, and how many were picked, or wait, before them.
    more
        What few families need: grades, patterns, what is not decided and where it waits, what is gathered. None where
        there is nothing of these: then nothing of them is compiled.
    """
    n_batch, n_voxels, finished, score = how
    sizes, constants = borrowed(told)
    tiles, fixed, counts, maps = borrowed((tiles, fixed, counts, maps))
    reference, thresholds = borrowed(limits)
    grouped, sums, table, flat, panels, best, beside = borrowed(memory)
    picked = borrowed(picks)
    n_tiles, n_columns = tiles.shape[0], tiles.shape[2]
    n_groups, n_waiting, n_panels, width = grouped.shape[0], sums.shape[0], panels.shape[1], panels.shape[3]
    n_layers, n_rows, most = layers.shape[0], grouped.shape[1], grouped.shape[2]
    if more is not None:
        grades, (numbers, of, whole, whole_sizes), undecided, waiting, gathering = borrowed(more)
        places, sources, every_unit = gathering
    scores, beside_scores = table[0], table[min(1, table.shape[0] - 1)]
    first_voxel, n_picks = begin
    for t in range(n_tiles):
        for first in range(0, most, CHUNK):
            for m in range(n_layers):
                unit, n_units = layers[m, 0], layers[m, 1]
                last = min(first + CHUNK, n_units)
                if first < last:
                    _in_panels(tiles[t, unit + first : unit + last], panels[m])
            for p in range(n_panels):
                column = p * width
                start = first_voxel + t * n_columns + column
                n_there = min(width, n_voxels - start)
                if n_there <= 0:
                    break
                limit, tally = reference[t, column : column + width], counts[t, column : column + width]
                for k in range(beside.shape[0]):
                    for j in range(width):
                        beside[k, j] = fixed[t, k, column + j]
                grade = 0
                if more is not None:
                    grade = int(grades[t, p])
                    for m in range(sources.shape[0]):
                        _whole(tiles[t, sources[m] : sources[m] + places.shape[2]], column, every_unit[m])
                threshold, peaks = thresholds[grade : grade + 1], best[grade]
                first_panel = panels[0, p, : min(first + CHUNK, layers[0, 1]) - first]
                for g in range(n_groups):
                    i = min(p * n_groups + g, n_waiting - 1)
                    if n_layers == 1:  # most families; a panel that is found anew each time costs a tenth of t
                        for k in range(n_rows):
                            multiply(grouped[g, k, first : first + CHUNK], first_panel, sums[i, k], first > 0)
                    else:
                        for m in range(n_layers):
                            last = min(first + CHUNK, layers[m, 1])
                            if first < last:
                                panel = panels[m, p, : last - first]
                                if more is not None and layers[m, 4] >= 0:
                                    _gather(gathering, layers, (m, g, first, last, i), panel, sums)
                                    continue
                                for k in range(layers[m, 2], layers[m, 3]):
                                    multiply(grouped[g, k, first:last], panel, sums[i, k], first > 0)
                    if first + CHUNK < most:
                        continue
                    if n_waiting > 1:
                        for k in range(sums.shape[1]):
                            for r in range(ROWS):
                                there, here = sums[i, k, r], table[k, r]
                                for j in range(width):
                                    here[j] = there[j]
                    if score:
                        if more is None:
                            call(score, flat, beside, sizes, constants)
                        elif whole[t, p]:
                            call(score, flat, beside, whole_sizes, constants)
                        else:
                            if numbers.shape[1]:
                                spread(numbers, of, (g, t, column), table, n_rows)
                            call(score, flat, beside, sizes, constants)
                    peak = peaks[g * ROWS : (g + 1) * ROWS]
                    reached = reduce(scores, two_sided, limit, threshold, tally, peak)
                    if finished:
                        place = (g * ROWS, start, n_there)
                        if reached:
                            n_picks = _pick(scores, two_sided, threshold, reached, place, picked, n_picks)
                        if maps.shape[1]:
                            _keep(scores, place, maps)
                    elif more is not None:
                        where = (g * ROWS, start, n_there, n_batch, t, column)
                        n_picks = _wait(
                            scores,
                            beside_scores,
                            two_sided,
                            limit,
                            threshold,
                            undecided,
                            peak,
                            where,
                            waiting,
                            n_picks,
                        )
    return n_picks
