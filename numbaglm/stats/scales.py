"""Scores that kernels compute, and the statistics and z that they stand for.

A score is whatever is cheap and monotone in the statistic; maxima and counts need nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.kernels import glm
from numbaglm.stats import pvalues

TIE_TOLERANCE = {"float32": 4e-6, "float64": 1e-11}
"""How far below the observed score a shuffled one still counts as equal to it, by the kernels' precision.

Scores are correlations between -1 and 1, or shares of variance, whose roots are: the tolerance lies above the error of
the arithmetic and far below the resolution of any data. Sets of shufflings are full of statistics that are equal
on paper, and a p-value must not depend on which way rounding tips them.
"""

SMALLEST_VARIANCE = glm.LEAST
"""Of a voxel's mean square: residuals below it are float32's rounding, and nothing is left to test."""


_KNOTS = 512  # of z over Fisher's transform of a correlation, for each unit of it


class Scale(Protocol):
    """From scores to statistics, z and parametric p, and back."""

    @property
    def name(self) -> str:
        """Of the statistic that scores turn into: "t", "f" or "z"; pseudo-t goes as "t"."""
        ...

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """Statistic of a score."""
        ...

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """Fill ``out`` with what `to_statistic` gives of a map (n_voxels,), at a third of the cost."""
        ...

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold: kind "p" (of the statistic's own distribution), "z", or the statistic's name."""
        ...

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of the same parametric p."""
        ...

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """The least score that counts as equal to an observed one (absolute if two-sided), see `TIE_TOLERANCE`."""
        ...

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """How far rounding takes what is made of statistics, relative to it: far where the model nearly fits."""
        ...


@dataclass(frozen=True)
class Correlation:
    """The score of t: a partial correlation, between -1 and 1."""

    dof: float
    name: str = "t"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """T of a correlation."""
        rho = np.asarray(score, dtype=np.float64)
        return np.asarray(rho * np.sqrt(self.dof / _one_minus(rho**2)), dtype=np.float64)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """T of a map of correlations."""
        glm.t_of_correlations(score, self.dof, out)

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Correlation of a threshold on t, z or p."""
        t = pvalues.statistic_threshold(kind, value, self.dof, None, two_sided)
        return float(t / np.hypot(t, np.sqrt(self.dof)))

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of a correlation."""
        return pvalues.to_z(self.to_statistic(score), self.dof)

    def quick_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of many correlations, to 1e-11."""
        out = np.empty(score.shape)
        glm.z_of_correlations(np.ascontiguousarray(score).reshape(-1), _knots(self.dof), float(_KNOTS), out.reshape(-1))
        return out

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score."""
        return height - TIE_TOLERANCE[precision]

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of t."""
        return _error(score**2, precision)


def largest_z(scales: Sequence[Correlation | Share | Known], score: NDArray[np.floating]) -> Doubles:
    """The largest z (n,) of scores (n_scales, n) of several scales."""
    of = tuple(scale.dof for scale in scales)
    if len(of) > _TOGETHER or not all(isinstance(scale, Correlation) for scale in scales):
        return np.asarray(np.max([scale.quick_z(those) for scale, those in zip(scales, score, strict=True)], axis=0))
    out = np.full(score.shape[1], -np.inf)
    glm.largest_z(score, _knots_together(of), float(_KNOTS), out)
    return out


_TOGETHER = 16


@lru_cache(maxsize=4)
def _knots_together(of: tuple[float, ...]) -> Doubles:
    """Knots (n, 2, n_knots) of several degrees of freedom."""
    return np.stack([_knots(dof) for dof in of])


@lru_cache(maxsize=64)  # degrees of freedom of one map; each takes as long as z of thousands of elements
def _knots(dof: float) -> Doubles:
    """z and its slope over Fisher's transform of a correlation; see `numbaglm.kernels.glm.z_of_correlations`."""
    at = np.arange(0.0, glm.HIGHEST + 2 / _KNOTS, 1 / _KNOTS)
    z = pvalues.to_z(np.sqrt(dof) * np.sinh(at), dof)
    constant = special.gammaln((dof + 1) / 2) - special.gammaln(dof / 2) + np.log(2) / 2
    return np.array([z, np.exp(constant - dof * np.log(np.cosh(at)) + z**2 / 2) / _KNOTS])


