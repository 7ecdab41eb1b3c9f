"""What may have happened between a run that stopped and the call that goes on with it."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.writer import remove
from numbaglm.data.runs import folder
from numbaglm.data.runs.maps import ScratchMaps
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation import workspace
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.size import BATCH
from numbaglm.engine.permutation.workspace import on_disk
from numbaglm.errors import OutputError, StoreError
from numbaglm.inference import running as runs
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE

N_SUBJECTS, SHAPE = 9, (14, 12, 13)
DESIGN = pd.DataFrame({"x": np.random.default_rng(1).normal(size=N_SUBJECTS), "intercept": 1.0})
CASES = {"TFCE": {"tfce_uncorrected": True}, "pseudo": {"variance_smoothing_fwhm": 6.0}}


def in_memory(seed=0):
    Y = np.random.default_rng(seed).normal(size=(N_SUBJECTS, np.prod(SHAPE))) + 0.3
    return Cohort(CohortStore.from_array(Y.astype(np.float32), Geometry(np.ones(SHAPE, bool), AFFINE)))


@pytest.fixture
def cohort(tmp_path):
    return Cohort(on_disk(in_memory().store, Place.parse(tmp_path)))


def run(cohort, name="TFCE", **options):
    options = {"n_perm": 600, "cluster_forming_threshold": 0.05, "n_workers": 1} | CASES[name] | options
    return permutation_test(cohort, DESIGN, "x", **options)


def assert_same(one, other):
    for key in one.maps:
        np.testing.assert_array_equal(one.maps[key], other.maps[key], err_msg=key)
    for key in one.h0:
        np.testing.assert_array_equal(one.h0[key], other.h0[key], err_msg=key)


class _Power(Exception):
    """It went out."""


def stop_after(monkeypatch, n_tasks):
    """Stop at a task of whole maps, some of which are done."""
    perform, done = workspace._perform, []

    def counted(into, key, *rest):
        if "voxels" not in key and "draws" not in key:
            done.append(key)
        if len(done) > n_tasks:
            raise _Power
        perform(into, key, *rest)

    monkeypatch.setattr(workspace, "_perform", counted)


def cut(monkeypatch, resident=True):
    """Blocks of a tile, two rounds; residuals and maps in memory, or on disk."""

    def make_plan(size, room, n_workers, **_):
        blocks = tuple((v, min(v + TILE, size.n_voxels)) for v in range(0, size.n_voxels, TILE))
        return Plan(BATCH, blocks, ((0, 2 * BATCH), (2 * BATCH, size.n_shufflings)), resident, map_rows=16)

    monkeypatch.setattr(runs, "make_plan", make_plan)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n_tasks", [0, 3, 35])
def test_maps_that_were_in_memory_are_made_again_where_they_go_to_disk(monkeypatch, tmp_path, cohort, name, n_tasks):
    """Less memory, or a cluster, when it goes on: no error is needed to find that the maps are not there."""
    expected = run(cohort, name)
    cut(monkeypatch)
    with monkeypatch.context() as patch:
        stop_after(patch, n_tasks)
        with pytest.raises(_Power):
            run(cohort, name, store=tmp_path / "run")
    monkeypatch.setattr(runs, "refit", lambda plan, *_, **__: replace(plan, resident=False))
    assert_same(run(cohort, name, store=tmp_path / "run"), expected)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("TFCE", "maps-000/00002"),
        ("TFCE", "observed/00001"),
        ("pseudo", "maps-000/00001"),
        ("pseudo", "scored/00000"),
    ],
)
def test_a_lost_record_of_an_earlier_round(monkeypatch, tmp_path, cohort, resident, name, lost):
    """It is not made of the maps that are there, which are of a later round."""
    expected = run(cohort, name)
    cut(monkeypatch, resident)
    with monkeypatch.context() as patch:
        stop_after(patch, 36 + (name == "TFCE"))  # 32 of the first round, or 33 with clusters, which are one
        with pytest.raises(_Power):
            run(cohort, name, store=tmp_path / "run")
    assert (tmp_path / "run" / "maps").exists() != resident
    (tmp_path / "run" / "records" / "contrast-000" / f"{lost}.npz").unlink()
    assert_same(run(cohort, name, store=tmp_path / "run"), expected)
    assert not list((tmp_path / "run").glob("maps/*"))


def test_scratch_tells_which_blocks_are_there(tmp_path):
    maps = ScratchMaps(Place.parse(tmp_path / "maps"), (5, 300), (2, 100), "float32")
    assert maps.columns(5) == set()
    maps.write(0, 0, np.zeros((5, 100)))
    maps.write(0, 200, np.zeros((4, 100)))
    assert maps.columns(5) == {0}
    assert maps.columns(4) == maps.columns(3) == {0, 200}


@pytest.mark.parametrize("harm", ["gone", "flipped", "cut", "empty"])
def test_records_without_their_plan_are_made_again(monkeypatch, tmp_path, cohort, caplog, harm):
    """One digit of it, and blocks would overlap; without it they would be cut anew."""
    expected = run(cohort, store=tmp_path / "run")
    (file,) = (tmp_path / "run" / "plans").iterdir()
    text = file.read_text()
    damaged = {"flipped": text.replace("[[0, ", "[[1, ", 1), "cut": text[:-9], "empty": ""}
    assert damaged["flipped"] != text
    file.unlink() if harm == "gone" else file.write_text(damaged[harm])
    cut(monkeypatch)
    assert_same(run(cohort, store=tmp_path / "run"), expected)
    assert "The plan of contrast-000" in caplog.text
    assert len(list((tmp_path / "run" / "records").rglob("voxels*/*.npz"))) == 6


def test_a_record_that_can_not_be_read_just_now_is_kept(monkeypatch, tmp_path, cohort):
    expected = run(cohort, store=tmp_path / "run")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "records").rglob("*.npz")}
    read = Path.read_bytes

    def fail(self):
        if self.name == "00000.npz":
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(StoreError, match=r"00000\.npz can't be read \(OSError.*Input/output error"):
            run(cohort, store=tmp_path / "run")
    assert_same(run(cohort, store=tmp_path / "run"), expected)
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_whatever_a_bit_does_to_a_record_is_found(tmp_path, cohort):
    """In the headers of its members and of the archive above all, of which the checksums know nothing."""
    run(cohort, store=tmp_path / "run")
    ledger = runs.in_folder(Place.parse(tmp_path / "run")).ledger
    key = "contrast-000/clusters-000/00000"
    file = tmp_path / "run" / "records" / f"{key}.npz"
    whole = file.read_bytes()
    before = ledger._arrays(key)
    rng = np.random.default_rng(0)
    ends = [*range(140), *range(len(whole) - 200, len(whole))]
    for at in [*ends, *rng.integers(0, len(whole), 50).tolist()]:
        data = bytearray(whole)
        data[at] ^= 1 << rng.integers(8)
        file.write_bytes(data)
        if ledger.is_whole(key):  # a bit that means nothing, such as one of a date
            found = ledger._arrays(key)
            assert found.keys() == before.keys()
            assert all(np.array_equal(found[name], before[name]) for name in before)


def test_a_cohort_that_is_replaced_while_it_is_in_use(monkeypatch, tmp_path, cohort):
    """Its chunks are sound, of the same layout, and another's."""
    prepare = CohortStore._stored_pieces

    def replaced(self, parts, columns):
        location = Place(self.location)
        if not replaced.done:
            replaced.done = True
            remove(location)
            on_disk(in_memory(seed=5).store, Place(str(Path(location.url).parent)))
        yield from prepare(self, parts, columns)

    replaced.done = False
    monkeypatch.setattr(CohortStore, "_stored_pieces", replaced)
    with pytest.raises(StoreError, match="changed while it was in use"):
        run(cohort, store=tmp_path / "run")
    assert not list((tmp_path / "run" / "records").rglob("voxels*/*.npz"))
    with pytest.raises(StoreError, match="changed while it was in use"):
        cohort.store.read(0, 5)


