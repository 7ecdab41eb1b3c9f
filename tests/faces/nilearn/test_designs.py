"""Designs from confounds, and designs and contrasts as nilearn's users write them."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import numbaglm as ng
from numbaglm.errors import ContrastError, DesignError, InputError, InputTypeError, NumbaglmWarning
from numbaglm.faces.nilearn.designs import GroupDesign, check_confounds, design_table

CONFOUNDS = pd.DataFrame({"subject_label": ["b", "a", "c"], "age": [2.0, 1.0, 3.0]})
GROUP = np.repeat([1.0, 0.0], 4)
DUMMIES = pd.DataFrame({"patient": GROUP, "control": 1 - GROUP, "intercept": 1.0})


def test_design_of_labels():
    X = ng.make_second_level_design_matrix(["a", "b", "c"], CONFOUNDS)
    assert list(X.columns) == ["age", "intercept"]
    assert X["age"].tolist() == [1, 2, 3]
    assert X.dtypes.tolist() == [np.float64, np.float64]
    assert ng.make_second_level_design_matrix(["a", "b"]).to_numpy().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("labels", "confounds", "error", "message"),
    [
        (["a", "d"], CONFOUNDS, DesignError, "no rows for.*d"),
        (["a"], pd.concat([CONFOUNDS, CONFOUNDS]), DesignError, "more than one row"),
        (["a"], CONFOUNDS.assign(age=np.nan), DesignError, "NaN values.*age"),
        (["a", "b", "c"], CONFOUNDS.assign(age=np.inf), DesignError, "infinite.*age"),
        (["a"], CONFOUNDS.assign(age="old"), DesignError, "age.*not numeric"),
        (["a"], CONFOUNDS.assign(intercept=1), DesignError, "intercept.*added"),
        (["a"], CONFOUNDS[["age"]], DesignError, "subject_label"),
        (["a"], [1.0], TypeError, "list"),
    ],
)
def test_refused_confounds(labels, confounds, error, message):
    with pytest.raises(error, match=message):
        ng.make_second_level_design_matrix(labels, confounds)


def test_confounds_without_a_column():
    """As nilearn takes them here; a model refuses them."""
    X = ng.make_second_level_design_matrix(["a", "b"], CONFOUNDS[["subject_label"]])
    assert X.to_dict("list") == {"intercept": [1.0, 1.0]}
    with pytest.raises(DesignError, match="at least 2 columns"):
        check_confounds(CONFOUNDS[["subject_label"]])


def test_confounds_that_add_nothing():
    with pytest.warns(NumbaglmWarning, match="rank deficient"):
        X = ng.make_second_level_design_matrix(["a", "b", "c"], CONFOUNDS.assign(age=5))
    assert X.shape == (3, 2)


@pytest.mark.parametrize(
    ("given", "error"),
    [(1, InputTypeError), (["a"], InputTypeError), ("design.txt", InputError), (np.ones((2, 2, 2)), DesignError)],
)
def test_refused_design(given, error):
    with pytest.raises(error, match="design_matrix"):
        design_table(given)


def parse(frame):
    with pytest.warns(NumbaglmWarning, match="rank deficient"):
        return GroupDesign.parse(frame, len(frame))


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("pick", [[0], [1], [0, 1]])
def test_estimable_contrasts_of_dependent_columns(pick, scale):
    """They have the value that they have for any parameters of the same fit."""
    frame = DUMMIES.assign(patient=scale * GROUP, control=scale * (1 - GROUP))
    weights = np.array([[1, -1, 0], [scale, 0, 1]])[pick]  # a difference of groups, the mean of one
    group = parse(frame)
    assert group.design.columns == ("patient", "control")
    assert group.dof == 6
    y = np.random.default_rng(0).normal(size=8)
    theta = np.linalg.lstsq(frame.to_numpy(), y, rcond=None)[0] + np.array([3, 3, -3 * scale]) / scale
    kept = np.linalg.lstsq(group.design.matrix, y, rcond=None)[0]
    assert_allclose(group.contrast(weights).matrix @ kept, weights @ theta, rtol=1e-8)


def test_names_of_dependent_columns():
    assert_allclose(parse(DUMMIES).contrast("patient - control").matrix, [[1.0, -1.0]])
    assert_allclose(parse(DUMMIES).contrast("intercept + patient").matrix, [[1.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize("contrast", ["patient", "intercept", [1, 1, 0]])
def test_contrasts_that_hinge_on_the_columns(contrast):
    with pytest.raises(ContrastError, match="not estimable"):
        parse(DUMMIES).contrast(contrast)


def test_columns_of_one_name():
    """As nilearn takes them; by name they can't be told apart."""
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 2)), columns=["x", "x"])
    group = GroupDesign.parse(frame, 6)
    assert group.contrast([0, 1]).matrix.tolist() == [[0.0, 1.0]]
    with pytest.raises(ContrastError, match="'x'"):
        group.contrast("x")


def test_short_contrasts():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 3)), columns=["a", "b", "c"])
    group = GroupDesign.parse(frame, 6)
    with pytest.warns(NumbaglmWarning, match="2 weights for 3 columns"):
        assert group.contrast([1, -1], short=True).matrix.tolist() == [[1.0, -1.0, 0.0]]
    with pytest.warns(NumbaglmWarning, match="2 weights"):
        assert group.contrast(np.eye(2), short=True).matrix.shape == (2, 3)
    with pytest.raises(ContrastError, match="3 weights"):
        group.contrast([1, -1])


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        (None, "No second-level contrast"),
        ([0, 0, 0], "null"),
        ([], "null"),
        ([1, 0, 0, 0], "P=3"),
        (np.eye(4), "F contrasts should have 3 columns"),
        ("d", "'d'"),
        ([None, 1, 2], "finite"),
        ([{}, 1, 2], "numbers"),
    ],
)
def test_refused_contrasts(contrast, message):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 3)), columns=["a", "b", "c"])
    with pytest.raises(ContrastError, match=message):
        GroupDesign.parse(frame, 6).contrast(contrast)


def test_refused_group_designs():
    with pytest.raises(DesignError, match=r"3 rows.*4 maps"):
        GroupDesign.parse(DUMMIES[:3], 4)
    with pytest.raises(DesignError, match="categories as numbers"):
        GroupDesign.parse(DUMMIES.assign(sex="f"), 8)
    with pytest.raises(DesignError, match="NaN"):
        GroupDesign.parse(DUMMIES.assign(age=np.nan), 8)
    with pytest.raises(DesignError, match="no columns"):
        GroupDesign.parse(DUMMIES[[]], 8)
    with pytest.raises(DesignError, match="degrees of freedom"):
        _ = GroupDesign.parse(pd.DataFrame(np.eye(3)), 3).design
