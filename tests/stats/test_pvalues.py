from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from numbaglm.stats import pvalues

SMALL_NUMBERS = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


def log_tail(t, dof):
    """log P(T > t) by integration of the density relative to its value at t, in u = log(x / t)."""

    def relative(u):
        fall = np.log1p((t * np.exp(u)) ** 2 / dof) - np.log1p(t**2 / dof)
        return np.exp(u - (dof + 1) / 2 * fall)

    width = (dof + t**2) / ((dof + 1) * t**2)  # over which it falls by a factor of e
    area = width * integrate.quad(lambda s: relative(s * width), 0, 80, limit=200)[0]
    constant = special.gammaln((dof + 1) / 2) - special.gammaln(dof / 2) - np.log(dof * np.pi) / 2
    return constant - (dof + 1) / 2 * np.log1p(t**2 / dof) + np.log(t * area)


def log_q(z):
    return special.log_ndtr(-z)


@pytest.mark.parametrize("dof", [3, 5.5, 11, 29, 200, 40_000])
@pytest.mark.parametrize("t", [1e-8, 0.5, 2.0, 5.0, 12.0, 37.0, 45.0, 150.0, 1000.0])
def test_z_of_t_has_the_same_tail(t, dof):
    z = pvalues.to_z(np.array([t, -t]), dof)
    assert z[0] == -z[1]
    if t > 1:
        assert log_q(z[0]) == pytest.approx(log_tail(t, dof), rel=1e-6, abs=1e-9)
    else:
        assert stats.norm.cdf(z[0]) == pytest.approx(stats.t.cdf(t, dof), abs=1e-12)


def test_z_is_monotone_where_the_tail_underflows():
    for dof in (10, 200, 1000, 40_000):
        t = np.geomspace(1, 1e6, 400)
        z = pvalues.to_z(t, dof)
        assert (np.diff(z) > 0).all()
        assert np.isfinite(z).all()
    np.testing.assert_array_equal(pvalues.to_z(np.array([0.0, -0.0]), 5), 0.0)


@pytest.mark.parametrize(("n_rows", "dof"), [(1, 5), (2, 12), (3, 200), (10, 40)])
def test_z_of_f_has_the_same_p_at_both_ends(n_rows, dof):
    f = np.array([1e-12, 1e-3, 0.3, 1.0, 4.0, 30.0, 1000.0])
    z = pvalues.to_z(f, dof, n_rows)
    np.testing.assert_allclose(special.log_ndtr(-z), stats.f.logsf(f, n_rows, dof), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(special.log_ndtr(z), stats.f.logcdf(f, n_rows, dof), rtol=1e-7, atol=1e-9)
    extremes = pvalues.to_z(np.array([0.0, 1e300]), dof, n_rows)
    assert np.isfinite(extremes).all()
    assert extremes[0] < z[0] < 0 < z[-1] < extremes[1]


def test_parametric_p():
    t = np.array([-3.0, 0.0, 2.0, 300.0])
    np.testing.assert_allclose(pvalues.parametric(t, 7), stats.t.sf(t, 7), rtol=1e-10)
    f = np.array([0.0, 0.5, 4.0, 1e4])
    np.testing.assert_allclose(pvalues.parametric(f, 7, 3), stats.f.sf(f, 3, 7), rtol=1e-10)


@given(observed=SMALL_NUMBERS, others=SMALL_NUMBERS, noise=st.integers(0, 2**32))
def test_corrected_p_counts_ties_whatever_the_rounding(observed, others, noise):
    rng = np.random.default_rng(noise)
    maxima = np.array([max(observed), *others])
    expected = [np.mean([m >= value for m in maxima]) for value in observed]
    shaken = maxima + rng.uniform(-1e-9, 1e-9, maxima.size)
    found = pvalues.from_maxima(np.array(observed, float), shaken, 1e-8)
    np.testing.assert_array_equal(found, expected)
    each = pvalues.from_maxima(np.array(observed), shaken, np.full(len(observed), 1e-8))
    np.testing.assert_array_equal(each, expected)


def test_p_is_never_0():
    assert pvalues.from_maxima(np.array([10.0]), np.array([1.0, 2, 3, 4]), 0.0) == [0.25]
    np.testing.assert_array_equal(pvalues.from_counts(np.array([0, 1, 4]), 4), [0.25, 0.25, 1.0])
    assert pvalues.logp(np.array([0.0, 0.01, 1.0]))[1:].tolist() == [2.0, 0.0]
    assert np.isfinite(pvalues.logp(np.array([0.0]))).all()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=15))
def test_fdr(counts):
    p = np.array(counts) / 40
    adjusted = pvalues.fdr(p)
    for value, found in zip(p, adjusted, strict=True):
        # The least rate at which the step-up procedure finds a test: some k >= its rank has p_(k) <= rate k / n.
        rates = [q * p.size / np.sum(p <= q) for q in p if q >= value]
        assert found == pytest.approx(min(1.0, *rates, 1.0))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_fdr_bky_is_the_procedure_as_it_is_written(counts, q):
    p = np.array(counts) / 400
    ordered, n, n_found = np.sort(p), p.size, 0
    for j in range(1, n + 1):
        if not any(ordered[k - 1] <= q * k / (n + 1 - j * (1 - q)) for k in range(j, n + 1)):
            break
        n_found = j
    expected = p <= ordered[n_found - 1] if n_found else np.zeros(n, bool)
    found = pvalues.fdr_bky(p)
    near = np.abs(found - q) < 1e-9
    np.testing.assert_array_equal((found <= q)[~near], expected[~near])


def test_bonferroni():
    np.testing.assert_allclose(pvalues.bonferroni(np.array([0.01, 0.2, 0.9])), [0.03, 0.6, 1.0])


@pytest.mark.parametrize(
    ("kind", "value", "n_rows", "two_sided", "p"),
    [
        ("p", 0.001, None, False, 0.001),
        ("p", 0.001, None, True, 0.0005),
        ("p", 0.001, 2, False, 0.001),
        ("z", 3.1, None, True, stats.norm.sf(3.1)),
        ("z", 3.1, 2, False, stats.norm.sf(3.1)),
        ("t", 2.5, None, True, stats.t.sf(2.5, 14)),
        ("f", 5.0, 2, False, stats.f.sf(5.0, 2, 14)),
    ],
)
def test_thresholds(kind, value, n_rows, two_sided, p):
    found = pvalues.statistic_threshold(kind, value, 14, n_rows, two_sided)
    assert pvalues.parametric(np.array([found]), 14, n_rows)[0] == pytest.approx(p, rel=1e-9)


def test_sidak_is_the_least_of_independent_p():
    p = np.array([1e-12, 0.02, 0.5, 1.0])
    np.testing.assert_allclose(pvalues.sidak(p, 2), [2e-12, 0.0396, 0.75, 1.0], rtol=1e-9)
    np.testing.assert_allclose(pvalues.sidak(p, 1), p)
