"""A brain that is not there: its shape on the grid of the MNI152 templates, smooth noise in it, and signal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from numbaglm.spaces.volume import Geometry

Blob = tuple[tuple[float, float, float], float, float]
"""Peak (x, y, z) in mm, amplitude in noise standard deviations, and FWHM in mm of a Gaussian."""

_FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))

# The box of the MNI152 templates: mm of its first and last voxel on each axis, anterior commissure at 0.
MNI_BOX = ((-90.0, 90.0), (-126.0, 90.0), (-72.0, 108.0))

# (centre mm, half axes mm, exponent) of the superellipsoids that make the brain, on both sides unless x is 0.
_BRAIN = (
    ((27.0, -16.0, 21.0), (34.0, 75.0, 47.0), 2.0),  # hemispheres
    ((42.0, -15.0, -15.0), (17.0, 35.0, 18.0), 2.2),  # temporal lobes
    ((16.0, 31.0, -2.0), (19.0, 25.0, 16.0), 2.2),  # orbitofrontal cortex
    ((17.0, -74.0, 4.0), (21.0, 21.0, 21.0), 2.2),  # occipital poles
    ((21.0, -60.0, -34.0), (26.0, 23.0, 17.0), 2.3),  # cerebellum
    ((0.0, -58.0, -32.0), (14.0, 17.0, 15.0), 2.0),  # vermis
    ((0.0, -16.0, 18.0), (11.0, 65.0, 42.0), 2.0),  # the walls of the fissure
    ((0.0, -23.0, -12.0), (19.0, 28.0, 15.0), 2.0),  # midbrain
    ((0.0, -30.0, -38.0), (10.0, 11.0, 28.0), 3.0),  # brainstem
)

NOISE_FWHM = 8.0


def simulate_maps(
    geometry: Geometry, n_subjects: int, seed: int = 0, effect: ArrayLike = 0.0, fwhm: float = NOISE_FWHM
) -> NDArray[np.float32]:
    """Smooth Gaussian noise of standard deviation 1, plus an effect that all subjects share.

    Parameters
    ----------
    geometry
        Grid and mask.
    n_subjects
        Number of maps.
    seed
        Seed; map i depends on ``(seed, i)`` alone.
    effect
        A number, or (n_voxels,), added to every map.
    fwhm
        Smoothness of the noise in mm; 0 for white noise.

    Returns
    -------
    (n_subjects, n_voxels) float32

    Examples
    --------
    >>> from numbaglm.datasets.simulated import brain_geometry, simulate_maps
    >>> simulate_maps(brain_geometry(10.0), n_subjects=8, seed=1, effect=0.5).shape
    (8, 1207)
    """
    maps = np.empty((n_subjects, geometry.n_voxels), np.float32)
    for row, child in zip(maps, np.random.SeedSequence(seed).spawn(n_subjects), strict=True):
        row[:] = noise(geometry, np.random.default_rng(child), fwhm) + np.asarray(effect)
    return maps


def brain_geometry(voxel_size: float = 3.0) -> Geometry:
    """Make a brain-shaped mask on the grid of the MNI152 templates.

    Hemispheres, temporal lobes, cerebellum and brainstem are superellipsoids in mm, melted together.

    Parameters
    ----------
    voxel_size
        Edge of a voxel in mm. The anterior commissure, (0, 0, 0) mm, is the centre of a voxel.

    Examples
    --------
    >>> from numbaglm.datasets.simulated import brain_geometry
    >>> brain_geometry(10.0).shape
    (19, 22, 18)
    """
    starts = [np.ceil(low / voxel_size) * voxel_size for low, _ in MNI_BOX]
    shape = [int((high - start) // voxel_size) + 1 for start, (_, high) in zip(starts, MNI_BOX, strict=True)]
    x, y, z = np.ogrid[tuple(slice(n) for n in shape)]
    x, y, z = (start + voxel_size * i for start, i in zip(starts, (x, y, z), strict=True))
    inside = np.zeros(shape)
    for (cx, cy, cz), (a, b, c), power in _BRAIN:
        # |x| folds both sides onto one, which also leaves the dent between the hemispheres.
        u, v, w = (np.abs(x) - cx) / a, (y - cy) / b, (z - cz) / c
        inside += np.exp(-8.0 * (np.abs(u) ** power + np.abs(v) ** power + np.abs(w) ** power - 1.0))
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = starts
    return Geometry(inside >= 1.0, affine)


def signal(geometry: Geometry, blobs: Sequence[Blob], jitter: ArrayLike = 0.0) -> NDArray[np.float32]:
    """(n_voxels,) sum of Gaussian blobs, their centres moved by ``jitter`` (n_blobs, 3) mm."""
    xyz = geometry.coordinates(np.arange(geometry.n_voxels)).astype(np.float32)
    centres = np.array([centre for centre, _, _ in blobs]).reshape(-1, 3) + np.asarray(jitter)
    effect = np.zeros(geometry.n_voxels, np.float32)
    for centre, (_, amplitude, fwhm) in zip(centres.astype(np.float32), blobs, strict=True):
        distance2 = ((xyz - centre) ** 2).sum(axis=1)
        effect += np.float32(amplitude) * np.exp(distance2 * np.float32(-0.5 / (fwhm * _FWHM_TO_SIGMA) ** 2))
    return effect


def noise(geometry: Geometry, rng: np.random.Generator, fwhm: float) -> NDArray[np.float32]:
    """(n_voxels,) stationary noise of variance 1: the box wraps round."""
    white = rng.standard_normal(geometry.shape, dtype=np.float32)
    sigma = fwhm * _FWHM_TO_SIGMA / geometry.voxel_sizes
    smooth = gaussian_filter(white, sigma, mode="wrap")
    impulses = [np.eye(1, n)[0] for n in geometry.shape]
    kernels = [gaussian_filter(e, s, mode="wrap") for e, s in zip(impulses, sigma, strict=True)]
    return smooth[geometry.mask] / np.float32(np.prod([np.linalg.norm(k) for k in kernels]))
