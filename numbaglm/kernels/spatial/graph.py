"""Nodes that touch as a graph says: the vertices of a surface, or any other set.

What `neighbours` is for volumes. On a surface the neighbours of a vertex form a ring, in which those next to one
another touch. In such an order the pieces of its higher neighbours are runs, found by shifts of masks, and nearly all
vertices follow one neighbour without a search. Of the neighbours of any graph as many are brought next to one another
as a walk from one to the next can; a piece that is seen as two costs a search, nothing else.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbaglm.arrays import Ints
from numbaglm.errors import InputError, invalid
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.spatial.neighbours import SEGMENT, Bits, Measure

_MOST = 30  # neighbours that a mask has room for
_STRETCH = SEGMENT // 4  # nodes whose columns stay in the first cache
_i = np.int32
_NONE, _ONE = np.int32(0), np.int32(1)


class Graph(NamedTuple):
    """Which nodes touch, and how large they are. Read only: threads share it.

    Attributes
    ----------
    position
        (n_nodes,) int32, the nodes' own numbers: a graph has no grid.
    n_positions
        Number of nodes, and one that never counts, with which columns are filled.
    indptr
        (n_nodes + 1,) int64, where the neighbours of each node begin in `indices`.
    indices
        (n_neighbours,) int32, nodes: one next to another touches it where the graph lets it.
    segments
        (n_segments, 4) int64, first node and number of nodes of a stretch, the most neighbours that one of them has,
        and where their columns begin.
    columns
        The first neighbours of the nodes of a segment, side by side, then the second, and so on.
    touches
        (n_nodes,) int32, bit k: neighbour k touches the one before.
    ring
        (n_nodes,) int32, the bit of the last neighbour where it touches the first, otherwise 0.
    crowded
        (n_crowded,) int32, nodes with more neighbours than a mask has room for. They are in no column.
    measure
        () where nodes are counted, or the measure of each, (n_nodes,) int64, in a unit, a power of two: sums are exact,
        and the same in any order.
    strides
        None: their number is how the compiler tells a graph from other spaces.
    """

    position: Ints
    n_positions: int
    indptr: NDArray[np.int64]
    indices: Ints
    segments: NDArray[np.int64]
    columns: Ints
    touches: Ints
    ring: Ints
    crowded: Ints
    measure: Measure
    strides: tuple[()]


def new_graph(indptr: ArrayLike, indices: ArrayLike, measure: ArrayLike | None = None) -> Graph:
    """Prepare a graph.

    Parameters
    ----------
    indptr
        (n_nodes + 1,) integers, where the neighbours of each node begin in `indices`, and their number.
    indices
        (n_neighbours,) integers, the nodes that each node touches, in any order. Each edge is there from both
        of its ends, and none leads from a node to itself.
    measure
        (n_nodes,) finite, not below 0: what each node adds to an extent, say the area of a vertex in mm2. It is
        rounded to 2**-53 of about the sum of all. Without it nodes are counted.

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
    start, end = _check_edges(np.repeat(np.arange(n_nodes), np.diff(begin)), nodes, n_nodes)
    begin = np.searchsorted(start, np.arange(n_nodes + 1))
    listed, touches, ring = np.empty(end.size, np.int32), np.zeros(n_nodes, np.int32), np.zeros(n_nodes, np.int32)
    _walk(begin, end.astype(np.int32), listed, touches, ring)
    segments, columns = _columns(begin, listed)
    return Graph(
        position=np.arange(n_nodes, dtype=np.int32),
        n_positions=n_nodes + 1,
        indptr=begin,
        indices=listed,
        segments=segments,
        columns=columns,
        touches=touches,
        ring=ring,
        crowded=np.flatnonzero(np.diff(begin) > _MOST).astype(np.int32),
        measure=() if measure is None else _in_units(measure, n_nodes),
        strides=(),
    )


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise InputError(invalid(name, f"{array.dtype} of shape {array.shape}", "integers, in one dimension"))
    return array.astype(np.int64)


