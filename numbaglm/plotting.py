"""Figures: every function returns a matplotlib figure, opens no window, and writes a file where `save` names one."""

from __future__ import annotations

from numbaglm.display.brains import (
    design_matrix,
    glass_brain,
    logp_panel,
    null_histograms,
    slices,
    subject_grid,
)
from numbaglm.display.carpet import carpet, quality

__all__ = [
    "carpet",
    "design_matrix",
    "glass_brain",
    "logp_panel",
    "null_histograms",
    "quality",
    "slices",
    "subject_grid",
]
