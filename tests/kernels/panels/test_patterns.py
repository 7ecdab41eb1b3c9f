from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels.panels.fused import grouped
from numbaglm.kernels.panels.patterns import WIDTH, in_panels, numbers_of_patterns, spread
from numbaglm.kernels.panels.scores import Score, Scoring
from numbaglm.kernels.panels.vectors import ROWS


@Score
def ratio(products, fixed, sizes, constants):
    """The second row over the first, and the first with what is fixed."""
    n, width = products.shape[1], fixed.shape[1]
    for v in range(n):
        products[1, v] /= products[0, v]
        products[0, v] += fixed[0, v % width]


@pytest.mark.parametrize("n_patterns", [1, WIDTH, 2 * WIDTH + 3])
@pytest.mark.parametrize("n_batch", [1, ROWS + 2])
def test_numbers_are_made_of_the_products_of_each_pattern(n_patterns, n_batch):
    rng = np.random.default_rng(0)
    rows, present = rng.normal(size=(2, n_batch, 9)), rng.random((9, n_patterns)) < 0.7
    fixed = rng.normal(size=(1, n_patterns))
    out = np.empty((-(-n_batch // ROWS), 2, ROWS, n_patterns), np.float32)
    scoring = Scoring(ratio, np.empty(0, np.int64), np.empty(0))
    numbers_of_patterns(grouped([rows], n_batch, rows.dtype), in_panels(present), in_panels(fixed), scoring, out)
    found = out.transpose(1, 0, 2, 3).reshape(2, -1, n_patterns)[:, :n_batch]
    expected = rows @ present
    np.testing.assert_allclose(found[0], expected[0] + fixed, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1] / expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of", [[3, 3, 3, 3], [0, 2, 1, 2]])
def test_elements_get_the_numbers_of_their_patterns(of):
    numbers, table = np.arange(3.0 * 2 * ROWS * 5).reshape(3, 2, ROWS, 5), np.zeros((4, ROWS, 4))
    places = np.full((2, 12), 4, np.int32)
    places[1, 8:] = of
    spread(numbers, places, (2, 1, 8), table, 1)
    np.testing.assert_array_equal(table[1:3], numbers[2][:, :, of])
    assert (table[[0, 3]] == 0).all()
