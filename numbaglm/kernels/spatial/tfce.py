"""Exact threshold-free cluster enhancement (TFCE) of one map.

TFCE(v) is the integral, over the heights h from 0 to the height of voxel v, of extent(v, h)^E h^H, where
extent(v, h) counts the voxels of the connected component of {x : height(x) >= h} that holds v, or adds up their
measures. (A voxel stands for any element of a space: a vertex of a surface, an edge of a network.) Voxels enter one by
one, from the highest to the lowest; between two that enter the same component its extent is constant,
so that the integral is a finite sum and no step is needed. Stepping packages are served by the same code:
only the antiderivative of h^H becomes a staircase.

Two passes do it (a max-tree whose nodes are branches). The descent labels each voxel with its branch: a local
maximum begins one, and a saddle ends all but one of those that meet there. The union-find is over branches, a
hundred times fewer than voxels, and most voxels need no search (see `neighbours`). The ascent adds up.

In a network there is nothing to follow: an edge joins the components of its two nodes.

Equal heights are ordered by position. The order among equals changes no result: all it adds is zeros. Extents are exact
and a voxel's terms are added in the order of their heights, so that the same map with its voxels in another order is
enhanced to the same bits.

References
----------
Smith and Nichols (2009), Threshold-free cluster enhancement, NeuroImage 44, 83-98.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats, Ints
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.ranking import N_DIGITS, Keys, rank_doubles, rank_singles
from numbaglm.kernels.spatial.graph import Graph, link_graph
from numbaglm.kernels.spatial.neighbours import SEGMENT, Measure, Volume, link_neighbours
from numbaglm.kernels.spatial.topology import (
    Topology,
    measure_of,
    next_higher,
    paths_of,
    unit_of,
    unit_type,
    without_next,
)

_LOW = 0xFFFFFFFF


class Enhancement(NamedTuple):
    """How a map is enhanced.

    Attributes
    ----------
    E, H
        Exponents of extent (in voxels, edges, or what the measure of a graph is in) and of height, H > -1.
    two_sided
        Enhance the negative part as well, apart from the positive part, with negative results. Otherwise only
        values above 0 count, and the others get 0.
    n_steps
        0 for the exact integral. Otherwise the sum over the heights ``peak * k / n_steps``, k = 1 to n_steps,
        where the peak is the map's own (of both signs when two-sided) and reaches the last step.
    dh
        0, or a fixed step in the map's unit: the sum over the heights ``dh * k``, whatever `n_steps`.
    times_step
        Whether the sum over steps is multiplied by the step.
    """

    E: float = 0.5
    H: float = 2.0
    two_sided: bool = True
    n_steps: int = 0
    dh: float = 0.0
    times_step: bool = True


class Scratch(NamedTuple):
    """Memory for one map at a time, one a thread, to be reused. Nothing in it outlives a call.

    Attributes
    ----------
    height
        (n_positions,) integers in the order of the values (see `ranking`); 0 where no voxel is for good.
    link
        (n_positions,) what to follow (see `link_neighbours`, `link_graph`) before a voxel enters, then its
        branch, at last its rank.
    order
        (n_voxels,) positions by rank, in the low half.
    keys
        (n_voxels,) of the sort.
    counts
        (3, 2048) histograms of the sort.
    integral
        (n_voxels,) by rank: the absolute height, then the integral of h^H from 0 to it, at last the absolute TFCE.
    parent, extent, total, reached
        (n_voxels,) by branch: union-find, extent, and TFCE and `integral` of the voxel last passed.
    merges
        (n_voxels, 3) rank of the saddle, branch that ends, branch that goes on.
    higher
        Of a volume (SEGMENT,), see `link_neighbours`; of a graph (n_neighbours + 1,), see `link_graph`; of a network
        (2 n_nodes,), branches of the nodes' edges above 0, then of those below.
    floor, tie, marks
        (SEGMENT,) see `link_neighbours` and `link_graph`.
    """

    height: Ints
    link: Ints
    order: Keys
    keys: Keys
    counts: Ints
    integral: NDArray[np.float64]
    parent: Ints
    extent: NDArray[Any]
    total: NDArray[np.float64]
    reached: NDArray[np.float64]
    merges: Ints
    higher: Ints
    floor: Ints
    tie: Ints
    marks: Ints


def new_scratch(space: Topology) -> Scratch:
    """Allocate the memory to enhance maps in `space`."""
    n_voxels, n_positions = space.position.size, space.n_positions
    if isinstance(space, Graph):
        n_higher = space.indices.size + 1
    else:
        n_higher = SEGMENT if isinstance(space, Volume) else 2 * space.strides[0]
    return Scratch(
        height=np.zeros(n_positions, np.int32),
        link=np.empty(n_positions, np.int32),
        order=np.empty(n_voxels, np.int64),
        keys=np.empty(n_voxels, np.int64),
        counts=np.empty((3, N_DIGITS), np.int32),
        integral=np.empty(n_voxels),
        parent=np.empty(n_voxels, np.int32),
        extent=np.empty(n_voxels, unit_type(space)),
        total=np.empty(n_voxels),
        reached=np.empty(n_voxels),
        merges=np.empty((n_voxels, 3), np.int32),
        higher=np.empty(n_higher, np.int32),
        floor=np.empty(SEGMENT, np.int32),
        tie=np.empty(SEGMENT, np.int32),
        marks=np.empty(SEGMENT, np.int32),
    )


def tfce_map(values: Floats, space: Topology, scratch: Scratch, how: Enhancement, out: NDArray[np.float64]) -> None:
    """Enhance a map.

    Parameters
    ----------
    values
        (n_voxels,) float32 or float64, finite, C-contiguous.
    space, scratch
        From `new_volume`, `new_graph` or `new_network`, and `new_scratch`.
    how
        Exponents, sides, steps.
    out
        (n_voxels,) overwritten with the TFCE.
    """
    tfce_max(values, space, scratch, how)
    _by_voxel(space.position, scratch.height, scratch.link, scratch.integral, out)


def tfce_max(values: Floats, space: Topology, scratch: Scratch, how: Enhancement) -> float:
    """Largest absolute TFCE of a map: exactly the maximum of what `tfce_map` gives.

    TFCE grows along a branch, so that its maximum is at a branch's end; no map is written.

    Parameters
    ----------
    values, space, scratch, how
        As for `tfce_map`.
    """
    n_nodes = rank_and_link(values, space, scratch, how.two_sided)
    return _grow(n_nodes, space, scratch, how)


def rank_and_link(values: Floats, space: Topology, scratch: Scratch, two_sided: bool) -> int:
    """Order the voxels that count, and find what each of them follows; return how many there are.

    The steps are kernels of their own, since a kernel within another is compiled once more: the first alone knows the
    precision.
    """
    rank: Any = rank_singles if values.dtype == np.float32 else rank_doubles
    memory = scratch.height, scratch.order, scratch.integral, scratch.keys, scratch.counts
    n_ranked: int = rank(values, space.position, two_sided, *memory)
    if isinstance(space, Graph):
        link_graph(scratch.height, space, scratch.link, scratch.higher, scratch.floor, scratch.tie, scratch.marks)
    elif isinstance(space, Volume):
        link_neighbours(scratch.height, space, scratch.link, scratch.higher, scratch.floor, scratch.tie)
    return n_ranked


def tfce_count(
    values: Floats,
    space: Topology,
    scratch: Scratch,
    how: Enhancement,
    reference: NDArray[np.float64],
    counts: NDArray[np.int32],
) -> float:
    """Count the voxels whose absolute TFCE reaches a reference; return the largest absolute TFCE of the map.

    Parameters
    ----------
    values, space, scratch, how
        As for `tfce_map`.
    reference
        (n_voxels,) what a voxel must reach.
    counts
        (n_voxels,), added to.
    """
    largest = tfce_max(values, space, scratch, how)
    _count(space.position, scratch.height, scratch.link, scratch.integral, reference, counts)
    return largest


@kernel
def _count(
    position: Ints,
    height: Ints,
    link: Ints,
    tfce: NDArray[np.float64],
    reference: NDArray[np.float64],
    counts: NDArray[np.int32],
) -> None:
    for n in range(counts.size):
        p = np.uint32(position[n])
        inside, rank = height[p] != 0, np.uint32(link[p])
        t = tfce[rank if inside else np.uint32(0)]
        counts[n] += np.int32((t if inside else 0.0) >= reference[n])


@kernel
def _by_voxel(position: Ints, height: Ints, link: Ints, tfce: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Bring TFCE from the order of ranks into that of the voxels."""
    for n in range(out.size):
        p = np.uint32(position[n])
        h, rank = height[p], np.uint32(link[p])
        # Of numbers that are there already the compiler chooses without a branch, half of which noise would mispredict.
        t = tfce[rank if h != 0 else np.uint32(0)]
        t = t if h != 0 else 0.0
        out[n] = t if h >= 0 else -t


