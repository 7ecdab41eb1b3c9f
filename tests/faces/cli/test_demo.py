import json
import sys
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm.cohort import Cohort
from numbaglm.datasets.simulated import simulate_button_press
from numbaglm.errors import MissingExtraError, OutputExistsError
from numbaglm.faces.cli.demo import run_demo
from numbaglm.faces.commands import commands
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import UNKNOWN

FIGURES = ("subjects", "z", "corrected", "nulls")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo on a coarse grid, where it is quick."""
    return run_demo(tmp_path_factory.mktemp("walk") / "demo", n_perm=200, voxel_size=6.0)


def load(made, name):
    return nib.load(made.folder / name).get_fdata()


def test_it_went_the_real_way_from_nifti_over_zarr(made):
    assert len(list((made.folder / "maps").glob("sub-*.nii.gz"))) == 16
    cohort = Cohort.open(made.folder / "cohort.zarr")
    assert cohort.store.smoothing_fwhm == 8.0
    assert cohort.fingerprint == made.summary["cohort_fingerprint"]
    mask = load(made, "maps/mask.nii.gz") > 0
    assert np.array_equal(mask, cohort.geometry.mask)
    assert PermutationResult.load(made.folder / "permutation").provenance["seed"] == 0


def test_motor_cortex_and_cerebellum_are_found_where_they_were_planted(made):
    clusters = pd.read_csv(made.folder / "permutation" / "clusters.tsv", sep="\t")
    found = clusters[(clusters["p_fwe_size"] <= 0.05) & (clusters["p_fwe_mass"] <= 0.05)]
    peaks = found[["peak_x", "peak_y", "peak_z"]].to_numpy()
    for planted in ((38, -24, 58), (-20, -52, -24)):  # left > right: contralateral cortex, ipsilateral cerebellum
        assert np.linalg.norm(peaks - planted, axis=1).min() <= 12.0  # two voxels
    assert set(clusters["sign"]) == {"+"}  # one-sided
    assert made.summary["n_fwe_0.05"]["clusters_by_size"] == np.sum(clusters["p_fwe_size"] <= 0.05)
    assert made.summary["clusters"][0]["peak_stat"] == pytest.approx(load(made, "permutation/t.nii.gz").max())


def test_the_model_and_the_test_agree_on_the_statistic(made):
    t, permuted = load(made, "parametric/t.nii.gz"), load(made, "permutation/t.nii.gz")
    np.testing.assert_allclose(t, permuted, rtol=1e-4, atol=1e-5)
    p, corrected = load(made, "parametric/p_parametric.nii.gz"), load(made, "parametric/p_bonferroni.nii.gz")
    n_voxels = made.summary["n_voxels"]
    np.testing.assert_allclose(corrected, np.minimum(p * n_voxels, 1), rtol=1e-5)
    logp = load(made, "parametric/logp_bonferroni.nii.gz")
    np.testing.assert_allclose(logp, -np.log10(corrected), atol=1e-5)
    assert made.summary["n_bonferroni_0.05"] == np.sum(logp >= -np.log10(0.05)) > 0
    z = load(made, "parametric/z.nii.gz")
    assert z.min() < -3.09 < 3.09 < z.max()


def test_everything_is_written_and_explained(made):
    text = (made.folder / "README.md").read_text()
    assert UNKNOWN not in text
    for name in FIGURES:
        assert (made.folder / "figures" / f"{name}.png").stat().st_size > 5_000
        assert f"figures/{name}.png)" in text
    assert made.text in text
    assert "FWE" in made.text
    assert "peak (mm)" in made.text
    summary = json.loads((made.folder / "demo.json").read_text())
    assert {**summary, "output": str(made.folder), "report": str(made.page)} == made.summary
    assert made.page == made.folder / "report.html"
    assert "numbaglm report" in made.page.read_text()
    # The command prints this very summary.
    out = CliRunner().invoke(commands, ["info", str(made.folder / "permutation"), "--json"]).stdout
    assert json.loads(out)["clusters"] == summary["clusters"]


def test_a_folder_is_replaced_only_where_asked_and_only_a_demo(made, tmp_path):
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="left alone"):
        run_demo(tmp_path, overwrite=True)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        run_demo(made.folder)
    outcome = CliRunner().invoke(commands, ["demo", "--output", str(made.folder)])
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: The output folder")


def test_the_localizer_goes_the_same_way(tmp_path, monkeypatch):
    fetched = simulate_button_press(tmp_path / "fetched", voxel_size=8.0)

    def fetch(contrasts, n_subjects, verbose):
        return {"cmaps": [str(path) for path in fetched.maps[:n_subjects]]}

    monkeypatch.setitem(sys.modules, "nilearn.datasets", SimpleNamespace(fetch_localizer_contrasts=fetch))
    made = run_demo(tmp_path / "demo", n_perm=100, localizer=True)
    assert made.summary["n_subjects"] == 16
    assert not (made.folder / "maps").exists()
    assert "Pinel" in (made.folder / "README.md").read_text()


def test_the_localizer_without_nilearn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(MissingExtraError):
        run_demo(tmp_path / "demo", localizer=True)
    outcome = CliRunner().invoke(commands, ["demo", "--localizer", "--output", str(tmp_path / "demo"), "-q"])
    assert outcome.exit_code == 1
    assert 'pip install "numbaglm[nilearn]"' in outcome.stderr
    assert list(tmp_path.iterdir()) == []
