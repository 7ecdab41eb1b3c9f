"""Statistics of estimates whose covariance is made of residuals: of several voxels and shufflings, side by side.

Arrays are (rows, n); entry v of what no shuffling changes, (rows, width), is of entry v % width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.eigen import clip


@kernel
def wald(products: Floats, S: Floats, fixed: Floats, s: int, dof: float) -> None:
    """Make d / sqrt(d^2 + dof S), or the share d' (d d' + dof S)^-1 d, in the first row.

    Parameters
    ----------
    products
        d in the first s rows.
    S
        Covariances of d, the lower triangle row by row; left changed.
    fixed
        What variances are measured by, in the rows of the diagonal of S: of less than its rounding nothing is known.
    """
    n, width = products.shape[1], fixed.shape[1]
    zero, one = products.dtype.type(0.0), products.dtype.type(1.0)
    eps = products.dtype.type(np.finfo(products.dtype).eps)
    for i in range(s):
        for j in range(i + 1):
            to, own = S[i * (i + 1) // 2 + j], fixed[i * (i + 1) // 2 + j]
            if i == j:  # rounding may leave less than nothing
                for first in range(0, n, width):
                    for v in range(width):
                        least = eps * own[v]
                        to[first + v] = to[first + v] if to[first + v] > least else least
            here, there = products[i], products[j]
            for v in range(n):
                to[v] = dof * to[v] + here[v] * there[v]
    if s == 1:
        score, whole = products[0], S[0]
        for v in range(n):
            root = np.sqrt(whole[v]) if whole[v] > zero else one
            score[v] /= root
        return
    # Its root, in place, row by row; and what of d each row of it takes.
    for i in range(s):
        here = products[i]
        for j in range(i + 1):
            to = S[i * (i + 1) // 2 + j]
            for m in range(j):
                left, right = S[i * (i + 1) // 2 + m], S[j * (j + 1) // 2 + m]
                for v in range(n):
                    to[v] -= left[v] * right[v]
            if i == j:
                own = fixed[i * (i + 1) // 2 + i]
                for first in range(0, n, width):
                    for v in range(width):
                        least = eps * own[v]
                        value = to[first + v] if to[first + v] > least else least
                        to[first + v] = np.sqrt(value) if value > zero else one
                for v in range(n):
                    here[v] /= to[v]
            else:
                root, solved = S[j * (j + 1) // 2 + j], products[j]
                for v in range(n):
                    to[v] /= root[v]
                    here[v] -= to[v] * solved[v]
    score = products[0]
    for v in range(n):
        score[v] *= score[v]
    for i in range(1, s):
        there = products[i]
        for v in range(n):
            score[v] += there[v] * there[v]


@kernel
def of_visits(
    products: Floats, fixed: Floats, sizes: NDArray[np.int64], constants: Floats, S: Floats, scratch: Floats
) -> None:
    """Make the covariance S of d by covariances of visits, which the clusters of a group share.

    Parameters
    ----------
    products
        d (p rows), then those of the cells, the maps of a visit in a group.
    fixed
        What no flip changes of the sums below, one after the other.
    sizes
        p, groups; then of each group its visits, and of each pair of them, first of each with itself: both visits,
        whether there is nothing of the pair (0), a sum of products (1), or two sums of squares as well (2), of those
        who have both where others have one; and the first row and the rows of both cells (of the second none where it
        is the same).
    constants
        Of each group, pair by pair, one over the clusters of the pair, and of each sum what turns d for the rows of
        each cell, (rows, p), and the lower triangle of a form of d; then, pair by pair, the weight in each entry of S.
    S
        (s (s + 1) / 2, n), filled.
    scratch
        p (p + 1) / 2 rows, 3, and, of K visits at most, K (K + 1) / 2 and twice K^2.
    """
    p, n = sizes[0], products.shape[1]
    zero = products.dtype.type(0.0)
    squares = scratch[: p * (p + 1) // 2]
    for m in range(p):
        for k in range(m + 1):
            to, left, right = squares[m * (m + 1) // 2 + k], products[m], products[k]
            for v in range(n):
                to[v] = left[v] * right[v]
    turned, first, second = scratch[len(squares)], scratch[len(squares) + 1], scratch[len(squares) + 2]
    V = scratch[len(squares) + 3 :]
    S[:] = 0
    at, c, f = 2, 0, 0
    for _ in range(sizes[1]):
        n_visits, begin = sizes[at], at + 1
        n_pairs = n_visits * (n_visits + 1) // 2
        at = begin + 7 * n_pairs
        clean = True
        for pair in range(n_pairs):
            told = sizes[begin + 7 * pair : begin + 7 * pair + 7]
            k, j, kind = told[0], told[1], told[2]
            to = V[k * (k + 1) // 2 + j]
            if kind == 0:
                to[:] = 0
                clean = False
                continue
            share = constants[c]
            cells = (told[3], told[4], told[5], told[6])
            c, f = _sum(products, p, cells, fixed, squares, constants, (c + 1, f), turned, to)
            for v in range(n):
                to[v] *= share
            if kind == 1:
                continue
            clean = False
            c, f = _sum(products, p, (told[3], told[4], 0, 0), fixed, squares, constants, (c, f), turned, first)
            c, f = _sum(products, p, (told[5], told[6], 0, 0), fixed, squares, constants, (c, f), turned, second)
            left, right = V[k * (k + 1) // 2 + k], V[j * (j + 1) // 2 + j]
            for v in range(n):  # a correlation of those who have both, and the variances of all
                some = (first[v] * share) * (second[v] * share)
                every = left[v] * right[v]
                there = (first[v] > zero) & (some > zero) & (left[v] > zero) & (every > zero)
                to[v] *= np.sqrt(every / some) if there else zero
        if not clean:
            clip(V[:n_pairs], n_visits, V[n_pairs:])
        for pair in range(n_pairs):
            k, j = sizes[begin + 7 * pair], sizes[begin + 7 * pair + 1]
            there = V[k * (k + 1) // 2 + j]
            for i in range(S.shape[0]):
                weight, to = constants[c], S[i]
                c += 1
                if weight != 0:
                    for v in range(n):
                        to[v] += weight * there[v]


@kernel
def _sum(
    products: Floats,
    p: int,
    cells: tuple[int, int, int, int],
    fixed: Floats,
    squares: Floats,
    constants: Floats,
    begin: tuple[int, int],
    turned: Floats,
    to: Floats,
) -> tuple[int, int]:
    """Fill one sum of products of residuals; returns where constants and what is fixed of the next begin."""
    c, f = begin
    n, width = products.shape[1], fixed.shape[1]
    own = fixed[f]
    for first in range(0, n, width):
        for v in range(width):
            to[first + v] = own[v]
    for which in range(2):
        row, n_rows = cells[2 * which], cells[2 * which + 1]
        for k in range(n_rows):
            turned[:] = 0
            for m in range(p):
                factor, there = constants[c], products[m]
                c += 1
                if factor != 0:
                    for v in range(n):
                        turned[v] += factor * there[v]
            there = products[row + k]
            for v in range(n):
                to[v] -= turned[v] * there[v]
    for m in range(squares.shape[0]):
        factor, there = constants[c], squares[m]
        c += 1
        if factor != 0:
            for v in range(n):
                to[v] += factor * there[v]
    return c, f + 1


@kernel
def products_of_clusters(left: Doubles, right: Doubles, number: NDArray[np.intp], out: Doubles) -> None:
    """Products of pairs of rows over the subjects of each cluster, pattern by pattern.

    Parameters
    ----------
    left, right
        (n_patterns, k, n_subjects) and (n_patterns, m, n_subjects).
    number
        (n_subjects,) of each one's cluster.
    out
        (n_patterns, k, n_clusters, m), filled.
    """
    out[:] = 0
    for q in range(left.shape[0]):
        for i in range(left.shape[1]):
            for r in range(left.shape[2]):
                for j in range(right.shape[1]):
                    out[q, i, number[r], j] += left[q, i, r] * right[q, j, r]


@kernel
def layers_of_patterns(
    E: Doubles,
    of: NDArray[np.int32],
    basis: Doubles,
    adjusted: Doubles,
    loadings: Doubles,
    number: NDArray[np.intp],
    out: Doubles,
    own: Doubles,
) -> None:
    """Sums over clusters of elements that have patterns: with the design, and corrected, times loadings.

    Parameters
    ----------
    E
        (n_voxels, n_subjects).
    of
        (n_voxels,) pattern of each.
    basis, adjusted
        (n_patterns, p, n_subjects) and (n_patterns, s, n_subjects) what they are summed with.
    loadings
        (n_patterns, s, n_clusters, p).
    number
        (n_subjects,) of each one's cluster.
    out
        (p + s s p, n_clusters, n_voxels), filled: sums with the basis, and those with row i of ``adjusted`` times
        loadings j, row by row.
    own
        (s, n_clusters, n_voxels), filled: sums with ``adjusted``.
    """
    p, s, n_clusters = basis.shape[1], adjusted.shape[1], loadings.shape[2]
    sums = np.empty(n_clusters)
    for v in range(E.shape[0]):
        q = of[v]
        for m in range(p):
            sums[:] = 0
            for r in range(E.shape[1]):
                sums[number[r]] += basis[q, m, r] * E[v, r]
            for k in range(n_clusters):
                out[m, k, v] = sums[k]
        for i in range(s):
            sums[:] = 0
            for r in range(E.shape[1]):
                sums[number[r]] += adjusted[q, i, r] * E[v, r]
            for k in range(n_clusters):
                own[i, k, v] = sums[k]
                for j in range(s):
                    for m in range(p):
                        out[p + (i * s + j) * p + m, k, v] = sums[k] * loadings[q, j, k, m]
