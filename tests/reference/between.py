"""Random effects by their definition, one element at a time, with matrices written out."""

from __future__ import annotations

import numpy as np
from scipy import optimize


def projection(v, X, tau2):
    W = np.diag(1 / (v + tau2))
    return W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W) if X.shape[1] else W


def likelihood(y, v, X, tau2, restricted):
    """Of normal data, but for what is constant."""
    P = projection(v, X, tau2)
    found = -0.5 * np.log(v + tau2).sum() - 0.5 * y @ P @ y
    if restricted and X.shape[1]:
        found -= 0.5 * np.linalg.slogdet(X.T @ np.diag(1 / (v + tau2)) @ X)[1]
    return found


def variance(y, v, X, method):
    """Variance between subjects of y (n,) with variances v (n,) under the design X (n, r)."""
    n, r = X.shape
    if method == 0:
        return 0.0
    if method == "dl":
        P = projection(v, X, 0.0)
        return max(0.0, (y @ P @ y - (n - r)) / np.trace(P))
    if method == "he":
        P = projection(np.ones(n), X, 0.0)
        return max(0.0, (y @ P @ y - np.trace(P @ np.diag(v))) / (n - r))

    def fall(tau2):
        return -likelihood(y, v, X, tau2, method == "reml")

    grid = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 400) * (y.var() + v.max())])
    best = int(np.argmin([fall(tau2) for tau2 in grid]))
    if best == 0:
        return 0.0
    found = optimize.minimize_scalar(
        fall, bounds=(grid[best - 1], grid[min(best + 1, 400)]), method="bounded", options={"xatol": 1e-13}
    ).x
    return found if fall(found) < fall(0.0) else 0.0
