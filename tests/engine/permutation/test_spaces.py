"""Clusters and TFCE on every space: against their definition, and the same however the work is cut up."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from numbaglm import PermutationResult, permutation_test, spaces
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation import workspace
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.size import BATCH
from numbaglm.errors import InputError
from numbaglm.inference import running as runs
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Mesh, Surface
from numbaglm.spaces.volume import Geometry
from reference.domains import corrected, observe, one_sample_t
from reference.meshes import icosphere
from reference.network import line_graph

KINDS = ("size", "mass", "tfce")


def surface(name, n_splits=0, seed=0, kept=0.9):
    mesh = Mesh(*icosphere(n_splits, seed=seed))
    return Surface(name, mesh.n, np.flatnonzero(np.random.default_rng(seed).random(mesh.n) < kept), mesh)


def structures(shape, kept=0.8):
    mask = np.random.default_rng(5).random(shape) < kept
    volume = Geometry(mask, np.diag([2.0, 2.0, 2.0, 1.0]))
    return Structures(volume, ("caudate", "putamen"), (np.arange(volume.n) % 2).astype(np.int16))


def network(n_nodes=7):
    return Connectome.of_matrix(tuple("abcdefghijklmnop"[:n_nodes]))


def ring(n, measured=True):
    step = np.roll(np.eye(n), 1, axis=1)
    return spaces.graph(step + step.T, np.random.default_rng(2).random(n) + 0.5 if measured else None)


SPACES = {
    "graph": [ring(20)],
    "counted graph": [ring(20, measured=False)],
    "network": [network()],
    "hemispheres": [surface("left"), surface("right", seed=1)],
    "surfaces and volume": [surface("left"), surface("right", seed=1), structures((3, 3, 2))],
    "three domains": [surface(""), network(5), structures((3, 2, 2))],
}


def touching(part, connectivity, structures="merged"):
    """Dense adjacency, by definition."""
    if isinstance(part, Surface):
        dense = np.zeros((part.n_vertices,) * 2)
        for a, b, c in part.mesh.faces:
            dense[[a, b, c, b, c, a], [b, c, a, a, b, c]] = 1
        return dense[np.ix_(part.vertices, part.vertices)]
    if isinstance(part, Connectome):
        return line_graph(part.ends).toarray()
    if isinstance(part, Structures):
        apart = np.abs(part.volume.ijk[:, None] - part.volume.ijk)
        reach = {6: 1, 26: 3}[connectivity]
        near = (apart.max(axis=2) == 1) & (apart.sum(axis=2) <= reach)
        same = part.structure[:, None] == part.structure
        return (near & (same | (structures == "merged"))).astype(float)
    dense = np.zeros((part.n, part.n))
    dense[part.edges[:, 0], part.edges[:, 1]] = dense[part.edges[:, 1], part.edges[:, 0]] = 1
    return dense


def made(parts, n_subjects, seed=0):
    space = Space(tuple(parts))
    noise = np.random.default_rng(seed).normal(size=(n_subjects, space.n))
    return Cohort(CohortStore.from_array((noise + 0.3).astype(np.float32), space))


def by_definition(cohort, threshold, structures="merged", weighted=False):
    """Maps of extents, masses and TFCE of all flips, the identity first, and the domain of each element."""
    n, exponents = cohort.n_subjects, {"surface": (1.0, 2.0), "network": (0.4, 3.0)}
    space = cohort.store.space
    flips = np.array(list(product((1, -1), repeat=n)))
    statistics = one_sample_t(cohort.store.read_subjects(0, n).astype(np.float64), flips)
    measures = [
        None if part.unit != "mm2" and getattr(part, "sizes", None) is None else part.measure for part in space.parts
    ]
    parts = [
        (
            where.start,
            touching(part, 26, structures),
            touching(part, 6, structures),
            measure,
            *exponents.get(part.domain, (0.5, 2.0)),
        )
        for part, where, measure in zip(space.parts, space.slices, measures, strict=True)
    ]
    found = [observe(t, parts, threshold, weighted=weighted) for t in statistics]
    domain = np.repeat([part.domain for part in space.parts], [part.n for part in space.parts])
    return {kind: np.array([one[kind] for one in found]) for kind in KINDS}, domain


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in SPACES),
        ("hemispheres", {"mass": "area"}),
        ("surfaces and volume", {"structures": "apart", "mass": "area"}),
    ],
)
def test_every_count_is_that_of_the_definition(name, options):
    cohort = made(SPACES[name], 6)
    result = permutation_test(cohort, n_perm=100, tfce=True, cluster_forming_threshold=("t", 1.8), **options)
    space = cohort.store.space
    found, domain = by_definition(cohort, 1.8, options.get("structures", "merged"), options.get("mass") == "area")
    several = len(space.domains) > 1
    for kind, maps in found.items():
        np.testing.assert_allclose(np.abs(result.maps[kind]), maps[0], rtol=1e-9, atol=1e-12)
        within, over = corrected(maps, domain)
        inside = maps[0] > 0
        np.testing.assert_array_equal(result.maps[f"p_fwe_{kind}"][inside], (over if several else within)[inside])
        if several:
            np.testing.assert_array_equal(result.maps[f"p_fwe_{kind}_domain"][inside], within[inside])
        assert (f"min_p_{kind}" in result.h0) == several
        assert len(np.unique(result.maps[f"p_fwe_{kind}"])) > 1  # or nothing was compared
    table = result.clusters
    np.testing.assert_array_equal(table["p_fwe_size"], result.maps["p_fwe_size"][table["peak_element"]])
    labels = result.maps["clusters"]
    assert table["size_elements"].tolist() == np.bincount(labels)[1:].tolist()


def test_structures_are_kept_apart_where_that_is_asked_for():
    """Every voxel touches one of the other structure, and no cluster spans two."""
    parts = [structures((4, 3, 3))]
    cohort = made(parts, 6)
    options = {"n_perm": 100, "cluster_forming_threshold": ("t", 1.0)}
    merged, apart = (permutation_test(cohort, structures=how, **options) for how in ("merged", "apart"))
    spans = [
        [len(np.unique(parts[0].structure[one.maps["clusters"] == k])) for k in one.clusters["cluster"]]
        for one in (merged, apart)
    ]
    assert max(spans[0]) == 2
    assert max(spans[1]) == 1
    assert len(apart.clusters) > len(merged.clusters)
    with pytest.raises(InputError, match=r"'structures': got 'apart'.*a network"):
        permutation_test(made([network()], 6), structures="apart", **options)


def test_domains_are_combined_as_palm_users_do_where_that_is_asked_for():
    cohort = made(SPACES["three domains"], 6)
    options = {"n_perm": 100, "cluster_forming_threshold": ("t", 1.8), "tfce": True}
    found = permutation_test(cohort, over_domains="sidak", **options)
    for kind in KINDS:
        within = found.maps[f"p_fwe_{kind}_domain"]
        np.testing.assert_allclose(found.maps[f"p_fwe_{kind}"], 1 - (1 - within) ** 3, rtol=1e-12)
    default = permutation_test(cohort, **options)
    np.testing.assert_array_equal(default.maps["p_fwe_size_domain"], found.maps["p_fwe_size_domain"])
    assert (default.maps["p_fwe_size"] != found.maps["p_fwe_size"]).any()


def test_the_table_says_where_clusters_are():
    cohort = made(SPACES["three domains"], 6)
    table = permutation_test(cohort, n_perm=100, cluster_forming_threshold=("t", 1.0)).clusters
    assert set(table["domain"]) == {"surface", "network", "volume"}
    of_network, of_volume = (table[table["domain"] == name] for name in ("network", "volume"))
    assert set(of_network["unit"]) == {""}
    assert of_network["peak_x"].isna().all()
    assert all(row["peak"].split(" - ")[0] in row["nodes"] for _, row in of_network.iterrows())
    assert set(of_volume["structure"]) <= {"caudate", "putamen"}
    assert set(of_volume["unit"]) == {"mm3"}
    np.testing.assert_allclose(of_volume["size"], 8 * of_volume["size_elements"])
    of_surface = table[table["domain"] == "surface"]
    part = cohort.store.space.parts[0]
    at = part.coordinates(of_surface["peak_element"].to_numpy())
    np.testing.assert_array_equal(of_surface[["peak_x", "peak_y", "peak_z"]], at)
    assert of_surface["peak"].str.match(r"vertex \d+").all()


def test_what_is_saved_is_read_back(tmp_path):
    maps = [one + one.T for one in np.random.default_rng(0).normal(size=(9, 7, 7)) + 0.4]
    options = {"n_perm": 200, "tfce": True, "cluster_forming_threshold": 0.05, "p_interval": 0.9}
    result = permutation_test(maps, space="network", nodes=list("abcdefg"), **options)
    again = PermutationResult.load(result.save(tmp_path / "result"))
    assert len(again.clusters) > 0
    assert_same(again, result)
    assert "edges with FWE p <= 0.05 by TFCE" in again.summary()


@pytest.fixture(scope="module")
def large():
    return made([surface("left", 3), surface("right", 3, seed=1), structures((12, 11, 10))], 9)


OPTIONS = {"n_perm": 300, "cluster_forming_threshold": 0.05, "tfce_uncorrected": True}


@pytest.fixture(scope="module")
def expected(large):
    return permutation_test(large, n_workers=1, **OPTIONS)


def assert_same(one, other):
    assert list(one.maps) == list(other.maps)
    assert list(one.h0) == list(other.h0)
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name], other.maps[name], err_msg=name)
    for name in one.h0:
        np.testing.assert_array_equal(one.h0[name], other.h0[name], err_msg=name)
    pd.testing.assert_frame_equal(one.clusters, other.clusters)


@pytest.mark.parametrize(
    ("tiles", "batches", "resident", "n_workers"), [(1, None, True, 1), (1, 1, True, 2), (2, 1, False, 2)]
)
def test_no_plan_changes_a_bit(monkeypatch, large, expected, tiles, batches, resident, n_workers):
    def make_plan(size, room, n_workers, *, keep=True, **_):
        blocks = [(v, min(v + tiles * TILE, size.n_voxels)) for v in range(0, size.n_voxels, tiles * TILE)]
        step = size.n_shufflings if batches is None else batches * BATCH
        ranges = [(i, min(i + step, size.n_shufflings)) for i in range(0, size.n_shufflings, step)]
        return Plan(BATCH, tuple(blocks), tuple(ranges), resident and keep, 2 * BATCH, size.map_rows)

    monkeypatch.setattr(runs, "make_plan", make_plan)
    assert_same(permutation_test(large, n_workers=n_workers, **OPTIONS), expected)


@pytest.mark.parametrize("n_tasks", [0, 3])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(monkeypatch, tmp_path, large, expected, n_tasks):
    perform, done = workspace._perform, []

    def counted(into, key, *rest):
        if "voxels" not in key and "draws" not in key:
            done.append(key)
        if len(done) > n_tasks:
            raise KeyboardInterrupt
        perform(into, key, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(workspace, "_perform", counted)
        with pytest.raises(KeyboardInterrupt):
            permutation_test(large, store=tmp_path / "run", n_workers=1, **OPTIONS)
    assert_same(permutation_test(large, store=tmp_path / "run", n_workers=2, **OPTIONS), expected)


@pytest.mark.parametrize("asked", [{"tfce": True}, {"tfce_uncorrected": True}, {"cluster_forming_threshold": 0.01}])
@pytest.mark.parametrize(
    ("part", "told"),
    [(Surface("left", 12, np.arange(12)), "surfaces="), (Parcels(tuple("abcdef")), "which parcels touch")],
)
def test_what_touches_nothing_is_refused_before_any_work(monkeypatch, part, told, asked):
    monkeypatch.setattr(runs.Running, "opened", None)
    with pytest.raises(InputError, match=told):
        permutation_test(made([part], 6), n_perm=10, **{"cluster_forming_threshold": None, **asked})
