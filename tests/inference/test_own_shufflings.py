"""Sets of the user's own through `permutation_test`: what they are counted as, told as, and refused with."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import InputError, OutputExistsError, ShufflingError
from numbaglm.results.reporting import words
from numbaglm.stats.shuffling.own import digest
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parents[1] / "golden2"


def own(n, n_rows, seed=0, errors="ee"):
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation(n) if errors != "ise" else np.arange(n) for _ in range(n_rows)]) + 1
    return rows if errors == "ee" else rows * rng.choice([-1, 1], rows.shape)


def everything(tested, errors):
    """All distinct ones, as `permutation_test` plans them, as rows of the design."""
    plan = plan_shufflings(len(tested), 10_000, 0, design_rows=tested, errors=errors)
    index, sign = plan.draw(0, plan.n_shufflings)
    back = np.argsort(index, axis=1)
    return np.take_along_axis(sign, back, axis=1) * (back + 1)


@pytest.fixture
def cohort(as_cohort):
    rng = np.random.default_rng(3)
    return as_cohort(rng.normal(size=(5, 60)) + 0.8, np.ones((3, 4, 5), bool))


DESIGN = pd.DataFrame({"x": [0.3, 1.0, -0.2, 2.5, 1.7], "z": [1.0, 0, 2, 1, 4], "intercept": 1.0})
METHODS = ("freedman-lane", "draper-stoneman", "dekker", "still-white", "kennedy", "manly", "ter-braak")


@pytest.mark.parametrize(
    ("contrast", "errors", "options"),
    [
        *(("x", "ee", {"method": method, "tfce": method == "freedman-lane"}) for method in METHODS),
        ("intercept", "ise", {"tfce": True}),
        ("x", "both", {}),
        (["x", "z"], "ee", {}),
        ("x", "ee", {"variance_groups": [0, 0, 0, 1, 1]}),
        ("x", "ee", {"conventions": "palm"}),
    ],
)
def test_a_whole_set_gives_what_enumeration_gives(cohort, contrast, errors, options):
    rows = everything(DESIGN[np.atleast_1d(contrast)], errors)
    options = {"cluster_forming_threshold": 0.1, "n_workers": 1, **options}
    planned = ng.permutation_test(cohort, DESIGN, contrast, errors=errors, **options)
    given = ng.permutation_test(cohort, DESIGN, contrast, shufflings=rows, **options)
    assert (given.provenance["errors"], given.provenance["exhaustive"]) == (errors, True)
    assert given.provenance["precision"] == "float64"
    for name, null in planned.h0.items():
        np.testing.assert_array_equal(given.h0[name], null, err_msg=name)
    for name in planned.maps:
        np.testing.assert_array_equal(given.maps[name], planned.maps[name], err_msg=name)


def test_nulls_stand_in_the_order_of_the_rows(cohort):
    rows = own(5, 30)
    test = {"cluster_forming_threshold": None, "n_workers": 1}
    result = ng.permutation_test(cohort, DESIGN, "x", shufflings=rows, **test)
    assert len(result.h0["max_t"]) == 31
    M, Y = DESIGN.to_numpy(), cohort.store.read(0, 60).astype(float)
    Z = M[:, 1:]
    E = Y - Z @ np.linalg.pinv(Z) @ Y
    for k, row in enumerate(rows):
        X = M.copy()
        X[:, 0] = M[np.abs(row) - 1, 0]  # Freedman and Lane: the data move the other way, the design of nuisance stays
        moved = np.empty_like(E)
        moved[np.abs(row) - 1] = E
        beta = np.linalg.pinv(M) @ moved
        s2 = ((moved - M @ beta) ** 2).sum(0) / 2
        t = beta[0] / np.sqrt(s2 * np.linalg.inv(M.T @ M)[0, 0])
        np.testing.assert_allclose(result.h0["max_t"][k + 1], np.abs(t).max(), rtol=1e-6)


def test_what_is_told_of_them(cohort, tmp_path):
    rows = own(5, 30, errors="both")
    result = ng.permutation_test(cohort, DESIGN, "x", shufflings=rows)
    assert "as given: 31 of the user's own, the data as they are added to them." in result.summary()
    assert dict(words.what_was_asked(result))["Shufflings"] == "31 (of the user's own)"
    text = words.methods_paragraph(result)[0]
    assert "by 31 permutations with sign flips, shufflings of the user's own (Winkler" in text
    assert result.asked.own_shufflings == digest(rows) == words.summarise(result)["own_shufflings"]
    again = ng.PermutationResult.load(result.save(tmp_path / "saved"))
    assert again.asked.own_shufflings == digest(rows)
    planned = ng.permutation_test(cohort, DESIGN, "x", n_perm=20)
    assert planned.asked.own_shufflings is None
    assert "own_shufflings" not in words.summarise(planned)


def test_a_durable_run_goes_on_under_the_same_set_alone(cohort, tmp_path):
    rows, test = own(5, 30), {"cluster_forming_threshold": None, "store": tmp_path / "run"}
    first = ng.permutation_test(cohort, DESIGN, "x", shufflings=rows, **test)
    np.savetxt(tmp_path / "own.csv", rows, delimiter=",", fmt="%d")
    again = ng.permutation_test(cohort, DESIGN, "x", shufflings=tmp_path / "own.csv", **test)
    np.testing.assert_array_equal(first.h0["max_t"], again.h0["max_t"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["shufflings"] == digest(rows)
    with pytest.raises(OutputExistsError, match="shufflings"):
        ng.permutation_test(cohort, DESIGN, "x", shufflings=rows[::-1], **test)


def test_all_contrasts_share_them(cohort):
    rows = own(5, 40, errors="both")
    results = ng.permutation_test(cohort, DESIGN, {"x": "x", "mean": "intercept"}, shufflings=rows)
    assert {one.asked.own_shufflings for one in results.values()} == {digest(rows)}
    joint = ng.permutation_test(
        cohort, DESIGN, {"x": "x", "mean": "intercept"}, shufflings=rows, fwe_across_contrasts=True
    )
    np.testing.assert_array_equal(results["x"].maps["p_unc"], joint["x"].maps["p_unc"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_perm": 99}, "n_perm=99, which says how many"),
        ({"stop": "decided"}, "stop='decided'"),
        ({"p_interval": 0.95}, "p_interval"),
        ({"method": "huh-jhun"}, "rotates subjects"),
        ({"errors": "ise"}, "row 1, which changes places.*errors='ise'"),
        ({"covariance": "sandwich"}, "row 1, which changes places.*as a sandwich variance asks for"),
        ({"exchangeability_blocks": [0, 0, 1, 1, 1]}, r"row \d+, which moves subjects where they may not"),
        ({"shufflings": np.arange(5)[None]}, "0 in row 1.*add 1"),
        ({"shufflings": "own.mat"}, "'shufflings'.*path of a .npy"),
    ],
)
def test_what_does_not_go_with_them_is_refused_by_name(cohort, options, message):
    with pytest.raises((InputError, ShufflingError), match=message):
        ng.permutation_test(cohort, DESIGN, "x", **{"shufflings": own(5, 20), **options})


def test_flips_of_a_sandwich_and_tails_may_be_ones_own(as_cohort):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(12, 8)))
    signs = np.repeat(np.random.default_rng(1).choice([-1, 1], (200, 6)), 2, axis=1)
    rows, blocks = signs * np.arange(1, 13), np.repeat(np.arange(6), 2)
    result = ng.permutation_test(cohort, covariance="sandwich", exchangeability_blocks=blocks, shufflings=rows)
    assert (result.asked.errors, len(np.unique(result.h0["max_t"].round(9)))) == ("ise", 32)
    one = rows[:3] * np.where(np.arange(12) == 0, -1, 1)
    with pytest.raises(ShufflingError, match="row 1, which changes signs"):
        ng.permutation_test(cohort, covariance="sandwich", exchangeability_blocks=blocks, shufflings=one)
    free = np.random.default_rng(1).choice([-1, 1], (200, 12)) * np.arange(1, 13)
    refined = ng.permutation_test(cohort, shufflings=free, tail="gamma")
    assert refined.asked.tail == "gamma"
    assert refined.asked.tail_fits["max_t"] is not None


def test_modalities_take_those_that_palm_drew():
    """The set of its cca1_tfce, 100 of 720 (tests/golden2/README.md)."""
    folder, data = GOLDEN / "v3_cca", {}
    for k in (1, 2):
        data[f"m{k}"] = ng.Cohort.from_maps(nib.load(folder / f"data_m{k}.nii.gz"), mask=folder / "mask.nii.gz")
    read = {name: np.loadtxt(folder / f"{name}.csv", delimiter=",", ndmin=2) for name in ("design", "contrasts")}
    result = ng.permutation_test(
        data,
        np.column_stack([read["design"], np.ones(6)]),  # PALM takes means off both sides
        np.column_stack([read["contrasts"][np.loadtxt(folder / "ftests.csv", delimiter=",") > 0], np.zeros(2)]),
        combine="cca",
        conventions="palm",
        cluster_forming_threshold=None,
        tfce=True,
        shufflings=folder / "shufflings" / "cca1_tfce.csv",
    )
    ref = kept_arrays(folder / "ref.npz")
    n = len(result.h0[result.max_statistic])
    assert (n, result.asked.n_shufflings) == (100, 100)
    for ours, theirs in (("p_unc", "uncp"), ("p_fwe_voxel", "fwep")):
        expected = ref[f"cca1_tfce/vox_cca1_{theirs}"]
        np.testing.assert_array_equal(np.rint(result.maps[ours] * n), np.rint(expected * n), err_msg=ours)
