"""One map of a statistic, in a volume or on a surface, as thresholds and tables see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from numbaglm.data.geometry import Geometry
from numbaglm.data.images import grid_of, list_maps, load_mask, read_map, to_image
from numbaglm.data.resampling import nearest
from numbaglm.data.surfaces import SurfaceMask, is_surface, label_clusters, part_slices, surface_image, values_of
from numbaglm.errors import InputError, InputTypeError, invalid, warn

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StatMap:
    """One map of a statistic, in a volume or on a surface.

    Attributes
    ----------
    values
        (nx, ny, nz), or (n_vertices,), 0 where they aren't finite, or outside the mask.
    inside
        What is counted.
    label
        Numbers the connected sets of a bool array of that shape: labels, and how many.
    image
        Makes an image of such values, of a type.
    n_nonfinite
        How many values were NaN or infinite.
    grid
        Of a volume.
    hemispheres
        Of a surface: where each part lies.
    """

    values: Values
    inside: NDArray[np.bool_]
    label: Callable[[NDArray[np.bool_]], tuple[NDArray[Any], int]]
    image: Callable[..., Any]
    n_nonfinite: int
    grid: Geometry
    hemispheres: dict[str, slice] | None = None


def read_stat_map(stat_img: Any, mask_img: Any = None) -> StatMap:
    """Read one map, and the mask on its grid."""
    if is_surface(stat_img):
        return _read_surface(stat_img, mask_img)
    if is_surface(mask_img):
        raise InputTypeError(
            "Mask and input images must be of compatible types. Got a surface as mask_img of a volume."
        )
    sources, _, _ = list_maps([stat_img], minimum=1)
    shape, affine = grid_of(sources[0])
    volume = read_map(sources[0]).astype(np.float64)
    bad = ~np.isfinite(volume)
    volume[bad] = 0.0
    mask = load_mask(mask_img)
    if mask is not None and not mask.same_grid(shape, affine):
        warn("mask_img lies on another grid than stat_img: its nearest voxels count.")
        mask = Geometry(nearest(mask.mask, mask.affine, shape, affine), affine)
    if mask is not None:
        volume[~mask.mask] = 0.0
    grid = Geometry(np.ones(shape, dtype=bool), affine)
    inside = volume != 0 if mask is None else mask.mask
    return StatMap(volume, inside, ndimage.label, partial(_volume_image, grid), int(bad.sum()), grid)


def _volume_image(grid: Geometry, values: NDArray[Any], dtype: type[np.generic] = np.float32) -> Any:
    return to_image(grid, values.ravel(), dtype=dtype)


def _read_surface(stat_img: Any, mask_img: Any) -> StatMap:
    if mask_img is not None and not is_surface(mask_img):
        raise InputTypeError("Mask and input images must be of compatible types. Got a surface, and a volume as mask.")
    maps = values_of(stat_img)
    if len(maps) != 1:
        raise InputError(invalid("stat_img", f"{len(maps)} maps", "a surface image of one map"))
    values = maps[0].copy()
    bad = ~np.isfinite(values)
    values[bad] = 0.0
    inside = values != 0 if mask_img is None else SurfaceMask.of_image(mask_img, stat_img).inside
    values[~inside] = 0.0

    def image(made: NDArray[Any], dtype: type[np.generic] = np.float64) -> Any:
        return surface_image(stat_img, made.astype(dtype))

    line = Geometry(np.ones((values.size, 1, 1), dtype=bool), np.eye(4))
    label = partial(label_clusters, stat_img)
    return StatMap(values, inside, label, image, int(bad.sum()), line, part_slices(stat_img))
