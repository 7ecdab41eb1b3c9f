"""Where the elements of a map lie, and which of them touch: in a volume, on a graph, in a network.

Kernels that serve all of them see what differs through the functions here. The compiler chooses: the length of a tuple
is part of its type, and the branches that it rules out are never compiled. (It looks at the lengths of arguments alone,
which is why `strides` and `measure` are passed beside the space that holds them.)

A map whose elements lie in several spaces (a cortex and the volumes below it) has a topology for each part; parts
follow one another. A part of a map is a slice of it, which is enhanced as a map of its own without a copy; parts of
what is above a threshold are found by `clusters.part_bounds`. Maxima of a domain of several parts are the largest of
theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.graph import Graph
from numbaglm.kernels.neighbours import Ints, Volume
from numbaglm.kernels.network import Network

Topology = Volume | Graph | Network


def extent_type(space: Topology) -> type[np.int32 | np.float64]:
    """Type of an extent: a count of elements, or a sum of their measures."""
    return np.float64 if space.measure else np.int32


@kernel
def measure_of(measure: Any, p: int) -> Any:
    """What an element adds to an extent."""
    if len(measure) == 0:
        return 1
    return measure[0][p]


@kernel
def next_higher(space: Any, strides: Any, higher: Ints, p: int, left: int) -> int:
    """Position of the next neighbour to search; `left` is the complement of a code below -1 at first.

    It is a mask for a `Volume`, a number for a `Graph`.
    """
    if len(strides) == 0:
        return int(higher[space.indptr[p] + left - 1])
    return int(p + space.offset[(left & -left) % 37])


@kernel
def without_next(strides: Any, left: int) -> int:
    """What is left after `next_higher`, 0 after the last."""
    if len(strides) == 0:
        return left - 1
    return left & (left - 1)


def n_cells(space: Topology) -> int:
    """Cells where elements leave their mark for those that touch them: positions, or a node's two for its edges."""
    return 2 * space.strides[0] if isinstance(space, Network) else space.n_positions


@kernel
def n_beside(space: Any, strides: Any, p: int) -> int:
    """How many cells to look at for elements that touch this one and came before."""
    if len(strides) == 0:
        return int(space.indptr[p + 1] - space.indptr[p])
    if len(strides) == 1:
        return 2
    return int(space.before.size)


@kernel
def beside(space: Any, strides: Any, p: int, sign: int, k: int) -> int:
    """Cell to look at."""
    if len(strides) == 0:
        return int(space.indices[space.indptr[p] + k])
    if len(strides) == 1:
        return int(space.ends[p, k] + (strides[0] if sign < 0 else 0))
    return int(p + space.before[k])


@kernel
def n_own(strides: Any) -> int:
    """How many cells an element marks."""
    if len(strides) == 1:
        return 2
    return 1


@kernel
def own(space: Any, strides: Any, p: int, sign: int, k: int) -> int:
    """Cell to mark."""
    if len(strides) == 1:
        return int(space.ends[p, k] + (strides[0] if sign < 0 else 0))
    return p
