from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from numbaglm.kernels import tails
from numbaglm.stats.tails import TABLE
from reference import tails as reference


def stream(scores, columns, k, batches, two_sided, room=None):
    """Keep the largest of scores (n_shufflings, TILE) that come in batches of the given sizes."""
    m = len(columns)
    kept = np.full((m, room or 2 * k + max(batches)), np.nan, scores.dtype)
    n_kept, floor = np.zeros(m, np.int32), np.full(m, -np.inf, scores.dtype)
    start = 0
    for size in batches:
        batch = np.ascontiguousarray(scores[start : start + size])
        tails.keep_largest(batch, columns, two_sided, k, kept, n_kept, floor)
        start += size
    assert start == len(scores)
    largest = np.empty((m, k), scores.dtype)
    tails.finish_largest(kept, n_kept, largest)
    return largest


@given(
    values=st.lists(st.integers(-4, 4) | st.floats(-1e6, 1e6), min_size=1, max_size=60),
    share=st.floats(0, 1),
)
def test_select_largest_is_a_partial_sort(values, share):
    array = np.array(values, float)
    n = max(1, len(values) - 2)
    k = max(1, round(share * n))
    least = tails.select_largest(array, n, k)
    ordered = np.sort(values[:n])[::-1]
    assert least == ordered[k - 1]
    np.testing.assert_array_equal(np.sort(array[:k])[::-1], ordered[:k])
    np.testing.assert_array_equal(array[n:], values[n:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("two_sided", [False, True])
def test_what_is_kept_is_the_top_wherever_batches_begin(dtype, two_sided):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(300, 600)).astype(dtype)
    scores[:, 3] = np.round(scores[:, 3])  # ties
    scores[:, 4] = 0
    scores[:, 5] = -np.abs(scores[:, 5])
    columns = np.concatenate([[0, 3, 4, 5, 11], np.arange(300, 600)]).astype(np.int32)
    expected = reference.largest(scores, 20, two_sided)[columns]
    for batches in ([300], [128, 128, 44], [1] * 299 + [1], [7] * 42 + [6]):
        np.testing.assert_array_equal(stream(scores, columns, 20, batches, two_sided), expected)


def test_least_room_and_k_of_all():
    scores = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    columns = np.arange(2, dtype=np.int32)
    np.testing.assert_array_equal(
        stream(scores, columns, 5, [10] * 5, False, room=15), reference.largest(scores, 5, False)
    )
    np.testing.assert_array_equal(stream(scores, columns, 50, [10] * 5, False), reference.largest(scores, 50, False))


def fitted(excess):
    descending = np.sort(excess)[::-1].copy()
    grid = np.empty((3, tails.grid_size(len(excess))))
    centre, shape = tails.fit_excesses(descending, len(excess), *grid)
    return descending, grid, centre, shape


@pytest.mark.parametrize("shape", [-0.6, -0.2, 0.0, 0.2, 0.6])
@pytest.mark.parametrize("n", [30, 61, 250])
def test_fit_distance_and_tail_equal_the_reference(shape, n):
    excess = 7.0 * stats.genpareto.rvs(shape, size=n, random_state=n)
    descending, (theta, mean, weight), centre, xi = fitted(excess)
    grid = [part[0] for part in reference.fit(excess)]
    for ours, theirs in zip((theta, mean, weight, centre, xi), grid, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
    distance = reference.anderson_darling(excess, np.array([grid[3]]), np.array([grid[4]]))[0]
    np.testing.assert_allclose(tails.anderson_darling(descending, n, centre, xi), distance, rtol=1e-6)
    for x in (0.5, 7.0, 40.0, 500.0):
        np.testing.assert_allclose(
            tails.tail_beyond(x, n, theta, mean, weight), reference.beyond(x, excess), rtol=1e-6, atol=1e-300
        )


def test_an_exponential_theta_divides_nothing_by_zero():
    # Scaled so that one value of the grid is 0: 1 / x_max = (sqrt(m / (j + 1/2)) - 1) / (3 quartile).
    n, m = 30, 25
    excess = np.sort(np.random.default_rng(0).exponential(size=n))[::-1].copy()
    quartile = excess[n - 8]
    j = 16
    excess[0] = 3 * quartile / (np.sqrt(m / (j + 0.5)) - 1)
    assert excess[0] > excess[1]
    _, (theta, mean, weight), _, _ = fitted(excess)
    assert np.min(np.abs(theta)) * excess[0] < 1e-7
    np.testing.assert_allclose((theta / mean)[j], 1 / excess.mean(), rtol=1e-5)
    assert np.isfinite(weight).all()
    assert tails.tail_beyond(excess[0], n, theta, mean, weight) > 0


def test_critical_values_between_the_table_and_never_outside():
    shapes, numbers, values = TABLE
    for i, shape in enumerate(shapes):
        for j, number in enumerate(numbers):
            np.testing.assert_allclose(tails.critical_value(shape, int(number), TABLE), values[i, j])
    np.testing.assert_allclose(tails.critical_value(0.125, 250, TABLE), values[3:5, 3].mean())
    for shape, number in ((-0.76, 100), (0.76, 100), (0.0, 29), (0.0, 251), (np.nan, 100)):
        assert tails.critical_value(shape, number, TABLE) == -1


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.4])
@pytest.mark.parametrize("n", [30, 90, 250])
def test_the_gate_turns_away_one_good_fit_in_twenty(shape, n):
    samples = stats.genpareto.rvs(shape, size=(1000, n), random_state=5)
    excess = []
    for sample in samples:
        descending, _, centre, xi = fitted(sample)
        critical = tails.critical_value(xi, n, TABLE)
        if critical > 0:  # the shape fitted to few values may lie outside the table
            excess.append(tails.anderson_darling(descending, n, centre, xi) - critical)
    assert len(excess) > 0.9 * len(samples)
    assert 0.03 < np.mean(np.array(excess) > 0) < 0.07  # the fitted shape, not the true one, picks the value


