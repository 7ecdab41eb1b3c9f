"""Where voxels lie: the grid that maps share; mask, affine, flat indices and neighbourhoods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import GridError, InputError, MaskError, invalid, term
from numbaglm.spaces.smoothing import Fwhm, smooth

CONNECTIVITIES = (6, 18, 26)

UNKNOWN_SPACE = (2, 0)
"""Codes of an image that says nothing of its space: "aligned", by the sform alone."""

_TOPOLOGIES: WeakKeyDictionary[Geometry, dict[int, Any]] = WeakKeyDictionary()
"""Of each volume by connectivity, made once a process: a test asks three times. Not of the volume itself, which other
processes are sent."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a cohort and the voxels of it that are analysed: a space, or a part of one, that is a volume.

    Attributes
    ----------
    mask
        (nx, ny, nz) bool, C-contiguous. In-mask vectors follow its C order.
    affine
        (4, 4) float64, voxel indices to mm.
    codes
        What space the mm are of, as images of it say: NIfTI's sform and qform code. It tells no volume from another.
    """

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    codes: tuple[int, int] = UNKNOWN_SPACE

    # As a part of a space; see `numbaglm.spaces.space.Part`.
    kind: ClassVar[str] = "volume"
    name: ClassVar[str] = ""
    noun: ClassVar[str] = "voxel"
    unit: ClassVar[str] = "mm3"
    domain: ClassVar[str] = "volume"

    def __post_init__(self) -> None:
        mask = np.ascontiguousarray(self.mask, dtype=bool)
        affine = np.array(self.affine, dtype=np.float64)
        if mask.ndim != 3:
            raise MaskError(f"The mask must have 3 dimensions, but it has shape {mask.shape}.")
        if not mask.any():
            raise MaskError(
                f"The mask {mask.shape} holds no voxel: nothing is left to analyse. "
                "Check the mask, and the maps for NaN."
            )
        if affine.shape != (4, 4):
            raise InputError(invalid("affine", affine.shape, "a (4, 4) matrix from voxel indices to mm"))
        mask.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the grid."""
        nx, ny, nz = self.mask.shape
        return nx, ny, nz

    @cached_property
    def n_voxels(self) -> int:
        """Number of voxels in the mask."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def voxel_sizes(self) -> NDArray[np.float64]:
        """(3,) edge lengths of a voxel in mm."""
        return np.asarray(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))

    @cached_property
    def ijk(self) -> NDArray[np.intp]:
        """(n_voxels, 3) voxel indices of the mask, in C order."""
        return np.argwhere(self.mask)

    @property
    def padded_shape(self) -> tuple[int, int, int]:
        """Shape of the grid with a border of one voxel on every side."""
        nx, ny, nz = self.shape
        return nx + 2, ny + 2, nz + 2

    @cached_property
    def padded_index(self) -> NDArray[np.int32]:
        """(n_voxels,) flat index of each voxel in the padded grid, increasing.

        With a border on every side a neighbour is an offset away and never wraps to the next row.
        """
        _, ny, nz = self.padded_shape
        i, j, k = self.ijk.T + 1
        return np.asarray((i * ny + j) * nz + k, dtype=np.int32)

    def neighbour_offsets(self, connectivity: int) -> NDArray[np.int64]:
        """All neighbours of a voxel as offsets in the padded grid, increasing.

        Parameters
        ----------
        connectivity
            6 (faces), 18 (faces and edges) or 26 (faces, edges and corners).

        Returns
        -------
        (connectivity,) offsets; the first half points to voxels that come before in C order.
        """
        if connectivity not in CONNECTIVITIES:
            raise InputError(invalid("connectivity", connectivity, "6, 18 or 26"))
        reach = {6: 1, 18: 2, 26: 3}[connectivity]
        steps = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)])
        distance = np.abs(steps).sum(axis=1)
        steps = steps[(distance > 0) & (distance <= reach)]
        _, ny, nz = self.padded_shape
        return np.sort(steps @ np.array([ny * nz, nz, 1])).astype(np.int64)

    def topology(self, connectivity: int) -> Any:
        """Which voxels touch, as the kernels have it: a `numbaglm.kernels.spatial.neighbours.Volume`.

        Parameters
        ----------
        connectivity
            As in `neighbour_offsets`.
        """
        if connectivity not in CONNECTIVITIES:
            raise InputError(invalid("connectivity", connectivity, "6, 18 or 26"))
        made = _TOPOLOGIES.setdefault(self, {})
        if connectivity not in made:
            # half a second, which who opens a cohort need not wait for
            from numbaglm.kernels.spatial import neighbours

            made[connectivity] = neighbours.new_volume(self.padded_index, self.padded_shape, connectivity)
        return made[connectivity]

    def pairs(self) -> NDArray[np.int64]:
        """(m, 2) voxels that share a face, each pair once."""
        number = np.full(self.shape, -1)
        number[self.mask] = np.arange(self.n_voxels)
        found = []
        for axis in range(3):
            along = np.moveaxis(number, axis, 0)
            both = np.stack([along[:-1].ravel(), along[1:].ravel()], axis=1)
            found.append(both[(both >= 0).all(axis=1)])
        return np.concatenate(found)

    def coordinates(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """(k, 3) mm coordinates of the in-mask voxels numbered ``voxels``."""
        return self.ijk[voxels] @ self.affine[:3, :3].T + self.affine[:3, 3]

    def unmask(self, vector: NDArray[np.generic], fill: float = 0.0) -> NDArray[np.generic]:
        """Put an in-mask vector (n_voxels,) or rows (k, n_voxels) back on the grid.

        Returns
        -------
        (nx, ny, nz), or (nx, ny, nz, k) for rows; ``fill`` outside the mask.
        """
        if vector.shape[-1] != self.n_voxels or vector.ndim > 2:
            raise InputError(
                invalid("vector", vector.shape, f"({self.n_voxels},) or (k, {self.n_voxels}), the mask's voxels")
            )
        volume = np.full(self.shape + vector.shape[:-1], fill, dtype=vector.dtype)
        volume[self.mask] = vector.T
        return volume

    def groups(self, inside: NDArray[np.bool_], connectivity: int) -> tuple[NDArray[np.intp], int]:
        """Number the groups of neighbours among the voxels ``inside`` (n_voxels,).

        Returns
        -------
        (nx, ny, nz) numbers from 1, 0 elsewhere; how many groups there are.
        """
        from scipy import ndimage

        structure = ndimage.generate_binary_structure(3, CONNECTIVITIES.index(connectivity) + 1)
        numbers, n_groups = ndimage.label(self.unmask(inside).astype(bool), structure)
        return np.asarray(numbers, np.intp), int(n_groups)

    @property
    def n(self) -> int:
        """Number of voxels in the mask."""
        return self.n_voxels

    @property
    def measure(self) -> NDArray[np.float64]:
        """(n_voxels,) volume of each voxel in mm3."""
        return np.full(self.n_voxels, self.voxel_volume)

    def places(self, elements: NDArray[np.intp]) -> list[str]:
        """No names: the coordinates of voxels say where they are."""
        return [""] * len(elements)

    def select(self, keep: NDArray[np.bool_]) -> Geometry:
        """Return the same grid with those of its voxels alone that are kept, (n_voxels,)."""
        mask = self.mask.copy()
        mask[self.mask] = keep
        return Geometry(mask, self.affine, self.codes)

    def same(self, other: object) -> bool:
        """Whether another volume has this grid and this mask."""
        return (
            isinstance(other, Geometry)
            and self.same_grid(other.shape, other.affine)
            and np.array_equal(self.mask, other.mask)
        )

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (n_voxels,) with a Gaussian of a width in mm, 0 outside the mask."""
        volume = np.asarray(self.unmask(np.asarray(values, np.float32)), np.float32)
        return np.asarray(smooth(volume, fwhm, self.affine)[self.mask])

    def token(self) -> tuple[str, bytes]:
        """Return what tells it from other volumes: its shape, and affine and mask as bytes."""
        return str(self.shape), self.affine.astype("<f8").tobytes() + np.packbits(self.mask).tobytes()

    def describe(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return its affine and codes, and its mask by name."""
        return {"affine": self.affine.tolist(), "codes": list(self.codes)}, {"mask": self.mask.astype(np.uint8)}

    @classmethod
    def build(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Geometry:
        """Make a volume of what `describe` returned."""
        codes = description.get("codes", UNKNOWN_SPACE)
        return cls(arrays["mask"].astype(bool), np.array(description["affine"]), (int(codes[0]), int(codes[1])))

    def same_grid(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
        """Whether another image lies on this grid (same shape, affine equal to within 1e-3 mm)."""
        return tuple(shape) == self.shape and bool(np.allclose(affine, self.affine, rtol=0, atol=1e-3))


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid that maps must share, and the map that set it.

    Attributes
    ----------
    shape, affine
        (nx, ny, nz), and (4, 4) voxel indices to mm.
    name
        What messages call the image it comes from.
    codes
        As in `Geometry`.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    name: str
    codes: tuple[int, int] = UNKNOWN_SPACE

    def space(self, mask: NDArray[np.bool_]) -> Geometry:
        """Return the volume of those voxels that are in a mask, (nx, ny, nz)."""
        return Geometry(mask, self.affine, self.codes)

    def smooth(self, values: NDArray[np.float32], fwhm: Fwhm) -> NDArray[np.float32]:
        """Smooth a map (nx, ny, nz); see `numbaglm.spaces.smoothing.smooth`."""
        return smooth(values, fwhm, self.affine)

    def holds(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
        """Whether another image lies on this grid (to within 1e-3 mm)."""
        return tuple(shape) == self.shape and bool(np.abs(affine - self.affine).max() <= 1e-3)

    def check(self, shape: tuple[int, ...], affine: NDArray[np.float64], name: str) -> None:
        """Raise GridError if another image does not lie on this grid."""
        if self.holds(shape, affine):
            return
        resampled = f"Pass {term('resample=True')} to {term('Cohort.create')} to have them resampled"
        advice = f"{resampled}, or bring them to one grid first."
        if tuple(shape) != self.shape:
            raise GridError(
                f"{name} has shape {tuple(shape)}, but {self.name} has {self.shape}: they lie on "
                f"different grids. {advice}"
            )
        raise GridError(
            f"{name} and {self.name} have the same shape but different affines (largest difference "
            f"{np.abs(affine - self.affine).max():.4g} mm): they lie on different grids. {advice}"
        )
