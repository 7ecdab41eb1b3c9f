"""A volume, a graph and a network that are the same place: what kernels ask each must have the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.kernels.spatial import topology
from numbaglm.kernels.spatial.graph import new_graph
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.kernels.spatial.network import new_network

MASK = np.random.default_rng(0).random((4, 5, 3)) < 0.7
CELLS = np.argwhere(np.pad(MASK, 1))
ENDS = np.array([[0, 1], [1, 2], [0, 3], [2, 3], [3, 4]])


def volume():
    return new_volume(np.flatnonzero(np.pad(MASK, 1)).astype(np.int32), tuple(np.add(MASK.shape, 2)), 6)


def graph():
    """The voxels of the same mask, as a list of who touches whom."""
    touch = np.abs(CELLS[:, None] - CELLS).sum(axis=2) == 1
    indptr = np.concatenate([[0], np.cumsum(touch.sum(axis=1))])
    return new_graph(indptr, np.nonzero(touch)[1]), touch


def asked(space, p, sign=1):
    """Cells to look at for an element, and those that it marks."""
    lists = topology.lists_of(space, space.strides)
    beside = [
        topology.beside(lists, space.strides, p, sign, k) for k in range(topology.n_beside(lists, space.strides, p))
    ]
    return beside, [topology.own(lists, space.strides, p, sign, k) for k in range(topology.n_own(space.strides))]


def test_neighbours_before_a_voxel_are_those_of_the_graph():
    space, (nodes, touch) = volume(), graph()
    number_at = {p: n for n, p in enumerate(space.position.tolist())}
    for n, p in enumerate(space.position.tolist()):
        beside, own = asked(space, p)
        assert own == [p]
        assert {number_at[q] for q in beside if q in number_at} == set(np.flatnonzero(touch[n, :n]).tolist())
        beside, own = asked(nodes, n)
        assert own == [n]
        assert {q for q in beside if q < n} == set(np.flatnonzero(touch[n, :n]).tolist())


def test_edges_meet_at_their_nodes_by_sign():
    space = new_network(ENDS, 5)
    n = topology.n_cells(space)
    assert n == 10
    for edge, ends in enumerate(ENDS.tolist()):
        for sign, shift in ((1, 0), (-1, 5)):
            beside, own = asked(space, edge, sign)
            assert sorted(beside) == sorted(own) == sorted(end + shift for end in ends)
            assert max(own) < n


@pytest.mark.parametrize("bits", [(0,), (4, 10, 26), tuple(range(13))])
def test_masks_are_searched_from_the_lowest_bit_on(bits):
    space = volume()
    paths = topology.paths_of(space, space.strides, np.empty(0, np.int32))
    left, found = sum(1 << bit for bit in bits), []
    while left:
        found.append(topology.next_higher(paths, space.strides, 1000, left))
        left = topology.without_next(paths, space.strides, left)
    plane, row = space.strides
    steps = [np.subtract(np.unravel_index(bit, (3, 3, 3)), 1) for bit in bits]
    assert found == [1000 + a * plane + b * row + c for a, b, c in steps]


def test_lists_are_searched_up_to_their_last():
    space, _ = graph()
    higher = np.array([0, 7, 9, ~4, 3, ~2], np.int32)  # from 1 on: 7, 9 and, as the last, 4
    paths = topology.paths_of(space, space.strides, higher)
    left, found = 1, []
    while left:
        found.append(topology.next_higher(paths, space.strides, 0, left))
        left = topology.without_next(paths, space.strides, left)
    assert found == [7, 9, 4]


def test_extents_are_counts_or_sums_of_measures():
    space, _ = graph()
    assert (topology.extent_type(space), topology.unit_type(space)) == (np.int32, np.int32)
    assert (topology.unit_of(space.measure), topology.measure_of(space.measure, 3)) == (1, 1)
    areas = np.random.default_rng(1).uniform(0.5, 2, len(CELLS))
    touch = graph()[1]
    indptr = np.concatenate([[0], np.cumsum(touch.sum(axis=1))])
    space = new_graph(indptr, np.nonzero(touch)[1], areas)
    assert (topology.extent_type(space), topology.unit_type(space)) == (np.float64, np.int64)
    unit = topology.unit_of(space.measure)
    found = [topology.measure_of(space.measure, p) * unit for p in range(len(areas))]
    np.testing.assert_allclose(found, areas, rtol=1e-6)
