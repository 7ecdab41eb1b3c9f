"""Further maps of the same subjects, which are stored beside the maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
from numbaglm.engine.conversion import convert
from numbaglm.errors import GridError, InputError, OutputExistsError
from reference.maps import AFFINE, volumes, write_maps

N = 8
VALUES = volumes(N)
GM = np.abs(volumes(N, seed=5)) + np.float32(1)
VARIANCE = np.abs(volumes(N, seed=6)) + np.float32(2)
VARIANCE[3, 2, 2, 2] = np.nan
GM[1, 2, 2, 1] = np.inf


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (3, 32))


@pytest.fixture(params=["held", "draft", "memory"])
def make(request, monkeypatch, tmp_path):
    """Make a cohort by one of the ways."""
    if request.param == "draft":
        monkeypatch.setattr(convert, "_HELD_SHARE", 0)

    def made(maps, **options):
        if request.param == "memory":
            return Cohort.from_maps(maps, **options)
        return Cohort.create(tmp_path / "c.zarr", maps, **options)

    return made


@pytest.fixture
def files(tmp_path):
    """Write the maps and both layers, each in a folder of its own; gm as one 4D file."""
    (tmp_path / "gm").mkdir()
    nib.save(nib.Nifti1Image(np.moveaxis(GM, 0, -1), AFFINE), tmp_path / "gm" / "all.nii.gz")
    maps = write_maps(tmp_path / "maps", VALUES)
    return maps, {"variance": write_maps(tmp_path / "var", VARIANCE), "gm": tmp_path / "gm" / "all.nii.gz"}


@pytest.mark.parametrize("options", [{}, {"min_coverage": 0.8}, {"smoothing_fwhm": 5.0}])
def test_layers_are_stored_as_they_are_where_all_have_a_value(make, files, options):
    maps, layers = files
    cohort = make(maps, layers=layers, **options)
    lacking = ~(np.isfinite(GM) & np.isfinite(VARIANCE) & (VALUES != 0))
    inside = lacking.sum(axis=0) <= (1 if "min_coverage" in options else 0)
    np.testing.assert_array_equal(cohort.geometry.mask, inside)
    assert cohort.info()["layers"] == ["data", "variance", "gm"]
    present = cohort.store.present(0, cohort.n_voxels)
    np.testing.assert_array_equal(present, ~lacking[:, inside])
    for name, values in (("variance", VARIANCE), ("gm", GM)):
        expected = np.where(lacking, 0, values)[:, inside]
        np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels, name), expected)
    cohort.verify()
    if not options:
        np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), VALUES[:, inside])


def test_layers_are_appended(make, files):
    maps, layers = files
    whole = Cohort.from_maps(maps, layers=layers, min_coverage=0.8)
    gm = [nib.Nifti1Image(values, AFFINE) for values in GM]
    cohort = make(maps[:5], layers={"variance": layers["variance"][:5], "gm": gm[:5]}, min_coverage=0.8)
    cohort.append(maps[5:], layers={"gm": gm[5:], "variance": layers["variance"][5:]})
    assert cohort.fingerprint == whole.fingerprint
    with pytest.raises(InputError, match=r"'layers': got \['gm'\].*variance, gm"):
        cohort.append([gm[0]], subjects=["new"], layers={"gm": [gm[0]]})


def test_layers_are_matched_by_label_where_both_have_the_same(files):
    maps, layers = files
    expected = Cohort.from_maps(maps, layers={"variance": layers["variance"]})
    turned = Cohort.from_maps(maps, layers={"variance": layers["variance"][::-1]})
    assert turned.fingerprint == expected.fingerprint
    with pytest.raises(InputError, match=r"no map of sub-08 as 'variance'"):
        Cohort.from_maps(maps, layers={"variance": [*layers["variance"][:7], layers["gm"].parent / "sub-09.nii"]})


def test_layers_without_labels_are_refused_for_maps_that_were_sorted_by_theirs(files):
    maps, layers = files
    expected = Cohort.from_maps(maps, layers={"variance": layers["variance"]})
    names = [path.name[:6] for path in map(Path, maps)]
    table, variances = ({"subject_label": names, "effects_map_path": paths} for paths in (maps, layers["variance"]))
    turned = pd.DataFrame(table).iloc[::-1]
    found = Cohort.from_maps(turned, layers={"variance": pd.DataFrame(variances)})
    np.testing.assert_array_equal(
        found.store.read(0, found.n_voxels, "variance"), expected.store.read(0, expected.n_voxels, "variance")
    )
    with pytest.raises(InputError, match="maps by their order as 'gm', for maps that were sorted by their labels"):
        Cohort.from_maps(turned, layers={"gm": layers["gm"]})


def test_a_half_written_cohort_of_other_layers_is_not_gone_on_with(tmp_path, files, monkeypatch):
    maps, layers = files
    monkeypatch.setattr(convert, "_HELD_SHARE", 0)
    original = writer.CohortWriter.write

    def stop(self, start, *more):
        if start == 3:
            raise KeyboardInterrupt
        original(self, start, *more)

    with monkeypatch.context() as patch:
        patch.setattr(writer.CohortWriter, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            Cohort.create(tmp_path / "c.zarr", maps, layers=layers, n_workers=1)
    with pytest.raises(OutputExistsError, match=r"layers were \['variance', 'gm'\], now \['gm'\]"):
        Cohort.create(tmp_path / "c.zarr", maps, layers={"gm": layers["gm"]})
    gone_on = Cohort.create(tmp_path / "c.zarr", maps, layers=layers)
    assert gone_on.fingerprint == Cohort.from_maps(maps, layers=layers).fingerprint


@pytest.mark.parametrize(
    ("layers", "error", "words"),
    [
        (["a"], InputError, "'layers': got 'list'"),
        ({"../a": ["a"]}, InputError, "letters a to z, digits"),
        ({"data": ["a"]}, InputError, "the maps themselves"),
        ({"gm": volumes(N)[:3]}, InputError, "3 maps as 'gm'.*each of the 8 maps"),
        ({"gm": volumes(N)[:, 1:]}, GridError, "of the layer 'gm'.*different grids"),
    ],
)
def test_layers_that_can_not_be_used_are_refused(files, layers, error, words):
    if isinstance(layers, dict) and isinstance(layers.get("gm"), np.ndarray):
        layers = {"gm": [nib.Nifti1Image(values, AFFINE) for values in layers["gm"]]}
    with pytest.raises(error, match=words):
        Cohort.from_maps(files[0], layers=layers)


def test_layers_are_of_the_same_subjects_whatever_form_their_labels_have():
    def table(values, labels):
        return pd.DataFrame(values, index=labels, columns=["x", "y"])

    values = np.arange(16, dtype=np.float32).reshape(8, 2)
    maps = table(values, [f"sub-{k:02d}" for k in range(8)])
    cohort = Cohort.from_maps(maps, layers={"variance": table(values[::-1], [str(k) for k in range(7, -1, -1)])})
    np.testing.assert_array_equal(cohort.store.read(0, 2, "variance"), values)
    with pytest.raises(InputError, match="maps of sub-10, sub-11, sub-12 and 5 more as 'variance', for maps of sub-00"):
        Cohort.from_maps(maps, layers={"variance": table(values, [f"sub-{k}" for k in range(10, 18)])})
    with pytest.raises(InputError, match="maps of a, b, c and 5 more as 'variance', for maps of sub-00"):
        Cohort.from_maps(maps, layers={"variance": table(values, list("abcdefgh"))})
    with pytest.raises(InputError, match="no map of sub-00 as 'variance'"):
        Cohort.from_maps(maps, layers={"variance": table(values, [f"sub-{k:02d}" for k in range(1, 9)])})
