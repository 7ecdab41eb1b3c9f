"""What is on disk: schema 4 as others read it, and schema 3 as numbaglm 0.1 wrote it (schema3.zarr).

schema3.zarr is of six maps on a 6 x 5 x 4 grid, standard normal (NumPy's seed 0), 0 in the first plane, NaN in one
voxel of the first map; `Cohort.create("schema3.zarr", maps, covariates=people, min_coverage=0.8)`, numbaglm 0.1.0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import zarr

from numbaglm import Cohort, permutation_test
from numbaglm.data.cohort import writer as writers
from numbaglm.data.cohort.layout import Header, open_group, read_parts
from numbaglm.data.cohort.presence import pack, unpack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.writer import CohortWriter
from numbaglm.data.storage.places import Place
from numbaglm.engine.permutation.workspace import on_disk
from numbaglm.errors import InputError, StoreError
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

FIRST_RELEASE = Path(__file__).with_name("schema3.zarr")
SPACE = Space.of(Geometry(np.arange(60).reshape(5, 4, 3) % 4 > 0, np.diag([2.0, 2, 2, 1])))
LAYERS = ("data", "variance", "gm")


@pytest.fixture
def maps(tmp_path):
    """Make the maps that schema3.zarr is of."""
    rng, affine = np.random.default_rng(0), np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = [-9, -6, -6]
    paths = []
    for number in range(6):
        values = rng.normal(size=(6, 5, 4)).astype(np.float32)
        values[0] = 0
        if number == 0:
            values[1, 0, 0] = np.nan
        paths.append(tmp_path / f"sub-{number + 1:02d}.nii.gz")
        nib.Nifti1Image(values, affine).to_filename(paths[-1])
    return paths


def test_a_cohort_of_the_first_release_opens_and_tests_as_it_did(tmp_path, maps):
    old = Cohort.open(FIRST_RELEASE)
    assert (old.store.layers, old.n_subjects, old.n_voxels, old.geometry.shape) == (("data",), 6, 100, (6, 5, 4))
    assert old.covariates["age"].tolist() == [20, 30, 25, 41, 33, 28]
    old.verify()
    assert np.argwhere(~old.store.present(0, 100)).tolist() == [[0, 0]]  # by the sign of its zero
    people = old.covariates.rename_axis("participant_id").reset_index()
    new = Cohort.create(tmp_path / "c.zarr", maps, covariates=people, min_coverage=0.8)
    np.testing.assert_array_equal(new.store.read(0, 100), old.store.read(0, 100))
    np.testing.assert_array_equal(new.store.present(0, 100), old.store.present(0, 100))
    options = {"n_perm": 50, "seed": 1, "cluster_forming_threshold": None}
    of_old, of_new = (permutation_test(cohort, "~ age", "age", **options) for cohort in (old, new))
    assert of_old.maps["t"].sum() == pytest.approx(-7.450418153537968, abs=1e-9)  # what 0.1 found
    for name, values in of_old.maps.items():
        np.testing.assert_array_equal(of_new.maps[name], values)
    np.testing.assert_array_equal(of_new.h0["max_t"], of_old.h0["max_t"])


def test_a_cohort_of_the_first_release_is_appended_to(tmp_path, maps):
    shutil.copytree(FIRST_RELEASE, tmp_path / "c.zarr")
    cohort = Cohort.open(tmp_path / "c.zarr")
    more = nib.load(maps[3]).get_fdata()
    more[1, 1, 1] = np.nan
    image = nib.Nifti1Image(more.astype(np.float32), nib.load(maps[3]).affine)
    cohort.append([image, nib.load(maps[4])], pd.DataFrame({"age": [50.0, 51.0]}), subjects=["sub-07", "sub-08"])
    again = Cohort.open(tmp_path / "c.zarr")
    assert again.n_subjects == 8
    missing = ~again.store.present(0, again.n_voxels)
    assert missing.sum(axis=1).tolist() == [1, 0, 0, 0, 0, 0, 1, 0]
    assert again.store.patterns.n == 3
    assert {"mask", "data"}.isdisjoint(path.name for path in (tmp_path / "c.zarr").iterdir())


@pytest.mark.parametrize("how", ["open", "create"])
def test_what_the_first_release_left_half_written_is_refused_with_what_to_do(tmp_path, maps, how):
    place = tmp_path / "c.zarr"
    shutil.copytree(FIRST_RELEASE, place)
    root = place / "zarr.json"
    root.write_text(root.read_text().replace('"complete"', '"writing"'))
    with pytest.raises(StoreError, match=r"begun by numbaglm 0\.1\.0.*overwrite=True"):
        Cohort.open(place) if how == "open" else Cohort.create(place, maps)
    assert Cohort.create(place, maps, overwrite=True).n_voxels == 99


def written(place, *, present=None, layers=LAYERS[:1], n=7):
    """Write a cohort of random rows; return it and the arrays."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"subject_label": [f"s{number}" for number in range(n)]})
    header = Header(SPACE, table, layers=layers, has_presence=present is not None)
    arrays = {name: rng.normal(size=(n, SPACE.n)).astype(np.float32) for name in layers}
    writer = CohortWriter.create(place, header)
    for start, stop in writer.blocks:
        mine = {name: array[start:stop] for name, array in arrays.items()}
        rows = mine.pop("data")
        writer.write(start, rows, None if present is None else pack(present[start:stop]), mine)
    return writer.complete(), arrays


