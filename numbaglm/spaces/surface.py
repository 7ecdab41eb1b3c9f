"""Surfaces: meshes with the areas of their vertices, and the vertices of one that are analysed.

Below: maps as nilearn's SurfaceImage holds them, parts (hemispheres) of a mesh and values at its vertices. They are
known by what they have, ``mesh.parts`` and ``data.parts``, so that nothing here imports nilearn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy  # its sparse is loaded where it is used
from numpy.typing import NDArray

from numbaglm.errors import GridError, ImageError, InputError, InputTypeError, MaskError, invalid, term
from numbaglm.spaces.smoothing import Fwhm


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices in space, and the triangles between them.

    Attributes
    ----------
    coordinates
        (n_vertices, 3) mm.
    faces
        (n_faces, 3) numbers of the vertices of each triangle.
    name
        What messages call it.
    """

    coordinates: NDArray[np.float64]
    faces: NDArray[np.int32]
    name: str = "the mesh"

    def __post_init__(self) -> None:
        xyz, faces = np.asarray(self.coordinates, np.float64), np.asarray(self.faces)
        if xyz.ndim != 2 or xyz.shape[1:] != (3,) or faces.ndim != 2 or faces.shape[1:] != (3,) or not len(faces):
            raise ImageError(
                f"{self.name} is no mesh of triangles: coordinates {xyz.shape}, faces {faces.shape}. Allowed: "
                "(n_vertices, 3) and (n_faces, 3)."
            )
        if faces.min() < 0 or faces.max() >= len(xyz):
            raise ImageError(
                f"{self.name} has triangles with vertices {faces.min()} to {faces.max()}, but it has vertices 0 to "
                f"{len(xyz) - 1}. Get it again."
            )
        if not np.isfinite(xyz).all():
            raise ImageError(f"{self.name} has coordinates that are NaN or infinite. Get it again.")
        a, b, c = faces.T
        twice = np.flatnonzero((a == b) | (b == c) | (c == a))
        if twice.size:
            raise ImageError(
                f"{self.name} has {twice.size:,} degenerate triangle(s): number {twice[0]} has the vertices "
                f"{faces[twice[0]].tolist()}. Mend the mesh: all three must differ."
            )
        object.__setattr__(self, "coordinates", xyz)
        object.__setattr__(self, "faces", faces.astype(np.int32))

    @property
    def n(self) -> int:
        """Number of vertices."""
        return len(self.coordinates)

    @cached_property
    def areas(self) -> NDArray[np.float64]:
        """(n_vertices,) mm2 of each vertex: a third of the areas of its triangles."""
        a, b, c = (self.coordinates[corner] for corner in self.faces.T)
        third = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
        return np.bincount(self.faces.ravel(), np.repeat(third, 3), self.n).astype(np.float64)

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """(n_edges, 2) vertices of each edge, the lower one first; each edge once."""
        pairs = np.sort(self.faces[:, [0, 1, 1, 2, 2, 0]].astype(np.int64).reshape(-1, 2), axis=1)
        return np.stack(np.divmod(np.unique(pairs[:, 0] * self.n + pairs[:, 1]), self.n), axis=1)

    def same(self, other: Mesh) -> bool:
        """Whether another mesh has the same triangles, and its vertices within 1e-3 mm."""
        return np.array_equal(self.faces, other.faces) and bool(
            np.allclose(self.coordinates, other.coordinates, rtol=0, atol=1e-3)
        )


