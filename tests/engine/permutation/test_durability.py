"""Runs that are stopped, at any moment and in any way, go on to the same bits; runs that differ are refused."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs import ledger
from numbaglm.data.runs.maps import ScratchMaps
from numbaglm.data.storage import locks
from numbaglm.data.storage.places import Place
from numbaglm.engine import memory, schedule
from numbaglm.engine.permutation import workspace
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import Refined
from numbaglm.engine.permutation.size import BATCH
from numbaglm.engine.permutation.workspace import on_disk
from numbaglm.errors import InputError, OutputError, OutputExistsError, StoreError
from numbaglm.inference import running as runs
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.volume import Geometry
from reference.dask_cluster import kill, start_process
from reference.maps import AFFINE

N_SUBJECTS = 10
DESIGN = pd.DataFrame({"x": np.random.default_rng(1).normal(size=N_SUBJECTS), "intercept": 1.0})
CASES = {
    "clusters": {},
    "tails": {"tail": "pareto"},
    "TFCE": {"tfce_uncorrected": True},
    "pseudo": {"variance_smoothing_fwhm": 6.0, "tfce": True},
    "two contrasts": {"contrast": {"x": "x", "F": ["x", "intercept"]}, "errors": "ee", "fwe_across_contrasts": True},
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    rng = np.random.default_rng(0)
    mask = rng.random((14, 16, 15)) < 0.95
    Y = rng.normal(size=(N_SUBJECTS, mask.sum())) + 0.3
    store = CohortStore.from_array(Y.astype(np.float32), Geometry(mask, AFFINE))
    return Cohort(on_disk(store, Place.parse(tmp_path_factory.mktemp("cohort"))))


def run(cohort, name, **options):
    options = {"contrast": "x", "n_perm": 600, "cluster_forming_threshold": 0.05, **CASES[name], **options}
    found = permutation_test(cohort, DESIGN, **options)
    return found if isinstance(found, dict) else {"": found}


@pytest.fixture(scope="module")
def expected(cohort):
    return {name: run(cohort, name) for name in CASES}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, found in one.items():
        assert set(found.maps) == set(other[name].maps)
        for key in found.maps:
            np.testing.assert_array_equal(found.maps[key], other[name].maps[key], err_msg=key)
        for key in found.h0:
            np.testing.assert_array_equal(found.h0[key], other[name].h0[key], err_msg=key)
        pd.testing.assert_frame_equal(found.clusters, other[name].clusters)


@pytest.fixture(params=[True, False], ids=["in memory", "in its turn"])
def cuts(request, monkeypatch):
    """Small blocks, and two rounds; residuals and maps in memory, or read and spilled."""

    def make_plan(size, room, n_workers, *, keep=True, **_):
        blocks = [(v, min(v + TILE, size.n_voxels)) for v in range(0, size.n_voxels, TILE)]
        ranges = [(0, 2 * BATCH), (2 * BATCH, size.n_shufflings)]
        return Plan(BATCH, tuple(blocks), tuple(ranges), request.param and keep, map_rows=size.map_rows)

    monkeypatch.setattr(runs, "make_plan", make_plan)


class _Power(Exception):
    """It went out."""


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_stops_anywhere_goes_on_to_the_same_bits(monkeypatch, tmp_path, cohort, expected, cuts, name):
    perform, done, left = workspace._perform, [], threading.Semaphore(0)

    def counted(into, key, function, arguments):
        if not left.acquire(blocking=False):
            raise _Power
        perform(into, key, function, arguments)
        done.append(key)

    monkeypatch.setattr(workspace, "_perform", counted)
    rng = np.random.default_rng(0)
    for stop in range(100):
        left.release(int(rng.integers(1, 4)) + stop // 4)
        try:
            found = run(cohort, name, store=tmp_path / "run", n_workers=1 + stop % 2)
        except _Power:
            continue
        break
    assert stop > 2
    assert_same(found, expected[name])
    # What was done is not done again, but for the blocks whose maps were in memory.
    voxels = [key for key in done if "/voxels" in key]
    rest = [key for key in done if "/voxels" not in key]
    assert len(rest) == len(set(rest))
    if name not in ("TFCE", "pseudo"):
        assert len(voxels) == len(set(voxels))
    before = len(done)
    left.release(1)
    assert_same(run(cohort, name, store=tmp_path / "run"), expected[name])
    assert len(done) == before


DECIDED = {"contrast": "one", "n_perm": 900, "cluster_forming_threshold": 0.05, "tfce": True, "stop": "decided"}


def test_a_test_that_stops_by_itself_stops_at_the_same_shuffling(monkeypatch, tmp_path, cohort):
    """Wherever it is cut off, and with how many workers it goes on."""
    design = pd.DataFrame({"one": np.ones(N_SUBJECTS)})
    expected = permutation_test(cohort, design, **DECIDED, n_workers=1)
    assert expected.provenance["stopped"]["n_random"] in (200, 400, 800, 900)
    perform, left = workspace._perform, threading.Semaphore(0)

    def counted(*arguments):
        if not left.acquire(blocking=False):
            raise _Power
        perform(*arguments)

    monkeypatch.setattr(workspace, "_perform", counted)
    stops = 0
    while True:
        left.release(1 + stops)
        try:
            found = permutation_test(cohort, design, **DECIDED, store=tmp_path / "run", n_workers=1 + stops % 3)
        except _Power:
            stops += 1
            continue
        break
    assert stops > 2
    assert found.provenance["stopped"] == expected.provenance["stopped"]
    assert_same({"": found}, {"": expected})


DRIVER = """
import json, signal, sys, numpy as np, pandas as pd
from numbaglm import Cohort, permutation_test
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    cohort, design, store, address, options = sys.argv[1:]
    client = None
    if address:
        from distributed import Client
        client = Client(address, timeout="20s")
    found = permutation_test(
        Cohort.open(cohort), pd.read_csv(design), store=store, client=client, memory_limit="1GB", **json.loads(options)
    )
    found.save(store + ".result", overwrite=True)
