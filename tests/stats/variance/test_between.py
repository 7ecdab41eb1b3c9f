"""Random effects against metafor (R): its table where it is there, and its textbook example."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from numbaglm.stats.model.design import Contrast, Design, partition
from numbaglm.stats.variance.between import (
    between_variance,
    estimate,
    free_of,
    heterogeneity,
    whiten,
)
from numbaglm.stats.variance.covariance import BETWEEN, TESTS
from reference.between import likelihood

REFERENCE = Path(os.environ.get("NUMBAGLM_REFERENCE", "absent")) / "pymare"
OF_METAFOR = {"FE": 0, "DL": "dl", "HE": "he", "ML": "ml", "REML": "reml"}
TESTS_OF_METAFOR = {"z": "z", "t": "t", "knha": "knapp-hartung", "adhoc": "ad-hoc"}


def analysed(y, v, X, C, between, test, tau2=None):
    """tau2, estimates, I2 and Q of one element; estimates by a given tau2."""
    y, v = np.asarray(y, float)[:, None], np.asarray(v, float)[:, None]
    design = Design.parse(pd.DataFrame(X), len(y))
    contrast = Contrast.parse(C, design)
    interest, nuisance = (np.ascontiguousarray(one.T) for one in partition(design, contrast))
    M, effect = np.vstack([nuisance, interest]), contrast.matrix @ design.pseudo_inverse
    tau2 = between_variance(y, v, M, between) if tau2 is None else np.array([tau2])
    found = estimate(y, 1 / (v + tau2), nuisance, interest, effect, test)
    return tau2[0], found, *(one[0] for one in heterogeneity(y, v, M, tau2, between))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="NUMBAGLM_REFERENCE names no folder with pymare")
def test_all_cases_of_the_table_of_metafor():
    cases = json.loads((REFERENCE / "metafor_reference.json").read_text())["cases"]
    table = pd.read_csv(REFERENCE / "metafor_small_sample.csv")
    assert len(cases) == 180
    assert {one["method"] for one in cases} == set(OF_METAFOR)
    assert {one["test"] for one in cases} <= set(TESTS_OF_METAFOR)
    for case in cases:
        data = table[table["case"] == case["design"]]
        n_mods = {"intercept": 0, "one": 1, "two": 2}[case["model"]]
        X = np.column_stack([np.ones(len(data)), data[["mod1", "mod2"][:n_mods]].to_numpy()])
        between, test = OF_METAFOR[case["method"]], TESTS_OF_METAFOR[case["test"]]
        y, v = data["y"].to_numpy(), data["v"].to_numpy()
        tau2 = analysed(y, v, X, np.eye(1 + n_mods)[0], between, test)[0]
        if tau2 != pytest.approx(case["tau2"], rel=1e-6, abs=1e-6):
            # metafor stops where a step is below 1e-5: further up the likelihood.
            assert tau2 == pytest.approx(case["tau2"], rel=3e-5)
            here, there = (likelihood(y, v, X, one, between == "reml") for one in (tau2, case["tau2"]))
            assert here >= there
        for k, C in enumerate(np.eye(1 + n_mods)):
            _, found, _, _ = analysed(y, v, X, C, between, test, case["tau2"])
            numbers = found.effect[0, 0], found.error[0], found.p[0], found.lower[0], found.upper[0]
            expected = [case[name][k] for name in ("beta", "se", "pval", "ci_lb", "ci_ub")]
            assert numbers == pytest.approx(expected, rel=1e-6, abs=1e-6), case
            assert analysed(y, v, X, C, between, test)[1].effect[0, 0] == pytest.approx(case["beta"][k], rel=1e-4)
        assert free_of(len(X) - 1 - n_mods, test) == (case["dof"] or np.inf)


# Tuberculosis among vaccinated and others in 13 trials (Colditz et al., 1994, JAMA 271:698-702): cases and those
# without, of either group, and the latitude of each.
TRIALS = np.array(
    [
        (4, 119, 11, 128, 44),
        (6, 300, 29, 274, 55),
        (3, 228, 11, 209, 42),
        (62, 13536, 248, 12619, 52),
        (33, 5036, 47, 5761, 13),
        (180, 1361, 372, 1079, 44),
        (8, 2537, 10, 619, 19),
        (505, 87886, 499, 87892, 13),
        (29, 7470, 45, 7232, 27),
        (17, 1699, 65, 1600, 42),
        (186, 50448, 141, 27197, 18),
        (5, 2493, 3, 2338, 33),
        (27, 16886, 29, 17825, 33),
    ],
    float,
)


def test_the_example_that_metafor_is_explained_with():
    """Log relative risks, and the numbers that its documentation prints (Viechtbauer, 2010, J. Stat. Softw. 36)."""
    a, b, c, d, latitude = TRIALS.T
    y, v = np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)
    one = np.ones((13, 1))
    tau2, found, share, Q = analysed(y, v, one, [1], "reml", "z")
    numbers = tau2, share, Q, found.effect[0, 0], found.error[0], found.lower[0], found.upper[0]
    assert numbers == pytest.approx((0.3132, 92.22, 152.2330, -0.7145, 0.1798, -1.0669, -0.3622), rel=2e-4)
    tau2, found, share, Q = analysed(y, v, np.hstack([one, latitude[:, None]]), [0, 1], "reml", "z")
    numbers = tau2, share, Q, found.effect[0, 0], found.error[0]
    assert numbers == pytest.approx((0.0764, 68.39, 30.7331, -0.0291, 0.0072), rel=2e-3)
    tau2, found, share, _ = analysed(y, v, one, [1], 0, "z")
    assert (tau2, found.effect[0, 0], found.error[0]) == pytest.approx((0, -0.4303, 0.0405), rel=1e-3)
    assert share == pytest.approx(100 * (152.2330 - 12) / 152.2330, rel=1e-4)


@pytest.mark.parametrize("between", [0, *BETWEEN])
@pytest.mark.parametrize("test", TESTS)
def test_equal_variances_are_those_of_no_weights(between, test):
    rng = np.random.default_rng(0)
    n, X = 20, np.column_stack([np.ones(20), rng.normal(size=20)])
    y = 3 * rng.normal(size=n)
    tau2, found, _, _ = analysed(y, np.full(n, 0.5), X, [0, 1], between, test)
    beta, (square,) = np.linalg.lstsq(X, y)[:2]
    unit = np.linalg.inv(X.T @ X)[1, 1]
    assert found.effect[0, 0] == pytest.approx(beta[1])
    if test == "knapp-hartung" or (test == "ad-hoc" and between in ("reml", "dl", "he")):
        assert found.error[0] == pytest.approx(np.sqrt(square / (n - 2) * unit), rel=1e-6)
    elif test in ("t", "z"):
        assert found.error[0] == pytest.approx(np.sqrt((0.5 + tau2) * unit))
    if between in ("reml", "dl", "he"):
        assert tau2 == pytest.approx(square / (n - 2) - 0.5)


def test_several_rows_have_the_f_of_the_two_models():
    rng = np.random.default_rng(1)
    n, X = 15, np.column_stack([np.ones(15), rng.normal(size=(15, 2))])
    y, v = rng.normal(size=n), rng.uniform(0.1, 3, n)
    C = np.array([[0, 1, 0.5], [0, 0, 1]])
    left = [np.linalg.lstsq(X[:, :k] / np.sqrt(v)[:, None], y / np.sqrt(v))[1][0] for k in (1, 3)]
    cov = np.linalg.inv(X.T @ (X / v[:, None]))
    beta = cov @ X.T @ (y / v)
    for test, spread in (("knapp-hartung", left[1] / 12), ("z", 1.0)):
        _, found, _, _ = analysed(y, v, X, C, 0, test)
        np.testing.assert_allclose(found.effect[:, 0], C @ beta)
        assert found.statistic[0] == pytest.approx((left[0] - left[1]) / 2 / spread)
        assert found.error[0] == pytest.approx(np.sqrt(spread * C[0] @ cov @ C[0]))


def test_whitened_models_are_the_weighted_ones():
    rng = np.random.default_rng(2)
    y, w, M = rng.normal(size=(7, 3)), rng.uniform(0.1, 9, (7, 3)), rng.normal(size=(2, 7))
    model = whiten(y, w, M)
    for i in range(3):
        Q, R = model.Q[:, :, i].T, model.R[:, :, i]
        np.testing.assert_allclose(Q @ R, np.sqrt(w[:, i])[:, None] * M.T, atol=1e-12)
        np.testing.assert_allclose(Q.T @ Q, np.eye(2), atol=1e-12)
        assert (np.diag(R) > 0).all()
        assert R[1, 0] == 0
    left = model.residuals(2)
    np.testing.assert_allclose((model.Q * left).sum(axis=1), 0, atol=1e-12)
