"""Part correlation r, and R2 of several rows: the share that the effect takes of all variance about the mean.

t and F, whose scores are partial correlations, take the share of what the nuisance leaves. A shuffling moves the
residuals E against the part h of the data that the nuisance explains, so that the variance of the shuffled data, 1 +
|h|^2 + 2 h'PE in units of the residuals, is not constant; h'PE is a sum of the products with the moved nuisance, which
are there anyway. Without nuisance but a constant r is the correlation of data and regressor.

References
----------
Winkler et al. (2014), NeuroImage 92:381-397.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.families.family import Family, Given, Layer, Prepared, Rows
from numbaglm.stats.families.variables import unit_residuals
from numbaglm.stats.scales import Correlation, Share


@Score
def share_of_all(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of products, those of interest first, then those of the nuisance that shuffling moves.

    Parameters
    ----------
    fixed
        1 + |h|^2; then twice the products of the moved nuisance with h.
    sizes
        Rows of interest, rows of moved nuisance, and whether the score is signed (1) or not (0).
    """
    n_interest, n_moved, is_t = sizes[0], sizes[1], sizes[2] == 1
    n, width = products.shape[1], fixed.shape[1]
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    score, total = products[0], products[n_interest + n_moved]
    for v in range(n):
        total[v] = fixed[0, v % width]
    for j in range(n_moved):
        other = products[n_interest + j]
        for v in range(n):
            total[v] += fixed[1 + j, v % width] * other[v]
    if not is_t:
        for v in range(n):
            score[v] *= score[v]
        for k in range(1, n_interest):
            other = products[k]
            for v in range(n):
                score[v] += other[v] * other[v]
    for v in range(n):
        rest = total[v] if total[v] > tiny else tiny
        score[v] /= np.sqrt(rest) if is_t else rest


@dataclass(frozen=True)
class AsZ:
    """Scores that are shares of all variance, on the scale of z as if no nuisance were there.

    With nuisance the share is less than that of what the nuisance leaves: parametric p are larger than those of t.
    """

    of: Correlation | Share
    name: str = "z"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """z of a score."""
        return self.of.to_z(score)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """z of a map."""
        out[:] = self.of.quick_z(np.asarray(score, dtype=np.float64))

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold on z or p."""
        return self.of.to_score(kind, value, two_sided)

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of a score."""
        return self.of.to_z(score)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score."""
        return self.of.least_equal(height, precision)

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """As of t or F."""
        return self.of.relative_error(score, precision)


@dataclass(frozen=True, eq=False)
class Prepare:
    """Residuals, and the part of the data that the nuisance explains; see `Family.prepare`.

    Attributes
    ----------
    interest, nuisance, moved
        (n_rows, n_subjects) orthonormal rows; those that shuffling moves span a part of the nuisance.
    effect
        (n_effects, n_subjects) whose product with the data is the contrast of the parameter estimates.
    is_t
        Whether the score is signed.
    """

    interest: Doubles
    nuisance: Doubles
    moved: Doubles
    effect: Doubles
    is_t: bool

    def __call__(self, given: Given) -> Prepared:
        """Of some elements."""
        (E,), (length,) = unit_residuals(given, (), self.nuisance)
        y = given.data.astype(np.float64)
        degenerate = length == 0
        inverse = np.divide(1.0, length, out=np.zeros(length.shape), where=~degenerate)
        y *= inverse
        explained = np.einsum("si,in->sn", self.nuisance, y)
        mean = y.sum(axis=0) / np.sqrt(len(y))
        total = 1.0 + np.maximum(np.einsum("sn,sn->n", explained, explained) - mean**2, 0.0)
        products = np.einsum("si,in->sn", self.interest, E)
        score = products[0] / np.sqrt(total) if self.is_t else np.einsum("sn,sn->n", products, products) / total
        score = np.where(degenerate, 0.0, score)
        return Prepared(
            layers=(np.where(degenerate, 0.0, E),),
            score=score,
            statistic=score,
            effect=np.einsum("ei,in->en", self.effect, given.data, dtype=np.float64),
            degenerate=degenerate,
            length=length,
            fixed=np.vstack([total[None], 2.0 * np.einsum("si,in->sn", self.moved, y)]),
            more=np.empty((0, len(length))),
        )


def correlated(rows: Rows, interest: Doubles, nuisance: Doubles, moved: Doubles, effect: Doubles, dof: int) -> Family:
    """Build r (one row of interest) or R2.

    Parameters
    ----------
    rows
        What is shuffled: those of interest, then the nuisance that shuffling moves.
    interest, nuisance, moved, effect
        See `Prepare`; the nuisance holds a constant, which nothing moves.
    dof
        Residual degrees of freedom.
    """
    is_t = len(interest) == 1
    return Family(
        name="r" if is_t else "r2",
        layers=(Layer(rows),),
        score=share_of_all,
        scale=AsZ(Correlation(dof) if is_t else Share(dof, len(interest))),
        observe=None,
        sizes=(len(interest), len(moved), int(is_t)),
        n_scratch=1,
        pooled=False,
        prepare=Prepare(interest, nuisance, moved, effect, is_t),
    )
