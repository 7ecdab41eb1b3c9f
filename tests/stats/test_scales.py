from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from numbaglm.stats.scales import TIE_TOLERANCE, Correlation, Known, Pseudo, Share, Standard, largest_z

DOF, K = 11, 3
KNOWN = [Known(DOF), Known(np.inf), Known(DOF, K), Known(np.inf, K)]
SCALES = [Correlation(DOF), Share(DOF, K), Standard(), Pseudo(DOF), *KNOWN]
IDS = ["correlation", "share", "standard", "pseudo", "known t", "known z", "known F", "known chi-squared"]
SCORES = {"correlation": [-0.9, 0.0, 0.3, 0.999], "share": [0.0, 0.1, 0.5, 0.9]}
every_scale = pytest.mark.parametrize("scale", SCALES, ids=IDS)


def has_one_side(scale):
    return scale.name == "f"


def scores_of(scale):
    if has_one_side(scale) and isinstance(scale, Known):
        return np.array([0.0, 0.3, 2.0, 30.0])
    return np.array(SCORES.get({Correlation: "correlation", Share: "share"}.get(type(scale)), [-7.0, 0.0, 0.3, 30.0]))


def p_of(scale, statistic):
    """Upper tail by SciPy's own distributions."""
    if has_one_side(scale):
        return stats.f.sf(statistic, K, DOF) if scale.dof == DOF else stats.chi2.sf(K * statistic, K)
    if isinstance(scale, Standard) or scale.dof == np.inf:
        return stats.norm.sf(statistic)
    return stats.t.sf(statistic, DOF)


def test_statistics_of_correlations_and_shares():
    r = 0.6
    assert Correlation(DOF).to_statistic(np.array([r]))[0] == pytest.approx(r * np.sqrt(DOF / (1 - r**2)))
    assert Share(DOF, K).to_statistic(np.array([0.25]))[0] == pytest.approx(0.25 / 0.75 * DOF / K)
    for scale in (Correlation(DOF), Share(DOF, K)):
        assert np.isfinite(scale.to_statistic(np.ones(1))).all(), "the model fits exactly"


@every_scale
def test_filling_is_the_same(scale):
    score = scores_of(scale)
    out = np.empty(score.size)
    scale.fill_statistic(score, out)
    np.testing.assert_allclose(out, scale.to_statistic(score), rtol=1e-14)


@every_scale
def test_z_have_the_p_of_the_statistic(scale):
    score = scores_of(scale)[1:]
    np.testing.assert_allclose(
        stats.norm.logsf(scale.to_z(score)), np.log(p_of(scale, scale.to_statistic(score))), rtol=1e-9
    )


@every_scale
@pytest.mark.parametrize("two_sided", [False, True])
def test_thresholds_lead_back_to_what_was_given(scale, two_sided):
    two_sided = two_sided and not has_one_side(scale)
    tails = 1 + two_sided
    score = np.array([scale.to_score("p", 0.01, two_sided)])
    assert tails * p_of(scale, scale.to_statistic(score))[0] == pytest.approx(0.01)
    assert scale.to_z(np.array([scale.to_score("z", 2.5, two_sided)]))[0] == pytest.approx(2.5)
    own = scale.to_score(scale.name, 3.0, two_sided)
    assert scale.to_statistic(np.array([own]))[0] == pytest.approx(3.0)


@every_scale
@pytest.mark.parametrize("precision", TIE_TOLERANCE)
def test_ties_lie_a_little_below(scale, precision):
    height = np.array([0.0, 1e-9, 0.5, 0.9])
    least = scale.least_equal(height, precision)
    assert (least <= height).all()
    assert (least[2:] < height[2:]).all()
    on_root = np.sqrt(height) - np.sqrt(least) if has_one_side(scale) else height - least
    np.testing.assert_allclose(on_root[2:], TIE_TOLERANCE[precision], rtol=1e-4)


def test_rounding_matters_where_the_model_nearly_fits():
    for scale, far, near in ((Correlation(DOF), 0.1, 0.99999), (Share(DOF, K), 0.01, 0.99998)):
        errors = scale.relative_error(np.array([far, near, 1.0]), "float32")
        assert errors[0] < 2e-6 < errors[1] <= errors[2] <= 0.01
        assert (scale.relative_error(np.array([far, near]), "float64") < errors[:2]).all()
    for scale in (Standard(), Pseudo(DOF), *KNOWN):
        assert not scale.relative_error(np.ones(2), "float32").any()


@pytest.mark.parametrize("dof", [2, 3, 9, 40, 1000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_z_of_many_correlations_is_z(dof, dtype):
    rho = np.concatenate([np.linspace(-0.9999, 0.9999, 5001), np.tanh(np.linspace(-12, 12, 999)), [0.0, 1.0, -1.0]])
    rho = rho.astype(dtype)
    scale = Correlation(dof)
    expected = scale.to_z(rho.astype(np.float64))
    near = (np.abs(rho) < 0.9999) & (np.abs(expected) < 30)  # beyond, the tail itself is an approximation
    np.testing.assert_allclose(scale.quick_z(rho)[near], expected[near], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(scale.quick_z(rho), expected, rtol=1e-6, atol=1e-13)
    maps = rho[:5000].reshape(2, 2500)
    np.testing.assert_array_equal(scale.quick_z(maps).ravel(), scale.quick_z(maps.ravel()))


@pytest.mark.parametrize("n", [1, 3, 20])
def test_largest_z_of_several_scales_is_that_of_each(n):
    scales = tuple(Correlation(dof) for dof in range(30, 30 - n, -1))
    scores = np.random.default_rng(n).uniform(-1, 1, (n, 40)).astype(np.float32)
    expected = np.max([scale.quick_z(row) for scale, row in zip(scales, scores, strict=True)], axis=0)
    np.testing.assert_array_equal(largest_z(scales, scores), expected)
    shares = tuple(Share(scale.dof, 2) for scale in scales)
    expected = np.max([scale.quick_z(row) for scale, row in zip(shares, scores, strict=True)], axis=0)
    np.testing.assert_array_equal(largest_z(shares, scores), expected)
