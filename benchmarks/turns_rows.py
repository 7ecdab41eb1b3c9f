"""The rows that `turns.py` times: a table of records, to which one adds a line.

`python benchmarks/turns_rows.py CHECKOUT FOLDER SIZE` reads names of rows, a line each, and answers with the seconds
that each took and how many kernels were compiled so far. Public names of numbaglm alone, so that any version runs them.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
from numba.core import event

import numbaglm as ng
from checkouts import Study, check_origin, study

Run = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """Grid whose half are voxels, and a share of the shufflings of each row."""

    shape: tuple[int, int, int]
    share: float
    n_files: int


SIZES = {"small": Size((13, 14, 12), 0.02, 4), "full": Size((44, 52, 44), 1.0, 24)}


@dataclass(frozen=True)
class Row:
    """What is timed: in a process that lives on, a call that `prepare` makes; or a process of its own.

    Attributes
    ----------
    prepare
        Makes the call, given a `Place`; what it does is not timed.
    arguments
        Of Python, for a process of its own; MAPS is the folder that `Place.maps` writes.
    """

    name: str
    prepare: Callable[[Place], Run] | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Place:
    """A folder for one side, and the data of one size."""

    folder: Path
    size: Size

    @cached_property
    def study(self) -> Study:
        """100 subjects."""
        return study(self.size.shape, 100)

    def cohort(self, n: int) -> Any:
        """The first n subjects in memory."""
        return ng.Cohort.from_maps(self.study.images(n), mask=self.study.mask_image)

    @cached_property
    def maps(self) -> Path:
        """Folder of compressed maps and their mask."""
        folder = self.folder / "maps"
        if not folder.exists():
            folder.mkdir()
            for number in range(self.size.n_files):
                nib.save(self.study.image(number), folder / f"sub-{number:03d}.nii.gz")
            nib.save(self.study.mask_image, folder / "mask.nii.gz")
        return folder


def _test(
    place: Place,
    n: int,
    n_perm: int,
    design: Any = None,
    contrast: Any = None,
    *,
    on_disk: bool = False,
    **options: Any,
) -> Run:
    cohort = place.cohort(n)
    if on_disk:
        path = place.folder / "limited.zarr"
        shutil.rmtree(path, ignore_errors=True)
        cohort = ng.Cohort.create(path, place.study.images(n), mask=place.study.mask_image)
    given = {"n_perm": max(9, round(n_perm * place.size.share)), "cluster_forming_threshold": None} | options
    X = None if design is None else design(n)
    call = partial(ng.permutation_test, cohort, X, contrast, n_workers=2, **given)
    if not on_disk:
        return call
    call()  # has all that is needed imported, which counts

    def limited() -> object:
        return call(memory_limit=psutil.Process().memory_info().rss + 160 * 2**20)

    return limited


def _levels(k: int, n: int) -> Any:
    """A column for each of k groups, and a covariate."""
    groups = np.arange(n) % k == np.arange(k)[:, None]
    return np.column_stack([groups.T, np.linspace(-1.0, 1.0, n) ** 2])


def _conversion(place: Place) -> Run:
    maps = sorted(place.maps.glob("sub-*"))
    target = place.folder / "converted.zarr"
    options = {"mask": place.maps / "mask.nii.gz", "overwrite": True, "n_workers": 2}
    return partial(ng.Cohort.create, target, maps, smoothing_fwhm=6.0, **options)


TWO, THREE = partial(_levels, 2), partial(_levels, 3)
ONE_TO_ANOTHER, AMONG = [1, -1, 0], [[1, -1, 0, 0], [0, 1, -1, 0]]
_SMALL_TEST = """
import pathlib, sys, numbaglm as ng
maps = pathlib.Path(sys.argv[1])
print(ng.permutation_test(sorted(maps.glob("sub-*")), mask=maps / "mask.nii.gz", n_perm=200).summary())
"""

TIMED = (
    Row("max-t, n = 30", partial(_test, n=30, n_perm=10_000)),
    Row("max-t, n = 100", partial(_test, n=100, n_perm=6000, design=TWO, contrast=ONE_TO_ANOTHER)),
    Row("clusters, n = 30", partial(_test, n=30, n_perm=10_000, cluster_forming_threshold=0.001)),
    Row("TFCE, n = 30", partial(_test, n=30, n_perm=400, tfce=True)),
    Row("F, n = 30", partial(_test, n=30, n_perm=5000, design=THREE, contrast=AMONG)),
    Row(
        "v, n = 30",
        partial(_test, n=30, n_perm=9, design=TWO, contrast=ONE_TO_ANOTHER, variance_groups=[0, 1] * 15, errors="ee"),
    ),
    Row(
        "G, n = 30",
        partial(_test, n=30, n_perm=9, design=THREE, contrast=AMONG, variance_groups=[0, 1, 2] * 10, errors="ee"),
    ),
    Row("pseudo-t, n = 30", partial(_test, n=30, n_perm=60, variance_smoothing_fwhm=8.0)),
    Row(
        "blocks, n = 100",
        partial(_test, n=100, n_perm=6000, design=TWO, contrast=[0, 0, 1], exchangeability_blocks=np.arange(100) // 4),
    ),
    Row(
        "Zarr under a memory limit",
        partial(_test, n=100, n_perm=4000, on_disk=True, cluster_forming_threshold=0.001),
    ),
    Row("conversion", _conversion),
    Row("import", arguments=("-c", "import numbaglm")),
    Row("--help", arguments=("-m", "numbaglm", "--help")),
    Row("a small test in a new process", arguments=("-c", _SMALL_TEST, "MAPS")),
)
ROWS = {row.name: row for row in TIMED}


def main(checkout: str, folder: str, size: str) -> None:
    """Answer until there are no more names."""
    check_origin(checkout)
    logging.disable(logging.WARNING)
    place = Place(Path(folder), SIZES[size])
    name, run = "", None
    with event.install_recorder("numba:compile") as recorder:
        for line in sys.stdin:
            if name != line.strip():
                name, run = line.strip(), None  # data of one row at a time
                prepare = ROWS[name].prepare
                assert prepare is not None
                run = prepare(place)
            assert run is not None
            began = time.perf_counter()
            run()
            print(time.perf_counter() - began, len(recorder.buffer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
