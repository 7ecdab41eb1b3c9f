"""The report's figures: what stands beside what, and how cost grows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from measure import Curve, Row, Section, times

OURS, PEER, GREY = "#c44e52", "#4c72b0", "#9a9a9a"
PEERS = {
    "nilearn": ("nilearn, one job", PEER),
    "mrtrix": ("MRtrix3", "#dd8452"),
    "tfce": ("tfce (C library)", "#55a868"),
}
GROUPS = {
    "nilearn": "ms a shuffling, two-sided",
    "mrtrix": "ms a shuffling, one-sided",
    "tfce": "ms for the TFCE of a map, one core",
}


def beside(sections: Mapping[str, Section], path: Path) -> bool:
    """Draw both sides of each row that has a peer, on one axis of time; tell whether there were any."""
    shown = {key: [row for row in sections[key].rows if row.other] for key in PEERS if key in sections}
    shown = {key: rows for key, rows in shown.items() if rows}
    if not shown:
        return False
    heights = [len(rows) + 0.4 for rows in shown.values()]
    figure = Figure(figsize=(9.0, 1.2 + 0.42 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (key, rows) in zip(axes, shown.items(), strict=True):
        _dumbbells(ax, rows, *PEERS[key])
        ax.set_title(GROUPS[key], loc="left", fontsize=9, color="#555555")
    axes[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    return True


def _dumbbells(ax: Axes, rows: list[Row], label: str, color: str) -> None:
    place = np.arange(len(rows))[::-1]
    ours, peer = np.array([row.ours for row in rows]), np.array([row.other for row in rows], dtype=float)
    ax.hlines(place, ours, peer, color="#d8d8d8", linewidth=2.5, zorder=0)
    ax.scatter(ours, place, color=OURS, label="numbaglm")
    ax.scatter(peer, place, color=color, label=label)
    for y, row, middle in zip(place, rows, np.sqrt(ours * peer), strict=True):
        ax.annotate(times(row.ratio), (middle, y), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    ax.set_xscale("log")
    ax.set_yticks(place, [row.name for row in rows])
    ax.set_ylim(-0.6, len(rows) - 0.3)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)


def growth(sections: Mapping[str, Section], path: Path) -> bool:
    """Draw cost against each size with its slope, and the kernel's rate; tell whether there were any."""
    panels = [[curve] for curve in sections["scaling"].curves] if "scaling" in sections else []
    rates = sections["kernel"].curves if "kernel" in sections else ()
    n = len(panels) + bool(rates)
    if not n:
        return False
    columns = min(n, 2)
    figure = Figure(figsize=(4.4 * columns, 3.3 * -(-n // columns)), layout="constrained")
    axes = figure.subplots(-(-n // columns), columns, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.set_axis_off()
    axes = axes[:n]
    for ax, (curve,) in zip(axes, panels, strict=False):
        _cost(ax, curve)
    if rates:
        _rates(axes[-1], rates)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#eeeeee")
        ax.set_axisbelow(True)
    figure.savefig(path, dpi=150)
    return True


def _cost(ax: Axes, curve: Curve) -> None:
    x, y = np.array(curve.x), np.array(curve.y)
    fixed, slope, off = curve.line
    along = np.geomspace(x[0], x[-1], 50)
    ax.plot(along, fixed + slope * along, "--", color=GREY, label=f"{fixed:.2f} s and a line, within {off:.0%}")
    ax.plot(x, y, "o", color=OURS, label=f"numbaglm, slope of logarithms {curve.slope:.2f}")
    ax.set_yscale("log")
    _plain_ticks(ax, curve.x)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(curve.label)
    ax.set_ylabel("seconds of a whole call")
    ax.legend(frameon=False, fontsize=8)


def _rates(ax: Axes, curves: tuple[Curve, ...]) -> None:
    for curve, color, style in zip(curves, (OURS, PEER, GREY), ("o-", "o-", "--"), strict=True):
        ax.plot(curve.x, curve.y, style, color=color, label=curve.label)
    _plain_ticks(ax, curves[0].x)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("subjects")
    ax.set_ylabel("GFLOP/s, one core")
    ax.legend(frameon=False, fontsize=8, loc="lower right")


def _plain_ticks(ax: Axes, x: tuple[float, ...]) -> None:
    """Name the sizes that were measured."""
    ax.set_xscale("log")
    ax.set_xticks(x, [f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:,.0f}" for value in x], fontsize=8)
    ax.set_xticks([], minor=True)
