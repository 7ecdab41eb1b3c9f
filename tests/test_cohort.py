from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm import cohort as cohorts
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import store, writer
from numbaglm.engine.conversion import tasks as blocks
from numbaglm.errors import (
    GridError,
    ImageError,
    InputError,
    MaskError,
    MissingFileError,
    OutputError,
    OutputExistsError,
    StoreError,
)
from numbaglm.spaces.smoothing import smooth
from reference.maps import AFFINE, SHAPE, volumes, write_maps


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (2, 16))


def mask_image(inside):
    return nib.Nifti1Image(inside.astype(np.uint8), AFFINE)


def test_maps_become_a_cohort_on_disk_and_in_memory(tmp_path):
    values = volumes(7)
    paths = write_maps(tmp_path / "maps", values)
    made = Cohort.create(tmp_path / "c.zarr", paths)
    inside = (values != 0).all(axis=0)
    for cohort in (made, Cohort.open(tmp_path / "c.zarr"), Cohort.from_maps(paths)):
        assert cohort.subjects == [f"sub-{number:02d}" for number in range(1, 8)]
        np.testing.assert_array_equal(cohort.geometry.mask, inside)
        np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), values[:, inside])
        assert cohort.fingerprint == made.fingerprint
        cohort.verify()
    np.testing.assert_array_equal(made.to_nifti("sub-03").get_fdata(), values[2])
    np.testing.assert_array_equal(made.to_nifti(-1).get_fdata(), values[6])
    with pytest.raises(InputError, match="'subject'"):
        made.to_nifti("sub-99")
    with pytest.raises(InputError, match="'subject'"):
        made.to_nifti(7)
    assert made.store.subjects["source"].tolist() == [str(path) for path in paths]
    assert made.info()["n_voxels"] == inside.sum()
    assert "7 subjects x 60 voxels of a 6 x 7 x 5 grid" in repr(made)
    np.testing.assert_array_equal(made.mask_img.get_fdata() > 0, inside)


@pytest.mark.parametrize("chunks", [(1, 60), (3, 16), (7, 5)])
@pytest.mark.parametrize("hold", [True, False])
def test_blocks_change_nothing(tmp_path, monkeypatch, chunks, hold):
    paths = write_maps(tmp_path / "maps", volumes(7))
    whole = Cohort.from_maps(paths, smoothing_fwhm=5)
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: chunks)
    if not hold:
        monkeypatch.setattr("numbaglm.engine.conversion.convert._HELD_SHARE", 0)
    cohort = Cohort.create(tmp_path / "c.zarr", paths, smoothing_fwhm=5)
    assert cohort.store.chunks == chunks
    assert cohort.fingerprint == whole.fingerprint


def test_the_mask_rule_without_a_mask(caplog):
    values = volumes(4)
    values[1, 1, 1, 1], values[2, 1, 1, 2] = np.nan, np.inf  # absent in one map
    values[3, 2, 2, 2] = 0
    values[:, 3, 3, 3] = 4.5  # constant
    values[:, 0, 0, 0] = np.nan  # outside, as the zeros of the border
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    with caplog.at_level(logging.INFO, "numbaglm"):
        cohort = Cohort.from_maps(images)
    inside = volumes(4)[0] != 0
    inside[1, 1, 1] = inside[1, 1, 2] = inside[2, 2, 2] = inside[3, 3, 3] = False
    np.testing.assert_array_equal(cohort.geometry.mask, inside)
    assert cohort.report == (
        "154 of 210 grid voxels are left out: 150 NaN, infinite or 0 in every map, 2 NaN or infinite in at "
        "least one map, not in all, 1 exactly 0 in at least one map, not in all, 1 the same value in every "
        "map (most of them in subject-002: 1).",
    )
    assert caplog.messages == list(cohort.report)


def test_the_mask_rule_with_a_mask():
    values = volumes(4)
    inside = values[0] != 0
    inside[0, 0, 0] = True  # all 0
    values[3, 2, 2, 2] = 0  # data
    values[1, 1, 1, 1] = np.nan
    values[:, 3, 3, 3] = 4.5
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    cohort = Cohort.from_maps(images, mask=mask_image(inside))
    expected = inside.copy()
    expected[0, 0, 0] = expected[1, 1, 1] = expected[3, 3, 3] = False
    np.testing.assert_array_equal(cohort.geometry.mask, expected)
    assert cohort.report[0].startswith("3 of 61 mask voxels are left out: 1 NaN or infinite in at least one map")
    assert "1 exactly 0 in every map, 1 the same value in every map" in cohort.report[0]
    np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), values[:, expected])


