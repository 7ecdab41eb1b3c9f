"""Nodes that touch as a graph says: the vertices of a surface, or any other set.

What `neighbours` is for volumes, for graphs, and the two steps of TFCE that depend on which of them it is. The
compiler chooses: the length of a tuple is part of its type, and the branch that it rules out is never compiled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import InputError, invalid
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.neighbours import Bits, Ints, Volume


class Graph(NamedTuple):
    """Which nodes touch, as adjacency lists (CSR). Read only: threads share it.

    Attributes
    ----------
    position
        (n_nodes,) int32, the nodes' own numbers: a graph has no grid.
    n_positions
        Number of nodes.
    indptr
        (n_nodes + 1,) int64, where the neighbours of each node begin in `indices`.
    indices
        (n_neighbours,) int32, nodes.
    strides
        None: their number is how the compiler tells a graph from a `Volume`.
    """

    position: Ints
    n_positions: int
    indptr: NDArray[np.int64]
    indices: Ints
    strides: tuple[()]


Space = Volume | Graph


def new_graph(indptr: ArrayLike, indices: ArrayLike) -> Graph:
    """Prepare a graph.

    Parameters
    ----------
    indptr
        (n_nodes + 1,) integers, where the neighbours of each node begin in `indices`, and their number.
    indices
        (n_neighbours,) integers, the nodes that each node touches, in any order. Each edge is there from both
        of its ends, and none leads from a node to itself.

    Raises
    ------
    InputError
        If these are not such lists.
    """
    begin, nodes = _integers("indptr", indptr), _integers("indices", indices)
    if begin.size < 2 or begin.size > np.iinfo(np.int32).max:
        raise InputError(invalid("indptr", f"{begin.size} entries", "1 more than there are nodes, 2 to 2**31 - 1"))
    n_nodes = begin.size - 1
    if begin[0] != 0 or begin[-1] != nodes.size or (np.diff(begin) < 0).any():
        received = f"{begin[0]} to {begin[-1]} for {nodes.size} indices"
        raise InputError(invalid("indptr", received, "0 to the number of indices, never decreasing"))
    _check_edges(np.repeat(np.arange(n_nodes), np.diff(begin)), nodes, n_nodes)
    return Graph(np.arange(n_nodes, dtype=np.int32), n_nodes, begin, nodes.astype(np.int32), ())


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise InputError(invalid(name, f"{array.dtype} of shape {array.shape}", "integers, in one dimension"))
    return array.astype(np.int64)


def _check_edges(start: NDArray[np.int64], end: NDArray[np.int64], n_nodes: int) -> None:
    outside = end[(end < 0) | (end >= n_nodes)]
    if outside.size > 0:
        raise InputError(invalid("indices", int(outside[0]), f"nodes, 0 to {n_nodes - 1}"))
    loops = end[start == end]
    if loops.size > 0:
        received = f"an edge from node {loops[0]} to itself"
        raise InputError(invalid("indices", received, "edges between two nodes", "Remove the diagonal."))
    single = np.setdiff1d(start * n_nodes + end, end * n_nodes + start)
    if single.size > 0:
        a, b = divmod(int(single[0]), n_nodes)
        received = f"an edge from node {a} to node {b} and none back"
        fix = "Add the transposed adjacency matrix."
        raise InputError(invalid("indices", received, "edges that are there from both ends", fix))


@kernel
def link_graph(height: Bits, graph: Graph, link: Ints, higher: Ints) -> None:
    """Find, for every node, which of its neighbours to follow when it enters.

    A neighbour is higher if it enters before: of the same sign, and larger, or equal and later.

    Parameters
    ----------
    height
        (n_nodes,) heights as integers of their order, 0 for nodes that don't count.
    graph
        From `new_graph`.
    link
        (n_nodes,) overwritten: -1 nothing to follow, p >= 0 the node p, below -1 the complement of the number
        of higher neighbours. Without meaning where `height` is 0.
    higher
        (n_neighbours,) overwritten: the higher neighbours of each node, from where its neighbours begin.
    """
    for p in range(height.size):
        x = height[p]
        begin = graph.indptr[p]
        n_higher = 0
        for k in range(begin, graph.indptr[p + 1]):
            q = graph.indices[k]
            y = height[q]
            if (y > x if x > 0 else y < x) or (y == x and q > p):
                higher[begin + n_higher] = q
                n_higher += 1
        if n_higher == 1:
            link[p] = higher[begin]
        else:
            link[p] = ~n_higher


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
