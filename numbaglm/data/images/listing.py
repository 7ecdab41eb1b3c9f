"""Maps in whatever form, brought into one list; and masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from numbaglm.data.images.formats.afni import find_data_set, pick_bricks
from numbaglm.data.images.opening import MapSource, codes_of, grid_of, grid_of_image, naming, open_image
from numbaglm.data.images.reading import read_map
from numbaglm.data.labels import labels_of, sorted_frame
from numbaglm.errors import ImageError, InputError, MaskError, compose, invalid, term
from numbaglm.spaces.volume import Geometry, Grid

nib: Any = nibabel

_AS_NETWORK = term("space='network'")
_OF_ARRAYS = (
    f"Say where arrays lie: {_AS_NETWORK} for matrices (n_subjects, n, n), {{'left': ..., 'right': ...}} for values of "
    "vertices (n_subjects, n_vertices), a DataFrame for parcels; or make images, nibabel.Nifti1Image(values, affine)."
)
_ALLOWED_MAPS = (
    "a list, tuple or Series of paths or nibabel images, one 4D image or the path of one, or a DataFrame "
    "with columns 'subject_label' and 'effects_map_path'"
)


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
        sources = _alone(maps)
    elif isinstance(maps, list | tuple | pd.Series) or (isinstance(maps, np.ndarray) and maps.dtype.kind in "OU"):
        sources = [_source(item, number) for number, item in enumerate(maps, 1)]
    else:
        is_array = isinstance(maps, np.ndarray)
        received = f"an array of shape {maps.shape}" if is_array else type(maps).__name__
        raise InputError(compose("maps", received, _ALLOWED_MAPS, _OF_ARRAYS if is_array else ""))
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
        apart = len({source.path for source in sources}) == len(sources)  # a sub-brick of each file
        labels = labels_of([one.file for one in sources if one.volume is None or apart], len(sources))
    return sources, labels, frame


def _source(item: Any, number: int) -> MapSource:
    if isinstance(item, SpatialImage):
        return MapSource(name=f"image {number} ({item.get_filename() or 'in memory'})", image=item)
    if isinstance(item, nib.filebasedimages.FileBasedImage):
        raise ImageError(
            f"Map {number} is a {type(item).__name__}. Allowed: volumes (NIfTI or Analyze). "
            "Surfaces and CIFTI files go by themselves: all maps of a call lie on one kind of space."
        )
    if not isinstance(item, str | os.PathLike):
        fix = _OF_ARRAYS if isinstance(item, np.ndarray) else "Convert it first."
        what = f"an array of shape {item.shape}" if isinstance(item, np.ndarray) else f"a {type(item).__name__}"
        raise InputError(compose("maps", f"{what} as map {number}", "paths and nibabel images", fix))
    if not os.fspath(item):
        raise InputError(invalid("maps", f"an empty path as map {number}", "paths and nibabel images", "Leave it out."))
    path = Path(os.path.abspath(Path(item).expanduser()))  # noqa: PTH100 - resolve() follows links
    if not os.path.exists(path):  # noqa: PTH110 - raises nothing
        picked = _picked(item)
        if len(picked) > 1:
            raise ImageError(
                f"{item} picks {len(picked)} sub-bricks, but one map a subject is needed. Pick one of them, or pass it "
                "alone if they are the subjects."
            )
        if picked:
            return picked[0]
    if any(sign in str(item) for sign in "*?[") and not os.path.exists(path):  # noqa: PTH110 - raises nothing
        raise InputError(
            invalid(
                "maps",
                str(item),
                _ALLOWED_MAPS,
                f"It looks like a pattern: pass sorted(glob.glob({str(item)!r})).",
            )
        )
    return MapSource(name=str(item), path=path)


def _picked(item: str | os.PathLike[str]) -> list[MapSource]:
    """What a name of AFNI's picks, without the ending of its file or with a selector; nothing where it is none."""
    found = find_data_set(os.fspath(item))
    if found is None:
        return []
    path, selector = found
    source = MapSource(name=str(item), path=path)
    if selector is None:
        return [source]
    open_image(source)  # refuses what is no volume
    with naming(source):
        image = nib.load(path)  # with the extensions that hold labels
    numbers = pick_bricks(image, selector, str(item))
    if max(image.shape[3:], default=1) == 1:
        return [source] * len(numbers)
    name = str(item)
    return [MapSource(name if len(numbers) == 1 else f"{name} (volume {volume})", path, volume) for volume in numbers]


