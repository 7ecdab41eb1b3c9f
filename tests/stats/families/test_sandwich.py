"""t and F with a sandwich variance against clubSandwich, HC3, and a wild bootstrap of data flipped one by one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from numbaglm.errors import DesignError
from numbaglm.stats.families.family import Given
from numbaglm.stats.families.sandwich import Flipped
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.setup import build_hypothesis
from numbaglm.stats.variance.covariance import ADJUSTMENTS, Sandwich
from reference import sandwich as slow

HERE = Path(__file__).parent / "clubsandwich"
REFERENCE = Path(os.environ.get("NUMBAGLM_REFERENCE", "absent")) / "pymare"
RNG = np.random.default_rng(2)
LABELS = np.repeat(np.arange(7), [1, 2, 3, 3, 2, 4, 3])
N = len(LABELS)
X = np.column_stack([np.ones(N), RNG.normal(size=7)[LABELS], RNG.normal(size=(N, 2))])
Y = (RNG.normal(size=(N, 4)) + RNG.normal(size=(7, 4))[LABELS]).astype(np.float32)
CONTRASTS = {"t": np.array([[0.0, 1.0, 0.0, -1.0]]), "f": np.eye(4)[1:3]}


def hypothesis_of(X, C, labels=LABELS, adjustment="C2", dof="satterthwaite", weights=None):
    """A hypothesis, and the flips that test it."""
    design = Design.parse(X, len(X))
    contrast = Contrast.parse(C, design)
    scheme = "within" if labels is None else "whole"
    shuffling = {"n_perm": 1000, "seed": 0, "errors": "ise", "blocks": labels, "block_scheme": scheme}
    variance = {"variance_groups": None, "v_dof_factor": 1.0, "sandwich": Sandwich(adjustment, dof), "weights": weights}
    return build_hypothesis(design, contrast, [contrast], "freedman-lane", shuffling, variance)[::-1]


def scores_of(family, prepared, index, sign):
    """Scores (n_flips, n_voxels) by the record alone."""
    products = []
    for layer, tile in zip(family.layers, prepared.layers, strict=True):
        rows = np.empty((layer.rows.shape[0], len(index), layer.rows.shape[1]))
        layer.rows.fill(index, sign, rows)
        products.append(rows @ tile)
    products = np.concatenate(products)
    shape = products.shape[1:]
    flat = np.vstack([products.reshape(len(products), -1), np.zeros((family.n_scratch, shape[0] * shape[1]))])
    family.score(flat, prepared.fixed, np.array(family.sizes, np.int64), family.constants)
    return flat[0].reshape(shape)


def wald_of(family, score):
    """t, or the Wald form, of scores."""
    if family.name == "t":
        return family.scale.to_statistic(score)
    return score / (1 - score) * family.constants[-1]


@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
@pytest.mark.parametrize("name", CONTRASTS)
def test_flips_equal_a_wild_bootstrap(name, adjustment):
    C = CONTRASTS[name]
    hypothesis, shufflings = hypothesis_of(X, C, adjustment=adjustment)
    family = hypothesis.family
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    assert (index == np.arange(N)).all()
    assert len(sign) == 2**7
    prepared = family.prepare(Given(Y))
    expected = slow.wild_bootstrap(X, C, Y.astype(float), LABELS, adjustment, sign)
    found = wald_of(family, scores_of(family, prepared, index, sign))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(wald_of(family, prepared.score), expected[0], rtol=1e-10)
    np.testing.assert_allclose(hypothesis.observe(Y).score, prepared.score, rtol=1e-12)


@pytest.mark.parametrize("name", CONTRASTS)
def test_weighted_flips_equal_a_wild_bootstrap_of_weighted_least_squares(name):
    weights = RNG.uniform(0.2, 3.0, N)
    hypothesis, shufflings = hypothesis_of(X, CONTRASTS[name], weights=weights)
    family = hypothesis.family
    index, sign = shufflings.draw(0, shufflings.n_shufflings)
    prepared = family.prepare(Given(Y))
    root = np.sqrt(weights)[:, None]
    expected = slow.wild_bootstrap(X * root, CONTRASTS[name], Y * root, LABELS, "C2", sign)
    np.testing.assert_allclose(wald_of(family, scores_of(family, prepared, index, sign)), expected, rtol=1e-7)
    if name == "t":
        assert family.scale.dof == pytest.approx(slow.satterthwaite(X * root, CONTRASTS[name], LABELS, "C2"))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="NUMBAGLM_REFERENCE names no folder with pymare")
def test_weighted_numbers_of_the_table_of_robumeta():
    cases = json.loads((REFERENCE / "robumeta_reference.json").read_text())["cases"]
    table = pd.read_csv(REFERENCE / "robumeta_correlated_effects.csv")
    assert len(cases) == 24
    columns = {"intercept": [], "within": ["within"], "both": ["within", "between"]}
    for case in cases:
        variance = table.groupby("study")[case["variances"]].transform("mean")
        weights = 1 / (table.groupby("study")["study"].transform("size") * (variance + case["tau2"]))
        M = np.column_stack([np.ones(len(table)), table[columns[case["model"]]]]).astype(float)
        for k, row in enumerate(np.eye(M.shape[1])):
            family = hypothesis_of(M, row[None], table["study"].to_numpy(), weights=weights.to_numpy())[0].family
            made = family.prepare(Given(table["effect"].to_numpy(np.float32)[:, None]))
            assert made.effect[0, 0] == pytest.approx(case["beta"][k], rel=1e-6, abs=1e-7)
            assert made.more[0, 0] == pytest.approx(case["se"][k], rel=1e-6)
            assert family.scale.dof == pytest.approx(case["dof"][k], rel=1e-9)


def test_rows_run_over_clusters():
    rows = Flipped(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 2]))
    out = np.zeros((2, 3, 2), np.float32)
    rows.fill(np.zeros((2, 4), np.int32), np.array([[1, 1, -1, -1], [-1, -1, 1, 1]], np.int8), out)
    assert out.tolist() == [[[1, -2], [-1, 2], [0, 0]], [[3, -4], [-3, 4], [0, 0]]]


def club():
    data = pd.read_csv(HERE / "data.csv")
    columns = [np.ones(len(data)), data.visit, data.group, data.age, data.visit * data.group]
    return data, np.column_stack(columns).astype(float)


NAMES = ["(Intercept)", "visit", "group", "age", "visit:group"]


@pytest.mark.parametrize(("kind", "adjustment"), [("CR0", "none"), ("CR2", "C2"), ("CR3", "C3")])
def test_equals_clubsandwich(kind, adjustment):
    data, M = club()
    expected = pd.read_csv(HERE / "t.csv").query("type == @kind").set_index("column")
    y = data.y.to_numpy(np.float32)[:, None]
    for k, name in enumerate(NAMES):
        family = hypothesis_of(M, np.eye(5)[k : k + 1], data.person, adjustment)[0].family
        made = family.prepare(Given(y))
        beta, se, dof, p = expected.loc[name, ["beta", "se", "dof", "p"]].astype(float)
        assert made.effect[0, 0] == pytest.approx(beta, abs=1e-6)
        assert made.more[0, 0] == pytest.approx(se, rel=1e-6)
        assert family.scale.dof == pytest.approx(dof, rel=1e-9)
        assert 2 * stats.t.sf(abs(made.statistic[0]), dof) == pytest.approx(p, rel=1e-5)


def test_f_equals_clubsandwich():
    data, M = club()
    expected = pd.read_csv(HERE / "f.csv").set_index("type").loc["CR2"]
    family = hypothesis_of(M, np.eye(5)[[1, 4]], data.person)[0].family
    made = family.prepare(Given(data.y.to_numpy(np.float32)[:, None]))
    assert made.statistic[0] == pytest.approx(expected.F, rel=1e-5)
    assert family.scale.dof == pytest.approx(expected.dof, rel=1e-9)


def test_independent_maps_have_the_variance_of_mackinnon_and_white():
    family = hypothesis_of(X, CONTRASTS["t"], None, "HC3")[0].family
    made = family.prepare(Given(Y))
    bread = np.linalg.inv(X.T @ X)
    residual = Y - X @ bread @ X.T @ Y
    weight = residual / (1 - np.einsum("ij,jk,ik->i", X, bread, X))[:, None]
    c = CONTRASTS["t"][0]
    variance = ((c @ bread @ X.T)[:, None] ** 2 * weight**2).sum(axis=0)
    np.testing.assert_allclose(made.statistic, c @ bread @ X.T @ Y / np.sqrt(variance), rtol=1e-6)


def test_one_map_a_cluster_and_a_mean_is_plain_t():
    # t of a mean with the sandwich is a monotone function of the plain one, under any flips.
    labels = np.arange(9)
    y = RNG.normal(size=(9, 5)).astype(np.float32)
    hypothesis, shufflings = hypothesis_of(np.ones((9, 1)), [[1.0]], labels, "C2")
    index, sign = shufflings.draw(0, 512)
    score = scores_of(hypothesis.family, hypothesis.family.prepare(Given(y)), index, sign)
    plain = np.array([stats.ttest_1samp(one[:, None] * y.astype(float), 0).statistic for one in sign])
    np.testing.assert_allclose(hypothesis.family.scale.to_statistic(score), plain, rtol=1e-6)
    assert hypothesis.family.scale.dof == pytest.approx(8)


def test_degrees_of_freedom_as_asked_for():
    family = hypothesis_of(X, CONTRASTS["t"], dof="naive")[0].family
    assert family.scale.dof == 5  # the constant, and what is constant within clusters


def test_an_f_of_more_rows_than_clusters_tell_is_refused():
    M = np.column_stack([np.repeat(np.eye(3), 4, axis=0)[:, :0], RNG.normal(size=(12, 3))])
    with pytest.raises(DesignError, match="degrees of freedom"):
        hypothesis_of(M, np.eye(3), np.repeat(np.arange(3), 4))


def test_what_the_nuisance_explains_is_said_to_be_degenerate():
    y = np.column_stack([X[:, 0], Y[:, 0]]).astype(np.float32)
    made = hypothesis_of(X, CONTRASTS["t"])[0].family.prepare(Given(y))
    assert made.degenerate.tolist() == [True, False]
    assert made.score[0] == made.statistic[0] == 0
    assert np.isfinite(made.more).all()


def test_subjects_as_regressors_cost_no_rows():
    within = np.column_stack([RNG.normal(size=N), LABELS[:, None] == np.arange(7)]).astype(float)
    family = hypothesis_of(within, np.eye(8)[:1])[0].family
    assert family.sizes == (1, 1, 1)
