"""Voxels that some subjects lack, each with the subjects that it has, beside as many whole ones.

`pytest benchmarks/bench_missing.py --size full --benchmark-enable`: 20,000 voxels; t of a covariate beside a confound
(a design of three columns), v and G of groups with a covariate, a mean with weights, a regressor of each voxel's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import DATA, Arrays, Header
from numbaglm.data.cohort.presence import pack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

Benchmark = Callable[..., Any]

CASES = (  # statistic, errors, subjects
    ("t", "ee", 30),
    ("t", "ee", 100),
    ("v", "ee", 30),
    ("G", "ee", 30),
    ("v", "ise", 30),
    ("G", "ise", 30),
    ("weights", "ise", 30),
    ("own", "ee", 30),
    ("own", "ise", 30),
)
SIZES = {"small": (1000, 99), "full": (20_000, 1000)}  # voxels, shufflings


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


@dataclass(frozen=True, eq=False)
class MissingCase:
    """Noise of ``n`` subjects, and what is tested.

    Attributes
    ----------
    statistic
        "t"; "v" and "G" of two and three groups; "weights", of variances; or "own", t beside a regressor of each
        voxel's own.
    errors
        "ee", permutations, or "ise", sign flips; of the mean where there are no groups.
    """

    size: str
    n: int
    statistic: str = "t"
    errors: str = "ee"

    @cached_property
    def data(self) -> NDArray[np.float32]:
        """(n_subjects, n_voxels)."""
        return np.random.default_rng(1).standard_normal((self.n, SIZES[self.size][0]), dtype=np.float32)

    @cached_property
    def layers(self) -> dict[str, NDArray[np.float32]]:
        """Further layers (n_subjects, n_voxels)."""
        rng = np.random.default_rng(2)
        if self.statistic == "weights":
            return {"variance": rng.uniform(0.2, 3, self.data.shape).astype(np.float32)}
        return {"own": rng.standard_normal(self.data.shape, np.float32)} if self.statistic == "own" else {}

    @cached_property
    def design(self) -> pd.DataFrame:
        """A covariate and a confound, or groups and a covariate."""
        rng, which = np.random.default_rng(1), np.arange(self.n)
        if self.statistic not in ("v", "G"):
            if self.errors == "ise":
                return pd.DataFrame({"intercept": np.ones(self.n)})
            design = pd.DataFrame(rng.standard_normal((self.n, 2)), columns=["x", "confound"])
            return design.assign(intercept=1.0)
        n_groups = 2 if self.statistic == "v" else 3
        groups = (which % n_groups == np.arange(n_groups)[:, None]).astype(float)
        return pd.DataFrame(groups.T, columns=[*"abc"[:n_groups]]).assign(confound=rng.standard_normal(self.n))

    @cached_property
    def options(self) -> dict[str, Any]:
        """Contrast and options of a call."""
        options: dict[str, Any] = {"n_perm": SIZES[self.size][1], "cluster_forming_threshold": None, "n_workers": 1}
        options["errors"] = self.errors
        if self.statistic not in ("v", "G"):
            options["weights"] = "variance" if self.statistic == "weights" else None
            options["regressors"] = "own" if self.statistic == "own" else None
            return options | {"contrast": "x" if self.errors == "ee" else "intercept"}
        groups = np.arange(self.n) % (2 if self.statistic == "v" else 3)
        contrast = "a - b" if self.statistic == "v" else ["a - b", "b - c"]
        return options | {"contrast": contrast, "variance_groups": groups}

    def side(
        self, make: Callable[[int, int], NDArray[np.bool_]], missing: str, **more: Any
    ) -> Callable[[], ng.PermutationResult]:
        """A call, of a cohort that is made before."""
        n_voxels = SIZES[self.size][0]
        present = make(self.n, n_voxels)
        where = Space.of(Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4)))
        maps = {DATA: self.data, **self.layers}
        maps = {name: np.where(present, values, np.float32(0)) for name, values in maps.items()}
        lacks = missing == "element"
        subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(self.n)]})
        header = Header(where, subjects, layers=tuple(maps), has_presence=lacks, keeps_missing=lacks)
        cohort = Cohort(CohortStore(None, header, Arrays(maps, pack(present) if lacks else None, None)))
        return partial(ng.permutation_test, cohort, self.design, missing=missing, **self.options | more)

    @cached_property
    def sides(self) -> dict[str, Callable[[], ng.PermutationResult]]:
        """Calls by what is missing."""
        made: dict[str, Callable[[], ng.PermutationResult]] = {
            "whole, plain": self.side(whole, "leave"),
            "20 % in 20 patterns": self.side(few_patterns, "element"),
            "a pattern each": self.side(own_patterns, "element"),
        }
        return made


@pytest.mark.parametrize("name", ["whole, plain", "20 % in 20 patterns", "a pattern each"])
@pytest.mark.parametrize(("statistic", "errors", "n"), CASES)
def bench_missing(benchmark: Benchmark, size: str, statistic: str, errors: str, n: int, name: str) -> None:
    result = benchmark(MissingCase(size, n, statistic, errors).sides[name])
    assert result.maps["p_unc"].min() < 0.05
