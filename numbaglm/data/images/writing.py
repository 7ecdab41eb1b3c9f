"""Values and masks as images, and images as files."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.errors import InputError, OutputError, invalid

nib: Any = nibabel


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
    suffix = ".nii.gz" if target.name.endswith(".gz") else ".nii"
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{suffix}")
    try:
        try:
            nib.save(image, part)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{target} could not be written ({error}). Check the folder, its permissions and the disk."
        ) from error
    return target
