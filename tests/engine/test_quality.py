from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import to_image
from numbaglm.engine import quality
from numbaglm.engine.quality import Quality, examine, voxel_blocks
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry
from reference.quality import look

FOLDER = Path(os.environ.get("NUMBAGLM_DATA", "absent")) / "wager2008"
SHAPE = (9, 10, 8)
LABELS = [f"s{number:02d}" for number in range(24)]


def geometry():
    affine = np.diag([-3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = [12.0, -15.0, -6.0]
    return Geometry(np.ones(SHAPE, bool), affine)


def data():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(24, int(np.prod(SHAPE)))) + 2 * rng.normal(size=int(np.prod(SHAPE)))
    Y += rng.permutation(np.linspace(-0.3, 0.3, 24))[:, None]  # even: none is far out by chance
    Y[3] *= -1
    Y[5] += 4
    Y[7] *= 8
    Y[9] = Y[11]
    Y[13, :60] = 0
    return Y.astype(np.float32)


REASONS = {
    "s03": "correlation",
    "s05": "mean",
    "s07": "sd",
    "s09": "same data as s11",
    "s11": "same data as s09",
    "s13": "correlation, missing",
}


@pytest.fixture
def store():
    return CohortStore.from_array(data(), geometry(), subjects=LABELS)


def test_what_stands_out_is_named_with_its_reason(store):
    table = Cohort(store).quality()
    assert list(table.index) == LABELS
    assert table.loc[table["outlier"], "reason"].to_dict() == REASONS
    assert table["n_missing_voxels"].isna().all()
    assert table.loc["s13", "n_empty_voxels"] == 60
    assert table.loc["s13", "missing"] == 60 / store.n_voxels


def test_numbers_are_those_of_all_data_at_once(store):
    table, expected = examine(store).table, look(data())
    names = {"mean": "mean", "sd": "sd", "min": "low", "max": "high", "correlation": "correlation"}
    for name, other in names.items():
        np.testing.assert_allclose(table[name], expected[other], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(table["n_empty_voxels"], expected["n_empty"])


def test_blocks_workers_and_disk_change_nothing(tmp_path, store, monkeypatch):
    images = [to_image(geometry(), row) for row in data()]
    cohort = Cohort.create(tmp_path / "c.zarr", images, mask=to_image(geometry(), np.ones(720)), subjects=LABELS)
    whole = examine(store)
    monkeypatch.setattr(quality, "_MOST_BYTES", 24 * 4 * 100)
    in_blocks = Cohort.open(tmp_path / "c.zarr")
    assert len(voxel_blocks(in_blocks.store, quality._MOST_BYTES)) > 5
    one, three = examine(in_blocks.store, n_workers=1), examine(cohort.store, n_workers=3)
    pd.testing.assert_frame_equal(one.table, three.table, check_exact=True)
    known = one.table.drop(columns="n_missing_voxels")
    pd.testing.assert_frame_equal(known, whole.table.drop(columns="n_missing_voxels"), rtol=1e-12)
    assert (one.table["n_missing_voxels"] == 0).all()
    np.testing.assert_allclose(one.carpet, whole.carpet, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("budget", [1, 1000, 4321, 10**9])
def test_blocks_hold_every_voxel_once_and_no_more_than_the_budget(store, budget):
    blocks = voxel_blocks(store, budget)
    assert np.concatenate([np.arange(*block) for block in blocks]).tolist() == list(range(store.n_voxels))
    assert max(stop - start for start, stop in blocks) * store.n_subjects * 4 <= max(budget, 4 * store.n_subjects)


def test_the_carpet_runs_from_the_lowest_voxels_to_the_highest(store, monkeypatch):
    monkeypatch.setattr(quality, "N_COLUMNS", SHAPE[2])
    Y = data()
    Y[20].reshape(SHAPE)[:, :, 6] += 50
    found = examine(CohortStore.from_array(Y, geometry(), subjects=LABELS))
    np.testing.assert_allclose(found.heights, -6 + 3.0 * np.arange(SHAPE[2]))
    assert np.unravel_index(found.carpet.argmax(), found.carpet.shape) == (20, 6)
    slabs = Y.reshape(24, *SHAPE).mean(axis=(1, 2), dtype=float)
    away = slabs - np.median(slabs, axis=0)
    np.testing.assert_allclose(found.carpet, away / (1.4826 * np.median(np.abs(away), axis=0)), rtol=1e-5, atol=1e-6)


def test_a_large_cohort_has_rows_of_several_subjects(store, monkeypatch):
    monkeypatch.setattr(quality, "MOST_ROWS", 5)
    found = examine(store)
    assert found.rows.tolist() == [0, 4, 9, 14, 19]
    assert found.carpet.shape == (5, quality.N_COLUMNS)
    assert len(found.table) == 24


def test_what_was_found_is_kept_with_the_cohort_until_it_changes(store):
    cohort = Cohort(store)
    first = cohort.examine()
    assert cohort.examine() is first
    table = cohort.quality()
    table.loc[:, "mean"] = 0.0
    assert (cohort.examine().table["mean"] != 0).all(), "a caller's table is its own"
    cohort.append([to_image(geometry(), store.read_subjects(0, 1)[0])])
    assert len(cohort.quality()) == 25


def test_a_limit_of_memory_that_is_too_small_is_refused_with_one_that_would_do(store):
    with pytest.raises(InputError, match=r"'50MB'\. Allowed: [0-9,]+ MB or more .*a voxel of 24 subjects with 2"):
        examine(store, memory_limit="50MB", n_workers=2)


def test_json_brings_it_back(store):
    found = examine(store)
    again = Quality.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False)))
    pd.testing.assert_frame_equal(again.table, found.table)
    np.testing.assert_allclose(again.carpet, np.clip(found.carpet, -7.9375, 7.9375), atol=1 / 32)
    np.testing.assert_array_equal(again.rows, found.rows)
    np.testing.assert_array_equal(again.heights, found.heights)


