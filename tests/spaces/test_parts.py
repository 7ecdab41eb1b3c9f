from __future__ import annotations

import json

import numpy as np
import pytest
import scipy

import numbaglm as ng
from numbaglm.errors import ImageError, InputError
from numbaglm.kernels.spatial.graph import Graph
from numbaglm.kernels.spatial.network import Network
from numbaglm.spaces.cifti import BrainModel, Structures, parts_of_models
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space, Template
from numbaglm.spaces.surface import Mesh, Surface
from numbaglm.spaces.volume import Geometry
from reference.meshes import icosphere

MESH = Mesh(*icosphere())
KEEP = np.random.default_rng(1).random(42) < 0.7
RING = np.roll(np.eye(6), 1, axis=1)
MASK = np.random.default_rng(0).random((5, 4, 3)) < 0.6
VOLUME = Geometry(MASK, np.diag([2.0, 2.0, 2.0, 1.0]))
PARTS = {
    "surface": Surface("left", 42, np.flatnonzero(KEEP), MESH),
    "surface without a mesh": Surface("right", 42, np.arange(42)),
    "surface with areas": Surface("", 42, np.arange(42), MESH, np.arange(1.0, 43.0)),
    "structures": Structures(VOLUME, ("a", "b"), np.arange(VOLUME.n, dtype=np.int16) % 2),
    "parcels": Parcels(("insula", "cuneus", "pole")),
    "network": Connectome.of_matrix(("a", "b", "c", "d")),
    "graph": ng.spaces.graph(RING + RING.T, np.arange(1.0, 7.0), np.ones((6, 3))),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_a_part_is_built_again_and_selected_from(part):
    description, arrays = part.describe()
    again = type(part).build({"name": part.name} | json.loads(json.dumps(description)), arrays)
    assert again.same(part)
    assert again.token() == part.token()
    keep = np.arange(part.n) % 2 == 0
    half = part.select(keep)
    assert half.n == keep.sum()
    assert not half.same(part)
    np.testing.assert_array_equal(half.measure, part.measure[keep])
    kept = np.flatnonzero(keep)
    assert half.places(np.arange(half.n)) == part.places(kept)
    for mine, theirs in ((half.coordinates(np.arange(half.n)), part.coordinates(kept)),):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)


def test_an_area_is_a_third_of_the_triangles_around():
    area = np.zeros(42)
    for a, b, c in MESH.faces:
        one, two, three = MESH.coordinates[[a, b, c]]
        area[[a, b, c]] += np.linalg.norm(np.cross(two - one, three - one)) / 2 / 3
    np.testing.assert_allclose(MESH.areas, area, rtol=1e-13)


def touching(graph):
    """Pairs that a graph of the kernels has."""
    start = np.repeat(np.arange(graph.indptr.size - 1), np.diff(graph.indptr))
    return set(zip(start.tolist(), graph.indices.tolist(), strict=True))


def edges_of(mesh, vertices):
    """Pairs of selected vertices in a triangle, by their numbers among those selected."""
    number = {vertex: k for k, vertex in enumerate(vertices.tolist())}
    pairs = {(int(a), int(b)) for face in mesh.faces for a in face for b in face if a != b}
    return {(number[a], number[b]) for a, b in pairs if a in number and b in number}


def test_a_mesh_touches_where_its_triangles_have_an_edge_and_weighs_by_its_areas():
    left = PARTS["surface"]
    graph = left.topology(26)
    assert touching(graph) == edges_of(MESH, left.vertices)
    sizes, unit = graph.measure
    np.testing.assert_allclose(sizes * unit, left.measure, rtol=1e-9)


def test_topologies_are_those_of_the_kernels():
    assert isinstance(PARTS["network"].topology(6), Network)
    graph = PARTS["graph"].topology(6)
    assert isinstance(graph, Graph)
    assert touching(graph) == {(k, (k + step) % 6) for k in range(6) for step in (1, -1)}


@pytest.mark.parametrize(("name", "word"), [("surface without a mesh", "pass surfaces="), ("parcels", "spaces.graph")])
def test_without_neighbours_there_are_no_clusters(name, word):
    space = Space((PARTS[name],))
    assert PARTS[name].topology(26) is None
    with pytest.raises(InputError, match=word):
        space.require_neighbours()