def test_a_map_that_costs_much_is_warned_of(caplog):
    values = volumes(5)
    values[3, 1:3] = np.nan
    Cohort.from_maps([nib.Nifti1Image(volume, AFFINE) for volume in values])
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("subject-004 alone costs 30 voxels (50% of those that the other maps share)")


def test_smoothing_comes_after_the_mask_is_judged(tmp_path):
    values = volumes(3)
    values[1, 2, 2, 2] = np.nan
    cohort = Cohort.create(tmp_path / "c.zarr", write_maps(tmp_path, values), smoothing_fwhm=(6, 6, 9))
    inside = volumes(3)[0] != 0
    inside[2, 2, 2] = False
    np.testing.assert_array_equal(cohort.geometry.mask, inside)
    expected = [smooth(volume, (6.0, 6.0, 9.0), AFFINE)[inside] for volume in values]
    np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), expected)
    assert Cohort.open(tmp_path / "c.zarr").store.smoothing_fwhm == (6.0, 6.0, 9.0)


def spoil(paths, kind):
    """Break the fourth of some maps; what create raises and says then."""
    path = paths[3]
    values = volumes(1)[0]
    if kind == "missing":
        path.unlink()
        return MissingFileError, "sub-04_con.*does not exist"
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return ImageError, "sub-04_con.*truncated"
    if kind == "not NIfTI":
        path.write_bytes(b"0123456789" * 99)
        return ImageError, "sub-04_con.*not gzip"
    if kind == "4D":
        nib.save(nib.Nifti1Image(np.stack([values, values], -1), AFFINE), path)
        return ImageError, "sub-04_con.*2 volumes"
    if kind == "shape":
        nib.save(nib.Nifti1Image(values[1:], AFFINE), path)
        return GridError, r"sub-04_con.*\(5, 7, 5\).*sub-01_con.*\(6, 7, 5\)"
    if kind == "affine":
        nib.save(nib.Nifti1Image(values, AFFINE + np.diag([0, 0, 2.5], 1)), path)
        return GridError, r"sub-04_con.*sub-01_con.*2\.5 mm"
    if kind == "all NaN":
        nib.save(nib.Nifti1Image(values * np.nan, AFFINE), path)
        return MaskError, r"60 NaN or infinite.*most of them in sub-04: 60"
    for path in paths:
        nib.save(nib.Nifti1Image(values, AFFINE), path)
    return MaskError, "60 the same value in every map"


@pytest.mark.parametrize("kind", ["missing", "truncated", "not NIfTI", "4D", "shape", "affine", "all NaN", "constant"])
def test_bad_maps_leave_nothing_behind(tmp_path, kind):
    paths = write_maps(tmp_path / "maps", volumes(6))
    error, words = spoil(paths, kind)
    with pytest.raises(error, match=words):
        Cohort.create(tmp_path / "out" / "c.zarr", paths)
    assert [file.name for file in tmp_path.iterdir()] == ["maps"]


def test_masks_that_do_not_fit(tmp_path):
    paths = write_maps(tmp_path, volumes(3))
    with pytest.raises(MaskError, match="holds no voxel"):
        Cohort.from_maps(paths, mask=mask_image(np.zeros(SHAPE, bool)))
    with pytest.raises(GridError, match=r"the mask has shape \(6, 7, 5\), but .*|sub-01"):
        Cohort.from_maps(paths, mask=nib.Nifti1Image(np.ones((6, 7, 4), np.uint8), AFFINE))
    outside = volumes(1)[0] == 0
    with pytest.raises(MaskError, match="150 exactly 0 in every map"):
        Cohort.from_maps(paths, mask=mask_image(outside))


