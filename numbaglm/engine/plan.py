"""From a memory budget to voxel blocks, batches and ranges of shufflings: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numbaglm.errors import InputError
from numbaglm.kernels.shuffle import TILE

BATCH_ROWS = 256
"""Shufflings of one product: enough to fill the kernel's registers, few enough that weights and picks stay small."""

_WATCHED = 0.4
"""Share of voxels whose tails are kept: twice that of a map without effects (`numbaglm.stats.tails.WATCH_BELOW`)."""

_MAPS_BYTES = 512 * 2**20


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
    """What is to be planned.

    Attributes
    ----------
    n_subjects, n_voxels, n_shufflings
        Of the data and the test.
    n_rows
        Rows of a product for each shuffling.
    itemsize
        Bytes a number.
    n_maps
        Whole maps of each shuffling that are kept for a while: 1 for TFCE, 2 for pseudo-t.
    pick_share
        Share of voxels that are expected above the cluster-forming threshold.
    tail_length
        Largest scores of a voxel that are kept; 0 for none.
    """

    n_subjects: int
    n_voxels: int
    n_shufflings: int
    n_rows: int
    itemsize: int
    n_maps: int
    pick_share: float = 0.0
    tail_length: int = 0

    @property
    def batch(self) -> int:
        """Shufflings a product."""
        return BATCH_ROWS

    @property
    def n_tiles(self) -> int:
        """Tiles of all voxels."""
        return math.ceil(self.n_voxels / TILE)

    @property
    def per_worker(self) -> int:
        """Bytes that a worker needs, whatever the block."""
        return (
            self.batch * self.n_rows * (self.n_subjects + TILE) * self.itemsize  # weights, scores
            + self.batch * self.n_subjects * 5  # drawn indices and signs
            + self.n_subjects * TILE * 20  # a tile on its way from data to residuals
        )

    @property
    def per_tile(self) -> int:
        """Bytes that a tile of a block needs: data and residuals, picks and scores of a batch, tails as they grow."""
        room = _WATCHED * (2 * self.tail_length + self.batch) + self.batch if self.tail_length else 0
        return self.n_subjects * TILE * (self.itemsize + 4) + TILE * (self.batch * 3 + int(room * self.itemsize))

    @property
    def residuals(self) -> int:
        """Bytes of all residuals."""
        return self.n_tiles * TILE * self.n_subjects * self.itemsize

    @property
    def tails(self) -> int:
        """Bytes of all tails: those of earlier rounds, of one round, and both merged."""
        return int(3 * _WATCHED * self.tail_length * self.n_voxels * self.itemsize)

    def per_shuffling(self, maps_in_memory: bool) -> int:
        """Bytes that a shuffling leaves until its round ends: picks, held twice while merged, and whole maps."""
        picks = 2 * self.pick_share * self.n_voxels * (4 + self.itemsize)
        return int(picks) + (self.n_maps * self.n_voxels * self.itemsize if maps_in_memory else 0)


def make_plan(size: Size, memory_limit: int, n_workers: int) -> Plan:
    """Cut a test up so that it fits.

    Residuals stay in memory where they take little of it, together with a round of whole maps; otherwise each block
    is read when its turn comes, and whole maps go to disk.

    Parameters
    ----------
    size
        What is to be planned.
    memory_limit
        Bytes that this run may take.
    n_workers
        Tasks that run at once.

    Raises
    ------
    InputError
        Not even the smallest block fits the limit.
    """
    fixed = n_workers * size.per_worker + size.tails
    room = memory_limit - fixed
    smallest = n_workers * size.per_tile
    for resident in (True, False):
        kept = size.residuals if resident else 0
        one = size.per_shuffling(maps_in_memory=resident)
        in_round = _round(size, (room - kept - smallest) // 3, one)
        left = room - kept - in_round * one
        if (not resident or kept <= 0.6 * room) and in_round and left >= 2 * smallest:
            break
    else:
        need = fixed + 2 * smallest + 3 * size.batch * size.per_shuffling(maps_in_memory=False)
        raise InputError(
            f"A memory limit of {memory_limit / 1e6:,.0f} MB is too small: {size.n_subjects:,} subjects need at least "
            f"{need / 1e6:,.0f} MB with {n_workers} workers. Raise memory_limit, or use fewer workers."
        )
    wanted = math.ceil(size.n_tiles / ((4 if resident else 1) * n_workers))
    tiles = int(max(1, min(left // (2 * smallest), wanted)))
    step = tiles * TILE
    return Plan(
        batch=size.batch,
        blocks=tuple((v, min(v + step, size.n_voxels)) for v in range(0, size.n_voxels, step)),
        ranges=tuple((i, min(i + in_round, size.n_shufflings)) for i in range(0, size.n_shufflings, in_round)),
        resident=resident,
        memory=int(fixed + kept + tiles * smallest + min(in_round, size.n_shufflings) * one),
    )


def _round(size: Size, room: int, per_shuffling: int) -> int:
    """Shufflings a round, a multiple of the batch; 0 where not even one batch fits."""
    everything = math.ceil(size.n_shufflings / size.batch) * size.batch
    if per_shuffling == 0:
        return everything
    # Whole maps are used soon after they are made: more of them would only pass through slower memory.
    room = min(room, _MAPS_BYTES) if size.n_maps else room
    return min(everything, max(0, room) // per_shuffling // size.batch * size.batch)
