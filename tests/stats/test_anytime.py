"""Anytime p, and when p are decided."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special, stats

from numbaglm.stats.anytime import anytime_p, besag_clifford, counted_level, losses_of, n_open, verdicts

ALPHA = 0.05


@pytest.mark.parametrize(("losses", "n"), [(0, 10), (0, 100), (2, 100), (5, 300), (40, 400)])
def test_the_wealth_is_the_ratio_of_two_probabilities(losses, n):
    """Of a sequence with so many losses, where losses are less than c likely, and where the observed is any of them."""
    c = ALPHA / 2
    found = integrate.quad(lambda p: p**losses * (1 - p) ** (n - losses) / c, 0, c)[0]
    wealth = found / special.beta(losses + 1, n - losses + 1)
    assert anytime_p(np.array(float(losses)), n, ALPHA) == pytest.approx(min(1.0, 1 / wealth), rel=1e-6)


def test_the_wealth_is_1_on_average_at_any_time():
    for n in (1, 7, 100, 1000):
        losses = np.arange(n + 1.0)
        wealth = special.betainc(losses + 1, n - losses + 1, ALPHA / 2) / (ALPHA / 2)
        assert wealth.mean() == pytest.approx(1.0)  # under the null every number of losses is as likely


def test_they_err_no_more_than_alpha_though_one_looks_after_each_shuffling():
    rng = np.random.default_rng(0)
    n, looks = 2000, np.unique(np.geomspace(20, 2000, 60).astype(int))
    p = rng.random(4000)  # exact p, of no effect
    losses = np.stack([np.cumsum(rng.random(n) < one)[looks - 1] for one in p])
    ever = (anytime_p(losses.astype(float), looks, ALPHA) <= ALPHA).any(axis=1)
    assert ALPHA / 4 < ever.mean() < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / p.size)


def test_they_grow_with_losses_and_are_bounded():
    p = anytime_p(np.arange(0.0, 101), 100, ALPHA)
    assert (np.diff(p) >= 0).all()
    assert p[0] > ALPHA / 2
    assert p[-1] == 1.0


def test_verdicts():
    assert verdicts(np.array([0.0, 0.0, 5.0, 50.0]), 100, ALPHA).tolist() == [1, 1, 0, -1]
    assert verdicts(np.array([0.0]), 10, ALPHA).tolist() == [0]
    likely = 101 * stats.binom.pmf(np.arange(101), 100, ALPHA)
    kept = verdicts(np.arange(101.0), 100, ALPHA) == -1
    np.testing.assert_array_equal(kept, (np.arange(101) > 5) & (likely <= 0.001))


def test_one_in_a_hundred_of_those_rejected_may_be_open():
    rejected, open_ = np.full(300, 1 / 1001), np.full(3, 51 / 1001)
    assert n_open(open_, 1000, ALPHA) == 3
    assert n_open(np.concatenate([rejected, open_]), 1000, ALPHA) == 0
    assert n_open(np.ones(10), 1000, ALPHA) == 0
    assert losses_of(np.array([1 / 1001, 51 / 1001, 1.0]), 1000).tolist() == [0, 50, 1000]


def test_the_counted_level_is_that_of_the_last_rejected():
    for n, level in ((50, 0.05), (400, 0.05), (400, 0.2), (10, 0.05)):
        counted = counted_level(n, level, ALPHA)
        reached = anytime_p(np.arange(n + 1.0), n, ALPHA) <= level
        assert round(counted * (n + 1)) == reached.sum()


@pytest.mark.parametrize("losses", [1, 3, 10])
def test_besag_and_clifford_count_until_so_many_losses(losses):
    rng = np.random.default_rng(losses)
    maxima = rng.integers(0, 30, 200).astype(float)
    observed = np.arange(-1.0, 35)
    expected = []
    for value in observed:
        after = np.flatnonzero(np.cumsum(maxima >= value) == losses)
        expected.append(losses / (after[0] + 1 if after.size else maxima.size + 1))
    np.testing.assert_allclose(besag_clifford(observed, maxima, losses), expected)


def test_besag_and_clifford_hold_though_one_stops_at_the_smallest():
    rng = np.random.default_rng(1)
    smallest = []
    for _ in range(2000):
        null = rng.random(401)
        smallest.append(min(besag_clifford(null[:1], null[1:n], 5)[0] for n in (26, 51, 101, 201, 401)))
    for level in (0.02, 0.05, 0.2):
        assert np.mean(np.array(smallest) <= level) < level + 3 * np.sqrt(level * (1 - level) / 2000)
