from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import zarr

from numbaglm.data.cohort import chunks
from numbaglm.data.cohort import writer as writers
from numbaglm.data.cohort.layout import status
from numbaglm.data.cohort.store import CohortStore, choose_chunks
from numbaglm.data.cohort.writer import remove
from numbaglm.errors import InputError, MissingFileError, OutputExistsError, StoreError
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE
from reference.stores import GEOMETRY, array, header, write


def test_what_is_written_comes_back(tmp_path):
    Y = array()
    head = header(smoothing_fwhm=(4.0, 4.0, 6.0), mask_rule="given", report=("one voxel is left out",))
    made = write(tmp_path / "c.zarr", Y, head)
    store = CohortStore.open(tmp_path / "c.zarr")
    pd.testing.assert_frame_equal(made.subjects, store.subjects)
    assert (made.fingerprint, made.location, made.chunks) == (store.fingerprint, store.location, store.chunks)
    assert (made.smoothing_fwhm, made.report) == (store.smoothing_fwhm, store.report)
    np.testing.assert_array_equal(made.hashes, store.hashes)
    assert (store.n_subjects, store.n_voxels) == Y.shape
    np.testing.assert_array_equal(store.read(0, store.n_voxels), Y)
    part = store.read(7, 30)
    np.testing.assert_array_equal(part, Y[:, 7:30])
    assert part.flags.c_contiguous
    assert part.dtype == np.float32
    np.testing.assert_array_equal(store.read_subjects(3, 6), Y[3:6])
    np.testing.assert_array_equal(store.geometry.mask, GEOMETRY.mask)
    np.testing.assert_array_equal(store.geometry.affine, AFFINE)
    pd.testing.assert_frame_equal(store.subjects, head.subjects, check_dtype=False)
    assert store.smoothing_fwhm == (4.0, 4.0, 6.0)
    assert store.report == ("one voxel is left out",)
    assert "9 subjects x 60 voxels" in repr(store)


def test_layout_is_plain_zarr_v3(tmp_path):
    write(tmp_path / "c.zarr", array())
    root = json.loads((tmp_path / "c.zarr" / "zarr.json").read_text())
    data = json.loads((tmp_path / "c.zarr" / "data" / "zarr.json").read_text())
    assert root["zarr_format"] == 3
    assert root["attributes"]["schema"] == "numbaglm.cohort"
    assert root["attributes"]["schema_version"] == 4
    assert root["attributes"]["status"] == "complete"
    assert [codec["name"] for codec in data["codecs"]] == ["bytes", "blosc", "crc32c"]


@pytest.mark.parametrize("chunks", [(1, 7), (4, 16), (9, 60)])
def test_zarr_reads_what_we_write(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: chunks)
    write(tmp_path / "c.zarr", array())
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "c.zarr", path="data", mode="r")[:], array())


@pytest.mark.parametrize("chunks", [(1, 7), (2, 60), (4, 16), (9, 60)])
def test_chunks_change_neither_data_nor_fingerprint(tmp_path, monkeypatch, chunks):
    Y = array()
    memory = CohortStore.from_array(Y, GEOMETRY)
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: chunks)
    store = write(tmp_path / "c.zarr", Y)
    assert store.chunks == chunks
    assert store.fingerprint == memory.fingerprint
    for start, stop in [(0, 60), (5, 6), (13, 49), (59, 60)]:
        np.testing.assert_array_equal(store.read(start, stop), memory.read(start, stop))


def test_fingerprint_tells_data_mask_and_affine_apart():
    Y = array()
    changed = Y.copy()
    changed[3, 4] = np.nextafter(changed[3, 4], 9)
    mirrored = Geometry(GEOMETRY.mask[::-1], AFFINE)
    moved = Geometry(GEOMETRY.mask, AFFINE + np.diag([1e-3, 0, 0], 1))
    shifted = np.zeros_like(GEOMETRY.mask)
    shifted[:-1] = GEOMETRY.mask[1:]
    cohorts = [
        (Y, GEOMETRY),
        (changed, GEOMETRY),
        (Y[::-1], GEOMETRY),
        (Y, moved),
        (Y, Geometry(shifted, AFFINE)),
    ]
    assert len({CohortStore.from_array(*cohort).fingerprint for cohort in cohorts}) == len(cohorts)
    assert CohortStore.from_array(Y, mirrored).fingerprint == CohortStore.from_array(Y, GEOMETRY).fingerprint


def test_from_array_checks_and_does_not_copy():
    Y = array()
    store = CohortStore.from_array(Y, GEOMETRY, subjects=list("abcdefghi"))
    assert np.shares_memory(store.data, Y)
    assert not store.data.flags.writeable
    assert store.subjects["subject_label"].tolist() == list("abcdefghi")
    for wrong in (Y[:, :-1], Y[0], np.where(Y > 1, np.nan, Y)):
        with pytest.raises(InputError, match="'Y'"):
            CohortStore.from_array(wrong, GEOMETRY)
    with pytest.raises(InputError, match="2 labels"):
        CohortStore.from_array(Y, GEOMETRY, subjects=["a", "b"])
    with pytest.raises(InputError, match="start < stop <= 60"):
        store.read(50, 61)


