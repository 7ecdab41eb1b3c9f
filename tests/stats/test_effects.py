from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from numbaglm.errors import InputError
from numbaglm.stats import effects
from reference.kept_arrays import kept_arrays

GOLDEN = Path(__file__).parents[1] / "golden"
PALM = "A_extent_tfce/vox_"


def fit(Y, M, c):
    """Contrast, residual SD, c' (M' M)^+ c, dof, and |R_Z y| and the share of the effect."""
    beta = np.linalg.pinv(M) @ Y
    dof = len(M) - np.linalg.matrix_rank(M)
    rss = ((Y - M @ beta) ** 2).sum(axis=0)
    unit = c @ np.linalg.pinv(M.T @ M) @ c
    effect = c @ beta
    length = np.sqrt(rss + effect**2 / unit)
    return effect, np.sqrt(rss / dof), unit, dof, length, 1 - rss / length**2


@pytest.mark.parametrize(
    "name",
    [
        "c1_onesample_n8",
        "c2_twosample_4v4",
        "c3_corr_n6",
        "c4a_paired_within",
        "c6_freedmanlane_n7",
        "c6b_twosample_nuisance_4v4",
        "c7_welch_vg_5v4",
    ],
)
def test_palm(name):
    folder = GOLDEN / name
    palm = kept_arrays(folder / "palm.npz")
    mask = np.asarray(nib.load(folder / "mask.nii.gz").dataobj) > 0
    Y = np.asarray(nib.load(folder / "data.nii.gz").dataobj, float)[mask].T
    M = np.loadtxt(folder / "design.csv", delimiter=",", ndmin=2)
    c = np.loadtxt(folder / "contrasts.csv", delimiter=",", ndmin=2)[0]
    effect, sigma, unit, dof, length, share = fit(Y, M, c)
    np.testing.assert_allclose(effects.residual_sd(length, share, dof), sigma, rtol=1e-9)
    np.testing.assert_allclose(effect, palm[PALM + "cope_c1"], atol=1e-5)
    if "welch" not in name:  # there PALM's variance is that of v
        np.testing.assert_allclose(effects.standard_error(sigma, unit) ** 2, palm[PALM + "varcope_c1"], rtol=1e-4)
    Q = np.linalg.pinv(M.T @ M)
    ridgway = np.ptp(M @ Q @ c) / (c @ Q @ c) or 1.0
    ours = effects.swing(M, c)
    if not ("nuisance" in name or "freedman" in name):  # PALM's is another with nuisance
        np.testing.assert_allclose(ours, ridgway)
    d = effects.cohens_d(effect, sigma, ridgway)
    np.testing.assert_allclose(d, palm[PALM + "cohen_c1"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(d * palm[PALM + "cfvar_c1"], 1, rtol=2e-4)  # PALM's coefficient of variation


def test_d_is_the_textbook_one_however_the_design_is_coded():
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 2, (6, 5)), rng.normal(0, 2, (9, 5))
    Y, group = np.vstack([a, b]), np.repeat([1.0, 0.0], [6, 9])
    pooled = np.sqrt((5 * a.var(axis=0, ddof=1) + 8 * b.var(axis=0, ddof=1)) / 13)
    expected = (a.mean(axis=0) - b.mean(axis=0)) / pooled
    one = np.ones(15)
    age = rng.normal(size=15)
    for columns, c in (
        ([group, 1 - group], [1, -1]),
        ([group, one], [1, 0]),
        ([2 * group - 1, one], [1, 0]),
    ):
        M, c = np.stack(columns, 1), np.array(c, float)
        effect, sigma, *_ = fit(Y, M, c)
        np.testing.assert_allclose(effects.cohens_d(effect, sigma, effects.swing(M, c)), expected)
    adjusted = [
        effects.swing(np.stack([*columns, age], 1), np.array([*c, 0.0]))
        for columns, c in (([group, 1 - group], [1, -1]), ([3 * group, one], [1, 0]))
    ]
    np.testing.assert_allclose(adjusted, [1, 3])
    ones = np.full((6, 1), 2.0)
    effect, sigma, *_ = fit(a, ones, np.ones(1))
    d = effects.cohens_d(effect, sigma, effects.swing(ones, np.ones(1)))
    np.testing.assert_allclose(d, a.mean(axis=0) / a.std(axis=0, ddof=1))


def test_intervals_cover_and_agree_with_scipy():
    rng = np.random.default_rng(2)
    Y = rng.normal(0.3, 1, (12, 4000))
    sigma = Y.std(axis=0, ddof=1)
    maps = effects.effect_maps(Y.mean(axis=0), sigma, 11, 1 / 12, level=0.9)
    inside = (maps["effect_lower"] <= 0.3) & (maps["effect_upper"] >= 0.3)
    assert abs(inside.mean() - 0.9) < 0.02
    interval = stats.ttest_1samp(Y[:, 0], 0).confidence_interval(0.9)
    np.testing.assert_allclose((maps["effect_lower"][0], maps["effect_upper"][0]), interval)
    np.testing.assert_allclose(maps["cohens_d"], Y.mean(axis=0) / sigma)
    # g is unbiased where d is not
    assert abs(maps["hedges_g"].mean() - 0.3) < 0.015 < maps["cohens_d"].mean() - 0.3
    assert "hedges_g" not in effects.effect_maps(np.zeros(1), np.ones(1), 1, 1.0)


def test_partial_r2_of_t_is_a_squared_correlation_and_that_of_f_a_share():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 10))
    found = stats.linregress(x, y)
    np.testing.assert_allclose(effects.partial_r2(np.array([found.slope / found.stderr]), 8), found.rvalue**2)
    groups = rng.normal(size=(3, 5))
    F = stats.f_oneway(*groups).statistic
    between = 5 * groups.mean(axis=1).var() * 3
    total = groups.var() * 15
    np.testing.assert_allclose(effects.partial_r2(np.array([F]), 12, 2), between / total)


def test_nothing_left_and_wrong_arguments():
    maps = effects.effect_maps(np.array([1.0, 0.0]), np.array([0.0, 0.0]), 5, 0.5)
    assert all(np.isfinite(m).all() for m in maps.values())
    with pytest.raises(InputError, match="level"):
        effects.confidence_interval(np.ones(1), np.ones(1), 5, 1.0)
    with pytest.raises(InputError, match="dof"):
        effects.hedges_g(np.ones(1), 1)


def test_effects_of_several_degrees_of_freedom_are_those_of_each():
    rng = np.random.default_rng(0)
    effect, sigma, dofs, of = rng.normal(size=9), rng.uniform(1, 2, 9), np.array([12.0, 5.0, 3.0]), np.arange(9) % 3
    together = effects.effect_maps(effect, sigma, dofs, 0.2, 1.5, of=of)
    for number, dof in enumerate(dofs):
        which = of == number
        for name, values in effects.effect_maps(effect[which], sigma[which], dof, 0.2, 1.5).items():
            np.testing.assert_allclose(together[name][which], values, rtol=1e-14, err_msg=name)
