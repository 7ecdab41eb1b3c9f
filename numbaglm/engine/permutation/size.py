"""How large a test is: the bytes that its parts take, and the time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numbaglm.kernels.panels.shuffle import TILE

BATCH = 256
"""Shufflings of one product: enough to fill the kernel's registers, few enough that weights and picks stay small."""

_READ_BYTES = 48 * 2**20  # of whole maps that a task of map scope reads at once
CLUSTERINGS, _CLUSTERED = 512, 2**21  # sparse maps of a task that forms clusters, and voxels of them all

# What one core does in a second, on a machine of 2024; for predictions alone.
_FLOPS = {4: 8e10, 8: 4e10}
_READ, _RESIDUALISED, _SPILLED = 8e8, 2.5e8, 1.2e9  # bytes, values, bytes
_DRAWN, _ENHANCED, _SMOOTHED = 5e7, 6e7, 4e6  # subjects, voxels, voxels


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
    chunk
        (subjects, voxels) that are read at once from the store.
    n_units
        Units of all layers; None where there is one layer, of the subjects.
    rotated
        Whether residuals are rotated, so that the data stay beside them.
    refitted
        Whether shuffled rows are residualised again, in double precision.
    finished
        Whether scores have to be finished, and wait for that.
    n_counts
        Counts of each voxel that tasks of map scope leave: one for pseudo-t, one for TFCE where it is counted.
    grid
        Cells of the grid that the mask lies in; of other spaces what tells neighbours.
    ahead
        Chunks that are under way at once: several where the store answers late.
    given
        Bytes of a subject's value at a voxel, with all that a family which prepares data by itself is handed beside
        them; 0 for the others.
    n_more
        Further maps that the family leaves.
    n_pattern_rows
        Rows of each shuffling that patterns of presence are multiplied with; None where elements have none.
    span
        Units that a row runs over at most; None for the subjects.
    held
        Bytes of tables that a family keeps in each process.
    n_tests, n_before
        Tests of the call, and those of them that are done: the process holds what they found.
    n_listed
        Scores of all shufflings that are listed beside, for templates of true discoveries.
    """

    n_subjects: int
    n_voxels: int
    n_shufflings: int
    n_rows: int
    itemsize: int
    n_maps: int
    pick_share: float = 0.0
    tail_length: int = 0
    chunk: tuple[int, int] = (1, TILE)
    rotated: bool = False
    refitted: bool = False
    finished: bool = False
    n_units: int | None = None
    n_counts: int = 0
    grid: int = 0
    ahead: int = 1
    given: int = 0
    n_more: int = 0
    n_pattern_rows: int | None = None
    span: int | None = None
    held: int = 0
    n_tests: int = 1
    n_before: int = 0
    n_listed: int = 0

    @property
    def units(self) -> int:
        """Units of all layers."""
        return self.n_subjects if self.n_units is None else self.n_units

    @property
    def row_length(self) -> int:
        """Units that a row runs over at most."""
        return self.n_subjects if self.span is None else self.span

    @property
    def n_tiles(self) -> int:
        """Tiles of all voxels."""
        return math.ceil(self.n_voxels / TILE)

    @property
    def drawn(self) -> int:
        """Shufflings that are drawn at once: many where they are short, as each draw costs something by itself."""
        return max(BATCH, 2**17 // self.n_subjects // BATCH * BATCH)

    @property
    def map_rows(self) -> int:
        """Whole maps that a task reads at once: a power of 2, as the batch is."""
        fitting = _READ_BYTES // (self.n_voxels * self.itemsize * max(1, self.n_maps))
        return int(2 ** min(6, max(1, fitting).bit_length() - 1))

    @property
    def per_worker(self) -> int:
        """Bytes that a task of voxel scope needs, whatever the block."""
        return (
            BATCH * self.n_rows * (2 * self.row_length + TILE) * self.itemsize  # weights, twice; scores
            + self.drawn * self.n_subjects * 12  # drawn indices and signs, as they are kept and as they are used
            + self.n_subjects
            * (128 * columns_given(self.n_subjects) if self.given else 32 * columns_at_once(self.n_subjects))
            + 3 * 4 * self.ahead * self.chunk[0] * min(self.chunk[1], self.n_voxels)  # chunks: packed, not, and taken
            + BATCH * self.n_rows * self.n_subjects * 24 * self.refitted
            + 32 * 2**19 * self.finished  # data that are shuffled directly
            + self._of_patterns
        )

    @property
    def _of_patterns(self) -> int:
        """Bytes of numbers of patterns, and of columns that fill panels up: one panel for each number of subjects."""
        if self.n_pattern_rows is None:
            return 0
        filled = 32 * self.n_subjects * (self.units + BATCH * self.n_maps) * self.itemsize
        return (
            filled
            + BATCH * self.n_pattern_rows * (16 * self.n_subjects + TILE * self.itemsize)
            + 16 * TILE * self.n_subjects
        )

    @property
    def shared(self) -> int:
        """Bytes of what all tasks share, where it is large: how residuals are rotated, on its way too; and tables."""
        return 24 * self.n_subjects**2 * self.rotated + self.held

    @property
    def clusterings(self) -> int:
        """Sparse maps of a task that forms clusters: fewer where they are not sparse."""
        return int(max(1, min(CLUSTERINGS, _CLUSTERED / max(1.0, self.pick_share * self.n_voxels))))

    @property
    def per_tile(self) -> int:
        """Bytes that a tile of a block needs: residuals, and of each batch picks and scores; tails; all picks."""
        # Any share of the voxels may have tails worth keeping: with a strong effect all do.
        room = 2 * self.tail_length + 2 * BATCH if self.tail_length else 0
        maps = BATCH * self.itemsize * self.n_maps
        picks = 2 * self.pick_share * self.n_shufflings * (4 + self.itemsize)
        data = self.units * self.itemsize + 4 * self.n_subjects * self.rotated + 4 * self.chunk[0] * min(2, self.ahead)
        data += self.given * self.n_subjects + 8 * self.n_more
        if self.n_pattern_rows is not None:  # the patterns of elements, at most one of each, and where each is
            data += 3 * self.n_subjects + 64
            maps += maps and BATCH * self.itemsize + 32 * 16  # of numbers, and of z, a few in double precision
        room_to_finish = 24 * BATCH // 2 * self.finished
        return TILE * int(data + room_to_finish + BATCH * 3 + room * self.itemsize + maps + picks + 100)

    def per_record(self, n_rounds: int) -> int:
        """Bytes that the records of a tile take where they are read again, those of so many rounds at once."""
        picks = self.pick_share * self.n_shufflings * (4 + self.itemsize)
        return TILE * int(picks + (n_rounds + 4) * self.tail_length * self.itemsize)

    def per_mapper(self, tiles: int, resident: bool) -> int:
        """Bytes that a task of map scope needs: maps as they are read, and one in work; or clusters of sparse ones."""
        read = 0 if resident else self.map_rows * (self.n_voxels + tiles * TILE) * self.itemsize
        maps = self.n_maps * (read + 120 * self.n_voxels + 12 * self.grid)
        if not self.pick_share:
            return maps
        at_once = min(self.clusterings, self.n_shufflings)
        sparse = 40 * at_once * self.pick_share * self.n_voxels + 4 * self.grid
        return max(maps, int(sparse) + tiles * self.per_record(1))

    @property
    def residuals(self) -> int:
        """Bytes of all residuals."""
        return self.n_tiles * TILE * self.units * self.itemsize

    @property
    def table(self) -> int:
        """Bytes of all shufflings, drawn."""
        return (4 + 1) * self.n_subjects * self.n_shufflings

    @property
    def picks(self) -> int:
        """Bytes of all picks."""
        return int(self.pick_share * self.n_shufflings * self.n_voxels * (4 + self.itemsize))

    def tails(self, n_rounds: int) -> int:
        """Bytes of the tails that so many rounds leave."""
        return n_rounds * self.tail_length * self.n_voxels * self.itemsize

    @property
    def counts(self) -> int:
        """Bytes of the counts that all tasks of map scope leave."""
        return self.n_counts * math.ceil(self.n_shufflings / self.map_rows) * self.n_voxels

    @property
    def outcome(self) -> int:
        """Bytes of the maps and nulls of the results of a call, as they are assembled, beside what is there already."""
        each = (300 + 24 * self.n_more) * self.n_voxels + 100 * self.n_shufflings
        # Scores, p, elements, and what a calibration makes of them on its way.
        return self.n_tests * each - self.n_before * 60 * self.n_voxels + 64 * self.n_listed

    def per_shuffling(self, in_memory: bool) -> int:
        """Bytes that a shuffling leaves in memory until its round ends: picks, held twice while merged; whole maps."""
        if not in_memory:
            return 0
        picks = 2 * self.pick_share * self.n_voxels * (4 + self.itemsize)
        return int(picks) + self.n_maps * self.n_voxels * self.itemsize

    def seconds(self, n_workers: int, n_rounds: int, spilled: bool) -> float:
        """Predict how long it takes; see the rates above."""
        values, maps = self.n_subjects * self.n_voxels, self.n_shufflings * self.n_voxels
        flops = 2 * self.row_length * self.n_voxels * self.n_rows * self.n_shufflings
        work = flops / _FLOPS[self.itemsize] + self.n_subjects * self.n_shufflings / _DRAWN
        work += n_rounds * (4 * values / _READ + values / _RESIDUALISED)
        if spilled:
            work += self.n_maps * maps * self.itemsize / _SPILLED
        return work / n_workers + self.map_seconds(n_workers, spilled)

    def map_seconds(self, n_workers: int, spilled: bool) -> float:
        """Predict how long what is made of whole maps takes of it."""
        if not self.n_maps:
            return 0.0
        maps = self.n_shufflings * self.n_voxels
        work = maps / (_ENHANCED if self.n_maps == 1 else _SMOOTHED)
        if spilled:
            work += self.n_maps * maps * self.itemsize / _SPILLED
        return work / n_workers


def columns_given(n_subjects: int) -> int:
    """Voxels that a family prepares at once: of small cohorts several tiles, as each time takes a while of its own."""
    return max(columns_at_once(n_subjects), min(6 * TILE, 2**22 // (8 * n_subjects) // TILE * TILE))


def columns_at_once(n_subjects: int) -> int:
    """Voxels that are residualised at once, in double precision: it depends on the subjects alone."""
    return max(64, min(TILE, 2**22 // (8 * n_subjects) // 64 * 64))