@dataclass(frozen=True, eq=False)
class Surface:
    """The vertices of a surface that are analysed: a part of a space.

    Attributes
    ----------
    name
        Such as "left" or "right"; "" where there is one surface alone.
    n_vertices
        Of the whole surface.
    vertices
        (n,) numbers of those that are analysed, increasing.
    mesh
        Of the whole surface; None where none was given: nothing is known to touch then.
    areas
        (n_vertices,) mm2; by default those of the mesh.
    """

    name: str
    n_vertices: int
    vertices: NDArray[np.int64]
    mesh: Mesh | None = None
    areas: NDArray[np.float64] | None = None

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "surface"
    noun: ClassVar[str] = "vertex"
    domain: ClassVar[str] = "surface"

    def __post_init__(self) -> None:
        label = f"{self.name} surface".strip()
        if self.mesh is not None and self.mesh.n != self.n_vertices:
            raise GridError(
                f"The maps of the {label} have {self.n_vertices:,} vertices, but {self.mesh.name} has "
                f"{self.mesh.n:,}. Pass the mesh that the maps lie on."
            )
        if self.areas is not None:
            areas = np.asarray(self.areas, np.float64)
            if areas.shape != (self.n_vertices,):
                allowed = f"a number, or one a vertex, ({self.n_vertices},), for the {label}"
                raise InputError(invalid("areas", areas.shape, allowed))
            object.__setattr__(self, "areas", areas)
        object.__setattr__(self, "vertices", np.asarray(self.vertices, np.int64))

    @property
    def n(self) -> int:
        """Number of vertices that are analysed."""
        return len(self.vertices)

    @property
    def unit(self) -> str:
        """Unit of `measure`: "mm2", or "" where no areas are known and vertices are counted."""
        return "" if self.mesh is None and self.areas is None else "mm2"

    @cached_property
    def measure(self) -> NDArray[np.float64]:
        """(n,) area of each vertex in mm2; 1 where none is known.

        Raises
        ------
        InputError
            An area is 0, or no number.
        """
        if self.mesh is None and self.areas is None:
            return np.ones(self.n)
        given = self.mesh.areas if self.areas is None and self.mesh is not None else self.areas
        areas = np.asarray(given)[self.vertices]
        wrong = np.flatnonzero(~(np.isfinite(areas) & (areas > 0)))
        if wrong.size:
            raise InputError(
                f"{wrong.size:,} vertices of the {f'{self.name} surface'.strip()} have no area (vertex "
                f"{self.vertices[wrong[0]]}: {areas[wrong[0]]:g} mm2). Allowed: areas above 0. Mend the mesh, leave "
                f"such vertices out of the mask, or pass {term('areas=')}."
            )
        return areas

    def topology(self, connectivity: int) -> Any:
        """Which vertices share an edge, as the kernels have it, with their areas; None without a mesh."""
        if self.mesh is None:
            return None
        # half a second, which who opens a cohort need not wait for
        from numbaglm.kernels.spatial.graph import new_graph

        edges = self.pairs()
        assert edges is not None
        return new_graph(*neighbour_lists(edges, self.n), self.measure)

    def pairs(self) -> NDArray[np.int64] | None:
        """(m, 2) vertices that share an edge, each pair once; None without a mesh."""
        if self.mesh is None:
            return None
        number = np.full(self.n_vertices, -1)
        number[self.vertices] = np.arange(self.n)
        edges = number[self.mesh.edges]
        return np.asarray(edges[(edges >= 0).all(axis=1)])

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """(k, 3) mm of some of the vertices, on the mesh; None without one."""
        return None if self.mesh is None else self.mesh.coordinates[self.vertices[elements]]

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """Hemisphere and number of each vertex."""
        return [f"{self.name} vertex {vertex}".strip() for vertex in self.vertices[elements]]

    def select(self, keep: NDArray[np.bool_]) -> Surface:
        """Return the surface with those of its vertices alone that are kept, (n,)."""
        return replace(self, vertices=self.vertices[keep])

    def same(self, other: Any) -> bool:
        """Whether another surface has these vertices, of the same mesh."""
        if not isinstance(other, Surface) or self.n_vertices != other.n_vertices:
            return False
        mine, theirs = self.mesh, other.mesh
        alike = mine is theirs or (mine is not None and theirs is not None and mine.same(theirs))
        return alike and np.array_equal(self.vertices, other.vertices)

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Refuse: smoothing along a surface is not done here.

        Raises
        ------
        InputError
        """
        raise InputError(
            f"Maps on surfaces can't be smoothed here: got {term('smoothing_fwhm=')} {fwhm}. Smooth them before, "
            "each subject's on its mesh: wb_command -metric-smoothing (-cifti-smoothing) with -fwhm, or "
            "mri_surf2surf --fwhm."
        )

    def token(self) -> tuple[str, bytes]:
        """Return what tells it from other surfaces."""
        made_of = self.vertices.astype("<i8").tobytes()
        if self.mesh is not None:
            made_of += self.mesh.coordinates.astype("<f8").tobytes() + self.mesh.faces.astype("<i4").tobytes()
        if self.areas is not None:
            made_of += self.areas.astype("<f8").tobytes()
        return f"surface {self.name} {self.n_vertices}", made_of

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return its size, and mesh, areas and vertices by name."""
        arrays: dict[str, NDArray[Any]] = {"vertices": self.vertices}
        if self.mesh is not None:
            arrays |= {"coordinates": self.mesh.coordinates, "faces": self.mesh.faces}
        if self.areas is not None:
            arrays["areas"] = self.areas
        return {"n_vertices": self.n_vertices}, arrays

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Surface:
        """Make a surface of what `describe` returned."""
        mesh = Mesh(arrays["coordinates"], arrays["faces"]) if "faces" in arrays else None
        name, n_vertices = description["name"], description["n_vertices"]
        return cls(name, n_vertices, arrays["vertices"], mesh, arrays.get("areas"))


