"""Values and masks as images, and images as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, OutputError, invalid
from numbaglm.spaces.volume import Geometry

nib: Any = nibabel

# zlib-ng: twice as fast as zlib at its level 1, and files are smaller.
_LEVEL, _GZIP = 2, 31

_AT_ONCE = 4  # images that are being written: each is held three times, as values, as bytes and compressed


def to_image(geometry: Geometry, vector: NDArray[Any], fill: float = 0.0, dtype: type[np.generic] = np.float32) -> Any:
    """Put in-mask values back on the grid as an image.

    Parameters
    ----------
    geometry
        Mask and affine.
    vector
        (n_voxels,), or (k, n_voxels) for a 4D image of k volumes.
    fill
        Value outside the mask.
    dtype
        Type of the image's data.
    """
    volume = geometry.unmask(np.asarray(vector, dtype=dtype), fill)
    image = nib.Nifti1Image(volume, geometry.affine)
    image.header.set_xyzt_units("mm")
    return image


def mask_image(geometry: Geometry) -> Any:
    """Make a uint8 image of 0 and 1 of the mask."""
    return to_image(geometry, np.ones(geometry.n_voxels), dtype=np.uint8)


def save_image(image: Any, path: str | os.PathLike[str]) -> Path:
    """Write an image so that its name holds either the whole image or what was there before.

    Raises
    ------
    InputError
        If the name does not end in .nii or .nii.gz.
    OutputError
        If it can't be written (folder, permission, disk full); nothing is left behind.
    """
    target = Path(path).expanduser()
    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(invalid("path", str(path), "a name that ends in .nii or .nii.gz"))
    if not target.parent.is_dir():
        raise OutputError(f"{target} could not be written: {target.parent} is not a folder. Make it first.")
    data = image.to_bytes()
    return write_file(target, zlib_ng.compress(data, _LEVEL, _GZIP) if target.name.endswith(".gz") else data, "image")


def outside(name: str) -> float:
    """What a map has outside the mask, by its name: p maps 1, all others 0."""
    return 1.0 if name.startswith("p_") else 0.0


def save_maps(geometry: Geometry, maps: Mapping[str, NDArray[Any]], folder: Path) -> None:
    """Write maps, each as NIfTI under its name, and the mask.

    Several are written at once: compression takes most of the time, and leaves the GIL to others.

    Parameters
    ----------
    geometry, maps
        Mask and affine; and (n_voxels,) or (k, n_voxels) values by name.
    folder
        Where to write; it is there.

    Raises
    ------
    OutputError
    """

    def save(name: str) -> None:
        save_image(to_image(geometry, maps[name], fill=outside(name)), folder / f"{name}.nii.gz")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(save, maps))
    save_image(mask_image(geometry), folder / "mask.nii.gz")
