"""Values of maps, from files and images."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import nibabel
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from numpy.typing import NDArray

from numbaglm.data.images.opening import (
    MapSource,
    grid_of,
    grid_of_image,
    naming,
    open_image,
    parse_header,
)
from numbaglm.data.images.raw import HEADER_BYTES, RawMap, Tape, Volume, content, is_plain
from numbaglm.errors import ImageError
from numbaglm.spaces.space import Template
from numbaglm.spaces.volume import Grid

if TYPE_CHECKING:
    from numbaglm.data.images.elements import ElementSource
    from numbaglm.spaces.resampling import Affine, Shape

nib: Any = nibabel

_RAW_TYPES = (
    *(nib.Nifti1Image, nib.Nifti1Pair, nib.Nifti2Image, nib.Nifti2Pair),
    *(nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage, nib.MGHImage),
)


def read_maps(sources: Sequence[MapSource], grid: Grid | None = None) -> Iterator[Volume]:
    """Read maps one by one as float32 (nx, ny, nz), in order.

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
    for raw in read_raw(sources, grid):
        yield raw.copy().volume()


def read_map(source: MapSource, grid: Grid | None = None) -> Volume:
    """Read one map as float32 (nx, ny, nz); see `read_maps`."""
    return next(read_maps([source], grid))


def read_raw(
    sources: Sequence[MapSource] | Sequence[ElementSource],
    grid: Grid | Template | None = None,
    tape: Tape | None = None,
) -> Iterator[RawMap]:
    """Read maps one by one, their values as files have them. Each holds until this thread reads the next.

    Parameters
    ----------
    sources, grid
        As in `read_maps`; or the template of maps on anything but a volume, and where these are.
    tape
        The 4D file that they are volumes of, which stays open; by default it is opened, and closed at the end.
    """
    if isinstance(grid, Template):
        from numbaglm.data.images.elements import read_elements  # where there are some

        yield from read_elements(cast("Sequence[ElementSource]", sources), grid)
        return
    sources = cast(Sequence[MapSource], sources)
    for _, group in groupby(sources, key=lambda source: (source.path, id(source.image), source.volume is None)):
        members = list(group)
        if members[0].volume is None:
            yield from (_on_grid(*_read_whole(source), source, grid) for source in members)
            continue
        image = open_image(members[0])
        shape, affine = grid_of_image(members[0], image)
        file = _data_file(members[0], image)
        with nullcontext() if file is None else nullcontext(tape) if tape is not None else Tape(file) as reel:
            for source in members:
                yield _on_grid(_read_volume(source, image, shape, reel), affine, source, grid)


def _read_whole(source: MapSource) -> tuple[RawMap, NDArray[np.float64]]:
    """Read a file of one map, or an image of one; of a file that is its own header, the header with the data."""
    image, data = None, None
    with naming(source):
        if source.path is not None and source.path.name.lower().endswith((".nii", ".nii.gz")) and source.path.is_file():
            data = content(source.path, partial(_end_of_values, source))
            image = parse_header(bytes(data[:HEADER_BYTES]))
    if image is None:
        image, data = open_image(source), None
    shape, affine = grid_of_image(source, image)
    file = _data_file(source, image)
    with naming(source):
        if file is None:  # not get_fdata: a float64 copy kept by the image would triple the memory of a cohort
            return _of_array(image, None, shape), affine
        data = content(file, _end(image)) if data is None else data
        return _raw(image.dataobj, data, image.dataobj.offset, shape), affine


def _end_of_values(source: MapSource, start: bytes) -> int:
    """Where the values of a NIfTI file end, by its header; 0 where it has none. Refuses what can't be a map."""
    image = parse_header(start)
    if image is None:
        return 0
    grid_of_image(source, image)
    return _end(image)


def _end(image: Any) -> int:
    return int(image.dataobj.offset) + math.prod(map(int, image.shape)) * int(image.dataobj.dtype.itemsize)


def _read_volume(source: MapSource, image: Any, shape: tuple[int, int, int], tape: Tape | None) -> RawMap:
    """Read one volume of a 4D image."""
    with naming(source):
        if tape is None:
            return _of_array(image, source.volume, shape)
        n_bytes = int(np.prod(shape)) * image.dataobj.dtype.itemsize
        begin = image.dataobj.offset + cast(int, source.volume) * n_bytes
        data = tape.read(begin, n_bytes)
        if source.volume == image.shape[3] - 1:
            tape.check_end()
        return _raw(image.dataobj, data, 0, shape)


