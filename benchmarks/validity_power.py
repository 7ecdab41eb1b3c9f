"""How far power that is told of a pilot is from what it is, measured on simulated maps.

python benchmarks/validity_power.py                  # the section of validity.md, some minutes
python benchmarks/validity_power.py --size small     # a minute, wide intervals
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from validity import markdown
from validity_discoveries import replace_section
from validity_stopping import share

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
            "anything, true": share(int(found.any(axis=1).sum()), n_true),
            "share of the region, true": f"{100 * found.mean():.1f} %",
        }
        for name, known in (("effect given", True), ("effect of the pilot", False)):
            told = np.array([told_of(n_pilot, n, seed, known) for seed in range(n_pilots)])
            middle, (low, high) = told.mean(axis=0), np.quantile(told, [0.1, 0.9], axis=0)
            for k, what in enumerate(("anything", "share")):
                row[f"{what}, {name}"] = f"{100 * middle[k]:.0f} % ({100 * low[k]:.0f} to {100 * high[k]:.0f})"
        rows.append(row)
    return pd.DataFrame(rows)


def section(size: str) -> str:
    n_pilots, n_true = SIZES[size]
    return (
        f"{HEADING}\n\n"
        f"Written by `python benchmarks/validity_power.py --size {size}`, numbaglm {ng.__version__}. Maps of "
        f"{SIDE**3:,} voxels with smooth noise, and an effect of half its deviation in {int(REGION.sum())} of them; "
        "sign flips, p corrected by voxel at 5 %. "
        f"What is true, of {n_true} studies (95 % interval of the simulation), and what `ng.power` tells of {n_pilots} "
        f"pilots by {N_COHORTS} cohorts each, on average, and in brackets for the middle 80 % of pilots: with the true "
        "effect, or with that which each pilot estimates.\n\n"
        f"{markdown(table(size))}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("validity.md"))
    arguments = parser.parse_args()
    new = section(arguments.size)
    arguments.output.write_text(replace_section(arguments.output.read_text(), new))
    print(new)


if __name__ == "__main__":
    main()
