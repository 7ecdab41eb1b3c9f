"""What a test takes on many machines: measured costs, what follows of them, and checks. Writes scale.md.

    python benchmarks/scale.py                       # some minutes
    python benchmarks/scale.py --stubs 10 50 --small # seconds

Costs of a byte, a product, a record, a task and a message of the scheduler are measured here. Of these, and of the plan
that the engine itself would make, follows what each stage of a large test takes on 10, 100 and 1,000 workers, and what
holds it up. That is checked against runs with 1 to 8 worker processes; and against a real scheduler whose workers are
stubs, many in one process, that do nothing: what it hands out a second is the most that there can be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from validity_page import markdown

N_SUBJECTS, N_ELEMENTS, N_PERM = 100_000, 1_000_000, 10_000
WORKERS = (10, 100, 1000)
STORAGE, LINK = 10e9, 1e9  # bytes a second: what all workers share, and what one of them gets
MEMORY = 8 * 2**30  # of a worker


@dataclass(frozen=True)
class Costs:
    """Seconds of one core, or of the scheduler, for one of each.

    Attributes
    ----------
    product, prepared, drawn, enhanced
        A product and a sum; a value that is residualised; a subject's place in a shuffling; an element of a map.
    read, put, got
        A byte of the store; a record that is put, and got again, of a block of a tile under `N_PERM` shufflings.
    message, submitted, handled
        What a task takes of the scheduler's process, and of the client's, and of a worker beside its work.
    """

    product: float
    prepared: float
    drawn: float
    enhanced: float
    read: float
    put: float
    got: float
    message: float
    submitted: float
    handled: float


@dataclass(frozen=True)
class Stage:
    """Tasks of one kind.

    Attributes
    ----------
    name
        What they do.
    n_tasks
        How many there are.
    work
        Seconds of a core that each takes.
    moved
        Bytes that each reads and writes.
    """

    name: str
    n_tasks: int
    work: float
    moved: float

    def takes(self, n_workers: int, costs: Costs, storage: float, link: float) -> dict[str, float]:
        """Seconds, by what would hold the stage up."""
        turns = -(-self.n_tasks // n_workers)
        return {
            "work of the workers": turns * self.work,
            "link of a worker": turns * self.moved / link,
            "shared storage": self.n_tasks * self.moved / storage,
            "scheduler": self.n_tasks * costs.message,
            "client": self.n_tasks * costs.submitted,
        }


def taken(function: Callable[[], Any], least: float = 2.0) -> float:
    """Seconds of a call, the least of several."""
    function()
    best, begin = np.inf, time.perf_counter()
    while time.perf_counter() - begin < least:
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def simulated(folder: Path, n_subjects: int, n_tiles: int) -> tuple[Any, pd.DataFrame]:
    """A cohort on disk, and a design."""
    import numbaglm as ng
    from numbaglm.kernels.panels.shuffle import TILE

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.standard_normal(n_subjects), "one": 1.0})
    maps = pd.DataFrame(rng.standard_normal((n_subjects, n_tiles * TILE), dtype=np.float32))
    return ng.Cohort.create(folder / "cohort.zarr", maps), table


def spec_of(cohort: Any, design: pd.DataFrame, **options: Any) -> Any:
    """What a call would run."""
    import numbaglm as ng

    with (
        mock.patch("numbaglm.inference.running.run_test", side_effect=InterruptedError) as seen,
        contextlib.suppress(InterruptedError),
    ):
        ng.permutation_test(cohort, design, "age", cluster_forming_threshold=None, **options)
    return seen.call_args.args[1]


def enhanced() -> float:
    """Seconds that TFCE takes for an element of a map."""
    import numbaglm as ng
    from numbaglm.data.cohort.store import CohortStore
    from numbaglm.datasets.simulated import brain_geometry, simulate_maps
    from numbaglm.engine.permutation.maps import MapTask

    geometry = brain_geometry(2.5)
    maps = simulate_maps(geometry, 12, seed=0, fwhm=8.0)
    store = CohortStore.from_array(maps.astype(np.float32), geometry)
    spec = spec_of(ng.Cohort(store), pd.DataFrame({"age": np.arange(12.0), "one": 1.0}), tfce=True)
    task, score = MapTask.build(spec, store.space).enhance, maps[0] / np.abs(maps[0]).max()
    assert task is not None
    return taken(lambda: task.enhance(score)) / score.size


def measured(folder: Path, n_subjects: int, of_tasks: tuple[float, float, float]) -> Costs:
    """Measure what a core and a disk take; what tasks take beside is known."""
    from numbaglm.data.runs.ledger import FolderLedger
    from numbaglm.data.storage.places import Place
    from numbaglm.engine.permutation.plan import Plan
    from numbaglm.engine.permutation.records import Round
    from numbaglm.engine.permutation.scorers import make_scorer
    from numbaglm.engine.permutation.size import BATCH
    from numbaglm.engine.permutation.voxels import prepare_block
    from numbaglm.kernels.panels.shuffle import TILE

    cohort, design = simulated(folder, n_subjects, 4)
    store, spec = cohort.store, spec_of(cohort, design, n_perm=N_PERM)
    width = 4 * TILE
    index, sign = spec.shufflings.draw(0, BATCH)
    plan = Plan(BATCH, ((0, width),), ((0, BATCH),), resident=True)
    scorer = make_scorer(prepare_block(store, spec, 0, width), spec, plan, keep_maps=False)
    read = taken(lambda: store.read(0, width))
    ledger = FolderLedger(Place.parse(folder / "records", "store"))
    nothing = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    record = Round(np.zeros(N_PERM), np.zeros(TILE, np.int32), *nothing)
    values = n_subjects * width
    return Costs(
        taken(lambda: scorer.batch(0, index, sign)) / (spec.family.n_rows * values * BATCH),
        max(0.0, taken(lambda: prepare_block(store, spec, 0, width)) - read) / values,
        taken(lambda: spec.shufflings.draw(0, BATCH)) / (n_subjects * BATCH),
        enhanced(),
        read / (4 * values),
        taken(lambda: ledger.put("test/voxels-000/00000", record)),
        taken(lambda: ledger.get("test/voxels-000/00000", Round)),
        *of_tasks,
    )


def stages(
    costs: Costs, n_workers: int, n_subjects: int, n_elements: int, n_perm: int, tfce: bool, memory: int
) -> list[Stage]:
    """The stages of a test of one regressor beside a mean, as the engine plans them."""
    from numbaglm.engine.permutation.plan import make_plan
    from numbaglm.engine.permutation.size import Size
    from numbaglm.kernels.panels.shuffle import TILE

    n = n_perm + 1
    size = Size(n_subjects, n_elements, n, n_rows=1, itemsize=4, n_maps=int(tfce), given=0, chunk=(512, 4 * TILE))
    plan = make_plan(size, memory, 1, n_processes=n_workers, keep=False)
    width, table, beside = plan.blocks[0][1], 4.0 * n_subjects * n, costs.handled + costs.put
    n_drawn, n_maps = -(-n // plan.drawn), -(-n // plan.map_rows)
    values, rounds = float(n_subjects * width), len(plan.ranges)
    block = values * (costs.prepared * rounds + costs.product * n) + rounds * (4 * values * costs.read + beside)
    drawn = table if plan.tabled else 0.0
    block += drawn * costs.read + (0.0 if plan.tabled else n_subjects * n * costs.drawn)
    found = [Stage("drawing", n_drawn, plan.drawn * n_subjects * costs.drawn + beside, 4.0 * n_subjects * plan.drawn)]
    found = found if plan.tabled else []
    moved = 4 * values * rounds + drawn + (4.0 * width * n if tfce else 0.0)
    found.append(Stage("shuffling", len(plan.blocks) * rounds, block / rounds, moved / rounds))
    if tfce:
        own = plan.map_rows * n_elements
        found.append(Stage("TFCE", n_maps, own * (costs.enhanced + 4 * costs.read) + beside, 4.0 * own))
    found.append(Stage("putting together", 1, len(plan.blocks) * rounds * costs.got, 0.0))
    return found


def seconds(some: list[Stage], n_workers: int, costs: Costs, storage: float = np.inf, link: float = np.inf) -> float:
    """What all stages take, one after the other."""
    return sum(max(stage.takes(n_workers, costs, storage, link).values()) for stage in some)


def predicted(costs: Costs, tfce: bool) -> pd.DataFrame:
    """The large test on many workers, stage by stage."""
    rows = []
    for n_workers in WORKERS:
        some = stages(costs, n_workers, N_SUBJECTS, N_ELEMENTS, N_PERM, tfce, MEMORY)
        for stage in some:
            by = stage.takes(n_workers, costs, STORAGE, LINK)
            what = max(by, key=lambda name: by[name])
            rows.append(
                {
                    "workers": n_workers,
                    "stage": stage.name,
                    "tasks": f"{stage.n_tasks:,}",
                    "a task": f"{stage.work:,.1f} s, {stage.moved / 1e9:,.2f} GB",
                    **{name: f"{value:,.1f} s" for name, value in by.items()},
                    "held up by": what,
                }
            )
        total = seconds(some, n_workers, costs, STORAGE, LINK)
        rows.append({"workers": n_workers, "stage": "**all**", "held up by": f"**{total / 60:,.1f} min**"})
    return pd.DataFrame(rows).fillna("")


@contextlib.contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, int]]:
    """A scheduler in a process of its own: its address, and the process."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    process = subprocess.Popen([sys.executable, "-m", "dask", "scheduler", *options], stderr=subprocess.DEVNULL)
    try:
        while not file.exists() or not file.read_text():
            time.sleep(0.05)
        yield json.loads(file.read_text())["address"], process.pid
    finally:
        process.terminate()
        process.wait()


