"""Error rates and power of every scheme, measured on simulated data.

    python benchmarks/validity.py                  # the table of validity.md, some minutes
    python benchmarks/validity.py --size small     # seconds, wide intervals

Each voxel of a simulated map is a data set of its own, so that one run measures the error rate of the uncorrected p
over many of them. Voxels of a run share their shufflings, so there are several runs, each with a seed of its own, and
the 95 % interval is Student's over runs. Family-wise error is measured over smooth maps, one a data set (Clopper and
Pearson's interval). A scheme whose interval lies above or below the nominal level is marked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.methods import METHODS
from validity_page import arguments, markdown, of_maps, over_runs, percent, put, written

ALPHA = 0.05
FAMILYWISE = {
    "sign flips",
    "permutations",
    "permutations and flips",
    "freedman-lane",
    "within blocks, subjects modelled",
    "whole blocks",
    "blocks of several levels",
    *(f"{how}, {one} (variance groups)" for how in ("permutations", "sign flips") for one in "vG"),
}
"""Schemes of the first table that the family-wise one has as well, once for each kind of noise."""

SIZES = {"small": (8, 250, 99, 30), "full": (60, 500, 499, 400)}  # runs, voxels a run, shufflings, maps

Noise = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
Absent = Callable[[np.random.Generator, NDArray[np.float64], tuple[int, int]], NDArray[np.bool_]]


def gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.standard_normal(shape)


def skewed(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.standard_exponential(shape) - 1.0


def noisy_first(groups: NDArray[np.int64]) -> Noise:
    """Gaussian noise, three times as large in the first group."""
    return lambda rng, shape: rng.standard_normal(shape) * np.where(groups == 0, 3.0, 1.0)[:, None]


def related(families: NDArray[np.int64], shared: float, one: Noise = gaussian) -> Noise:
    """Noise of standard deviation 1, plus noise of deviation ``shared`` that a family has in common."""

    def noise(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        own = one(rng, shape)
        return own + shared * one(rng, (families.max() + 1, shape[1]))[families]

    return noise


@dataclass(frozen=True)
class Scenario:
    """Null data of one kind, tested in one way.

    To measure power, ``effect`` is planted on the tested column, or on the sum of those that an F contrast tests.
    """

    name: str
    scheme: str
    design: pd.DataFrame
    contrast: str | list[str]
    noise: Noise
    effect: float
    options: dict[str, Any] = field(default_factory=dict)
    alpha: float = ALPHA
    absent: Absent | None = None

    def data(self, rng: np.random.Generator, n_voxels: int, effect: float = 0.0) -> NDArray[np.float64]:
        """Y (n_subjects, n_voxels), null data where there is no effect; NaN where a value is missing."""
        tested = self.design[[self.contrast] if isinstance(self.contrast, str) else self.contrast].sum(axis=1)
        Y = self.noise(rng, (len(self.design), n_voxels)) + effect * tested.to_numpy()[:, None]
        if self.absent is not None:
            Y[self.absent(rng, tested.to_numpy(), Y.shape)] = np.nan
        return Y


def at_random(share: float) -> Absent:
    """Values go missing by themselves."""
    return lambda rng, tested, shape: rng.random(shape) < share


def by_what_is_tested(share: float) -> Absent:
    """The higher the tested column, the oftener values are missing: never at the lowest, twice the share at the top."""

    def absent(rng: np.random.Generator, tested: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
        rank = stats.rankdata(tested)
        return rng.random(shape) < 2 * share * ((rank - rank.min()) / max(1.0, np.ptp(rank)))[:, None]

    return absent


def two_samples(first: int, second: int) -> pd.DataFrame:
    return pd.DataFrame({"group": np.repeat([1.0, -1.0], [first, second]), "intercept": 1.0})


def three_groups(*sizes: int) -> pd.DataFrame:
    """The second group (b) and the third (c), as differences from the first."""
    labels = np.repeat([0, 1, 2], sizes)
    return pd.DataFrame({"b": np.float64(labels == 1), "c": np.float64(labels == 2), "intercept": 1.0})


def scenarios() -> list[Scenario]:
    """Every scheme on data that suit it, and on data that don't."""
    return [
        *of_errors(),
        *of_variances(),
        *of_nuisance(),
        *of_blocks(),
        *of_missing(),
        *of_tails((0.01, 0.001), ("pareto",)),
    ]


