"""What weights cost: whole calls beside those without, and a shuffling of them.

A call of 9 shufflings is what it takes to get ready: the variance between subjects, twice, the effects, the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

import numbaglm as ng
from numbaglm.datasets import brain_geometry
from numbaglm.spaces.graphs import graph

Benchmark = Callable[..., Any]

WEIGHTS: dict[str, dict[str, Any]] = {
    "none": {},
    "REML, Knapp-Hartung": {"weights": "variance"},
    "DL, z": {"weights": "variance", "between": "dl", "test": "z"},
    "REML, ad-hoc": {"weights": "variance", "test": "ad-hoc"},
}
N = 30


@cache
def cohort(voxel_size: float) -> ng.Cohort:
    """Noise with variances of its own."""
    rng, n_voxels = np.random.default_rng(0), brain_geometry(voxel_size).n_voxels
    v = rng.uniform(0.2, 3, (N, n_voxels)).astype(np.float32)
    y = (rng.standard_normal((N, n_voxels)) * np.sqrt(v)).astype(np.float32)
    touching = csr_array(([1.0, 1.0], ([0, 1], [1, 0])), shape=(n_voxels, n_voxels))
    return ng.Cohort.from_maps(y, layers={"variance": v}, space=graph(touching))


def _design(kind: str) -> tuple[NDArray[np.float64], list[float], str]:
    if kind == "one sample, flips":
        return np.ones((N, 1)), [1.0], "ise"
    rng = np.random.default_rng(1)
    groups = np.arange(N) % 2 == np.arange(2)[:, None]
    return np.column_stack([groups.T, rng.normal(size=N)]).astype(float), [1.0, -1, 0], "ee"


@pytest.mark.parametrize("n_perm", [9, 2000])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", ["one sample, flips", "two groups and a covariate, permutations"])
@pytest.mark.usefixtures("one_core")
def test_weights(benchmark: Benchmark, size: str, kind: str, weights: str, n_perm: int) -> None:
    X, contrast, errors = _design(kind)
    maps = cohort(3.0 if size == "full" else 10.0)

    def call() -> ng.PermutationResult:
        options = {"n_perm": n_perm, "errors": errors, "n_workers": 1, **WEIGHTS[weights]}
        found: ng.PermutationResult = ng.permutation_test(maps, X, contrast, **options)
        return found

    result: ng.PermutationResult = benchmark(call)
    assert np.isfinite(result.maps["t"]).all()
