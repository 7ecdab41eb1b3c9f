"""Pictures of maps, nulls and designs.

Only matplotlib's objects are used, never pyplot: a figure belongs to whoever asked for it, any thread may
draw one, and no window opens. Every function returns its figure, which shows itself in a notebook, and
writes it where ``save`` names a file (.png, .pdf or .svg): whole or not at all. Left is drawn on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from numbaglm.data.geometry import Geometry
from numbaglm.errors import InputError, invalid
from numbaglm.faces._canvas import (
    FAINT,
    HIGHLIGHT,
    INK,
    Map,
    Outline,
    SavePath,
    Scale,
    cells,
    finish,
    mark_ends,
    new_figure,
    paint,
)
from numbaglm.faces.projection import upright
from numbaglm.stats.pvalues import critical_value

# What the nulls are called in the field; a name that is not here stands for itself.
_NULL_LABELS = {
    "max_t": "maximum t",
    "max_f": "maximum F",
    "max_z": "maximum z",
    "max_size": "maximum cluster extent (voxels)",
    "max_mass": "maximum cluster mass",
    "max_tfce": "maximum TFCE",
}


def glass_brain(
    geometry: Geometry,
    vector: Map,
    *,
    threshold: float | None = None,
    two_sided: bool = True,
    title: str | None = None,
    label: str | None = None,
    vmax: float | None = None,
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
    save
        File to write (.png, .pdf or .svg).

    Raises
    ------
    InputError
        A parameter is out of its range, or the map does not fit the mask.
    OutputError
        The file can't be written.
    """
    scale = Scale.of(np.asarray(vector), threshold, two_sided, vmax)
    return finish(_glass_panels(geometry, [("", vector)], scale, "xyz", 1, title, label), save)


