"""The arguments of `permutation_test`, parsed once at the edge: its options, and the design in the maps' order."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data import images  # what is of elements is loaded where it is used
from numbaglm.data.cohort.layout import DATA
from numbaglm.data.images import is_elements, list_maps
from numbaglm.data.labels import (
    MapLabels,
    further_columns,
    has_labels,
    labels_are_known,
    match_labels,
    match_rows,
    require_order,
    split_labels,
    were_moved,
)
from numbaglm.data.tables import listed, read_table
from numbaglm.errors import ContrastError, DesignError, InputError, invalid, near, term, warn
from numbaglm.inference.effects import check_bins, numbered, read_effects, read_kinship, read_subjects
from numbaglm.results.provenance import MISSING, SIDES
from numbaglm.results.vocabulary import ALPHA, is_loading
from numbaglm.spaces.space import Space
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.corrected import TAILS
from numbaglm.stats.discoveries import ARI, NAMES, SHIFT, Way
from numbaglm.stats.formula import design_from_formula
from numbaglm.stats.methods import LOADING, OF_P, OF_VALUES, find_method, p_holds
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import ClusterThreshold, read_variance_groups, read_weights
from numbaglm.stats.variance.covariance import ADJUSTMENTS, DEGREES_OF_FREEDOM, ESTIMATORS, Binned, Sandwich

if TYPE_CHECKING:
    from numbaglm.stats.variance.components import Components

INCIDENTAL = frozenset(
    {
        # The cohort's fingerprint knows what came of them.
        *("mask", "smoothing_fwhm", "layers", "surfaces", "areas", "space", "nodes"),
        *("store", "memory_limit", "client", "n_workers", "progress", "dry_run"),
        "p_interval",  # made of the counts when all are there
        "discoveries",  # calibrated by what records have beside, or by some of its own
    }
)
"""Options that change nothing of what a durable run keeps: it goes on under others."""

LEAST_PRESENT = 0.5
"""Share of the maps that an element takes to be tested with the subjects that it has, where no cohort says another."""

WITHIN = "within"
"""Combine the contrasts of each modality, and not modalities."""

N_PERM = 10_000
"""Random shufflings where no number is named."""

AUTO = "auto"
"""Variance groups that are the exchangeability blocks."""

STOP = "decided"
"""When to stop shuffling: once p are decided."""

_SANDWICH, _GLS = term("covariance='sandwich'"), term("covariance='binned-gls'")
_STOPPED, _NILEARN = term(f"stop={STOP!r}"), term("conventions='nilearn'")

_SWITCHES = (
    "two_sided",
    "tfce",
    "tfce_uncorrected",
    "fwe_across_contrasts",
    "concordant",
    "correlation",
    "progress",
    "dry_run",
)


_WITH_SANDWICH: dict[str, tuple[tuple[str | None, ...], str]] = {
    "errors": ((None, "ise"), "'ise', as its clusters change sign"),
    "block_scheme": (("within", "whole"), "'whole', as its clusters are the exchangeability blocks"),
    "method": (("freedman-lane",), "'freedman-lane'"),
    "regressors": ((None,), "none, as all voxels share a design"),
    "variance_groups": ((None,), "none, as every cluster has a variance of its own"),
    "variance_smoothing_fwhm": ((None,), "none, as a pseudo-t has another variance"),
}
"""What goes with a sandwich variance, and why so: "within", the default of schemes, is what nobody has asked for."""

_WITH_GLS = _WITH_SANDWICH | {
    "missing": (("leave",), "'leave', as a cluster is not parted voxel by voxel"),
    "weights": ((None,), "none, as maps count alike"),
    "variance_groups": ((None,), "none, as clusters have the same components of variance"),
    "combine": ((None,), "none, as each modality has components of its own"),
}
"""The same, of generalised least squares."""

_COVARIANCES = {"sandwich": _WITH_SANDWICH, "binned-gls": _WITH_GLS}

_OF_MAPS = ("exchangeability_blocks", "variance_groups", "weights", "visits", "groups", "subjects")
"""Options that have a value a map, or the name of a covariate that holds them."""

_OF_GLS = ("effects", "subjects", "kinship", "component_interval")


@dataclass(frozen=True, eq=False, kw_only=True)
class Options:
    """All options of a call, by the names of `numbaglm.permutation_test`.

    Whatever is not in `INCIDENTAL` tells durable runs apart.

    Attributes
    ----------
    conventions
        The record, with what was overridden.
    """

    n_perm: int
    two_sided: bool
    cluster_forming_threshold: ClusterThreshold | None
    tfce: bool
    seed: int
    mask: Any
    smoothing_fwhm: Any
    layers: Any
    errors: str | None
    exchangeability_blocks: ArrayLike | None
    block_scheme: str
    variance_groups: ArrayLike | str | None
    variance_smoothing_fwhm: float | None
    weights: Any
    between: str | int
    test: str
    method: str
    missing: str
    covariance: str | None
    adjustment: str
    dof: str
    estimator: str
    visits: ArrayLike | None
    groups: ArrayLike | None
    effects: Any
    subjects: Any
    kinship: Any
    component_bins: int
    component_interval: float | None
    fwe_across_contrasts: bool
    tail: str
    p_interval: float | None
    conventions: Conventions
    tfce_uncorrected: bool
    discoveries: str
    stop: str | None
    alpha: float
    combine: str | None
    combine_contrasts: bool | str
    concordant: bool
    correlation: bool
    combine_weights: ArrayLike | None
    modality_contrast: Any
    shufflings: Any
    store: Any
    memory_limit: int | str | None
    client: Any
    n_workers: int | None
    progress: bool
    dry_run: bool
    surfaces: Any
    areas: Any
    space: Any
    nodes: Any
    regressors: dict[str, str] | None

    @classmethod
    def parse(cls, **given: Any) -> Self:
        """Refuse what is neither here nor there before any work is done.

        Raises
        ------
        InputError
        """
        options = cls(**given)
        options._check_labels()
        if options.variance_groups_are_blocks and options.exchangeability_blocks is None:
            read_variance_groups(options.variance_groups, None)
        if not has_labels(options.weights):  # else they are not in the order of the maps yet
            options.read_weights()
        for name in _SWITCHES:
            value = getattr(options, name)
            if not isinstance(value, bool | np.bool_):
                raise InputError(invalid(name, value, "True or False"))
        if options.tail not in tuple(TAILS):
            raise InputError(invalid("tail", options.tail, f"one of {sorted(TAILS)}"))
        if options.missing not in MISSING:
            raise InputError(invalid("missing", options.missing, " or ".join(map(repr, MISSING))))
        if options.discoveries != ARI and options.way is None:
            allowed = f"one of {[ARI, *NAMES]}, or 'shifted-100' for another shift than {SHIFT}"
            raise InputError(invalid("discoveries", options.discoveries, allowed))
        if options.discoveries != ARI and options.variance_smoothing_fwhm is not None:
            raise InputError(
                f"{term(f'discoveries={options.discoveries!r}')} calibrates parametric p, and pseudo-t "
                f"({term('variance_smoothing_fwhm')}) has none. Test t."
            )
        options._check_stop()
        options._check_shufflings()
        p, client = options.p_interval, options.client
        if p is not None and not (isinstance(p, float | np.floating) and 0 < p < 1):
            raise InputError(invalid("p_interval", p, "a coverage between 0 and 1, such as 0.95, or None"))
        if client is not None and not hasattr(client, "scheduler_info"):
            raise InputError(
                invalid("client", client, "a distributed.Client, or None", "Connect: Client('tcp://...').")
            )
        _check_combination(options)
        _check_correlation(options)
        if find_method(options.method).data == "rotated" and options.fwe_across_contrasts:
            raise InputError(
                f"The method {options.method!r} shuffles each contrast in its own way: no null spans several."
            )
        return options._with_clusters()

    @property
    def variance_groups_are_blocks(self) -> bool:
        """Whether the blocks are the groups, and not the covariate of a name."""
        return isinstance(self.variance_groups, str) and self.variance_groups == AUTO

    @property
    def way(self) -> Way | None:
        """How true discoveries are calibrated; None where parametric p bound them."""
        return Way.parse(self.discoveries) if isinstance(self.discoveries, str) else None

    @property
    def sandwich(self) -> Sandwich | None:
        """The sandwich variance that is asked for; None for that of independent errors."""
        if self.covariance != "sandwich":
            return None
        return Sandwich(self.adjustment, self.dof, self.estimator)

    @property
    def binned(self) -> Binned | None:
        """The generalised least squares that are asked for; None for none."""
        if self.covariance != "binned-gls":
            return None
        return Binned(tuple(self.effects), int(self.component_bins), self.component_interval)

    @cached_property
    def components(self) -> Components | None:
        """What the covariance is a sum of; None where nothing asks for it. Labels are in the order of the maps."""
        if (binned := self.binned) is None:
            return None
        subjects = numbered(self.subjects) if "subject" in binned.effects else None
        from numbaglm.stats.variance.components import Components  # where it is asked for

        return Components.build(binned.effects, numbered(self.exchangeability_blocks), subjects, self.kinship)

    @property
    def sides(self) -> str | None:
        """Which sides of t count where p of several modalities are combined; None where none are."""
        if self.combine not in OF_P:
            return None
        return SIDES[int(self.two_sided) + int(self.concordant)]

    def _with_clusters(self) -> Self:
        """What clusters imply: they, the blocks, are flipped as wholes. What contradicts it is refused."""
        tables = {"adjustment": ADJUSTMENTS, "dof": DEGREES_OF_FREEDOM, "estimator": ESTIMATORS}
        for name, table in tables.items():
            if getattr(self, name) not in tuple(table):
                raise InputError(invalid(name, getattr(self, name), f"one of {list(table)}"))
            if self.covariance != "sandwich" and getattr(self, name) != getattr(Sandwich(), name):
                fix = f"Ask for one with {_SANDWICH}."
                raise InputError(invalid(name, getattr(self, name), "none without a sandwich variance", fix))
        if self.covariance not in (None, *_COVARIANCES):
            allowed = f"{', '.join(map(repr, _COVARIANCES))}, or None for independent errors"
            raise InputError(invalid("covariance", self.covariance, allowed))
        self._check_visits()
        if self.covariance != "binned-gls":
            for name in _OF_GLS:
                if (value := getattr(self, name)) is not None:
                    given = value if isinstance(value, str | float | tuple | list) else f"a {type(value).__name__}"
                    fix = "Ask for it, or leave this out."
                    raise InputError(invalid(name, given, f"None without {_GLS}", fix))
            if self.component_bins != Binned().bins:
                fix = f"Ask for it with {_GLS}."
                raise InputError(invalid("component_bins", self.component_bins, "none without a mixed model", fix))
        if self.covariance is None:
            return self
        for name, (fitting, why) in _COVARIANCES[self.covariance].items():
            value = getattr(self, name)
            if not any(value is one or (isinstance(value, str) and value == one) for one in fitting):
                given = value if isinstance(value, str | float | int) else f"a {type(value).__name__}"
                why = f"{why}, with {term(f'covariance={self.covariance!r}')}"
                raise InputError(invalid(name, given, why, "Leave it out."))
        blocks = self.exchangeability_blocks
        if not has_labels(blocks):
            self._check_levels()
        implied = replace(self, errors="ise", block_scheme="within" if blocks is None else "whole")
        if self.covariance != "binned-gls":
            return implied
        if blocks is None:
            allowed = f"a label for each map, that of its cluster, with {_GLS}"
            raise InputError(invalid("exchangeability_blocks", None, allowed))
        check_bins(self.component_bins, self.component_interval)
        return replace(implied, effects=read_effects(self.effects, self.subjects, self.kinship))

    def _check_levels(self) -> None:
        """Refuse a tree of blocks where clusters are asked for."""
        blocks = self.exchangeability_blocks
        if self.covariance is not None and blocks is not None and np.ndim(blocks) > 1 and np.shape(blocks)[1] > 1:
            received = f"a tree of {np.shape(blocks)[1]} levels"
            fix = "Give the labels of the largest blocks, which are independent of each other."
            allowed = f"a label for each map, that of its cluster, with {term(f'covariance={self.covariance!r}')}"
            raise InputError(invalid("exchangeability_blocks", received, allowed, fix))

    def _check_maps(self) -> None:
        """Refuse what a sandwich variance, or its modified estimator, does not take of maps."""
        if self.sandwich is None:
            return
        if isinstance(self.weights, str) or (self.weights is not None and self.estimator != "classic"):
            given = self.weights if isinstance(self.weights, str) else "weights of maps with estimator='modified'"
            allowed = f"none, or weights of maps, with {_SANDWICH} and its classic estimator"
            raise InputError(invalid("weights", given, allowed, "Leave it out."))
        modified = term("estimator='modified'")
        if self.missing == "element" and self.estimator != "classic":
            fix = "Leave one of them out."
            raise InputError(invalid("missing", "element", f"'leave' with {modified}", fix))

    def _check_labels(self) -> None:
        """Refuse what is no list of labels, nor the name of a covariate: a number, rows of several lengths."""
        for name in ("exchangeability_blocks", "visits", "groups", "variance_groups"):
            value = getattr(self, name)
            if value is None or isinstance(value, str):
                continue
            try:
                n_axes = np.ndim(value)
            except ValueError:
                n_axes = 0  # rows of several lengths
            if n_axes not in (1, 2):
                received = value if np.isscalar(value) else f"a {type(value).__name__}"
                fix = "Give a list, an array, or a Series whose index has the labels of the maps."
                raise InputError(invalid(name, received, "a label for each map", fix))

    def _check_visits(self) -> None:
        """Refuse labels of visits without the estimator that takes them, and that without them."""
        modified = term("estimator='modified'")
        if self.estimator != "modified":
            for name in ("visits", "groups"):
                if getattr(self, name) is not None:
                    fix = f"Ask for it with {modified}."
                    raise InputError(invalid(name, "labels", "none, without a modified sandwich variance", fix))
            return
        wanted = {"exchangeability_blocks": "the cluster of each map, such as its person", "visits": "its visit"}
        for name, what in wanted.items():
            if getattr(self, name) is None:
                fix = f"Give them, or leave {modified} out."
                raise InputError(invalid(name, None, f"a label for each map: {what}, with {modified}", fix))

    def read_weights(self) -> str | Doubles | None:
        """Weights as `numbaglm.stats.model.setup.read_weights` has them, which go with few other options."""
        others = ("variance_groups", "variance_smoothing_fwhm", "regressors")
        apart = [name for name in others if getattr(self, name) is not None]
        apart += [f"method={self.method!r}"] if self.method != "freedman-lane" else []
        apart += ["missing='element'"] if self.missing == "element" and self.sandwich is not None else []
        return read_weights(self.weights, self.between, self.test, [term(one) for one in apart])

    def _check_stop(self) -> None:
        """Refuse to stop early where p are not counted from one null of the largest."""
        if self.stop not in (None, STOP):
            raise InputError(invalid("stop", self.stop, f"{STOP!r}, or None"))
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, float | np.floating) or not 0 < self.alpha < 1:
            raise InputError(invalid("alpha", self.alpha, "a probability between 0 and 1"))
        if self.stop is None:
            if self.alpha != ALPHA:
                raise InputError(
                    f"{term(f'alpha={self.alpha:g}')} is what {_STOPPED} decides against: pass both, or none."
                )
            return
        others = {
            term(f"tail={self.tail!r}"): self.tail != "counts",
            term("p_interval"): self.p_interval is not None,
            term("fwe_across_contrasts=True"): self.fwe_across_contrasts,
            term("tfce_uncorrected=True"): self.tfce_uncorrected,
            f"{_NILEARN}, which counts p of clusters its own way": self.conventions.clipped_cluster_p,
        }
        for name, given in others.items():
            if given:
                raise InputError(f"{_STOPPED} decides by counted p of each contrast: it does not go with {name}.")

    def _check_shufflings(self) -> None:
        """Refuse beside a set of shufflings of the user's own what supposes that they are drawn."""
        if self.shufflings is None:
            return
        given = term("shufflings=")
        others = {
            term(f"n_perm={self.n_perm}"): (self.n_perm != N_PERM, "which says how many are drawn"),
            term(f"stop={self.stop!r}"): (self.stop is not None, "which draws them in rounds"),
            term("p_interval"): (self.p_interval is not None, "which tells what random ones leave open"),
            term(f"method={self.method!r}"): (
                find_method(self.method).data == "rotated",
                "which rotates subjects into each other, so that shufflings of them mean nothing to it",
            ),
        }
        for name, (asked, why) in others.items():
            if asked:
                raise InputError(f"{given} is a set of shufflings as it is: it does not go with {name}, {why}.")

    def with_columns(self, covariates: pd.DataFrame, layers: Sequence[str]) -> Self:
        """The same, with the values of covariates in the place of their names. Weights may be one of the layers.

        Raises
        ------
        InputError
            There is no such covariate.
        """
        names = [str(one) for one in covariates.columns]
        found: dict[str, Any] = {}
        for option in _OF_MAPS:
            given = getattr(self, option)
            if not isinstance(given, str) or (option == "weights" and given in layers):
                continue
            if option == "variance_groups" and self.variance_groups_are_blocks:
                continue
            if given not in names:
                word = f", or {AUTO!r}" if option == "variance_groups" else ""
                allowed = f"a label for each map, or one of the covariates ({listed(names) or 'none'}){word}"
                raise InputError(invalid(option, given, allowed, near(given, names)))
            found[option] = covariates.iloc[:, names.index(given)]
        return replace(self, **found)

    def in_order(self, maps: MapLabels, covariates: pd.DataFrame) -> Self:
        """The same, with labels of blocks and groups in the order of the maps where they have an index of labels.

        "auto" becomes the labels that it stands for.
        """
        blocks = match_labels(self.exchangeability_blocks, maps, "exchangeability_blocks")
        groups = match_labels(self.variance_groups, maps, "variance_groups")
        weights = self.weights if isinstance(self.weights, str) else match_labels(self.weights, maps, "weights")
        of_maps = {name: match_labels(getattr(self, name), maps, name) for name in ("visits", "groups")}
        for name, values in {
            "exchangeability_blocks": blocks,
            "variance_groups": groups,
            "weights": weights,
            **of_maps,
        }.items():
            require_order(values, covariates, name)
        groups = read_variance_groups(groups, blocks)
        if self.covariance is not None and blocks is not None and len(np.unique(numbered(blocks))) < 2:
            allowed = "two or more, which are independent of each other"
            raise InputError(invalid("exchangeability_blocks", "one cluster of all maps", allowed))
        subjects = read_subjects(self.subjects, maps, covariates)
        kinship = read_kinship(self.kinship, maps, blocks, subjects)
        ordered = replace(
            self,
            exchangeability_blocks=blocks,
            variance_groups=groups,
            weights=weights,
            subjects=subjects,
            kinship=kinship,
            **of_maps,
        )
        ordered._check_levels()
        ordered._check_maps()
        if self.shufflings is not None:
            from numbaglm.data.own_shufflings import read_shufflings  # where they are given

            ordered = replace(ordered, shufflings=read_shufflings(self.shufflings, maps))
        return replace(ordered, weights=ordered.read_weights())

    @property
    def has_parametric_p(self) -> bool:
        """Whether the statistic has a distribution of its own, or one that stands in for it."""
        return not _orders_alone(self.combine, self.conventions)

    def _check_rank_order(self) -> None:
        """Refuse what takes parametric p where there are none."""
        of = f"combine={self.combine!r}"
        if self.discoveries != ARI:
            raise InputError(
                f"{term(f'discoveries={self.discoveries!r}')} calibrates parametric p, and {of} has none. Leave it out."
            )
        if self.n_perm == 0:
            raise InputError(invalid("n_perm", 0, f"1 or more with {of}, which has no parametric maps"))

    @property
    def combines_modalities(self) -> bool:
        """Whether modalities become one test, where there are several."""
        return self.combine is not None and self.combine_contrasts != WITHIN

    def weights_of(self, modalities: tuple[str, ...], contrasts: Sequence[str]) -> Doubles | None:
        """Weights of partial tests, of the first modality those of all contrasts and so on; None for equal ones.

        They are given for the modalities that are combined, or else for the contrasts.

        Raises
        ------
        InputError
        """
        given: Any = self.combine_weights
        if given is None:
            return None
        names = modalities if len(modalities) > 1 else tuple(contrasts)
        if isinstance(given, Mapping):
            given = [given[name] for name in names] if set(given) == set(names) else []
        try:
            weights = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            weights = np.empty(0)
        if weights.shape != (len(names),) or not (np.isfinite(weights) & (weights > 0)).all():
            allowed = f"a number above 0 for each of {list(names)}"
            raise InputError(invalid("combine_weights", self.combine_weights, allowed))
        return np.repeat(weights, len(contrasts)) if len(modalities) > 1 else weights

    def identity(self) -> dict[str, Any]:
        """What tells durable runs apart, as JSON types."""
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in INCIDENTAL}
        kinship = None if self.kinship is None else self.kinship.digest
        digests = {"shufflings": self._shufflings_digest, "kinship": kinship}
        return {name: _plain(value) for name, value in (kept | digests).items()}

    @property
    def _shufflings_digest(self) -> str | None:
        """What is noted of shufflings that are given, instead of millions of numbers."""
        if self.shufflings is None:
            return None
        from numbaglm.stats.shuffling.own import digest  # where they are given

        return digest(self.shufflings)

    def asked(self, modalities: tuple[str, ...], group: Mapping[str, int]) -> dict[str, Any]:
        """What provenance notes as it was asked for, of these modalities, and of a contrast or those that are combined.

        Parameters
        ----------
        group
            Rows of the contrasts by name.
        """
        weights = None if self.combine is None else self.weights_of(modalities, list(group))
        names = ("n_perm", "cluster_forming_threshold", "tail", "p_interval")
        return {
            **{name: getattr(self, name) for name in names},
            "exchangeability_blocks": _plain(self.exchangeability_blocks),
            "block_scheme": self.block_scheme,
            "variance_groups": _plain(self.variance_groups),
            "variance_smoothing_fwhm": self.variance_smoothing_fwhm,
            "missing": self.missing,
            "regressors": self.regressors or {},
            "weights": _plain(self.weights),
            "between": self.between if isinstance(self.weights, str) else None,
            "test": None if self.weights is None else self.test,
            "sandwich": None if self.sandwich is None else asdict(self.sandwich),
            "own_shufflings": self._shufflings_digest,
            "visits": _plain(self.visits),
            "groups": _plain(self.groups),
            "gls": None if self.binned is None else asdict(self.binned) | {"effects": list(self.effects)},
            "combine": self.combine,
            "combine_contrasts": dict(group) if self.combine_contrasts else None,
            "sides": self.sides,
            "combine_weights": None if weights is None else weights.tolist(),
            "modalities": list(modalities),
            "modality_contrast": _plain(self.modality_contrast),
        }


