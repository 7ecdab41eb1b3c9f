"""Files and images before their values are read: what they are, on which grid, and why they can't be used."""

from __future__ import annotations

import gzip
import math
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, ImageDataError, SpatialImage
from numpy.typing import NDArray

from numbaglm.data.images.formats.freesurfer import is_mgh, open_mgh
from numbaglm.data.images.raw import DECOMPRESSION_ERRORS, HEADER_BYTES, beginning
from numbaglm.errors import ImageError, MissingFileError, NumbaglmError, term
from numbaglm.spaces.volume import UNKNOWN_SPACE, Grid

nib: Any = nibabel  # its functions are not typed

# What nibabel and the decompressors raise on damaged or foreign files.
_UNREADABLE = (
    *(*DECOMPRESSION_ERRORS, ImageFileError, HeaderDataError, ImageDataError),
    # Of nibabel's readers, which look up and count what a header says.
    *(ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error),
)

_TALAIRACH = 2  # of AFNI's views
_STATISTICS = {3: "t", 4: "f", 5: "z"}  # NIfTI's intents
# What compressed files begin with, and how their names end.
_PACKED = {
    "gzip": (b"\x1f\x8b", ".gz"),
    "bzip2": (b"BZh", ".bz2"),
    "zstd": (b"\x28\xb5\x2f\xfd", ".zst"),
    "xz": (b"\xfd7zXZ", ".xz"),
    "zip": (b"PK\x03\x04", ".zip"),
}
_LONGEST_LINE = 512  # voxels along an axis of an image of the head
_ICOSAHEDRA = tuple(10 * 4**order + 2 for order in range(4, 8))  # vertices of fsaverage and its like

_VOLUMES = (nib.AnalyzeImage, nib.Nifti1Pair, nib.MGHImage, nib.brikhead.AFNIImage)
"""What is read as a volume."""

_ALLOWED = "NIfTI, Analyze, FreeSurfer (.mgh, .mgz) and AFNI (.HEAD) volumes"

_MOST_VOXELS = 2**31  # of a grid: positions on it are counted in 32 bits


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
    onto
        Grid that it is resampled to, linearly; None leaves it on its own.
    zero_is_missing
        Whether 0 means "no value" when it is resampled.
    """

    name: str
    path: Path | None = None
    volume: int | None = None
    image: SpatialImage | None = None
    onto: Grid | None = None
    zero_is_missing: bool = False

    @property
    def file(self) -> Path | None:
        """The file that holds the data, also for an image that nibabel has not read yet."""
        if self.path is not None or self.image is None or not nib.is_proxy(self.image.dataobj):
            return self.path
        name = self.image.get_filename()
        return Path(name) if name and Path(name).exists() else None


def grid_of(source: MapSource) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a map, from its header alone; refuses what can't be a map.

    Raises
    ------
    MissingFileError, ImageError
    """
    return grid_of_image(source, open_image(source))


