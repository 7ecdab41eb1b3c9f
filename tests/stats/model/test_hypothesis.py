from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from numbaglm.errors import DesignError, InputError
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import CONVENTIONS, Conventions
from numbaglm.stats.methods import METHODS, find_method
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.scales import TIE_TOLERANCE, Correlation, Share
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.glm import statistic
from reference.shuffle import scores

BLOCKS = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])


def build(contrast="x", errors="ee", orbits=None, columns=("x", "age", "intercept"), **options):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=9), "age": rng.normal(size=9), "intercept": 1.0})
    for block in range(3):
        table[f"block{block}"] = (block == BLOCKS).astype(float)
    design = Design.parse(table[list(columns)], 9)
    orbits = np.zeros(9, int) if orbits is None else orbits
    return Hypothesis.build(design, Contrast.parse(contrast, design), errors, orbits, **options)


@pytest.mark.parametrize("contrast", ["x", "x - age", ["x", "age"]])
@pytest.mark.parametrize("errors", ["ee", "ise", "both"])
def test_rows_are_orthonormal_and_of_interest_first(contrast, errors):
    hypothesis = build(contrast, errors)
    n_rows = len(hypothesis.basis)
    np.testing.assert_allclose(hypothesis.basis @ hypothesis.basis.T, np.eye(n_rows), atol=1e-12)
    np.testing.assert_allclose(hypothesis.basis[: hypothesis.n_interest], hypothesis.interest, atol=1e-15)
    np.testing.assert_allclose(hypothesis.nuisance @ hypothesis.interest.T, 0, atol=1e-12)
    assert hypothesis.statistic_name == ("t" if isinstance(contrast, str) else "f")


@pytest.mark.parametrize(
    ("columns", "errors", "orbits", "n_moved"),
    [
        (("x", "intercept"), "ee", np.zeros(9, int), 0),  # an intercept stays as it is
        (("x", "age", "intercept"), "ee", np.zeros(9, int), 1),
        (("x", "intercept"), "ise", np.arange(9), 1),  # flips move everything
        (("x", "intercept"), "both", np.zeros(9, int), 1),
        (("x", "block0", "block1", "block2"), "ee", BLOCKS, 0),  # within blocks their means stay
        (("x", "block0", "block1", "block2"), "ee", np.zeros(9, int), 2),  # but for the sum, they move freely
        (("x", "age", "block0", "intercept"), "ee", BLOCKS, 1),
        (("x",), "ee", np.zeros(9, int), 0),
    ],
)
def test_nuisance_that_shuffling_leaves_as_it_is_costs_nothing(columns, errors, orbits, n_moved):
    hypothesis = build("x", errors, orbits, columns)
    assert len(hypothesis.basis) == 1 + n_moved
    assert hypothesis.nuisance.shape == (len(columns) - 1, 9)
    # What is left out has no product with shuffled residuals.
    plan = plan_shufflings(
        9,
        50,
        0,
        design_rows=hypothesis.design.matrix[:, :1],
        errors=errors,
        blocks=None if orbits is not BLOCKS else BLOCKS + 1,
    )
    index, sign = plan.draw(0, 51)
    E = np.random.default_rng(1).normal(size=(9, 4))
    E -= hypothesis.nuisance.T @ (hypothesis.nuisance @ E)
    E /= np.linalg.norm(E, axis=0)
    whole = np.vstack([hypothesis.interest, hypothesis.nuisance])
    np.testing.assert_allclose(
        scores(hypothesis.basis, E, index, sign, 1, True), scores(whole, E, index, sign, 1, True), atol=1e-10
    )


def test_orbits_of_another_number_of_subjects():
    with pytest.raises(DesignError, match="'orbits'"):
        build(orbits=np.zeros(4, int))


