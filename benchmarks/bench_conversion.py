"""NIfTI files to a cohort, beside the bare decompression of the same files: what was in them is what is stored."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from cases import SIZES
from measure import n_cores
from numbaglm import Cohort
from numbaglm.data.images import mask_image
from numbaglm.datasets.simulated import brain_geometry, simulate_maps
from numbaglm.spaces.volume import Geometry

Benchmark = Callable[..., Any]

MAPS = ("float32, 0 outside", "float32, NaN outside", "int16, 0 outside")
PLAIN = "float32, 0 outside, not compressed"
_STEP = 0.001  # of whole numbers


@dataclass(frozen=True, eq=False)
class ConversionCase:
    """Simulated maps as .nii.gz files, compressed as gzip does it by default, or as .nii files.

    Attributes
    ----------
    folder
        Where they are written, and the cohort.
    n_subjects, voxel_size
        How many, and how large.
    kind
        One of `MAPS`, or `PLAIN`.
    """

    folder: Path
    n_subjects: int
    voxel_size: float
    kind: str

    @cached_property
    def geometry(self) -> Geometry:
        """A brain."""
        return brain_geometry(self.voxel_size)

    @cached_property
    def stored(self) -> NDArray[Any]:
        """(n_subjects, n_voxels) numbers in the files."""
        values: NDArray[np.float32] = simulate_maps(self.geometry, self.n_subjects, seed=1)
        if not self.kind.startswith("int16"):
            return values
        numbers = np.rint(values / _STEP).astype(np.int16)
        numbers[numbers == 0] = 1  # 0 is outside
        return numbers

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """(n_subjects, n_voxels) what they mean."""
        step = np.float64(np.float32(_STEP)) if self.stored.dtype == np.int16 else np.float32(1)
        return (self.stored * step).astype(np.float32)

    @cached_property
    def paths(self) -> list[Path]:
        """The files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        suffix = ".nii" if self.kind == PLAIN else ".nii.gz"
        paths = [self.folder / f"sub-{number:03d}{suffix}" for number in range(self.n_subjects)]
        with ThreadPoolExecutor(n_cores()) as pool:
            list(pool.map(self._write, paths, self.stored))
        return paths

    def _write(self, path: Path, stored: NDArray[Any]) -> None:
        fill = np.nan if "NaN" in self.kind else 0
        content = bytearray(Nifti1Image(self.geometry.unmask(stored, fill), self.geometry.affine).to_bytes())
        if stored.dtype == np.int16:  # slope and intercept, which nibabel chooses itself
            content[112:120] = np.array([_STEP, 0], "<f4").tobytes()
        path.write_bytes(content if self.kind == PLAIN else gzip.compress(content, 6))

    @cached_property
    def compressed(self) -> list[bytes]:
        """The files in memory, for those that only decompress them."""
        return [path.read_bytes() for path in self.paths]

    @cached_property
    def mask(self) -> Any:
        """Image of the brain."""
        return mask_image(self.geometry)

    def clear(self) -> None:
        """Delete the cohort: before each conversion."""
        shutil.rmtree(self.folder / "cohort.zarr", ignore_errors=True)

    def convert(self, **options: Any) -> Cohort:
        """Make a cohort of the files."""
        return Cohort.create(self.folder / "cohort.zarr", self.paths, **options)

    def given(self) -> Cohort:
        """Make it with a mask that is given."""
        return self.convert(mask=self.mask)

    def smoothed(self) -> Cohort:
        """Make it of smoothed maps."""
        return self.convert(smoothing_fwhm=8.0)

    def decompress(self, one: Callable[[bytes], bytes]) -> None:
        """Decompress all files, on as many threads, and throw away what is in them."""
        with ThreadPoolExecutor(n_cores()) as pool:
            for _ in pool.map(lambda data: len(one(data)), self.compressed):
                pass

    def zlib(self) -> None:
        """Decompress with the standard library."""
        self.decompress(gzip.decompress)

    def zlib_ng(self) -> None:
        """Decompress with zlib-ng, which conversion uses, told how much comes out: to make more room takes time."""
        self.decompress(lambda data: zlib_ng.decompress(data, 31, int.from_bytes(data[-4:], "little")))

    def read(self) -> None:
        """Read all files, on as many threads."""
        with ThreadPoolExecutor(n_cores()) as pool:
            for _ in pool.map(lambda path: len(path.read_bytes()), self.paths):
                pass

    def check(self, cohort: Cohort) -> None:
        """Compare a cohort, not smoothed, with what went into the files."""
        np.testing.assert_array_equal(cohort.geometry.mask, self.geometry.mask)
        np.testing.assert_array_equal(cohort.store.read(0, cohort.n_voxels), self.values)
        cohort.verify()


SIDES = [(kind, side) for kind in MAPS for side in ("convert", "given", "zlib", "zlib_ng")]


@pytest.mark.parametrize(("kind", "side"), [*SIDES, *((PLAIN, side) for side in ("convert", "given", "read"))])
def bench_conversion(benchmark: Benchmark, tmp_path: Path, size: str, kind: str, side: str) -> None:
    case = ConversionCase(tmp_path, SIZES[size].subjects[-1], SIZES[size].voxel_size, kind)
    assert len(case.compressed) == case.n_subjects
    rounds = 2 * SIZES[size].rounds + 1
    benchmark.group = f"conversion, {kind}"  # type: ignore[attr-defined]
    found = benchmark.pedantic(getattr(case, side), setup=case.clear, rounds=rounds)  # type: ignore[attr-defined]
    if side in ("convert", "given"):
        case.check(found)
