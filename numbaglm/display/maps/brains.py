"""Pictures of maps.

Only matplotlib's objects are used, never pyplot: a figure belongs to whoever asked for it, any thread may
draw one, and no window opens. Every function returns its figure, which shows itself in a notebook, and
writes it where ``save`` names a file (.png, .pdf or .svg): whole or not at all. Left is drawn on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from numbaglm.display.canvas import (
    FAINT,
    INK,
    ColourScale,
    Map,
    Outline,
    SavePath,
    cells,
    finish,
    mark_ends,
    paint,
    planes,
)
from numbaglm.display.maps.background import Background
from numbaglm.display.maps.projection import VIEWS, upright
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.volume import Geometry


def glass_brain(
    geometry: Geometry,
    vector: Map,
    *,
    threshold: float | None = None,
    two_sided: bool = True,
    title: str | None = None,
    label: str | None = None,
    vmax: float | None = None,
    views: str = "xyz",
    alpha: float = 1.0,
    contours: bool = False,
    cmap: Any = None,
    dpi: float | None = None,
    figsize: tuple[float, float] | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw a map as if the brain were glass: its largest values seen from three sides.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    vector
        (n_voxels,) map. NaN and 0 are not drawn.
    threshold
        Values of smaller magnitude are not drawn.
    two_sided
        Draw both signs; otherwise positive values alone.
    title, label
        What to write above the figure, and beside the colour bar.
    vmax
        Value at the end of the colour bar; the map's largest by default.
    views
        From where: "x" (the right), "y" (behind) and "z" (above), one or several.
    alpha
        How opaque colours are over the outline, from 0 to 1.
    contours
        Whether a line goes around what is coloured; with ``alpha=0`` it stands alone.
    cmap
        A colour map of matplotlib, or its name, in place of red and blue; of two sides one that diverges.
    dpi, figsize
        Pixels an inch, and width and height in inches.
    save
        File to write (.png, .pdf or .svg).

    Raises
    ------
    InputError
        A parameter is out of its range, or the map does not fit the mask.
    OutputError
        The file can't be written.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> result = ng.permutation_test(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps, n_perm=0)
    >>> figure = plotting.glass_brain(result.geometry, result.maps["t"], threshold=3.0, label="t", save="t.png")
    """
    if not views or set(views) - set(VIEWS):
        raise InputError(invalid("views", views, '"x", "y" or "z", or several of them such as "xyz"'))
    scale = ColourScale.of(np.asarray(vector), threshold, two_sided, vmax, alpha, cmap, contours)
    return finish(glass_panels(geometry, [("", vector)], scale, views, 1, title, label), save, dpi, figsize)


def subject_grid(
    geometry: Geometry,
    maps: Map,
    labels: Sequence[str],
    *,
    threshold: float | None = 2.0,
    n_columns: int = 4,
    vmax: float | None = None,
    title: str | None = None,
    label: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw every subject's map from above, on one scale.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    maps
        (n_subjects, n_voxels) maps.
    labels
        (n_subjects,) what to write above each.
    threshold, title, label, save
        As in `glass_brain`.
    n_columns
        Subjects in a row.
    vmax
        Value at the end of the colour bar, whose colour larger ones have too; by default the median over subjects of
        their largest, which a single odd map does not stretch.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps)
    >>> figure = plotting.subject_grid(cohort.geometry, cohort.store.read(0, cohort.n_voxels), cohort.subjects)
    """
    if len(maps) == 0 or len(labels) != len(maps):
        raise InputError(invalid("labels", f"{len(labels)} labels", f"one for each of the {len(maps)} maps"))
    if n_columns < 1:
        raise InputError(invalid("n_columns", n_columns, "1 or more"))
    if vmax is None:
        size = np.abs(np.nan_to_num(np.asarray(maps), nan=0.0, posinf=0.0, neginf=0.0))
        vmax = float(np.median(size.max(axis=1))) or None
    scale = ColourScale.of(np.asarray(maps), threshold, True, vmax)
    panels = list(zip(labels, maps, strict=True))
    return finish(glass_panels(geometry, panels, scale, "z", n_columns, title, label), save)


def logp_panel(
    geometry: Geometry,
    logp: Mapping[str, Map],
    *,
    threshold: float = -float(np.log10(0.05)),
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw maps of -log10 p side by side, two in a row, on one scale.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    logp
        Title of each panel, and its (n_voxels,) map of -log10 p.
    threshold
        Smaller values are not drawn; p < 0.05 by default.
    title, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> result = ng.permutation_test(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps, n_perm=255)
    >>> panels = {"max-t": result.maps["logp_fwe_voxel"], "mass": result.maps["logp_fwe_mass"]}
    >>> figure = plotting.logp_panel(result.geometry, panels)
    """
    if not logp:
        raise InputError(invalid("logp", dict(logp), "one map or more, by title"))
    values = np.concatenate([np.ravel(vector) for vector in logp.values()])
    scale = ColourScale.of(values, threshold, False)
    return finish(glass_panels(geometry, list(logp.items()), scale, "xyz", 2, title, "\u2212log10 p"), save)


