"""The quality of maps, all of them in memory at once."""

from __future__ import annotations

import numpy as np


def robust_z(values):
    away = values - np.median(values)
    return away / (1.4826 * np.median(np.abs(away)))


def look(Y):
    """What `numbaglm.stats.quality.Tally` holds of (n_subjects, n_voxels) maps."""
    Y = np.asarray(Y, float)
    median = np.median(Y, axis=0)
    ordered, quartile = np.sort(Y, axis=0), (len(Y) - 1) // 4
    held = np.abs(median) + ordered[len(Y) - 1 - quartile] - ordered[quartile]
    return {
        "mean": Y.mean(axis=1),
        "sd": Y.std(axis=1, ddof=1),
        "low": Y.min(axis=1),
        "high": Y.max(axis=1),
        "n_empty": (np.abs(Y) <= 1e-6 * held).sum(axis=1),
        "correlation": np.array([np.corrcoef(y, median)[0, 1] for y in Y]),
    }
