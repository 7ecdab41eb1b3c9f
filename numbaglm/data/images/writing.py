"""Values and masks as images, and images as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from numbaglm.data.storage.files import write_file
from numbaglm.errors import InputError, OutputError, invalid
from numbaglm.spaces.space import Part, Space
from numbaglm.spaces.volume import UNKNOWN_SPACE, Geometry

nib: Any = nibabel

# zlib-ng: twice as fast as zlib at its level 1, and files are smaller.
_LEVEL, _GZIP = 2, 31

_MOST_LETTERS = 79  # of a header's description
_AT_ONCE = 4  # images that are being written: each is held three times, as values, as bytes and compressed


@dataclass(frozen=True)
class Meaning:
    """What the header of an image says of its values.

    Attributes
    ----------
    intent
        What they are, by nibabel's name: "t test", "z score", "p value" and so on.
    parameters
        Of the intent, such as degrees of freedom.
    description
        In words; headers have room for 79 letters.
    """

    intent: str = "none"
    parameters: tuple[float, ...] = ()
    description: str = ""

    def tell(self, image: Any, values: NDArray[Any]) -> None:
        """Write it into an image's header, with the range of its values, which viewers show at first."""
        header = image.header
        header.set_intent(self.intent, self.parameters)
        header["descrip"] = self.description.encode("ascii", "replace")[:_MOST_LETTERS]
        most = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
        header["cal_max"], header["cal_min"] = most, -most if np.any(values < 0) else 0.0


def to_image(
    geometry: Geometry,
    vector: NDArray[Any],
    fill: float = 0.0,
    dtype: type[np.generic] = np.float32,
    meaning: Meaning | None = None,
) -> Any:
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
    meaning
        What its header says of the values.
    """
    volume = geometry.unmask(np.asarray(vector, dtype=dtype), fill)
    image = nib.Nifti1Image(volume, geometry.affine)
    if geometry.codes != UNKNOWN_SPACE:  # which it says of itself
        image.set_sform(geometry.affine, geometry.codes[0])
        image.set_qform(geometry.affine, geometry.codes[1])
    image.header.set_xyzt_units("mm")
    if meaning is not None:
        meaning.tell(image, np.asarray(vector))
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


def save_maps(
    where: Space | Part,
    maps: Mapping[str, NDArray[Any]],
    folder: Path,
    meaning: Callable[[str], Meaning] = lambda _: Meaning(),
) -> None:
    """Write maps, each under its name in the format that the maps of subjects came in, and the mask.

    Several are written at once: compression takes most of the time, and leaves the GIL to others.

    Parameters
    ----------
    where, maps
        Where the elements lie; and (n,) or (k, n) values by name.
    folder
        Where to write; it is there.
    meaning
        Name of a map -> what its header says, where that is NIfTI; of GIFTI the intent.

    Raises
    ------
    OutputError
    """
    space = Space.of(where)
    if not space.is_volume:
        from numbaglm.data.images.element_writing import save_elements  # where there are some

        for name, values in maps.items():
            save_elements(space, values, outside(name), name, folder, meaning(name).intent)
        save_elements(space, np.ones(space.n), 0.0, "mask", folder)
        return
    geometry = space.volume

    def save(name: str) -> None:
        values = maps[name]
        kind = np.int32 if values.dtype == np.int32 else np.float32  # numbers of clusters stay whole
        image = to_image(geometry, values, outside(name), kind, meaning(name))
        save_image(image, folder / f"{name}.nii.gz")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(save, maps))
    save_image(mask_image(geometry), folder / "mask.nii.gz")


def save_values(where: Space | Part, values: NDArray[Any], fill: float, path: Path) -> Path:
    """Write a map (n,) under a name, in the format that its ending and the maps of subjects tell.

    NIfTI for volumes; GIFTI or FreeSurfer's (.mgh, .mgz) for one surface; CIFTI; for tables a line of numbers with
    commas between.

    Parameters
    ----------
    where
        Where the elements lie.
    fill
        Value of what was left out.
    path
        The file.

    Raises
    ------
    InputError
        The elements lie on several surfaces.
    OutputError
    """
    space = Space.of(where)
    if space.is_volume:
        return save_image(to_image(space.volume, values, fill), path)
    from numbaglm.data.images.element_writing import element_image  # where there are some

    image = element_image(space, values, fill, path.name.partition(".")[0])
    if isinstance(image, dict):
        if len(image) > 1:
            raise InputError(invalid("path", str(path), "a file for each surface"))
        (image,) = image.values()
    if path.name.endswith(".csv"):
        data = (",".join(f"{value:.9g}" for value in image.to_numpy()[0]) + "\n").encode()
    else:
        data = image.to_bytes()
    if path.name.endswith((".gz", ".mgz")):
        data = zlib_ng.compress(data, _LEVEL, _GZIP)
    return write_file(path, data, "image")
