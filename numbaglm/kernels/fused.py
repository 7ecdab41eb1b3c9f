"""A batch of shufflings through a block of voxels, in panels as wide as the vector code.

A tile is cut into panels of a few voxels; a panel meets all shufflings, a few at a time, whose scores are reduced
while they are in the first-level cache. Subjects come in chunks. A sum runs over a chunk's subjects in order, and
chunks are added up in order: nothing else decides a score, so that it is the same number wherever a block or a
batch begins.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.vectors import BYTES, ROWS, VECTORS, multiply, reduce

CHUNK = 256
"""Subjects a chunk. A panel of as many (32 KiB) stays in the second-level cache, whatever the size of the cohort. And
the rounding of a sum grows with its length: terms that are all equal, the worst, leave an error of up to 3.4e-6 in a
correlation of 1 (n = 100 to 1100, single precision), where sums of 512 leave 7e-6 and a BLAS left 15e-6."""

Floats = NDArray[np.floating]
Integers = NDArray[np.signedinteger]
Picks = tuple[NDArray[np.int32], NDArray[np.int32], Floats]


@kernel
def combine(products: Floats, n_interest: int, is_t: bool) -> None:
    """Make scores of the products of a shuffling's rows, in place.

    Parameters
    ----------
    products
        (n_rows, n) products, rows of interest first; the scores land in the first row, the others are scratch.
    n_interest, is_t
        How many rows are of interest, and whether the score is signed.
    """
    n_rows, n = products.shape
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    score = products[0]
    if not is_t:
        for v in range(n):
            score[v] *= score[v]
        for k in range(1, n_interest):
            other = products[k]
            for v in range(n):
                score[v] += other[v] * other[v]
    if n_rows == n_interest:
        return
    left = products[n_interest]
    for v in range(n):
        left[v] = products.dtype.type(1.0) - left[v] * left[v]
    for k in range(n_interest + 1, n_rows):
        other = products[k]
        for v in range(n):
            left[v] -= other[v] * other[v]
    for v in range(n):
        rest = left[v] if left[v] > tiny else tiny
        score[v] /= np.sqrt(rest) if is_t else rest


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
    """Array that begins where a vector may: one that straddles cache lines costs two loads."""
    n, item = prod(shape), dtype.itemsize
    room = np.empty(n + BYTES // item, dtype)
    first = -room.ctypes.data % BYTES // item
    return room[first : first + n].reshape(shape)


def _grouped(weights: Floats, n_batch: int, n_rows: int) -> Floats:
    """Weights as `multiply` reads them, (n_groups, n_rows, n_subjects, ROWS); NaN for shufflings not there."""
    rows = weights.reshape(n_rows, -1, weights.shape[1])[:, :n_batch].transpose(0, 2, 1)
    out = np.full((-(-n_batch // ROWS), n_rows, weights.shape[1], ROWS), np.nan, weights.dtype)
    for g, group in enumerate(out):
        some = rows[:, :, g * ROWS : (g + 1) * ROWS]
        group[:, :, : some.shape[2]] = some
    return out


@kernel
def _floats(keys: Integers, bits: Integers) -> None:
    """Scores of keys, as their bits: the way back from `shuffle.order_keys`; the largest key becomes NaN."""
    top = bits.dtype.type(np.iinfo(keys.dtype).max)
    for v in range(keys.shape[0]):
        bits[v] = keys[v] if keys[v] >= 0 else keys[v] ^ top


@kernel
def _in_panels(tile: Floats, panels: Floats) -> None:
    """A tile as (n_panels, n_subjects, width): read in order, since lines a page apart come one by one."""
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
    for r in range(ROWS):
        if (reached >> r) & 1:
            row = scores[r]
            for j in range(n_there):
                height = abs(row[j]) if two_sided else row[j]
                if height >= threshold[0]:
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


def permute_panels(
    weights: Floats,
    tiles: Floats,
    design: tuple[int, int, int, int, bool],
    two_sided: bool,
    reference: Integers,
    threshold: Floats,
    counts: NDArray[np.int32],
    peaks: Floats,
    picks: Picks,
    maps: Floats,
) -> int:
    """Take a batch of shufflings through a block of voxels.

    Parameters
    ----------
    weights, tiles, design, two_sided, reference, counts, picks, maps
        See `shuffle.permute_batch`.
    threshold
        (1,) score that a score must reach to be picked; NaN picks none.
    peaks
        (n_batch,), filled: maximum of each shuffling.

    Returns
    -------
    How many were picked.
    """
    n_batch, n_rows = design[:2]
    _, n_subjects, n_columns = tiles.shape
    width = VECTORS * BYTES // tiles.itemsize
    n_groups, n_panels = -(-n_batch // ROWS), n_columns // width
    # Sums of several chunks wait for the last one; those of a single chunk are done with at once.
    n_waiting = n_panels * n_groups if n_subjects > CHUNK else 1
    # Memory is set up here, where nothing needs to be compiled.
    grouped = _grouped(weights, n_batch, n_rows)
    sums = _aligned((n_waiting, n_rows, ROWS, width), tiles.dtype)
    panels = _aligned((n_panels, min(n_subjects, CHUNK), width), tiles.dtype)
    best = np.full((n_groups * ROWS, width // VECTORS), -np.inf, tiles.dtype)
    memory = (grouped, sums, sums.reshape(n_waiting, n_rows, -1), panels, best)
    limits = np.empty(width, tiles.dtype)
    limits_ = limits, limits.view(reference.dtype)
    n_picks = _permute(tiles, design, two_sided, reference, limits_, threshold, counts, picks, maps, memory)
    best[:n_batch].max(axis=1, out=peaks)
    return n_picks


@kernel
def _permute(
    tiles: Floats,
    design: tuple[int, int, int, int, bool],
    two_sided: bool,
    reference: Integers,
    limits: tuple[Floats, Integers],
    threshold: Floats,
    counts: NDArray[np.int32],
    picks: Picks,
    maps: Floats,
    memory: tuple[Floats, Floats, Floats, Floats, Floats],
) -> int:
    """The loops of `permute_panels`, in the memory that it sets up; returns how many were picked."""
    _, n_rows, n_interest, n_voxels, is_t = design
    grouped, sums, flat, panels, best = memory
    n_tiles, n_subjects, n_columns = tiles.shape
    n_groups, n_waiting, n_panels, width = grouped.shape[0], sums.shape[0], panels.shape[0], panels.shape[2]
    n_picks = int(np.int64(0))  # a literal would have `_pick` compiled twice
    for t in range(n_tiles):
        for first in range(0, n_subjects, CHUNK):
            last = min(first + CHUNK, n_subjects)
            _in_panels(tiles[t, first:last], panels)
            for p in range(n_panels):
                column = p * width
                start = t * n_columns + column
                n_there = min(width, n_voxels - start)
                if n_there <= 0:
                    break
                _floats(reference[t, column : column + width], limits[1])
                panel, tally = panels[p, : last - first], counts[t, column : column + width]
                for g in range(n_groups):
                    i = min(p * n_groups + g, n_waiting - 1)
                    for k in range(n_rows):
                        multiply(grouped[g, k, first:last], panel, sums[i, k], first > 0)
                    if last < n_subjects:
                        continue
                    if n_rows > 1 or not is_t:
                        combine(flat[i], n_interest, is_t)
                    scores = sums[i, 0]
                    reached = reduce(scores, two_sided, limits[0], threshold, tally, best[g * ROWS : (g + 1) * ROWS])
                    place = (g * ROWS, start, n_there)
                    if reached:
                        n_picks = _pick(scores, two_sided, threshold, reached, place, picks, n_picks)
                    if maps.shape[1]:
                        _keep(scores, place, maps)
    return n_picks
