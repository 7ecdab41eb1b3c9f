"""v and G of those who are there, against their definition, an element and a shuffling at a time."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_incomplete
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.incomplete import LOWEST, separate_z

GROUP = np.repeat([0, 1], [5, 4])
AGE = np.array([3.0, 1, 4, 1.5, 5, 9, 2, 6, 5.3])
ONE = np.ones(9)
THREE = np.repeat([0, 1, 2], 3)
CASES = {
    "two groups": (np.column_stack([GROUP, 1 - GROUP]), [[1.0, -1]], "ee", GROUP),
    "with a covariate": (np.column_stack([GROUP, ONE, AGE]), [[1.0, 0, 0]], "ee", GROUP),
    "the mean, by flips": (np.column_stack([ONE, AGE]), [[1.0, 0]], "ise", GROUP),
    "both": (np.column_stack([GROUP, 1 - GROUP]), [[1.0, -1]], "both", GROUP),
    "G of three groups": ((THREE[:, None] == np.arange(3)).astype(float), [[1.0, -1, 0], [0, 1, -1]], "ee", THREE),
}


def data(seed=0, n_voxels=40):
    rng = np.random.default_rng(seed)
    Y = rng.normal(size=(9, n_voxels)) * np.where(GROUP, 3.0, 1.0)[:, None] + rng.normal(size=n_voxels)
    present = rng.random((9, n_voxels)) > 0.15
    present[:, :8] = True
    present[:, 9], present[:, 10] = np.arange(9) < 2, GROUP == 0
    return np.where(present, Y, 0).astype(np.float32), present


def cohort_of(Y, present=None):
    where = Geometry(np.ones((Y.shape[1], 1, 1), bool), np.eye(4))
    return Cohort(CohortStore.from_array(Y, where, present=present))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("maps", ["none", "all"])
def test_every_shuffling_is_the_definition_of_those_who_are_there(case, maps):
    X, C, errors, label = CASES[case]
    C, (Y, present) = np.asarray(C), data()
    options = {"variance_groups": label, "missing": "element", "errors": errors, "n_perm": 150}
    options |= {"cluster_forming_threshold": 0.05 if maps == "all" else None, "tfce": maps == "all"}
    result = ng.permutation_test(cohort_of(Y, present), X, C if len(C) > 1 else C[0], **options)
    shufflings = plan_shufflings(
        9, n_perm=150, seed=0, errors=errors, blocks=None, block_scheme="within", design_rows=X[:, C.any(axis=0)]
    )
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    found = separate_z(Y.astype(float), present, X, C, label, index, sign)
    tested = result.maps.get("reason", np.zeros(Y.shape[1])) == 0
    assert 20 < tested.sum() < Y.shape[1]
    assert (found[0, ~tested] == (0 if len(C) == 1 else LOWEST)).all()
    np.testing.assert_allclose(result.maps["z"], found[0] * tested, atol=1e-6)
    height = np.abs(found) if len(C) == 1 else found
    np.testing.assert_allclose(result.h0["max_z"], height[:, tested].max(axis=1), atol=1e-6)
    floor = height[0] - 1e-7
    np.testing.assert_array_equal(result.maps["p_unc"][tested], (height >= floor).mean(axis=0)[tested])
    assert (result.maps["p_unc"][~tested] == 1).all()
    np.testing.assert_array_equal(result.maps["n_subjects"], present.sum(axis=0))
    assert (result.maps["dof"] > 0).sum() == tested.sum()


@pytest.mark.parametrize("case", ["two groups", "the mean, by flips", "G of three groups"])
def test_complete_data_are_the_plain_test(case):
    X, C, errors, label = CASES[case]
    Y, _ = data()
    Y += (Y == 0) * np.random.default_rng(5).normal(size=Y.shape).astype(np.float32)
    options = {"variance_groups": label, "errors": errors, "n_perm": 2000}
    C = C if len(C) > 1 else C[0]
    plain, each = (ng.permutation_test(cohort_of(Y), X, C, missing=one, **options) for one in ("leave", "element"))
    for name in (plain.statistic, "z", "effect"):
        np.testing.assert_allclose(each.maps[name], plain.maps[name], rtol=1e-8, atol=1e-9)
    for name in ("p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(each.maps[name], plain.maps[name])


@pytest.mark.parametrize("spread", [1e-3, 0.0])
def test_a_group_of_next_to_equal_values_leaves_the_variance_to_the_other(spread):
    """Sums of squares that products can't tell are found of the data themselves."""
    X, C, errors, label = CASES["two groups"]
    Y, present = data()
    Y[GROUP == 1] = 0.75 + spread * Y[GROUP == 1]
    Y = np.where(present, Y, 0).astype(np.float32)
    options = {"variance_groups": label, "missing": "element", "errors": errors, "n_perm": 120}
    result = ng.permutation_test(cohort_of(Y, present), X, C[0], **options)
    there = present[:, 15] & (GROUP == 0)
    expected = (Y[present[:, 15] & (GROUP == 1), 15].mean() - Y[there, 15].mean()) / (
        Y[there, 15].std(ddof=1) / np.sqrt(there.sum())
    )
    assert result.maps["v"][15] == pytest.approx(expected, rel=1e-4)
    assert result.maps["dof"][15] == pytest.approx(there.sum() - 1, rel=1e-4)
    assert np.isfinite(result.h0["max_z"]).all()
    if spread:
        draws = {"blocks": None, "block_scheme": "within", "design_rows": X}
        shufflings = plan_shufflings(9, n_perm=120, seed=0, errors="ee", **draws)
        index, sign = shufflings.draw(0, shufflings.n_shufflings)
        found = separate_z(Y.astype(float), present, X, np.asarray(C), label, index, sign)
        tested = result.maps["reason"] == 0
        np.testing.assert_allclose(result.h0["max_z"], np.abs(found[:, tested]).max(axis=1), rtol=1e-5)