def grid_of_image(source: MapSource, image: Any) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a map whose image is open; see `grid_of`."""
    shape = image.shape if source.volume is None else image.shape[:3] + image.shape[4:]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 4:
        raise ImageError(
            f"{source.name} is 4D with {shape[3]} volumes, but one 3D map a subject is needed. "
            "Pass the 4D image alone if its volumes are the subjects; otherwise extract the volume you mean."
        )
    if math.prod(map(int, shape)) >= _MOST_VOXELS and min(shape) > 0:
        raise ImageError(
            f"{source.name} has {math.prod(map(int, shape)):,} voxels, by its header. Allowed: fewer than "
            f"{_MOST_VOXELS:,}. Most likely the header is damaged: get it again."
        )
    if min(shape, default=0) < 1:
        raise ImageError(f"{source.name} is empty: it has shape {image.shape}. Allowed: 3 dimensions of 1 or more.")
    if len(shape) != 3:
        raise ImageError(f"{source.name} has shape {image.shape}. Allowed: 3 dimensions.")
    if _is_overlay(shape):
        raise ImageError(
            f"{source.name} has shape {tuple(map(int, shape))}: values at the vertices of a surface, as FreeSurfer "
            "writes them, whose neighbours a volume does not have. Save it as .mgh or GIFTI (mri_convert), with the "
            "hemisphere in its name: that is taken as a surface. Allowed here: volumes."
        )
    dtype = image.get_data_dtype()
    if dtype.kind not in "fiub":
        kind = "complex" if dtype.kind == "c" else "RGB or another compound type" if dtype.fields else str(dtype)
        raise ImageError(f"{source.name} holds {kind} values. Allowed: real numbers. Convert it to one real map.")
    affine = np.asarray(image.affine, dtype=np.float64)
    with np.errstate(all="ignore"):
        maps_to_space = affine.shape == (4, 4) and np.isfinite(affine).all() and np.linalg.det(affine[:3, :3]) != 0
    if not maps_to_space:
        raise ImageError(f"{source.name} has an affine that maps to no space: {affine.tolist()}. Repair its header.")
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def codes_of(source: MapSource) -> tuple[int, int]:
    """NIfTI's sform and qform code of a map, which say what space mm are of; 0 for a qform that the affine contradicts.

    Raises
    ------
    MissingFileError, ImageError
    """
    image = open_image(source)
    if isinstance(image, nib.brikhead.AFNIImage):
        return _codes_of_afni(image.header.info)
    if not isinstance(image.header, nib.Nifti1Header):
        return UNKNOWN_SPACE
    sform, qform = int(image.header["sform_code"]), int(image.header["qform_code"])
    same = qform > 0 and np.allclose(image.header.get_qform(), image.affine, rtol=0, atol=1e-3)
    return sform or qform or UNKNOWN_SPACE[0], qform if same else 0


def _codes_of_afni(attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Codes of the space that a data set of AFNI says it is in: 4 for MNI's, 3 for Talairach's."""
    space, scene = str(attributes.get("TEMPLATE_SPACE", "")).upper(), attributes.get("SCENE_DATA", 0)
    if "MNI" in space:
        return 4, 4
    view = scene[0] if isinstance(scene, list) else scene
    return (3, 3) if space in ("TLRC", "TT_N27") or (not space and view == _TALAIRACH) else UNKNOWN_SPACE


def statistic_of(source: MapSource) -> str:
    """Which statistic the header of a map says that it holds: "t", "f" or "z"; "" for none.

    Raises
    ------
    MissingFileError, ImageError
    """
    header = open_image(source).header
    return _STATISTICS.get(int(header["intent_code"]), "") if isinstance(header, nib.Nifti1Header) else ""


def stored_as_integers(source: MapSource) -> bool:
    """Whether a file holds whole numbers, scaled or not, among which there is no NaN.

    Raises
    ------
    MissingFileError, ImageError
    """
    return bool(open_image(source).get_data_dtype().kind in "iub")


def _is_overlay(shape: tuple[int, ...]) -> bool:
    """Whether an image is a line of vertices, (n, 1, 1); or folded, as FreeSurfer does where n exceeds NIfTI-1."""
    n = math.prod(map(int, shape))
    is_line = sorted(shape)[:2] == [1, 1] and n > _LONGEST_LINE
    return is_line or (shape[1] == 1 and n in _ICOSAHEDRA)


def open_image(source: MapSource) -> Any:
    """Open a source, its data not read yet."""
    if source.image is not None:
        return source.image
    path = cast(Path, source.path)
    quick = _quick_image(path)
    if quick is not None:
        return quick
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{source.name} does not exist (looked for {path}). Check the path.") from error
    except (OSError, ValueError) as error:
        raise ImageError(_closed(source.name, error)) from error
    if stat.S_ISDIR(mode):
        cohort = f" It is a cohort: {term('Cohort.open(path)')} opens it." if (path / "zarr.json").exists() else ""
        raise ImageError(f"{source.name} is a folder. Allowed: {_ALLOWED}.{cohort}")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{source.name} is a pipe or a device. Allowed: {_ALLOWED}.")
    with naming(source):
        try:
            image = open_mgh(path) if is_mgh(path) else nib.load(path)
        except ImageFileError as error:
            raise ImageError(_foreign(source.name, path, error)) from error
    if not isinstance(image, _VOLUMES):
        raise ImageError(
            f"{source.name} is a {type(image).__name__}. Allowed: {_ALLOWED}. "
            "Surfaces (GIFTI) and CIFTI files go by themselves: all maps of a call lie on one kind of space. Convert "
            "other volumes to NIfTI."
        )
    return image


