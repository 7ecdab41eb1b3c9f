import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull

from numbaglm.errors import InputError
from numbaglm.kernels.spatial.graph import new_graph
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.kernels.spatial.tfce import Enhancement, new_scratch, tfce_map, tfce_max
from reference.tfce import tfce_graph

HOWS = {
    "both sides": Enhancement(),
    "one side": Enhancement(two_sided=False),
    "steps": Enhancement(n_steps=37, times_step=False),
    "fixed steps": Enhancement(E=0.7, H=1.0, dh=0.2),
}


def enhance(space, values, how):
    """Enhance on scratch that another map has used, and check the maximum."""
    scratch = new_scratch(space)
    out = np.full(values.size, np.nan)
    tfce_map(values[::-1] + values.dtype.type(0.5), space, scratch, how, out)
    tfce_map(values, space, scratch, how, out)
    np.testing.assert_allclose(tfce_max(values, space, scratch, how), np.abs(out).max(), rtol=1e-14)
    return out


def touching(mask, connectivity):
    """CSR adjacency of a mask's voxels."""
    ijk = np.argwhere(mask)
    distance = np.abs(ijk[:, None] - ijk)
    n_axes = {6: 1, 18: 2, 26: 3}[connectivity]
    return csr_array((distance.max(axis=-1) == 1) & (distance.sum(axis=-1) <= n_axes))


def triangulated_sphere(n_nodes, seed):
    """CSR adjacency of a triangulated sphere's nodes."""
    nodes = np.random.default_rng(seed).normal(size=(n_nodes, 3))
    nodes /= np.linalg.norm(nodes, axis=1, keepdims=True)
    triangles = ConvexHull(nodes).simplices
    a, b = triangles.ravel(), np.roll(triangles, 1, axis=1).ravel()
    sphere = csr_array((np.ones(2 * a.size), (np.r_[a, b], np.r_[b, a])), shape=(n_nodes, n_nodes))
    assert sphere.nnz == 2 * (3 * n_nodes - 6)  # Euler: a closed surface
    return sphere


def random_graph(rng, n_nodes, n_edges):
    """CSR adjacency of random edges."""
    a, b = rng.integers(0, n_nodes, (2, n_edges))
    a, b = a[a != b], b[a != b]
    graph = csr_array((np.ones(2 * a.size), (np.r_[a, b], np.r_[b, a])), shape=(n_nodes, n_nodes))
    graph.sum_duplicates()
    return graph


