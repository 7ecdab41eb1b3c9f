"""From a memory budget to voxel blocks, batches and ranges of shufflings: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numbaglm.errors import InputError
from numbaglm.kernels.shuffle import TILE

BATCH_ROWS = 128
"""Rows of one product: shufflings a batch times rows a shuffling. Fixed, so that products never depend on a plan."""


@dataclass(frozen=True)
class Plan:
    """How a permutation test is cut up.

    Attributes
    ----------
    batch
        Shufflings a product; depends on the design alone.
    blocks
        (start, stop) voxels of each block; starts are multiples of the tile.
    ranges
        (first, last) shufflings of each round; multiples of the batch.
    resident
        Whether all residuals stay in memory, or each block is read when its turn comes.
    memory
        Predicted peak, bytes, beside what the process holds before.
    """

    batch: int
    blocks: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    resident: bool
    memory: int

    def describe(self) -> str:
        """One line for the log."""
        where = "residuals stay in memory" if self.resident else "each block is read in its turn"
        return (
            f"{len(self.blocks)} voxel blocks of up to {self.blocks[0][1] - self.blocks[0][0]:,} voxels, "
            f"{self.ranges[-1][1]:,} shufflings in batches of {self.batch} and {len(self.ranges)} round(s); "
            f"{where}; about {self.memory / 1e6:,.0f} MB at the peak"
        )


@dataclass(frozen=True)
class Size:
    """What is to be planned: counts, and bytes a number."""

    n_subjects: int
    n_voxels: int
    n_shufflings: int
    n_rows: int
    itemsize: int
    n_maps: int


def make_plan(size: Size, memory_limit: int, n_workers: int) -> Plan:
    """Cut a test up so that it fits.

    Parameters
    ----------
    size
        Of the data, the shufflings and the statistic; ``n_maps`` whole maps of each shuffling are kept for a
        while (1 for TFCE, 2 for pseudo-t).
    memory_limit
        Bytes that this run may take.
    n_workers
        Tasks that run at once.

    Raises
    ------
    InputError
        Not even the smallest block fits the limit.
    """
    batch = max(1, BATCH_ROWS // size.n_rows)
    n_tiles = math.ceil(size.n_voxels / TILE)
    fixed = n_workers * (
        BATCH_ROWS * (size.n_subjects * size.itemsize + TILE * size.itemsize)  # weights, scores
        + batch * size.n_subjects * 5  # drawn indices and signs
        + size.n_subjects * TILE * 20  # a tile on its way from data to residuals
    )
    per_tile = size.n_subjects * TILE * (size.itemsize + 4) + TILE * batch * 12 // 4
    all_residuals = n_tiles * TILE * size.n_subjects * size.itemsize
    room = memory_limit - fixed
    resident = all_residuals + n_workers * per_tile <= 0.6 * room
    share = (room - all_residuals if resident else room) // (2 * n_workers)
    tiles = min(share // per_tile, max(1, math.ceil(n_tiles / (4 * n_workers))))
    if not resident:
        tiles = min(share // per_tile, max(1, math.ceil(n_tiles / n_workers)))
    if tiles < 1:
        need = fixed + 2 * n_workers * per_tile
        raise InputError(
            f"A memory limit of {memory_limit / 1e6:,.0f} MB is too small: {size.n_subjects:,} subjects need at least "
            f"{need / 1e6:,.0f} MB with {n_workers} workers. Raise memory_limit, or use fewer workers."
        )
    step = int(tiles) * TILE
    blocks = tuple((v, min(v + step, size.n_voxels)) for v in range(0, size.n_voxels, step))
    in_round = size.n_shufflings
    if size.n_maps and resident:
        fit = int((room - all_residuals) // 2 // (size.n_maps * size.n_voxels * size.itemsize))
        in_round = max(batch, fit // batch * batch)
    ranges = tuple((i, min(i + in_round, size.n_shufflings)) for i in range(0, size.n_shufflings, in_round))
    memory = fixed + n_workers * int(tiles) * per_tile + (all_residuals if resident else 0)
    if size.n_maps and resident:
        memory += min(in_round, size.n_shufflings) * size.n_maps * size.n_voxels * size.itemsize
    return Plan(batch, blocks, ranges, resident, int(memory))
