"""How far flips of the residuals carry an estimate: what simultaneous intervals and confidence sets are made of.

The residuals e of the whole model at a voxel are flipped, subject by subject, and the model is fitted again (ter Braak;
a wild bootstrap with Rademacher signs): what the contrast then comes to, over its standard error, is a draw from what
the error of the estimate looks like. The largest of it over all voxels bounds the errors of all of them at once; the
largest over the boundary of the region where the estimate exceeds c, the error of that region.

For Cohen's d the rows that are flipped are its influence function, what each subject adds to the error of d:

    psi_i = w a_i e_i / s - d (e_i^2 / s^2 - dof / n) / (2 dof),

a the row that makes the contrast of the data, w its swing, s the residual standard deviation; its standard error is
sqrt(w^2 |a|^2 + d^2 / (2 dof)), of normal residuals. This grows with d, of flips as of data: t of flipped rows is over
sqrt(1 + t^2 / (2 dof)), without which 15 subjects would have intervals half as long again as they need.

All of it is asymptotic: benchmarks/validity.md has its coverage.

References
----------
ter Braak (1992), Permutation versus bootstrap significance tests in multiple regression and ANOVA, in Bootstrapping and
Related Techniques, Springer.
Sommerfeld, Sain and Schwartzman (2018), Confidence regions for spatial excursion sets from repeated random field
observations, with an application to climate, Journal of the American Statistical Association 113, 1327-1340.
Bowring, Telschow, Schwartzman and Nichols (2019), Spatial confidence sets for raw effect size images, NeuroImage 203,
116187; and (2021), Confidence sets for Cohen's d effect size images, NeuroImage 226, 117477.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Ints
from numbaglm.stats import effects
from numbaglm.stats.model.hypothesis import Hypothesis

_LEAST = 1e-12  # of what flips leave unexplained
_AT_ONCE = 2**22  # signs of flips and subjects


@dataclass(frozen=True, eq=False)
class Estimate:
    """What the data say of some voxels.

    Attributes
    ----------
    value, error
        (n_voxels,) effect or effect size, and its standard error; 0 where nothing varies.
    rows
        (n_subjects, n_voxels) what is flipped, of unit length or 0.
    """

    value: Doubles
    error: Doubles
    rows: Doubles


@dataclass(frozen=True, eq=False)
class Flips:
    """Flips of the residuals of a t contrast.

    Attributes
    ----------
    hypothesis
        Of the method "ter-braak", under flips.
    sign
        (n_flips, n_subjects) int8.
    standardised
        Whether of Cohen's d, without its bias in small samples; otherwise of the effect.
    """

    hypothesis: Hypothesis
    sign: NDArray[np.int8]
    standardised: bool

    @cached_property
    def _swing(self) -> float:
        return effects.swing(self.hypothesis.design.matrix, self.hypothesis.contrast.matrix[0])

    def estimate(self, y: NDArray[np.float32]) -> Estimate:
        """Estimate from data (n_subjects, n_voxels)."""
        hypothesis, dof = self.hypothesis, self.hypothesis.design.dof
        found = hypothesis.observe(y)
        sd = effects.residual_sd(found.length, found.score**2, dof)
        a = hypothesis.effect[0]
        error = effects.standard_error(sd, float(a @ a))
        if not self.standardised:
            return Estimate(found.effect[0], error, found.E)
        d, w = effects.cohens_d(found.effect[0], sd, self._swing), self._swing
        e = found.E * np.sqrt(dof)  # over their standard deviation
        psi = w * a[:, None] * e - d * (e**2 - dof / len(a)) / (2 * dof)
        error = np.where(sd > 0, np.sqrt(w**2 * (a @ a) + d**2 / (2 * dof)), 0.0)
        return Estimate(effects.hedges_g(d, dof), error, at_unit_length(np.where(sd > 0, psi, 0.0)))

    def heights(self, rows: Doubles) -> Doubles:
        """(n_flips, n_voxels) absolute errors over their standard errors, of rows (n_subjects, n_voxels)."""
        one = self._of_sizes if self.standardised else self._refitted
        step = max(1, _AT_ONCE // len(rows))
        signs = (self.sign[i : i + step].astype(np.float64) for i in range(0, len(self.sign), step))
        return np.concatenate([one(sign, rows) for sign in signs])

    def _refitted(self, sign: Doubles, rows: Doubles) -> Doubles:
        """|t| of flipped residuals, of the model fitted again."""
        basis, dof = self.hypothesis.basis, self.hypothesis.design.dof
        tested = (sign * basis[0]) @ rows
        left = 1 - tested**2
        for row in basis[1:]:
            left -= ((sign * row) @ rows) ** 2
        return np.asarray(np.abs(tested) * np.sqrt(dof / np.maximum(left, _LEAST)))

    def _of_sizes(self, sign: Doubles, rows: Doubles) -> Doubles:
        """|t| of the mean of flipped rows, over the standard error that d of such a t would have."""
        n, dof = len(rows), self.hypothesis.design.dof
        total = sign @ rows
        square = total**2 / (np.maximum(1 - total**2 / n, _LEAST) * n / (n - 1))
        return np.asarray(np.sqrt(square / (1 + square / (2 * dof))))


def at_unit_length(rows: Doubles) -> Doubles:
    """Bring columns to length 1; those of 0 stay."""
    length = np.sqrt(np.einsum("ij,ij->j", rows, rows))
    return np.asarray(np.divide(rows, length, out=np.zeros(rows.shape), where=length > 0))


def boundary(value: Doubles, pairs: NDArray[np.integer], level: float) -> tuple[NDArray[np.intp], Ints, Doubles]:
    """Where a map crosses a level, between elements that touch.

    Parameters
    ----------
    value
        (n_elements,).
    pairs
        (n_pairs, 2) elements that touch.
    level
        What it crosses.

    Returns
    -------
    The elements (k,) on either side, increasing; the crossings (n_crossings, 2) as places among them, that above first;
    and how much weight (n_crossings,) the first of each has, by linear interpolation.
    """
    above = value >= level
    crossing = pairs[above[pairs[:, 0]] != above[pairs[:, 1]]]
    crossing = np.where(above[crossing[:, :1]], crossing, crossing[:, ::-1])
    elements, place = np.unique(crossing, return_inverse=True)
    high, low = value[crossing[:, 0]], value[crossing[:, 1]]
    return elements, place.reshape(crossing.shape).astype(np.int32), (level - low) / (high - low)


def reach(maxima: Doubles, level: float) -> float:
    """Least number that a share ``level`` of the maxima (n_flips,) does not exceed."""
    return float(np.quantile(maxima, level, method="higher"))
