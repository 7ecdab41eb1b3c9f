"""The families of statistics that can be asked for: tests and documentation walk this table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A family.

    Attributes
    ----------
    name
        As it is written.
    rows
        Of its contrasts: "one" or "several".
    option
        The option of `numbaglm.permutation_test` that asks for it; None for none.
    made
        The function that builds it, by its module within this package.
    reference
        Source.
    """

    name: str
    rows: str
    option: str | None
    made: str
    reference: str


FAMILIES = {
    kind.name: kind
    for kind in (
        Kind("t", "one", None, "t_f.t_or_f", "Winkler et al. (2014), NeuroImage 92:381-397"),
        Kind("F", "several", None, "t_f.t_or_f", "Winkler et al. (2014), NeuroImage 92:381-397"),
        Kind("v", "one", "variance_groups", "welch.v_or_g", "Welch (1951), Biometrika 38:330-336"),
        Kind("G", "several", "variance_groups", "welch.v_or_g", "Winkler et al. (2014), NeuroImage 92:381-397"),
        Kind(
            "v, missing data",
            "one",
            "missing",
            "ordinary.incomplete_groups.IncompleteGroups",
            "Welch (1951), Biometrika 38:330-336",
        ),
        Kind(
            "G, missing data",
            "several",
            "missing",
            "ordinary.incomplete_groups.IncompleteGroups",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "r", "one", "correlation", "ordinary.correlated.correlated", "Winkler et al. (2014), NeuroImage 92:381-397"
        ),
        Kind(
            "R2",
            "several",
            "correlation",
            "ordinary.correlated.correlated",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "pseudo-t",
            "one",
            "variance_smoothing_fwhm",
            "smoothed.pseudo_t",
            "Nichols and Holmes (2002), Hum. Brain Mapp. 15:1-25",
        ),
        Kind(
            "t, own regressors",
            "one",
            "regressors",
            "elementwise.elementwise",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "F, own regressors",
            "several",
            "regressors",
            "elementwise.elementwise",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "weighted t",
            "one",
            "weights",
            "weighted.weighted",
            "Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710",
        ),
        Kind(
            "weighted F",
            "several",
            "weights",
            "weighted.weighted",
            "Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710",
        ),
        Kind(
            "weighted t, missing data",
            "one",
            "missing",
            "weighted.weighted",
            "Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710",
        ),
        Kind(
            "weighted F, missing data",
            "several",
            "missing",
            "weighted.weighted",
            "Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710",
        ),
        Kind("sandwich t", "one", "covariance", "sandwich.t_or_f", "Guillaume et al. (2014), NeuroImage 94:287-302"),
        Kind(
            "sandwich F", "several", "covariance", "sandwich.t_or_f", "Pustejovsky and Tipton (2018), JBES 36:672-683"
        ),
        Kind("GLS t", "one", "covariance", "clustered.gls.gls", "Parekh et al. (2024), Hum. Brain Mapp. 45:e26579"),
        Kind("GLS F", "several", "covariance", "clustered.gls.gls", "Parekh et al. (2024), Hum. Brain Mapp. 45:e26579"),
        Kind(
            "modified sandwich t",
            "one",
            "estimator",
            "clustered.modified.modified",
            "Guillaume et al. (2014), NeuroImage 94:287-302",
        ),
        Kind(
            "modified sandwich F",
            "several",
            "estimator",
            "clustered.modified.modified",
            "Guillaume et al. (2014), NeuroImage 94:287-302",
        ),
        Kind(
            "sandwich t, missing data",
            "one",
            "missing",
            "clustered.incomplete.IncompleteClusters",
            "Guillaume et al. (2014), NeuroImage 94:287-302",
        ),
        Kind(
            "sandwich F, missing data",
            "several",
            "missing",
            "clustered.incomplete.IncompleteClusters",
            "Pustejovsky and Tipton (2018), JBES 36:672-683",
        ),
        Kind(
            "t, missing data", "one", "missing", "incomplete.Incomplete", "Winkler et al. (2014), NeuroImage 92:381-397"
        ),
        Kind(
            "F, missing data",
            "several",
            "missing",
            "incomplete.Incomplete",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "t, own regressors, missing data",
            "one",
            "missing",
            "ordinary.incomplete_own.IncompleteOwn",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "F, own regressors, missing data",
            "several",
            "missing",
            "ordinary.incomplete_own.IncompleteOwn",
            "Winkler et al. (2014), NeuroImage 92:381-397",
        ),
        Kind(
            "combined t", "one", "combine", "combined.combined", "Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511"
        ),
        Kind(
            "combined F",
            "several",
            "combine",
            "combined.combined",
            "Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511",
        ),
        Kind("T2", "one", "combine", "multivariate.multivariate", "Hotelling (1931), Ann. Math. Stat. 2:360-378"),
        Kind("MANOVA", "several", "combine", "multivariate.multivariate", "Winkler et al. (2016), HBM 37:1486-1511"),
        Kind(
            "PLS",
            "several",
            "combine",
            "ordinary.pls.partial_least_squares",
            "McIntosh and Lobaugh (2004), NeuroImage 23:S250-S263",
        ),
    )
}
