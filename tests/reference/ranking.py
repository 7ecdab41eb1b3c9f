"""Values in the order of their sizes, by Python's own sort."""

from __future__ import annotations

import numpy as np


def rank(values, position, two_sided):
    """Positions by rank, their absolute values, and (n_voxels,) which voxels count."""
    counted = [n for n, value in enumerate(values.tolist()) if (value != 0 if two_sided else value > 0)]
    counted.sort(key=lambda n: abs(values[n]))  # stable
    which = np.zeros(values.size, bool)
    which[counted] = True
    return [int(position[n]) for n in counted], np.abs(values[counted]).astype(np.float64), which
