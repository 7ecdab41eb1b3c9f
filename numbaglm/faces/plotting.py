"""`numbaglm.plotting` by its name of release 0.1."""

from __future__ import annotations

from numbaglm.plotting import (
    carpet,
    design_matrix,
    glass_brain,
    logp_panel,
    null_histograms,
    quality,
    slices,
    subject_grid,
)

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
