"""From a specification to raw results: the memory, the place and the workers of a call."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.folder import Note, open_run
from numbaglm.data.runs.ledger import FolderLedger
from numbaglm.data.storage.files import parse_json
from numbaglm.data.storage.places import Place
from numbaglm.engine import memory, progress, schedule
from numbaglm.engine.permutation.plan import NoRoomError, Plan, make_plan, refit
from numbaglm.engine.permutation.records import Listing, RunResult, Smallest, Spec
from numbaglm.engine.permutation.run import run_test
from numbaglm.engine.permutation.size import Size
from numbaglm.engine.permutation.smallest import listing_alone
from numbaglm.engine.permutation.stages import Stages
from numbaglm.engine.permutation.workspace import (
    in_folder,
    in_memory,
    make_private,
    on_disk,
    temporary_place,
)
from numbaglm.errors import InputError, invalid
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import PRESENCE, Family

log = logging.getLogger("numbaglm")

Kind = TypeVar("Kind")

_SHARE_OF_MEMORY = 0.5  # of what is free, where no limit is given
_SHARE_OF_DISK = 0.9
_CUT = [one.name for one in fields(Plan) if one.compare]


@dataclass(frozen=True)
class Running:
    """How a call runs: its limits, its workers, and where it is kept.

    Attributes
    ----------
    memory_limit, client, n_workers, progress
        As in `numbaglm.permutation_test`.
    place
        Folder that makes it durable; None for none.
    """

    memory_limit: int | str | None
    client: Any
    n_workers: int | None
    progress: bool
    place: Place | None

    @classmethod
    def parse(
        cls, memory_limit: int | str | None, client: Any, n_workers: int | None, progress: bool, store: Any
    ) -> Running:
        """Check what a caller gave."""
        if n_workers is not None and (not isinstance(n_workers, int | np.integer) or n_workers < 1):
            raise InputError(invalid("n_workers", n_workers, "a number of threads above 0, or None for all cores"))
        place = None if store is None else Place.parse(store, "store")
        client = schedule.active_client(client)
        if place is not None and place.in_process and client is not None:
            raise InputError(invalid("store", str(place), "a place that a cluster's workers see, or no client"))
        return cls(memory_limit, client, n_workers, progress, place)

    @property
    def workers(self) -> tuple[int, int]:
        """Tasks at once in a process, and processes."""
        if self.client is None:
            return self.n_workers or memory.n_cores(), 1
        threads = list(self.client.nthreads().values()) or [1]
        return max(threads), len(threads)

    @contextmanager
    def opened(self, store: CohortStore, identity: Callable[[], Mapping[str, Any]], n_tests: int) -> Iterator[Run]:
        """Open the run's place for the length of a call: the folder named, or one that goes with the call.

        Parameters
        ----------
        store
            The cohort.
        identity
            Makes all that determines the results, for a folder that stays.
        n_tests
            How many tests the call makes.
        """
        if self.place is not None:
            with open_run(self.place, identity()) as write:
                yield Run(store, self, self.place, durable=True, write=write, n_tests=n_tests)
        else:
            with temporary_place(store, self.client) as place:
                yield Run(store, self, place, False, lambda text, level: log.log(level, text), n_tests)


@dataclass(frozen=True)
class Run:
    """A call on its way.

    Attributes
    ----------
    durable
        Whether the place stays.
    write
        Where to say what happens.
    n_tests
        How many tests the call makes, whose results it holds in the end.
    planned
        Names of those that have begun.
    """

    store: CohortStore
    running: Running
    place: Place
    durable: bool
    write: Note
    n_tests: int = 1
    planned: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say what whoever made the call wants to know."""
        self.write(text, logging.INFO)

    def plan(self, spec: Spec, name: str) -> Plan:
        """Cut a test up; as it was cut before, where it goes on."""
        running, (n_workers, n_processes) = self.running, self.running.workers
        room = memory.memory_room(running.memory_limit, _SHARE_OF_MEMORY, running.client)
        size = replace(size_of(self.store, spec), n_tests=self.n_tests, n_before=len(self.planned))
        self.planned.append(name)
        how: dict[str, Any] = {"n_processes": n_processes, "keep": running.client is None}
        before = read_plan(self.place, name) if self.durable else None
        if self.durable and before is None:
            _forget(self.place, name)
        try:
            if before is not None:
                plan = refit(before, size, room.n_bytes, n_workers, **how)
            else:
                plan = make_plan(size, room.n_bytes, n_workers, disk=_free_disk(self.place), **how)
        except NoRoomError as error:
            raise room.refusal(error.needed, error.what, error.fix) from error
        return replace(plan, limit=room.n_bytes, limit_source=room.source, nouns=self.store.space.nouns)

    def _begun(self, plan: Plan, name: str) -> tuple[int, int]:
        """How many tasks of the shufflings an earlier call has done, and how many there are."""
        stages = Stages(name, plan.blocks, plan.ranges)
        of_rounds = [stages.voxels(number) for number in range(len(plan.ranges))]
        ledger = FolderLedger(self.place)
        done = sum(len(ledger.done(stage.name)) for stage in of_rounds) if self.durable else 0
        return done, sum(len(stage.spans) for stage in of_rounds)

    def test(self, spec: Spec, name: str) -> RunResult:
        """Run a test to its end."""
        return self.through(run_test, spec, name)

    def smallest(self, spec: Spec, name: str) -> Smallest:
        """List the smallest p of a test's shufflings by themselves: where the test did not, or was made before."""
        assert spec.listing is not None
        found = self.test(listing_alone(spec), f"{name}-{_listed_name(spec.listing)}").smallest
        assert found is not None
        return found

    def through(self, function: Callable[..., Kind], spec: Spec, name: str) -> Kind:
        """Plan a test, and call ``function(store, spec, plan, workspace, name)``."""
        plan = self.plan(spec, name)
        with progress.within(self.predicted(spec)):
            return self._through(function, spec, name, plan)

    def expect(self, specs: Sequence[Spec]) -> None:
        """Tell the bar of the call what is to come."""
        progress.expect(sum(map(self.predicted, specs)))

    def predicted(self, spec: Spec) -> float:
        """Seconds of a test in one round: their proportions are right."""
        n_workers, n_processes = self.running.workers
        return size_of(self.store, spec).seconds(n_workers * n_processes, 1, spilled=False)

    def _through(self, function: Callable[..., Kind], spec: Spec, name: str, plan: Plan) -> Kind:
        """See `through`."""
        running = self.running
        self.note(f"Plan: {plan.describe()}.")
        done, n_tasks = self._begun(plan, name)
        if done:
            self.note(f"{done} of {n_tasks} tasks of the shufflings were done before: it takes that much less time.")
        how: dict[str, Any] = {
            "client": running.client,
            "n_workers": plan.n_workers or running.n_workers,
            "progress": running.progress,
            "note": lambda text: self.write(text, logging.DEBUG),
        }
        if plan.resident and not self.durable:
            return function(self.store, spec, plan, in_memory(**how), name)
        if not self.durable:
            make_private(self.place)
        else:
            _write_plan(self.place, name, plan)
        store = self.store if running.client is None else on_disk(self.store, self.place)
        return function(store, spec, plan, in_folder(self.place, **how), name)


