"""Numbers of each shuffling that follow from which subjects an element has: once a pattern, not once an element.

Patterns of presence stand side by side as elements do: rows of a batch of shufflings are multiplied with them, in
double precision, and a kernel makes of the products what scores need, such as the factor of a Gram matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import Scoring, call
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS, multiply

WIDTH = VECTORS * BYTES // 8
"""Patterns side by side."""


def in_panels(values: NDArray[Any]) -> NDArray[Any]:
    """(n_panels, n, WIDTH) of (n, n_patterns), the last panel filled up with its last pattern."""
    n, n_patterns = values.shape
    n_panels = -(-n_patterns // WIDTH)
    filled = np.pad(values, ((0, 0), (0, n_panels * WIDTH - n_patterns)), mode="edge")
    return np.ascontiguousarray(filled.reshape(n, n_panels, WIDTH).transpose(1, 0, 2))


def numbers_of_patterns(
    grouped: Floats, present: NDArray[np.bool_], fixed: Doubles, scoring: Scoring, out: Floats
) -> None:
    """Make the numbers of a batch of shufflings of some patterns.

    Parameters
    ----------
    grouped
        (n_groups, n_rows, n_subjects, ROWS) rows of each shuffling.
    present
        (n_panels, n_subjects, WIDTH) who is there; see `in_panels`.
    fixed
        (n_panels, n_fixed, WIDTH) what no shuffling changes of each pattern.
    scoring
        What makes numbers of the products: the kernel leaves them in its first rows.
    out
        (n_groups, n_kept, ROWS, n_patterns), filled; patterns may be more or fewer than the panels hold.
    """
    n_rows = grouped.shape[1]
    table = np.empty((max(n_rows + scoring.n_scratch, out.shape[1]), ROWS, WIDTH))
    _make(
        grouped,
        present,
        fixed,
        scoring.address(np.dtype(np.float64)),
        (scoring.sizes, scoring.constants),
        (table, table.reshape(len(table), -1), np.empty(present.shape[1:])),
        out,
    )


@kernel
def _make(
    grouped: Floats,
    present: NDArray[np.bool_],
    fixed: Doubles,
    score: Any,
    told: tuple[NDArray[np.int64], Floats],
    memory: tuple[Doubles, Doubles, Doubles],
    out: Floats,
) -> None:
    """The loops of `numbers_of_patterns`."""
    sizes, constants = told
    table, flat, panel = memory
    n_patterns, width = out.shape[3], present.shape[2]
    for p in range(present.shape[0]):
        start = p * width
        n_there = min(width, n_patterns - start)
        for s in range(panel.shape[0]):
            there, here = present[p, s], panel[s]
            for j in range(width):
                here[j] = 1.0 if there[j] else 0.0
        for g in range(grouped.shape[0]):
            for k in range(grouped.shape[1]):
                multiply(grouped[g, k], panel, table[k], False)
            if score:
                call(score, flat, fixed[p], sizes, constants)
            for k in range(out.shape[1]):
                for r in range(out.shape[2]):
                    there, here = table[k, r], out[g, k, r, start : start + n_there]
                    for j in range(n_there):
                        here[j] = there[j]


@kernel
def spread(numbers: Floats, of: NDArray[np.int32], place: tuple[int, int, int], table: Floats, first_row: int) -> None:
    """Copy to elements side by side the numbers of their patterns.

    Parameters
    ----------
    numbers
        (n_groups, n_kept, ROWS, n_patterns).
    of
        (n_tiles, TILE) pattern of each element; those of one side by side.
    place
        Which group, which tile, and the first column there.
    table
        (n, ROWS, width), of which n_kept rows from ``first_row`` on are filled.
    """
    group, tile, first = place
    width = table.shape[2]
    which = of[tile, first : first + width]
    one, other = which[0], which[width - 1]
    n_one, n_other = 0, 0
    for j in range(width):
        n_one += 1 if which[j] == one else 0
        n_other += 1 if which[j] == other else 0
    # Elements are ordered by their patterns: most panels have one, or one and then another.
    few = n_one == width or n_one + n_other == width
    for k in range(numbers.shape[1]):
        for r in range(numbers.shape[2]):
            there, here = numbers[group, k, r], table[first_row + k, r]
            if few:
                value, next_value = there[one], there[other]
                for j in range(width):
                    here[j] = value if j < n_one else next_value
            else:
                for j in range(width):
                    here[j] = there[which[j]]