def test_missing_voxels_are_counted_when_maps_are_converted(tmp_path):
    Y = data()
    Y[:, :5] = np.nan  # in no map
    Y[2, 5:12] = np.nan
    Y[4, 10:14] = 0
    first = [to_image(geometry(), row) for row in Y[:12]]
    cohort = Cohort.create(tmp_path / "c.zarr", first, subjects=LABELS[:12])
    expected = {"s02": 7, "s04": 4}
    assert cohort.quality()["n_missing_voxels"].to_dict() == {label: expected.get(label, 0) for label in LABELS[:12]}
    assert list(cohort.covariates.columns) == []
    Y[15, 40:50] = np.nan
    cohort.append([to_image(geometry(), row) for row in Y[12:]], subjects=LABELS[12:])
    after = Cohort.open(tmp_path / "c.zarr").quality()["n_missing_voxels"]
    assert after["s15"] == 10
    assert after["s02"] == 7


def test_a_map_that_lacks_much_stands_out():
    Y = data()
    Y[2, 5:80] = np.nan
    table = Cohort.from_maps([to_image(geometry(), row) for row in Y], subjects=LABELS).quality()
    assert "missing" in table.loc["s02", "reason"]
    assert table.loc["s02", "missing"] == pytest.approx(75 / (640 + 75))  # the mask, and what this map lacks


@pytest.mark.real_data
@pytest.mark.skipif(not FOLDER.is_dir(), reason="NUMBAGLM_DATA names no folder with wager2008")
def test_the_maps_of_wager_that_stand_out():
    table = Cohort.from_maps(sorted(FOLDER.glob("*.nii.gz"))).quality()
    missing = dict.fromkeys(("sub-09", "sub-20", "sub-22", "sub-23"), "missing")
    assert table.loc[table["outlier"], "reason"].to_dict() == missing | {"sub-16": "mean, correlation"}
    assert table.loc["sub-20", "n_missing_voxels"] == 4916


def test_what_is_missing_does_not_count_as_0():
    present = np.ones((24, int(np.prod(SHAPE))), bool)
    present[2, :100] = False
    Y = data() + np.float32(50)
    gaps = CohortStore.from_array(np.where(present, Y, 0), geometry(), subjects=LABELS, present=present)
    there = CohortStore.from_array(Y[:, 100:], Geometry(np.ones((Y.shape[1] - 100, 1, 1), bool), np.eye(4)))
    np.testing.assert_allclose(examine(gaps).table["mean"], examine(there).table["mean"].to_numpy(), rtol=1e-6)
