"""Sandwich tests of elements that some maps lack: every flip equals a fit of flipped data of those that are there."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.stats.families.family import Given
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis, make_incomplete
from numbaglm.stats.variance.covariance import ADJUSTMENTS, Sandwich
from reference import sandwich as slow

RNG = np.random.default_rng(11)
PERSON = np.repeat(np.arange(8), [3, 3, 2, 3, 1, 3, 2, 3])
N = len(PERSON)
X = np.column_stack([np.ones(N), RNG.normal(size=8)[PERSON], RNG.normal(size=(N, 2))])
Y = (RNG.normal(size=(N, 9)) + 1.5 * RNG.normal(size=(8, 9))[PERSON]).astype(np.float32)
PRESENT = RNG.random((N, 9)) > 0.2
PRESENT[:, 0] = True
PRESENT[:, 2] = PRESENT[:, 1]
PRESENT[PERSON == 3, 3] = False  # nobody of a cluster is there
CONTRASTS = {"t": np.array([[0.0, 1.0, 0.0, -1.0]]), "f": np.eye(4)[1:3]}


def hypotheses_of(C, adjustment="C2", dof="satterthwaite", X=X):
    """With elements that all maps have, with those that some lack, and the flips that test them."""
    design = Design.parse(X, len(X))
    contrast = Contrast.parse(C, design)
    shuffling = {"n_perm": 1000, "seed": 0, "errors": "ise", "blocks": PERSON, "block_scheme": "whole"}
    asked = Sandwich(adjustment, dof)
    variance = {"variance_groups": None, "v_dof_factor": 1.0, "sandwich": asked}
    shufflings, whole = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)
    return whole, make_incomplete(whole, shufflings, asked), shufflings


def given(Y=Y, present=PRESENT):
    return Given(np.where(present, Y, np.float32(0)), present=present)


def numbers_of(family, made, sign):
    """What the kernel leaves (n_flips, n_voxels), by the record alone."""
    products = []
    for layer, tile in zip(family.layers, made.layers, strict=True):
        rows = np.empty((1, len(sign), layer.rows.shape[1]))
        layer.rows.fill(np.zeros(sign.shape, np.int32), sign, rows)
        products.append(rows @ tile)
    products = np.concatenate(products)
    shape = products.shape[1:]
    flat = np.vstack([products.reshape(len(products), -1), np.zeros((family.n_scratch, shape[0] * shape[1]))])
    family.score(flat, made.fixed, np.array(family.sizes, np.int64), family.constants)
    return flat[0].reshape(shape)


@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
@pytest.mark.parametrize("name", CONTRASTS)
def test_flips_equal_a_wild_bootstrap_of_those_who_are_there(name, adjustment):
    C = CONTRASTS[name]
    _, hypothesis, shufflings = hypotheses_of(C, adjustment)
    family = hypothesis.family
    sign = shufflings.draw(0, shufflings.n_shufflings)[1][::3]
    made = family.prepare(given())
    tested = made.more[-1] == 0
    assert tested.sum() > 5
    found = numbers_of(family, made, sign)
    dof = made.more[-2] + len(C) - 1  # of the variance; those of F are fewer
    found = found * np.sqrt(dof / (1 - found**2)) if name == "t" else found / (1 - found) * dof
    expected = slow.incomplete(Y.astype(float), PRESENT, X, C, PERSON, adjustment, sign)
    np.testing.assert_allclose(found[:, tested], expected[:, tested], rtol=1e-7, atol=1e-9)
    times = 1.0 if name == "t" else (dof - 1) / (2 * dof)
    np.testing.assert_allclose(made.statistic[tested], (expected[0] * times)[tested], rtol=1e-9)
    some = family.prepare(given(Y[:, 4:6], PRESENT[:, 4:6]))
    np.testing.assert_array_equal(some.number, made.number[4:6])


@pytest.mark.parametrize("which", ["satterthwaite", "naive"])
@pytest.mark.parametrize("adjustment", ["C2", "HC3"])
def test_degrees_of_freedom_are_those_of_each_pattern_a_hundredth_less_at_most(which, adjustment):
    _, hypothesis, _ = hypotheses_of(CONTRASTS["t"], adjustment, which)
    made = hypothesis.family.prepare(given())
    for v in np.flatnonzero(made.more[-1] == 0):
        there = PRESENT[:, v]
        design = Design.parse(X[there], int(there.sum()))
        contrast = Contrast.parse(CONTRASTS["t"], design)
        shuffling = {"n_perm": 9, "seed": 0, "errors": "ise", "blocks": PERSON[there], "block_scheme": "whole"}
        variance = {"variance_groups": None, "v_dof_factor": 1.0, "sandwich": Sandwich(adjustment, which)}
        alone = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)[1].family
        assert alone.dof / 1.0101 < made.more[-2, v] < alone.dof * 1.000001
        same = alone.prepare(Given(Y[there, v : v + 1]))
        np.testing.assert_allclose(made.more[0, v], same.more[0, 0], rtol=1e-6)
        np.testing.assert_allclose(made.effect[0, v], same.effect[0, 0], rtol=1e-5)


@pytest.mark.parametrize("name", CONTRASTS)
def test_where_nothing_is_missing_it_is_the_test_of_all(name):
    whole, hypothesis, _ = hypotheses_of(CONTRASTS[name])
    made, expected = hypothesis.family.prepare(Given(Y)), whole.family.prepare(Given(Y))
    np.testing.assert_allclose(made.statistic, expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(made.score, whole.family.scale.to_z(expected.score), rtol=1e-9)
    assert made.more[-2] == pytest.approx(hypothesis.family.dof)


def test_elements_that_cannot_be_tested_say_why():
    only = np.column_stack([X[:, :3], (PERSON < 2).astype(float)])
    present = np.ones((N, 4), bool)
    present[5:, 0] = False  # five maps
    present[PERSON < 2, 1] = False  # none of the column
    present[(PERSON < 2) & (np.arange(N) > 0), 2] = False  # one map of one cluster decides
    _, hypothesis, _ = hypotheses_of(np.eye(4)[3:], X=only)
    made = hypothesis.family.prepare(given(Y[:, :4], present))
    assert made.more[-1].tolist() == [1, 2, 3, 0]
    assert made.degenerate.tolist() == [True, True, True, False]
    assert (made.statistic[:3] == 0).all()
    assert np.isfinite(made.more).all()