@kernel
def _grow(n_nodes: int, space: Topology, scratch: Scratch, how: Enhancement) -> float:
    """Leave the absolute TFCE by rank in `integral`, ranks in `link`; return the largest."""
    _integrate(scratch.integral[:n_nodes], how)
    n_branches, n_merges = _let_in(scratch.order, n_nodes, space, space.strides, scratch)
    _ascend(scratch.order, n_nodes, n_branches, n_merges, how.E, space.measure, scratch)
    largest = 0.0
    for branch in range(n_branches):
        largest = max(largest, scratch.total[branch])
    return largest


@kernel
def _integrate(heights: NDArray[np.float64], how: Enhancement) -> None:
    """Replace increasing heights by the integral of h^H from 0 to each, or by its sum over the steps up to it."""
    if how.n_steps > 0 or how.dh > 0:
        _climb_steps(heights, how)
    elif how.H == 2.0:
        for r in range(heights.size):
            h = heights[r]
            heights[r] = h * h * h / 3.0
    elif how.H == 3.0:
        for r in range(heights.size):
            square = heights[r] * heights[r]
            heights[r] = square * square / 4.0
    else:
        for r in range(heights.size):
            heights[r] = heights[r] ** (how.H + 1.0) / (how.H + 1.0)


@kernel
def _climb_steps(heights: NDArray[np.float64], how: Enhancement) -> None:
    """Replace increasing heights by the sum of h^H over the steps that they reach."""
    if heights.size == 0:
        return
    peak = heights[-1]
    n_steps = int(peak / how.dh) + 1 if how.dh > 0 else how.n_steps
    dh = how.dh if how.dh > 0 else peak / n_steps
    step = 0
    height = dh
    total = 0.0
    for r in range(heights.size):
        while step < n_steps and height <= heights[r]:
            step += 1
            total += height**how.H * (dh if how.times_step else 1.0)
            # The last step is the peak itself, whatever the rounding of the product.
            height = peak if how.dh == 0 and step + 1 == n_steps else (step + 1) * dh
        heights[r] = total


