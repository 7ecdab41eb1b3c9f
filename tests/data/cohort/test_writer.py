from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from numbaglm.data.cohort import writer as writers
from numbaglm.data.cohort.layout import status
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.writer import CohortWriter
from numbaglm.errors import OutputError, StoreError
from reference.stores import array, header, write


def test_a_half_written_cohort_says_how_far_it_got(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (2, 16))
    writer = CohortWriter.create(tmp_path / "c.zarr", header())
    assert status(tmp_path / "c.zarr") == "writing"
    writer.write(2, array()[2:4])
    with pytest.raises(StoreError, match=r"2 of 9 subjects are stored.*same arguments"):
        CohortStore.open(tmp_path / "c.zarr")
    again = pickle.loads(pickle.dumps(writer))
    assert [again.is_stored(*block) for block in again.blocks] == [False, True, False, False, False]
    next((tmp_path / "c.zarr" / "data").glob("c/1/*")).unlink()
    assert not again.is_stored(2, 4)


def test_a_layout_that_fails_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        CohortWriter.create(tmp_path / "file" / "c.zarr", header())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers, "_lay_out", full)
    with pytest.raises(OutputError, match="No space left") as error:
        CohortWriter.create(tmp_path / "c.zarr", header())
    assert error.value.errno == 28
    assert not (tmp_path / "c.zarr").exists()


def test_a_layout_that_was_killed_is_no_obstacle(tmp_path):
    write(tmp_path / "c.zarr", array())
    root = tmp_path / "c.zarr" / "zarr.json"
    root.write_text(root.read_text().replace('"complete"', '"preparing"'))
    for part in ("data", "hashes", "space"):
        shutil.rmtree(tmp_path / "c.zarr" / part)
    assert CohortWriter.resume(tmp_path / "c.zarr") is None
    with pytest.raises(StoreError, match="half-written: 0 of 9"):
        CohortStore.open(tmp_path / "c.zarr")


def test_what_was_written_is_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (4, 16))
    rows = array()
    writer = CohortWriter.create(tmp_path / "c.zarr", header())
    assert writer.blocks == [(0, 4), (4, 8), (8, 9)]
    writer.write(4, rows[4:8])
    again = CohortWriter.resume(tmp_path / "c.zarr")
    assert [again.is_stored(*block) for block in again.blocks] == [False, True, False]
    np.testing.assert_array_equal(again.read_subjects(4, 8), rows[4:8])
    np.testing.assert_array_equal(again.stored_hashes(4, 8), writer.stored_hashes(4, 8))
    again.write(0, rows[:4])
    again.write(8, rows[8:])
    assert again.complete().fingerprint == write(tmp_path / "whole.zarr", rows).fingerprint


def test_a_survey_that_is_damaged_is_no_survey(tmp_path):
    draft = CohortWriter.create(tmp_path / "c.zarr", header(), is_draft=True)
    first = draft.blocks[0]
    draft.write(0, array()[slice(*first)])
    assert not draft.is_stored(*first), "its survey is not there"
    draft.write_survey(0, {"counts": np.arange(5)})
    assert draft.is_stored(*first)
    assert draft.read_survey(0)["counts"].tolist() == [0, 1, 2, 3, 4]
    file = tmp_path / "c.zarr" / "surveys" / "0"
    file.write_bytes(file.read_bytes()[:-5])
    assert not draft.is_stored(*first)
    with pytest.raises(StoreError, match="repeat the call"):
        draft.read_survey(0)


@pytest.mark.parametrize(("n_subjects", "n_voxels", "most"), [(1, 10, None), (1000, 200_000, None), (7, 10, 3)])
def test_blocks_of_subjects_cover_them_once(n_subjects, n_voxels, most):
    blocks = writers.subject_blocks(n_subjects, n_voxels, most)
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == n_subjects
    if most is not None:
        assert max(stop - start for start, stop in blocks) <= most