def test_the_table_is_what_the_simulation_gives():
    table = reference.critical_values((-0.5, 0.25), (30, 120), 2000, seed=11)
    np.testing.assert_allclose(table, TABLE[2][np.ix_([1, 4], [0, 2])], rtol=0.1)


def test_a_centre_of_zero_divides_nothing_by_zero():
    # Between a tail that ends and one that doesn't, the weighted theta crosses zero.
    def excess(bend):
        u = (np.arange(60) + 0.5) / 60
        return np.sort(-np.log(u) + bend * np.log(u) ** 2)[::-1].copy()

    def centre(bend):
        theta, _, weight, _, _ = (part[0] for part in reference.fit(excess(bend)))
        return float(theta @ weight)

    ended, endless = -0.1, 0.5
    assert centre(ended) > 0 > centre(endless)
    for _ in range(60):
        middle = (ended + endless) / 2
        ended, endless = (middle, endless) if centre(middle) > 0 else (ended, middle)
    descending, _, found, shape = fitted(excess(ended))
    assert found == pytest.approx(1e-8 / descending[0])
    assert shape / found == pytest.approx(-descending.mean(), rel=1e-6)  # exponential: its scale is the mean
    distance = reference.anderson_darling(descending, np.array([found]), np.array([shape]))[0]
    np.testing.assert_allclose(tails.anderson_darling(descending, 60, found, shape), distance, rtol=1e-5)


def nulls():
    """(6, 120) tails, descending: good, good with an end, with ties, broken, broken at the top, constant."""
    rng = np.random.default_rng(2)
    good, ends = rng.exponential(size=(2, 120))
    ends = 1 - np.exp(-ends / 2)
    ties = np.round(rng.exponential(size=120), 1)
    broken = 10.0 ** (np.arange(120) // 12) + rng.uniform(0, 1e-3, 120)  # clumps
    shrinks = np.concatenate([rng.exponential(size=80) + 50, rng.uniform(0, 0.01, 40)])
    return np.sort([good, ends, ties, broken, shrinks, np.ones(120)], axis=1)[:, ::-1].copy()


def test_the_threshold_rises_until_a_fit_is_good():
    found = []
    grid = np.empty((3, tails.grid_size(119)))
    for tail in nulls():
        n, threshold, *_ = tails.fit_tail(tail, TABLE, np.empty(120), *grid)
        expected = reference.fit_tail(tail, lambda shape, n: tails.critical_value(shape, n, TABLE))
        assert n == expected[0]
        if n:
            assert threshold == pytest.approx(expected[1])
        found.append(n)
    assert found[:2] == [119, 119]
    assert 0 < found[4] < 100
    assert [found[3], found[5]] == [0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_voxels_are_refined_where_a_fit_is_good_and_they_lie_in_the_tail(dtype):
    tail = nulls().astype(dtype)
    tail = tail[[0, 0, 0, 1, 1, 3]]
    observed = np.array([9.0, 9.0, 0.0, 0.9, 5.0, 1e12])
    wanted = np.array([True, False, True, True, True, True])
    p, source = np.full(6, 0.5), np.zeros(6, np.uint8)
    tails.refine_voxels(observed, tail, wanted, 1000, TABLE, p, source)
    refined, rejected = tails.REFINED, tails.REJECTED
    assert source.tolist() == [refined, 0, 0, refined, refined, rejected]
    assert p[[1, 2, 5]].tolist() == [0.5, 0.5, 0.5]
    for v in (0, 3, 4):
        n, threshold = reference.fit_tail(tail[v], lambda shape, n: tails.critical_value(shape, n, TABLE))
        excess = tail[v, :n].astype(float) - threshold
        *_, centre, _ = reference.fit(excess)
        x = observed[v] - threshold if centre[0] <= 0 else min(observed[v] - threshold, 1 / centre[0])
        np.testing.assert_allclose(p[v], (n + 1) / 1001 * reference.beyond(x, excess), rtol=1e-5)
    assert 0 < p[4] < p[3]  # past the end of a tail that ends
