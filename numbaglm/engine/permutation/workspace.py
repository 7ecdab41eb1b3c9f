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

from numbaglm.data.cohort.chunks import checksum
from numbaglm.data.cohort.layout import status
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.writer import CohortWriter, remove
from numbaglm.data.runs.ledger import FolderLedger, Ledger, MemoryLedger, Shared
from numbaglm.data.storage.places import Place
from numbaglm.engine import schedule
from numbaglm.errors import MissingFileError, StoreError

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
    note: Callable[[str], None] = log.debug

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

    def scratch(self, name: str, shape: tuple[int, int], chunks: tuple[int, int], dtype: str) -> Scratch:
        """Give room on disk for maps that tasks write and read; what is there already stays."""
        assert self.place is not None
        return Scratch(self.place / f"maps/{name}", shape, chunks, dtype)

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

    def columns(self, n_maps: int) -> set[int]:
        """Return where the blocks of voxels begin whose first maps, so many, an earlier process has left here."""


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

    def columns(self, n_maps: int) -> set[int]:
        """See `Maps`."""
        return set()


class DamagedMapsError(StoreError):
    """Scratch can't be read: the tasks that filled it must run again."""


@dataclass(frozen=True)
class Scratch:
    """Maps in a folder: a file holds a few of them in a block of voxels, and a checksum.

    Attributes
    ----------
    place
        Where the files are.
    shape
        (n_maps, n_voxels).
    chunks
        (maps, voxels) of a file.
    dtype
        Of the values.
    """

    place: Place
    shape: tuple[int, int]
    chunks: tuple[int, int]
    dtype: str

    def write(self, row: int, column: int, values: NDArray[np.floating[Any]]) -> None:
        """See `Maps`; whole files, each of voxels that are whole or the last."""
        assert row % self.chunks[0] == column % self.chunks[1] == 0
        for i in range(0, values.shape[0], self.chunks[0]):
            part = np.ascontiguousarray(values[i : i + self.chunks[0]], self.dtype)
            data = part.tobytes()
            # Unsynced: what a crash of the machine leaves half-written does not match its checksum.
            self.place.write_bytes(self._name(row + i, column), data + checksum(data), sync=False)

    def rows(self, first: int, last: int) -> NDArray[np.floating[Any]]:
        """See `Maps`; ``first`` is where files begin, and ``last`` where they end.

        Raises
        ------
        DamagedMapsError
            A file is damaged or gone.
        """
        out = np.empty((last - first, self.shape[1]), self.dtype)
        for column in range(0, self.shape[1], self.chunks[1]):
            part = out[:, column : column + self.chunks[1]]
            name = self._name(first, column)
            try:
                data = np.frombuffer(self.place.read_bytes(name), np.uint8)
            except MissingFileError as error:
                raise self._damaged(name, "is gone") from error
            values = data[:-4]
            if checksum(values) != data[-4:].tobytes() or values.size % (part.shape[1] * out.itemsize):
                raise self._damaged(name, "is not what was stored")
            part[...] = values.view(self.dtype).reshape(-1, part.shape[1])[: last - first]
        return out

    def columns(self, n_maps: int) -> set[int]:
        """See `Maps`."""
        there = set(self.place.list())
        wanted = range(0, n_maps, self.chunks[0])
        blocks = range(0, self.shape[1], self.chunks[1])
        return {start for start in blocks if all(self._name(row, start) in there for row in wanted)}

    def _name(self, row: int, column: int) -> str:
        return f"{row // self.chunks[0]}/{column // self.chunks[1]}"

    def _damaged(self, name: str, what: str) -> DamagedMapsError:
        return DamagedMapsError(
            f"The maps in {self.place} are damaged ({name} {what}). Repeat the call as it was: they are made again."
        )


@contextmanager
def temporary_place(store: CohortStore, shared: bool) -> Iterator[Place]:
    """Give a folder for the length of a run: beside the cohort, or else where the system has such folders.

    Parameters
    ----------
    store
        The cohort.
    shared
        Whether the workers of a cluster must see it: they see the cohort. Else it is on a disk of this machine.
    """
    import tempfile

    name = f".numbaglm-{uuid4().hex[:12]}"
    place = Place.parse(tempfile.gettempdir()) / name
    if store.location is not None:
        cohort = Place.parse(store.location)
        writable = cohort.local and os.access(cohort.path.parent, os.W_OK | os.X_OK)
        if writable or (shared and not cohort.local):
            place = Place(f"{cohort.url.removesuffix(cohort.name)}{name}")
    try:
        yield place
    finally:
        place.remove()


def on_disk(store: CohortStore, place: Place) -> CohortStore:
    """Lay a cohort that is in memory where a cluster's workers can read it."""
    if store.location is not None:
        return store
    there = place / "cohort.zarr"
    if status(there) == "complete":
        laid = CohortStore.open(there)
        if laid.fingerprint == store.fingerprint:
            return laid
    remove(there)
    writer = CohortWriter.create(there, store.header)
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
