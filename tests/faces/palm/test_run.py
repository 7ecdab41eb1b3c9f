import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import numbaglm as ng
from numbaglm.faces.commands import commands
from reference.maps import AFFINE, SHAPE, volumes

N = 8
GROUPS = np.repeat(np.eye(2), N // 2, axis=0)
LEAST = "-i a.nii.gz -m mask.nii.gz -d d.csv -t t.csv -n 100 -seed 3"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    nib.save(nib.Nifti1Image(mask, AFFINE), "mask.nii.gz")
    for name, seed in (("a", 1), ("b", 2)):
        values = volumes(N, seed=seed)
        values[: N // 2, 2:4, 3, 2] += 3.0
        nib.save(nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), f"{name}.nii.gz")
    files = {"d": GROUPS, "t": [[1, -1], [-1, 1]], "f": [[1, 0]], "ones": np.ones((N, 1)), "one": [[1]]}
    for name, rows in files.items():
        np.savetxt(f"{name}.csv", rows, delimiter=",")
    return tmp_path


def run(text, code=0):
    outcome = CliRunner().invoke(commands, ["palm", *text.split()])
    if outcome.exception and not isinstance(outcome.exception, SystemExit):
        raise outcome.exception
    assert outcome.exit_code == code, outcome.stderr
    return outcome.stderr if code else outcome.stdout


def read(name):
    return nib.load(f"{name}.nii.gz").get_fdata()


def test_maps_are_what_permutation_test_says(place):
    told = json.loads(run(f"{LEAST} -T -C 2 -logp -saveparametric -savemax -savedof -o out --json -quiet"))
    cohort = ng.Cohort.from_maps("a.nii.gz", "mask.nii.gz")
    result = ng.permutation_test(
        cohort,
        GROUPS,
        [1, -1],
        n_perm=99,
        seed=3,
        two_sided=False,
        cluster_forming_threshold=("z", 2.0),
        tfce_uncorrected=True,
        conventions="palm",
        errors="ee",
    )
    names = {
        "vox_tstat": "t",
        "clustere_tstat": "size",
        "tfce_tstat": "tfce",
        "vox_tstat_uncp": "logp_unc",
        "vox_tstat_fwep": "logp_fwe_voxel",
        "clustere_tstat_fwep": "logp_fwe_size",
        "tfce_tstat_fwep": "logp_fwe_tfce",
        "tfce_tstat_uncp": "logp_unc_tfce",
        "vox_tstat_uncparap": "logp_parametric",
    }
    for theirs, ours in names.items():
        expected = result.geometry.unmask(np.float32(result.maps[ours]), 0.0)
        np.testing.assert_allclose(read(f"out_{theirs}_c1"), expected, rtol=1e-6, err_msg=theirs)
    assert {path.name for path in place.glob("out_*_c1.*")} == {
        *(f"out_{name}_c1.nii.gz" for name in names),
        *(f"out_{name}_tstat_max_c1.csv" for name in ("vox", "tfce", "clustere")),
        "out_vox_tstat_c1.dof",
    }
    np.testing.assert_allclose(np.loadtxt("out_tfce_tstat_max_c1.csv"), result.h0["max_tfce"])
    assert [one["test"] for one in told["tests"]] == ["tstat_c1", "tstat_c2"]
    assert told["tests"][0]["n_shufflings"] == 70


def test_inputs_and_designs_are_numbered_where_there_are_several(place):
    out = run(f"{LEAST} -i b.nii.gz -d ones.csv -t one.csv -ise -o out -quiet")
    assert "out_vox_tstat_m2_d1_c2.nii.gz" in out
    assert "out_vox_tstat_fwep_m1_d2_c1.nii.gz" in out
    assert "tstat_m1_d1_c1" in out


def test_joint_tests_come_after_each_by_itself(place):
    run(f"{LEAST} -i b.nii.gz -npc -corrmod -fdr -savemask -o out -quiet")
    there = {path.name for path in place.glob("out_*c1.nii.gz")}
    assert "out_vox_npc_fisher_fwep_c1.nii.gz" in there
    assert {f"out_vox_tstat_{kind}_m1_c1.nii.gz" for kind in ("mfwep", "mfdrp", "fdrp", "uncp")} <= there
    assert (place / "out_intersection_mask.nii.gz").exists()
    run(f"{LEAST} -i b.nii.gz -mv -f f.csv -nounivariate -o mv -quiet")
    there = {path.name for path in place.glob("mv_*.nii.gz")}
    assert not any("tstat" in name.replace("hotellingtsq", "") for name in there)
    assert "mv_vox_mv_hotellingtsq_fwep_c1.nii.gz" in there


def test_all_contrasts_are_checked_before_any_is_tested(place):
    message = run("-i a.nii.gz -d ones.csv -t one.csv -n 50 -o out", code=1)
    assert "Use -ise" in message or "-ise" in message
    assert not list(place.glob("out_*"))
    assert "-n 0 asks for all shufflings of contrast" in _many(place)


def _many(place):
    nib.save(nib.Nifti1Image(np.moveaxis(volumes(24, seed=1), 0, -1), AFFINE), "many.nii.gz")
    np.savetxt("x.csv", np.column_stack([np.arange(24.0), np.ones(24)]), delimiter=",")
    np.savetxt("c.csv", [[1, 0]], delimiter=",")
    return run("-i many.nii.gz -d x.csv -t c.csv -n 0 -o out", code=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-o nowhere/out", "-o nowhere/out: nowhere is not a folder"),
        ("-eb one.csv", "one.csv has 1 rows, but there are 8 maps"),
        ("-vg one.csv", "one.csv has 1 rows, but there are 8 maps"),
    ],
)
def test_files_that_do_not_fit(place, text, message):
    assert message in run(f"{LEAST} {text}", code=1)


