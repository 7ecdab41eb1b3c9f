from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels import glm
from reference.glm import residuals


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
