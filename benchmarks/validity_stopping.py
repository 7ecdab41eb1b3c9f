"""How often tests that stop early err, what they find and what they save, measured on simulated maps.

python benchmarks/validity_stopping.py                  # the section of validity.md, some minutes
python benchmarks/validity_stopping.py --size small     # seconds, wide intervals
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from validity_page import markdown, of_maps, script, written

ALPHA, SIDE, N, N_PERM = 0.05, 10, 24, 10_000
LEVELS, LOSSES, FIXED = (0.01, 0.05, 0.2), 10, 1000  # of sequential p: levels, losses, shufflings of tests that go on
KINDS = {"voxel": "by voxel", "tfce": "by TFCE", "size": "by extent", "mass": "by mass"}
SIZES = {"small": 40, "full": 400}  # maps without an effect; a tenth of them with each
HEADING = "## Stopping"
GEOMETRY = Geometry(np.ones((SIDE, SIDE, SIDE), bool), np.eye(4))
EFFECTS = {"no effect": 0.0, "weak effect": 0.5, "strong effect": 1.2}  # of a block, in deviations of the noise


def analysed(effect: float, seed: int, **options: object) -> ng.PermutationResult:
    """One sample of smooth maps, tested two-sided."""
    rng = np.random.default_rng([seed, 29])
    Y = ndimage.gaussian_filter(rng.standard_normal((N, SIDE, SIDE, SIDE)), (0, 1.5, 1.5, 1.5), mode="wrap")
    Y /= Y.std()
    Y[:, :4, :4, :4] += effect
    cohort = Cohort(CohortStore.from_array(Y.reshape(N, -1).astype(np.float32), GEOMETRY))
    return ng.permutation_test(cohort, seed=seed, cluster_forming_threshold=0.01, tfce=True, n_workers=1, **options)


def row(name: str, effect: float, n_maps: int) -> dict[str, str]:
    """Of one kind of data: maps with anything found by each kind of inference, and shufflings made."""
    runs = [analysed(effect, seed, n_perm=N_PERM, stop="decided") for seed in range(n_maps)]
    made = np.array([one.provenance["stopped"]["n_random"] for one in runs])
    quartiles = " to ".join(f"{value:,.0f}" for value in np.quantile(made, [0.25, 0.75]))
    return {
        "data": name,
        **{
            f"found {how}": of_maps(sum(_smallest(one, kind) <= ALPHA for one in runs), n_maps)
            for kind, how in KINDS.items()
        },
        "shufflings, median (quartiles)": f"{np.median(made):,.0f} ({quartiles})",
        "saving, median": f"{N_PERM / np.median(made):.0f} times",
    }


def _smallest(one: ng.PermutationResult, kind: str) -> float:
    """Least corrected p of a map, or of its clusters; 1 where there are none."""
    return float(one.maps[f"p_fwe_{kind}"].min())


def sequential(name: str, n_maps: int, **options: object) -> list[dict[str, str]]:
    """Maps without an effect in which Besag and Clifford's p find anything, at each level."""
    runs = [analysed(0.0, seed, **options) for seed in range(n_maps)]
    rows = []
    for kind, how in KINDS.items():
        least = np.array([one.sequential_p(kind, LOSSES).min() for one in runs])
        found = {f"at {100 * level:g} %": of_maps(int(np.sum(least <= level)), n_maps) for level in LEVELS}
        rows.append({"test": f"{name}, {how}", **found})
    return rows


def section(size: str) -> str:
    n_maps = SIZES[size]
    table = pd.DataFrame([row(name, effect, n_maps // (10 if effect else 1)) for name, effect in EFFECTS.items()])
    held = [
        *sequential(f"{FIXED:,} shufflings", n_maps, n_perm=FIXED),
        *sequential("stopped when decided at 20 %", n_maps, n_perm=N_PERM, stop="decided", alpha=0.2),
    ]
    return (
        f"{HEADING}\n\n{written(__file__, size)} "
        f"{n_maps} maps "
        f"without an effect and {n_maps // 10} of each other kind, of {SIDE**3:,} voxels and {N} subjects; sign flips, "
        f'two-sided, `stop="decided"` of {N_PERM:,}: maps in which '
        f"anything is found at {100 * ALPHA:g} %, corrected for family-wise error, with the 95 % interval of the "
        f"simulation, and random shufflings made.\n\n{markdown(table)}\n\n"
        f"Besag and Clifford's p (`sequential_p`, {LOSSES} losses) of maps without an effect: those in which anything "
        "is found at each level. Where a test stopped before so many losses they are above what more shufflings would "
        f"show.\n\n{markdown(pd.DataFrame(held))}\n"
    )


if __name__ == "__main__":
    script(__doc__, SIZES, section)
