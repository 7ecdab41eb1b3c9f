"""Clusters of a map by scipy.ndimage, each sign apart."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

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


def largest(labels, n, contribution):
    """Largest extent and largest mass of any cluster; 0 where there is none."""
    if n == 0:
        return 0, 0.0
    inside = range(1, n + 1)
    return np.bincount(labels.ravel())[1:].max(), np.max(ndimage.sum_labels(contribution, labels, inside))
