"""Maps on surfaces: hemispheres from several sides, shaded, with sulci in grey beneath.

A part of `numbaglm.display.panels`, which says what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from numbaglm.data.images.meshes import by_side, load_meshes, values_of_vertices
from numbaglm.display.canvas import FAINT, ColourScale, Map
from numbaglm.display.maps.relief import LOOKS, Relief, axes_of, curvature_of, extent_of, see
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Mesh, Surface

_PIXELS, _INCHES = 480, 2.8  # of the longest side of a view: at least, and at most
_APART = 6.0  # mm between hemispheres that are seen together
_ONE_SIDED = ("lateral", "medial")
_GYRUS, _DEPTH, _OUTSIDE = 0.79, 0.17, 0.93  # greys: even ground, how much darker or brighter it gets, not analysed


@dataclass(frozen=True, eq=False)
class Sheet:
    """A surface as it is drawn.

    Attributes
    ----------
    part, where
        What is analysed of it, and where its elements are among those of the space.
    mesh
        As it is drawn, inflated perhaps.
    side
        "left" or "right".
    grey
        (n_vertices,) what lies beneath the map, 0 black, 1 white.
    """

    part: Surface
    where: slice
    mesh: Mesh
    side: str
    grey: NDArray[np.float64]

    def values(self, vector: Map) -> NDArray[np.float64]:
        """(n_vertices,) values of a map of the whole space (n,); 0 where nothing is analysed, or no number is."""
        whole = np.zeros(self.part.n_vertices)
        whole[self.part.vertices] = np.nan_to_num(np.asarray(vector[self.where], np.float64), posinf=0.0, neginf=0.0)
        return whole


@dataclass(frozen=True, eq=False)
class View:
    """One or both hemispheres from one side, beside each other.

    Attributes
    ----------
    name
        What is written above.
    sheets
        What is seen, from the left of the picture to the right.
    look
        From where; see `numbaglm.display.maps.relief.LOOKS`.
    mm
        Length of a pixel.
    """

    name: str
    sheets: tuple[Sheet, ...]
    look: str
    mm: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        extents = [extent_of(one.mesh, axes_of(self.look, one.side)) for one in self.sheets]
        widths, heights = zip(*extents, strict=True)
        return sum(widths) + _APART * (len(widths) - 1), max(heights)

    @cached_property
    def reliefs(self) -> list[Relief]:
        """What the sheets show: the same for every map."""
        return [see(one.mesh, axes_of(self.look, one.side), self.mm) for one in self.sheets]

    def draw(self, ax: Axes, vector: Map, scale: ColourScale) -> None:
        """Draw a map of the whole space."""
        width, height = self.size
        left = 0.0
        for sheet, relief in zip(self.sheets, self.reliefs, strict=True):
            image = relief.image(coloured(relief, sheet.grey, sheet.values(vector), scale))
            bottom = (height - relief.size[1]) / 2
            extent = (left, left + relief.size[0], bottom, bottom + relief.size[1])
            ax.imshow(image, extent=extent, interpolation="antialiased")
            left = extent[1] + _APART
        ax.set(xlim=(0.0, width), ylim=(0.0, height), aspect="equal")
        ax.set_axis_off()
        ax.text(0.5, 1.02, self.name, transform=ax.transAxes, ha="center", va="bottom", size=8, color=FAINT)
        if len(self.sheets) > 1:
            for x, sheet in ((0.0, self.sheets[0]), (1.0, self.sheets[-1])):
                side = "right" if x else "left"
                letter = sheet.side[0].upper()
                ax.text(x, 1.0, letter, transform=ax.transAxes, ha=side, va="bottom", size=8, color=FAINT)


def sheets_of(space: Space, surface: Any = None, background: Any = None) -> list[Sheet]:
    """Find what is to be drawn of the surfaces of a space.

    Parameters
    ----------
    space
        Where maps lie; its surfaces alone are looked at.
    surface
        Meshes to draw on, by side, of as many vertices; by default those of the space.
    background
        Values or files by side, larger values darker, such as sulcal depth; by default the curvature of the space's
        meshes.

    Raises
    ------
    InputError, GridError, MissingFileError, ImageError
        A mesh is missing, can't be read, or has another number of vertices.
    """
    parts = [(part, where) for part, where in zip(space.parts, space.slices, strict=True) if isinstance(part, Surface)]
    names = [part.name for part, _ in parts]
    drawn, under = load_meshes(surface, names), by_side(background, names, "background")
    sheets = []
    for part, where in parts:
        mesh = drawn.get(part.name, part.mesh)
        if mesh is None:
            raise InputError(
                f"A picture of the {f'{part.name} surface'.strip()} needs its mesh, and the maps carry none: pass "
                "surface= with it, such as an inflated .surf.gii."
            )
        replace(part, mesh=mesh)  # refuses one of another size
        given = under.get(part.name)
        if given is None:
            depth = curvature_of(part.mesh or mesh)
        else:
            values = values_of_vertices(given, "background", part.name)
            if values.shape != (part.n_vertices,):
                raise InputError(
                    invalid("background", values.shape, f"a value for each of {part.n_vertices:,} vertices")
                )
            depth = _standard(np.nan_to_num(values, posinf=0.0, neginf=0.0))
        grey = np.full(part.n_vertices, _OUTSIDE)
        grey[part.vertices] = (_GYRUS - _DEPTH * np.tanh(depth))[part.vertices]
        sheets.append(Sheet(part, where, mesh, side_of(part, mesh), grey))
    return sheets


def side_of(part: Surface, mesh: Mesh) -> str:
    """Hemisphere of a surface, by its name or else by where it lies."""
    for side in ("left", "right"):
        if side in part.name:
            return side
    return "right" if mesh.coordinates[:, 0].mean() > 0 else "left"


def views_of(sheets: Sequence[Sheet], looks: Sequence[str], dpi: float = 0.0) -> list[View]:
    """Choose the views of a row: of each hemisphere its own, the outer ones outside; or of both together.

    Parameters
    ----------
    sheets, looks
        What is seen, and from where.
    dpi
        Pixels an inch of the picture, which may need more of them than are drawn at least.

    Raises
    ------
    InputError
        There is no such view.
    """
    if isinstance(looks, str) or not looks or set(looks) - set(LOOKS):
        raise InputError(invalid("views", looks, f"one or several of {', '.join(map(repr, LOOKS))}, as a tuple"))
    found: list[tuple[str, tuple[Sheet, ...], str]] = []
    own = [look for look in looks if look in _ONE_SIDED]
    for sheet in sheets:
        mine = own if sheet.side == "left" else own[::-1]
        found += [(f"{sheet.side}, {look}", (sheet,), look) for look in mine]
    for look in (look for look in looks if look not in _ONE_SIDED):
        ordered = sorted(sheets, key=lambda one: one.side, reverse=bool(axes_of(look, "left")[0, 0] < 0))
        found.append((look, tuple(ordered), look))
    longest = max(max(extent_of(one.mesh, axes_of(look, one.side))) for _, seen, look in found for one in seen)
    return [View(*one, longest / max(_PIXELS, _INCHES * dpi)) for one in found]


def coloured(
    relief: Relief, grey: NDArray[np.float64], values: NDArray[np.float64], scale: ColourScale
) -> NDArray[np.float64]:
    """(n_pixels, 3) colours of a map (n_vertices,) over greys (n_vertices,).

    A pixel is coloured where its nearest vertex reaches the threshold, no more and no less; how, is interpolated among
    the corners of its triangle that do, and have its sign.
    """
    light = relief.light[:, None]
    colours = relief.blend(grey)[:, None] * (0.42 + 0.58 * light) * np.ones(3)
    shown, rows = scale.shown(values), np.arange(len(relief.corners))
    near = relief.corners[rows, relief.weights.argmax(axis=1)]
    here = shown[near]
    corners, own = relief.corners[here], values[near[here]]
    at = values[corners]
    weights = relief.weights[here] * (shown[corners] & (np.sign(at) == np.sign(own)[:, None]))
    value = (weights * at).sum(axis=1) / weights.sum(axis=1)
    over = np.asarray(scale.cmap(scale.norm(value)))[:, :3] * (0.68 + 0.32 * light[here])
    colours[here] += scale.alpha * (over - colours[here])
    return np.asarray(colours)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = float(values.std())
    return (values - np.median(values)) / spread if spread > 0 else np.zeros(len(values))