def slices(
    geometry: Geometry,
    vector: Map,
    background: Any = None,
    *,
    view: str = "z",
    cuts: Sequence[float] | int = 8,
    threshold: float | None = None,
    two_sided: bool = True,
    marks: Sequence[tuple[str, Sequence[float]]] = (),
    title: str | None = None,
    label: str | None = None,
    alpha: float = 1.0,
    contours: bool = False,
    cmap: Any = None,
    dpi: float | None = None,
    figsize: tuple[float, float] | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw slices of a map over the mask or an anatomy.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    vector
        (n_voxels,) map. NaN and 0 are not drawn.
    background
        What to draw in grey beneath: (n_voxels,) values, or an anatomy on any grid of the same space (an image or its
        path), which is seen whole; the mask by default.
    view
        "x" (sagittal), "y" (coronal) or "z" (axial); several, such as "xyz", show one slice each.
    cuts
        Place of each slice on its axis in mm; of one view also how many to spread over the mask.
    marks
        Texts to write at places, each with its (3,) mm, where a slice goes through them: numbers of clusters, say.
    alpha
        How opaque colours are over the background, from 0 to 1.
    contours
        Whether a line goes around what is coloured; with ``alpha=0`` it stands alone.
    threshold, two_sided, title, label, cmap, dpi, figsize, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.
    MissingFileError, ImageError
        The background can't be read.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps)
    >>> z = ng.permutation_test(cohort, n_perm=0).maps["z"]
    >>> figure = plotting.slices(cohort.geometry, z, cuts=[-24, 58], threshold=3.1)
    """
    scale = ColourScale.of(np.asarray(vector), threshold, two_sided, None, alpha, cmap, contours)
    under = Background.under(geometry, background)
    grid = under.grid
    over = grid.volume(np.asarray(vector))
    shown, names = planes(grid, view, cuts)
    if len(view) == 1:
        n_columns = -(-len(shown) // -(-len(shown) // 6))
        figure, axes = cells(names, n_columns, [grid.size(view)], scale, title, label)
    else:
        figure, axes = cells([", ".join(names)], 1, [grid.size(one) for one in view], scale, title, label)
    for ax, (one, k) in zip(chain.from_iterable(axes), shown, strict=True):
        under.draw(ax, one, k)
        plane = np.take(over, k, axis=VIEWS[one][0])
        paint(ax, grid, (np.maximum(plane, 0.0), np.minimum(plane, 0.0)), one, scale)
        mark_ends(ax, one)
        for text, mm in marks:
            if grid.slice_at(one, mm[VIEWS[one][0]]) == k:
                ax.annotate(
                    text,
                    (mm[VIEWS[one][1]], mm[VIEWS[one][2]]),
                    (3, 3),
                    textcoords="offset points",
                    size=8,
                    weight="bold",
                    color="white",
                    zorder=4,
                    path_effects=[withStroke(linewidth=2.0, foreground=INK)],
                    parse_math=False,
                )
    return finish(figure, save, dpi, figsize)


def glass_panels(
    geometry: Geometry,
    panels: Sequence[tuple[str, Map]],
    scale: ColourScale,
    views: str,
    n_columns: int,
    title: str | None,
    label: str | None,
) -> Figure:
    """One glass brain a panel, each of one or more views in a row."""
    grid = upright(geometry)
    outlines = {view: Outline.of(grid, view) for view in views}
    sizes = [grid.size(view) for view in views]
    figure, axes = cells([name for name, _ in panels], n_columns, sizes, scale, title, label)
    for row, (_, vector) in zip(axes, panels, strict=True):
        volume = grid.volume(np.asarray(vector))
        for ax, view in zip(row, views, strict=True):
            outlines[view].draw(ax)
            paint(ax, grid, grid.extremes(volume, view), view, scale)
            mark_ends(ax, view)
        if not scale.shown(volume).any():
            empty = f"nothing reaches {scale.threshold:.3g}"
            middle = row[len(row) // 2]
            middle.text(0.5, 0.0, empty, transform=middle.transAxes, ha="center", va="top", size=8, color=FAINT)
    return figure
