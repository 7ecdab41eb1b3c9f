from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbaglm.errors import InputError
from numbaglm.kernels.spatial.clusters import cluster_maxima, new_cluster_scratch
from numbaglm.kernels.spatial.network import new_network
from numbaglm.kernels.spatial.tfce import Enhancement, new_scratch, tfce_map, tfce_max
from numbaglm.kernels.spatial.topology import extent_type
from reference.network import line_graph
from reference.tfce import tfce_graph


def enhance(ends, n_nodes, values, how):
    """Enhance on scratch that another map has used, and check the maximum."""
    network = new_network(ends, n_nodes)
    scratch = new_scratch(network)
    out = np.full(values.size, np.nan)
    tfce_map(values[::-1] + values.dtype.type(0.5), network, scratch, how, out)
    tfce_map(values, network, scratch, how, out)
    np.testing.assert_allclose(tfce_max(values, network, scratch, how), np.abs(out).max(), rtol=1e-14)
    return out


@st.composite
def networks(draw):
    """Edges of a matrix or some of them, perhaps with its diagonal; values with and without ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_nodes = draw(st.sampled_from([2, 5, 12]))
    ends = np.column_stack(np.triu_indices(n_nodes, k=draw(st.sampled_from([0, 1]))))
    ends = ends[rng.random(len(ends)) < draw(st.sampled_from([1.0, 0.3]))]
    ends = ends if len(ends) else np.array([[1, 0]])
    values = rng.normal(size=len(ends)).round(draw(st.sampled_from([0, 1, 7])))
    return ends, n_nodes, -np.abs(values) if draw(st.integers(0, 9)) == 0 else values


@given(
    networks(),
    st.sampled_from([(0.4, 3.0), (0.5, 2.0), (1.0, 0.0)]),
    st.booleans(),
    st.sampled_from([0, 10]),
    st.sampled_from([np.float32, np.float64]),
)
@settings(deadline=None, max_examples=100)
def test_is_the_integral_over_the_line_graph(case, exponents, two_sided, n_steps, dtype):
    ends, n_nodes, values = case
    values = values.astype(dtype)
    lines = line_graph(ends)
    how = Enhancement(*exponents, two_sided=two_sided, n_steps=n_steps)
    expected = tfce_graph(values, lines.indptr, lines.indices, **how._asdict())
    np.testing.assert_allclose(
        enhance(ends, n_nodes, values, how), expected, rtol=1e-10, atol=1e-14 * np.abs(expected).max()
    )


@given(networks(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_names_of_nodes_and_the_order_of_edges_change_no_bit(case, seed):
    ends, n_nodes, values = case
    rng = np.random.default_rng(seed)
    how = Enhancement(E=0.4, H=3.0)
    there = enhance(ends, n_nodes, values, how)
    order = rng.permutation(len(ends))
    renamed = rng.permutation(n_nodes)[ends[:, ::-1]]
    np.testing.assert_array_equal(enhance(renamed[order], n_nodes, values[order], how), there[order])


def test_edges_of_a_component_are_counted_not_its_nodes():
    # A triangle and an edge apart from it; another that leads from the triangle has the other sign.
    ends, signs = np.array([[0, 1], [1, 2], [0, 2], [3, 4], [2, 3]]), np.array([1, 1, 1, 1, -1], np.int8)
    network = new_network(ends, 5)
    scratch = new_cluster_scratch(network, 5)
    largest, heaviest = np.empty(2, extent_type(network)), np.empty(2)
    edges, masses = np.tile(np.arange(5, dtype=np.int32), 2), np.full(10, 2.0)
    signs = np.r_[signs, np.ones(5, np.int8)]
    cluster_maxima(np.array([0, 5]), np.array([5, 10]), edges, masses, signs, 0, network, scratch, largest, heaviest)
    assert largest.tolist() == [3, 5], "where signs merge it is all one"
    assert heaviest.tolist() == [6.0, 10.0]
    assert not scratch.cells.any()


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([[0, 3]], r"'ends': got 3\. Allowed: nodes, 0 to 2"),
        ([[-1, 0]], r"'ends': got -1"),
        ([0, 1], r"'ends': got 'int64 of shape \(2,\)'\. Allowed: integers \(n_edges, 2\)"),
        ([[0.0, 1.0]], r"float64 of shape \(1, 2\)"),
        (np.empty((0, 2), int), r"int64 of shape \(0, 2\)"),
    ],
)
def test_what_is_no_network(ends, message):
    with pytest.raises(InputError, match=message):
        new_network(ends, 3)
