"""Slices of a mask.

A part of `numbaglm.display.brains`, for the report of a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from numbaglm.display.background import Background
from numbaglm.display.canvas import HIGHLIGHT, cells, mark_ends, planes
from numbaglm.display.projection import VIEWS, upright
from numbaglm.spaces.volume import Geometry

_N_CUTS = 8


def mask_slices(geometry: Geometry, background: Any = None) -> Figure:
    """Draw axial slices of a mask: in grey, or as its outline over an anatomy.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    background
        As in `numbaglm.display.brains.slices`.
    """
    grid, under = upright(geometry), Background.of(upright(geometry), background)
    inside = grid.volume(np.ones(geometry.n_voxels))
    shown, names = planes(grid, "z", _N_CUTS)
    figure, axes = cells(names, _N_CUTS, [grid.size("z")], None, None, None)
    for (ax,), (view, k) in zip(axes, shown, strict=True):
        extent = grid.extent(view)
        under.draw(ax, view, k)
        plane = np.take(inside, k, axis=VIEWS[view][0])
        if background is not None and plane.any():
            ax.contour(plane.T, levels=[0.5], colors=HIGHLIGHT, linewidths=0.8, extent=extent)
        ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        ax.set_axis_off()
        mark_ends(ax, view)
    return figure
