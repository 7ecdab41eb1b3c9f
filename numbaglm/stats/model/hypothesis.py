"""What is tested: a design and a contrast turned into what the kernels need.

A *hypothesis* holds a basis to residualise the data with, and the few rows whose products with the shuffled
residuals make the statistic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError, InputError, invalid, term
from numbaglm.kernels import glm
from numbaglm.stats.families.family import Family, Refitted, Rows, Shuffled
from numbaglm.stats.families.t_f import t_or_f
from numbaglm.stats.methods import Method, find_method
from numbaglm.stats.model.design import Contrast, Design, orthonormal, partition, shared_nuisance
from numbaglm.stats.model.regression import unit_residuals
from numbaglm.stats.scales import Scale
from numbaglm.stats.variance.covariance import Sandwich

if TYPE_CHECKING:
    from numbaglm.stats.families.welch import VarianceGroups

_MOST_NAMED = 5  # in a message


@dataclass(frozen=True, eq=False)
class Observed:
    """What the unshuffled data say of a tile of voxels.

    Attributes
    ----------
    E
        (n_rows_of_E, n_voxels) what is shuffled, at a length at which its products are scores.
    score, statistic
        (n_voxels,) of the kernels, and t, F, v or G.
    effect
        (n_interest, n_voxels) contrast of the parameter estimates.
    degenerate
        (n_voxels,) whether the nuisance explains all of the data.
    length
        (n_voxels,) of the residuals on the nuisance; 0 where degenerate.
    """

    E: Doubles
    score: Doubles
    statistic: Doubles
    effect: Doubles
    degenerate: NDArray[np.bool_]
    length: Doubles


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One contrast of one design, ready to be permuted.

    Attributes
    ----------
    interest
        (n_interest, n_subjects) orthonormal rows that span what is tested.
    nuisance
        (n_columns, n_subjects) orthonormal rows that span the nuisance.
    residualiser
        (n_columns, n_subjects) orthonormal rows; what is shuffled are the residuals on them.
    rotation
        (n - rank Z, n_subjects) or None: turns residuals into what is shuffled.
    basis
        (n_rows, n_shuffled) rows that are shuffled; those of interest come first.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the parameter estimates.
    family
        The statistic, in the form that all have.
    clusters
        (n_subjects,) numbers of the clusters of a sandwich variance, or of a mixed model; None where errors are
        independent.
    """

    design: Design
    contrast: Contrast
    method: Method
    interest: Doubles
    nuisance: Doubles
    residualiser: Doubles
    rotation: Doubles | None
    basis: Doubles
    effect: Doubles
    family: Family
    clusters: NDArray[np.intp] | None = None

    @property
    def scale(self) -> Scale:
        """What the scores mean."""
        return self.family.scale

    @property
    def is_t(self) -> bool:
        """Whether the contrast has one row, so that its statistic has a sign."""
        return self.contrast.is_t

    @property
    def n_interest(self) -> int:
        """Rows of interest."""
        return int(self.interest.shape[0])

    @property
    def dof(self) -> float:
        """Degrees of freedom of the statistic."""
        return self.design.dof if self.family.dof is None else self.family.dof

    @property
    def statistic_name(self) -> str:
        """Name of the statistic: "t" or "f"; with variance groups "v" or "g"."""
        return self.family.name

    @classmethod
    def build(
        cls,
        design: Design,
        contrast: Contrast,
        errors: str,
        orbits: NDArray[np.intp],
        method: str = "freedman-lane",
        variance_groups: ArrayLike | None = None,
        v_dof_factor: float = 1.0,
        sandwich: Sandwich | None = None,
        visits: tuple[ArrayLike | None, ArrayLike | None] = (None, None),
        weights: Doubles | None = None,
        clusters: NDArray[np.intp] | None = None,
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
        variance_groups, v_dof_factor
            (n_subjects,) labels, or None; see `VarianceGroups`.
        sandwich, visits, weights, clusters
            Which sandwich variance, or None for that of independent errors; labels (n_subjects,) of visits and of
            groups of clusters, which a modified one takes; weights (n_subjects,) of least squares, for a classic one;
            and (n_subjects,) the number of the cluster that each subject flips with.

        Raises
        ------
        InputError, DesignError
        """
        record = find_method(method)
        if design.own:
            if variance_groups is not None:
                raise InputError(_no_groups())
            return cls._of_own_regressors(design, contrast, errors, orbits, record)
        root = None if weights is None else np.sqrt(weights / weights.mean())
        model = design if root is None else replace(design, matrix=design.matrix * root[:, None])
        X, Z = partition(model, contrast)
        X = X / np.linalg.norm(X, axis=0)  # whatever the units of the columns
        interest = X if contrast.is_t else orthonormal(X)
        rotation = complement(Z).T if record.data == "rotated" else None
        if record.data == "rotated":
            fixed, moved = Z, Z[:, :0]
        else:
            fixed, moved = _split_invariant(Z, orbits) if errors == "ee" else (Z[:, :0], Z)
        rows = [interest, moved] if record.nuisance_rows else [interest]
        residualiser = {
            "nuisance residuals": Z,
            "full residuals": np.hstack([Z, interest]),
            "raw": fixed,
            "rotated": Z,
        }[record.data]
        basis = np.ascontiguousarray(np.hstack(rows).T if rotation is None else (rotation @ interest).T)
        shuffled: Rows = Refitted(basis, np.ascontiguousarray(Z.T)) if record.refit else Shuffled(basis)
        tested = np.ascontiguousarray(interest.T)
        family = t_or_f(tested, contrast.is_t, shuffled, design.dof)
        if variance_groups is not None:
            from numbaglm.stats.families.welch import VarianceGroups, v_or_g

            number = _group_numbers(variance_groups, design, record)
            if number.any():
                full = np.hstack([interest, Z]).T
                groups = VarianceGroups.build(number, full, interest.shape[1], v_dof_factor)
                _require_residuals(groups)
                family = v_or_g(groups, fixed.T)
        effect = np.ascontiguousarray(contrast.matrix @ model.pseudo_inverse)
        if sandwich is not None:
            assert clusters is not None
            family = _sandwiched(clusters, visits, interest, Z, effect, sandwich, root)
        return cls(
            design=design,
            contrast=contrast,
            method=record,
            interest=tested,
            nuisance=np.ascontiguousarray(Z.T),
            residualiser=np.ascontiguousarray(residualiser.T),
            rotation=None if rotation is None else np.ascontiguousarray(rotation),
            basis=basis,
            effect=effect,
            family=family,
            clusters=None if sandwich is None else clusters,
        )

    @classmethod
    def _of_own_regressors(
        cls, design: Design, contrast: Contrast, errors: str, orbits: NDArray[np.intp], method: Method
    ) -> Hypothesis:
        """Build a test in which each element has regressors of its own; what is kept is of the columns all share."""
        from numbaglm.stats.families.elementwise import elementwise

        Z = shared_nuisance(design, contrast)
        still, moved = _split_invariant(Z, orbits) if errors == "ee" else (Z[:, :0], Z)
        M = orthonormal(design.matrix / design.lengths)
        left = np.linalg.svd(M.T @ Z)[0][:, Z.shape[1] :] if Z.shape[1] else np.eye(M.shape[1])
        others = np.ascontiguousarray(np.hstack([moved, M @ left]).T)
        family = elementwise(design, contrast, np.ascontiguousarray(still.T), others, method, errors)
        p = len(design.columns)
        nothing = np.zeros((len(contrast.matrix), design.n_subjects))
        return cls(
            design=design,
            contrast=contrast,
            method=method,
            interest=nothing,
            nuisance=np.ascontiguousarray(Z.T),
            residualiser=np.ascontiguousarray(Z.T),
            rotation=None,
            basis=np.ascontiguousarray((M @ left).T),
            effect=contrast.matrix[:, :p] @ design.pseudo_inverse if p else nothing,
            family=family,
        )

    def observe(self, y: NDArray[np.float32]) -> Observed:
        """Residualise a tile (n_subjects, n_voxels) of data, and score it as it is."""
        E, length, degenerate = unit_residuals(y, self.nuisance)
        assert self.family.observe is not None
        score, statistic = (np.where(degenerate, 0.0, one) for one in self.family.observe(E))
        return Observed(
            E=self._to_shuffle(y, E, degenerate),
            score=score,
            statistic=statistic,
            effect=self.effect @ y.astype(np.float64),
            degenerate=degenerate,
            length=length,
        )

    def _to_shuffle(self, y: NDArray[np.float32], E: Doubles, degenerate: NDArray[np.bool_]) -> Doubles:
        if self.method.data == "nuisance residuals":
            return E
        if self.method.data == "rotated":
            assert self.rotation is not None
            return self.rotation @ E
        E = np.empty(y.shape)
        glm.residuals(y, self.residualiser, E)
        length = np.sqrt(np.einsum("ij,ij->j", E, E))
        return E * np.where(degenerate | (length == 0), 0.0, 1.0 / np.where(length > 0, length, 1.0))


def _sandwiched(
    clusters: NDArray[np.intp],
    visits: tuple[ArrayLike | None, ArrayLike | None],
    interest: Doubles,
    nuisance: Doubles,
    effect: Doubles,
    asked: Sandwich,
    root: Doubles | None,
) -> Family:
    """Build t or F with the sandwich variance that is asked for."""
    if asked.estimator == "classic":
        from numbaglm.stats.families.sandwich import t_or_f as sandwiched
        from numbaglm.stats.variance.sandwich import Clustered

        return sandwiched(Clustered.build(clusters, interest, nuisance, asked.adjustment), effect, asked, root)
    from numbaglm.stats.families.clustered.modified import modified
    from numbaglm.stats.variance.visits import Visited, Visits

    of_maps, groups = visits
    assert of_maps is not None
    labelled = Visits.parse(of_maps, groups, clusters)
    return modified(Visited.build(clusters, labelled, interest, nuisance, asked.adjustment), effect, asked)


def complement(Z: Doubles) -> Doubles:
    """Orthonormal basis (n, n - k) of what orthonormal columns Z (n, k) leave."""
    full = np.linalg.qr(Z, mode="complete")[0] if Z.shape[1] else np.eye(Z.shape[0])
    return np.ascontiguousarray(full[:, Z.shape[1] :])


def _split_invariant(Z: Doubles, orbits: NDArray[np.intp]) -> tuple[Doubles, Doubles]:
    """Split span(Z) into what is constant on orbits, and an orthonormal basis of the rest."""
    if Z.shape[1] == 0:
        return Z, Z
    if orbits.shape != (Z.shape[0],):
        raise DesignError(invalid("orbits", orbits.shape, f"({Z.shape[0]},)"))
    number, size = np.unique(orbits, return_inverse=True, return_counts=True)[1:]
    # Products with the orthonormal indicators of the orbits, which need not be written out.
    sums = np.stack([np.bincount(number, weights=column, minlength=size.size) for column in Z.T], axis=1)
    # Of the triangle alone: the full left basis would be (n_orbits, n_orbits).
    _, cosines, rotation = np.linalg.svd(np.linalg.qr(sums / np.sqrt(size)[:, None], mode="r"))
    n_invariant = int(np.sum(cosines > 1 - 1e-10))
    rotated = Z @ rotation.T
    return np.ascontiguousarray(rotated[:, :n_invariant]), np.ascontiguousarray(rotated[:, n_invariant:])


def _no_groups() -> str:
    what = "variance_groups with regressors of each element's own"
    return invalid("variance_groups", what, "None with them", "Leave one of both out: v and G are not made of them.")


def _group_numbers(labels: ArrayLike, design: Design, method: Method) -> NDArray[np.intp]:
    """Number variance groups from 0, (n_subjects,)."""
    values = np.asarray(labels)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values  # of a table
    if values.shape != (design.n_subjects,):
        raise DesignError(
            invalid("variance_groups", values.shape, f"one label for each of the {design.n_subjects} subjects")
        )
    missing = np.flatnonzero(pd.isna(np.asarray(labels, dtype=object))).tolist()  # NumPy makes text of NaN beside text
    if missing:
        raise DesignError(
            f"Variance groups have no label in row(s) {missing[:10]} (counted from 0). Give every subject one."
        )
    if values.dtype == object:
        values = values.astype(str)
    names, number, sizes = np.unique(values, return_inverse=True, return_counts=True)
    alone = [f"{names[number[row]]} (row {row}, counted from 0)" for row in np.flatnonzero(sizes[number] < 2)]
    if alone:
        more = f" and {len(alone) - _MOST_NAMED} more" if len(alone) > _MOST_NAMED else ""
        raise DesignError(
            f"Variance group(s) of one subject: {', '.join(alone[:_MOST_NAMED])}{more}. One value has no variance: "
            "merge them into others."
        )
    if names.size > 1 and method.name != "freedman-lane":
        raise InputError(invalid("method", method.name, f"'freedman-lane' with {term('variance_groups')}"))
    return number


def _require_residuals(groups: VarianceGroups) -> None:
    saturated = np.flatnonzero(groups.residual_dof < 1e-8)
    if saturated.size:
        subjects = [np.flatnonzero(groups.groups[g])[:_MOST_NAMED].tolist() for g in saturated[:_MOST_NAMED]]
        raise DesignError(
            f"The design explains all of {saturated.size} variance group(s), that of subjects "
            f"{', '.join(map(str, subjects))} (counted from 0) among them: no residual is "
            "left to estimate a variance from. Merge groups, or leave columns out."
        )
