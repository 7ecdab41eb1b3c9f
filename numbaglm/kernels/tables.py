"""Functions of a correlation that are tabled.

Cubic curves between nodes follow them to 1e-9. What takes them many million times in single precision has a polynomial,
which vector code computes; or straight lines between nodes.
"""

from __future__ import annotations

from typing import Any

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


DEGREE = 16
"""Of polynomials."""


@kernel
def polynomial(r: Floats, constants: Floats, start: int, scale: float, shift: Any, out: Floats) -> None:
    """Polynomial of ``|r| * scale - shift``, whose coefficients begin at ``start``, the constant first; NaN stays."""
    c0 = constants[start]
    c1 = constants[start + 1]
    c2 = constants[start + 2]
    c3 = constants[start + 3]
    c4 = constants[start + 4]
    c5 = constants[start + 5]
    c6 = constants[start + 6]
    c7 = constants[start + 7]
    c8 = constants[start + 8]
    c9 = constants[start + 9]
    c10 = constants[start + 10]
    c11 = constants[start + 11]
    c12 = constants[start + 12]
    c13 = constants[start + 13]
    c14 = constants[start + 14]
    c15 = constants[start + 15]
    c16 = constants[start + 16]
    for v in range(r.shape[0]):
        u = abs(r[v]) * scale - shift
        high = (((((((c16 * u + c15) * u + c14) * u + c13) * u + c12) * u + c11) * u + c10) * u + c9) * u + c8
        out[v] = (((((((high * u + c7) * u + c6) * u + c5) * u + c4) * u + c3) * u + c2) * u + c1) * u + c0


@kernel
def lines(r: Floats, constants: Floats, start: int, nodes: int, low: float, steps: float, out: Floats) -> None:
    """Straight lines between nodes ``1 / steps`` apart from ``low`` on, of values and rises; NaN stays."""
    zero, last = r.dtype.type(0.0), np.int32(nodes - 2)
    for v in range(r.shape[0]):
        place = (r[v] - low) * steps
        place = place if place > zero else zero
        i = np.int32(place)
        i = i if i < last else last
        place -= r.dtype.type(i)
        out[v] = constants[start + 2 * i] + place * constants[start + 2 * i + 1] + (r[v] - r[v])
