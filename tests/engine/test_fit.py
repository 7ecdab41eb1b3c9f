from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
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


@pytest.mark.parametrize("weighted", [False, True])
def test_coefficients_of_a_whole_model(monkeypatch, weighted):
    """Against least squares of each voxel, with regressors and weights that each has for itself."""
    monkeypatch.setattr(fit, "_BLOCK_BYTES", 1)
    rng = np.random.default_rng(2)
    shape = (9, 13 * 79)  # a tile and three
    maps = {name: rng.normal(2, 1, shape).astype(np.float32) for name in ("y", "own")}
    maps["v"] = rng.uniform(0.5, 2, shape).astype(np.float32)
    images = {name: [nib.Nifti1Image(row.reshape(1, 13, 79), np.eye(4)) for row in rows] for name, rows in maps.items()}
    layers = {"own": images["own"], "v": images["v"]}
    store = Cohort.from_maps(images["y"], layers=layers, zero_is_missing=False).store
    own = None if weighted else {"gm": "own", "x:gm": "x:own"}
    parsed = Design.parse(design(), 9, own)
    found = fit.fit_model(store, parsed, "v" if weighted else None)
    for k in (0, 7, TILE, TILE + 2):
        X = design().to_numpy()
        if not weighted:
            X = np.column_stack([X, maps["own"][:, k], X[:, 0] * maps["own"][:, k]])
        w = 1 / np.sqrt(maps["v"][:, k].astype(float)) if weighted else np.ones(9)
        w *= 9 / w.sum()
        size = np.linalg.norm(X, axis=0)
        beta = np.linalg.lstsq(X * w[:, None] / size, maps["y"][:, k] * w, rcond=None)[0] / size
        np.testing.assert_allclose(found.beta[:, k] * size, beta * size, rtol=1e-6)
        rss = ((maps["y"][:, k] * w - X * w[:, None] @ beta) ** 2).sum()
        assert found.variance[k] == pytest.approx(rss / parsed.dof, rel=1e-6)