@kernel
def _branch(parent: Ints, label: Any) -> Any:
    """Find the branch that goes on from `label`, halving the path.

    Nearly all labels are at most one step from it: that far there is no branch to mispredict.
    """
    above = parent[np.uint32(label)]
    top = parent[np.uint32(above)]
    while above != top:
        parent[np.uint32(label)] = top
        label = top
        above = parent[np.uint32(label)]
        top = parent[np.uint32(above)]
    return above


@kernel
def _let_in(order: Keys, n_nodes: int, space: Topology, strides: Any, scratch: Scratch) -> tuple[int, int]:
    if len(strides) == 1:
        return _descend_edges(order, n_nodes, space, scratch)
    return _descend(order, n_nodes, space, scratch)


@kernel
def _descend(order: Keys, n_nodes: int, space: Topology, scratch: Scratch) -> tuple[int, int]:
    """Let the voxels in, highest first: label each with its branch, and record which branch ends in which.

    Where branches meet, the larger one goes on. Returns the numbers of branches and of merges.
    """
    link, parent, extent = scratch.link, scratch.parent, scratch.extent
    strides, measure = space.strides, space.measure
    paths = paths_of(space, strides, scratch.higher)
    n_branches, n_merges = 0, 0
    for r in range(n_nodes - 1, -1, -1):
        p = order[r] & _LOW
        code = link[p]
        if code >= 0:
            branch = _branch(parent, link[np.uint32(code)])
        elif code == -1:
            branch = np.int32(n_branches)
            parent[branch] = branch
            extent[branch] = 0
            n_branches += 1
        else:
            left = ~code
            branch = _branch(parent, link[next_higher(paths, strides, p, left)])
            left = without_next(paths, strides, left)
            while left != 0:
                other = _branch(parent, link[next_higher(paths, strides, p, left)])
                left = without_next(paths, strides, left)
                if other != branch:
                    branch = _merge(scratch, n_merges, r, branch, other)
                    n_merges += 1
        extent[np.uint32(branch)] += measure_of(measure, p)
        link[p] = branch
    return n_branches, n_merges


