"""`numbaglm beyond` in a shell."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import numbaglm as ng
from numbaglm.faces.commands import commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A stored cohort, a result of it, and an atlas of two regions."""
    folder = tmp_path_factory.mktemp("beyond")
    made = ng.simulate_button_press(folder / "maps", n_subjects=14, voxel_size=10.0)
    cohort = ng.Cohort.create(folder / "cohort.zarr", made.maps, smoothing_fwhm=12.0)
    result = ng.permutation_test(cohort, n_perm=60)
    result.save(folder / "results")
    labels = result.geometry.unmask(1 + (np.arange(result.space.n) % 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(labels, result.geometry.affine), folder / "atlas.nii.gz")
    inside = result.geometry.unmask((result.maps["z"] > 3).astype(float)).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, result.geometry.affine), folder / "mask.nii.gz")
    return folder


def run(*arguments):
    return CliRunner().invoke(commands, ["beyond", *map(str, arguments)])


def test_discoveries_need_the_result_alone(folder):
    given = (folder / "results", "--region", folder / "atlas.nii.gz", "--region", folder / "mask.nii.gz", "--tdp", 0.5)
    done = run(*given, "--level", 0.9)
    assert done.exit_code == 0, done.stderr
    assert "With 90% the bounds of all regions and clusters hold at once." in done.stdout
    told = json.loads(run(*given, "--json").stdout)
    result = ng.PermutationResult.load(folder / "results")
    expected = result.true_discoveries(folder / "atlas.nii.gz")["n_true"].tolist()
    expected.append(result.true_discoveries(result.maps["z"] > 3).n_true)
    assert [row["n_true"] for row in told["regions"]] == expected
    assert expected[-1] > 0
    assert [row["label"] for row in told["regions"]] == [1, 2, 1]
    found = result.discovery_map(0.5).clusters
    assert [row["n_true"] for row in told["discoveries"]] == found["n_true"].tolist()


def test_sequential_p_are_those_of_the_call(folder):
    done = run(
        folder / "results", "--sequential-p", "voxel", "--sequential-p", "mass", "--output", folder / "sequential"
    )
    assert done.exit_code == 0, done.stderr
    result = ng.PermutationResult.load(folder / "results")
    for kind in ("voxel", "mass"):
        p = result.sequential_p(kind)
        assert f"by {kind}. They hold at any level" in done.stdout
        assert f"{(p <= 0.05).sum():,} voxels have one of 0.05 or less" in done.stdout
        kept = nib.load(folder / "sequential" / f"p_sequential_{kind}.nii.gz").get_fdata()
        np.testing.assert_allclose(kept[result.geometry.mask], p, rtol=1e-6)
        assert kept[~result.geometry.mask].min() == 1


def test_sizes_are_told_with_what_they_promise_and_written_as_maps_pictures_and_a_report(folder):
    target = folder / "sizes"
    sizes = ("--intervals", "--absent", 2.0, "--confidence-set", 0.5, "--of", "cohens_d")
    given = (folder / "results", folder / "cohort.zarr", *sizes, "--n-flips", 100, "--threads", 1, "--tdp", 0.5)
    done = run(*given, "--output", target)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("in large samples") == 3
    result, cohort = ng.PermutationResult.load(folder / "results"), ng.Cohort.open(folder / "cohort.zarr")
    how = {"of": "cohens_d", "cohort": cohort, "n_flips": 100}
    every = result.interval(0.95, simultaneous=True, **how)
    shown = {
        "cohens_d_at_least": every.lower,
        "cohens_d_at_most": every.upper,
        "absent_2": every.within(2.0),
        "confidence_set_0.5": result.confidence_set(0.5, **how).shades,
        "discoveries": result.discovery_map(0.5).labels,
    }
    for name, values in shown.items():
        kept = nib.load(target / f"{name}.nii.gz").get_fdata()[result.geometry.mask]
        np.testing.assert_allclose(kept, values, rtol=1e-6, atol=1e-6)
    assert {path.name for path in target.glob("*.png")} == {"intervals.png", "absent_2.png", "confidence_set_0.5.png"}
    assert len(pd.read_csv(target / "discoveries.tsv", sep="\t")) == len(result.discovery_map(0.5).clusters)
    page = (target / "report.html").read_text("utf-8")
    for title in ("Simultaneous intervals of Cohen", "is smaller than 2", "is 0.5 or more"):
        assert title in page
    again = run(*given, "--output", target)
    assert (again.exit_code, "--overwrite" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((), "Ask for something"),
        (("--intervals",), "RESULT COHORT"),
        (("--tdp", 2), "tdp"),
        (("--region", "nowhere.nii"), "nowhere.nii"),
    ],
)
def test_what_is_asked_wrong_is_told(folder, asked, told):
    done = run(folder / "results", *asked)
    assert done.exit_code in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
