"""How often simultaneous intervals and confidence sets hold what is true, measured on simulated maps.

    python benchmarks/validity_confidence.py                  # the section of validity.md, some minutes
    python benchmarks/validity_confidence.py --size small     # seconds, wide intervals

Each map is analysed as users do it: `permutation_test`, then `interval` and `confidence_set` with the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from validity_page import markdown, of_maps, script, written

LEVEL, SIZE = 0.95, 0.5  # of coverage; and of the effect whose region is bounded, in standard deviations of the noise
SIDE, N_FLIPS = 12, 400
SIZES = {"small": 40, "full": 250}  # maps
HEADING = "## Confidence"
GEOMETRY = Geometry(np.ones((SIDE, SIDE, SIDE), bool), np.eye(4))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Subjects with smooth noise of deviation 1, and an effect that rises to 1 in a ball."""

    name: str
    n: int
    noise: str = "Gaussian"
    groups: bool = False

    def cohort(self, rng: np.random.Generator) -> tuple[Cohort, pd.DataFrame]:
        """Maps and design; the column "x" is tested, beside a covariate where there are two groups."""
        shape = (self.n, SIDE, SIDE, SIDE)
        Y = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 1.5, 1.5, 1.5), mode="wrap")
        Y /= _DEVIATION
        if self.noise == "heavy tails":
            Y = Y / np.sqrt(rng.chisquare(5, size=(self.n, 1, 1, 1)) / 3)  # Student's of 5, of one deviation
        x = np.arange(self.n) % 2 if self.groups else np.ones(self.n)
        Y += x[:, None, None, None] * TRUTH
        design = pd.DataFrame({"x": x.astype(float)})
        if self.groups:
            design = design.assign(age=rng.normal(size=self.n), intercept=1.0)
        return Cohort(CohortStore.from_array(Y.reshape(self.n, -1).astype(np.float32), GEOMETRY)), design


def _deviation() -> float:
    rng = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE, SIDE)), 1.5, mode="wrap") for _ in range(500)]
    return float(np.sqrt(np.mean(np.square(noise))))


_DEVIATION = _deviation()
_AWAY = np.linalg.norm(np.indices((SIDE, SIDE, SIDE)).T - (SIDE - 1) / 2, axis=-1).T
TRUTH = np.clip(1.3 - _AWAY / 5, 0, 1)

DATA = (
    Data("one sample of 20", 20),
    Data("one sample of 60", 60),
    Data("one sample of 60, heavy tails", 60, "heavy tails"),
    Data("two samples of 20 and a covariate", 40, groups=True),
    Data("two samples of 50 and a covariate", 100, groups=True),
)
METHODS = ("intervals of effects", "sets of effects", "intervals of Cohen's d", "sets of Cohen's d")


def covered(data: Data, seed: int) -> tuple[list[bool], list[float]]:
    """Whether each method holds what is true of one map, and how many standard errors it reaches."""
    rng = np.random.default_rng([seed, 23])
    cohort, design = data.cohort(rng)
    result = ng.permutation_test(cohort, design, "x", n_perm=0, cluster_forming_threshold=None, n_workers=1)
    truth, how = TRUTH.ravel(), {"cohort": cohort, "n_flips": N_FLIPS, "seed": seed, "n_workers": 1}
    held, reached = [], []
    for of in ("effect", "cohens_d"):
        found = result.interval(LEVEL, simultaneous=True, of=of, **how)
        held.append(bool(((found.lower <= truth) & (truth <= found.upper)).all()))
        region, sets = truth >= SIZE, result.confidence_set(SIZE, LEVEL, of, **how)
        held.append(bool((sets.inner <= region).all() and (region <= sets.outer).all()))
        reached += [found.reach, sets.reach]
    return held, reached


def table(n_maps: int) -> pd.DataFrame:
    """Share of maps that each method covers, and how far it reaches, on each kind of data."""
    columns: dict[str, list[str]] = {"data": [data.name for data in DATA]} | {name: [] for name in METHODS}
    for data in DATA:
        runs = [covered(data, seed) for seed in range(n_maps)]
        for k, name in enumerate(METHODS):
            n_held, reached = sum(held[k] for held, _ in runs), np.mean([reached[k] for _, reached in runs])
            columns[name].append(f"{of_maps(n_held, n_maps)}; {reached:.2f}")
    return pd.DataFrame(columns)


def section(size: str) -> str:
    n_maps = SIZES[size]
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"{n_maps} "
        f"maps of each kind, of {SIDE**3:,} voxels with smooth noise of standard deviation 1, and an effect that rises "
        f"to 1; {N_FLIPS} flips. Maps of which all simultaneous intervals hold what is true, or whose sets have the "
        f"true region of an effect of {SIZE:g} between them; nominal coverage {100 * LEVEL:g} %, in brackets the 95 % "
        "interval of the simulation. Behind it the standard errors that they reach, on average.\n\n"
        f"{markdown(table(n_maps))}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
