"""Error rates and power of weighted tests, measured on simulated data.

    python benchmarks/validity_weights.py                  # the section of validity.md, some minutes
    python benchmarks/validity_weights.py --size small     # seconds, wide intervals

Each voxel of a simulated map is a meta-analysis of its own: variances that differ between studies and voxels, a
variance between studies that is none, like those, or ten times as large. Voxels of a run share their shufflings, as in
validity.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

import numbaglm as ng
from validity import ALPHA, Noise, gaussian, skewed, two_samples
from validity_page import markdown, over_runs, percent, script, written

SIZES = {"small": (6, 250, 99), "full": (40, 500, 499)}  # runs, voxels a run, shufflings
HEADING = "## Weights"
_BETWEEN = {"none": 0.0, "as within": 1.0, "ten times": 10.0}


@dataclass(frozen=True)
class Scenario:
    """Null data of one kind, tested in one way.

    ``tied`` makes variances four times as large in the first group; ``absent`` is the share of values that are missing.
    """

    name: str
    scheme: str
    design: NDArray[np.float64]
    between: float
    noise: Noise = gaussian
    tied: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    absent: float = 0.0

    def shares(self, n_voxels: int, n_perm: int, seed: int, effect: float = 0.0) -> tuple[float, float]:
        """Share of data sets whose p is 5 % or less: by shuffling, and parametric."""
        rng, n = np.random.default_rng([seed, 11]), len(self.design)
        v = rng.chisquare(4, (n, n_voxels)) / 4 + 0.1
        if self.tied:
            v[self.design[:, 0] > 0] *= 4
        y = self.noise(rng, (n, n_voxels)) * np.sqrt(v) + np.sqrt(self.between) * self.noise(rng, (n, n_voxels))
        y += effect * np.sqrt(1 + self.between) * self.design[:, :1]
        if self.absent:
            y = np.where(rng.random(y.shape) < self.absent, np.nan, y)
        maps, layer = (
            nib.Nifti1Image(one.T.reshape(n_voxels, 1, 1, n).astype(np.float32), np.eye(4)) for one in (y, v)
        )
        layers = {"variance": layer} if self.options.get("weights") == "variance" else None
        options = {"layers": layers, "n_perm": n_perm, "seed": seed, "cluster_forming_threshold": None}
        contrast = np.eye(self.design.shape[1])[0]
        found = ng.permutation_test(maps, self.design, contrast, **options, **self.options).maps
        parametric = found.get("effect_p", found["p_parametric"])
        return tuple(float((p <= ALPHA + 1e-9).mean()) for p in (found["p_unc"], parametric))


def scenarios() -> list[Scenario]:
    """One sample of few and more studies by flips, two groups by permutations; weights and none."""
    weighted: dict[str, dict[str, Any]] = {
        "REML, Knapp-Hartung": {"weights": "variance"},
        "DL, z": {"weights": "variance", "between": "dl", "test": "z"},
        "fixed effects, z": {"weights": "variance", "between": 0, "test": "z"},
        "no weights": {},
    }
    found = []
    for n in (8, 20):
        for words, between in _BETWEEN.items():
            name = f"{n} studies, between them {words}"
            found += [
                Scenario(name, f"flips, {one}", np.ones((n, 1)), between, options=options)
                for one, options in weighted.items()
                if n == 8 or one in ("REML, Knapp-Hartung", "no weights")
            ]
    some = {one: weighted[one] for one in ("REML, Knapp-Hartung", "DL, z", "no weights")}
    found += [
        Scenario(
            "20 studies, skewed, between them as within", f"flips, {one}", np.ones((20, 1)), 1.0, skewed, options=to
        )
        for one, to in some.items()
    ]
    moderator = np.column_stack([np.random.default_rng(0).normal(size=12), np.ones(12)])
    groups = two_samples(6, 6).to_numpy()
    for design, words, tied in (
        (moderator, "12 studies, moderator", False),
        (groups, "6 and 6 studies", False),
        (groups, "6 and 6 studies, variances 4 times as large in one group", True),
    ):
        for between in ("none", "as within"):
            name = f"{words}, between them {between}"
            found += [
                Scenario(name, f"permutations, {one}", design, _BETWEEN[between], tied=tied, options=options)
                for one, options in some.items()
            ]
    found += [
        Scenario(
            "6 and 6 studies, variances 4 times as large in one group, between them none",
            "flips, REML, Knapp-Hartung",
            groups,
            0.0,
            tied=True,
            options={"weights": "variance", "errors": "ise"},
        )
    ]
    return found + of_missing()


def of_missing() -> list[Scenario]:
    """Values that are missing at random, each data set tested with the studies that it has."""
    moderator = np.column_stack([np.random.default_rng(0).normal(size=12), np.ones(12)])
    each = {"weights": "variance", "missing": "element"}
    return [
        Scenario(
            f"{words}, between them as within, {100 * absent:.0f} % missing",
            f"{scheme}, REML, Knapp-Hartung",
            design,
            1.0,
            options=each,
            absent=absent,
        )
        for design, words, scheme, absent in (
            (np.ones((20, 1)), "20 studies", "flips", 0.2),
            (np.ones((20, 1)), "20 studies", "flips", 0.4),
            (moderator, "12 studies, moderator", "permutations", 0.2),
            (moderator, "12 studies, moderator", "permutations", 0.4),
            (two_samples(6, 6).to_numpy(), "6 and 6 studies", "permutations", 0.2),
        )
    ]


def rows(n_runs: int, n_voxels: int, n_perm: int) -> list[dict[str, Any]]:
    """Error rates and power of every scenario."""
    told = []
    for scenario in scenarios():
        null = [scenario.shares(n_voxels, n_perm, seed) for seed in range(n_runs)]
        planted = [scenario.shares(n_voxels, n_perm, seed, 0.7)[0] for seed in range(n_runs // 3)]
        row: dict[str, Any] = {"data": scenario.name, "scheme": scenario.scheme}
        for name, shares in zip(("by shuffling", "parametric"), zip(*null, strict=True), strict=True):
            error, low, high = over_runs(list(shares))
            side = " **above**" if low > ALPHA else " below" if high < ALPHA else ""
            row[name] = f"{percent(error, low, high, 2)}{side}"
        row["power"] = f"{100 * np.mean(planted):.0f} %"
        told.append(row)
        print(*row.values(), sep=" | ", flush=True)
    return told


def section(size: str) -> str:
    """The table, and what it was measured on."""
    n_runs, n_voxels, n_perm = SIZES[size]
    table = markdown(pd.DataFrame(rows(n_runs, n_voxels, n_perm)))
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"Uncorrected p "
        f"at 5 %, {n_runs} runs of {n_voxels} data sets each, {n_perm} shufflings (all 256 flips of 8); in brackets "
        "the 95 % interval of the simulation. Parametric p are `effect_p`, of the whole model, or those of t without "
        "weights. Power is that by shuffling.\n\n"
        f"{table}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
