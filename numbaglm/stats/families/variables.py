"""Several variables an element: residuals of each, as what several families begin with, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels import glm
from numbaglm.stats.families.family import Given
from numbaglm.stats.methods import LOADING
from numbaglm.stats.scales import SMALLEST_VARIANCE, TIE_TOLERANCE

FIXED = "have a variable that varies with the nuisance alone"
"""A reason: nothing is left of a variable to test."""


def named_loadings(names: tuple[str, ...] | None, n_variables: int) -> tuple[str, ...]:
    """Names of the maps of the loadings of variables: by theirs, or by their numbers."""
    return tuple(f"{LOADING}{name}" for name in names or range(1, n_variables + 1))


def variables_of(given: Given, names: tuple[str, ...], mix: Doubles | None = None) -> list[NDArray[np.floating]]:
    """Variables (n_subjects, n_voxels): the data and its layers, or sums of them.

    Parameters
    ----------
    given
        The first is the data, the others its layers.
    names
        Of the others.
    mix
        (n_variables, 1 + n_names) weights of what sums are made of; None for the maps as they are.
    """
    maps: list[NDArray[np.floating]] = [given.data, *(given.layers[name] for name in names)]
    if mix is None:
        return maps
    found: list[NDArray[np.floating]] = []
    for row in mix:
        total = np.zeros(given.data.shape)
        for weight, one in zip(row, maps, strict=True):
            if weight:
                total += weight * one.astype(np.float64)
        found.append(total)
    return found


def unit_residuals(
    given: Given, names: tuple[str, ...], nuisance: Doubles, mix: Doubles | None = None
) -> tuple[Doubles, Doubles]:
    """Residuals of each variable on the nuisance, of unit length or 0, and their lengths.

    Parameters
    ----------
    given, names, mix
        See `variables_of`.
    nuisance
        (n_columns, n_subjects) orthonormal rows.

    Returns
    -------
    (n_variables, n_subjects, n_voxels) and (n_variables, n_voxels).
    """
    variables = variables_of(given, names, mix)
    E = np.empty((len(variables), *given.data.shape))
    lengths = np.empty((len(variables), given.data.shape[1]))
    for y, e, length in zip(variables, E, lengths, strict=True):
        glm.residuals(y, nuisance, e)
        glm.to_unit_length(np.ascontiguousarray(y), np.sqrt(SMALLEST_VARIANCE), e, length)
    return E, lengths


def directions(B: Doubles, which: int = 0) -> Doubles:
    """Weights (n, n_variables), of unit length or 0, of the sum of variables that goes with the rows of interest.

    Parameters
    ----------
    B
        (n, n_rows, n_variables) products of the rows of interest with the variables.
    which
        Which of the sums, from 0; one row of interest has one.
    """
    if B.shape[1] == 1:
        weights = B[:, 0]
    elif B.shape[1] == 2 <= B.shape[2]:
        weights = np.einsum("nsk,ns->nk", B, _of_two(np.einsum("nsk,ntk->nst", B, B), which))
    elif B.shape[1] <= B.shape[2]:  # by the smaller product, at a quarter of the cost of singular values
        of_rows = np.linalg.eigh(B @ B.transpose(0, 2, 1))[1][:, :, -1 - which]
        weights = np.einsum("nsk,ns->nk", B, of_rows)
    else:
        sizes, vectors = np.linalg.eigh(B.transpose(0, 2, 1) @ B)
        weights = vectors[:, :, -1 - which] * (sizes[:, -1 - which] > 0)[:, None]
    size = np.sqrt((weights**2).sum(axis=1))[:, None]
    return np.asarray(np.divide(weights, size, out=np.zeros(weights.shape), where=size > 0))


def _of_two(M: Doubles, which: int) -> Doubles:
    """Directions (n, 2) of a root of symmetric matrices of two rows: a tenth of the cost of LAPACK's."""
    angle = 0.5 * np.arctan2(2.0 * M[:, 0, 1], M[:, 0, 0] - M[:, 1, 1])
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return along if which == 0 else along[:, ::-1] * [-1.0, 1.0]


def loadings(E: Doubles, variate: Doubles, signed: bool) -> Doubles:
    """Correlations (n_variables, n_voxels) of each variable with a sum of them: its structure coefficients.

    Parameters
    ----------
    E
        (n_variables, n_subjects, n_voxels) residuals of unit length or 0.
    variate
        (n_subjects, n_voxels) the sum, of any length; 0 where there is none.
    signed
        Whether its sign means something, as where it grows with the one row that is tested. Otherwise the largest
        loading is made positive.

    References
    ----------
    Wang et al. (2020), NeuroImage 216:116745.
    """
    length = np.sqrt(np.einsum("ij,ij->j", variate, variate))
    found = np.einsum("kij,ij->kj", E, variate)
    found *= np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return as_signed(found, signed)


def as_signed(found: Doubles, signed: bool) -> Doubles:
    """Loadings (n_variables, n_voxels) as they are, or the largest made positive; see `loadings`."""
    if not signed:
        largest = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)[0]
        found *= np.where(largest < 0, -1.0, 1.0)
    return np.asarray(np.clip(found, -1.0, 1.0))


@dataclass(frozen=True)
class Heights:
    """What scores mean that have no distribution of their own: squares of numbers like a correlation.

    Clusters and TFCE, and maxima over several tests, are of Fisher's transform of these. It orders them, and no p
    follows of it.

    Attributes
    ----------
    most
        The largest score that there can be.
    factor
        What the transform is multiplied with.
    """

    most: float = 1.0
    factor: float = 1.0
    name: str = "z"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """Fisher's transform, times the factor."""
        share = np.maximum(np.asarray(score, dtype=np.float64), 0.0) / self.most
        return np.asarray(self.factor * np.arctanh(np.minimum(np.sqrt(share), 1.0 - 1e-15)))

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """See `to_statistic`."""
        out[:] = self.to_statistic(score)

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold on the transform; there is none of a p."""
        return float(self.most * np.tanh(value / self.factor) ** 2)

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """See `to_statistic`."""
        return self.to_statistic(score)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A score that lies a tolerance below on the scale of correlations."""
        return np.asarray(np.maximum(np.sqrt(np.maximum(height, 0.0)) - TIE_TOLERANCE[precision], 0.0) ** 2)

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of the transform: far where a score is as large as it can be, and where it is nothing."""
        left = np.maximum(1.0 - np.asarray(score, dtype=np.float64) / self.most, 1e-14)
        return np.asarray(np.minimum(10 * np.finfo(precision).eps / left, 0.01))
