import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from numbaglm.data.images.formats.afni import labels_of_bricks
from numbaglm.faces.commands import commands
from numbaglm.inference.permutation_test import permutation_test
from reference.afni import write_brik

SHAPE = (5, 4, 3)
N_A, N_B = 8, 7
AGE = np.array([20.0, 31, 25, 44, 38, 29, 50, 41, 33, 27, 46, 35, 22, 39, 30])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Data sets a0 ... b6 of two sub-bricks, the second of them the effect, and a mask; the effects' values."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    found = []
    for k, name in enumerate([f"a{k}" for k in range(N_A)] + [f"b{k}" for k in range(N_B)]):
        bricks = rng.normal(0.5, 1.0, (2, *SHAPE))
        bricks[1, 1:3, 1:3, 1] += 2.0 * (k < N_A)
        found.append(write_brik(f"{name}+tlrc", bricks, ("other", "face_Coef"), [1e-3, 2e-3])[..., 1])
    inside = np.zeros(SHAPE)
    inside[:4, 1:] = 1
    write_brik("mask+tlrc", [inside])
    rows = [f"{'ab'[k >= N_A]}{k - N_A * (k >= N_A)} {AGE[k]} {k % 3}" for k in range(N_A + N_B)]
    (tmp_path / "cov.txt").write_text("\n".join(["subject age site", *rows[::-1], ""]))
    return np.stack(found), inside > 0


def run(*words, code=0):
    outcome = CliRunner().invoke(commands, [str(word) for word in words])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stderr if code else outcome.stdout


def bucket(name):
    """Volumes by label."""
    image = nib.load(name)
    values = image.get_fdata()
    return {label: values[..., k] for k, label in enumerate(labels_of_bricks(image))}


def check(found, expected, inside):
    np.testing.assert_allclose(found[inside], expected[inside], rtol=1e-3, atol=1e-4)
    assert not found[~inside].any()


SETS = ("-setA", "a*+tlrc.HEAD[face_Coef]", "-setB", "b*+tlrc.HEAD[1]", "-mask", "mask+tlrc")


def test_two_sets_and_each_by_itself(place):
    Y, inside = place
    run("3dttest++", *SETS, "-prefix", "out")
    found = bucket("out.nii.gz")
    labels = ["SetA-SetB_mean", "SetA-SetB_Tstat", "SetA_mean", "SetA_Tstat", "SetB_mean", "SetB_Tstat"]
    assert list(found) == labels
    a, b = Y[:N_A], Y[N_A:]
    check(found["SetA-SetB_mean"], a.mean(axis=0) - b.mean(axis=0), inside)
    check(found["SetA-SetB_Tstat"], stats.ttest_ind(a, b).statistic, inside)
    check(found["SetB_Tstat"], stats.ttest_1samp(b, 0).statistic, inside)
    run(
        "3dttest++",
        *SETS,
        "-prefix",
        "out2.nii",
        "-BminusA",
        "-no1sam",
        "-unpooled",
        "-labelA",
        "Nor",
        "-labelB",
        "Pat",
    )
    found = bucket("out2.nii")
    assert list(found) == ["Pat-Nor_mean", "Pat-Nor_Zscr"]
    welch = stats.ttest_ind(b, a, equal_var=False)
    z = np.sign(welch.statistic) * stats.norm.isf(welch.pvalue / 2)
    check(found["Pat-Nor_Zscr"], z, inside)
    assert "out.nii.gz exists" in run("3dttest++", *SETS, "-prefix", "out", code=1)
    told = run("3dttest++", *SETS, "-prefix", "out3", "-toz", "-no1sam")
    z = bucket("out3.nii.gz")["SetA-SetB_Zscr"]
    assert f"SetA-SetB_Zscr: z from {z.min():.2f} to {z.max():.2f}" in told


