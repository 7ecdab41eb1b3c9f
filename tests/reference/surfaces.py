"""Images on a small surface, with no more than numbaglm asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np


@dataclass
class Surface:
    """What nilearn's SurfaceImage offers: ``mesh.parts`` and ``data.parts``."""

    mesh: SimpleNamespace
    data: SimpleNamespace

    def __init__(self, mesh, data):
        self.mesh = mesh
        self.data = SimpleNamespace(parts=dict(data))

    @property
    def shape(self):
        parts = list(self.data.parts.values())
        return (sum(len(part) for part in parts), *parts[0].shape[1:])

    def values(self):
        return np.concatenate(list(self.data.parts.values()))


def strip(n_vertices):
    """A strip of triangles: vertex i touches i - 2, i - 1, i + 1 and i + 2."""
    place = np.arange(n_vertices)
    coordinates = np.column_stack([place // 2, place % 2, np.zeros(n_vertices)]).astype(float)
    faces = np.column_stack([place[:-2], place[1:-1], place[2:]])
    return SimpleNamespace(coordinates=coordinates, faces=faces)


MESH = SimpleNamespace(parts={"left": strip(8), "right": strip(10)})
N_VERTICES = 18


def surface(values):
    """Image of (18,) or (18, k) values."""
    values = np.asarray(values, float)
    return Surface(MESH, {"left": values[:8], "right": values[8:]})
