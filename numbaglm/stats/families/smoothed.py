"""Pseudo-t: the effect over a standard error whose variance was smoothed in space.

With few subjects the variance of a voxel is a poor estimate; its neighbours' help. The statistic has no parametric
distribution, so its null comes from shuffling alone (Nichols and Holmes, 2002, Human Brain Mapping 15:1-25).

Whole maps are needed before a single score is known: effects and variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy  # its ndimage is loaded where it is used
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.spaces.smoothing import FWHM_PER_SIGMA
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.families.family import Family
from numbaglm.stats.scales import Pseudo


@dataclass(frozen=True, eq=False)
class SmoothedVariance:
    """How effects and variances are made of products, and scores of them; see `Whole`.

    Attributes
    ----------
    fwhm
        Width in mm of the Gaussian.
    dof
        Residual degrees of freedom.
    """

    fwhm: float
    dof: int
    n_fields: int = 2
    label: str = "Smoothing variances"

    def fields(self, products: NDArray[np.floating[Any]], fixed: NDArray[np.floating[Any]]) -> Sequence[Doubles]:
        """Effects and variances; ``fixed`` is the length of the residuals."""
        length = fixed[0]
        left = np.maximum(1.0 - (products**2).sum(axis=0), 0.0)
        return products[0] * length, left * length**2 / self.dof

    def bind(self, geometry: Geometry) -> BoundVariance:
        """Take from a geometry what smoothing needs."""
        sigma = self.fwhm / (FWHM_PER_SIGMA * geometry.voxel_sizes)
        inside = scipy.ndimage.gaussian_filter(geometry.mask.astype(np.float64), sigma, mode="constant")
        return BoundVariance(geometry, sigma, inside[geometry.mask])


@dataclass(frozen=True, eq=False)
class BoundVariance:
    """Scores of the maps of one geometry.

    Attributes
    ----------
    sigma
        (3,) standard deviations of the Gaussian, in voxels.
    weight
        (n_voxels,) the mask, smoothed: makes up for what leaks out of it.
    """

    geometry: Geometry
    sigma: Doubles
    weight: Doubles

    def score(self, *maps: NDArray[np.floating[Any]]) -> Doubles:
        """Pseudo-t (n_voxels,) of an effect and its residual variance."""
        effect, variance = maps
        volume = np.asarray(self.geometry.unmask(variance), dtype=np.float64)
        smoothed = scipy.ndimage.gaussian_filter(volume, self.sigma, mode="constant")[self.geometry.mask]
        error = np.sqrt(smoothed / self.weight)
        return np.asarray(np.divide(effect, error, out=np.zeros(effect.shape), where=error > 0))


def _length(length: Doubles) -> Doubles:
    return length[None]


def pseudo_t(t: Family, fwhm: float, dof: int) -> Family:
    """Build pseudo-t of t.

    Parameters
    ----------
    fwhm
        Width in mm of the Gaussian that smooths variances.
    dof
        Residual degrees of freedom.
    """
    return replace(
        t,
        scale=Pseudo(dof),
        fixed=_length,
        whole=SmoothedVariance(fwhm, dof),
        precision="float64",
    )
