"""Folders of results: written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from numbaglm.data.storage import locks
from numbaglm.data.storage.places import Place
from numbaglm.errors import NumbaglmError, OutputError, OutputExistsError, StoreError, term


def check_free(target: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Path:
    """Refuse early what a folder can't be written to; touches nothing.

    Parameters
    ----------
    target
        Folder to be written.
    marker
        A file that is in every folder of its kind: what holds none is never replaced.
    overwrite
        Whether a folder of that kind may be replaced. An empty folder always may.

    Returns
    -------
    The absolute path, links followed.

    Raises
    ------
    OutputExistsError, OutputError
        Something is there, or the place can't be written to.
    """
    place = Path(target).expanduser().resolve()
    try:
        there = place.exists()
    except OSError as error:  # too long a name
        raise OutputError(f"Can't write the output folder {target}: {error.strerror}. Choose another.") from error
    if there and not place.is_dir():
        raise OutputExistsError(f"The output folder {target} is a file. Choose another.")
    if there and any(place.iterdir()):
        if not (place / marker).is_file():
            raise OutputExistsError(
                f"The output folder {target} exists and holds something else (no {marker} is in it): it is "
                "left alone. Choose another."
            )
        if not overwrite:
            raise OutputExistsError(
                f"The output folder {target} exists: choose another, or {term('overwrite=True')} to replace it."
            )
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"Can't write the output folder {target}: {above} is not a folder to write to.")
    return place


def check_apart(target: str | os.PathLike[str], store: str | None) -> None:
    """Refuse a store in the folder that is to be written, which would hold something else by then.

    Raises
    ------
    OutputExistsError
    """
    if store is None or "://" in store:
        return
    place, kept = Path(target).expanduser().resolve(), Path(store).expanduser().resolve()
    if place == kept or place in kept.parents:
        raise OutputExistsError(
            f"The output folder {target} is also where the store {store} would be, and holds nothing but results. "
            "Choose another for one of them."
        )


@contextmanager
def whole_folder(target: str | os.PathLike[str], marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to write to, which takes its place as ``target`` when everything is in it.

    If the body fails, nothing is left behind, and what was there before stays. What calls for the same target that
    were killed have left beside it is deleted.

    Parameters
    ----------
    target, marker, overwrite
        As in `check_free`.

    Raises
    ------
    OutputExistsError, OutputError
        As `check_free`, or writing failed.
    """
    place = check_free(target, marker, overwrite)
    new_parents = [folder for folder in place.parents if not folder.exists()]
    beside, done = Place(str(place.with_name(f".{place.name}-{uuid4().hex[:12]}"))), False
    try:
        locks.sweep_left(beside.parent, re.compile(rf"\.{re.escape(place.name)}-[0-9a-f]{{12}}"))
        place.parent.mkdir(parents=True, exist_ok=True)
        beside.path.mkdir(mode=0o700)
        locks.mark(beside)
        part = beside.path / "new"  # within, so that the mark is in no result
        part.mkdir()
        yield part
        _take_place(part, place, marker, overwrite)
        done = True
    except NumbaglmError:
        raise
    except OSError as error:
        raise OutputError(f"Can't write the output folder {target}: {error}. Nothing was left there.") from error
    finally:
        with suppress(OutputError, StoreError):
            locks.discard(beside)
        if not done:
            for folder in new_parents:
                with suppress(OSError):
                    folder.rmdir()


def _take_place(part: Path, place: Path, marker: str, overwrite: bool) -> None:
    check_free(place, marker, overwrite)  # again: another may have written there meanwhile
    if place.exists() and not any(place.iterdir()):
        place.rmdir()
    if not (overwrite and place.exists()):
        part.rename(place)  # fails where something has come into being since
        return
    old = part.parent.with_name(f"{part.parent.name}.old")  # not what is deleted if this process is killed just now
    place.rename(old)
    try:
        part.rename(place)
    except OSError:
        old.rename(place)
        raise
    old.rename(part)
