"""The arguments of `permutation_test`, parsed once at the edge: its options, and the design in the maps' order."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from numbaglm.cohort import Cohort
from numbaglm.data.images import list_maps
from numbaglm.data.tables import labels_are_known, match_covariates, read_table
from numbaglm.errors import DesignError, InputError, invalid
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.corrected import TAILS
from numbaglm.stats.formula import design_from_formula
from numbaglm.stats.hypothesis import find_method
from numbaglm.stats.setup import ClusterThreshold, read_variance_groups

INCIDENTAL = frozenset(
    {
        *("mask", "smoothing_fwhm"),  # the cohort's fingerprint knows what came of them
        *("store", "memory_limit", "client", "n_workers", "progress", "dry_run"),
        "p_interval",  # made of the counts when all are there
    }
)
"""Options that change nothing of what a durable run keeps: it goes on under others."""

_SWITCHES = ("two_sided", "tfce", "tfce_uncorrected", "fwe_across_contrasts", "progress", "dry_run")


@dataclass(frozen=True, eq=False, kw_only=True)
class Options:
    """All options of a call, by the names of `numbaglm.permutation_test`.

    Whatever is not in `INCIDENTAL` tells durable runs apart.

    Attributes
    ----------
    conventions
        The record, with what was overridden.
    variance_groups
        Labels, or None: "auto" is resolved.
    """

    n_perm: int
    two_sided: bool
    cluster_forming_threshold: ClusterThreshold | None
    tfce: bool
    seed: int
    mask: Any
    smoothing_fwhm: Any
    errors: str | None
    exchangeability_blocks: ArrayLike | None
    block_scheme: str
    variance_groups: ArrayLike | None
    variance_smoothing_fwhm: float | None
    method: str
    fwe_across_contrasts: bool
    tail: str
    p_interval: float | None
    conventions: Conventions
    tfce_uncorrected: bool
    store: Any
    memory_limit: int | str | None
    client: Any
    n_workers: int | None
    progress: bool
    dry_run: bool

    @classmethod
    def parse(cls, *, variance_groups: ArrayLike | str | None, **given: Any) -> Self:
        """Refuse what is neither here nor there before any work is done.

        Raises
        ------
        InputError
        """
        groups = read_variance_groups(variance_groups, given["exchangeability_blocks"])
        options = cls(variance_groups=groups, **given)
        for name in _SWITCHES:
            value = getattr(options, name)
            if not isinstance(value, bool | np.bool_):
                raise InputError(invalid(name, value, "True or False"))
        if options.tail not in tuple(TAILS):
            raise InputError(invalid("tail", options.tail, f"one of {sorted(TAILS)}"))
        p, client = options.p_interval, options.client
        if p is not None and not (isinstance(p, float | np.floating) and 0 < p < 1):
            raise InputError(invalid("p_interval", p, "a coverage between 0 and 1, such as 0.95, or None"))
        if client is not None and not hasattr(client, "scheduler_info"):
            raise InputError(
                invalid("client", client, "a distributed.Client, or None", "Connect: Client('tcp://...').")
            )
        if find_method(options.method).data == "rotated" and options.fwe_across_contrasts:
            raise InputError(
                f"The method {options.method!r} shuffles each contrast in its own way: no null spans several."
            )
        return options

    def identity(self) -> dict[str, Any]:
        """What tells durable runs apart, as JSON types."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self) if one.name not in INCIDENTAL}

    def asked(self) -> dict[str, Any]:
        """What provenance notes as it was asked for."""
        names = ("n_perm", "cluster_forming_threshold", "tail", "p_interval")
        return {
            **{name: getattr(self, name) for name in names},
            "exchangeability_blocks": _plain(self.exchangeability_blocks),
            "block_scheme": self.block_scheme,
            "variance_groups": _plain(self.variance_groups),
        }


def _plain(value: Any) -> Any:
    """As JSON types."""
    if isinstance(value, Conventions):
        return asdict(value)
    if value is None or isinstance(value, str | tuple):
        return value
    return np.asarray(value).tolist()


def listed_subjects(maps: Any) -> tuple[list[str], pd.DataFrame]:
    """Labels and covariates, known before any map is read: what can't be used is refused by then."""
    if isinstance(maps, Cohort):
        return maps.subjects, maps.covariates
    return (labels := list_maps(maps)[1]), pd.DataFrame(index=pd.Index(labels))


def read_design(design_matrix: Any, covariates: pd.DataFrame | None = None) -> Any:
    """Read a design matrix given as the path of a table, or as a formula over covariates; return others as they are.

    The index that pandas writes as a nameless first column is no regressor.
    """
    is_file = not isinstance(design_matrix, str) or design_matrix.endswith((".tsv", ".csv"))
    if covariates is not None and not is_file and "~" in design_matrix:
        return design_from_formula(design_matrix, covariates)
    if not is_file and not Path(design_matrix).exists():
        allowed = "the path of a .tsv or .csv file, or a formula, which begins with '~'"
        raise InputError(invalid("design_matrix", design_matrix, allowed))
    if isinstance(design_matrix, str | os.PathLike):
        table = read_table(design_matrix, "design_matrix")
        return table.drop(columns=[column for column in table.columns[:1] if str(column) == "Unnamed: 0"])
    return design_matrix


def ordered(design: Any, subjects: list[str]) -> Any:
    """Bring a table with labels of subjects into their order; refuse a DataFrame whose index has them in another."""
    if not isinstance(design, pd.DataFrame) or not labels_are_known(subjects):
        return design
    if {"subject_label", "participant_id"} & set(map(str, design.columns)):
        try:
            return match_covariates(design, subjects, labels_known=True)[0]
        except InputError as error:
            raise DesignError(str(error).replace("'covariates'", "'design_matrix'")) from error
    labels = [str(label) for label in design.index]
    if labels != subjects and sorted(labels) == sorted(subjects):
        raise DesignError(
            f"The index of the design matrix names the subjects in another order ({', '.join(labels[:3])}, ...) than "
            f"the maps are in ({', '.join(subjects[:3])}, ...). Use design.loc[list(cohort.subjects)], or "
            "reset_index(drop=True) if the rows are in the order of the maps."
        )
    return design
