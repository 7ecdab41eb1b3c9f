from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.errors import ContrastError, DesignError
from numbaglm.stats.model.design import (
    Contrast,
    Design,
    orthonormal,
    parse_contrasts,
    partition,
    tested_regressors,
    warn_of_lacking_mean,
)
from reference.glm import statistic


def frame(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"x": rng.normal(size=n), "age": rng.normal(50, 9, size=n), "intercept": 1.0})


def design(n=8):
    return Design.parse(frame(n), n)


def test_designs_are_parsed_once_from_frames_arrays_and_nothing():
    table = frame()
    for given_design, columns in (
        (table, ("x", "age", "intercept")),
        (table.to_numpy(), ("x0", "x1", "x2")),
        (table["x"].to_numpy(), ("x0",)),
        (table.to_numpy().tolist(), ("x0", "x1", "x2")),
    ):
        parsed = Design.parse(given_design, 8)
        assert parsed.columns == columns
        assert (parsed.n_subjects, parsed.rank, parsed.dof) == (8, len(columns), 8 - len(columns))
        np.testing.assert_array_equal(parsed.matrix, table.to_numpy()[:, : len(columns)])
        assert not parsed.matrix.flags.writeable
    pd.testing.assert_frame_equal(Design.parse(table, 8).to_frame(), table)
    one_sample = Design.parse(None, 5)
    assert one_sample.columns == ("intercept",)
    np.testing.assert_array_equal(one_sample.matrix, np.ones((5, 1)))


def test_the_design_is_a_copy():
    table = np.column_stack([np.arange(6.0), np.ones(6)])
    parsed = Design.parse(table, 6)
    table[:] = 0
    assert parsed.matrix[5, 0] == 5


def changed(**columns):
    return frame().assign(**columns)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame(9), "has 9 rows, but there are 8 subject maps"),
        (changed(x=[1, 2, np.nan, 4, 5, 6, np.inf, 8]), r"column\(s\) \['x'\], rows \[2, 6\]"),
        (changed(x=pd.array([1, 2, None, 4, 5, 6, 7, 8], dtype="Int64")), r"column\(s\) \['x'\], rows \[2\]"),
        (changed(site=list("aabbaabb")), r"'site' \(\w+\) of the design matrix are not real numbers.*get_dummies"),
        (changed(site=np.arange(8) * 1j), r"'site' \(complex128\) of the design matrix are not real numbers"),
        (changed(twice=lambda t: 3 * t["age"] - t["intercept"]), r"rank deficient: 4 columns.*rank 3.*\['twice'\]"),
        (changed(nothing=0.0), r"rank deficient.*\['nothing'\]"),
        (pd.concat([frame(), frame()[["age"]]], axis=1), r"more than one column named \['age'\]"),
        (np.random.default_rng(0).normal(size=(8, 8)), "8 rows and rank 8: no degrees of freedom"),
        (np.zeros((8, 0)), "no columns"),
        (np.zeros((8, 2, 2)), "'design_matrix'.*two dimensions"),
        ("not a design", "'design_matrix'"),
        ([object()] * 8, "'design_matrix'"),
    ],
)
def test_bad_designs_are_refused(bad, message):
    with pytest.raises(DesignError, match=message):
        Design.parse(bad, 8)


def test_rank_does_not_depend_on_units():
    table = frame().assign(volume=lambda t: 1e-12 * np.arange(8.0) ** 2)
    assert Design.parse(table, 8).rank == 4


@pytest.mark.parametrize(
    ("contrast", "weights"),
    [
        ("x", [[1, 0, 0]]),
        ("x - age", [[1, -1, 0]]),
        ("-x / 2 + 3 * (age - intercept)", [[-0.5, 3, -3]]),
        ([0, 1, 0], [[0, 1, 0]]),
        (np.array([[0, 1, 0]]), [[0, 1, 0]]),
        (["x", "age - x"], [[1, 0, 0], [-1, 1, 0]]),
        (np.eye(3)[:2], [[1, 0, 0], [0, 1, 0]]),
        ([[1, 0, 0], [0, 0, 2]], [[1, 0, 0], [0, 0, 2]]),
        # Labels say which column a weight is for.
        (pd.Series({"age": -1, "intercept": 0, "x": 1}), [[1, -1, 0]]),
        (pd.Series([1, 0, 0]), [[1, 0, 0]]),
        (pd.Series(["x", "age"]), [[1, 0, 0], [0, 1, 0]]),
        (pd.DataFrame([[0, 1, 0], [2, 0, 0]], columns=["intercept", "x", "age"]), [[1, 0, 0], [0, 0, 2]]),
        (pd.DataFrame([[0, 1, 0], [2, 0, 0]], index=[3, 4]), [[0, 1, 0], [2, 0, 0]]),
    ],
)
def test_contrasts(contrast, weights):
    parsed = Contrast.parse(contrast, design())
    np.testing.assert_allclose(parsed.matrix, weights, atol=1e-15)
    assert parsed.is_t == (len(weights) == 1)
    assert parsed.name


