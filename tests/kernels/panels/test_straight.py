from __future__ import annotations

import pickle

import numpy as np
import pytest

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import call
from numbaglm.kernels.panels.straight import Straight, follow, in_words, vector_code
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS

SIZES = (2, 3)


def recipe(of, first, second):
    """All that a recipe may do."""
    x, y, c = of.row(first), of.row(second), of.constant(1)
    larger = of.where_less(x, y, y, x)
    score = 1.0 - (x + c) * -y + of.sqrt(abs(larger)) / (2.0 + abs(x)) - 0.5 / (3.0 - y) + 2 * x
    return 1, of.where_less(score, 0.5, of.where_less(x, 0.0, 0.25, x), score - 0.5)


code = vector_code(recipe)


def made(*sizes):
    words = in_words(sizes)

    def score(products, fixed, told, constants):
        code(products, constants, words)

    def plain(products, fixed, told, constants):
        follow(recipe, sizes, products, constants)

    return Straight(score, plain, made, sizes)


@kernel
def called(address, values, fixed, sizes, constants):
    call(address, values, fixed, sizes, constants)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_it_does_what_it_does_with_rows_of_numpy(dtype):
    n = ROWS * VECTORS * BYTES // np.dtype(dtype).itemsize
    values = np.random.default_rng(0).uniform(-1, 1, (5, n)).astype(dtype)
    values[2:4, 5] = np.nan
    expected, fixed, constants = values.copy(), np.empty((0, n), dtype), np.array([9.0, 0.7], dtype)
    score, sizes = made(*SIZES), np.empty(0, np.int64)
    score(expected, fixed, sizes, constants)
    x, y = values[2:4].astype(float)
    plainly = 1 + (x + 0.7) * y + np.sqrt(np.abs(np.maximum(x, y))) / (2 + np.abs(x)) - 0.5 / (3 - y) + 2 * x
    plainly = np.where(plainly < 0.5, np.where(x < 0, 0.25, x), plainly - 0.5)
    called(score.address(np.dtype(dtype)), values, fixed, sizes, constants)
    tolerance = 1e-5 if dtype == "float32" else 1e-14
    for found in (values, expected):
        np.testing.assert_allclose(found[1], plainly, atol=tolerance)
        assert np.isnan(found[1]).sum() == 1
    np.testing.assert_array_equal(values[[0, 2, 3, 4]], expected[[0, 2, 3, 4]])


def test_other_processes_make_it_again():
    again = pickle.loads(pickle.dumps(made(*SIZES)))
    assert isinstance(again, Straight)
    assert again.sizes == SIZES
