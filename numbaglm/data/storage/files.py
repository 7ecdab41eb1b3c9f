"""Files: written whole or not at all, and read only where they are what they should be."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from numbaglm.errors import OutputError

PARTIAL = ".partial"
"""Ending of files that are being written, ours and Zarr's: who was killed leaves them, nobody reads them (`sweep`)."""

_HALF = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(PARTIAL)}$")

DEVICE = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
"""Names of devices of Windows, which opens no file or folder that is called so."""


def write_file(target: Path, data: bytes, what: str) -> Path:
    """Write a file, whole or not at all, in place of what has that name. It is on the disk itself then.

    Parameters
    ----------
    target, data
        Its path, and what it shall hold.
    what
        What the file is, for the error.

    Raises
    ------
    OutputError
    """
    try:
        with staged(target, data) as part:
            part.replace(target)
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"Can't write the {what} {target}: {why}. Check folder, permissions and disk.") from error
    return target


def parse_json(text: str | bytes) -> Any:
    """Read JSON that anybody may have written.

    Raises
    ------
    ValueError
        It is none, or is nested deeper than anything of use.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def require_regular(path: Path) -> None:
    """Refuse to open what is there and is no file: a pipe would be waited for, and a device read, without an end.

    Raises
    ------
    OSError
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # who opens it tells why not
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def open_own(path: Path, mode: str) -> IO[str]:
    """Open a text file that this package alone writes, to append to (``mode`` "a" or "a+"); it is made if need be.

    A link to another file is not followed: who can write to the folder could have anything overwritten.

    Raises
    ------
    OSError
        It is a link, a pipe or a device, or can't be opened.
    """
    return open(path, mode, encoding="utf-8", opener=_open_own)


def _open_own(path: str, flags: int) -> int:
    if os.path.islink(path):  # noqa: PTH114
        raise OSError(errno.ELOOP, _NO_OWN.format("a link"), path)
    # Who opens a pipe would wait for its other end. Windows knows neither flag, and no such pipes.
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:  # none: who had it has just deleted it
        return descriptor
    os.close(descriptor)
    kind = "a file with another name elsewhere" if stat.S_ISREG(found.st_mode) else "a pipe or a device"
    raise OSError(errno.EINVAL, _NO_OWN.format(kind), path)


_NO_OWN = "it is {}, and not a file of numbaglm: delete it"


def require_own(folder: Path) -> None:
    """Refuse a folder that holds, anywhere below, what is neither a file nor a folder: links lead out of it.

    Raises
    ------
    OSError
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                require_own(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                kind = "a link" if entry.is_symlink() else "a pipe or a device"
                raise OSError(errno.EINVAL, _NO_OWN.format(kind), entry.path)


@contextmanager
def staged(target: Path, data: bytes, sync: bool = True) -> Iterator[Path]:
    """Write a file beside its target, which the body moves to its name; what the body leaves of it is deleted.

    Parameters
    ----------
    target, data
        As in `write_file`. The folder is made.
    sync
        Whether it is on the disk itself before the body begins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with part.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete files that a killed process has left half-written below a folder. Whoever calls holds its lock."""
    for above, _, names in os.walk(folder):
        for name in names:
            if _HALF.search(name):
                Path(above, name).unlink(missing_ok=True)
