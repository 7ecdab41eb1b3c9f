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


@pytest.mark.parametrize("far", [0.0, 1e4])
def test_elements_side_by_side_are_fitted_as_each_by_itself(far):
    n_voxels, rows = 300, np.vstack([ROWS, np.ones(12)])
    of = RNG.integers(0, 4, n_voxels).astype(np.int32)
    data = (RNG.normal(size=(12, n_voxels)) + far).astype(np.float32) * PRESENT[of].T
    data[:, 7] = PRESENT[of[7]]  # what the nuisance explains
    grams = np.empty((4, 2, 2))
    incomplete.grams(rows[2:], PRESENT, grams)
    untested, E, found = np.arange(4) == 2, np.empty(data.shape), np.empty((7, n_voxels))
    incomplete.fit(data, PRESENT[of].T.copy(), of, untested, np.linalg.inv(grams), rows, 1e-7, E, found)
    for v, there in enumerate(PRESENT[of]):
        Z, y = rows[2:, there].T, data[there, v].astype(float)
        left = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
        length = 0.0 if of[v] == 2 or v == 7 else np.linalg.norm(left)
        unit = left / length if length else np.zeros(left.shape)
        np.testing.assert_allclose(E[there, v], unit, atol=1e-9)
        assert (E[~there, v] == 0).all()
        np.testing.assert_allclose(found[:4, v], rows[:, there] @ y, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found[4:6, v], rows[:2, there] @ unit, atol=1e-9)
        assert found[6, v] == pytest.approx(length, abs=1e-9 * max(1.0, far))
    again, alone = np.empty((12, 1)), np.empty((7, 1))
    one = data[:, 130:131].copy(), PRESENT[of[130:131]].T.copy(), of[130:131]
    incomplete.fit(*one, untested, np.linalg.inv(grams), rows, 1e-7, again, alone)
    np.testing.assert_array_equal(alone[:, 0], found[:, 130])
    np.testing.assert_array_equal(again[:, 0], E[:, 130])


def test_two_rows_are_told_apart_as_by_the_inverse_of_their_triangle():
    x, z = RNG.normal(size=(2, 12))
    i, q, w = incomplete.of_two(z @ z, x @ z, x @ x, z @ z, x @ x)
    rest = x - z * (x @ z) / (z @ z)
    np.testing.assert_allclose([i, q, w], [1 / (z @ z), (x @ z) / (z @ z), 1 / (rest @ rest)], rtol=1e-12)
    assert incomplete.of_two(z @ z, 2 * (z @ z), 4 * (z @ z), z @ z, 4 * (z @ z)) == (0, 0, 0)
    assert incomplete.of_two(0.0, 0.0, 1.0, 1.0, 1.0) == (0, 0, 0)