def _listed_name(listing: Listing) -> str:
    """Name of a listing by itself."""
    return f"listed-{listing.n_shufflings}{'-elements' * listing.elements}"


def plan_tests(store: CohortStore, running: Running, specs: Sequence[Spec]) -> list[Plan]:
    """Plan tests as they would run now, and touch nothing."""
    with nullcontext(running.place) if running.place else temporary_place(store, running.client) as place:
        runs = [Run(store, running, place, False, lambda text, level: None, len(specs)) for _ in specs]
        return [run.plan(spec, "") for run, spec in zip(runs, specs, strict=True)]


def size_of(store: CohortStore, spec: Spec) -> Size:
    """Tell a plan what is to be planned."""
    return Size(
        n_subjects=store.n_subjects,
        n_voxels=store.n_voxels,
        n_shufflings=spec.shufflings.n_shufflings,
        n_rows=spec.family.n_rows,
        itemsize=np.dtype(spec.precision).itemsize,
        n_maps=spec.n_maps,
        pick_share=_pick_share(spec),
        tail_length=spec.tail_length,
        chunk=store.chunks if store.location is not None else Size.chunk,
        rotated=spec.hypothesis.rotation is not None,
        refitted=spec.hypothesis.method.refit,
        finished=spec.family.finish is not None,
        n_units=spec.family.n_units,
        n_counts=int(spec.family.whole is not None) + int(spec.tfce_counts),
        grid=store.space.n_cells,
        ahead=store.chunks_at_once,
        given=_given_bytes(spec.family),
        n_more=len(spec.family.more),
        n_pattern_rows=_pattern_rows(spec.family),
        span=max(layer.rows.shape[1] for layer in spec.family.layers),
        held=spec.family.held,
        n_listed=0 if spec.listing is None else spec.listing.n_listed * spec.listing.n_shufflings,
    )