def _alone(item: Any) -> list[MapSource]:
    """One image of all subjects, taken apart."""
    if isinstance(item, str | os.PathLike) and not os.path.exists(item):  # noqa: PTH110 - raises nothing
        picked = _picked(item)
        if picked and (len(picked) > 1 or picked[0].volume is not None):
            return picked
    return _volumes(_source(item, 1))


def bricks_of(name: str) -> list[str]:
    """Names of the volumes of a file, each with its number, of those that a selector picks; of one volume the file's.

    Raises
    ------
    InputError, MissingFileError, ImageError
    """
    sources = _alone(name)
    return [name] if len(sources) == 1 else [f"{one.path}[{one.volume}]" for one in sources]


def _volumes(source: MapSource) -> list[MapSource]:
    """Take one 4D image apart into its volumes."""
    image = open_image(source)
    if len(image.shape) < 4:
        return [source]
    if len(image.shape) > 4 and any(length > 1 for length in image.shape[4:]):
        raise ImageError(f"{source.name} has shape {image.shape}. Allowed: 3 dimensions, or 4 with a map a volume.")
    return [
        MapSource(f"{source.name} (volume {volume})", source.path, volume, source.image)
        for volume in range(image.shape[3])
    ]


@dataclass(frozen=True, eq=False)
class _Sum:
    """Weighted sum of maps, made each time that it is asked for: an array to nibabel."""

    terms: tuple[tuple[float, MapSource], ...]
    shape: tuple[int, int, int]

    ndim = 3
    dtype = np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        made = np.zeros(self.shape, np.float64)
        for weight, source in self.terms:
            made += weight * read_map(source)
        return made.astype(np.float32 if dtype is None else dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(np.asarray(self)[index])


def weighted_sum(terms: Sequence[tuple[float, Any]]) -> Any:
    """Make an image of a weighted sum of maps, such as the difference of two, read when its values are asked for.

    Parameters
    ----------
    terms
        A weight and a map, a path or an image, each.

    Raises
    ------
    InputError, MissingFileError, ImageError, GridError
    """
    sources = [_source(item, number) for number, (_, item) in enumerate(terms, 1)]
    shape, affine = grid_of(sources[0])
    grid = Grid(shape, affine, sources[0].name)
    for source in sources[1:]:
        grid.check(*grid_of(source), source.name)
    pairs = tuple((weight, source) for (weight, _), source in zip(terms, sources, strict=True))
    image = nib.Nifti1Image(_Sum(pairs, shape), affine)
    codes = codes_of(sources[0])
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    return image


def is_image(given: Any) -> bool:
    """Whether this is an image in memory, or of a file not read yet."""
    return isinstance(given, nib.filebasedimages.FileBasedImage)


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
    image = open_image(source)
    if source.volume is None and np.prod(image.shape[3:]) > 1:
        raise MaskError(
            f"The mask ({source.name}) is 4D with {np.prod(image.shape[3:])} volumes, but a mask is one volume for all "
            "maps. Extract the volume you mean."
        )
    _, affine = grid_of_image(source, image)
    values = read_map(source)
    inside = np.isfinite(values) & (values != 0)
    if not inside.any():
        raise MaskError(f"The mask ({source.name}) holds no voxel that is finite and not 0. Pass another mask.")
    return Geometry(inside, affine)
