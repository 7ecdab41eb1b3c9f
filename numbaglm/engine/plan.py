"""From a memory budget to voxel blocks, batches and rounds of shufflings: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from numbaglm.errors import InputError
from numbaglm.kernels.shuffle import TILE

BATCH = 256
"""Shufflings of one product: enough to fill the kernel's registers, few enough that weights and picks stay small."""

_WATCHED = 0.4
"""Share of voxels whose tails are kept: twice that of a map without effects (`numbaglm.stats.tails.WATCH_BELOW`)."""

_MAPS_BYTES = 512 * 2**20  # of a round of whole maps in memory
_READ_BYTES = 48 * 2**20  # of whole maps that a task of map scope reads at once

# Blocks of a worker where each is read in its turn: what a killed worker was at is done again.
_BLOCKS_A_WORKER = 8

# What one core does in a second, on a machine of 2024; for predictions alone.
_FLOPS = {4: 8e10, 8: 4e10}
_READ, _RESIDUALISED, _SPILLED = 8e8, 2.5e8, 1.2e9  # bytes, values, bytes
_DRAWN, _ENHANCED, _SMOOTHED = 5e7, 6e7, 4e6  # subjects, voxels, voxels


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
        Whether residuals and whole maps stay in memory, or each block is read in its turn and maps go to disk.
    drawn
        Shufflings that are drawn at once, a multiple of the batch.
    map_rows
        Whole maps that a task of map scope takes at once; divides the batch.
    memory
        Predicted peak of a process, bytes, beside what it holds before.
    disk
        Predicted scratch on disk, bytes.
    seconds
        Predicted time; only its order of magnitude is known.
    """

    batch: int
    blocks: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    resident: bool
    drawn: int = BATCH
    map_rows: int = 64
    memory: int = 0
    disk: int = 0
    seconds: float = 0.0

    @property
    def tabled(self) -> bool:
        """Whether shufflings are drawn once, into a table: worth it where several blocks need them."""
        return len(self.blocks) > 2

    def describe(self) -> str:
        """One line for the log."""
        where = "residuals stay in memory" if self.resident else "each block is read in its turn"
        disk = f", {self.disk / 1e6:,.0f} MB of scratch on disk" if self.disk else ""
        return (
            f"{len(self.blocks)} voxel blocks of up to {self.blocks[0][1] - self.blocks[0][0]:,} voxels, "
            f"{self.ranges[-1][1]:,} shufflings in batches of {self.batch} and {len(self.ranges)} round(s); "
            f"{where}; about {self.memory / 1e6:,.0f} MB a process at the peak{disk}, {_duration(self.seconds)}"
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
    chunk
        (subjects, voxels) that are read at once from the store.
    rotated
        Whether residuals are rotated, so that the data stay beside them.
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
            BATCH * self.n_rows * (2 * self.n_subjects + TILE) * self.itemsize  # weights, twice; scores
            + self.drawn * self.n_subjects * 12  # drawn indices and signs, as they are kept and as they are used
            + columns_at_once(self.n_subjects) * self.n_subjects * 32  # columns on their way to residuals
            + 3 * 4 * self.chunk[0] * min(self.chunk[1], self.n_voxels)  # a chunk: compressed, not, and taken
        )

    @property
    def per_tile(self) -> int:
        """Bytes that a tile of a block needs: residuals, and of each batch picks and scores; tails; all picks."""
        room = _WATCHED * (2 * self.tail_length + BATCH) + BATCH if self.tail_length else 0
        maps = BATCH * self.itemsize if self.n_maps else 0
        picks = 2 * self.pick_share * self.n_shufflings * (4 + self.itemsize)
        voxel = self.n_subjects * (self.itemsize + 4 * self.rotated) + BATCH * 3 + room * self.itemsize + maps + picks
        return TILE * int(voxel + 100)

    @property
    def per_mapper(self) -> int:
        """Bytes that a task of map scope needs: maps as they are read, and one in work."""
        maps = 2 * self.map_rows * self.n_maps * self.n_voxels * self.itemsize
        return maps + (120 * self.n_voxels if self.n_maps or self.pick_share else 0)

    @property
    def residuals(self) -> int:
        """Bytes of all residuals."""
        return self.n_tiles * TILE * self.n_subjects * self.itemsize

    @property
    def table(self) -> int:
        """Bytes of all shufflings, drawn."""
        return (4 + 1) * self.n_subjects * self.n_shufflings

    @property
    def picks(self) -> int:
        """Bytes of all picks."""
        return int(self.pick_share * self.n_shufflings * self.n_voxels * (4 + self.itemsize))

    @property
    def tails(self) -> int:
        """Bytes of all tails: those of earlier rounds, of one round, and both merged."""
        return int(3 * _WATCHED * self.tail_length * self.n_voxels * self.itemsize)

    @property
    def outcome(self) -> int:
        """Bytes of the maps and nulls of the result, as they are assembled."""
        return 300 * self.n_voxels + 100 * self.n_shufflings

    def per_shuffling(self, in_memory: bool) -> int:
        """Bytes that a shuffling leaves in memory until its round ends: picks, held twice while merged; whole maps."""
        if not in_memory:
            return 0
        picks = 2 * self.pick_share * self.n_voxels * (4 + self.itemsize)
        return int(picks) + self.n_maps * self.n_voxels * self.itemsize

    def seconds(self, n_workers: int, n_rounds: int, spilled: bool) -> float:
        """Predict how long it takes; see the rates above."""
        values, maps = self.n_subjects * self.n_voxels, self.n_shufflings * self.n_voxels
        flops = 2 * values * self.n_rows * self.n_shufflings
        work = flops / _FLOPS[self.itemsize] + self.n_subjects * self.n_shufflings / _DRAWN
        work += n_rounds * (4 * values / _READ + values / _RESIDUALISED)
        if self.n_maps:
            work += maps / (_ENHANCED if self.n_maps == 1 else _SMOOTHED)
        if spilled:
            work += 2 * self.n_maps * maps * self.itemsize / _SPILLED
        return work / n_workers


def columns_at_once(n_subjects: int) -> int:
    """Voxels that are residualised at once, in double precision: it depends on the subjects alone."""
    return max(64, min(TILE, 2**22 // (8 * n_subjects) // 64 * 64))


def make_plan(
    size: Size, room: int, n_workers: int, *, n_processes: int = 1, keep: bool = True, disk: int | None = None
) -> Plan:
    """Cut a test up so that it fits.

    Residuals stay in memory where they take little of it, together with a round of whole maps; otherwise each block
    is read when its turn comes, and whole maps go to disk.

    Parameters
    ----------
    size
        What is to be planned.
    room
        Bytes that this run may take in each process.
    n_workers
        Tasks that run at once in a process.
    n_processes
        Processes that share the work.
    keep
        Whether anything may stay in memory between tasks: it can where all run in this process.
    disk
        Bytes that scratch may take; None for no limit.

    Raises
    ------
    InputError
        Not even the smallest block fits.
    """
    n_tasks = n_workers * n_processes
    smallest = n_workers * size.per_tile
    for resident in (True, False) if keep else (False,):
        least = _memory(size, n_workers, resident, 1, 0)
        in_round = _round(size, (room - least) // 3 if resident else disk, resident)
        left = room - _memory(size, n_workers, resident, 0, in_round)
        fits = room >= _memory(size, n_workers, resident, 1, in_round)
        if in_round and fits and (not resident or size.residuals <= 0.6 * room):
            break
    else:
        raise InputError(_too_small(size, room, n_workers, least, disk))
    wanted = math.ceil(size.n_tiles / ((4 if resident else _BLOCKS_A_WORKER) * n_tasks))
    most = int(max(1, min(left // smallest, wanted)))
    tiles = _even(most, size.n_tiles, n_tasks) if resident else _aligned(most, size)
    step = tiles * TILE
    return _described(
        Plan(
            batch=BATCH,
            blocks=tuple((v, min(v + step, size.n_voxels)) for v in range(0, size.n_voxels, step)),
            ranges=tuple((i, min(i + in_round, size.n_shufflings)) for i in range(0, size.n_shufflings, in_round)),
            resident=resident,
            drawn=size.drawn,
            map_rows=size.map_rows,
        ),
        size,
        n_workers,
        n_processes,
    )


def refit(plan: Plan, size: Size, room: int, n_workers: int, *, n_processes: int = 1, keep: bool = True) -> Plan:
    """Fit the plan of an earlier run, whose cuts stay, into another budget.

    Parameters
    ----------
    plan
        How the test was cut up.
    size, room, n_workers, n_processes, keep
        As in `make_plan`.

    Raises
    ------
    InputError
        Its blocks don't fit.
    """
    for resident in (True, False) if plan.resident and keep else (False,):
        fitted = _described(replace(plan, resident=resident), size, n_workers, n_processes)
        if fitted.memory <= room:
            return fitted
    raise InputError(
        f"The run that is to go on was cut up for more memory: its blocks take {fitted.memory / 1e6:,.0f} MB with "
        f"{n_workers} workers, and memory_limit leaves {room / 1e6:,.0f} MB. Raise it, use fewer workers, or choose "
        "another store."
    )


def _described(plan: Plan, size: Size, n_workers: int, n_processes: int) -> Plan:
    """Predict what a plan takes."""
    in_round, n_rounds = plan.ranges[0][1], len(plan.ranges)
    tiles = math.ceil(plan.blocks[0][1] / TILE)
    spilled = bool(size.n_maps) and not plan.resident
    return replace(
        plan,
        memory=_memory(size, n_workers, plan.resident, tiles, in_round),
        disk=in_round * size.n_maps * size.n_voxels * size.itemsize if spilled else 0,
        seconds=size.seconds(n_workers * n_processes, 1 if plan.resident else n_rounds, spilled),
    )


def _memory(size: Size, n_workers: int, resident: bool, tiles: int, in_round: int) -> int:
    """Bytes at the peak, with blocks of so many tiles and rounds of so many shufflings."""
    kept = 0
    if resident:
        in_round = min(in_round, size.n_shufflings)
        kept = size.residuals + size.table + size.picks + in_round * size.per_shuffling(True)
    at_work = max(n_workers * (size.per_worker + tiles * size.per_tile), n_workers * size.per_mapper)
    return int(size.outcome + size.tails + kept + at_work)


def _aligned(tiles: int, size: Size) -> int:
    """Tiles of a block such that few chunks are read for two blocks."""
    columns = size.chunk[1]
    whole = columns // TILE
    return tiles // whole * whole if columns % TILE == 0 and tiles > whole else tiles


def _even(most: int, n_tiles: int, n_tasks: int) -> int:
    """Tiles of a block, so many at most and no less than half of that, such that all workers end at about one time."""

    def taken(tiles: int) -> int:
        """Tiles of the worker that has the most of them."""
        n_blocks = math.ceil(n_tiles / tiles)
        turns, over = divmod(n_blocks - 1, n_tasks)
        return turns * tiles + (n_tiles - (n_blocks - 1) * tiles if over == 0 else tiles)

    return min(range(most, most // 2, -1), key=taken)


def _round(size: Size, room: int | None, in_memory: bool) -> int:
    """Shufflings a round, a multiple of the batch; 0 where not even one batch fits."""
    everything = math.ceil(size.n_shufflings / BATCH) * BATCH
    each = size.per_shuffling(in_memory) if in_memory else size.n_maps * size.n_voxels * size.itemsize
    if each == 0 or room is None:
        return everything
    # Whole maps are used soon after they are made: more of them would only pass through slower memory.
    room = min(room, _MAPS_BYTES) if in_memory and size.n_maps else room
    return min(everything, max(0, room) // each // BATCH * BATCH)


def _too_small(size: Size, room: int, n_workers: int, need: int, disk: int | None) -> str:
    if need <= room and disk is not None:
        batch = BATCH * size.n_maps * size.n_voxels * size.itemsize
        return (
            f"{disk / 1e6:,.0f} MB of free disk are too few: {size.n_maps} map(s) of {BATCH} shufflings take "
            f"{batch / 1e6:,.0f} MB. Free some, or name another place with store=."
        )
    return (
        f"The memory limit leaves {room / 1e6:,.0f} MB, which is too small: {size.n_subjects:,} subjects need at least "
        f"{math.ceil(need / 1e6):,} MB with {n_workers} workers. Raise memory_limit, or use fewer workers."
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return "a few seconds" if seconds < 5 else f"some {round(seconds, -1):.0f} s"
    return f"some {seconds / 60:.0f} min" if seconds < 7000 else f"some {seconds / 3600:.1f} h"
