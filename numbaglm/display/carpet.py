"""The picture of a cohort's quality: every map as a row of a carpet, and the numbers by which maps stand out.

On the left is the carpet: a row a subject (or a few, where they are more than 1000), a column some hundred neighbouring
voxels, from the lowest to the highest. On the right are the numbers by which maps stand out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from numbaglm.display.canvas import (
    DIVERGING,
    FAINT,
    HIGHLIGHT,
    INK,
    SavePath,
    finish,
    new_figure,
    shortened,
    text_width,
)
from numbaglm.engine.quality import Quality
from numbaglm.stats.quality import MISSING_LIMIT, Z_LIMIT, Measure

_WIDEST_Z = 4.0
_ALL_NAMED = 40  # subjects, up to whom every row has its label
_LINE = 0.135  # inches from label to label
_CARPET, _PANEL, _GAP = 4.5, 1.0, 0.22
_TITLES = {"mean": "mean", "sd": "sd", "correlation": "correlation with\nthe median", "missing": "voxels missing"}


def carpet(found: Quality, *, title: str | None = None, save: SavePath = None) -> Figure:
    """Draw what `numbaglm.engine.quality.examine` found; see `quality`.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm.engine.quality import examine
    >>> from numbaglm import plotting
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps)
    >>> figure = plotting.carpet(examine(cohort.store))
    """
    labels, outlier = [shortened(str(label), 24) for label in found.table.index], found.table["outlier"].to_numpy(bool)
    n = len(labels)
    body = float(np.clip(_LINE * n, 1.6, 7.0))
    named = np.arange(n) if n <= _ALL_NAMED else np.flatnonzero(outlier)
    named = named[np.argsort(-_oddness(found)[named], kind="stable")][: round(body / _LINE)]
    side = 0.35 + max((text_width(labels[row], 8) for row in named), default=0.0)
    head, foot = 0.45 + (0.3 if title else 0.0), 1.05
    panels = side + _CARPET + _GAP
    width, height = panels + len(_TITLES) * (_PANEL + _GAP), head + body + foot
    figure = new_figure(width, height, title)

    def place(left: float, bottom: float, w: float, h: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, w / width, h / height))

    ax = place(side, foot, _CARPET, body)
    # Rows and columns that pixels can show are kept apart; more of them are averaged, as skipping would hide some.
    smooth = "nearest" if len(found.carpet) < 60 * body else "antialiased"
    image = ax.imshow(found.carpet, aspect="auto", cmap=DIVERGING, extent=(0, found.carpet.shape[1], n, 0))
    image.set(clim=(-_WIDEST_Z, _WIDEST_Z), interpolation=smooth)
    _mark_heights(ax, found.heights)
    _name_rows(ax, [labels[row] for row in named], named, outlier[named], _LINE / body * n)
    if n_more := int(outlier.sum() - outlier[named].sum()):
        text = f"and {n_more:,} more"
        figure.text((side - 0.14) / width, (foot - 0.16) / height, text, ha="right", size=8, color=HIGHLIGHT)
    bar = figure.colorbar(image, cax=place(side + 0.3, 0.43, _CARPET - 0.6, 0.1), orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=8, colors=INK)
    rows = "subjects" if len(found.rows) == n else f"rows, each the mean of about {n / len(found.rows):.0f} subjects"
    bar.set_label(f"robust z of each column over {rows}", size=8, color=INK)
    for number, (name, measure) in enumerate(found.measures.items()):
        panel = place(panels + number * (_PANEL + _GAP), foot, _PANEL, body)
        _draw_measure(panel, measure, outlier, 100.0 if name == "missing" else 1.0)
        panel.set_title(_TITLES[name], size=8, color=INK)
    note = f"Grey: within {Z_LIMIT:g} robust standard deviations; voxels missing: up to {MISSING_LIMIT:.0%}."
    figure.text(panels / width, 0.43 / height, note, size=8, color=FAINT)
    return finish(figure, save)


def _oddness(found: Quality) -> NDArray[np.float64]:
    """(n_subjects,) how far each map stands out, those that do before all others."""
    z = found.table[["z_mean", "z_sd", "z_correlation"]].abs().max(axis=1).to_numpy(float)
    return np.where(found.table["outlier"], np.inf, z)


def _mark_heights(ax: Axes, heights: NDArray[np.float64]) -> None:
    at = np.unique(np.linspace(0, len(heights) - 1, 6).round().astype(int))
    digits = max(0, 1 - int(np.floor(np.log10(np.ptp(heights) or 1.0))))
    names = [f"{heights[k]:.{digits}f}".replace("-", "\u2212") for k in at]
    ax.set_xticks(at + 0.5, names, size=8, color=INK)
    ax.set_xlabel("z of the voxels (mm), from the lowest to the highest", size=8, color=INK, labelpad=2)
    ax.set_yticks([])
    ax.tick_params(length=2, color=INK)


def _name_rows(ax: Axes, names: Sequence[str], rows: NDArray[np.intp], odd: NDArray[np.bool_], gap: float) -> None:
    """Write labels beside their rows, ``gap`` rows apart or more, with a line to the row where one had to move."""
    order = np.argsort(rows)
    wanted = rows[order] + 0.5
    at = wanted.copy()
    for k in range(1, len(at)):
        at[k] = max(at[k], at[k - 1] + gap)
    floor = ax.get_ylim()[0] - gap / 2
    for k in range(len(at) - 1, -1, -1):
        at[k] = min(at[k], floor - (len(at) - 1 - k) * gap)
    for k, y, row in zip(order, at, wanted, strict=True):
        colour, weight = (HIGHLIGHT, "bold") if odd[k] else (FAINT, "normal")
        beside = ax.get_yaxis_transform()
        style: dict[str, Any] = {"size": 8, "color": colour, "weight": weight, "parse_math": False}
        ax.text(-0.03, y, names[k], transform=beside, ha="right", va="center", **style)
        ax.plot([-0.025, -0.005], [y, row], transform=beside, color=colour, linewidth=0.6, clip_on=False)


def _draw_measure(ax: Axes, measure: Measure, outlier: NDArray[np.bool_], unit: float) -> None:
    """Draw a number of each map beside its row, and the range that is not odd. What lies far off is at the edge."""
    values, low, high = measure.values * unit, measure.low * unit, measure.high * unit
    ceiling = high if np.isfinite(high) else float(values.max())
    room = 0.75 * (ceiling - low)
    left, right = max(min(values.min(), low), low - room), min(max(values.max(), ceiling), ceiling + room)
    margin = 0.06 * (right - left) or 1.0
    left, right = left - margin, right + margin
    rows = np.arange(len(values)) + 0.5
    ax.axvspan(low, min(high, right), color="#ececec", linewidth=0)
    ax.axvline(float(np.median(values)), color="#b0b0b0", linewidth=0.8)
    size = float(np.clip(2000.0 / len(values), 3.0, 14.0))
    beyond = (values < left) | (values > right)
    kinds = ((~measure.odd, "o", "#5b7290"), (measure.odd & ~beyond, "D", HIGHLIGHT))
    for which, marker, colour in (*kinds, (values < left, "<", HIGHLIGHT), (values > right, ">", HIGHLIGHT)):
        x = np.clip(values[which], left + margin / 2, right - margin / 2)
        ax.scatter(x, rows[which], s=size * (1 if marker == "o" else 1.6), marker=marker, color=colour, linewidth=0)
    for row in np.flatnonzero(outlier).tolist() if len(values) <= _ALL_NAMED else []:
        ax.axhspan(row, row + 1, color=HIGHLIGHT, alpha=0.08, linewidth=0)
    ax.set(xlim=(left, right), ylim=(len(values), 0))
    ax.set_yticks([])
    ax.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:.6g}{'%' if unit != 1 else ''}".replace("-", "\u2212"))
    ax.tick_params(length=2, labelsize=8, colors=INK)
    ax.spines[["top", "right", "left"]].set_visible(False)
