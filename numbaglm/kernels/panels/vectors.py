"""Vector code of the permuted statistics: a few shufflings by a few voxels, multiplied, then reduced.

A thin product (30 subjects, say) costs little more than a look at its result: a general matrix product, and a
pass over what it wrote, stay far below the machine's rate. Here ROWS shufflings meet VECTORS vectors of voxels,
whose sums stay in registers over all subjects, in order.

Where what is multiplied is each voxel's own, rows of a second panel are gathered instead, each shuffling in its order:
a look into the cache for every product, where weights take one for a whole row.

The functions are written in LLVM's vectors (`_llvm`), by code that runs while numba compiles; LLVM turns them into
what the processor has. Where numba's compiler is switched off (NUMBA_DISABLE_JIT), their plain forms run instead, to
which tests hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import config
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.kernels import _llvm
from numbaglm.kernels._llvm import BYTES, ROWS, VECTORS

__all__ = [
    "BYTES",
    "ROWS",
    "VECTORS",
    "above",
    "above_plain",
    "borrowed",
    "borrowed_plain",
    "first_bit",
    "first_bit_plain",
    "gather",
    "gather_plain",
    "multiply",
    "multiply_plain",
    "reduce",
    "reduce_plain",
]


def multiply_plain(weights: Floats, panel: Floats, scores: Floats, add: bool) -> None:
    """Products of ROWS shufflings with as many voxels as VECTORS vectors hold (width).

    Parameters
    ----------
    weights
        (n_subjects, ROWS).
    panel
        (n_subjects, width) residuals.
    scores
        (ROWS, width), filled or added to.
    add
        Whether what was there stays: products of other subjects.
    """
    products = np.dot(weights.T, panel)
    scores[:] = scores + products if add else products


def gather_plain(places: NDArray[np.int32], permuted: Floats, panel: Floats, scores: Floats, add: bool) -> None:
    """Products, voxel by voxel, of a panel with another whose rows ROWS shufflings permute.

    Parameters
    ----------
    places
        (n_subjects, ROWS) the row of ``permuted`` that takes the place of a subject under each shuffling.
    permuted
        (any, width).
    panel
        (n_subjects, width).
    scores
        (ROWS, width), filled or added to.
    add
        As in `multiply_plain`.
    """
    products = (panel[:, None] * permuted[places]).sum(axis=0)
    scores[:] = scores + products if add else products


def reduce_plain(
    scores: Floats,
    two_sided: bool,
    reference: Floats,
    threshold: Floats,
    counts: NDArray[np.int32],
    best: Floats,
) -> int:
    """Take scores into counts and maxima. A score or a limit that is NaN counts for nothing.

    Parameters
    ----------
    scores
        (ROWS, width).
    two_sided
        Whether absolute scores count.
    reference
        (width,) what a score must reach to be counted.
    threshold
        (1,) what a score must reach to be told of.
    counts
        (width,), added to.
    best
        (ROWS, width / VECTORS), raised to the largest of the VECTORS scores of a lane.

    Returns
    -------
    Bits: the r-th tells whether a score of shuffling r reaches the threshold.
    """
    height = np.abs(scores) if two_sided else scores
    counts += (height >= reference).sum(axis=0, dtype=np.int32)
    np.fmax(best, np.fmax.reduce(height.reshape(ROWS, VECTORS, -1), axis=1), out=best)
    return sum(1 << r for r in range(ROWS) if (height[r] >= threshold).any())


def above_plain(row: Floats, two_sided: bool, threshold: Floats) -> int:
    """Which scores of a shuffling reach a threshold, see `reduce_plain`.

    Where few do, a look at each that does takes less than one at every score.

    Parameters
    ----------
    row
        (width,) scores.

    Returns
    -------
    Bits: the j-th tells whether the score of voxel j does.
    """
    height = np.abs(row) if two_sided else row
    return sum(1 << j for j in np.flatnonzero(height >= threshold).tolist())


def first_bit_plain(bits: int) -> int:
    """Number of the lowest bit that is set, of some that is."""
    return int(bits & -bits).bit_length() - 1


def borrowed_plain(given: Any) -> Any:
    """Arrays, or tuples of them, whose references are not counted: whoever called holds them.

    numba counts one for every part that is cut out of an array, by an instruction that all cores wait for. Where
    loops cut inside, that is a tenth of their time.
    """
    return given


multiply: Callable[[Floats, Floats, Floats, bool], None]
gather: Callable[[NDArray[np.int32], Floats, Floats, Floats, bool], None]
reduce: Callable[[Floats, bool, Floats, Floats, NDArray[np.int32], Floats], int]
above: Callable[[Floats, bool, Floats], int]
first_bit: Callable[[int], int]
borrowed: Callable[[Any], Any]
_compiled: tuple[Any, ...] = (
    _llvm.multiply,
    _llvm.gather,
    _llvm.reduce,
    _llvm.above,
    _llvm.first_bit,
    _llvm.borrowed,
)
_plainly = config.DISABLE_JIT  # type: ignore[attr-defined]
_plain = multiply_plain, gather_plain, reduce_plain, above_plain, first_bit_plain, borrowed_plain
multiply, gather, reduce, above, first_bit, borrowed = _plain if _plainly else _compiled
