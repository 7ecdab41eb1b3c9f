"""The permuted statistics kernel beside the bare matrix product: `python benchmarks/bench_shuffle_kernel.py`.

One batch of shufflings through a block of random data, on one core: maxima, counts and the scores above a threshold
(p = 0.001), for each number of subjects and of rows a shuffling. The product runs on the same weights and tiles, in
turn with the kernel, so that a busy machine slows both; each time is the least of its rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from cases import KERNEL_SUBJECTS, TILES
from numbaglm.engine.permutation.size import BATCH
from numbaglm.kernels.panels.fused import Limits, permute_panels
from numbaglm.kernels.panels.scores import Scoring
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.families.t_f import combine

FEW = 30


@dataclass(frozen=True, eq=False)
class Batch:
    """Shufflings of ``n_rows`` rows, the first of interest, through ``n_tiles`` tiles: partial t, two-sided."""

    n_subjects: int
    n_rows: int
    n_tiles: int
    picking: bool

    @property
    def height(self) -> int:
        """Shufflings."""
        return BATCH // self.n_rows

    @property
    def n_voxels(self) -> int:
        """Voxels; all tiles are full."""
        return self.n_tiles * TILE

    @cached_property
    def tiles(self) -> NDArray[np.float32]:
        """(n_tiles, n_subjects, TILE) residuals of unit length."""
        tiles = np.random.default_rng(0).standard_normal((self.n_tiles, self.n_subjects, TILE), dtype=np.float32)
        return tiles / np.linalg.norm(tiles, axis=1, keepdims=True)

    @cached_property
    def weights(self) -> NDArray[np.float32]:
        """(n_rows * height, n_subjects) orthonormal rows, permuted."""
        rng = np.random.default_rng(1)
        basis = np.linalg.qr(rng.standard_normal((self.n_subjects, self.n_rows)))[0].T
        shuffled = [rng.permutation(basis, axis=1) for _ in range(self.height)]
        return np.ascontiguousarray(np.stack(shuffled, axis=1).reshape(-1, self.n_subjects), dtype=np.float32)

    @cached_property
    def limits(self) -> Limits:
        """What is counted, the products of the first row, and the correlation at p = 0.001."""
        dof = self.n_subjects - self.n_rows
        t = stats.t.isf(0.0005, dof) if self.picking else np.nan
        reference = np.abs(np.ravel(self.weights[:1] @ self.tiles)).reshape(-1, TILE)
        return Limits(reference, np.array([t / np.hypot(t, np.sqrt(dof))], np.float32))

    @cached_property
    def room(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Where picks go."""
        n = self.height * self.n_voxels if self.picking else 0
        return np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.float32)

    @cached_property
    def products(self) -> NDArray[np.float32]:
        """Where the bare product goes."""
        return np.empty((len(self.weights), TILE), np.float32)

    def kernel(self) -> int:
        """Maxima, counts and picks."""
        counts, best = np.zeros((self.n_tiles, TILE), np.int32), np.empty(self.height, np.float32)
        return permute_panels(
            [self.weights.reshape(self.n_rows, self.height, -1)],
            self.tiles,
            (self.height, self.n_voxels),
            np.empty((self.n_tiles, 0, TILE), np.float32),
            Scoring(combine, np.array([self.n_rows, 1, 1]), np.empty(0, np.float32)),
            True,
            self.limits,
            counts,
            best,
            self.room,
            np.empty((self.height, 0), np.float32),
        )

    def sgemm(self) -> None:
        """Do the same products and nothing else."""
        for tile in self.tiles:
            np.dot(self.weights, tile, out=self.products)


def batch(n_subjects: int, n_rows: int, size: str, picking: bool = True) -> Batch:
    """As many tiles as make 30 subjects' memory, so that all cases leave the caches alike."""
    return Batch(n_subjects, n_rows, max(2, TILES[size] * FEW // n_subjects), picking)


def fastest(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Least processor time of each call, run in turn."""
    taken = np.empty((rounds, len(calls)))
    for times in taken:
        for i, call in enumerate(calls):
            start = time.thread_time()
            call()
            times[i] = time.thread_time() - start
    return [float(least) for least in taken.min(axis=0)]


@pytest.mark.parametrize("side", ["kernel", "sgemm"])
@pytest.mark.parametrize("n_rows", [1, 2, 4])
@pytest.mark.usefixtures("one_core")
def bench_shuffle_kernel(benchmark: Callable[..., object], size: str, n_rows: int, side: str) -> None:
    case = batch(FEW, n_rows, size)
    benchmark.group = f"{FEW} subjects, {n_rows} rows a shuffling"  # type: ignore[attr-defined]
    # Scores of random data pass p = 0.001 as often as that.
    assert case.kernel() == pytest.approx(0.001 * case.height * case.n_voxels, rel=0.2)
    benchmark(getattr(case, side))


def main() -> None:
    """Print rates in GFLOP/s, their ratio to the bare product's, and seconds for 10,000 x 230,000."""
    print("subjects rows |  sgemm | counts ratio | and picks ratio | 10,000 x 230,000")
    for n_subjects, n_rows in [(n, 1) for n in KERNEL_SUBJECTS] + [(FEW, rows) for rows in range(2, 7)]:
        case = batch(n_subjects, n_rows, "full")
        counting = batch(n_subjects, n_rows, "full", picking=False)
        case.kernel()
        bare, counts, picks = fastest([case.sgemm, counting.kernel, case.kernel], 15)
        work = 2e-9 * case.weights.size * case.n_voxels
        whole = 2.3e9 / (case.height * case.n_voxels)
        print(
            f"{n_subjects:8} {n_rows:4} | {work / bare:6.1f} | {work / counts:6.1f} {bare / counts:5.2f} "
            f"| {work / picks:9.1f} {bare / picks:5.2f} | {picks * whole:.2f} s"
        )


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
