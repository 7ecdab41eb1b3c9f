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

    def check(self, shape: tuple[int, ...], affine: NDArray[np.float64], name: str) -> None:
        """Raise GridError if another image does not lie on this grid (to within 1e-3 mm)."""
        advice = "Resample the maps to one grid first (numbaglm does not resample)."
        if tuple(shape) != self.shape:
            raise GridError(
                f"{name} has shape {tuple(shape)}, but {self.name} has {self.shape}: they lie on "
                f"different grids. {advice}"
            )
        difference = float(np.abs(affine - self.affine).max())
        if not difference <= 1e-3:
            raise GridError(
                f"{name} and {self.name} have the same shape but different affines (largest difference "
                f"{difference:.4g} mm): they lie on different grids. {advice}"
            )
