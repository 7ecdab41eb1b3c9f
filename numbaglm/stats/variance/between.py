"""Random effects: values that have variances of their own, and differ between subjects (or studies) beside that.

y = M theta + u + e, e of the known variances v, u of the variance tau2 that all share. With the weights
w = 1 / (v + tau2) it is weighted least squares. "Subjects" are studies where the maps are those of a meta-analysis.

References
----------
Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710. Viechtbauer (2005), Journal of Educational and Behavioral
Statistics 30:261-293. Higgins and Thompson (2002), Statistics in Medicine 21:1539-1558.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.kernels import between as kernels

_KERNELS = {"reml": kernels.REML, "ml": kernels.ML, "dl": kernels.DL, "he": kernels.HE}  # each of BETWEEN

LEVEL = 0.95
"""Coverage of intervals."""


@dataclass(frozen=True, eq=False)
class Whitened:
    """A weighted model as an unweighted one, of each element: w^1/2 M = Q R.

    Attributes
    ----------
    Q
        (n_columns, n_subjects, n_voxels) orthonormal columns of each element, in the order of the design's.
    R
        (n_columns, n_columns, n_voxels) upper triangles.
    data
        (n_subjects, n_voxels) w^1/2 y.
    """

    Q: Doubles
    R: Doubles
    data: Doubles

    def residuals(self, n_columns: int) -> Doubles:
        """What the first columns leave of the data (n_subjects, n_voxels)."""
        e = self.data.copy()
        for q in self.Q[:n_columns]:
            e -= q * (q * e).sum(axis=0)
        return e


def whiten(y: Doubles, w: Doubles, M: Doubles) -> Whitened:
    """Bring a weighted model to an unweighted one.

    Parameters
    ----------
    y, w
        (n_subjects, n_voxels) data and weights, above 0; both 0 where a value is missing.
    M
        (n_columns, n_subjects) rows of the design, independent in the subjects that an element has.
    """
    root = np.sqrt(w)
    Q, R = np.empty((len(M), *y.shape)), np.zeros((len(M), len(M), y.shape[1]))
    for k, column in enumerate(M):
        q = root * column[:, None]
        for _ in range(2):  # once leaves what rounding makes of columns that are nearly the same
            for j in range(k):
                product = (Q[j] * q).sum(axis=0)
                q -= product * Q[j]
                R[j, k] += product
        R[k, k] = np.sqrt((q * q).sum(axis=0))
        Q[k] = q / R[k, k]
    return Whitened(Q, R, root * y)


def between_variance(y: Doubles, v: Doubles, M: Doubles, between: str | int) -> Doubles:
    """Variance between subjects of each element (n_voxels,), 0 or more.

    Parameters
    ----------
    y, v
        (n_subjects, n_voxels) data, and their variances, above 0; infinite where a value is missing.
    M
        (n_columns, n_subjects) rows of the design, independent in the subjects that an element has; none for a mean
        of 0.
    between
        A name in `covariance.BETWEEN`, or 0 for fixed effects.
    """
    out = np.zeros(y.shape[1])
    if between != 0:
        kernels.between_variances(
            np.ascontiguousarray(y), np.ascontiguousarray(v), np.ascontiguousarray(M), _KERNELS[str(between)], out
        )
    return out


@dataclass(frozen=True, eq=False)
class Estimates:
    """Effects of a weighted model.

    Attributes
    ----------
    effect
        (n_interest, n_voxels) contrast of the parameter estimates.
    error
        (n_voxels,) standard error of the effect; of the first where there are several.
    statistic
        (n_voxels,) effect over standard error; F where there are several.
    p
        (n_voxels,) of both tails, or of F.
    lower, upper
        (n_voxels,) ends of the interval of the (first) effect.
    """

    effect: Doubles
    error: Doubles
    statistic: Doubles
    p: Doubles
    lower: Doubles
    upper: Doubles


def estimate(y: Doubles, w: Doubles, nuisance: Doubles, interest: Doubles, effect: Doubles, test: str) -> Estimates:
    """Estimate effects by weighted least squares.

    Parameters
    ----------
    y, w
        (n_subjects, n_voxels) data and weights; those of known variances are their inverses. Both are 0 where a value
        is missing.
    nuisance, interest
        (n_columns, n_subjects) independent rows that span the design, see `numbaglm.stats.model.design.partition`.
    effect
        (n_interest, n_subjects): its product with what the design can fit is the contrast of the parameter estimates.
    test
        A name in `covariance.TESTS`.
    """
    M = np.vstack([nuisance, interest])
    n, (r, s), dof = len(y), (len(M), len(interest)), left_of(w, M)
    model = whiten(y, w, M)
    e = model.residuals(r - s)
    q = (model.Q[r - s :] * e[None]).sum(axis=1)  # (s, n_voxels)
    left = np.maximum((e * e).sum(axis=0) - (q * q).sum(axis=0), 0.0)
    assert e.shape == (n, y.shape[1])
    assert q.shape == (s, y.shape[1])
    # theta = R^-1 q of the columns of interest, and the contrast of it; the nuisance has no part in that.
    triangle = model.R[r - s :, r - s :].transpose(2, 0, 1)
    loading = np.linalg.solve(triangle.transpose(0, 2, 1), (effect @ interest.T).T)  # (n_voxels, s, n_interest)
    found = np.einsum("vkc,kv->cv", loading, q)
    widened = _widened(left, dof, test)
    error = np.sqrt((loading[:, :, 0] ** 2).sum(axis=1) * widened)
    if s == 1:
        statistic = np.divide(found[0], error, out=np.zeros(error.shape), where=error > 0)
    else:
        statistic = np.divide((q * q).sum(axis=0), s * widened, out=np.zeros(error.shape), where=widened > 0)
    reach = special.stdtrit(free_of(dof, test), (1 + LEVEL) / 2) * error
    return Estimates(found, error, statistic, _p(statistic, s, dof, test), found[0] - reach, found[0] + reach)


def left_of(w: Doubles, M: Doubles) -> Doubles:
    """Residual degrees of freedom (n_voxels,) of weights, 0 where a value is missing, and a design."""
    return np.asarray(np.count_nonzero(w, axis=0) - len(M), np.float64)


def free_of(dof: Doubles, test: str) -> Doubles:
    """Degrees of freedom that a test takes for its distribution: none are lost where variances are known."""
    return np.full(dof.shape, np.inf) if test == "z" else dof


def _widened(left: Doubles, dof: Doubles, test: str) -> Doubles:
    """What variances of known weights are multiplied by, of the weighted residual sum of squares."""
    if test in ("t", "z"):
        return np.ones(left.shape)
    return left / dof if test == "knapp-hartung" else np.maximum(left / dof, 1.0)


def _p(statistic: Doubles, n_interest: int, dof: Doubles, test: str) -> Doubles:
    if n_interest == 1:
        return np.asarray(2 * special.stdtr(free_of(dof, test), -np.abs(statistic)))
    if test == "z":
        return np.asarray(special.chdtrc(n_interest, n_interest * statistic))
    return np.asarray(special.fdtrc(n_interest, dof, statistic))


def heterogeneity(y: Doubles, v: Doubles, M: Doubles, tau2: Doubles, between: str | int) -> tuple[Doubles, Doubles]:
    """I2 and Q of each element.

    Parameters
    ----------
    y, v, M, between
        As in `between_variance`.
    tau2
        (n_voxels,) what it found.

    Returns
    -------
    I2
        (n_voxels,) percent of the variance that lies between subjects; of the moments of Q under fixed effects.
    Q
        (n_voxels,) Cochran's: the residual sum of squares under fixed effects, a chi-squared of n - rank M degrees of
        freedom where subjects differ by their own variances alone.
    """
    model = whiten(y, 1.0 / v, M)
    square = (model.residuals(len(M)) ** 2).sum(axis=0)
    dof = left_of(1.0 / v, M)
    if between == 0:
        share = np.divide(square - dof, square, out=np.zeros(square.shape), where=square > 0)
        return 100 * np.maximum(share, 0.0), square
    trace = ((1.0 - (model.Q**2).sum(axis=0)) / v).sum(axis=0)
    return 100 * tau2 / (tau2 + dof / trace), square