def of_errors() -> list[Scenario]:
    one = pd.DataFrame({"intercept": np.ones(16)})
    even, small, both = two_samples(12, 12), two_samples(10, 10), {"errors": "both"}
    return [
        Scenario("one sample, Gaussian, n = 16", "sign flips", one, "intercept", gaussian, 0.7),
        Scenario("one sample, skewed, n = 16", "sign flips", one, "intercept", skewed, 0.7),
        Scenario("two samples of 12, Gaussian", "permutations", even, "group", gaussian, 0.5),
        Scenario("two samples of 12, skewed", "permutations", even, "group", skewed, 0.5),
        Scenario("samples of 8 and 24, skewed", "permutations", two_samples(8, 24), "group", skewed, 0.5),
        Scenario("two samples of 10, Gaussian", "permutations and flips", small, "group", gaussian, 0.6, both),
        Scenario("two samples of 10, skewed", "permutations and flips", small, "group", skewed, 0.6, both),
    ]


def of_variances() -> list[Scenario]:
    """The first sample, or group, has three times the standard deviation of the others."""
    found = []
    cases: tuple[tuple[str, tuple[int, ...], pd.DataFrame, str | list[str], float], ...] = (
        ("samples of 8 and 24", (8, 24), two_samples(8, 24), "group", 1.5),
        ("groups of 6, 8 and 14", (6, 8, 14), three_groups(6, 8, 14), ["b", "c"], 2.5),
        ("groups of 12, 12 and 12", (12, 12, 12), three_groups(12, 12, 12), ["b", "c"], 2.5),
    )
    for name, sizes, design, contrast, effect in cases:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        own = {"variance_groups": labels}
        ordinary, robust = "tv" if contrast == "group" else "FG"
        schemes: dict[str, dict[str, Any]] = {
            f"permutations, {ordinary}": {},
            f"permutations, {robust} (variance groups)": {**own, "errors": "ee"},
            f"sign flips, {robust} (variance groups)": {**own, "errors": "ise"},
        }
        found += [
            Scenario(f"{name}, first 3 times as noisy", scheme, design, contrast, noisy_first(labels), effect, options)
            for scheme, options in schemes.items()
        ]
    return found


def of_nuisance() -> list[Scenario]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20)
    confounded = pd.DataFrame({"x": x, "age": 0.6 * x + 0.8 * rng.standard_normal(20), "intercept": 1.0})
    many = pd.DataFrame(rng.standard_normal((30, 13)), columns=["x", *(f"confound{k}" for k in range(12))])
    many["x"] += many["confound0"]
    many["intercept"] = 1.0
    three = three_groups(7, 7, 7)
    three.insert(2, "age", three["b"] + 2 * three["c"] + rng.standard_normal(21))
    t_methods = {name: name for name in METHODS}
    f_methods = {name: f"F, {name}" for name in ("freedman-lane", "draper-stoneman", "still-white", "kennedy")}
    cases: tuple[tuple[str, pd.DataFrame, str | list[str], float, dict[str, str]], ...] = (
        ("correlated confound, n = 20", confounded, "x", 0.8, t_methods),
        ("12 confounds, n = 30", many, "x", 0.7, t_methods),
        ("3 groups of 7, correlated confound", three, ["b", "c"], 1.5, f_methods),
    )
    kinds = (gaussian, "Gaussian"), (skewed, "skewed")
    return [
        Scenario(f"{name}, {kind}", scheme, design, contrast, noise, effect, {"method": method})
        for name, design, contrast, effect, schemes in cases
        for noise, kind in kinds
        for method, scheme in schemes.items()
    ] + [
        Scenario(f"{name}, {kind}", scheme, design, contrast, noise, effect, {"correlation": True})
        for (name, design, contrast, effect, _), scheme in zip(cases, ("r", "r", "R2"), strict=True)
        for noise, kind in kinds
    ]


