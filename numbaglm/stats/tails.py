"""p beyond the reach of counts: Pareto and gamma approximations of a null's tail, and how sure a counted p is.

They refine p, and replace no count that says enough: only p of at most `REFINE_BELOW` are touched, and only where
the fit passes a test of its goodness. The observed shuffling takes no part in a fit. Enumerated sets of
shufflings have exact p: don't refine those.

No p here is 0. Where a tail that ends is fitted and the observed value lies past its end, p is that of the end, which
the uncertainty of the fit keeps above 0; and ``least``, the p that no shuffling can undercut (1 / number of distinct
shufflings), bounds them all. Within one null, a larger value never gets a larger p.

References
----------
Knijnenburg, Wessels, Reinders and Shmulevich (2009), Fewer permutations, more accurate P-values, Bioinformatics 25.
Winkler, Ridgway, Douaud, Nichols and Smith (2016), Faster permutation inference in brain imaging, NeuroImage 141.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.kernels import tails as kernels
from numbaglm.kernels.tails import COUNTED, REFINED, REJECTED
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import is_probability

REFINE_BELOW = 0.1
"""p that is refined, at most. Above it the counts of even a few hundred shufflings say enough."""

WATCH_BELOW = 0.2
"""Parametric p of the voxels whose tails are worth keeping: far above where refinement begins."""

TAIL_SHARE, FEW_EXCEEDANCES, MOST_EXCEEDANCES = 0.1, 50, 250
"""The first threshold: the top tenth, or the top 50 if that is more (up to a quarter); at most the top 250.