def subject_grid(
    geometry: Geometry,
    maps: Map,
    labels: Sequence[str],
    *,
    threshold: float | None = 2.0,
    n_columns: int = 4,
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

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.
    """
    if len(maps) == 0 or len(labels) != len(maps):
        raise InputError(invalid("labels", f"{len(labels)} labels", f"one for each of the {len(maps)} maps"))
    if n_columns < 1:
        raise InputError(invalid("n_columns", n_columns, "1 or more"))
    scale = Scale.of(np.asarray(maps), threshold, True)
    panels = list(zip(labels, maps, strict=True))
    return finish(_glass_panels(geometry, panels, scale, "z", n_columns, title, label), save)


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
    """
    if not logp:
        raise InputError(invalid("logp", dict(logp), "one map or more, by title"))
    values = np.concatenate([np.ravel(vector) for vector in logp.values()])
    scale = Scale.of(values, threshold, False)
    return finish(_glass_panels(geometry, list(logp.items()), scale, "xyz", 2, title, "\u2212log10 p"), save)


def slices(
    geometry: Geometry,
    vector: Map,
    background: Map | None = None,
    *,
    cuts: Sequence[float] | int = 8,
    threshold: float | None = None,
    two_sided: bool = True,
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw axial slices of a map over the mask or an anatomy.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    vector
        (n_voxels,) map. NaN and 0 are not drawn.
    background
        (n_voxels,) values to draw in grey beneath, for instance an anatomy; the mask by default.
    cuts
        z of each slice in mm, or how many to spread over the mask.
    threshold, two_sided, title, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.
    """
    grid = upright(geometry)
    scale = Scale.of(np.asarray(vector), threshold, two_sided)
    inside = grid.index < grid.n_voxels
    over = grid.volume(np.asarray(vector))
    under = grid.volume(np.full(geometry.n_voxels, 0.85) if background is None else np.asarray(background))
    dark, bright = (0.0, 1.0) if background is None else np.percentile(under[inside], [1.0, 99.0])
    heights = grid.spread("z", cuts) if isinstance(cuts, int) else np.asarray(cuts, dtype=float)
    planes = [grid.slice_at("z", mm) for mm in heights]
    names = [f"z = {grid.origin[2] + k * grid.step[2]:.0f} mm".replace("-", "\u2212") for k in planes]
    n_columns = -(-len(planes) // -(-len(planes) // 6))
    figure, axes = cells(names, n_columns, [grid.size("z")], scale, title, None)
    for (ax,), k in zip(axes, planes, strict=True):
        ax.imshow(
            np.ma.masked_where(~inside[:, :, k], under[:, :, k]).T,
            origin="lower",
            extent=grid.extent("z"),
            cmap="gray",
            vmin=dark,
            vmax=bright,
            interpolation="nearest",
        )
        plane = over[:, :, k]
        paint(ax, grid, (np.maximum(plane, 0.0), np.minimum(plane, 0.0)), "z", scale)
        mark_ends(ax, "z")
    return finish(figure, save)


def null_histograms(
    nulls: Mapping[str, NDArray[np.floating]],
    observed: Mapping[str, float],
    *,
    alpha: float = 0.05,
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw the distribution of each maximum statistic, the observed one, and the value it must exceed.

    Parameters
    ----------
    nulls
        Name (such as max_t, max_size) and (n_shufflings,) maxima of each statistic, the observed
        one among them.
    observed
        The observed maximum, by the same names.
    alpha
        Family-wise error rate at which to mark the critical value.
    title, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.
    """
    if not nulls or set(nulls) != set(observed):
        raise InputError(invalid("observed", sorted(observed), f"one value for each of {sorted(nulls)}"))
    if not 0 < alpha < 1:
        raise InputError(invalid("alpha", alpha, "a rate between 0 and 1"))
    n_columns = min(2, len(nulls))
    n_rows = -(-len(nulls) // n_columns)
    width, height = 4.7 * n_columns, 2.8 * n_rows + (0.35 if title else 0.0)
    figure = new_figure(width, height, title)
    top = height - (0.35 if title else 0.0)
    for number, (name, null) in enumerate(nulls.items()):
        row, column = divmod(number, n_columns)
        left, bottom = 4.7 * column + 0.7, top - 2.8 * (row + 1) + 0.55
        ax = figure.add_axes((left / width, bottom / height, 3.8 / width, 1.85 / height))
        _histogram(ax, name, np.asarray(null, dtype=float), float(observed[name]), alpha)
    return finish(figure, save)


def design_matrix(
    matrix: NDArray[np.floating],
    columns: Sequence[str],
    subjects: Sequence[str] | None = None,
    *,
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw a design matrix, each column in greys from its smallest value to its largest.

    Parameters
    ----------
    matrix
        (n_subjects, n_regressors) values.
    columns
        (n_regressors,) names.
    subjects
        (n_subjects,) labels; row numbers by default.
    title, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.
    """
    X = np.asarray(matrix, dtype=float)
    if X.ndim != 2 or X.shape[1] != len(columns):
        raise InputError(invalid("matrix", X.shape, f"(n_subjects, {len(columns)}), a column for each name"))
    if subjects is not None and len(subjects) != len(X):
        raise InputError(invalid("subjects", f"{len(subjects)} labels", f"one for each of the {len(X)} rows"))
    low, span = X.min(axis=0), np.ptp(X, axis=0)
    # A constant column has no range: it is white, or black where it is 0.
    shade = np.where(span > 0, (X - low) / np.where(span > 0, span, 1.0), X != 0)
    body, head = (
        min(max(0.16 * len(X), 1.2), 7.0),
        0.25 + 0.055 * max(map(len, columns)) + (0.3 if title else 0.0),
    )
    names = [str(i + 1) for i in range(len(X))] if subjects is None else list(subjects)
    side = 0.25 + 0.075 * max(map(len, names))
    width, height = side + 0.55 * len(columns) + 0.9, body + head + 0.15
    figure = new_figure(width, height, title)
    ax = figure.add_axes((side / width, 0.15 / height, 0.55 * len(columns) / width, body / height))
    ax.imshow(shade, aspect="auto", cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    ax.set_xticks(range(len(columns)), list(columns), rotation=40, ha="left", rotation_mode="anchor", size=9)
    ax.xaxis.tick_top()
    every = max(1, -(-len(X) // 40))
    ax.set_yticks(range(0, len(X), every), names[::every], size=8)
    ax.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
    ax.grid(which="minor", axis="x", color="#4477aa", linewidth=1.2)
    ax.tick_params(which="both", length=0)
    return finish(figure, save)


def _glass_panels(
    geometry: Geometry,
    panels: Sequence[tuple[str, Map]],
    scale: Scale,
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


def _histogram(ax: Axes, name: str, null: NDArray[np.float64], observed: float, alpha: float) -> None:
    # Bins fit the bulk of the null: the few shufflings near the observed one would stretch them.
    low, high = null.min(), null.max()
    step = max((np.quantile(null, 0.99) - low) / 40, (high - low) / 400) or 1.0
    if np.array_equal(null, np.rint(null)):  # extents: the same number of whole numbers in each bin
        low, step = low - 0.5, np.ceil(step)
    bins = np.arange(low, high + 2 * step, step)
    ax.hist(null, bins=bins.tolist(), histtype="stepfilled", color="#a9b9cc")
    critical = critical_value(null, alpha)
    if np.isfinite(critical):
        text = f"critical value {critical:.4g} (FWE {alpha:g})"
        ax.axvline(critical, color=INK, linewidth=1.2, linestyle="--", label=text)
    ax.axvline(observed, color=HIGHLIGHT, linewidth=2.0, label=f"observed {observed:.4g}")
    ax.set_xlabel(_NULL_LABELS.get(name, name), size=9, color=INK)
    ax.set_ylabel("shufflings", size=9, color=INK)
    ax.tick_params(labelsize=8, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.03)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8, frameon=False, borderaxespad=0.2)