def be_stubs(address: str, n: int) -> None:
    """Be so many workers in this process, until the scheduler is gone."""
    from distributed import Worker

    async def work() -> None:
        workers = [Worker(address, nthreads=1, name=f"stub-{k}", dashboard=False) for k in range(n)]
        await asyncio.gather(*workers)
        await asyncio.gather(*(one.finished() for one in workers))

    asyncio.run(work())


def handed_out(folder: Path, n_stubs: int, n_tasks: int) -> dict[str, float]:
    """Tasks a second that a scheduler hands out to stubs, and seconds of each process for a task."""
    import psutil
    from distributed import Client

    from numbaglm.engine.schedule import run_tasks

    with scheduler(folder) as (address, pid), Client(address, set_as_default=False) as client:
        command = [sys.executable, __file__, "--be-stubs", str(n_stubs), "--address", address]
        stubs = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(n_stubs, timeout=300)
            run_tasks(abs, [(k,) for k in range(n_stubs)], label="", client=client)
            processes = [psutil.Process(one) for one in (pid, os.getpid(), stubs.pid)]
            before, begin = [sum(one.cpu_times()[:2]) for one in processes], time.perf_counter()
            run_tasks(abs, [(k,) for k in range(n_tasks)], label="", client=client)
            lasted = time.perf_counter() - begin
            used = [(sum(one.cpu_times()[:2]) - was) / n_tasks for one, was in zip(processes, before, strict=True)]
        finally:
            stubs.terminate()
            stubs.wait()
    return {"stubs": n_stubs, "rate": n_tasks / lasted, "message": used[0], "submitted": used[1], "handled": used[2]}