def _check_combination(options: Options) -> None:
    """Refuse ways of combining maps that there are not, and options that they do not go with."""
    combine = options.combine
    names = [*OF_P, *OF_VALUES]
    numbered = isinstance(combine, str) and re.fullmatch("(cca|pls)[1-9]?", combine)
    if combine is not None and not (combine in names or numbered):
        raise InputError(invalid("combine", combine, f"one of {names}, or None for one test a modality"))
    if options.concordant and not (combine in OF_P and options.two_sided):
        raise InputError(
            "concordant=True asks for one sign in all maps: it goes with two_sided=True and a combination of p, "
            "such as combine='fisher'."
        )
    if not (isinstance(options.combine_contrasts, bool | np.bool_) or options.combine_contrasts == WITHIN):
        allowed = f"True, False, or {WITHIN!r} for the contrasts of each modality"
        raise InputError(invalid("combine_contrasts", options.combine_contrasts, allowed))
    if options.combine_contrasts and combine not in OF_P:
        allowed = f"False without a combination of p: combine= one of {list(OF_P)}"
        raise InputError(invalid("combine_contrasts", options.combine_contrasts, allowed))
    if options.combine_contrasts and options.fwe_across_contrasts:
        raise InputError(
            f"{term('combine_contrasts')} makes one test of all contrasts, and {term('fwe_across_contrasts=True')} "
            "corrects over several: leave one of them out."
        )
    if options.modality_contrast is not None and (combine is None or combine in OF_P):
        allowed = "None without a statistic of several variables: combine= 'hotelling', 'wilks' or another of them"
        fix = "Of one difference of maps make maps, and test t."
        raise InputError(invalid("modality_contrast", options.modality_contrast, allowed, fix))
    if not options.has_parametric_p:
        options._check_rank_order()
    if options.n_perm == 0 and combine in OF_P and not p_holds(combine, 1, 2):
        warn(
            f"Parametric p of combine={combine!r} take what is combined for independent, and are far too small where "
            "it is not. Shuffle: n_perm=1000 or more."
        )
    if combine is None:
        if options.combine_weights is not None:
            fix = "Ask for one with combine='stouffer'."
            raise InputError(invalid("combine_weights", options.combine_weights, "None without a combination", fix))
        return
    others = ("variance_groups", "variance_smoothing_fwhm", "weights", "regressors", "covariance")
    apart = [name for name in others if getattr(options, name) is not None]
    apart += ["missing='element'"] if options.missing == "element" else []
    apart += [f"method={options.method!r}"] if options.method != "freedman-lane" else []
    if apart:
        raise InputError(
            f"combine={combine!r} is of t or F with the method 'freedman-lane': it does not go with "
            f"{' and '.join(map(term, apart))}. Leave one of them out."
        )