@dataclass(frozen=True)
class Share:
    """The score of F: the share of variance that the effect takes of what the nuisance leaves."""

    dof: float
    n_rows: int
    name: str = "f"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """F of a share."""
        share = np.asarray(score, dtype=np.float64)
        return np.asarray(share / _one_minus(share) * self.dof / self.n_rows, dtype=np.float64)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """F of a map of shares."""
        glm.f_of_shares(score, self.dof, self.n_rows, out)

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Share of a threshold on F, z or p."""
        f = self.n_rows * pvalues.statistic_threshold(kind, value, self.dof, self.n_rows, two_sided)
        return float(f / (f + self.dof))

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of a share."""
        return pvalues.to_z(self.to_statistic(score), self.dof, self.n_rows)

    def quick_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of many shares."""
        return self.to_z(score)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A share whose root lies a tolerance below: 4e-6 of a share itself is much where subjects are many."""
        return np.asarray(np.maximum(np.sqrt(height) - TIE_TOLERANCE[precision], 0.0) ** 2)

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of F."""
        return _error(score, precision)


@dataclass(frozen=True)
class Standard:
    """The score of v and G, whose degrees of freedom differ between voxels: z itself."""

    name: str = "z"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """z as it is."""
        return np.asarray(score, dtype=np.float64)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """z as it is."""
        out[:] = score

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """z of a threshold on z or p."""
        return float(value) if kind == "z" else float(-special.ndtri(value / 2 if two_sided else value))

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z as it is."""
        return np.asarray(score, dtype=np.float64)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score."""
        return height - TIE_TOLERANCE[precision]

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """None."""
        return np.zeros(np.shape(score))


@dataclass(frozen=True, eq=False)
class Graded(Standard):
    """z of correlations, of shares, or of t or F of known variances, whose degrees of freedom differ between elements.

    Attributes
    ----------
    scales
        Those of the elements, from the most to the least degrees of freedom.
    dof
        Degrees of freedom (n_voxels,) of the elements that scores are of; None where scores may be of any of them.
    """

    scales: Grades = ()
    dof: Doubles | None = None

    def _slope(self, z: Doubles) -> Doubles:
        """How fast z rises with a correlation: that of each element, or the fastest of all.

        Of known variances, where t is known to a part of itself, z is too.
        """
        scales = [scale for scale in self.scales if not isinstance(scale, Known)]
        if not scales:
            return np.abs(z)
        if self.dof is None:
            return np.asarray(np.max([_slope(scale, z) for scale in (scales[0], scales[-1])], axis=0))
        # With few degrees of freedom it is a thousand times as fast where z is large.
        slope = np.zeros(np.shape(z))
        for scale in scales:
            which = self.dof == scale.dof
            if which.any():
                slope[which] = _slope(scale, z[which])
        return slope

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """What z becomes of a correlation that lies a tolerance lower."""
        return height - TIE_TOLERANCE[precision] * np.maximum(1.0, self._slope(height))

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of z."""
        z = np.abs(score)
        error = 10 * np.finfo(precision).eps * self._slope(z)
        return np.asarray(np.minimum(np.divide(error, z, out=np.zeros(z.shape), where=z > 0), 0.01))


def _slope(scale: Correlation | Share, z: Doubles) -> Doubles:
    """How fast z rises with a correlation, at this z."""
    return np.asarray(np.interp(z, *_slopes(scale)))


@lru_cache(maxsize=64)
def _slopes(scale: Correlation | Share) -> tuple[Doubles, Doubles]:
    """z, and how fast it rises there."""
    rho = np.tanh(np.linspace(0.0, 16.0, 1601)[1:])
    at = scale.to_z(rho if isinstance(scale, Correlation) else rho**2)
    return at[1:], np.diff(at) / np.maximum(np.diff(rho), 1e-15)


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-t is its own score. It has no parametric distribution: t of the same degrees of freedom stands in."""

    dof: int
    name: str = "t"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """Pseudo-t as it is."""
        return np.asarray(score, dtype=np.float64)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """Pseudo-t as it is."""
        out[:] = score

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Pseudo-t of a threshold on t, or on z or p as if it were t."""
        return pvalues.statistic_threshold(kind, value, self.dof, None, two_sided)

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z as if it were t."""
        return pvalues.to_z(np.asarray(score, dtype=np.float64), self.dof)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score."""
        return height - TIE_TOLERANCE[precision]

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """None."""
        return np.zeros(np.shape(score))


@dataclass(frozen=True)
class Known:
    """The score where variances are known: t, or the sum of squares of several rows, which F is the mean of.

    Attributes
    ----------
    dof
        Of the distribution that parametric p are of; infinite for that of z.
    n_rows
        Of F; None for t.
    """

    dof: float
    n_rows: int | None = None

    @property
    def name(self) -> str:
        """See `Scale`."""
        return "t" if self.n_rows is None else "f"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """t as it is, F of the sum."""
        return np.asarray(score, dtype=np.float64) / (self.n_rows or 1)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """The same."""
        np.divide(score, self.n_rows or 1, out=out, casting="same_kind")

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold on the statistic, z or p."""
        if self.dof < np.inf:
            return float(pvalues.statistic_threshold(kind, value, self.dof, self.n_rows, two_sided)) * (
                self.n_rows or 1
            )
        p = (value / 2 if two_sided else value) if kind == "p" else float(special.ndtr(-value))
        if self.n_rows is None:
            return float(value) if kind in ("t", "z") else float(-special.ndtri(p))
        return value * self.n_rows if kind == "f" else float(special.chdtri(self.n_rows, p))

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of a score."""
        if self.dof < np.inf:
            return pvalues.to_z(self.to_statistic(score), self.dof, self.n_rows)
        values = np.asarray(score, dtype=np.float64)
        if self.n_rows is None:
            return values
        return pvalues.z_of_tails(special.chdtrc(self.n_rows, values), special.chdtr(self.n_rows, values))

    def quick_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of many scores."""
        return self.to_z(score)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below t, or below the root of the sum."""
        root = height if self.n_rows is None else np.sqrt(height)
        lowered = root - TIE_TOLERANCE[precision] * np.maximum(1.0, np.abs(root))
        return np.asarray(lowered if self.n_rows is None else np.maximum(lowered, 0.0) ** 2)

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """None."""
        return np.zeros(np.shape(score))


Grades = tuple[Correlation, ...] | tuple[Share, ...] | tuple[Known, ...]
"""Scales of one kind, from the most to the least degrees of freedom."""


def _one_minus(share: Doubles) -> Doubles:
    """1 - share, kept above rounding: a voxel that the model fits exactly gets a large statistic, not infinity."""
    return np.maximum(1.0 - share, glm.LEAST)


def _error(share: Doubles, precision: str) -> Doubles:
    left = np.maximum(1.0 - share, SMALLEST_VARIANCE)
    return np.asarray(np.minimum(10 * np.finfo(precision).eps / left, 0.01))
