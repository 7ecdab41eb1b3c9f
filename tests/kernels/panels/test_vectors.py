from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels import vectors
from numbaglm.kernels.panels.vectors import BYTES, ROWS, VECTORS

ERROR = {"float32": 1e-6, "float64": 1e-14}


@kernel
def multiply(weights, panel, scores, add):
    vectors.multiply(weights, panel, scores, add)


@kernel
def gather(places, permuted, panel, scores, add):
    vectors.gather(places, permuted, panel, scores, add)


@kernel
def reduce(scores, two_sided, reference, threshold, counts, best):
    return vectors.reduce(scores, two_sided, reference, threshold, counts, best)


@kernel
def above(row, two_sided, threshold):
    return vectors.above(row, two_sided, threshold)


@kernel
def first_bit(bits):
    return vectors.first_bit(bits)


@kernel
def double_the_last(given):
    values, (more, first), nothing = vectors.borrowed(given)
    if nothing is None:
        for row in (values[first:], more[first:]):
            for k in range(row.size):
                row[k] *= 2


def test_what_is_borrowed_is_what_was_given():
    values, more = np.arange(5.0), np.arange(4.0)
    for _ in range(3):
        double_the_last((values, (more, 2), None))
    assert values.tolist() == [0, 1, 16, 24, 32]
    assert more.tolist() == [0, 1, 16, 24]
    assert vectors.borrowed_plain(values) is values


def width(dtype):
    return VECTORS * BYTES // np.dtype(dtype).itemsize


@given(
    n_subjects=st.integers(1, 70),
    add=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_products_are_those_of_the_plain_form(n_subjects, add, dtype, seed):
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(n_subjects, ROWS)) / n_subjects).astype(dtype)
    panel = rng.normal(size=(n_subjects, width(dtype))).astype(dtype)
    found = rng.normal(size=(ROWS, width(dtype))).astype(dtype)
    expected = found.copy()
    multiply(weights, panel, found, add)
    vectors.multiply_plain(weights, panel, expected, add)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ERROR[dtype])


@given(
    n_subjects=st.integers(1, 70),
    add=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_gathered_products_are_those_of_the_plain_form(n_subjects, add, dtype, seed):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 2 * n_subjects, (n_subjects, ROWS)).astype(np.int32)
    permuted = (rng.normal(size=(2 * n_subjects, width(dtype))) / n_subjects).astype(dtype)
    panel = rng.normal(size=(n_subjects, width(dtype))).astype(dtype)
    found = rng.normal(size=(ROWS, width(dtype))).astype(dtype)
    expected = found.copy()
    gather(places, permuted, panel, found, add)
    vectors.gather_plain(places, permuted, panel, expected, add)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ERROR[dtype])


@given(seed=st.integers(0, 2**32), two_sided=st.booleans(), dtype=st.sampled_from(["float32", "float64"]))
def test_reductions_are_those_of_the_plain_form(seed, two_sided, dtype):
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        """Few different ones, so that many are equal, and some that are none."""
        drawn = rng.choice(np.array([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0, np.inf, -np.inf, np.nan]), shape)
        return drawn.astype(dtype)

    scores, reference, threshold = numbers(ROWS, width(dtype)), numbers(width(dtype)), numbers(1)
    counts = rng.integers(0, 9, width(dtype)).astype(np.int32)
    best = np.where(np.isnan(scores), -2.0, 0.25).astype(dtype)[:, : width(dtype) // VECTORS].copy()
    expected = counts.copy(), best.copy()
    found = reduce(scores, two_sided, reference, threshold, counts, best)
    assert found == vectors.reduce_plain(scores, two_sided, reference, threshold, *expected)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_array_equal(best, expected[1])


@given(seed=st.integers(0, 2**32), two_sided=st.booleans(), dtype=st.sampled_from(["float32", "float64"]))
def test_scores_above_are_those_of_the_plain_form(seed, two_sided, dtype):
    rng = np.random.default_rng(seed)
    row = rng.choice(np.array([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0, np.inf, -np.inf, np.nan]), width(dtype)).astype(dtype)
    threshold = rng.choice(np.array([0.5, 1.0, -0.5, np.nan]), 1).astype(dtype)
    found = above(row, two_sided, threshold)
    assert found == vectors.above_plain(row, two_sided, threshold)
    if found:
        assert first_bit(found) == vectors.first_bit_plain(found) == f"{found:b}"[::-1].index("1")


@pytest.mark.parametrize("row", range(ROWS))
def test_the_row_that_reaches_the_threshold_is_told(row):
    scores = np.full((ROWS, width("float32")), 0.25, np.float32)
    scores[row, -1] = 0.5
    counts, best = np.zeros(width("float32"), np.int32), np.zeros((ROWS, width("float32") // VECTORS), np.float32)
    reference = np.full(width("float32"), 0.5, np.float32)
    assert reduce(scores, True, reference, np.full(1, 0.5, np.float32), counts, best) == 1 << row
    assert counts.tolist() == [0] * (len(counts) - 1) + [1]
    assert best.max(axis=1).tolist() == scores.max(axis=1).tolist()
