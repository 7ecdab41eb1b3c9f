"""Clusters on a graph beside MNE's cluster tests: exact, so that all sign flips are compared."""

import numpy as np
import pytest
from scipy.sparse import coo_array

import numbaglm as ng
from numbaglm.spaces.surface import Mesh
from reference.meshes import icosphere

stats = pytest.importorskip("mne.stats")

N = 7
MESH = Mesh(*icosphere(2))


def adjacency():
    a, b = MESH.edges.T
    pairs = np.concatenate([a, b]), np.concatenate([b, a])
    return coo_array((np.ones(2 * len(a)), pairs), shape=(MESH.n, MESH.n))


@pytest.mark.parametrize("tail", [1, 0])
def test_masses_and_p_of_all_sign_flips(tail):
    """Its cluster statistic is the sum of t, strictly above the threshold; p count every flip, the observed too."""
    Y = np.random.default_rng(0).normal(0.2, 1, (N, MESH.n))
    how = {"tail": tail, "adjacency": adjacency(), "out_type": "mask", "verbose": False}
    # More than there are: all of them. "all" leaves one out.
    t, clusters, p, null = stats.permutation_cluster_1samp_test(Y, threshold=1.5, n_permutations=10_000, **how)
    cohort = ng.Cohort.from_maps(Y, space=ng.spaces.graph(adjacency()))
    options = {"two_sided": tail == 0, "cluster_forming_threshold": ("t", 1.5), "strict": True}
    result = ng.permutation_test(cohort, n_perm=1000, **options)
    np.testing.assert_allclose(result.maps["t"], t, rtol=1e-5)
    assert len(clusters) == len(result.clusters) > 3
    # One-sided it counts the observed data twice, and leaves out the flip of all of them.
    off = 1e-9 if tail == 0 else 1 / 2**N + 1e-9
    for inside, expected in zip(clusters, p, strict=True):
        np.testing.assert_allclose(result.maps["mass"][inside], np.abs(t[inside].sum()), rtol=1e-5)
        np.testing.assert_allclose(result.maps["p_fwe_mass"][inside], expected, atol=off)
    if tail == 0:  # it takes half of the flips, of which the others are mirror images
        np.testing.assert_allclose(np.sort(result.h0["max_mass"])[::2], np.sort(np.abs(null)), rtol=1e-5)
