"""Weighted t and F against a refit of every shuffling, an element at a time."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.errors import InputError, OutputExistsError
from numbaglm.spaces.graphs import graph
from numbaglm.stats.families.weighted import refitted
from numbaglm.stats.model.design import Contrast, Design, partition
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from numbaglm.stats.variance.between import between_variance
from numbaglm.stats.variance.covariance import TESTS
from reference.weighted import shuffled_statistics, shuffled_z, statistic

N_VOXELS = 7
GROUP = np.repeat([0.0, 1], [3, 4])
AGE = np.array([3.0, 1, 4, 1.5, 5, 9, 2])


def data(n, seed=0, between=1.0):
    rng = np.random.default_rng(seed)
    v = rng.uniform(0.2, 4, size=(n, N_VOXELS)).astype(np.float32)
    y = rng.normal(size=(n, N_VOXELS)) * np.sqrt(v + between) + rng.normal(size=N_VOXELS)
    return y.astype(np.float32), v


def line(n):
    """Elements in a row."""
    return graph(np.eye(n, k=1) + np.eye(n, k=-1))


def cohort_of(y, v=None, name="variance"):
    layers = None if v is None else {name: v}
    return Cohort.from_maps(y, space=line(y.shape[1]), layers=layers)


def counted(found, two_sided):
    """(p_unc, p_fwe_voxel) of statistics (n_shufflings, n_voxels), what is observed first."""
    seen = np.abs(found) if two_sided else found
    floor = seen[0] - 1e-9 * (np.abs(seen[0]) + 1)
    return (seen >= floor).mean(axis=0), (seen.max(axis=1)[:, None] >= floor).mean(axis=0)


CASES = {
    "one sample": (np.ones((7, 1)), [[1.0]], "ise"),
    "flips with nuisance": (np.column_stack([np.ones(7), AGE]), [[1.0, 0]], "ise"),
    "two groups": (np.column_stack([GROUP, 1 - GROUP]), [[1.0, -1]], "ee"),
    "permutations with nuisance": (np.column_stack([np.ones(6), GROUP[1:], AGE[1:]]), [[0.0, 1, 0]], "ee"),
    "both": (np.column_stack([GROUP[2:], 1 - GROUP[2:]]), [[1.0, -1]], "both"),
    "F of flips": (np.column_stack([GROUP, 1 - GROUP]), [[1.0, 0], [0, 1]], "ise"),
    "F of permutations": (np.column_stack([np.ones(6), GROUP[1:], AGE[1:]]), [[0.0, 1, 0], [0, 0, 1]], "ee"),
}


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("case", CASES)
def test_every_shuffling_is_refitted(case, test):
    X, C, errors = CASES[case]
    C = np.asarray(C)
    y, v = data(len(X), seed=3)
    result = ng.permutation_test(
        cohort_of(y, v),
        X,
        C if len(C) > 1 else C[0],
        weights="variance",
        test=test,
        errors=errors,
        n_perm=4000,
        two_sided=True,
    )
    assert result.asked.exhaustive
    design = Design.parse(X, len(X))
    _, Z = partition(design, Contrast.parse(C, design))
    tau2 = between_variance(y.astype(float), v.astype(float), Z.T, "reml")
    shufflings = plan_shufflings(
        len(X), n_perm=4000, seed=0, errors=errors, blocks=None, block_scheme="within", design_rows=X[:, C.any(axis=0)]
    )
    assert shufflings.n_shufflings == result.asked.n_shufflings
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    found = shuffled_statistics(y.astype(float), 1 / (v + tau2), X, C, index, sign, test)
    name = "t" if len(C) == 1 else "f"
    np.testing.assert_allclose(result.maps[name], found[0], rtol=1e-9)
    np.testing.assert_allclose(
        result.h0[f"max_{name}"], (np.abs(found) if name == "t" else found).max(axis=1), rtol=1e-8
    )
    p_unc, p_fwe = counted(found, name == "t")
    np.testing.assert_array_equal(result.maps["p_unc"], p_unc)
    np.testing.assert_array_equal(result.maps["p_fwe_voxel"], p_fwe)


@pytest.mark.parametrize("scheme", ["within", "whole"])
def test_blocks_are_kept_to(scheme):
    X, C = np.column_stack([np.tile([0.0, 1], 4), np.ones(8)]), np.array([[1.0, 0]])
    if scheme == "whole":
        X[:, 0] = np.repeat([0.0, 1], 4)
    y, v = data(8, seed=11)
    blocks = {"exchangeability_blocks": np.repeat([1, 2, 3, 4], 2), "block_scheme": scheme}
    result = ng.permutation_test(cohort_of(y, v), X, C[0], weights="variance", **blocks)
    tau2 = between_variance(y.astype(float), v.astype(float), np.full((1, 8), 8**-0.5), "reml")
    shufflings = plan_shufflings(
        8, 10_000, 0, errors="ee", blocks=blocks["exchangeability_blocks"], block_scheme=scheme, design_rows=X[:, :1]
    )
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    found = shuffled_statistics(y.astype(float), 1 / (v + tau2), X, C, index, sign, "knapp-hartung")
    np.testing.assert_array_equal(result.maps["p_unc"], counted(found, True)[0])
    np.testing.assert_array_equal(result.maps["p_fwe_voxel"], counted(found, True)[1])


def test_clusters_tfce_tails_and_a_durable_run(tmp_path):
    y, v = data(20, seed=2)
    y[:, :3] += 1.5
    options = {"n_perm": 300, "cluster_forming_threshold": 0.05, "tfce": True, "tail": "pareto"}
    cohort = cohort_of(y, v)
    result = ng.permutation_test(cohort, weights="variance", **options)
    again = ng.permutation_test(cohort, weights="variance", store=tmp_path / "run", **options)
    for name in result.maps:
        np.testing.assert_array_equal(result.maps[name], again.maps[name])
    assert result.maps["p_fwe_tfce"].min() < 0.05
    assert len(result.clusters) > 0
    with pytest.raises(OutputExistsError, match="between"):
        ng.permutation_test(cohort, weights="variance", between="dl", store=tmp_path / "run", **options)
    result.save(tmp_path / "saved")
    assert ng.PermutationResult.load(tmp_path / "saved").asked.between == "reml"


@pytest.mark.parametrize("between", ["reml", "ml", "dl", "he", 0])
def test_effects_are_those_of_the_whole_model(between):
    X = np.column_stack([np.ones(7), AGE])
    y, v = data(7, seed=5)
    result = ng.permutation_test(cohort_of(y, v), X, [0.0, 1], weights="variance", between=between, n_perm=0)
    tau2 = between_variance(y.astype(float), v.astype(float), X.T, between)
    np.testing.assert_allclose(result.maps["tau2"], tau2, rtol=1e-6, atol=1e-9)
    for i in range(N_VOXELS):
        t = statistic(y[:, i].astype(float), 1 / (v[:, i] + tau2[i]), X, np.array([[0.0, 1]]), "knapp-hartung")
        effect, error = (result.maps[name][i] for name in ("effect", "effect_se"))
        assert effect / error == pytest.approx(t, rel=1e-6)
        assert result.maps["effect_upper"][i] - effect == pytest.approx(2.5705818 * error)
    assert ((result.maps["effect_p"] < 0.05) == (result.maps["effect_lower"] * result.maps["effect_upper"] > 0)).all()


@pytest.mark.parametrize("case", ["one sample", "flips with nuisance", "two groups", "F of permutations"])
@pytest.mark.parametrize("kind", ["variance", "subjects"])
def test_equal_weights_are_none(case, kind):
    X, C, errors = CASES[case]
    y, _ = data(len(X), seed=7)
    C = C if len(C) > 1 else C[0]
    options = {"errors": errors, "n_perm": 4000}
    weights = {"weights": "variance"} if kind == "variance" else {"weights": np.full(len(X), 3.0)}
    plain = ng.permutation_test(cohort_of(y), X, C, **options)
    result = ng.permutation_test(cohort_of(y, np.full_like(y, 0.7)), X, C, **options, **weights)
    name = plain.statistic
    np.testing.assert_allclose(result.maps[name], plain.maps[name], rtol=1e-9)
    np.testing.assert_allclose(result.h0[f"max_{name}"], plain.h0[f"max_{name}"], rtol=1e-9)
    for p in ("p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(result.maps[p], plain.maps[p])


@pytest.mark.parametrize("case", ["one sample", "two groups"])
def test_weights_of_subjects_are_weighted_least_squares(case):
    X, C, errors = CASES[case]
    y, _ = data(7, seed=9)
    n = np.array([12.0, 40, 9, 22, 15, 31, 18])
    result = ng.permutation_test(cohort_of(y), X, C[0], weights=n, errors=errors)
    shufflings = plan_shufflings(
        7, n_perm=10_000, seed=0, errors=errors, blocks=None, block_scheme="within", design_rows=X
    )
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    weights = np.repeat(n[:, None], N_VOXELS, axis=1)
    found = shuffled_statistics(y.astype(float), weights, X, np.asarray(C), index, sign, "knapp-hartung")
    np.testing.assert_allclose(result.maps["t"], found[0], rtol=1e-9)
    np.testing.assert_array_equal(result.maps["p_unc"], counted(found, True)[0])
    np.testing.assert_allclose(result.maps["effect"] / result.maps["effect_se"], found[0], rtol=1e-9)
    assert "tau2" not in result.maps
    assert result.asked.weighted_by == "subjects"


@pytest.mark.parametrize("errors", ["ise", "ee"])
@pytest.mark.parametrize("test", ["knapp-hartung", "z"])
def test_chunks_and_workers_change_nothing(errors, test):
    X, C, _ = CASES["one sample"] if errors == "ise" else CASES["two groups"]
    rng = np.random.default_rng(0)
    y, v = (one.astype(np.float32) for one in (rng.normal(size=(7, 1100)), rng.uniform(0.2, 3, (7, 1100))))
    whole, part = (cohort_of(y[:, k:], v[:, k:]) for k in (0, 550))
    options = {"weights": "variance", "test": test, "errors": errors, "n_perm": 30, "cluster_forming_threshold": None}
    first, second = (ng.permutation_test(one, X, C[0], **options, n_workers=2) for one in (whole, part))
    for name in ("t", "p_unc", "tau2", "effect_se", "i2"):
        np.testing.assert_array_equal(first.maps[name][550:], second.maps[name])
    alone = ng.permutation_test(whole, X, C[0], **options, n_workers=1, memory_limit="8GB")
    np.testing.assert_array_equal(alone.h0["max_t"], first.h0["max_t"])


def test_elements_without_variances_leave_with_a_count(caplog):
    y, v = data(7)
    v[2, 1], v[0, 4], v[6, 4] = 0.0, -1.0, 0.0
    with caplog.at_level(logging.WARNING, "numbaglm"):
        result = ng.permutation_test(cohort_of(y, v), weights="variance")
    assert "2 elements have a variance that is 0, negative or not a number" in caplog.text
    rest = np.delete(np.arange(N_VOXELS), [1, 4])
    np.testing.assert_array_equal(np.flatnonzero(result.maps["reason"]), [1, 4])
    assert (result.maps["t"][[1, 4]] == 0).all()
    assert (result.maps["p_unc"][[1, 4]] == 1).all()
    assert (result.maps["effect_p"][[1, 4]] == 1).all()
    alone = ng.permutation_test(cohort_of(y[:, rest], v[:, rest]), weights="variance")
    for name in ("t", "p_unc", "p_fwe_voxel", "tau2"):
        np.testing.assert_array_equal(result.maps[name][rest], alone.maps[name])


def test_what_weights_don_t_go_with_is_refused_by_name():
    y, v = data(8)
    cohort = cohort_of(y, v)
    groups = np.repeat([0, 1], 4)
    for options, words in (
        ({"variance_groups": groups}, "variance_groups"),
        ({"variance_smoothing_fwhm": 4.0}, "variance_smoothing_fwhm"),
        ({"method": "kennedy"}, "method='kennedy'"),
        ({"weights": np.ones(8), "missing": "element", "covariance": "sandwich"}, "missing='element'"),
        ({"weights": "gm"}, "they|variance"),
        ({"weights": np.ones(7)}, "one for each of the 8 subjects"),
        ({"weights": [1.0, 2, 3, 4, 5, 6, 7, 0]}, "above 0"),
        ({"weights": np.ones(8), "between": "dl"}, "between='dl'"),
        ({"weights": np.ones(8), "test": "z"}, "test='z'"),
        ({"weights": None, "test": "z"}, "test='z'"),
        ({"between": "paule-mandel"}, "between"),
        ({"test": "welch"}, "test"),
    ):
        with pytest.raises(InputError, match=words):
            ng.permutation_test(cohort, **({"weights": "variance"} | options))
    with pytest.raises(InputError, match="they have none"):
        ng.permutation_test(cohort_of(y), weights="variance")
    with pytest.raises(InputError, match="layers"):
        ng.permutation_test(cohort, weights="variance", layers={"variance": v})


def test_maps_and_their_variances_in_one_call():
    y, v = data(8)
    space = line(N_VOXELS)
    one = ng.permutation_test(y, weights="variance", layers={"variance": v}, space=space, n_perm=50)
    other = ng.permutation_test(cohort_of(y, v), weights="variance", n_perm=50)
    np.testing.assert_array_equal(one.maps["t"], other.maps["t"])
    with pytest.raises(InputError, match="variance"):
        ng.permutation_test(y, weights="gm", layers={"variance": v}, space=space)


def test_labels_bring_weights_of_subjects_into_the_order_of_the_maps():
    y, _ = data(8)
    labels = [f"study-{k}" for k in range(8)]
    cohort = Cohort.from_maps(y, space=line(N_VOXELS), subjects=labels)
    n = pd.Series(np.arange(10.0, 18), index=labels)
    straight, turned = (ng.permutation_test(cohort, weights=one, n_perm=20) for one in (n, n[::-1]))
    np.testing.assert_array_equal(straight.maps["t"], turned.maps["t"])


def test_columns_that_say_nothing_score_nothing():
    b = np.array([[0.3, 0.4], [0.2, 0.1]])
    gram = np.array([[1.0, 1.0], [1.0, 0.5], [1.0, 2.0]])  # of the first voxel: the columns are the same
    products = np.vstack([b, gram, np.zeros((2, 2))])
    refitted(products, np.array([[1.0, 1], [5, 5]]), np.array([2, 1, 1, 1, 0, 0]), np.array([1e-13]))
    assert products[0, 0] == 0
    assert products[0, 1] != 0


def lacking(n, seed, share=0.2):
    """Which values are there: some columns whole, one that leaves too few, one that leaves one group alone."""
    present = np.random.default_rng(seed).random((n, N_VOXELS)) > share
    present[:, 0] = True
    present[:, 5] = np.arange(n) < 2
    return present


@pytest.mark.parametrize(("kind", "test"), [("subjects", "knapp-hartung"), *(("variance", test) for test in TESTS)])
@pytest.mark.parametrize("case", CASES)
def test_every_shuffling_of_those_who_are_there_is_refitted(case, kind, test):
    X, C, errors = CASES[case]
    C, present = np.asarray(C), lacking(len(X), 4)
    y, v = data(len(X), seed=3)
    sizes = np.linspace(5, 20, len(X))
    y, v = np.where(present, y, np.nan), v if kind == "variance" else None
    cohort = Cohort.from_maps(y, space=line(N_VOXELS), layers=None if v is None else {"variance": v}, min_subjects=2)
    options = {"weights": "variance" if kind == "variance" else sizes, "test": test, "missing": "element"}
    result = ng.permutation_test(cohort, X, C if len(C) > 1 else C[0], errors=errors, n_perm=4000, **options)
    assert result.asked.exhaustive
    design = Design.parse(X, len(X))
    _, Z = partition(design, Contrast.parse(C, design))
    W = np.zeros(y.shape)
    for k, there in enumerate(present.T):
        if kind == "subjects":
            W[there, k] = sizes[there]
            continue
        y_k, v_k = (one[there, k : k + 1].astype(float) for one in (y, v))
        W[there, k] = 1 / (v_k + between_variance(y_k, v_k, np.ascontiguousarray(Z[there].T), "reml"))[:, 0]
    shufflings = plan_shufflings(
        len(X), n_perm=4000, seed=0, errors=errors, blocks=None, block_scheme="within", design_rows=X[:, C.any(axis=0)]
    )
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    filled = np.where(present, y, 0).astype(float)
    few = present.sum(axis=0) < X.shape[1] + 2
    ranks = [np.linalg.matrix_rank(X[there]) for there in present.T]
    tested = ~few & (np.array(ranks) == X.shape[1])
    assert 2 < tested.sum() < N_VOXELS
    found = shuffled_z(filled, W, X, C, index, sign, test) * tested
    np.testing.assert_allclose(result.maps["z"], found[0], atol=1e-8)
    height = np.abs(found) if len(C) == 1 else found
    np.testing.assert_allclose(result.h0["max_z"], height[:, tested].max(axis=1), atol=1e-7)
    p_unc, p_fwe = counted(found[:, tested], len(C) == 1)
    np.testing.assert_array_equal(result.maps["p_unc"][tested], p_unc)
    np.testing.assert_array_equal(result.maps["p_fwe_voxel"][tested], p_fwe)
    assert (result.maps["p_unc"][~tested] == 1).all()
    np.testing.assert_array_equal(result.maps["n_subjects"], present.sum(axis=0))
    np.testing.assert_array_equal(result.maps["dof"], np.where(tested, present.sum(axis=0) - X.shape[1], 0))
    np.testing.assert_array_equal(result.maps["reason"], np.where(tested, 0, np.where(few, 1, 2)))


@pytest.mark.parametrize("errors", ["ise", "ee"])
def test_whoever_lacks_nothing_is_tested_as_without_missing_data(errors):
    X, C, _ = CASES["flips with nuisance"] if errors == "ise" else CASES["two groups"]
    y, v = data(7, seed=6)
    options = {"weights": "variance", "errors": errors, "cluster_forming_threshold": 0.2, "tfce": True}
    plain, each = (
        ng.permutation_test(cohort_of(y, v), X, C[0], missing=one, **options) for one in ("leave", "element")
    )
    for name in ("t", "effect", "effect_se", "effect_lower", "effect_p", "tau2", "i2", "p_unc", "p_fwe_voxel"):
        np.testing.assert_allclose(each.maps[name], plain.maps[name], rtol=1e-12)
    assert each.maps["n_subjects"].tolist() == [7] * N_VOXELS
    assert {"p_fwe_tfce", "p_fwe_size"} <= set(each.maps)


@pytest.mark.parametrize("between", ["reml", "ml", "dl", "he", 0])
def test_effects_of_those_who_are_there_are_those_of_a_cohort_of_them(between):
    y, v = data(9, seed=8)
    X, there = np.column_stack([np.ones(9), np.arange(9.0)]), np.arange(9) % 4 > 0
    lacks = np.where(there[:, None], y, np.nan)
    each = Cohort.from_maps(lacks, space=line(N_VOXELS), layers={"variance": v}, min_subjects=3)
    options = {"contrast": [0.0, 1], "weights": "variance", "between": between, "n_perm": 0}
    found = ng.permutation_test(each, X, missing="element", **options)
    few = ng.permutation_test(cohort_of(y[there], v[there]), X[there], **options)
    for name in ("t", "effect", "effect_se", "effect_lower", "effect_upper", "effect_p", "tau2", "i2", "cochran_q"):
        np.testing.assert_allclose(found.maps[name], few.maps[name], rtol=1e-9, atol=1e-12)


def test_variances_that_are_none_are_told_apart_from_values_that_are_missing(caplog):
    y, v = data(7)
    v[2, 1] = 0.0
    present = np.ones(y.shape, bool)
    present[:5, 3], present[2, 4] = False, False
    each = Cohort.from_maps(np.where(present, y, np.nan), space=line(N_VOXELS), layers={"variance": v}, min_subjects=2)
    with caplog.at_level(logging.WARNING, "numbaglm"):
        result = ng.permutation_test(each, weights="variance", missing="element")
    assert "1 elements have fewer than the 3 subjects" in caplog.text
    assert "1 elements have a variance that is 0, negative or not a number" in caplog.text
    assert result.maps["reason"].tolist() == [0, 3, 0, 1, 0, 0, 0]
