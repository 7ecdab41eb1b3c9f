"""Largest scores by sorting all of them, Pareto fits in numpy, the simulation behind the table of critical values."""

from __future__ import annotations

import numpy as np
from scipy import stats


def largest(scores, k, two_sided):
    """(n_voxels, k) largest scores of each voxel, descending, of (n_shufflings, n_voxels)."""
    seen = np.abs(scores) if two_sided else scores
    return np.sort(seen, axis=0)[::-1][:k].T


def fit(excess):
    """Grid of theta, mean of -log(1 - theta x) at each, weights, weighted theta and shape, of each row of excesses."""
    x = np.sort(np.atleast_2d(excess), axis=1)
    n = x.shape[1]
    m = 20 + int(np.sqrt(n))
    quartile = x[:, int(n / 4 + 0.5) - 1]
    steps = 1 - np.sqrt(m / (np.arange(m) + 0.5))
    theta = 1 / x[:, -1:] + steps / (3 * quartile[:, None])
    mean = np.stack([-np.log1p(-theta[:, [j]] * x).mean(axis=1) for j in range(m)], axis=1)
    log_likelihood = n * (np.log(theta / mean) + mean - 1)
    weight = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    centre = (weight * theta).sum(axis=1)
    return theta, mean, weight, centre, np.log1p(-centre[:, None] * x).mean(axis=1)


def anderson_darling(excess, theta, shape):
    """A^2 of each row of excesses and its distribution."""
    x = np.sort(np.atleast_2d(excess), axis=1)
    n = x.shape[1]
    below = stats.genpareto.cdf(x, shape[:, None], scale=(-shape / theta)[:, None])
    i = np.arange(1, n + 1)
    return -n - ((2 * i - 1) * (np.log(below) + np.log1p(-below[:, ::-1]))).mean(axis=1)


def beyond(x, excess):
    """Probability that one more excess is above x, for one row of excesses."""
    theta, mean, weight, _, _ = (part[0] for part in fit(excess))
    n = len(excess)
    inside = theta * x < 1
    y = -np.log1p(-np.where(inside, theta, 0) * x)
    return float(np.sum(np.where(inside, weight * (1 + y / (n * mean)) ** -float(n), 0)))


def fit_tail(tail, critical):
    """Exceedances and threshold of the first good fit to a descending tail, (0, nan) if there is none.

    ``critical(shape, n)`` is what A^2 may reach; NaN where no fit passes.
    """
    n = len(tail) - 1
    while n >= 30:
        n = int(np.sum(tail > tail[n]))  # a threshold never parts equal values
        if n < 30:
            break
        threshold = (tail[n - 1] + tail[n]) / 2
        *_, centre, shape = fit(tail[:n] - threshold)
        if anderson_darling(tail[:n] - threshold, centre, shape)[0] <= critical(shape[0], n):
            return n, threshold
        n = int(0.8 * n)
    return 0, np.nan


def critical_values(shapes, sizes, n_samples, seed=0, alpha=0.05):
    """(shapes, sizes): A^2 that a share alpha of generalised Pareto samples exceeds, once fitted."""
    rng = np.random.default_rng(seed)
    table = np.empty((len(shapes), len(sizes)))
    for i, shape in enumerate(shapes):
        for j, size in enumerate(sizes):
            found = []
            for _ in range(n_samples // 1000):
                x = stats.genpareto.rvs(shape, size=(1000, size), random_state=rng)
                *_, theta, fitted = fit(x)
                found.append(anderson_darling(x, theta, fitted))
            table[i, j] = np.quantile(np.concatenate(found), 1 - alpha)
    return table
