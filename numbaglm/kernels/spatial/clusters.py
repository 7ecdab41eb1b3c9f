"""Connected components of a sparse set of voxels: extent and mass, at a cost that follows the set's size.

A voxel stands for any element of a space: a vertex of a surface, an edge of a network. What is in the set (at least the
threshold, or above it) the caller says.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Ints
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.spatial.topology import (
    Topology,
    beside,
    lists_of,
    measure_of,
    n_beside,
    n_cells,
    n_own,
    own,
    unit_of,
    unit_type,
)


class ClusterScratch(NamedTuple):
    """Memory for one map at a time, one a thread, to be reused.

    Attributes
    ----------
    cells
        (n_cells,) where voxels leave their number for those that touch them; zeros, and zeros again afterwards.
    parent, extent, mass
        (n_most,) by voxel of the set: union-find, and what the cluster of that first voxel has come to.
    """

    cells: Ints
    parent: Ints
    extent: NDArray[Any]
    mass: NDArray[np.float64]


def new_cluster_scratch(space: Topology, n_most: int) -> ClusterScratch:
    """Allocate the memory to form clusters of up to `n_most` voxels of a space at a time."""
    return ClusterScratch(
        cells=np.zeros(n_cells(space), np.int32),
        parent=np.empty(n_most, np.int32),
        extent=np.empty(n_most, unit_type(space)),
        mass=np.empty(n_most),
    )


@kernel
def part_bounds(
    bounds: NDArray[np.int64], voxel: Ints, first: int, last: int, begin: NDArray[np.int64], end: NDArray[np.int64]
) -> None:
    """Find the voxels of a part of the space, in each of a batch of sets.

    Parameters
    ----------
    bounds
        (n_batch + 1,) where the voxels of each set begin and end.
    voxel
        (k,) numbers, increasing within a set.
    first, last
        Voxels of the part: from ``first`` up to ``last``, without that.
    begin, end
        (n_batch,), filled: where those of them that are in each set begin and end.
    """
    for b in range(bounds.size - 1):
        here = voxel[bounds[b] : bounds[b + 1]]
        begin[b] = bounds[b] + np.searchsorted(here, first)
        end[b] = bounds[b] + np.searchsorted(here, last)


@kernel
def label_clusters(
    voxel: Ints, signs: NDArray[np.int8], first: int, space: Topology, strides: Any, cells: Ints, parent: Ints
) -> None:
    """Label the connected components of a set of voxels; voxels of other sign are not neighbours.

    Parameters
    ----------
    voxel
        (k,) numbers, increasing.
    signs
        (k,) sign of each voxel; all equal to let signs merge.
    first
        Number of the space's first voxel: 0, or what comes before this part of a map.
    space, strides
        From `new_volume`, `new_graph` or `new_network`, and its strides.
    cells
        (n_cells,) scratch, all zero, and zero again afterwards.
    parent
        (k,) at least, filled: the place in the set of the first voxel of each voxel's component.

    References
    ----------
    Tarjan (1975), Journal of the ACM 22(2), on union-find.
    """
    lists, position = lists_of(space, strides), space.position
    for n in range(voxel.size):
        parent[n] = n
        p, sign = position[voxel[n] - first], signs[n]
        for k in range(n_beside(lists, strides, p)):
            other = cells[beside(lists, strides, p, sign, k)] - 1
            if other >= 0 and signs[other] == sign:
                a, b = _root(parent, n), _root(parent, other)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
        for k in range(n_own(strides)):
            cells[own(lists, strides, p, sign, k)] = n + 1
    for n in range(voxel.size):
        p = position[voxel[n] - first]
        for k in range(n_own(strides)):
            cells[own(lists, strides, p, signs[n], k)] = 0
        parent[n] = parent[parent[n]]  # the first of a component comes first, so that it is final by now


@kernel
def cluster_maxima(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    voxel: Ints,
    masses: NDArray[np.float64],
    signs: NDArray[np.int8],
    first: int,
    space: Topology,
    scratch: ClusterScratch,
    max_extent: NDArray[Any],
    max_mass: NDArray[np.float64],
) -> None:
    """Largest extent and largest mass of any cluster, for each shuffling of a batch.

    Extents are exact: the same bits in whatever order the voxels are. Masses are added in the voxels' order.

    Parameters
    ----------
    begin, end
        (n_batch,) where each shuffling's voxels of this space begin and end, see `part_bounds`.
    voxel, masses, signs
        (k,) number (increasing within a shuffling), contribution to the mass (>= 0), and sign.
    first, space
        As for `label_clusters`.
    scratch
        From `new_cluster_scratch`, with room for the most voxels of any shuffling.
    max_extent, max_mass
        (n_batch,), filled; 0 where nothing is above the threshold. Extents are of `extent_type`.
    """
    parent, extent, mass = scratch.parent, scratch.extent, scratch.mass
    for b in range(begin.size):
        inside = voxel[begin[b] : end[b]]
        label_clusters(inside, signs[begin[b] : end[b]], first, space, space.strides, scratch.cells, parent)
        for n in range(inside.size):
            extent[n] = 0
            mass[n] = 0.0
        largest, heaviest = extent.dtype.type(0), 0.0
        for n in range(inside.size):
            root = parent[n]
            extent[root] += measure_of(space.measure, space.position[inside[n] - first])
            mass[root] += masses[begin[b] + n]
            largest = max(largest, extent[root])
            heaviest = max(heaviest, mass[root])
        max_extent[b] = largest * unit_of(space.measure)
        max_mass[b] = heaviest


@kernel
def _root(parent: NDArray[np.int32], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]  # path halving
        node = parent[node]
    return node
