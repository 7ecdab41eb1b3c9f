"""The one user of nibabel: maps in, images out.

Whatever form the maps of a cohort have, `list_maps` makes one list of `MapSource` of it; everything inside
sees that list, then float32 arrays. Every refusal names the file.
"""

from __future__ import annotations

import gzip
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
import pandas as pd
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.data.grid import Grid
from numbaglm.data.resampling import Affine, Prepared, Shape
from numbaglm.data.tables import labels_of, sorted_frame
from numbaglm.errors import (
    ImageError,
    InputError,
    MaskError,
    MissingFileError,
    OutputError,
    invalid,
)

Volume = NDArray[np.float32]

nib: Any = nibabel  # its functions are not typed

_ALLOWED_MAPS = (
    "a list, tuple or Series of paths or nibabel images, one 4D image or the path of one, or a DataFrame "
    "with columns 'subject_label' and 'effects_map_path'"
)
# What nibabel and the decompressors raise on damaged or foreign files.
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    TypeError,
    OverflowError,
)


@dataclass(frozen=True, eq=False)
class MapSource:
    """One subject's map: where it is, before it is read.

    Attributes
    ----------
    path, volume
        A file, and which volume of it when it is 4D.
    image
        An image in memory, instead of a file.
    name
        What messages call it.
    """

    name: str
    path: Path | None = None
    volume: int | None = None
    image: SpatialImage | None = None

    @property
    def file(self) -> Path | None:
        """The file that holds the data, also for an image that nibabel has not read yet."""
        if self.path is not None or self.image is None or not nib.is_proxy(self.image.dataobj):
            return self.path
        name = self.image.get_filename()
        return Path(name) if name and Path(name).exists() else None


def list_maps(maps: Any, minimum: int = 2) -> tuple[list[MapSource], list[str], pd.DataFrame | None]:
    """Bring the maps of a cohort, in whatever form, into one list.

    Parameters
    ----------
    maps
        A list, tuple or Series of paths or nibabel images (3D); one 4D image or the path of one; or nilearn's
        DataFrame with columns ``subject_label`` and ``effects_map_path``, which is sorted by label.
    minimum
        How many maps there must be.

    Returns
    -------
    The sources, a label for each (from the DataFrame, else from the file names, else "subject-001" and so
    on), and the sorted DataFrame if there was one.
    """
    frame = None
    labels = None
    if isinstance(maps, pd.DataFrame):
        frame = sorted_frame(maps)
        labels = [str(label) for label in frame["subject_label"]]
        sources = [_source(item, number) for number, item in enumerate(frame["effects_map_path"], 1)]
    elif isinstance(maps, str | os.PathLike | SpatialImage):
        sources = _volumes(_source(maps, 1))
    elif isinstance(maps, list | tuple | pd.Series) or (isinstance(maps, np.ndarray) and maps.dtype.kind in "OU"):
        sources = [_source(item, number) for number, item in enumerate(maps, 1)]
    else:
        raise InputError(invalid("maps", type(maps).__name__, _ALLOWED_MAPS))
    if len(sources) < minimum:
        raise InputError(
            invalid(
                "maps",
                f"{len(sources)} map(s)",
                f"at least {minimum} maps, one a subject",
                "Pass all of them.",
            )
        )
    if labels is None:
        labels = labels_of([source.file for source in sources if source.volume is None], len(sources))
    return sources, labels, frame


