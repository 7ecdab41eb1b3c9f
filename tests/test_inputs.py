"""Designs from confounds, and joblib's count of jobs."""

import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import DesignError, InputError
from numbaglm.inputs import n_workers_of

CONFOUNDS = pd.DataFrame({"subject_label": ["b", "a", "c"], "age": [2.0, 1.0, 3.0]})


def test_design_of_labels():
    X = ng.make_second_level_design_matrix(["a", "b", "c"], CONFOUNDS)
    assert list(X.columns) == ["age", "intercept"]
    assert X["age"].tolist() == [1, 2, 3]
    assert ng.make_second_level_design_matrix(["a", "b"]).to_numpy().tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("labels", "confounds", "message"),
    [
        (["a", "d"], CONFOUNDS, "no rows for.*d"),
        (["a"], pd.concat([CONFOUNDS, CONFOUNDS]), "more than one row"),
        (["a"], CONFOUNDS.assign(age=np.nan), "NaN in.*age"),
        (["a"], CONFOUNDS[["age"]], "subject_label"),
        (["a"], CONFOUNDS[["subject_label"]], "at least one more"),
        (["a"], [1.0], "list"),
    ],
)
def test_refused_confounds(labels, confounds, message):
    with pytest.raises(DesignError, match=message):
        ng.make_second_level_design_matrix(labels, confounds)


def test_jobs(monkeypatch):
    monkeypatch.setattr("numbaglm.inputs.n_cores", lambda: 4)
    assert [n_workers_of(n) for n in (None, 1, 3, -1, -2, -9)] == [None, 1, 3, 4, 3, 1]
    for wrong in (0, 1.5, "all", True):
        with pytest.raises(InputError, match="n_jobs"):
            n_workers_of(wrong)