def test_who_can_not_be_tested_leaves_with_a_reason():
    X, C, errors, label = CASES["the mean, by flips"]
    Y, present = data()
    present[:, 11] = np.arange(9) < 6
    present[:, 12] = GROUP == 0
    Y = np.where(present, Y, 0)
    result = ng.permutation_test(
        cohort_of(Y, present), X, C[0], variance_groups=label, missing="element", errors=errors, n_perm=50
    )
    assert result.maps["reason"][[9, 12]].tolist() == [1, 3]
    assert result.maps["v"][[9, 12]].tolist() == [0, 0]


def test_workers_far_away_and_blocks_change_nothing():
    X, C, errors, label = CASES["with a covariate"]
    Y, present = data(n_voxels=1100)
    options = {"variance_groups": label, "missing": "element", "errors": errors, "n_perm": 30}
    options["cluster_forming_threshold"] = None
    whole, part = cohort_of(Y, present), cohort_of(Y[:, 550:], present[:, 550:])
    first, second = (ng.permutation_test(one, X, C[0], **options, n_workers=2) for one in (whole, part))
    for name in ("v", "z", "p_unc", "dof"):
        np.testing.assert_array_equal(first.maps[name][550:], second.maps[name])
    design = Design.parse(X, 9)
    contrast = Contrast.parse(C[0], design)
    shuffling = {"n_perm": 20, "seed": 0, "errors": errors, "blocks": None, "block_scheme": "within"}
    variance = {"variance_groups": label, "v_dof_factor": 1.0}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)
    family = make_incomplete(hypothesis, shufflings).family
    there = pickle.loads(pickle.dumps(family))
    assert there.score is family.score
    np.testing.assert_array_equal(there.constants, family.constants)


@pytest.mark.parametrize("case", ["two groups", "G of three groups"])
def test_shufflings_that_leave_nothing_to_test_are_told(case, caplog):
    X, C, errors, label = CASES[case]
    C, (Y, present) = np.asarray(C), data()
    options = {"variance_groups": label, "missing": "element", "errors": errors, "n_perm": 150}
    result = ng.permutation_test(
        cohort_of(Y, present), X, C if len(C) > 1 else C[0], cluster_forming_threshold=None, **options
    )
    rows = X[:, C.any(axis=0)]
    shufflings = plan_shufflings(
        9, n_perm=150, seed=0, errors=errors, blocks=None, block_scheme="within", design_rows=rows
    )
    found = separate_z(Y.astype(float), present, X, C, label, *shufflings.draw(0, shufflings.n_shufflings))
    nothing = (found == (0 if len(C) == 1 else LOWEST)).sum(axis=0)[result.maps["reason"] == 0]
    assert 0 < (nothing > 0).sum() < len(nothing)
    share = nothing.max() / shufflings.n_shufflings
    assert f"At {(nothing > 0).sum()} voxels some shufflings, {share:.2g} of all at most, leave the" in caplog.text
    assert "or leave a variance group too few subjects to tell its variance: they score 0" in caplog.text
