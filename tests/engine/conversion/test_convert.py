"""The ways of a conversion: held in memory, or through a draft; killed and gone on; what is missing."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
from numbaglm.data.cohort.store import choose_chunks
from numbaglm.data.images import raw
from numbaglm.engine import memory
from numbaglm.engine.conversion import convert
from numbaglm.engine.conversion import tasks as blocks
from numbaglm.errors import GridError, ImageError, InputError, MaskError, OutputError, OutputExistsError, StoreError
from numbaglm.spaces.smoothing import smooth
from reference import killing
from reference.maps import AFFINE, SHAPE, volumes, write_maps

N = 10


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (3, 32))


@pytest.fixture(params=["held", "draft"])
def way(request, monkeypatch):
    """Hold the maps until all are read, or store a draft."""
    if request.param == "draft":
        monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    return request.param


def patchy(n=N, seed=0):
    """Maps that lack something: voxel [1, 1, 1] in one, [2, 2, 2] in two, [2, 3, 1] in five of ten."""
    values = volumes(n, seed)
    values[3, 1, 1, 1] = np.nan
    values[[4, 6], 2, 2, 2] = 0, np.inf
    values[::2, 2, 3, 1] = 0
    return values


def mask_image(inside):
    return nib.Nifti1Image(inside.astype(np.uint8), AFFINE)


OPTIONS = {
    "intersection": {},
    "coverage": {"min_coverage": 0.8},
    "given": {"mask": True},
    "given, coverage": {"mask": True, "min_coverage": 0.9},
    "smoothed": {"smoothing_fwhm": 5},
    "smoothed, coverage": {"smoothing_fwhm": 5, "min_coverage": 0.8},
}


def expected_data(values, mask=None, min_coverage=1.0, smoothing_fwhm=None):
    """Mask and data as the documentation has them."""
    present = np.isfinite(values) if mask is not None else np.isfinite(values) & (values != 0)
    inside = (present.mean(axis=0) >= min_coverage - 1e-9) & (volumes(1)[0] != 0)
    smoothed = np.stack([smooth(volume, smoothing_fwhm, AFFINE) for volume in values])
    return inside, np.where(present, smoothed, 0)[:, inside], ~present[:, inside]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", "4D"])
@pytest.mark.parametrize("case", OPTIONS)
def test_both_ways_store_what_is_documented(tmp_path, way, case, suffix):
    values = patchy()
    if suffix == "4D":
        maps = tmp_path / "all.nii.gz"
        nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), maps)
    else:
        maps = write_maps(tmp_path / "maps", values, suffix=suffix)
    options = dict(OPTIONS[case])
    if "mask" in options:
        options["mask"] = mask_image(volumes(1)[0] != 0)
    cohort = Cohort.create(tmp_path / "c.zarr", maps, **options)
    inside, data, missing = expected_data(values, **options)
    np.testing.assert_array_equal(cohort.geometry.mask, inside)
    stored = cohort.store.read(0, cohort.n_voxels)
    np.testing.assert_array_equal(stored, data)
    np.testing.assert_array_equal(~cohort.store.present(0, cohort.n_voxels), missing)
    assert cohort.store.all_present == (not missing.any())
    cohort.verify()
    assert cohort.fingerprint == Cohort.from_maps(maps, **options).fingerprint
    assert cohort.info()["min_coverage"] == options.get("min_coverage", 1)
    assert any("are taken as 0" in text for text in cohort.report) == missing.any()
    parts = {file.name for file in (tmp_path / "c.zarr").iterdir()}
    assert "surveys" not in parts
    assert not ("data" in parts and any(part.startswith("appended") for part in parts))


def test_what_a_draft_becomes(tmp_path, monkeypatch):
    monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    values = volumes(N)
    paths = write_maps(tmp_path / "maps", values)
    copies = []
    original = blocks.keep_block
    monkeypatch.setattr(
        "numbaglm.engine.conversion.convert.keep_block", lambda *args: copies.append(1) or original(*args)
    )
    whole = Cohort.create(tmp_path / "c.zarr", paths, mask=mask_image(values[0] != 0))
    assert not copies  # all voxels of the mask stay: the draft is the cohort
    assert (tmp_path / "c.zarr" / "data").exists()
    assert whole.store.subjects["n_missing_voxels"].tolist() == [0] * N
    Cohort.create(tmp_path / "d.zarr", write_maps(tmp_path / "patchy", patchy()))
    assert copies


@pytest.mark.parametrize("hold", [True, False])
def test_each_map_is_decompressed_once(tmp_path, monkeypatch, hold):
    if not hold:
        monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    paths = write_maps(tmp_path / "maps", patchy())
    read = []
    original = raw.content
    monkeypatch.setattr(
        "numbaglm.data.images.reading.content", lambda path, end: read.append(path) or original(path, end)
    )
    Cohort.create(tmp_path / "c.zarr", paths)
    assert sorted(read) == sorted([paths[0], *paths])  # the first tells where all others must have values
    read.clear()
    Cohort.create(tmp_path / "d.zarr", paths, mask=mask_image(volumes(1)[0] != 0))
    assert sorted(read) == paths


@pytest.mark.parametrize("hold", [True, False])
def test_a_memory_limit_changes_blocks_and_threads_alone(tmp_path, monkeypatch, hold):
    monkeypatch.setattr(writer, "choose_chunks", choose_chunks)
    monkeypatch.setattr(memory, "held_before", lambda client: 0)
    monkeypatch.setattr(convert, "_HELD_SHARE", 1.0 if hold else 0.0)
    monkeypatch.setattr(convert, "n_cores", lambda: 8)
    values = patchy()
    paths = write_maps(tmp_path / "maps", values)
    expected = Cohort.create(tmp_path / "all.zarr", paths, min_coverage=0.8)
    beside, a_row = convert._A_VOXEL * values[0].size, 4 * convert._COPIES * np.count_nonzero(values[0])
    threads = []
    original = convert.run_tasks

    def noting(*arguments, **options):
        threads.append(options["n_workers"])
        return original(*arguments, **options)

    monkeypatch.setattr(convert, "run_tasks", noting)
    tight = Cohort.create(tmp_path / "c.zarr", paths, min_coverage=0.8, memory_limit=2 * (beside + 2 * a_row))
    assert tight.fingerprint == expected.fingerprint
    assert tight.store.chunks[0] <= 2 < expected.store.chunks[0]
    assert threads[-1] == 1
    with pytest.raises(InputError, match=r"'memory_limit': got 2000.*one of these maps at a time takes"):
        Cohort.create(tmp_path / "d.zarr", paths, memory_limit=2000)
    assert not (tmp_path / "d.zarr").exists()


def test_a_4d_file_is_read_in_turn(tmp_path, way, monkeypatch):
    values = volumes(40)
    nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), tmp_path / "all.nii.gz")
    monkeypatch.setattr(gzip.GzipFile, "rewind", lambda self: pytest.fail("went back"))
    cohort = Cohort.create(tmp_path / "c.zarr", tmp_path / "all.nii.gz", n_workers=4)
    inside = values[0] != 0
    np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), values[:, inside])
    assert threading.active_count() < 50


def test_append_with_missing_values_equals_creating_all_at_once(tmp_path, way):
    values = patchy()
    paths = write_maps(tmp_path / "maps", values)
    for options in ({"min_coverage": 0.5}, {"min_coverage": 0.5, "smoothing_fwhm": 5}):
        whole = Cohort.from_maps(paths, **options)
        cohort = Cohort.create(tmp_path / "c.zarr", paths[:6], overwrite=True, **options).append(paths[6:])
        assert cohort.fingerprint == whole.fingerprint
        assert Cohort.from_maps(paths[:6], **options).append(paths[6:]).fingerprint == whole.fingerprint


def test_a_mean_with_missing_values_is_tested_as_if_by_those_that_have_them():
    values = volumes(8, seed=1) + np.float32(0.3) * (volumes(1)[0] != 0)
    values[[2, 5], 2, 2, 2] = np.nan
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    cohort = Cohort.from_maps(images, min_coverage=0.7)
    filled = permutation_test(cohort, n_perm=10_000, tfce=False)
    others = permutation_test([images[i] for i in (0, 1, 3, 4, 6, 7)], n_perm=10_000)
    voxel = cohort.geometry.mask[: 2 + 1].sum() - cohort.geometry.mask[2].sum()
    at = int(np.flatnonzero((cohort.geometry.ijk == [2, 2, 2]).all(axis=1))[0])
    assert voxel <= at
    assert filled.maps["p_unc"][at] == others.maps["p_unc"][at]  # both of all flips: 256, and 64
    assert abs(filled.maps["t"][at]) < abs(others.maps["t"][at]) * 1.1
    stored = cohort.store.read(at, at + 1)[:, 0]
    assert (stored[[2, 5]] == 0).all()
    present = cohort.store.present(at, at + 1)[:, 0]
    assert np.flatnonzero(~present).tolist() == [2, 5]


def test_smoothed_values_that_were_missing_stay_missing():
    values = patchy()
    cohort = Cohort.from_maps([nib.Nifti1Image(v, AFFINE) for v in values], smoothing_fwhm=6, min_coverage=0.9)
    assert cohort.to_nifti(3).get_fdata()[1, 1, 1] == 0
    assert (cohort.to_nifti(4).get_fdata()[1, 1, 1] != 0).all()


@pytest.mark.parametrize("zero_is_missing", [False, True])
def test_what_is_missing_has_no_part_in_smoothing(zero_is_missing):
    """Each value becomes the weighted mean of those around it that the map has, as a matrix of weights tells."""
    values = np.random.default_rng(0).normal(2, 1, (4, *SHAPE)).astype(np.float32)
    values[1, 1:3, 2, 2], values[2, 3, 1, 1:4] = np.nan, 0 if zero_is_missing else np.inf
    options = {"smoothing_fwhm": 7, "min_subjects": 2, "zero_is_missing": zero_is_missing}
    cohort = Cohort.from_maps([nib.Nifti1Image(v, AFFINE) for v in values], **options)
    spread = np.stack([smooth(one.reshape(SHAPE), 7, AFFINE) for one in np.eye(values[0].size, dtype="f4")], axis=-1)
    spread = spread.reshape(values[0].size, -1)
    for k, volume in enumerate(values):
        there = np.isfinite(volume) & (volume != 0)
        weights = spread * there.ravel()
        expected = (weights @ np.where(there, volume, 0).ravel() / weights.sum(axis=1)).reshape(SHAPE)
        np.testing.assert_allclose(cohort.to_nifti(k).get_fdata()[there], expected[there], rtol=2e-5)
    even = [nib.Nifti1Image(np.where(np.isnan(v), v, np.float32(3 + k)), AFFINE) for k, v in enumerate(values)]
    stored = Cohort.from_maps(even, **options | {"zero_is_missing": False})
    np.testing.assert_allclose(stored.to_nifti(1).get_fdata()[np.isfinite(values[1])], 4, rtol=1e-5)


def shifted(values, by):
    """The same field on a grid that is shifted by a part of a voxel along x."""
    affine = AFFINE.copy()
    affine[0, 3] += by * AFFINE[0, 0]
    return nib.Nifti1Image(values.astype(np.float32), affine)


def ramp(x0=0.0):
    """x in voxels: linear interpolation has it right."""
    return np.broadcast_to(np.arange(SHAPE[0])[:, None, None] + 1.0 + x0, SHAPE).copy()


def test_resampling_is_linear_and_only_when_asked(tmp_path, way):
    fixed = [nib.Nifti1Image((ramp() * scale).astype(np.float32), AFFINE) for scale in (1, 2)]
    maps = [*fixed, shifted(ramp(0.25), 0.25)]
    with pytest.raises(GridError, match=r"resample=True"):
        Cohort.create(tmp_path / "c.zarr", maps)
    cohort = Cohort.create(tmp_path / "c.zarr", maps, resample=True)
    assert cohort.report[0] == (
        "1 of 3 maps lie on another grid and are resampled, linearly, to that of image 1 (in memory)."
    )
    # Beyond its first plane the third map has no value; half of it is far enough outside to count.
    inside = cohort.geometry.mask
    assert inside[1:].all()
    np.testing.assert_allclose(cohort.store.read(0, cohort.n_voxels)[2], ramp()[inside], atol=0.26)
    np.testing.assert_allclose(cohort.to_nifti(2).get_fdata()[1:], ramp()[1:], rtol=1e-6)
    for number in (0, 1):
        np.testing.assert_array_equal(cohort.to_nifti(number).get_fdata()[inside], fixed[number].get_fdata()[inside])


def test_resampling_goes_to_the_mask_and_to_the_cohort():
    coarse = np.diag([-6.0, 6, 8, 1]) + np.array([[0, 0, 0, 9], [0, 0, 0, -12], [0, 0, 0, -8], [0, 0, 0, 0]])
    mask = nib.Nifti1Image(np.ones((3, 3, 2), np.uint8), coarse)
    maps = [nib.Nifti1Image((ramp() * scale).astype(np.float32), AFFINE) for scale in (1, 2, 3)]
    with pytest.raises(GridError):
        Cohort.from_maps(maps, mask=mask)
    cohort = Cohort.from_maps(maps, mask=mask, resample=True)
    assert cohort.geometry.shape == (3, 3, 2)
    np.testing.assert_allclose(cohort.to_nifti(0).get_fdata(), ramp()[::2, ::3, ::4][:3, :3, :2], rtol=1e-6)
    assert "3 of 3 maps" in cohort.report[0]
    with pytest.raises(GridError, match="resample=True"):
        cohort.append(maps[:1], subjects=["new"])
    cohort.append(maps[:1], subjects=["new"], resample=True)
    np.testing.assert_array_equal(cohort.store.read_subjects(3, 4), cohort.store.read_subjects(0, 1))
    assert any(text.startswith("Appended maps: 1 of 1 maps lie on another grid") for text in cohort.report)


def test_what_is_missing_does_not_bleed_when_resampled():
    values = ramp()
    values[3, 3, 2], values[4, 4, 3] = np.nan, 0
    maps = [nib.Nifti1Image((ramp() * scale).astype(np.float32), AFFINE) for scale in (1, 2)]
    cohort = Cohort.from_maps([*maps, shifted(values, 0.0)], resample=True)
    assert cohort.geometry.mask.sum() == values.size - 2  # the same grid: nothing is resampled
    values = ramp(0.25)
    values[3, 3, 2], values[4, 4, 3] = np.nan, 0
    cohort = Cohort.from_maps([*maps, shifted(values, 0.25)], resample=True)
    third = cohort.to_nifti(2).get_fdata()
    outside = ~cohort.geometry.mask
    assert outside[3, 3, 2]
    assert outside[4, 4, 3]
    # Beside a value that is missing stands what the other neighbour has.
    np.testing.assert_allclose(third[4, 3, 2], ramp(0.25)[4, 3, 2], rtol=1e-6)
    np.testing.assert_allclose(third[5, 4, 3], ramp(0.25)[5, 4, 3], rtol=1e-6)


def test_a_damaged_file_in_a_draft_can_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    values = patchy()
    paths = write_maps(tmp_path / "maps", values)
    good = paths[7].read_bytes()
    paths[7].write_bytes(good[:-30])
    with pytest.raises(ImageError, match=r"sub-08_con.*truncated"):
        Cohort.create(tmp_path / "c.zarr", paths, n_workers=1)
    with pytest.raises(StoreError, match="of 10 subjects are stored"):
        Cohort.open(tmp_path / "c.zarr")
    paths[7].write_bytes(good)
    os.utime(paths[7], (1, 1))
    assert Cohort.create(tmp_path / "c.zarr", paths).fingerprint == Cohort.from_maps(paths).fingerprint


def test_a_changed_file_in_a_draft_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    paths = write_maps(tmp_path / "maps", patchy())
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "read_survey", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(tmp_path / "c.zarr", paths)
    os.utime(paths[7], (1, 1))
    with pytest.raises(OutputExistsError, match=r"the file of .*sub-08.* changed"):
        Cohort.create(tmp_path / "c.zarr", paths)
    for options, words in (
        ({"min_coverage": 0.9}, "min_coverage was 1, now 0.9"),
        ({"smoothing_fwhm": 3}, "smoothing"),
    ):
        with pytest.raises(OutputExistsError, match=words):
            Cohort.create(tmp_path / "c.zarr", paths, **options)


@pytest.mark.parametrize("lost", ["gone", "torn", "empty", "flipped"])
def test_a_block_whose_survey_is_lost_is_stored_again(tmp_path, monkeypatch, lost):
    monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    paths = write_maps(tmp_path / "maps", patchy())
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "read_survey", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(tmp_path / "c.zarr", paths)
    file = tmp_path / "c.zarr" / "surveys" / "3"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink() if lost == "gone" else file.write_bytes({"torn": data[:50], "empty": b"", "flipped": data}[lost])
    assert Cohort.create(tmp_path / "c.zarr", paths).fingerprint == Cohort.from_maps(paths).fingerprint


@pytest.mark.parametrize("is_draft", [True, False])
def test_a_block_whose_hashes_are_damaged_is_stored_again(tmp_path, monkeypatch, is_draft):
    monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0 if is_draft else 0.25)
    paths = write_maps(tmp_path / "maps", patchy())
    with monkeypatch.context() as patch:
        name = "read_survey" if is_draft else "complete"
        patch.setattr(writer.CohortWriter, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(tmp_path / "c.zarr", paths)
    file = tmp_path / "c.zarr" / "hashes" / "c" / "1" / "0"
    file.write_bytes(file.read_bytes()[:30])
    cohort = Cohort.create(tmp_path / "c.zarr", paths)
    assert cohort.fingerprint == Cohort.from_maps(paths).fingerprint
    cohort.verify()


@pytest.mark.parametrize("scenario", ["create", "create-draft", "append", "append-draft"])
def test_killed_at_any_write_it_goes_on(tmp_path, scenario):
    paths = write_maps(tmp_path / "maps", patchy())
    environment = {**os.environ, "PYTHONPATH": str(Path(blocks.__file__).parents[3])}
    command = [sys.executable, killing.__file__, str(tmp_path), scenario, "5", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    final = Cohort.from_maps(paths, smoothing_fwhm=4).fingerprint
    assert found["n_writes"] > 60
    assert len(found["ends"]) == 5
    for at, ended, between, after in found["ends"]:
        assert ended == -9
        assert between in (found["old"], final), at  # refused, or as it was, or whole
        assert after == final, at


LIMITED = """
import resource, signal, sys
from numbaglm.cohort import Cohort
from numbaglm.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    Cohort.create(sys.argv[1], sys.argv[2:])
except OutputError as error:
    print(error)
