from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from numbaglm.kernels.panels.arrangements import enumerate_arrangements


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (0, 0, 1, 1), (0, 0, 0, 0), (0, 1, 1, 2), (0,)])
def test_arrangements_are_the_distinct_ones_in_order(classes):
    expected = sorted(set(permutations(classes)))
    out = np.full((len(expected), len(classes)), -1, np.int32)
    items = np.arange(10, 10 + len(classes), dtype=np.int32)
    enumerate_arrangements(np.array(classes, np.int32), items.copy(), out)
    assert out[0].tolist() == items.tolist()
    assert [tuple(classes[item - 10] for item in row) for row in out.tolist()] == expected
    assert all(sorted(row) == items.tolist() for row in out.tolist())
