"""Arrays take no more than a plan says: counted as they are made, whatever the system does with their pages."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation import plan as plans
from numbaglm.engine.permutation import size as sizes
from numbaglm.engine.permutation.plan import make_plan
from numbaglm.engine.permutation.workspace import on_disk
from numbaglm.errors import InputError
from numbaglm.inference import running as runs
from numbaglm.spaces.volume import Geometry

_PYTHON = 4_000_000  # of code, tables and messages, which a plan counts among the libraries


def cohort(n_subjects, edge, place):
    """Maps with an effect at every voxel."""
    Y = np.random.default_rng(0).standard_normal((n_subjects, edge**3), dtype=np.float32) + np.float32(1)
    store = CohortStore.from_array(Y, Geometry(np.ones((edge, edge, edge), bool), np.diag([2.0, 2, 2, 1])))
    return Cohort(on_disk(store, Place.parse(place)))


SEVERAL = {name: name for name in ("x", "y", "x + y", "x - y")}

# Subjects, edge of the grid, whether residuals and maps stay in memory, what is asked. Each took more than its plan.
CASES = {
    "counts of pseudo-t": (10, 16, True, {"n_perm": 1000, "variance_smoothing_fwhm": 2.0}),
    "counts of TFCE": (10, 24, True, {"n_perm": 500, "tfce_uncorrected": True}),
    "tails of every voxel, in many rounds": (20, 24, True, {"n_perm": 1000, "tfce": True, "tail": "pareto"}),
    "clusters": (
        3000,
        8,
        False,
        {"n_perm": 2, "covariance": "sandwich", "exchangeability_blocks": np.arange(3000) // 3},
    ),
    "mixed models": (
        3000,
        8,
        False,
        {
            "n_perm": 2,
            "covariance": "binned-gls",
            "exchangeability_blocks": np.arange(3000) // 3,
            "component_interval": 0.9,
        },
    ),
    "variance groups": (3000, 8, False, {"n_perm": 2, "variance_groups": np.arange(3000) % 2}),
    "rows that are refitted": (3000, 8, False, {"n_perm": 260, "method": "dekker", "contrast": ["x", "y"]}),
    "residuals that are rotated": (1200, 8, False, {"n_perm": 20, "method": "huh-jhun"}),
    "many picks": (10, 30, False, {"n_perm": 1000, "cluster_forming_threshold": 0.2}),
    "several contrasts": (10, 40, True, {"n_perm": 20, "contrast": SEVERAL, "p_interval": 0.9}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_test_takes_no_more_than_its_plan_says(monkeypatch, tmp_path, name):
    n, edge, keep, options = CASES[name]
    made = cohort(n, edge, tmp_path)
    rng = np.random.default_rng(1)
    design = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n), "one": 1.0})
    options = {"contrast": "one" if "tail" in options else "x", "cluster_forming_threshold": None} | options
    asked = []

    def smallest(size, room, n_workers, **how):
        """The least room in which it fits, in memory or not."""
        low, high = 0, 4 * 10**9
        while high - low > 10**5:
            room = (low + high) // 2
            low, high = (low, room) if fits(size, room, n_workers, how) else (room, high)
        asked.append(make_plan(size, high, n_workers, **how | {"keep": keep}))
        return asked[-1]

    def fits(size, room, n_workers, how):
        try:
            return make_plan(size, room, n_workers, **how | {"keep": keep}).resident is keep
        except InputError:
            return False

    monkeypatch.setattr(plans, "_MAPS_BYTES", 17 * 10**6)
    monkeypatch.setattr(sizes, "_READ_BYTES", 2**16)
    monkeypatch.setattr(runs, "make_plan", smallest)
    permutation_test(made, design, n_workers=1, **options | {"n_perm": 2})  # what is loaded once
    asked.clear()
    tracemalloc.start()
    permutation_test(made, design, n_workers=1, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= asked[0].memory + _PYTHON, (peak, asked[0])
