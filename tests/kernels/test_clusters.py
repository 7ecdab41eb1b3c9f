from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaglm.kernels import clusters
from numbaglm.spaces.volume import Geometry
from reference.clusters import label, largest

SHAPE = (3, 4, 5)


def prepare(maps, mask, threshold, connectivity):
    """Arguments for `largest_clusters` from maps (n_batch, n_voxels)."""
    geometry = Geometry(mask, np.eye(4))
    above = np.abs(maps) >= threshold
    bounds = np.concatenate([[0], np.cumsum(above.sum(axis=1))])
    flat = np.concatenate([geometry.padded_index[row] for row in above]).astype(np.int32)
    values = maps[above]
    offsets = geometry.neighbour_offsets(connectivity)
    grid = np.zeros(int(np.prod(geometry.padded_shape)), np.int32)
    return bounds, flat, np.abs(values), np.sign(values).astype(np.int8), offsets[offsets < 0], grid


def run(maps, mask, threshold, connectivity):
    bounds, flat, masses, signs, offsets, grid = prepare(maps, mask, threshold, connectivity)
    most = int(np.diff(bounds).max(initial=0))
    # What scratch holds before doesn't matter, but for the grid.
    scratch = grid, np.full(most, 7, np.int32), np.full(most, 7, np.int32), np.full(most, np.nan)
    size, mass = np.full(len(maps), -1, np.int32), np.full(len(maps), np.nan)
    clusters.largest_clusters(bounds, flat, masses, signs, offsets, scratch, size, mass)
    assert not grid.any(), "the grid must be left as it was found"
    return size, mass


@given(
    seed=st.integers(0, 2**32),
    connectivity=st.sampled_from([6, 18, 26]),
    threshold=st.sampled_from([0.0, 0.5, 1.5, 9.0]),
    holes=st.booleans(),
)
def test_largest_clusters(seed, connectivity, threshold, holes):
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.7 if holes else np.ones(SHAPE, bool)
    mask[1, 1, 1] = True
    maps = rng.normal(size=(3, mask.sum()))
    size, mass = run(maps, mask, threshold, connectivity)
    for b, values in enumerate(maps):
        volume = np.zeros(SHAPE)
        volume[mask] = values
        labels, n = label(mask & (np.abs(volume) >= threshold), np.sign(volume), connectivity)
        expected = largest(labels, n, np.abs(volume))
        assert size[b] == expected[0]
        np.testing.assert_allclose(mass[b], expected[1], rtol=1e-12)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_labels_are_the_first_voxel_of_each_cluster(connectivity):
    rng = np.random.default_rng(connectivity)
    mask = np.ones(SHAPE, bool)
    maps = rng.normal(size=(1, mask.size))
    _, flat, _, signs, offsets, grid = prepare(maps, mask, 0.3, connectivity)
    parent = np.empty(flat.size, np.int32)
    clusters.label_components(flat, signs, offsets, grid, parent)
    volume = maps.reshape(SHAPE)
    labels, n = label(np.abs(volume) >= 0.3, np.sign(volume), connectivity)
    expected = labels[np.abs(volume) >= 0.3]
    first = {c: np.flatnonzero(expected == c)[0] for c in range(1, n + 1)}
    np.testing.assert_array_equal(parent, [first[c] for c in expected])


def test_signs_merge_where_they_are_called_equal():
    mask = np.ones((1, 1, 4), bool)
    maps = np.array([[2.0, -2.0, 2.0, 0.0]])
    assert run(maps, mask, 1.0, 6)[0] == [1]
    assert run(np.abs(maps), mask, 1.0, 6)[0] == [3]


def test_neighbours_never_wrap_round_the_grid():
    mask = np.ones((2, 2, 2), bool)
    maps = np.zeros((2, 8))
    maps[0, [0, 7]] = 1.0  # opposite corners: neighbours by their corner alone
    maps[1, [1, 2]] = 1.0  # the end of a row and the start of the next: neighbours by an edge
    for connectivity, expected in ((6, [1, 1]), (18, [1, 2]), (26, [2, 2])):
        assert run(maps, mask, 1.0, connectivity)[0].tolist() == expected


def test_a_winding_cluster_is_one():
    # A comb whose teeth meet at the very last row: the union of many long paths.
    mask = np.ones((1, 6, 9), bool)
    comb = np.zeros(mask.shape)
    comb[0, :, ::2] = 1.0
    comb[0, -1, :] = 1.0
    size, mass = run(comb.reshape(1, -1), mask, 1.0, 6)
    assert size.tolist() == [34]
    assert mass.tolist() == [34.0]
