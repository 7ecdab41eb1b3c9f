"""How often tests with regressors of each element's own find what isn't there, and what is, on simulated data.

    python benchmarks/validity_elementwise.py                  # the section of validity.md, a few minutes
    python benchmarks/validity_elementwise.py --size small     # seconds, wide intervals

At each element the data follow a map of grey matter, which itself follows age: a test of age that leaves the map out
finds age everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.layout import DATA, Arrays, Header
from numbaglm.data.cohort.presence import pack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry
from validity import Noise, gaussian, skewed
from validity_page import arguments, markdown, over_runs, percent, put, written

ALPHA = 0.05
SIZES = {"small": (6, 200, 99), "full": (60, 500, 499)}  # runs, elements a run, shufflings
HEADING = "## Regressors of elements' own"


@dataclass(frozen=True)
class Scenario:
    """Data that follow grey matter, which follows age; and one way to test one of them.

    Attributes
    ----------
    tested
        "age", "gm" or "intercept": where it is "gm" the data follow age instead, and where it is the intercept both.
    effect
        Planted to measure power.
    absent
        Share of the values, of data and map alike, that are missing at random; each data set is tested with the rest.
    """

    name: str
    scheme: str
    n: int
    noise: Noise
    tested: str
    effect: float
    options: dict[str, Any] = field(default_factory=dict)
    absent: float = 0.0

    def share(self, n_voxels: int, n_perm: int, seed: int, effect: float = 0.0) -> float:
        """Share of ``n_voxels`` data sets whose uncorrected p are below the level."""
        rng = np.random.default_rng([seed, 11])
        age = np.random.default_rng(2).standard_normal(self.n)
        grey = 0.6 * age[:, None] + 0.8 * self.noise(rng, (self.n, n_voxels))
        follows = {"age": grey, "gm": np.repeat(age[:, None], n_voxels, axis=1), "intercept": grey}[self.tested]
        planted = {"age": age[:, None], "gm": grey, "intercept": 1.0}[self.tested]
        Y: NDArray[np.float64] = follows + self.noise(rng, (self.n, n_voxels)) + effect * planted
        there = rng.random(Y.shape) >= self.absent
        maps = {name: np.where(there, one, 0).astype(np.float32) for name, one in ((DATA, Y), ("gm", grey))}
        subjects = pd.DataFrame({"subject_label": [f"s{k}" for k in range(self.n)]})
        space = Space.of(Geometry(np.ones((n_voxels, 1, 1), bool), np.eye(4)))
        header = Header(space, subjects, layers=tuple(maps), has_presence=True, keeps_missing=True)
        cohort = Cohort(CohortStore(None, header, Arrays(maps, pack(there), None)))
        design = pd.DataFrame({"intercept": 1.0, "age": age})
        options: dict[str, Any] = {"n_perm": n_perm, "seed": seed, "cluster_forming_threshold": None}
        options |= {"regressors": "gm", "missing": "element" if self.absent else "leave"}
        result = ng.permutation_test(cohort, design, self.tested, **options | self.options)
        tested = result.maps["reason"] == 0 if "reason" in result.maps else slice(None)
        return float((result.maps["p_unc"][tested] <= ALPHA + 1e-9).mean())


def scenarios() -> list[Scenario]:
    """Nuisance, tested, several methods; small and not so small; Gaussian and skewed."""
    kinds = ((gaussian, "Gaussian"), (skewed, "skewed"))
    found = [
        Scenario(
            "age, n = 20, Gaussian", "permutations, without the map", 20, gaussian, "age", 0.8, {"regressors": None}
        )
    ]
    for n, effect in ((12, 1.2), (20, 0.8), (40, 0.6)):
        for noise, kind in kinds:
            for tested, words in (("age", "age, beside the map"), ("gm", "the map, beside age")):
                found.append(Scenario(f"{words}, n = {n}, {kind}", "permutations", n, noise, tested, effect))
    for method in ("dekker", "manly"):
        options = {"method": method}
        for tested, words in (("age", "age, beside the map"), ("gm", "the map, beside age")):
            name = f"{words}, n = 20, Gaussian"
            found.append(Scenario(name, f"permutations, {method}", 20, gaussian, tested, 0.8, options))
    found.append(
        Scenario("the mean, beside map and age, n = 20, Gaussian", "sign flips", 20, gaussian, "intercept", 0.8)
    )
    found.append(
        Scenario("the map, beside age, n = 20, Gaussian", "sign flips", 20, gaussian, "gm", 0.8, {"errors": "ise"})
    )
    return found + of_missing()


def of_missing() -> list[Scenario]:
    """Some have no data, and no map, at an element."""
    found = []
    tests = ("age", "age, beside the map", 0.8), ("gm", "the map, beside age", 0.8)
    for n, noise, kind, share in (
        (20, gaussian, "Gaussian", 0.2),
        (20, skewed, "skewed", 0.4),
        (40, skewed, "skewed", 0.2),
    ):
        for tested, words, effect in tests:
            name, scheme = f"{words}, n = {n}, {kind}", f"permutations, {100 * share:.0f} % missing"
            found.append(Scenario(name, scheme, n, noise, tested, effect, absent=share))
    flips: dict[str, Any] = {"errors": "ise"}
    return [
        *found,
        Scenario(
            "the mean, beside map and age, n = 20, Gaussian",
            "sign flips, 20 % missing",
            20,
            gaussian,
            "intercept",
            0.8,
            absent=0.2,
        ),
        Scenario(
            "the map, beside age, n = 20, Gaussian", "sign flips, 20 % missing", 20, gaussian, "gm", 0.8, flips, 0.2
        ),
    ]


def rows(n_runs: int, n_voxels: int, n_perm: int, words: str = "") -> list[dict[str, Any]]:
    """Error rate and power of every scenario, or of those with some words in their name."""
    told = []
    for scenario in scenarios():
        if words not in f"{scenario.name} | {scenario.scheme}":
            continue
        null = [scenario.share(n_voxels, n_perm, seed) for seed in range(n_runs)]
        planted = [scenario.share(n_voxels, n_perm, seed, scenario.effect) for seed in range(n_runs // 3)]
        error, low, high = over_runs(null)
        row = {
            "data": scenario.name,
            "scheme": scenario.scheme,
            "error rate": percent(error, low, high, 2),
            "": "above 5 %" if low > ALPHA else "below 5 %" if high < ALPHA else "",
            "power": f"{100 * np.mean(planted):.0f} %",
        }
        told.append(row)
        print(*row.values(), sep=" | ", flush=True)
    return told


def section(size: str) -> str:
    """The table, and what it was measured on."""
    n_runs, n_voxels, n_perm = SIZES[size]
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"Uncorrected "
        f"p at 5 %, two-sided, {n_runs} runs of {n_voxels} data sets each, {n_perm} shufflings; in brackets the 95 % "
        "interval of the simulation. Data follow a map of grey matter, which correlates with age at 0.6, voxel by "
        "voxel; where the map is tested they follow age instead. Power is that of a third of the runs.\n\n"
        f"{markdown(pd.DataFrame(rows(n_runs, n_voxels, n_perm)))}\n"
    )


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("--only", metavar="WORDS", help="measure the rows with these words, and print them")
    asked = parser.parse_args()
    if asked.only:
        rows(*SIZES[asked.size], words=asked.only)
    else:
        put(section(asked.size), asked.output)


if __name__ == "__main__":
    main()
