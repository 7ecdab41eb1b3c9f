"""`numbaglm power` in a shell."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import numbaglm as ng
from numbaglm.faces.commands import commands


@pytest.fixture(scope="module")
def pilot(tmp_path_factory):
    """A folder with a stored cohort, and a result of it."""
    folder = tmp_path_factory.mktemp("pilot")
    made = ng.simulate_button_press(folder / "maps", n_subjects=12, voxel_size=10.0)
    cohort = ng.Cohort.create(folder / "cohort.zarr", made.maps)
    ng.permutation_test(cohort, n_perm=20, cluster_forming_threshold=None).save(folder / "results")
    return folder


def run(*arguments):
    return CliRunner().invoke(commands, ["power", *map(str, arguments)])


FEW = ("--n-cohorts", 10, "--n-perm", 99, "--threads", 1)


def test_it_tells_what_the_call_finds_and_writes_it_down(pilot):
    given = (pilot / "results", pilot / "cohort.zarr", "-n", "10,30", *FEW)
    told = json.loads(run(*given, "--effect", 0.7, "--json").stdout)
    cohort, result = ng.Cohort.open(pilot / "cohort.zarr"), ng.PermutationResult.load(pilot / "results")
    how = {"n_cohorts": 10, "n_perm": 99, "n_workers": 1}
    found = ng.power(result, [10, 30], cohort=cohort, effect=0.7, **how)
    assert [row["share"] for row in told["curve"]] == found.curve["share"].tolist()
    assert told["needed"] == found.needed()
    done = run(*given[: -len(FEW) - 1], 10, "-n", 30, *FEW, "--output", pilot / "power")
    assert done.exit_code == 0, done.stderr
    assert "10" in done.stdout
    assert "are in" in done.stdout
    assert (pilot / "power" / "power.tsv").is_file()
    again = run(*given, "--output", pilot / "power")
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr


def test_without_a_pilot_there_is_a_map_of_the_effect_or_a_number(tmp_path):
    inside = np.ones((5, 5, 5), np.uint8)
    paths = mask, d = tmp_path / "mask.nii", tmp_path / "d.nii"
    for path, values in zip(paths, (inside, np.where(inside, 0.8, 0.0)), strict=True):
        nib.save(nib.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1.0])), path)
    given = ("-n", "10,30", "--mask", mask, "--noise-fwhm", 8, *FEW, "--json")
    found = ng.power(d, [10, 30], mask=mask, noise_fwhm=8.0, n_cohorts=10, n_perm=99, n_workers=1)
    for effect in (d, 0.8):
        told = json.loads(run(effect, *given).stdout)
        assert [row["share"] for row in told["curve"]] == found.curve["share"].tolist()
    assert "needs --mask, the voxels to analyse, and --noise-fwhm" in run(d, "-n", 10).stderr
    assert "Name the cohort after the result of a pilot" in run(tmp_path, "-n", 10).stderr
    assert "map of Cohen's d alone" in run(d, *given, "--effect", 0.5).stderr


def test_what_is_typed_wrong_is_told(pilot, tmp_path):
    where = (pilot / "results", pilot / "cohort.zarr")
    assert "numbers of subjects with commas" in run(*where, "-n", "many").stderr
    assert "Invalid value for '--by'" in run(*where, "-n", 20, "--by", "extent").stderr
    assert "Invalid value for '--effect'" in run(*where, "-n", 20, "--effect", "1,2").stderr
    assert run(*where, "-n", 20, "--region", tmp_path / "none.nii").exit_code == 1
    made = ng.simulate_button_press(tmp_path / "maps", n_subjects=6, voxel_size=10.0)
    ng.Cohort.create(tmp_path / "other.zarr", made.maps)
    assert "the cohort that the pilot analysed" in run(pilot / "results", tmp_path / "other.zarr", "-n", 20).stderr