def neighbour_lists(edges: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lists of neighbours, where each begins and all of them, of (n_edges, 2) edges that are each there once."""
    start, end = np.concatenate([edges, edges[:, ::-1]]).T
    order = np.lexsort((end, start))
    return np.searchsorted(start[order], np.arange(n + 1)), end[order]


def is_surface(given: Any) -> bool:
    """Whether this is an image on a surface."""
    return hasattr(given, "mesh") and hasattr(getattr(given, "data", None), "parts")


def values_of(image: Any) -> NDArray[np.float64]:
    """(n_maps, n_vertices) values of a surface image, part after part."""
    parts = [np.asarray(part, dtype=np.float64) for part in image.data.parts.values()]
    parts = [part[:, None] if part.ndim == 1 else part for part in parts]
    if any(part.ndim != 2 or part.shape[1] == 0 for part in parts):
        raise ImageError(f"A surface image of shape {image.shape} is empty. Allowed: (n_vertices, n_maps) values.")
    return np.concatenate(parts).T


def check_group(images: Any) -> None:
    """Refuse what can't be a group: one image of one map, or a list where an image holds more.

    Raises
    ------
    InputTypeError
    """
    if is_surface(images):
        if n_maps(images) == 1:
            raise InputTypeError(
                "One surface image as 'second_level_input' must be a 3D SurfaceImage, which holds a map for each "
                f"subject: this one has shape {images.shape}. Pass a list of images, one a subject."
            )
        return
    for number, image in enumerate(images, 1):
        if n_maps(image) != 1:
            raise InputTypeError(
                "Surface images in a list need all images to be 3D SurfaceImage of one map each: image "
                f"{number} has shape {image.shape}. Pass one image of all maps, or a list of single ones."
            )


def n_maps(image: Any) -> int:
    """How many maps a surface image holds."""
    return 1 if len(image.shape) == 1 else int(image.shape[1])


def stack_maps(images: Any) -> NDArray[np.float64]:
    """(n_maps, n_vertices) values of one surface image, or of several of one map each.

    Raises
    ------
    GridError
        The images lie on different meshes.
    """
    if is_surface(images):
        return values_of(images)
    for number, image in enumerate(images[1:], 2):
        check_mesh(images[0], image, f"Surface image {number}")
    return np.concatenate([values_of(image) for image in images])


def check_mesh(first: Any, other: Any, name: str) -> None:
    """Refuse an image that lies on another mesh."""
    ours, theirs = first.mesh.parts, other.mesh.parts
    same = list(ours) == list(theirs) and all(
        np.array_equal(ours[part].faces, theirs[part].faces)
        and np.array_equal(ours[part].coordinates, theirs[part].coordinates)
        for part in ours
    )
    if not same:
        raise GridError(f"{name} and the first one lie on different meshes. Bring all maps to one mesh first.")


@dataclass(frozen=True, eq=False)
class SurfaceMask:
    """The vertices that are analysed, and the way between them and images.

    Attributes
    ----------
    template
        A surface image, whose mesh and kind the images made here share.
    inside
        (n_vertices,) bool, part after part.
    """

    template: Any
    inside: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.inside.any():
            raise MaskError("No vertex is left to analyse. Check the maps for NaN, and the mask.")

    @classmethod
    def of_image(cls, mask: Any, template: Any) -> SurfaceMask:
        """Read a mask: the vertices that are finite and not 0."""
        check_mesh(template, mask, "The mask")
        values = values_of(mask)
        if len(values) != 1:
            raise InputError(invalid("mask", f"{len(values)} maps", "a surface image of one map"))
        return cls(template, np.isfinite(values[0]) & (values[0] != 0))

    @cached_property
    def n_inside(self) -> int:
        """Number of vertices that are analysed."""
        return int(np.count_nonzero(self.inside))

    @property
    def parts(self) -> tuple[Surface, ...]:
        """What is analysed, as parts of a space: surfaces with the meshes of the template."""
        found = []
        for name, where in part_slices(self.template).items():
            mesh, vertices = self.template.mesh.parts[name], np.flatnonzero(self.inside[where])
            if vertices.size:
                made = Mesh(mesh.coordinates, mesh.faces, f"the mesh of {name}")
                found.append(Surface(name, made.n, vertices, made))
        return tuple(found)

    @property
    def image(self) -> Any:
        """The mask as a surface image."""
        return surface_image(self.template, self.inside)

    def unmask(self, values: NDArray[Any]) -> Any:
        """Make a surface image of (n_inside,) or (k, n_inside) values, 0 at other vertices."""
        values = np.asarray(values)
        if values.ndim not in (1, 2) or values.shape[-1] != self.n_inside:
            raise InputError(invalid("values", values.shape, f"({self.n_inside},) or (k, {self.n_inside})"))
        whole = np.zeros((*values.shape[:-1], self.inside.size), dtype=values.dtype)
        whole[..., self.inside] = values
        return surface_image(self.template, whole)


def part_slices(template: Any) -> dict[str, slice]:
    """Where the vertices of each part lie in (n_vertices,) values."""
    ends = np.cumsum([len(mesh.coordinates) for mesh in template.mesh.parts.values()]).tolist()
    return {part: slice(a, b) for part, a, b in zip(template.mesh.parts, [0, *ends[:-1]], ends, strict=True)}


def surface_image(template: Any, values: NDArray[Any]) -> Any:
    """Make an image like another one of (n_vertices,) or (k, n_vertices) values."""
    data = {part: np.ascontiguousarray(values.T[where]) for part, where in part_slices(template).items()}
    return type(template)(mesh=template.mesh, data=data)


def label_clusters(template: Any, inside: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Number the connected sets of vertices, along the edges of triangles.

    Parameters
    ----------
    template
        An image on the mesh.
    inside
        (n_vertices,) which vertices may belong to a set.

    Returns
    -------
    (n_vertices,) numbers from 1, in the order of each set's first vertex, 0 outside; and how many there are.
    """
    faces = [
        np.asarray(template.mesh.parts[part].faces, dtype=np.int64) + where.start
        for part, where in part_slices(template).items()
    ]
    corners = np.concatenate(faces)
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    edges = edges[inside[edges].all(axis=1)]
    graph = scipy.sparse.coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(inside.size, inside.size))
    number = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
    labels = np.zeros(inside.size, dtype=np.int64)
    _, first, rank = np.unique(number[inside], return_index=True, return_inverse=True)
    order = np.empty(first.size, dtype=np.int64)
    order[np.argsort(first)] = np.arange(1, first.size + 1)
    labels[inside] = order[rank]
    return labels, int(first.size)
