from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import stats

from numbaglm.kernels.tails import COUNTED, REFINED
from numbaglm.stats.corrected import TAILS, from_null, interval, useful_tail
from numbaglm.stats.shuffling.shufflings import plan_shufflings

FEW = plan_shufflings(3, 10, 0, design_rows=np.arange(3.0)[:, None])  # all six
MANY = plan_shufflings(40, 499, 0, design_rows=np.arange(40.0)[:, None])
NULL = stats.gumbel_r.ppf((np.arange(500) + 0.5) / 500)  # its quantiles: no chance is in it


def test_no_tail_is_fitted_where_p_are_exact(caplog):
    caplog.set_level(logging.INFO, "numbaglm")
    assert [useful_tail(tail, MANY) for tail in TAILS] == list(TAILS)
    assert not caplog.records
    assert [useful_tail(tail, FEW) for tail in TAILS] == ["counts"] * 3
    assert "tail='gamma'" in caplog.text


def test_counts_are_shares_of_the_null_that_reach_what_was_observed():
    null = np.array([3.0, 1, 2, 3, 5, 0])
    found = from_null("counts", FEW, np.array([3.0, 4.99, -1, 3.005]), null, 0.01)
    np.testing.assert_allclose(found.p, [3 / 6, 1 / 6, 1, 3 / 6])
    assert found.p is found.counted
    assert (found.source, found.fit) == (None, None)


@pytest.mark.parametrize("tail", ["pareto", "gamma"])
def test_small_p_are_refined_and_others_counted(tail):
    observed = np.array([NULL[0], 0.5, stats.gumbel_r.isf(1e-4), stats.gumbel_r.isf(1e-5)])
    found = from_null(tail, MANY, observed, NULL, 0.0)
    counted = [max((one <= NULL).mean(), 1 / 500) for one in observed]  # 0 would be no p
    np.testing.assert_allclose(found.counted, counted)
    assert found.source.tolist()[1:] == [COUNTED, REFINED, REFINED]
    assert found.p[1] == counted[1]
    assert 1e-6 < found.p[3] < found.p[2] < 1 / 500  # how close fits come: test_tails.py
    assert found.fit["passed"] is True
    assert all(value is None or value == value for value in found.fit.values()), "JSON has no NaN"


def test_no_refined_p_undercuts_what_all_shufflings_would_reach():
    plan = plan_shufflings(6, 499, 0, design_rows=np.arange(6.0)[:, None])  # of 720
    found = from_null("pareto", plan, np.array([1e6]), NULL, 0.0)
    assert found.p[0] == pytest.approx(1 / 720)


def test_p_counted_elsewhere_are_taken_as_they_are():
    counted = np.array([0.2, 0.4])
    assert from_null("counts", MANY, np.array([9.0, 9.0]), NULL, 0.0, counted).p is counted


def test_intervals_are_those_of_a_binomial():
    p = np.array([1 / 500, 25 / 500, 1.0])
    lower, upper = interval(MANY, p, 0.95)
    for one, low, high in zip(p, lower, upper, strict=True):
        exact = stats.binomtest(round(one * 500) - 1, 499).proportion_ci(0.95)  # the observed is no draw
        assert (low, high) == pytest.approx((exact.low, exact.high))
    assert interval(FEW, p, 0.95) == (p, p)
