"""Error rates and power of tests of several modalities, measured on simulated data.

    python benchmarks/validity_modalities.py                  # the section of validity.md, some minutes
    python benchmarks/validity_modalities.py --size small     # seconds, wide intervals

Each voxel of a simulated map is a data set of its own, with three variables that correlate by 0.6. Voxels of a run
share their shufflings, as in validity.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import numbaglm as ng
from numbaglm.stats.discoveries import true_discoveries
from validity import ALPHA, Noise, gaussian, skewed
from validity_page import markdown, of_maps, over_runs, percent, script, written

SIZES = {"small": (4, 150, 99), "full": (30, 400, 299)}  # runs, voxels a run, shufflings
HEADING = "## Modalities"
_SHARED = 0.6
_VARIABLES = 3
_BOUNDED = ("fisher", "stouffer", "tippett", "hotelling", "wilks", "roy")  # whose true discoveries are looked at
_DIFFERENCES = ("m1 - m0", "m2 - m1")


@dataclass(frozen=True)
class Scenario:
    """Null data of one kind, tested in one way."""

    name: str
    design: NDArray[np.float64]
    contrast: Any
    noise: Noise
    options: dict[str, Any] = field(default_factory=dict)

    def tested(self, n_voxels: int, n_perm: int, seed: int, effect: float = 0.0, **more: Any) -> ng.PermutationResult:
        """A test of so many data sets."""
        rng, n = np.random.default_rng([seed, 17]), len(self.design)
        shared = self.noise(rng, (n, n_voxels))
        cohorts = {}
        for k in range(_VARIABLES):
            y = np.sqrt(_SHARED) * shared + np.sqrt(1 - _SHARED) * self.noise(rng, (n, n_voxels))
            everywhere = "modality_contrast" not in self.options  # of differences the last has one
            y += effect * (everywhere or k == _VARIABLES - 1) * self.design[:, :1]
            y += self.design[:, -1:] if self.design.shape[1] > 1 else 0.0
            image = nib.Nifti1Image(y.T.reshape(n_voxels, 1, 1, n).astype(np.float32), np.eye(4))
            cohorts[f"m{k}"] = ng.Cohort.from_maps(image)
        options = {"n_perm": n_perm, "seed": seed, "cluster_forming_threshold": None, **self.options, **more}
        return ng.permutation_test(cohorts, self.design, self.contrast, **options)

    def shares(self, n_voxels: int, n_perm: int, seed: int, effect: float = 0.0) -> tuple[float, float]:
        """Share of data sets whose p is 5 % or less: by shuffling, and parametric (NaN where there is none)."""
        found = self.tested(n_voxels, n_perm, seed, effect).maps
        none = np.full(n_voxels, np.nan)
        several = (found.get(name, none) for name in ("p_unc", "p_parametric"))
        return tuple(np.nan if np.isnan(p).any() else float((p <= ALPHA + 1e-9).mean()) for p in several)


def scenarios() -> list[Scenario]:
    """Two groups beside a covariate by permutations, three groups by F, means by flips."""
    rng = np.random.default_rng(0)
    age = rng.normal(size=24)
    two = np.column_stack([np.arange(24) < 12, np.arange(24) >= 12, age]).astype(float)
    three = np.column_stack([*(np.arange(24) % 3 == k for k in range(3)), age]).astype(float)
    one = np.ones((16, 1))
    several = [[1.0, -1, 0, 0], [0, 1, -1, 0]]
    combined: dict[str, dict[str, Any]] = {
        "fisher": {},
        "fisher, concordant": {"concordant": True},
        "stouffer": {},
        "tippett": {},
        "conjunction, one-sided": {"two_sided": False},
        "hotelling": {},
        "hotelling, of differences": {"modality_contrast": _DIFFERENCES},
        "pls": {},
    }
    found = []
    for noise, words in ((gaussian, "Gaussian"), (skewed, "skewed")):
        for name, options in combined.items():
            asked = {"combine": name.partition(",")[0], **options}
            found.append(Scenario(f"two groups of 12, age, {words}: {name}", two, [1.0, -1, 0], noise, asked))
        for name in ("fisher", "wilks", "pillai", "lawley-hotelling", "roy", "pls"):
            found.append(Scenario(f"three groups of 8, age, {words}: {name}", three, several, noise, {"combine": name}))
        asked = {"combine": "wilks", "modality_contrast": _DIFFERENCES}
        found.append(Scenario(f"three groups of 8, age, {words}: wilks, of differences", three, several, noise, asked))
    for name in ("fisher", "hotelling"):
        found.append(Scenario(f"means of 16, Gaussian: {name}", one, [1.0], gaussian, {"combine": name}))
    asked = {"combine": "hotelling", "modality_contrast": _DIFFERENCES}
    found.append(Scenario("means of 16, Gaussian: hotelling, of differences", one, [1.0], gaussian, asked))
    return found


def rows(n_runs: int, n_voxels: int, n_perm: int) -> list[dict[str, Any]]:
    """Error rates and power of every scenario."""
    told = []
    for scenario in scenarios():
        null = [scenario.shares(n_voxels, n_perm, seed) for seed in range(n_runs)]
        planted = [scenario.shares(n_voxels, n_perm, seed, 1.0)[0] for seed in range(n_runs // 4)]
        row: dict[str, Any] = {"data and statistic": scenario.name}
        for name, shares in zip(("by shuffling", "parametric"), zip(*null, strict=True), strict=True):
            if np.isnan(shares[0]):
                row[name] = "none"
                continue
            error, low, high = over_runs(list(shares))
            side = " **above**" if low > ALPHA else " below" if high < ALPHA else ""
            row[name] = f"{percent(error, low, high, 2)}{side}"
        row["power"] = f"{100 * np.mean(planted):.0f} %"
        told.append(row)
        print(*row.values(), sep=" | ", flush=True)
    return told


def bounds(n_maps: int, n_voxels: int, n_perm: int) -> list[dict[str, str]]:
    """Maps without an effect in which true discoveries are told, by parametric p alone and by shufflings."""
    told = []
    for scenario in scenarios():
        if scenario.noise is skewed or scenario.options["combine"] not in _BOUNDED:
            continue
        wrong = np.zeros(2, int)
        for seed in range(n_maps):
            found = scenario.tested(n_voxels, n_perm, seed, discoveries="simes")
            everywhere = np.ones(n_voxels, bool)
            by_p = true_discoveries(found.maps["p_parametric"], everywhere, ALPHA)
            wrong += [by_p.n_true > 0, found.true_discoveries(everywhere).n_true > 0]
        alone, by_shuffling = (of_maps(int(n), n_maps) for n in wrong)
        told.append({"data and statistic": scenario.name, "by parametric p": alone, "by shuffling": by_shuffling})
        print(*told[-1].values(), sep=" | ", flush=True)
    return told


def section(size: str) -> str:
    """The tables, and what they were measured on."""
    n_runs, n_voxels, n_perm = SIZES[size]
    n_maps = 10 * n_runs
    of_bounds = markdown(pd.DataFrame(bounds(n_maps, n_voxels, n_perm)))
    table = markdown(pd.DataFrame(rows(n_runs, n_voxels, n_perm)))
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"Uncorrected p at 5 %, {n_runs} runs of {n_voxels} data sets each, {_VARIABLES} modalities that correlate by "
        f"{_SHARED}, {n_perm} shufflings; in brackets the 95 % interval of the simulation. Parametric p of "
        "combinations are those of independent modalities, which these are not: nothing that is reported as "
        "significant rests on them. A conjunction has its level where one modality has no effect, and less than it "
        "where none has. Of differences of modalities (`modality_contrast`) power is that for an effect on one of "
        "three.\n\n"
        f"{table}\n\n"
        f"Maps of {n_voxels} such data sets without an effect, {n_maps} of each kind, in which true discoveries are "
        'told at 5 %: by `discoveries="simes"`, whose thresholds shufflings calibrate; and by parametric p alone, '
        f"which is refused where combinations take modalities for independent, and of Roy's root.\n\n{of_bounds}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
