"""What a run leaves: raw results, and the scratch that whole maps pass through."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.engine.plan import Plan
from numbaglm.engine.voxels import Floats, Spec


@dataclass(frozen=True, eq=False)
class RunResult:
    """Raw results: scores, counts and nulls; nothing is corrected yet.

    Attributes
    ----------
    score, statistic, effect, degenerate, length
        As in `numbaglm.engine.voxels.Block`, over all voxels.
    counts
        (n_voxels,) shufflings whose score reaches the observed one, the observed among them.
    max_score
        (n_shufflings,) largest score of each shuffling (absolute if two-sided).
    max_size, max_mass
        (n_shufflings,) of the largest cluster, where clusters were asked for.
    observed_picks
        Voxels above the cluster-forming threshold in the observed map, and their scores.
    tfce, max_tfce
        (n_voxels,) observed TFCE, and (n_shufflings,) its maximum, where it was asked for.
    refined
        Where tails were kept: uncorrected p (n_voxels,), and where each comes from.
    """

    score: NDArray[np.float64]
    statistic: NDArray[np.float64]
    effect: NDArray[np.float64]
    degenerate: NDArray[np.bool_]
    length: NDArray[np.float64]
    counts: NDArray[np.int64]
    max_score: NDArray[np.float64]
    max_size: NDArray[np.int64] | None
    max_mass: NDArray[np.float64] | None
    observed_picks: tuple[NDArray[np.int32], Floats] | None
    tfce: NDArray[np.float64] | None
    max_tfce: NDArray[np.float64] | None
    refined: tuple[NDArray[np.float64], NDArray[np.uint8]] | None


@contextmanager
def map_scratch(spec: Spec, plan: Plan, n_voxels: int, shared: bool, n_maps: int) -> Iterator[Any]:
    """Room for whole maps of one round of shufflings: (n_maps, n_shufflings, n_voxels) as a list of n_maps arrays.

    In memory where a plan keeps the residuals there too; otherwise, and for a cluster's workers, on disk.
    """
    shape = (max(last - first for first, last in plan.ranges), n_voxels)
    if plan.resident and not shared:
        yield [np.empty(shape, dtype=spec.precision) for _ in range(n_maps)]
        return
    with tempfile.TemporaryDirectory(prefix="numbaglm-") as folder:
        files = [Path(folder) / f"maps-{number}.npy" for number in range(n_maps)]
        for file in files:
            np.lib.format.open_memmap(file, mode="w+", dtype=np.dtype(spec.precision), shape=shape)
        yield [DiskMaps(str(file)) for file in files]


@dataclass(frozen=True)
class DiskMaps:
    """Maps in a file that all workers see: an array in rows, opened where it is used."""

    path: str

    def __setitem__(self, where: Any, values: Floats) -> None:
        np.load(self.path, mmap_mode="r+")[where] = values

    def __getitem__(self, row: int) -> Floats:
        return np.asarray(np.load(self.path, mmap_mode="r")[row])
