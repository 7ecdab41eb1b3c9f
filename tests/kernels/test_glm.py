from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels import glm
from numbaglm.stats.scales import Correlation, Pseudo, Share, Standard
from reference.glm import residuals, whiten


@pytest.mark.parametrize("n_columns", [0, 1, 3])
def test_residuals(n_columns):
    rng = np.random.default_rng(n_columns)
    Y = (rng.normal(size=(7, 5)) + 100).astype(np.float32)
    columns = rng.normal(size=(7, n_columns))
    basis = np.ascontiguousarray(np.linalg.qr(columns)[0].T)
    out = np.empty(Y.shape)
    glm.residuals(Y, basis, out)
    expected = residuals(Y, columns) if n_columns else Y
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-11)
    assert np.abs(basis @ out).max(initial=0) < 1e-11


def test_residuals_of_what_the_basis_explains_are_zero():
    basis = np.full((1, 4), 0.5)
    out = np.empty((4, 2))
    glm.residuals(np.full((4, 2), [3.0, -1e30], np.float32), basis, out)
    np.testing.assert_allclose(out[:, 0], 0, atol=1e-15)
    np.testing.assert_allclose(out[:, 1], 0, atol=1e15)


@pytest.mark.parametrize(("n_variables", "n_voxels", "n_rows"), [(1, 3, 1), (2, 64, 2), (3, 150, 1), (4, 65, 3)])
def test_variables_are_made_orthonormal_voxel_by_voxel(n_variables, n_voxels, n_rows):
    rng = np.random.default_rng(n_voxels)
    E = rng.normal(size=(n_variables, 9, n_voxels))
    E[-1, :, 0] = E[:-1, :, 0].sum(axis=0)  # nothing of its own, or nothing at all
    E[-1, :, 1] = E[0, :, 1] + 1e-3 * E[-1, :, 1]
    E[0, :, 2] = 0.0
    E /= np.maximum(np.linalg.norm(E, axis=1, keepdims=True), 1e-300)
    rows = np.linalg.qr(rng.normal(size=(9, n_rows)))[0].T.copy()
    W, B, ok = np.empty_like(E), np.empty((n_voxels, n_rows, n_variables)), np.empty(n_voxels)
    R = np.empty((n_voxels, n_variables, n_variables))
    glm.whiten(E, 1e-10, rows, W, R, B, ok)
    expected = whiten(E, 1e-10, rows)
    for found, its in zip((W, R, B, ok), expected, strict=True):
        np.testing.assert_allclose(found, its, rtol=0, atol=1e-9)
    assert ok.sum() == n_voxels - 2
    for v in (0, n_voxels - 1):  # whatever stands beside it
        one, two, three = np.empty((n_variables, 9, 1)), np.empty((1, n_rows, n_variables)), np.empty(1)
        four = np.empty((1, n_variables, n_variables))
        glm.whiten(np.ascontiguousarray(E[:, :, v : v + 1]), 1e-10, rows, one, four, two, three)
        np.testing.assert_array_equal(one[:, :, 0], W[:, :, v])
        np.testing.assert_array_equal(two[0], B[v])
        np.testing.assert_array_equal(four[0], R[v])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_residuals_are_brought_to_unit_length_where_something_is_left(dtype):
    rng = np.random.default_rng(0)
    Y, E = rng.normal(5, 1, size=(6, 70)).astype(dtype), rng.normal(size=(6, 70))
    E[:, 0] *= 1e-9
    before, length = E.copy(), np.empty(70)
    glm.to_unit_length(Y, 1e-7, E, length)
    expected = np.linalg.norm(before, axis=0)
    np.testing.assert_allclose(length[1:], expected[1:], rtol=1e-14)
    np.testing.assert_allclose(E[:, 1:], (before / expected)[:, 1:], rtol=1e-14)
    assert length[0] == 0.0
    assert not E[:, 0].any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_rows(dtype):
    rng = np.random.default_rng(0)
    Y, rows, out = rng.normal(size=(6, 70)).astype(dtype), rng.normal(size=(2, 6)), np.empty((2, 70))
    glm.products_of_rows(rows, Y, out)
    np.testing.assert_allclose(out, rows @ Y.astype(float), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("out_dtype", [np.float32, np.float64])
def test_statistics_of_scores_are_those_of_the_scales_to_the_last_bit(dtype, out_dtype):
    rng = np.random.default_rng(0)
    rho = np.concatenate([rng.uniform(-1, 1, 1000), [1.0, 0.0]]).astype(dtype)
    for scale, score in ((Correlation(29), rho), (Share(27, 3), np.abs(rho)), (Standard(), rho), (Pseudo(5), rho)):
        out = np.empty(1002, out_dtype)
        scale.fill_statistic(score, out)
        np.testing.assert_array_equal(out, scale.to_statistic(score).astype(out_dtype))
        assert np.isfinite(out).all()
