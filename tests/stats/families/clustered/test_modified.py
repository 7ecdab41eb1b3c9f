"""The modified sandwich, every flip of which equals a fit of data that are flipped."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import DesignError
from numbaglm.stats.families.family import Given
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis
from numbaglm.stats.variance.covariance import ADJUSTMENTS, Sandwich
from reference import sandwich as slow

RNG = np.random.default_rng(7)
PERSON = np.repeat(np.arange(8), [3, 3, 2, 3, 1, 3, 2, 3])
VISIT = np.concatenate([[0, 1, 2], [0, 1, 2], [0, 2], [0, 1, 2], [1], [0, 1, 2], [0, 1], [0, 1, 2]])
GROUP = PERSON % 2
N = len(PERSON)
X = np.column_stack([np.ones(N), GROUP, VISIT, GROUP * VISIT, RNG.normal(size=N)]).astype(float)
Y = (RNG.normal(size=(N, 5)) + 1.5 * RNG.normal(size=(8, 5))[PERSON]).astype(np.float32)
CONTRASTS = {"t": np.eye(5)[3:4], "f": np.eye(5)[[1, 3]]}


def hypothesis_of(X, C, adjustment="C2", groups=None, dof="satterthwaite", person=PERSON, visit=VISIT):
    """A hypothesis, and the flips that test it."""
    design = Design.parse(X, len(X))
    contrast = Contrast.parse(C, design)
    shuffling = {"n_perm": 1000, "seed": 0, "errors": "ise", "blocks": person, "block_scheme": "whole"}
    asked = Sandwich(adjustment, dof, "modified")
    variance = {"variance_groups": None, "v_dof_factor": 1.0, "sandwich": asked, "visits": (visit, groups)}
    return build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)[::-1]


def scores_of(family, prepared, sign, dtype=np.float64):
    """Scores (n_flips, n_voxels) by the record alone."""
    index = np.tile(np.arange(sign.shape[1], dtype=np.int32), (len(sign), 1))
    products = []
    for layer, tile in zip(family.layers, prepared.layers, strict=True):
        rows = np.empty((layer.rows.shape[0], len(sign), layer.rows.shape[1]), dtype)
        layer.rows.fill(index, sign, rows)
        products.append(rows @ tile.astype(dtype))
    products = np.concatenate(products)
    shape = products.shape[1:]
    flat = np.vstack([products.reshape(len(products), -1), np.zeros((family.n_scratch, shape[0] * shape[1]), dtype)])
    family.score(flat, prepared.fixed.astype(dtype), np.array(family.sizes, np.int64), family.constants.astype(dtype))
    return flat[0].reshape(shape)


@pytest.mark.parametrize("groups", [None, GROUP])
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
@pytest.mark.parametrize("name", CONTRASTS)
def test_flips_equal_a_wild_bootstrap_with_people_who_dropped_out(name, adjustment, groups):
    C = CONTRASTS[name]
    hypothesis, shufflings = hypothesis_of(X, C, adjustment, groups)
    family = hypothesis.family
    sign = shufflings.draw(0, shufflings.n_shufflings)[1][::5]
    prepared = family.prepare(Given(Y))
    given = VISIT, np.zeros(N) if groups is None else groups
    expected = slow.wild_bootstrap(X, C, Y.astype(float), PERSON, adjustment, sign, *given)
    score = scores_of(family, prepared, sign)
    found = family.scale.to_statistic(score) if name == "t" else score / (1 - score) * family.constants[0]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(score[0], prepared.score, rtol=1e-10)
    np.testing.assert_allclose(hypothesis.observe(Y).score, prepared.score, rtol=1e-10)
    assert family.precision == "float64"  # of few people
    if name == "t":
        variance = [slow.of_visits(X, y, PERSON, adjustment, *given)[1] for y in Y.T.astype(float)]
        np.testing.assert_allclose(prepared.more[0], np.sqrt([(C @ one @ C.T)[0, 0] for one in variance]), rtol=1e-6)


def test_single_precision_does_where_people_are_many():
    person, visit = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
    kept = np.arange(120) % 7 > 0
    person, visit = person[kept], visit[kept]
    M = np.column_stack([np.ones(kept.sum()), person % 2, visit])
    family = hypothesis_of(M, [[0.0, 1, 0]], groups=person % 2, person=person, visit=visit)[0].family
    prepared = family.prepare(Given(RNG.normal(size=(len(M), 50)).astype(np.float32)))
    sign = RNG.choice([-1, 1], (60, 40)).astype(np.int8)[:, person]
    assert family.precision is None
    double = scores_of(family, prepared, sign)
    np.testing.assert_allclose(scores_of(family, prepared, sign, np.float32), double, atol=4e-6)


def test_what_is_no_covariance_loses_its_negative_roots():
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(6), 2)
    visit = np.array([0, 1, 1, 2, 0, 2, 0, 1, 1, 2, 0, 2])  # no one has all three
    y = rng.normal(size=(12, 40)).astype(np.float32)
    M = np.ones((12, 1))
    hypothesis, _ = hypothesis_of(M, [[1.0]], "none", None, person=person, visit=visit)
    made = hypothesis.family.prepare(Given(y))
    expected = [slow.of_visits(M, one, person, "none", visit, np.zeros(12))[1][0, 0] for one in y.T.astype(float)]
    np.testing.assert_allclose(made.more[0], np.sqrt(expected), rtol=1e-6)


def test_where_all_have_all_visits_and_regressors_it_is_the_classic_one():
    # Means over clusters of products are then the products of means: a design of visits alone.
    person, visit = np.repeat(np.arange(9), 3), np.tile(np.arange(3), 9)
    M, y = np.eye(3)[visit], RNG.normal(size=(27, 6)).astype(np.float32)
    design, contrast = Design.parse(M, 27), None
    contrast = Contrast.parse([[1.0, -1, 0]], design)
    shuffling = {"n_perm": 1000, "seed": 0, "errors": "ise", "blocks": person, "block_scheme": "whole"}
    t, dof = {}, {}
    for estimator in ("classic", "modified"):
        variance = {"variance_groups": None, "v_dof_factor": 1.0, "sandwich": Sandwich(estimator=estimator)}
        visits = {"visits": (visit, None)} if estimator == "modified" else {}
        made = build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance | visits)[1]
        t[estimator], dof[estimator] = made.family.prepare(Given(y)).statistic, made.family.dof
    np.testing.assert_allclose(t["modified"], t["classic"], rtol=1e-9)
    assert dof["modified"] == pytest.approx(dof["classic"]) == pytest.approx(8)


def test_subjects_as_regressors_cost_no_rows():
    within = np.column_stack([RNG.normal(size=N), PERSON[:, None] == np.arange(8)]).astype(float)
    family = hypothesis_of(within, np.eye(9)[:1])[0].family
    assert family.sizes[2] == 1


def test_an_f_of_more_rows_than_clusters_tell_is_refused():
    M = RNG.normal(size=(12, 6))
    with pytest.raises(DesignError, match="degrees of freedom"):
        hypothesis_of(M, np.eye(6)[:4], dof="naive", person=np.repeat(np.arange(3), 4), visit=np.tile(np.arange(4), 3))


def test_what_the_nuisance_explains_is_said_to_be_degenerate():
    y = np.column_stack([X[:, 0], Y[:, 0]]).astype(np.float32)
    made = hypothesis_of(X, CONTRASTS["t"])[0].family.prepare(Given(y))
    assert made.degenerate.tolist() == [True, False]
    assert made.score[0] == made.statistic[0] == 0
    assert np.isfinite(made.more).all()
