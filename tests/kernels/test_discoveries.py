import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from numbaglm.kernels.discoveries import (
    NEVER,
    best_shares,
    bound_clusters,
    bound_nodes,
    component_tree,
    count_lower,
    join_keys,
    join_rows,
    largest_nodes,
    leave_out,
    p_of_scores,
    share_plateaus,
)
from numbaglm.kernels.spatial.graph import new_graph
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.kernels.spatial.network import new_network
from reference import discoveries as reference
from reference.network import line_graph


def bounds(parent, level):
    size, found = np.full(parent.size, -7, np.int32), np.full(parent.size, -7, np.int32)
    bound_nodes(parent, level, size, found)
    return size, found


def volume_of(mask, connectivity):
    shape = tuple(side + 2 for side in mask.shape)
    return new_volume(np.flatnonzero(np.pad(mask, 1)).astype(np.int32), shape, connectivity)


@st.composite
def forests(draw):
    """Parents that come after their children, and levels: few, or many; monotone, or not; some never reached."""
    n = draw(st.integers(1, 40))
    reach = draw(st.sampled_from([1, 3, 40]))  # chains, bushes
    parent = [draw(st.integers(node + 1, min(node + reach, n))) for node in range(n)]
    levels = draw(st.lists(st.integers(1, draw(st.sampled_from([2, 8, 60]))), min_size=n, max_size=n))
    if draw(st.booleans()):
        levels.sort()
    never = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    parent = np.where(np.array(parent) == n, -1, parent).astype(np.int32)
    return parent, np.where(never, NEVER, levels).astype(np.int32)


@given(forests())
def test_bounds_of_all_nodes(forest):
    parent, level = forest
    sets = reference.node_sets(parent)
    size, found = bounds(parent, level)
    np.testing.assert_array_equal(size, [len(nodes) for nodes in sets])
    np.testing.assert_array_equal(found, [reference.bound(level[sorted(nodes)]) for nodes in sets])


@given(forests(), st.sampled_from([0.1, 0.5, 1.0]))
def test_best_and_largest(forest, share):
    parent, level = forest
    size, found = bounds(parent, level)
    best, chosen = np.empty(parent.size), np.empty(parent.size, np.int32)
    best_shares(parent, size, found, best)
    largest_nodes(parent, size, found, share, chosen)
    for node in range(parent.size):
        path = [node]
        while parent[path[-1]] >= 0:
            path.append(parent[path[-1]])
        assert best[node] == max(found[path] / size[path])
        assert chosen[node] == max([-1, *(k for k in path if found[k] >= share * size[k])])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("decimals", [0, 1, 7])
@pytest.mark.parametrize("space", [6, 18, 26, "graph", "network"])
def test_nodes_are_the_components_at_all_heights(space, decimals, two_sided, dtype):
    rng = np.random.default_rng(1)
    if space == "graph":
        adjacency = csr_array(np.triu(rng.random((90, 90)) < 0.03, 1))
        adjacency = csr_array(adjacency + adjacency.T)
        where, topology = np.arange(90), new_graph(adjacency.indptr, adjacency.indices)
        values, label = np.empty(90), reference.graph_labels(adjacency)
    elif space == "network":
        ends = np.column_stack(np.triu_indices(14, 1))[::2]
        where, topology = np.arange(len(ends)), new_network(ends, 14)
        values, label = np.empty(len(ends)), reference.graph_labels(line_graph(ends))
    else:
        mask = rng.random((5, 4, 6)) < 0.8
        where, topology = np.flatnonzero(mask), volume_of(mask, space)
        values, label = np.zeros(mask.shape), reference.volume_labels(space)
    values.flat[where] = rng.normal(size=where.size).round(decimals)
    values = values.astype(dtype)
    level = rng.integers(1, 30, where.size).astype(np.int32)

    tree = component_tree(np.ascontiguousarray(values.flat[where]), topology, two_sided)
    size, found = bounds(tree.parent, level[tree.element])
    share_plateaus(tree.parent, tree.height, size, found)

    at_once = np.empty_like(size), np.empty_like(found), np.empty(size.size)
    best = np.empty(size.size)
    best_shares(tree.parent, size, found, best)
    bound_clusters(tree.parent, tree.height, level[tree.element], *at_once)
    for one, other in zip(at_once, (size, found, best), strict=True):
        np.testing.assert_array_equal(one, other)

    expected = reference.components(values, label, two_sided).flat[where]
    assert set(tree.element) == {n for n, component in enumerate(expected) if component is not None}
    np.testing.assert_array_equal(tree.height, np.abs(values.flat[where])[tree.element])
    assert (np.diff(tree.height) <= 0).all()
    for element, n_elements, n_true in zip(tree.element, size, found, strict=True):
        component = expected[element].flat[where].astype(bool)
        assert (n_elements, n_true) == (component.sum(), reference.bound(level[component]))


