"""Small meshes for tests."""

from __future__ import annotations

import numpy as np
import scipy


def icosphere(n_splits=1, radius=50.0, bump=0.2, seed=0):
    """Coordinates and faces of an icosahedron whose triangles are split, 42 vertices for one split, and made uneven."""
    ratio = (1 + np.sqrt(5)) / 2
    corners = [(0, a, b * ratio) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([np.roll(corner, k) for corner in corners for k in range(3)], float)
    points /= np.linalg.norm(points[0])
    faces = scipy.spatial.ConvexHull(points).simplices
    for _ in range(n_splits):
        ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges, number = np.unique(ends, axis=0, return_inverse=True)
        middle = points[edges].mean(axis=1)
        ab, bc, ca = (number.reshape(-1, 3) + len(points)).T
        a, b, c = faces.T
        faces = np.concatenate([np.stack(one, 1) for one in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    rng = np.random.default_rng(seed)
    return points * radius * (1 + bump * rng.random((len(points), 1))), faces.astype(np.int32)
