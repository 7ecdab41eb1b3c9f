"""Connected components of a sparse set of voxels: extent and mass, at a cost that follows the set's size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.kernels._jit import kernel


@kernel
def _root(parent: NDArray[np.int32], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]  # path halving
        node = parent[node]
    return node


@kernel
def label_components(
    flat: NDArray[np.int32],
    signs: NDArray[np.int8],
    offsets: NDArray[np.int64],
    grid: NDArray[np.int32],
    parent: NDArray[np.int32],
) -> None:
    """Label the connected components of a set of voxels; voxels of other sign are not neighbours.

    Parameters
    ----------
    flat
        (k,) padded flat indices, increasing.
    signs
        (k,) sign of each voxel; all equal to let signs merge.
    offsets
        Offsets to the neighbours that come before a voxel in C order (half of all).
    grid
        (padded grid size,) scratch, all zero, and zero again afterwards.
    parent
        (k,) at least, filled: the number of the first voxel of each voxel's component.

    References
    ----------
    Tarjan (1975), Journal of the ACM 22(2), on union-find.
    """
    for p in range(flat.shape[0]):
        parent[p] = p
        grid[flat[p]] = p + 1
        for o in range(offsets.shape[0]):
            neighbour = grid[flat[p] + offsets[o]] - 1
            if neighbour >= 0 and signs[neighbour] == signs[p]:
                a, b = _root(parent, p), _root(parent, neighbour)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    for p in range(flat.shape[0]):
        grid[flat[p]] = 0
        parent[p] = parent[parent[p]]  # the first of a component comes first, so that it is final by now


@kernel
def largest_clusters(
    bounds: NDArray[np.int64],
    flat: NDArray[np.int32],
    masses: NDArray[np.float64],
    signs: NDArray[np.int8],
    offsets: NDArray[np.int64],
    scratch: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]],
    max_size: NDArray[np.int32],
    max_mass: NDArray[np.float64],
) -> None:
    """Largest extent and largest mass of any cluster, for each shuffling of a batch.

    Parameters
    ----------
    bounds
        (n_batch + 1,) where each shuffling's voxels begin and end.
    flat, masses, signs
        (k,) padded flat index (increasing within a shuffling), contribution to the mass (>= 0), and sign.
    offsets
        As for `label_components`.
    scratch
        Zeroed grid; and room for the most voxels of any shuffling: parent, size, mass.
    max_size, max_mass
        (n_batch,), filled; 0 where nothing is above the threshold.
    """
    grid, parent, size, mass = scratch
    for b in range(bounds.shape[0] - 1):
        start, stop = bounds[b], bounds[b + 1]
        label_components(flat[start:stop], signs[start:stop], offsets, grid, parent)
        for p in range(stop - start):
            size[p] = 0
            mass[p] = 0.0
        largest, heaviest = 0, 0.0
        for p in range(stop - start):
            root = parent[p]
            size[root] += 1
            mass[root] += masses[start + p]
            largest = max(largest, size[root])
            heaviest = max(heaviest, mass[root])
        max_size[b] = largest
        max_mass[b] = heaviest