"""


KILLED = {"contrast": "x", "n_perm": 5000, "cluster_forming_threshold": 0.05, "tfce_uncorrected": True}


@pytest.fixture
def driver(tmp_path, cohort):
    """Start the call in a process of its own."""
    (tmp_path / "driver.py").write_text(DRIVER)
    DESIGN.to_csv(tmp_path / "design.csv", index=False)
    processes = []

    def start(store, address="", options=KILLED):
        arguments = [cohort.store.location, tmp_path / "design.csv", store, address, json.dumps(options)]
        processes.append(start_process(tmp_path / "driver.py", *arguments))
        return processes[-1]

    yield start
    kill(processes)


def records(store):
    return {path.relative_to(store) for path in store.glob("records/**/*.npz")}


def killed_after(process, store, n_records, limit=120):
    """Kill a process once the run has so many more records; True if it was faster."""
    end, goal = time.monotonic() + limit, len(records(store)) + n_records
    while len(records(store)) < goal:
        if process.poll() is not None:
            return True
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    return False


@pytest.mark.slow
def test_the_process_is_killed_at_random_moments(tmp_path, cohort, driver):
    chance = random.Random(0)
    for _ in range(30):
        process = driver(tmp_path / "run")
        if killed_after(process, tmp_path / "run", chance.randint(1, 60)):
            break
    assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert_saved(tmp_path / "run.result", run(cohort, "TFCE", n_perm=5000)[""])


def assert_saved(folder, expected):
    from numbaglm import PermutationResult

    assert_same({"": PermutationResult.load(folder)}, {"": expected})


@pytest.mark.slow
def test_workers_scheduler_and_driver_are_killed(tmp_path, cohort, driver, cluster):
    """One after the other, then all at once; the run goes on with what is left, or with new ones, and never hangs."""
    store, chance = tmp_path / "run", random.Random(1)
    cluster.start_workers(2)
    process = driver(store, cluster.address)
    assert not killed_after(cluster.workers[0], store, chance.randint(1, 20))  # the other one goes on
    wait_for(store, 3, process)
    assert not killed_after(cluster.scheduler, store, 1)
    text = process.communicate(timeout=60)[1]
    assert "StoreError: The Dask scheduler was lost" in text, text
    assert process.returncode == 1

    kill(cluster.workers)
    cluster.start_scheduler()
    cluster.start_workers(1)
    process = driver(store, cluster.address)
    wait_for(store, chance.randint(1, 20), process)
    for one in (process, cluster.scheduler, *cluster.workers):
        one.send_signal(signal.SIGKILL)
    for one in (process, cluster.scheduler, *cluster.workers):
        one.wait(10)

    before = {path: (store / path).stat().st_mtime_ns for path in records(store)}
    cluster.start_scheduler()
    cluster.start_workers(1)
    process = driver(store, cluster.address)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == 0
    assert_saved(tmp_path / "run.result", run(cohort, "TFCE", n_perm=5000)[""])
    kept = {path: moment for path, moment in before.items() if "draws" not in str(path)}
    assert {path: (store / path).stat().st_mtime_ns for path in kept} == kept


@pytest.mark.slow
def test_a_test_that_stops_by_itself_goes_on_here_and_on_a_cluster(tmp_path, cohort, driver, cluster):
    """Its process is killed, by turns where threads or a cluster's workers run it: the same stop, and the same bits."""
    options = {**DECIDED, "contrast": "intercept"}
    cluster.start_workers(2)
    expected = permutation_test(cohort, DESIGN, **options)
    assert expected.provenance["stopped"]["n_random"] >= 400
    with cluster.client() as client:
        assert_same({"": permutation_test(cohort, DESIGN, **options, client=client)}, {"": expected})
    store, chance = tmp_path / "run", random.Random(2)
    for address in (cluster.address, "", cluster.address):
        assert not killed_after(driver(store, address, options), store, chance.randint(1, 3))
    process = driver(store, options=options)
    assert (process.communicate(timeout=120)[1], process.returncode) == ("", 0)
    assert_saved(Path(f"{store}.result"), expected)


