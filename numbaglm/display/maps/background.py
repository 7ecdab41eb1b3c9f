"""What lies beneath slices of a map: the mask, a map on its grid or an anatomy of any grid; and slices of the mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from numbaglm.data.images import grid_of, list_maps, read_map
from numbaglm.display.canvas import HIGHLIGHT, cells, fineness, mark_ends, planes
from numbaglm.display.maps.projection import VIEWS, UprightGrid, upright
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.volume import Geometry

_MASK_GREY = 0.85
_N_CUTS = 8
_GROUND = 0.08  # share of its range up to which an anatomy is taken for empty
_MNI = 4  # what NIfTI calls this space
_TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True, eq=False)
class Anatomy:
    """An image to lay beneath maps.

    Attributes
    ----------
    volume, affine
        Values, and the (4, 4) way from their indices to mm.
    dark, bright
        Values that are black and white.
    """

    volume: NDArray[np.float32]
    affine: NDArray[np.float64]
    dark: float
    bright: float

    @classmethod
    def read(cls, given: Any) -> Anatomy:
        """Read an image, or the file of one.

        Raises
        ------
        InputError, MissingFileError, ImageError
            It is several volumes, or can't be read.
        """
        sources, _, _ = list_maps(given, minimum=1)
        if len(sources) > 1:
            raise InputError(invalid("background", f"{len(sources)} volumes", "one 3D image"))
        volume = np.nan_to_num(read_map(sources[0]), nan=0.0, posinf=0.0, neginf=0.0)
        held = volume[volume != 0]
        low, high = np.percentile(held, [0.5, 99.5]) if held.size else (0.0, 1.0)
        return cls(volume, np.asarray(grid_of(sources[0])[1], np.float64), float(min(low, 0.0)), float(high))

    @property
    def to_voxels(self) -> NDArray[np.float64]:
        """(4, 4) affine from mm to indices."""
        return np.asarray(np.linalg.inv(self.affine), np.float64)

    @cached_property
    def corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper mm of what is brighter than black."""
        bright = self.volume > self.dark + _GROUND * (self.bright - self.dark)
        spans = [np.flatnonzero(bright.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        if not bright.any():
            spans = [np.arange(length) for length in self.volume.shape]
        ends = np.stack(np.meshgrid(*[span[[0, -1]] for span in spans], indexing="ij"), axis=-1).reshape(-1, 3)
        mm = ends @ self.affine[:3, :3].T + self.affine[:3, 3]
        return mm.min(axis=0), mm.max(axis=0)

    def resampled(self, most: int) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
        """Shades from 0 to 1 on an upright grid of cubes, the mm of its first, and their length.

        Parameters
        ----------
        most
            Cubes along its longest side.
        """
        low, high = self.corners
        step = max(float(np.linalg.norm(self.affine[:3, :3], axis=0).min()), float((high - low).max()) / most)
        shape = tuple(int(n) + 1 for n in np.ceil((high - low) / step))
        ijk = np.indices(shape).reshape(3, -1) * step + low[:, None]
        at = self.to_voxels[:3, :3] @ ijk + self.to_voxels[:3, 3:]
        shades = (map_coordinates(self.volume, at, order=1, cval=0.0) - self.dark) / max(self.bright - self.dark, 1e-12)
        return np.asarray(shades.clip(0.0, 1.0).reshape(shape), np.float32), low, step


def template_of(geometry: Geometry) -> Path | None:
    """The anatomy of the standard space that maps lie in, where there is one on this machine; else None.

    Maps are in MNI space if their headers say so (sform or qform code 4). The template is the one that nilearn ships,
    where it is installed; nothing of it is imported.
    """
    if _MNI not in geometry.codes:
        return None
    package = find_spec("nilearn")
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        if (found := Path(folder) / _TEMPLATE).is_file():
            return found
    return None


@dataclass(frozen=True, eq=False)
class Background:
    """A volume in grey.

    Attributes
    ----------
    grid
        Where the slices lie.
    volume, to_voxels
        Values, and the (4, 4) affine from mm to their indices.
    dark, bright
        Values that are black and white.
    masked
        Whether nothing is drawn outside the mask.
    """

    grid: UprightGrid
    volume: NDArray[np.float32]
    to_voxels: NDArray[np.float64]
    dark: float
    bright: float
    masked: bool

    @classmethod
    def under(cls, geometry: Geometry, given: Any) -> Background:
        """Understand a background of a map: None for the mask, (n_voxels,) values, an image or its path, seen whole."""
        if given is not None and not isinstance(given, np.ndarray):
            one = Anatomy.read(given)
            grid = upright(geometry, around=one.corners)
            return cls(grid, one.volume, one.to_voxels, one.dark, one.bright, False)
        grid = upright(geometry)
        affine = np.diag([*grid.step, 1.0])
        affine[:3, 3] = grid.origin
        values = np.full(grid.n_voxels, _MASK_GREY) if given is None else given
        dark, bright = (0.0, 1.0) if given is None else np.percentile(values[np.isfinite(values)], [1.0, 99.0])
        return cls(
            grid, grid.volume(values), np.asarray(np.linalg.inv(affine), np.float64), float(dark), float(bright), True
        )

    def draw(self, ax: Axes, view: str, k: int) -> None:
        """Lay slice ``k`` of a view under what is drawn next."""
        grid, (axis, right, up) = self.grid, VIEWS[view]
        fine = np.ones(2, int) if self.masked else fineness(grid, view)
        extent, (width, height) = grid.extent(view), fine * np.take(grid.index.shape, [right, up])
        mm = np.empty((3, width, height))
        mm[axis] = grid.origin[axis] + k * grid.step[axis]
        mm[right] = _centres(extent[0], extent[1], width)[:, None]
        mm[up] = _centres(extent[2], extent[3], height)
        ijk = np.tensordot(self.to_voxels[:3, :3], mm, axes=1) + self.to_voxels[:3, 3, None, None]
        image: Any = map_coordinates(self.volume, ijk, order=0 if self.masked else 1, cval=0.0)
        if self.masked:
            image = np.ma.masked_where(np.take(grid.index, k, axis=axis) == grid.n_voxels, image)
        ax.imshow(
            image.T,
            origin="lower",
            extent=extent,
            cmap="gray",
            vmin=self.dark,
            vmax=self.bright,
            interpolation="nearest",
        )


def mask_slices(geometry: Geometry, background: Any = None) -> Figure:
    """Draw axial slices of a mask: in grey, or as its outline over an anatomy.

    Parameters
    ----------
    geometry
        Grid and mask, of any orientation.
    background
        As in `numbaglm.display.maps.brains.slices`.
    """
    under = Background.under(geometry, background)
    grid = under.grid
    inside = grid.volume(np.ones(geometry.n_voxels))
    shown, names = planes(grid, "z", _N_CUTS)
    figure, axes = cells(names, _N_CUTS, [grid.size("z")], None, None, None)
    for (ax,), (view, k) in zip(axes, shown, strict=True):
        extent = grid.extent(view)
        under.draw(ax, view, k)
        plane = np.take(inside, k, axis=VIEWS[view][0])
        if background is not None and plane.any():
            ax.contour(plane.T, levels=[0.5], colors=HIGHLIGHT, linewidths=0.8, extent=extent)
        ax.set(xlim=extent[:2], ylim=extent[2:], aspect="equal")
        ax.set_axis_off()
        mark_ends(ax, view)
    return figure


def _centres(low: float, high: float, n: int) -> NDArray[np.float64]:
    return low + (np.arange(n) + 0.5) * (high - low) / n
