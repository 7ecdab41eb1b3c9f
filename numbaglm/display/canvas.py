"""What every picture is made of: a figure, a scale of values, cells with a colour bar, layers, a file.

A part of `numbaglm.display.maps.brains`, which says what is drawn.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Curve
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from numbaglm.data.storage.files import write_file
from numbaglm.display.maps.projection import VIEWS, UprightGrid, decimals, larger
from numbaglm.errors import InputError, invalid

Map = NDArray[np.generic]
SavePath = str | os.PathLike[str] | None

INK, FAINT, HIGHLIGHT = "#222222", "#7a7a7a", "#dc4327"
_HOT = ("#ffdf9e", "#fbab5b", "#e8592f", "#b31b22", "#5c0714")
_COLD = ("#c0e4f1", "#74c0df", "#2f8ac6", "#174f98", "#0b1f56")
DIVERGING = LinearSegmentedColormap.from_list("numbaglm-diverging", [*_COLD[::-1], "#f7f7f7", *_HOT], N=513)
"""Red above and blue below, white between them: for values that have no threshold."""

_PAGE = 9.5  # inches that cells fill before they reach their largest size
_LABEL = 11  # letters over a colour bar, side by side
_MARGIN, _GAP, BAR = 0.15, 0.12, 0.75  # inches: around everything, between views, for the colour bar
_PIXELS = 250  # maps are drawn on pixels so small that this many span the longest side of the box, or more
_ENDS = {"x": ("P", "A"), "y": ("L", "R"), "z": ("L", "R")}
_FORMATS = (".png", ".pdf", ".svg")
_PRINTED = 300  # pixels an inch of what is no line in a pdf or svg
_settings = threading.Lock()  # matplotlib's settings are those of all threads


class StillFigure(Figure):
    """A figure that a notebook displays though pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return render(self, "png")


