"""Maps without a place in the head: parcels as bars, networks as a matrix and as a circle.

A part of `numbaglm.display.panels`, which says what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from numpy.typing import NDArray

from numbaglm.display.canvas import FAINT, INK, ColourScale, Map, colour_bar, new_figure, shortened
from numbaglm.spaces.network import Connectome

_MOST_BARS, _FEWEST_BARS, _MOST_EDGES, _MOST_NAMES = 40, 5, 400, 100
_SHORTEST = 0.01  # of the longest bar
_FAINT_BAR = "#cfcfcf"


def bars(
    names: Sequence[str], panels: Mapping[str, Map], scale: ColourScale, title: str | None, label: str | None
) -> Figure:
    """Draw a value for each name as horizontal bars, the largest above; panels side by side have the same rows.

    Parameters
    ----------
    names
        (n,) of parcels or elements; the 40 of the largest values are drawn.
    panels
        Title of each panel, and its (n,) values.
    scale
        Values below its threshold are grey.
    title, label
        What to write above the figure, and below the bars.
    """
    values = {name: np.nan_to_num(np.asarray(one, np.float64), posinf=0.0, neginf=0.0) for name, one in panels.items()}
    stacked = np.stack(list(values.values()))
    rank = np.abs(stacked).max(axis=0) if scale.two_sided else stacked.max(axis=0)
    n_long = int(np.sum(rank > _SHORTEST * rank.max()))  # -log10 p are 0 for many
    chosen = np.argsort(-rank, kind="stable")[: min(_MOST_BARS, max(n_long, _FEWEST_BARS))]
    chosen = chosen[np.argsort(stacked[0, chosen], kind="stable")]  # the largest is drawn last, above
    n, left_out = len(chosen), len(names) - len(chosen)
    shown = [shortened(names[k], 34) for k in chosen]
    margin = 0.2 + 0.068 * max(map(len, shown))
    bottom, top = 0.55 + 0.2 * bool(left_out), 0.2 + 0.3 * bool(title) + 0.3 * any(panels)
    each = min(5.0, max(2.2, (9.5 - margin) / len(values)))
    width, height = margin + len(values) * (each + 0.2) + 0.1, bottom + top + max(0.19 * n, 0.8)
    figure = new_figure(width, height, title)
    for number, (name, one) in enumerate(values.items()):
        box = (margin + number * (each + 0.2), bottom, each, height - bottom - top)
        ax = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        mine = one[chosen]
        colours = np.asarray(scale.cmap(scale.norm(mine)))
        colours[~scale.shown(mine)] = [int(_FAINT_BAR[k : k + 2], 16) / 255 for k in (1, 3, 5)] + [1.0]
        ax.barh(np.arange(n), mine, height=0.72, color=colours)
        for mark in {scale.threshold, -scale.threshold} if scale.two_sided else {scale.threshold}:
            if mark:
                ax.axvline(mark, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
        ax.axvline(0.0, color=FAINT, linewidth=0.6)
        ax.set(ylim=(-0.6, n - 0.4), xlim=_limits(mine, scale))
        ax.set_yticks(range(n), shown if number == 0 else [""] * n, parse_math=False)
        ax.tick_params(length=0, labelsize=8, colors=INK)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel(label or "", size=9, color=INK, parse_math=False)
        if name:
            ax.set_title(shortened(name, int(each / 0.09)), size=10, color=INK, parse_math=False)
    if left_out:
        text = f"{left_out:,} more, of smaller values, are not drawn"
        figure.text(0.5, 0.06 / height, text, ha="center", va="bottom", size=8, color=FAINT)
    return figure


def networks(
    network: Connectome, panels: Mapping[str, Map], scale: ColourScale, title: str | None, label: str | None
) -> Figure:
    """Draw each map of edges as a matrix, nodes by nodes, and as a circle with the edges that reach the threshold.

    Parameters
    ----------
    network
        Nodes and edges.
    panels
        Title of each panel, and its (n_edges,) values.
    scale, title, label
        As in `bars`; what to write above the colour bar.
    """
    side, gap, bar = 3.6, 0.75, 0.75
    names = [shortened(node, 14) for node in network.nodes] if len(network.nodes) <= _MOST_NAMES else []
    margin = 0.2 + 0.065 * max(map(len, names), default=0)
    head, above = 0.35, 0.15 + 0.3 * bool(title)
    width, height = margin + side + gap + margin + side + margin + bar, above + len(panels) * (side + head + margin)
    figure = new_figure(width, height, title)
    size = float(np.clip(72 * side / max(len(names), 1) * 0.8, 3.0, 8.0))
    for number, (name, vector) in enumerate(panels.items()):
        values = np.nan_to_num(np.asarray(vector, np.float64), posinf=0.0, neginf=0.0)
        floor = height - above - number * (side + head + margin) - head - side
        right = margin + side + gap + margin
        left_ax, right_ax = (
            figure.add_axes((at / width, floor / height, side / width, side / height)) for at in (margin, right)
        )
        _matrix(left_ax, network, values, scale, names, size)
        _circle(right_ax, network, values, scale, names, size)
        if name:
            figure.text(
                0.5 * (width - bar) / width,
                (floor + side + 0.12) / height,
                shortened(name, 80),
                ha="center",
                va="bottom",
                size=10,
                color=INK,
                parse_math=False,
            )
    length = min(2.6, side)
    box = (
        (width - bar) / width,
        (height - above - head - side / 2 - length / 2) / height,
        0.13 / width,
        length / height,
    )
    colour_bar(figure, figure.add_axes(box), scale, label)
    return figure


def _matrix(
    ax: Axes, network: Connectome, values: NDArray[np.float64], scale: ColourScale, names: Sequence[str], size: float
) -> None:
    n = len(network.nodes)
    square = np.full((n, n), np.nan)
    first, second = network.ends.T
    square[first, second] = square[second, first] = values
    ax.imshow(np.ma.masked_invalid(square), cmap=scale.cmap, norm=scale.norm, interpolation="nearest")
    if names:
        ax.set_xticks(range(n), names, rotation=90, parse_math=False)
        ax.set_yticks(range(n), names, parse_math=False)
    else:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"{n:,} nodes", size=8, color=FAINT)
    ax.tick_params(length=0, labelsize=size, colors=INK, pad=2)
    for spine in ax.spines.values():
        spine.set(color=FAINT, linewidth=0.6)


def _circle(
    ax: Axes, network: Connectome, values: NDArray[np.float64], scale: ColourScale, names: Sequence[str], size: float
) -> None:
    n = len(network.nodes)
    angle = np.pi / 2 - 2 * np.pi * np.arange(n) / n  # from the top, clockwise
    xy = np.column_stack([np.cos(angle), np.sin(angle)])
    shown = np.flatnonzero(scale.shown(values))
    shown = shown[np.argsort(np.abs(values[shown]), kind="stable")]  # the strongest lie above
    drawn = shown[-_MOST_EDGES:]
    codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3]
    curves = [Path([xy[a], 0.25 * (xy[a] + xy[b]), xy[b]], codes) for a, b in network.ends[drawn]]
    strength = np.abs(values[drawn]) / scale.vmax
    ax.add_collection(
        PathCollection(
            curves,
            facecolors="none",
            edgecolors=np.asarray(scale.cmap(scale.norm(values[drawn]))),
            linewidths=(0.5 + 1.8 * np.clip(strength, 0.0, 1.0)) * (1.0 if len(drawn) < 100 else 0.6),
        ),
        autolim=False,
    )
    joined = np.zeros(n, bool)
    joined[network.ends[shown].ravel()] = True
    ax.scatter(xy[:, 0], xy[:, 1], s=min(22.0, 900 / n), c=np.where(joined, INK, "#c4c4c4"), zorder=3, linewidths=0)
    for k, name in enumerate(names):
        degrees = float(np.degrees(angle[k]))
        turned = np.cos(angle[k]) < -1e-9
        ax.text(
            1.05 * xy[k, 0],
            1.05 * xy[k, 1],
            name,
            rotation=degrees + 180 if turned else degrees,
            rotation_mode="anchor",
            ha="right" if turned else "left",
            va="center",
            size=size,
            color=INK if joined[k] else FAINT,
            parse_math=False,
        )
    ax.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal")
    ax.set_axis_off()
    text = ""
    if not shown.size:
        text = f"no edge reaches {scale.threshold:.3g}"
    elif len(drawn) < len(shown):
        text = f"the {len(drawn)} strongest of {len(shown):,} edges that reach {scale.threshold:.3g}"
    if text:
        ax.text(
            0.5,
            0.5 if not shown.size else -0.02,
            text,
            transform=ax.transAxes,
            ha="center",
            va="top",
            size=8,
            color=FAINT,
        )


def _limits(values: NDArray[np.float64], scale: ColourScale) -> tuple[float, float]:
    top = 1.05 * scale.vmax
    low = min(0.0, float(values.min(initial=0.0)))
    return (-top, top) if scale.two_sided and low < 0 else (1.05 * low, top)
