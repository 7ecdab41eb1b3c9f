"""Error rates and power of every scheme, measured on simulated data.

    python benchmarks/validity.py                  # the table of validity.md, some minutes
    python benchmarks/validity.py --size small     # seconds, wide intervals

Each voxel of a simulated map is a data set of its own, so that one run measures the error rate of the uncorrected p
over many of them. Voxels of a run share their shufflings, so there are several runs, each with a seed of its own, and
the 95 % interval is Student's over runs. Family-wise error is measured over smooth maps, one a data set (Clopper and
Pearson's interval). A scheme whose interval lies above the nominal 5 % is marked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.geometry import Geometry
from numbaglm.data.store import CohortStore
from numbaglm.stats.methods import METHODS

ALPHA = 0.05
SIZES = {"small": (8, 250, 99, 30), "full": (60, 500, 499, 400)}  # runs, voxels a run, shufflings, maps

Noise = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.standard_exponential(shape) - 1.0


def unequal(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Noise of the first eight subjects is three times that of the rest."""
    noise = rng.standard_normal(shape)
    noise[:8] *= 3.0
    return noise


def paired(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Two rows a subject, which share most of their noise."""
    return rng.standard_normal(shape) + np.repeat(2.0 * rng.standard_normal((shape[0] // 2, shape[1])), 2, axis=0)


@dataclass(frozen=True)
class Scenario:
    """Null data of one kind, tested in one way; ``effect`` is what is planted to measure power."""

    name: str
    scheme: str
    design: pd.DataFrame
    contrast: str
    noise: Noise
    effect: float
    options: dict[str, Any] = field(default_factory=dict)


def scenarios() -> list[Scenario]:
    """Every scheme on data that suit it, and on data that don't."""
    rng = np.random.default_rng(0)
    one = pd.DataFrame({"intercept": np.ones(16)})
    even = pd.DataFrame({"group": np.repeat([1.0, -1.0], 12), "intercept": 1.0})
    uneven = pd.DataFrame({"group": np.repeat([1.0, -1.0], [8, 24]), "intercept": 1.0})
    x = rng.standard_normal(20)
    age = 0.6 * x + 0.8 * rng.standard_normal(20)
    confounded = pd.DataFrame({"x": x, "age": age, "intercept": 1.0})
    many = pd.DataFrame(rng.standard_normal((30, 13)), columns=["x", *(f"confound{k}" for k in range(12))])
    many["x"] += many["confound0"]
    many["intercept"] = 1.0
    visits = pd.DataFrame({"visit": np.tile([1.0, -1.0], 12), "intercept": 1.0})
    pairs = np.repeat(np.arange(12), 2)
    found = [
        Scenario("one sample, Gaussian, n = 16", "sign flips", one, "intercept", gaussian, 0.7),
        Scenario("one sample, skewed, n = 16", "sign flips", one, "intercept", skewed, 0.7),
        Scenario("two samples of 12, Gaussian", "permutations", even, "group", gaussian, 0.5),
        Scenario("two samples of 12, skewed", "permutations", even, "group", skewed, 0.5),
        Scenario("samples of 8 and 24, skewed", "permutations", uneven, "group", skewed, 0.5),
    ]
    by_size = {"variance_groups": np.repeat([0, 1], [8, 24])}
    for scheme, options in (
        ("permutations, t", {}),
        ("permutations, v (variance groups)", by_size),
        ("sign flips, v (variance groups)", {**by_size, "errors": "ise"}),
    ):
        name = "samples of 8 and 24, first 3 times as noisy"
        found.append(Scenario(name, scheme, uneven, "group", unequal, 1.5, options))
    for name, design, effect in (("correlated confound, n = 20", confounded, 0.8), ("12 confounds, n = 30", many, 0.7)):
        for noise, kind in ((gaussian, "Gaussian"), (skewed, "skewed")):
            for method in METHODS:
                scenario = Scenario(f"{name}, {kind}", method, design, "x", noise, effect, {"method": method})
                found.append(scenario)
    blocks = {"exchangeability_blocks": pairs}
    with_subjects = visits.drop(columns="intercept").join(pd.get_dummies(pairs, prefix="subject", dtype=float))
    found += [
        Scenario("12 pairs of visits", "permutations, no blocks", visits, "visit", paired, 0.4),
        Scenario("12 pairs of visits", "within blocks", visits, "visit", paired, 0.4, blocks),
        Scenario("12 pairs of visits", "within blocks, subjects modelled", with_subjects, "visit", paired, 0.4, blocks),
    ]
    return found


def over_runs(shares: list[float]) -> tuple[float, float, float]:
    """Mean share of hits over runs, and its 95 % interval."""
    mean = float(np.mean(shares))
    reach = float(stats.t.isf(0.025, len(shares) - 1) * np.std(shares, ddof=1) / np.sqrt(len(shares)))
    return mean, max(0.0, mean - reach), mean + reach


def voxelwise(scenario: Scenario, n_voxels: int, n_perm: int, effect: float, seed: int) -> tuple[float, float]:
    """Share of ``n_voxels`` data sets that have uncorrected p <= 0.05, and seconds of the call."""
    rng = np.random.default_rng([seed, 3])
    Y = scenario.noise(rng, (len(scenario.design), n_voxels))
    Y += effect * scenario.design[scenario.contrast].to_numpy()[:, None]
    geometry = Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4))
    cohort = Cohort(CohortStore.from_array(Y.astype(np.float32), geometry))
    begun = time.perf_counter()
    result = ng.permutation_test(
        cohort,
        scenario.design,
        scenario.contrast,
        n_perm=n_perm,
        seed=seed,
        cluster_forming_threshold=None,
        **scenario.options,
    )
    seconds = time.perf_counter() - begun
    return float((result.maps["p_unc"] <= ALPHA + 1e-9).mean()), seconds