def of_blocks() -> list[Scenario]:
    """Pairs of visits; families that share their covariate; families of two sizes that share some of it."""
    rng = np.random.default_rng(1)
    pairs, trios = np.repeat(np.arange(12), 2), np.repeat(np.arange(10), 3)
    mixed, kinds = np.repeat(np.arange(10), [2] * 6 + [3] * 4), np.repeat([2, 3], 12)
    visits = pd.DataFrame({"visit": np.tile([1.0, -1.0], 12), "intercept": 1.0})
    with_subjects = visits.drop(columns="intercept").join(pd.get_dummies(pairs, prefix="subject", dtype=float))
    common = pd.DataFrame({"x": rng.standard_normal(10)[trios], "intercept": 1.0})
    partly = pd.DataFrame({"x": rng.standard_normal(10)[mixed] + rng.standard_normal(24), "intercept": 1.0})
    tree = np.column_stack([np.full(24, -1), kinds, mixed + 1, np.arange(1, 25)])
    within = {"exchangeability_blocks": pairs}
    whole = {"exchangeability_blocks": trios, "block_scheme": "whole"}
    levels = {"exchangeability_blocks": tree}
    paired, family, size = related(pairs, 2.0), related(trios, 1.0), related(mixed, 1.0)
    without, name = "permutations, no blocks", "6 pairs and 4 trios, covariate partly the family's"
    return [
        Scenario("12 pairs of visits", without, visits, "visit", paired, 0.4),
        Scenario("12 pairs of visits", "within blocks", visits, "visit", paired, 0.4, within),
        Scenario("12 pairs of visits", "within blocks, subjects modelled", with_subjects, "visit", paired, 0.4, within),
        Scenario("10 families of 3, covariate of the family", without, common, "x", family, 0.8),
        Scenario("10 families of 3, covariate of the family", "whole blocks", common, "x", family, 0.8, whole),
        Scenario(name, without, partly, "x", size, 0.6),
        Scenario(name, "blocks of several levels", partly, "x", size, 0.6, levels),
    ]


def of_missing() -> list[Scenario]:
    """Values that are missing, each data set tested with the subjects that it has."""
    rng = np.random.default_rng(2)
    element: dict[str, Any] = {"missing": "element"}
    found = []
    once = (12, gaussian, "Gaussian"), (20, gaussian, "Gaussian"), (20, skewed, "skewed")
    for n, noise, kind in (*once, (12, skewed, "skewed"), (40, gaussian, "Gaussian"), (40, skewed, "skewed")):
        x, confound = rng.standard_normal((2, n))
        design = pd.DataFrame({"x": x, "confound": confound + 0.5 * x, "intercept": 1.0})
        shares = ((0.1, at_random, "at random"), (0.4, at_random, "at random"), (0.3, by_what_is_tested, "with x"))
        for share, absent, how in shares:
            name = f"covariate and confound, n = {n}, {kind}"
            scheme = f"permutations, {100 * share:.0f} % missing {how}"
            found.append(Scenario(name, scheme, design, "x", noise, 0.8, element, absent=absent(share)))
    pairs = np.repeat(np.arange(12), 2)
    visits = pd.DataFrame({"visit": np.tile([1.0, -1.0], 12), "intercept": 1.0})
    one = pd.DataFrame({"intercept": np.ones(16)})
    within = element | {"exchangeability_blocks": pairs}
    paired, few = related(pairs, 1.0), at_random(0.2)
    many = np.repeat(np.arange(20), 2)
    of_many = pd.DataFrame({"visit": np.tile([1.0, -1.0], 20), "intercept": 1.0})
    within_many = element | {"exchangeability_blocks": many}
    more: tuple[tuple[str, Noise, Absent], ...] = (
        ("within blocks, 40 % missing", related(many, 1.0), at_random(0.4)),
        ("within blocks, 30 % missing with the visit", related(many, 1.0), by_what_is_tested(0.3)),
        ("within blocks, 30 % missing with the visit, skewed", related(many, 1.0, skewed), by_what_is_tested(0.3)),
    )
    scheme = "sign flips, 20 % missing at random"
    labels = np.repeat([0, 1], [8, 24])
    uneven = ("samples of 8 and 24, first 3 times as noisy", two_samples(8, 24), noisy_first(labels))
    apart = element | {"variance_groups": labels}
    found += [
        Scenario(uneven[0], f"{how}, v, 20 % missing", uneven[1], "group", uneven[2], 1.5, options, absent=few)
        for how, options in (("permutations", apart | {"errors": "ee"}), ("sign flips", apart | {"errors": "ise"}))
    ]
    found += [
        Scenario("20 pairs of visits", how, of_many, "visit", noise, 0.5, within_many, absent=absent)
        for how, noise, absent in more
    ]
    return [
        *found,
        Scenario("12 pairs of visits", "within blocks, 20 % missing", visits, "visit", paired, 0.5, within, absent=few),
        Scenario("one sample, Gaussian, n = 16", scheme, one, "intercept", gaussian, 0.7, element, absent=few),
    ]


