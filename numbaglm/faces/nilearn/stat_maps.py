"""One map of a statistic, in a volume or on a surface, as thresholds and tables see it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from numbaglm.data.images import MapSource, grid_of, is_image, list_maps, load_mask, read_raw, to_image
from numbaglm.data.images.opening import naming
from numbaglm.errors import InputError, InputTypeError, invalid, warn
from numbaglm.spaces.resampling import nearest
from numbaglm.spaces.surface import SurfaceMask, is_surface, label_clusters, part_slices, surface_image, values_of
from numbaglm.spaces.volume import Geometry

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StatMap:
    """One map of a statistic, in a volume or on a surface.

    Attributes
    ----------
    values
        (nx, ny, nz), or (n_vertices,), 0 where they aren't finite, or outside the mask.
    dtype
        Of the map: what comes of it has its precision.
    inside
        What is counted.
    label
        Numbers the connected sets of a bool array of that shape: labels, and how many.
    image
        Makes an image of such values, of a type.
    n_nonfinite
        How many values were NaN or infinite.
    grid
        Of a volume; None for a surface.
    hemispheres
        Of a surface: where each part lies.
    """

    values: Values
    dtype: np.dtype[Any]
    inside: NDArray[np.bool_]
    label: Callable[[NDArray[np.bool_]], tuple[NDArray[Any], int]]
    image: Callable[..., Any]
    n_nonfinite: int
    grid: Geometry | None = None
    hemispheres: dict[str, slice] | None = None


def read_stat_map(stat_img: Any, mask_img: Any = None) -> StatMap:
    """Read one map, and the mask on its grid."""
    if is_surface(stat_img):
        return _read_surface(stat_img, mask_img)
    if is_surface(mask_img):
        raise InputTypeError(
            "Mask and input images must be of compatible types. Got a surface as mask_img of a volume."
        )
    _check_kind("stat_img", stat_img)
    if mask_img is not None:
        _check_kind("mask_img", mask_img)
    source = list_maps([stat_img], minimum=1)[0][0]
    shape, affine = grid_of(source)
    data = _values(source)
    volume = data.reshape(shape).astype(np.float64)
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
    return StatMap(volume, data.dtype, inside, ndimage.label, partial(_volume_image, grid), int(bad.sum()), grid)


def _values(source: MapSource) -> NDArray[Any]:
    """The values of a map in their own precision."""
    if source.image is not None:
        with naming(source):
            data = np.asanyarray(source.image.dataobj)
        return data.astype(data.dtype.newbyteorder("="))
    found = next(read_raw([source])).copy()
    data = found.raw.astype(found.raw.dtype.newbyteorder("=")).reshape(found.shape, order="F")
    return data if (found.slope, found.inter) == (1.0, 0.0) else data * np.float64(found.slope) + found.inter


def _volume_image(grid: Geometry, values: NDArray[Any], dtype: Any) -> Any:
    return to_image(grid, values.ravel(), dtype=dtype)


def _check_kind(name: str, given: Any) -> None:
    if not is_image(given) and not isinstance(given, str | os.PathLike):
        raise InputTypeError(invalid(name, type(given).__name__, "an image or the path of one"))


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

    def image(made: NDArray[Any], dtype: Any) -> Any:
        return surface_image(stat_img, made.astype(dtype))

    label = partial(label_clusters, stat_img)
    dtype = np.result_type(*stat_img.data.parts.values())
    return StatMap(values, dtype, inside, label, image, int(bad.sum()), hemispheres=part_slices(stat_img))
