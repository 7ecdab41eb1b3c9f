"""Shuffled rows, and what is picked, sorted by shuffling.

Every permuted statistic is made of few products ``U' P_i E`` (Winkler et al. 2014): the rows of U' are a few rows of
the design's, which shuffling i permutes and flips; the columns of E are the voxels. Voxels come in tiles of a fixed
width, so that rounds and blocks begin where a tile does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.kernels._jit import kernel

TILE = 1024
"""Voxels a tile: residuals are made and stored so many at a time."""


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
        From `fused.permute_panels`.
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