def test_a_map_without_any_component():
    tree = component_tree(-np.ones(8), volume_of(np.ones((2, 2, 2), bool), 26), False)
    assert tree.element.size == tree.parent.size == 0
    assert [array.size for array in bounds(tree.parent, tree.element)] == [0, 0]


@pytest.mark.parametrize("beyond", [0.0, 1.0])
def test_elements_left_out(beyond):
    rng = np.random.default_rng(2)
    p = np.sort(rng.random((5, 7)), axis=1)
    elements = np.array([rng.permutation(9)[:7] for _ in range(5)], np.int32)
    out, left = rng.random(9) < 0.4, np.full(p.shape, np.nan)
    leave_out(p, elements, out, beyond, left)
    np.testing.assert_array_equal(left, reference.leave_out(p, elements, out, beyond))


@given(st.integers(0, 99), st.sampled_from(["float32", "float64", "int32"]))
def test_what_blocks_left_is_joined(seed, dtype):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, (3, 5))
    parts = [(np.concatenate([[0], np.cumsum(size)]), rng.integers(0, 99, size.sum()).astype(dtype)) for size in sizes]
    ends = np.cumsum(sizes.sum(axis=0))
    place, out = ends - sizes.sum(axis=0), np.zeros(ends[-1], dtype)
    for bounds, values in parts:
        join_rows(bounds, values, place, out)
    assert place.tolist() == ends.tolist()
    np.testing.assert_array_equal(out, np.concatenate(reference.join_rows(parts)))


@given(st.integers(0, 99))
def test_scores_are_joined_with_their_voxels(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 4, (3, 5))
    parts = [
        (np.concatenate([[0], np.cumsum(n)]), rng.permutation(99)[: n.sum()].astype(np.int32), rng.normal(size=n.sum()))
        for n in sizes
    ]
    ends = np.cumsum(sizes.sum(axis=0))
    place, out = ends - sizes.sum(axis=0), np.zeros(ends[-1], np.int64)
    for bounds, voxels, scores in parts:
        join_keys(bounds, voxels, scores.astype(np.float32).view(np.int32), 0x7FFFFFFF, place, out)
    expected = np.concatenate(reference.join_keys(parts))
    np.testing.assert_array_equal(out, expected)
    height = np.concatenate(reference.join_rows([(bounds, np.abs(scores)) for bounds, _, scores in parts]))
    np.testing.assert_array_equal(np.argsort(out), np.argsort(np.float32(height), kind="stable"))


@given(st.integers(0, 99), st.sampled_from([0.01, 0.5, 9.0]), st.sampled_from(["float32", "float64"]))
def test_p_by_parabolas(seed, steep, dtype):
    rng = np.random.default_rng(seed)
    knots = np.linspace(0.4, 0.9, 9)
    log_p = -5 - steep * np.cumsum(rng.uniform(0.5, 1, 9))
    scores = -np.sort(-rng.uniform(0.4, 0.9, (3, 20)).astype(dtype), axis=1)
    rise = np.diff(log_p)
    bend = np.diff(rise)
    table = np.ascontiguousarray(np.transpose([np.exp(log_p[:-2]), rise[:-1] - bend / 2, bend / 2]))
    expected, found = reference.p_of_scores(np.float64(scores), knots, log_p), np.zeros(scores.shape)
    far = float(np.median(scores))
    found[scores > far] = expected[scores > far]  # these are there already
    p_of_scores(scores, table, 0.4, 8 / 0.5, far, found)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.diff(found) >= 0).all()


@given(st.integers(0, 99))
def test_numbers_below_in_curves(seed):
    rng = np.random.default_rng(seed)
    curves = np.sort(rng.integers(0, 6, (3, 7)) / 6.0, axis=1)
    which, p = rng.integers(0, 3, 20), rng.integers(-1, 8, 20) / 6.0
    lower = np.full(20, -1)
    count_lower(curves, which, p, lower)
    assert lower.tolist() == reference.count_lower(curves, which, p)
