from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from numbaglm.inference.parametric import parametric_maps
from numbaglm.stats.model.design import Contrast, Design
from reference.glm import statistic

N = 12
DATA = np.random.default_rng(0).normal(0.5, 1, (N, 30)).astype(np.float32)
TABLE = pd.DataFrame({"x": np.random.default_rng(1).normal(size=N), "intercept": 1.0})


@pytest.mark.parametrize("contrast", ["intercept", ["x", "intercept"]])
def test_maps_are_those_of_ordinary_least_squares(as_cohort, contrast):
    design = Design.parse(TABLE, N)
    parsed = Contrast.parse(contrast, design)
    maps = parametric_maps(as_cohort(DATA), design, parsed)
    name = "t" if parsed.is_t else "f"
    X, Y = TABLE.to_numpy(), DATA.astype(float)
    beta = np.linalg.lstsq(X, Y, rcond=None)[0]
    np.testing.assert_allclose(maps[name], statistic(Y, X, np.atleast_2d(parsed.matrix)), rtol=1e-6)
    p = stats.t.sf(maps["t"], N - 2) if parsed.is_t else stats.f.sf(maps["f"], 2, N - 2)
    np.testing.assert_allclose(maps["p_parametric"], p, rtol=1e-9)
    np.testing.assert_allclose(stats.norm.sf(maps["z"]), p, rtol=1e-7)
    np.testing.assert_allclose(maps["p_bonferroni"], np.minimum(30 * p, 1), rtol=1e-9)
    np.testing.assert_allclose(maps["logp_bonferroni"], -np.log10(maps["p_bonferroni"]), atol=1e-12)
    if parsed.is_t:
        np.testing.assert_allclose(maps["effect"], beta[1], atol=1e-6)
        np.testing.assert_allclose(maps["effect"] / np.sqrt(maps["variance"]), maps["t"], rtol=1e-6)
    else:
        assert maps["effect"].shape == (2, 30)


def test_p_too_small_for_an_image_are_not_0(as_cohort):
    data = 1000 + 1e-3 * DATA[:, :3]
    design = Design.parse(np.ones((400, 1)), 400)
    maps = parametric_maps(as_cohort(np.tile(data, (34, 1))[:400]), design, Contrast.parse([1.0], design))
    assert (maps["p_parametric"].astype(np.float32) > 0).all()
    assert np.isfinite(maps["logp_parametric"]).all()
