import json
import math
import re

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

from numbaglm.cohort import Cohort
from numbaglm.faces.commands import commands
from numbaglm.faces.fsl.command import REFUSED
from numbaglm.inference.permutation_test import permutation_test
from reference.maps import AFFINE, SHAPE, volumes

N = 10
GROUPS = np.repeat(np.eye(2), N // 2, axis=0)
AGE = np.linspace(-2.0, 3.0, N)
LABEL = ["--json", "--quiet"]


def text(path, rows, kind="NumPoints", names=()):
    """Write a matrix as FSL does."""
    rows = np.atleast_2d(rows)
    lines = [f"/ContrastName{k}\t{name}" for k, name in enumerate(names, 1)]
    lines += [f"/NumWaves\t{rows.shape[1]}", f"/{kind}\t{rows.shape[0]}", "", "/Matrix"]
    path.write_text("\n".join(lines + [" ".join(f"{value:.6e}" for value in row) for row in rows]) + "\n")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a 4D image, an effect of groups and of the mean in it, a mask and FSL's design files."""
    monkeypatch.chdir(tmp_path)
    values = volumes(N, seed=3)
    values[: N // 2, 2:4, 3, 2] += 3.0
    values[:, 3, 2:5, 1] += 1.5
    nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), "maps.nii.gz")
    inside = np.zeros(SHAPE, np.uint8)
    inside[1:-1, 1:-1, 1:-1] = 1
    inside[1, 1, 1] = 0
    nib.save(nib.Nifti1Image(inside, AFFINE), "mask.nii.gz")
    nib.save(nib.Nifti1Image(np.moveaxis(volumes(N, seed=8), 0, -1), AFFINE), "grey.nii.gz")
    text(tmp_path / "design.mat", np.column_stack([GROUPS, AGE]))
    text(tmp_path / "design.con", [[1, -1, 0], [0, 0, 1]], "NumContrasts", ["A > B", "age"])
    text(tmp_path / "design.fts", [[1, 1], [1, 0]], "NumContrasts")
    return tmp_path


def run(*arguments, code=0):
    """Run the command in this process; return what it printed on stdout (code 0) or stderr."""
    outcome = CliRunner().invoke(commands, ["randomise", *map(str, arguments)])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stderr if code else outcome.stdout


def read(name):
    return nib.load(f"{name}.nii.gz").get_fdata()


def expected(result, name):
    """1 - p on the grid, 0 outside the mask; other maps as they are."""
    values = result.maps[name]
    return result.geometry.unmask(np.float32(1 - values if name.startswith("p_") else values), 0.0)


DESIGN = ("-i", "maps", "-m", "mask", "-d", "design.mat", "-t", "design.con")


def test_one_sample_is_what_permutation_test_says(place):
    run(
        "-i",
        "maps.nii.gz",
        "-m",
        "mask",
        "-o",
        "mean",
        "-1",
        "-x",
        "-T",
        "-c",
        "2.5",
        "-C2",
        "-n",
        "100",
        "--seed=4",
        "-RN",
    )
    options = {"mask": "mask.nii.gz", "n_perm": 99, "two_sided": False, "seed": 4, "conventions": "randomise"}
    first = permutation_test("maps.nii.gz", cluster_forming_threshold=("t", 2.5), tfce=True, **options)
    second = permutation_test("maps.nii.gz", cluster_forming_threshold=("t", 2.0), **options)
    for name, result, key in (
        ("tstat1", first, "t"),
        ("vox_corrp_tstat1", first, "p_fwe_voxel"),
        ("tfce_tstat1", first, "tfce"),
        ("tfce_corrp_tstat1", first, "p_fwe_tfce"),
        ("clustere_tstat1", first, "size"),
        ("clustere_corrp_tstat1", first, "p_fwe_size"),
        ("clusterm_tstat1", second, "mass"),
        ("clusterm_corrp_tstat1", second, "p_fwe_mass"),
    ):
        np.testing.assert_array_equal(read(f"mean_{name}"), expected(result, key), err_msg=name)
    # The largest 1 - p is that of the observed data among 100 shufflings; there is no NaN, and nothing outside.
    corrected = read("mean_vox_corrp_tstat1")
    assert corrected.max() == pytest.approx(0.99)
    assert not corrected[read("mask") == 0].any()
    for name, key in (("vox", "max_t"), ("tfce", "max_tfce"), ("clustere", "max_size")):
        np.testing.assert_allclose(np.loadtxt(f"mean_{name}_corrp_tstat1.txt"), first.h0[key], rtol=1e-8)
    assert len(list(place.glob("mean_*"))) == 12  # 8 images, 4 nulls, and nothing half-written
    assert not list(place.glob(".*"))