def test_covariates_have_slopes_in_each_set(place):
    Y, inside = place
    words = ("-setA", "Green", *(w for k in range(N_A) for w in (f"a{k}", f"a{k}+tlrc[1]")))
    words += ("-setB", "Blue", *(w for k in range(N_B) for w in (f"b{k}", f"b{k}+tlrc[1]")))
    run("3dttest++", *words, "-mask", "mask+tlrc", "-covariates", "cov.txt[0,1]", "-prefix", "cov")
    found = bucket("cov.nii.gz")
    assert list(found)[:4] == ["Green-Blue_mean", "Green-Blue_Tstat", "Green-Blue_age", "Green-Blue_age_Tstat"]
    means, slopes, qs, units = [], [], 0.0, []
    for y, age in ((Y[:N_A], AGE[:N_A]), (Y[N_A:], AGE[N_A:])):
        X = np.column_stack([np.ones(len(y)), age - age.mean()])
        b = np.linalg.lstsq(X, y.reshape(len(y), -1), rcond=None)[0]
        qs = qs + ((y.reshape(len(y), -1) - X @ b) ** 2).sum(axis=0)
        units.append(np.linalg.inv(X.T @ X).diagonal())
        means.append(b[0].reshape(SHAPE))
        slopes.append(b[1].reshape(SHAPE))
    v = (qs / (N_A + N_B - 4)).reshape(SHAPE)
    check(found["Green-Blue_mean"], means[0] - means[1], inside)
    check(found["Green-Blue_Tstat"], (means[0] - means[1]) / np.sqrt(v * (units[0][0] + units[1][0])), inside)
    check(found["Green-Blue_age_Tstat"], (slopes[0] - slopes[1]) / np.sqrt(v * (units[0][1] + units[1][1])), inside)
    assert "has no row of b7" not in run(
        "3dttest++", *words, "-covariates", "cov.txt", "-prefix", "all", "-center", "SAME"
    )


def test_pairs_are_differences_and_clustsim_shuffles(place, tmp_path):
    Y, inside = place
    pairs = ("-setA", *(f"a{k}+tlrc[1]" for k in range(7)), "-setB", *(f"b{k}+tlrc[1]" for k in range(7)))
    words = (
        "-mask",
        "mask+tlrc",
        "-paired",
        "-no1sam",
        "-Clustsim",
        "4",
        "-pthr",
        "0.05",
        "-NN",
        2,
        "-prefix",
        "pairs",
    )
    told = json.loads(run("3dttest++", *pairs, *words, "--json", "-q"))
    assert told["labels"] == ["SetA-SetB_mean", *(f"SetA-SetB_Zscr{end}" for end in ("", "_logpVoxel", "_logpCluster"))]
    assert told["tests"][0]["n_shufflings"] == 2**7  # all sign flips
    found = bucket("pairs.nii.gz")
    differences = Y[:7] - Y[N_A:][:7]
    t = stats.ttest_1samp(differences, 0)
    check(found["SetA-SetB_Zscr"], np.sign(t.statistic) * stats.norm.isf(t.pvalue / 2), inside)
    images = [nib.Nifti1Image(one.astype(np.float32), np.diag([-3.0, -3, 3, 1])) for one in differences]
    mask = nib.Nifti1Image(inside.astype(np.uint8), np.diag([-3.0, -3, 3, 1]))
    options = {"cluster_forming_threshold": 0.05, "cluster_connectivity": 18, "n_perm": 10_000}
    result = permutation_test(images, mask=mask, **options)
    np.testing.assert_allclose(found["SetA-SetB_Zscr_logpVoxel"][inside], result.maps["logp_fwe_voxel"], rtol=1e-5)
    np.testing.assert_allclose(found["SetA-SetB_Zscr_logpCluster"][inside], result.maps["logp_fwe_size"], rtol=1e-5)
    table = pd.read_csv(tmp_path / "pairs.SetA-SetB_Zscr_clusters.tsv", sep="\t")
    assert list(table["size_voxels"]) == list(result.clusters["size_voxels"])


def test_zeros_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(1).normal(1.0, 1.0, (9, *SHAPE))
    values[:3, 0] = 0
    values[:7, 1] = 0
    for k, one in enumerate(values):
        write_brik(f"s{k}+orig", [one], space="ORIG")
    run("3dttest++", "-setA", "s*+orig.HEAD", "-zskip", "-prefix", "z")
    found = bucket("z.nii.gz")["SetA_Zscr"]
    t = stats.ttest_1samp(values[3:, 0].astype(np.float32), 0)
    np.testing.assert_allclose(found[0], np.sign(t.statistic) * stats.norm.isf(t.pvalue / 2), rtol=1e-3, atol=1e-4)
    assert not found[1].any()  # of two subjects