@pytest.mark.parametrize("chunks", [(2, 7), (3, 16), (7, 45)])
def test_layers_and_presence_come_back(tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: chunks)
    present = np.random.default_rng(1).random((7, SPACE.n)) < 0.9
    made, arrays = written(tmp_path / "c.zarr", present=present, layers=LAYERS)
    memory, _ = written(None, present=present, layers=LAYERS)
    for store in (made, memory, CohortStore.open(tmp_path / "c.zarr")):
        assert store.layers == LAYERS
        assert store.fingerprint == made.fingerprint
        assert not store.all_present
        for name, array in arrays.items():
            np.testing.assert_array_equal(store.read(3, 20, name), array[:, 3:20])
            np.testing.assert_array_equal(store.read_subjects(2, 5, name), array[2:5])
        for start, stop in [(0, SPACE.n), (5, 6), (7, 24), (8, 16), (43, 45)]:
            np.testing.assert_array_equal(store.present(start, stop), present[:, start:stop])
        np.testing.assert_array_equal(unpack(store.presence_of(1, 4), SPACE.n), present[1:4])
        rebuilt = np.stack([store.patterns.present(number) for number in store.patterns.of], axis=1)
        np.testing.assert_array_equal(rebuilt, present)
    with pytest.raises(InputError, match=r"'layer': got 'thickness'.*data, variance, gm"):
        made.read(0, 5, "thickness")


def test_a_cohort_is_another_by_its_layers_and_by_what_is_missing(tmp_path):
    every = np.ones((7, SPACE.n), bool)
    some = every.copy()
    some[3, 4] = False
    plain, _ = written(None)
    assert written(None, present=every)[0].fingerprint == plain.fingerprint
    assert written(tmp_path / "c.zarr", present=every)[0].fingerprint == plain.fingerprint
    others = [
        plain,
        written(None, present=some)[0],
        written(None, layers=LAYERS)[0],
        written(None, layers=LAYERS[:2])[0],
    ]
    assert len({store.fingerprint for store in others}) == 4


@pytest.mark.parametrize("part", ["layers/gm/c/0/0", "presence/c/1/0"])
def test_damage_to_a_layer_or_to_presence_is_found(tmp_path, part):
    present = np.random.default_rng(1).random((7, SPACE.n)) < 0.9
    written(tmp_path / "c.zarr", present=present, layers=LAYERS)
    file = tmp_path / "c.zarr" / part
    data = bytearray(file.read_bytes())
    data[-6] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"the data of [34] of 7 subjects"):
        Cohort.open(tmp_path / "c.zarr").verify()


