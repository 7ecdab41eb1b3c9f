"""Maps brought to another grid by cubic splines, and without gaps, as nilearn does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import scipy  # its ndimage is loaded where it is used
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import InputError, invalid

Volume = NDArray[np.float32]
Shape = tuple[int, int, int]
Affine = NDArray[np.float64]


def resample(volume: Volume, affine: Affine, shape: Shape, target: Affine, *, zero_is_missing: bool) -> Volume:
    """Bring a map to another grid.

    Parameters
    ----------
    volume
        (nx, ny, nz) values on the grid of ``affine``.
    affine, target
        (4, 4) voxel indices to mm, of the map and of the grid it is brought to.
    shape
        Of that grid.
    zero_is_missing
        Whether 0 in the map means "no value": then what lies nearest to a 0 is 0. Otherwise what lies among zeros.

    Returns
    -------
    float32 array of ``shape``; 0 outside the map, NaN beside what is not finite in it.
    """
    step = np.linalg.inv(affine) @ target
    finite = np.isfinite(volume)
    values = np.where(finite, volume, np.float32(0))

    moved = np.asarray(scipy.ndimage.affine_transform(values, step[:3, :3], step[:3, 3], shape, order=3))
    # Splines ring: without this the zeros around a brain would become numbers that differ between subjects.
    present = (values != 0).astype(np.float32)
    there = scipy.ndimage.affine_transform(present, step[:3, :3], step[:3, 3], shape, order=0 if zero_is_missing else 1)
    moved[there == 0] = 0
    if not finite.all():
        beside = scipy.ndimage.affine_transform((~finite).astype(np.float32), step[:3, :3], step[:3, 3], shape, order=1)
        moved[beside > 0] = np.nan
    assert moved.shape == shape
    return moved


def nearest(volume: NDArray[Any], affine: Affine, shape: Shape, target: Affine) -> NDArray[np.bool_]:
    """Bring a mask to another grid: the nearest voxel counts."""
    return nearest_values(volume.astype(np.float32), affine, shape, target) > 0.5


def nearest_values(volume: NDArray[Any], affine: Affine, shape: Shape, target: Affine) -> NDArray[Any]:
    """Bring labels to another grid: the nearest voxel counts, and 0 lies outside."""
    step = np.linalg.inv(affine) @ target
    return np.asarray(scipy.ndimage.affine_transform(volume, step[:3, :3], step[:3, 3], shape, order=0))


def target_grid(
    shape: Shape, affine: Affine, target_affine: ArrayLike, target_shape: Any = None
) -> tuple[Shape, Affine]:
    """Shape and affine of the grid that nilearn's target_affine and target_shape ask for.

    Parameters
    ----------
    shape, affine
        The grid there is.
    target_affine
        (4, 4); or (3, 3), and then the grid begins at the corner of the box that holds the old one.
    target_shape
        Three lengths; by default the grid reaches to the end of that box.

    Raises
    ------
    InputError
        They are no shape and no affine, or the new grid holds nothing of the old one.
    """
    wanted = np.asarray(target_affine, dtype=np.float64)
    if wanted.shape not in ((3, 3), (4, 4)) or not np.isfinite(wanted).all() or np.linalg.det(wanted[:3, :3]) == 0:
        raise InputError(invalid("target_affine", target_affine, "an invertible (3, 3) or (4, 4) matrix, or None"))
    target = np.eye(4)
    target[: len(wanted), : len(wanted)] = wanted
    corners = np.array([(*ends, 1) for ends in product(*[(0, length - 1) for length in shape])], dtype=np.float64)
    box = (np.linalg.inv(target) @ affine @ corners.T)[:3]
    low, high = box.min(axis=1), box.max(axis=1)
    if wanted.shape == (3, 3):
        target[:3, 3] = target[:3, :3] @ low
        high = high - low
    if target_shape is None:
        lengths = np.ceil(high).astype(int) + 1
    else:
        lengths = np.asarray(target_shape)
        if lengths.shape != (3,) or lengths.dtype.kind not in "iu" or (lengths < 1).any():
            raise InputError(invalid("target_shape", target_shape, "three whole numbers above 0, or None"))
    if (high < 0).any() or (lengths < 1).any():
        raise InputError(invalid("target_affine", wanted.tolist(), "a grid that holds some of the maps"))
    nx, ny, nz = (int(length) for length in lengths)
    return (nx, ny, nz), target


@dataclass(frozen=True, eq=False)
class Prepared:
    """Values of a map on another grid, or without gaps, which are made each time that they are asked for.

    It is an array to nibabel, so that a cohort of such maps costs no more memory than one of files.

    Attributes
    ----------
    read
        Gives (nx, ny, nz) values.
    affine
        Of their grid.
    shape, target
        The other grid; it may be the same.
    zero_is_missing
        As in `resample`.
    fill
        Whether what is not finite becomes 0.
    """

    read: Callable[[], Volume]
    affine: Affine
    shape: Shape
    target: Affine
    zero_is_missing: bool
    fill: bool = False

    ndim = 3
    dtype = np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        made = self.read()
        if made.shape != self.shape or not np.array_equal(self.affine, self.target):
            made = resample(made, self.affine, self.shape, self.target, zero_is_missing=self.zero_is_missing)
        if self.fill:
            made = np.where(np.isfinite(made), made, np.float32(0))
        return made if dtype is None else made.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(np.asarray(self)[index])
