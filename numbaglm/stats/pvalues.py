"""p-values: from counts, from maxima, false discovery rate, as -log10; and statistics turned into z."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from numbaglm.arrays import Doubles


def from_counts(n_reached: NDArray[np.integer], n_shufflings: int) -> Doubles:
    """Permutation p of counts of shufflings that reach the observed statistic, itself among them.

    p = #{null >= observed} / n_shufflings. With random shufflings beside the identity this is
    (1 + b) / (1 + n_perm), never 0 (Phipson and Smyth, 2010).
    """
    return np.asarray(np.maximum(n_reached, 1) / n_shufflings)


def from_maxima(observed: NDArray[np.number], maxima: NDArray[np.number], tolerance: float | Doubles) -> Doubles:
    """Family-wise error corrected p: the share of maxima that reach an observed statistic.

    Parameters
    ----------
    observed
        Statistics, any shape.
    maxima
        (n_shufflings,) maximum over the map of each shuffling, the observed among them.
    tolerance
        Maxima that lie less than this below the observed statistic count as equal to it; one, or one for each.
    """
    ordered = np.sort(np.asarray(maxima, dtype=np.float64))
    below = np.searchsorted(ordered, np.asarray(observed, dtype=np.float64) - tolerance, side="left")
    return from_counts(ordered.size - below, ordered.size)


def least_over_domains(nulls: NDArray[np.number], tolerance: float) -> Doubles:
    """Null (n_shufflings,) of the least p over domains, which makes p of several domains comparable.

    Each shuffling's maximum gets its p within its own domain's null; the least of a shuffling is small by chance in as
    many of them as it says, whatever the dependence between domains, as all nulls are of the same shufflings (Westfall
    and Young, 1993, section 2.6).

    Parameters
    ----------
    nulls
        (n_domains, n_shufflings) maxima, the observed ones first.
    tolerance
        Relative: maxima closer than this are equal.
    """
    return np.asarray(np.min([from_maxima(null, null, tolerance * np.abs(null)) for null in nulls], axis=0))


def from_least(p: Doubles, least: Doubles) -> Doubles:
    """p corrected over domains, of p within them: the share of shufflings whose least p (n_shufflings,) is as small."""
    reached = np.searchsorted(np.sort(least), p, side="right")
    return from_counts(reached, least.size)


def sidak(p: Doubles, n_domains: int) -> Doubles:
    """p corrected over domains as if they were independent (Sidak, 1967, J. Am. Stat. Assoc. 62:626-633)."""
    below = np.where(p < 1, p, 0.0)
    return np.where(p < 1, -np.expm1(n_domains * np.log1p(-below)), 1.0)


def critical_value(maxima: NDArray[np.number], alpha: float) -> float:
    """Value that a statistic must exceed for a corrected p of at most alpha; infinity if none could (too few maxima).

    With c = floor(alpha n), the (c + 1)-th largest of the n maxima, the observed among them (Nichols and Holmes, 2002).
    """
    null = np.sort(np.asarray(maxima, dtype=np.float64))[::-1]
    n_above = int(np.floor(alpha * null.size * (1 + 1e-12)))
    return float(null[n_above]) if 0 < n_above < null.size else np.inf


def logp(p: Doubles) -> Doubles:
    """-log10 p, finite because p is never 0."""
    return -np.log10(np.maximum(p, np.finfo(np.float64).tiny))


def bonferroni(p: Doubles) -> Doubles:
    """Bonferroni-corrected p over all entries."""
    return np.minimum(p * p.size, 1.0)


def fdr(p: Doubles) -> Doubles:
    """Adjusted p of Benjamini and Hochberg (1995): the least false discovery rate at which each is found."""
    order = np.argsort(p)  # equal p get one adjusted p, in whatever order
    scaled = np.asarray(p, dtype=np.float64)[order] * p.size / np.arange(1, p.size + 1)
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def fdr_bky(p: Doubles) -> Doubles:
    """Adjusted p of the adaptive step-down procedure of Benjamini, Krieger and Yekutieli (2006), Biometrika 93.

    At q, test number j in order of p passes where some l >= j has p_l <= q l / (n + 1 - j (1 - q)), and all before
    it pass (their multiple-stage procedure). The adjusted p is the least such q: solved for q, the best l is that of
    the largest l / p_l, whatever j is.
    """
    order = np.argsort(p, kind="stable")
    ordered = np.maximum(np.asarray(p, dtype=np.float64)[order], np.finfo(np.float64).tiny)
    rank = np.arange(1, ordered.size + 1)
    best = np.maximum.accumulate((rank / ordered)[::-1])[::-1]
    room = best - rank
    least = np.divide(ordered.size + 1 - rank, room, out=np.full(ordered.size, np.inf), where=room > 0)
    adjusted = np.empty(ordered.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(least), 1.0)
    return adjusted


FDR = {"bh": fdr, "bky": fdr_bky}


def parametric(statistic: Doubles, dof: float, n_rows: int | None = None) -> Doubles:
    """One-sided parametric p of t (n_rows None) or of F with n_rows and dof degrees of freedom."""
    if n_rows is None:
        return np.asarray(special.stdtr(dof, -statistic), dtype=np.float64)
    return np.asarray(special.fdtrc(n_rows, dof, np.maximum(statistic, 0.0)), dtype=np.float64)


def of_z(z: Doubles) -> Doubles:
    """One-sided p of z."""
    return np.asarray(special.ndtr(-z), dtype=np.float64)


def to_z(statistic: Doubles, dof: float | Doubles, n_rows: float | None = None) -> Doubles:
    """z of the same one-sided p as a t or F statistic.

    The smaller tail is the one inverted, in logarithms where it underflows, so that no precision is lost at
    either end. A small F gives a negative z.
    """
    statistic = np.asarray(statistic, dtype=np.float64)
    if n_rows is None:
        magnitude = np.abs(statistic)
        z = -special.ndtri_exp(_log_tail_t(magnitude, dof))
        return np.asarray(np.where(magnitude == 0, 0.0, np.copysign(z, statistic)), dtype=np.float64)
    statistic = np.maximum(statistic, 0.0)
    return z_of_tails(*(np.asarray(tail(n_rows, dof, statistic), np.float64) for tail in (special.fdtrc, special.fdtr)))


def z_of_tails(upper: Doubles, lower: Doubles) -> Doubles:
    """z of the probabilities above and below a value: the smaller one is inverted."""
    with np.errstate(divide="ignore"):
        z = np.where(upper < 0.5, -special.ndtri_exp(np.log(upper)), special.ndtri_exp(np.log(lower)))
    beyond = np.sqrt(2 * _MAX_LOG)  # where even the tail's logarithm underflows
    return np.asarray(np.clip(z, -beyond, beyond), dtype=np.float64)


_MAX_LOG = -np.log(np.finfo(np.float64).tiny)


def _log_tail_t(magnitude: Doubles, dof: float | Doubles) -> Doubles:
    """log P(T > magnitude); past the reach of doubles by the leading term of the tail's expansion."""
    tail = np.asarray(special.stdtr(dof, -magnitude))
    lost = tail == 0
    log_tail = np.log(tail, out=np.zeros(tail.shape), where=~lost)
    t, nu = magnitude[lost], np.broadcast_to(dof, tail.shape)[lost]
    # P(T > t) ~ c (1 + t^2 / dof)^(-(dof + 1) / 2) (t / dof + 1 / t) as t grows, at any dof
    constant = special.gammaln((nu + 1) / 2) - special.gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
    log_tail[lost] = constant - (nu + 1) / 2 * np.log1p(t**2 / nu) + np.log(t / nu + 1 / t)
    return log_tail


def statistic_threshold(kind: str, value: float, dof: float, n_rows: int | None, two_sided: bool) -> float:
    """Turn a cluster-forming threshold into the statistic's own scale.

    Parameters
    ----------
    kind
        "p" (halved if two-sided), "z" of the same one-sided p, or "t" or "f", the statistic's own.
    dof, n_rows
        Degrees of freedom; n_rows None is t.
    """
    if kind in ("t", "f"):
        return float(value)
    p = float(special.ndtr(-value)) if kind == "z" else (value / 2 if two_sided else value)
    if n_rows is None:
        return float(-special.stdtrit(dof, p))
    share = special.betaincinv(dof / 2, n_rows / 2, p)  # 1 / (1 + n_rows F / dof) has this distribution
    return float((1 / share - 1) * dof / n_rows)