@dataclass(frozen=True)
class ColourScale:
    """What a value looks like: nothing below the threshold, colours from there to ``vmax``.

    Attributes
    ----------
    threshold
        Smallest magnitude that is drawn.
    vmax
        Value at the end of the colour bar, above the threshold.
    two_sided
        Whether negative values are drawn too.
    alpha
        How opaque colours are over an anatomy.
    colours
        A colour map in place of red and blue: one of matplotlib's, or its name.
    contours
        Whether a line goes around what is drawn of voxels.
    """

    threshold: float
    vmax: float
    two_sided: bool
    alpha: float = 1.0
    colours: Any = None
    contours: bool = False

    @classmethod
    def of(
        cls,
        values: Map,
        threshold: float | None,
        two_sided: bool,
        vmax: float | None = None,
        alpha: float = 1.0,
        colours: Any = None,
        contours: bool = False,
    ) -> ColourScale:
        """Choose the scale of some values; without ``vmax``, their largest finite one ends it."""
        if not 0 <= alpha <= 1:
            raise InputError(invalid("alpha", alpha, "a number from 0 to 1"))
        if not (colours is None or isinstance(colours, Colormap) or colours in colormaps):
            allowed = "a colour map of matplotlib, or its name, such as 'viridis' or, for two sides, 'RdBu_r'"
            raise InputError(invalid("cmap", colours, allowed))
        if threshold is not None and not 0 <= threshold < np.inf:
            raise InputError(invalid("threshold", threshold, "None, or a number of 0 or more"))
        if vmax is not None and not 0 < vmax < np.inf:
            raise InputError(invalid("vmax", vmax, "None, or a number above 0"))
        low = threshold or 0.0
        if vmax is None:
            size = np.abs(values) if two_sided else values
            vmax = float(np.max(size, initial=0.0, where=np.isfinite(size)))
        # Where nothing reaches the threshold the colour bar still needs a length.
        return cls(low, vmax if vmax > low else 1.25 * low or 1.0, two_sided, alpha, colours, contours)

    def shown(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which values are drawn; 0 never is."""
        size = np.abs(values) if self.two_sided else values
        return (size >= self.threshold) & (size > 0)

    @cached_property
    def norm(self) -> Normalize:
        """From value to place on the colour bar."""
        return Normalize(-self.vmax if self.two_sided else 0.0, self.vmax)

    @cached_property
    def cmap(self) -> Colormap:
        """Red above and blue below, darker with size, grey under the threshold: safe for the colour-blind."""
        upper_edges = np.linspace(0.0, self.vmax, 513)[1:]
        ramp = np.clip((upper_edges - self.threshold) / (self.vmax - self.threshold), 0.0, 1.0)
        hot, cold = _blend(ramp, _HOT), _blend(ramp, _COLD)
        if self.colours is not None:
            given = self.colours if isinstance(self.colours, Colormap) else colormaps[self.colours]
            hot, cold = given(0.5 + ramp / 2 if self.two_sided else ramp)[:, :3], given(0.5 - ramp / 2)[:, :3]
        hot[upper_edges < self.threshold] = cold[upper_edges < self.threshold] = 0.9
        return ListedColormap(np.vstack([cold[::-1], hot]) if self.two_sided else hot, name="numbaglm")


def _blend(ramp: NDArray[np.float64], stops: Sequence[str]) -> NDArray[np.float64]:
    """(n, 3) colours at ``ramp`` (n,) in [0, 1] along evenly spaced stops."""
    rgb = np.array([[int(stop[i : i + 2], 16) / 255 for i in (1, 3, 5)] for stop in stops])
    at = np.linspace(0.0, 1.0, len(stops))
    return np.column_stack([np.interp(ramp, at, channel) for channel in rgb.T])


def even_steps(n: int, of: int) -> Colormap:
    """Return the first n of so many colours from the lightest to the darkest, each for an even share of a scale."""
    return ListedColormap(_blend(np.linspace(0.0, 1.0, of), _HOT)[:n], name="numbaglm-steps")


def new_figure(width: float, height: float, title: str | None) -> Figure:
    """Open a figure of this many inches, its title at the top."""
    figure = StillFigure(figsize=(width, height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        title = shortened(title, max(40, int(15 * width)))
        fits = min(12.0, 11.4 * (width - 0.2) / text_width(title, 12.0))  # points; pixels widen small letters by 5 %
        figure.text(0.5, 1 - 0.12 / height, title, ha="center", va="top", size=fits, color=INK, parse_math=False)
    return figure


def cells(
    names: Sequence[str],
    n_columns: int,
    sizes: Sequence[tuple[float, float]],
    scale: ColourScale | None,
    title: str | None,
    label: str | None,
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of named cells, and a colour bar for all of them.

    Axes are placed by hand, in inches: a layout engine would draw everything twice, and not keep one scale.

    Parameters
    ----------
    names
        What to write above each cell.
    n_columns
        Cells in a row.
    sizes
        Width and height in mm of the views that stand side by side in a cell; a mm is as long in all.
    scale
        What the colour bar shows; there is none without.
    title, label
        What to write above the figure, and above the colour bar.

    Returns
    -------
    The figure, and for each cell the axes of its views.
    """
    n_columns = min(n_columns, len(names))
    n_rows = -(-len(names) // n_columns)
    head = 0.32 if any(names) else 0.15
    cell_width = float(np.clip(_PAGE / n_columns, 1.3, 2.8 * len(sizes)))
    if len(sizes) == 1:
        cell_width = min(cell_width, 1.7)
    inch = (cell_width - _GAP * len(sizes)) / sum(w for w, _ in sizes)
    row_height = max(h for _, h in sizes) * inch + head + _GAP
    width = 2 * _MARGIN + n_columns * cell_width + (BAR if scale else 0.0)
    top = _MARGIN + (0.3 if title else 0.0)
    height = top + n_rows * row_height + _MARGIN
    figure = new_figure(width, height, title)
    axes = []
    for number, name in enumerate(names):
        row, column = divmod(number, n_columns)
        left, ceiling = _MARGIN + column * cell_width, height - top - row * row_height
        figure.text(
            (left + (cell_width - _GAP) / 2) / width,
            (ceiling - 0.04) / height,
            shortened(name, int(cell_width / 0.095)),  # inches, of a letter
            ha="center",
            va="top",
            size=10,
            color=INK,
            parse_math=False,
        )
        middle = ceiling - head - (row_height - head - _GAP) / 2
        views = []
        for w, h in sizes:
            box = (left / width, (middle - h * inch / 2) / height, w * inch / width, h * inch / height)
            views.append(figure.add_axes(box))
            left += w * inch + _GAP
        axes.append(views)
    if scale is None:
        return figure, axes
    span = height - top - head - _MARGIN
    length = max(min(span - 0.3, 2.6), 0.6)
    bottom = _MARGIN + (span - length) / 2
    bar = figure.add_axes(((width - BAR) / width, bottom / height, 0.13 / width, length / height))
    colour_bar(figure, bar, scale, label)
    return figure, axes


def stacked(
    rows: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    scale: ColourScale,
    title: str | None,
    label: str | None,
) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure of rows of views, each row as wide as there is room for, and a colour bar for all of them.

    Parameters
    ----------
    rows
        What to write above each, and width and height in mm of its views; a mm is as long in all of a row.
    scale, title, label
        As in `cells`.

    Returns
    -------
    The figure, and for each row the axes of its views.
    """
    lengths = []
    for _, sizes in rows:
        room = min(_PAGE, 2.8 * len(sizes)) - _GAP * (len(sizes) - 1)
        lengths.append(room / sum(w for w, _ in sizes))
    heads = [0.55 if name else 0.3 for name, _ in rows]
    inner = [
        sum(w for w, _ in sizes) * inch + _GAP * (len(sizes) - 1)
        for (_, sizes), inch in zip(rows, lengths, strict=True)
    ]
    tall = [max(h for _, h in sizes) * inch for (_, sizes), inch in zip(rows, lengths, strict=True)]
    top = _MARGIN + (0.2 if title else 0.0)
    width, height = 2 * _MARGIN + max(inner) + BAR, top + sum(heads) + sum(tall) + 2 * _MARGIN
    figure = new_figure(width, height, title)
    axes, ceiling = [], height - top
    for (name, sizes), inch, head, wide, high in zip(rows, lengths, heads, inner, tall, strict=True):
        if name:
            place = (_MARGIN + wide / 2) / width, (ceiling - 0.1) / height
            text = shortened(name, int(wide / 0.095))
            figure.text(*place, text, ha="center", va="top", size=10, color=INK, parse_math=False)
        left, views = _MARGIN, []
        for w, h in sizes:
            floor = ceiling - head - (high + h * inch) / 2
            views.append(figure.add_axes((left / width, floor / height, w * inch / width, h * inch / height)))
            left += w * inch + _GAP
        axes.append(views)
        ceiling -= head + high
    length = max(min(height - top - 0.9, 2.6), 0.6)
    bottom = (height - top - 0.35 - length) / 2
    bar = figure.add_axes(((width - BAR) / width, bottom / height, 0.13 / width, length / height))
    colour_bar(figure, bar, scale, label)
    return figure, axes


def colour_bar(figure: Figure, axes: Axes, scale: ColourScale, label: str | None) -> None:
    """Draw a colour bar into axes: what is drawn, and from which value on."""
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.cmap), cax=axes)
    room = 0.05 * scale.vmax * (2 if scale.two_sided else 1)  # that a label takes
    ends = {mark for mark in (0.0, scale.vmax) if abs(mark - scale.threshold) > room}
    marks = ends | {scale.threshold}
    ticks = sorted(marks | {-mark for mark in marks} if scale.two_sided else marks)
    bar.set_ticks(ticks, labels=[f"{tick:.3g}".replace("-", "\u2212") for tick in ticks])
    bar.outline.set_visible(False)
    axes.tick_params(length=2, labelsize=8, colors=INK)
    if label:
        lines = "\n".join(wrap(label, _LABEL, break_long_words=False))
        axes.set_title(lines, size=8, color=INK, pad=9, loc="left", parse_math=False)


def planes(grid: UprightGrid, views: str, cuts: Sequence[float] | int) -> tuple[list[tuple[str, int]], list[str]]:
    """Choose slices: the view and the index of each, and their names.

    Parameters
    ----------
    grid
        Where they lie.
    views
        One of x, y and z; or several, each with one slice.
    cuts
        Places in mm: on the axis of the one view, or one for each of several; of one view also how many to spread
        over the mask.
    """
    if not views or set(views) - set(VIEWS) or len(set(views)) < len(views):
        raise InputError(invalid("view", views, '"x", "y" or "z", or several of them such as "xyz"'))
    n_places = None if isinstance(cuts, int) else len(cuts)
    if n_places == 0 or (len(views) > 1 and n_places != len(views)):
        of_one = "one place in mm or more, or how many to spread over the mask"
        of_several = f"{len(views)} places in mm, one for each of {', '.join(views)}"
        raise InputError(invalid("cuts", cuts, of_one if len(views) == 1 else of_several))
    places = grid.spread(views, cuts).tolist() if isinstance(cuts, int) else [float(mm) for mm in cuts]
    along = views * len(places) if len(views) == 1 else views
    found = [(view, grid.slice_at(view, mm)) for view, mm in zip(along, places, strict=True)]
    digits, axes = decimals(grid.step), [VIEWS[view][0] for view, _ in found]
    mm = [grid.origin[axis] + k * grid.step[axis] + 0.0 for axis, (_, k) in zip(axes, found, strict=True)]
    names = [f"{view} = {at:.{digits}f} mm".replace("-", "\u2212") for (view, _), at in zip(found, mm, strict=True)]
    return found, names


def fineness(grid: UprightGrid, view: str) -> NDArray[np.intp]:
    """(2,) pixels of a view to a voxel, to the right and up."""
    pixel = (grid.step * grid.index.shape).max() / _PIXELS
    return np.asarray(np.ceil(grid.step[list(VIEWS[view][1:])] / pixel), dtype=np.intp)


def _finer(grid: UprightGrid, image: NDArray[np.float32], view: str) -> NDArray[np.float32]:
    return np.asarray(zoom(image, fineness(grid, view), order=1, mode="nearest", grid_mode=True))


@dataclass(frozen=True)
class Outline:
    """The shape of the mask from one side: contoured once, drawn as often as there are panels."""

    body: Sequence[Curve]
    depths: Sequence[Curve]

    @classmethod
    def of(cls, grid: UprightGrid, view: str) -> Outline:
        """Contour the silhouette, and in it where the mask is half and three quarters as deep as it gets."""
        depth = _finer(grid, grid.depth(view).astype(np.float32), view)
        # A voxel and a quarter at most: more would reach over the margin, where the outline would be cut off.
        image = gaussian_filter(depth, np.minimum(2.5, 1.25 * fineness(grid, view))).T
        image /= image.max()
        scratch = Figure().add_subplot()
        body = scratch.contourf(image, levels=(0.08, 2.0), extent=grid.extent(view)).get_paths()
        return cls(body, scratch.contour(image, levels=(0.5, 0.78), extent=grid.extent(view)).get_paths())

    def draw(self, ax: Axes) -> None:
        """Lay the body and its depths under the map, and its edge over it."""
        for paths, fill, edge, width, order in (
            (self.body, "#f7f7f7", "none", 0.0, 0),
            (self.depths, "none", "#d0d0d0", 0.7, 1),
            (self.body, "none", "#555555", 1.1, 3),
        ):
            layer = PathCollection(paths, facecolors=fill, edgecolors=edge, linewidths=width, zorder=order)
            ax.add_collection(layer, autolim=False)


def paint(
    ax: Axes,
    grid: UprightGrid,
    extremes: tuple[NDArray[np.float32], NDArray[np.float32]],
    view: str,
    scale: ColourScale,
) -> None:
    """Lay the map's pixels over a view: its positive and negative ``extremes``, both (n_right, n_up)."""
    # The signs are interpolated apart: together they would cancel where a peak lies before a trough.
    image = (
        larger(*(_finer(grid, part, view) for part in extremes)) if scale.two_sided else _finer(grid, extremes[0], view)
    )
    # Between its neighbours a voxel that just reaches the threshold would be lost: its middle is drawn as it is.
    whole, fine = larger(*extremes) if scale.two_sided else extremes[0], fineness(grid, view)
    faint = scale.shown(image).reshape(len(whole), fine[0], -1, fine[1]).mean(axis=(1, 3)) < 0.25
    middle = np.outer(*(np.abs(np.arange(n) + 0.5 - n / 2) <= n / 4 for n in fine))
    lost = np.kron(scale.shown(whole) & faint, middle)
    image = np.where(lost, np.kron(whole, np.ones(fine, np.float32)), image)
    visible = np.ma.masked_where(~scale.shown(image), image)
    extent = grid.extent(view)
    ax.imshow(
        visible.T,
        origin="lower",
        extent=extent,
        cmap=scale.cmap,
        norm=scale.norm,
        alpha=scale.alpha,
        interpolation="nearest",
        zorder=2,
    )
    if scale.contours and scale.shown(image).any():
        edge = np.pad(scale.shown(image), 1).astype(np.float32)  # a line closes at the edge of the picture too
        right, up = ((extent[k + 1] - extent[k]) / n for k, n in zip((0, 2), image.shape, strict=True))
        wider = (extent[0] - right, extent[1] + right, extent[2] - up, extent[3] + up)
        ax.contour(edge.T, levels=[0.5], colors=INK, linewidths=0.7, extent=wider, zorder=3)
    ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
    ax.set_axis_off()


def mark_ends(ax: Axes, view: str) -> None:
    """Say which way a view looks: left and right, or back (P) and front (A)."""
    for x, text in zip((0.0, 1.0), _ENDS[view], strict=True):
        side = "left" if x == 0.0 else "right"
        ax.text(x, 1.0, text, transform=ax.transAxes, ha=side, va="bottom", size=8, color=FAINT)


def text_width(text: str, size: float) -> float:
    """Inches that a text of this size (points) takes."""
    return float(text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]) / 72


def shortened(text: str, most: int = 44) -> str:
    """Leave the middle of a text out where it is longer than ``most`` letters."""
    return text if len(text) <= most else f"{text[: most // 2]}\u2026{text[-(most - most // 2 - 1) :]}"


def render(figure: Figure, kind: str) -> bytes:
    """Draw a figure into the bytes of a png, pdf or svg file; text stays text in the latter two."""
    buffer = io.BytesIO()
    with _settings, rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure.savefig(buffer, format=kind, dpi=figure.dpi if kind == "png" else max(figure.dpi, _PRINTED))
    return buffer.getvalue()


def finish(
    figure: Figure, save: SavePath, dpi: float | None = None, figsize: tuple[float, float] | None = None
) -> Figure:
    """Give the figure the size asked for, write it where asked, whole or not at all, and hand it on."""
    if dpi is not None:
        if not 0 < dpi < np.inf:
            raise InputError(invalid("dpi", dpi, "None, or pixels an inch, such as 300"))
        figure.set_dpi(dpi)
    if figsize is not None:
        if len(figsize) != 2 or not all(0 < inches < np.inf for inches in figsize):
            raise InputError(invalid("figsize", figsize, "None, or width and height in inches, such as (7, 3)"))
        figure.set_size_inches(*figsize)
    if save is None:
        return figure
    path = Path(save).expanduser()
    if path.suffix.lower() not in _FORMATS:
        raise InputError(invalid("save", str(path), "a file name that ends in .png, .pdf or .svg"))
    write_file(path, render(figure, path.suffix[1:].lower()), "figure")
    return figure
