"""Edges between nodes, as a connectome has them: the elements of a map, which touch where they share a node.

Components are kept by node: an edge that enters unites its two nodes. All edges of a node touch one another, so that
the graph of which edge touches which has far more entries than there are edges (63 million for 400 nodes); it is never
made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from numbaglm.arrays import Ints
from numbaglm.errors import InputError, invalid


class Network(NamedTuple):
    """Which nodes edges join. Read only: threads share it.

    Attributes
    ----------
    position
        (n_edges,) int32, the edges' own numbers.
    n_positions
        Number of edges.
    ends
        (n_edges, 2) int32, the nodes of each edge.
    measure
        (): edges are counted.
    strides
        Number of nodes: from a node's cell, where edges above 0 meet, to that where edges below 0 do.
    """

    position: Ints
    n_positions: int
    ends: Ints
    measure: tuple[()]
    strides: tuple[int]


def new_network(ends: ArrayLike, n_nodes: int) -> Network:
    """Prepare a network.

    Parameters
    ----------
    ends
        (n_edges, 2) integers, the two nodes that each edge joins, 0 to ``n_nodes - 1``. An edge may lead from a node to
        itself, as the diagonal of a matrix does: it touches the other edges of that node.
    n_nodes
        Number of nodes.

    Raises
    ------
    InputError
        If these are not such pairs.
    """
    pairs = np.asarray(ends)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.size == 0 or not np.issubdtype(pairs.dtype, np.integer):
        raise InputError(invalid("ends", f"{pairs.dtype} of shape {pairs.shape}", "integers (n_edges, 2)"))
    outside = pairs[(pairs < 0) | (pairs >= n_nodes)]
    if outside.size > 0:
        raise InputError(invalid("ends", int(outside[0]), f"nodes, 0 to {n_nodes - 1}"))
    n_edges = len(pairs)
    return Network(np.arange(n_edges, dtype=np.int32), n_edges, pairs.astype(np.int32, order="C"), (), (n_nodes,))
