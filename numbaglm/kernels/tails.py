"""Tails of permutation nulls: the largest scores of each voxel, kept while tiles stream by, and Pareto fits to them.

The fit is a mixture of generalised Pareto distributions ``F(x) = 1 - (1 - theta x)^(lambda)`` over a grid of theta
(`fit_excesses`). Given theta, ``-log(1 - theta x)`` is exponential, and its rate integrates out in closed form; what
remains is the probability that one more draw exceeds x, given those seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels._jit import kernel

COUNTED, REFINED, REJECTED = 0, 1, 2
"""Where a p comes from: the counts, which say enough; the tail; the counts, because no fit of the tail passed."""

_SHRINK = 0.8  # of the exceedances are left at the next threshold, where a fit fails
_PRODUCTS = 16  # factors multiplied before a logarithm is taken: far from overflow, and a sixteenth of the logarithms

_STRETCH = 256  # voxels taken through a batch together: the rows they append to stay in the cache

Critical = tuple[Doubles, Doubles, Doubles]


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
    least: float = values[k - 1]
    return least


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
        (n_batch, n_voxels) of random shufflings; leave the observed out.
    columns
        (m,) voxels that are watched.
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
    for start in range(0, columns.shape[0], _STRETCH):
        for b in range(n_batch):
            row = scores[b]
            for j in range(start, min(start + _STRETCH, columns.shape[0])):
                score = row[columns[j]]
                if two_sided:
                    score = abs(score)
                if score > floor[j]:
                    kept[j, n_kept[j]] = score
                    n_kept[j] += 1


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
    _bring_forward(kept, n_kept, k)
    largest[:] = np.sort(kept[:, :k], axis=1)[:, ::-1]


@kernel
def _bring_forward(kept: Floats, n_kept: NDArray[np.int32], k: int) -> None:
    for j in range(kept.shape[0]):
        select_largest(kept[j], n_kept[j], k)


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
        # excess[i] is number n - i of the ascending order that A^2 is defined on
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


@kernel
def critical_value(shape: float, n: int, table: Critical) -> float:
    """Critical value of A^2 for a fitted shape and n excesses; -1, which nothing passes, outside the table.

    Parameters
    ----------
    table
        Shapes (ascending), numbers of excesses (ascending), and critical values (shapes, numbers); linear in the
        shape and in the logarithm of the number between them.
    """
    shapes, numbers, values = table
    if not (shapes[0] <= shape <= shapes[-1] and numbers[0] <= n <= numbers[-1]):
        return -1.0
    i, j = 0, 0  # of the cell: the first of its shapes, and of its numbers
    while i < shapes.shape[0] - 2 and shape >= shapes[i + 1]:
        i += 1
    while j < numbers.shape[0] - 2 and n >= numbers[j + 1]:
        j += 1
    right = (shape - shapes[i]) / (shapes[i + 1] - shapes[i])
    up = np.log(n / numbers[j]) / np.log(numbers[j + 1] / numbers[j])
    low = (1.0 - right) * values[i, j] + right * values[i + 1, j]
    high = (1.0 - right) * values[i, j + 1] + right * values[i + 1, j + 1]
    value: float = (1.0 - up) * low + up * high
    return value


@kernel
def fit_tail(
    tail: Floats, table: Critical, excess: Doubles, theta: Doubles, mean: Doubles, weight: Doubles
) -> tuple[int, float, float, float, float]:
    """Fit the tail beyond the first threshold that leaves a good fit.

    The threshold lies halfway between two values that differ: equal values are never parted.

    Parameters
    ----------
    tail
        (k,) largest values, descending; k - 1 of them exceed the first threshold.
    table
        See `critical_value`; its least number of excesses is the least that is tried.
    excess
        (k,) scratch.
    theta, mean, weight
        (m,), filled, see `fit_excesses`.

    Returns
    -------
    Number of exceedances (0: no fit passed), threshold, weighted mean of theta, shape, A^2; of the last fit tried.
    """
    n = tail.shape[0] - 1
    threshold, centre, shape, distance = np.nan, np.nan, np.nan, np.nan
    while n >= table[1][0]:
        while n > 0 and tail[n - 1] == tail[n]:
            n -= 1
        if n < table[1][0]:
            break
        threshold = 0.5 * (np.float64(tail[n - 1]) + np.float64(tail[n]))
        for i in range(n):
            excess[i] = tail[i] - threshold
        centre, shape = fit_excesses(excess, n, theta, mean, weight)
        distance = anderson_darling(excess, n, centre, shape)
        if distance <= critical_value(shape, n, table):
            return n, threshold, centre, shape, distance
        n = int(n * _SHRINK)
    return 0, threshold, centre, shape, distance


@kernel
def tail_p(
    x: float, fit: tuple[int, float, float], n_random: int, theta: Doubles, mean: Doubles, weight: Doubles
) -> float:
    """Probability that a random shuffling reaches x, by the fitted tail; never 0.

    Parameters
    ----------
    x
        Above the threshold. Past the end of a tail that ends, x counts as the end.
    fit
        Number of exceedances, threshold, weighted mean of theta (`fit_tail`).
    n_random
        Shufflings that the tail is the top of.
    """
    n, threshold, centre = fit
    excess = x - threshold
    if centre > 0.0:
        excess = min(excess, 1.0 / centre)
    return (n + 1) / (n_random + 1) * tail_beyond(excess, n, theta, mean, weight)


@kernel
def refine_voxels(
    observed: Doubles,
    tails: Floats,
    wanted: NDArray[np.bool_],
    n_random: int,
    table: Critical,
    p: Doubles,
    source: NDArray[np.uint8],
) -> None:
    """Refine the p of voxels by the tail of each.

    Parameters
    ----------
    observed
        (m,) observed values.
    tails
        (m, k) largest values of the random shufflings, descending.
    wanted
        (m,) which voxels to refine.
    n_random, table
        See `tail_p`, `critical_value`.
    p, source
        (m,), overwritten where refined; source (COUNTED at first) with REFINED or REJECTED.
    """
    k = tails.shape[1]
    excess = np.empty(k)
    m = grid_size(k - 1)
    theta, mean, weight = np.empty(m), np.empty(m), np.empty(m)
    for v in range(observed.shape[0]):
        if not wanted[v]:
            continue
        n, threshold, centre, _, _ = fit_tail(tails[v], table, excess, theta, mean, weight)
        if n == 0:
            source[v] = REJECTED
        elif observed[v] > threshold:
            p[v] = tail_p(observed[v], (n, threshold, centre), n_random, theta, mean, weight)
            source[v] = REFINED


@kernel
def grid_size(n: int) -> int:
    """Values of theta for n excesses."""
    return 20 + int(np.sqrt(n))