Winkler et al. begin with the top quarter. With symmetric nulls that reaches into the body of the distribution, where no
test on some hundred exceedances notices, and p of 1e-5 come out two to three times too small on average.
"""

LEAST = float(np.finfo(np.float64).tiny)

_SHAPES = np.array([-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75])
_NUMBERS = np.array([30.0, 60.0, 120.0, 250.0])
_CRITICAL = np.array(
    [
        [1.029, 1.102, 1.168, 1.218],
        [0.979, 1.040, 1.100, 1.133],
        [0.926, 0.984, 1.036, 1.052],
        [0.872, 0.915, 0.938, 0.963],
        [0.830, 0.847, 0.863, 0.875],
        [0.792, 0.817, 0.826, 0.827],
        [0.762, 0.773, 0.785, 0.782],
    ]
)
# A^2 that 5 % of samples from a generalised Pareto distribution exceed once it is fitted as we fit it, by shape and
# number of excesses. Choulakian and Stephens (2001), Technometrics 43, tabulate it for maximum likelihood; these are
# from 50,000 samples a cell (`critical_values` in tests/reference/tails.py). Never extrapolated: outside, a fit fails.
TABLE = (_SHAPES, _NUMBERS, _CRITICAL)

_SKEWNESS = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
_GAMMA_CRITICAL = np.array([0.12, 0.10, 0.11, 0.139, 0.172, 0.182, 0.188])
# W^2 (Cramer and von Mises) that 5 % of samples from a gamma distribution exceed, fitted by moments, by the skewness
# that was fitted: from samples of all skewnesses up to 2, of 100 values; of 300 and 1000 they are larger above 1.
_FEWEST_FOR_GAMMA = 100


@dataclass(frozen=True)
class ParetoFit:
    """A generalised Pareto distribution of the values of a null above a threshold.

    Attributes
    ----------
    passed
        Whether the fit passed; if not, the rest is of the last one that was tried (NaN if none was).
    n_exceedances, threshold
        How many random shufflings exceed the threshold (0 if none passed), and the threshold.
    shape
        xi; negative for a tail that ends.
    distance, critical
        Anderson and Darling's A^2 of the fit, and what it must not exceed (-1 outside the table).
    """

    passed: bool
    n_exceedances: int
    threshold: float
    shape: float
    distance: float
    critical: float


@dataclass(frozen=True)
class GammaFit:
    """A gamma (Pearson type III) distribution with the moments of a null.

    Attributes
    ----------
    passed
        Whether the fit passed.
    mean, variance, skewness
        Of the random shufflings.
    distance, critical
        Cramer and von Mises' W^2 of the fit, and what it must not exceed (-1 outside the table).
    """

    passed: bool
    mean: float
    variance: float
    skewness: float
    distance: float
    critical: float


def tail_length(n_random: int) -> int:
    """How many of the largest values of n_random shufflings a Pareto fit needs; 0 if there are too few for any."""
    fewest = int(_NUMBERS[0])
    n_exceedances = min(max(int(TAIL_SHARE * n_random), FEW_EXCEEDANCES), n_random // 4, MOST_EXCEEDANCES)
    return n_exceedances + 1 if n_exceedances >= fewest else 0


def watched(p_parametric: Doubles) -> NDArray[np.int32]:
    """Numbers of the voxels (n_voxels,) whose tails are worth keeping: the others will not be refined."""
    return np.flatnonzero(p_parametric <= WATCH_BELOW).astype(np.int32)


def pareto_p(
    observed: NDArray[np.number], null: NDArray[np.number], tolerance: float | Doubles = 0.0, least: float = LEAST
) -> tuple[Doubles, NDArray[np.uint8], ParetoFit]:
    """p of observed values from one null, refined by a generalised Pareto fit to its tail.

    The p of a value x above the threshold u is P(exceed u) P(one more exceedance > x, given the n seen): the fit's
    own uncertainty is in it (see `numbaglm.kernels.tails`). p from fitted parameters taken as known are too small:
    with 30 exceedances, 0.001 turns up 6 to 9 times as often as it should, against 1.2 to 2 times here.

    Values with ties (extents) need nothing special: the threshold parts no equal values, a tolerance of 0.5 makes
    the continuity correction, and where ties are too many the test of the fit fails.

    Parameters
    ----------
    observed
        (m,) observed values.
    null
        (n_shufflings,) of all shufflings, the observed first.
    tolerance
        Values of the null that lie less than this below an observed one count as equal to it; one, or (m,).
    least
        Bounds p from below: 1 / number of distinct shufflings.

    Returns
    -------
    p (m,); where each comes from (COUNTED, REFINED, REJECTED); and the fit.
    """
    p, source = _counted(observed, null, tolerance)
    random = np.asarray(null[1:], dtype=np.float64)
    k = tail_length(random.size)
    if k == 0:
        return p, _rejected(p, source), ParetoFit(False, 0, np.nan, np.nan, np.nan, -1.0)
    tail = np.sort(random)[: -k - 1 : -1]
    grid = np.empty((3, kernels.grid_size(k - 1)))
    n, threshold, centre, shape, distance = kernels.fit_tail(tail, TABLE, np.empty(k), *grid)
    critical = kernels.critical_value(shape, n, TABLE)
    fit = ParetoFit(n > 0, n, threshold, shape, distance, critical)
    if not fit.passed:
        return p, _rejected(p, source), fit
    x = np.asarray(observed, dtype=np.float64) - tolerance
    refined = (p <= REFINE_BELOW) & (x > threshold)
    p[refined] = [kernels.tail_p(one, (n, threshold, centre), random.size, *grid) for one in x[refined]]
    source[refined] = REFINED
    return _bounded(p, refined, least), source, fit


def pareto_p_voxels(
    observed: NDArray[np.floating],
    tails: NDArray[np.floating],
    counts: NDArray[np.integer],
    n_shufflings: int,
    least: float = LEAST,
) -> tuple[Doubles, NDArray[np.uint8]]:
    """Uncorrected p of voxels, each refined by a fit to its own null; as `pareto_p`.

    Parameters
    ----------
    observed
        (m,) observed values: statistics rather than correlations, whose bounded tails make p two to ten times larger
        at 1e-6. Absolute if two-sided.
    tails
        (m, k) the ``tail_length(n_shufflings - 1)`` largest values of the random shufflings, descending, on the same
        scale. Their order survives a monotone function: scores can be kept and be turned into statistics here.
    counts
        (m,) shufflings that reach the observed value, itself among them.

    Returns
    -------
    p (m,), and where each comes from (COUNTED, REFINED, REJECTED).
    """
    p = pvalues.from_counts(counts, n_shufflings)
    source = np.full(p.shape, COUNTED, dtype=np.uint8)
    k = tail_length(n_shufflings - 1)
    if k == 0:
        return p, _rejected(p, source)
    if tails.shape != (p.size, k):
        raise InputError(invalid("tails", tails.shape, f"({p.size}, {k}), the largest values of each voxel"))
    wanted = p <= REFINE_BELOW
    kernels.refine_voxels(
        np.asarray(observed, dtype=np.float64), np.ascontiguousarray(tails), wanted, n_shufflings - 1, TABLE, p, source
    )
    return _bounded(p, source == REFINED, least), source


def merge_largest(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """The k largest values of each row of two arrays (m, k), each descending, of one voxel's shufflings."""
    both = np.sort(np.concatenate([first, second], axis=1), axis=1)
    return np.ascontiguousarray(both[:, : -first.shape[1] - 1 : -1])


def gamma_p(
    observed: NDArray[np.number], null: NDArray[np.number], tolerance: float | Doubles = 0.0, least: float = LEAST
) -> tuple[Doubles, NDArray[np.uint8], GammaFit]:
    """p of observed values from one null, refined by a gamma distribution of its mean, variance and skewness.

    It suits maxima of a statistic over a map with some hundred shufflings. With thousands the test notices that a gamma
    is not what maxima follow, and p stay counted: there `pareto_p` is the better choice. p of maxima come out too small
    by a factor of 1.5 at 1e-4, and the null of a single heavy-tailed statistic must not be given to it at all. Nulls
    with many ties or with a skewness above 1.5 (extents, masses) don't pass.

    Parameters
    ----------
    observed, null, tolerance, least
        As in `pareto_p`. At least 100 random shufflings.

    Returns
    -------
    p (m,); where each comes from (COUNTED, REFINED, REJECTED); and the fit.
    """
    p, source = _counted(observed, null, tolerance)
    fit = _fit_gamma(np.sort(np.asarray(null[1:], dtype=np.float64)))
    if not fit.passed:
        return p, _rejected(p, source), fit
    refined = p <= REFINE_BELOW
    x = np.asarray(observed, dtype=np.float64) - tolerance
    p[refined] = gamma_p_voxels(x[refined], fit.mean, fit.variance, fit.skewness)
    source[refined] = REFINED
    return _bounded(p, refined, least), source, fit