def _check_correlation(options: Options) -> None:
    """Refuse what correlations don't go with."""
    if not options.correlation:
        return
    others = ("combine", "variance_groups", "variance_smoothing_fwhm", "weights", "regressors", "covariance")
    apart = [name for name in others if getattr(options, name) is not None]
    apart += ["missing='element'"] if options.missing == "element" else []
    apart += [f"method={options.method!r}"] if options.method != "freedman-lane" else []
    if apart:
        raise InputError(
            f"{term('correlation=True')} is of t or F with the method 'freedman-lane': it does not go with "
            f"{' and '.join(map(term, apart))}. Leave one of them out."
        )


def _plain(value: Any) -> Any:
    """As JSON types."""
    if isinstance(value, Conventions):
        return asdict(value)
    if value is None or isinstance(value, str | tuple | dict):
        return value
    if isinstance(value, Mapping):
        return {str(name): float(one) for name, one in value.items()}
    return np.asarray(value).tolist()


DEFAULT_THRESHOLD = 0.001
"""Cluster-forming p where none is named, in volumes."""


def _orders_alone(combine: Any, conventions: Conventions) -> bool:
    """Whether the scores of a statistic have an order, and no distribution."""
    named = str(combine)[:3]
    return named == "pls" or (named == "cca" and conventions.cca_fisher)


