from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from numbaglm import permutation_test
from numbaglm.results.provenance import Provenance, WrongProvenanceError, versions


@pytest.fixture(scope="module")
def kept(as_cohort):
    """What a test keeps, as JSON has it."""
    cohort = as_cohort(np.random.default_rng(0).normal(size=(10, 40)))
    design = pd.DataFrame({"x": np.arange(10.0), "intercept": 1.0})
    found = permutation_test(cohort, design, "x", n_perm=30, cluster_forming_threshold=("t", 2.5))
    return json.loads(json.dumps(dict(found.provenance)))


def test_versions():
    found = versions()
    assert found["numpy"] == np.__version__
    assert {"python", "numbaglm", "numba", "scipy", "dask", "zarr", "nibabel"} <= set(found)


def test_the_record_says_what_was_asked(kept):
    asked = Provenance.parse(kept)
    assert (asked.contrast, asked.statistic, asked.dof, asked.two_sided) == ("x", "t", 8, True)
    np.testing.assert_array_equal(asked.weights, [[1.0, 0.0]])
    np.testing.assert_array_equal(asked.rows[:, 0], np.arange(10.0))
    assert asked.columns == ("x", "intercept")
    assert asked.cluster_forming_threshold == ("t", 2.5)
    assert (asked.n_shufflings, asked.n_random, asked.exhaustive) == (31, 30, False)
    assert asked.has_nuisance
    assert asked.n_rows is None
    assert not asked.in_blocks


def changed(kept, path, value):
    """A copy with one entry replaced, or left out."""
    one = json.loads(json.dumps(kept))
    *above, last = path.split(".")
    place = one
    for name in above:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return one


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("statistic", "q"),
        ("dof", 0),
        ("dof", 8.5),
        ("two_sided", 1),
        ("contrast.weights", [[1.0], [1.0, 2.0]]),
        ("contrast.name", 3),
        ("design.rows", "many"),
        ("method", "least squares"),
        ("errors", "iid"),
        ("seed", -1),
        ("tail", "weibull"),
        ("conventions.cluster_connectivity", 8),
        ("conventions.tfce_H", "two"),
        ("cluster_forming_threshold", ["t"]),
        ("n_shufflings", None),
        ("versions", None),
        ("design.columns", ["x", 1]),
    ],
)
def test_what_no_test_writes_is_named(kept, path, value):
    with pytest.raises(WrongProvenanceError, match=path.rpartition(".")[2]):
        Provenance.parse(changed(kept, path, value))


@pytest.mark.parametrize("kept", [None, [], "t", 3])
def test_what_is_no_mapping_is_refused(kept):
    with pytest.raises(WrongProvenanceError):
        Provenance.parse(kept)
