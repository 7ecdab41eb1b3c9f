"""Gaussian smoothing of maps, equal to nilearn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its ndimage is loaded where it is used
from numpy.typing import NDArray

from numbaglm.errors import InputError, invalid

Fwhm = float | tuple[float, float, float] | None
Volume = NDArray[np.float32]

FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
WIDEST = 1000.0
"""Width in mm beyond which a map is one number, and the kernel larger than memory."""


def parse_fwhm(fwhm: Any) -> Fwhm:
    """Check a smoothing width in mm: a number, three numbers, or None; 0 means None.

    Raises
    ------
    InputError
    """
    if fwhm is None:
        return None
    allowed = f"a width in mm from 0 to {WIDEST:g}, three of them (x, y, z), or None"
    try:
        widths = np.asarray(fwhm, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        widths = np.empty(0)
    if len(widths) not in (1, 3) or not ((widths >= 0) & (widths <= WIDEST)).all():
        raise InputError(invalid("smoothing_fwhm", fwhm, allowed))
    if not widths.any():
        return None
    return float(widths[0]) if len(widths) == 1 else (float(widths[0]), float(widths[1]), float(widths[2]))


def smooth(volume: Volume, fwhm: Fwhm, affine: NDArray[np.float64]) -> Volume:
    """Smooth a map with a Gaussian, as nilearn does: what is not finite becomes 0 first.

    Parameters
    ----------
    volume
        (nx, ny, nz).
    fwhm
        Full width at half maximum in mm, one for all axes or three; None or 0 returns the map unchanged.
    affine
        (4, 4) or (3, 3) voxel indices to mm; the kernel is along the voxel axes.

    Returns
    -------
    (nx, ny, nz) float32, in memory as the map is. The kernel is cut at 4 standard deviations and the border is
    mirrored (`scipy.ndimage.gaussian_filter1d`).
    """
    width = parse_fwhm(fwhm)
    if width is None:
        return volume
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    volume = np.asarray(volume, dtype=np.float32)
    smoothed = np.where(np.isfinite(volume), volume, np.float32(0))
    for axis, sigma in enumerate(np.broadcast_to(width, 3) / (FWHM_PER_SIGMA * sizes)):
        if sigma > 0:
            scipy.ndimage.gaussian_filter1d(smoothed, sigma, axis=axis, output=smoothed)
    return smoothed


class HeatKernel:
    """Smooths maps on a mesh as heat spreads along it, for the time in which a point becomes a Gaussian of a width.

    That is the geodesic Gaussian of a flat sheet, takes areas into account, and keeps the sum of values times areas.

    Parameters
    ----------
    coordinates, faces
        (n_vertices, 3) mm, and (n_faces, 3) vertices of the triangles.
    fwhm
        Full width at half maximum in mm, above 0.

    References
    ----------
    Chung et al. (2005), NeuroImage 25:1256-1265. Pinkall and Polthier (1993), Experimental Mathematics 2:15-36, for
    the weights of edges.
    """

    _STEPS = 5  # implicit ones: each spreads by its share of the variance, exactly

    def __init__(self, coordinates: NDArray[np.float64], faces: NDArray[np.int32], fwhm: float) -> None:
        n = len(coordinates)
        weights, areas = np.zeros(faces.shape), np.zeros(n)
        for corner in range(3):
            a, b, c = (coordinates[faces[:, (corner + k) % 3]] for k in range(3))
            double = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            flat = double <= 0
            dot = ((b - a) * (c - a)).sum(axis=1)
            weights[:, corner] = np.where(flat, 0.0, dot / np.where(flat, 1.0, double)) / 2  # half a cotangent
            areas += np.bincount(faces[:, corner], double / 6, n)
        self._areas = np.where(areas > 0, areas, 1.0)
        rows, columns = faces[:, [1, 2, 0]].ravel(), faces[:, [2, 0, 1]].ravel()  # the edge across each corner
        half = scipy.sparse.coo_array((weights.ravel(), (rows, columns)), shape=(n, n))
        edges = (half + half.T).tocsr()
        laplacian: Any = scipy.sparse.diags_array(np.asarray(edges.sum(axis=1)).ravel()) - edges
        step = (fwhm / FWHM_PER_SIGMA) ** 2 / 2 / self._STEPS
        system = (scipy.sparse.diags_array(self._areas) + step * laplacian).tocsc()
        self._solve = scipy.sparse.linalg.splu(
            system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}
        ).solve

    def smooth(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Smooth maps (n_vertices,) or (k, n_vertices), all finite."""
        found = np.array(values, np.float64).T
        areas = self._areas if found.ndim == 1 else self._areas[:, None]
        for _ in range(self._STEPS):
            found = self._solve(np.ascontiguousarray(found * areas))
        return np.asarray(found.T)
