import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm.faces.commands import commands
from numbaglm.inference.permutation_test import permutation_test
from reference.maps import AFFINE, SHAPE, volumes
from reference.spm_mat import design, indicators, save, write_images

N = 10
GROUP = np.repeat([1, 2], N // 2)
AGE = np.linspace(-2.0, 3.0, N)
BORDER = volumes(1)[0] == 0
OPTIONS = ["--n-perm", 99, "--seed", 4, "--threshold", 0.05, "--json", "--quiet"]


def run(*arguments, code=0):
    """Run the command in this process; return what it printed on stdout (code 0) or stderr."""
    outcome = CliRunner().invoke(commands, ["spm", *map(str, arguments)])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stderr if code else outcome.stdout


def read(path):
    return nib.load(path).get_fdata()


@pytest.fixture
def place(tmp_path):
    """A study: a con image a subject in folders, NaN outside, and a folder for the group."""
    values = volumes(N, seed=3)
    values[: N // 2, 2:4, 3, 2] += 3.0
    values[:, 3, 2:5, 1] += 1.5
    write_images(tmp_path / "first", values, AFFINE, outside=BORDER)
    (tmp_path / "group").mkdir()
    return tmp_path


def images(place):
    return sorted((place / "first").glob("s*/con_0001.*"))


def two_sample(**more):
    return design(H=indicators(GROUP, "Group"), C=(AGE[:, None], ["age"]), title="Two-sample t-test", **more)


CON = [("A > B", "T", [1, -1, 0]), ("age", "F", [0, 0, 1]), ("any", "F", [[1, -1, 0], [0, 0, 1]])]


def expected(result, name):
    return result.geometry.unmask(np.float32(result.maps[name]), np.nan)


def test_a_two_sample_design_is_what_permutation_test_says(place):
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON)
    summary = json.loads(run(place / "group", "--tfce", *OPTIONS))
    X = pd.DataFrame(two_sample()["xX"]["X"], columns=["a", "b", "age"])
    given = {"n_perm": 99, "seed": 4, "tfce": True, "cluster_forming_threshold": 0.05, "conventions": "spm"}
    t = permutation_test(list(map(str, images(place))), X, "a - b", two_sided=False, **given)
    f = permutation_test(list(map(str, images(place))), X, ["a - b", "age"], **given)
    for name, number, result, key in (
        ("permT", 1, t, "t"),
        ("permTFCE", 1, t, "tfce"),
        ("lP", 1, t, "logp_unc"),
        ("lP_FDR", 1, t, "logp_fdr"),
        ("lP_FWE", 1, t, "logp_fwe_voxel"),
        ("lP_FWE_size", 1, t, "logp_fwe_size"),
        ("lP_FWE_mass", 1, t, "logp_fwe_mass"),
        ("lP_FWE_TFCE", 1, t, "logp_fwe_tfce"),
        ("permF", 3, f, "f"),
        ("lP_FWE", 3, f, "logp_fwe_voxel"),
        ("lP_FWE_TFCE", 3, f, "logp_fwe_tfce"),
    ):
        made = read(place / "group" / f"{name}_{number:04d}.nii")
        np.testing.assert_array_equal(made, expected(result, key), err_msg=name)
    assert pd.read_csv(place / "group" / "permClusters_0001.tsv", sep="\t").shape[0] == len(t.clusters)
    assert summary["design"] == "Two-sample t-test"
    assert [one["name"] for one in summary["contrasts"]] == ["A > B", "age", "any"]
    assert summary["columns"][2] == {"name": "age", "role": "covariate"}
    assert json.loads((place / "group" / "numbaglm_spm.json").read_text())["contrasts"] == summary["contrasts"]


def test_f_of_one_row_is_the_square_of_t(place):
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON)
    (one,) = json.loads(run(place / "group", "--contrast", "age", "--tfce", *OPTIONS))["contrasts"]
    X = pd.DataFrame(two_sample()["xX"]["X"], columns=["a", "b", "age"])
    options = {"n_perm": 99, "seed": 4, "cluster_forming_threshold": 0.05, "conventions": "spm", "merge_signs": True}
    both = permutation_test(list(map(str, images(place))), X, "age", **options)
    group = place / "group"
    np.testing.assert_allclose(read(group / "permF_0002.nii"), expected(both, "t") ** 2, rtol=1e-5)
    for name, key in (("lP_FWE", "logp_fwe_voxel"), ("lP_FWE_size", "logp_fwe_size")):
        np.testing.assert_array_equal(read(group / f"{name}_0002.nii"), expected(both, key))
    assert set(one["least_corrected_p"]) == {"voxel", "size", "tfce"}, "mass is of t there"
    assert not list(group.glob("lP_FWE_mass*"))


