"""In-mask vectors seen from the side, from the front and from above, upright and in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError, invalid
from numbaglm.spaces.volume import Geometry

# A view looks along its axis; what is left runs to the right and up: x sagittal, y coronal, z axial.
VIEWS = {"x": (0, 1, 2), "y": (1, 0, 2), "z": (2, 0, 1)}

Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class UprightGrid:
    """The box around a mask, on axes that run to the right, to the front and up.

    Attributes
    ----------
    index
        (nx, ny, nz) number of the in-mask voxel that lies there; n_voxels outside the mask.
    origin
        (3,) mm of the centre of voxel (0, 0, 0).
    step
        (3,) mm from voxel to voxel, positive.
    n_voxels
        Voxels in the mask.
    """

    index: NDArray[np.intp]
    origin: NDArray[np.float64]
    step: NDArray[np.float64]
    n_voxels: int

    def volume(self, vector: NDArray[np.generic]) -> NDArray[np.float32]:
        """(nx, ny, nz) volume of an in-mask vector, 0 outside the mask and where the vector is NaN."""
        if vector.shape != (self.n_voxels,):
            raise InputError(invalid("vector", vector.shape, f"({self.n_voxels},), the mask's voxels"))
        padded = np.zeros(self.n_voxels + 1, np.float32)
        padded[:-1] = np.nan_to_num(vector.astype(np.float32), nan=0.0)
        return padded[self.index]

    def extremes(self, volume: NDArray[np.float32], view: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n_right, n_up) largest positive and largest negative value along a view's lines of sight, or 0."""
        axis = VIEWS[view][0]
        return np.maximum(volume.max(axis=axis), np.float32(0)), np.minimum(volume.min(axis=axis), np.float32(0))

    def project(self, vector: NDArray[np.generic], view: str) -> NDArray[np.float32]:
        """Maximum-intensity projection of an in-mask vector: of each sign's largest value, the larger.

        Parameters
        ----------
        vector
            (n_voxels,) values.
        view
            "x" (sagittal), "y" (coronal) or "z" (axial).

        Returns
        -------
        (n_right, n_up), 0 where the line of sight meets no value.
        """
        return larger(*self.extremes(self.volume(vector), view))

    def depth(self, view: str) -> NDArray[np.float64]:
        """(n_right, n_up) mm of mask along the line of sight."""
        axis = VIEWS[view][0]
        return np.asarray((self.index < self.n_voxels).sum(axis=axis) * self.step[axis], dtype=np.float64)

    def slice_at(self, view: str, mm: float) -> int:
        """Index of the slice of a view nearest to a coordinate in mm."""
        axis = VIEWS[view][0]
        k = round((mm - self.origin[axis]) / self.step[axis])
        return int(np.clip(k, 0, self.index.shape[axis] - 1))

    def extent(self, view: str) -> Extent:
        """Outer edges of a view in mm: left, right, bottom, top."""
        _, right, up = VIEWS[view]
        start = self.origin - self.step / 2
        end = start + self.step * self.index.shape
        return float(start[right]), float(end[right]), float(start[up]), float(end[up])

    def size(self, view: str) -> tuple[float, float]:
        """Width and height of a view in mm."""
        left, right, bottom, top = self.extent(view)
        return right - left, top - bottom

    def spread(self, view: str, n_cuts: int) -> NDArray[np.float64]:
        """(n_cuts,) coordinates in mm that divide the mask evenly along a view's axis; fewer where slices are fewer."""
        if n_cuts < 1:
            raise InputError(invalid("cuts", n_cuts, "1 or more, or coordinates in mm"))
        axis = VIEWS[view][0]
        occupied = np.flatnonzero((self.index < self.n_voxels).any(axis=VIEWS[view][1:]))
        low, high = self.origin[axis] + self.step[axis] * occupied[[0, -1]]
        places = np.linspace(low, high, n_cuts + 2)[1:-1]
        _, different = np.unique([self.slice_at(view, mm) for mm in places], return_index=True)
        return np.asarray(places[different])


def decimals(step: NDArray[np.float64]) -> int:
    """Digits after the point that tell the mm of one voxel from those of the next: 0 from 1 mm on.

    Parameters
    ----------
    step
        (3,) mm from voxel to voxel.
    """
    return max(0, int(np.ceil(-np.log10(step.min()) - 0.01)))


def larger(high: NDArray[np.float32], low: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a positive and a negative image, the value of larger magnitude at each pixel."""
    return np.where(-low > high, low, high)


def upright(
    geometry: Geometry, margin: int = 2, around: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> UprightGrid:
    """Turn a grid upright, and crop it to its mask.

    Axes that are only swapped and flipped are swapped and flipped back. A grid that is tilted is resampled
    to the nearest voxel.

    Parameters
    ----------
    geometry
        Grid and mask.
    margin
        Empty voxels to keep around the mask.
    around
        mm of two corners, the lower and the upper, that must lie within, too: of an anatomy.
    """
    numbers = np.full(geometry.shape, geometry.n_voxels, np.intp)
    numbers[geometry.mask] = np.arange(geometry.n_voxels)
    linear = geometry.affine[:3, :3]
    axes = np.abs(linear).argmax(axis=1)  # the voxel axis that runs along each of x, y and z
    straight = linear[np.arange(3), axes]
    slant = np.abs(linear).sum(axis=1) - np.abs(straight)
    if len(set(axes.tolist())) == 3 and np.all(slant * max(geometry.shape) < np.abs(straight) / 2):
        index = numbers.transpose(axes)
        flips = tuple(slice(None, None, -1 if s < 0 else 1) for s in straight)
        first = np.where(straight < 0, np.array(index.shape) - 1, 0) * straight
        grid = UprightGrid(index[flips], geometry.affine[:3, 3] + first, np.abs(straight), geometry.n_voxels)
    else:
        grid = _resampled(geometry, numbers)
    return _cropped(grid, margin, around)


def _resampled(geometry: Geometry, numbers: NDArray[np.intp]) -> UprightGrid:
    """Look up the nearest voxel for each point of a cubic grid around the mask."""
    xyz = geometry.coordinates(np.arange(geometry.n_voxels))
    step = np.full(3, geometry.voxel_sizes.min())
    origin = xyz.min(axis=0)
    shape = np.ceil((xyz.max(axis=0) - origin) / step).astype(int) + 1
    points = np.indices(shape).reshape(3, -1).T * step + origin
    inverse = np.linalg.inv(geometry.affine)
    ijk = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
    on_grid = np.all((ijk >= 0) & (ijk < geometry.shape), axis=1)
    index = np.full(len(points), geometry.n_voxels, np.intp)
    index[on_grid] = numbers[tuple(ijk[on_grid].T)]
    return UprightGrid(index.reshape(shape), origin, step, geometry.n_voxels)


def _cropped(
    grid: UprightGrid, margin: int, around: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> UprightGrid:
    """Crop to the mask and pad with ``margin`` empty voxels on every side, or as far as two corners in mm lie."""
    where = np.argwhere(grid.index < grid.n_voxels)
    low, high = where.min(axis=0), where.max(axis=0) + 1
    box = grid.index[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    before, after = np.full(3, margin), np.full(3, margin)
    if around is not None:
        lower, upper = ((corner - grid.origin) / grid.step for corner in around)
        before = np.maximum(before, np.ceil(low - lower).astype(int))
        after = np.maximum(after, np.ceil(upper - (high - 1)).astype(int))
    index = np.pad(box, list(zip(before, after, strict=True)), constant_values=grid.n_voxels)
    return UprightGrid(index, grid.origin + (low - before) * grid.step, grid.step, grid.n_voxels)