def test_a_place_that_is_taken_or_closed(tmp_path):
    paths = write_maps(tmp_path / "maps", volumes(4))
    first = Cohort.create(tmp_path / "c.zarr", paths)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        Cohort.create(tmp_path / "c.zarr", paths[:3])
    with pytest.raises(MissingFileError):  # and the old cohort survives a bad overwrite
        Cohort.create(tmp_path / "c.zarr", [*paths, tmp_path / "none.nii"], overwrite=True)
    assert Cohort.open(tmp_path / "c.zarr").fingerprint == first.fingerprint
    assert Cohort.create(tmp_path / "c.zarr", paths[:3], overwrite=True).n_subjects == 3
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not a numbaglm cohort"):
            Cohort.create(tmp_path / "maps", paths, overwrite=overwrite)
    assert len(list((tmp_path / "maps").iterdir())) == 4
    with pytest.raises(OutputError, match="not a folder that may be written"):
        Cohort.create(paths[0] / "c.zarr", paths)


def failing_write(after, error):
    """A `CohortWriter.write` that fails once ``after`` blocks are stored."""
    original, done = writer.CohortWriter.write, []

    def write(self, start, rows, *more):
        if len(done) >= after:
            with self.place.writing():
                raise error
        done.append(start)
        original(self, start, rows, *more)

    return write


@pytest.mark.usefixtures("small_blocks")
def test_a_full_disk_stops_and_the_same_call_goes_on(tmp_path, monkeypatch):
    paths = write_maps(tmp_path / "maps", volumes(10))
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "write", failing_write(3, OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OutputError, match=r"c\.zarr could not be written.*No space left"):
            Cohort.create(tmp_path / "c.zarr", paths, n_workers=1)
    with pytest.raises(StoreError, match="6 of 10 subjects"):
        Cohort.open(tmp_path / "c.zarr")
    read = []
    original = blocks.read_raw
    monkeypatch.setattr(blocks, "read_raw", lambda sources, *rest: read.extend(sources) or original(sources, *rest))
    cohort = Cohort.create(tmp_path / "c.zarr", paths, n_workers=1)
    assert len(read) == 4  # the other six are not read again
    assert cohort.fingerprint == Cohort.from_maps(paths).fingerprint


@pytest.mark.usefixtures("small_blocks")
def test_resuming_with_other_arguments_is_refused(tmp_path, monkeypatch):
    paths = write_maps(tmp_path / "maps", volumes(6))
    table = pd.DataFrame({"age": np.arange(6.0)})
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "write", failing_write(1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(tmp_path / "c.zarr", paths, covariates=table, smoothing_fwhm=4)
    same = {"covariates": table, "smoothing_fwhm": 4}
    others = [
        (paths, {**same, "smoothing_fwhm": 8}, "smoothing_fwhm was 4.0, now 8.0"),
        (paths, {**same, "mask": mask_image(volumes(1)[0] != 0)}, "mask is another"),
        (paths[:5], {**same, "covariates": table[:5]}, "6 maps, now 5"),
        ([*paths[:4], paths[5], paths[4]], same, "subject_label of map 5 was sub-05, now sub-06"),
        (paths, {**same, "covariates": table + 1}, "age of map 1 was 0.0, now 1.0"),
        (paths, {**same, "covariates": None}, "covariates were"),
    ]
    for maps, options, difference in others:
        with pytest.raises(OutputExistsError, match=difference):
            Cohort.create(tmp_path / "c.zarr", maps, **options)
    os.utime(paths[2], (1, 1))
    with pytest.raises(OutputExistsError, match=r"the file of .*sub-03_con.* changed"):
        Cohort.create(tmp_path / "c.zarr", paths, **same)
    assert Cohort.create(tmp_path / "c.zarr", paths[:5], overwrite=True).n_subjects == 5


KILLED = """
import sys, time
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
writer.choose_chunks = lambda *_: (2, 16)
original = writer.CohortWriter.write
def slow(self, start, rows, *more):
    original(self, start, rows, *more)
    print("stored", start, flush=True)
    time.sleep(0.2)
writer.CohortWriter.write = slow
Cohort.create(sys.argv[1], sys.argv[2:], smoothing_fwhm=5, n_workers=1)
"""


@pytest.mark.usefixtures("small_blocks")
def test_killed_and_resumed_is_bit_identical(tmp_path):
    paths = write_maps(tmp_path / "maps", volumes(20))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "c.zarr"), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(Path(cohorts.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        for _ in range(3):
            assert process.stdout.readline().startswith(b"stored")
        process.send_signal(signal.SIGKILL)
    with pytest.raises(StoreError, match="of 20 subjects are stored"):
        Cohort.open(tmp_path / "c.zarr")
    resumed = Cohort.create(tmp_path / "c.zarr", paths, smoothing_fwhm=5)
    straight = Cohort.create(tmp_path / "d.zarr", paths, smoothing_fwhm=5)
    assert resumed.fingerprint == straight.fingerprint
    for file in (tmp_path / "d.zarr" / "data").rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / "c.zarr" / file.relative_to(tmp_path / "d.zarr")).read_bytes()


@pytest.mark.usefixtures("small_blocks")
def test_damaged_blocks_are_stored_again_on_resume(tmp_path, monkeypatch):
    paths = write_maps(tmp_path / "maps", volumes(6))
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "complete", failing_write(0, None))
        with pytest.raises(TypeError):
            Cohort.create(tmp_path / "c.zarr", paths)
    (tmp_path / "c.zarr" / "data" / "c" / "1" / "0").write_bytes(b"torn")
    assert Cohort.create(tmp_path / "c.zarr", paths).fingerprint == Cohort.from_maps(paths).fingerprint