def _quick_image(path: Path) -> Any:
    """Image of a NIfTI file, of its header; None for what must be looked at more closely."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    with suppress(*_UNREADABLE), np.errstate(all="ignore"):  # what is wrong is told in nibabel's words
        return parse_header(beginning(path, HEADER_BYTES))
    return None


def parse_header(data: bytes) -> Any:
    """Make an image of the first bytes of a NIfTI file: its header. None for what `nibabel.load` must look at.

    That opens and decompresses a file three times before it knows as much.
    """
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(data):
            return _headed(kind, data[: kind.header_class.sizeof_hdr])
    return None


@lru_cache(maxsize=8)  # the maps of a cohort often have one and the same header
def _headed(kind: Any, header: bytes) -> Any:
    try:
        image = kind.from_bytes(header + b"\0\0\0\0")  # no extensions: they are not needed
    except (HeaderDataError, ValueError):
        return None
    is_cifti = 3000 <= int(image.header["intent_code"]) < 3100
    return None if is_cifti else image


@contextmanager
def naming(source: MapSource) -> Iterator[None]:
    """Turn what nibabel and the decompressors raise into ours, naming the file."""
    try:
        with np.errstate(all="ignore"):  # of a header's numbers, which are judged by themselves
            yield
    except (NumbaglmError, MemoryError):
        raise
    except PermissionError as error:
        raise ImageError(f"{source.name} may not be read ({error}). Change its permissions.") from error
    except _UNREADABLE as error:
        of_system = isinstance(error, OSError) and error.errno is not None
        raise ImageError((_closed if of_system else _damaged)(source.name, error)) from error


def _foreign(name: str, path: Path, error: BaseException) -> str:
    """Say why nibabel does not recognize a file: a damaged .gz looks like no format at all to it."""
    if path.stat().st_size == 0:
        return f"{name} is empty: it has no bytes. Get it again."
    with path.open("rb") as file:
        start = file.read(8)
    packed = next((kind for kind, (mark, _) in _PACKED.items() if start.startswith(mark)), None)
    if packed is not None and path.suffix.lower() != _PACKED[packed][1]:
        ending = _PACKED[packed][1]
        how = "" if ending in (".gz", ".bz2") else ", and decompress it"
        return f"{name} holds {packed} data, which its name does not say. Rename it to {path.name}{ending}{how}."
    header = path.with_name(re.sub(r"\.img(?=(\.gz)?$)", ".hdr", path.name))
    if not header.exists():
        return f"{name} is without its header: {header} does not exist. Get both files."
    if path.suffix.lower() == ".gz":
        try:
            with gzip.open(path) as stream:
                while stream.read(2**20):
                    pass
        except DECOMPRESSION_ERRORS as cause:
            return _damaged(name, cause)
    return f"{name} is of no format that is known, or is damaged ({error}). Allowed: {_ALLOWED}. Convert it first."


def _closed(name: str, error: BaseException) -> str:
    why = str(error)
    if isinstance(error, OSError):  # the other file of a pair may be the one that is not there
        why = str(error.strerror) if str(error.filename) == name else f"{error.strerror}: {error.filename}"
    return f"{name} can't be opened ({why}). Check the path, the file's permissions and the disk."


def _damaged(name: str, error: BaseException) -> str:
    truncated = isinstance(error, EOFError) or "Expected" in str(error) or "end-of-stream" in str(error)
    foreign = isinstance(error, gzip.BadGzipFile) and not any(word in str(error) for word in ("CRC", "length"))
    what = "is truncated" if truncated else "is not gzip" if foreign else "is damaged"
    advice = "Rename it if it is not compressed, or get it again." if foreign else "Get it again."
    return f"{name} {what} and can't be read ({type(error).__name__}: {error}). {advice}"
