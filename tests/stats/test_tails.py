from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from numbaglm.errors import InputError
from numbaglm.stats import pvalues, tails
from numbaglm.stats.tails import COUNTED, LEAST, REFINE_BELOW, REFINED, REJECTED
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parents[1] / "golden" / "c8_tail_n10"
DEEP = np.array([1e-3, 1e-4, 1e-5])


def maxima_of_normals(n_voxels):
    """Distribution of the maximum over independent normal voxels, as (draw, isf)."""

    def isf(p):
        return -special.ndtri(-np.expm1(np.log1p(-np.asarray(p)) / n_voxels))

    return isf


DISTRIBUTIONS = {
    "maxima": maxima_of_normals(5000),
    "t": stats.t(9).isf,
    "chi2": stats.chi2(3).isf,
    "normal": stats.norm.isf,
}


def null_of(isf, n_shufflings, rng):
    """A null of random shufflings; the observed value at its head is far out, and must not matter."""
    null = isf(rng.uniform(size=n_shufflings))
    null[0] = isf(1e-9)
    return null


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n_shufflings", [500, 5000])
def test_refined_p_are_close_to_the_true_ones_far_beyond_the_counts(name, n_shufflings):
    isf, rng = DISTRIBUTIONS[name], np.random.default_rng(4)
    deep = np.array([0.5, 0.1, 0.01]) / n_shufflings
    error, counted = [], []
    for _ in range(80):
        null = null_of(isf, n_shufflings, rng)
        p, source, fit = tails.pareto_p(isf(deep), null)
        assert (source == (REFINED if fit.passed else REJECTED)).all()
        error.append(np.log10(p / deep))
        counted.append(np.log10(pvalues.from_maxima(isf(deep), null, 0.0) / deep))
    bias, rms, before = np.mean(error, axis=0), rms_of(error), rms_of(counted)
    # In decades, at 0.5, 0.1 and 0.01 / n_shufflings. Far out p err on the safe side.
    assert (np.abs(bias) < [0.3, 0.5, 1.2]).all()
    assert (bias > -0.35).all()
    assert (rms < [0.7, 1.0, 1.3]).all()
    assert (rms[1:] < [0.9 * before[1], 0.7 * before[2]]).all()


def rms_of(errors):
    return np.sqrt(np.mean(np.square(errors), axis=0))


def test_a_fresh_draw_gets_a_small_p_as_often_as_it_should():
    rng = np.random.default_rng(0)
    isf = stats.t(12).isf
    p = np.concatenate([tails.pareto_p(isf(rng.uniform(size=400)), null_of(isf, 400, rng))[0] for _ in range(400)])
    for alpha, most in ((0.05, 1.15), (0.01, 1.3), (0.001, 1.7)):
        assert 0.6 < np.mean(p <= alpha) / alpha < most


@given(
    seed=st.integers(0, 1000),
    n_shufflings=st.sampled_from([2, 50, 121, 300, 1000]),
    shape=st.sampled_from([-1.0, -0.5, -0.1, 0.0, 0.5, 1.5]),
    rounded=st.booleans(),
)
def test_never_0_and_monotone_and_counts_stay(seed, n_shufflings, shape, rounded):
    null = 50 * stats.genpareto.rvs(shape, size=n_shufflings, random_state=seed)
    null = np.round(null) if rounded else null
    tolerance = 0.5 if rounded else 0.0
    observed = np.sort(np.concatenate([null, [null.max() * 1.01, null.max() * 3, 1e9]]))
    for refine in (tails.pareto_p, tails.gamma_p):
        p, source, fit = refine(observed, null, tolerance, 1e-12)
        counted = pvalues.from_maxima(observed, null, tolerance)
        assert (p >= 1e-12).all()
        assert (np.diff(p) <= 1e-15).all()
        np.testing.assert_array_equal(p[source != REFINED], counted[source != REFINED])
        assert (source[counted > REFINE_BELOW] == COUNTED).all()
        assert fit.passed or (p == counted).all()


def test_past_the_end_of_a_tail_p_is_that_of_the_end():
    rng = np.random.default_rng(2)
    null = rng.uniform(size=2000) ** 0.5
    p, source, fit = tails.pareto_p(np.array([0.999, 1.05, 2.0, 1e6]), null)
    assert fit.passed
    assert fit.shape < -0.4
    assert (source == REFINED).all()
    assert p[1] == p[2] == p[3]
    assert 1e-7 < p[3] < p[0] < 5e-3
    bounded, _, _ = tails.pareto_p(np.array([2.0]), null, least=1 / 1024)
    assert bounded == 1 / 1024


