"""Components of variance by regression of products of all pairs, and generalised least squares of flipped data."""

from __future__ import annotations

import numpy as np
from scipy.linalg import sqrtm
from scipy.optimize import nnls


def quadratic_forms(E, clusters, matrices):
    """e_k' B e_k of each cluster of rows, (n_clusters, n_matrices, n_elements)."""
    return np.array(
        [[np.einsum("iv,ij,jv->v", E[rows], B[np.ix_(rows, rows)], E[rows]) for B in matrices] for rows in clusters]
    )


def residuals_on(Z):
    """The matrix that leaves residuals of least squares."""
    return np.eye(len(Z)) - Z @ np.linalg.pinv(Z)


def shares(y, Z, matrices):
    """Shares of the variance: products of residuals of all pairs on what each component is expected to leave there."""
    R = residuals_on(Z)
    expected = np.array([(R @ K @ R).ravel() for K in matrices]).T
    found, _ = nnls(expected, np.outer(R @ y, R @ y).ravel())
    return found / found.sum()


def matrices_of(effects, block, subject=None, kinship=None):
    """The matrices of the effects."""
    made = {
        "family": lambda: block[:, None] == block,
        "subject": lambda: subject[:, None] == subject,
        "kinship": lambda: kinship / np.diag(kinship).mean(),
        "error": lambda: np.eye(len(block)),
    }
    return [np.asarray(made[name](), dtype=float) for name in effects]


def bins_of(share, bins):
    """The nearest of all points of the lattice of bins, by looking at each."""
    n = len(share)
    points = np.array([steps for steps in np.ndindex(*(bins,) * n) if sum(steps) == bins - 1])
    centres = (points + 1 / n) / bins
    return centres[((centres - share) ** 2).sum(axis=1).argmin()]


def least_squares(X, C, y, V):
    """Estimates C b, their covariance for unit variance, and the residual sum of squares, given the covariance V."""
    inverse = np.linalg.inv(V)
    bread = np.linalg.inv(X.T @ inverse @ X)
    beta = bread @ X.T @ inverse @ y
    residual = y - X @ beta
    return C @ beta, C @ bread @ C.T, residual @ inverse @ residual


def statistic(X, C, y, V):
    """t of one row, F of several."""
    effect, unit, rss = least_squares(X, C, y, V)
    variance = rss / (len(y) - X.shape[1])
    if len(C) == 1:
        return effect[0] / np.sqrt(variance * unit[0, 0])
    return effect @ np.linalg.solve(unit, effect) / len(C) / variance


def flipped(X, C, y, V, signs):
    """Statistics of data made of the model without what is tested, and of its residuals, flipped once whitened."""
    root = np.real(sqrtm(V))
    Z = X @ np.linalg.svd(C)[2][len(C) :].T
    white_Z, white = np.linalg.solve(root, Z), np.linalg.solve(root, y)
    fitted = white_Z @ np.linalg.pinv(white_Z) @ white
    return np.array([statistic(X, C, root @ (fitted + sign * (white - fitted)), V) for sign in signs])
