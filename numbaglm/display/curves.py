"""Shares that grow with something, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from numbaglm.arrays import Doubles
from numbaglm.display.canvas import FAINT, HIGHLIGHT, INK, SavePath, finish, new_figure

_COLOURS = (HIGHLIGHT, "#4a6fa5")


def shares(
    x: Doubles,
    lines: Mapping[str, tuple[Doubles, ...]],
    *,
    across: str,
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw curves of shares from 0 to 1.

    Parameters
    ----------
    x
        (n,) what they are of, called ``across``.
    lines
        Name -> share, lower and upper ends of its intervals, each (n,).
    title, save
        As in `numbaglm.display.maps.brains.glass_brain`.
    """
    width, height = 4.8, 3.3 + (0.35 if title else 0.0)
    figure = new_figure(width, height, title)
    ax = figure.add_axes((0.65 / width, 0.55 / height, 3.95 / width, 2.35 / height))
    for colour, (name, (y, low, high)) in zip(_COLOURS, lines.items(), strict=False):
        ax.errorbar(x, y, np.abs(np.stack([y - low, high - y])), color=colour, marker="o", capsize=3, label=name)
    ax.axhline(0.8, color=FAINT, linewidth=0.8, linestyle=":")
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel(across, size=9, color=INK)
    ax.set_ylabel("share of cohorts, or of the region", size=8, color=INK)
    ax.tick_params(labelsize=8, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8, frameon=False, borderaxespad=0.2)
    return finish(figure, save)