def default_threshold(maps: Any, space: Any, combine: Any, conventions: Conventions) -> float | None:
    """Cluster-forming threshold where none is named: none where maps lie on anything but a volume, or there is no p."""
    if _orders_alone(combine, conventions):
        return None
    several = as_modalities(maps)
    if several is not None:
        is_volume = all(cohort.store.space.is_volume for cohort in several.values())
    else:
        is_volume = maps.store.space.is_volume if isinstance(maps, Cohort) else not is_elements(maps, space)
    return DEFAULT_THRESHOLD if is_volume else None


def as_modalities(maps: Any) -> dict[str, Cohort] | None:
    """Cohorts by modality; None where maps are of one."""
    if not isinstance(maps, Mapping) or not maps or not any(isinstance(one, Cohort) for one in maps.values()):
        return None
    for name, one in maps.items():
        if not isinstance(one, Cohort) or not isinstance(name, str) or name in ("", ".", "..", DATA) or "/" in name:
            allowed = f"a Cohort for each modality, by a name that a folder can have (not {DATA!r})"
            raise InputError(invalid("maps", f"{name!r}: {one!r}", allowed))
    if len(maps) < 2:
        raise InputError(invalid("maps", f"one modality, {next(iter(maps))!r}", "two or more, or the cohort itself"))
    return dict(maps)


