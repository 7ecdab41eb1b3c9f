from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from numbaglm.engine import fit
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.model.design import Contrast, Design
from reference.glm import statistic


def design():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=9), "volume": 1e9 * rng.normal(3, 1, size=9), "intercept": 1.0})


@pytest.mark.parametrize("contrast", ["x", "x - intercept", "volume", ["x", "intercept"]])
@pytest.mark.parametrize("n_workers", [1, 3])
def test_t_and_f_of_a_cohort(monkeypatch, as_cohort, contrast, n_workers):
    monkeypatch.setattr(fit, "_BLOCK_BYTES", 1)  # blocks of one tile
    Y = np.random.default_rng(1).normal(2, 1, size=(9, TILE + 5)).astype(np.float32)
    parsed = Design.parse(design(), 9)
    tested = Contrast.parse(contrast, parsed)
    found = fit.fit_contrast(as_cohort(Y).store, parsed, tested, tested.is_t, n_workers=n_workers)
    scaled = design().assign(volume=lambda t: t["volume"] / 1e9).to_numpy()
    np.testing.assert_allclose(found.statistic, statistic(Y, scaled, tested.matrix), rtol=1e-8, atol=1e-10)
    if tested.is_t:
        beta = tested.matrix @ np.linalg.lstsq(parsed.matrix, Y.astype(float), rcond=None)[0]
        np.testing.assert_allclose(found.effect, beta, rtol=1e-6, atol=1e-6 * np.abs(beta).max())
        np.testing.assert_allclose(found.effect[0] / np.sqrt(found.variance), found.statistic, rtol=1e-10)
    else:
        # Whitened effects: their sum of squares is the numerator of F.
        F = (found.effect**2).sum(axis=0) / 2 / found.variance
        np.testing.assert_allclose(F, found.statistic, rtol=1e-10)


def test_f_of_one_row_is_t_squared(as_cohort):
    store = as_cohort(np.random.default_rng(1).normal(size=(9, 20))).store
    parsed = Design.parse(design(), 9)
    t, f = (fit.fit_contrast(store, parsed, Contrast.parse("x", parsed), is_t) for is_t in (True, False))
    np.testing.assert_allclose(t.statistic**2, f.statistic, rtol=1e-9)


def test_voxels_without_residuals_have_statistic_0(as_cohort):
    parsed = Design.parse(None, 6)
    Y = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    Y[:, 1] = 0
    found = fit.fit_contrast(as_cohort(Y).store, parsed, Contrast.parse(None, parsed), True)
    assert found.statistic[1] == 0
    assert np.isfinite(found.statistic).all()