def test_stores_travel_by_location(tmp_path):
    Y = array()
    store = write(tmp_path / "c.zarr", Y)
    packed = pickle.dumps(store)
    assert len(packed) < 500
    np.testing.assert_array_equal(pickle.loads(packed).read(3, 9), Y[:, 3:9])
    memory = CohortStore.from_array(Y, GEOMETRY)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(memory)).read(3, 9), Y[:, 3:9])
    again = pickle.loads(packed)
    assert again is pickle.loads(packed), "a worker opens it once"
    assert pickle.dumps(again) == packed
    assert again.fingerprint == store.fingerprint
    remove(tmp_path / "c.zarr")
    with pytest.raises(MissingFileError, match=r"c\.zarr is gone"):
        pickle.loads(packed)
    write(tmp_path / "c.zarr", array(seed=1))
    with pytest.raises(StoreError, match=r"changed while it was in use, or moved\. Open it anew \(Cohort\.open"):
        again.read(3, 9)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("gone", "gone"),
        ("flipped", "not what was stored"),
        ("cut", "not what was stored"),
        ("empty", "not what was stored"),
        ("of another array", "of another array"),
    ],
)
def test_damaged_chunks_are_not_read(tmp_path, monkeypatch, damage, words):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (4, 16))
    store = write(tmp_path / "c.zarr", array())
    other = tmp_path / "d.zarr"
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (1, 16))
    write(other, array())
    chunk = tmp_path / "c.zarr" / "data" / "c" / "1" / "2"
    whole = chunk.read_bytes()
    if damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(
            {
                "flipped": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
                "cut": whole[:-9],
                "empty": b"",
                "of another array": (other / "data" / "c" / "0" / "0").read_bytes(),
            }[damage]
        )
    for start, stop in [(0, 60), (32, 48), (40, 41), (47, 50)]:
        with pytest.raises(StoreError, match=r"chunk c/1/2 .*\(subjects s4 to s7, voxels 32 to 47\) is " + words):
            store.read(start, stop)
    with pytest.raises(StoreError, match=words):
        store.read_subjects(7, 9)
    assert store.read(0, 32).shape == (9, 32)
    assert store.read(48, 60).shape == (9, 12)


@pytest.mark.parametrize("current", [5, "../c.zarr", "a/b", None])
def test_a_current_part_that_leads_elsewhere_is_refused(tmp_path, current):
    write(tmp_path / "c.zarr", array())
    root = tmp_path / "c.zarr" / "zarr.json"
    told = json.loads(root.read_text())
    told["attributes"]["current"] = current
    root.write_text(json.dumps(told))
    with pytest.raises(StoreError, match="is damaged: its current part is called"):
        CohortStore.open(tmp_path / "c.zarr")


def test_chunks_that_changed_places_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (4, 16))
    store = write(tmp_path / "c.zarr", array())
    one, other = (tmp_path / "c.zarr" / "data" / "c" / name for name in ("0/1", "1/1"))
    texts = one.read_bytes(), other.read_bytes()
    other.write_bytes(texts[0])
    one.write_bytes(texts[1])
    for name, start in [("c/0/1", 0), ("c/1/1", 4)]:
        with pytest.raises(StoreError, match=rf"chunk {name} .* belongs at another place"):
            store.read_subjects(start, start + 1)


@pytest.mark.parametrize("lost", ["space/0/mask/c/0/0/0", "hashes/c/0/0", "subjects/zarr.json", "data/zarr.json"])
def test_a_cohort_that_lost_a_part_does_not_open(tmp_path, lost):
    write(tmp_path / "c.zarr", array())
    (tmp_path / "c.zarr" / lost).unlink()
    with pytest.raises(StoreError, match="damaged"):
        CohortStore.open(tmp_path / "c.zarr")


def test_what_is_no_cohort_is_refused_and_left_alone(tmp_path):
    with pytest.raises(MissingFileError, match="no cohort"):
        CohortStore.open(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    assert status(tmp_path / "folder") == "nothing"
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    assert status(tmp_path / "folder") == "other"
    with pytest.raises(StoreError, match="not a numbaglm cohort"):
        CohortStore.open(tmp_path / "folder")
    with pytest.raises(OutputExistsError, match="left alone"):
        remove(tmp_path / "folder")
    assert (tmp_path / "folder" / "thesis.txt").exists()
    write(tmp_path / "c.zarr", array())
    root = tmp_path / "c.zarr" / "zarr.json"
    text = root.read_text()
    for version, advice in ((99, "Upgrade"), (2, "create it again"), ("null", "create it again")):
        root.write_text(text.replace('"schema_version": 4', f'"schema_version": {version}'))
        with pytest.raises(StoreError, match=rf"schema version {'None' if version == 'null' else version} .*{advice}"):
            CohortStore.open(tmp_path / "c.zarr")
    root.write_text(text.replace("numbaglm.cohort", "other.thing"))
    with pytest.raises(StoreError, match="not a numbaglm cohort"):
        CohortStore.open(tmp_path / "c.zarr")


@pytest.mark.parametrize("n_subjects", [2, 30, 1000, 40_000])
@pytest.mark.parametrize("n_voxels", [1, 230_000])
def test_chunks_are_neither_tiny_nor_huge(n_subjects, n_voxels):
    rows, columns = choose_chunks(n_subjects, n_voxels)
    assert 1 <= rows <= n_subjects
    assert 1 <= columns <= n_voxels
    assert rows * columns * 4 <= 2**24
    if n_subjects * n_voxels > 1e8:
        assert rows * columns * 4 >= 0.9 * 2**21
        assert columns % TILE == 0


def test_checksums_need_no_compiled_code(tmp_path, monkeypatch):
    """A processor or a Python without a wheel of google-crc32c has it in Python, which takes bytes in a row alone."""
    from google_crc32c import python

    monkeypatch.setattr(chunks.google_crc32c, "value", python.value)
    monkeypatch.setattr(chunks.google_crc32c, "extend", python.extend)
    assert chunks.checksum(b"123456789") == (0xE3069283).to_bytes(4, "little")
    store = write(tmp_path / "c.zarr", array())
    np.testing.assert_array_equal(CohortStore.open(tmp_path / "c.zarr").read(0, 60), store.read(0, 60))