def test_contrasts_f_tests_and_uncorrected_p(place):
    summary = json.loads(run(*DESIGN, "-o", "both", "-f", "design.fts", "-x", "--uncorrp", "-F", 4, "-n", 60, *LABEL))
    assert [one["test"] for one in summary["tests"]] == ["tstat1", "tstat2", "fstat1", "fstat2"]
    assert [one["name"] for one in summary["tests"]] == ["A > B", "age", "A > B & age", "A > B"]
    X = np.column_stack([GROUPS, np.round(AGE, 6)])
    options = {"mask": "mask.nii.gz", "n_perm": 59, "conventions": "randomise"}
    for number, contrast in ((1, [1, -1, 0]), (2, [0, 0, 1])):
        t = permutation_test("maps.nii.gz", X, contrast, two_sided=False, **options)
        assert np.array_equal(read(f"both_vox_p_tstat{number}"), expected(t, "p_unc"))
        assert np.array_equal(read(f"both_vox_corrp_tstat{number}"), expected(t, "p_fwe_voxel"))
    f = permutation_test("maps.nii.gz", X, [[1, -1, 0], [0, 0, 1]], cluster_forming_threshold=("f", 4.0), **options)
    np.testing.assert_allclose(read("both_fstat1"), expected(f, "f"), rtol=1e-5)
    np.testing.assert_array_equal(read("both_clustere_corrp_fstat1"), expected(f, "p_fwe_size"))
    # F of one contrast is the square of its t, on both sides.
    np.testing.assert_allclose(read("both_fstat2"), read("both_tstat1") ** 2, rtol=1e-5)
    assert not list(place.glob("both_clustere*_tstat*"))


def test_f_of_one_contrast_clusters_and_enhances_squares(place):
    """Against clusters and the integral of the map of F itself, with effects of both signs side by side."""
    rng = np.random.default_rng(0)
    values = np.moveaxis(nib.load("maps.nii.gz").get_fdata(), -1, 0)
    values[:, 2:4, 2:5, 2] += 2 * rng.choice([-1, 1], (2, 3)) * GROUPS[:, :1, None]
    nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), "signs.nii")
    text(place / "one.fts", [[1, 0]], "NumContrasts")
    run("-i", "signs", *DESIGN[2:], "-o", "f", "-f", "one.fts", "--fonly", "-T", "-F", 6, "-R", "-n", 20)
    F = read("f_fstat1")
    steps = np.linspace(0, F.max(), 20_001)
    middle = (steps[1:] + steps[:-1]) / 2
    peak = np.unravel_index(F.argmax(), F.shape)
    score = 0.0
    for height in middle:  # of 6 neighbours, E = 0.5, H = 2
        labels, _ = ndimage.label(height <= F)
        score += np.sqrt((labels == labels[peak]).sum()) * height**2 * steps[1]
    assert read("f_tfce_fstat1")[peak] == pytest.approx(score, rel=1e-3)
    sizes = read("f_clustere_fstat1")
    labels, _ = ndimage.label(F >= 6, np.ones((3, 3, 3)))
    assert sizes[peak] == (labels == labels[peak]).sum()
    assert not (place / "f_tstat1.nii.gz").exists()
    run("-i", "signs", *DESIGN[2:], "-o", "rest", "-f", "one.fts", "-S", 6, "-F", 6, "-x", "-n", 20)
    assert (place / "rest_vox_corrp_tstat1.nii.gz").exists()
    np.testing.assert_array_equal(read("rest_clustere_corrp_fstat1"), read("f_clustere_corrp_fstat1"))
    assert not (place / "rest_clusterm_corrp_fstat1.nii.gz").exists()


