"""Components of a map at all heights as one tree, and the bound of true discoveries in every one of them.

Elements enter from the highest to the lowest. The component that an element completes as it enters is a node of the
tree; node i is the i-th to enter, and its parent the node that next enters its component, so that every parent comes
after its children.

The bound of a set S is d(S) = max over k >= 1 of 1 - k + #{i in S: level_i <= k}, where an element's level is the
first of an increasing sequence of thresholds that its p is below. That maximum is a schedule: let every element be a
job of one unit of time, to be done by the time level - 1; what cannot be done in time is a true discovery. A job
takes the latest free slot before its deadline, in whatever order jobs come (Gabow and Tarjan, 1985), so that a set
grows by an element in nearly constant time.

One schedule serves a path of the tree, from a leaf up through parents whose heaviest child it is; at each node what
hangs from its lighter children is scheduled too. An element is scheduled once for its own path and once more for each
lighter child that it lies below, of which there are log2 n at most: O(n log n) for all nodes, in fact little more than
n, as only elements that any threshold reaches are jobs at all. The levels may be in any order along the tree.

References
----------
Goeman, Meijer, Krebs and Solari (2019), Simultaneous control of all false discovery proportions in large-scale
multiple hypothesis testing, Biometrika 106, 841-856.
Gabow and Tarjan (1985), A linear-time algorithm for a special case of disjoint set union, Journal of Computer and
System Sciences 30, 209-221.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats, Ints
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.ranking import Keys
from numbaglm.kernels.spatial.neighbours import Bits
from numbaglm.kernels.spatial.network import Network
from numbaglm.kernels.spatial.tfce import new_scratch, rank_and_link
from numbaglm.kernels.spatial.topology import Topology, next_higher, paths_of, without_next

NEVER = np.int32(np.iinfo(np.int32).max)
"""Level of an element whose p no threshold reaches."""

_LOW = 0xFFFFFFFF
_SERIES = 0.05  # an exponent whose series of six terms is exact to 1e-11


class Tree(NamedTuple):
    """Components of a map at all heights. Nodes are numbered as they enter: the highest is 0.

    Attributes
    ----------
    element
        (n_nodes,) int32, the element that completes each node.
    parent
        (n_nodes,) int32, the node that each one is part of next, -1 for a whole piece of the map.
    height
        (n_nodes,) float64, never increasing: the absolute value of each node's element. A node as high as its parent
        is no component by itself: its elements are connected to others of the same value.
    """

    element: Ints
    parent: Ints
    height: NDArray[np.float64]


def component_tree(values: Floats, space: Topology, two_sided: bool) -> Tree:
    """Find the components {absolute value >= h} of a map at all heights h.

    Parameters
    ----------
    values
        (n_elements,) float32 or float64, finite, C-contiguous. Elements of value 0 are in no component.
    space
        From `new_volume`, `new_graph` or `new_network`. Elements are counted, whatever their measure.
    two_sided
        Whether values below 0 have components of their own; otherwise they are in none.
    """
    scratch = new_scratch(space)
    n_nodes = rank_and_link(np.asarray(values, np.float64), space, scratch, two_sided)
    parent, order = np.empty(n_nodes, np.int32), scratch.order[:n_nodes]
    if isinstance(space, Network):
        _enter_edges(order, space, scratch.height, scratch.link, scratch.higher, scratch.parent, parent)
    else:
        _enter(order, space, scratch.link, scratch.higher, scratch.parent, parent)
    element = (scratch.keys[:n_nodes][::-1] & _LOW).astype(np.int32)
    return Tree(element, parent, scratch.integral[:n_nodes][::-1].copy())


@kernel
def _end(ahead: Ints, place: Any) -> Any:
    """Follow what lies ahead to its end, halving the path: the last node of a component, or the next free slot."""
    while ahead[place] != place:
        ahead[place] = ahead[ahead[place]]
        place = ahead[place]
    return place


@kernel
def _enter(order: Keys, space: Topology, link: Ints, higher: Ints, joined: Ints, parent: Ints) -> None:
    """Let the elements in, highest first; leave in `link` the node of each position that counts."""
    strides = space.strides
    paths = paths_of(space, strides, higher)
    for node in range(order.size):
        p = order[order.size - 1 - node] & _LOW
        joined[node] = node
        parent[node] = -1
        code = link[p]
        if code >= 0:
            child = _end(joined, link[code])
            joined[child] = node
            parent[child] = node
        elif code < -1:
            left = ~code
            while left != 0:
                child = _end(joined, link[next_higher(paths, strides, p, left)])
                left = without_next(paths, strides, left)
                if child != node:
                    joined[child] = node
                    parent[child] = node
        link[p] = node


@kernel
def _enter_edges(
    order: Keys, network: Network, height: Bits, link: Ints, cells: Ints, joined: Ints, parent: Ints
) -> None:
    """Do the same with the edges of a network, whose two nodes each hold an edge that entered, apart by sign."""
    cells[:] = -1
    for node in range(order.size):
        e = order[order.size - 1 - node] & _LOW
        joined[node] = node
        parent[node] = -1
        shift = network.strides[0] if height[e] < 0 else 0
        for k in range(2):
            cell = network.ends[e, k] + shift
            if cells[cell] >= 0:
                child = _end(joined, cells[cell])
                if child != node:
                    joined[child] = node
                    parent[child] = node
            cells[cell] = node
        link[e] = node


@kernel
def bound_clusters(
    parent: Ints, height: NDArray[np.float64], level: Ints, size: Ints, found: Ints, best: NDArray[np.float64]
) -> None:
    """Bound the true discoveries in every component: `bound_nodes`, `share_plateaus` and `best_shares`.

    One kernel to call: each that is called by itself takes a process two milliseconds to load.
    """
    bound_nodes(parent, level, size, found)
    share_plateaus(parent, height, size, found)
    best_shares(parent, size, found, best)


@kernel
def bound_nodes(parent: Ints, level: Ints, size: Ints, found: Ints) -> None:
    """Bound the true discoveries in every node of a tree.

    Parameters
    ----------
    parent
        (n_nodes,), each after its children, -1 where there is none.
    level
        (n_nodes,) of the element that completes each node, 1 or more; NEVER where no threshold reaches its p.
    size
        (n_nodes,) overwritten: how many elements are in each node.
    found
        (n_nodes,) overwritten: how many of them are true discoveries, at least.
    """
    n_nodes = parent.size
    jobs, heavy = np.zeros(n_nodes, np.int32), np.full(n_nodes, -1, np.int32)
    size[:] = 1
    for node in range(n_nodes):
        jobs[node] += level[node] != NEVER
        above = parent[node]
        if above >= 0:
            size[above] += size[node]
            jobs[above] += jobs[node]
            if heavy[above] < 0 or jobs[node] > jobs[heavy[above]]:
                heavy[above] = node
    deadline, begin = _lay_out(parent, level, jobs, heavy)
    slots, taken = np.arange(deadline.size + 1, dtype=np.int32), np.empty(deadline.size, np.int32)
    for leaf in range(n_nodes):
        if heavy[leaf] >= 0:
            continue
        node, n_found, n_taken = leaf, 0, 0
        while True:
            new = jobs[node] - (jobs[heavy[node]] if heavy[node] >= 0 else 0)
            for job in range(begin[node], begin[node] + new):
                slot = _end(slots, deadline[job])
                if slot == 0:
                    n_found += 1
                else:
                    slots[slot] = slot - 1
                    taken[n_taken] = slot
                    n_taken += 1
            found[node] = n_found
            above = parent[node]
            if above < 0 or heavy[above] != node:
                break
            node = above
        # Halving changes slots that are taken, and no others.
        for k in range(n_taken):
            slots[taken[k]] = taken[k]


@kernel
def _lay_out(parent: Ints, level: Ints, jobs: Ints, heavy: Ints) -> tuple[Ints, Ints]:
    """Lay out the jobs so that those of a node are in one stretch, those of its heavy child last.

    Returns
    -------
    deadline
        (n_jobs,) slot by which each job must be done.
    begin
        (n_nodes,) where the stretch of each node begins.
    """
    n_nodes = parent.size
    n_jobs = 0
    for node in range(n_nodes):
        n_jobs += level[node] != NEVER
    deadline = np.empty(n_jobs, np.int32)
    begin, free = np.empty(n_nodes, np.int32), np.empty(n_nodes, np.int32)
    n_placed = 0
    for node in range(n_nodes - 1, -1, -1):
        above = parent[node]
        if above < 0:
            begin[node] = n_placed
            n_placed += jobs[node]
        elif heavy[above] == node:
            begin[node] = begin[above] + jobs[above] - jobs[node]
        else:
            begin[node] = free[above]
            free[above] += jobs[node]
        free[node] = begin[node]
        if level[node] != NEVER:
            deadline[free[node]] = min(level[node] - 1, n_jobs)
            free[node] += 1
    return deadline, begin


@kernel
def share_plateaus(parent: Ints, height: NDArray[np.float64], size: Ints, found: Ints) -> None:
    """Give nodes as high as their parent the parent's size and bound: they are parts of one component."""
    for node in range(parent.size - 1, -1, -1):
        above = parent[node]
        if above >= 0 and height[above] == height[node]:
            size[node] = size[above]
            found[node] = found[above]