def test_many_orbits_need_little_memory():
    # 20,000 pairs: a full left basis of their means would be 3 GB.
    n = 40_000
    design = Design.parse(pd.DataFrame({"x": np.arange(n) % 2.0, "age": np.arange(n) ** 0.5, "one": 1.0}), n)
    hypothesis = Hypothesis.build(design, Contrast.parse("x", design), "ee", np.arange(n) // 2)
    assert hypothesis.basis.shape == (2, n)


@pytest.mark.parametrize("contrast", ["x", "intercept", ["x", "intercept"]])
def test_what_is_observed_is_the_textbook_s_statistic(contrast):
    hypothesis = build(contrast)
    y = np.random.default_rng(1).normal(3, 1, size=(9, 6)).astype(np.float32)
    y[:, 2] = 0.0
    observed = hypothesis.observe(y)
    assert observed.degenerate.tolist() == [False, False, True, False, False, False]
    rest = ~observed.degenerate
    expected = statistic(y[:, rest], hypothesis.design.matrix, hypothesis.contrast.matrix)
    np.testing.assert_allclose(observed.statistic[rest], expected, rtol=1e-10)
    np.testing.assert_allclose(hypothesis.scale.to_statistic(observed.score[rest]), expected, rtol=1e-10)
    assert observed.statistic[2] == observed.score[2] == 0
    beta = np.linalg.lstsq(hypothesis.design.matrix, y.astype(float), rcond=None)[0]
    np.testing.assert_allclose(observed.effect, hypothesis.contrast.matrix @ beta, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(observed.E[:, rest], axis=0), 1)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
def test_data_far_from_0(offset):
    # float32 holds 1e6 to 0.06: what is left of the data there must not pass for nothing.
    y = (np.round(np.random.default_rng(1).normal(0, 20, size=(9, 3))) + offset).astype(np.float32)
    hypothesis = build()
    observed = hypothesis.observe(y)
    assert not observed.degenerate.any()
    expected = statistic(y.astype(float) - offset, hypothesis.design.matrix, hypothesis.contrast.matrix)
    np.testing.assert_allclose(observed.statistic, expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [Correlation(12), Share(12, 3)])
def test_scales_lead_there_and_back(scale):
    score = np.array([0.01, 0.3, 0.7, 0.999])
    found = scale.to_statistic(score)
    assert (np.diff(found) > 0).all()
    back = [scale.to_score(scale.name, value, False) for value in found]
    np.testing.assert_allclose(back, score, rtol=1e-12)
    sf = stats.t(12).sf if scale.name == "t" else stats.f(3, 12).sf
    np.testing.assert_allclose(pvalues.of_z(scale.to_z(score)), sf(found), rtol=1e-10)
    p = scale.to_score("p", 0.01, False)
    assert pvalues.of_z(scale.to_z(np.array([p])))[0] == pytest.approx(0.01)
    z = scale.to_score("z", 2.5, False)
    assert scale.to_z(np.array([z]))[0] == pytest.approx(2.5)
    assert np.isfinite(scale.to_statistic(np.array([1.0]))).all()


def test_correlations_have_a_sign_and_halve_p_two_sided():
    scale = Correlation(12)
    np.testing.assert_array_equal(scale.to_statistic(np.array([-0.5])), -scale.to_statistic(np.array([0.5])))
    two = scale.to_score("p", 0.01, True)
    assert pvalues.of_z(scale.to_z(np.array([two])))[0] == pytest.approx(0.005)


def test_the_tolerance_lies_between_rounding_and_data():
    for precision, tolerance in TIE_TOLERANCE.items():
        assert 10 * np.finfo(precision).eps < tolerance < 1e-5


def test_unknown_methods():
    with pytest.raises(InputError, match=r"'method'.*'bootstrap'.*'freedman-lane'"):
        build(method="bootstrap")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_sees_the_same_observed_data(method):
    y = np.random.default_rng(1).normal(3, 1, size=(9, 6)).astype(np.float32)
    expected = build().observe(y)
    observed = build(method=method).observe(y)
    np.testing.assert_allclose(observed.statistic, expected.statistic, rtol=1e-12)
    assert METHODS[method].reference
    assert METHODS[method].model


@pytest.mark.parametrize("moved", ["a", "b"])
def test_a_shuffled_row_that_the_nuisance_explains_counts_for_nothing(moved):
    # Where a or b takes the nuisance's place, the other alone is left to test, wherever it stands.
    k, o = np.array([1.0, -1, 1, -1]), np.zeros(4)
    table = pd.DataFrame({"a": np.r_[k, o, o], "b": np.r_[o, k, o], "z": np.r_[o, o, k]})
    design = Design.parse(table, 12)
    hypothesis = Hypothesis.build(
        design, Contrast.parse(["a", "b"], design), "ee", np.zeros(12, int), method="draper-stoneman"
    )
    order = {"a": [2, 0, 1], "b": [1, 2, 0]}[moved]
    index = np.concatenate([np.arange(4) + 4 * block for block in order]).astype(np.int32)[None]
    weights = np.empty((2, 1, 12))
    (layer,) = hypothesis.family.layers
    layer.rows.fill(index, np.ones((1, 12), np.int8), weights)
    weights = weights[:, 0]
    other = table[moved].to_numpy() / 2  # which stands there now
    np.testing.assert_allclose(weights.T @ weights, np.outer(other, other), atol=1e-12)


def test_shares_are_equal_where_their_roots_are():
    # With 40,000 subjects 4e-6 of a share is a tenth of a chi^2, and p would be 5 % too large.
    hypothesis = build(["x", "age"])
    tolerance = TIE_TOLERANCE["float32"]
    share = np.array([0.0, 1e-12, 1e-3, 0.5, 1.0])
    least = hypothesis.scale.least_equal(share, "float32")
    np.testing.assert_allclose(np.sqrt(least), np.maximum(np.sqrt(share) - tolerance, 0))
    np.testing.assert_allclose(build("x").scale.least_equal(share, "float32"), share - tolerance)


@pytest.mark.parametrize("unit", [1e-16, 1e16])
def test_rows_of_interest_do_not_depend_on_units(unit):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 3)), columns=["x", "age", "volume"])
    found = []
    for scale in (1.0, unit):
        design = Design.parse(table * [1.0, 1.0, scale], 9)
        contrast = Contrast.parse(["x", "volume"], design)
        interest = Hypothesis.build(design, contrast, "ee", np.zeros(9, int)).interest
        found.append(interest.T @ interest)
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)


