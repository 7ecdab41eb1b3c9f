"""Least squares of elements of which some subjects are missing, each with the subjects that it has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels._jit import kernel

SINGULAR = 1e-9
"""Of what a regressor has of itself, what others leave of it, from which on it is told apart from them."""


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


_WIDTH = 128  # elements side by side


@kernel
def fit(
    data: Floats,
    there: NDArray[np.bool_],
    of: NDArray[np.int32],
    untested: NDArray[np.bool_],
    inverses: Doubles,
    rows: Doubles,
    least: float,
    E: Doubles,
    found: Doubles,
) -> None:
    """Residuals of each element on the nuisance, of unit length, over the subjects that it has, and what is observed.

    Elements stand side by side: a sum over subjects goes on for many at once, and each in the order of subjects.

    Parameters
    ----------
    data, there
        (n_subjects, n_voxels), 0 where a value is missing; and whether it is there.
    of
        (n_voxels,) pattern of each.
    untested, inverses
        Whether a pattern is beyond testing (n_patterns,); and inverses (n_patterns, k, k) of `grams` of the nuisance.
    rows
        (s + k, n_subjects) of the design, the nuisance last.
    least
        Length of residuals, relative to that of the data, that is none.
    E
        (n_subjects, n_voxels), filled: 0 where a value is missing, or nothing can be tested.
    found
        (2 * s + k + 1, n_voxels), filled: products of the data with the rows; of E with those that are tested; and the
        length of the residuals, 0 where nothing can be tested.
    """
    (rank, n), k = rows.shape, inverses.shape[1]
    s = rank - k
    every_product, every_weight = np.empty((k, _WIDTH)), np.empty((k, _WIDTH))
    square, total = np.empty(_WIDTH), np.empty(_WIDTH)
    for first in range(0, data.shape[1], _WIDTH):
        width = min(_WIDTH, data.shape[1] - first)
        some = slice(first, first + width)
        pattern = of[some]
        found[:, some] = 0.0
        total[:] = 0.0
        square[:] = 0.0
        for j in range(n):
            given, left = data[j, some], E[j, some]
            for v in range(width):
                left[v] = given[v]
                total[v] += left[v] * left[v]
            for i in range(rank):
                _add(rows[i, j], left, found[i, some])
        for again in range(2):  # what rounding left of the first time goes the second
            every_product[:, :width] = found[s:rank, some]
            if again:
                every_product[:] = 0.0
            for j in range(n if again else 0):
                for i in range(k):
                    _add(rows[s + i, j], E[j, some], every_product[i])
            for i in range(k):
                weight = every_weight[i]
                weight[:] = 0.0
                for m in range(k):
                    product = every_product[m]
                    for v in range(width):
                        weight[v] += inverses[pattern[v], i, m] * product[v]
            for j in range(n):
                left, here = E[j, some], there[j, some]
                for i in range(k):
                    row, weight = rows[s + i, j], every_weight[i]
                    for v in range(width):
                        left[v] -= row * weight[v] if here[v] else 0.0
        for j in range(n):
            left = E[j, some]
            for v in range(width):
                square[v] += left[v] * left[v]
        lengths = found[rank + s, some]
        for v in range(width):
            length = np.sqrt(square[v])
            length = 0.0 if untested[pattern[v]] or length <= least * np.sqrt(total[v]) else length
            lengths[v] = length
            square[v] = 1.0 / length if length > 0.0 else 0.0
        for j in range(n):
            left = E[j, some]
            for v in range(width):
                left[v] *= square[v]
            for i in range(s):
                _add(rows[i, j], left, found[rank + i, some])


@kernel
def _add(weight: float, values: Doubles, to: Doubles) -> None:
    for v in range(values.shape[0]):
        to[v] += weight * values[v]


@kernel
def products(data: Doubles, rows: Doubles, out: Doubles) -> None:
    """Products (n_voxels, k) of elements (n_voxels, n_subjects) with rows (k, n_subjects), one at a time."""
    for v in range(data.shape[0]):
        for i in range(rows.shape[0]):
            total = 0.0
            for s in range(rows.shape[1]):
                total += rows[i, s] * data[v, s]
            out[v, i] = total


@kernel
def of_two(zz: float, xz: float, xx: float, z: float, x: float) -> tuple[float, float, float]:
    """1 / S_zz, S_xz / S_zz and 1 / (S_xx - S_xz^2 / S_zz) of a matrix S of two rows; zeros where it is singular.

    ``z`` and ``x`` are what its diagonal was before others took their part.
    """
    rest = zz * xx - xz * xz
    there_is = 1.0 if zz > SINGULAR * z else 0.0
    there_is = there_is if rest > SINGULAR * x * zz else 0.0
    scale = there_is / (zz * rest * there_is + 1.0 - there_is)  # one division for all
    return rest * scale, xz * rest * scale, zz * zz * scale


@kernel
def groups_apart(products: Floats, n_groups: int, k: int, s: int, constants: Floats) -> None:
    """Make v or G, and its degrees of freedom, of groups whose variances differ, each of those who are there.

    Parameters
    ----------
    products
        (n_rows, n) of each element, see `numbaglm.stats.families.ordinary.incomplete_groups.of_groups`; the first two
        are filled: 0, and no degrees of freedom, where nothing can be tested; NaN where a sum of squares is not known
        well.
    n_groups, k, s
        Groups, columns of the design, those tested, which come last.
    constants
        What degrees of freedom are multiplied by, those that a group must hold, the least sum of squares, and what is
        nothing on the diagonal of a Gram matrix.
    """
    triangle = k * (k + 1) // 2
    squares, pairs = n_groups * k, n_groups * (k + 1)
    A, root, inverse, b = np.empty((k, k)), np.empty((k, k)), np.empty((k, k)), np.empty(k)
    free, weight = np.empty(n_groups), np.empty(n_groups)
    for v in range(products.shape[1]):
        for i in range(k):
            b[i] = 0.0
            for g in range(n_groups):
                b[i] += products[g * k + i, v]
            for j in range(i + 1):
                A[i, j] = 0.0
                for g in range(n_groups):
                    A[i, j] += products[pairs + g * (triangle + 1) + i * (i + 1) // 2 + j, v]
        absent = np.nan if np.isnan(A[0, 0]) else 0.0  # nothing is counted of shufflings that are not there
        if not _root(A, root, constants[3]):
            products[0, v] = products[1, v] = absent
            continue
        _invert(root, inverse)
        for i in range(k):  # inverse of A, of that of its root, in place of A
            for j in range(i + 1):
                total = 0.0
                for m in range(i, k):
                    total += inverse[m, i] * inverse[m, j]
                A[i, j] = A[j, i] = total
        for i in range(k):
            root[0, i] = b[i]
        for i in range(k):
            b[i] = 0.0
            for j in range(k):
                b[i] += A[i, j] * root[0, j]
        told, known = True, True
        for g in range(n_groups):
            first = pairs + g * (triangle + 1)
            free[g], square = products[first + triangle, v], products[squares + g, v]
            for i in range(k):
                square -= 2.0 * b[i] * products[g * k + i, v]
                for j in range(i + 1):
                    times = products[first + i * (i + 1) // 2 + j, v] * (1.0 if i == j else 2.0)
                    free[g] -= times * A[i, j]
                    square += times * b[i] * b[j]
            told = told and free[g] >= constants[1]
            known = known and square >= constants[2]
            weight[g] = free[g] / square if square > 0.0 else 1.0
        if not told or not known:
            products[0, v], products[1, v] = (0.0, 0.0) if not told else (np.nan, 1.0)
            continue
        total, excess = 0.0, 0.0
        for g in range(n_groups):
            total += weight[g] * products[pairs + g * (triangle + 1) + triangle, v]
        for g in range(n_groups):
            rest = 1.0 - weight[g] * products[pairs + g * (triangle + 1) + triangle, v] / total
            excess += rest * rest / free[g]
        for i in range(k):
            for j in range(i + 1):
                A[i, j] = 0.0
                for g in range(n_groups):
                    A[i, j] += weight[g] * products[pairs + g * (triangle + 1) + i * (i + 1) // 2 + j, v]
        _root(A, root, 0.0)
        products[1, v] = s * (s + 2) / 3.0 / max(excess, 1e-20) * constants[0]
        if s == 1:
            products[0, v] = root[k - 1, k - 1] * b[k - 1]
            continue
        form = 0.0
        for j in range(k - s, k):
            part = 0.0
            for i in range(j, k):
                part += root[i, j] * b[i]
            form += part * part
        products[0, v] = form / (s * (1.0 + 2.0 * (s - 1) / (s * (s + 2)) * excess))


@kernel
def _root(A: Doubles, root: Doubles, nothing: float) -> bool:
    """Fill the lower triangle of a root of a matrix, of which the lower triangle is read; False where it has none."""
    for i in range(A.shape[0]):
        for j in range(i + 1):
            total = A[i, j]
            for m in range(j):
                total -= root[i, m] * root[j, m]
            if i > j:
                root[i, j] = total / root[j, j]
            elif total > nothing * A[i, i] and total > 0.0:
                root[i, i] = np.sqrt(total)
            else:
                return False
    return True


@kernel
def _invert(root: Doubles, out: Doubles) -> None:
    """Fill the lower triangle of the inverse of a lower triangle."""
    for j in range(root.shape[0]):
        out[j, j] = 1.0 / root[j, j]
        for i in range(j + 1, root.shape[0]):
            total = 0.0
            for m in range(j, i):
                total -= root[i, m] * out[m, j]
            out[i, j] = total / root[i, i]
