"""Subjects that are missing in an input, through PALM (-imiss -mcar): the statistic is that of those who are there.

PALM's p are of shufflings that whatever image stands for a missing subject takes part in: these are left out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import numbaglm as ng
from numbaglm.faces.commands import commands
from reference.kept_arrays import kept_arrays

CASE = Path(__file__).parent / "golden2" / "m2_missing"


def tested(number, filler):
    image, mask = nib.load(CASE / f"data_m{number}.nii.gz"), nib.load(CASE / "mask.nii.gz")
    values = image.get_fdata()
    values[..., np.loadtxt(CASE / f"imiss_m{number}.csv") != 0] = filler
    maps = nib.Nifti1Image(values.astype(np.float32), image.affine)
    cohort = ng.Cohort.from_maps(maps, mask=mask, min_subjects=2)
    design, contrast = (np.loadtxt(CASE / name, delimiter=",") for name in ("design.csv", "contrasts.csv"))
    options = {"two_sided": False, "cluster_forming_threshold": None}
    return ng.permutation_test(cohort, design, contrast, missing="element", **options)


@pytest.mark.parametrize("number", [1, 2])
def test_t_is_palms(number):
    found = tested(number, np.nan).maps
    np.testing.assert_allclose(found["t"], kept_arrays(CASE / "palm.npz")[f"imiss_mcar/vox_tstat_m{number}"], rtol=1e-9)
    again = tested(number, np.inf).maps
    for name in ("t", "p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(again[name], found[name])


def test_the_command_of_palm_tests_who_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "-m mask.nii.gz -n 0 -mcar -d design.csv -t contrasts.csv -quiet -savedof -o x"
    for file in CASE.iterdir():
        shutil.copy(file, tmp_path)
    inputs = "-i data_m1.nii.gz -imiss imiss_m1.csv -i data_m2.nii.gz -imiss imiss_m2.csv"
    outcome = CliRunner().invoke(commands, ["palm", *inputs.split(), *words.split()])
    assert outcome.exit_code == 0, outcome.stderr
    mask = nib.load("mask.nii.gz").get_fdata() > 0
    for number in (1, 2):
        found = nib.load(f"x_vox_tstat_m{number}.nii.gz").get_fdata()[mask]
        palms = kept_arrays(CASE / "palm.npz")[f"imiss_mcar/vox_tstat_m{number}"]
        np.testing.assert_allclose(found, palms, rtol=2e-6, atol=2e-6)
        ours = tested(number, np.nan).maps["p_unc"]
        np.testing.assert_allclose(nib.load(f"x_vox_tstat_uncp_m{number}.nii.gz").get_fdata()[mask], ours, rtol=1e-6)
        assert Path(f"x_vox_tstat_m{number}.dof").read_text() == "3\n"
