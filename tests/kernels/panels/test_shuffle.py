from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.kernels.panels import shuffle
from numbaglm.kernels.panels.fused import CHUNK, Limits, permute_panels
from numbaglm.kernels.panels.scores import Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.families.t_f import combine
from reference.shuffle import reduce, scores

TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


# Subjects are multiplied in chunks. Subjects whose data are all 0 change no score, but the path.
PATHS = pytest.mark.parametrize("more", [0, CHUNK], ids=["one chunk", "two chunks"])


def case(n_subjects=5, n_voxels=7, n_batch=3, n_rows=1, seed=0, more=0):
    """Orthonormal rows, residuals of unit length, and signed permutations; and more subjects without data."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n_subjects, n_rows)))[0].T.copy()
    E = rng.normal(size=(n_subjects, n_voxels))
    E /= np.linalg.norm(E, axis=0)
    index = np.array([rng.permutation(n_subjects) for _ in range(n_batch)], dtype=np.int32)
    sign = rng.choice(np.array([-1, 1], np.int8), size=index.shape)
    index[0], sign[0] = np.arange(n_subjects), 1
    rest = np.tile(np.arange(n_subjects, n_subjects + more, dtype=np.int32), (n_batch, 1))
    return (
        np.pad(basis, ((0, 0), (0, more))),
        np.pad(E, ((0, more), (0, 0))),
        np.hstack([index, rest]),
        np.hstack([sign, np.ones_like(rest, np.int8)]),
    )


def tiled(E, dtype):
    """(n_tiles, n_subjects, TILE): the last voxel is repeated to fill the last tile."""
    n_tiles = -(-E.shape[1] // TILE)
    filled = np.pad(E, ((0, 0), (0, n_tiles * TILE - E.shape[1])), mode="edge").astype(dtype)
    return np.ascontiguousarray(filled.reshape(len(E), n_tiles, TILE).transpose(1, 0, 2))


def permute(basis, E, index, sign, *, n_interest=1, is_t=True, two_sided=True, dtype="float64", **options):
    """Run a batch; returns counts, maxima, (shuffling, voxel, score) of the picks, and the maps."""
    height, n_voxels, n_rows = options.get("height", len(index)), E.shape[1], len(basis)
    reference, threshold = options.get("reference"), options.get("threshold", np.nan)
    weights = np.zeros((n_rows * height, E.shape[0]), dtype)
    shuffle.shuffle_rows(basis.astype(dtype), index, sign, weights)
    tiles = tiled(E, dtype)
    limit = np.full(tiles.shape[0] * TILE, np.nan, dtype)
    if reference is not None:
        limit[:n_voxels] = reference
    counts = np.zeros((tiles.shape[0], TILE), np.int32)
    best = np.empty(len(index), dtype)
    room = len(index) * n_voxels
    picks = np.full(room, -1, np.int32), np.full(room, -1, np.int32), np.full(room, np.nan, dtype)
    maps = np.full((len(index), n_voxels if options.get("maps", True) else 0), np.nan, dtype)
    n_picks = permute_panels(
        [weights.reshape(n_rows, height, -1)],
        tiles,
        (len(index), n_voxels),
        np.empty((tiles.shape[0], 0, TILE), dtype),
        Scoring(combine, np.array([n_rows, n_interest, is_t]), np.empty(0, dtype)),
        two_sided,
        Limits(limit.reshape(-1, TILE), np.array([threshold], dtype)),
        counts,
        best,
        picks,
        maps,
    )
    assert not counts.ravel()[n_voxels:].any(), "voxels that fill a tile are not counted"
    return counts.ravel()[:n_voxels], best, (n_picks, picks), maps


def test_shuffled_rows_are_those_of_the_basis_times_the_permutation():
    basis, E, index, sign = case(n_subjects=6, n_batch=3, n_rows=2)
    out = np.full((2 * 4, 6), 9.0)  # room for a shuffling more than there are
    shuffle.shuffle_rows(basis, index, sign, out)
    for b in range(3):
        np.testing.assert_allclose(out[b::4] @ E, basis @ (sign[b][:, None] * E[index[b]]), atol=1e-14)
    np.testing.assert_array_equal(out[3::4], 9.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n_rows", "n_interest", "is_t"), [(1, 1, True), (3, 1, True), (2, 2, False), (4, 2, False), (1, 1, False)]
)
@PATHS
def test_scores(dtype, n_rows, n_interest, is_t, more):
    basis, E, index, sign = case(n_subjects=8, n_rows=n_rows, more=more)
    expected = scores(basis, E, index, sign, n_interest, is_t)
    for height in (3, 5):  # a full batch, and a last one that isn't
        maps = permute(basis, E, index, sign, n_interest=n_interest, is_t=is_t, dtype=dtype, height=height)[3]
        np.testing.assert_allclose(maps, expected, rtol=0, atol=TOLERANCE[dtype])


@PATHS
def test_a_residual_that_moves_into_the_nuisance_has_a_finite_score(more):
    basis, E, index, sign = case(n_subjects=4, n_voxels=2, n_batch=2, n_rows=2, more=more)
    basis[:], E[:], sign[:] = 0, 0, 1
    basis[0, 0] = basis[1, 1] = 1  # of interest: subject 0; nuisance: subject 1
    E[1, 0] = E[2, 1] = 1  # voxel 0: all in subject 1, voxel 1: in subject 2
    index[:, :4] = [[0, 1, 2, 3], [0, 2, 1, 3]]
    maps = permute(basis, E, index, sign)[3]
    np.testing.assert_array_equal(maps, 0.0)


@PATHS
@given(seed=st.integers(0, 2**32), two_sided=st.booleans(), dtype=st.sampled_from(["float32", "float64"]))
def test_reductions_of_a_batch(more, seed, two_sided, dtype):
    basis, E, index, sign = case(n_batch=int(seed % 3) + 1, n_voxels=int(seed % 70) + 1, seed=seed, more=more)
    maps = permute(basis, E, index, sign, two_sided=two_sided, dtype=dtype)[3]
    seen = np.abs(maps) if two_sided else maps
    counts, best, (n_picks, picks), _ = permute(
        basis, E, index, sign, two_sided=two_sided, dtype=dtype, reference=seen[0], threshold=0.5, maps=False
    )
    expected = reduce(maps, seen[0], np.asarray(0.5, dtype), two_sided)
    np.testing.assert_array_equal(counts, expected[0])  # a score that equals the reference counts
    np.testing.assert_array_equal(best, expected[1])
    # In any order of the shufflings, but voxels increasing within each: a stable sort brings them together.
    order = np.argsort(picks[0][:n_picks], kind="stable")
    np.testing.assert_array_equal(np.stack(picks[:2], axis=1)[order], expected[2])
    np.testing.assert_array_equal(picks[2][order], maps[tuple(expected[2].T)])
    assert (picks[0][n_picks:] == -1).all()


@pytest.mark.parametrize("n_voxels", [1, 63, 64, 1023, 1024, 1025])
@pytest.mark.parametrize("two_sided", [False, True])
@PATHS
def test_tile_boundaries(n_voxels, two_sided, more):
    basis, E, index, sign = case(n_voxels=n_voxels, n_batch=2, seed=n_voxels, more=more)
    # The largest score of the last shuffling is the very last voxel's.
    E[index[-1], -1] = sign[-1] * basis[0]
    reference = np.full(n_voxels, 0.7)
    counts, best, (n_picks, picks), maps = permute(
        basis, E, index, sign, two_sided=two_sided, reference=reference, threshold=0.7
    )
    expected = reduce(scores(basis, E, index, sign, 1, True), reference, 0.7, two_sided)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_allclose(best, expected[1], atol=1e-14)
    order = np.argsort(picks[0][:n_picks], kind="stable")
    np.testing.assert_array_equal(np.stack(picks[:2], axis=1)[order], expected[2])
    assert best[-1] == pytest.approx(1.0)
    assert maps.shape == (2, n_voxels)


@PATHS
def test_several_tiles(more):
    basis, E, index, sign = case(n_voxels=2049, n_batch=2, more=more)
    whole = permute(basis, E, index, sign, reference=np.full(2049, 0.5), threshold=0.9)
    np.testing.assert_allclose(whole[3], scores(basis, E, index, sign, 1, True), atol=1e-14)
    np.testing.assert_allclose(whole[1], np.abs(whole[3]).max(axis=1), atol=0)
    np.testing.assert_array_equal(whole[0], (np.abs(whole[3]) >= 0.5).sum(axis=0))
    n_picks, (which, voxel, value) = whole[2]
    bounds, grouped, values = np.empty(3, np.int64), np.empty(n_picks, np.int32), np.empty(n_picks)
    shuffle.group_picks((which, voxel, value), n_picks, bounds, grouped, values)
    for b in range(2):
        inside = slice(bounds[b], bounds[b + 1])
        np.testing.assert_array_equal(grouped[inside], np.flatnonzero(np.abs(whole[3][b]) >= 0.9))
        np.testing.assert_array_equal(values[inside], whole[3][b, grouped[inside]])


@PATHS
def test_a_one_sided_maximum_may_be_negative(more):
    basis, E, index, sign = case(n_subjects=4, n_voxels=3, n_batch=1, more=more)
    basis[0, :4], E[:4] = 0.5, np.array([-0.5, -0.125, -0.25])
    for two_sided, largest in ((False, -0.25), (True, 1.0)):
        _, best, (n_picks, _), _ = permute(basis, E, index, sign, two_sided=two_sided, threshold=0.6)
        assert best.tolist() == [largest]
        assert n_picks == (1 if two_sided else 0)


@PATHS
def test_equal_voxels_and_voxels_without_variance(more):
    basis, E, index, sign = case(n_voxels=4, more=more)
    E[:] = E[:, :1]
    E[:, 3] = 0.0
    counts, best, _, maps = permute(
        basis, E, index, sign, reference=np.abs(scores(basis, E, index[:1], sign[:1], 1, True)[0])
    )
    assert counts[0] == counts[1] == counts[2]
    assert counts[3] == 3  # 0 is reached by every shuffling
    np.testing.assert_array_equal(best, np.abs(maps[:, 0]))


@PATHS
def test_counts_and_maxima_accumulate_over_batches(more):
    basis, E, index, sign = case(n_batch=5, n_voxels=9, more=more)
    reference = np.full(9, 0.3)
    whole = permute(basis, E, index, sign, reference=reference)
    parts = [permute(basis, E, index[s], sign[s], reference=reference, height=3) for s in (slice(0, 3), slice(3, 5))]
    np.testing.assert_array_equal(whole[0], parts[0][0] + parts[1][0])
    np.testing.assert_array_equal(whole[1], np.concatenate([part[1] for part in parts]))
    np.testing.assert_array_equal(whole[3], np.concatenate([part[3] for part in parts]))


def test_picks_are_grouped_by_shuffling():
    which = np.array([1, 1, 3, 0, 3, 1, 99], np.int32)
    voxel = np.array([4, 6, 2, 1030, 1030, 1031, 99], np.int32)
    value = np.arange(7.0)
    bounds, out_voxel, out_value = np.full(6, -1), np.empty(6, np.int32), np.empty(6)
    shuffle.group_picks((which, voxel, value), 6, bounds, out_voxel, out_value)
    assert bounds.tolist() == [0, 1, 4, 4, 6, 6]
    assert out_voxel.tolist() == [1030, 4, 6, 1031, 2, 1030]
    assert out_value.tolist() == [3.0, 0.0, 1.0, 5.0, 2.0, 4.0]
    shuffle.group_picks((which, voxel, value), 0, bounds, out_voxel[:0], out_value[:0])
    assert bounds.tolist() == [0] * 6
