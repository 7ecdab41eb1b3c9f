"""Sets of shufflings as people keep them: arrays, tables whose columns are subjects, and files of either."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.data.labels import MapLabels, match_rows, numbers_are_labels
from numbaglm.data.storage.files import require_regular
from numbaglm.data.tables import listed, read_lines, read_table
from numbaglm.errors import InputError, MissingFileError, invalid
from numbaglm.stats.shuffling.own import Signed, parse_rows

_NAME = "shufflings"  # of the parameter
_TEXTS, _ARRAYS = (".csv", ".tsv", ".txt"), (".npy", ".npz")
_ALLOWED = "an array (n_shufflings, n_subjects), a DataFrame, or the path of a .npy, .npz, .csv, .tsv or .txt file"
_BETWEEN = re.compile(r"[,;\s]+")


def read_shufflings(given: Any, maps: MapLabels) -> Signed:
    """Read a set of shufflings, and bring subjects into the order of the maps where columns carry their labels.

    Parameters
    ----------
    given
        (n_shufflings, n_subjects) signed numbers that count from 1, see `numbaglm.stats.shuffling.own`; a DataFrame of
        them; or the path of a file: .npy, .npz (one array, or one called "shufflings"), .csv, .tsv, .txt. The columns
        of a table, and the first line of a file that is no numbers, are labels of the subjects, in the order that
        its numbers count in. What has none is in the order of the maps.
    maps
        What the maps are called.

    Raises
    ------
    InputError, MissingFileError
        It can't be read, or its labels are not those of the maps.
    ShufflingError
        A row is no signed permutation.
    """
    if isinstance(given, str | os.PathLike):
        given = _read(Path(given).expanduser(), given)
    n = len(maps.labels)
    if isinstance(given, pd.DataFrame):
        if not _are_numbers(given.columns) or numbers_are_labels(given.columns, maps):
            return _by_label(given, maps)
        given = given.to_numpy()
    rows = parse_rows(given, n)
    if maps.moved:
        fix = "Give a DataFrame whose columns are labels, or sort the maps by theirs."
        allowed = f"columns with labels ({listed(maps.labels, 3)})"
        raise InputError(invalid(_NAME, "numbers alone, for maps that were sorted by their labels", allowed, fix))
    return rows


def _by_label(table: pd.DataFrame, maps: MapLabels) -> Signed:
    """Number subjects as the maps do."""
    rows = parse_rows(table.to_numpy(), table.shape[1])
    numbered = pd.DataFrame({"column": np.arange(table.shape[1])}, index=pd.Index([str(one) for one in table.columns]))
    order = match_rows(numbered, maps, _NAME)[0]["column"].to_numpy()  # the column of each map
    if len(order) < table.shape[1]:
        unused = [str(one) for k, one in enumerate(table.columns) if k not in set(order.tolist())]
        fix = "Shufflings of other people say nothing of these: make them anew."
        raise InputError(invalid(_NAME, f"columns for {listed(unused)}, who have no map", "a column a map", fix))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(1, len(order) + 1)
    ordered = rows[:, order]
    return np.asarray(np.sign(ordered) * place[np.abs(ordered) - 1], dtype=np.int32)


def _read(file: Path, path: Any) -> Any:
    """An array, or a DataFrame whose columns are labels."""
    ending = file.suffix.casefold()
    if ending in _ARRAYS:
        return _array(file, path)
    if ending not in _TEXTS:
        raise InputError(invalid(_NAME, str(path), _ALLOWED))
    lines = read_lines(path, _NAME)
    first = [_BETWEEN.sub(" ", line.strip(",; \t")).split() for line in lines[:2]]
    if len(first) > 1 and len(first[1]) == len(first[0]) + 1 and ending != ".txt":
        table = read_table(path, _NAME)
        if table.columns[0] == "Unnamed: 0":  # numbers of rows, which pandas writes
            return table.iloc[:, 1:]
    if lines and not _are_numbers(_BETWEEN.split(lines[0].strip(",; \t"))):
        if ending == ".txt":
            fix = "Save a table with labels as .csv or .tsv."
            raise InputError(invalid(_NAME, f"{path}: {lines[0][:60]!r}", "numbers alone in a .txt file", fix))
        return read_table(path, _NAME)
    try:
        return np.loadtxt([_BETWEEN.sub(" ", line) for line in lines], ndmin=2)
    except ValueError as error:
        cells = [_BETWEEN.sub(" ", line).split() for line in lines]
        odd = next((k for k, one in enumerate(cells) if len(one) != len(cells[0]) or not _are_numbers(one)), 0)
        received = f"{path}, line {odd + 1} of {len(cells[odd])} cells: {lines[odd][:60]!r}"
        raise InputError(
            invalid(_NAME, received, f"lines of as many numbers each, {len(cells[0])} as line 1")
        ) from error


def _array(file: Path, path: Any) -> Any:
    if not file.exists():
        raise MissingFileError(f"The file {path} given as {_NAME} does not exist. Check the path.")
    try:
        require_regular(file)
        with file.open("rb") as stream:  # np.load leaves the file of a damaged archive open
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                name = _NAME if _NAME in found.files else found.files[0] if len(found.files) == 1 else None
                if name is not None:
                    return found[name]
                there = listed(found.files)
    except Exception as error:  # numpy, zipfile and zlib raise half a dozen kinds for what is damaged
        raise InputError(invalid(_NAME, str(path), f"a file that numpy.save or numpy.savez wrote ({error})")) from error
    raise InputError(invalid(_NAME, f"{path} with {there or 'nothing'}", f"one array, or one called {_NAME!r}"))


def _are_numbers(names: Any) -> bool:
    try:
        return all(np.isfinite(float(one)) for one in names)
    except (TypeError, ValueError):
        return False
