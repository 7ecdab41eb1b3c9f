"""What is tested: a design and a contrast turned into what the kernels need.

A *hypothesis* holds a basis to residualise the data with, and the few rows whose products with the shuffled
residuals make the statistic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import DesignError, InputError, invalid
from numbaglm.kernels import glm, shuffle
from numbaglm.stats.design import Contrast, Design, orthonormal, partition, tested_regressors
from numbaglm.stats.methods import METHODS, Method
from numbaglm.stats.scales import Correlation, Scale, Share, Standard
from numbaglm.stats.shuffling.shufflings import Shufflings
from numbaglm.stats.welch import VarianceGroups

Floats = NDArray[np.float64]

TIE_TOLERANCE = {"float32": 4e-6, "float64": 1e-11}
"""How far below the observed score a shuffled one still counts as equal to it, by the kernels' precision.

Scores are correlations between -1 and 1, or shares of variance, whose roots are: the tolerance lies above the error of
the arithmetic and far below the resolution of any data. Sets of shufflings are full of statistics that are equal
on paper, and a p-value must not depend on which way rounding tips them.
"""

_FEW = 500  # shufflings, of which 24 (four groups relabelled) may be the same

SMALLEST_VARIANCE = glm.LEAST
"""Of a voxel's mean square: residuals below it are float32's rounding, and nothing is left to test."""


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

    E: Floats
    score: Floats
    statistic: Floats
    effect: Floats
    degenerate: NDArray[np.bool_]
    length: Floats


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
    scale
        What the scores mean.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the parameter estimates.
    groups
        Variance groups, where there are any.
    """

    design: Design
    contrast: Contrast
    method: Method
    interest: Floats
    nuisance: Floats
    residualiser: Floats
    rotation: Floats | None
    basis: Floats
    scale: Scale
    effect: Floats
    groups: VarianceGroups | None = None

    @property
    def is_t(self) -> bool:
        """Whether the contrast has one row, so that its statistic has a sign."""
        return self.contrast.is_t

    @property
    def n_interest(self) -> int:
        """Rows of interest."""
        return int(self.interest.shape[0])

    def least_equal(self, height: Floats, precision: str) -> Floats:
        """The least score that counts as equal to an observed one (absolute if two-sided), see `TIE_TOLERANCE`."""
        tolerance = TIE_TOLERANCE[precision]
        if isinstance(self.scale, Share):  # a square of correlations: 4e-6 of itself is much where subjects are many
            return np.asarray(np.maximum(np.sqrt(height) - tolerance, 0.0) ** 2)
        return height - tolerance

    def relative_error(self, score: Floats, precision: str) -> Floats:
        """How far rounding takes what is made of statistics, relative to it: far where the model nearly fits."""
        share = {Correlation: score**2, Share: score}.get(type(self.scale))
        if share is None:
            return np.zeros(np.shape(score))
        left = np.maximum(1.0 - share, SMALLEST_VARIANCE)
        return np.asarray(np.minimum(10 * np.finfo(precision).eps / left, 0.01))

    @property
    def statistic_name(self) -> str:
        """Name of the statistic: "t" or "f"; with variance groups "v" or "g"."""
        return ("t" if self.groups is None else "v") if self.is_t else ("f" if self.groups is None else "g")

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

        Raises
        ------
        InputError, DesignError
        """
        record = find_method(method)
        X, Z = partition(design, contrast)
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
        basis = np.hstack(rows).T if rotation is None else (rotation @ interest).T
        groups = None
        if variance_groups is not None:
            number = _group_numbers(variance_groups, design, record)
            if number.any():
                full = np.hstack([interest, Z]).T
                groups = VarianceGroups.build(number, full, interest.shape[1], v_dof_factor)
                _require_residuals(groups)
        return cls(
            design=design,
            contrast=contrast,
            method=record,
            interest=np.ascontiguousarray(interest.T),
            nuisance=np.ascontiguousarray(Z.T),
            residualiser=np.ascontiguousarray(residualiser.T),
            rotation=None if rotation is None else np.ascontiguousarray(rotation),
            basis=np.ascontiguousarray(basis),
            scale=_scale(design, interest.shape[1], contrast.is_t, groups),
            effect=np.ascontiguousarray(contrast.matrix @ design.pseudo_inverse),
            groups=groups,
        )

    def observe(self, y: NDArray[np.float32]) -> Observed:
        """Residualise a tile (n_subjects, n_voxels) of data, and score it as it is."""
        E = np.empty(y.shape)
        glm.residuals(y, self.nuisance, E)
        length = np.sqrt(np.einsum("ij,ij->j", E, E))
        total = np.sqrt(np.einsum("ij,ij->j", y, y, dtype=np.float64))
        degenerate = length <= np.sqrt(SMALLEST_VARIANCE) * total
        scale = np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))
        E *= scale
        products = self.interest @ E
        score = products[0] if self.is_t else (products**2).sum(axis=0)
        statistic = self.scale.to_statistic(score)
        if self.groups is not None:
            identity = np.arange(y.shape[0], dtype=np.int32)[None], np.ones((1, y.shape[0]), np.int8)
            (statistic,), (score,) = self.groups.statistics(E, *identity)
            statistic, score = np.where(degenerate, 0.0, statistic), np.where(degenerate, 0.0, score)
        return Observed(
            E=self._to_shuffle(y, E, scale, degenerate),
            score=score,
            statistic=statistic,
            effect=self.effect @ y.astype(np.float64),
            degenerate=degenerate,
            length=np.where(degenerate, 0.0, length),
        )

    def _to_shuffle(self, y: NDArray[np.float32], E: Floats, scale: Floats, degenerate: NDArray[np.bool_]) -> Floats:
        if self.method.data == "nuisance residuals":
            return E
        if self.method.data == "rotated":
            assert self.rotation is not None
            return self.rotation @ E
        E = np.empty(y.shape)
        glm.residuals(y, self.residualiser, E)
        length = np.sqrt(np.einsum("ij,ij->j", E, E))
        return E * np.where(degenerate | (length == 0), 0.0, 1.0 / np.where(length > 0, length, 1.0))

    def weights(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[np.floating]) -> None:
        """Fill ``out`` (n_rows * height, n_shuffled) with the rows of a batch of shufflings."""
        if not self.method.refit:
            shuffle.shuffle_rows(self.basis, index, sign, out)
            return
        n_batch, n = index.shape
        rows = np.empty((self.n_interest * n_batch, n))
        shuffle.shuffle_rows(self.basis, index, sign, rows)
        rows -= (rows @ self.nuisance.T) @ self.nuisance
        stacked = rows.reshape(self.n_interest, n_batch, n).transpose(1, 0, 2)
        # The nearest orthonormal rows, of one sign with them. What the nuisance explains has no direction of its own.
        turned, sizes, directions = np.linalg.svd(stacked, full_matrices=False)
        refitted = turned @ (directions * (sizes > 1e-10)[:, :, None])
        height = out.shape[0] // self.n_interest
        for k in range(self.n_interest):
            out[k * height : k * height + n_batch] = refitted[:, k]


def find_method(method: str) -> Method:
    """Look a regression method up by name, however it is hyphenated; "Dekker/Smith" and "smith" are dekker's too."""
    letters = {_letters(name): record for name, record in METHODS.items()}
    record = letters.get(_letters(str(method)).replace("dekkersmith", "dekker").replace("smith", "dekker"))
    if record is None:
        raise InputError(invalid("method", method, f"one of {sorted(METHODS)}"))
    return record


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalpha())


