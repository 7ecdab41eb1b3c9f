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

from numbaglm.arrays import Ints
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.spatial.graph import Graph
from numbaglm.kernels.spatial.neighbours import Volume
from numbaglm.kernels.spatial.network import Network

Topology = Volume | Graph | Network


def extent_type(space: Topology) -> type[np.int32 | np.float64]:
    """Type of an extent: a count of elements, or a sum of their measures."""
    return np.float64 if space.measure else np.int32


def unit_type(space: Topology) -> type[np.int32 | np.int64]:
    """Type of an extent in the units of the measure."""
    return np.int64 if space.measure else np.int32


@kernel
def unit_of(measure: Any) -> Any:
    """What one is of an extent in units."""
    if len(measure) == 0:
        return 1
    return measure[1]


@kernel
def measure_of(measure: Any, p: int) -> Any:
    """What an element adds to an extent in units."""
    if len(measure) == 0:
        return 1
    return measure[0][p]


@kernel
def paths_of(space: Any, strides: Any, higher: Ints) -> Any:
    """What `next_higher` looks at: one array, where a space of many would hinder the compiler from inlining it."""
    if len(strides) == 0:
        return higher
    return space.offset


@kernel
def next_higher(paths: Any, strides: Any, p: int, left: int) -> int:
    """Position of the next neighbour to search; `left` is the complement of a code below -1 at first.

    It is a mask for a `Volume`, a place in a list for a `Graph`.
    """
    if len(strides) == 0:
        q = paths[left]
        return int(q if q >= 0 else ~q)
    return int(p + paths[(left & -left) % 37])


@kernel
def without_next(paths: Any, strides: Any, left: int) -> int:
    """What is left after `next_higher`, 0 after the last."""
    if len(strides) == 0:
        return left + 1 if paths[left] >= 0 else 0
    return left & (left - 1)


def n_cells(space: Topology) -> int:
    """Cells where elements leave their mark for those that touch them: positions, or a node's two for its edges."""
    return 2 * space.strides[0] if isinstance(space, Network) else space.n_positions


@kernel
def lists_of(space: Any, strides: Any) -> Any:
    """What the functions below look at: few arrays, as `paths_of` has it."""
    if len(strides) == 0:
        return space.indptr, space.indices
    if len(strides) == 1:
        return (space.ends,)
    return (space.before,)


@kernel
def n_beside(lists: Any, strides: Any, p: int) -> int:
    """How many cells to look at for elements that touch this one and came before."""
    if len(strides) == 0:
        return int(lists[0][p + 1] - lists[0][p])
    if len(strides) == 1:
        return 2
    return int(lists[0].size)


@kernel
def beside(lists: Any, strides: Any, p: int, sign: int, k: int) -> int:
    """Cell to look at."""
    if len(strides) == 0:
        return int(lists[1][lists[0][p] + k])
    if len(strides) == 1:
        return int(lists[0][p, k] + (strides[0] if sign < 0 else 0))
    return int(p + lists[0][k])


@kernel
def n_own(strides: Any) -> int:
    """How many cells an element marks."""
    if len(strides) == 1:
        return 2
    return 1


@kernel
def own(lists: Any, strides: Any, p: int, sign: int, k: int) -> int:
    """Cell to mark."""
    if len(strides) == 1:
        return int(lists[0][p, k] + (strides[0] if sign < 0 else 0))
    return p
