"""What pages share: pictures, the maps of the slice viewer, templates, and the name of the file they become.

A part of `numbaglm.results.report` and `numbaglm.faces.nilearn.model.report`.
"""

from __future__ import annotations

import base64
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from numbaglm.display.canvas import ColourScale, render
from numbaglm.display.design import design_matrix
from numbaglm.display.maps.background import Anatomy
from numbaglm.display.maps.projection import upright
from numbaglm.display.maps.surfaces import Sheet
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.volume import Geometry

_STEPS = 32767  # of int16
_N_COLOURS = 17
_MOST_COLOURS = 256  # of a PNG with a palette
_LEVELS = 65535  # of uint16
_MOST_CUBES, _SHADES = 110, 51  # of an anatomy: along its longest side, and how many greys

MOST_VERTICES = 400_000
"""Pages with larger surfaces have pictures of them alone: some 12 bytes a vertex are inside."""


@dataclass(frozen=True)
class Picture:
    """A PNG in the page: its data URL, what it shows in words, its caption, and how many pixels wide it is.

    One of lines on plain ground may be turned to its dark form, which an anatomy may not.
    """

    url: str
    alt: str
    caption: str
    width: int
    plain: bool = True


@dataclass(frozen=True, eq=False)
class ViewerMap:
    """A map of the slice viewer.

    Attributes
    ----------
    name, label
        Of what kind it is, and what readers choose it by.
    values
        (n_voxels,) map.
    threshold
        Smallest magnitude that is shown at first.
    signed
        Whether negative values are shown too.
    """

    name: str
    label: str
    values: NDArray[np.generic]
    threshold: float
    signed: bool


def picture(figure: Any, alt: str, caption: str, few_colours: bool = False, plain: bool = True) -> Picture:
    """Draw a figure into a page.

    Parameters
    ----------
    figure, alt, caption, plain
        The picture, its words, and whether it has a dark form.
    few_colours
        Whether 256 colours will do: a picture whose pixels are all different, as noise is, takes a fifth of the bytes.
    """
    content = indexed_png(figure) if few_colours else render(figure, "png")
    url = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(url, alt, caption, round(figure.get_figwidth() * figure.dpi), plain)