@kernel
def best_shares(parent: Ints, size: Ints, found: Ints, best: NDArray[np.float64]) -> None:
    """For every node, the largest share of true discoveries of any node that it is part of, itself among them."""
    for node in range(parent.size - 1, -1, -1):
        share = found[node] / size[node]
        above = parent[node]
        best[node] = share if above < 0 else max(share, best[above])


@kernel
def largest_nodes(parent: Ints, size: Ints, found: Ints, share: float, chosen: Ints) -> None:
    """For every node, the largest node that it is part of with at least a share of true discoveries; -1 for none."""
    for node in range(parent.size - 1, -1, -1):
        above = parent[node]
        if above >= 0 and chosen[above] >= 0:
            chosen[node] = chosen[above]
        else:
            chosen[node] = node if found[node] >= share * size[node] else -1


@kernel
def leave_out(
    sorted_p: NDArray[np.float64], elements: Ints, out: NDArray[np.bool_], beyond: float, left: NDArray[np.float64]
) -> None:
    """Take elements out of lists of the smallest p of shufflings.

    Parameters
    ----------
    sorted_p
        (n_shufflings, n_listed) increasing along rows.
    elements
        (n_shufflings, n_listed) whose p these are.
    out
        (n_elements,) which to take out.
    beyond
        What the rest of a row that became shorter is filled with, if above the last p of that row.
    left
        (n_shufflings, n_listed) overwritten.
    """
    n_listed = sorted_p.shape[1]
    for row in range(sorted_p.shape[0]):
        n_left = 0
        for k in range(n_listed):
            if not out[elements[row, k]]:
                left[row, n_left] = sorted_p[row, k]
                n_left += 1
        left[row, n_left:] = max(beyond, sorted_p[row, n_listed - 1])


