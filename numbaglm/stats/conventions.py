"""Choices in which packages differ, as records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal

from numbaglm.errors import InputError, invalid

TFCE_EXPONENTS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"volume": (0.5, 2.0), "surface": (1.0, 2.0), "network": (0.4, 3.0)}
)
"""E and H of TFCE by domain, where none are named: those of volumes for every other.

Smith and Nichols (2009), NeuroImage 44:83-98, for volumes, and for surfaces what they derive for two dimensions;
networks: Vinokur et al. (2015), OHBM, as MRtrix3 has it, and Baggio et al. (2018), Human Brain Mapping 39:2289-2302.
"""


@dataclass(frozen=True)
class Conventions:
    """Choices in which packages differ.

    Attributes
    ----------
    statistic
        Scale on which clusters and TFCE see the map: "t" (or F), or "z" of the same p.
    cluster_connectivity, tfce_connectivity
        6, 18 or 26 neighbours.
    mass
        "sum" of the statistic over the cluster, "excess" over the threshold, or "area": the sum of the statistic times
        the area of each vertex in mm2 (or the measure of each element of a graph; 1 where elements are counted).
    merge_signs
        Two-sided: whether the absolute map is clustered and enhanced, so that neighbours of opposite sign merge;
        otherwise each sign is taken apart.
    strict
        Whether a voxel must exceed the cluster-forming threshold, or may equal it.
    clipped_cluster_p
        Whether cluster p count the shuffled maxima alone and are kept within [1 / n_perm, 1 - 1 / n_perm].
    tfce_E, tfce_H
        Exponents of extent and height; None for those of each domain, `TFCE_EXPONENTS`.
    tfce_steps, tfce_times_step
        0 for the exact integral; otherwise in how many steps of the map's own maximum it is summed, and
        whether the sum is multiplied by the step.
    tfce_dh
        0, or a fixed step in the statistic's unit.
    v_dof_factor
        What the degrees of freedom of Aspin-Welch's v are multiplied by; 1 is Welch's.
    fdr
        "bh" (Benjamini and Hochberg, 1995) or "bky" (adaptive; Benjamini, Krieger and Yekutieli, 2006).
    structures
        How voxels of several structures of a CIFTI file form clusters: "merged", so that they go across structures
        that touch, or "apart". All share a null either way.
    over_domains
        How p within domains, such as surfaces and voxels, become one: "min-p", by the null of the least of them; or
        "sidak", 1 - (1 - p)^n_domains, which takes domains as independent.
    combine_doubled
        Whether the p that a two-sided combination of several maps is made of are those of both sides; otherwise they
        are of the larger side alone, which leaves p by shuffling as they are, and z for clusters too large.
    cca_nuisance
        Whether canonical correlations take the nuisance that shuffling moves into account, as all other statistics do.
    cca_fisher
        Whether clusters and TFCE of canonical correlations are of Fisher's transform of these, and not of z; there is
        no parametric p then.
    pls_scores
        Whether partial least squares is tested by the correlation of the first pair of scores, of covariances and
        without the nuisance that shuffling moves; otherwise by the singular value of correlations.
    """

    name: str
    statistic: Literal["t", "z"] = "t"
    cluster_connectivity: int = 26
    tfce_connectivity: int = 6
    mass: Literal["sum", "excess", "area"] = "sum"
    merge_signs: bool = False
    strict: bool = False
    clipped_cluster_p: bool = False
    tfce_E: float | None = None
    tfce_H: float | None = None
    tfce_steps: int = 0
    tfce_times_step: bool = True
    tfce_dh: float = 0.0
    v_dof_factor: float = 1.0
    fdr: Literal["bh", "bky"] = "bh"
    # Fields of 0.1 end here: their order is kept for those who give them by place.
    structures: Literal["merged", "apart"] = "merged"
    over_domains: Literal["min-p", "sidak"] = "min-p"
    combine_doubled: bool = True
    cca_nuisance: bool = True
    cca_fisher: bool = False
    pls_scores: bool = False

    @classmethod
    def parse(cls, conventions: str | Conventions, **overrides: Any) -> Conventions:
        """Look a record up by name, and override single options (those that aren't None).

        Raises
        ------
        InputError
            There is no such record or option, or a value is not allowed.
        """
        if isinstance(conventions, str):
            if conventions not in CONVENTIONS:
                raise InputError(invalid("conventions", conventions, f"one of {sorted(CONVENTIONS)}"))
            conventions = CONVENTIONS[conventions]
        elif not isinstance(conventions, Conventions):
            raise InputError(invalid("conventions", conventions, f"one of {sorted(CONVENTIONS)}, or a record"))
        allowed = [one.name for one in fields(cls) if one.name != "name"]
        unknown = sorted(set(overrides) - set(allowed))
        if unknown:
            raise InputError(
                f"Unknown option(s) {unknown}. Beside its own parameters a call takes those of conventions: {allowed}."
            )
        record = replace(conventions, **{key: value for key, value in overrides.items() if value is not None})
        record._check()
        return record

    def exponents(self, domain: str) -> tuple[float, float]:
        """Exponents of extent and height of TFCE in a domain."""
        E, H = TFCE_EXPONENTS.get(domain, TFCE_EXPONENTS["volume"])
        return E if self.tfce_E is None else float(self.tfce_E), H if self.tfce_H is None else float(self.tfce_H)

    def as_used(self, domains: Iterable[str]) -> dict[str, Any]:
        """All options, the exponents as they were used: one of a volume, by domain otherwise."""
        E, H = ({domain: self.exponents(domain)[which] for domain in domains} for which in (0, 1))
        alone = list(E) == ["volume"]
        return asdict(self) | {"tfce_E": E["volume"] if alone else E, "tfce_H": H["volume"] if alone else H}

    def _check(self) -> None:
        for names, allowed, is_allowed in _ALLOWED:
            for name in names:
                value = getattr(self, name)
                if not is_allowed(value):
                    raise InputError(invalid(name, value, allowed))


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number, of Python's or NumPy's."""
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)


