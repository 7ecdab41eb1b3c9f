from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbaglm.kernels.panels.fused import CHUNK, Gather, Limits, Waiting, permute_panels
from numbaglm.kernels.panels.scores import Score, Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.families.t_f import combine
from numbaglm.stats.scales import TIE_TOLERANCE


def case(n_subjects, n_voxels, n_batch, n_rows=1, dtype="float32", seed=0):
    """Unit rows with signs flipped, (n_rows * n_batch, n_subjects), and residuals of unit length."""
    rng = np.random.default_rng(seed)
    weights = rng.choice([-1.0, 1.0], (n_rows * n_batch, n_subjects)) / np.sqrt(n_rows * n_subjects)
    E = rng.normal(size=(n_subjects, n_voxels))
    E /= np.linalg.norm(E, axis=0)
    return weights.astype(dtype), E.astype(dtype)


def permute(weights, E, n_rows=1, n_interest=1, is_t=True, two_sided=True, n_batch=None, **limits):
    """Counts, maxima, the picks sorted by shuffling, and the maps."""
    dtype, n_voxels = weights.dtype, E.shape[1]
    n_batch = len(weights) // n_rows if n_batch is None else n_batch
    n_tiles = -(-n_voxels // TILE)
    filled = np.pad(E, ((0, 0), (0, n_tiles * TILE - n_voxels)), mode="edge")
    tiles = np.ascontiguousarray(filled.reshape(len(E), n_tiles, TILE).transpose(1, 0, 2))
    reference = np.full(n_tiles * TILE, np.nan, dtype)
    if "reference" in limits:
        reference[:n_voxels] = limits["reference"]
    counts, peaks = np.zeros((n_tiles, TILE), np.int32), np.empty(n_batch, dtype)
    room = n_batch * n_voxels
    which, voxel, value = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, dtype)
    maps = np.empty((n_batch, n_voxels if limits.get("maps", True) else 0), dtype)
    n_picks = permute_panels(
        [weights.reshape(n_rows, -1, len(E))],
        tiles,
        (n_batch, n_voxels),
        np.empty((n_tiles, 0, TILE), dtype),
        Scoring(combine, np.array([n_rows, n_interest, is_t]), np.empty(0, dtype)),
        two_sided,
        Limits(reference.reshape(-1, TILE), np.array([limits.get("threshold", np.nan)], dtype)),
        counts,
        peaks,
        (which, voxel, value),
        maps,
    )
    assert not counts.ravel()[n_voxels:].any(), "voxels that fill a tile are not counted"
    order = np.argsort(which[:n_picks], kind="stable")  # voxels increase within a shuffling already
    picks = np.stack([which[order], voxel[order]], axis=1), value[order]
    return counts.ravel()[:n_voxels], peaks, picks, maps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_subjects", [2, 3, 20, CHUNK - 1, CHUNK, CHUNK + 1, 1100])
def test_scores_are_as_good_as_those_of_a_matrix_product(n_subjects, dtype):
    weights, E = case(n_subjects, 40, 11, dtype=dtype)
    E[:, 7] = weights[3]  # a correlation of 1, of terms that are all equal: rounding adds up
    maps = permute(weights, E)[3]
    error = np.abs(maps - weights.astype(np.longdouble) @ E.astype(np.longdouble)).astype(float)
    assert error[3, 7] <= TIE_TOLERANCE[dtype]
    error[3, 7] = 0.0
    assert error.max() < TIE_TOLERANCE[dtype] / 10


