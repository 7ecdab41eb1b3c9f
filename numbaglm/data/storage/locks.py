"""Locks of folders: one process at a time writes to a cohort or a run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numbaglm.data.storage.files import open_own, parse_json
from numbaglm.data.storage.places import Place
from numbaglm.errors import MissingFileError, OutputError, StoreError

LOCK = "lock"
"""Name of the file that holds a lock, in the folder that it is for."""

log = logging.getLogger("numbaglm")


@contextmanager
def held(place: Place, what: str) -> Iterator[None]:
    """Hold the lock of a folder, for the length of a with block. The folder is made; it goes again if it stays empty.

    On disk the system gives the lock back, however the process ends. In an object store the lock is an object, which
    a process that was killed leaves behind: it counts no more once its process is gone, which is known of this machine
    (since it was started) and this container alone.

    Parameters
    ----------
    place
        The folder.
    what
        What it is, for errors: "the cohort".

    Raises
    ------
    StoreError
        Somebody holds it.
    OutputError
        The place can't be written to.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        fcntl = None  # type: ignore[assignment]
    hold = _by_object if not place.local or fcntl is None else _by_file
    with hold(place, what):
        yield


def holder(place: Place) -> str:
    """Who holds the lock of a folder, as far as can be told without taking it: "" where nobody does, or no longer."""
    try:
        owner = _parse(place.read_bytes(LOCK).decode(errors="replace"))
    except (MissingFileError, StoreError):
        return ""
    return "" if _is_gone(owner) else _named(owner)


def mark(place: Place) -> None:
    """Write into a folder whose it is, so that `sweep_left` knows when they are gone.

    Raises
    ------
    OutputError
    """
    place.write_bytes(LOCK, json.dumps(_owner()).encode(), sync=False)


def discard(place: Place) -> None:
    """Delete a marked folder, its mark last: who is killed meanwhile leaves one that `sweep_left` knows.

    Raises
    ------
    StoreError, OutputError
    """
    for name in place.children():
        if name != LOCK:
            place.remove(name)
    place.remove()


def sweep_left(above: Place, names: re.Pattern[str]) -> None:
    """Delete marked folders that processes which were killed have left. Nothing is an error: it is done by the way.

    Parameters
    ----------
    above
        Where they lie.
    names
        What such folders are called. One that is not marked, is another user's, or is of a process that this one would
        not see (on another machine, in another container, before the machine was last started) stays.
    """
    if _numbering()["boot"] is None:  # two machines of one name can't be told apart
        return
    with suppress(StoreError, OutputError):
        for left in (above / name for name in above.children() if names.fullmatch(name)):
            if left.local and not _is_own_folder(left.path):
                continue
            with suppress(MissingFileError, StoreError, OutputError):
                owner = _parse(left.read_bytes(LOCK).decode(errors="replace"))
                if _is_gone(owner):
                    discard(left)
                    log.info("Deleted %s, which was left by a process that is gone (%s).", left, _named(owner))


def is_lock(name: str) -> bool:
    """Whether a file or object of a folder is a lock, or one that a killed process left as it took another over."""
    return name == LOCK or name.startswith(f"{LOCK}-")


@contextmanager
def _by_file(place: Place, what: str) -> Iterator[None]:
    import fcntl

    folder = place.path
    new: list[Path] = []
    try:
        with place.writing():
            new += [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            file = open_own(folder / LOCK, "a+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is(folder / LOCK, file):
                    raise BlockingIOError
            except BlockingIOError as error:
                file.seek(0)
                raise _in_use(place, what, _parse(file.read())) from error
            except OSError as error:  # Lustre, for one, is often mounted without them
                log.warning("The file system of %s has no locks (%s): let no other call write there.", place, error)
            try:
                with place.writing():
                    file.truncate(0)
                    os.write(file.fileno(), json.dumps(_owner()).encode())  # not through a buffer, which close() writes
                yield
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    finally:
        for one in new:
            with suppress(OSError):
                one.rmdir()


@contextmanager
def _by_object(place: Place, what: str, name: str = LOCK) -> Iterator[None]:
    mine = json.dumps(_owner()).encode()
    if not place.write_new(name, mine):
        try:
            left = place.read_bytes(name)
        except MissingFileError:  # given back just now
            left = b""
        owner = _parse(left.decode(errors="replace"))
        if not _is_gone(owner):
            raise _in_use(place, what, owner)
        # Others may have found the same: one at a time takes it, if nobody has meanwhile.
        with _by_object(place, what, f"{name}-{hashlib.sha256(left).hexdigest()[:12]}"):
            try:
                there = place.read_bytes(name)
            except MissingFileError:
                there = b""
            if there != left:
                raise _in_use(place, what, _parse(there.decode(errors="replace")))
            place.write_bytes(name, mine)
        log.warning("%s was left by a process that is gone (%s): going on.", place, _named(owner))
    try:
        yield
    finally:
        with suppress(Exception):
            if place.read_bytes(name) == mine:
                place.remove(name)


def _owner() -> dict[str, Any]:
    pid = os.getpid()
    return {**_numbering(), "pid": pid, "started": _started(pid), "token": uuid.uuid4().hex}


def _numbering() -> dict[str, str | None]:
    """Whose numbers of processes these are: containers of one host name each count their own."""
    boot = namespace = None
    with suppress(OSError):  # where there is no /proc, there are no such containers
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return {"host": socket.gethostname(), "boot": boot, "pid_namespace": namespace}


def _started(pid: int) -> float:
    """Seconds from the start of the machine to that of a process: no clock that is set anew changes them."""
    import psutil

    boot = psutil.boot_time()  # first: what psutil has of it, which a clock moves, is in the time of the process too
    return float(psutil.Process(pid).create_time() - boot)


def _is_gone(owner: Mapping[str, Any]) -> bool:
    """Whether the owner was a process that this one would see, and that is no longer there."""
    import psutil

    if any(name not in owner or owner[name] != here for name, here in _numbering().items()):
        return False
    try:
        # A number is given again, to a process that started at another time.
        return bool(abs(_started(owner["pid"]) - owner["started"]) > 1)
    except psutil.NoSuchProcess:
        return True
    except (KeyError, TypeError, ValueError):  # no lock as they are written here: somebody else's
        return False


def _parse(text: str) -> dict[str, Any]:
    try:
        owner = parse_json(text)
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _named(owner: Mapping[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= set(owner) else "unknown"


def _in_use(place: Place, what: str, owner: Mapping[str, Any]) -> StoreError:
    left = "" if place.local else f" If that process is gone, delete the object {place / LOCK}."
    return StoreError(f"{what} {place} is being written by another call ({_named(owner)}). Wait for it.{left}")


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder of this user, and no link to one."""
    try:
        found = path.lstat()
    except OSError:
        return False
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return own and stat.S_ISDIR(found.st_mode)


def _is(path: Path, file: Any) -> bool:
    """Whether the name still stands for the open file: who gave the lock back has deleted it."""
    try:
        return bool(os.path.samestat(path.stat(), os.fstat(file.fileno())))
    except FileNotFoundError:
        return False
