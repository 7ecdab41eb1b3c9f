from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine import memory, schedule
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.size import BATCH
from numbaglm.inference import running as runs
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE

SHAPE = (14, 16, 15)  # three tiles, and a rest
N_PERM = 300  # three batches of one row, more of several


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    mask = rng.random(SHAPE) < 0.95
    Y = rng.normal(size=(10, mask.sum())) + 0.3
    return Cohort(CohortStore.from_array(Y.astype(np.float32), Geometry(mask, AFFINE)))


def design():
    return pd.DataFrame({"x": np.random.default_rng(1).normal(size=10), "intercept": 1.0})


CASES = {
    "t": {"contrast": None},
    "one-sided": {"contrast": None, "two_sided": False},
    "nuisance": {"design_matrix": design(), "contrast": "intercept"},
    "F": {"design_matrix": design(), "contrast": ["x", "intercept"], "errors": "both"},
    "TFCE": {"contrast": None, "tfce": True},
    "tails": {"design_matrix": design(), "contrast": "x", "tail": "pareto"},  # the last of three rounds is too short
}


def run(cohort, name, **options):
    return permutation_test(cohort, n_perm=N_PERM, cluster_forming_threshold=0.05, **CASES[name], **options)


def plan_of(monkeypatch, tiles, batches=None, resident=True):
    """Make every call use blocks of so many tiles and rounds of so many batches."""

    def make_plan(size, room, n_workers, *, keep=True, **_):
        blocks = [(v, min(v + tiles * TILE, size.n_voxels)) for v in range(0, size.n_voxels, tiles * TILE)]
        step = size.n_shufflings if batches is None else batches * BATCH
        ranges = [(i, min(i + step, size.n_shufflings)) for i in range(0, size.n_shufflings, step)]
        return Plan(BATCH, tuple(blocks), tuple(ranges), resident and keep, 2 * BATCH, size.map_rows)

    monkeypatch.setattr(runs, "make_plan", make_plan)


def assert_same(one, other):
    assert set(one.maps) == set(other.maps)
    assert set(one.h0) == set(other.h0)
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name], other.maps[name], err_msg=name)
    for name in one.h0:
        np.testing.assert_array_equal(one.h0[name], other.h0[name], err_msg=name)
    pd.testing.assert_frame_equal(one.clusters, other.clusters)
    assert one.provenance == other.provenance


@pytest.fixture(scope="module")
def expected(cohort):
    return {name: run(cohort, name, n_workers=1) for name in CASES}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("tiles", "batches", "resident", "n_workers"),
    [(1, None, True, 1), (1, 1, True, 2), (2, 2, False, 3), (4, 1, False, 1), (99, 1, True, 2)],
)
def test_no_plan_changes_a_bit(monkeypatch, cohort, expected, name, tiles, batches, resident, n_workers):
    plan_of(monkeypatch, tiles, batches, resident)
    assert_same(run(cohort, name, n_workers=n_workers), expected[name])


def test_neither_does_the_memory_limit(monkeypatch, cohort, expected):
    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    for limit, n_workers in (("12MB", 1), ("16MB", 1), ("30MB", 2), ("200MB", 4)):
        assert_same(run(cohort, "nuisance", memory_limit=limit, n_workers=n_workers), expected["nuisance"])


def test_a_cohort_on_disk_is_the_same_as_in_memory(tmp_path, monkeypatch, cohort, expected):
    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    for number, chunks in enumerate([(3, 1000), (10, 97)]):
        on_disk = stored(tmp_path / f"{number}.zarr", cohort, monkeypatch, chunks)
        assert_same(run(on_disk, "nuisance", memory_limit="12MB", n_workers=1), expected["nuisance"])


def stored(path, cohort, monkeypatch, chunks=(4, 1024)):
    from numbaglm.data.cohort.writer import CohortWriter

    monkeypatch.setattr("numbaglm.data.cohort.writer.choose_chunks", lambda *_: chunks)
    header = cohort.store.header
    labels = header.subjects.assign(source="", source_bytes=0, source_state="")
    writer = CohortWriter.create(path, type(header)(header.space, labels))
    for start, stop in writer.blocks:
        writer.write(start, cohort.store.read_subjects(start, stop))
    writer.complete()
    on_disk = Cohort.open(path)
    assert on_disk.fingerprint == cohort.fingerprint
    assert on_disk.store.chunks == chunks
    return on_disk


def test_each_block_is_read_once(monkeypatch, cohort):
    """However many rounds there are: residuals stay, or all rounds are one."""
    read = []
    original = CohortStore.pieces
    monkeypatch.setattr(CohortStore, "pieces", lambda self, *span: read.append(span) or original(self, *span))
    plan_of(monkeypatch, 2, 1, resident=True)
    run(cohort, "TFCE", n_workers=1)
    assert sorted(read) == [(0, 2048), (2048, cohort.n_voxels)]


@pytest.mark.parametrize("name", ["TFCE", "tails"])
def test_nothing_large_passes_the_scheduler(monkeypatch, tmp_path, cohort, name):
    """Neither what a task is told nor what it returns grows with the cohort or the nulls."""
    told, returned = [], []
    original = schedule.run_tasks

    def spy(function, arguments, **options):
        told.extend(len(pickle.dumps((function, one))) for one in arguments)
        results = original(function, arguments, **options)
        returned.extend(len(pickle.dumps(one)) for one in results)
        return results

    monkeypatch.setattr(schedule, "run_tasks", spy)
    plan_of(monkeypatch, 1, None, resident=False)
    on_disk = stored(tmp_path / "c.zarr", cohort, monkeypatch)
    run(on_disk, name)
    assert len(told) > 8
    assert max(told) < 3000
    assert max(returned) < 10


def test_a_call_leaves_nothing_beside_the_cohort(monkeypatch, tmp_path, cohort):
    plan_of(monkeypatch, 1, None, resident=False)
    on_disk = stored(tmp_path / "c.zarr", cohort, monkeypatch)
    run(on_disk, "TFCE")
    assert [path.name for path in tmp_path.iterdir()] == ["c.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["on disk", "in memory"])
@pytest.mark.parametrize("name", ["nuisance", "TFCE", "tails"])
def test_a_cluster_gives_the_same_bits(monkeypatch, tmp_path, client, cohort, expected, where, name):
    source = stored(tmp_path / "c.zarr", cohort, monkeypatch) if where == "on disk" else cohort
    plan_of(monkeypatch, 2, 1)
    assert_same(run(source, name, client=client), expected[name])


@pytest.mark.slow
def test_an_error_on_a_cluster_is_the_task_s_own(client):
    with pytest.raises(ZeroDivisionError):
        schedule.run_tasks(divmod, [(1, 1), (1, 0)], label="", client=client)
    assert schedule.run_tasks(divmod, [(7, n) for n in (1, 2, 3)], label="", client=client) == [(7, 0), (3, 1), (2, 1)]