def read_conventions(conventions: str | Conventions, overrides: Mapping[str, Any]) -> Conventions:
    """The record of conventions, with what was overridden; an option of the call that is misspelt is asked for.

    Raises
    ------
    InputError
    """
    own = [one.name for one in fields(Conventions) if one.name != "name"]
    known = ["maps", "design_matrix", "contrast", *(one.name for one in fields(Options)), *own]
    for name in overrides:
        if name not in own and (fix := near(name, known)):
            raise InputError(f"Unknown option {name!r}. {fix}")
    return Conventions.parse(conventions, **overrides)


def read_modality_contrast(contrast: Any, modalities: tuple[str, ...]) -> Doubles | None:
    """Weights (n_rows, n_modalities) of the sums of modalities that are tested in their place; None for none.

    Parameters
    ----------
    contrast
        An expression over names, a list of them, weights or rows of these, as of `numbaglm.permutation_test`.

    Raises
    ------
    ContrastError
    """
    if contrast is None:
        return None
    try:
        return Contrast.parse(contrast, Design(np.eye(len(modalities)), modalities)).matrix
    except ContrastError as error:
        raise error.naming("modality_contrast") from None


def names_of_variables(modalities: tuple[str, ...], contrast: Doubles | None) -> tuple[str, ...]:
    """What maps of loadings are called by: modalities, or rows of a contrast of them.

    Names that files can't have, or that BIDS would not tell apart, become numbers.
    """
    if contrast is not None:
        return tuple(f"row{number}" for number in range(1, len(contrast) + 1))
    labels = {"".join(re.findall("[0-9a-zA-Z]", name)).lower() for name in modalities}
    if "" in labels or len(labels) < len(modalities) or not all(is_loading(f"{LOADING}{one}") for one in modalities):
        return tuple(map(str, range(1, len(modalities) + 1)))
    return modalities