def test_a_table_with_factors_between_and_within(place, tmp_path):
    """Against means of cells: a balanced design of two groups, and two and three conditions within."""
    rng = np.random.default_rng(5)
    n = 10
    group = np.repeat(["old", "yng"], n // 2)
    age = rng.normal(40, 8, n).round(1)
    Y = rng.normal(0, 1, (n, 2, 3, *SHAPE))
    Y[:, 0, 1] += 1.0
    rows = ["Subj group age cond emo InputFile"]
    for s in range(n):
        for c, e in np.ndindex(2, 3):
            name = f"m{s}{c}{e}"
            Y[s, c, e] = write_brik(f"{name}+tlrc", [Y[s, c, e]])[..., 0]
            rows.append(f"s{s} {group[s]} {age[s]} {'fh'[c]} {('neg', 'neu', 'pos')[e]} {name}+tlrc[0]")
    (tmp_path / "table.txt").write_text(" \\\n".join(rows))
    words = ("-bsVars", "group*age", "-wsVars", "cond*emo", "-qVars", "age", "-num_glt", 3)
    words += ("-gltLabel", 1, "f_pos_neg", "-gltCode", 1, "cond : 1*f emo : 1*pos -1*neg")
    words += ("-gltLabel", 2, "groups", "-gltCode", 2, "group : 1*old -1*yng")
    words += ("-gltLabel", 3, "slope_old", "-gltCode", 3, "group : 1*old age :")
    run("3dMVM", "-prefix", "mvm", *words, "-dataTable", "@table.txt")
    found = bucket("mvm.nii.gz")
    X = np.column_stack([np.ones(n), np.where(group == "old", 1, -1), age - age.mean()])
    X = np.column_stack([X, X[:, 1] * X[:, 2]])
    inverse = np.linalg.inv(X.T @ X)

    def fit(y):
        flat = y.reshape(n, -1)
        b = inverse @ X.T @ flat
        return b, ((flat - X @ b) ** 2).sum(axis=0)

    def t(y, row):
        b, rss = fit(y)
        return (row @ b / np.sqrt(rss / (n - 4) * (row @ inverse @ row))).reshape(SHAPE)

    def f(several, column):
        fits = [fit(y) for y in several]
        above = sum(b[column] ** 2 for b, _ in fits) / inverse[column, column] / len(fits)
        return (above / (sum(rss for _, rss in fits) / len(fits) / (n - 4))).reshape(SHAPE)

    mean = Y.mean(axis=(1, 2))
    everywhere = np.ones(SHAPE, bool)
    basis = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
    emo = [np.einsum("e,se...->s...", row, Y.mean(axis=1)) for row in basis]
    both = [np.einsum("e,se...->s...", row, Y[:, 0] - Y[:, 1]) for row in basis]
    for label, expected in (
        ("(Intercept) F", f([mean], 0)),
        ("group F", f([mean], 1)),
        ("age F", f([mean], 2)),
        ("group:age F", f([mean], 3)),
        ("cond F", f([Y[:, 0].mean(axis=1) - Y[:, 1].mean(axis=1)], 0)),
        ("emo F", f(emo, 0)),
        ("group:emo F", f(emo, 1)),
        ("cond:emo F", f(both, 0)),
        ("group:age:cond:emo F", f(both, 3)),
        ("f_pos_neg t", t(Y[:, 0, 2] - Y[:, 0, 0], np.array([1.0, 0, 0, 0]))),
        ("groups t", t(mean, np.array([0, 2.0, 0, 0]))),
        ("slope_old t", t(mean, np.array([0, 0, 1.0, 1.0]))),
    ):
        check(found[label], expected, everywhere)
    b, _ = fit(mean)
    check(found["groups"], (2 * b[1]).reshape(SHAPE), everywhere)
    assert len(found) == 16 + 6
    run("3dMVM", "-prefix", "perm", "-bsVars", "group", "-wsVars", "cond*emo", "-perm", 63, "-dataTable", "@table.txt")
    assert "emo F_logpVoxel" in bucket("perm.nii.gz")