def _pattern_rows(family: Family) -> int | None:
    """Rows that patterns of presence are multiplied with; see `Size`."""
    if family.patterns is None:
        return None
    return 0 if family.patterns.rows is None else family.patterns.rows.shape[0]


def _given_bytes(family: Family) -> int:
    """Bytes of a value of the data, and of what a family that prepares them needs beside it."""
    return 0 if family.prepare is None else 4 + sum(1 if name == PRESENCE else 4 for name in family.needs)


def _pick_share(spec: Spec) -> float:
    """Share of voxels that are picked, of clusters and of a listing, a shuffling on average."""
    share = _share_above(spec, spec.threshold)
    if spec.listing is not None:
        listed = spec.listing.n_shufflings / spec.shufflings.n_shufflings
        share += listed * _share_above(spec, spec.listing.threshold)
    return min(1.0, share)


def _share_above(spec: Spec, threshold: float | None) -> float:
    """Share of voxels above a threshold, were there no effect; twice that for rough data."""
    if threshold is None:
        return 0.0
    tail = float(pvalues.of_z(spec.family.scale.to_z(np.array([threshold])))[0])
    return min(1.0, 2 * tail * (1 + spec.two_sided))


def run_name(number: int) -> str:
    """Name within its run of the test of a contrast, counted from 0."""
    return f"contrast-{number:03d}"


def read_plan(place: Place, name: str) -> Plan | None:
    """How a test of a run was cut up; None where that is not there, or damaged."""
    file = f"plans/{name}.json"
    if not place.exists(file):
        return None
    try:
        kept = parse_json(place.read_bytes(file))
        values = kept["plan"]
        if kept["sha256"] != _digest(name, values):
            return None
        values = values | {key: tuple(tuple(span) for span in values[key]) for key in ("blocks", "ranges")}
        return Plan(**{name: values[name] for name in _CUT})
    except (ValueError, KeyError, TypeError):
        return None


def write_end(place: Place, name: str, told: Mapping[str, Any]) -> None:
    """Keep how a test that was made in parts ended: their records don't tell whether there are more to come."""
    place.write_bytes(_end(name), json.dumps(dict(told)).encode())


def has_ended(place: Place, name: str) -> bool:
    """Whether a test that is made in parts has ended."""
    return place.exists(_end(name))


def part_name(name: str, number: int) -> str:
    """Name of a part of a test, counted from 0."""
    return f"{name}-part-{number:02d}"


def _end(name: str) -> str:
    return f"plans/{name}-ended.json"


def _forget(place: Place, name: str) -> None:
    """Drop the records of a test that has no plan: what they mean can't be told."""
    ledger = FolderLedger(place)
    keys = ledger.done(name)
    if keys:
        log.warning("The plan of %s in %s is gone or damaged: its %d tasks run again.", name, place, len(keys))
    ledger.drop(keys)
    place.remove("maps")


def _write_plan(place: Place, name: str, plan: Plan) -> None:
    """Keep how a test is cut up, with a checksum: what its records mean follows from it."""
    values = {cut: value for cut, value in asdict(plan).items() if cut in _CUT}
    place.write_bytes(f"plans/{name}.json", json.dumps({"plan": values, "sha256": _digest(name, values)}).encode())


def _digest(name: str, values: Mapping[str, Any]) -> str:
    return sha256(json.dumps([name, values], sort_keys=True).encode()).hexdigest()


def _free_disk(place: Place) -> int | None:
    """Bytes that scratch may take; None where that can't be told."""
    if not place.local:
        return None
    folder: Path = place.path
    while not folder.exists():
        folder = folder.parent
    return int(shutil.disk_usage(folder).free * _SHARE_OF_DISK)
