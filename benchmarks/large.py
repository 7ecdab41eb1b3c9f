"""Cohorts that no memory limit holds: `python benchmarks/large.py headline | routine | small --folder FOLDER`.

`python benchmarks/large.py rounding` measures how far t in single precision lies from t in double, at 40,000 subjects.

The cohort is written block by block straight into the store. Each call runs in a process of its own, whose peak of
resident memory is the system's figure. The headline: 40,000 subjects x 230,000 voxels, 37 GB, with 4 GB. The routine: 3
GB with 700 MB, beside the same call that may take all the memory there is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from child import peak_mb

_RANK = 48  # smooth patterns that the maps of all subjects are made of, beside white noise
_WHITE = 0.5


@dataclass(frozen=True)
class Case:
    """A cohort, a memory limit, and what is asked of it."""

    n_subjects: int
    voxel_size: float
    n_perm: int
    memory_limit: str
    beside: bool  # whether to run with all the memory as well


CASES = {
    "headline": Case(40_000, 1.74, 10_000, "4GB", False),
    "routine": Case(3260, 1.74, 2000, "700MB", True),
    "small": Case(120, 6.0, 300, "600MB", True),
}


def write_cohort(case: Case, place: Path) -> float:
    """Write the cohort unless it is there; seconds that it took."""
    from numbaglm.data.cohort.store import Header
    from numbaglm.data.cohort.writer import CohortWriter
    from numbaglm.datasets.simulated import brain_geometry, simulate_maps
    from numbaglm.engine.schedule import run_tasks
    from numbaglm.spaces.space import Space
    from numbaglm.spaces.volume import Geometry

    begin = time.monotonic()
    if (place / "zarr.json").exists():
        return 0.0
    geometry: Geometry = brain_geometry(case.voxel_size)
    age = np.random.default_rng(0).uniform(20, 80, case.n_subjects)
    labels = [f"sub-{i:05d}" for i in range(case.n_subjects)]
    subjects = pd.DataFrame({"subject_label": labels, "source": "", "source_bytes": 0, "source_state": "", "age": age})
    effect = np.zeros((1, geometry.n_voxels), np.float32)
    effect[:, : geometry.n_voxels // 200] = 0.05
    patterns = np.concatenate([simulate_maps(geometry, _RANK, seed=1, fwhm=8.0), effect])
    writer = CohortWriter.create(str(place), Header(Space.of(geometry), subjects, smoothing_fwhm=8.0))

    def write(start: int, stop: int) -> None:
        rng = np.random.default_rng([2, start])
        rows = rng.standard_normal((stop - start, geometry.n_voxels), dtype=np.float32)
        rows *= _WHITE
        weights = rng.standard_normal((stop - start, _RANK + 1), dtype=np.float32) / np.float32(np.sqrt(_RANK))
        weights[:, -1] = (age[start:stop] - 50) / 17
        rows += weights @ patterns
        writer.write(start, rows)

    run_tasks(write, writer.blocks, label="Writing", n_workers=2)
    writer.complete()
    return time.monotonic() - begin


def call(place: Path, store: str, n_perm: int, memory_limit: str) -> None:
    """One test, in this process; prints its time and peak."""
    import numbaglm as ng
    from numbaglm import Cohort

    options = {} if memory_limit == "all" else {"memory_limit": memory_limit}
    cohort = Cohort.open(place)
    design = cohort.covariates[["age"]].assign(intercept=1.0).reset_index(drop=True)
    begin = time.monotonic()
    result = ng.permutation_test(
        cohort, design, "age", n_perm=n_perm, tfce=True, store=store or None, n_workers=2, **options
    )
    taken = time.monotonic() - begin
    found = {name: int((result.maps[f"p_fwe_{name}"] <= 0.05).sum()) for name in ("voxel", "size", "mass", "tfce")}
    nulls = {name: float(np.sum(null)) for name, null in result.h0.items()}
    print(
        json.dumps(
            {
                "seconds": taken,
                "cpu_seconds": time.process_time(),
                "peak_mb": peak_mb(),
                "voxels found": found,
                "nulls": nulls,
            }
        )
    )


def in_child(case: Case, place: Path, store: Path | None, memory_limit: str) -> dict[str, object]:
    """Run a call in a process of its own."""
    command = [sys.executable, __file__, "call", str(place), str(store or ""), str(case.n_perm), memory_limit]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rounding(n_subjects: int = 40_000) -> None:
    """Largest error of a permuted t in single precision, beside double, over a tile and a batch of permutations."""
    from unittest import mock

    from numbaglm import Cohort
    from numbaglm.data.cohort.store import CohortStore
    from numbaglm.engine.permutation.plan import Plan
    from numbaglm.engine.permutation.scorers import make_scorer
    from numbaglm.engine.permutation.size import BATCH
    from numbaglm.engine.permutation.voxels import prepare_block
    from numbaglm.inference.permutation_test import permutation_test
    from numbaglm.kernels.panels.shuffle import TILE
    from numbaglm.spaces.volume import Geometry

    rng = np.random.default_rng(0)
    geometry = Geometry(np.ones((TILE, 1, 1), bool), np.eye(4))
    x = rng.standard_normal(n_subjects)
    Y = rng.standard_normal((n_subjects, TILE)) * 3 + 100 + np.linspace(0, 0.1, TILE) * x[:, None]
    store = CohortStore.from_array(Y.astype(np.float32), geometry)
    stop = mock.patch("numbaglm.inference.running.run_test", side_effect=InterruptedError)
    with stop as seen, contextlib.suppress(InterruptedError):
        permutation_test(Cohort(store), pd.DataFrame({"x": x, "one": 1.0}), "x", n_perm=10_000)
    spec = seen.call_args.args[1]
    block = prepare_block(store, spec, 0, TILE)
    index, sign = spec.shufflings.draw(0, BATCH)
    plan = Plan(BATCH, ((0, TILE),), ((0, BATCH),), resident=True)
    (maps,) = make_scorer(block, spec, plan, keep_maps=True).batch(0, index, sign).maps
    exact = np.zeros((1, BATCH, n_subjects))
    (layer,) = spec.family.layers
    layer.rows.fill(index, sign, exact)
    E = Y.astype(np.float32).astype(np.float64)
    E -= E.mean(axis=0)
    E /= np.linalg.norm(E, axis=0)
    scale = spec.family.scale
    t32, t64 = scale.to_statistic(maps.astype(np.float64)), scale.to_statistic(exact[0] @ E)
    error = np.abs(t32 - t64)
    print(
        f"{n_subjects:,} subjects: |t32 - t64| at most {error.max():.1e}, on average {error.mean():.1e}; "
        f"observed |t| up to {np.abs(t64[0]).max():.0f}, relative error of the observed at most "
        f"{(error[0] / np.maximum(1, np.abs(t64[0]))).max():.1e}"
    )


def main() -> None:
    """Write the cohort, run, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--folder", type=Path, required=True, help="where the cohort and the run go")
    arguments = parser.parse_args()
    case, folder = CASES[arguments.case], arguments.folder / arguments.case
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{arguments.case}: cohort written in {write_cohort(case, folder / 'cohort.zarr'):.0f} s", flush=True)
    limited = in_child(case, folder / "cohort.zarr", folder / "run", case.memory_limit)
    print(f"with {case.memory_limit}: {json.dumps(limited)}", flush=True)
    if case.beside:
        whole = in_child(case, folder / "cohort.zarr", None, "all")
        print(f"with all the memory: {json.dumps(whole)}")
        assert limited["nulls"] == whole["nulls"]
        print(f"time ratio {limited['seconds'] / whole['seconds']:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rounding"]:
        rounding()
    elif sys.argv[1:2] == ["call"]:
        call(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
    else:
        main()
