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
    return 0.0
