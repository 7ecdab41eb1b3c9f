"""Folders of runs: made for one question, resumed for the same one only, and used by one process at a time.

Layout, schema 2 (1 was of numbaglm 0.1)::

    run.json       what is asked, of which data, with which versions: what a later call must equal to go on
    plans/         how each contrast is cut up, which a resumed run keeps; how one ended that stops once p are decided
    records/       the result of each task, see `numbaglm.data.runs.ledger`
    maps/          permuted maps on their way from voxel blocks to whole maps; gone when a contrast is done
    shared/        what all tasks need to know
    log.txt        what was done when (on disk alone)
    lock           held by the process that runs
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast

import numpy as np

from numbaglm.data.runs.ledger import FolderLedger
from numbaglm.data.storage.files import open_own, parse_json, require_own
from numbaglm.data.storage.locks import held, is_lock
from numbaglm.data.storage.places import Place
from numbaglm.errors import OutputExistsError

SCHEMA = "numbaglm.run"
SCHEMA_VERSION = 2

_HEADER, _LOG = "run.json", "log.txt"

Note = Callable[[str, int], None]
"""Takes a text and the level of it, as logging has them."""

log = logging.getLogger("numbaglm")


@contextmanager
def open_run(place: Place, identity: Mapping[str, Any]) -> Iterator[Note]:
    """Hold a run's folder: made if there is none, and otherwise of the same identity.

    Damaged records are dropped, so that their tasks run again. What is noted with the function that is given out
    goes to the log of the folder.

    Parameters
    ----------
    place
        Folder of the run.
    identity
        All that determines its results, as JSON types.

    Raises
    ------
    OutputExistsError
        Something else is there, or a run that differs: the message says in what.
    StoreError
        Another process uses it, or it can't be read.
    OutputError
        It can't be written to.
    """
    identity = json.loads(json.dumps(identity, default=_plain))
    _refuse_others(place)
    with held(place, "The run"):
        if place.local:
            with place.writing():
                require_own(place.path)
        place.sweep()
        header = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "identity": identity}
        if place.exists(_HEADER):
            _check(place, identity)
            _drop_damaged(place)
        else:
            place.write_bytes(_HEADER, json.dumps(header).encode())
        with _logged(place) as note:
            yield note
        place.remove("shared")


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """Say in what two nested JSON values differ, a sentence part each; nothing where they are equal."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in dict.fromkeys([*before, *now]):
            found += differences(before.get(key), now.get(key), f"{name}, {key}" if name else str(key))
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) > 8 and len(before) == len(now):
        unequal = [i for i, (one, other) in enumerate(zip(before, now, strict=True)) if one != other]
        return [f"{name}: {len(unequal)} of {len(now)} entries (the first at {unequal[0]}, counted from 0)"]
    return [f"{name}: {_short(before)} there, {_short(now)} here"]


def _refuse_others(place: Place) -> None:
    if place.exists(_HEADER):
        return
    names = place.list()
    if _HEADER not in names and any(name != _LOG and not is_lock(name) for name in names):  # else it was begun just now
        raise OutputExistsError(
            f"{place} exists and is not a run of numbaglm (no {_HEADER} is in it): it is left alone. "
            "Choose another store."
        )


def is_run(place: Place) -> bool:
    """Whether a place is the folder of a run."""
    return place.exists(_HEADER)


def read_identity(place: Place) -> dict[str, Any]:
    """Read what a run is of.

    Raises
    ------
    OutputExistsError
        It is no run, or was begun by another version.
    StoreError
        It can't be read.
    """
    try:
        header = parse_json(place.read_bytes(_HEADER))
        if header["schema"] != SCHEMA:
            raise ValueError(f"its schema is {header['schema']!r}")
        version, there = header["schema_version"], dict(header["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutputExistsError(
            f"{place} is not a run of numbaglm, or its {_HEADER} is damaged ({error}): it is left alone. "
            "Choose another store."
        ) from error
    if version != SCHEMA_VERSION:
        raise OutputExistsError(
            f"The run {place} was begun by another version of numbaglm (schema {version}, here {SCHEMA_VERSION}). "
            "This one can't go on with it: choose another store, or delete this one to start anew. With the version "
            "that began it the call goes on."
        )
    return there


def _check(place: Place, identity: Mapping[str, Any]) -> None:
    differing = differences(read_identity(place), identity)
    if differing:
        raise OutputExistsError(
            f"The run {place} is of something else: {'; '.join(differing)}. Repeat the call as it was to go on, choose "
            "another store, or delete this one."
        )


def _drop_damaged(place: Place) -> None:
    ledger = FolderLedger(place)
    damaged = [key for key in sorted(ledger.done("")) if not ledger.is_whole(key)]
    ledger.drop(damaged)
    if damaged:
        log.warning("%d damaged records in %s: their tasks run again.", len(damaged), place)


@contextmanager
def _logged(place: Place) -> Iterator[Note]:
    """Write what is noted, and every warning, into the folder, where that is on disk."""
    if not place.local:
        yield lambda text, level: log.log(level, text)
        return
    with place.writing():
        handler = _LogHandler(place.path / _LOG, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(message)s"))

    def note(text: str, level: int) -> None:
        if log.isEnabledFor(level):  # whoever listens hears it, the file among them
            log.log(level, text)
        else:
            handler.handle(log.makeRecord(log.name, level, __file__, 0, text, (), None))

    # Whoever set up no logging sees warnings by the handler of last resort, asked only where there is no other.
    last = logging.lastResort if not log.hasHandlers() else None
    handlers = [handler] if last is None else [handler, last]
    for one in handlers:
        log.addHandler(one)
    try:
        yield note
    finally:
        for one in handlers:
            log.removeHandler(one)
        handler.close()


class _LogHandler(logging.FileHandler):
    """A log that stops no run: on a full disk lines are lost, and what can't be written otherwise is an error."""

    def _open(self) -> TextIOWrapper:
        return cast(TextIOWrapper, open_own(Path(self.baseFilename), "a"))

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing, where logging would print a traceback for each line."""

    def close(self) -> None:
        """Close the file, whatever becomes of what it has not written yet."""
        with suppress(OSError):
            super().close()


class _Formatter(logging.Formatter):
    """Times with the offset of their zone, to the second."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time of a record."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="seconds")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
