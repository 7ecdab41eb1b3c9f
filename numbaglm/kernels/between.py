"""The variance between subjects (or studies) of each element, beside the variance that each value has of its own.

With w = 1 / (v + tau2), the weighted design w^1/2 M = Q R with orthonormal Q, and e the residuals of w^1/2 y on Q,
everything is made of P = W - W M (M'WM)^-1 M'W:

    y'PPy = sum w e^2,   tr P = sum w (1 - h),   tr PP = sum w^2 (1 - 2 h) + |Q'WQ|^2,   h = sum_k Q_k^2,

and y'PPPy is what Q leaves of w e, squared and summed. A value that is missing has a weight of 0.

References
----------
DerSimonian and Laird (1986), Controlled Clinical Trials 7:177-188. Hedges (1983), Psychological Bulletin 93:388-395.
Raudenbush (2009), in The Handbook of Research Synthesis and Meta-Analysis, for (restricted) maximum likelihood.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.kernels._jit import kernel

DL, HE, ML, REML = 1, 2, 3, 4

_FREE, _MOST = 60, 120  # steps as they are told, and steps in all: bisection takes 60 to the last bit
_NEAR, _CLOSE = 0.3, 1e-11  # of tau2 and the least variance: where Newton takes over, and where steps end
_LEFT, _TRACE, _SQUARE, _CUBE, _SUM, _SUM2, _RESIDUAL = range(7)


@kernel
def between_variances(y: Doubles, v: Doubles, M: Doubles, method: int, out: Doubles) -> None:
    """Fill ``out`` with the between-study variance of each element.

    Parameters
    ----------
    y, v
        (n_subjects, n_voxels) data, and their variances, above 0; infinite where a value is missing.
    M
        (n_columns, n_subjects) rows of the design, fewer than the subjects that are there, and independent in these;
        none for a mean of 0.
    method
        `DL` (moments), `HE` (unweighted moments), `ML` or `REML`.
    out
        (n_voxels,), filled: 0 or more.
    """
    n, r = y.shape[0], M.shape[0]
    one, variance, w, e = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    Q, found = np.empty((r, n)), np.empty(7)
    for i in range(y.shape[1]):
        n_there = 0
        for s in range(n):
            one[s], variance[s] = y[s, i], v[s, i]
            n_there += np.isfinite(variance[s])
        if method == DL:
            for s in range(n):
                w[s] = 1.0 / variance[s]
            _fit(one, M, w, e, Q, found)
            out[i] = max(0.0, (found[_RESIDUAL] - (n_there - r)) / found[_TRACE])
            continue
        for s in range(n):
            w[s] = 1.0 if np.isfinite(variance[s]) else 0.0
        _fit(one, M, w, e, Q, found)
        mean_square, explained, largest = found[_RESIDUAL] / (n_there - r), 0.0, 0.0
        for s in range(n):
            if not np.isfinite(variance[s]):
                continue
            h = 0.0
            for k in range(r):
                h += Q[k, s] * Q[k, s]
            explained += variance[s] * (1.0 - h)
            largest = max(largest, variance[s])
        out[i] = max(0.0, mean_square - explained / (n_there - r))
        if method != HE:  # beyond the mean square and the largest variance the likelihood falls
            out[i] = _climb(one, variance, M, method == REML, out[i], mean_square + largest, w, e, Q, found)


@kernel
def _climb(
    y: Doubles,
    v: Doubles,
    M: Doubles,
    restricted: bool,
    tau2: float,
    end: float,
    w: Doubles,
    e: Doubles,
    Q: Doubles,
    found: Doubles,
) -> float:
    """Climb the (restricted) likelihood from ``tau2``, below ``end``; 0 if it is no lower there.

    It may have several tops where variances differ much. Fisher's scoring from the moments of Hedges decides which one
    is taken, as it does elsewhere in the field; near the top Newton's steps are shorter work.
    """
    least = v[0]
    for s in range(v.shape[0]):
        least = min(least, v[s])
    low, high, near = -np.inf, end, False
    for step in range(_MOST):
        slope = _slope(y, v, M, restricted, tau2, w, e, Q, found)
        if slope > 0.0:
            low = tau2
        elif tau2 == 0.0:
            return 0.0
        else:
            high = tau2
        expected = found[_SQUARE] if restricted else found[_SUM2]
        bend = 2.0 * found[_CUBE] - expected  # of the likelihood itself
        if not (near and bend > 0.1 * expected):
            bend = expected
        further = tau2 + slope / bend
        if further <= low or further >= high or step >= _FREE:
            further = 0.5 * (max(low, 0.0) + high)
        further = max(further, 0.0)
        moved = abs(further - tau2) / (tau2 + least)
        near = moved <= _NEAR
        tau2 = further
        if moved <= _CLOSE:
            break
    reached = _height(w, e, M, restricted, Q)
    _slope(y, v, M, restricted, 0.0, w, e, Q, found)
    return tau2 if reached > _height(w, e, M, restricted, Q) else 0.0


@kernel
def _slope(
    y: Doubles,
    v: Doubles,
    M: Doubles,
    restricted: bool,
    tau2: float,
    w: Doubles,
    e: Doubles,
    Q: Doubles,
    found: Doubles,
) -> float:
    """Twice the slope of the (restricted) log-likelihood, having fitted the model."""
    for s in range(v.shape[0]):
        w[s] = 1.0 / (v[s] + tau2)
    _fit(y, M, w, e, Q, found)
    return float(found[_LEFT] - (found[_TRACE] if restricted else found[_SUM]))


@kernel
def _height(w: Doubles, e: Doubles, M: Doubles, restricted: bool, Q: Doubles) -> float:
    """Log-likelihood of a model that was fitted, but for what is the same everywhere."""
    height = 0.0
    for s in range(w.shape[0]):
        if w[s] > 0.0:
            height += 0.5 * (log(w[s]) - e[s] * e[s])
    if restricted:  # log |M'WM| / 2 is that of R's diagonal, Q_k' W^1/2 M_k
        for k in range(M.shape[0]):
            size = 0.0
            for s in range(w.shape[0]):
                size += Q[k, s] * sqrt(w[s]) * M[k, s]
            height -= log(size)
    return height


@kernel
def _fit(y: Doubles, M: Doubles, w: Doubles, e: Doubles, Q: Doubles, found: Doubles) -> None:
    """Weighted least squares of one element.

    Parameters
    ----------
    w
        (n_subjects,) weights.
    e, Q
        (n_subjects,) and (n_columns, n_subjects), filled: see the module.
    found
        (7,), filled: y'PPy, tr P, tr PP, y'PPPy, sum w, sum w^2, and the residual sum of squares.
    """
    n, r = y.shape[0], M.shape[0]
    found[:] = 0.0
    for s in range(n):
        e[s] = sqrt(w[s]) * y[s]
    for k in range(r):
        row = Q[k]
        for s in range(n):
            row[s] = sqrt(w[s]) * M[k, s]
        for _ in range(2):  # once leaves what rounding makes of columns that are nearly the same
            for j in range(k):
                other, product = Q[j], 0.0
                for s in range(n):
                    product += other[s] * row[s]
                for s in range(n):
                    row[s] -= product * other[s]
        size, product = 0.0, 0.0
        for s in range(n):
            size += row[s] * row[s]
        size = sqrt(size)
        for s in range(n):
            row[s] /= size
            product += row[s] * e[s]
        for s in range(n):
            e[s] -= product * row[s]
    for s in range(n):
        h = 0.0
        for k in range(r):
            h += Q[k, s] * Q[k, s]
        square = e[s] * e[s]
        found[_RESIDUAL] += square
        found[_LEFT] += w[s] * square
        found[_CUBE] += w[s] * w[s] * square
        found[_TRACE] += w[s] * (1.0 - h)
        found[_SQUARE] += w[s] * w[s] * (1.0 - 2.0 * h)
        found[_SUM] += w[s]
        found[_SUM2] += w[s] * w[s]
    for k in range(r):
        product = 0.0
        for s in range(n):
            product += Q[k, s] * w[s] * e[s]
        found[_CUBE] -= product * product
        for j in range(k + 1):
            product = 0.0
            for s in range(n):
                product += w[s] * Q[k, s] * Q[j, s]
            found[_SQUARE] += product * product * (1.0 if j == k else 2.0)
