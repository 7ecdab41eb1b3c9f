"""Small subject maps to make cohorts of."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (6, 7, 5)
AFFINE = np.array([[-3.0, 0, 0, 9], [0, 3, 0, -12], [0, 0, 4, -8], [0, 0, 0, 1]])


def volumes(n: int, seed: int = 0) -> np.ndarray:
    """(n, 6, 7, 5) float32 noise in a box, 0 on the border."""
    values = np.zeros((n, *SHAPE), np.float32)
    values[:, 1:-1, 1:-1, 1:-1] = np.random.default_rng(seed).normal(size=(n, 4, 5, 3))
    return values


def write_maps(folder: Path, values: np.ndarray, affine: np.ndarray = AFFINE, suffix: str = ".nii.gz") -> list[Path]:
    """Write maps as sub-01 and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"sub-{number:02d}_con{suffix}" for number in range(1, len(values) + 1)]
    for path, volume in zip(paths, values, strict=True):
        nib.save(nib.Nifti1Image(volume, affine), path)
    return paths


def image(values, affine=AFFINE):
    """Single-precision NIfTI of values."""
    return nib.Nifti1Image(np.asarray(values, np.float32), affine)
