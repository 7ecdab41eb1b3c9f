"""How far power that is told of a pilot is from what it is, measured on simulated maps.

python benchmarks/validity_power.py                  # the section of validity.md, some minutes
python benchmarks/validity_power.py --size small     # a minute, wide intervals
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from validity_page import markdown, of_maps, percent, script, written

SIDE, N_PERM, N_COHORTS = 10, 199, 40
SIZES = {"small": (10, 60), "full": (24, 300)}  # pilots of each kind; cohorts that tell what is true
HEADING = "## Power"
GEOMETRY = Geometry(np.ones((SIDE, SIDE, SIDE), bool), np.eye(4))
EFFECT = np.zeros((SIDE, SIDE, SIDE))
EFFECT[:4, :4, :4] = 0.5  # in deviations of the noise
REGION = (EFFECT > 0).ravel()
KINDS = [(20, 30), (40, 30), (20, 60), (40, 60)]  # subjects of the pilot, and of the study


def cohort(n: int, rng: np.random.Generator) -> Cohort:
    """Smooth noise of deviation 1, and an effect in a block."""
    Y = ndimage.gaussian_filter(rng.standard_normal((n, SIDE, SIDE, SIDE)), (0, 1.5, 1.5, 1.5), mode="wrap")
    Y = Y / _DEVIATION + EFFECT
    return Cohort(CohortStore.from_array(Y.reshape(n, -1).astype(np.float32), GEOMETRY))


def _deviation() -> float:
    rng = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE, SIDE)), 1.5, mode="wrap") for _ in range(500)]
    return float(np.sqrt(np.mean(np.square(noise))))


_DEVIATION = _deviation()
HOW = {"n_perm": N_PERM, "cluster_forming_threshold": None, "n_workers": 1}


def found_of(n: int, seed: int) -> NDArray[np.bool_]:
    """What one study finds in the region."""
    result = ng.permutation_test(cohort(n, np.random.default_rng([seed, n, 31])), seed=seed, **HOW)
    return np.asarray(result.maps["p_fwe_voxel"][REGION] <= 0.05)


def told_of(n_pilot: int, n: int, seed: int, known: bool) -> tuple[float, float]:
    """Power that a pilot tells, of anything in the region and the share of it, with the true effect or its own."""
    its = cohort(n_pilot, np.random.default_rng([seed, n_pilot, 37]))
    pilot = ng.permutation_test(its, seed=seed, **HOW)
    effect = EFFECT.ravel() if known else None
    how = {"effect": effect, "region": REGION, "n_cohorts": N_COHORTS, "n_perm": N_PERM, "seed": seed, "n_workers": 1}
    row = ng.power(pilot, n, cohort=its, **how).curve.iloc[0]
    return float(row["any"]), float(row["share"])


def table(size: str) -> pd.DataFrame:
    """A row a kind: what is true, and what pilots tell."""
    n_pilots, n_true = SIZES[size]
    truth = {n: np.array([found_of(n, seed) for seed in range(n_true)]) for n in {n for _, n in KINDS}}
    rows = []
    for n_pilot, n in KINDS:
        found = truth[n]
        row = {
            "pilot, study": f"{n_pilot}, {n} subjects",
            "anything, true": of_maps(int(found.any(axis=1).sum()), n_true),
            "share of the region, true": f"{100 * found.mean():.1f} %",
        }
        for name, known in (("effect given", True), ("effect of the pilot", False)):
            told = np.array([told_of(n_pilot, n, seed, known) for seed in range(n_pilots)])
            middle, (low, high) = told.mean(axis=0), np.quantile(told, [0.1, 0.9], axis=0)
            for k, what in enumerate(("anything", "share")):
                row[f"{what}, {name}"] = percent(middle[k], low[k], high[k], 0)
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Study:
    """A design, and what of it makes noise differ.

    Attributes
    ----------
    contrast, effect
        Rows of a contrast of the groups' means, and what each is in the region, in deviations of the noise.
    group
        Group of each of so many subjects.
    deviation
        What the noise of each is multiplied with, of groups and sites.
    options
        Of the test, of groups and sites.
    """

    contrast: list[list[float]]
    effect: list[float]
    group: Callable[[int], NDArray[np.int64]]
    deviation: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
    options: Callable[[NDArray[np.int64], NDArray[np.int64]], dict[str, Any]]

    def cohort(self, n: int, rng: np.random.Generator) -> tuple[Cohort, dict[str, Any]]:
        """Maps of n subjects, and how they are tested."""
        group, site = self.group(n), np.arange(n) // (n // 2)
        design = np.column_stack([group[:, None] == np.arange(group.max() + 1), site - 0.5]) * 1.0
        C = np.pad(np.array(self.contrast), ((0, 0), (0, 1)))
        Y = ndimage.gaussian_filter(rng.standard_normal((n, SIDE, SIDE, SIDE)), (0, 1.5, 1.5, 1.5), mode="wrap")
        Y = Y.reshape(n, -1) / _DEVIATION * self.deviation(group, site)[:, None]
        Y += np.outer(design @ np.linalg.pinv(C) @ self.effect, REGION)
        options = {"design_matrix": design, "contrast": C, **self.options(group, site)}
        return Cohort(CohortStore.from_array(Y.astype(np.float32), GEOMETRY)), options


STUDIES = {
    "F of three groups": Study(
        [[1, -1, 0], [0, 1, -1]], [0.7, 0.0], lambda n: np.arange(n) % 3, lambda group, site: np.ones(len(group)),
        lambda group, site: {},
    ),
    "two groups, one twice as noisy, variance groups": Study(
        [[1, -1]], [1.1], lambda n: np.arange(n) % 2, lambda group, site: 1.0 + group,
        lambda group, site: {"variance_groups": group},
    ),
    "two groups at two sites, one twice as noisy, shuffled within them": Study(
        [[1, -1]], [1.1], lambda n: np.arange(n) % 2, lambda group, site: 1.0 + site,
        lambda group, site: {"exchangeability_blocks": site},
    ),
    "the same, a variance for each site": Study(
        [[1, -1]], [1.1], lambda n: np.arange(n) % 2, lambda group, site: 1.0 + site,
        lambda group, site: {"exchangeability_blocks": site, "variance_groups": site},
    ),
}  # fmt: skip
N_PILOT, N_STUDY = 36, 48


def study_row(name: str, n_pilots: int, n_true: int) -> dict[str, str]:
    """What is true of a study, and what pilots tell of it whose effect is given."""
    study, found, told = STUDIES[name], [], []
    for seed in range(n_true):
        cohort, options = study.cohort(N_STUDY, np.random.default_rng([seed, N_STUDY, 41]))
        found.append(ng.permutation_test(cohort, seed=seed, **HOW, **options).maps["p_fwe_voxel"][REGION] <= 0.05)
    effect = np.outer(study.effect, REGION)
    for seed in range(n_pilots):
        cohort, options = study.cohort(N_PILOT, np.random.default_rng([seed, N_PILOT, 43]))
        pilot = ng.permutation_test(cohort, seed=seed, **HOW, **options)
        how = {"effect": effect if len(effect) > 1 else effect[0], "region": REGION, "n_cohorts": N_COHORTS}
        row = ng.power(pilot, N_STUDY, cohort=cohort, n_perm=N_PERM, seed=seed, n_workers=1, **how).curve.iloc[0]
        told.append((float(row["any"]), float(row["share"])))
    true, middle, error = np.array(found), np.mean(told, axis=0), np.std(told, axis=0, ddof=1) / np.sqrt(n_pilots)
    of_share = 1.96 * true.mean(axis=1).std(ddof=1) / np.sqrt(n_true)
    return {
        "study": name,
        "anything, true": of_maps(int(true.any(axis=1).sum()), n_true),
        "anything, told": _interval(middle[0], 1.96 * error[0]),
        "share of the region, true": _interval(true.mean(), of_share),
        "share, told": _interval(middle[1], 1.96 * error[1]),
    }


def _interval(value: float, half: float) -> str:
    return percent(value, max(value - half, 0), min(value + half, 1))


def section(size: str) -> str:
    n_pilots, n_true = SIZES[size]
    rows = pd.DataFrame([study_row(name, n_pilots, n_true) for name in STUDIES])
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"Maps of "
        f"{SIDE**3:,} voxels with smooth noise, and an effect of half its deviation in {int(REGION.sum())} of them; "
        "sign flips, p corrected by voxel at 5 %. "
        f"What is true, of {n_true} studies (95 % interval of the simulation), and what `ng.power` tells of {n_pilots} "
        f"pilots by {N_COHORTS} cohorts each, on average, and in brackets for the middle 80 % of pilots: with the true "
        "effect, or with that which each pilot estimates.\n\n"
        f"{markdown(table(size))}\n\n"
        f"The same of other designs, pilots of {N_PILOT} subjects and studies of {N_STUDY} with the true effect "
        "given; in brackets 95 % intervals of the simulation, of what is true and of the average of what is told.\n\n"
        f"{markdown(rows)}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
