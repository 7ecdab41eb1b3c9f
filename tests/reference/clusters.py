"""Clusters of a map by scipy.ndimage, each sign apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

STRUCTURES = {6: 1, 18: 2, 26: 3}


def label(above, sign, connectivity):
    """Label clusters of a volume; voxels of different sign are in different clusters."""
    structure = ndimage.generate_binary_structure(3, STRUCTURES[connectivity])
    labels, n = np.zeros(above.shape, int), 0
    for one in np.unique(sign[above]):
        found, k = ndimage.label(above & (sign == one), structure)
        labels[found > 0] = found[found > 0] + n
        n += k
    return labels, n


def label_graph(above, sign, indptr, indices):
    """Label clusters of the nodes of a graph."""
    graph = csr_array((np.ones(len(indices)), indices, indptr), shape=(above.size,) * 2)
    labels, n = np.zeros(above.size, int), 0
    for one in np.unique(sign[above]):
        inside = np.flatnonzero(above & (sign == one))
        k, found = connected_components(graph[inside][:, inside], directed=False)
        labels[inside] = found + n + 1
        n += k
    return labels, n


def largest(labels, n, contribution, measure=None):
    """Largest extent and largest mass of any cluster; 0 where there is none."""
    if n == 0:
        return 0, 0.0
    inside = range(1, n + 1)
    extent = np.bincount(labels.ravel(), weights=measure)[1:].max()
    return extent, np.max(ndimage.sum_labels(contribution, labels, inside))
