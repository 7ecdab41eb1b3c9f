"""v and G against the textbook, where groups differ in variance as much as they can."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from numbaglm.stats.welch import VarianceGroups


def orthonormal(*columns):
    return np.ascontiguousarray(np.linalg.svd(np.column_stack(columns), full_matrices=False)[0].T)


def observed(Y, groups, basis, n_interest):
    E = Y - basis[n_interest:].T @ (basis[n_interest:] @ Y)
    E /= np.linalg.norm(E, axis=0)
    index, sign = np.arange(len(Y), dtype=np.int32)[None], np.ones((1, len(Y)), np.int8)
    (statistic,), (z,) = groups.statistics(E, index, sign)
    return statistic, z


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("sizes", [(5, 4), (3, 8)])
def test_two_samples_are_welch_s_test(spread, sizes):
    # A group of equal values, all 0 say, has no variance: the other's is that of the difference.
    label = np.repeat([1, 0], sizes)
    Y = np.random.default_rng(0).normal(size=(len(label), 40)) * np.where(label, spread, 1.0)[:, None] + label[:, None]
    a, b = Y[label == 1], Y[label == 0]
    one = np.full(len(label), len(label) ** -0.5)
    x = label - label.mean()
    basis = np.stack([x / np.linalg.norm(x), one])
    v, z = observed(Y, VarianceGroups.build(label, basis, 1, 1.0), basis, 1)
    error = [part.var(axis=0, ddof=1) / len(part) for part in (a, b)]
    expected = (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt(sum(error))
    dof = sum(error) ** 2 / sum(e**2 / (len(part) - 1) for e, part in zip(error, (a, b), strict=True))
    np.testing.assert_allclose(v, expected, rtol=1e-8)
    np.testing.assert_allclose(stats.norm.sf(np.abs(z)), stats.t.sf(np.abs(expected), dof), rtol=1e-6)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5])
def test_g_is_its_formula(spread):
    label, rng = np.repeat([0, 1, 2], [4, 5, 6]), np.random.default_rng(1)
    Y = rng.normal(size=(15, 10)) * np.where(label == 1, spread, 1.0)[:, None]
    M = np.column_stack([label == 0, label == 1, label == 2, rng.normal(size=15)]).astype(float)
    C = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0]])
    D = np.linalg.inv(M.T @ M)
    nuisance = orthonormal(M @ np.linalg.svd(C)[2][2:].T)
    X = M @ D @ C.T
    basis = np.vstack([orthonormal(X - nuisance.T @ (nuisance @ X)), nuisance])
    g, _ = observed(Y, VarianceGroups.build(label, basis, 2, 1.0), basis, 2)
    beta = D @ M.T @ Y
    squares = (Y - M @ beta) ** 2
    free = 1 - np.einsum("ij,jk,ik->i", M, D, M)
    of_group = label[:, None] == np.arange(3)
    dof = free @ of_group
    for v in range(10):
        weight = dof / (squares[:, v] @ of_group)
        W = weight[label]
        effect = C @ beta[:, v]
        form = effect @ np.linalg.solve(C @ np.linalg.inv(M.T @ (W[:, None] * M)) @ C.T, effect)
        excess = ((1 - weight * of_group.sum(axis=0) / W.sum()) ** 2 / dof).sum()
        assert g[v] == pytest.approx(form / (2 * (1 + excess / 4)), rel=1e-5 if spread < 1e-3 else 1e-9)


@pytest.mark.parametrize("sizes", [(4, 4), (4, 6)])
def test_ties_of_groups_without_variance_are_ties(sizes):
    # Maps of 0 but for a few subjects, such as of lesions: with one subject alone |v| is 1 wherever it goes.
    label = np.repeat([1, 0], sizes)
    n = len(label)
    x = label - label.mean()
    basis = np.stack([x / np.linalg.norm(x), np.full(n, n**-0.5)])
    Y = np.zeros((n, 2))
    Y[0, 0], Y[-1, 1] = 3.0, 0.1
    E = Y - Y.mean(axis=0)
    E /= np.linalg.norm(E, axis=0)
    index = np.array([np.roll(np.arange(n), k) for k in range(n)], np.int32)
    v, z = VarianceGroups.build(label, basis, 1, 1.0).statistics(E, index, np.ones(index.shape, np.int8))
    np.testing.assert_allclose(np.abs(v), 1.0, rtol=1e-12)
    for size in sizes:
        expected = stats.norm.isf(stats.t.sf(1.0, size - 1))
        assert (np.abs(np.abs(z) - expected) < 1e-12).any()
