"""Networks beside bctpy's network-based statistic: t, components and their sizes."""

import numpy as np
import pytest

import numbaglm as ng

bct = pytest.importorskip("bct")

NODES, EACH = 10, 7
EDGES = np.triu_indices(NODES, 1)


def test_components_of_two_samples():
    """It takes abs(t) strictly above the threshold, both signs together, and counts edges."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2 * EACH, NODES, NODES))
    noise[:EACH, :3, :5] += 1.2
    matrices = (noise + noise.transpose(0, 2, 1)) / 2
    matrices[:, range(NODES), range(NODES)] = 0
    first, second = (np.ascontiguousarray(one.transpose(1, 2, 0)) for one in (matrices[:EACH], matrices[EACH:]))
    _, labels, null = bct.nbs_bct(first, second, thresh=1.8, k=20, tail="both", seed=0)
    cohort = ng.Cohort.from_maps(matrices, space="network", nodes=[f"node {k}" for k in range(NODES)])
    group = np.repeat([1.0, 0.0], EACH)
    design = np.column_stack([group, 1 - group])
    options = {"cluster_forming_threshold": ("t", 1.8), "merge_signs": True, "strict": True}
    result = ng.permutation_test(cohort, design, [[1, -1]], n_perm=20, **options)
    theirs, ours = labels[EDGES].astype(int), result.maps["clusters"]
    np.testing.assert_array_equal(theirs > 0, ours > 0)
    sizes = sorted(np.bincount(theirs)[1:].tolist(), reverse=True)
    assert [size for size in sizes if size] == result.clusters["size_elements"].tolist()
    for k in result.clusters["cluster"]:
        assert len(np.unique(theirs[ours == k])) == 1
    assert null.shape == (20,)
