"""Statistics of estimates with a covariance of their own."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels import sandwich


@pytest.mark.parametrize("s", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_wald_form_is_that_of_numpy(s, dtype):
    rng = np.random.default_rng(s)
    half = rng.normal(size=(12, s, s + 2))
    S, d, dof = half @ half.transpose(0, 2, 1), rng.normal(size=(12, s)), 9.5
    i, j = np.tril_indices(s)
    products = np.array(d.T, dtype, order="C")
    fixed = np.ascontiguousarray(S[:4, i, j].T, dtype)  # of a panel of four
    sandwich.wald(products, np.array(S[:, i, j].T, dtype, order="C"), fixed, s, dof)
    whole = np.einsum("vi,vij,vj->v", d, np.linalg.inv(dof * S + d[:, :, None] * d[:, None]), d)
    expected = d[:, 0] / np.sqrt(dof * S[:, 0, 0] + d[:, 0] ** 2) if s == 1 else whole
    np.testing.assert_allclose(products[0], expected, rtol=1e-9 if dtype is np.float64 else 1e-3)


def test_no_variance_is_less_than_rounding():
    products, S, fixed = np.array([[1.0, 1.0]]), np.array([[-1e-20, 0.0]]), np.array([[1.0, 0.0]])
    sandwich.wald(products, S, fixed, 1, 4.0)
    np.testing.assert_allclose(products[0], [1.0, 1.0], rtol=1e-9)


def test_sums_over_clusters_are_those_of_numpy():
    rng, number = np.random.default_rng(0), np.array([0, 2, 1, 1, 2])
    basis, adjusted, of = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 2, 5)), np.array([1, 0, 1], np.int32)
    loadings, E = np.empty((2, 2, 3, 3)), rng.normal(size=(3, 5))
    member = (number == np.arange(3)[:, None]).astype(float)
    sandwich.products_of_clusters(adjusted, basis, number, loadings)
    np.testing.assert_allclose(loadings, np.einsum("qir,qmr,kr->qikm", adjusted, basis, member))
    out, own = np.empty((3 + 2 * 2 * 3, 3, 3)), np.empty((2, 3, 3))
    sandwich.layers_of_patterns(E, of, basis, adjusted, loadings, number, out, own)
    np.testing.assert_allclose(out[:3], np.einsum("vmr,vr,kr->mkv", basis[of], E, member))
    np.testing.assert_allclose(own, np.einsum("vir,vr,kr->ikv", adjusted[of], E, member))
    np.testing.assert_allclose(out[3:].reshape(2, 2, 3, 3, 3), np.einsum("ikv,vjkm->ijmkv", own, loadings[of]))