def _source(item: Any, number: int) -> MapSource:
    if isinstance(item, SpatialImage):
        return MapSource(name=f"image {number} ({item.get_filename() or 'in memory'})", image=item)
    if isinstance(item, nib.filebasedimages.FileBasedImage):
        raise ImageError(
            f"Map {number} is a {type(item).__name__}. Allowed: volumes (NIfTI or Analyze). "
            "Surfaces and CIFTI files are not supported yet."
        )
    if not isinstance(item, str | os.PathLike):
        raise InputError(
            invalid(
                "maps",
                f"a {type(item).__name__} as map {number}",
                "paths and nibabel images",
                "Convert it first.",
            )
        )
    path = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 - resolve() follows links
    if not path.exists() and any(sign in str(item) for sign in "*?["):
        raise InputError(
            invalid(
                "maps",
                str(item),
                _ALLOWED_MAPS,
                f"It looks like a pattern: pass sorted(glob.glob({str(item)!r})).",
            )
        )
    return MapSource(name=str(item), path=path)


def _volumes(source: MapSource) -> list[MapSource]:
    """Take one 4D image apart into its volumes."""
    image = _open(source)
    if len(image.shape) < 4:
        return [source]
    if len(image.shape) > 4 and any(length > 1 for length in image.shape[4:]):
        raise ImageError(f"{source.name} has shape {image.shape}. Allowed: 3 dimensions, or 4 with a map a volume.")
    return [
        MapSource(f"{source.name} (volume {volume})", source.path, volume, source.image)
        for volume in range(image.shape[3])
    ]