def test_conventions_are_records():
    assert Conventions.parse("numbaglm") is not None
    assert list(CONVENTIONS) == [record.name for record in CONVENTIONS.values()]
    changed = Conventions.parse("nilearn", cluster_connectivity=18, tfce_connectivity=None)
    assert (changed.cluster_connectivity, changed.tfce_connectivity) == (18, CONVENTIONS["nilearn"].tfce_connectivity)
    assert CONVENTIONS["nilearn"].cluster_connectivity == 6, "the record itself is left as it is"
    assert Conventions.parse(changed) == changed


@pytest.mark.parametrize(
    ("conventions", "options", "message"),
    [
        ("afni", {}, "'conventions'.*'afni'.*'palm'"),
        (None, {}, "'conventions'.*None"),
        ("palm", {"cluster_connectivity": 4}, "'cluster_connectivity'.*4.*6, 18 or 26"),
        ("palm", {"mass": "total"}, "'mass'.*'total'.*'sum'"),
        ("palm", {"statistic": "p"}, "'statistic'.*'p'"),
        ("palm", {"fdr": "none"}, "'fdr'.*'none'"),
        ("palm", {"tfce_H": -1}, "'tfce_H'.*-1"),
        ("palm", {"tfce_E": float("nan")}, "'tfce_E'.*nan"),
        ("palm", {"tfce_dh": -0.1}, "'tfce_dh'.*-0.1"),
        ("palm", {"tfce_E": "high"}, "'tfce_E'.*'high'.*a number from 0 to 20"),
        ("palm", {"tfce_H": 1e9}, "'tfce_H'.*a number from 0 to 20"),
        ("palm", {"tfce_steps": 2.5}, "'tfce_steps'.*2.5.*whole number"),
        ("palm", {"tfce_steps": -5}, "'tfce_steps'.*-5"),
        ("palm", {"strict": "no"}, "'strict'.*'no'.*True or False"),
        ("palm", {"v_dof_factor": 0}, "'v_dof_factor'.*above 0"),
        ("palm", {"colour": "blue"}, r"\['colour'\]"),
    ],
)
def test_bad_conventions(conventions, options, message):
    with pytest.raises(InputError, match=message):
        Conventions.parse(conventions, **options)


@pytest.mark.parametrize(
    ("name", "method"),
    [("Freedman-Lane", "freedman-lane"), ("terBraak", "ter-braak"), ("Dekker/Smith", "dekker"), ("smith", "dekker")],
)
def test_methods_are_found_however_they_are_written(name, method):
    assert find_method(name).name == method


def test_of_many_groups_of_one_subject_some_are_named():
    table = pd.DataFrame({"x": np.arange(12.0), "intercept": 1.0})
    design = Design.parse(table, 12)
    with pytest.raises(DesignError, match=r"one subject: 0 \(row 0.*4 \(row 4, counted from 0\) and 7 more\. One"):
        Hypothesis.build(design, Contrast.parse("x", design), "ee", np.zeros(12, int), variance_groups=np.arange(12))