@settings(max_examples=25)
@given(
    n_subjects=st.sampled_from([2, 5, 30, CHUNK + 5]),
    n_voxels=st.integers(1, 80),
    n_batch=st.integers(1, 20),
    rows=st.sampled_from([(1, 1, True), (1, 1, False), (2, 1, True), (3, 2, False), (4, 1, True)]),
    two_sided=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_what_is_reduced_is_what_the_maps_say(n_subjects, n_voxels, n_batch, rows, two_sided, dtype, seed):
    weights, E = case(n_subjects, n_voxels, n_batch, rows[0], dtype, seed)
    maps = permute(weights, E, *rows, two_sided)[3]
    seen = np.abs(maps) if two_sided else maps
    reference, threshold = seen[0], np.quantile(seen, 0.8)
    counts, peaks, (places, values), none = permute(
        weights, E, *rows, two_sided, reference=reference, threshold=threshold, maps=False
    )
    assert none.size == 0
    np.testing.assert_array_equal(counts, (seen >= reference).sum(axis=0))
    np.testing.assert_array_equal(peaks, seen.max(axis=1))
    np.testing.assert_array_equal(places, np.argwhere(seen >= threshold.astype(dtype)))
    np.testing.assert_array_equal(values, maps[tuple(places.T)])


@pytest.mark.parametrize("rows", [(1, 1, True), (3, 1, True), (2, 2, False)])
@pytest.mark.parametrize("n_subjects", [6, CHUNK + 3])
def test_a_score_is_the_same_number_in_any_batch_and_any_place(n_subjects, rows):
    n_rows, n_batch = rows[0], 21
    weights, E = case(n_subjects, TILE + 50, n_batch, n_rows)
    whole = permute(weights, E, *rows)[3]
    later = permute(weights, E[:, 37:], *rows)[3]
    np.testing.assert_array_equal(later, whole[:, 37:])
    for some in ([20], list(range(5, 16)), list(range(0, 21, 3))):
        chosen = np.concatenate([weights[k * n_batch + np.array(some)] for k in range(n_rows)])
        np.testing.assert_array_equal(permute(chosen, E[:, :9], *rows)[3], whole[some, :9])
    # The last batch of a run: rows past its shufflings are there, and say nothing.
    fewer = permute(weights, E, *rows, n_batch=10, reference=np.full(TILE + 50, -2.0), threshold=-2.0)
    np.testing.assert_array_equal(fewer[3], whole[:10])
    np.testing.assert_array_equal(fewer[1], np.abs(whole[:10]).max(axis=1))
    assert (fewer[0] == 10).all()
    assert len(fewer[2][0]) == 10 * (TILE + 50)


def test_a_one_sided_maximum_may_be_negative():
    weights, E = np.full((1, 4), 0.5, np.float32), np.full((4, 3), -0.5, np.float32)
    E *= np.array([1.0, 0.25, 0.5], np.float32)
    reference = np.full(3, -0.5)
    counts, peaks, (places, _), _ = permute(weights, E, two_sided=False, reference=reference, threshold=-0.25)
    assert peaks.tolist() == [-0.25]
    assert counts.tolist() == [0, 1, 1]
    assert places.tolist() == [[0, 1]]


@Score
def blend(products, fixed, sizes, constants):
    """Product of the first layer times what is fixed, plus those of the second; by way of scratch."""
    n, width = products.shape[1], fixed.shape[1]
    for v in range(n):
        products[3, v] = products[0, v] * fixed[0, v % width]
        products[0, v] = products[3, v] + constants[0] * products[sizes[0], v]


@pytest.mark.parametrize("n_units", [(4, 9), (CHUNK + 7, 5), (30, CHUNK + 1)])
def test_layers_of_different_units(n_units):
    rng = np.random.default_rng(0)
    n_voxels, n_batch, height = TILE + 30, 11, 16
    layers = [rng.normal(size=(n, n_voxels)) / np.sqrt(n) for n in n_units]
    weights = [rng.normal(size=(rows, height, n)) for rows, n in zip((1, 2), n_units, strict=True)]
    fixed = rng.normal(size=(1, n_voxels))

    def tiled(values):
        filled = np.pad(values, ((0, 0), (0, 2 * TILE - n_voxels)), mode="edge")
        return np.ascontiguousarray(filled.reshape(len(values), 2, TILE).transpose(1, 0, 2))

    maps, peaks = np.empty((n_batch, n_voxels)), np.empty(n_batch)
    permute_panels(
        weights,
        tiled(np.vstack(layers)),
        (n_batch, n_voxels),
        tiled(fixed),
        Scoring(blend, np.array([2]), np.array([0.5]), n_scratch=1),
        True,
        Limits(np.full((2, TILE), np.nan), np.full(1, np.nan)),
        np.zeros((2, TILE), np.int32),
        peaks,
        (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0)),
        maps,
    )
    expected = (weights[0][0] @ layers[0] * fixed + 0.5 * (weights[1][1] @ layers[1]))[:n_batch]
    np.testing.assert_allclose(maps, expected, atol=1e-12)
    np.testing.assert_allclose(peaks, np.abs(expected).max(axis=1), atol=1e-12)


@Score
def total(products, fixed, sizes, constants):
    """The sum of all products."""
    for k in range(1, sizes[0]):
        for v in range(products.shape[1]):
            products[0, v] += products[k, v]


