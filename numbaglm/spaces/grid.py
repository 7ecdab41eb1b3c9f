"""The grid that the maps of a cohort share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import GridError


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid that maps must share, and the map that set it.

    Attributes
    ----------
    shape, affine
        (nx, ny, nz), and (4, 4) voxel indices to mm.
    name
        What messages call the image it comes from.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    name: str

    def holds(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
        """Whether another image lies on this grid (to within 1e-3 mm)."""
        return tuple(shape) == self.shape and bool(np.abs(affine - self.affine).max() <= 1e-3)

    def check(self, shape: tuple[int, ...], affine: NDArray[np.float64], name: str) -> None:
        """Raise GridError if another image does not lie on this grid."""
        if self.holds(shape, affine):
            return
        advice = "Pass resample=True to Cohort.create to have them resampled, or bring them to one grid first."
        if tuple(shape) != self.shape:
            raise GridError(
                f"{name} has shape {tuple(shape)}, but {self.name} has {self.shape}: they lie on "
                f"different grids. {advice}"
            )
        raise GridError(
            f"{name} and {self.name} have the same shape but different affines (largest difference "
            f"{np.abs(affine - self.affine).max():.4g} mm): they lie on different grids. {advice}"
        )