def _check_edges(
    start: NDArray[np.int64], end: NDArray[np.int64], n_nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each edge once from each of its ends, in the order of both."""
    outside = end[(end < 0) | (end >= n_nodes)]
    if outside.size > 0:
        raise InputError(invalid("indices", int(outside[0]), f"nodes, 0 to {n_nodes - 1}"))
    loops = end[start == end]
    if loops.size > 0:
        received = f"an edge from node {loops[0]} to itself"
        raise InputError(invalid("indices", received, "edges between two nodes", "Remove the diagonal."))
    there, back = _distinct(start * n_nodes + end), _distinct(end * n_nodes + start)
    if not np.array_equal(there, back):
        a, b = divmod(int(np.setdiff1d(there, back)[0]), n_nodes)
        received = f"an edge from node {a} to node {b} and none back"
        fix = "Add the transposed adjacency matrix."
        raise InputError(invalid("indices", received, "edges that are there from both ends", fix))
    return np.divmod(there, n_nodes)


def _distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sort and leave out repeats: `numpy.unique` hashes, which takes twenty times as long here."""
    keys = np.sort(keys)
    new: NDArray[np.bool_] = np.diff(keys, prepend=-1) != 0
    return keys[new]


def _in_units(measure: ArrayLike, n_nodes: int) -> tuple[NDArray[np.int64], float]:
    """Round to a power of two of which all together are no more than a double counts."""
    array = np.asarray(measure, dtype=np.float64)
    if array.shape != (n_nodes,):
        raise InputError(invalid("measure", f"shape {array.shape}", f"({n_nodes},), one a node"))
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if wrong.size > 0:
        raise InputError(invalid("measure", f"{array[wrong[0]]} for node {wrong[0]}", "finite numbers, 0 or more"))
    power = math.frexp(math.fsum(array) + array.max())[1] - 52
    return np.rint(np.ldexp(array, -power)).astype(np.int64), math.ldexp(1.0, power)


def _columns(indptr: NDArray[np.int64], indices: Ints) -> tuple[NDArray[np.int64], Ints]:
    n_nodes = indptr.size - 1
    degree = np.diff(indptr)
    degree[degree > _MOST] = 0
    segments, columns, begin = [], [np.empty(0, np.int32)], 0
    for start in range(0, n_nodes, _STRETCH):
        here = degree[start : start + _STRETCH]
        width = int(here.max())
        k = np.arange(width)[:, None]
        inside = k < here
        place = np.where(inside, indptr[start : start + here.size] + k, 0)
        columns.append(np.where(inside, indices[place], n_nodes).astype(np.int32).ravel() if width else columns[0])
        segments.append((start, here.size, width, begin))
        begin += columns[-1].size
    return np.array(segments, dtype=np.int64), np.concatenate(columns)


@kernel
def _walk(indptr: NDArray[np.int64], indices: Ints, listed: Ints, touches: Ints, ring: Ints) -> None:
    """List the neighbours of each node in such an order that one touches the next where it can.

    Parameters
    ----------
    indptr, indices
        Adjacency lists, each increasing.
    listed
        (n_neighbours,) filled.
    touches, ring
        (n_nodes,) zeros, filled as `Graph` has them.
    """
    near = np.empty(_MOST, np.int64)  # of each neighbour, a mask of the others that it touches
    for p in range(touches.size):
        begin, degree = indptr[p], indptr[p + 1] - indptr[p]
        if degree > _MOST:
            listed[begin : begin + degree] = indices[begin : begin + degree]
            continue
        near[:degree] = 0
        for a in range(degree):
            for b in range(a):
                if _holds(indptr, indices, indices[begin + a], indices[begin + b]):
                    near[a] |= 1 << b
                    near[b] |= 1 << a
        left = (1 << degree) - 1
        first, last = 0, 0
        for place in range(degree):
            on = near[last] & left if place > 0 else 0
            last = _loneliest(near, on if on != 0 else left, left)
            first = last if place == 0 else first
            left &= ~(1 << last)
            listed[begin + place] = indices[begin + last]
            if on != 0:
                touches[p] |= 1 << place
        if degree > 2 and near[first] >> last & 1:
            ring[p] = 1 << (degree - 1)


@kernel
def _holds(indptr: NDArray[np.int64], indices: Ints, node: int, sought: int) -> bool:
    """Whether a node's list, which is increasing, holds another."""
    low, high = indptr[node], indptr[node + 1]
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < sought:
            low = middle + 1
        else:
            high = middle
    return bool(low < indptr[node + 1] and indices[low] == sought)


@kernel
def _loneliest(near: NDArray[np.int64], among: int, left: int) -> int:
    """Which of a mask's neighbours touches the fewest of those that are left: the end of a path, if there is one."""
    found, fewest = 0, _MOST + 1
    for k in range(_MOST):
        if among >> k & 1:
            n, others = 0, near[k] & left
            while others != 0:
                others &= others - 1
                n += 1
            if n < fewest:
                found, fewest = k, n
    return found


@kernel
def link_graph(height: Bits, graph: Graph, link: Ints, higher: Ints, floor_: Ints, beside_: Ints, marks_: Ints) -> None:
    """Find, for every node, which of its neighbours to follow when it enters.

    A neighbour is higher if it enters before: of the same sign, and larger, or equal and later.

    Parameters
    ----------
    height
        (n_positions,) heights as integers of their order, 0 for nodes that don't count.
    graph
        From `new_graph`.
    link
        (n_positions,) overwritten: -1 nothing to follow, p >= 0 the node p, below -1 the complement of where in
        `higher` the neighbours to search begin. Without meaning where `height` is 0.
    higher
        (n_neighbours + 1,) overwritten from 1: of each node that has to search, one neighbour or more of each piece,
        the last as its complement. They are side by side: places of its own for each node would leave the cache.
    floor_, beside_, marks_
        (SEGMENT,) scratch: what a neighbour must exceed to be higher; heights of one neighbour of each node; masks of
        higher neighbours.
    """
    n_listed = 1
    for segment in range(graph.segments.shape[0]):
        start, size, width, begin = graph.segments[segment]
        floor, beside, marks = floor_[:size], beside_[:size], marks_[:size]
        centre, codes = height[start : start + size], link[start : start + size]
        columns = graph.columns[begin : begin + width * size]
        _set_floors(centre, floor, marks, codes)
        for k in range(width):
            column, bit = columns[k * size : (k + 1) * size], _i(1 << k)
            _gather(height, column, beside)
            _mark(centre, beside, column, floor, _i(start), bit, marks)
            _follow(marks, column, bit, codes)
        _part_pieces(marks, graph.touches[start : start + size], graph.ring[start : start + size])
        n_listed = _list_marked(marks, width, columns, codes, higher, n_listed)
    for n in range(graph.crowded.size):
        p = graph.crowded[n]
        last = _list_higher(height, graph, p, higher, n_listed)
        link[p] = -1 if last == n_listed else ~n_listed
        n_listed = last


@kernel
def _set_floors(centre: Bits, floor: Ints, marks: Ints, codes: Ints) -> None:
    """Set what neighbours must exceed; bits below 0 are flipped, which turns their order round; at 0 nothing does."""
    unreachable = np.int32(np.iinfo(np.int32).max)
    for n in range(centre.size):
        x = centre[n]
        floor[n] = unreachable if x == 0 else _i(x ^ (x >> 31))
        marks[n] = 0
        codes[n] = -1


@kernel
def _gather(height: Bits, column: Ints, beside: Ints) -> None:
    for n in range(column.size):
        beside[n] = height[np.uint32(column[n])]


@kernel
def _mark(centre: Bits, beside: Ints, column: Ints, floor: Ints, start: np.int32, bit: np.int32, marks: Ints) -> None:
    """Mark one neighbour of each node of a segment where it is higher."""
    for n in range(marks.size):
        y = _i(beside[n] ^ _i(centre[n] >> 31))
        tie = _ONE if column[n] > _i(start + _i(n)) else _NONE
        marks[n] = _i(marks[n] | (bit if y > _i(floor[n] - tie) else _NONE))


@kernel
def _follow(marks: Ints, column: Ints, bit: np.int32, codes: Ints) -> None:
    for n in range(codes.size):
        q, code = column[n], codes[n]  # both are read, whichever is kept: then it is vectorised
        codes[n] = q if _i(marks[n] & bit) != 0 else code


@kernel
def _part_pieces(marks: Ints, touches: Ints, ring: Ints) -> None:
    """Keep of each piece the neighbour that begins it, and none where all are of one piece."""
    for n in range(marks.size):
        mask = marks[n]
        after = _i(_i(_i(mask << 1) & touches[n]) | (_ONE if _i(mask & ring[n]) != 0 else _NONE))
        first = _i(mask & ~after)
        marks[n] = first if _i(first & _i(first - _ONE)) != 0 else _NONE


@kernel
def _list_marked(marks: Ints, width: int, columns: Ints, codes: Ints, higher: Ints, n_listed: int) -> int:
    """List the marked neighbours of each node of a segment that has any; return where the lists end."""
    for n in range(marks.size):
        mask = marks[n]
        if mask != 0:
            codes[n] = ~n_listed
            place = n
            for _ in range(width):
                # Without a branch: the next one overwrites this one if it is not marked.
                higher[n_listed] = columns[place]
                n_listed += mask & 1
                mask >>= 1
                place += marks.size
            higher[n_listed - 1] = ~higher[n_listed - 1]
    return n_listed


@kernel
def _list_higher(height: Bits, graph: Graph, p: int, higher: Ints, n_listed: int) -> int:
    """Compare all neighbours of a crowded node and list those that are higher; return where the list ends."""
    x = height[p]
    end = n_listed
    for k in range(graph.indptr[p], graph.indptr[p + 1]):
        q = graph.indices[k]
        y = height[q]
        if (y > x if x > 0 else y < x) or (y == x and q > p):
            higher[end] = q
            end += 1
    if end > n_listed:
        higher[end - 1] = ~higher[end - 1]
    return end