@kernel
def join_rows(bounds: NDArray[np.int64], values: NDArray[Any], place: NDArray[np.int64], out: NDArray[Any]) -> None:
    """Copy the part of each shuffling that a block left to where that of earlier blocks ends.

    Parameters
    ----------
    bounds
        (n_shufflings + 1,) what is of shuffling i are the values in bounds[i]:bounds[i + 1].
    values
        (n,) of any type.
    place
        (n_shufflings,) where each shuffling goes on; moved on.
    out
        Filled there.
    """
    for i in range(place.size):
        to = place[i]
        for k in range(bounds[i], bounds[i + 1]):
            out[to] = values[k]
            to += 1
        place[i] = to


@kernel
def join_keys(
    bounds: NDArray[np.int64], voxel: Ints, bits: Ints, kept: int, place: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Do the same with numbers that sort as single scores do, in their high halves, and end with the voxel.

    Parameters
    ----------
    bits
        (n,) of scores that are above 0, or whose absolute values count.
    kept
        Which of the bits count: all, or all but the sign.
    """
    for i in range(place.size):
        to = place[i]
        for k in range(bounds[i], bounds[i + 1]):
            out[to] = (np.int64(bits[k] & kept) << 32) | voxel[k]
            to += 1
        place[i] = to


@kernel
def p_of_scores(
    scores: Floats, table: NDArray[np.float64], low: float, per_knot: float, far: float, p: NDArray[np.float64]
) -> None:
    """p of scores, by parabolas between knots of its logarithm.

    Parameters
    ----------
    scores
        (n_shufflings, n_listed) falling along rows.
    table
        (n_knots, 3) p of each knot, evenly apart, and the coefficients of the parabola that begins there.
    low, per_knot
        Where the first is, and how many there are to 1.
    far
        Where a score is above it, its p is there already.
    p
        (n_shufflings, n_listed) filled. It never falls along a row: that of scores which are nearly equal may by
        rounding.
    """
    last = table.shape[0] - 1
    for row in range(scores.shape[0]):
        before = 0.0
        for k in range(scores.shape[1]):
            score = np.float64(scores[row, k])
            if score > far:
                here = p[row, k]
            else:
                place = (score - low) * per_knot
                knot = min(int(place), last)
                x = place - knot
                u = x * (table[knot, 1] + x * table[knot, 2])
                if abs(u) < _SERIES:
                    here = table[knot, 0] * (1 + u * (1 + u / 2 * (1 + u / 3 * (1 + u / 4 * (1 + u / 5)))))
                else:
                    here = table[knot, 0] * math.exp(u)
            before = max(before, here)
            p[row, k] = before


@kernel
def count_lower(
    curves: NDArray[np.float64], which: NDArray[np.int64], p: NDArray[np.float64], lower: NDArray[np.int64]
) -> None:
    """How many of the numbers of a curve are no larger than each p.

    Parameters
    ----------
    curves
        (n_curves, n) increasing along rows.
    which, p
        (m,) number of the curve, and p.
    lower
        (m,) filled.
    """
    for i in range(p.size):
        curve, first, last = curves[which[i]], 0, curves.shape[1]
        while first < last:
            middle = (first + last) >> 1
            if curve[middle] <= p[i]:
                first = middle + 1
            else:
                last = middle
        lower[i] = first
