"""A small result to report on: two blobs, of either sign, in a ball of voxels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
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