@pytest.mark.parametrize("on_disk", [True, False])
def test_append_equals_creating_all_at_once(tmp_path, on_disk):
    values = volumes(9)
    values[7, 2, 2, 2] = np.nan  # the mask shrinks
    values[8, 3, 3, 3] = 0
    paths = write_maps(tmp_path / "maps", values)
    table = pd.DataFrame({"participant_id": [f"sub-{n:02d}" for n in range(1, 10)], "age": np.arange(9.0)})
    whole = Cohort.from_maps(paths, smoothing_fwhm=4, covariates=table)
    options = {"smoothing_fwhm": 4, "covariates": table}
    cohort = (
        Cohort.create(tmp_path / "c.zarr", paths[:5], **options) if on_disk else Cohort.from_maps(paths[:5], **options)
    )
    assert cohort.append(paths[5:], covariates=table) is cohort
    if on_disk:
        assert sorted(file.name for file in tmp_path.iterdir()) == ["c.zarr", "maps"]
        cohort = Cohort.open(tmp_path / "c.zarr")
    assert cohort.fingerprint == whole.fingerprint
    pd.testing.assert_frame_equal(cohort.covariates, whole.covariates)
    assert any(text.startswith("Appended maps: 2 of 60 mask voxels") for text in cohort.report)
    with pytest.raises(InputError, match=r"sub-03.*already in the cohort"):
        cohort.append(paths[2:3], covariates=table)
    with pytest.raises(InputError, match=r"the cohort's columns \['age'\]"):
        cohort.append(write_maps(tmp_path / "more", values[:1]), subjects=["new"])


def test_a_cohort_that_is_added_to_while_it_is_opened(tmp_path, monkeypatch):
    """What it was before is deleted then, at any moment."""
    maps = write_maps(tmp_path / "maps", volumes(7))
    expected = Cohort.from_maps(maps).fingerprint
    for number, name in enumerate(("read_parts", "read_hashes")):
        path = tmp_path / f"{number}.zarr"
        Cohort.create(path, maps[:4])
        Cohort.open(path).append(maps[4:6])
        one, other = Cohort.open(path), getattr(store, name)

        def slowly(*arguments, one=one, other=other):
            monkeypatch.undo()
            one.append(maps[6:])
            return other(*arguments)

        monkeypatch.setattr(store, name, slowly)
        assert Cohort.open(path).fingerprint == expected


def test_an_append_that_fails_leaves_the_cohort_as_it_was(tmp_path, monkeypatch):
    paths = write_maps(tmp_path / "maps", volumes(6))
    cohort = Cohort.create(tmp_path / "c.zarr", paths[:4])
    before = cohort.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "write", failing_write(0, OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OutputError, match="No space"):
            cohort.append(paths[4:])
    assert Cohort.open(tmp_path / "c.zarr").fingerprint == before == cohort.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.zarr", "maps"]


def test_verify_names_the_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (2, 60))
    cohort = Cohort.create(tmp_path / "c.zarr", write_maps(tmp_path / "maps", volumes(6)))
    cohort.verify()
    chunk = tmp_path / "c.zarr" / "data" / "c" / "1" / "0"
    chunk.write_bytes((tmp_path / "c.zarr" / "data" / "c" / "0" / "0").read_bytes())  # sound, but of others
    with pytest.raises(StoreError, match=r"2 of 6 subjects.*\(sub-03, sub-04\)"):
        cohort.verify()
    chunk.unlink()
    with pytest.raises(StoreError, match=r"\(sub-03, sub-04\)"):
        cohort.verify()


