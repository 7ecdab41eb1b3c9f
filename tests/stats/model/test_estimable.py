"""Designs of dependent columns, and contrasts that can be told in spite of it."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from numbaglm.errors import ContrastError, DesignError, NumbaglmWarning
from numbaglm.stats.model.design import Design, independent_columns
from numbaglm.stats.model.estimable import GroupDesign, full_rank, independent_rows, over_basis, rows_of_rank

GROUP = np.repeat([1.0, 0.0], 4)
DUMMIES = pd.DataFrame({"patient": GROUP, "control": 1 - GROUP, "intercept": 1.0})


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
    with pytest.raises(DesignError, match=r"'sex' \(str\).*codes categories"):
        GroupDesign.parse(DUMMIES.assign(sex="f"), 8)
    with pytest.raises(DesignError, match="NaN"):
        GroupDesign.parse(DUMMIES.assign(age=np.nan), 8)
    with pytest.raises(DesignError, match="no columns"):
        GroupDesign.parse(DUMMIES[[]], 8)
    with pytest.raises(DesignError, match="degrees of freedom"):
        _ = GroupDesign.parse(pd.DataFrame(np.eye(3)), 3).design


def test_a_contrast_has_one_value_in_any_basis_of_the_span():
    M = DUMMIES.to_numpy()
    y = np.random.default_rng(0).normal(size=8)
    kept = independent_columns(M)
    assert kept == [0, 1]
    V = np.linalg.svd(M)[2][:2].T
    A_kept = np.linalg.pinv(M[:, kept]) @ M
    for B, A, inverse in ((M[:, kept], A_kept, np.linalg.pinv(A_kept)), (M @ V, V.T, V)):
        theta = np.linalg.pinv(B) @ y
        assert_allclose(over_basis(np.array([[1.0, -1, 0]]), A, inverse) @ theta, y[:4].mean() - y[4:].mean())
        assert over_basis(np.array([[1.0, -1, 0], [1, 0, 0]]), A, inverse) is None


def test_the_design_names_the_columns_that_add_nothing():
    with pytest.raises(DesignError, match=r"\['intercept'\] can be written by the others"):
        Design.parse(DUMMIES, 8)


def test_a_design_in_as_many_columns_as_its_rank():
    M, C = DUMMIES.to_numpy(), np.array([[1.0, -1, 0]])
    matrix, weights = full_rank(M, C, "difference")
    assert matrix.shape == (8, 2)
    y = np.random.default_rng(0).normal(size=8)
    estimate = weights @ np.linalg.lstsq(matrix, y, rcond=None)[0]
    assert_allclose(estimate, y[:4].mean() - y[4:].mean())
    with pytest.raises(ContrastError, match="mean is not estimable"):
        full_rank(M, np.array([[1.0, 0, 0]]), "mean")
    whole = M[:, :2], np.eye(2)[:1]
    assert all(one is two for one, two in zip(full_rank(*whole, "group"), whole, strict=True))


def test_rows_in_as_many_as_their_rank():
    rows = independent_rows(np.array([[1.0, -1, 0], [-1, 1, 0], [0, 1, -1]]), "F")
    assert rows.shape == (2, 3)
    assert_allclose(rows @ np.ones(3), 0, atol=1e-12)
    with pytest.raises(ContrastError, match="F: all weights of a contrast are 0"):
        independent_rows(np.zeros((1, 3)), "F")
    assert rows_of_rank(np.array([[1.0, -1], [0, 0]])).shape == (1, 2)