def test_data_in_memory_are_laid_down_once(tmp_path):
    """By each contrast that a cluster tests, and by each call that goes on."""
    store, place = in_memory().store, Place.parse(tmp_path)
    first = on_disk(store, place)
    moment = (tmp_path / "cohort.zarr" / "data" / "c" / "0" / "0").stat().st_mtime_ns
    assert on_disk(store, place).fingerprint == first.fingerprint == store.fingerprint
    assert (tmp_path / "cohort.zarr" / "data" / "c" / "0" / "0").stat().st_mtime_ns == moment
    for attributes in ({"status": "writing"}, {"status": "preparing"}):
        root = tmp_path / "cohort.zarr" / "zarr.json"
        text = json.loads(root.read_text())
        text["attributes"] |= attributes
        root.write_text(json.dumps(text))
        on_disk(store, place).read(0, 3)


def test_a_disk_that_is_full_before_anything_is_written(monkeypatch, tmp_path, cohort):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OutputError, match=r"run could not be written .*No space left"):
            run(cohort, store=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_log_that_finds_no_room_stops_nothing(monkeypatch, tmp_path, cohort, capfd):
    monkeypatch.setattr(folder, "open_own", lambda path, mode: Path("/dev/full").open(mode))  # noqa: SIM115 (its handler closes it)
    assert_same(run(cohort, store=tmp_path / "run"), run(cohort))
    assert capfd.readouterr() == ("", "")


def test_a_log_that_may_not_be_written_is_named(tmp_path, cohort):
    (tmp_path / "run" / "log.txt").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"run could not be written .*log\.txt"):
        run(cohort, store=tmp_path / "run")
