from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels.ranking import N_DIGITS, rank_doubles, rank_singles
from reference.ranking import rank

RANK = {np.float32: rank_singles, np.float64: rank_doubles}
VALUES = {
    "noise": np.random.default_rng(0).normal(size=300),
    "ties": np.random.default_rng(1).integers(-2, 3, 300).astype(float),
    "sizes apart": np.array([1e30, -1e-30, 0.0, -0.0, 1e-38, -1e30, 1.0, 1.0000001]),
    "one": np.array([-3.0]),
    "nothing": np.zeros(5),
}


def ranked(values, position, two_sided):
    """Run a kernel on scratch that holds something already."""
    n, dtype = values.size, values.dtype
    height = np.full(int(position.max()) + 1, 0, np.int32)
    height[position] = 77
    order, absolute, keys = np.full(n, -1), np.full(n, np.nan), np.full(n, -1)
    counts = np.full((3, N_DIGITS), 5, np.int32)
    m = RANK[dtype.type](values, position, two_sided, height, order, absolute, keys, counts)
    return (order[:m] & 0xFFFFFFFF).tolist(), absolute[:m], height[position]


@pytest.mark.parametrize("dtype", RANK)
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_voxels_are_ranked_as_by_a_plain_sort(name, two_sided, dtype):
    values = VALUES[name].astype(dtype)
    position = np.cumsum(np.random.default_rng(2).integers(1, 4, values.size)).astype(np.int32)
    order, absolute, height = ranked(values, position, two_sided)
    expected, sizes, counted = rank(values, position, two_sided)
    assert order == expected
    np.testing.assert_array_equal(absolute, sizes)
    # Heights compare as values do, and are 0 where nothing counts.
    np.testing.assert_array_equal(height == 0, ~counted)
    np.testing.assert_array_equal(np.sign(height[counted]), np.sign(values[counted]))
    by_height = np.argsort(np.abs(height[counted]), kind="stable")
    assert (np.diff(np.abs(values[counted][by_height])) >= 0).all()


def test_heights_of_equal_singles_are_equal():
    values = np.array([2.0, -2.0, 2.0], np.float32)
    height = ranked(values, np.arange(3, dtype=np.int32), True)[2]
    assert height[0] == height[2] == -height[1]
