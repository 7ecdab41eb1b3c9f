"""Two checkouts of numbaglm side by side: processes that run one of them, and the maps that both are given.

What runs in these processes takes public names of numbaglm alone, so that one script runs any two versions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

# They choose kernels of BLAS and the size of its blocks: both sides run with what it chooses itself. And who has
# installed a package has it compiled to bytecode, which a process of a second would spend a quarter of on.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Checkout:
    """A folder that holds the package `numbaglm`, and what to call it."""

    name: str
    folder: Path

    @classmethod
    def parse(cls, name: str, folder: str | os.PathLike[str]) -> Checkout:
        """Refuse a folder without the package."""
        place = Path(folder).expanduser().resolve()
        if not (place / "numbaglm" / "__init__.py").exists():
            raise SystemExit(f"{folder} is no checkout: it has no numbaglm/__init__.py.")
        return cls(name, place)

    @property
    def version(self) -> str:
        """Of its package, without importing it."""
        for name in ("version.py", "__init__.py"):
            path = self.folder / "numbaglm" / name
            if path.exists() and (found := re.search(r'^__version__ = "(.+)"$', path.read_text("utf-8"), re.MULTILINE)):
                return found[1]
        raise SystemExit(f"{self.folder} has no version of numbaglm.")

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        kept = {name: value for name, value in os.environ.items() if name not in _UNSET}
        return kept | {"PYTHONPATH": str(self.folder)}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start Python with these arguments and this checkout's package."""
        return subprocess.Popen([sys.executable, *arguments], env=self.environment, text=True, **options)


def check_origin(folder: str) -> None:
    """Make sure that numbaglm is this checkout's, in a process of one."""
    import numbaglm

    found = Path(str(numbaglm.__file__)).resolve()
    if not found.is_relative_to(folder):
        raise SystemExit(f"numbaglm was imported from {found.parent}, and not from {folder}.")


@dataclass(frozen=True, eq=False)
class Study:
    """Simulated maps as images, their mask, and what is known of the subjects."""

    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    maps: NDArray[np.float32]
    subjects: pd.DataFrame

    def image(self, number: int) -> Any:
        """One subject's map."""
        return nib.Nifti1Image(self.maps[number], self.affine)

    def images(self, n: int) -> list[Any]:
        """Maps of the first n subjects."""
        return [self.image(number) for number in range(n)]

    @property
    def mask_image(self) -> Any:
        """The mask, as uint8."""
        return nib.Nifti1Image(self.mask.astype(np.uint8), self.affine)


@cache
def study(shape: tuple[int, int, int], n_subjects: int, smooth: float = 1.2) -> Study:
    """Simulate smooth noise in an ellipsoid, with effects of all, of group, site and age in corners of it.

    Groups alternate, sites take turns, two neighbours are a family, and families share some noise.

    Parameters
    ----------
    shape
        Of the grid; the mask fills about half of it.
    n_subjects
        Number of maps.
    smooth
        Standard deviation of the smoothing in voxels.
    """
    rng = np.random.default_rng(20)
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    mask = np.sqrt(sum(axis**2 for axis in axes)) <= 1
    number = np.arange(n_subjects)
    subjects = pd.DataFrame(
        {
            "subject_label": [f"sub-{one + 1:03d}" for one in number],
            "group": np.where(number % 2, "b", "a"),
            "site": np.array(["x", "y", "z"])[number % 3],
            "family": number // 2,
            "age": rng.uniform(20, 60, n_subjects).round(1),
            "iq": rng.normal(100, 15, n_subjects).round(),
        }
    )
    x, y, z = (axis > 0.2 for axis in axes)
    effects = np.array([0.9 * (x & y & z), 1.2 * (~x & y & z), 1.0 * (x & ~y & z), 0.8 * (~x & ~y & z)])
    age = (subjects["age"] - 40) / 12
    levels = np.column_stack([np.ones(n_subjects), subjects["group"] == "b", subjects["site"] == "y", age])
    maps = np.empty((n_subjects, *shape), np.float32)
    shared = np.zeros(shape)
    for one in number:
        if one % 2 == 0:
            shared = gaussian_filter(rng.standard_normal(shape), smooth)
        own = gaussian_filter(rng.standard_normal(shape), smooth)
        noise = (own + 0.5 * shared) * (1.6 if one % 2 else 1.0)
        maps[one] = noise / 0.16 * (smooth / 1.2) ** 1.5 + np.tensordot(levels[one], effects, 1)
    return Study(mask, np.diag([4.0, 4.0, 4.0, 1.0]), maps, subjects)
