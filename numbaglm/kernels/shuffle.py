"""Permuted statistics of a voxel block: shuffled rows, products, scores, and what is reduced from them.

Every statistic here is a small quadratic form of ``W_i E`` (Winkler et al. 2014): the rows of W_i are the few
rows of an orthonormal basis of the design, shuffled; the columns of E are the voxels, residualised and of unit
length. Of them the *score* is made, a monotone function of the statistic that costs less:

- t: the (partial) correlation, ``r_x / sqrt(1 - |r_z|^2)``, signed;
- F: the share of variance, ``|r_x|^2 / (1 - |r_z|^2)``,

with r_x the products of the rows of interest and r_z those of the nuisance rows that shuffling moves.
Voxels come in tiles of a fixed width, so that rounds and blocks begin where a tile does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.fused import permute_panels

TILE = 1024
"""Voxels a tile: residuals are made and stored so many at a time."""

Floats = NDArray[np.floating]
Integers = NDArray[np.signedinteger]


@kernel
def shuffle_rows(basis: Floats, index: NDArray[np.int32], sign: NDArray[np.int8], out: Floats) -> None:
    """Rows of W_i = U' P_i for a batch of shufflings.

    Parameters
    ----------
    basis
        (n_rows, n_subjects) U', rows of interest first.
    index, sign
        (n_batch, n_subjects); shuffling b maps E to ``sign[b, r] * E[index[b, r]]``.
    out
        (n_rows * n_batch, n_subjects), filled: row ``k * n_batch + b`` is row k of shuffling b. Rows past
        ``n_rows * n_batch`` of a larger array are left alone.
    """
    n_rows, n_subjects = basis.shape
    n_batch = index.shape[0]
    height = out.shape[0] // n_rows
    for b in range(n_batch):
        for k in range(n_rows):
            row = out[k * height + b]
            for r in range(n_subjects):
                row[index[b, r]] = sign[b, r] * basis[k, r]


def order_keys(scores: Floats, two_sided: bool, keys: Integers) -> None:
    """Integers ordered as the scores are (as their absolute values are, if two-sided).

    The bits of a positive float, read as an integer of its width, are ordered as the floats are; those of a
    negative one the other way round.

    Parameters
    ----------
    scores
        float32 or float64.
    keys
        int32 or int64, of the same width and shape, filled.
    """
    bits, top = scores.view(keys.dtype), np.iinfo(keys.dtype).max
    keys[...] = bits & top if two_sided else np.where(bits < 0, bits ^ top, bits)


def scan_tile(
    scores: Floats,
    place: tuple[int, int, int],
    two_sided: bool,
    reference: Integers,
    threshold: int,
    counts: NDArray[np.int32],
    best: Integers,
    picks: tuple[NDArray[np.int32], NDArray[np.int32], Floats],
    n_picks: int,
    maps: Floats,
) -> int:
    """Reduce the scores of a tile, where they are made by something slower than `permute_batch`.

    Parameters
    ----------
    scores
        (n_batch, TILE) scores of a batch of shufflings.
    place
        (number of the tile, n_batch, n_voxels of the block).
    two_sided
        Whether absolute scores count.
    reference
        (TILE,) keys (`order_keys`) that a score must reach to be counted.
    threshold
        Key that a score must reach to be picked; the largest integer picks none.
    counts
        (TILE,), added to: shufflings that reached the reference.
    best
        (n_batch,) keys, raised to the maximum over the tile.
    picks
        (shuffling in the batch, voxel in the block, score) of the scores that reach the threshold, by tile,
        then by shuffling; each must have room for n_batch * n_voxels.
    n_picks
        How many there are already.
    maps
        (n_batch, n_voxels), filled with all scores; or of no columns, to keep none.

    Returns
    -------
    How many picks there are now.
    """
    t, n_batch, n_voxels = place
    here = slice(t * TILE, (t + 1) * TILE)
    maps[:n_batch, here] = scores[:, : maps[:, here].shape[1]]
    keys = np.empty(scores.shape, reference.dtype)
    order_keys(scores, two_sided, keys)
    counts += (keys >= reference).sum(axis=0, dtype=np.int32)
    np.maximum(best, keys.max(axis=1), out=best)
    which, voxel = np.nonzero(keys[:, : n_voxels - t * TILE] >= threshold)
    n_more = n_picks + which.size
    for room, values in zip(picks, (which, voxel + t * TILE, scores[which, voxel]), strict=True):
        room[n_picks:n_more] = values
    return n_more


def permute_batch(
    weights: Floats,
    tiles: Floats,
    design: tuple[int, int, int, int, bool],
    two_sided: bool,
    reference: Integers,
    threshold: int,
    counts: NDArray[np.int32],
    best: Integers,
    picks: tuple[NDArray[np.int32], NDArray[np.int32], Floats],
    maps: Floats,
) -> int:
    """Take a batch of shufflings through a block of voxels.

    Parameters
    ----------
    weights
        (n_rows * height, n_subjects) from `shuffle_rows`.
    tiles
        (n_tiles, n_subjects, TILE) residuals of unit length. Past the last voxel the last tile repeats it.
    design
        (n_batch, n_rows, n_interest, n_voxels, is_t): shufflings, of at most ``height``; rows a shuffling, and how
        many of them are of interest; voxels of the block; whether the score is signed.
    two_sided, threshold, best, maps
        See `scan_tile`.
    picks
        See `scan_tile`; voxels increase within a shuffling, and nothing more is said of their order.
    reference, counts
        (n_tiles, TILE), see `scan_tile`.

    Returns
    -------
    How many were picked.
    """
    limit = np.array([threshold], reference.dtype).view(tiles.dtype)
    peaks = np.empty(design[0], tiles.dtype)
    n_picks = permute_panels(weights, tiles, design, two_sided, reference, limit, counts, peaks, picks, maps)
    keys = np.empty(design[0], best.dtype)
    order_keys(peaks, two_sided, keys)
    np.maximum(best, keys, out=best)
    return n_picks


@kernel
def group_picks(
    picks: tuple[NDArray[np.int32], NDArray[np.int32], Floats],
    n_picks: int,
    bounds: NDArray[np.int64],
    voxel: NDArray[np.int32],
    value: Floats,
) -> None:
    """Sort picks by shuffling, voxels increasing within each (a counting sort).

    Parameters
    ----------
    picks, n_picks
        From `permute_batch`.
    bounds
        (n_batch + 1,), filled: picks of shuffling b end up in ``bounds[b]:bounds[b + 1]``.
    voxel, value
        (n_picks,), filled.
    """
    which, unsorted_voxel, unsorted_value = picks
    bounds[:] = 0
    for p in range(n_picks):
        bounds[which[p] + 1] += 1
    for b in range(1, bounds.shape[0]):
        bounds[b] += bounds[b - 1]
    place = bounds[:-1].copy()
    for p in range(n_picks):
        to = place[which[p]]
        place[which[p]] += 1
        voxel[to] = unsorted_voxel[p]
        value[to] = unsorted_value[p]


@kernel
def enumerate_arrangements(classes: NDArray[np.int32], items: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """All distinct arrangements of items whose classes repeat, in lexicographic order of the classes.

    Items move along with their classes, so that which of a class's items stands where follows from the steps.

    Parameters
    ----------
    classes
        (n,) class of each item, ascending; overwritten.
    items
        (n,) items; overwritten.
    out
        (n_arrangements, n), filled; the first row is the items as given.

    References
    ----------
    Knuth, The Art of Computer Programming 4A, section 7.2.1.2, Algorithm L.
    """
    n = classes.shape[0]
    for row in range(out.shape[0]):
        for i in range(n):  # to assign the row as a whole takes five times as long to compile
            out[row, i] = items[i]
        j = n - 2
        while j >= 0 and classes[j] >= classes[j + 1]:
            j -= 1
        if j < 0:
            return
        last = n - 1
        while classes[j] >= classes[last]:
            last -= 1
        classes[j], classes[last] = classes[last], classes[j]
        items[j], items[last] = items[last], items[j]
        left, right = j + 1, n - 1
        while left < right:
            classes[left], classes[right] = classes[right], classes[left]
            items[left], items[right] = items[right], items[left]
            left += 1
            right -= 1
