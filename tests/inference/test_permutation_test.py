from __future__ import annotations

import logging
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import (
    ContrastError,
    DesignError,
    InputError,
    MaskError,
    MissingFileError,
    ShufflingError,
)
from numbaglm.results.result import PermutationResult
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Contrast, Design, tested_regressors
from numbaglm.stats.model.setup import default_errors
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.maps import AFFINE, volumes, write_maps
from reference.permutation import correct, p_between, shuffled_statistics

SHAPE = (4, 5, 6)


def holes(seed, share=0.8):
    mask = np.random.default_rng(seed).random(SHAPE) < share
    mask[1:3, 1:3, 1:3] = True
    return mask


def data(n, n_voxels, seed, effect=0.8):
    return (np.random.default_rng(seed).normal(size=(n, n_voxels)) + effect).astype(np.float32)


def in_memory(Y):
    """An image a row, of a line of voxels."""
    return [nib.Nifti1Image(row.astype(np.float32)[:, None, None], AFFINE) for row in Y]


def table(n, seed):
    """Two groups, a covariate that is unlike in them, and an intercept."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 2
    return pd.DataFrame({"group": group, "age": rng.normal(size=n) + group, "intercept": 1.0})


def shufflings_of(design, contrast, n_perm, seed=0, **options):
    parsed = Design.parse(design, len(design))
    weights = Contrast.parse(contrast, parsed)
    plan = plan_shufflings(
        len(design),
        n_perm,
        seed,
        design_rows=tested_regressors(parsed, weights),
        rule=default_errors(parsed, weights),
        **options,
    )
    return parsed.matrix, weights.matrix, plan


TOLERANCE = {"float64": 1e-9, "float32": 1e-6}
"""Relative for double precision; for single, of the correlation or share that a statistic stands for."""


def compare(result, expected):
    """A result against the reference: statistics and nulls to their precision, p and extents exactly."""
    precision = result.provenance["precision"]
    rtol = TOLERANCE[precision]
    if precision == "float32":
        # d t / t = d r / r (1 + t^2 / dof); d F / F likewise.
        powers = {"t": 2, "f": 1}
        rtol *= 3 * (1 + np.max(expected.max_stat) ** powers[result.statistic])
    np.testing.assert_allclose(result.maps[result.statistic], expected.statistic, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.h0[f"max_{result.statistic}"], expected.max_stat, rtol=rtol)
    np.testing.assert_array_equal(result.h0["max_size"], expected.max_size)
    np.testing.assert_allclose(result.h0["max_mass"], expected.max_mass, rtol=rtol)
    exact = ["p_unc", "p_fwe_voxel", "p_fwe_size", "p_fwe_mass"]
    if precision == "float32":
        dof, n_rows = result.provenance["dof"], len(result.provenance["contrast"]["weights"])
        is_t = result.statistic == "t"
        low, high = p_between(expected.statistics, dof if is_t else (n_rows, dof), 0.5 if is_t else 1)
        for name, least, most in zip(exact[:2], low, high, strict=True):
            assert (result.maps[name] >= least * (1 - 1e-12)).all(), name
            assert (result.maps[name] <= most * (1 + 1e-12)).all(), name
        exact = exact[2:]
    for name in exact:
        np.testing.assert_allclose(result.maps[name], getattr(expected, name), rtol=1e-12, err_msg=name)
    np.testing.assert_array_equal(result.clusters["size_voxels"], expected.size)
    np.testing.assert_allclose(result.clusters["mass"], expected.mass, rtol=rtol)


DESIGNS = {
    "one-sample": (lambda n, seed: pd.DataFrame({"intercept": np.ones(n)}), "intercept"),
    "one-sample with a covariate": (lambda n, seed: table(n, seed)[["age", "intercept"]], "intercept"),
    "two-sample": (lambda n, seed: table(n, seed)[["group", "intercept"]], "group"),
    "two-sample with a covariate": (table, "group"),
    "difference of columns": (table, "group - age"),
    "F of two rows": (table, ["group", "age"]),
    "F of two rows, one sample": (table, ["intercept", "age"]),
}
OPTIONS = {
    "two_sided": st.booleans(),
    "connectivity": st.sampled_from([6, 18, 26]),
    "threshold": st.sampled_from([0.8, 1.5, 2.5]),
    "seed": st.integers(0, 10_000),
}


@pytest.mark.parametrize("name", DESIGNS)
@given(**OPTIONS)
def test_it_equals_refitting_every_shuffling_exhaustively(name, as_cohort, two_sided, connectivity, threshold, seed):
    n = 6 if name == "two-sample" else 5
    design, contrast = DESIGNS[name][0](n, seed), DESIGNS[name][1]
    mask = holes(seed)
    Y = data(n, mask.sum(), seed)
    M, C, plan = shufflings_of(design, contrast, 720)
    assert plan.exhaustive
    result = permutation_test(
        as_cohort(Y, mask),
        design,
        contrast,
        n_perm=720,
        two_sided=two_sided,
        cluster_forming_threshold=("t" if len(C) == 1 else "f", threshold),
        cluster_connectivity=connectivity,
        n_workers=1,
    )
    assert result.provenance["precision"] == "float64"
    assert result.provenance["two_sided"] == (two_sided and len(C) == 1)
    statistics = shuffled_statistics(Y, M, C, *plan.draw(0, plan.n_shufflings))
    options = {"two_sided": two_sided and len(C) == 1, "threshold": threshold, "connectivity": connectivity}
    compare(result, correct(statistics, mask, **options))


@pytest.mark.parametrize("name", DESIGNS)
@given(n=st.integers(9, 12), **OPTIONS)
def test_it_equals_refitting_random_shufflings_in_single_precision(
    name, as_cohort, n, two_sided, connectivity, threshold, seed
):
    design, contrast = DESIGNS[name][0](n, seed), DESIGNS[name][1]
    mask = holes(seed)
    Y = data(n, mask.sum(), seed, effect=0.2)
    M, C, plan = shufflings_of(design, contrast, 40, seed)
    result = permutation_test(
        as_cohort(Y, mask),
        design,
        contrast,
        n_perm=40,
        seed=seed,
        two_sided=two_sided,
        cluster_forming_threshold=("t" if len(C) == 1 else "f", threshold),
        cluster_connectivity=connectivity,
        n_workers=1,
    )
    assert result.provenance["precision"] == "float32"
    statistics = shuffled_statistics(Y, M, C, *plan.draw(0, plan.n_shufflings))
    options = {"two_sided": two_sided and len(C) == 1, "threshold": threshold, "connectivity": connectivity}
    compare(result, correct(statistics, mask, **options))


BLOCKS = {
    "within": [1, 1, 1, 2, 2, 2, 3, 3],
    "whole": [1, 1, 2, 2, 3, 3, 4, 4],
    "both": [1, 1, 2, 2, 3, 3, 4, 4],
}


@pytest.mark.parametrize("scheme", BLOCKS)
@pytest.mark.parametrize("errors", ["ee", "ise", "both"])
@pytest.mark.parametrize("contrast", ["group", ["group", "age"]])
def test_exchangeability_blocks(as_cohort, scheme, errors, contrast):
    design, mask = table(8, 3), holes(3)
    if scheme == "whole":
        design["group"] = [0, 0, 0, 0, 1, 1, 1, 1]
    Y = data(8, mask.sum(), 3)
    options = {"errors": errors, "block_scheme": scheme}
    M, C, plan = shufflings_of(design, contrast, 100, blocks=BLOCKS[scheme], **options)
    result = permutation_test(
        as_cohort(Y, mask),
        design,
        contrast,
        n_perm=100,
        cluster_forming_threshold=("t" if len(C) == 1 else "f", 1.3),
        exchangeability_blocks=BLOCKS[scheme],
        **options,
    )
    assert result.provenance["errors"] == errors
    statistics = shuffled_statistics(Y, M, C, *plan.draw(0, plan.n_shufflings))
    expected = correct(statistics, mask, two_sided=len(C) == 1, threshold=1.3)
    compare(result, expected)


def everything(n, errors):
    """Every permutation, or every flip, without asking which are distinct."""
    if errors == "ise":
        signs = np.array(list(product([1, -1], repeat=n)))
        return np.tile(np.arange(n), (len(signs), 1)), signs
    index = np.array(list(permutations(range(n))))
    return index, np.ones_like(index)


@pytest.mark.parametrize(
    ("design", "contrast", "errors"),
    [
        (np.ones((6, 1)), [1], "ise"),
        (np.column_stack([[1, 1, 1, 0, 0, 0], np.ones(6)]), [1, 0], "ee"),
        (np.column_stack([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], np.ones(6)]), [[1, 0, 0], [0, 1, 0]], "ee"),
        (np.column_stack([[1.0, 5, 2, 8, 3], np.ones(5)]), [1, 0], "ee"),
    ],
)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_exhaustive_p_are_those_over_the_whole_group(as_cohort, design, contrast, errors, two_sided, integers):
    # Data of few values make statistics that are equal on paper and differ by rounding.
    n, mask = len(design), holes(1)
    Y = data(n, mask.sum(), 5)
    Y = np.round(2 * Y) if integers else Y
    Y += np.arange(n, dtype=np.float32)[:, None] ** 2 if integers else 0  # no voxel is without variance
    C = np.atleast_2d(contrast)
    two_sided = two_sided and len(C) == 1
    kind, threshold = ("t", 1.2345) if len(C) == 1 else ("f", 1.2345)
    result = permutation_test(
        as_cohort(Y, mask),
        design,
        contrast,
        n_perm=1000,
        two_sided=two_sided,
        cluster_forming_threshold=(kind, threshold),
    )
    statistics = shuffled_statistics(Y, design, C, *everything(n, errors))
    expected = correct(statistics, mask, two_sided=two_sided, threshold=threshold, tie=1e-8)
    for name in ("p_unc", "p_fwe_voxel", "p_fwe_size", "p_fwe_mass"):
        np.testing.assert_allclose(result.maps[name], getattr(expected, name), rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(
        np.unique(np.round(result.h0[f"max_{kind}"], 6)), np.unique(np.round(expected.max_stat, 6)), atol=2e-6
    )


def test_a_one_sided_test_of_negative_effects(as_cohort):
    mask = holes(2)
    Y = data(6, mask.sum(), 2, effect=-9)
    result = permutation_test(as_cohort(Y, mask), n_perm=100, two_sided=False, cluster_forming_threshold=("t", 2.0))
    assert (result.maps["t"] < 0).all()
    assert (result.maps["p_unc"] == 1).all()
    assert (result.maps["p_fwe_voxel"] == 1).all()
    assert len(result.clusters) == 0
    opposite = permutation_test(as_cohort(-Y, mask), n_perm=100, two_sided=False, cluster_forming_threshold=("t", 2.0))
    np.testing.assert_allclose(opposite.maps["p_unc"], 1 / 64)


def test_what_has_no_sign_is_told_where_one_was_asked_for(as_cohort, caplog):
    cohort, options = as_cohort(data(8, 9, 0)), {"n_perm": 20, "two_sided": False}
    with caplog.at_level(logging.INFO, "numbaglm"):
        permutation_test(cohort, table(8, 0), "group", **options)
        assert "no sign" not in caplog.text
        f = permutation_test(cohort, table(8, 0), ["group", "age"], **options)
    assert "F has no sign" in caplog.text
    assert not f.asked.two_sided


def test_equal_voxels_get_equal_results_and_one_voxel_is_enough(as_cohort):
    one = data(7, 1, 0)
    single = permutation_test(as_cohort(one), n_perm=200)
    many = permutation_test(as_cohort(np.repeat(one, 1300, axis=1)), n_perm=200)
    for name in ("t", "p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(many.maps[name], np.repeat(single.maps[name], 1300))
    np.testing.assert_array_equal(many.h0["max_t"], single.h0["max_t"])


@pytest.mark.parametrize(
    ("two_sided", "threshold", "expected"),
    [
        (True, 0.01, ("t", 3.4994832973504937)),
        (False, 0.01, ("t", 2.9979515668685277)),
        (True, ("z", 2.3), ("t", 2.948641650033937)),
    ],
)
def test_thresholds_on_p_and_z_are_those_on_t(as_cohort, two_sided, threshold, expected):
    mask = holes(4)
    cohort = as_cohort(data(8, mask.sum(), 4), mask)
    one, other = (
        permutation_test(cohort, n_perm=300, two_sided=two_sided, cluster_forming_threshold=t)
        for t in (threshold, expected)
    )
    assert one.provenance["cluster_forming_statistic"] == pytest.approx(expected[1], rel=1e-6)
    np.testing.assert_array_equal(one.h0["max_size"], other.h0["max_size"])


def test_several_contrasts_at_once(as_cohort):
    design, mask = table(8, 0), holes(0)
    cohort = as_cohort(data(8, mask.sum(), 0), mask)
    both = permutation_test(cohort, design, {"g": "group", "mean": "intercept"}, n_perm=50)
    assert list(both) == ["g", "mean"]
    assert [result.provenance["errors"] for result in both.values()] == ["ee", "ise"]
    alone = permutation_test(cohort, design, "group", n_perm=50)
    np.testing.assert_array_equal(both["g"].h0["max_t"], alone.h0["max_t"])


def test_the_provenance_says_why_these_shufflings(as_cohort):
    design = table(8, 0)
    cohort = as_cohort(data(8, 9, 0))
    default = permutation_test(cohort, design, "intercept", n_perm=20).provenance["shuffling"]
    assert "sign flips" in default
    assert "since the contrast tests a mean: 20 random ones of 256" in default
    asked = permutation_test(cohort, design, "intercept", n_perm=20, errors="both").provenance["shuffling"]
    assert "as asked for" in asked


def test_seeds_choose_the_shufflings(as_cohort):
    cohort = as_cohort(data(12, 30, 0))
    first, again, other = (permutation_test(cohort, n_perm=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.h0["max_t"], again.h0["max_t"])
    assert (first.h0["max_t"][1:] != other.h0["max_t"][1:]).any()
    longer = permutation_test(cohort, n_perm=90, seed=1)
    np.testing.assert_array_equal(longer.h0["max_t"][:51], first.h0["max_t"])


def test_what_the_nuisance_explains_is_called_by_its_name(caplog):
    table = pd.DataFrame(data(8, 5, 0), columns=list("abcde")).assign(c=range(3, 11))
    design = pd.DataFrame({"group": [0, 1] * 4, "age": range(8), "one": 1.0})
    with caplog.at_level(logging.WARNING, "numbaglm"):
        permutation_test(table, design, "group", n_perm=20)
    assert "1 parcels vary with the nuisance alone" in caplog.text


def test_where_nothing_can_be_tested_nothing_is_shuffled(tmp_path):
    maps = in_memory(data(6, 90, 0))
    variances = np.where(np.arange(6)[:, None] == 2, 0.0, np.ones((6, 90)))  # one study has none
    asked = {"weights": "variance", "n_perm": 20, "store": tmp_path / "run"}
    with pytest.raises(MaskError, match=r"nothing to test: 90 voxels have a variance that is 0"):
        permutation_test(maps, layers={"variance": in_memory(variances)}, **asked)
    assert not (tmp_path / "run").exists()
    variances[2, -1] = 1.0
    assert permutation_test(maps, layers={"variance": in_memory(variances)}, **asked).maps["reason"].sum() == 89


def test_columns_of_a_table_of_maps_are_covariates_of_a_formula(tmp_path, caplog):
    Y = data(6, 8, 0)
    paths = [tmp_path / f"{k}.nii" for k in range(6)]
    for image, path in zip(in_memory(Y), paths, strict=True):
        nib.save(image, path)
    maps = pd.DataFrame({"subject_label": list("fedcba"), "effects_map_path": paths, "age": [3.0, 1, 4, 1, 5, 9]})
    found = permutation_test(maps, "~ age", "age", n_perm=20)
    expected = permutation_test(
        Cohort.from_maps(maps[["subject_label", "effects_map_path"]], covariates=maps), "~ age", "age", n_perm=20
    )
    np.testing.assert_array_equal(found.maps["t"], expected.maps["t"])
    slope = np.polyfit(maps["age"], Y, 1)[0]
    np.testing.assert_allclose(found.maps["effect"], slope, rtol=1e-5)
    assert not caplog.records


def test_visits_that_are_shuffled_freely_are_told_of(caplog):
    maps = in_memory(data(6, 4, 0))
    people = pd.DataFrame({"participant_id": list("aabbcc"), "session_id": [1, 2] * 3})
    cohort = Cohort.from_maps(maps, subjects=[f"{one}_ses-{k}" for one, k in people.to_numpy()], covariates=people)
    permutation_test(cohort, n_perm=20)
    assert "6 maps are of 3 people, and are shuffled as if each were of another person" in caplog.text
    caplog.clear()
    blocks = cohort.covariates["participant_id"]
    permutation_test(cohort, "~ session_id", "session_id", n_perm=20, exchangeability_blocks=blocks)
    assert "are of 3 people" not in caplog.text


def test_voxels_that_the_nuisance_explains(as_cohort, caplog):
    design, mask = table(8, 0), np.ones((5, 1, 1), bool)
    Y = data(8, 5, 0)
    Y[:, 1] = 0.0
    Y[:, 3] = 7.25  # the intercept's
    with caplog.at_level(logging.WARNING, "numbaglm"):
        result = permutation_test(as_cohort(Y, mask), design, "group", n_perm=100)
    assert "2 voxels vary with the nuisance alone" in caplog.text
    for name, value in (("t", 0), ("z", 0), ("p_unc", 1), ("p_fwe_voxel", 1), ("p_parametric", 1), ("logp_unc", 0)):
        assert result.maps[name][[1, 3]].tolist() == [value] * 2, name
    f = permutation_test(as_cohort(Y, mask), design, ["group", "age"], n_perm=20)
    for name, value in (("f", 0), ("z", 0), ("p_unc", 1), ("p_parametric", 1)):
        assert f.maps[name][[1, 3]].tolist() == [value] * 2, name
    rest = permutation_test(as_cohort(Y[:, [0, 2, 4]]), design, "group", n_perm=100)
    np.testing.assert_allclose(result.h0["max_t"], rest.h0["max_t"], rtol=1e-12)


def test_a_voxel_that_the_model_fits_exactly_stays_finite(as_cohort):
    Y = data(9, 3, 0)
    Y[:, 1] = 4.0
    result = permutation_test(as_cohort(Y), n_perm=100)
    assert np.isfinite(result.maps["t"]).all()
    assert np.isfinite(result.maps["z"]).all()
    assert result.maps["t"][1] > 1e6


@pytest.mark.parametrize("n", [4, 5])
def test_voxels_that_fit_exactly_are_ties_whatever_the_rounding(as_cohort, n):
    # Binary maps that part the groups: with the groups exchanged they do so again, and nothing else is as high.
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"group": np.repeat([1.0, 0.0], n), "age": np.tile(np.arange(n) - 1.5, 2), "one": 1.0})
    Y = rng.integers(0, 2, size=(2 * n, 12)).astype(float)
    Y[:, 3:7] = design[["group"]]
    Y[0], Y[1] = np.where(Y[2:].std(axis=0) == 0, [[1], [0]], Y[:2])  # no voxel is constant
    options = {"tfce": True, "tfce_uncorrected": True, "cluster_forming_threshold": ("t", 2.0)}
    result = permutation_test(as_cohort(Y), design, "group", n_perm=1000, **options)
    least = 2 / result.provenance["n_shufflings"]
    for name in ("p_unc", "p_unc_tfce", "p_fwe_tfce", "p_fwe_mass"):
        assert (result.maps[name][3:7] >= least * (1 - 1e-12)).all(), name
        assert result.maps[name].min() == pytest.approx(least), name


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("contrast", ["intercept", ["intercept", "x"]])
def test_all_signs_flipped_are_a_tie_however_high_the_statistic(as_cohort, offset, contrast):
    design = pd.DataFrame({"intercept": 1.0, "x": np.random.default_rng(1).normal(size=7)})
    Y = data(7, 20, 0) + offset
    options = {"tfce": True, "tfce_uncorrected": True, "cluster_forming_threshold": 0.05}
    result = permutation_test(as_cohort(Y), design, contrast, n_perm=1000, **options)
    for name in ("p_unc", "p_fwe_voxel", "p_fwe_mass", "p_fwe_tfce", "p_unc_tfce"):
        np.testing.assert_allclose(result.maps[name], 2 / 128, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("columns", [["group", "one"], ["group", "sex", "one"], ["x", "one"]])
def test_ties_of_data_far_from_0_are_ties(as_cohort, columns):
    table = pd.DataFrame({"group": np.arange(8) // 4, "sex": np.arange(8) % 2, "x": np.arange(8.0), "one": 1.0})
    Y = np.random.default_rng(1).integers(0, 4, size=(8, 60)) + 0.5 * (np.arange(8) == 0)[:, None]
    options = {"design_matrix": table[columns], "contrast": columns[0], "n_perm": 50_000}
    near, far = (permutation_test(as_cohort(Y + offset), **options) for offset in (0, 1e6))
    for name in ("p_unc", "p_fwe_voxel"):
        np.testing.assert_array_equal(far.maps[name], near.maps[name], err_msg=name)


def test_masses_of_high_statistics_are_not_those_of_single_precision(as_cohort):
    # Correlations this close to 1 round to it, and their t to tens of millions.
    Y = np.random.default_rng(0).normal(3, 0.001, size=(20, 5))
    result = permutation_test(as_cohort(Y), n_perm=200, tfce=True)
    assert result.provenance["precision"] == "float32"
    mass = np.abs(result.maps["t"]).sum()
    np.testing.assert_allclose(result.clusters["mass"], [mass])
    assert result.h0["max_mass"][0] == pytest.approx(mass)
    assert result.h0["max_tfce"][0] == pytest.approx(result.maps["tfce"].max())


def test_scales_of_columns_change_no_f(as_cohort):
    design, cohort = table(8, 0), as_cohort(data(8, 20, 0))
    one = permutation_test(cohort, design, ["group", "age"], n_perm=60)
    other = permutation_test(cohort, design * [1e-9, 1e9, 1.0], ["group", "age"], n_perm=60)
    for name in ("f", "p_unc", "p_fwe_voxel", "partial_r2"):
        np.testing.assert_allclose(other.maps[name], one.maps[name], rtol=1e-6, err_msg=name)


def test_the_largest_statistic_is_the_observed_null_even_if_it_is_huge(as_cohort):
    # In single precision a correlation this close to 1 rounds to 1, and t to infinity.
    Y = (data(12, 40, 0, effect=0) * 1e-3 + 3).astype(np.float32)
    result = permutation_test(as_cohort(Y), n_perm=50)
    assert result.h0["max_t"][0] == pytest.approx(result.maps["t"].max(), rel=1e-6)


def test_the_mean_of_two_groups_is_not_tested_by_permutations_that_cannot_change_it(as_cohort):
    # Both columns are tested and differ between subjects, but permuting says nothing of their mean.
    groups = pd.DataFrame({"a": [1.0] * 5 + [0.0] * 5, "b": [0.0] * 5 + [1.0] * 5})
    result = permutation_test(as_cohort(data(10, 20, 0, effect=5)), groups, "(a + b) / 2", n_perm=300)
    assert result.maps["p_fwe_voxel"].min() < 0.05


def test_no_permutations_give_parametric_maps(as_cohort):
    result = permutation_test(as_cohort(data(8, 20, 0)), n_perm=0)
    assert {"t", "z", "effect", "p_parametric"} <= set(result.maps)
    assert "p_unc" not in result.maps
    assert "20 voxels" in repr(result)
    assert "shuffling" not in repr(result)
    assert result.plot().axes


def test_few_shufflings_are_said_to_be_few(as_cohort, caplog):
    groups = pd.DataFrame({"a": [1, 1, 0, 0, 0, 0], "b": [0, 0, 1, 1, 0, 0], "c": [0, 0, 0, 0, 1, 1]})
    with caplog.at_level(logging.WARNING, "numbaglm"):
        permutation_test(as_cohort(data(4, 5, 0)), n_perm=100, two_sided=False)
        permutation_test(as_cohort(data(5, 5, 0)), n_perm=100)  # all signs flipped give |t| again
        permutation_test(as_cohort(data(6, 5, 0)), groups, ["a - b", "b - c"], n_perm=100)  # labels exchanged: F again
    least = [record.getMessage().rpartition(" ")[2] for record in caplog.records]
    assert least == ["0.0625.", "0.0625.", "0.0667."]


def test_images_and_arrays_and_their_order_on_disk_give_the_same(tmp_path, monkeypatch):
    values = volumes(9)
    paths = write_maps(tmp_path / "maps", values)
    mask = (values != 0).all(axis=0)
    array = Cohort(CohortStore.from_array(values[:, mask], Geometry(mask, AFFINE)))
    expected = permutation_test(array, n_perm=60, cluster_forming_threshold=0.05)
    monkeypatch.setattr("numbaglm.data.cohort.writer.choose_chunks", lambda *_: (2, 16))
    on_disk = Cohort.create(tmp_path / "c.zarr", paths)
    assert on_disk.store.chunks == (2, 16)
    whole = nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE)
    for maps in (paths, whole, on_disk, [nib.load(path) for path in paths]):
        result = permutation_test(maps, n_perm=60, cluster_forming_threshold=0.05)
        assert result.provenance["cohort_fingerprint"] == expected.provenance["cohort_fingerprint"]
        for name, values_ in expected.maps.items():
            np.testing.assert_array_equal(result.maps[name], values_)
        for name, null in expected.h0.items():
            np.testing.assert_array_equal(result.h0[name], null)
        pd.testing.assert_frame_equal(result.clusters, expected.clusters)


def test_the_order_of_voxels_does_not_matter(as_cohort):
    Y = data(10, 1500, 0)
    order = np.random.default_rng(0).permutation(1500)
    one = permutation_test(as_cohort(Y), n_perm=80, cluster_forming_threshold=None)
    other = permutation_test(as_cohort(Y[:, order]), n_perm=80, cluster_forming_threshold=None)
    for name in ("t", "p_unc", "p_fwe_voxel"):
        np.testing.assert_allclose(other.maps[name], one.maps[name][order], rtol=1e-12)
    np.testing.assert_allclose(other.h0["max_t"], one.h0["max_t"], rtol=1e-6)


def test_designs_may_be_files(tmp_path, as_cohort):
    design = table(8, 0)
    design.to_csv(tmp_path / "design.tsv", sep="\t", index=False)
    cohort = as_cohort(data(8, 12, 0))
    from_file = permutation_test(cohort, tmp_path / "design.tsv", "group", n_perm=30)
    np.testing.assert_allclose(from_file.h0["max_t"], permutation_test(cohort, design, "group", n_perm=30).h0["max_t"])
    with pytest.raises(MissingFileError, match=r"nowhere\.tsv"):
        permutation_test(cohort, tmp_path / "nowhere.tsv", "group")


BAD = {
    "another number of rows": ({"design_matrix": table(7, 0), "contrast": "group"}, DesignError, "7 rows.*8 subject"),
    "NaN": ({"design_matrix": table(8, 0).assign(age=np.nan), "contrast": "group"}, DesignError, "NaN.*'age'"),
    "rank": (
        {"design_matrix": table(8, 0).assign(other=lambda t: 1 - t["group"]), "contrast": "group"},
        DesignError,
        r"rank deficient.*\['other'\]",
    ),
    "no dof": (
        {"design_matrix": np.random.default_rng(0).normal(size=(8, 8)), "contrast": "x0"},
        DesignError,
        "no degrees",
    ),
    "no such column": ({"design_matrix": table(8, 0), "contrast": "sex"}, ContrastError, "'sex'.*'group'"),
    "length": ({"design_matrix": table(8, 0), "contrast": [1, 0]}, ContrastError, "3 weights a row"),
    "zero": ({"design_matrix": table(8, 0), "contrast": [0, 0, 0]}, ContrastError, "all its weights are zero"),
    "no contrast": ({"design_matrix": table(8, 0)}, ContrastError, "contrast is needed.*'group'"),
    "a t as p": ({"cluster_forming_threshold": 3.1}, InputError, r"cluster_forming_threshold.*3\.1.*write it as"),
    "p of 0": ({"cluster_forming_threshold": 0}, InputError, "cluster_forming_threshold"),
    "F for t": ({"cluster_forming_threshold": ("f", 4.0)}, InputError, "cluster_forming_threshold.*'f'"),
    "negative t": ({"cluster_forming_threshold": ("t", -1.0)}, InputError, "cluster_forming_threshold"),
    "NaN threshold": ({"cluster_forming_threshold": np.nan}, InputError, "cluster_forming_threshold"),
    "not a threshold": ({"cluster_forming_threshold": "high"}, InputError, "cluster_forming_threshold.*'high'"),
    "p above a half": (
        {"cluster_forming_threshold": 0.7, "two_sided": False},
        InputError,
        "cluster_forming_threshold.*0.7",
    ),
    "conventions": ({"conventions": "afni"}, InputError, "'conventions'.*'afni'.*'numbaglm'"),
    "no conventions": ({"conventions": None}, InputError, "'conventions'"),
    "method": ({"method": "bootstrap"}, InputError, "'method'.*'bootstrap'.*'freedman-lane'"),
    "errors": ({"errors": "iid"}, ShufflingError, "'errors'.*'iid'.*'ee'"),
    "permutations of a mean": (
        {
            "design_matrix": table(8, 0).assign(other=lambda t: 1 - t["group"])[["group", "other"]],
            "contrast": "(group + other) / 2",
            "errors": "ee",
        },
        ShufflingError,
        "Permutations leave.*errors='ise'",
    ),
    "one of several contrasts without anything to shuffle": (
        {
            "design_matrix": table(8, 0),
            "contrast": {"age": "age", "mean": "intercept"},
            "errors": "ee",
            "fwe_across_contrasts": True,
        },
        ShufflingError,
        "rows are all equal.*errors='ise'",
    ),
    "errors in a list": ({"errors": ["ee"]}, ShufflingError, r"'errors': got \['ee'\]"),
    "tails in a list": ({"tail": ["pareto"]}, InputError, r"'tail': got \['pareto'\]"),
    "an endless threshold": ({"cluster_forming_threshold": 1e-320}, InputError, "this statistic can reach"),
    "True as a width": ({"variance_smoothing_fwhm": True}, InputError, "variance_smoothing_fwhm.*True"),
    "scheme": (
        {"exchangeability_blocks": [1, 1, 1, 1, 2, 2, 2, 2], "block_scheme": "between"},
        ShufflingError,
        "'block_scheme'.*'between'",
    ),
    "blocks": ({"exchangeability_blocks": [1, 2]}, ShufflingError, "exchangeability_blocks|blocks"),
    "connectivity": ({"cluster_connectivity": 8}, InputError, "connectivity.*8.*6, 18 or 26"),
    "tfce connectivity": ({"tfce": True, "tfce_connectivity": 8}, InputError, "connectivity.*8.*6, 18 or 26"),
    "n_perm": ({"n_perm": -1}, ShufflingError, "'n_perm'.*-1"),
    "half a permutation": ({"n_perm": 10.5}, ShufflingError, "'n_perm'.*10.5"),
    "seed": ({"seed": None}, ShufflingError, "'seed'"),
    "memory": ({"memory_limit": "plenty"}, InputError, "'memory_limit'.*'plenty'"),
    "little memory": ({"memory_limit": "10kB"}, InputError, "memory_limit|memory limit"),
    "workers": ({"n_workers": -1}, InputError, "'n_workers'.*-1"),
    "client": ({"client": "tcp://node1:8786"}, InputError, r"'client'.*'tcp://node1:8786'.*distributed.Client"),
    "scheme without blocks": ({"block_scheme": "whole"}, ShufflingError, "'block_scheme'.*Give exchangeability_blocks"),
    "no variance group": (
        {"variance_groups": ["a", "a", "b", np.nan, "b", "a", None, "a"]},
        DesignError,
        r"no label in row\(s\) \[3, 6\]",
    ),
    "a group of one": ({"variance_groups": [1, 1, 1, 7, 2, 2, 2, 2]}, DesignError, r"one subject: 7 \(row 3"),
    "neither file nor formula": ({"design_matrix": "age"}, InputError, "'design_matrix'.*'age'.*begins with '~'"),
    "formula without covariates": ({"design_matrix": "~ age"}, DesignError, "no table of covariates"),
    "mask of a cohort": ({"mask": np.ones(3)}, InputError, "mask"),
    "smoothing of a cohort": ({"smoothing_fwhm": 4}, InputError, "smoothing_fwhm"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(as_cohort, name):
    options, error, message = BAD[name]
    with pytest.raises(error, match=f"(?s){message}"):
        permutation_test(as_cohort(data(8, 10, 0)), **options)


@pytest.mark.parametrize("name", ["another number of rows", "no such column", "p of 0", "errors", "blocks", "n_perm"])
def test_what_cannot_be_used_is_refused_before_any_map_is_read(tmp_path, name):
    options, error, message = BAD[name]
    nowhere = [tmp_path / f"sub-{number:02d}_con.nii.gz" for number in range(8)]
    with pytest.raises(error, match=f"(?s){message}"):
        permutation_test(nowhere, **options)


def test_rows_are_those_of_the_subjects(tmp_path):
    maps = [nib.Nifti1Image(volume, AFFINE) for volume in volumes(8)]
    cohort = Cohort.from_maps(maps, subjects=list("abcdefgh"))
    design = table(8, 0).set_index(pd.Index(list("abcdefgh"), name="subject_label"))
    result = permutation_test(cohort, design, "group", n_perm=20)
    design.iloc[::-1].to_csv(tmp_path / "design.tsv", sep="\t")
    for other in (design.iloc[::-1], tmp_path / "design.tsv"):  # labels tell the order
        again = permutation_test(cohort, other, "group", n_perm=20)
        np.testing.assert_array_equal(again.h0["max_t"], result.h0["max_t"])
    with pytest.raises(DesignError, match="no row for h"):
        permutation_test(cohort, design.rename(index={"h": "i"}), "group", n_perm=20)


def test_the_provenance_holds_blocks_and_variance_groups(as_cohort):
    pairs, groups = [1, 1, 2, 2, 3, 3, 4, 4], list("aabbaabb")
    result = permutation_test(
        as_cohort(data(8, 5, 0)), table(8, 0), "group", exchangeability_blocks=pairs, variance_groups=groups
    )
    kept = result.provenance
    assert (kept["exchangeability_blocks"], kept["block_scheme"], kept["variance_groups"]) == (pairs, "within", groups)


def test_too_few_subjects(as_cohort):
    with pytest.raises(DesignError, match="no degrees of freedom"):
        permutation_test(as_cohort(data(1, 5, 0)))
    with pytest.raises(InputError, match="at least 2"):
        permutation_test([nib.Nifti1Image(volumes(1)[0], AFFINE)])


def test_permutations_that_change_nothing(as_cohort):
    with pytest.raises(ShufflingError, match="errors='ise'"):
        permutation_test(as_cohort(data(6, 5, 0)), errors="ee")


def image(values):
    return nib.Nifti1Image(values, AFFINE)


def test_masks_that_leave_nothing():
    values = volumes(4)
    with pytest.raises(MaskError):
        permutation_test([image(v) for v in values], mask=image(np.zeros(values.shape[1:], np.uint8)))
    with pytest.raises(MaskError, match=r"No voxel is left.*NaN"):
        permutation_test([image(np.full_like(v, np.nan)) for v in values])
    with pytest.raises(MaskError, match="same value in every map"):
        permutation_test([image(np.full_like(v, 3.0)) for v in values])


def test_voxels_that_cannot_be_analysed_are_left_out_and_reported():
    values = volumes(6)
    inside = int((values != 0).all(axis=0).sum())
    values[2, 2, 2, 2], values[:, 3, 3, 2] = np.nan, 5.0
    result = permutation_test([image(v) for v in values], n_perm=20, cluster_forming_threshold=None)
    assert result.geometry.n_voxels == inside - 2
    report = " ".join(result.provenance["left_out"])
    assert "1 NaN or infinite in at least one map" in report
    assert "1 the same value in every map" in report
    assert np.isfinite(result.h0["max_t"]).all()


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(
    "method", ["draper-stoneman", "dekker", "still-white", "kennedy", "manly", "ter-braak", "huh-jhun"]
)
def test_every_method_counts_the_observed_once(as_cohort, method, two_sided):
    design = table(8, 0)
    result = permutation_test(
        as_cohort(data(8, 60, 0, effect=0)), design, "group", n_perm=40, two_sided=two_sided, method=method
    )
    expected = permutation_test(as_cohort(data(8, 60, 0, effect=0)), design, "group", n_perm=0, two_sided=two_sided)
    np.testing.assert_allclose(result.maps["t"], expected.maps["t"], rtol=1e-9)
    assert result.maps["p_unc"].min() >= 1 / result.provenance["n_shufflings"]
    assert result.maps["p_unc"].max() <= 1
    seen = np.abs(result.maps["t"]) if two_sided else result.maps["t"]
    assert result.h0["max_t"][0] == pytest.approx(seen.max(), rel=1e-5)
    if not two_sided:
        # Without ties a shuffling reaches either the statistic or, with the opposite sign, its opposite.
        opposite = permutation_test(
            as_cohort(-data(8, 60, 0, effect=0)), design, "group", n_perm=40, two_sided=False, method=method
        )
        n = result.provenance["n_shufflings"]
        np.testing.assert_allclose(result.maps["p_unc"] + opposite.maps["p_unc"], 1 + 1 / n)


@pytest.mark.parametrize("statistic", ["t", "f"])
def test_each_voxel_with_the_subjects_that_it_has(tmp_path, statistic):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(12, 6, 6, 6)).astype(np.float32)
    Y[rng.random(Y.shape) < 0.05] = np.nan
    Y[:5, 5, 5, 5], Y[7:, 0, 0, 0] = np.nan, np.nan
    images = [nib.Nifti1Image(one, np.diag([3.0, 3, 3, 1])) for one in Y]
    design = pd.DataFrame({"group": np.repeat([1.0, 0], [5, 7]), "age": rng.normal(size=12), "intercept": 1.0})
    contrast = "group" if statistic == "t" else ["group", "age"]
    options = {"n_perm": 300, "tfce": True, "cluster_forming_threshold": 0.01}
    cohort = Cohort.create(tmp_path / "c.zarr", images, min_subjects=0.5)
    left, plain = (permutation_test(maps, design, contrast, **options) for maps in (cohort, images))
    assert all((left.maps[name] == plain.maps[name]).all() for name in plain.maps)
    assert all((left.h0[name] == plain.h0[name]).all() for name in plain.h0)
    result = permutation_test(images, design, contrast, missing="element", **options)
    here = np.isfinite(Y).sum(axis=0)[result.geometry.mask]
    np.testing.assert_array_equal(result.maps["n_subjects"], here)
    assert result.maps["reason"].max() == 2
    untested = result.maps["reason"] > 0
    np.testing.assert_array_equal(result.maps["dof"], np.where(untested, 0, here - 3))
    assert (result.maps["p_unc"][untested] == 1).all()
    assert result.max_statistic == "max_z"
    assert result.to_nifti(statistic).header.get_intent()[0] == "none", "degrees of freedom differ"
    assert result.h0["max_z"][0] == np.abs(result.maps["z"]).max()
    assert result.asked.missing == "element"
    again = permutation_test(
        cohort, design, contrast, missing="element", store=tmp_path / "run", n_workers=1, **options
    )
    assert all((again.maps[name] == result.maps[name]).all() for name in result.maps)
    assert all((again.h0[name] == result.h0[name]).all() for name in result.h0)
    saved = PermutationResult.load(result.save(tmp_path / "saved"))
    np.testing.assert_array_equal(saved.maps["n_subjects"], here)


@pytest.mark.parametrize("contrast", ["a", ["a", "b"]])
def test_strong_effects_of_voxels_with_their_own_subjects_count_against_the_null_alone(contrast):
    """Of what few degrees of freedom blur, voxels with many know nothing: p is a recount of the null."""
    rng = np.random.default_rng(4)
    design = pd.DataFrame({"a": rng.normal(size=24), "b": rng.normal(size=24), "intercept": 1.0})
    values = rng.normal(size=(5, 5, 5, 24)) + 3 * design["a"].to_numpy() * (np.arange(5) < 2)[:, None, None, None]
    values[0, 0, :, :2] = np.nan
    mask = nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4))
    result = permutation_test(
        *(nib.Nifti1Image(np.float32(values), np.eye(4)), design, contrast, mask),
        **{"missing": "element", "n_perm": 199, "cluster_forming_threshold": None},
    )
    z = np.abs(result.maps["z"]) if contrast == "a" else result.maps["z"]  # F has one side
    assert z.max() > 6
    recount = (result.h0["max_z"][:, None] >= z - 1e-3).mean(axis=0)
    np.testing.assert_allclose(result.maps["p_fwe_voxel"], recount)
    assert (result.maps["p_fwe_voxel"][z > 6] == 1 / 200).all()


@pytest.mark.parametrize(
    "options",
    [
        {"weights": np.linspace(0.3, 2, 12)},
        {"weights": "variance"},
        {"variance_groups": np.arange(12) % 2, "errors": "ee"},
        {"variance_groups": np.arange(12) % 2, "errors": "ise"},
    ],
    ids=["weights", "variances", "v", "v, flips"],
)
def test_one_side_and_the_other_are_all_shufflings_whatever_their_number(options):
    """Shufflings fill vectors of eight; those that only fill one up are none."""
    rng = np.random.default_rng(1)
    present, variances = rng.random((12, 30)) > 0.15, rng.uniform(0.2, 2, (12, 30))
    present[:, :2] = True
    mask = nib.Nifti1Image(np.ones((30, 1, 1), np.uint8), AFFINE)
    cohort = Cohort.from_maps(
        in_memory(np.where(present, rng.normal(size=(12, 30)), np.nan)),
        mask,
        layers={"variance": in_memory(variances)},
        min_subjects=0.5,
    )
    design = pd.DataFrame({"age": rng.normal(size=12), "intercept": 1.0})
    options = {"n_perm": 40, "missing": "element", "cluster_forming_threshold": None} | options  # 41 shufflings
    one, other = (
        permutation_test(cohort, design, contrast, two_sided=False, **options).maps for contrast in ("age", "-age")
    )
    ties = 4 if options.get("errors") == "ise" else 0  # signs of those who are missing
    both = 41 * (one["p_unc"] + other["p_unc"])
    assert (both >= 42 - 1e-9).all()
    assert (both <= 42 + ties + 1e-9).all()
    assert (both < 42.5).mean() > 0.8


def test_missing_is_refused_where_it_has_no_algebra(as_cohort):
    cohort = as_cohort(np.random.default_rng(0).normal(size=(8, 6)))
    for options, words in (
        ({"missing": "subjects"}, "'leave' or 'element'"),
        ({"missing": "element", "variance_smoothing_fwhm": 5.0}, "not with variance_smoothing_fwhm"),
        ({"missing": "element", "method": "ter-braak"}, "'freedman-lane' with missing='element'"),
    ):
        with pytest.raises(InputError, match=words):
            permutation_test(cohort, n_perm=20, cluster_forming_threshold=None, **options)
    design = np.random.default_rng(0).normal(size=(8, 7))
    for more in ({}, {"weights": np.arange(1.0, 9)}, {"variance_groups": np.arange(8) % 2}):
        with pytest.raises(DesignError, match="leaves 1 degree of freedom of 8 subjects"):
            permutation_test(cohort, design, np.eye(7)[0], n_perm=20, missing="element", **more)


def test_shufflings_that_leave_nothing_to_test_are_told(as_cohort, caplog):
    present = np.repeat((np.arange(8) % 4 < 2)[:, None], 5, axis=1)
    present[:, 0] = True
    Y = np.random.default_rng(0).normal(size=(8, 5)) * present
    where = Geometry(np.ones((5, 1, 1), bool), np.eye(4))
    cohort = Cohort(CohortStore.from_array(Y, where, present=present))
    design = pd.DataFrame({"group": np.arange(8) < 4, "intercept": 1.0}).astype(float)
    permutation_test(cohort, design, "group", n_perm=2000, cluster_forming_threshold=None, missing="element")
    told = "At 4 voxels some shufflings, 0.029 of all at most, leave the design without its rank"
    assert told in caplog.text  # 2 of the 70 ways to choose the group