def test_names_of_contrasts():
    assert Contrast.parse("x - age", design()).name == "x - age"
    assert Contrast.parse(["x", "age"], design()).name == "x; age"
    assert Contrast.parse([1, 0, 0], design()).name == "[1, 0, 0]"
    assert Contrast.parse("x", design(), "mine").name == "mine"
    one = Design.parse(None, 4)
    assert Contrast.parse(None, one).name == "intercept"
    np.testing.assert_array_equal(Contrast.parse(2, one).matrix, [[2]])
    several = parse_contrasts({"a": "x", "b": [0, 1, 0]}, design())
    assert [(c.name, c.matrix.tolist()) for c in several] == [("a", [[1, 0, 0]]), ("b", [[0, 1, 0]])]


def test_columns_whose_names_are_no_identifiers():
    odd = Design.parse(frame().rename(columns={"x": "drug (mg)", "age": "a-b"}), 8)
    np.testing.assert_array_equal(Contrast.parse("drug (mg)", odd).matrix, [[1, 0, 0]])
    np.testing.assert_array_equal(Contrast.parse("a-b", odd).matrix, [[0, 1, 0]])
    np.testing.assert_array_equal(Contrast.parse("`drug (mg)` - `a-b`", odd).matrix, [[1, -1, 0]])


@pytest.mark.parametrize(
    "bad",
    [
        "patient",
        "x - ",
        "",
        "x - 1",
        "3",
        "x ** 2",
        "x > 0",
        "abs(x)",
        "x * age",
        "y = x",
        [1, 0],
        [1, 0, 0, 0],
        1,
        [],
        [0, 0, 0],
        [np.nan, 0, 0],
        [[1, 0, 0], [2, 0, 0]],
        [[1, 0, 0], [0, 0, 0]],
        np.zeros((1, 1, 3)),
        ["x", "patient"],
        [object(), 0, 0],
        pd.Series({"x": 1}),
        pd.Series({"x": 1, "age": 0, "sex": 0}),
        pd.DataFrame([[1, 0, 0]], columns=["x", "age", "sex"]),
        None,
        {},
    ],
)
def test_bad_contrasts_are_refused(bad):
    with pytest.raises(ContrastError, match=r"(?i)contrast.*(x|weights|rows|at least one)"):
        parse_contrasts(bad, design())


