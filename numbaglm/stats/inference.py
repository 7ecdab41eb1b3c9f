"""What is tested and how: statistics, regression methods and conventions as records.

A *hypothesis* turns a design and a contrast into what the kernels need: a basis to residualise the data with,
and the few rows whose products with the shuffled residuals make the statistic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import DesignError, InputError, invalid
from numbaglm.kernels import shuffle
from numbaglm.stats import pvalues
from numbaglm.stats.design import Contrast, Design, orthonormal, partition

Floats = NDArray[np.float64]

TIE_TOLERANCE = {"float32": 4e-6, "float64": 1e-11}
"""How far below the observed score a shuffled one still counts as equal to it, by the kernels' precision.

Scores are correlations, or shares of variance, between -1 and 1: the tolerance lies above the error of the
arithmetic and far below the resolution of any data. Sets of shufflings are full of statistics that are equal
on paper, and a p-value must not depend on which way rounding tips them.
"""


@dataclass(frozen=True)
class Method:
    """A regression method for permutation with nuisance, as a record.

    Attributes
    ----------
    data
        What is shuffled: residuals on the nuisance, on the whole design, or the data as they are.
    rows
        Whose products make the statistic: those of interest alone, or the nuisance rows beside them.
    refit
        Whether the shuffled rows are residualised on the nuisance again (the model is shuffled, not the data).
    reference
        Source.
    """

    name: str
    data: Literal["nuisance residuals", "full residuals", "raw"]
    rows: Literal["interest", "interest and nuisance"]
    refit: bool
    reference: str


METHODS = {
    method.name: method
    for method in (
        Method(
            "freedman-lane",
            "nuisance residuals",
            "interest and nuisance",
            refit=False,
            reference="Freedman and Lane (1983), J. Bus. Econ. Stat. 1(4)",
        ),
    )
}


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
        "sum" of the statistic over the cluster, or "excess" over the threshold.
    strict
        Whether a voxel must exceed the cluster-forming threshold, or may equal it.
    clipped_cluster_p
        Whether cluster p count the shuffled maxima alone and are kept within [1 / n_perm, 1 - 1 / n_perm].
    tfce_steps, tfce_times_step
        None for the exact integral; otherwise in how many steps of the map's own maximum it is summed, and
        whether the sum is multiplied by the step.
    """

    name: str
    statistic: Literal["t", "z"] = "t"
    cluster_connectivity: int = 26
    tfce_connectivity: int = 6
    mass: Literal["sum", "excess"] = "sum"
    strict: bool = False
    clipped_cluster_p: bool = False
    tfce_steps: int | None = None
    tfce_times_step: bool = True

    @classmethod
    def parse(cls, conventions: str | Conventions, **overrides: Any) -> Conventions:
        """Look a record up by name and override single options (those that aren't None)."""
        if isinstance(conventions, str):
            if conventions not in CONVENTIONS:
                raise InputError(invalid("conventions", conventions, f"one of {sorted(CONVENTIONS)}"))
            conventions = CONVENTIONS[conventions]
        return replace(conventions, **{key: value for key, value in overrides.items() if value is not None})


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
    )
}


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One contrast of one design, ready to be permuted.

    Attributes
    ----------
    residualiser
        (n_columns, n_subjects) orthonormal rows; the data are residualised on them.
    basis
        (n_rows, n_subjects) orthonormal rows, the first ``n_interest`` spanning the effect of interest.
    dof
        Residual degrees of freedom of the statistic.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the parameter estimates.
    """

    design: Design
    contrast: Contrast
    method: Method
    residualiser: Floats
    basis: Floats
    n_interest: int
    dof: int
    effect: Floats

    @property
    def is_t(self) -> bool:
        """Whether the statistic is t (else F)."""
        return self.contrast.is_t

    @property
    def statistic_name(self) -> str:
        """Name of the statistic: "t" or "f"."""
        return "t" if self.is_t else "f"

    @property
    def n_f_rows(self) -> int | None:
        """Numerator degrees of freedom of F; None for t."""
        return None if self.is_t else self.n_interest

    @classmethod
    def build(
        cls,
        design: Design,
        contrast: Contrast,
        errors: str,
        orbits: NDArray[np.intp],
        method: str = "freedman-lane",
    ) -> Hypothesis:
        """Partition a design, and drop what shuffling leaves as it is.

        Parameters
        ----------
        errors
            "ee", "ise" or "both".
        orbits
            (n_subjects,) labels: subjects that some permutation exchanges share one. A nuisance direction that is
            constant on them is left invariant by permutations; residuals have no product with it.
        method
            A name in `METHODS`.
        """
        if method not in METHODS:
            raise InputError(invalid("method", method, f"one of {sorted(METHODS)}"))
        X, Z = partition(design, contrast)
        interest = X / np.linalg.norm(X) if contrast.is_t else orthonormal(X)
        moved = Z if errors != "ee" else _not_invariant(Z, orbits)
        return cls(
            design=design,
            contrast=contrast,
            method=METHODS[method],
            residualiser=np.ascontiguousarray(Z.T),
            basis=np.ascontiguousarray(np.hstack([interest, moved]).T),
            n_interest=interest.shape[1],
            dof=design.dof,
            effect=np.ascontiguousarray(contrast.matrix @ design.pseudo_inverse),
        )

    def weights(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[np.floating]) -> None:
        """Fill ``out`` (n_rows * height, n_subjects) with the rows of a batch of shufflings."""
        shuffle.shuffle_rows(self.basis, index, sign, out)

    def score_to_statistic(self, score: NDArray[np.floating]) -> Floats:
        """Turn scores (correlation, or share of variance) into t or F."""
        score = np.asarray(score, dtype=np.float64)
        if self.is_t:
            return np.asarray(score * np.sqrt(self.dof / _one_minus(score**2)), dtype=np.float64)
        return np.asarray(score / _one_minus(score) * self.dof / self.n_interest, dtype=np.float64)

    def statistic_to_score(self, statistic: float) -> float:
        """Score of a value of t or F."""
        if self.is_t:
            return float(statistic / np.sqrt(statistic**2 + self.dof))
        scaled = statistic * self.n_interest
        return float(scaled / (scaled + self.dof))

    def to_z(self, statistic: Floats) -> Floats:
        """z of the same p as t or F."""
        return pvalues.to_z(statistic, self.dof, self.n_f_rows)

    def parametric_p(self, statistic: Floats) -> Floats:
        """One-sided parametric p of t, or of F."""
        return pvalues.parametric(statistic, self.dof, self.n_f_rows)


def _one_minus(share: Floats) -> Floats:
    """1 - share, kept above rounding: a voxel that the model fits exactly gets a large statistic, not infinity."""
    return np.maximum(1.0 - share, np.finfo(np.float64).eps)


def _not_invariant(Z: Floats, orbits: NDArray[np.intp]) -> Floats:
    """Orthonormal basis of the part of span(Z) orthogonal to its vectors that are constant on orbits."""
    if Z.shape[1] == 0:
        return Z
    if orbits.shape != (Z.shape[0],):
        raise DesignError(invalid("orbits", orbits.shape, f"({Z.shape[0]},)"))
    constant = orthonormal((orbits[:, None] == np.unique(orbits)).astype(np.float64))
    _, cosines, rotation = np.linalg.svd(constant.T @ Z)
    n_invariant = int(np.sum(cosines > 1 - 1e-10))
    return np.ascontiguousarray(Z @ rotation[n_invariant:].T)