def of_tails(levels: tuple[float, ...], tails: tuple[str, ...]) -> list[Scenario]:
    """A fitted tail in place of the shufflings that the level takes."""
    return [
        Scenario(
            f"two samples of 12, {kind}",
            f"permutations, {tail} tail of 200, at {100 * alpha:g} %",
            two_samples(12, 12),
            "group",
            noise,
            0.8,
            {"tail": tail, "n_perm": 200},
            alpha,
        )
        for noise, kind in ((gaussian, "Gaussian"), (skewed, "skewed"))
        for tail in tails
        for alpha in levels
    ]


def familywise_scenarios() -> list[Scenario]:
    """One of each kind, and what makes sense on smooth maps alone."""
    once = {(one.scheme, one.noise): one for one in reversed(scenarios()) if one.scheme in FAMILYWISE}
    first, pseudo = of_errors()[0], {"variance_smoothing_fwhm": 4.0}
    smoothed = replace(first, scheme="sign flips, pseudo-t (4 mm)", options=pseudo)
    return [*reversed(once.values()), smoothed, *of_tails((ALPHA,), ("pareto", "gamma"))]


def run_test(scenario: Scenario, Y: NDArray[np.float64], side: tuple[int, int, int], **options: Any) -> Any:
    """Call numbaglm on data (n_subjects, n_voxels) that fill a volume of ``side``."""
    present = None if scenario.absent is None else np.isfinite(Y)
    Y, where = np.nan_to_num(Y).astype(np.float32), Geometry(np.ones(side, bool), np.eye(4))
    cohort = Cohort(CohortStore.from_array(Y, where, present=present))
    return ng.permutation_test(cohort, scenario.design, scenario.contrast, **options | scenario.options)


def voxelwise(scenario: Scenario, n_voxels: int, n_perm: int, effect: float, seed: int) -> tuple[float, float]:
    """Share of ``n_voxels`` data sets whose uncorrected p are below the level, and seconds of the call."""
    Y = scenario.data(np.random.default_rng([seed, 3]), n_voxels, effect)
    begun = time.perf_counter()
    result = run_test(scenario, Y, (n_voxels, 1, 1), n_perm=n_perm, seed=seed, cluster_forming_threshold=None)
    seconds = time.perf_counter() - begun
    return float((result.maps["p_unc"] <= scenario.alpha + 1e-9).mean()), seconds


