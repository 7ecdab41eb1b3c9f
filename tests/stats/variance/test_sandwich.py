"""Sandwich variances against their definition, and against clubSandwich."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import DesignError
from numbaglm.stats.model.design import Contrast, Design, orthonormal, partition
from numbaglm.stats.variance.covariance import ADJUSTMENTS
from numbaglm.stats.variance.sandwich import Clustered
from reference import sandwich as slow

RNG = np.random.default_rng(5)
LABELS = np.repeat(np.arange(9), [1, 2, 3, 3, 2, 4, 3, 3, 2])
X = np.column_stack(
    [np.ones(len(LABELS)), RNG.normal(size=9)[LABELS], RNG.normal(size=(len(LABELS), 2)), LABELS % 2]
).astype(float)


def clustered(C, adjustment, X=X, labels=LABELS):
    design = Design.parse(X, len(X))
    tested, nuisance = partition(design, Contrast.parse(C, design))
    return Clustered.build(labels, orthonormal(tested), nuisance, adjustment)


@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_loadings_make_the_variance(adjustment):
    c = np.array([[0.0, 1.0, -1.0, 0.0, 0.0]])
    one = clustered(c, adjustment)
    y = RNG.normal(size=len(X))
    whole = one.adjusted[0] * y
    parts = np.bincount(LABELS, weights=whole) - one.loadings[0] @ (one.basis.T @ y)
    _, V = slow.sandwich(X, y, LABELS, adjustment)
    unit = c[0] @ np.linalg.inv(X.T @ X) @ c[0]
    np.testing.assert_allclose((parts**2).sum() * unit, c[0] @ V @ c[0])


@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_satterthwaite_by_eigenvalues(adjustment):
    for c in np.eye(5)[1:, None]:
        np.testing.assert_allclose(
            clustered(c, adjustment).satterthwaite(), slow.satterthwaite(X, c, LABELS, adjustment)
        )


def test_a_wishart_matrix_has_its_own_degrees_of_freedom():
    # Each cluster sees every regressor alike: then the covariance is a Wishart matrix of n - 1 degrees of freedom.
    labels = np.repeat(np.arange(12), 3)
    visits = np.tile(np.eye(3), (12, 1))
    for C in ([[1.0, -1, 0]], [[1.0, -1, 0], [0, 1, -1]]):
        one = clustered(C, "C2", visits, labels)
        assert one.satterthwaite() == pytest.approx(11)
        assert one.naive_dof == 11


def test_naive_degrees_of_freedom_count_the_clusters_that_tell():
    labels = np.repeat(np.arange(10), 3)
    group, visit = (labels < 4).astype(float), np.tile([0.0, 1, 2], 10)
    X = np.column_stack([group, group * visit, 1 - group, (1 - group) * visit])
    assert clustered([[0, 1.0, 0, 0]], "C2", X, labels).naive_dof == 3
    assert clustered([[0, 1.0, 0, -1]], "C2", X, labels).naive_dof == 8
    assert clustered([[1.0]], "C2", np.ones((30, 1)), np.arange(30)).naive_dof == 29


def test_one_that_decides_by_itself_is_refused():
    only = (LABELS == 5).astype(float)
    with pytest.raises(DesignError, match="decide by themselves"):
        clustered([[0, 1.0]], "C2", np.column_stack([np.ones(len(LABELS)), only]))


def test_subjects_as_regressors_leave_what_changes_within_them():
    labels = np.repeat(np.arange(6), 3)
    x = RNG.normal(size=18)
    with_subjects = np.column_stack([x, labels[:, None] == np.arange(6)]).astype(float)
    one = clustered([[1.0, *np.zeros(6)]], "C2", with_subjects, labels)
    assert np.abs(one.loadings[0, :, 1:]).max() < 1e-12
    np.testing.assert_allclose(one.satterthwaite(), slow.satterthwaite(with_subjects, np.eye(7)[:1], labels, "C2"))