def on_processes(folder: Path, costs: Costs, n_subjects: int, n_tiles: int, n_perm: int) -> pd.DataFrame:
    """A test on 1 to 8 worker processes, measured and predicted."""
    from distributed import Client, LocalCluster

    import numbaglm as ng
    from numbaglm.engine.memory import n_cores
    from numbaglm.kernels.panels.shuffle import TILE

    cohort, design = simulated(folder / "runs", n_subjects, n_tiles)
    rows = []
    for n in (1, 2, 4, 8):
        how = {"n_workers": n, "threads_per_worker": 1, "dashboard_address": None, "processes": True}
        with LocalCluster(**how) as cluster, Client(cluster, set_as_default=False) as client:
            options = {"cluster_forming_threshold": None, "client": client, "memory_limit": "1GB"}
            ng.permutation_test(cohort, design, "age", n_perm=300, **options)  # what is compiled, is
            begin = time.perf_counter()
            ng.permutation_test(cohort, design, "age", n_perm=n_perm, **options)
            lasted = time.perf_counter() - begin
        some = stages(costs, n, n_subjects, n_tiles * TILE, n_perm, False, 10**9)
        at_once = min(n, n_cores())
        rows.append(
            {
                "worker processes": n,
                "cores": at_once,
                "tasks": sum(stage.n_tasks for stage in some) - 1,
                "measured": f"{lasted:.1f} s",
                "predicted": f"{seconds(some, at_once, costs):.1f} s",
            }
        )
    return pd.DataFrame(rows)


def _verdict(rate: float) -> str:
    """Whether a scheduler hands out a thousand tasks a second."""
    enough = "does" if rate >= 1000 else "does not"
    return (
        f"A scheduler with a core of its own {enough} hand out 1,000 tasks a second, as far as its own work goes "
        f"({rate:,.0f})."
    )