def shuffled_design(design: Design, contrast: Contrast, method: Method) -> Floats:
    """Rows (n_shuffled, k) that tell shufflings apart: the tested regressors, rotated where the data are."""
    if method.data != "rotated":
        return tested_regressors(design, contrast)
    X, Z = partition(design, contrast)
    return complement(Z).T @ X


def default_errors(design: Design, contrast: Contrast) -> str:
    """The rule for errors: "ise" where the contrast tests a mean, else "ee".

    It does where the design holds a constant that the nuisance does not: permutations leave a mean as it is, so that
    they could say nothing of it.
    """
    _, Z = partition(design, contrast)
    one = np.full(design.n_subjects, 1.0 / np.sqrt(design.n_subjects))
    M = orthonormal(design.matrix / design.lengths)
    held, nuisance = np.linalg.norm(M.T @ one), np.linalg.norm(Z.T @ one)
    return "ise" if held > 1 - 1e-10 and nuisance < 1 - 1e-10 else "ee"


def smallest_p(hypothesis: Hypothesis, shufflings: Shufflings, two_sided: bool) -> float:
    """The smallest p that a test can reach.

    Where few shufflings are enumerated, some give the observed statistic again, whatever the data are: all signs
    flipped, or two groups of one size exchanged, if both signs count; labels of groups exchanged under F.
    """
    n_shufflings = shufflings.n_shufflings
    if not shufflings.exhaustive or n_shufflings > _FEW or hypothesis.method.name != "freedman-lane":
        return 1 / n_shufflings
    y = np.random.default_rng(0).normal(size=(hypothesis.design.n_subjects, 2))
    y -= hypothesis.nuisance.T @ (hypothesis.nuisance @ y)
    index, sign = shufflings.draw(0, n_shufflings)
    shuffled = (sign[:, :, None] * y[index]).transpose(1, 0, 2).reshape(len(y), -1)
    score = hypothesis.observe(shuffled.astype(np.float32)).score.reshape(n_shufflings, 2)
    score = np.abs(score) if two_sided else score
    again = (np.abs(score - score[0]) < 1e-5).all(axis=1)  # float32's rounding, which chance doesn't meet twice
    return float(again.sum() / n_shufflings)


def complement(Z: Floats) -> Floats:
    """Orthonormal basis (n, n - k) of what orthonormal columns Z (n, k) leave."""
    full = np.linalg.qr(Z, mode="complete")[0] if Z.shape[1] else np.eye(Z.shape[0])
    return np.ascontiguousarray(full[:, Z.shape[1] :])


def _scale(design: Design, n_interest: int, is_t: bool, groups: VarianceGroups | None) -> Scale:
    if groups is not None:
        return Standard()
    return Correlation(design.dof) if is_t else Share(design.dof, n_interest)


def _split_invariant(Z: Floats, orbits: NDArray[np.intp]) -> tuple[Floats, Floats]:
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
        raise DesignError(
            f"Variance group(s) of one subject: {', '.join(alone)}. One value has no variance: merge them into others."
        )
    if names.size > 1 and method.name != "freedman-lane":
        raise InputError(invalid("method", method.name, "'freedman-lane' with variance_groups"))
    return number


def _require_residuals(groups: VarianceGroups) -> None:
    saturated = np.flatnonzero(groups.residual_dof < 1e-8)
    if saturated.size:
        subjects = [np.flatnonzero(groups.groups[g]).tolist() for g in saturated]
        raise DesignError(
            f"The design explains all of the variance group(s) of subjects {subjects} (counted from 0): no residual is "
            "left to estimate a variance from. Merge groups, or leave columns out."
        )