@st.composite
def measured_maps(draw):
    """A graph (in pieces, with hubs), values (tied, all different, none above 0), and measures (some of them 0)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_nodes = draw(st.sampled_from([1, 2, 7, 60]))
    graph = random_graph(rng, n_nodes, draw(st.sampled_from([0, n_nodes // 2, 2 * n_nodes, 12 * n_nodes])))
    values = rng.normal(size=n_nodes).round(draw(st.sampled_from([0, 1, 7])))
    values = -np.abs(values) if draw(st.integers(0, 9)) == 0 else values
    measure = rng.uniform(0.4, 5, n_nodes) * (rng.random(n_nodes) < draw(st.sampled_from([1.0, 0.7, 0.0])))
    return graph, values, draw(st.sampled_from([None, measure]))


EXPONENTS = st.sampled_from([(0.5, 2.0), (1.0, 2.0), (0.4, 3.0), (0.0, 0.0), (0.7, 1.3)])


@given(measured_maps(), EXPONENTS, st.booleans(), st.sampled_from([0, 10]), st.sampled_from([np.float32, np.float64]))
@settings(deadline=None, max_examples=150)
def test_is_the_integral(case, exponents, two_sided, n_steps, dtype):
    graph, values, measure = case
    values = values.astype(dtype)
    how = Enhancement(*exponents, two_sided=two_sided, n_steps=n_steps)
    expected = tfce_graph(values, graph.indptr, graph.indices, measure, **how._asdict())
    found = enhance(new_graph(graph.indptr, graph.indices, measure), values, how)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-14 * np.abs(expected).max())


@given(measured_maps(), EXPONENTS, st.booleans(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_the_order_of_the_nodes_changes_no_bit(case, exponents, two_sided, seed):
    graph, values, measure = case
    how = Enhancement(*exponents, two_sided=two_sided)
    order = np.random.default_rng(seed).permutation(values.size)
    there = enhance(new_graph(graph.indptr, graph.indices, measure), values, how)
    graph, measure = graph[order][:, order], None if measure is None else measure[order]
    np.testing.assert_array_equal(
        enhance(new_graph(graph.indptr, graph.indices, measure), values[order], how), there[order]
    )


def test_measures_are_whole_numbers_of_a_unit():
    measure = np.random.default_rng(5).uniform(0, 5, 10_000) * 10.0 ** np.repeat([-6, 3], 5_000)
    in_units, unit = new_graph(np.zeros(10_001, int), [], measure).measure
    np.testing.assert_allclose(in_units * unit, measure, atol=2.0**-51 * measure.sum(), rtol=0)
    assert in_units.sum() <= 2**53, "or their sums are no doubles"
    in_units, unit = new_graph(np.zeros(4, int), [], [1, 7, 1e6]).measure
    np.testing.assert_array_equal(in_units * unit, [1, 7, 1e6])


def test_a_ring_is_walked_round():
    """A wheel: the rim's nodes touch the hub and two others; around the hub all of the rim is one piece."""
    rim = np.random.default_rng(6).permutation(np.arange(1, 9))
    a, b = np.r_[np.zeros(8, int), rim], np.r_[rim, np.roll(rim, 1)]
    wheel = csr_array((np.ones(32), (np.r_[a, b], np.r_[b, a])))
    graph = new_graph(wheel.indptr, wheel.indices)
    around = graph.indices[:8]
    assert wheel[around, np.roll(around, 1)].all()
    assert (graph.touches[0], graph.ring[0]) == (0b11111110, 0b10000000)


def test_stretches_of_nodes_of_different_degree():
    """Longer than a segment, its last nodes without neighbours, and a hub in it."""
    rng = np.random.default_rng(7)
    graph = random_graph(rng, 4500, 9000).tolil()
    graph[3000:, :] = 0
    graph[:, 3000:] = 0
    graph[5, 100:140] = graph[100:140, 5] = 1
    graph = csr_array(graph)
    values = rng.normal(size=4500).round(2).astype(np.float32)
    expected = tfce_graph(values, graph.indptr, graph.indices, **HOWS["both sides"]._asdict())
    found = enhance(new_graph(graph.indptr, graph.indices), values, HOWS["both sides"])
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("two_sided", [True, False])
def test_as_the_c_library(two_sided):
    tfce = pytest.importorskip("tfce").tfce
    sphere = triangulated_sphere(642, seed=8)
    values = np.random.default_rng(9).normal(size=642)
    shown = values if two_sided else np.maximum(values, 0)
    expected = tfce(shown, adjacency=sphere.astype(np.int32), E=1.0, H=2.0)
    found = enhance(new_graph(sphere.indptr, sphere.indices), values, Enhancement(E=1.0, two_sided=two_sided))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize("how", HOWS)
def test_a_volume_as_a_graph(connectivity, dtype, decimals, how):
    rng = np.random.default_rng(1)
    mask = rng.random((7, 6, 8)) < 0.8
    values = rng.normal(size=mask.sum()).round(decimals).astype(dtype)
    volume = new_volume(np.flatnonzero(np.pad(mask, 1)).astype(np.int32), (9, 8, 10), connectivity)
    adjacency = touching(mask, connectivity)
    found = enhance(new_graph(adjacency.indptr, adjacency.indices), values, HOWS[how])
    assert np.ptp(found) > 0
    np.testing.assert_allclose(found, enhance(volume, values, HOWS[how]), rtol=1e-12)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("decimals", [0, 7])
