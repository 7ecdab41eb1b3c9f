import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.results.result import PermutationResult
from reference.command_line import run
from reference.maps import AFFINE, volumes

N = 8
LABELS = [f"sub-{number:02d}" for number in range(1, N + 1)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a dataset "glm" of two contrasts and two runs each, an effect of age in one, and participants."""
    monkeypatch.chdir(tmp_path)
    age = np.arange(20.0, 20.0 + N)
    for number, (contrast, run_number) in enumerate((("yVsN", 1), ("yVsN", 2), ("nVsY", 1))):
        values = volumes(N, seed=number)
        values[:, 2, 3, 2] += 0.8 * (age - age.mean())
        for label, volume in zip(LABELS, values, strict=True):
            name = f"{label}_task-a_run-{run_number}_contrast-{contrast}_stat-effect_statmap.nii.gz"
            path = tmp_path / "glm" / label / name
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, AFFINE), path)
    (tmp_path / "glm" / "dataset_description.json").write_text('{"DatasetType": "derivative"}')
    table = pd.DataFrame({"participant_id": LABELS, "age": age, "sex": ["f", "m"] * (N // 2)})
    table.iloc[::-1].to_csv("glm/participants.tsv", sep="\t", index=False)
    return tmp_path


YVSN = ("--bids-dir", "glm", "--first-level-contrast", "yVsN", "--run", "2")


def test_a_dataset_becomes_a_cohort_with_its_covariates(place):
    run("convert", "--bids-dir", "glm", "--contrast", "yVsN", "--entity", "run=2", "-o", "c.zarr")
    facts = json.loads(run("info", "c.zarr", "--json")[0])
    files = sorted(place.glob("glm/*/*run-2_contrast-yVsN*"))
    run("convert", *files, "--covariates", "glm/participants.tsv", "-o", "d.zarr")
    assert facts["covariates"] == ["age", "sex"]
    assert facts["fingerprint"] == json.loads(run("info", "d.zarr", "--json")[0])["fingerprint"]
    _, err = run("convert", *YVSN, "-o", "e.zarr")
    assert "8 maps are taken from glm" in err
    # A table that is named goes before participants.tsv.
    pd.DataFrame({"participant_id": LABELS, "iq": range(N)}).to_csv("iq.csv", index=False)
    run("convert", *YVSN, "--covariates", "iq.csv", "-o", "f.zarr")
    assert json.loads(run("info", "f.zarr", "--json")[0])["covariates"] == ["iq"]


def test_maps_in_and_results_out_of_bids(place):
    options = ["--model", "age", "--n-perm", "50", "--cluster-forming-threshold", "t:3"]
    run("permute", *YVSN, *options, "--bids", "-o", "out")
    run("convert", *YVSN, "-o", "c.zarr")
    run("permute", "c.zarr", *options, "-o", "plain")
    plain = PermutationResult.load("plain")
    # What the names of the maps share is in those of the results, whether or not there is a cohort between.
    t = nib.load("out/group/task-a_contrast-age_stat-t_statmap.nii.gz")
    np.testing.assert_array_equal(t.get_fdata(), plain.to_nifti("t").get_fdata())
    told = json.loads((place / "out/group/task-a_contrast-age_stat-t_statmap.json").read_text())
    assert (told["FirstLevelContrast"], told["InputStatistic"], told["Contrast"]) == ("yVsN", "effect", "age")
    run("permute", "c.zarr", *options, "--bids", "-o", "stored")
    assert {path.name for path in (place / "stored/group").iterdir()} == {
        path.name for path in (place / "out/group").iterdir()
    }
    assert (place / "out" / "figures" / "corrected.png").is_file()
    assert "age: 60 voxels" in run("info", "out")[0]
    run("report", "out")
    assert (place / "out" / "report.html").is_file()
    assert "holds something else" in run("permute", "c.zarr", "--bids", "-o", "plain", "--overwrite", code=1)[1]
    run("permute", "c.zarr", *options, "--bids", "--contrast", "age + 2*intercept", "-o", "out", "--overwrite")
    assert (place / "out/group/task-a_contrast-agePlus2TimesIntercept_stat-t_statmap.nii.gz").is_file()


def test_a_fit_in_names_of_bids(place):
    out, _ = run("fit", *YVSN, "--model", "sex", "--contrast", "f - m", "--bids", "-o", "fit", "--json")
    run("fit", *YVSN, "--model", "sex", "--contrast", "f - m", "-o", "plain")
    names = sorted(path.name.removesuffix(".nii.gz") for path in (place / "fit/group").glob("*.nii.gz"))
    stats = ["effect", "t", "variance", "z"]
    stats += [f"{p}_desc-{kind}" for p in ("logp", "p") for kind in ("bonferroni", "parametric")]
    maps = [f"task-a_contrast-fMinusM_stat-{stat}_statmap" for stat in sorted(stats)]
    assert names == ["task-a_contrast-fMinusM_mask", *maps]
    p = nib.load("fit/group/task-a_contrast-fMinusM_stat-p_desc-bonferroni_statmap.nii.gz")
    np.testing.assert_array_equal(p.get_fdata(), nib.load("plain/p_bonferroni.nii.gz").get_fdata())
    told = json.loads((place / "fit/group/task-a_contrast-fMinusM_stat-p_desc-bonferroni_statmap.json").read_text())
    assert (told["MultipleComparisonCorrection"], told["DegreesOfFreedom"]) == ("Bonferroni", json.loads(out)["dof"])
    assert run("info", "fit") == run("info", "plain")
    assert (place / "fit/numbaglm/contrast-fMinusM/fit.json").read_text() == (place / "plain/fit.json").read_text()


@pytest.mark.parametrize("command", ["permute", "fit"])
def test_a_contrast_without_a_label_is_refused_before_any_work(place, command, monkeypatch):
    monkeypatch.setattr(
        "numbaglm.inference.permutation_test.permutation_test", lambda *_, **__: pytest.fail("it went on")
    )
    monkeypatch.setattr("numbaglm.faces.cli.output.save_fit", lambda *_, **__: pytest.fail("it went on"))
    pd.DataFrame({"participant_id": LABELS, "\u03b2": range(N)}).to_csv("greek.csv", index=False)
    options = ["--covariates", "greek.csv", "--model", "\u03b2", "--bids", "-o", "new"]
    assert "holds no letter and no digit" in run(command, *YVSN, *options, code=1)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--bids-dir", "glm"), 1, "such as --first-level-contrast nVsY --run 1."),
        (("--bids-dir", "glm", "--entity", "contrast=yVsN"), 1, "differ in run: 1, 2. One map a subject is needed"),
        (("--bids-dir", "glm", "--run", "1", "--run", "2", "--entity", "contrast=yVsN"), 1, "more than one map"),
        (("--bids-dir", "glm", "--stat", "t"), 1, "There is no map with stat t in glm. Of stat there is effect."),
        (("--bids-dir", "glm", "--entity", "session=1"), 1, "Of ses there is (none)."),
        (("--bids-dir", "glm", "--entity", "run="), 1, "There is no map without run"),
        (("--bids-dir", "nothing"), 1, "does not exist"),
        (("--bids-dir", "glm", "--entity", "run"), 2, "write KEY=LABEL"),
        (("--bids-dir", "glm", "glm/sub-01"), 2, "exclude each other"),
        (("--space", "MNI", "c.zarr"), 2, "--space picks maps of a dataset: add --bids-dir."),
        (("--entity", "a=b", "c.zarr"), 2, "--entity picks maps of a dataset: add --bids-dir."),
        ((), 2, "name the maps, or a dataset with --bids-dir"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["convert", "permute", "fit"])
def test_what_is_left_open_is_told_with_options(place, command, arguments, code, message):
    out, err = run(command, *arguments, "-o", "new", code=code)
    assert message in " ".join(err.split())
    assert out == ""
    assert not (place / "new").exists()