def test_demeaning_is_a_constant_among_the_nuisance(place):
    """Columns of both groups depend on each other once they are demeaned: their difference is still estimable."""
    summary = json.loads(run(*DESIGN, "-o", "demeaned", "-D", "-x", "-n", "50", *LABEL))
    X = np.column_stack([GROUPS[:, 0], np.round(AGE, 6), np.ones(N)])
    options = {"n_perm": 49, "two_sided": False, "mask": "mask.nii.gz", "conventions": "randomise"}
    difference = permutation_test("maps.nii.gz", X, [1, 0, 0], **options)
    age = permutation_test("maps.nii.gz", X, [0, 1, 0], **options)
    np.testing.assert_allclose(read("demeaned_tstat1"), expected(difference, "t"), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(read("demeaned_tstat2"), expected(age, "t"), rtol=1e-4, atol=1e-5)
    assert [one["dof"] for one in summary["tests"]] == [N - 3, N - 3]
    text(place / "mean.con", [[1, 1, 0]], "NumContrasts", ["mean"])
    assert "tstat1 (mean) is not estimable" in run(*DESIGN[:-1], "mean.con", "-o", "x", "-D", code=1)


def test_blocks_variance_smoothing_and_skeletons(place):
    labels = np.tile(np.arange(1, 6), 2)
    text(place / "design.grp", labels[:, None])
    run(*DESIGN, "-o", "blocks", "-e", "design.grp", "-v", "3", "--T2", "-n", "0", "--tfce_H=1.5")
    within = permutation_test(
        "maps.nii.gz",
        np.column_stack([GROUPS, np.round(AGE, 6)]),
        [1, -1, 0],
        mask="mask.nii.gz",
        n_perm=1000,
        two_sided=False,
        tfce=True,
        exchangeability_blocks=labels,
        variance_smoothing_fwhm=3 * np.sqrt(8 * np.log(2)),
        conventions="randomise",
        tfce_H=1.5,
        tfce_E=1.0,
        tfce_connectivity=26,
    )
    assert within.provenance["exhaustive"]
    np.testing.assert_allclose(read("blocks_tfce_corrp_tstat1"), expected(within, "p_fwe_tfce"))
    text(place / "pairs.grp", np.repeat(np.arange(1, 6), 2)[:, None])
    text(place / "age.con", [[0, 0, 1]], "NumContrasts")
    outcome = run("-i", "maps", "-1", "-o", "whole", "-e", "pairs.grp", "--permuteBlocks", "-x", "-n", 0, *LABEL)
    assert json.loads(outcome)["tests"][0]["n_shufflings"] == 2**5


def test_the_observed_data_alone_have_no_p(place):
    for arguments, message in ((("-n", 1, "-x"), "no p to write"), ((), "no p is asked for")):
        outcome = CliRunner().invoke(commands, ["randomise", *DESIGN, "-o", "raw", *map(str, arguments)])
        assert outcome.exit_code == 0
        assert message in outcome.stderr
    assert sorted(path.name for path in place.glob("raw_*")) == ["raw_tstat1.nii.gz", "raw_tstat2.nii.gz"]


# How each flag of randomise 2.9 is used, and what is written beside the statistic.
FLAGS = {
    "-x": ("-x", "vox_corrp"),
    "-T": ("-T", "tfce_corrp"),
    "--T2": ("--T2", "tfce_corrp"),
    "-c": ("-c 2", "clustere_corrp"),
    "-C": ("-C 2", "clusterm_corrp"),
    "-n": ("-x -n 0", "vox_corrp"),
    "-v": ("-x -v 4", "vox_corrp"),
    "-D": ("-x -D", "vox_corrp"),
    "-R": ("-T -C 2 -R", "tfce tfce_corrp clusterm clusterm_corrp"),
    "-N": ("-x -N", "vox_corrp"),
    "-m": ("-x -m mask", "vox_corrp"),
    "-e": ("-x -e design.grp", "vox_corrp"),
    "--permuteBlocks": ("-x -e design.grp --permuteBlocks", "vox_corrp"),
    "--uncorrp": ("-x -T --uncorrp", "vox_corrp vox_p tfce_corrp tfce_p"),
    "--seed": ("-x --seed=3", "vox_corrp"),
    "--tfce_H": ("-T --tfce_H=1", "tfce_corrp"),
    "--tfce_E": ("-T --tfce_E 1", "tfce_corrp"),
    "--tfce_C": ("-T --tfce_C=26", "tfce_corrp"),
    "--quiet": ("-x --quiet", "vox_corrp"),
    "-V": ("-x -V", "vox_corrp"),
    "-f": ("-x -f design.fts", "vox_corrp"),
    "--fonly": ("-x -f design.fts --fonly", "vox_corrp"),
    "-F": ("-f design.fts -F 2 --fonly", "clustere_corrp"),
    "-S": ("-f joint.fts -S 2 --fonly", "clusterm_corrp"),
    "--vxl": ("-x --vxl 3 --vxf grey", "vox_corrp"),
    "--vxf": ("-x --vxl=3 --vxf=grey.nii.gz -f joint.fts", "vox_corrp"),
    "-U": ("-x -U 3", "vox_corrp"),
    "-P": ("-x -P", "vox_corrp"),
    "--skipTo": ("-x --skipTo=1", "vox_corrp"),
    "--glm_output": ("-x --glm_output", "vox_corrp glm_cope glm_varcope glm_sigmasqr"),
}
OTHERS = ("-i", "-o", "-d", "-t", "-1", "-h", "--help", "-q")  # of every call, or tested elsewhere
# Of its help and its source.
ALL = """
    -D -1 -i -m -o -d -t -f -e --effective_design -q -Q -n -x --fonly -T --T2 -c -C -F -S -v -h --help --quiet --twopass
    -R --uncorrp -P -N --permout --norcmask --seed --tfce_H --tfce_D --tfce_E --tfce_C --vxl --vxf --multi --debug -U
    --detectNull --permuteBlocks -V --skipTo --glm_output --film
"""


def test_a_column_that_differs_between_voxels_is_a_regressor_of_each(place):
    run(*DESIGN, "-o", "own", "--vxl", "3", "--vxf", "grey", "-x", "-n", "60", "--seed", "2")
    cohort = Cohort.from_maps("maps.nii.gz", "mask.nii.gz", layers={"grey": "grey.nii.gz"})
    options = {"n_perm": 59, "two_sided": False, "seed": 2, "conventions": "randomise", "regressors": "grey"}
    for number, contrast in ((1, [1, -1, 0]), (2, "grey")):
        result = permutation_test(cohort, GROUPS, contrast, cluster_forming_threshold=None, **options)
        np.testing.assert_array_equal(read(f"own_tstat{number}"), expected(result, "t"))
        np.testing.assert_array_equal(read(f"own_vox_corrp_tstat{number}"), expected(result, "p_fwe_voxel"))


def test_shufflings_are_counted_and_written_so_that_others_can_take_them(place):
    counted = json.loads(run(*DESIGN, "-o", "x", "-q", "-f", "design.fts", *LABEL))["tests"]
    assert [one["n_distinct"] for one in counted] == ["252", f"{math.factorial(N)}", f"{math.factorial(N)}", "252"]
    assert "1024 distinct sign flips" in run("-i", "maps", "-1", "-o", "x", "-q")
    assert not list(place.glob("x_*"))
    for arguments in ((*DESIGN, "--skipTo", "1"), ("-i", "maps", "-m", "mask", "-1")):
        run(*arguments, "-o", "own", "-x", "-n", 40, "-P", "--seed", 5)
        rows = np.loadtxt("own_perm_tstat1.txt", dtype=int)
        assert rows.shape == (40, N)
        assert rows[0].tolist() == list(range(1, N + 1))
        X, contrast = (None, None) if "-1" in arguments else (np.column_stack([GROUPS, np.round(AGE, 6)]), [1, -1, 0])
        options = {"mask": "mask.nii.gz", "two_sided": False, "conventions": "randomise", "shufflings": rows}
        again = permutation_test("maps.nii.gz", X, contrast, **options)
        assert np.array_equal(read("own_vox_corrp_tstat1"), expected(again, "p_fwe_voxel"))


def test_what_a_model_estimates_is_that_of_least_squares(place):
    run(*DESIGN, "-o", "glm", "--glm_output", "-n", 1)
    X = np.column_stack([GROUPS, np.round(AGE, 6)])
    Y = np.moveaxis(nib.load("maps.nii.gz").get_fdata(), -1, 0)[:, 3, 3, 3]
    beta, (squares,), *_ = np.linalg.lstsq(X, Y[:, None], rcond=None)
    variance = squares / (N - 3)
    for number, row in ((1, np.array([1, -1, 0])), (2, np.array([0, 0, 1]))):
        at = {name: read(f"glm_{name}_tstat{number}")[3, 3, 3] for name in ("glm_cope", "glm_varcope", "glm_sigmasqr")}
        spread = row @ np.linalg.inv(X.T @ X) @ row
        wanted = {"glm_cope": row @ beta[:, 0], "glm_varcope": variance * spread, "glm_sigmasqr": variance}
        assert at == pytest.approx(wanted, rel=1e-4)
    run(*DESIGN, "-o", "own", "--glm_output", "--vxl", 3, "--vxf", "grey", "-n", 1)
    assert not list(place.glob("own_glm_sigmasqr*")), "each voxel has a design of its own"


def test_no_message_speaks_of_an_option_of_python(place):
    text(place / "joint.fts", [[1, 1]], "NumContrasts")
    outcome = CliRunner().invoke(commands, ["randomise", *DESIGN, "-o", "x", "-f", "joint.fts", "-x", "-n", "10"])
    assert outcome.exit_code == 0
    assert "two_sided" not in outcome.stderr


def test_tests_are_numbered_f_before_t(place):
    for number, label in enumerate(("fstat1", "fstat2", "tstat1", "tstat2"), 1):
        outcome = json.loads(run(*DESIGN, "-o", "x", "-f", "design.fts", "--skipTo", number, "-n", 1, *LABEL))
        assert [one["test"] for one in outcome["tests"]] == [label]


@pytest.mark.parametrize("mode", ["0", "1", "2", "3"])
def test_modes_of_nuisance_are_methods_of_the_library(place, mode):
    method = {"0": "kennedy", "1": "freedman-lane", "2": "manly", "3": "ter-braak"}[mode]
    run(*DESIGN, "-o", "mode", "-U", mode, "-x", "-n", 40, "--skipTo", 1)
    X = np.column_stack([GROUPS, np.round(AGE, 6)])
    options = {"mask": "mask.nii.gz", "two_sided": False, "conventions": "randomise", "n_perm": 39, "method": method}
    result = permutation_test("maps.nii.gz", X, [1, -1, 0], **options)
    assert np.array_equal(read("mode_vox_corrp_tstat1"), expected(result, "p_fwe_voxel"))


def test_volumes_of_block_0_stay_where_they_are(place):
    labels = np.array([0, 1, 1, 1, 0, 1, 1, 1, 0, 0])
    text(place / "held.grp", labels[:, None])
    run(*DESIGN, "-o", "held", "-e", "held.grp", "-x", "-n", 0, "-P", "--skipTo", 1)
    rows = np.loadtxt("held_perm_tstat1.txt", dtype=int)
    assert len(rows) == math.comb(6, 3)
    assert (rows[:, labels == 0] == 1 + np.flatnonzero(labels == 0)).all()


def test_no_flag_of_randomise_is_forgotten():
    assert set(ALL.split()) == {*FLAGS, *OTHERS, *REFUSED}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_works(place, flag):
    arguments, outputs = FLAGS[flag]
    text(place / "design.grp", np.repeat([1, 2], 5)[:, None])
    text(place / "joint.fts", [[1, 1]], "NumContrasts")
    n = [] if "-n" in arguments.split() else ["-n", "10"]
    if flag in ("-n", "-e", "--permuteBlocks"):  # few enough for all, and blocks that leave something to shuffle
        text(place / "design.mat", [[1.0]] * N)
        text(place / "design.con", [[1.0]], "NumContrasts")
    run("-i", "maps", "-o", "out", "-d", "design.mat", "-t", "design.con", *arguments.split(), *n)
    kinds = ["fstat"] * ("-f" in arguments.split()) + ["tstat"] * ("--fonly" not in arguments)
    for kind in kinds:
        texts = [f"out_{name}_{kind}1.txt" for name in outputs.split() if name == "vox_corrp" and flag == "-N"]
        texts += [f"out_perm_{kind}1.txt"] * (flag == "-P")
        expected = [f"out_{kind}1.nii.gz", *(f"out_{name}_{kind}1.nii.gz" for name in outputs.split()), *texts]
        assert sorted(path.name for path in place.glob(f"out_*{kind}1.*")) == sorted(expected)
    assert not [path for path in place.glob("out_*stat*") if not any(kind in path.name for kind in kinds)]


@pytest.mark.parametrize("flag", REFUSED)
def test_what_is_not_supported_is_refused_by_name(flag):
    command = commands.command_named("randomise")
    option = next(one for one in command.params if flag in one.opts)
    error = run(*DESIGN, "-o", "x", *([flag] if option.is_flag else [flag, "1"]), code=2)
    assert f"randomise's {flag} is not supported: {REFUSED[flag]}." in " ".join(error.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-i", "maps", "-o", "x"), "A design and its contrasts are needed"),
        ((*DESIGN, "-o", "x", "-1"), "leave -d and -t out, or -1"),
        (("-i", "maps", "-o", "x", "-1", "-D"), "-D removes the mean"),
        ((*DESIGN, "-o", "x", "-F", "3"), "-F and -S need F tests"),
        ((*DESIGN, "-o", "x", "--fonly"), "--fonly needs F tests"),
        ((*DESIGN, "-o", "x", "--permuteBlocks"), "add -e design.grp"),
        ((*DESIGN, "-o", "x", "-T", "--T2"), "exclude each other"),
        ((*DESIGN, "-o", "x", "-x", "--tfce_H", "1"), "need -T or --T2"),
        ((*DESIGN, "-o", "nowhere/x", "-x"), "nowhere is not a folder"),
        ((*DESIGN[:-1], "none.con", "-o", "x"), "none.con does not exist"),
        (("-i", "none", *DESIGN[2:], "-o", "x"), "none does not exist"),
        ((*DESIGN, "-o", "x", "-e", "design.mat"), "one column of whole numbers"),
        (("-i", "maps", "-1", "-o", "x", "-x", "-e", "zero.grp"), "without -1 and --permuteBlocks"),
        ((*DESIGN, "-o", "x", "-x", "-e", "zero.grp", "--permuteBlocks"), "without -1 and --permuteBlocks"),
        ((*DESIGN, "-o", "x", "-x", "--skipTo", "3"), "there are 2 tests"),
        ((*DESIGN, "-o", "x", "-x", "-e", "variances.grp"), "FEAT's .grp files group variances"),
        ((*DESIGN, "-o", "x", "-f", "design.mat"), "has 3 columns, but design.con has 2 contrasts"),
        ((*DESIGN[:-1], "design.fts", "-o", "x"), "design.fts has 2 columns, but design.mat has 3"),
        (("-i", "maps", "-d", "short.mat", "-t", "design.con", "-o", "x"), "short.mat has 4 rows, but there are 10"),
        (("-i", "maps", "-1", "-o", "x", "-x", "-n", "0", "-e", "design.mat"), "one column of whole numbers"),
    ],
)
def test_what_can_not_be_run_is_told_before_anything_is_written(place, arguments, message):
    text(place / "short.mat", np.ones((4, 3)))
    text(place / "zero.grp", np.arange(N)[:, None] // 5)
    text(place / "variances.grp", np.arange(N)[:, None] // 5 + 1)
    before = sorted(place.iterdir())
    assert message in run(*arguments, code=1)
    assert sorted(place.iterdir()) == before


def test_unknown_flags_and_values(place):
    assert re.search(r"No such option.*--tfce_X.*--tfce_", run(*DESIGN, "-o", "x", "--tfce_X", "1", code=2), re.DOTALL)
    assert "-Z" in run(*DESIGN, "-o", "x", "-Z", code=2)
    assert "Missing option '-o'" in run(*DESIGN, code=2)
    assert "-c" in run(*DESIGN, "-o", "x", "-c", "high", code=2)
    assert "unexpected extra argument" in run(*DESIGN, "-o", "x", "-x", "left over", code=2).lower()


def test_several_images_of_one_name_are_not_guessed_at(place):
    (place / "maps.nii").write_bytes(b"")
    assert "maps may be maps.nii.gz or maps.nii. Name one." in run(*DESIGN, "-o", "x", code=1)


def test_all_shufflings_of_many_subjects_are_refused(place):
    values = np.random.default_rng(0).normal(size=(3, 3, 3, 22)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), "many.nii.gz")
    assert "there are more than the 1,048,576 that are enumerated" in run(
        "-i", "many", "-1", "-x", "-o", "x", "-n", "0", code=1
    )


def test_help_knows_every_flag():
    shown = run("--help")
    for flag in (*"iodtfemn1DcCFSTxvRN", "-uncorrp", "-seed", "-T2", "-fonly", "-permuteBlocks"):
        assert re.search(rf"^  -{flag}\b", shown, re.MULTILINE), flag
