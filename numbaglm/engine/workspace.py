"""Where a run keeps what its tasks leave, and how they run: each task's record is there before it counts."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.ledger import FolderLedger, Ledger, MemoryLedger, Shared
from numbaglm.data.places import Place
from numbaglm.data.store import CohortStore
from numbaglm.data.writer import CohortWriter
from numbaglm.engine import schedule
from numbaglm.errors import StoreError

log = logging.getLogger("numbaglm")

_NOTE_EVERY = 30.0  # seconds between lines of the log


@dataclass(frozen=True, eq=False)
class Workspace:
    """A run's workers and its place.

    Attributes
    ----------
    ledger
        Records of tasks.
    place
        Folder for records and scratch, which all workers see; None where all stays in this process.
    client, n_workers, progress
        As in `schedule.run_tasks`.
    note
        Where to say what happens.
    """

    ledger: Ledger
    place: Place | None
    client: Any | None = None
    n_workers: int | None = None
    progress: bool = False
    note: Callable[[str], None] = log.info

    def run(
        self,
        stage: str,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        label: str,
        unit: str,
        weights: Sequence[int],
    ) -> list[str]:
        """Call ``function(*arguments[i])`` for every i without a record, and keep what it returns.

        Returns
        -------
        The keys of the records, in order.
        """
        keys = [f"{stage}/{number:05d}" for number in range(len(arguments))]
        there = self.ledger.done(stage)
        left = [number for number, key in enumerate(keys) if key not in there]
        if left:
            finished = sum(weights) - sum(weights[number] for number in left)
            progress = _Progress(self.note, label, unit, sum(weights), finished)
            tasks = [(self.ledger, keys[number], function, arguments[number]) for number in left]
            schedule.run_tasks(
                _perform,
                tasks,
                label=label,
                unit=unit,
                weights=[weights[number] for number in left],
                finished=finished,
                client=self.client,
                n_workers=self.n_workers,
                progress=self.progress,
                on_result=lambda i, _: progress.add(weights[left[i]]),
            )
        return keys

    def share(self, name: str, value: Any) -> Shared:
        """Lay something where every worker finds it."""
        return self.ledger.share(name, value)

    def scratch(self, name: str, shape: tuple[int, int], chunks: tuple[int, int], dtype: Any) -> Scratch:
        """Give room on disk for maps that tasks write and read; what is there already stays."""
        assert self.place is not None
        return Scratch.lay_out(self.place / "maps", name, shape, chunks, dtype)

    def clear(self, names: Sequence[str]) -> None:
        """Delete scratch."""
        if self.place is not None:
            for name in names:
                self.place.remove(f"maps/{name}")


class Maps(Protocol):
    """Whole maps (n_maps, n_voxels) on their way from blocks of voxels to tasks that need them whole."""

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """Store ``values`` from a row and a column on."""

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """Return maps ``first`` to ``last``."""


@dataclass(frozen=True, eq=False)
class MemoryMaps:
    """Maps in memory, which the threads of this process share."""

    array: NDArray[np.floating[Any]]

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """See `Maps`."""
        self.array[row : row + values.shape[0], column : column + values.shape[1]] = values

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """See `Maps`."""
        return self.array[first:last]


class DamagedMapsError(StoreError):
    """Scratch can't be read: the tasks that filled it must run again."""


@dataclass(frozen=True, eq=False)
class Scratch:
    """Maps in Zarr: a chunk is a block of voxels and a few maps; opened anew by whoever uses it."""

    place: Place
    name: str
    array: Any

    @classmethod
    def lay_out(cls, place: Place, name: str, shape: tuple[int, int], chunks: tuple[int, int], dtype: Any) -> Scratch:
        """Make room unless it is there."""
        import zarr
        from zarr.codecs import Crc32cCodec

        with place.writing():
            if not place.exists(f"{name}/zarr.json"):
                how = {"dtype": dtype, "fill_value": np.nan, "compressors": [Crc32cCodec()]}
                zarr.create_array(place.zarr_store(), name=name, shape=shape, chunks=chunks, **how)
        return _open_scratch(place, name)

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """Store ``values``, whole chunks, from a row and a column on."""
        with self.place.writing():
            self.array[row : row + values.shape[0], column : column + values.shape[1]] = values

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """Return maps ``first`` to ``last``.

        Raises
        ------
        StoreError
            A chunk is damaged or gone.
        """
        n_rows, n_columns = self.array.chunks
        try:
            maps = np.asarray(self.array[first:last])
            # Zarr fills a chunk that is gone with NaN, which no score is: look at one of each chunk.
            if np.isnan(maps[::n_rows, ::n_columns]).any():
                raise ValueError("a chunk is gone")
        except (ValueError, RuntimeError, OSError) as error:
            raise DamagedMapsError(
                f"The maps in {self.place / self.name} are damaged ({error}). Repeat the call as it was: they are made "
                "again."
            ) from error
        return maps

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_scratch, (self.place, self.name)


def _open_scratch(place: Place, name: str) -> Scratch:
    import zarr

    return Scratch(place, name, zarr.open_array(place.zarr_store(), path=name, mode="r+"))


@contextmanager
def temporary_place(store: CohortStore) -> Iterator[Place]:
    """Give a folder for the length of a run: beside the cohort, which all workers see, or else where such are made."""
    import tempfile

    name = f".numbaglm-{uuid4().hex[:12]}"
    beside = None if store.location is None else Place.parse(store.location)
    if beside is None or (beside.local and not os.access(beside.path.parent, os.W_OK | os.X_OK)):
        place = Place.parse(tempfile.gettempdir()) / name
    else:
        place = Place(f"{beside.url.removesuffix(beside.name)}{name}")
    try:
        yield place
    finally:
        place.remove()


def on_disk(store: CohortStore, place: Place) -> CohortStore:
    """Lay a cohort that is in memory where a cluster's workers can read it."""
    if store.location is not None:
        return store
    writer = CohortWriter.create(str(place / "cohort.zarr"), store.header)
    for start, stop in writer.blocks:
        writer.write(start, store.read_subjects(start, stop))
    return writer.complete()


def in_memory(**running: Any) -> Workspace:
    """Make a workspace of this process."""
    return Workspace(MemoryLedger(), None, **running)


def in_folder(place: Place, **running: Any) -> Workspace:
    """Make a workspace in a folder."""
    return Workspace(FolderLedger(place), place, **running)


def _perform(ledger: Ledger, key: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    ledger.put(key, function(*arguments))


class _Progress:
    """Notes of a stage: how much is done, how fast, and how long it may take."""

    def __init__(self, note: Callable[[str], None], label: str, unit: str, total: int, finished: int) -> None:
        self.note, self.label, self.unit = note, label, unit
        self.total, self.done, self.new = total, finished, 0
        self.start = self.last = time.monotonic()
        before = f", {100 * finished / total:.0f} % of it done before" if finished else ""
        note(f"{label}: {total:,} {unit}s{before}")

    def add(self, weight: int) -> None:
        """Take in a task that has ended."""
        self.done += weight
        self.new += weight
        now = time.monotonic()
        taken = max(now - self.start, 1e-6)
        rate = self.new / taken
        if self.done == self.total:
            self.note(f"{self.label}: done in {taken:.1f} s, {rate:,.0f} {self.unit}s a second")
        elif now - self.last > _NOTE_EVERY:
            self.last = now
            left = (self.total - self.done) / rate
            self.note(
                f"{self.label}: {100 * self.done / self.total:.0f} %, {rate:,.0f} {self.unit}s a second, "
                f"about {left:,.0f} s left"
            )
