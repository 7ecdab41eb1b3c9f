from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import array
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation.workspace import in_folder, in_memory, on_disk, temporary_place
from numbaglm.spaces.volume import Geometry


@dataclass
class Square:
    value: np.ndarray = field(metadata=array("i8", "n"))


def square(x):
    return Square(np.array([x * x]))


def run(work, numbers, function=square):
    arguments, weights = [(n,) for n in numbers], [1] * len(numbers)
    return work.run("x", function, arguments, label="Squaring", unit="number", weights=weights)


@pytest.fixture(params=["memory", "folder"])
def work(request, tmp_path):
    notes = []
    running = {"n_workers": 2, "note": notes.append}
    made = in_memory(**running) if request.param == "memory" else in_folder(Place.parse(tmp_path / "run"), **running)
    return made, notes


def test_what_has_a_record_is_not_done_again(work):
    work, notes = work
    keys = run(work, range(4))
    assert keys == [f"x/{n:05d}" for n in range(4)]
    assert [work.ledger.get(key, Square).value[0] for key in keys] == [0, 1, 4, 9]
    assert notes[0] == "Squaring: 4 numbers"
    assert notes[-1].startswith("Squaring: done in ")
    work.ledger.drop([keys[2]])
    done = []
    run(work, range(4), lambda n: (done.append(n), square(n + 10))[1])
    assert done == [2]
    assert [work.ledger.get(key, Square).value[0] for key in keys] == [0, 1, 144, 9]
    assert "75 % of it done before" in "".join(notes)


def test_a_task_that_fails_ends_the_call_and_leaves_no_record(work):
    work, _ = work

    def fail(n):
        raise ValueError(f"number {n}")

    with pytest.raises(ValueError, match="number 7"):
        run(work, [7], fail)
    assert work.ledger.done("x") == set()


def test_scratch_is_there_until_it_is_cleared(tmp_path):
    work = in_folder(Place.parse(tmp_path))
    maps = work.scratch("t", (2, 3), (2, 3), "<f4")
    maps.write(0, 0, np.ones((2, 3), "f4"))
    assert (tmp_path / "maps" / "t").is_dir()
    work.clear(["t", "not there"])
    assert not (tmp_path / "maps" / "t").exists()


def test_a_place_for_the_length_of_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    memory = CohortStore.from_array(np.ones((3, 8), np.float32), Geometry(np.ones((2, 2, 2), bool), np.eye(4)))
    with temporary_place(memory, client=None) as place:
        assert place.path.parent == tmp_path / "elsewhere"
        place.write_bytes("a", b"1")
    assert not place.path.exists()
    stored = on_disk(memory, Place.parse(tmp_path))
    with temporary_place(stored, client=None) as place:
        assert place.path.parent == tmp_path, "beside the cohort"
        place.write_bytes("a", b"1")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_cohort_is_laid_where_workers_see_it_once(tmp_path):
    def store(value):
        return CohortStore.from_array(np.full((3, 8), value, "f4"), Geometry(np.ones((2, 2, 2), bool), np.eye(4)))

    place = Place.parse(tmp_path)
    laid = on_disk(store(1), place)
    assert laid.fingerprint == store(1).fingerprint
    assert on_disk(laid, place) is laid
    before = (tmp_path / "cohort.zarr" / "zarr.json").stat().st_mtime_ns
    assert on_disk(store(1), place).fingerprint == laid.fingerprint
    assert (tmp_path / "cohort.zarr" / "zarr.json").stat().st_mtime_ns == before
    np.testing.assert_array_equal(on_disk(store(2), place).read(0, 8), 2)