@given(seed=st.integers(0, 2**32), n_rows=st.integers(1, 3))
def test_partition(seed, n_rows):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=(9, 4)) * 10.0 ** rng.integers(-6, 7, size=4)
    parsed = Design.parse(M, 9)
    # Weights in the units of the columns, as a sensible contrast has.
    C = rng.normal(size=(n_rows, 4)) * np.linalg.norm(M, axis=0)
    contrast = Contrast.parse(C, parsed)
    X, Z = partition(parsed, contrast)
    assert X.shape == (9, n_rows)
    assert Z.shape == (9, 4 - n_rows)
    np.testing.assert_allclose(Z.T @ Z, np.eye(4 - n_rows), atol=1e-10)
    np.testing.assert_allclose(Z.T @ X, 0, atol=1e-9 * np.abs(X).max())
    both, whole = orthonormal(np.hstack([X / np.linalg.norm(X, axis=0), Z])), orthonormal(M / np.linalg.norm(M, axis=0))
    np.testing.assert_allclose(both @ both.T, whole @ whole.T, atol=1e-8)
    # The coefficients of X are the contrast of the full model's.
    Y = rng.normal(size=(9, 2))
    expected = C @ np.linalg.lstsq(M / np.linalg.norm(M, axis=0), Y, rcond=None)[0].__truediv__(
        np.linalg.norm(M, axis=0)[:, None]
    )
    np.testing.assert_allclose(np.linalg.lstsq(X, Y, rcond=None)[0], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("unit", [1.0, 1e4, 1e8, 1e-8])
def test_a_covariate_in_any_unit_gives_the_same_partition(unit):
    # Before columns were brought to one length, a volume in mm3 times 100 made t wrong by 3.
    table = pd.DataFrame({"group": [1.0] * 6 + [0.0] * 6, "intercept": 1.0})
    table["volume"] = (1.5e6 + 1.5e5 * np.random.default_rng(0).normal(size=12)) * unit
    table["standardised"] = (table["volume"] - table["volume"].mean()) / table["volume"].std()
    Y = np.random.default_rng(1).normal(size=(12, 5)) + 3 * table[["standardised"]].to_numpy()
    for name in ("group", "volume"):
        X, Z = partition(*_with(table[["group", "intercept", "volume"]], name))
        other = {"volume": "standardised"}.get(name, name)
        expected = statistic(Y, *_arrays(table[["group", "intercept", "standardised"]], other))
        found = statistic(Y, np.hstack([X / np.linalg.norm(X), Z]), [1, 0, 0])
        np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("start", [1e7, 1.7e9])
def test_a_covariate_far_from_zero_gives_the_same_partition(start):
    # With M'M, whose condition is the square of M's, seconds since 1970 made t wrong by 3.
    table = pd.DataFrame({"intercept": np.ones(12), "days": np.random.default_rng(0).normal(size=12)})
    expected = partition(*_with(table, "days"))
    found = partition(*_with(table.assign(days=table["days"] + start), "days"))
    for X, Y in zip(found, expected, strict=True):
        np.testing.assert_allclose(X, Y, atol=1e-6)


def test_rows_of_an_f_contrast_may_be_in_any_unit():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 3)) * [1e-9, 1.0, 1e9], columns=list("abc"))
    parsed = Design.parse(table, 9)
    X, _ = partition(parsed, Contrast.parse(["a", "c"], parsed))
    np.testing.assert_allclose(X * [1e9, 1e-9], partition(*_with_unit(table))[0], rtol=1e-9)


def _with_unit(table):
    parsed = Design.parse(table * [1e9, 1.0, 1e-9], len(table))
    return parsed, Contrast.parse(["a", "c"], parsed)


def _with(table, name):
    parsed = Design.parse(table, len(table))
    return parsed, Contrast.parse(name, parsed)


def _arrays(table, name):
    parsed, contrast = _with(table, name)
    return parsed.matrix, contrast.matrix


def test_tested_regressors_are_those_with_weight():
    parsed = design()
    np.testing.assert_array_equal(
        tested_regressors(parsed, Contrast.parse(["x", "intercept - x"], parsed)), parsed.matrix[:, [0, 2]]
    )


def test_orthonormal_drops_what_depends():
    columns = np.random.default_rng(0).normal(size=(5, 2))
    found = orthonormal(np.hstack([columns, columns @ [[1.0], [2.0]]]))
    assert found.shape == (5, 2)
    np.testing.assert_allclose(found.T @ found, np.eye(2), atol=1e-14)
    assert orthonormal(np.zeros((5, 2))).shape == (5, 0)
    assert orthonormal(np.zeros((5, 0))).shape == (5, 0)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_columns_and_weights_whose_squares_are_no_numbers_are_refused(size):
    """They were called dependent on each other before."""
    with pytest.raises(DesignError, match=r"\['age'\] .* too large or too small .*between 1e-100 and 1e\+100"):
        Design.parse(frame().assign(age=np.arange(8.0) * size), 8)
    with pytest.raises(ContrastError, match="sizes between"):
        Contrast.parse([size, 0.0, 0.0], design())


@pytest.mark.parametrize("size", [1e90, 1e-90])
def test_units_of_any_size_between_change_nothing(size):
    other = Design.parse(frame().assign(age=frame()["age"] * size), 8)
    X, Z = partition(other, Contrast.parse("x", other))
    expected, _ = partition(design(), Contrast.parse("x", design()))
    np.testing.assert_allclose(X, expected, rtol=1e-9)
    assert Z.shape == (8, 2)


def test_names_of_contrasts_are_a_line():
    with pytest.raises(ContrastError, match="names of 1 to 200 letters"):
        parse_contrasts({"x" * 201: "x"}, design())
    (one,) = parse_contrasts(" + ".join(["x"] * 100), design())
    assert len(one.name) == 200
    assert one.name.endswith("...")


def test_a_design_without_any_mean_is_warned_of(caplog):
    warn_of_lacking_mean(design().matrix)
    assert not caplog.records
    warn_of_lacking_mean(np.array([[1.0, 3.0], [-1.0, -3.0]]))
    assert "add an intercept" in caplog.text
