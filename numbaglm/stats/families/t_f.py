"""t and F: the (partial) correlation, or the share of variance that the effect takes.

With r_x the products of the rows of interest and r_z those of the nuisance rows that shuffling moves:

- t: ``r_x / sqrt(1 - |r_z|^2)``, signed;
- F: ``|r_x|^2 / (1 - |r_z|^2)``,

both of them monotone in the statistic (Winkler et al. 2014, NeuroImage 92:381-397).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.families.family import Family, Layer, Rows
from numbaglm.stats.scales import Correlation, Scale, Share


@Score
def combine(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of products, whose rows of interest come first.

    Parameters
    ----------
    sizes
        Rows of them all, rows of interest, and whether the score is signed (1) or not (0).
    """
    n_rows, n_interest, is_t = sizes[0], sizes[1], sizes[2] == 1
    n = products.shape[1]
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    score = products[0]
    if not is_t:
        for v in range(n):
            score[v] *= score[v]
        for k in range(1, n_interest):
            other = products[k]
            for v in range(n):
                score[v] += other[v] * other[v]
    if n_rows == n_interest:
        return
    left = products[n_interest]
    for v in range(n):
        left[v] = products.dtype.type(1.0) - left[v] * left[v]
    for k in range(n_interest + 1, n_rows):
        other = products[k]
        for v in range(n):
            left[v] -= other[v] * other[v]
    for v in range(n):
        rest = left[v] if left[v] > tiny else tiny
        score[v] /= np.sqrt(rest) if is_t else rest


@dataclass(frozen=True, eq=False)
class Observe:
    """Score and statistic of what is observed, see `Family.observe`.

    Attributes
    ----------
    interest
        (n_interest, n_subjects) orthonormal rows.
    """

    interest: Doubles
    is_t: bool
    scale: Scale

    def __call__(self, E: Doubles) -> tuple[Doubles, Doubles]:
        """Of residuals (n_subjects, n_voxels)."""
        products = self.interest @ E
        score = products[0] if self.is_t else (products**2).sum(axis=0)
        return score, self.scale.to_statistic(score)


def t_or_f(interest: Doubles, is_t: bool, rows: Rows, dof: int) -> Family:
    """Build t (one row of interest) or F.

    Parameters
    ----------
    interest
        (n_interest, n_subjects) orthonormal rows that span what is tested.
    rows
        What is shuffled: those of interest, then the nuisance that shuffling moves.
    dof
        Residual degrees of freedom.
    """
    scale: Scale = Correlation(dof) if is_t else Share(dof, len(interest))
    return Family(
        name="t" if is_t else "f",
        layers=(Layer(rows),),
        score=None if is_t and rows.shape[0] == 1 else combine,
        scale=scale,
        observe=Observe(interest, is_t, scale),
        sizes=(rows.shape[0], len(interest), int(is_t)),
    )
