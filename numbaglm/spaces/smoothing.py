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


def parse_fwhm(fwhm: Any) -> Fwhm:
    """Check a smoothing width in mm: a number, three numbers, or None; 0 means None.

    Raises
    ------
    InputError
    """
    if fwhm is None:
        return None
    allowed = "a width in mm >= 0, three of them (x, y, z), or None"
    try:
        widths = np.asarray(fwhm, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        widths = np.empty(0)
    if len(widths) not in (1, 3) or not np.isfinite(widths).all() or (widths < 0).any():
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