def familywise(scenario: Scenario, n_maps: int, n_perm: int) -> dict[str, int]:
    """How many of ``n_maps`` smooth maps of null data have any corrected p <= 0.05, by kind of p."""
    hits = {"voxel": 0, "size": 0, "tfce": 0}
    for seed in range(n_maps):
        Y = scenario.data(np.random.default_rng([seed, 7]), 1000).reshape(-1, 10, 10, 10)
        Y = ndimage.gaussian_filter(Y, (0, 1, 1, 1), mode="wrap").reshape(-1, 1000)
        options = {"n_perm": n_perm, "seed": seed, "cluster_forming_threshold": 0.01, "tfce": True}
        result = run_test(scenario, Y, (10, 10, 10), **options)
        for kind in hits:
            hits[kind] += bool(result.maps[f"p_fwe_{kind}"].min() <= ALPHA + 1e-9)
    return hits


def error_table(n_runs: int, n_voxels: int, n_perm: int, only: str = "") -> pd.DataFrame:
    """Error rate, power and cost (of the fastest call) of every scenario whose row holds a text."""
    rows = []
    for scenario in [one for one in scenarios() if only in f"{one.name}, {one.scheme}"]:
        null = [voxelwise(scenario, n_voxels, n_perm, 0.0, seed)[0] for seed in range(n_runs)]
        planted = [voxelwise(scenario, n_voxels, n_perm, scenario.effect, seed) for seed in range(n_runs // 3)]
        error, low, high = over_runs(null)
        side = "above" if low > scenario.alpha else "below" if high < scenario.alpha else ""
        rows.append(
            {
                "data": scenario.name,
                "scheme": scenario.scheme,
                "error rate": percent(error, low, high, 2),
                "": side and f"{side} {100 * scenario.alpha:g} %",
                "power": f"{100 * np.mean([found for found, _ in planted]):.0f} %",
                "ms a call": f"{1e3 * min(seconds for _, seconds in planted):.0f}",
                "_low": low / scenario.alpha,
            }
        )
    return pd.DataFrame(rows)


def familywise_table(n_maps: int, n_perm: int) -> pd.DataFrame:
    """Family-wise error of one scenario of each kind."""
    rows = []
    for scenario in familywise_scenarios():
        row: dict[str, Any] = {"data": scenario.name, "scheme": scenario.scheme}
        for kind, count in familywise(scenario, n_maps, n_perm).items():
            row[kind] = of_maps(count, n_maps)
            row[f"_{kind}"] = stats.binomtest(count, n_maps).proportion_ci(0.95).low
        rows.append(row)
    return pd.DataFrame(rows)


def error_section(size: str) -> str:
    """Uncorrected p."""
    n_runs, n_voxels, n_perm, _ = SIZES[size]
    return (
        f"## Uncorrected p\n\n{written(__file__, size)} {n_runs} runs of {n_voxels} data sets each, {_told(n_perm)} "
        "Power is that of a third of the runs, and time that of the fastest.\n\n"
        f"{markdown(error_table(n_runs, n_voxels, n_perm))}\n"
    )


def familywise_section(size: str) -> str:
    """Corrected p."""
    _, _, n_perm, n_maps = SIZES[size]
    return (
        f"## Family-wise error\n\n{written(__file__, size)} {n_maps} smooth maps each, {_told(2 * n_perm)}\n\n"
        f"{markdown(familywise_table(n_maps, 2 * n_perm))}\n"
    )


def _told(n_perm: int) -> str:
    return (
        f"{n_perm} shufflings, or 200 with a fitted tail; nominal level 5 % where nothing else is said, two-sided; in "
        "brackets the 95 % interval of the simulation, of which one in twenty misses the true rate."
    )


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("--only", metavar="TEXT", help="print the rows of the first table that hold it, write nothing")
    asked = parser.parse_args()
    if asked.only is not None:
        n_runs, n_voxels, n_perm, _ = SIZES[asked.size]
        print(markdown(error_table(n_runs, n_voxels, n_perm, asked.only)))
        return
    for section in (error_section, familywise_section):
        put(section(asked.size), asked.output)


if __name__ == "__main__":
    main()