def test_a_tail_in_steps_keeps_the_counted_p():
    rng = np.random.default_rng(6)
    steps = rng.binomial(12, 0.3, size=1000).astype(float)
    p, source, fit = tails.pareto_p(np.array([2.0, 9.0, 12.0]), steps, 0.5)
    assert not fit.passed
    assert source.tolist() == [COUNTED, REJECTED, REJECTED]
    np.testing.assert_array_equal(p, pvalues.from_maxima(np.array([2.0, 9.0, 12.0]), steps, 0.5))
    # Extents in the hundreds hardly tie: they are refined as if they had no steps.
    extents = np.round(300 * rng.weibull(0.8, size=1000))
    _, source, fit = tails.pareto_p(np.array([3000.0]), extents, 0.5)
    assert fit.passed
    assert source == REFINED


def test_a_broken_tail_is_not_refined():
    rng = np.random.default_rng(8)
    null = np.concatenate([rng.normal(size=900), 50 + rng.normal(size=60)])  # two hills
    _, source, fit = tails.pareto_p(np.array([60.0]), null)
    assert fit.n_exceedances < 61  # the second hill alone, if anything
    constant = np.ones(500)
    p, source, fit = tails.pareto_p(np.array([2.0]), constant)
    assert (p, source, fit.passed) == (1 / 500, REJECTED, False)
    _, source, fit = tails.gamma_p(np.array([2.0]), constant)
    assert (source, fit.passed) == (REJECTED, False)


def test_voxels_are_refined_as_one_null_each_is():
    rng = np.random.default_rng(1)
    n_shufflings, n_voxels = 700, 40
    null = stats.t(12).rvs((n_shufflings, n_voxels), random_state=rng)
    null[:, 7] = np.round(null[:, 7])
    null[0] = np.linspace(-3, 9, n_voxels)
    k = tails.tail_length(n_shufflings - 1)
    largest = np.sort(null[1:], axis=0)[::-1][:k].T
    counts = (null >= null[0]).sum(axis=0)
    p, source = tails.pareto_p_voxels(null[0], largest, counts, n_shufflings)
    alone = [tails.pareto_p(null[:1, v], null[:, v]) for v in range(n_voxels)]
    np.testing.assert_allclose(p, [one[0][0] for one in alone], rtol=1e-12)
    np.testing.assert_array_equal(source, [one[1][0] for one in alone])
    assert set(source.tolist()) == {COUNTED, REFINED} | ({REJECTED} & set(source.tolist()))
    assert (p > 0).all()
    halves = [np.sort(part, axis=0)[::-1][:k].T for part in (null[1:300], null[300:])]
    np.testing.assert_array_equal(tails.merge_largest(*halves), largest)
    single, _ = tails.pareto_p_voxels(null[0], largest.astype(np.float32), counts, n_shufflings)
    np.testing.assert_allclose(single, p, rtol=1e-3)
    with pytest.raises(InputError, match="tails"):
        tails.pareto_p_voxels(null[0], largest[:, 1:], counts, n_shufflings)


def test_tail_length_and_what_is_watched():
    lengths = [tails.tail_length(n) for n in (0, 119, 120, 200, 499, 1000, 10_000, 10**6)]
    assert lengths == [0, 0, 31, 51, 51, 101, 251, 251]
    assert tails.watched(np.array([0.3, 0.01, 0.2])).tolist() == [1, 2]
    p, source = tails.pareto_p_voxels(np.ones(2), np.empty((2, 0)), np.array([1, 50]), 60)
    assert p.tolist() == [1 / 60, 50 / 60]
    assert source.tolist() == [REJECTED, COUNTED]


@pytest.mark.parametrize("n_shufflings", [150, 500])
def test_gamma_refines_maxima(n_shufflings):
    isf, rng = DISTRIBUTIONS["maxima"], np.random.default_rng(3)
    error, passed = [], 0
    for _ in range(60):
        p, source, fit = tails.gamma_p(isf(DEEP), null_of(isf, n_shufflings, rng))
        passed += fit.passed
        if fit.passed:
            assert (source == REFINED).all()
            error.append(np.log10(p / DEEP))
    assert passed > 45
    assert (np.abs(np.median(error, axis=0)) < [0.3, 0.6, 0.9]).all()


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
def test_the_gamma_gate_turns_away_one_good_fit_in_twenty(skew):
    nulls = stats.pearson3.rvs(skew, size=(600, 150), random_state=1)
    fits = [tails.gamma_p(np.ones(1), null)[2] for null in nulls]
    tested = [fit.passed for fit in fits if fit.critical > 0]  # the sample's own skewness may lie outside the table
    assert len(tested) > 0.9 * len(fits)
    assert 0.02 < 1 - np.mean(tested) < 0.1


