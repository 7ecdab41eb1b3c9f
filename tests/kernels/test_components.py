import numpy as np
import pytest

from numbaglm.kernels import components as kernels
from reference.components import quadratic_forms

RNG = np.random.default_rng(0)
SIZES = np.array([2, 3, 2, 1, 3])
STARTS = np.concatenate([[0], np.cumsum(SIZES)])
KIND, BEGINS = np.array([0, 1, 0, 2, 1]), np.array([0, 4, 13])
CLUSTERS = [np.arange(*STARTS[k : k + 2]) for k in range(5)]


def matrices():
    """Two symmetric matrices by blocks (2, n, n), and their entries."""
    blocks = [[one + one.T for one in RNG.normal(size=(2, size, size))] for size in (2, 3, 1)]
    whole = np.zeros((2, 11, 11))
    for rows, kind in zip(CLUSTERS, KIND, strict=True):
        whole[np.ix_([0, 1], rows, rows)] = blocks[kind]
    return whole, np.hstack([np.reshape(one, (2, -1)) for one in blocks])


@pytest.mark.parametrize("apart", [False, True])
def test_forms_are_those_of_the_definition(apart):
    whole, entries = matrices()
    E, into = RNG.normal(size=(11, 7)), np.arange(5) * apart
    out = np.zeros((5 if apart else 1, 2, 7))
    kernels.quadratic_forms(E, STARTS, KIND, BEGINS, entries, into, out)
    expected = quadratic_forms(E, CLUSTERS, whole)
    np.testing.assert_allclose(out, expected if apart else expected.sum(axis=0, keepdims=True), atol=1e-12)


def test_what_a_fit_leaves():
    E, A, F = RNG.normal(size=(11, 7)), RNG.normal(size=(11, 2)), RNG.normal(size=(11, 2))
    out, room = E.copy(), np.empty((2, 7))
    kernels.subtract_fit(out, A, F, room)
    np.testing.assert_allclose(room, A.T @ E, atol=1e-12)
    np.testing.assert_allclose(out, E - F @ A.T @ E, atol=1e-12)


def test_sums_over_clusters_and_over_all():
    E, A = RNG.normal(size=(11, 7)), RNG.normal(size=(11, 3))
    out, total = np.empty((3, 5, 7)), np.empty((3, 7))
    kernels.sum_over_clusters(E, A, STARTS, out, total)
    np.testing.assert_allclose(out, [[one[rows] @ E[rows] for rows in CLUSTERS] for one in A.T], atol=1e-12)
    np.testing.assert_allclose(total, A.T @ E, atol=1e-12)


def test_an_element_has_the_same_bits_in_any_company():
    _, entries = matrices()
    E, A = RNG.normal(size=(11, 37)), RNG.normal(size=(11, 3))

    def all_of(E):
        forms, sums, total = np.zeros((1, 2, E.shape[1])), np.empty((3, 5, E.shape[1])), np.empty((3, E.shape[1]))
        kernels.quadratic_forms(E, STARTS, KIND, BEGINS, entries, np.zeros(5, np.int64), forms)
        kernels.subtract_fit(E, A, A, total)
        kernels.sum_over_clusters(E, A, STARTS, sums, total)
        return np.concatenate([forms.ravel(), sums.ravel()]).reshape(-1, E.shape[1])

    whole = all_of(E.copy())
    for columns in (slice(0, 1), slice(5, 8), slice(20, 37)):
        np.testing.assert_array_equal(all_of(np.ascontiguousarray(E[:, columns])), whole[:, columns])