def indexed_png(figure: Any) -> bytes:
    """Draw a figure as a PNG of 256 colours or fewer: those that are alike in their upper bits become their mean."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    height, width, _ = pixels.shape
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    for bits in range(8, 0, -1):
        alike, group = np.unique(colours >> (8 - bits), axis=0, return_inverse=True)
        if len(alike) <= _MOST_COLOURS:
            break
    group = group.ravel()
    sums = [np.bincount(group, counts * colours[:, channel]) for channel in range(3)]
    palette = np.rint(np.stack(sums, axis=1) / np.bincount(group, counts)[:, None]).astype(np.uint8)
    keys = (pixels >> (8 - bits)).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    known = alike.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    rows = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = np.searchsorted(known, keys)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", head),
        (b"PLTE", palette.tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def design_picture(rows: NDArray[np.float64], columns: Sequence[str], subjects: Sequence[str]) -> Picture | None:
    """Draw a design matrix, unless all of its rows are the same."""
    if np.all(rows == rows[0]):
        return None
    figure = design_matrix(rows, columns, subjects)
    alt = f"Design matrix: {len(rows)} subjects by {len(columns)} regressors: {', '.join(columns)}."
    return picture(figure, alt, "Design matrix, each column from its smallest value (black) to its largest (white).")


def slice_viewer(
    geometry: Geometry, volumes: Sequence[ViewerMap], start: int, background: Any = None
) -> dict[str, Any]:
    """Return what the slice viewer shows, as JSON types.

    The mask is a bit a voxel of the upright grid that `display.maps.projection.upright` makes, in C order; a map is an
    int16 (little-endian) a voxel of the mask, to be multiplied with its ``unit``. Both are deflated and in base64.

    Parameters
    ----------
    geometry
        Grid and mask.
    volumes
        The maps, the first of them shown at first.
    start
        The voxel of the mask where the slices lie at first.
    background
        An anatomy to lie beneath, an image or its path: a uint8 for each cube of an upright grid of its own.
    """
    grid = upright(geometry)
    inside = grid.index < grid.n_voxels
    return {
        "shape": list(inside.shape),
        "origin": grid.origin.tolist(),
        "step": grid.step.tolist(),
        "mask": _packed(np.packbits(inside).tobytes()),
        "start": geometry.coordinates(np.array([start]))[0].tolist(),
        "hot": _colours(1.0),
        "cold": _colours(0.0),
        "maps": [_packed_map(one, grid.index[inside]) for one in volumes],
        "anatomy": None if background is None else _packed_anatomy(background),
    }


def _packed_anatomy(background: Any) -> dict[str, Any]:
    shades, origin, step = Anatomy.read(background).resampled(_MOST_CUBES)
    levels = np.rint(shades * _SHADES) * (255 // _SHADES)
    return {
        "shape": list(shades.shape),
        "origin": origin.tolist(),
        "step": [step] * 3,
        "data": _packed(levels.astype(np.uint8).tobytes()),
    }


def surface_viewer(sheets: Sequence[Sheet], maps: Sequence[ViewerMap], start: int) -> dict[str, Any]:
    """Return what the viewer of surfaces shows, as JSON types.

    A surface is its vertices (uint16: x of all, then y, then z, each the difference from the vertex before, to be
    summed, multiplied with ``step`` and added to ``low``), its triangles (uint32: the differences of their vertices,
    triangle after triangle), a grey a vertex (uint8), and which vertices are analysed (a bit a vertex). A map is an
    int16 for each element on a surface, surface after surface. All are deflated and in base64.

    Parameters
    ----------
    sheets
        The surfaces, all with a mesh.
    maps
        Of the whole space, the first of them shown at first.
    start
        The element of the space that is marked at first.
    """
    elements = np.concatenate([np.arange(one.where.start, one.where.stop) for one in sheets])
    return {
        "surfaces": [_packed_sheet(one) for one in sheets],
        "start": start,
        "hot": _colours(1.0),
        "cold": _colours(0.0),
        "maps": [_packed_map(one, elements) for one in maps],
    }


def _packed_sheet(sheet: Sheet) -> dict[str, Any]:
    xyz = sheet.mesh.coordinates
    low, step = xyz.min(axis=0), np.maximum(np.ptp(xyz, axis=0), 1e-6) / _LEVELS
    steps = np.rint((xyz - low) / step).astype("<u2")
    differences = np.diff(steps, axis=0, prepend=np.zeros((1, 3), "<u2"))  # modulo 2^16, as is what adds them up
    corners = sheet.mesh.faces.astype("<u4").ravel()
    inside = np.zeros(sheet.part.n_vertices, bool)
    inside[sheet.part.vertices] = True
    return {
        "name": sheet.part.name,
        "side": sheet.side,
        "own": sheet.mesh is sheet.part.mesh,
        "n": sheet.part.n_vertices,
        "first": sheet.where.start,
        "low": low.tolist(),
        "step": step.tolist(),
        "vertices": _packed(_bytes_apart(differences.T)),
        "faces": _packed(_bytes_apart(np.diff(corners, prepend=np.zeros(1, "<u4")))),
        "grey": _packed(np.rint(255 * sheet.grey.clip(0.0, 1.0)).astype(np.uint8).tobytes()),
        "inside": _packed(np.packbits(inside).tobytes()),
    }


def _bytes_apart(numbers: NDArray[np.unsignedinteger[Any]]) -> bytes:
    """The lowest byte of all numbers, then the next of all, and so on: they deflate to less than in their order."""
    return np.ascontiguousarray(
        np.ascontiguousarray(numbers).ravel().view(np.uint8).reshape(numbers.size, -1).T
    ).tobytes()


def _packed_map(one: ViewerMap, elements: NDArray[np.intp]) -> dict[str, Any]:
    """The values of some elements of a map, and what a viewer needs to know of it."""
    values = np.nan_to_num(np.asarray(one.values, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)[elements]
    unit = float(np.abs(values).max()) / _STEPS or 1.0
    return {
        "name": one.name,
        "label": one.label,
        "unit": unit,
        "threshold": one.threshold,
        "signed": one.signed,
        "max": float(np.max(np.abs(values) if one.signed else values, initial=0.0)),
        "logp": one.name.startswith("logp_"),
        "data": _packed(np.rint(values / unit).astype("<i2").tobytes()),
    }


def fill(template: str, **values: Any) -> str:
    """Fill a template of ``display/templates``."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("numbaglm.display", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(**values)


def page_path(path: str | os.PathLike[str]) -> Path:
    """Read the name of a page.

    Raises
    ------
    InputError
        It does not end in .html.
    """
    target = Path(path).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(invalid("path", str(path), "a file name that ends in .html"))
    return target


def _colours(end: float) -> list[list[int]]:
    """Colours of the figures from the middle of their scale to one end, evenly spaced, as RGB up to 255."""
    middle = np.nextafter(0.5, end)  # on the side of the end: both signs meet at 0.5
    ramp = np.asarray(ColourScale(0.0, 1.0, True).cmap(np.linspace(middle, end, _N_COLOURS)))
    colours: list[list[int]] = np.rint(255 * ramp[:, :3]).astype(int).tolist()
    return colours


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")