def familywise(scenario: Scenario, n_maps: int, n_perm: int) -> dict[str, int]:
    """How many of ``n_maps`` smooth maps of null data have any corrected p <= 0.05, by kind of p."""
    geometry = Geometry(np.ones((10, 10, 10), bool), np.eye(4))
    hits = {"voxel": 0, "size": 0, "tfce": 0}
    for seed in range(n_maps):
        Y = scenario.noise(np.random.default_rng([seed, 7]), (len(scenario.design), 1000)).reshape(-1, 10, 10, 10)
        Y = ndimage.gaussian_filter(Y, (0, 1, 1, 1), mode="wrap").reshape(-1, 1000)
        cohort = Cohort(CohortStore.from_array(Y.astype(np.float32), geometry))
        result = ng.permutation_test(
            cohort,
            scenario.design,
            scenario.contrast,
            n_perm=n_perm,
            seed=seed,
            cluster_forming_threshold=0.01,
            tfce=True,
            **scenario.options,
        )
        for kind in hits:
            hits[kind] += bool(result.maps[f"p_fwe_{kind}"].min() <= ALPHA + 1e-9)
    return hits


def error_table(n_runs: int, n_voxels: int, n_perm: int) -> pd.DataFrame:
    """Error rate, power and cost of every scenario."""
    rows = []
    for scenario in scenarios():
        null = [voxelwise(scenario, n_voxels, n_perm, 0.0, seed)[0] for seed in range(n_runs)]
        planted = [voxelwise(scenario, n_voxels, n_perm, scenario.effect, seed) for seed in range(n_runs)]
        error, low, high = over_runs(null)
        rows.append(
            {
                "data": scenario.name,
                "scheme": scenario.scheme,
                "error rate": f"{100 * error:.2f} % ({100 * low:.2f} to {100 * high:.2f})",
                "": "above 5 %" if low > ALPHA else "below 5 %" if high < ALPHA else "",
                "power": f"{100 * np.mean([found for found, _ in planted]):.0f} %",
                "ms a call": f"{1e3 * np.median([seconds for _, seconds in planted]):.0f}",
                "_low": low,
            }
        )
    return pd.DataFrame(rows)


def familywise_table(n_maps: int, n_perm: int) -> pd.DataFrame:
    """Family-wise error of one scenario of each kind."""
    wanted = {"sign flips", "permutations", "freedman-lane", "within blocks, subjects modelled"}
    rows, seen = [], set()
    for scenario in scenarios():
        if scenario.scheme in wanted and (scenario.scheme, scenario.noise) not in seen:
            seen.add((scenario.scheme, scenario.noise))
            hits = familywise(scenario, n_maps, n_perm)
            row: dict[str, Any] = {"data": scenario.name, "scheme": scenario.scheme}
            for kind, count in hits.items():
                low, high = stats.binomtest(count, n_maps).proportion_ci(0.95)
                row[kind] = f"{100 * count / n_maps:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
                row[f"_{kind}"] = low
            rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Write a table without its private columns."""
    shown = table[[column for column in table if not str(column).startswith("_")]]
    lines = [list(shown.columns), ["---"] * shown.shape[1], *shown.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("validity.md"))
    arguments = parser.parse_args()
    n_runs, n_voxels, n_perm, n_maps = SIZES[arguments.size]
    errors, families = error_table(n_runs, n_voxels, n_perm), familywise_table(n_maps, 2 * n_perm)
    arguments.output.write_text(
        "# Error rates and power\n\n"
        f"Written by `python benchmarks/validity.py --size {arguments.size}`, numbaglm {ng.__version__}. Nominal level "
        f"5 %, two-sided, {n_perm} shufflings; in brackets the 95 % interval of the simulation.\n\n"
        f"## Uncorrected p, {n_runs} runs of {n_voxels} data sets each\n\n{markdown(errors)}\n\n"
        f"## Family-wise error, {n_maps} smooth maps each, {2 * n_perm} shufflings\n\n{markdown(families)}\n"
    )
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