def page(small: bool, stubs: list[int]) -> str:
    """All of scale.md."""
    import numbaglm as ng
    from numbaglm.engine.schedule import single_threaded_blas

    load = os.getloadavg()[0]
    n_tasks, n_subjects, n_tiles, n_perm = (400, 300, 8, 500) if small else (5000, 2000, 96, 4000)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "runs").mkdir()
        handed = [handed_out(folder, n, n_tasks) for n in stubs]
        least = min(handed, key=lambda one: one["message"])
        with single_threaded_blas():
            costs = measured(folder, n_subjects, (least["message"], least["submitted"], least["handled"]))
        runs = on_processes(folder, costs, n_subjects, n_tiles, n_perm)
    table = pd.DataFrame(
        [
            ("a product and a sum, of one core", f"{1e12 * costs.product:.1f} ps ({2e-9 / costs.product:.0f} GFLOP/s)"),
            ("a value that is residualised", f"{1e9 * costs.prepared:.2f} ns"),
            ("a byte of the store, unpacked", f"{1e9 * costs.read:.2f} ns ({1e-9 / costs.read:.1f} GB/s)"),
            ("a subject's place in a shuffling", f"{1e9 * costs.drawn:.1f} ns"),
            ("an element of a map, TFCE", f"{1e9 * costs.enhanced:.0f} ns"),
            (f"a record of a tile under {N_PERM:,} shufflings, put", f"{1e3 * costs.put:.1f} ms"),
            ("the same, got", f"{1e3 * costs.got:.1f} ms"),
            ("a task, of the scheduler's process", f"{1e3 * costs.message:.2f} ms"),
            ("a task, of the client's", f"{1e3 * costs.submitted:.2f} ms"),
            ("a task, of a worker, beside its work", f"{1e3 * costs.handled:.2f} ms"),
        ],
        columns=["one", "takes"],
    )
    many = pd.DataFrame(
        [
            {
                "stub workers": one["stubs"],
                "tasks a second": f"{one['rate']:,.0f}",
                "scheduler, a task": f"{1e3 * one['message']:.2f} ms",
                "so at most a second": f"{1 / one['message']:,.0f}",
                "client, a task": f"{1e3 * one['submitted']:.2f} ms",
            }
            for one in handed
        ]
    )
    large = f"{N_SUBJECTS:,} subjects x {N_ELEMENTS:,} elements x {N_PERM:,} permutations of a regressor beside a mean"
    return (
        "# Many machines\n\n"
        f"Written by `python benchmarks/scale.py`, numbaglm {ng.__version__}, on {os.cpu_count()} cores with a "
        f"load of {load:.1f} when it began. What "
        "follows of measured costs for machines that were not there is a calculation.\n\n"
        f"## What one of each takes\n\n{markdown(table)}\n\n"
        f"## A scheduler with stub workers\n\n{n_tasks:,} tasks that do nothing, to workers that share one process, on "
        "the same cores as the scheduler and the client: what is handed out here, machines of their own would get at "
        f"least. {_verdict(1 / least['message'])}\n\n{markdown(many)}\n\n"
        f"## Runs on worker processes\n\n{n_subjects:,} subjects x {n_tiles} tiles of 1,024 elements, {n_perm:,} "
        f"permutations, a store on disk.\n\n{markdown(runs)}\n\n"
        f"## {large}\n\nWorkers of one core and {MEMORY / 2**30:.0f} GB. Each has {LINK / 1e9:.0f} GB/s to the store, "
        f"which gives {STORAGE / 1e9:.0f} GB/s to all of them. Columns are what a stage takes if nothing else holds it "
        f"up; its time is the largest.\n\n### The largest t\n\n{markdown(predicted(costs, False))}\n\n"
        f"### And TFCE\n\n{markdown(predicted(costs, True))}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stubs", type=int, nargs="+", default=[10, 50, 150], help="how many stub workers to try")
    parser.add_argument("--small", action="store_true", help="seconds, for a look")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("scale.md"))
    parser.add_argument("--be-stubs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.be_stubs:
        be_stubs(arguments.address, arguments.be_stubs)
        return
    made = page(arguments.small, arguments.stubs)
    arguments.output.write_text(made)
    print(made)


if __name__ == "__main__":
    main()
