import numpy as np
import pytest

from numbaglm.kernels.eigen import clip, directions_of, root


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


def test_what_is_not_there_has_no_root():
    for which in range(3):
        assert np.isnan(root(np.full((6, 1), np.nan), 0, 3, which, 0))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_directions_of_small_matrices_are_numpys(size):
    rng = np.random.default_rng(size)
    half = rng.normal(size=(5, size, size))
    matrices = half + half.transpose(0, 2, 1)
    A = np.ascontiguousarray(matrices.reshape(5, -1).T)
    Q = np.empty_like(A)
    for v in range(5):
        directions_of(A, Q, size, v)
        found, order = A[:: size + 1, v], np.argsort(A[:: size + 1, v])
        expected, vectors = np.linalg.eigh(matrices[v])
        np.testing.assert_allclose(found[order], expected, atol=1e-12)
        turned = Q[:, v].reshape(size, size)[:, order]
        np.testing.assert_allclose(np.abs((turned * vectors).sum(axis=0)), 1, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_negative_roots_become_0(size):
    rng = np.random.default_rng(size)
    half = rng.normal(size=(30, size, size))
    matrices = half + half.transpose(0, 2, 1) + size * np.eye(size)
    matrices[0] = 0.0
    i, j = np.tril_indices(size)
    sizes, turned = np.linalg.eigh(matrices)
    assert (sizes[1:].min(axis=1) > 0).any()
    expected = np.einsum("vik,vk,vjk->vij", turned, np.maximum(sizes, 0), turned)[:, i, j].T
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-4)):
        V = np.ascontiguousarray(matrices[:, i, j].T, dtype)
        clip(V, size, np.zeros((2 * size**2, 30), dtype))
        np.testing.assert_allclose(V, expected, atol=tolerance)
