"""What may be asked of the covariance of errors, as records."""

from __future__ import annotations

from dataclasses import dataclass

ADJUSTMENTS = {
    "none": "residuals as they are",
    "n/(n-p)": "residuals times sqrt(n / (n - p)), n maps and p regressors",
    "HC2": "residuals divided by sqrt(1 - l), l the leverage of each map",
    "HC3": "residuals divided by 1 - l",
    "C2": "residuals of a cluster times (I - H)^(-1/2), H its block of the hat matrix (CR2)",
    "C3": "residuals of a cluster times (I - H)^(-1)",
}
"""Corrections for residuals being smaller than errors, by the name of the option."""

FEW_CLUSTERS = {
    "classic": (
        20,
        "between 4 and 12 % were measured with 8 clusters of unequal variances, and between 5 and 8 % with 16",
    ),
    "modified": (
        100,
        "between 3 and 10 % were measured with 8 clusters of two groups, and between 4 and 8 % with 16 or 50",
    ),
    "binned-gls": (
        20,
        "between 4 and 11 % were measured with 8 clusters of one to five maps, and between 5 and 7 % with 16",
    ),
}
"""By the estimator, or the covariance: below so many clusters tests with nuisance may find too much, and error rates of
t at 5 %, of sandwich variances where variances differed between clusters (benchmarks/validity.md)."""

ESTIMATORS = {
    "classic": "every cluster's residuals tell its own covariance",
    "modified": "visits have covariances that the clusters of a group share",
}
"""What residuals tell, by the name of the option."""

DEGREES_OF_FREEDOM = {
    "satterthwaite": "those of a variance estimate whose mean and variance, under independent errors, are the same",
    "naive": "clusters that tell of the contrast, less the regressors that are constant within them",
}
"""Degrees of freedom of the parametric p, by the name of the option."""

BETWEEN = {
    "reml": "restricted maximum likelihood",
    "ml": "maximum likelihood",
    "dl": "the moments of DerSimonian and Laird",
    "he": "the moments of Hedges",
}
"""How the variance between subjects is estimated, beside 0 (fixed effects), and what texts call it."""

TESTS = {
    "knapp-hartung": "the standard errors of Knapp and Hartung",
    "ad-hoc": "the standard errors of Knapp and Hartung, never below those of known variances",
    "t": "standard errors of known variances, and t",
    "z": "standard errors of known variances, and z",
}
"""How a weighted effect is held against its standard error, and what texts call it."""

EFFECTS = {
    "family": "what all maps of an exchangeability block share",
    "subject": "what all maps of a subject share",
    "kinship": "what maps share by a known matrix",
    "error": "what each map has by itself",
}
"""What the variance may be made of, by the name in the option."""

MOST_BINS = 100
"""Along each share of the variance."""


@dataclass(frozen=True)
class Sandwich:
    """That a sandwich variance is asked for, and which.

    Attributes
    ----------
    adjustment
        A name in `ADJUSTMENTS`.
    dof
        A name in `DEGREES_OF_FREEDOM`.
    estimator
        A name in `ESTIMATORS`.
    """

    adjustment: str = "C2"
    dof: str = "satterthwaite"
    estimator: str = "classic"


@dataclass(frozen=True)
class Binned:
    """That generalised least squares is asked for, and of which components.

    Attributes
    ----------
    effects
        Names in `EFFECTS`, "error" among them.
    bins
        Along each share.
    interval
        Coverage of the intervals of shares; None for none.
    """

    effects: tuple[str, ...] = ("family", "error")
    bins: int = 20
    interval: float | None = None
