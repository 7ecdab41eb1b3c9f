"""t and F of generalised least squares against data that are whitened, flipped and fitted again, one by one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from numbaglm.stats.families.clustered import gls as module
from numbaglm.stats.families.family import Given
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_gls
from numbaglm.stats.variance.components import Components, Kinship
from numbaglm.stats.variance.covariance import Binned
from reference import components as slow

RNG = np.random.default_rng(2)
BLOCK = np.repeat(np.arange(7), [1, 2, 3, 4, 2, 4, 3])
SUBJECT = np.unique(
    BLOCK * 10 + np.array([0, *(0, 1), *(0, 0, 1), *(0, 0, 1, 1), *(0, 0), *(0, 1, 1, 2), *(0, 0, 0)]),
    return_inverse=True,
)[1]
N = len(BLOCK)
X = np.column_stack([np.ones(N), RNG.normal(size=7)[BLOCK], RNG.normal(size=(N, 2))])
Y = (RNG.normal(size=(N, 5)) + RNG.normal(size=(7, 5))[BLOCK] * np.array([0, 0.5, 1, 2, 4])).astype(np.float32)
KINSHIP = np.where(SUBJECT[:, None] == SUBJECT, 1.0, 0.5 * (BLOCK[:, None] == BLOCK))
CONTRASTS = {"t": np.array([[0.0, 1.0, 0.0, -1.0]]), "f": np.eye(4)[1:3]}
EFFECTS = [("family", "error"), ("family", "subject", "error"), ("kinship", "subject", "error")]


def hypothesis_of(X, C, effects=("family", "error"), interval=None, bins=20, block=BLOCK):
    """A hypothesis, and the flips that test it."""
    design = Design.parse(X, len(X))
    contrast = Contrast.parse(C, design)
    shuffling = {"n_perm": 1000, "seed": 0, "errors": "ise", "blocks": block, "block_scheme": "whole"}
    variance = {"variance_groups": None, "v_dof_factor": 1.0}
    shufflings, hypothesis = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)
    kinship = None
    if "kinship" in effects:
        kinship = Kinship.build([KINSHIP[np.ix_(*[np.flatnonzero(block == k)] * 2)] for k in range(7)])
    components = Components.build(effects, block, SUBJECT if "subject" in effects else None, kinship)
    return make_gls(hypothesis, components, Binned(effects, bins, interval), 0), shufflings


def scores_of(family, prepared, index, sign):
    """Scores (n_flips, n_voxels) by the record alone."""
    products = []
    for layer, tile in zip(family.layers, prepared.layers, strict=True):
        rows = np.empty((layer.rows.shape[0], len(index), layer.rows.shape[1]))
        layer.rows.fill(index, sign, rows)
        products.append(rows @ tile)
    products = np.concatenate(products)
    if family.score is None:
        return products[0]
    flat = np.ascontiguousarray(products.reshape(len(products), -1))
    family.score(flat, prepared.fixed, np.array(family.sizes, np.int64), family.constants)
    return flat[0].reshape(products.shape[1:])


def expected_of(X, C, effects, signs, Y=Y, bins=20):
    """Statistics (n_flips, n_voxels), shares (n_voxels, n_components), and covariances, by definition."""
    Z = X @ np.linalg.svd(C)[2][len(C) :].T
    matrices = slow.matrices_of(effects, BLOCK, SUBJECT, KINSHIP)
    shares = [slow.shares(y, Z, matrices) for y in Y.T.astype(float)]
    covariances = [np.tensordot(slow.bins_of(one, bins), matrices, 1) for one in shares]
    found = [slow.flipped(X, C, y, V, signs) for y, V in zip(Y.T.astype(float), covariances, strict=True)]
    return np.array(found).T, np.array(shares), covariances


@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize("name", CONTRASTS)
def test_flips_equal_data_that_are_flipped_and_fitted_again(name, effects):
    C = CONTRASTS[name]
    hypothesis, shufflings = hypothesis_of(X, C, effects)
    family = hypothesis.family
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    assert len(sign) == 2**7
    prepared = family.prepare(Given(Y))
    expected, shares, covariances = expected_of(X, C, effects, sign)
    found = family.scale.to_statistic(scores_of(family, prepared, index, sign))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(prepared.statistic, expected[0], rtol=1e-9)
    np.testing.assert_allclose(hypothesis.observe(Y).score, prepared.score, rtol=1e-12)
    fits = [slow.least_squares(X, C, y, V) for y, V in zip(Y.T.astype(float), covariances, strict=True)]
    np.testing.assert_allclose(prepared.effect.T, [fit[0] for fit in fits], rtol=1e-7)
    more = dict(zip(family.more, prepared.more, strict=True))
    np.testing.assert_allclose([more[f"share_{one}"] for one in effects], shares.T, atol=1e-9)
    if name == "t":
        np.testing.assert_allclose(
            more["effect_se"], [np.sqrt(fit[2] / (N - 4) * fit[1][0, 0]) for fit in fits], rtol=1e-7
        )
        assert (more["effect_lower"] < prepared.effect[0]).all()


def test_without_nuisance_flips_leave_the_components_that_they_are_fitted_with():
    ones = np.ones((N, 1))
    hypothesis, shufflings = hypothesis_of(ones, [[1.0]])
    family = hypothesis.family
    index, sign = shufflings.draw(0, 128)
    found = family.scale.to_statistic(scores_of(family, family.prepare(Given(Y)), index, sign))
    for one, row in zip(sign[::9], found[::9], strict=True):
        again = one[:, None] * Y
        expected, _, _ = expected_of(ones, np.ones((1, 1)), ("family", "error"), np.ones((1, N)), again)
        np.testing.assert_allclose(row, expected[0], rtol=1e-9)
        np.testing.assert_allclose(family.prepare(Given(again)).statistic, row, rtol=1e-9)


def test_nuisance_of_clusters_alone_has_no_layer():
    site = (BLOCK >= 4).astype(int)
    with_sites = np.column_stack([X[:, 2], np.eye(7)[BLOCK]])
    family = hypothesis_of(with_sites, np.eye(8)[:1], ("subject", "error"))[0].family
    assert len(family.layers) == 1
    assert family.score is None
    index, sign = np.tile(np.arange(N), (4, 1)), RNG.choice([-1, 1], (4, 7))[:, BLOCK]
    found = family.scale.to_statistic(scores_of(family, family.prepare(Given(Y)), index, sign))
    expected, _, _ = expected_of(with_sites, np.eye(8)[:1], ("subject", "error"), sign)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert len(hypothesis_of(np.column_stack([X, site]), np.eye(5)[:1])[0].family.layers) == 5


def test_intervals_of_shares_are_among_the_maps():
    family = hypothesis_of(X, CONTRASTS["f"], interval=0.9)[0].family
    made = dict(zip(family.more, family.prepare(Given(Y)).more, strict=True))
    assert (made["share_family_lower"] <= made["share_family"]).all()
    assert (made["share_family"] <= made["share_family_upper"]).all()
    assert (made["share_family_lower"] < made["share_family_upper"]).any()


def test_what_the_nuisance_explains_is_said_to_be_degenerate():
    made = hypothesis_of(X, CONTRASTS["t"])[0].family.prepare(
        Given(np.column_stack([X[:, 0], Y[:, 0]]).astype(np.float32))
    )
    assert made.degenerate.tolist() == [True, False]
    assert made.score[0] == made.statistic[0] == 0
    assert np.isfinite(made.more).all()
    assert (made.more[:, 0] == 0).all()


def test_tables_are_kept_as_there_is_room_and_do_not_travel(monkeypatch):
    family = hypothesis_of(X, CONTRASTS["t"])[0].family
    before = family.prepare(Given(Y))
    assert len(family.prepare.tables) > 1
    assert sum(one.n_bytes for one in family.prepare.tables.values()) <= family.held
    assert not pickle.loads(pickle.dumps(family)).prepare.tables
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    small = hypothesis_of(X, CONTRASTS["t"])[0].family
    np.testing.assert_array_equal(small.prepare(Given(Y)).score, before.score)
    assert len(small.prepare.tables) == 1
    some = small.prepare(Given(np.ascontiguousarray(Y[:, 2:3])))
    np.testing.assert_array_equal(some.score, before.score[2:3])
    np.testing.assert_array_equal(some.layers, np.array(before.layers)[:, :, 2:3])


def test_a_single_bin_gives_all_elements_one_covariance():
    family = hypothesis_of(X, CONTRASTS["t"], bins=1)[0].family
    family.prepare(Given(Y))
    assert len(family.prepare.tables) == 1