def is_probability(value: Any) -> bool:
    """Whether a value is a number between 0 and 1, neither of them."""
    return is_number(value) and 0 < value < 1


_ALLOWED: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (("cluster_connectivity", "tfce_connectivity"), "6, 18 or 26", lambda value: value in (6, 18, 26)),
    (("mass",), "'sum', 'excess' or 'area'", lambda value: value in ("sum", "excess", "area")),
    (("structures",), "'merged' or 'apart'", lambda value: value in ("merged", "apart")),
    (
        ("over_domains",),
        "'min-p' or 'sidak' (SwE's Box-Cox needs the sizes of all clusters of all shufflings, which are not kept)",
        lambda value: value in ("min-p", "sidak"),
    ),
    (("statistic",), "'t' or 'z'", lambda value: value in ("t", "z")),
    (("fdr",), "'bh' or 'bky'", lambda value: value in ("bh", "bky")),
    (
        (
            *("merge_signs", "strict", "clipped_cluster_p", "tfce_times_step", "combine_doubled"),
            *("cca_nuisance", "cca_fisher", "pls_scores"),
        ),
        "True or False",
        lambda value: isinstance(value, bool),
    ),
    # Beyond them doubles overflow.
    (
        ("tfce_E", "tfce_H"),
        "a number from 0 to 20",
        lambda value: value is None or (is_number(value) and 0 <= value <= 20),
    ),
    # Each step takes its time, and so many tell nothing that the exact integral does not.
    (
        ("tfce_dh",),
        "a step of 1e-6 or more, or 0 for none",
        lambda value: is_number(value) and (value == 0 or value >= 1e-6),
    ),
    (
        ("tfce_steps",),
        "a whole number of steps up to a million, or 0 for the exact integral",
        lambda value: not isinstance(value, bool) and isinstance(value, Integral) and 0 <= int(value) <= 10**6,
    ),
    (("v_dof_factor",), "a number above 0", lambda value: is_number(value) and value > 0),
)
"""Options, what they may be in words, and whether a value is that."""

CONVENTIONS = {
    record.name: record
    for record in (
        Conventions("numbaglm"),
        Conventions(
            "nilearn",
            cluster_connectivity=6,
            mass="excess",
            strict=True,
            clipped_cluster_p=True,
            tfce_steps=100,
            tfce_times_step=False,
        ),
        Conventions(
            "palm",
            statistic="z",
            merge_signs=True,
            over_domains="sidak",
            tfce_steps=100,
            v_dof_factor=1 / 3,
            fdr="bky",
            combine_doubled=False,
            cca_nuisance=False,
            cca_fisher=True,
            pls_scores=True,
        ),
        Conventions("randomise", tfce_steps=100),
        # SPM's clusters (spm_clusters, spm_getSPM); it has no TFCE, and the toolbox of that name takes 26 neighbours.
        Conventions("spm", cluster_connectivity=18, tfce_connectivity=26, strict=True),
    )
}
