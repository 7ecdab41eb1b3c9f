"""Least squares as the textbook writes it."""

from __future__ import annotations

import numpy as np


def residuals(Y, columns):
    """Y less its projection on the columns (n_subjects, k), by solving for the coefficients."""
    Y = np.asarray(Y, float)
    return Y - columns @ np.linalg.lstsq(columns, Y, rcond=None)[0]


def statistic(Y, M, C):
    """t (one row of C, signed) or F of every voxel: fit, residual variance, contrast."""
    Y, M, C = np.asarray(Y, float), np.asarray(M, float), np.atleast_2d(np.asarray(C, float))
    beta = np.linalg.lstsq(M, Y, rcond=None)[0]
    variance = ((Y - M @ beta) ** 2).sum(axis=0) / (M.shape[0] - M.shape[1])
    effect, covariance = C @ beta, C @ np.linalg.inv(M.T @ M) @ C.T
    if len(C) == 1:
        return effect[0] / np.sqrt(variance * covariance[0, 0])
    return np.einsum("iv,ij,jv->v", effect, np.linalg.inv(covariance), effect) / len(C) / variance