def test_one_sample_and_regression_and_anova(place):
    files = images(place)
    ones = design(H=(np.ones((N, 1)), ["mean"]), title="One sample t-test")
    save(place / "group" / "SPM.mat", files, ones, con=[("mean", "T", [1])])
    (one,) = json.loads(run(place / "group", *OPTIONS))["contrasts"]
    assert "sign flips" in one["shuffling"]
    regression = design(H=(np.ones((N, 1)), ["mean"]), C=(AGE[:, None], ["age"]), title="Multiple regression")
    save(place / "group" / "SPM.mat", files, regression, con=[("age", "T", [0, 1])])
    (one,) = json.loads(run(place / "group", "--overwrite", *OPTIONS))["contrasts"]
    assert "permutations" in one["shuffling"]
    arms = np.arange(N) % 3 + 1
    anova = design(H=indicators(arms, "Groups"), title="ANOVA")
    save(place / "group" / "SPM.mat", files, anova, con=[("any", "F", [[1, -1, 0], [0, 1, -1], [1, 0, -1]])])
    (one,) = json.loads(run(place / "group", "--overwrite", *OPTIONS))["contrasts"]
    assert (one["statistic"], one["dof"]) == ("F", N - 3)


def test_pairs_are_swapped_within_people(place):
    pair, condition = np.repeat(np.arange(1, 6), 2), np.tile([1, 2], 5)
    made = design(H=indicators(condition, "Condition"), B=indicators(pair, "Subject"), title="Paired t-test")
    save(place / "group" / "SPM.mat", images(place), made, con=[("1 > 2", "T", [1, -1, 0, 0, 0, 0, 0])])
    (one,) = json.loads(run(place / "group", *OPTIONS))["contrasts"]
    assert one["n_shufflings"] == 2**5
    assert one["people"].startswith("10 images of 5 people, up to 2 each, by the block columns (xX.iB)")
    values = np.stack([read(file) for file in images(place)])[:, ~BORDER]
    d = values[::2] - values[1::2]
    t = read(place / "group" / "permT_0001.nii")[~BORDER]
    np.testing.assert_allclose(t, d.mean(axis=0) / (d.std(axis=0, ddof=1) / np.sqrt(5)), rtol=1e-4)


def test_a_moved_study_is_found_again(place, tmp_path):
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON[:1])
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("first", "group"):
        shutil.move(place / name, moved / name)
    run(moved / "group", "--dry-run", *OPTIONS)
    shutil.move(moved / "first", tmp_path / "data with blanks")
    told = run(moved / "group", *OPTIONS, code=1)
    assert "10 of the 10 images" in told
    assert "are not there" in told
    assert "--data-dir" in told
    run(moved / "group", "--data-dir", tmp_path / "data with blanks", *OPTIONS)
    next((tmp_path / "data with blanks" / "s03").iterdir()).unlink()
    told = run(moved / "group", "--data-dir", tmp_path / "data with blanks", "--overwrite", *OPTIONS, code=1)
    assert "1 of the 10 images" in told
    assert "s03/con_0001.nii" in told
    assert "data with blanks alone" in told
    assert "the folders above it" not in told
    told = run(moved / "group", "--data-dir", "nowhere", "--overwrite", *OPTIONS, code=1)
    assert "--data-dir nowhere is not a folder" in told


def test_files_of_spm_and_of_earlier_runs_stay(place):
    group = place / "group"
    save(group / "SPM.mat", images(place), two_sample(), con=CON[:1])
    run(group, *OPTIONS)
    theirs = read(group / "permT_0001.nii")
    nib.save(nib.Nifti1Image(np.float32(theirs + 0.5), AFFINE), group / "spmT_0001.nii")
    before = {path.name: path.read_bytes() for path in group.iterdir()}
    assert "holds permT_0001.nii already" in run(group, *OPTIONS, code=1)
    (one,) = json.loads(run(group, "--overwrite", *OPTIONS))["contrasts"]
    assert one["beside_spm"]["largest_difference"] == pytest.approx(0.5, abs=1e-5)
    assert one["beside_spm"]["correlation"] == pytest.approx(1)
    for name in ("SPM.mat", "spmT_0001.nii"):
        assert (group / name).read_bytes() == before[name]
    run(group, "--output", place / "new" / "folder", *OPTIONS)
    assert (place / "new" / "folder" / "lP_FWE_0001.nii").exists()


