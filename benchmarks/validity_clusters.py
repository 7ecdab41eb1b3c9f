"""Error rates and power where maps depend on each other within clusters, measured on simulated data.

    python benchmarks/validity_clusters.py                  # the sections of validity.md, some minutes
    python benchmarks/validity_clusters.py --size small     # seconds, wide intervals
    python benchmarks/validity_clusters.py --only shared    # one section

People have visits. What people are like stays with them (a correlation of 0.8 between any two visits), and half of them
are three times as noisy. Contrasts are of what differs between people (a group), of what changes within them (the
visit), of how that differs between groups, and of all three (F). People have three visits each, or one to five.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from validity import ALPHA, Noise, Scenario, run_test
from validity_page import arguments, markdown, over_runs, percent, put, written

SIZES = {"small": (6, 200), "full": (30, 400)}  # runs, data sets a run
N_PERM = 499
HEADINGS = {"own": "## Clusters: visits of people", "shared": "## Clusters that share the covariances of their visits"}
CONTRASTS: dict[str, str | list[str]] = {
    "between: group": "group",
    "within: visit": "visit",
    "visit by group": "visit_group",
    "F of the three": ["group", "visit", "visit_group"],
}
EFFECTS = {"between: group": 2.0, "within: visit": 0.5, "visit by group": 0.5, "F of the three": 0.6}


def visits(n_people: int, balanced: bool) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """The person of each map, and a design."""
    sizes = np.full(n_people, 3) if balanced else 1 + np.arange(n_people) * 3 % 5
    person = np.repeat(np.arange(n_people), sizes)
    visit = np.concatenate([np.arange(size) for size in sizes]).astype(float)
    group = (person % 2).astype(float)
    age = np.random.default_rng(n_people).standard_normal(n_people)[person] + 0.3 * visit
    columns = {"group": group, "visit": visit, "visit_group": group * visit, "age": age, "intercept": 1.0}
    return person, pd.DataFrame(columns)


def noise_of(person: NDArray[np.int64]) -> Noise:
    """Noise of people and of visits; that of one group is three times as large."""

    def noise(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        stays = 2.0 * rng.standard_normal((person.max() + 1, shape[1]))[person]
        return (stays + rng.standard_normal(shape)) * np.where(person % 2, 3.0, 1.0)[:, None]

    return noise


def schemes_of(person: NDArray[np.int64], visit: NDArray[np.float64], kind: str) -> dict[str, dict[str, Any]]:
    """Ways to test, by their names."""
    blocks: dict[str, Any] = {"exchangeability_blocks": person}
    sandwich = {**blocks, "covariance": "sandwich"}
    if kind == "shared":
        modified = {**sandwich, "estimator": "modified", "visits": visit}
        return {"in each of both groups": {**modified, "groups": person % 2}, "in all, wrongly": modified}
    return {
        "no blocks": {},
        "within blocks": blocks,
        "whole blocks": {**blocks, "block_scheme": "whole", "errors": "ise"},
        "sandwich, none": {**sandwich, "adjustment": "none"},
        "sandwich, C2": sandwich,
        "sandwich, C3": {**sandwich, "adjustment": "C3"},
    }


def scenarios(kind: str) -> list[Scenario]:
    """Each contrast in each sample, tested in several ways."""
    found = []
    for n_people in (8, 16, 50):
        for balanced in (True, False):
            person, design = visits(n_people, balanced)
            name = f"{n_people} people, {'3 visits' if balanced else '1 to 5 visits'}"
            schemes = schemes_of(person, design["visit"].to_numpy(), kind)
            for contrast, columns in CONTRASTS.items():
                for scheme, options in schemes.items():
                    if scheme == "within blocks" and columns != "visit":
                        continue  # the group never changes within them
                    title = f"{name}; {contrast}"
                    found.append(Scenario(title, scheme, design, columns, noise_of(person), EFFECTS[contrast], options))
    return found


def rates(scenario: Scenario, n_voxels: int, seed: int, effect: float = 0.0) -> tuple[float, float]:
    """Share of data sets with p of 5 % or less, by shuffling and parametric."""
    Y = scenario.data(np.random.default_rng([seed, 5]), n_voxels, effect)
    options = {"n_perm": N_PERM, "seed": seed, "cluster_forming_threshold": None}
    maps = run_test(scenario, Y, (n_voxels, 1, 1), **options).maps
    return float((maps["p_unc"] <= ALPHA + 1e-9).mean()), float((maps["p_parametric"] <= ALPHA).mean())


def table(kind: str, n_runs: int, n_voxels: int) -> pd.DataFrame:
    """Error rates of shuffled and of parametric p, and power of the former."""
    rows = []
    for scenario in scenarios(kind):
        null = [rates(scenario, n_voxels, seed) for seed in range(n_runs)]
        planted = [rates(scenario, n_voxels, seed, scenario.effect)[0] for seed in range(max(2, n_runs // 5))]
        shuffled, parametric = (over_runs([one[k] for one in null]) for k in (0, 1))
        error, low, high = shuffled
        side = "above" if low > ALPHA else "below" if high < ALPHA else ""
        rows.append(
            {
                "data; contrast": scenario.name,
                "scheme": scenario.scheme,
                "error rate": percent(error, low, high, 2),
                "": side and f"{side} 5 %",
                "parametric p": f"{100 * parametric[0]:.2f} %",
                "power": f"{100 * np.mean(planted):.0f} %",
                "_low": low,
            }
        )
    return pd.DataFrame(rows)


_TESTS = {
    "own": "The first test t, or F, of least squares, by permutations without and within blocks, and by sign flips of "
    "whole ones. The others have sandwich variances, by the name of their correction; their parametric p are by "
    "Satterthwaite's degrees of freedom.",
    "shared": 'Sandwich variances (`estimator="modified"`, C2), whose clusters share the covariances of visits within '
    "each group, as they do here, or all of them, as they do not; parametric p are by Satterthwaite's degrees of "
    "freedom.",
}


def section(kind: str, size: str) -> str:
    """A section of validity.md."""
    n_runs, n_voxels = SIZES[size]
    return (
        f"{HEADINGS[kind]}\n\n{written(__file__, size)} "
        f"{n_runs} runs of {n_voxels} data sets each, {N_PERM} shufflings, two-sided; nominal level 5 %. Visits of a "
        "person have a correlation of 0.8, one of two groups is three times as noisy as the other, and a covariate "
        f"changes from person to person and from visit to visit. {_TESTS[kind]}\n\n"
        f"{markdown(table(kind, n_runs, n_voxels))}\n"
    )


def main() -> None:
    parser = arguments(__doc__, SIZES)
    parser.add_argument("--only", choices=HEADINGS, help="one section")
    asked = parser.parse_args()
    for kind in [asked.only] if asked.only else HEADINGS:
        put(section(kind, asked.size), asked.output)


if __name__ == "__main__":
    main()
