"""How large an effect is: standard error, confidence interval, Cohen's d, Hedges' g, partial R^2.

Notation: beta = M^+ y with residual variance sigma^2 on dof = n - rank M; a contrast c' beta of variance
sigma^2 c' (M' M)^+ c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.stats.conventions import is_probability


def residual_sd(length: Doubles, share: Doubles, dof: float | Doubles) -> Doubles:
    """Residual standard deviation sigma of the full model, from what a permutation test holds already.

    sigma^2 = |R_Z y|^2 (1 - share) / dof, share being what the tested effect takes of R_Z y, the residuals on the
    nuisance.

    Parameters
    ----------
    length
        (n_voxels,) |R_Z y|.
    share
        (n_voxels,) squared partial correlation of t, or the share of variance of F.
    """
    return np.asarray(length * np.sqrt(np.maximum(1.0 - share, 0.0) / dof), dtype=np.float64)


def standard_error(sigma: Doubles, unit_variance: float | Doubles) -> Doubles:
    """Standard error of a contrast, sigma sqrt(c' (M' M)^+ c).

    Parameters
    ----------
    sigma
        (n_voxels,) residual standard deviation.
    unit_variance
        c' (M' M)^+ c; one, or (n_voxels,).
    """
    return np.asarray(sigma * np.sqrt(unit_variance), dtype=np.float64)


def confidence_interval(
    effect: Doubles, error: Doubles, dof: float | Doubles, level: float = 0.95
) -> tuple[Doubles, Doubles]:
    """Two-sided confidence interval of a contrast, effect -+ t_{(1 + level) / 2, dof} standard errors.

    Parametric: it supposes normal residuals of one variance (with variance groups: their standard error, and the dof of
    each voxel).

    Parameters
    ----------
    effect, error
        (n_voxels,) contrast and its standard error.
    dof
        Of the residuals; one, or (n_voxels,).
    level
        Coverage.
    """
    reach = _reach(dof, level) * error
    return effect - reach, effect + reach


def _reach(dof: float | Doubles, level: float) -> Doubles:
    """Standard errors from the estimate to an end of its interval."""
    if not is_probability(level):
        raise InputError(invalid("level", level, "a coverage between 0 and 1"))
    return np.asarray(special.stdtrit(dof, (1 + level) / 2), np.float64)


def swing(M: NDArray[np.floating], c: NDArray[np.floating]) -> float:
    """How far the tested regressor M c / (c' c) goes: between its extremes, or from 0 if it is constant.

    What a contrast stands for depends on how the design is coded: with groups coded 1 and -1 it is half their
    difference, with 1 and 0 all of it. Contrast times swing is the difference itself in either case.

    PALM takes the extremes of M Q c / (c' Q c), Q = (M' M)^+, which is the same without nuisance; with a covariate
    beside two groups it mixes the covariate in, and the d of two groups is no longer their difference.

    Parameters
    ----------
    M
        (n_subjects, n_regressors) design matrix.
    c
        (n_regressors,) contrast.

    References
    ----------
    Guttman (1982), Linear Models, for the partition; Winkler et al. (2014), NeuroImage 92, appendix A.
    """
    x = np.asarray(M @ c, dtype=np.float64) / float(c @ c)
    extent, highest = float(np.ptp(x)), float(np.abs(x).max())
    return extent if extent > 1e-10 * highest else highest


def cohens_d(effect: Doubles, sigma: Doubles, swing: float = 1.0) -> Doubles:
    """Cohen's d of a contrast: what it stands for in units of the residual standard deviation, swing c' beta / sigma.

    One sample: mean / SD. Two samples: difference of means / pooled SD. With covariates: the same, adjusted. Paired
    (with subject means as nuisance): mean difference / SD within subjects. A continuous regressor: between its lowest
    and highest value. 0 where sigma is 0.

    With variance groups sigma is pooled over them, as in PALM.

    Parameters
    ----------
    effect, sigma
        (n_voxels,) contrast and residual standard deviation.
    swing
        See `swing`.

    References
    ----------
    Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, section 2.2.
    """
    return np.divide(swing * effect, sigma, out=np.zeros(np.shape(effect)), where=sigma > 0)


def hedges_g(d: Doubles, dof: float) -> Doubles:
    """Hedges' g: d without its upward bias in small samples.

    g = J(dof) d, J(v) = Gamma(v / 2) / (sqrt(v / 2) Gamma((v - 1) / 2)).

    Parameters
    ----------
    d
        (n_voxels,) `cohens_d`.
    dof
        Of sigma, above 1.

    References
    ----------
    Hedges (1981), Journal of Educational Statistics 6, equation 6e.
    """
    if dof <= 1:
        raise InputError(invalid("dof", dof, "more than 1 residual degree of freedom", "Use Cohen's d."))
    return np.asarray(_unbiased(dof) * d, dtype=np.float64)


def _unbiased(dof: float | Doubles) -> Doubles:
    """J of degrees of freedom, see `hedges_g`."""
    log_j = special.gammaln(dof / 2) - special.gammaln((dof - 1) / 2) - 0.5 * np.log(dof / 2)
    return np.asarray(np.exp(log_j), np.float64)


def partial_r2(statistic: Doubles, dof: float | Doubles, n_rows: int | None = None) -> Doubles:
    """Partial R^2: the share of variance that the tested effect takes of what the nuisance leaves.

    t: t^2 / (t^2 + dof). F with s rows: s F / (s F + dof). It equals the square of a permutation test's score for t,
    and its score for F.

    Parameters
    ----------
    statistic
        (n_voxels,) t (n_rows None) or F.
    dof
        Of the residuals.

    References
    ----------
    Cohen (1988), chapter 9; Olejnik and Algina (2003), Psychological Methods 8 (partial eta squared).
    """
    gain = np.asarray(statistic, dtype=np.float64) ** 2 if n_rows is None else n_rows * np.asarray(statistic)
    return np.asarray(gain / (gain + dof), dtype=np.float64)


def effect_maps(
    effect: Doubles,
    sigma: Doubles,
    dof: float | Doubles,
    unit_variance: float | Doubles,
    swing: float = 1.0,
    level: float = 0.95,
    of: NDArray[np.intp] | None = None,
) -> dict[str, Doubles]:
    """All maps of a t contrast by name.

    Parameters
    ----------
    effect, sigma
        (n_voxels,) contrast and residual standard deviation.
    dof, unit_variance, swing, level
        As in the functions of this module.
    of
        (n_voxels,) which of several ``dof`` (n,), all above 1, each has; None where there is one.

    Returns
    -------
    ``effect_se``, ``effect_lower``, ``effect_upper``, ``cohens_d``, ``partial_r2`` and, with more than one degree of
    freedom, ``hedges_g``; each (n_voxels,).
    """
    assert effect.shape == sigma.shape
    error = standard_error(sigma, unit_variance)
    reach = _reach(dof, level)
    reach = (reach if of is None else reach[of]) * error
    t = np.divide(effect, error, out=np.zeros(effect.shape), where=error > 0)
    d = cohens_d(effect, sigma, swing)
    maps = {
        "effect_se": error,
        "effect_lower": effect - reach,
        "effect_upper": effect + reach,
        "cohens_d": d,
        "partial_r2": partial_r2(t, dof if of is None else np.asarray(dof)[of]),
    }
    if of is not None:
        return maps | {"hedges_g": _unbiased(dof)[of] * d}
    return maps | ({"hedges_g": hedges_g(d, float(dof))} if dof > 1 else {})
