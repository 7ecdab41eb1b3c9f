"""A regressor of each element's own as nuisance, beside the same test without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from numbaglm import Cohort, PermutationResult, permutation_test
from numbaglm.data.cohort.layout import DATA, Arrays, Header
from numbaglm.data.cohort.store import CohortStore
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

SIZES = {"small": (12, 2, 60), "full": (100, 20, 10_000)}  # subjects, tiles of voxels, shufflings

Benchmark = Callable[..., object]


@dataclass(frozen=True, eq=False)
class OwnCase:
    """Noise, with a layer of noise: the effect of a covariate under permutations ("ee"), or the mean under flips."""

    size: str
    errors: str

    @cached_property
    def cohort(self) -> Cohort:
        n_subjects, n_tiles, _ = SIZES[self.size]
        rng, n_voxels = np.random.default_rng(0), n_tiles * TILE
        maps = {name: rng.normal(size=(n_subjects, n_voxels)).astype(np.float32) for name in (DATA, "own")}
        subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(n_subjects)]})
        space = Space.of(Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4)))
        return Cohort(CohortStore(None, Header(space, subjects, layers=tuple(maps)), Arrays(maps, None, None)))

    @cached_property
    def design(self) -> pd.DataFrame:
        age = np.random.default_rng(1).normal(size=SIZES[self.size][0])
        ones = pd.DataFrame({"intercept": np.ones(len(age))})
        return ones.assign(age=age) if self.errors == "ee" else ones

    def run(self, regressors: str | None) -> PermutationResult:
        contrast = "age" if self.errors == "ee" else "intercept"
        options: dict[str, Any] = {"n_perm": SIZES[self.size][2], "cluster_forming_threshold": None}
        return permutation_test(self.cohort, self.design, contrast, regressors=regressors, **options)

    @property
    def sides(self) -> dict[str, Callable[[], object]]:
        return {"with": partial(self.run, "own"), "without": partial(self.run, None)}


@pytest.mark.parametrize("side", ["with", "without"])
@pytest.mark.parametrize("errors", ["ee", "ise"])
def bench_own_regressor(benchmark: Benchmark, size: str, errors: str, side: str) -> None:
    case = OwnCase(size, errors)
    benchmark.group = f"a regressor of each voxel's own, {errors}"  # type: ignore[attr-defined]
    assert case.run("own").provenance["errors"] == errors
    benchmark.pedantic(case.sides[side], rounds=3)  # type: ignore[attr-defined]
