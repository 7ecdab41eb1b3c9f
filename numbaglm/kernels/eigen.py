"""Roots of small symmetric matrices, one a voxel, that lie in rows of a table."""

from __future__ import annotations

import numpy as np

from numbaglm.arrays import Floats
from numbaglm.kernels._jit import kernel

_SWEEPS = 30


@kernel
def root(table: Floats, first: int, size: int, which: int, v: int) -> float:
    """The largest root but ``which`` others of a symmetric matrix, by Jacobi's rotations; the matrix is lost.

    Parameters
    ----------
    table
        (n_rows, n_voxels); entry (i, j <= i) of the matrix of a voxel is in row ``first + i (i + 1) / 2 + j``.
    size
        Rows of the matrix.
    v
        Voxel.
    """
    for _ in range(_SWEEPS):
        off = 0.0
        for i in range(size):
            for j in range(i):
                off += table[first + i * (i + 1) // 2 + j, v] ** 2
        if off < 1e-30:
            break
        for q in range(1, size):
            for p in range(q):
                here = first + q * (q + 1) // 2 + p
                if table[here, v] == 0.0:
                    continue
                at_p, at_q = first + p * (p + 1) // 2 + p, first + q * (q + 1) // 2 + q
                theta = (table[at_q, v] - table[at_p, v]) / (2.0 * table[here, v])
                t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                t = t if theta >= 0.0 else -t
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                table[at_p, v] -= t * table[here, v]
                table[at_q, v] += t * table[here, v]
                table[here, v] = 0.0
                for k in range(size):
                    if k not in (p, q):
                        a = first + (k * (k + 1) // 2 + p if k > p else p * (p + 1) // 2 + k)
                        b = first + (k * (k + 1) // 2 + q if k > q else q * (q + 1) // 2 + k)
                        left, right = table[a, v], table[b, v]
                        table[a, v] = c * left - s * right
                        table[b, v] = s * left + c * right
    # The (which + 1)-th largest of the diagonal, which is short.
    for i in range(size):
        one = table[first + i * (i + 1) // 2 + i, v]
        above = 0
        for j in range(size):
            other = table[first + j * (j + 1) // 2 + j, v]
            above += 1 if other > one or (other == one and j < i) else 0
        if above == which:
            return float(one)
    return np.nan  # nothing is above what is not there


@kernel
def clip(V: Floats, size: int, scratch: Floats) -> None:
    """Set the negative eigenvalues of symmetric matrices to 0.

    Parameters
    ----------
    V
        (size (size + 1) / 2, n) their lower triangles, row by row.
    size
        Of each.
    scratch
        Twice size^2 rows.
    """
    A, Q = scratch[: size * size], scratch[size * size :]
    zero = V.dtype.type(0.0)
    for v in range(V.shape[1]):
        if _is_positive(V, size, A, v):
            continue
        for i in range(size):
            for j in range(size):
                A[i * size + j, v] = V[i * (i + 1) // 2 + j, v] if j <= i else V[j * (j + 1) // 2 + i, v]
        directions_of(A, Q, size, v)
        for i in range(size):
            for j in range(i + 1):
                total = zero
                for k in range(size):
                    value = A[k * size + k, v]
                    if value > zero:
                        total += Q[i * size + k, v] * value * Q[j * size + k, v]
                V[i * (i + 1) // 2 + j, v] = total


@kernel
def directions_of(A: Floats, Q: Floats, size: int, v: int) -> None:
    """Turn a symmetric matrix until its roots are left on the diagonal; their directions are the columns of ``Q``.

    Parameters
    ----------
    A, Q
        (size^2, n) row by row; of voxel ``v`` the matrix, which is lost, and what is filled.
    """
    zero, one = A.dtype.type(0.0), A.dtype.type(1.0)
    eps = A.dtype.type(np.finfo(A.dtype).eps)
    for i in range(size):
        for j in range(size):
            Q[i * size + j, v] = one if i == j else zero
    for _ in range(_SWEEPS):
        beside = diagonal = zero
        for i in range(size):
            diagonal += A[i * size + i, v] * A[i * size + i, v]
            for j in range(i):
                beside += A[i * size + j, v] * A[i * size + j, v]
        if beside <= eps * eps * diagonal:
            break
        for i in range(1, size):
            for j in range(i):
                _rotate(A, Q, size, i, j, v)


@kernel
def _is_positive(V: Floats, size: int, root: Floats, v: int) -> bool:
    """Whether a matrix has a root of Cholesky's, as most do."""
    for i in range(size):
        for j in range(i + 1):
            value = V[i * (i + 1) // 2 + j, v]
            for k in range(j):
                value -= root[i * size + k, v] * root[j * size + k, v]
            if i == j:
                if not value > 0:
                    return False
                root[i * size + i, v] = np.sqrt(value)
            else:
                root[i * size + j, v] = value / root[j * size + j, v]
    return True


@kernel
def _rotate(A: Floats, Q: Floats, size: int, i: int, j: int, v: int) -> None:
    """Turn two directions so that nothing is left between them."""
    between = A[i * size + j, v]
    if between == 0:
        return
    one = A.dtype.type(1.0)
    half = (A[i * size + i, v] - A[j * size + j, v]) / (between + between)
    tangent = one / (abs(half) + np.sqrt(half * half + one))
    tangent = -tangent if half < 0 else tangent
    cosine = one / np.sqrt(tangent * tangent + one)
    sine = tangent * cosine
    for k in range(size):
        left, right = A[i * size + k, v], A[j * size + k, v]
        A[i * size + k, v] = cosine * left + sine * right
        A[j * size + k, v] = cosine * right - sine * left
    for k in range(size):
        left, right = A[k * size + i, v], A[k * size + j, v]
        A[k * size + i, v] = cosine * left + sine * right
        A[k * size + j, v] = cosine * right - sine * left
        left, right = Q[k * size + i, v], Q[k * size + j, v]
        Q[k * size + i, v] = cosine * left + sine * right
        Q[k * size + j, v] = cosine * right - sine * left
