from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from numbaglm.cohort import Cohort
from numbaglm.data.geometry import Geometry
from numbaglm.data.store import CohortStore

# The same examples on every run: a failure is a change of the code. "ci" tries more of them.
for profile, n_examples in (("dev", 12), ("ci", 50)):
    settings.register_profile(
        profile,
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def as_cohort():
    """Make an in-memory cohort of data (n_subjects, n_voxels); in one long row of voxels, or in a mask."""

    def make(Y, mask=None, **header):
        mask = np.ones((Y.shape[1], 1, 1), bool) if mask is None else mask
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        return Cohort(CohortStore.from_array(np.asarray(Y, np.float32), Geometry(mask, affine), **header))

    return make
