"""Where a run keeps what its tasks leave, and how they run: each task's record is there before it counts."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from numbaglm.data.cohort.layout import DATA, status
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.writer import CohortWriter, remove
from numbaglm.data.runs.ledger import FolderLedger, Ledger, MemoryLedger, Shared
from numbaglm.data.runs.maps import ScratchMaps
from numbaglm.data.storage import locks
from numbaglm.data.storage.places import Place
from numbaglm.engine import schedule
from numbaglm.errors import InputError, invalid

log = logging.getLogger("numbaglm")

_NOTE_EVERY = 30.0  # seconds between lines of the log
_TEMPORARY = re.compile(r"\.numbaglm-[0-9a-f]{12}")


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
        seconds: float = 0.0,
    ) -> list[str]:
        """Call ``function(*arguments[i])`` for every i without a record, and keep what it returns.

        ``label``, ``unit`` and ``weights`` are for the log and the bar, as are the ``seconds`` predicted for all of it.

        Returns
        -------
        The keys of the records, in order.
        """
        keys = [f"{stage}/{number:05d}" for number in range(len(arguments))]
        there = self.ledger.done(stage)
        left = [number for number, key in enumerate(keys) if key not in there]
        if left:
            finished = sum(weights) - sum(weights[number] for number in left)
            at_once = schedule.tasks_at_once(self.client, self.n_workers)
            progress = _Progress(self.note, label, unit, sum(weights), finished, len(left), at_once)
            tasks = [(self.ledger, keys[number], function, arguments[number]) for number in left]
            schedule.run_tasks(
                _perform,
                tasks,
                label=label,
                weights=[weights[number] for number in left],
                seconds=seconds * (1 - finished / sum(weights)),
                client=self.client,
                n_workers=self.n_workers,
                progress=self.progress,
                on_result=lambda i, _: progress.add(weights[left[i]]),
            )
        return keys

    def share(self, name: str, value: Any) -> Shared:
        """Lay something where every worker finds it."""
        return self.ledger.share(name, value)

    def scratch(self, name: str, shape: tuple[int, int], chunks: tuple[int, int], dtype: str) -> ScratchMaps:
        """Give room on disk for maps that tasks write and read; what is there already stays."""
        assert self.place is not None
        return ScratchMaps(self.place / f"maps/{name}", shape, chunks, dtype)

    def clear(self, names: Sequence[str]) -> None:
        """Delete scratch."""
        if self.place is not None:
            for name in names:
                self.place.remove(f"maps/{name}")


@contextmanager
def temporary_place(store: CohortStore, client: Any | None) -> Iterator[Place]:
    """Give a folder for the length of a run: beside the cohort, or else where the system has such folders.

    Parameters
    ----------
    store
        The cohort.
    client
        Of the cluster whose workers must see it: they see the cohort. Without one it is on a disk of this machine.

    Raises
    ------
    InputError
        There is no such folder that workers on other machines see.
    """
    import tempfile

    name = f".numbaglm-{uuid4().hex[:12]}"  # as _TEMPORARY has it
    place, beside = Place.parse(tempfile.gettempdir()) / name, False
    if store.location is not None:
        cohort = Place.parse(store.location)
        writable = cohort.local and os.access(cohort.path.parent, os.W_OK | os.X_OK)
        beside = writable or (client is not None and not cohort.local)
        if beside:
            place = cohort.parent / name
    if not beside and client is not None and schedule.workers_elsewhere(client):
        why = "The cohort is in memory" if store.location is None else "The folder of the cohort can't be written to"
        fix = f"{why}, and workers on other machines don't see the temporary folders of this one."
        raise InputError(invalid("store", None, "a folder or a URL that all workers see, where one is needed", fix))
    try:
        yield place
    finally:
        locks.discard(place)


def make_private(place: Place) -> None:
    """Make the folder of a temporary run, which holds data of the cohort: others than its owner can't look into it.

    What runs that were killed have left beside it is deleted.

    Raises
    ------
    OutputError
    """
    if place.exists():
        return
    if place.local:
        with place.writing():
            place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks.mark(place)
    locks.sweep_left(place.parent, _TEMPORARY)


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
        layers = {name: store.read_subjects(start, stop, name) for name in store.layers}
        writer.write(start, layers.pop(DATA), store.presence_of(start, stop), layers)
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

    def __init__(
        self,
        note: Callable[[str], None],
        label: str,
        unit: str,
        total: int,
        finished: int,
        tasks: int,
        at_once: int,
    ) -> None:
        self.note, self.label, self.unit = note, label, unit
        self.total, self.done, self.new = total, finished, 0
        self.tasks, self.at_once = tasks, at_once
        self.start = self.last = time.monotonic()
        before = f", {100 * finished / total:.0f} % of it done before" if finished else ""
        note(f"{label}: {total:,} {unit}s{before}")

    def add(self, weight: int) -> None:
        """Take in a task that has ended."""
        self.done += weight
        self.new += weight
        self.tasks -= 1
        now = time.monotonic()
        taken = max(now - self.start, 1e-6)
        rate = self.new / taken
        if self.done == self.total:
            self.note(f"{self.label}: done in {taken:.1f} s, {rate:,.0f} {self.unit}s a second")
        elif now - self.last > _NOTE_EVERY:
            self.last = now
            left = f"about {(self.total - self.done) / rate:,.0f} s left"
            if self.tasks <= self.at_once:  # each is half done, or nearly: how far, nobody knows
                left = f"the last {self.tasks} tasks are under way"
            self.note(f"{self.label}: {100 * self.done / self.total:.0f} %, {rate:,.0f} {self.unit}s a second, {left}")