def test_gamma_of_moments():
    x = np.linspace(-3, 30, 50)
    for skew in (0.3, 1.0, 2.0):
        expected = stats.pearson3(skew, loc=1.0, scale=2.0).sf(x)
        np.testing.assert_allclose(tails.gamma_p_voxels(x, 1.0, 4.0, skew), expected, rtol=1e-6)
    np.testing.assert_allclose(tails.gamma_p_voxels(x, 1.0, 4.0, -0.7), stats.norm(1, 2).sf(x))
    near = tails.gamma_p_voxels(x, 1.0, 4.0, np.array([9.9e-4, 1.01e-3])[:, None])
    np.testing.assert_allclose(near[0, :20], near[1, :20], rtol=0.02)
    assert tails.gamma_p_voxels(np.array([1e9]), 0.0, 1.0, 0.5) == LEAST


def test_clopper_pearson():
    reached = np.array([1, 2, 20, 500, 1000])
    lower, upper = tails.clopper_pearson(reached, 1000, 0.9)
    for b, low, high in zip(reached - 1, lower, upper, strict=True):
        expected = stats.binomtest(int(b), 999).proportion_ci(0.9, "exact")
        np.testing.assert_allclose((low, high), expected, rtol=1e-9, atol=1e-12)
    p = pvalues.from_counts(reached, 1000)
    assert ((lower <= p) & (p <= upper)).all()
    with pytest.raises(InputError, match="level"):
        tails.clopper_pearson(reached, 1000, 95)


def golden_scores():
    """(1024, n_voxels) t of every flip of the golden case, as shufflings.csv orders them."""
    nib = pytest.importorskip("nibabel")
    mask = np.asarray(nib.load(GOLDEN / "mask.nii.gz").dataobj) > 0
    Y = np.asarray(nib.load(GOLDEN / "data.nii.gz").dataobj, float)[mask].T
    sign = np.sign(np.loadtxt(GOLDEN / "shufflings.csv", delimiter=","))
    mean = sign @ Y / len(Y)
    return mean / np.sqrt(((Y**2).mean(axis=0) - mean**2) / (len(Y) - 1))


def test_golden_voxels_from_200_of_1024_shufflings():
    t = golden_scores()
    palm = kept_arrays(GOLDEN / "palm.npz")
    np.testing.assert_allclose(t[0], palm["A_exact/vox_tstat_c1"], rtol=1e-4, atol=1e-5)
    exact = (t >= t[0] - 1e-9).mean(axis=0)
    some = t[np.concatenate([[0], 1 + np.random.default_rng(0).permutation(1023)[:200]])]
    k = tails.tail_length(200)
    largest = np.sort(some[1:], axis=0)[::-1][:k].T
    counts = (some >= some[0] - 1e-9).sum(axis=0)
    p, source = tails.pareto_p_voxels(some[0], largest, counts, 201, least=1 / 1024)
    counted = counts / 201
    assert p.min() >= 1 / 1024
    assert np.mean(source[counted <= REFINE_BELOW] == REFINED) > 0.8
    deep = exact < 1 / 201
    error, before = (np.abs(np.log10(one[deep] / exact[deep])) for one in (p, counted))
    assert deep.sum() > 20
    assert error.mean() < 0.8 * before.mean()
    rest = (source == REFINED) & ~deep
    error, before = (np.abs(one[rest] - exact[rest]) for one in (p, counted))
    assert error.mean() < before.mean()


@pytest.mark.parametrize("null", ["vox", "tfce"])
def test_golden_maxima_from_200_of_1024_shufflings(null):
    palm = kept_arrays(GOLDEN / "palm.npz")
    everything = palm[f"A_exact/{null}_tstat_max_c1"].ravel()
    # PALM keeps the maxima to float32: what lies between them is asked for.
    observed = np.quantile(everything, [0.95, 0.98, 0.99, 0.995, 0.998])
    exact = pvalues.from_maxima(observed, everything, 0.0)
    rng = np.random.default_rng(1)
    error, before = [], []
    for _ in range(30):
        some = np.concatenate([everything[:1], rng.permutation(everything[1:])[:200]])
        p, _, _ = tails.pareto_p(observed, some, least=1 / 1024)
        error.append(np.abs(p - exact))
        before.append(np.abs(pvalues.from_maxima(observed, some, 0.0) - exact))
    assert np.mean(error) < np.mean(before)
