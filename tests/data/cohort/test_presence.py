from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.data.cohort.presence import Patterns, n_bytes, pack, unpack


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_bits_come_back_and_are_the_lowest_first(n, seed):
    flags = np.random.default_rng(seed).random((3, n)) < 0.5
    bits = pack(flags)
    assert bits.shape == (3, n_bytes(n))
    np.testing.assert_array_equal(unpack(bits, n), flags)
    for row, byte in zip(flags, bits, strict=True):
        assert byte[0] == sum(1 << i for i in range(min(n, 8)) if row[i])


@pytest.mark.parametrize("width", [1, 3, 50])
@pytest.mark.parametrize("n_subjects", [1, 8, 13])
def test_patterns_are_the_distinct_columns(n_subjects, width):
    present = np.random.default_rng(n_subjects).random((n_subjects, 50)) < 0.8
    present[:, 20:] = present[:, [3]]
    blocks = [present[:, start : start + width] for start in range(0, 50, width)]
    found = Patterns.find(blocks, n_subjects)
    assert found.n == len(np.unique(present, axis=1).T)
    rebuilt = np.stack([found.present(number) for number in found.of], axis=1)
    np.testing.assert_array_equal(rebuilt, present)
    np.testing.assert_array_equal(found.n_present[found.of], present.sum(axis=0))
    assert found.all_present == present.all()
    # Numbered in the order of their first element, however the elements came.
    assert list(dict.fromkeys(found.of.tolist())) == list(range(found.n))


def test_where_all_is_there_is_one_pattern():
    found = Patterns.whole(5, 7)
    assert (found.n, found.all_present, found.n_present.tolist()) == (1, True, [5])
    assert found.of.tolist() == [0] * 7


@pytest.mark.parametrize("some", [slice(5, 30), np.array([7, 7, 0, 40])])
def test_patterns_among_some_elements_are_theirs(some):
    present = np.random.default_rng(0).random((5, 50)) < 0.8
    found = Patterns.find([present], 5).among(some)
    rebuilt = np.stack([found.present(number) for number in found.of], axis=1)
    np.testing.assert_array_equal(rebuilt, present[:, some])
    assert found.n == len(np.unique(present[:, some], axis=1).T)
