"""Weighted least squares, refitted to every shuffling, an element at a time."""

from __future__ import annotations

import numpy as np
from scipy import linalg, special, stats


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


def shuffled_z(Y, W, X, C, index, sign, test):
    """z (n_shufflings, n_voxels) of the same, of subjects whose weight is not 0; that of 0 where there is no rank."""
    Z = X @ linalg.null_space(C)
    found = np.full((len(index), Y.shape[1]), 0.0 if len(C) == 1 else -40.0)
    for v in range(Y.shape[1]):
        there, dof = W[:, v] > 0, np.count_nonzero(W[:, v]) - X.shape[1]
        if dof < 1:
            continue
        root = np.sqrt(W[:, v])
        E = Y[:, v] - Z @ np.linalg.lstsq(Z * root[:, None], Y[:, v] * root, rcond=None)[0]
        for b, (i, s) in enumerate(zip(index, sign, strict=True)):
            w = there[i]
            if np.linalg.matrix_rank(X[w]) == X.shape[1]:
                found[b, v] = to_z(statistic((s * E[i])[w], W[i, v][w], X[w], C, test), dof, C, test)
    return found


def to_z(value, dof, C, test):
    """z of the same p."""
    if len(C) == 1:
        return value if test == "z" else -np.sign(value) * special.ndtri(stats.t.sf(abs(value), dof))
    p = stats.chi2.sf(len(C) * value, len(C)) if test == "z" else stats.f.sf(value, len(C), dof)
    return -special.ndtri(p)
