"""Weighted least squares, refitted to every shuffling, an element at a time."""

from __future__ import annotations

import numpy as np
from scipy import linalg


def statistic(y, w, X, C, test):
    """t or F (one row of C or several) of y (n,) with weights w (n,)."""
    root = np.sqrt(w)
    A = X * root[:, None]
    beta = np.linalg.lstsq(A, y * root, rcond=None)[0]
    left = ((y * root - A @ beta) ** 2).sum() / (len(y) - X.shape[1])
    spread = {"knapp-hartung": left, "ad-hoc": max(1.0, left)}.get(test, 1.0)
    effect, cov = C @ beta, spread * C @ np.linalg.inv(A.T @ A) @ C.T
    return effect[0] / np.sqrt(cov[0, 0]) if len(C) == 1 else effect @ np.linalg.solve(cov, effect) / len(C)


def shuffled_statistics(Y, W, X, C, index, sign, test):
    """(n_shufflings, n_voxels): residuals of the weighted nuisance fit are shuffled, each with its weight."""
    Z = X @ linalg.null_space(C)
    found = np.empty((len(index), Y.shape[1]))
    for v in range(Y.shape[1]):
        root = np.sqrt(W[:, v])
        gamma = np.linalg.lstsq(Z * root[:, None], Y[:, v] * root, rcond=None)[0]
        E = Y[:, v] - Z @ gamma
        for b, (i, s) in enumerate(zip(index, sign, strict=True)):
            found[b, v] = statistic(s * E[i], W[i, v], X, C, test)
    return found