def grid_of(source: MapSource) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a map, from its header alone; refuses what can't be a map.

    Raises
    ------
    MissingFileError, ImageError
    """
    return _grid_of(source, _open(source))


def _grid_of(source: MapSource, image: Any) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    shape = image.shape if source.volume is None else image.shape[:3] + image.shape[4:]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 4:
        raise ImageError(
            f"{source.name} is 4D with {shape[3]} volumes, but one 3D map a subject is needed. "
            "Pass the 4D image alone if its volumes are the subjects; otherwise extract the volume you mean."
        )
    if min(shape, default=0) < 1:
        raise ImageError(f"{source.name} is empty: it has shape {image.shape}. Allowed: 3 dimensions of 1 or more.")
    if len(shape) != 3:
        raise ImageError(f"{source.name} has shape {image.shape}. Allowed: 3 dimensions.")
    dtype = image.get_data_dtype()
    if dtype.kind not in "fiub":
        kind = "complex" if dtype.kind == "c" else "RGB or another compound type" if dtype.fields else str(dtype)
        raise ImageError(f"{source.name} holds {kind} values. Allowed: real numbers. Convert it to one real map.")
    affine = np.asarray(image.affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        raise ImageError(f"{source.name} has an affine that maps to no space: {affine.tolist()}. Repair its header.")
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def read_maps(sources: Sequence[MapSource], grid: Grid | None = None) -> Iterator[Volume]:
    """Read maps one by one as float32 (nx, ny, nz), in order; volumes of one 4D file are read in one go.

    Parameters
    ----------
    sources
        What to read.
    grid
        The grid that each must lie on; None checks nothing.

    Raises
    ------
    MissingFileError, ImageError, GridError
    """

    def file(source: MapSource) -> Any:
        return (source.path, id(source.image)) if source.volume is not None else id(source)

    for _, group in groupby(sources, key=file):
        members = list(group)
        image = _open(members[0])
        shape, affine = _grid_of(members[0], image)
        if grid is not None:
            grid.check(shape, affine, members[0].name)
        if members[0].volume is None:
            yield _values(members[0], image, None).reshape(shape)
            continue
        numbers = [cast(int, member.volume) for member in members]
        first, last = min(numbers), max(numbers)
        block = _values(members[0], image, slice(first, last + 1)).reshape(*shape, -1)
        for number in numbers:
            yield block[..., number - first]


def read_map(source: MapSource, grid: Grid | None = None) -> Volume:
    """Read one map as float32 (nx, ny, nz); see `read_maps`."""
    return next(read_maps([source], grid))


def is_image(given: Any) -> bool:
    """Whether this is an image in memory, or of a file not read yet."""
    return isinstance(given, nib.filebasedimages.FileBasedImage)


def prepared(source: MapSource, shape: Shape, affine: Affine, *, zero_is_missing: bool, fill: bool = False) -> Any:
    """Make an image of a map on another grid, which is read when its values are asked for; see `Prepared`."""
    values = Prepared(partial(read_map, source), grid_of(source)[1], shape, affine, zero_is_missing, fill)
    return nib.Nifti1Image(values, affine)


def _values(source: MapSource, image: Any, volumes: slice | None) -> Volume:
    try:
        if volumes is not None:
            values = np.asarray(image.dataobj[:, :, :, volumes], dtype=np.float32)
        else:
            if source.path is not None and source.path.name.lower().endswith(".nii.gz"):
                # At once: 1.5 times as fast as nibabel's pieces, and unlike them it checks the CRC.
                image = type(image).from_bytes(gzip.decompress(source.path.read_bytes()))
            # No cache: a float64 copy kept by the image would triple the memory of a cohort.
            values = image.get_fdata(dtype=np.float32, caching="unchanged")
    except MemoryError:
        raise
    except _UNREADABLE as error:
        raise ImageError(_damaged(source.name, error)) from error
    return values


def _open(source: MapSource) -> Any:
    """Open a source, its data not read yet; what nibabel raises becomes ours, naming the file."""
    if source.image is not None:
        return source.image
    path = cast(Path, source.path)
    if not path.exists():
        raise MissingFileError(f"{source.name} does not exist (looked for {path}). Check the path.")
    if path.is_dir():
        raise ImageError(f"{source.name} is a folder. Allowed: NIfTI or Analyze files.")
    try:
        image = nib.load(path)
    except ImageFileError as error:
        raise ImageError(_foreign(source.name, path, error)) from error
    except PermissionError as error:
        raise ImageError(f"{source.name} may not be read ({error}). Change its permissions.") from error
    except _UNREADABLE as error:
        raise ImageError(_damaged(source.name, error)) from error
    if not isinstance(image, nib.AnalyzeImage | nib.Nifti1Pair):
        raise ImageError(
            f"{source.name} is a {type(image).__name__}. Allowed: NIfTI and Analyze volumes. "
            "Surfaces (GIFTI) and CIFTI files are not supported yet; convert other volumes to NIfTI."
        )
    return image


def _foreign(name: str, path: Path, error: BaseException) -> str:
    """Say why nibabel does not recognize a file: a damaged .gz looks like no format at all to it."""
    if path.suffix.lower() == ".gz":
        try:
            with gzip.open(path) as stream:
                while stream.read(2**20):
                    pass
        except (OSError, EOFError, zlib.error) as cause:
            return _damaged(name, cause)
    return f"{name} is neither NIfTI nor Analyze, or is damaged ({error}). Convert it first."


def _damaged(name: str, error: BaseException) -> str:
    truncated = isinstance(error, EOFError) or "Expected" in str(error) or "end-of-stream" in str(error)
    what = "is truncated" if truncated else "is not gzip" if isinstance(error, gzip.BadGzipFile) else "is damaged"
    return f"{name} {what} and can't be read ({type(error).__name__}: {error}). Get it again."


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


def load_mask(mask: Any) -> Geometry | None:
    """Read a mask, a path or an image: the voxels that are finite and not 0. None stays None.

    Raises
    ------
    MissingFileError, ImageError, MaskError
    """
    if mask is None or isinstance(mask, Geometry):
        return mask
    if not isinstance(mask, str | os.PathLike | SpatialImage):
        raise InputError(invalid("mask", type(mask).__name__, "the path of an image, a nibabel image, or None"))
    source = _source(mask, 1)
    if source.image is not None:
        source = MapSource(name="the mask (in memory)", image=source.image)
    _, affine = grid_of(source)
    values = read_map(source)
    inside = np.isfinite(values) & (values != 0)
    if not inside.any():
        raise MaskError(f"The mask {source.name} holds no voxel that is finite and not 0. Pass another mask.")
    return Geometry(inside, affine)
