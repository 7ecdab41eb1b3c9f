"""Designs from confounds, and designs and contrasts as nilearn's users write them."""

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import DesignError, InputError, InputTypeError, NumbaglmWarning
from numbaglm.faces.nilearn.designs import check_confounds, design_table

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


def test_subjects_without_a_label_are_refused():
    with pytest.raises(InputError, match="'subjects_label': got 'no label in row 1"):
        ng.make_second_level_design_matrix(["a", None, "c"])
    confounds = pd.DataFrame({"subject_label": ["b", np.nan, "c"], "age": [2.0, 1.0, 3.0]})
    with pytest.raises(InputError, match="'confounds': got 'no label in row 1"):
        ng.make_second_level_design_matrix(["b", "nan"], confounds)