def gamma_p_voxels(
    observed: NDArray[np.floating], mean: Doubles | float, variance: Doubles | float, skewness: Doubles | float
) -> Doubles:
    """Upper tail of gamma (Pearson type III) distributions with given moments; never 0.

    Nothing is known here but moments, so nothing tests the fit: a null of skewness 0 is taken for normal, however heavy
    its tail. Give it correlations, whose tails are lighter; p of t with few degrees of freedom come out too small by
    orders of magnitude. A negative skewness would put an end to the upper tail, and counts as 0: p is then larger than
    it need be.

    Parameters
    ----------
    observed
        (m,) observed values.
    mean, variance, skewness
        Of each null, or of all; the variance above 0.

    References
    ----------
    Mielke and Berry (2007), Permutation Methods; Winkler et al. (2016).
    """
    z = (np.asarray(observed, dtype=np.float64) - mean) / np.sqrt(variance)
    return np.maximum(_pearson3_sf(z, np.asarray(skewness, dtype=np.float64)), LEAST)


def clopper_pearson(n_reached: NDArray[np.integer], n_shufflings: int, level: float = 0.95) -> tuple[Doubles, Doubles]:
    """Interval of the p that endless shuffling would give, from the b of N random shufflings that reach the observed.

    b and N leave the observed shuffling out, which reaches itself by construction: b = n_reached - 1,
    N = n_shufflings - 1. The p reported, (b + 1) / (N + 1), lies inside. The interval is exact for shufflings drawn
    independently, and wider than need be where they are drawn without repetition. The lower end of b = 0 is 0: no p,
    but the end of what N shufflings can tell. An enumerated set has no such uncertainty.

    Parameters
    ----------
    n_reached, n_shufflings
        As in `numbaglm.stats.pvalues.from_counts`.
    level
        Coverage.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26.
    """
    if not is_probability(level):
        raise InputError(invalid("level", level, "a coverage between 0 and 1"))
    n_random, b = n_shufflings - 1, np.maximum(np.asarray(n_reached), 1) - 1.0
    with np.errstate(invalid="ignore"):
        lower = np.where(b == 0, 0.0, special.betaincinv(b, n_random - b + 1, (1 - level) / 2))
        upper = np.where(b == n_random, 1.0, special.betaincinv(b + 1, n_random - b, (1 + level) / 2))
    return lower, upper


def _counted(
    observed: NDArray[np.number], null: NDArray[np.number], tolerance: float | Doubles
) -> tuple[Doubles, NDArray[np.uint8]]:
    p = pvalues.from_maxima(np.asarray(observed), null, tolerance)
    return p, np.full(p.shape, COUNTED, dtype=np.uint8)


def _rejected(p: Doubles, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
    source[p <= REFINE_BELOW] = REJECTED
    return source


def _bounded(p: Doubles, refined: NDArray[np.bool_], least: float) -> Doubles:
    """Keep refined p between the least that shufflings allow and the counted ones that were not refined."""
    p[refined] = np.clip(p[refined], max(least, LEAST), REFINE_BELOW)
    return p


def _fit_gamma(null: Doubles) -> GammaFit:
    """Fit by moments, and test, a null in ascending order."""
    n = null.size
    mean = float(null.mean()) if n else np.nan
    variance = float(((null - mean) ** 2).mean()) if n else np.nan
    if n < _FEWEST_FOR_GAMMA or not variance > 0:
        return GammaFit(False, mean, variance, np.nan, np.nan, -1.0)
    z = (null - mean) / np.sqrt(variance)
    skewness = float((z**3).mean())
    below = 1.0 - _pearson3_sf(z, np.array(skewness))
    middle = (np.arange(n) + 0.5) / n
    distance = float(1 / (12 * n) + ((below - middle) ** 2).sum())
    used = max(skewness, 0.0)
    critical = float(np.interp(used, _SKEWNESS, _GAMMA_CRITICAL)) if used <= _SKEWNESS[-1] else -1.0
    return GammaFit(distance <= critical, mean, variance, skewness, distance, critical)


def _pearson3_sf(z: Doubles, skewness: Doubles) -> Doubles:
    """P(Z > z) of standardised gamma variables; normal where the skewness is 0 or less."""
    flat = skewness < 1e-3  # where the gamma functions lose what they would add
    used = np.where(flat, 1.0, skewness)
    shape = 4 / used**2
    gamma = special.gammaincc(shape, np.maximum(shape + z * np.sqrt(shape), 0.0))
    return np.asarray(np.where(flat, special.ndtr(-z), gamma), dtype=np.float64)
