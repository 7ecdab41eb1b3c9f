"""Least squares of elements of which some subjects are missing, each with the subjects that it has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels._jit import kernel


@kernel
def grams(rows: Doubles, present: NDArray[np.bool_], out: Doubles) -> None:
    """Products of all pairs of rows over those who are present.

    Parameters
    ----------
    rows
        (k, n_subjects).
    present
        (n_patterns, n_subjects).
    out
        (n_patterns, k, k), filled.
    """
    for p in range(present.shape[0]):
        for i in range(rows.shape[0]):
            for j in range(i + 1):
                total = 0.0
                for s in range(rows.shape[1]):
                    if present[p, s]:
                        total += rows[i, s] * rows[j, s]
                out[p, i, j] = out[p, j, i] = total


@kernel
def residuals(
    data: Doubles, of: NDArray[np.int32], present: NDArray[np.bool_], rows: Doubles, inverses: Doubles, out: Doubles
) -> None:
    """Residuals of each element on some rows, over the subjects that it has; 0 for those that are missing.

    Parameters
    ----------
    data
        (n_voxels, n_subjects).
    of
        (n_voxels,) pattern of each.
    present
        (n_patterns, n_subjects).
    rows
        (k, n_subjects).
    inverses
        (n_patterns, k, k) of the `grams` of the rows.
    out
        (n_voxels, n_subjects), filled.
    """
    k, n = rows.shape
    products = np.empty(k)
    for v in range(data.shape[0]):
        p, E = of[v], out[v]
        for s in range(n):
            E[s] = data[v, s] if present[p, s] else 0.0
        for _ in range(2):  # what rounding left of the first time goes the second
            for i in range(k):
                total = 0.0
                for s in range(n):
                    total += rows[i, s] * E[s]
                products[i] = total
            for i in range(k):
                weight = 0.0
                for j in range(k):
                    weight += inverses[p, i, j] * products[j]
                for s in range(n):
                    if present[p, s]:
                        E[s] -= weight * rows[i, s]


@kernel
def products(data: Doubles, rows: Doubles, out: Doubles) -> None:
    """Products (n_voxels, k) of elements (n_voxels, n_subjects) with rows (k, n_subjects), one at a time."""
    for v in range(data.shape[0]):
        for i in range(rows.shape[0]):
            total = 0.0
            for s in range(rows.shape[1]):
                total += rows[i, s] * data[v, s]
            out[v, i] = total
