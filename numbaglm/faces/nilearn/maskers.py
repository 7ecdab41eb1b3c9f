"""Maskers: what is used of nilearn's, and what a fitted model offers in their place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.images import grid_of, is_image, list_maps, mask_image, prepared, read_maps, to_image
from numbaglm.errors import InputError, InputTypeError, invalid, warn
from numbaglm.spaces.smoothing import Fwhm, smooth
from numbaglm.spaces.surface import SurfaceMask, is_surface, stack_maps, values_of
from numbaglm.spaces.volume import Geometry, Grid


@dataclass(frozen=True)
class MaskChoice:
    """What a mask or a masker asks for.

    Attributes
    ----------
    mask
        Image, path or None.
    smoothing_fwhm
        In mm.
    target_affine, target_shape
        The grid to bring mask and maps to; None for the mask's own.
    """

    mask: Any = None
    smoothing_fwhm: Any = None
    target_affine: Any = None
    target_shape: Any = None


def is_masker(mask: Any) -> bool:
    """Whether this is a masker, nilearn's or ours; what else is no mask is refused.

    Raises
    ------
    InputTypeError
        It is neither a mask nor its path, or a masker of regions, which has no mask of the voxels.
    """
    of_regions = any(hasattr(mask, name) for name in ("labels_img", "maps_img", "seeds"))
    if hasattr(mask, "inverse_transform") and not of_regions:
        return True
    if of_regions or not (mask is None or isinstance(mask, str | os.PathLike) or is_image(mask) or is_surface(mask)):
        allowed = "None, an image, its path, or a masker of voxels or vertices (NiftiMasker, SurfaceMasker)"
        raise InputTypeError(invalid("mask", type(mask).__name__, allowed))
    return False


def unwrap(mask: Any) -> MaskChoice:
    """Take mask, smoothing and grid out of a masker, such as nilearn's NiftiMasker.

    Raises
    ------
    InputError
        The masker does more than that.
    """
    for name in ("standardize", "detrend", "low_pass", "high_pass", "high_variance_confounds"):
        value = getattr(mask, name, None)
        if value is not None and value is not False:
            fix = "Use a masker without it, and prepare the maps beforehand."
            allowed = "None: of a masker its mask, grid and smoothing are used"
            raise InputError(invalid(f"mask.{name}", value, allowed, fix))
    fitted = getattr(mask, "mask_img_", None)
    image = getattr(mask, "mask_img", None) if fitted is None else fitted
    smoothing = getattr(mask, "smoothing_fwhm", None)
    if fitted is not None:  # it lies on the grid already
        return MaskChoice(image, smoothing)
    return MaskChoice(image, smoothing, getattr(mask, "target_affine", None), getattr(mask, "target_shape", None))


def choose_for_model(given: MaskChoice) -> MaskChoice:
    """What a model uses: of a masker everything, as in nilearn, even where the model says something else."""
    if not is_masker(given.mask):
        return given
    own = unwrap(given.mask)
    kept = ", ".join(f"{name}={getattr(own, name)}" for name in ("smoothing_fwhm", "target_affine", "target_shape"))
    warn(
        "Overriding provided-default estimator parameters with provided masker parameters: the masker's mask_img and "
        f"{kept} count, whatever the model says."
    )
    return own


def choose_for_test(mask: Any, smoothing_fwhm: Any, *, as_nilearn: bool = False) -> MaskChoice:
    """What a permutation test uses: its own smoothing goes before the masker's (in nilearn if that has some)."""
    if not is_masker(mask):
        return MaskChoice(mask, smoothing_fwhm)
    own = unwrap(mask)
    if smoothing_fwhm is None or (as_nilearn and own.smoothing_fwhm is None):
        return own
    if own.smoothing_fwhm is not None and smoothing_fwhm != own.smoothing_fwhm:
        warn(f"Parameter 'smoothing_fwhm' of the masker overridden: {smoothing_fwhm} for its {own.smoothing_fwhm}.")
    return MaskChoice(own.mask, smoothing_fwhm, own.target_affine, own.target_shape)


@dataclass(frozen=True, eq=False)
class Masker:
    """The voxels of a fitted model, and the way between them and images, as nilearn's NiftiMasker offers it.

    Attributes
    ----------
    geometry
        Grid and mask.
    smoothing_fwhm
        In mm; `transform` smooths with it.
    """

    geometry: Geometry
    smoothing_fwhm: Fwhm = None

    @property
    def mask_img_(self) -> Any:
        """The mask as a uint8 image."""
        return mask_image(self.geometry)

    @property
    def n_elements_(self) -> int:
        """Number of voxels in the mask."""
        return self.geometry.n_voxels

    def transform(self, imgs: Any) -> NDArray[np.float32]:
        """Bring images to this grid, smooth and mask them: (n_images, n_voxels); (n_voxels,) of one that is 3D."""
        sources, _, _ = list_maps(imgs, minimum=1)
        single = sources[0].volume is None and not isinstance(imgs, list | tuple | pd.Series)
        grid = Grid(self.geometry.shape, self.geometry.affine, "the mask")
        if not self.geometry.same_grid(*grid_of(sources[0])):
            moved = [prepared(one, grid.shape, grid.affine, zero_is_missing=False) for one in sources]
            sources, _, _ = list_maps(moved, minimum=1)
        volumes = read_maps(sources, grid)
        rows = [smooth(volume, self.smoothing_fwhm, grid.affine)[self.geometry.mask] for volume in volumes]
        return rows[0] if single else np.stack(rows)

    def inverse_transform(self, values: NDArray[Any]) -> Any:
        """Make an image of (n_voxels,) values, 4D of (k, n_voxels), of their type; 0 outside the mask."""
        values = np.asarray(values)
        whole = np.int32 if values.dtype.kind in "iu" else np.uint8  # int64 is more than other programs read
        dtype = np.result_type(values, np.float32).type if values.dtype.kind == "f" else whole
        return to_image(self.geometry, values, dtype=dtype)


@dataclass(frozen=True, eq=False)
class SurfaceMasker:
    """The vertices of a model fitted on surfaces, and the way between them and images, as nilearn's offers it.

    Attributes
    ----------
    vertices
        Mesh and mask.
    """

    vertices: SurfaceMask
    smoothing_fwhm: None = None

    @property
    def mask_img_(self) -> Any:
        """The mask as a surface image."""
        return self.vertices.image

    @property
    def n_elements_(self) -> int:
        """Number of vertices in the mask."""
        return self.vertices.n_inside

    def transform(self, imgs: Any) -> NDArray[np.float64]:
        """Mask surface images: (n_images, n_vertices); (n_vertices,) of one image of one map."""
        values = values_of(imgs) if is_surface(imgs) else stack_maps(imgs)
        values = values[:, self.vertices.inside]
        return values[0] if is_surface(imgs) and len(imgs.shape) == 1 else values

    def inverse_transform(self, values: NDArray[Any]) -> Any:
        """Make a surface image of (n_vertices,) or (k, n_vertices) values; 0 outside the mask."""
        return self.vertices.unmask(np.asarray(values, dtype=np.float64))