def test_the_observed_alone_has_no_p(place):
    run("-i a.nii.gz -d d.csv -t t.csv -n 1 -savemax -o out -quiet")
    assert {path.name for path in place.glob("out_*")} == {f"out_vox_tstat_c{k}.nii.gz" for k in (1, 2)}


def test_clusters_of_demeaned_data_are_palms(place):
    """PALM's z is that of a degree of freedom more: so is the threshold."""
    run("-i a.nii.gz -d d.csv -t t.csv -n 0 -demean -C 1.5 -zstat -o out -quiet")
    z, size = read("out_vox_ztstat_c1"), read("out_clustere_ztstat_c1")
    assert (size > 0).sum() == (z >= 1.5).sum() > 0


def test_contrasts_of_different_ranks_are_compared_as_z(place):
    np.savetxt("three.csv", np.column_stack([GROUPS, np.arange(N) % 3]), delimiter=",")
    np.savetxt("two.csv", [[1, -1, 0], [0, 0, 1]], delimiter=",")
    np.savetxt("both.csv", [[1, 1]], delimiter=",")
    out = run("-i a.nii.gz -d three.csv -t two.csv -f both.csv -n 40 -corrcon -o out")
    assert "out_vox_zfstat_cfwep_c3.nii.gz" in out
    assert "out_vox_ztstat_c1.nii.gz" in out


def test_contrasts_of_the_inputs_are_those_of_permutation_test(place):
    (place / "c.mset").write_text("Matrix 1 2\n1 -1\n")
    (place / "d.mset").write_text("Matrix 1 2\n1 -1\n")
    run("-i a.nii.gz -i b.nii.gz -m mask.nii.gz -d d.csv -con c.mset d.mset -mv -nounivariate -n 0 -o out -quiet")
    a, b = (nib.load(f"{name}.nii.gz") for name in "ab")
    nib.save(nib.Nifti1Image(np.float32(a.get_fdata() - b.get_fdata()), AFFINE), "difference.nii.gz")
    run("-i difference.nii.gz -m mask.nii.gz -d d.csv -t t.csv -twotail -n 0 -o t -quiet")
    np.testing.assert_allclose(read("out_vox_mv_hotellingtsq"), read("t_vox_tstat_c1") ** 2, rtol=1e-3)
    np.testing.assert_array_equal(read("out_vox_mv_hotellingtsq_fwep"), read("t_vox_tstat_fwep_c1"))


def test_contrasts_are_combined(place):
    run(f"{LEAST} -i b.nii.gz -npccon -corrmod -nounivariate -o each -quiet")
    each = {f"each_vox_npc_fisher{kind}_m{k}.nii.gz" for kind in ("", "_uncp", "_fwep", "_mfwep") for k in (1, 2)}
    assert {path.name for path in place.glob("each_*")} == each
    run(f"{LEAST} -i b.nii.gz -npcmod -npccon -nounivariate -o all -quiet")
    assert {path.name for path in place.glob("all_*")} == {
        f"all_vox_npc_fisher{kind}.nii.gz" for kind in ("", "_uncp", "_fwep")
    }
    run(f"{LEAST} -npccon -nounivariate -o one -quiet")
    assert (place / "one_vox_npc_fisher_fwep.nii.gz").exists()


def test_without_a_design_the_mean_is_tested_in_both_directions(place):
    run("-i a.nii.gz -m mask.nii.gz -n 0 -o none")
    run("-i a.nii.gz -m mask.nii.gz -n 0 -d ones.csv -t one.csv -ise -o named")
    assert np.array_equal(read("none_vox_tstat_fwep_c1"), read("named_vox_tstat_fwep"))
    np.testing.assert_array_equal(read("none_vox_tstat_c2"), -read("none_vox_tstat_c1"))


def test_without_contrasts_all_columns_are_tested_together(place):
    np.savetxt("all.csv", np.eye(2), delimiter=",")
    np.savetxt("both.csv", [[1, 1]], delimiter=",")
    run("-i a.nii.gz -m mask.nii.gz -n 30 -d d.csv -ise -o none")
    run("-i a.nii.gz -m mask.nii.gz -n 30 -d d.csv -ise -t all.csv -f both.csv -fonly -o named")
    (file,) = place.glob("none_vox_fstat_fwep*")
    (named,) = place.glob("named_vox_fstat_fwep*")
    assert np.array_equal(nib.load(file).get_fdata(), nib.load(named).get_fdata())
    assert "no contrast" in run("-i a.nii.gz -m mask.nii.gz -n 30 -d d.csv -tonly -o x", code=1)