@pytest.mark.parametrize("n", [6, CHUNK + 9])
@pytest.mark.parametrize("n_batch", [1, 11])
def test_layers_that_are_gathered(n, n_batch):
    """A layer, permuted and flipped, times another, voxel by voxel; beside ordinary rows, and without them."""
    rng = np.random.default_rng(2)
    n_voxels, height = TILE + 30, 16
    data, other, third = rng.normal(size=(3, n, n_voxels)) / np.sqrt(n)
    index = np.array([rng.permutation(n) for _ in range(n_batch)])
    sign = rng.choice([-1, 1], (n_batch, n))
    places = np.full((height, n), -(2**30), np.int32)  # what is past the batch is not looked at
    places[:n_batch] = index + n * (sign < 0)
    moved = sign[:, :, None] * data[index]
    expected = {True: (moved * other).sum(axis=1), False: (sign[:, :, None] * third[index] * other).sum(axis=1)}
    rows = rng.normal(size=(1, height, n))
    for weights, layers, result in (
        ([np.empty((0, height, n)), Gather(0, places)], [data, other], expected[True]),
        ([rows, Gather(0, places)], [data, other], rows[0, :n_batch] @ data + expected[True]),
        (
            [rows, Gather(2, places), np.empty((0, height, n)), Gather(0, places)],
            [data, other, third, other],
            rows[0, :n_batch] @ data + expected[False] + expected[True],
        ),
    ):
        tiles = np.pad(np.vstack(layers), ((0, 0), (0, 2 * TILE - n_voxels)), mode="edge")
        tiles = np.ascontiguousarray(tiles.reshape(len(tiles), 2, TILE).transpose(1, 0, 2))
        maps, peaks, counts = np.empty((n_batch, n_voxels)), np.empty(n_batch), np.zeros((2, TILE), np.int32)
        n_rows = sum(1 if isinstance(one, Gather) else len(one) for one in weights)
        reference = np.full(2 * TILE, np.nan)
        reference[:n_voxels] = -np.inf
        permute_panels(
            weights,
            tiles,
            (n_batch, n_voxels),
            np.empty((2, 0, TILE)),
            Scoring(total, np.array([n_rows]), np.empty(0)),
            False,
            Limits(reference.reshape(2, TILE), np.full(1, np.nan)),
            counts,
            peaks,
            (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0)),
            maps,
        )
        np.testing.assert_allclose(maps, result, atol=1e-12)
        np.testing.assert_allclose(peaks, result.max(axis=1), atol=1e-12)
        assert (counts.ravel()[:n_voxels] == n_batch).all(), "shufflings that are not there count for nothing"


@pytest.mark.parametrize("two_sided", [False, True])
def test_scores_that_nothing_decides_wait(two_sided):
    # A number stands for a score within 0.1 of it; where it is negative and small the kernel could not tell.
    rng = np.random.default_rng(1)
    n_voxels, n_batch, n = 2 * TILE - 9, 20, 6
    weights, tiles = rng.normal(size=(1, n_batch, n)), rng.normal(size=(2, n, TILE))
    tiles[1, :, -9:] = tiles[1, :, -10:-9]
    numbers = np.arange(-40.0, 40.0, 0.25)
    reference = rng.normal(size=(2, TILE))
    room, counts = n_batch * n_voxels, np.zeros((2, TILE), np.int32)
    nothing = np.zeros(n_voxels, np.int32)
    waiting = Waiting(np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room), np.empty(room), nothing)
    tiles[0, :, 5] = 0.0
    threshold = 5.0
    n_waiting = permute_panels(
        [weights],
        tiles,
        (n_batch, n_voxels),
        np.empty((2, 0, TILE)),
        Scoring(beside, np.empty(0, np.int64), np.empty(0), n_scratch=1),
        two_sided,
        Limits(reference + 0.1, np.array([threshold]), reference - 0.1, numbers - 0.3, numbers[0], 4.0),
        counts,
        np.empty(n_batch),
        (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0)),
        np.empty((n_batch, 0)),
        waiting,
    )
    which, voxel, number, more = (one[:n_waiting] for one in waiting[:4])
    np.testing.assert_array_equal(np.flatnonzero(nothing), [5])
    assert nothing[5] == n_batch, "where the kernel leaves nothing each shuffling is counted"
    products = (weights[0] @ tiles).transpose(1, 0, 2).reshape(n_batch, -1)[:, :n_voxels]
    lost = (products < 0) & (products > -0.01)
    seen = np.abs(products) if two_sided else products
    held = reference.ravel()[:n_voxels]
    np.testing.assert_array_equal(counts.ravel()[:n_voxels], ((seen >= held + 0.1) & ~lost).sum(axis=0))
    there = np.zeros(products.shape, bool)
    there[which, voxel] = True
    assert there[lost].all()
    assert np.isnan(number[lost[which, voxel]]).all()
    known = ~lost[which, voxel]
    np.testing.assert_allclose(number[known], products[which, voxel][known], atol=1e-13)
    np.testing.assert_allclose(more[known], 2 * products[which, voxel][known], atol=1e-13)
    assert there[(seen >= held - 0.09) & (seen < held + 0.09)].all()
    assert there[seen >= threshold].all()
    assert there[seen >= seen.max(axis=1, keepdims=True) - 0.04].all()
    assert there.mean() < 0.4


@Score
def beside(products, fixed, sizes, constants):
    """The product, and twice that beside it; NaN where it is a little below 0."""
    for v in range(products.shape[1]):
        number = products[0, v]
        products[0, v] = np.nan if -0.01 < number < 0 else number
        products[1, v] = 2 * number
