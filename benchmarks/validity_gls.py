"""Error rates and power of mixed models by flips, measured on simulated data.

    python benchmarks/validity_gls.py                  # the section of validity.md, some minutes
    python benchmarks/validity_gls.py --size small     # seconds, wide intervals

People have one to five visits. What the errors of a person's visits have in common is of the form that the model takes
(each visit shares as much with any other), or of another (visits far apart share less); or of its form, but three
times as large in one of two groups. Where statsmodels is installed, its MixedLM (restricted maximum likelihood, z of
Wald) is tried on fewer data sets of the same kinds.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from validity import ALPHA, Noise, Scenario, run_test
from validity_clusters import visits
from validity_page import markdown, over_runs, percent, script, written

SIZES = {"small": (4, 100, 20), "full": (24, 400, 300)}  # runs, data sets a run, data sets of MixedLM
N_PERM = 499
HEADING = "## Mixed models: visits of people"
CONTRASTS: dict[str, str | list[str]] = {
    "between: group": "group",
    "within: visit": "visit",
    "both: age": "age",
    "F of the three": ["group", "visit", "age"],
}
EFFECTS = {"between: group": 1.2, "within: visit": 0.25, "both: age": 0.4, "F of the three": 0.3}
BINS = (1, 5, 20, 50)


def alike(person: NDArray[np.int64]) -> Noise:
    """Any two visits of a person correlate by 0.8."""

    def noise(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        return 2.0 * rng.standard_normal((person.max() + 1, shape[1]))[person] + rng.standard_normal(shape)

    return noise


def fading(person: NDArray[np.int64]) -> Noise:
    """Each visit goes on from the one before, with a correlation of 0.8, and nothing stays."""

    def noise(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        made = rng.standard_normal(shape)
        for row in range(1, shape[0]):
            if person[row] == person[row - 1]:
                made[row] = 0.8 * made[row - 1] + 0.6 * made[row]
        return np.sqrt(5.0) * made

    return noise


def unequal(person: NDArray[np.int64]) -> Noise:
    """As `alike`; all of one group is three times as large."""
    same = alike(person)
    return lambda rng, shape: same(rng, shape) * np.where(person % 2, 3.0, 1.0)[:, None]


NOISES = {"as the model": alike, "visits fade": fading, "unequal groups": unequal}


def scenarios(n_people: int, kind: str) -> list[Scenario]:
    """Each contrast of data of one kind, tested in several ways."""
    person, design = visits(n_people, balanced=False)
    design = design.drop(columns="visit_group")
    blocks: dict[str, Any] = {"exchangeability_blocks": person}
    schemes: dict[str, dict[str, Any]] = {
        "whole blocks, flips of t or F": {**blocks, "block_scheme": "whole", "errors": "ise"},
        "sandwich, C2": {**blocks, "covariance": "sandwich"},
        "binned-gls": {**blocks, "covariance": "binned-gls"},
    }
    name = f"{n_people} people, 1 to 5 visits, {kind}"
    return [
        Scenario(f"{name}; {contrast}", scheme, design, columns, NOISES[kind](person), EFFECTS[contrast], options)
        for contrast, columns in CONTRASTS.items()
        for scheme, options in schemes.items()
    ]


def rates(scenario: Scenario, n_voxels: int, seed: int, effect: float = 0.0, **more: Any) -> tuple[float, float]:
    """Share of data sets with p of 5 % or less, by shuffling and parametric."""
    Y = scenario.data(np.random.default_rng([seed, 9]), n_voxels, effect)
    options = {"n_perm": N_PERM, "seed": seed, "cluster_forming_threshold": None, **more}
    maps = run_test(scenario, Y, (n_voxels, 1, 1), **options).maps
    return float((maps["p_unc"] <= ALPHA + 1e-9).mean()), float((maps["p_parametric"] <= ALPHA).mean())


def mixed_models(n_people: int, kind: str, n_sets: int) -> dict[str, float]:
    """Share of null data sets that MixedLM finds something in, by contrast; none where statsmodels is not installed."""
    try:
        from statsmodels.regression.mixed_linear_model import MixedLM
    except ImportError:
        return {}
    person, _ = visits(n_people, balanced=False)
    one = scenarios(n_people, kind)[0]
    Y, columns = one.data(np.random.default_rng([n_people, 11]), n_sets), list(one.design)
    hits = dict.fromkeys(CONTRASTS, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of estimates on the boundary
        for y in Y.T:
            fit = MixedLM(y, one.design.to_numpy(), groups=person).fit(reml=True)
            for contrast, tested in CONTRASTS.items():
                which = [columns.index(name) for name in ([tested] if isinstance(tested, str) else tested)]
                R = np.eye(len(columns) + 1)[which][:, : len(fit.params)]
                hits[contrast] += float(fit.wald_test(R, scalar=True).pvalue) <= ALPHA
    return {contrast: n / n_sets for contrast, n in hits.items()}


def table(n_runs: int, n_voxels: int, n_sets: int) -> pd.DataFrame:
    """Error rates of shuffled and of parametric p, and power of the former."""
    rows = []
    for n_people in (8, 16, 50):
        for kind in NOISES:
            compared = mixed_models(n_people, kind, n_sets)
            for scenario in scenarios(n_people, kind):
                null = [rates(scenario, n_voxels, seed) for seed in range(n_runs)]
                planted = [rates(scenario, n_voxels, seed, scenario.effect)[0] for seed in range(max(2, n_runs // 5))]
                shuffled, parametric = (over_runs([one[k] for one in null]) for k in (0, 1))
                error, low, high = shuffled
                side = "above" if low > ALPHA else "below" if high < ALPHA else ""
                contrast = scenario.name.partition("; ")[2]
                lmm = compared.get(contrast) if scenario.scheme == "binned-gls" else None
                rows.append(
                    {
                        "data; contrast": scenario.name,
                        "scheme": scenario.scheme,
                        "error rate": percent(error, low, high, 2),
                        "": side and f"{side} 5 %",
                        "parametric p": f"{100 * parametric[0]:.2f} %",
                        "MixedLM": "" if lmm is None else f"{100 * lmm:.1f} %",
                        "power": f"{100 * np.mean(planted):.0f} %",
                    }
                )
    return pd.DataFrame(rows)


def by_bins(n_runs: int, n_voxels: int) -> pd.DataFrame:
    """Power, and seconds without a shuffling, by how many bins there are."""
    rows = []
    scenario = next(one for one in scenarios(50, "as the model") if one.scheme == "binned-gls" and "age" in one.name)
    for bins in BINS:
        planted = [rates(scenario, n_voxels, seed, scenario.effect, component_bins=bins)[0] for seed in range(n_runs)]
        rows.append({"bins": bins, "power": f"{100 * np.mean(planted):.1f} %", "ms a call": fitted_in(bins)})
    return pd.DataFrame(rows)


def fitted_in(bins: int, n_families: int = 1000, n_voxels: int = 2000) -> str:
    """Milliseconds to fit families whose two members have two visits each: three components."""
    family, person = np.repeat(np.arange(n_families), 4), np.repeat(np.arange(2 * n_families), 2)
    rng = np.random.default_rng(0)
    sizes = rng.uniform(0, 1.5, (2, n_voxels))
    Y = rng.standard_normal((len(family), n_voxels)) + sizes[0] * rng.standard_normal((n_families, n_voxels))[family]
    Y += sizes[1] * rng.standard_normal((2 * n_families, n_voxels))[person]
    design = pd.DataFrame({"age": rng.standard_normal(len(family)), "intercept": 1.0})
    options = {"covariance": "binned-gls", "exchangeability_blocks": family, "subjects": person, "component_bins": bins}
    scenario = Scenario("", "", design, "age", alike(person), 0.0, options)
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        run_test(scenario, Y, (n_voxels, 1, 1), n_perm=0, n_workers=1, cluster_forming_threshold=None)
        seconds.append(time.perf_counter() - begun)
    return f"{1000 * min(seconds):.0f}"


def section(size: str) -> str:
    """The section of validity.md."""
    n_runs, n_voxels, n_sets = SIZES[size]
    errors = table(n_runs, n_voxels, n_sets)
    with_lmm = "" if (errors["MixedLM"] == "").all() else f" MixedLM is of {n_sets} data sets (statsmodels, REML, z)."
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"{n_runs} runs of {n_voxels} data sets each, {N_PERM} shufflings, two-sided; nominal level 5 %. A covariate "
        "changes from person to person and from visit to visit. Visits of a person have a correlation of 0.8, as the "
        "model with the effects family and error takes it; or 0.8 from one visit to the next, which fades; or one of "
        f"two groups is three times as noisy as the other.{with_lmm}\n\n{markdown(errors)}\n\n"
        "Power for the covariate by the number of bins (50 people, as the model), and the time that 4,000 maps of "
        "1,000 families of two with two visits each take at 2,000 voxels of all kinds of shares, without shuffling, on "
        f"one core:\n\n{markdown(by_bins(n_runs, n_voxels))}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
