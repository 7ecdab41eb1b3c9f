"""Calls that are killed at a write of theirs, each in a process of its own, forked from one that has all imported.

`python killing.py FOLDER SCENARIO N_KILLS SEED` kills the call N_KILLS times, at writes drawn at random, repeats it
each time, and prints a JSON line: of each time the write, how the process ended, and the fingerprint of the cohort
in between and at the end.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.base
import dask.delayed
import dask.threaded
import distributed
import zarr.codecs
import zarr.storage

from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
from numbaglm.engine.conversion import convert
from numbaglm.errors import MissingFileError, StoreError

# Imported here, so that each process need not.
_IMPORTED = (dask.base, dask.delayed, dask.threaded, distributed, zarr.codecs, zarr.storage)

_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}


def in_child(call: Callable[[], Any]) -> tuple[int, Any]:
    """Run a call in a forked process: how that ended (a signal's number below 0), and what the call returned."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            result = json.dumps(call())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.write(writable, result.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(text or "null")


def counting(folder: Path, kill_at: int | None, call: Callable[[], Any]) -> int:
    """Run a call and count what it writes below a folder; kill this process just before one of these writes."""
    n = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal n
        writes = event in _WRITES or (event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
        if writes and str(arguments[0]).startswith(str(folder)):
            if n == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            n += 1

    sys.addaudithook(hook)
    call()
    return n


def look(place: Path) -> str | None:
    """Fingerprint of the cohort; None where it is refused."""
    try:
        return Cohort.open(place).fingerprint
    except (StoreError, MissingFileError):
        return None


def main() -> None:
    folder, scenario, n_kills, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    writer.choose_chunks = lambda *_: (3, 32)  # type: ignore[assignment]
    if "draft" in scenario:
        convert._HELD_SHARE = 0
    maps = sorted((folder / "maps").iterdir())
    place, start = folder / "c.zarr", folder / "start.zarr"
    options: dict[str, Any] = {"smoothing_fwhm": 4}
    n_old, old = 5 if "append" in scenario else 0, None
    if n_old:
        old = in_child(lambda: Cohort.create(start, maps[:n_old], **options).fingerprint)[1]

    def call() -> None:
        if n_old:
            Cohort.open(place).append(maps[n_old:], n_workers=1)
        else:
            Cohort.create(place, maps, n_workers=1, **options)

    def begin() -> None:
        shutil.rmtree(place, ignore_errors=True)
        if n_old:
            shutil.copytree(start, place)

    def repeat() -> str:
        if look(place) in (None, old):  # else the call was killed as it had just ended
            call()
        cohort = Cohort.open(place)
        cohort.verify()
        return cohort.fingerprint

    begin()
    _, n_writes = in_child(lambda: counting(place, None, call))
    ends = []
    for at in random.Random(seed).sample(range(n_writes), min(n_kills, n_writes)):
        ended = 0
        while not ended:  # folders that two threads make at once are counted once or twice: there may be fewer writes
            begin()
            ended, _ = in_child(lambda at=at: counting(place, at, call))
            at -= 1
        between = in_child(lambda: look(place))[1]
        ends.append([at + 1, ended, between, in_child(repeat)[1]])
    sys.stdout.write(json.dumps({"old": old, "n_writes": n_writes, "ends": ends}))


if __name__ == "__main__":
    main()
