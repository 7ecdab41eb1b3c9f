import numpy as np
import pytest

from numbaglm.kernels.eigen import root


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_roots_of_small_matrices_are_numpys(size):
    rng = np.random.default_rng(size)
    half = rng.normal(size=(8, size, size + 1))
    matrices = half @ half.transpose(0, 2, 1) / size
    rows, columns = np.tril_indices(size)
    expected = np.linalg.eigvalsh(matrices)[:, ::-1]
    for which in range(size):
        table = np.ascontiguousarray(np.vstack([np.zeros((2, 8)), matrices[:, rows, columns].T]))
        found = [root(table, 2, size, which, v) for v in range(8)]
        np.testing.assert_allclose(found, expected[:, which], rtol=1e-12, atol=1e-14)


def test_equal_roots_are_counted_one_by_one():
    table = np.array([[2.0], [0.0], [2.0]])
    assert [root(table.copy(), 0, 2, which, 0) for which in range(2)] == [2.0, 2.0]