@pytest.mark.slow
def test_an_interrupt_of_a_test_that_stops_by_itself_leaves_what_is_known(tmp_path, cohort, driver):
    """Ctrl-C of a process: what it saves is the test of so many shufflings, and the same call goes on."""
    from numbaglm import PermutationResult

    options = {**DECIDED, "contrast": "intercept"}
    expected, said = permutation_test(cohort, DESIGN, **options), ""
    for number in range(3):  # a signal that comes once all is done says nothing
        store = tmp_path / f"run-{number}"
        process = driver(store, options=options)
        while process.poll() is None and not list(store.glob("records/contrast-000-part-01/**/*.npz")):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
        if "Interrupted" in said:
            break
    assert "random shufflings, and its p hold. The same call goes on." in said
    assert process.returncode == 0
    found = PermutationResult.load(f"{store}.result")
    ended = found.provenance["stopped"]
    assert ended["interrupted"]
    n = 1 + ended["n_random"]
    assert 101 <= n < len(expected.h0["max_t"])
    for name, null in found.h0.items():
        np.testing.assert_array_equal(null, expected.h0[name][:n])
    process = driver(store, options=options)
    assert (process.communicate(timeout=120)[1], process.returncode) == ("", 0)
    assert_saved(Path(f"{store}.result"), expected)


@pytest.mark.slow
def test_the_command_runs_on_a_cluster(tmp_path, cohort, cluster, expected):
    cluster.start_workers(1)
    DESIGN.to_csv(tmp_path / "design.csv", index=False)
    arguments = [cohort.store.location, "--design", tmp_path / "design.csv", "--contrast", "x", "--n-perm", 600]
    arguments += ["--cluster-forming-threshold", 0.05, "--tfce-uncorrected", "--scheduler", cluster.address]
    process = start_process("permute", *arguments, "--output", tmp_path / "out", module=("-m", "numbaglm"))
    assert "Error" not in process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert_saved(tmp_path / "out", expected["TFCE"][""])
    assert not list(Path(cohort.store.location).parent.glob(".numbaglm-*"))