def shared_covariates(several: Mapping[str, Cohort], design_matrix: Any) -> pd.DataFrame:
    """Covariates of the first modality, from which a formula makes the one design of all.

    Raises
    ------
    InputError
        Another has other values of one that the formula names.
    """
    (name, first), *others = several.items()
    mine = first.covariates.set_axis(MapLabels.of_table(first.store.subjects).labels)
    if isinstance(design_matrix, str) and "~" in design_matrix:
        for other, cohort in others:
            theirs = cohort.covariates.set_axis(MapLabels.of_table(cohort.store.subjects).labels)
            both = mine.index.intersection(theirs.index)
            for column in mine.columns.intersection(theirs.columns):
                if not re.search(rf"(?<!\w){re.escape(str(column))}(?!\w)", design_matrix):
                    continue
                one, two = (table.loc[both, column].astype(object) for table in (mine, theirs))
                differ = both[(one != two) & ~(one.isna() & two.isna())]
                if len(differ):
                    received = f"{name!r} and {other!r} with other values of {column!r} (of {listed(list(differ), 3)})"
                    fix = "Convert one of them again, or give the design as a DataFrame."
                    raise InputError(invalid("maps", received, "cohorts whose covariates agree, for a formula", fix))
    return first.covariates


def check_space(space: Space, options: Options) -> None:
    """Refuse what maps can't have where they lie.

    Raises
    ------
    InputError
    """
    if options.conventions.structures == "apart":
        space.require_structures()
    if space.is_volume:
        return
    inferred = options.cluster_forming_threshold is not None or options.tfce or options.tfce_uncorrected
    if options.stop is not None and inferred and len(space.domains) > 1:
        raise InputError(
            f"stop={options.stop!r} does not go with clusters or TFCE of several domains ({', '.join(space.domains)}): "
            "their p are ranks of all shufflings. Leave one of them out."
        )
    if options.cluster_forming_threshold is not None or options.tfce or options.tfce_uncorrected:
        space.require_neighbours()
    if options.variance_smoothing_fwhm is not None:
        raise InputError(
            f"{term('variance_smoothing_fwhm')} is for maps of volumes, and these lie on {space.label}: leave it out."
        )