def _of_array(image: Any, volume: int | None, shape: tuple[int, int, int]) -> RawMap:
    """Read a map, or a volume of several, by way of nibabel: as stored where it is known what that means."""
    values = image.dataobj
    if type(values) is ArrayProxy and type(image) in _RAW_TYPES:
        stored = cast(Any, values).get_unscaled()  # of a kind of compression that is not read here
        stored = stored if volume is None else stored[:, :, :, volume]
        return RawMap(stored.ravel(order="F"), shape, values.slope, values.inter)
    stored = np.asarray(values) if volume is None else np.asarray(values[:, :, :, volume])
    return RawMap(stored.ravel(order="F"), shape)


def _raw(proxy: Any, data: NDArray[np.uint8], offset: int, shape: tuple[int, int, int]) -> RawMap:
    n_values = int(np.prod(shape))
    n_bytes = n_values * proxy.dtype.itemsize
    if len(data) - offset < n_bytes:
        raise EOFError(f"Expected {n_bytes} bytes of data, got {max(len(data) - offset, 0)}")
    return RawMap(np.frombuffer(data, proxy.dtype, n_values, offset), shape, proxy.slope, proxy.inter)


def _data_file(source: MapSource, image: Any) -> Path | None:
    """Which file holds the values of an image as they are; None if nibabel must read them.

    That is for everything but the very types that are known here: others may scale, order or pack values their own way.
    """
    values = image.dataobj
    if type(values) is not ArrayProxy or values.order != "F" or type(image) not in _RAW_TYPES:
        return None
    # What `parse_header` made is of bytes, and knows no file.
    file = Path(values.file_like) if isinstance(values.file_like, str | os.PathLike) else source.path
    return file if file is not None and is_plain(file) else None


def _on_grid(raw: RawMap, affine: NDArray[np.float64], source: MapSource, grid: Grid | None) -> RawMap:
    """Resample a map if it is to be, and check its grid otherwise."""
    if source.onto is not None:
        return resample_linearly(
            replace(raw, name=source.name).volume(), affine, source.onto, zero_is_missing=source.zero_is_missing
        )
    if grid is not None:
        grid.check(raw.shape, affine, source.name)
    return replace(raw, name=source.name)


def resample_linearly(volume: Volume, affine: NDArray[np.float64], grid: Grid, *, zero_is_missing: bool) -> RawMap:
    """Bring a map to another grid, linearly: the mean of up to eight neighbours, weighted, of those that have a value.

    Parameters
    ----------
    volume, affine
        (nx, ny, nz) values, and (4, 4) voxel indices to mm.
    grid
        Where to.
    zero_is_missing
        Whether 0 means "no value", beside NaN and infinity.

    Returns
    -------
    The map; NaN where most of the weight lies on what has no value, or outside the map.
    """
    from nibabel.processing import resample_from_to

    present = np.isfinite(volume) & ((volume != 0) | (not zero_is_missing))

    def moved(values: Volume) -> Volume:
        there = cast(Any, resample_from_to)(nib.Nifti1Image(values, affine), (grid.shape, grid.affine), order=1)
        return np.asarray(there.dataobj, dtype=np.float32)

    weight = moved(present.astype(np.float32))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = moved(np.where(present, volume, np.float32(0))) / weight
    values[weight < 0.5] = np.nan
    return RawMap(values.ravel(order="F"), grid.shape)


def prepared(source: MapSource, shape: Shape, affine: Affine, *, zero_is_missing: bool, fill: bool = False) -> Any:
    """Make an image of a map on another grid, which is read when its values are asked for; see `Prepared`."""
    from numbaglm.spaces.resampling import Prepared  # where maps are to be brought to another grid

    values = Prepared(partial(read_map, source), grid_of(source)[1], shape, affine, zero_is_missing, fill)
    return nib.Nifti1Image(values, affine)


def scaled_volume(path: Path, volume: int, factor: float = 1.0) -> Any:
    """Make an image of one volume of a file, its values times a factor; they are read when they are asked for.

    Parameters
    ----------
    path
        NIfTI or Analyze, of 3 dimensions or 4.
    volume
        Which of its volumes, from 0.

    Raises
    ------
    MissingFileError, ImageError
        The file can't be read, or has no such volume.
    """
    source = MapSource(str(path), path)
    open_image(source)  # which refuses what is no volume
    with naming(source):
        image = nib.load(path)
    n_volumes = image.shape[3] if len(image.shape) > 3 else 1
    if volume >= n_volumes:
        raise ImageError(f"{path} has {n_volumes} volume(s), but number {volume + 1} is asked for. Get the whole file.")
    stored, shape = image.dataobj, image.shape[:3]
    values: Any
    if type(stored) is not ArrayProxy:
        values = np.asarray(stored).reshape(*shape, -1)[..., volume] * factor
    else:
        begin = stored.offset + volume * math.prod(shape) * stored.dtype.itemsize
        scale = stored.slope * factor, stored.inter * factor
        values = cast(Any, ArrayProxy)(stored.file_like, (shape, stored.dtype, begin, *scale))
    return type(image)(values, image.affine, image.header)