@pytest.mark.parametrize("how", HOWS)
def test_a_surface(index, decimals, how):
    sphere = triangulated_sphere(162, seed=2)
    indptr, indices = sphere.indptr.astype(index), sphere.indices.astype(index)
    values = np.random.default_rng(3).normal(size=162).round(decimals)
    found = enhance(new_graph(indptr, indices), values, HOWS[how])
    expected = tfce_graph(values, indptr, indices, **HOWS[how]._asdict())
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14 * np.abs(expected).max())


def test_more_neighbours_than_a_mask_has_bits():
    """A hub, the lowest of all, joins 99 peaks."""
    hub, peaks = np.zeros(99, int), np.arange(1, 100)
    star = csr_array((np.ones(198), (np.r_[hub, peaks], np.r_[peaks, hub])))
    values = np.r_[1.0, np.random.default_rng(4).uniform(2, 3, 99)]
    expected = tfce_graph(values, star.indptr, star.indices)
    np.testing.assert_allclose(enhance(new_graph(star.indptr, star.indices), values, Enhancement()), expected)


def test_the_order_of_neighbours_and_repeats_change_nothing():
    values = np.array([1.0, 3.0, 2.0, -1.0])
    expected = [np.sqrt(3) / 3, np.sqrt(3) / 3 + 26 / 3, np.sqrt(3) / 3 + 7 / 3, -1 / 3]
    for indptr, indices in (([0, 2, 3, 5, 6], [1, 2, 0, 0, 3, 2]), ([0, 3, 4, 6, 7], [2, 1, 2, 0, 3, 0, 2])):
        np.testing.assert_allclose(enhance(new_graph(indptr, indices), values, Enhancement()), expected)


def test_isolated_nodes():
    values = np.array([1.0, 2.0, -3.0, 0.0, 5.0])
    expected = np.sign(values) * np.abs(values) ** 3 / 3
    np.testing.assert_allclose(enhance(new_graph(np.zeros(6, int), []), values, Enhancement()), expected)
    # 0 and 4 touch, the others nothing.
    expected[[0, 4]] = np.sqrt(2) / 3, np.sqrt(2) / 3 + 124 / 3
    np.testing.assert_allclose(enhance(new_graph([0, 1, 1, 1, 1, 2], [4, 0]), values, Enhancement()), expected)


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1, 1], [1], r"'indices': got 'an edge from node 0 to node 1 and none back'.* Add the transposed"),
        ([0, 1, 3, 4], [2, 0, 2, 1], r"an edge from node 0 to node 2 and none back"),
        ([0, 1, 2], [2, 0], r"'indices': got 2\. Allowed: nodes, 0 to 1"),
        ([0, 1, 2], [1, -1], r"'indices': got -1\. Allowed: nodes, 0 to 1"),
        ([0, 1, 3], [1, 0, 1], r"'indices': got 'an edge from node 1 to itself'.* Remove the diagonal"),
        ([0], [], r"'indptr': got '1 entries'"),
        ([0, 1, 1], [1, 0], r"'indptr': got '0 to 1 for 2 indices'"),
        ([1, 1, 2], [1, 0], r"'indptr': got '1 to 2 for 2 indices'"),
        ([0, 3, 2], [1, 0], r"'indptr'.* never decreasing"),
        ([0.0, 1.0, 2.0], [1, 0], r"'indptr': got 'float64 of shape \(3,\)'. Allowed: integers"),
        ([0, 1, 2], [[1, 0]], r"'indices': got 'int64 of shape \(1, 2\)'"),
    ],
)
def test_what_is_no_graph(indptr, indices, message):
    with pytest.raises(InputError, match=message):
        new_graph(indptr, indices)


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ([1.0], r"'measure': got 'shape \(1,\)'\. Allowed: \(2,\), one a node"),
        ([1.0, -0.1], r"'measure': got '-0\.1 for node 1'"),
        ([np.nan, 1.0], r"'measure': got 'nan for node 0'\. Allowed: finite numbers, 0 or more"),
    ],
)
def test_what_is_no_measure(measure, message):
    with pytest.raises(InputError, match=message):
        new_graph([0, 1, 2], [1, 0], measure)
