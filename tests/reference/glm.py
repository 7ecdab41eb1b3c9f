"""Least squares as the textbook writes it."""

from __future__ import annotations

import numpy as np


def residuals(Y, columns):
    """Y less its projection on the columns (n_subjects, k), by solving for the coefficients."""
    Y = np.asarray(Y, float)
    return Y - columns @ np.linalg.lstsq(columns, Y, rcond=None)[0]


def whiten(E, least, rows):
    """Variables of each voxel made orthonormal in their order; their products with what they were, and with rows.

    And whether all could be.
    """
    W, ok = np.zeros_like(E), np.ones(E.shape[2])
    for v in range(E.shape[2]):
        for a in range(len(E)):
            before = W[:a, :, v].T
            left = E[a, :, v] - before @ (np.linalg.pinv(before) @ E[a, :, v])
            if left @ left < least:
                ok[v] = 0
            else:
                W[a, :, v] = left / np.linalg.norm(left)
    return W, np.einsum("civ,aiv->vca", W, E), np.einsum("ri,aiv->vra", rows, W), ok


def statistic(Y, M, C):
    """t (one row of C, signed) or F of every voxel: fit, residual variance, contrast."""
    Y, M, C = np.asarray(Y, float), np.asarray(M, float), np.atleast_2d(np.asarray(C, float))
    beta = np.linalg.lstsq(M, Y, rcond=None)[0]
    variance = ((Y - M @ beta) ** 2).sum(axis=0) / (M.shape[0] - M.shape[1])
    effect, covariance = C @ beta, C @ np.linalg.inv(M.T @ M) @ C.T
    if len(C) == 1:
        return effect[0] / np.sqrt(variance * covariance[0, 0])
    return np.einsum("iv,ij,jv->v", effect, np.linalg.inv(covariance), effect) / len(C) / variance