@kernel
def _merge(scratch: Scratch, n_merges: int, r: int, branch: Any, other: Any) -> Any:
    """Have the smaller of two branches end in the other at the voxel of rank r; return the one that goes on."""
    extent, merges = scratch.extent, scratch.merges
    if extent[other] > extent[branch]:
        branch, other = other, branch
    scratch.parent[other] = branch
    extent[branch] += extent[other]
    merges[n_merges, 0], merges[n_merges, 1], merges[n_merges, 2] = r, other, branch
    return branch


@kernel
def _descend_edges(order: Keys, n_ranked: int, network: Any, scratch: Scratch) -> tuple[int, int]:
    """Do the same with the edges of a network: each joins the components of its nodes, apart by sign."""
    height, link, parent, extent = scratch.height, scratch.link, scratch.parent, scratch.extent
    ends, n_nodes, cells = network.ends, network.strides[0], scratch.higher
    cells[:] = -1
    n_branches, n_merges = 0, 0
    for r in range(n_ranked - 1, -1, -1):
        e = order[r] & _LOW
        shift = n_nodes if height[e] < 0 else 0
        a, b = np.uint32(ends[e, 0] + shift), np.uint32(ends[e, 1] + shift)
        there, beyond = cells[a], cells[b]
        if there < 0 and beyond < 0:
            branch = np.int32(n_branches)
            parent[branch] = branch
            extent[branch] = 0
            n_branches += 1
        else:
            branch = _branch(parent, there if there >= 0 else beyond)
            other = _branch(parent, beyond if beyond >= 0 else there)
            if other != branch:
                branch = _merge(scratch, n_merges, r, branch, other)
                n_merges += 1
        extent[np.uint32(branch)] += 1
        cells[a] = cells[b] = link[e] = branch
    return n_branches, n_merges


@kernel
def _ascend(
    order: Keys, n_nodes: int, n_branches: int, n_merges: int, E: float, measure: Measure, scratch: Scratch
) -> None:
    """Add up the integral from the lowest voxel to the highest, along every branch.

    The TFCE of a voxel is that of the voxel that entered its component next, plus
    extent^E (integral of h^H between the two): only sums of what is not negative.
    """
    link, integral = scratch.link, scratch.integral
    extent, total, reached, merges = scratch.extent, scratch.total, scratch.reached, scratch.merges
    unit = unit_of(measure)
    total[:n_branches] = 0
    reached[:n_branches] = 0
    next_saddle = merges[n_merges - 1, 0] if n_merges > 0 else -1
    for r in range(n_nodes):
        p = order[r] & _LOW
        branch = np.uint32(link[p])
        n = np.float64(extent[branch] * unit)
        power = n if E == 1.0 else (math.sqrt(n) if E == 0.5 else n**E)
        height = integral[r]
        tfce = total[branch] + power * (height - reached[branch])
        total[branch] = tfce
        reached[branch] = height
        extent[branch] -= measure_of(measure, p)
        # By rank, and the rank where the branch was: storing by position would miss the cache each time.
        integral[r] = tfce
        link[p] = r
        while r == next_saddle:
            n_merges -= 1
            other = merges[n_merges, 1]
            total[other] = tfce
            reached[other] = height
            extent[merges[n_merges, 2]] -= extent[other]
            next_saddle = merges[n_merges - 1, 0] if n_merges > 0 else -1
