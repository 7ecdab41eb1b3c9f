"""Functions of a correlation that are tabled: cubic curves between nodes, to 1e-9 of the function."""

from __future__ import annotations

import numpy as np

from numbaglm.arrays import Floats
from numbaglm.kernels._jit import kernel

SPLIT = 0.9
"""Correlation up to which the first table is on the correlation; beyond it the second is on the logarithm of the
variance that is left."""

LEAST = 1e-14
"""Of the variance that is left."""

NEAREST = 1e-8
"""To no correlation at all."""


@kernel
def looked_up(r: float, tables: Floats, start: int, nodes: int, signed: bool) -> float:
    """Value of a correlation; NaN stays.

    Parameters
    ----------
    tables
        Values at ``nodes`` places, each with its slope a step, of three tables from ``start``: on the correlation from
        -SPLIT, or from 1 - SPLIT where it has no sign, to SPLIT; on log(1 - r^2) beyond; and the same of correlations
        below -SPLIT, or, where they have no sign, on log(r) below 1 - SPLIT.
    """
    r = np.float64(r)
    if r != r:
        return r
    lowest = -SPLIT if signed else 1.0 - SPLIT
    if lowest <= r <= SPLIT:
        place = (r - lowest) * ((nodes - 1) / (SPLIT - lowest))
        table = start
    elif not signed and r < lowest:
        place = (np.log(max(r, NEAREST)) - np.log(lowest)) * ((nodes - 1) / (np.log(NEAREST) - np.log(lowest)))
        table = start + 4 * nodes
    else:
        widest = np.log(1.0 - SPLIT * SPLIT)
        place = (np.log(max(1.0 - r * r, LEAST)) - widest) * ((nodes - 1) / (np.log(LEAST) - widest))
        table = start + 2 * nodes * (1 if r > 0.0 else 2)
    i = min(int(place), nodes - 2)
    x = place - i
    here, there = tables[table + 2 * i], tables[table + 2 * i + 2]
    slope, next_slope = tables[table + 2 * i + 1], tables[table + 2 * i + 3]
    rise = there - here
    curve = slope + next_slope - 2.0 * rise
    return float(here + x * (slope + x * (rise - slope - curve + x * curve)))
