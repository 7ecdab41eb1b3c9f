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


def test_an_infinite_column_brings_no_warning():
    assert np.isneginf(design_from_formula("~ np.log(age)", TABLE)["np.log(age)"].iloc[3])


def test_no_covariates_at_all_are_told():
    with pytest.raises(DesignError, match="no table of covariates"):
        design_from_formula("~ age", pd.DataFrame(index=range(4)))