def test_unequal_variances_are_told_and_can_be_each_voxel_s_own(place):
    unequal = [np.diag((level == GROUP).astype(float)) for level in (1, 2)]
    made = two_sample(Vi=unequal)
    save(place / "group" / "SPM.mat", images(place), made, con=CON[:1])
    summary = json.loads(run(place / "group", *OPTIONS))
    assert any("--unequal-variances gives every group" in note for note in summary["notes"])
    json.loads(run(place / "group", "--unequal-variances", "--overwrite", *OPTIONS))
    X = pd.DataFrame(made["xX"]["X"], columns=["a", "b", "age"])
    v = permutation_test(
        *(list(map(str, images(place))), X, "a - b"),
        **{"n_perm": 99, "seed": 4, "two_sided": False, "variance_groups": GROUP, "cluster_forming_threshold": 0.05},
        conventions="spm",
    )
    np.testing.assert_array_equal(read(place / "group" / "permT_0001.nii"), expected(v, "v"))
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON[:1])
    told = run(place / "group", "--unequal-variances", *OPTIONS, code=1)
    assert "has one variance for all images" in told


def test_masks_thresholds_and_scaling_are_spm_s(place):
    files, scaling = images(place), np.linspace(0.5, 2.0, N)
    values = np.stack([read(file) for file in files]) * scaling.reshape(-1, 1, 1, 1)
    inside = np.zeros(SHAPE, np.float32)
    inside[1:4] = 0.2  # above 0 is inside
    nib.save(nib.Nifti1Image(inside, AFFINE), place / "brain.nii")
    thresholds = np.full(N, -2.0)
    options = {"masks": [place / "brain.nii"], "thresholds": thresholds, "scaling": scaling, "con": CON[:1]}
    save(place / "group" / "SPM.mat", files, two_sample(), **options)
    summary = json.loads(run(place / "group", *OPTIONS))
    with np.errstate(invalid="ignore"):
        there = (values > -2).all(axis=0) & (inside > 0)
    assert summary["n_voxels"] == there.sum() > 0
    assert any("global scaling, 0.5 to 2" in note for note in summary["notes"])
    t = read(place / "group" / "permT_0001.nii")
    np.testing.assert_array_equal(np.isfinite(t), there)
    X = two_sample()["xX"]["X"]
    y = values[:, there]
    beta = np.linalg.pinv(X) @ y
    s2 = ((y - X @ beta) ** 2).sum(axis=0) / (N - 3)
    c = np.array([1, -1, 0])
    np.testing.assert_allclose(t[there], c @ beta / np.sqrt(s2 * (c @ np.linalg.pinv(X.T @ X) @ c)), rtol=2e-4)


def test_what_can_t_be_done_is_refused_before_any_work(place):
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON)
    assert "no contrast of" in run(place / "group", "--contrast", "C > D", *OPTIONS, code=1)
    assert "neither a p, nor a value" in run(place / "group", "--threshold", "high", code=2)
    assert "a p below 0.5" in run(place / "group", "--threshold", 0.7, code=1)
    assert "does not exist" in run(place / "nowhere" / "SPM.mat", code=1)
    surfaces = [Path(f"/x/lh.{k}.gii") for k in range(N)]
    save(place / "group" / "SPM.mat", surfaces, two_sample(), con=CON)
    assert "is of surfaces" in run(place / "group", code=1)
    assert not [path for path in (place / "group").iterdir() if path.name != "SPM.mat"]


def test_values_of_a_statistic_form_clusters_and_a_plan_is_told(place):
    save(place / "group" / "SPM.mat", images(place), two_sample(), con=CON)
    told = run(place / "group", "--threshold", 2.0, "--dry-run", "--n-perm", 99, "--quiet")
    assert "Plan of 0001 (A > B)" in told
    run(place / "group", *OPTIONS, "--threshold", 2.0)
    size = read(place / "group" / "lP_FWE_size_0001.nii")
    t = read(place / "group" / "permT_0001.nii")
    assert (t[size > 0] > 2).all()
