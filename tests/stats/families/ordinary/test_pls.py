import numpy as np
import pytest

from numbaglm.stats.families.family import Shuffled
from numbaglm.stats.families.ordinary.pls import correlated_scores, partial_least_squares, singular, straight_singular
from numbaglm.stats.families.variables import Heights

SIZES = [(2, 1, 0), (2, 2, 0), (3, 2, 1), (2, 3, 2), (1, 2, 0), (4, 3, 1), (3, 4, 0)]


def unit_rows(rng, n, width):
    rows = rng.normal(size=(n, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


EACH = [(*size, which) for size in SIZES for which in range(min(2, *size[:2]))]


@pytest.mark.parametrize("without_loops", [False, True])
@pytest.mark.parametrize(("n_variables", "s", "moved", "which"), EACH)
def test_scores_of_products_are_squared_singular_values(n_variables, s, moved, which, without_loops):
    rng = np.random.default_rng(0)
    if without_loops and min(s, n_variables) > 2:
        pytest.skip("for one or two rows or variables")
    make = straight_singular(n_variables, s, moved, which) if without_loops else singular
    rows, d = s + moved, min(s, n_variables)
    products = np.vstack([0.2 * rng.normal(size=(n_variables * rows, 9)), np.zeros((max(1, d * (d + 1) // 2), 9))])
    products[:, 8] = np.nan  # a shuffling that is not there
    of = products[: n_variables * rows].reshape(n_variables, rows, 9).transpose(2, 0, 1).copy()
    make(products, np.empty((0, 1)), np.array([n_variables, s, moved, which]), np.empty(0))
    assert np.isnan(products[0, 8])
    for one, found in zip(of[:8], products[0], strict=False):
        left = np.sqrt(1 - (one[:, s:] ** 2).sum(axis=1))
        expected = np.linalg.svd(one[:, :s] / left[:, None], compute_uv=False)[which] ** 2
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("k", "s"), [(2, 1), (2, 2), (3, 2), (2, 3)])
def test_the_first_pair_of_scores_is_that_of_simpls(k, s):
    """By the definition: scores of the direction of the largest covariance, and what they predict."""
    rng = np.random.default_rng(1)
    Y, X = rng.normal(size=(12, k)) * [1, 5, 0.3][:k], rng.normal(size=(12, s)) * [2, 0.5, 1][:s]
    Y, X = Y - Y.mean(axis=0), X - X.mean(axis=0)
    r = np.linalg.svd(Y.T @ X)[0][:, 0]
    t = Y @ r
    u = X @ (X.T @ t)
    d = min(k, s)
    products = np.vstack([(X.T @ Y).T.reshape(-1, 1), np.zeros((2 * d * d + k + s, 1))])
    covariance = (Y.T @ Y)[np.tril_indices(k)][:, None]
    correlated_scores(products, covariance, np.array([k, s]), (X.T @ X)[np.tril_indices(s)])
    assert np.sqrt(products[0, 0]) == pytest.approx(np.corrcoef(t, u)[0, 1], rel=1e-10)


@pytest.mark.parametrize("make", [singular, straight_singular(3, 2, 1, 0)])
def test_single_precision_strays_less_than_what_ties(make):
    rng = np.random.default_rng(3)
    products = np.vstack([rng.uniform(-0.4, 0.4, size=(9, 4000)), np.zeros((3, 4000))]).astype(np.float32)
    double = products.astype(np.float64)
    for one in (products, double):
        make(one, np.empty((0, 1)), np.array([3, 2, 1, 0]), np.empty(0))
    scale = Heights(6.0)
    assert (products[0] >= scale.least_equal(double[0], "float32")).all()
    assert (double[0] >= scale.least_equal(products[0].astype(float), "float32")).all()


def test_small_values_and_rotations_take_double_precision():
    rows = unit_rows(np.random.default_rng(0), 3, 9)
    how = {"nuisance": rows[:0], "effect": rows, "dof": 6}
    two = {"rows": Shuffled(rows[:2]), "interest": rows[:2], **how}
    assert partial_least_squares(("b",), **two).precision is None
    assert partial_least_squares(("b",), which=1, **two).precision == "float64"
    three = {"rows": Shuffled(rows), "interest": rows, **how}
    assert partial_least_squares(("b", "c"), **three).precision == "float64"
    assert not partial_least_squares(("b",), **two).parametric
