"""t of voxels that some subjects lack, each with the subjects that it has, beside t of as many whole ones.

`pytest benchmarks/bench_missing.py --size full`: 20,000 voxels, a covariate and a confound (a design of three columns).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry

Benchmark = Callable[..., Any]

N_VOXELS = {"small": 1000, "full": 20_000}
N_PERM = {"small": 99, "full": 1000}


def whole(n: int, n_voxels: int) -> NDArray[np.bool_]:
    """All subjects everywhere."""
    return np.ones((n, n_voxels), bool)


def few_patterns(n: int, n_voxels: int) -> NDArray[np.bool_]:
    """A fifth of the voxels follow 20 patterns, each of which lacks 15 % of the subjects or so."""
    rng, present = np.random.default_rng(0), whole(n, n_voxels)
    patterns = rng.random((20, n)) > 0.15
    incomplete = rng.choice(n_voxels, n_voxels // 5, replace=False)
    present[:, incomplete] = patterns[rng.integers(0, 20, len(incomplete))].T
    return present


def own_patterns(n: int, n_voxels: int) -> NDArray[np.bool_]:
    """Every voxel lacks a fifth of the subjects, in its own way."""
    return np.random.default_rng(0).random((n, n_voxels)) > 0.2


CASES = {
    "whole, plain": (whole, "leave"),
    "whole": (whole, "element"),
    "20 % in 20 patterns": (few_patterns, "element"),
    "a pattern each": (own_patterns, "element"),
}


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("name", CASES)
def bench_missing(benchmark: Benchmark, size: str, name: str, n: int) -> None:
    make, missing = CASES[name]
    rng, n_voxels = np.random.default_rng(1), N_VOXELS[size]
    present = make(n, n_voxels)
    Y = np.where(present, rng.standard_normal((n, n_voxels)), 0.0).astype(np.float32)
    cohort = Cohort(CohortStore.from_array(Y, Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4)), present=present))
    design = pd.DataFrame(rng.standard_normal((n, 2)), columns=["x", "confound"]).assign(intercept=1.0)
    options = {"n_perm": N_PERM[size], "cluster_forming_threshold": None, "missing": missing, "n_workers": 1}
    result = benchmark(ng.permutation_test, cohort, design, "x", **options)
    assert result.maps["p_unc"].min() < 0.05
