"""Tails of permutation nulls: the largest scores of each voxel, kept while tiles stream by, and Pareto fits to them.

The fit is a mixture of generalised Pareto distributions ``F(x) = 1 - (1 - theta x)^(lambda)`` over a grid of theta
(`fit_excesses`). Given theta, ``-log(1 - theta x)`` is exponential, and its rate integrates out in closed form; what
remains is the probability that one more draw exceeds x, given those seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel

SHRINK = 0.8
"""How many of the exceedances are left at the next threshold, where a fit fails."""

FEWEST = 30
"""Exceedances below which no fit is tried: the test of its goodness would pass anything."""

_PRODUCTS = 16  # factors multiplied before a logarithm is taken: far from overflow, and a sixteenth of the logarithms

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]


@kernel
def select_largest(values: Floats, n: int, k: int) -> float:
    """Bring the k largest of the first n values to the front, in no order; return the least of them.

    Parameters
    ----------
    values
        Rearranged; 1 <= k <= n.

    References
    ----------
    Hoare, Algorithm 65: FIND, Communications of the ACM 4 (1961).
    """
    left, right = 0, n - 1
    while left < right:
        a, b, c = values[left], values[(left + right) // 2], values[right]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = left, right
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            right = j
        elif k - 1 >= i:
            left = i
        else:
            break
    return values[k - 1]


@kernel
def keep_largest(
    scores: Floats,
    columns: NDArray[np.int32],
    two_sided: bool,
    k: int,
    kept: Floats,
    n_kept: NDArray[np.int32],
    floor: Floats,
) -> None:
    """Keep the k largest scores of the voxels that are watched, one batch of shufflings more.

    Scores above a voxel's floor are appended to its row; a row that might run over is cut to its k largest, the
    least of which is the new floor. Scores equal to the floor change no set of values, so that what is kept
    does not depend on where batches begin.

    Parameters
    ----------
    scores
        (n_batch, TILE) of the random shufflings; leave the observed out.
    columns
        (m,) voxels of the tile that are watched.
    two_sided
        Whether absolute scores count.
    kept
        (m, room) scores kept so far, room >= k + n_batch; about 2 k + n_batch is fast.
    n_kept
        (m,) how many; 0 at first. More than k may be there: `finish_largest` cuts to k and sorts.
    floor
        (m,) what a score must exceed; -inf at first.
    """
    n_batch, room = scores.shape[0], kept.shape[1]
    for j in range(columns.shape[0]):
        if n_kept[j] + n_batch > room:
            floor[j] = select_largest(kept[j], n_kept[j], k)
            n_kept[j] = k
    for b in range(n_batch):
        row = scores[b]
        for j in range(columns.shape[0]):
            score = row[columns[j]]
            if two_sided:
                score = abs(score)
            # Written whether it stays or not: a branch would be mispredicted, one time in eight.
            kept[j, n_kept[j]] = score
            n_kept[j] += score > floor[j]


@kernel
def finish_largest(kept: Floats, n_kept: NDArray[np.int32], largest: Floats) -> None:
    """The k largest of each row, descending.

    Parameters
    ----------
    kept, n_kept
        From `keep_largest`; at least k in every row.
    largest
        (m, k), filled.
    """
    k = largest.shape[1]
    for j in range(kept.shape[0]):
        select_largest(kept[j], n_kept[j], k)
        largest[j] = np.sort(kept[j, :k])[::-1]


@kernel
def _mean_logs(excess: Doubles, n: int, theta: Doubles, product: Doubles, mean: Doubles) -> None:
    """Mean over the excesses x of -log(1 - theta x), for every theta at once."""
    mean[:] = 0.0
    product[:] = 1.0
    for i in range(n):
        for j in range(theta.shape[0]):
            product[j] *= 1.0 - theta[j] * excess[i]
        if (i + 1) % _PRODUCTS == 0 or i + 1 == n:
            for j in range(theta.shape[0]):
                mean[j] -= np.log(product[j]) / n
                product[j] = 1.0


@kernel
def fit_excesses(excess: Doubles, n: int, theta: Doubles, mean: Doubles, weight: Doubles) -> tuple[float, float]:
    """Fit generalised Pareto distributions to excesses over a threshold.

    The grid of theta and the weights are those of Zhang and Stephens (2009): quantiles of a prior scaled by the
    data, all of which allow the largest excess, weighed by the likelihood with the rate profiled out (with a
    prior 1 / rate, integrating it out gives the same weights).

    Parameters
    ----------
    excess
        (at least n,) the first n positive and descending.
    theta, mean, weight
        (m,), filled: the grid, the mean of -log(1 - theta x) at each, and the weights, of sum 1.

    Returns
    -------
    The weighted mean of theta, and the shape xi that goes with it (negative: the tail ends at 1 / theta).
    """
    m = theta.shape[0]
    quartile = excess[n - int(n / 4 + 0.5)]
    tiny = 1e-8 / excess[0]
    best = -np.inf
    for j in range(m):
        at = 1.0 / excess[0] + (1.0 - np.sqrt(m / (j + 0.5))) / (3.0 * quartile)
        theta[j] = at if abs(at) > tiny else tiny  # exponential: the limit, without dividing 0 by 0
    _mean_logs(excess, n, theta, weight, mean)
    for j in range(m):
        weight[j] = n * (np.log(theta[j] / mean[j]) + mean[j])
        best = max(best, weight[j])
    total = 0.0
    for j in range(m):
        weight[j] = np.exp(weight[j] - best)
        total += weight[j]
    centre = 0.0
    for j in range(m):
        weight[j] /= total
        centre += weight[j] * theta[j]
    if abs(centre) < tiny:
        centre = tiny
    shape = 0.0
    for i in range(n):
        shape += np.log(1.0 - centre * excess[i]) / n
    return centre, shape


@kernel
def anderson_darling(excess: Doubles, n: int, theta: float, shape: float) -> float:
    """A^2 of the first n excesses (descending) and the distribution with theta and shape."""
    total = 0.0
    for i in range(n):
        log_above = -np.log(1.0 - theta * excess[i]) / shape
        log_below = np.log(-np.expm1(min(log_above, -1e-15)))
        # excess[i] is number n - i in ascending order
        total += (2 * (n - i) - 1) * log_below + (2 * i + 1) * log_above
    return -n - total / n


@kernel
def tail_beyond(x: float, n: int, theta: Doubles, mean: Doubles, weight: Doubles) -> float:
    """Probability that one more excess is above x, given n of them: above 0 wherever the data allow no end."""
    total = 0.0
    for j in range(theta.shape[0]):
        left = 1.0 - theta[j] * x
        if left > 0.0:
            total += weight[j] * np.exp(-n * np.log1p(-np.log(left) / (n * mean[j])))
    return total
