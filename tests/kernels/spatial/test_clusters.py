from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from numbaglm.kernels.spatial import clusters
from numbaglm.kernels.spatial.graph import new_graph
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.kernels.spatial.network import new_network
from numbaglm.kernels.spatial.topology import extent_type
from numbaglm.spaces.volume import Geometry
from reference.clusters import label, label_graph, largest
from reference.network import line_graph

SHAPE = (3, 4, 5)


def run(maps, mask, threshold, connectivity):
    return maxima(maps, volume_of(mask, connectivity), threshold)


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
    _, voxel, _, signs = pick(maps, 0.3)
    space = volume_of(mask, connectivity)
    scratch = clusters.new_cluster_scratch(space, voxel.size)
    clusters.label_clusters(voxel, signs, 0, space, space.strides, scratch.cells, scratch.parent)
    volume = maps.reshape(SHAPE)
    labels, n = label(np.abs(volume) >= 0.3, np.sign(volume), connectivity)
    expected = labels[np.abs(volume) >= 0.3]
    first = {c: np.flatnonzero(expected == c)[0] for c in range(1, n + 1)}
    np.testing.assert_array_equal(scratch.parent, [first[c] for c in expected])


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


def graph_of(mask, connectivity):
    """CSR adjacency of a mask's voxels."""
    ijk = np.argwhere(mask)
    distance = np.abs(ijk[:, None] - ijk)
    return csr_array((distance.max(axis=-1) == 1) & (distance.sum(axis=-1) <= {6: 1, 18: 2, 26: 3}[connectivity]))


def volume_of(mask, connectivity):
    geometry = Geometry(mask, np.eye(4))
    return new_volume(geometry.padded_index, geometry.padded_shape, connectivity)


def pick(maps, threshold, signed=True):
    """What of (n_batch, n_voxels) maps reaches a threshold: bounds, voxels, contributions and signs."""
    above = np.abs(maps) >= threshold
    bounds = np.concatenate([[0], np.cumsum(above.sum(axis=1))])
    signs = np.sign(maps[above]).astype(np.int8) if signed else np.ones(bounds[-1], np.int8)
    return bounds, np.nonzero(above)[1].astype(np.int32), np.abs(maps[above]), signs


def maxima(maps, space, threshold, signed=True, first=0):
    """Largest extents and masses of maps, or of the part of them that begins at `first`."""
    bounds, voxel, masses, signs = pick(maps, threshold, signed)
    begin, end = np.empty((2, len(maps)), np.int64)
    clusters.part_bounds(bounds, voxel, first, first + space.position.size, begin, end)
    scratch = clusters.new_cluster_scratch(space, int((end - begin).max(initial=0)))
    scratch.parent[:], scratch.extent[:], scratch.mass[:] = 7, 7, np.nan  # what scratch holds before doesn't matter
    extent, mass = np.full(len(maps), -1, extent_type(space)), np.full(len(maps), np.nan)
    clusters.cluster_maxima(begin, end, voxel, masses, signs, first, space, scratch, extent, mass)
    assert not scratch.cells.any(), "cells must be left as they were found"
    return extent, mass


def assert_maxima(maps, space, adjacency, threshold, signed=True, measure=None):
    extent, mass = maxima(maps, space, threshold, signed)
    for b, values in enumerate(maps):
        signs = np.sign(values) if signed else np.ones(values.size)
        labels, n = label_graph(np.abs(values) >= threshold, signs, adjacency.indptr, adjacency.indices)
        expected = largest(labels, n, np.abs(values), measure)
        np.testing.assert_allclose([extent[b], mass[b]], expected, rtol=1e-9)