WITHOUT_A_STORE = """
import sys, time
from numbaglm import Cohort
from numbaglm.engine.permutation.workspace import make_private, temporary_place
with temporary_place(Cohort.open(sys.argv[1]).store, None) as place:
    make_private(place)
    print(place, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_run_without_a_store_left_goes_with_the_next(monkeypatch, cohort):
    def in_its_turn(size, room, n_workers, **_):
        return Plan(BATCH, ((0, size.n_voxels),), ((0, size.n_shufflings),), False, map_rows=size.map_rows)

    monkeypatch.setattr(runs, "make_plan", in_its_turn)
    arguments = [sys.executable, "-c", WITHOUT_A_STORE, cohort.store.location]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        place = Path(process.stdout.readline().strip())
        run(cohort, "clusters")
        assert place.exists(), "that one is on its way"
        process.kill()
    assert place.exists()
    run(cohort, "clusters")
    assert not list(place.parent.glob(".numbaglm-*"))


def wait_for(store, n_records, process):
    end, goal = time.monotonic() + 120, len(records(store)) + n_records
    while len(records(store)) < goal:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the run hangs"
        time.sleep(0.005)


@pytest.mark.slow
def test_workers_that_die_of_a_task_end_the_call(cluster):
    cluster.start_workers(4)
    with cluster.client() as client, pytest.raises(StoreError, match="Workers died over and over at the same task"):
        schedule.run_tasks(os._exit, [(1,)], label="", client=client)


def test_a_run_of_something_else_is_refused_by_what_differs(tmp_path, cohort, monkeypatch):
    store = tmp_path / "run"
    run(cohort, "clusters", store=store)
    for options, difference in [
        ({"seed": 3}, "seed: 0 there, 3 here"),
        ({"n_perm": 700}, "n_perm: 600 there, 700 here"),
        ({"contrast": "intercept"}, r"contrasts, x: \[\[1.0, 0.0\]\] there, null here"),
        ({"tfce": True}, "tfce: false there, true here"),
        ({"tfce_connectivity": 18}, "conventions, tfce_connectivity: 6 there, 18 here"),
        ({"exchangeability_blocks": [0] * 5 + [1] * 5}, "blocks: null there"),
    ]:
        with pytest.raises(OutputExistsError, match=f"is of something else: .*{difference}"):
            run(cohort, "clusters", store=store, **options)
    other = DESIGN.assign(x=DESIGN["x"].where(np.arange(N_SUBJECTS) != 4, 7.0))
    with pytest.raises(OutputExistsError, match=r"design rows: 1 of 10 entries \(the first at 4, counted from 0\)"):
        permutation_test(cohort, other, "x", n_perm=600, cluster_forming_threshold=0.05, store=store)
    header = json.loads((store / "run.json").read_text())
    header["identity"]["versions"]["numbaglm"] = "0.0.1"
    (store / "run.json").write_text(json.dumps(header))
    with pytest.raises(OutputExistsError, match=r'versions, numbaglm: "0.0.1" there'):
        run(cohort, "clusters", store=store)
    (store / "run.json").write_text("{")
    with pytest.raises(OutputExistsError, match=r"or its run\.json is damaged"):
        run(cohort, "clusters", store=store)


def test_another_cohort_is_refused(tmp_path, cohort):
    run(cohort, "clusters", store=tmp_path / "run")
    Y = cohort.store.read(0, cohort.n_voxels).copy()
    Y[0, 0] += 1
    other = Cohort(CohortStore.from_array(Y, cohort.geometry))
    with pytest.raises(OutputExistsError, match="is of something else: cohort: "):
        run(other, "clusters", store=tmp_path / "run")


def test_what_is_no_run_is_left_alone(tmp_path, cohort):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"is not a run of numbaglm .* left alone"):
        run(cohort, "clusters", store=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="'store'"):
        run(cohort, "clusters", store=3)


def test_two_calls_at_once(tmp_path, cohort, monkeypatch):
    errors = []
    perform = workspace._perform

    def second_call(*arguments):
        if not errors:
            with pytest.raises(StoreError, match="is being written by another call") as caught:
                run(cohort, "clusters", store=tmp_path / "run")
            errors.append(caught)
        perform(*arguments)

    monkeypatch.setattr(workspace, "_perform", second_call)
    run(cohort, "clusters", store=tmp_path / "run", n_workers=1)
    assert len(errors) == 1


@pytest.mark.parametrize("harm", ["truncated", "flipped", "gone"])
def test_damaged_records_are_made_again(tmp_path, cohort, expected, cuts, harm, caplog):
    store = tmp_path / "run"
    run(cohort, "TFCE", store=store)
    for stage in ("observed", "voxels-001", "clusters-000", "maps-001"):
        (file, *_) = (store / "records" / "contrast-000" / stage).iterdir()
        damage(file, harm)
    # What a record needs that is gone as well, the maps above all, is noticed at the latest when it is wanted.
    for _ in range(3):
        try:
            found = run(cohort, "TFCE", store=store)
        except StoreError as error:
            assert "Repeat the call as it was" in str(error)  # noqa: PT017
            continue
        break
    assert_same(found, expected["TFCE"])
    assert harm == "gone" or "damaged records" in caplog.text


def damage(file, harm):
    data = bytearray(file.read_bytes())
    if harm == "gone":
        file.unlink()
        return
    data[len(data) // 2] ^= 4
    file.write_bytes(data[: len(data) // 2] if harm == "truncated" else data)


@pytest.mark.parametrize("harm", ["truncated", "flipped", "gone"])
def test_damaged_maps_are_made_again(monkeypatch, tmp_path, cohort, expected, harm):
    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    store = tmp_path / "run"
    perform = workspace._perform

    def harmful(into, key, *rest):
        if key.endswith("maps-000/00000"):
            damage(next(iter(sorted(store.glob("maps/contrast-000-0-000/0/*")))), harm)
        perform(into, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(workspace, "_perform", harmful)
        with pytest.raises(StoreError, match=r"The maps in .* are damaged .* Repeat the call as it was"):
            run(cohort, "TFCE", store=store, memory_limit="20MB", n_workers=1)
    assert_same(run(cohort, "TFCE", store=store, memory_limit="20MB", n_workers=1), expected["TFCE"])


def full_disk(cohort, store, limit):
    """Run in a process that may write files of so many bytes only."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            run(cohort, "TFCE", store=store, n_workers=1)
        except OutputError as error:
            os._exit(7 if str(store) in str(error) else 8)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_disk_that_is_full(tmp_path, cohort, expected):
    script = (
        "import sys, pickle; from test_durability import full_disk; from numbaglm import Cohort; "
        "sys.exit(full_disk(Cohort.open(sys.argv[1]), sys.argv[2], 20_000))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, cohort.store.location, str(tmp_path / "run")]
    here = os.path.dirname(__file__)  # noqa: PTH120
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": f"{here}{os.pathsep}{environment['PYTHONPATH']}"}, check=False
    )
    assert done.returncode == 7
    assert len(records(tmp_path / "run")) > 0
    assert not list((tmp_path / "run").glob("records/**/*.partial"))
    assert_same(run(cohort, "TFCE", store=tmp_path / "run"), expected["TFCE"])