@pytest.mark.parametrize("damage", ["all_present", "layers", "patterns"])
def test_a_layout_that_does_not_belong_together_is_refused(tmp_path, damage):
    present = np.random.default_rng(1).random((7, SPACE.n)) < 0.9
    written(tmp_path / "c.zarr", present=present, layers=LAYERS)
    root = tmp_path / "c.zarr" / "zarr.json"
    if damage == "patterns":
        of = zarr.open_array(tmp_path / "c.zarr", path="pattern_of", mode="r+")
        of[3] = 1000
        with pytest.raises(StoreError, match="patterns of presence do not belong"):
            _ = CohortStore.open(tmp_path / "c.zarr").patterns
        return
    described = json.loads(root.read_text())
    described["attributes"][damage] = {"all_present": True, "layers": ["data", "gm", "variance"]}[damage]
    root.write_text(json.dumps(described))
    with pytest.raises(StoreError, match="damaged"):
        CohortStore.open(tmp_path / "c.zarr")


def test_a_cohort_in_memory_is_laid_where_workers_see_it_with_all_that_it_has(tmp_path):
    present = np.random.default_rng(1).random((7, SPACE.n)) < 0.9
    memory, arrays = written(None, present=present, layers=LAYERS)
    laid = on_disk(memory, Place.parse(tmp_path))
    assert (laid.fingerprint, laid.layers) == (memory.fingerprint, LAYERS)
    np.testing.assert_array_equal(laid.read(0, 9, "gm"), arrays["gm"][:, :9])


def test_a_cohort_that_was_appended_to_under_a_reader_changed_and_is_not_damaged(tmp_path, maps):
    cohort = Cohort.create(tmp_path / "c.zarr", maps[:4])
    reader = CohortStore.open(tmp_path / "c.zarr")
    cohort.append(maps[4:])
    with pytest.raises(StoreError, match="changed while it was in use"):
        reader.read(0, 5)
    assert Cohort.open(tmp_path / "c.zarr").n_subjects == 6


def test_half_written_layers_are_known_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "choose_chunks", lambda *_: (3, 16))
    store, arrays = written(tmp_path / "whole.zarr", layers=LAYERS)
    writer = CohortWriter.create(tmp_path / "c.zarr", store.header)
    writer.write(0, arrays["data"][:3], None, {name: arrays[name][:3] for name in LAYERS[1:]})
    again = CohortWriter.resume(tmp_path / "c.zarr")
    assert [again.is_stored(*block) for block in again.blocks] == [True, False, False]
    (tmp_path / "c.zarr" / "layers" / "gm" / "c" / "0" / "1").unlink()
    assert not again.is_stored(0, 3)


def test_a_space_of_a_later_version_is_refused_by_name(tmp_path):
    written(tmp_path / "c.zarr")
    root = tmp_path / "c.zarr" / "zarr.json"
    root.write_text(root.read_text().replace('"kind": "volume"', '"kind": "torus"'))
    with pytest.raises(StoreError, match=r"is a 'torus'.*Upgrade"):
        CohortStore.open(tmp_path / "c.zarr")


def test_xarray_finds_named_dimensions(tmp_path):
    xarray = pytest.importorskip("xarray")
    store, arrays = written(tmp_path / "c.zarr", present=np.ones((7, SPACE.n), bool), layers=LAYERS)
    group = Cohort(store).info()["zarr_group"]
    assert group == str(tmp_path / "c.zarr"), "a cohort that was appended to is a group within"
    with xarray.open_zarr(group, consolidated=False) as dataset:
        assert dataset["data"].dims == ("subject", "element")
        assert dataset.sizes["element"] == store.n_voxels
        np.testing.assert_array_equal(dataset["data"], arrays["data"])


def test_dimensions_have_names(tmp_path):
    written(tmp_path / "c.zarr", present=np.ones((7, SPACE.n), bool), layers=LAYERS)
    group = zarr.open_group(tmp_path / "c.zarr", mode="r")
    for path in ("data", "layers/gm", "presence", "patterns", "pattern_of", "hashes"):
        assert all(group[path].metadata.dimension_names), path
    header, arrays = read_parts(open_group(tmp_path / "c.zarr"))
    assert header.space.same(SPACE)
    assert arrays.presence.dtype == "|u1"
