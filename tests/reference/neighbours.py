"""The higher neighbours of a voxel, and in how many pieces they are, by looking at each."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage


def steps(connectivity):
    """Steps to the neighbours of a voxel."""
    reach = {6: 1, 18: 2, 26: 3}[connectivity]
    return [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= reach]


def higher(height, cell, connectivity):
    """Neighbours that enter before a voxel: higher, or as high and later; of a negative one those below it.

    height is a volume of integers with a border of 0; the one at ``cell`` is not 0.
    """
    own = height[cell]
    found = []
    for step in steps(connectivity):
        there = tuple(np.add(cell, step))
        size = height[there] * np.sign(own)
        if size > abs(own) or (size == abs(own) and step > (0, 0, 0)):
            found.append(there)
    return found


def pieces(height, cell, connectivity):
    """The higher neighbours in pieces that hang together within the cube around the voxel, as sets of cells."""
    cube = np.zeros((3, 3, 3), bool)
    origin = np.subtract(cell, 1)
    every = higher(height, cell, 26)
    for there in every:
        cube[tuple(np.subtract(there, origin))] = True
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    label = ndimage.label(cube, structure)[0]
    own = higher(height, cell, connectivity)
    numbers = {there: label[tuple(np.subtract(there, origin))] for there in own}
    return [{there for there in own if numbers[there] == k} for k in sorted(set(numbers.values()))]
