"""Components of variance against regression of all pairs of products, the analysis of variance, and mixed models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import nnls

from numbaglm.errors import DesignError, InputError
from numbaglm.stats.model.design import orthonormal
from numbaglm.stats.variance import components as made
from numbaglm.stats.variance.components import Components, Kinship, Moments
from numbaglm.stats.variance.covariance import EFFECTS as EFFECTS_OF
from numbaglm.stats.variance.covariance import Binned
from reference import components as slow

RNG = np.random.default_rng(3)
BLOCK = np.array([2, 0, 1, 0, 2, 1, 1, 3, 3, 2, 4, 4, 0, 4, 5])  # families
SUBJECT = np.array([20, 1, 11, 1, 21, 11, 12, 31, 31, 20, 40, 41, 2, 40, 50])
SUBJECT = np.unique(SUBJECT, return_inverse=True)[1]
N = len(BLOCK)
EFFECTS = ("family", "subject", "kinship", "error")
Z = np.column_stack([np.ones(N), RNG.normal(size=N)])


def related():
    """A matrix of kinship: half between the subjects of a family."""
    same = SUBJECT[:, None] == SUBJECT
    return np.where(same, 1.0, np.where(BLOCK[:, None] == BLOCK, 0.5, 0.0)) * RNG.uniform(0.8, 1.2)


def moments_of(effects, Z, block=BLOCK, subject=SUBJECT, kinship=None):
    blocks = (
        None
        if kinship is None
        else Kinship.build([kinship[np.ix_(*[np.flatnonzero(block == k)] * 2)] for k in range(block.max() + 1)])
    )
    components = Components.build(effects, block, subject if "subject" in effects else None, blocks)
    nuisance = orthonormal(Z).T if Z.shape[1] else np.empty((0, len(block)))
    return Moments.build(components, nuisance)


@pytest.mark.parametrize(
    "effects", [("family", "error"), ("family", "subject", "error"), ("kinship", "subject", "error")]
)
@pytest.mark.parametrize("columns", [0, 2])
def test_shares_are_those_of_a_regression_of_all_pairs(effects, columns):
    K = related()
    moments = moments_of(effects, Z[:, :columns], kinship=K if "kinship" in effects else None)
    matrices = slow.matrices_of(effects, BLOCK, SUBJECT, K)
    Y = RNG.normal(size=(N, 12)) + RNG.normal(size=(6, 12))[BLOCK] * np.linspace(0, 2, 12)
    E = slow.residuals_on(Z[:, :columns]) @ Y
    found = moments.shares(np.ascontiguousarray(E[moments.components.order]))
    np.testing.assert_allclose(found.T, [slow.shares(y, Z[:, :columns], matrices) for y in Y.T], atol=1e-9)
    assert (found == 0).any()
    np.testing.assert_allclose(found.sum(axis=0), 1)


def test_a_balanced_layout_has_the_estimates_of_the_analysis_of_variance():
    k, n = 9, 4
    block = np.repeat(np.arange(k), n)
    Y = RNG.normal(size=(k * n, 30)) + RNG.normal(size=(k, 30))[block]
    moments = moments_of(("family", "error"), np.ones((k * n, 1)), block)
    means = Y.reshape(k, n, 30).mean(axis=1)
    between = n * ((means - Y.mean(axis=0)) ** 2).sum(axis=0) / (k - 1)
    within = ((Y - means[block]) ** 2).sum(axis=0) / (k * (n - 1))
    icc = (between - within) / (between + (n - 1) * within)
    found = moments.shares(Y - Y.mean(axis=0))[0]
    positive = icc > 0
    assert positive.sum() > 20
    np.testing.assert_allclose(found[positive], icc[positive], rtol=1e-9)
    np.testing.assert_array_equal(found[~positive], 0)


def test_mixed_models_find_the_same_components_of_balanced_designs():
    models = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    block = np.repeat(np.arange(12), 3)
    x = np.tile([-1.0, 0, 1], 12)
    y = RNG.normal(size=36) + 1.5 * RNG.normal(size=12)[block] + 0.3 * x
    X = np.column_stack([np.ones(36), x])
    fit = models.MixedLM(y, X, groups=block).fit(reml=True)
    expected = fit.cov_re[0, 0] / (fit.cov_re[0, 0] + fit.scale)
    E = slow.residuals_on(X) @ y[:, None]
    assert moments_of(("family", "error"), X, block).shares(E)[0, 0] == pytest.approx(expected, abs=1e-4)


def test_shares_of_subjects_in_families_are_those_of_nlme():
    folder = Path(__file__).with_name("nlme")
    data, expected = pd.read_csv(folder / "data.csv"), pd.read_csv(folder / "shares.csv", index_col="column")
    X = np.column_stack([np.ones(len(data)), data["visit"]])
    E = slow.residuals_on(X) @ data[list(expected.index)].to_numpy()
    moments = moments_of(("family", "subject", "error"), X, data["family"].to_numpy(), data["subject"].to_numpy())
    found = moments.shares(np.ascontiguousarray(E[moments.components.order]))
    np.testing.assert_allclose(found.T, expected, atol=1e-5)  # as near as its optimiser comes


def test_the_least_of_non_negative_numbers():
    for n in (1, 2, 4):
        roots = RNG.normal(size=(20, n + 3, n))
        right = RNG.normal(size=(20, n + 3))
        expected = [nnls(A, b)[0] for A, b in zip(roots, right, strict=True)]
        gram = np.einsum("kij,kil->kjl", roots, roots)
        np.testing.assert_allclose(made.non_negative(gram, np.einsum("kij,ki->kj", roots, right)), expected, atol=1e-9)


def test_what_can_not_be_told_apart_is_not_taken_together():
    found = made.non_negative(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 0]]), np.array([[2.0, 2, 0], [-1, -1, 0]]))
    assert found.tolist() == [[2, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("n", "bins"), [(2, 20), (3, 20), (4, 7), (3, 1), (2, 2)])
def test_the_nearest_bin(n, bins):
    shares = RNG.dirichlet(np.full(n, 0.5), 40).T
    shares[:, :n] = np.eye(n)
    steps = made.nearest_bin(shares, bins)
    assert (steps.sum(axis=0) == bins - 1).all()
    assert steps.min() >= 0
    for share, step in zip(shares.T, steps.T, strict=True):
        centre, best = made.centre(step, bins), slow.bins_of(share, bins)
        np.testing.assert_allclose(np.linalg.norm(centre - share), np.linalg.norm(best - share))
        assert centre.min() > 0
        assert centre.sum() == pytest.approx(1)


def test_intervals_hold_what_is_true_about_as_often_as_they_say():
    block = np.repeat(np.arange(40), 3)
    Y = RNG.normal(size=(120, 200)) + RNG.normal(size=(40, 200))[block]
    moments = moments_of(("family", "error"), np.ones((120, 1)), block)
    drawn = made.draw_clusters(40, 0)
    assert (drawn.sum(axis=1) == 40).all()
    lower, upper = moments.intervals(Y - Y.mean(axis=0), 0.9, drawn)
    held = ((lower[0] <= 0.5) & (upper[0] >= 0.5)).mean()
    assert 0.8 < held < 0.97
    some = moments.intervals(np.ascontiguousarray((Y - Y.mean(axis=0))[:, 3:5]), 0.9, drawn)
    np.testing.assert_array_equal(some[0], lower[:, 3:5])
    np.testing.assert_allclose(lower[0] + upper[1], 1)


def test_clusters_that_are_alike_share_their_blocks():
    components = Components.build(("family", "error"), np.repeat(np.arange(50), 2))
    assert (components.n_clusters, components.blocks.shape) == (50, (2, 4))


def test_what_can_not_be_told_apart_is_refused():
    with pytest.raises(DesignError, match="'family' and 'subject' can't be told apart"):
        moments_of(("family", "subject", "error"), Z, subject=BLOCK)
    with pytest.raises(DesignError, match="'family' and 'error' can't be told apart"):
        moments_of(("family", "error"), Z, block=np.arange(N))
    with pytest.raises(DesignError, match="explains all that the effect 'family'"):
        moments_of(("family", "error"), np.eye(6)[BLOCK])
    with pytest.raises(DesignError, match=r"row\(s\) \[0, 1\].*several exchangeability blocks"):
        moments_of(("subject", "error"), Z, subject=np.array([0, 0, *range(1, N - 1)]))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue of -1"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "symmetric"),
        (np.zeros((2, 2)), "diagonal of 0"),
    ],
)
def test_what_is_no_covariance_is_refused(block, message):
    with pytest.raises(InputError, match=message):
        Kinship.build([block])


def test_kinship_is_brought_to_a_mean_of_one():
    one = Kinship.build([np.full((2, 2), 0.25) + 0.25 * np.eye(2), np.eye(1) / 2])
    assert one.blocks[0].tolist() == [[1, 0.5], [0.5, 1]]
    assert one.digest != Kinship.build([np.eye(2), np.eye(1)]).digest
    assert set(Binned().effects) <= set(EFFECTS_OF)
