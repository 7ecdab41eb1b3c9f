"""From a memory budget to blocks of voxels, batches and rounds of shufflings: pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from numbaglm.engine.permutation.size import BATCH, CLUSTERINGS, Size
from numbaglm.errors import InputError, term
from numbaglm.kernels.panels.shuffle import TILE

_MAPS_BYTES = 512 * 2**20  # of a round of whole maps in memory

# Blocks of a worker where each is read in its turn: what a killed worker was at is done again.
_BLOCKS_A_WORKER = 8


class NoRoomError(InputError):
    """Not even the smallest cut fits.

    Attributes
    ----------
    needed, what, fix
        As `numbaglm.engine.memory.Room.refusal` takes them.
    """

    def __init__(self, needed: int, what: str, fix: str) -> None:
        super().__init__(f"{what} {math.ceil(needed / 1e6):,} MB. {fix}")
        self.needed, self.what, self.fix = needed, what, fix


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
    clusterings
        Sparse maps of a task that forms clusters.
    n_workers
        Tasks at once in a process, where there is room for fewer than there are workers; None where all work.
    memory
        Predicted peak of a process, bytes, beside what it holds before.
    disk
        Predicted scratch on disk, bytes.
    seconds, map_seconds
        Predicted time; only its order of magnitude is known. And what of it whole maps take.
    n_processes
        Processes that share the work: of the call, and no part of how it is cut up.
    limit, limit_source, nouns
        Bytes that it may take, beside what a process holds before, and where that comes from; and what is cut into
        blocks. They are of the call, and no part of how it is cut up.
    """

    batch: int
    blocks: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    resident: bool
    drawn: int = BATCH
    map_rows: int = 64
    clusterings: int = CLUSTERINGS
    n_workers: int | None = None
    memory: int = 0
    disk: int = 0
    seconds: float = 0.0
    map_seconds: float = field(default=0.0, compare=False)
    n_processes: int = field(default=1, compare=False)
    limit: int | None = field(default=None, compare=False)
    limit_source: str = field(default="", compare=False)
    nouns: str = field(default="voxels", compare=False)

    @property
    def tabled(self) -> bool:
        """Whether shufflings are drawn once, into a table: worth it where a process takes several blocks.

        Each block reads all of it. 1,000 processes that take a block of 1,024 elements each would read 4 TB, of 100,000
        subjects and 10,000 permutations, where the data are 0.4 TB (benchmarks/scale.md).
        """
        return len(self.blocks) > 2 * self.n_processes

    def describe(self) -> str:
        """One line for the log."""
        where = "residuals stay in memory" if self.resident else "each block is read in its turn"
        few = "" if self.n_workers is None else f"; {self.n_workers} at a time, as more would not fit"
        disk = f", {self.disk / 1e6:,.0f} MB of scratch on disk" if self.disk else ""
        most = "" if self.limit is None else f" of {self.limit / 1e6:,.0f} MB ({self.limit_source})"
        peak = f"about {self.memory / 1e6:,.0f} MB a process at the peak{most}"
        return (
            f"{len(self.blocks)} blocks of up to {self.blocks[0][1] - self.blocks[0][0]:,} {self.nouns}, "
            f"{self.ranges[-1][1]:,} shufflings in batches of {self.batch} and {len(self.ranges)} round(s); "
            f"{where}{few}; {peak}{disk}, {_duration(self.seconds)}"
        )


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
    NoRoomError
        Not even the smallest block fits.
    InputError
        Not even the smallest scratch fits.
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
        raise _too_small(size, room, n_workers, least, disk)
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
            clusterings=size.clusterings,
        ),
        size,
        n_workers,
        n_processes,
    )


def refit(plan: Plan, size: Size, room: int, n_workers: int, *, n_processes: int = 1, keep: bool = True) -> Plan:
    """Fit the plan of an earlier run, whose cuts stay, into another budget: if need be, fewer threads work at once.

    Parameters
    ----------
    plan
        How the test was cut up.
    size, room, n_workers, n_processes, keep
        As in `make_plan`.

    Raises
    ------
    NoRoomError
        Its blocks don't fit.
    """
    for at_once in range(n_workers, 0, -1) if keep else (n_workers,):
        few = at_once if at_once < n_workers else None
        for resident in (True, False) if plan.resident and keep else (False,):
            fitted = _described(replace(plan, resident=resident, n_workers=few), size, at_once, n_processes)
            if fitted.memory <= room:
                return fitted
    raise NoRoomError(
        fitted.memory,
        f"the blocks of the run that is to go on, cut up for more memory, with {at_once} task(s) at once take",
        f"Or {'' if keep else 'use workers of fewer threads, or '}choose another {term('store')}.",
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
        map_seconds=size.map_seconds(n_workers * n_processes, spilled),
        n_processes=n_processes,
    )


def _memory(size: Size, n_workers: int, resident: bool, tiles: int, in_round: int) -> int:
    """Bytes at the peak, with blocks of so many tiles and rounds of so many shufflings."""
    kept, n_rounds = 0, math.ceil(size.n_shufflings / in_round) if in_round else 1
    if resident:
        in_round = min(in_round, size.n_shufflings)
        kept = size.residuals + size.table + size.picks + size.counts + size.tails(n_rounds)
        kept += in_round * size.per_shuffling(True)
    at_work = max(
        size.per_worker + tiles * size.per_tile,
        size.per_mapper(tiles, resident),
        tiles * size.per_record(0 if resident else n_rounds),
    )
    return int(size.outcome + size.shared + kept + n_workers * at_work)


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


def _too_small(size: Size, room: int, n_workers: int, need: int, disk: int | None) -> InputError:
    if need <= room and disk is not None:
        batch = BATCH * size.n_maps * size.n_voxels * size.itemsize
        return InputError(
            f"{disk / 1e6:,.0f} MB of free disk are too few: {size.n_maps} map(s) of {BATCH} shufflings take "
            f"{batch / 1e6:,.0f} MB. Free some, or name another place with {term('store=')}."
        )
    return NoRoomError(
        need, f"{size.n_subjects:,} subjects with {n_workers} worker(s) take", "Or use fewer workers." * (n_workers > 1)
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return "a few seconds" if seconds < 5 else f"some {round(seconds, -1):.0f} s"
    return f"some {seconds / 60:.0f} min" if seconds < 7000 else f"some {seconds / 3600:.1f} h"
