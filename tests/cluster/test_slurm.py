"""What the page on clusters says of SLURM, word for word, with SLURM on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client

import numbaglm as ng
from numbaglm import Cohort, PermutationResult, permutation_test
from numbaglm.faces.commands import commands
from reference.maps import write_maps
from reference.slurm import NEEDED, is_here, slurm

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install dask-jobqueue")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_here(), reason=f"SLURM is not installed ({', '.join(NEEDED)}), or this is not root"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "cluster_computing.md").read_text(encoding="utf-8")
N = 12
AGE = np.random.default_rng(1).normal(40, 9, N)
ASKED = {"n_perm": 6000, "cluster_forming_threshold": 0.05}


def block(remark, containing=""):
    """Code of the block of the page that follows a remark, and holds some words."""
    found = re.findall(rf"<!-- {re.escape(remark)} -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
    (code,) = [one for one in found if containing in one]
    return code


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of a cohort, where SLURM runs."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "slurm").mkdir()
    (folder / "tmp").mkdir()
    values = np.random.default_rng(0).normal(0.2, 1, (N, 20, 24, 20)).astype(np.float32)
    maps = write_maps(folder / "maps", values, suffix=".nii")
    people = pd.DataFrame({"participant_id": [f"sub-{k:02d}" for k in range(1, N + 1)], "age": AGE})
    people["group"] = ["control", "patient"] * (N // 2)
    Cohort.create(folder / "cohort.zarr", maps, covariates=people)
    with slurm(folder / "slurm") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("TMPDIR", str(folder / "tmp"))
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.chdir(folder)
        yield folder


def jobs(state="all"):
    """Numbers of SLURM's jobs."""
    command = ["squeue", "-h", "-o", "%i", *([] if state == "all" else ["-t", state])]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


@contextmanager
def page_cluster(site):
    """The cluster of the page, which listens on loopback alone."""
    names = {}
    here = '{"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}'
    here = f'{here}, worker_extra_args=["--host", "127.0.0.1", "--no-dashboard"]'
    code = block("slurm example").replace('{"dashboard_address": ":0"}', here)
    assert here in code
    exec(code.replace("print(", "str("), names)
    try:
        yield names["cluster"]
    finally:
        names["cluster"].close()


def run_block(code, site, cluster, meanwhile):
    """Run code of the page beside something that happens to its jobs; the result."""
    names = {
        "Client": Client,
        "cluster": cluster,
        "cohort": Cohort.open(site / "cohort.zarr"),
        "ng": ng,
    }
    code = code.replace("/project/", f"{site}/").replace('"~ age", "age"', f'"~ age", "age", **{ASKED}')
    code = code.replace("cluster.scale(jobs=10)", "cluster.scale(jobs=2)").replace("for_workers(10", "for_workers(2")
    happened = threading.Thread(target=meanwhile)
    happened.start()
    exec(code, names)
    happened.join()
    return names["result"]


def records(site):
    return len(list((site / "runs" / "age").rglob("*.npz")))


def wait_until(holds, seconds=240):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def expected(site):
    return permutation_test(Cohort.open(site / "cohort.zarr"), "~ age", "age", **ASKED, tfce=True)


def assert_same(found, expected):
    for name in found.maps:
        np.testing.assert_array_equal(found.maps[name], expected.maps[name], err_msg=name)
    for name in found.h0:
        np.testing.assert_array_equal(found.h0[name], expected.h0[name], err_msg=name)


@pytest.fixture(autouse=True)
def nothing_before(request):
    """No run and no result of the test before."""
    yield
    for name in ("runs", "results"):
        shutil.rmtree(request.getfixturevalue("site") / name, ignore_errors=True)


def test_all_jobs_are_lost_and_come_back(site, expected):
    lost = []
    with page_cluster(site) as cluster:

        def meanwhile():
            wait_until(lambda: records(site) > 3)
            lost.extend(jobs())
            subprocess.run(["scancel", *lost], check=True, timeout=60)
            wait_until(lambda: not jobs())
            cluster.scale(0)
            cluster.scale(jobs=2)

        found = run_block(block("not run: needs SLURM", "cluster.scale(jobs=10)"), site, cluster, meanwhile)
    assert len(lost) == 2
    assert_same(found, expected)
    assert_same(PermutationResult.load(site / "results" / "age"), expected)


def test_jobs_whose_time_ends_are_followed_by_others(site, expected):
    ended = []
    with page_cluster(site) as cluster:

        def meanwhile():
            wait_until(lambda: records(site) > 3)
            ended.extend(jobs("running"))
            for one in ended:
                subprocess.run(["scontrol", "update", f"JobId={one}", "EndTime=now"], check=True, timeout=60)
            wait_until(lambda: not set(ended) & set(jobs("running")))

        found = run_block(block("not run: needs SLURM", "cluster.adapt("), site, cluster, meanwhile)
        shown = ["scontrol", "show", "job", ended[0]]
        told = subprocess.run(shown, capture_output=True, text=True, check=True, timeout=60).stdout
        assert re.search(r"JobState=(\w+)", told)[1] == "TIMEOUT"
    without_tfce = permutation_test(Cohort.open(site / "cohort.zarr"), "~ age", "age", **ASKED)
    assert_same(found, without_tfce)


def test_an_array_of_contrasts(site):
    script = block("slurm array").replace("--tfce", "--n-perm 300 --cluster-forming-threshold 0.05")
    (site / "contrasts.sh").write_text(script)
    done = subprocess.run(
        ["sbatch", "--wait", "contrasts.sh"], capture_output=True, text=True, timeout=300, check=False
    )
    said = "".join(one.read_text() for one in site.glob("slurm-*.out"))
    assert done.returncode == 0, done.stderr + said
    for number, contrast in enumerate(("age", "group[patient]", "age:group[patient]")):
        options = {"n_perm": 300, "cluster_forming_threshold": 0.05}
        one = permutation_test(Cohort.open(site / "cohort.zarr"), "~ age * group", contrast, **options)
        assert_same(PermutationResult.load(site / "results" / str(number)), one)


def test_the_command_on_workers_of_slurm(site, expected):
    with page_cluster(site) as cluster:
        cluster.scale(jobs=1)
        arguments = f"permute cohort.zarr --model age --tfce --scheduler {cluster.scheduler_address} --store runs/age"
        assert arguments.replace(cluster.scheduler_address, "tcp://node1:8786") in PAGE
        options = ["--n-perm", "6000", "--cluster-forming-threshold", "0.05", "--output", "age", "--quiet"]
        commands.main([*arguments.split(), *options], standalone_mode=False)
    found = PermutationResult.load(site / "age")  # whose columns are in another order than those of a formula
    for name in (name for name in expected.maps if name.startswith("p_fwe")):
        np.testing.assert_array_equal(found.maps[name], expected.maps[name], err_msg=name)
