"""Sandwich variances by their definition, and t and F of data whose clusters are flipped one by one."""

from __future__ import annotations

import numpy as np


def power_of(matrix, exponent):
    """A power of a symmetric matrix, 0 where it has no extent."""
    sizes, turned = np.linalg.eigh(matrix)
    there = sizes > 1e-9
    return (turned[:, there] * sizes[there] ** exponent) @ turned[:, there].T


def corrections(X, labels, adjustment):
    """A_k of each cluster."""
    H = X @ np.linalg.inv(X.T @ X) @ X.T
    n, p = X.shape
    found = {}
    for k in np.unique(labels):
        rows = labels == k
        block = H[np.ix_(rows, rows)]
        left = np.eye(len(block)) - block
        found[k] = {
            "none": lambda left: np.eye(len(left)),
            "n/(n-p)": lambda left: np.eye(len(left)) * np.sqrt(n / (n - p)),
            "HC2": lambda left: power_of(np.diag(np.diag(left)), -0.5),
            "HC3": lambda left: power_of(np.diag(np.diag(left)), -1.0),
            "C2": lambda left: power_of(left, -0.5),
            "C3": lambda left: power_of(left, -1.0),
        }[adjustment](left)
    return found


def sandwich(X, y, labels, adjustment):
    """Estimates (p,) and their covariance (p, p) of one set of data (n,)."""
    bread = np.linalg.inv(X.T @ X)
    beta = bread @ X.T @ y
    residual = y - X @ beta
    A = corrections(X, labels, adjustment)
    meat = np.zeros((X.shape[1], X.shape[1]))
    for k in np.unique(labels):
        rows = labels == k
        part = X[rows].T @ A[k] @ residual[rows]
        meat += np.outer(part, part)
    return beta, bread @ meat @ bread


def of_visits(X, y, labels, adjustment, visits, groups):
    """The same, by covariances of visits that the clusters of a group share."""
    bread = np.linalg.inv(X.T @ X)
    beta = bread @ X.T @ y
    residual = y - X @ beta
    A = corrections(X, labels, adjustment)
    for k in np.unique(labels):
        residual[labels == k] = A[k] @ residual[labels == k]
    meat = np.zeros((X.shape[1], X.shape[1]))
    for group in np.unique(groups):
        names, clusters = np.unique(visits[groups == group]), np.unique(labels[groups == group])
        table = np.full((len(clusters), len(names)), np.nan)
        for i, k in enumerate(clusters):
            for row in np.flatnonzero(labels == k):
                table[i, names == visits[row]] = residual[row]
        V = np.diag(np.nanmean(table**2, axis=0))
        for a in range(len(names)):
            for b in range(a):
                both = np.isfinite(table[:, [a, b]]).all(axis=1)
                left, right = table[both, a], table[both, b]
                if both.any():
                    cosine = left @ right / np.sqrt(left @ left * (right @ right))
                    V[a, b] = V[b, a] = cosine * np.sqrt(V[a, a] * V[b, b])
        sizes, turned = np.linalg.eigh(V)
        V = turned @ np.diag(np.maximum(sizes, 0)) @ turned.T
        for k in clusters:
            rows = np.flatnonzero(labels == k)
            which = np.searchsorted(names, visits[rows])
            meat += X[rows].T @ V[np.ix_(which, which)] @ X[rows]
    return beta, bread @ meat @ bread


def statistic(X, C, y, labels, adjustment, *visited):
    """t of one row, or the Wald form of several; visits and groups make it the modified one."""
    beta, V = of_visits(X, y, labels, adjustment, *visited) if visited else sandwich(X, y, labels, adjustment)
    effect, S = C @ beta, C @ V @ C.T
    return effect[0] / np.sqrt(S[0, 0]) if len(C) == 1 else effect @ np.linalg.solve(S, effect)


def wild_bootstrap(X, C, Y, labels, adjustment, signs, *visited):
    """Statistics (n_flips, n_voxels) of data made of the model without what is tested, and its flipped residuals.

    Parameters
    ----------
    signs
        (n_flips, n_subjects), equal within clusters.
    """
    null_space = np.linalg.svd(C)[2][len(C) :]
    Z = X @ null_space.T
    fitted = Z @ np.linalg.lstsq(Z, Y, rcond=None)[0] if Z.shape[1] else np.zeros(Y.shape)
    found = np.empty((len(signs), Y.shape[1]))
    for i, sign in enumerate(signs):
        for v in range(Y.shape[1]):
            data = fitted[:, v] + sign * (Y - fitted)[:, v]
            found[i, v] = statistic(X, C, data, labels, adjustment, *visited)
    return found


def satterthwaite(X, C, labels, adjustment):
    """Degrees of freedom by the vectors whose squared products with the data make the variance, for one row."""
    n = len(X)
    bread = np.linalg.inv(X.T @ X)
    left = np.eye(n) - X @ bread @ X.T
    A = corrections(X, labels, adjustment)
    parts = []
    for k in np.unique(labels):
        rows = labels == k
        parts.append(left[:, rows] @ A[k] @ X[rows] @ bread @ C[0])
    gram = np.array(parts) @ np.array(parts).T
    sizes = np.linalg.eigvalsh(gram)
    return sizes.sum() ** 2 / (sizes**2).sum()


def incomplete(Y, present, X, C, labels, adjustment, signs):
    """Statistics (n_flips, n_voxels) of a wild bootstrap of each element, with the maps that it has."""
    found = np.empty((len(signs), Y.shape[1]))
    for v in range(Y.shape[1]):
        there = present[:, v]
        one = wild_bootstrap(X[there], C, Y[there, v : v + 1], labels[there], adjustment, signs[:, there])
        found[:, v] = one[:, 0]
    return found