@pytest.mark.parametrize("name", ["surface", "parcels", "network", "graph"])
def test_smoothing_is_refused_where_it_is_not_done(name):
    part = PARTS[name]
    with pytest.raises(InputError, match="smoothed"):
        part.smooth(np.zeros(part.n, np.float32), 5.0)


def test_bad_meshes_are_refused():
    coordinates, faces = icosphere()
    with pytest.raises(ImageError, match="1 degenerate triangle"):
        Mesh(coordinates, np.concatenate([faces, [[0, 1, 1]]]))
    with pytest.raises(ImageError, match="vertices 0 to 99"):
        Mesh(coordinates, np.concatenate([faces, [[0, 1, 99]]]))
    with pytest.raises(ImageError, match="NaN"):
        Mesh(np.where(np.arange(42)[:, None] == 3, np.nan, coordinates), faces)
    lonely = Mesh(np.concatenate([coordinates, [[0, 0, 0]]]), faces)
    with pytest.raises(InputError, match=r"1 vertices of the left surface have no area \(vertex 42: 0 mm2\)"):
        _ = Surface("left", 43, np.arange(43), lonely).measure


def test_a_graph_that_is_not_symmetric_is_refused():
    with pytest.raises(InputError, match="0 touches 1, but 1 does not touch 0"):
        ng.spaces.graph(RING)
    sparse = scipy.sparse.csr_array(RING + RING.T)
    assert ng.spaces.graph(sparse).same(ng.spaces.graph(RING + RING.T + np.eye(6)))
    with pytest.raises(InputError, match="NaN"):
        ng.spaces.graph(np.where(RING, np.nan, RING))
    with pytest.raises(InputError, match="measure"):
        ng.spaces.graph(sparse, measure=np.zeros(6))


def test_what_cifti_lists_becomes_surfaces_and_one_volume_in_c_order():
    voxels = np.array([[3, 0, 1], [0, 2, 0], [1, 1, 1]])
    models = [
        BrainModel("CIFTI_STRUCTURE_CORTEX_LEFT", np.array([0, 1]), np.array([5, 2]), 42),
        BrainModel("CIFTI_STRUCTURE_THALAMUS_LEFT", np.array([2, 3]), voxels=voxels[:2]),
        BrainModel("CIFTI_STRUCTURE_PUTAMEN_LEFT", np.array([4]), voxels=voxels[2:]),
    ]
    grid = ((4, 3, 2), np.eye(4))
    (cortex, below), columns = parts_of_models(models, grid, {"left": MESH}, {})
    assert (cortex.name, cortex.vertices.tolist()) == ("left", [2, 5])
    np.testing.assert_array_equal(below.coordinates(np.arange(3)), voxels[[1, 2, 0]])
    assert below.places(np.arange(3)) == ["thalamus left", "putamen left", "thalamus left"]
    assert columns.tolist() == [1, 0, 3, 4, 2]


def test_a_space_keeps_its_template_when_elements_leave():
    part = PARTS["surface without a mesh"]
    order = np.random.default_rng(2).permutation(42)
    template = Template((part,), order, {"format": "gifti"}, {"more": np.arange(3)})
    space = template.space(KEEP).select(np.arange(KEEP.sum()) > 2)
    descriptions, arrays = space.describe()
    again = Space.build(json.loads(json.dumps(descriptions)), arrays)
    assert again.same(space)
    assert again.template.files == {"format": "gifti"}
    np.testing.assert_array_equal(again.template.arrays["more"], np.arange(3))
    there = again.unmask(np.arange(1.0, space.n + 1))
    np.testing.assert_array_equal(there[order][space.kept], np.arange(1.0, space.n + 1))
    assert (there == 0).sum() == 42 - space.n


def test_tasks_that_read_carry_no_meshes():
    part = PARTS["surface with areas"]
    order = np.random.default_rng(2).permutation(42)
    template = Template((part,), order, {"format": "dscalar"}, {"xml": np.zeros(10**6, np.uint8)}, name="the first")
    bare = template.for_reading
    assert bare.parts[0].mesh is bare.parts[0].areas is None
    assert (bare.n, bare.name, bare.arrays) == (42, "the first", {})
    np.testing.assert_array_equal(bare.columns, order)
    assert template.parts[0].mesh is MESH