def test_covariates_are_matched_by_label_or_order(tmp_path):
    paths = write_maps(tmp_path / "maps", volumes(3))
    table = pd.DataFrame(
        {
            "participant_id": ["sub-03", "sub-09", "sub-01", "sub-02"],
            "age": [33.0, 99, 11, np.nan],
            "sex": ["f", "m", "m", "f"],
        }
    )
    table.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    renamed = table.rename(columns={"participant_id": "who"})
    indexed = table.set_index("participant_id")
    for form in (table, tmp_path / "participants.tsv", renamed, indexed):
        cohort = Cohort.create(tmp_path / "c.zarr", paths, covariates=form, overwrite=True)
        for made in (cohort.covariates, Cohort.open(tmp_path / "c.zarr").covariates):
            assert made.index.tolist() == ["sub-01", "sub-02", "sub-03"]
            np.testing.assert_array_equal(made["age"], [11, np.nan, 33])
            assert made["sex"].tolist() == ["m", "f", "f"]
    assert "1 subject(s) without a map are not used: sub-09" in cohort.report[0]
    by_order = Cohort.from_maps(paths, covariates=pd.DataFrame({"age": [1, 2, 3]}))
    assert by_order.covariates["age"].tolist() == [1, 2, 3]
    assert list(Cohort.from_maps(paths).covariates.columns) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"covariates": pd.DataFrame({"participant_id": ["sub-01", "x"], "age": [1, 2]})},
            "no row for sub-02, sub-03",
        ),
        ({"covariates": pd.DataFrame({"age": [1, 2]})}, "2 rows"),
        ({"covariates": pd.DataFrame({"id": ["sub-01"] * 2, "age": [1, 2]})}, "more than one row"),
        ({"covariates": pd.DataFrame({"source": [1, 2, 3]})}, "Rename it"),
        ({"covariates": 3}, "'covariates'"),
        ({"covariates": "table.xlsx"}, "table.xlsx"),
        ({"covariates": f"{'x' * 300}.tsv"}, "a file that can be opened .*too long"),
        ({"subjects": ["a", "b"]}, "2 labels"),
        ({"subjects": ["a", "b", "a"]}, "a more than once"),
        ({"subjects": "abc"}, "list of 3 labels"),
        ({"smoothing_fwhm": -2}, "smoothing_fwhm"),
    ],
)
def test_refused_tables_and_labels(tmp_path, options, words):
    paths = write_maps(tmp_path / "maps", volumes(3))
    with pytest.raises((InputError, MissingFileError), match=words):
        Cohort.create(tmp_path / "c.zarr", paths, **options)
    assert not (tmp_path / "c.zarr").exists()


def test_a_frame_of_maps_is_sorted(tmp_path):
    paths = write_maps(tmp_path, volumes(3))
    frame = pd.DataFrame(
        {"subject_label": ["c", "a", "b"], "map_name": "m", "effects_map_path": [str(p) for p in paths]}
    )
    cohort = Cohort.from_maps(frame, covariates=pd.DataFrame({"subject_label": list("abc"), "age": [1, 2, 3]}))
    assert cohort.subjects == ["a", "b", "c"]
    assert cohort.covariates["age"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(cohort.to_nifti("c").get_fdata(), volumes(3)[0])
    with pytest.raises(InputError, match="one map_name"):
        Cohort.from_maps(pd.concat([frame, frame]))
    with pytest.raises(InputError, match="'subjects'"):
        Cohort.from_maps(frame, subjects=list("xyz"))


@pytest.mark.real_data
def test_real_maps_with_nan(tmp_path):
    folder = os.environ.get("NUMBAGLM_DATA")
    if not folder:
        pytest.skip("NUMBAGLM_DATA names no folder")
    paths = sorted((Path(folder) / "wager2008").glob("*.nii.gz"))
    cohort = Cohort.create(tmp_path / "c.zarr", paths, covariates=Path(folder) / "wager2008" / "covariates.tsv")
    assert (cohort.n_subjects, cohort.n_voxels) == (30, 75_919)
    assert "5,673 of 81,592 grid voxels are left out" in cohort.report[0]
    assert list(cohort.covariates.columns) == ["rvlpfc", "reappraisal_success"]
    cohort.verify()
