"""Small results to report on: two blobs, of either sign, in a ball of voxels or on two surfaces; parcels; a network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Mesh, Surface
from numbaglm.spaces.volume import Geometry
from reference.meshes import icosphere
from reference.pages import NASTY

HIGH, LOW = np.array([9.0, 6.0, 3.0]), np.array([-9.0, -6.0, -6.0])


def ball(tilt=0.0):
    """A ball of 3 mm voxels, right to left as scanners store it, or tilted."""
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    cos, sin = np.cos(tilt), np.sin(tilt)
    affine[:2, :2] = np.array([[cos, -sin], [sin, cos]]) @ affine[:2, :2]
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 7.0)
    xyz = np.indices((15, 15, 15)).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    return Geometry((np.linalg.norm(xyz, axis=1) < 19.5).reshape(15, 15, 15), affine)


def cube():
    return Geometry(np.ones((3, 3, 3), bool), np.diag([3.0, 3.0, 3.0, 1.0]))


def asked(tilt=0.0):
    """A cohort and a design."""
    geometry = ball(tilt)
    rng = np.random.default_rng(0)
    xyz = geometry.coordinates(np.arange(geometry.n_voxels))
    Y = rng.normal(size=(14, geometry.n_voxels))
    for place, sign in ((HIGH, 1), (LOW, -1)):
        Y += 4 * sign * np.exp(-((xyz - place) ** 2).sum(axis=1) / 72)
    store = CohortStore.from_array(Y.astype(np.float32), geometry, report=[f"3 voxels of {NASTY} are left out."])
    wide = NASTY + 90 * "x"  # wider than a small window
    return Cohort(store), pd.DataFrame({"intercept": 1.0, wide: rng.normal(size=14)})


def analysed(tilt=0.0, **options):
    options = {"contrast": "intercept", "n_perm": 60, "tfce": True} | options
    return permutation_test(*asked(tilt), **options)


def hemispheres(n_splits=3, with_mesh=True):
    """Two uneven balls, the left one at the left, with a hole in each where nothing is analysed."""
    parts = []
    for side, x in (("left", -55.0), ("right", 55.0)):
        coordinates, faces = icosphere(n_splits, bump=0.02)
        a, b, c = coordinates[faces].transpose(1, 0, 2)
        inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
        faces = np.where(inward[:, None], faces[:, ::-1], faces)
        mesh = Mesh(coordinates + np.array([x, 0.0, 0.0]), faces, side)
        inner = mesh.coordinates[:, 0] * np.sign(x) > 15.0
        parts.append(Surface(side, mesh.n, np.flatnonzero(inner), mesh if with_mesh else None))
    return Space(tuple(parts))


OUTER = {"left": np.array([-105.0, 0.0, 0.0]), "right": np.array([105.0, 0.0, 0.0])}
"""Places of the effects on `hemispheres`: above 0 at the left, below 0 at the right."""


def on_surfaces(with_voxels=False, **options):
    """A result on two surfaces, and a volume beside them."""
    space, rng = hemispheres(), np.random.default_rng(1)
    if with_voxels:
        space = Space((*space.parts, Structures(ball(), ("thalamus left",), np.zeros(ball().n, np.int16))))
    xyz = space.coordinates(np.arange(space.n))
    Y = rng.normal(size=(14, space.n))
    for place, sign in ((OUTER["left"], 1), (OUTER["right"], -1), (HIGH, 1)):
        Y += 4 * sign * np.exp(-((xyz - place) ** 2).sum(axis=1) / 400)
    cohort = Cohort(CohortStore.from_array(Y.astype(np.float32), space))
    return permutation_test(cohort, **{"n_perm": 60, "cluster_forming_threshold": 0.001, "tfce": True} | options)


def of_parcels(n=60, **options):
    """A result of parcels, the first and the second of which differ from 0."""
    values = np.random.default_rng(2).normal(size=(14, n))
    values[:, 0] += 4
    values[:, 1] -= 4
    names = [NASTY, "$x$ left", *(f"parcel {k}" for k in range(2, n))]
    return permutation_test(pd.DataFrame(values, columns=names), **{"n_perm": 60} | options)


def in_network(n_nodes=12, **options):
    """A result of a network with a triangle of nodes 0, 4 and 8."""
    values = np.random.default_rng(3).normal(size=(14, n_nodes, n_nodes))
    for a, b in ((0, 4), (4, 8), (8, 0)):
        values[:, a, b] += 9
    cohort = Cohort.from_maps(
        values + values.transpose(0, 2, 1), space="network", nodes=[f"node {k}" for k in range(n_nodes)]
    )
    return permutation_test(cohort, **{"n_perm": 60, "cluster_forming_threshold": 0.001, "tfce": True} | options)