def read_regressors(regressors: Any) -> dict[str, str] | None:
    """Regressors of elements' own: by name, the layer each is, or "column:layer"; a layer alone goes by its name.

    Raises
    ------
    InputError
    """
    if regressors is None:
        return None
    allowed = "a dict from names to layers of the cohort, such as {'gm': 'grey_matter'}, or names of layers"
    if isinstance(regressors, str):
        regressors = [regressors]
    if isinstance(regressors, list | tuple):
        named = regressors
        if not all(isinstance(one, str) for one in named) or len(set(named)) < len(named):
            raise InputError(invalid("regressors", regressors, f"{allowed}, each once"))
        regressors = {one: one for one in named}
    if not isinstance(regressors, Mapping) or not regressors:
        raise InputError(invalid("regressors", regressors, allowed))
    for name, one in regressors.items():
        if not (isinstance(name, str) and name.strip() and isinstance(one, str) and one.strip()):
            received = f"{name!r}: {one if isinstance(one, str) else type(one).__name__!r}"
            raise InputError(invalid("regressors", received, allowed))
    return dict(regressors)


def layers_of(maps: Any, options: Options) -> list[str]:
    """Names of the layers that the maps bring."""
    given = maps.store.layers if isinstance(maps, Cohort) else options.layers
    return [name for name in (given if isinstance(given, Mapping | tuple) else ()) if name != DATA]


