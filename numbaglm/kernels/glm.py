"""Least squares of a block of voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel


@kernel
def residuals(Y: NDArray[np.float32], basis: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Residuals of each voxel on an orthonormal basis, in double precision.

    Parameters
    ----------
    Y
        (n_subjects, n_voxels) data.
    basis
        (n_columns, n_subjects) orthonormal rows; no rows leave the data as they are.
    out
        (n_subjects, n_voxels), filled.
    """
    n_subjects, n_voxels = Y.shape
    for j in range(n_subjects):
        for v in range(n_voxels):
            out[j, v] = Y[j, v]
    if basis.shape[0] == 0:
        return
    product = np.dot(basis, out)
    for j in range(n_subjects):
        for c in range(basis.shape[0]):
            weight = basis[c, j]
            for v in range(n_voxels):
                out[j, v] -= weight * product[c, v]
