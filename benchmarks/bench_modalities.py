"""One test of K modalities beside K times that of one: combined p beside t, multivariate statistics beside F.

`pytest benchmarks/bench_modalities.py --size full`: 20,000 voxels, two groups (t) or three (F) beside a covariate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry

Benchmark = Callable[..., Any]

N_VOXELS = {"small": 1000, "full": 20_000}
N_PERM = {"small": 99, "full": 2000}
T, F = [1.0, -1, 0, 0], [[1.0, -1, 0, 0], [0, 1, -1, 0]]

CASES: dict[str, tuple[str | None, int, Any]] = {
    "t": (None, 1, T),
    "F": (None, 1, F),
    **{f"{name}, K = 3": (name, 3, T) for name in ("fisher", "stouffer", "tippett", "hotelling")},
    "fisher, K = 2": ("fisher", 2, T),
    **{f"{name} of F, K = 3": (name, 3, F) for name in ("fisher", "pillai", "wilks", "lawley-hotelling", "roy")},
    "wilks of F, K = 2": ("wilks", 2, F),
    "roy of F, K = 2": ("roy", 2, F),
}


def cohorts(n: int, n_voxels: int, k: int) -> dict[str, Cohort]:
    """So many modalities of noise."""
    rng, where = np.random.default_rng(0), Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4))
    drawn = (rng.standard_normal((n, n_voxels)).astype(np.float32) for _ in range(k))
    return {f"m{number}": Cohort(CohortStore.from_array(Y, where)) for number, Y in enumerate(drawn)}


def design(n: int) -> np.ndarray:
    """Three groups and a covariate."""
    return np.column_stack([np.arange(n)[:, None] % 3 == np.arange(3), np.random.default_rng(1).normal(size=n)]) * 1.0


def call(size: str, name: str) -> Callable[[], Any]:
    """The call of a case."""
    combine, k, contrast = CASES[name]
    some = cohorts(100, N_VOXELS[size], k)
    options = {"n_perm": N_PERM[size], "cluster_forming_threshold": None, "combine": combine, "n_workers": 1}
    return partial(ng.permutation_test, some if combine else some["m0"], design(100), contrast, **options)


@pytest.mark.parametrize("name", CASES)
def bench_modalities(benchmark: Benchmark, size: str, name: str) -> None:
    result = benchmark(call(size, name))
    assert result.maps["p_unc"].min() < 0.05
