from __future__ import annotations

import numpy as np
import pytest

from numbaglm.stats.families.t_f import combine

NOTHING = np.empty((1, 0))


@pytest.mark.parametrize(
    ("n_interest", "is_t", "expected"),
    [(1, True, 0.5 / np.sqrt(1 - 0.25)), (1, False, 0.25 / (1 - 0.25)), (2, False, 0.25 + 0.25)],
)
def test_scores_of_products(n_interest, is_t, expected):
    products = np.full((2, 3), 0.5)
    combine(products, NOTHING, np.array([2, n_interest, is_t]), NOTHING[0])
    np.testing.assert_allclose(products[0], expected)


def test_no_more_is_left_than_rounding_leaves():
    products = np.array([[0.0], [1.0]])
    combine(products, NOTHING, np.array([2, 1, True]), NOTHING[0])
    assert products[0, 0] == 0.0
