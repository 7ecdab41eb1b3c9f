from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels import incomplete

RNG = np.random.default_rng(0)
ROWS, PRESENT = RNG.normal(size=(3, 12)), RNG.random((4, 12)) < 0.8


def test_grams_are_over_those_who_are_there():
    found = np.empty((4, 3, 3))
    incomplete.grams(ROWS, PRESENT, found)
    for gram, there in zip(found, PRESENT, strict=True):
        np.testing.assert_allclose(gram, ROWS[:, there] @ ROWS[:, there].T, rtol=1e-12)


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_residuals_are_those_of_a_fit_to_those_who_are_there(far):
    of, data = np.array([0, 3, 1, 1, 2], np.int32), RNG.normal(size=(5, 12)) + far
    rows = np.vstack([ROWS, np.ones(12)])
    grams, found = np.empty((4, 4, 4)), np.empty(data.shape)
    incomplete.grams(rows, PRESENT, grams)
    incomplete.residuals(data, of, PRESENT, rows, np.linalg.inv(grams), found)
    for E, y, there in zip(found, data, PRESENT[of], strict=True):
        assert (E[~there] == 0).all()
        Z = rows[:, there].T
        np.testing.assert_allclose(E[there], y[there] - Z @ np.linalg.lstsq(Z, y[there], rcond=None)[0], atol=1e-10)


def test_products_are_those_of_each_element():
    data, found = RNG.normal(size=(5, 12)), np.empty((5, 3))
    incomplete.products(data, ROWS, found)
    np.testing.assert_allclose(found, data @ ROWS.T, rtol=1e-12)
