import numpy as np
import pandas as pd
import pytest

from numbaglm.errors import DesignError
from numbaglm.stats.formula import design_from_formula

TABLE = pd.DataFrame(
    {"age": [20.0, 30.0, 40.0, 0.0], "site": ["a", "b", "b", "a"], "iq": [1.0, np.nan, 2.0, 3.0]},
    index=["s1", "s2", "s3", "s4"],
)


def test_categories_are_coded_and_numbers_centred():
    design = design_from_formula("~ center(age) + site", TABLE)
    assert list(design.columns) == ["intercept", "center(age)", "site[b]"]
    np.testing.assert_array_equal(design["center(age)"], [-2.5, 7.5, 17.5, -22.5])
    np.testing.assert_array_equal(design["site[b]"], [0, 1, 1, 0])
    assert list(design_from_formula("~ 0 + site", TABLE).columns) == ["site[a]", "site[b]"]
    assert list(design.index) == list(TABLE.index)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ weight", r"`weight` is not present.*columns \['age', 'site', 'iq'\]"),
        ("~ age + center(iq)", r"'iq' has no value in row\(s\) 1 \(s2\), counted from 0"),
        ("~ age +", "can't be used"),
        ("age ~ site", "left side"),
        ("~ age | site", "several parts"),
    ],
)
def test_refusals(formula, message):
    with pytest.raises(DesignError, match=message):
        design_from_formula(formula, TABLE)


HERE = np.array([4.0, 3.0, 1.0, 2.0])  # a name of the caller


@pytest.mark.parametrize(
    "formula",
    [
        "~ HERE",
        "~ age + np.log(HERE)",
        "~ exit()",
        "~ quit()",
        "~ age.to_csv('FILE')",
        "~ {open('FILE', 'w')}",
        "~ I(__import__('os').system('touch FILE'))",
        "~ np.save('FILE', age)",
        "~ np.lib.npyio.os.system('touch FILE')",
        "~ I((lambda: age)())",
        "~ I([one for one in age])",
        "~ C(site).__class__",
        "~ I(9 ** 9 ** 9 ** 9)",
        "~ contr.__class__()",
        "~ I(age[0])",
        "~ I(((9 ** 20) ** 20) ** 20)",
        "~ I([1] * 10 ** 10)",
        "~ log(",
    ],
)
def test_a_formula_runs_nothing_but_arithmetic(tmp_path, formula):
    file = tmp_path / "written"
    with pytest.raises(DesignError, match="can't be used"):
        design_from_formula(formula.replace("FILE", str(file)), TABLE)
    assert not file.exists()


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("~ np.sqrt(age) + I(age ** 2)", ["intercept", "np.sqrt(age)", "I(age ** 2)"]),
        ("~ 0 + C(site, contr.sum)", ["C(site, contr.sum)[a]", "C(site, contr.sum)[b]"]),
        ("~ scale(age):site", ["intercept", "scale(age):site[a]", "scale(age):site[b]"]),
        ("~ {age / 10} + poly(age, 2)", ["intercept", "age / 10", "poly(age, 2)[1]", "poly(age, 2)[2]"]),
        ("~ `two words` + center(`two words`)", ["intercept", "two words", "center(`two words`)"]),
        ("~ I(np.where(age > 20, 1, 0))", ["intercept", "I(np.where(age > 20, 1, 0))"]),
    ],
)
def test_transforms_that_are_there(formula, columns):
    assert list(design_from_formula(formula, TABLE.assign(**{"two words": 1.5})).columns) == columns


def test_an_infinite_column_brings_no_warning():
    assert np.isneginf(design_from_formula("~ np.log(age)", TABLE)["np.log(age)"].iloc[3])


def test_no_covariates_at_all_are_told():
    with pytest.raises(DesignError, match="no table of covariates"):
        design_from_formula("~ age", pd.DataFrame(index=range(4)))


@pytest.mark.parametrize("formula", ["~ age + (1 | person)", "~ (1 + age || person)", "~ age + (age|person)"])
def test_random_effects_are_refused_with_what_to_write(formula):
    with pytest.raises(DesignError, match=r"random effect.*covariance='sandwich'.*exchangeability_blocks, the person"):
        design_from_formula(formula, pd.DataFrame({"age": [1.0, 2.0], "person": ["a", "b"]}))


@pytest.mark.parametrize(
    ("formula", "meant"),
    [("~ aeg", "age"), ("~ center(aeg)", "age"), ("~ cneter(age)", "center"), ("~ gruop", "group")],
)
def test_a_name_that_is_close_is_asked_for(formula, meant):
    table = pd.DataFrame({"age": [1.0, 2, 3], "group": ["a", "b", "a"]})
    with pytest.raises(DesignError, match=f"Did you mean '{meant}'"):
        design_from_formula(formula, table)