def check_layers(maps: Any, options: Options, covariates: pd.DataFrame) -> None:
    """Refuse weights and regressors that the maps bring no layers for, before these are read.

    Weights may be one of the covariates.

    Raises
    ------
    InputError
    """
    there, columns = layers_of(maps, options), [str(one) for one in covariates.columns]
    of_maps = isinstance(options.weights, str) and options.weights not in columns
    if of_maps:
        options._check_maps()
    if of_maps and options.weights not in there:
        allowed = f"one of the covariates ({listed(columns)}), or " if columns else ""
        allowed += f"a layer of the maps: {', '.join(there) or 'they have none'}"
        given_to = "to" if isinstance(maps, Cohort) else "here or to"  # a cohort has its own
        how, where = term('layers={"variance": maps}'), term("Cohort.create(..., layers=...)")
        fix = near(options.weights, [*there, *columns]) or f"Give the variances: {how}, {given_to} {where}."
        raise InputError(invalid("weights", options.weights, allowed, fix))
    for name, source in (options.regressors or {}).items():
        layer = source.rpartition(":")[2]
        if layer not in there:
            received = f"{name}={source}, but the cohort has no layer {layer!r}"
            fix = f"Store such maps with the others: {term('Cohort.create(..., layers=...)')}."
            raise InputError(invalid("regressors", received, f"its layers: {', '.join(there) or 'none'}", fix))


def listed_subjects(
    maps: Any, surfaces: Any = None, areas: Any = None, space: Any = None, nodes: Any = None
) -> tuple[MapLabels, pd.DataFrame]:
    """Labels and covariates, known before any map is read: what can't be used is refused by then.

    Of a table of maps its further columns are covariates.
    """
    if isinstance(maps, Cohort):
        return MapLabels.of_table(maps.store.subjects), maps.covariates
    if is_elements(maps, space):
        labels = images.list_elements(maps, surfaces=surfaces, areas=areas, space=space, nodes=nodes).labels
        return MapLabels(labels, labels_are_known(labels)), further_columns(maps, labels)
    sources, labels, _ = list_maps(maps)
    paths = tuple(str(source.file) for source in sources if source.file is not None and source.volume is None)
    own = paths if len(paths) == len(labels) else ()
    named = MapLabels(labels, labels_are_known(labels), own, were_moved(maps, labels))
    return named, further_columns(maps, labels)


def read_design(design_matrix: Any, maps: MapLabels, covariates: pd.DataFrame | None = None) -> Any:
    """Read a design matrix: a table or an array, the path of a table, or a formula over covariates.

    Returns
    -------
    What was given, its rows in the order of the maps; None stays None.

    Raises
    ------
    DesignError
        Its rows carry labels that are not the maps'.
    """
    if isinstance(design_matrix, str) and not design_matrix.casefold().endswith((".tsv", ".csv", ".xlsx", ".xlsm")):
        if covariates is not None and "~" in design_matrix:
            return design_from_formula(design_matrix, covariates)
        if not Path(design_matrix).exists():
            allowed = "the path of a .tsv or .csv file, or a formula, which begins with '~'"
            raise InputError(invalid("design_matrix", design_matrix, allowed))
    if isinstance(design_matrix, str | os.PathLike):
        design_matrix = read_table(design_matrix, "design_matrix")
    if isinstance(design_matrix, pd.DataFrame):
        try:
            names, rest = split_labels(design_matrix, maps)
            if names is None and not maps.moved:
                require_order(rest, pd.DataFrame() if covariates is None else covariates, "design_matrix")
                return rest
            matched, _ = match_rows(design_matrix, maps, "design_matrix")
        except InputError as error:
            raise DesignError(*error.args) from error
        return matched
    if design_matrix is not None and maps.moved:
        what = "rows without labels, for maps that were sorted by theirs"
        fix = "Give a DataFrame with a column subject_label."
        raise DesignError(invalid("design_matrix", what, f"rows with labels ({listed(maps.labels, 3)})", fix))
    return design_matrix
