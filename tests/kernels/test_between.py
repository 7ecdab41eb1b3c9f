from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels import between as kernels
from reference.between import likelihood, variance

METHODS = {"dl": kernels.DL, "he": kernels.HE, "ml": kernels.ML, "reml": kernels.REML}


def elements(seed, n, n_voxels, between):
    rng = np.random.default_rng(seed)
    v = rng.chisquare(3, size=(n, n_voxels)) * 10.0 ** rng.uniform(-2, 2, n_voxels) + 1e-3
    y = rng.normal(size=(n, n_voxels)) * np.sqrt(v + between * v.mean(axis=0)) + rng.normal(size=n_voxels)
    return y, v


def found(y, v, X, method):
    out = np.full(y.shape[1], np.nan)
    kernels.between_variances(y, v, np.ascontiguousarray(X.T), METHODS[method], out)
    return out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("r", [0, 1, 3])
def test_variances_are_those_of_the_definition(method, r):
    n = 9
    X = np.column_stack([np.ones(n), np.random.default_rng(0).normal(size=(n, 2))])[:, :r]
    for seed, between in enumerate((0.0, 0.5, 20.0)):
        y, v = elements(seed, n, 12, between)
        tau2 = found(y, v, X, method)
        expected = np.array([variance(y[:, i], v[:, i], X, method) for i in range(12)])
        if method in ("dl", "he"):
            np.testing.assert_allclose(tau2, expected, rtol=1e-9, atol=1e-12)
            continue
        # The likelihood is flat at its top, so that the definition finds its place to half the digits.
        np.testing.assert_allclose(tau2, expected, rtol=1e-6, atol=1e-7 * v.mean())
        for i in range(12):
            here, there = (likelihood(y[:, i], v[:, i], X, t, method == "reml") for t in (tau2[i], expected[i]))
            assert here >= there - 1e-12 * abs(there)


def test_at_the_top_the_likelihood_has_no_slope():
    y, v = elements(7, 12, 20, 3.0)
    X = np.ones((12, 1))
    tau2 = found(y, v, X, "reml")
    assert (tau2 > 0).sum() > 15
    for i in np.flatnonzero(tau2):
        step = 1e-4 * tau2[i]
        up, down = (likelihood(y[:, i], v[:, i], X, tau2[i] + s * step, True) for s in (1, -1))
        assert abs(up - down) < 1e-9


@pytest.mark.parametrize("factor", [1e-14, 1e14])
def test_units_and_neighbours_change_nothing(factor):
    y, v = elements(3, 8, 10, 1.0)
    X = np.ones((8, 1))
    for method in METHODS:
        tau2 = found(y, v, X, method)
        np.testing.assert_allclose(found(y * np.sqrt(factor), v * factor, X, method), tau2 * factor, rtol=1e-9)
        np.testing.assert_array_equal(found(y[:, 4:5].copy(), v[:, 4:5].copy(), X, method), tau2[4:5])