def test_a_place_that_may_not_be_written(tmp_path, cohort, monkeypatch):
    if os.geteuid() == 0:  # whom the system lets write anywhere

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        run(cohort, "clusters", store=tmp_path / "deep" / "run")


def test_a_clock_that_jumps(tmp_path, cohort, expected, monkeypatch):
    jumps = np.random.default_rng(0).normal(size=10_000) * 1e8
    steps = iter(jumps)
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + next(steps, 0.0))
    assert_same(run(cohort, "clusters", store=tmp_path / "run"), expected["clusters"])


@pytest.mark.parametrize("name", ["TFCE", "pseudo"])
def test_a_run_in_an_object_store(request, monkeypatch, tmp_path, cohort, expected, where, name):
    """Stopped there, too, and gone on with; maps are spilled to it."""
    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    perform, calls = workspace._perform, []

    def counted(*arguments):
        calls.append(arguments[1])
        if len(calls) == 9:
            raise _Power
        perform(*arguments)

    monkeypatch.setattr(workspace, "_perform", counted)
    with pytest.raises(_Power):
        run(cohort, name, store=where, memory_limit="20MB", n_workers=1)
    assert any(key.startswith("maps/") for key in Place.parse(where).list())
    assert_same(run(cohort, name, store=where, memory_limit="20MB"), expected[name])
    left = Place.parse(where).list()
    assert not any(key.startswith(("maps/", "shared/", "lock")) for key in left)
    with pytest.raises(OutputExistsError, match="seed: 0 there, 1 here"):
        run(cohort, name, store=where, seed=1)


@pytest.fixture(params=["memory", "s3"])
def where(request):
    name = request.node.name.replace("[", "-").replace("]", "")
    return f"memory://runs/{name}" if request.param == "memory" else f"{request.getfixturevalue('s3')}/runs/{name}"


def test_a_lock_in_an_object_store(where, cohort, monkeypatch):
    place = Place.parse(where)
    owner = {"host": "elsewhere", "pid": 7, "started": 0.0, "token": ""}
    place.write_bytes("lock", json.dumps(owner).encode())
    with pytest.raises(StoreError, match=r"by another call \(process 7 on elsewhere\).* delete the object"):
        run(cohort, "clusters", store=where)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    place.write_bytes("lock", json.dumps(owner | locks._numbering() | {"pid": ended.pid}).encode())
    run(cohort, "clusters", store=where)


def test_memory_is_not_seen_by_a_cluster(cohort):
    with pytest.raises(InputError, match="a place that a cluster's workers see"):
        run(cohort, "clusters", store="memory://runs/here", client=Mock())


