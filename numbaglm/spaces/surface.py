"""Maps on surfaces, as nilearn's SurfaceImage holds them: parts (hemispheres) of a mesh and values at its vertices.

Known by what they have, ``mesh.parts`` and ``data.parts``, so that nothing here imports nilearn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # its sparse is loaded where it is used
from numpy.typing import NDArray

from numbaglm.errors import GridError, ImageError, InputError, InputTypeError, MaskError, invalid


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
