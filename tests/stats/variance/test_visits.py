"""Covariances of visits: labels, weights and degrees of freedom."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import DesignError
from numbaglm.stats.model.design import Contrast, Design, orthonormal, partition
from numbaglm.stats.variance.visits import Visited, Visits

RNG = np.random.default_rng(5)
PERSON = np.repeat(np.arange(7), [3, 3, 2, 3, 3, 2, 3])
VISIT = np.concatenate([[0, 1, 2], [0, 1, 2], [0, 2], [0, 1, 2], [0, 1, 2], [0, 1], [0, 1, 2]])
N = len(PERSON)
X = np.column_stack([np.ones(N), PERSON % 2, VISIT, RNG.normal(size=N)]).astype(float)


def visited(C, adjustment="C2", groups=None, X=X):
    design = Design.parse(X, len(X))
    tested, nuisance = partition(design, Contrast.parse(C, design))
    visits = Visits.parse(VISIT, groups, PERSON)
    return Visited.build(PERSON, visits, orthonormal(tested), nuisance, adjustment)


@pytest.mark.parametrize("rows", [1, 2])
def test_satterthwaite_by_the_moments_of_simulated_variances(rows):
    one = visited(np.eye(4)[1 : 1 + rows], groups=PERSON % 2)
    y = np.random.default_rng(0).normal(size=(N, 40_000))
    residual = one.correction @ y - one.loadings @ (one.basis.T @ y)
    S = np.zeros((rows, rows, y.shape[1]))
    for pair in one.pairs:
        S += one.weights(pair)[:, :, None] * (residual[pair.rows[0]] * residual[pair.rows[1]]).sum(axis=0) / pair.n
    sizes, turned = np.linalg.eigh(S.mean(axis=2))
    white = np.einsum("ia,ijv,jb->abv", turned / np.sqrt(sizes), S, turned / np.sqrt(sizes))
    assert rows * (rows + 1) / white.var(axis=2).sum() == pytest.approx(one.satterthwaite(), rel=0.05)


def test_pairs_are_of_those_who_have_both():
    one = visited(np.eye(4)[1:2])
    assert [len(cell) for cell in one.cells] == [7, 6, 6]
    assert [pair.n for pair in one.pairs] == [7, 6, 6, 6, 6, 5]
    assert [pair.whole for pair in one.pairs] == [True, True, True, False, False, False]
    for pair in one.pairs:
        np.testing.assert_array_equal(*(PERSON[rows] for rows in pair.rows))


@pytest.mark.parametrize(
    ("visits", "groups", "message"),
    [
        (VISIT[:-1], None, "'visits'.*one label for each of the 19 maps"),
        (np.zeros(N), None, "'visits'.*more than once in a cluster, in rows \\[0, 1, 2\\]"),
        (np.where(np.arange(N) == 4, None, VISIT.astype(object)), None, "visits have no label in row\\(s\\) \\[4\\]"),
        (VISIT, np.arange(N) % 2, "'groups'.*in one cluster"),
    ],
)
def test_labels_that_make_no_sense_are_refused(visits, groups, message):
    with pytest.raises(DesignError, match=message):
        Visits.parse(visits, groups, PERSON)


def test_a_visit_that_the_design_explains_is_refused():
    last = (VISIT == 2).astype(float)[:, None] * (np.arange(N) == np.flatnonzero(VISIT == 2)[:, None]).T
    with pytest.raises(DesignError, match="explains all of visit '2'"):
        visited(np.eye(8)[2:3], X=np.column_stack([np.ones(N), VISIT == 1, last]).astype(float))