def test_the_log_tells_what_was_done(tmp_path, cohort):
    run(cohort, "TFCE", store=tmp_path / "run")
    run(cohort, "TFCE", store=tmp_path / "run")
    text = (tmp_path / "run" / "log.txt").read_text()
    for words in ("x: Shuffling by permutations", "Plan: ", "Shuffling: done in", "maps a second"):
        assert words in text
    assert text.count("Plan: ") == 2
    assert text.count("Shuffling: done in") == 1


def workspace_record():
    return Refined(np.arange(3.0), np.zeros(3, np.uint8))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"p": np.arange(2.0)}, "source has 3 entries, not 2"),
        ({"p": np.arange(3)}, "p is int64 of 1 dimensions"),
        ({"p": np.zeros((3, 1))}, "p is float64 of 2 dimensions"),
        ({"p": None}, "it has no p"),
        ({}, "p has 3 entries, not 4"),
    ],
)
def test_records_of_other_types_or_sizes_are_not_taken(tmp_path, wrong, words):
    found = ledger.FolderLedger(Place.parse(tmp_path))
    found.put("a/00001", replace(workspace_record(), **wrong))
    with pytest.raises(StoreError, match=rf"{words}\). Repeat the call"):
        found.get("a/00001", type(workspace_record()), **({} if wrong else {"n_voxels": 4}))
    assert found.done("a") == set()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"voxel": np.array([0, 9], np.int32)}, "voxel leads out of 9"),
        ({"voxel": np.array([-1, 8], np.int32)}, "voxel leads out of 9"),
        ({"bounds": np.array([0, 3, 2])}, "bounds do not cut up 2"),
        ({"bounds": np.array([0, 1, 1])}, "bounds do not cut up 2"),
    ],
)
def test_records_that_lead_out_of_the_data_are_not_taken(tmp_path, wrong, words):
    from numbaglm.engine.permutation.records import Round

    found = ledger.FolderLedger(Place.parse(tmp_path))
    whole = Round(
        maxima=np.zeros(2),
        counts=np.zeros(9, np.int32),
        bounds=np.array([0, 1, 2]),
        voxel=np.array([0, 8], np.int32),
        value=np.ones(2),
    )
    for number, record in enumerate([whole, replace(whole, **wrong)]):
        found.put(f"a/{number:05d}", record)
    assert found.get("a/00000", Round, n_elements=9).tails is None
    with pytest.raises(StoreError, match=words):
        found.get("a/00001", Round, n_elements=9)


def test_records_and_maps_that_changed_places_are_found(tmp_path):
    found = ledger.FolderLedger(Place.parse(tmp_path))
    for number in range(2):
        found.put(f"a/{number:05d}", workspace_record())
    scratch = ScratchMaps(Place.parse(tmp_path / "maps"), (4, 6), (2, 6), "float32")
    scratch.write(0, 0, np.arange(24.0, dtype=np.float32).reshape(4, 6))
    for one, other in [("records/a/00000.npz", "records/a/00001.npz"), ("maps/0/0", "maps/1/0")]:
        (tmp_path / one).replace(tmp_path / other)
    assert not found.is_whole("a/00001")
    with pytest.raises(StoreError, match="is not what was stored"):
        scratch.rows(2, 4)


class _Elsewhere:
    """A client of workers on another machine."""

    def nthreads(self):
        return {"tcp://192.0.2.7:1": 2}


@pytest.mark.parametrize("where", ["memory", "read-only"])
def test_workers_elsewhere_need_a_store_that_they_see(tmp_path, cohort, monkeypatch, where):
    store = cohort.store if where == "read-only" else replace(cohort.store, location=None)
    monkeypatch.setattr(os, "access", lambda *_: False)
    why = "The folder of the cohort can't be" if where == "read-only" else "The cohort is in memory"
    with (
        pytest.raises(InputError, match=rf"'store'.*that all workers see.*{why}"),
        workspace.temporary_place(store, _Elsewhere()),
    ):
        pass


def test_a_temporary_run_is_its_owners_alone(cohort, monkeypatch):
    seen, before, perform = [], os.umask(0), workspace._perform

    def look(found, key, *arguments):
        seen.append(found.place.path.stat().st_mode & 0o777)
        perform(found, key, *arguments)

    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    monkeypatch.setattr(workspace, "_perform", look)
    try:
        run(cohort, "TFCE", n_workers=1, memory_limit="20MB")
    finally:
        os.umask(before)
    assert set(seen) == {0o700}
