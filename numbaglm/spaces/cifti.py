"""What CIFTI files list, as parts of a space: surfaces, and the voxels of structures below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.spaces.smoothing import Fwhm
from numbaglm.spaces.surface import Mesh, Surface, neighbour_lists
from numbaglm.spaces.volume import Geometry

_SIDES = {"cortex left": "left", "cortex right": "right"}


def structure_name(structure: str) -> str:
    """What a structure is called in tables: "CIFTI_STRUCTURE_THALAMUS_LEFT" is "thalamus left"."""
    return structure.removeprefix("CIFTI_STRUCTURE_").replace("_", " ").lower()


def surface_name(structure: str) -> str:
    """What a surface is called: "left" and "right" for the cortex."""
    name = structure_name(structure)
    return _SIDES.get(name, name)


@dataclass(frozen=True, eq=False)
class Structures:
    """Voxels of several structures on one grid: a part of a space. Structures that touch are one volume, or kept apart.

    Attributes
    ----------
    volume
        Grid and voxels.
    names
        Of the structures.
    structure
        (n,) which of them each voxel belongs to.
    """

    volume: Geometry
    names: tuple[str, ...]
    structure: NDArray[np.int16]

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "structures"
    name: ClassVar[str] = ""
    noun: ClassVar[str] = "voxel"
    unit: ClassVar[str] = "mm3"
    domain: ClassVar[str] = "volume"

    @property
    def n(self) -> int:
        """Number of voxels."""
        return self.volume.n

    @cached_property
    def measure(self) -> NDArray[np.float64]:
        """(n,) volume of each voxel in mm3."""
        return self.volume.measure

    def topology(self, connectivity: int) -> Any:
        """Which voxels touch, whatever structure they are of."""
        return self.volume.topology(connectivity)

    def topology_apart(self, connectivity: int) -> Any:
        """Which voxels of the same structure touch, as a graph of the kernels: voxels are counted as in a volume."""
        # half a second, which who opens a cohort need not wait for
        from numbaglm.kernels.spatial.graph import new_graph

        place, offsets = self.volume.padded_index, self.volume.neighbour_offsets(connectivity)
        number = np.full(int(np.prod(self.volume.padded_shape)), -1)
        number[place] = np.arange(self.n)
        start, end = [], []
        for offset in offsets[offsets > 0]:
            other = number[place + offset]
            alike = np.flatnonzero((other >= 0) & (self.structure[other] == self.structure))
            start.append(alike)
            end.append(other[alike])
        edges = np.stack([np.concatenate(start), np.concatenate(end)], axis=1)
        return new_graph(*neighbour_lists(edges, self.n))

    def pairs(self) -> NDArray[np.int64]:
        """(m, 2) voxels that share a face, each pair once."""
        return self.volume.pairs()

    def coordinates(self, elements: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """(k, 3) mm of some voxels."""
        return self.volume.coordinates(elements)

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """Names of the structures of some voxels."""
        return [self.names[number] for number in self.structure[elements]]

    def select(self, keep: NDArray[np.bool_]) -> Structures:
        """Return those voxels alone that are kept, (n,)."""
        return replace(self, volume=self.volume.select(keep), structure=self.structure[keep])

    def same(self, other: Any) -> bool:
        """Whether others have these voxels in these structures."""
        return (
            isinstance(other, Structures)
            and self.names == other.names
            and self.volume.same(other.volume)
            and bool(np.array_equal(self.structure, other.structure))
        )

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (n,) with a Gaussian of a width in mm, across structures, 0 outside them."""
        return self.volume.smooth(values, fwhm)

    def token(self) -> tuple[str, bytes]:
        """Return what tells them from others."""
        heading, made_of = self.volume.token()
        return f"{heading} {' '.join(self.names)}", made_of + self.structure.astype("<i2").tobytes()

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the grid, the names of the structures, and mask and structures by name."""
        description, arrays = self.volume.describe()
        return description | {"names": list(self.names)}, arrays | {"structure": self.structure}

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Structures:
        """Make structures of what `describe` returned."""
        return cls(Geometry.build(description, arrays), tuple(description["names"]), arrays["structure"])


@dataclass(frozen=True, eq=False)
class BrainModel:
    """A structure as a CIFTI file lists it.

    Attributes
    ----------
    structure
        Its name in the file.
    columns
        (k,) where its elements are in the file's rows.
    vertices
        (k,) their numbers on a surface, and ``n_vertices`` of it; or
    voxels
        (k, 3) their indices on the file's grid.
    """

    structure: str
    columns: NDArray[np.intp]
    vertices: NDArray[np.int64] | None = None
    n_vertices: int = 0
    voxels: NDArray[np.int64] | None = None


def parts_of_models(
    models: Sequence[BrainModel],
    grid: tuple[tuple[int, int, int], NDArray[np.float64]] | None,
    meshes: Mapping[str, Mesh],
    areas: Mapping[str, NDArray[np.float64]],
) -> tuple[tuple[Surface | Structures, ...], NDArray[np.intp]]:
    """Turn what a CIFTI file lists into parts: surfaces first, then all voxels as one volume.

    Parameters
    ----------
    models
        The structures of the file.
    grid
        Shape and affine of its volume, if it has one.
    meshes, areas
        By the names of surfaces, see `surface_name`; they may lack.

    Returns
    -------
    The parts, and (n,) where each of their elements is in the rows of the file.
    """
    parts: list[Surface | Structures] = []
    columns: list[NDArray[np.intp]] = []
    for model in models:
        if model.vertices is not None:
            order = np.argsort(model.vertices)
            name = surface_name(model.structure)
            vertices = model.vertices[order]
            parts.append(Surface(name, model.n_vertices, vertices, meshes.get(name), areas.get(name)))
            columns.append(model.columns[order])
    inside = [model for model in models if model.voxels is not None]
    if inside and grid is not None:
        shape, affine = grid
        voxels = np.concatenate([model.voxels for model in inside if model.voxels is not None])
        flat = np.ravel_multi_index(tuple(voxels.T), shape)
        order = np.argsort(flat)
        mask = np.zeros(shape, bool)
        mask.flat[flat] = True
        structure = np.repeat(np.arange(len(inside), dtype=np.int16), [len(model.columns) for model in inside])
        names = tuple(structure_name(model.structure) for model in inside)
        parts.append(Structures(Geometry(mask, affine), names, structure[order]))
        columns.append(np.concatenate([model.columns for model in inside])[order])
    return tuple(parts), np.concatenate(columns)