@given(
    seed=st.integers(0, 2**32),
    connectivity=st.sampled_from([6, 18, 26]),
    threshold=st.sampled_from([0.0, 0.5, 1.5, 9.0]),
    signed=st.booleans(),
    measured=st.booleans(),
)
def test_maxima_in_a_volume_and_on_its_graph(seed, connectivity, threshold, signed, measured):
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.7
    mask[1, 1, 1] = True
    maps = rng.normal(size=(3, mask.sum())).round(1)
    adjacency = graph_of(mask, connectivity)
    measure = rng.uniform(0, 5, maps.shape[1]) * (rng.random(maps.shape[1]) < 0.8) if measured else None
    graph = new_graph(adjacency.indptr, adjacency.indices, measure)
    assert_maxima(maps, graph, adjacency, threshold, signed, measure)
    assert_maxima(maps, volume_of(mask, connectivity), adjacency, threshold, signed)


@given(
    seed=st.integers(0, 2**32),
    n_nodes=st.sampled_from([2, 5, 12]),
    threshold=st.sampled_from([0.0, 1.0, 2.0]),
    signed=st.booleans(),
)
def test_maxima_in_a_network(seed, n_nodes, threshold, signed):
    rng = np.random.default_rng(seed)
    ends = np.column_stack(np.triu_indices(n_nodes, 1))
    maps = rng.normal(size=(3, len(ends)))
    assert_maxima(maps, new_network(ends, n_nodes), line_graph(ends), threshold, signed)


@given(seed=st.integers(0, 2**32))
def test_extents_are_the_same_bits_in_any_order(seed):
    rng = np.random.default_rng(seed)
    adjacency = graph_of(np.ones(SHAPE, bool), 18)
    maps, measure = rng.normal(size=(3, 60)), rng.uniform(0.4, 5, 60)
    extent, mass = maxima(maps, new_graph(adjacency.indptr, adjacency.indices, measure), 0.3)
    order = rng.permutation(60)
    shuffled = adjacency[order][:, order]
    other = maxima(maps[:, order], new_graph(shuffled.indptr, shuffled.indices, measure[order]), 0.3)
    np.testing.assert_array_equal(other[0], extent)
    np.testing.assert_allclose(other[1], mass, rtol=1e-12)


def test_parts_of_a_map_are_maps_of_their_own():
    rng = np.random.default_rng(4)
    mask = rng.random(SHAPE) < 0.7
    adjacency, volume = graph_of(np.ones(SHAPE, bool), 6), volume_of(mask, 26)
    graph = new_graph(adjacency.indptr, adjacency.indices, rng.uniform(0.4, 5, 60))
    ends = np.column_stack(np.triu_indices(6, 1))
    maps = rng.normal(size=(5, 60 + mask.sum() + len(ends)))
    maps[2, :60] = 0
    first = 0
    for space in (graph, volume, new_network(ends, 6)):
        alone = np.ascontiguousarray(maps[:, first : first + space.position.size])
        for found, expected in zip(maxima(maps, space, 1.0, first=first), maxima(alone, space, 1.0), strict=True):
            np.testing.assert_array_equal(found, expected)
        first += space.position.size


@pytest.mark.parametrize("kind", ["volume", "graph", "network"])
def test_labels_are_the_first_of_each_cluster_in_every_space(kind):
    rng = np.random.default_rng(5)
    if kind == "network":
        ends = np.column_stack(np.triu_indices(9, 1))
        space, adjacency = new_network(ends, 9), line_graph(ends)
    else:
        mask = np.ones(SHAPE, bool)
        adjacency = graph_of(mask, 6)
        space = volume_of(mask, 6) if kind == "volume" else new_graph(adjacency.indptr, adjacency.indices)
    values = rng.normal(size=adjacency.shape[0])
    _, voxel, _, signs = pick(values[None], 1.2)
    scratch = clusters.new_cluster_scratch(space, voxel.size)
    clusters.label_clusters(voxel, signs, 0, space, space.strides, scratch.cells, scratch.parent)
    labels, n = label_graph(np.abs(values) >= 1.2, np.sign(values), adjacency.indptr, adjacency.indices)
    first = {c: np.flatnonzero(labels[voxel] == c)[0] for c in range(1, n + 1)}
    assert n > 2
    np.testing.assert_array_equal(scratch.parent, [first[c] for c in labels[voxel]])
