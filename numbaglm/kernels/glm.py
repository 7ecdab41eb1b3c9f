"""Least squares of a block of voxels, and t and F of the scores that stand for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels._jit import exact_kernel, kernel
from numbaglm.kernels.panels.vectors import borrowed

LEAST = 1e-14
"""Left of the variance at least: a voxel that the model fits exactly has no infinite statistic, and the same one in any
shuffling, as this is above what double precision rounds."""


def residuals(Y: NDArray[np.floating[Any]], basis: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Residuals of each voxel on an orthonormal basis, in double precision.

    Where the basis holds a constant the data are moved to 0 first: far from it products round more, and statistics that
    are equal on paper would differ.

    Parameters
    ----------
    Y
        (n_subjects, n_voxels) data.
    basis
        (n_columns, n_subjects) orthonormal rows; no rows leave the data as they are.
    out
        (n_subjects, n_voxels), filled.
    """
    out[:] = Y
    if (basis.sum(axis=1) ** 2).sum() > out.shape[0] * (1 - 1e-12):
        out -= out[0].copy()
    if basis.shape[0] > 0:
        # Not in a kernel, whose np.dot is scipy's: loaded by the first call, it would escape a limit of BLAS threads.
        _subtract(basis, basis @ out, out)


@kernel
def _subtract(basis: NDArray[np.float64], products: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for j in range(out.shape[0]):
        for c in range(basis.shape[0]):
            weight = basis[c, j]
            for v in range(out.shape[1]):
                out[j, v] -= weight * products[c, v]


@kernel
def to_unit_length(Y: Floats, least: float, E: Doubles, length: Doubles) -> None:
    """Bring residuals to unit length, or to 0 where next to nothing is left of the data.

    Parameters
    ----------
    Y
        (n_subjects, n_voxels) data.
    least
        Share of the length of the data that residuals must have more than.
    E
        (n_subjects, n_voxels) residuals, brought to length.
    length
        (n_voxels,), filled: their length before, or 0.
    """
    n, n_voxels = E.shape
    total, factor = np.zeros(n_voxels), np.empty(n_voxels)
    length[:] = 0.0
    for i in range(n):
        for v in range(n_voxels):
            total[v] += np.float64(Y[i, v]) * np.float64(Y[i, v])
            length[v] += E[i, v] * E[i, v]
    for v in range(n_voxels):
        size = np.sqrt(length[v])
        length[v] = size if size > least * np.sqrt(total[v]) else 0.0
        factor[v] = 1.0 / size if length[v] > 0.0 else 0.0
    for i in range(n):
        for v in range(n_voxels):
            E[i, v] *= factor[v]


@kernel
def products_of_rows(rows: Doubles, Y: Floats, out: Doubles) -> None:
    """Products (n_rows, n_voxels) of rows (n_rows, n_subjects) with data; the same bits in any company."""
    out[:] = 0.0
    for i in range(rows.shape[1]):
        for r in range(rows.shape[0]):
            weight = rows[r, i]
            for v in range(out.shape[1]):
                out[r, v] += weight * np.float64(Y[i, v])


_PANEL = 64
"""Voxels that are whitened together: their variables stay in the cache."""


@kernel
def whiten(E: Doubles, least: float, rows: Doubles, W: Doubles, R: Doubles, B: Doubles, ok: Doubles) -> None:
    """Make the variables of each voxel orthonormal, one after another, and their products with some rows.

    Parameters
    ----------
    E
        (n_variables, n_subjects, n_voxels) variables of unit length, or 0.
    least
        Of a variable's variance that those before it must leave.
    rows
        (n_rows, n_subjects).
    W
        As E, filled; 0 where a variable follows from those before it.
    R
        (n_voxels, n_variables, n_variables), filled: products of W (first) with E.
    B
        (n_voxels, n_rows, n_variables), filled.
    ok
        (n_voxels,), filled: 1, or 0 where a variable follows from those before it.
    """
    n_variables, n, n_voxels = E.shape
    E, rows, W, R, B, ok = borrowed((E, rows, W, R, B, ok))
    room = np.empty(_PANEL)
    R[:] = 0.0
    for begin in range(0, n_voxels, _PANEL):
        end = min(begin + _PANEL, n_voxels)
        width = end - begin
        sums, fine = borrowed((room[:width], ok[begin:end]))
        fine[:] = 1.0
        for a in range(n_variables):
            W[a, :, begin:end] = E[a, :, begin:end]
            for again in range(2 * a):  # twice is enough
                sums[:] = 0.0
                for i in range(n):
                    x, before = W[a, i, begin:end], W[again % a, i, begin:end]
                    for v in range(width):
                        sums[v] += before[v] * x[v]
                R[begin:end, again % a, a] += sums
                for i in range(n):
                    x, before = W[a, i, begin:end], W[again % a, i, begin:end]
                    for v in range(width):
                        x[v] -= sums[v] * before[v]
            sums[:] = 0.0
            for i in range(n):
                x = W[a, i, begin:end]
                for v in range(width):
                    sums[v] += x[v] * x[v]
            for v in range(width):
                if sums[v] < least:
                    fine[v] = 0.0
                    sums[v] = 0.0
                else:
                    R[begin + v, a, a] = np.sqrt(sums[v])
                    sums[v] = 1.0 / np.sqrt(sums[v])
            for i in range(n):
                x = W[a, i, begin:end]
                for v in range(width):
                    x[v] *= sums[v]
            for r in range(rows.shape[0]):
                sums[:] = 0.0
                for i in range(n):
                    x, weight = W[a, i, begin:end], rows[r, i]
                    for v in range(width):
                        sums[v] += weight * x[v]
                B[begin:end, r, a] = sums


@exact_kernel
def t_of_correlations(score: Floats, dof: float, out: Floats) -> None:
    """Turn (partial) correlations into t; the same numbers as `numbaglm.stats.scales.Correlation`, in one pass.

    Parameters
    ----------
    score
        (n,) float32 or float64.
    out
        (n,), filled; computed in float64, whatever its type.
    """
    for v in range(score.shape[0]):
        rho = np.float64(score[v])
        left = 1.0 - rho * rho
        out[v] = rho * np.sqrt(dof / (left if left > LEAST else LEAST))


@exact_kernel
def f_of_shares(score: Floats, dof: float, n_rows: float, out: Floats) -> None:
    """Turn shares of variance into F; the same numbers as `numbaglm.stats.scales.Share`; as `t_of_correlations`."""
    for v in range(score.shape[0]):
        share = np.float64(score[v])
        left = 1.0 - share
        out[v] = share / (left if left > LEAST else LEAST) * dof / n_rows


HIGHEST = 0.5 * math.log(4.0 / LEAST)
"""Fisher's transform of the largest correlation that is told from 1, see `LEAST`."""


@exact_kernel
def z_of_correlations(score: Floats, knots: NDArray[np.float64], steps: float, out: Floats) -> None:
    """Turn correlations into z, by cubics between knots over Fisher's transform: a tenth of the cost of exact ones.

    Parameters
    ----------
    score
        (n,) float32 or float64.
    knots
        (2, n_knots) z, and its slope a step, at 0, 1 / steps, 2 / steps and so on, past `HIGHEST`.
    steps
        For each unit.
    out
        (n,), filled.
    """
    for v in range(score.shape[0]):
        out[v] = _z_of_correlation(np.float64(score[v]), knots, steps)


@exact_kernel
def largest_z(score: Floats, knots: NDArray[np.float64], steps: float, out: NDArray[np.float64]) -> None:
    """Raise ``out`` (n,) to the largest z of correlations (m, n), each row by knots of its own (m, 2, n_knots)."""
    for k in range(score.shape[0]):
        row, own = score[k], knots[k]
        for v in range(row.shape[0]):
            z = _z_of_correlation(np.float64(row[v]), own, steps)
            out[v] = z if z > out[v] else out[v]


@exact_kernel
def _z_of_correlation(rho: float, knots: NDArray[np.float64], steps: float) -> float:
    size = abs(rho)
    at = HIGHEST if size >= 1.0 else min(0.5 * np.log((1.0 + size) / (1.0 - size)), HIGHEST)
    place = at * steps
    k = int(place)
    x = place - k
    low, high, rise, rise_high = knots[0, k], knots[0, k + 1], knots[1, k], knots[1, k + 1]
    gap = high - low
    z: float = low + x * (rise + x * (3.0 * gap - 2.0 * rise - rise_high + x * (rise + rise_high - 2.0 * gap)))
    return z if rho >= 0 else -z