"""


def test_a_write_that_the_system_cuts_short(tmp_path):
    noise = np.random.default_rng(0).normal(size=(N, 12, 12, 12)).astype(np.float32)
    paths = write_maps(tmp_path / "maps", noise)
    environment = {**os.environ, "PYTHONPATH": str(Path(blocks.__file__).parents[3])}
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "c.zarr"), *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "c.zarr" in done.stdout
    assert "could not be written" in done.stdout
    assert "File too large" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with pytest.raises(StoreError, match="half-written: 0 of 10"):
        Cohort.open(tmp_path / "c.zarr")
    assert Cohort.create(tmp_path / "c.zarr", paths).fingerprint == Cohort.from_maps(paths).fingerprint


def test_a_first_map_that_holds_nothing_is_named(tmp_path, way):
    values = volumes(N)
    values[0] = np.nan
    with pytest.raises(MaskError, match="sub-01"):
        Cohort.create(tmp_path / "out" / "c.zarr", write_maps(tmp_path / "maps", values))
    assert not (tmp_path / "out").exists()


def test_coverage_that_is_no_share(tmp_path):
    paths = write_maps(tmp_path / "maps", volumes(3))
    with pytest.raises(InputError, match="min_coverage"):
        Cohort.create(tmp_path / "c.zarr", paths, min_coverage=95)
    table = pd.DataFrame({"age": [1, 2, 3]})
    with pytest.raises(OutputError):
        Cohort.create(paths[0] / "c.zarr", paths, covariates=table, min_coverage=0.95)


def test_what_is_missing_stays_missing_and_coverage_wins(tmp_path, caplog):
    values = volumes(10)
    values[0, 2, 2, 2], values[1, 2, 3, 2] = 0, np.nan
    images = [nib.Nifti1Image(one, AFFINE) for one in values]
    cohort = Cohort.create(tmp_path / "c.zarr", images, min_subjects=8)
    assert (cohort.store.header.keeps_missing, cohort.store.header.min_coverage) == (True, 0.8)
    assert (~cohort.store.present(0, cohort.n_voxels)).sum() == 2
    assert "2 values" in cohort.report[-1]
    assert "missing='element'" in cohort.report[-1]
    zeros = Cohort.from_maps(images, min_subjects=8, zero_is_missing=False)
    assert (~zeros.store.present(0, zeros.n_voxels)).sum() == 1
    filled = Cohort.from_maps(images, min_subjects=8, min_coverage=0.8)
    assert not filled.store.header.keeps_missing
    assert "min_subjects= is left aside" in caplog.text
    grown = cohort.append([nib.Nifti1Image(values[0] + 1, AFFINE)], subjects=["new"])
    assert grown.store.header.keeps_missing
    assert (~grown.store.present(0, grown.n_voxels)).sum() == 2
    with pytest.raises(InputError, match="zero_is_missing"):
        Cohort.from_maps(images, zero_is_missing="no")


def test_int16_maps_have_the_voxels_that_they_had_as_floats(tmp_path):
    """nibabel's scale has no 0: the background was analysed, 1,000 voxels for 64."""
    rng, brain = np.random.default_rng(0), np.zeros((10, 10, 10), bool)
    brain[3:7, 3:7, 3:7] = True
    paths = []
    for k in range(6):
        one = nib.Nifti1Image(np.where(brain, rng.normal(0.5, 1, brain.shape), 0.0), AFFINE)
        one.set_data_dtype(np.int16)
        paths.append(tmp_path / f"sub-{k}.nii.gz")
        nib.save(one, paths[-1])
    cohort = Cohort.from_maps(paths)
    np.testing.assert_array_equal(cohort.geometry.mask, brain)
    assert "6 maps are stored as whole numbers" in cohort.report[-1]
