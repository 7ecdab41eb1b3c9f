"""PALM's files: matrices of numbers, sets of them, and what the names of inputs say of their format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.data.storage.files import require_regular
from numbaglm.data.text_matrix import finite_numbers, read_text_matrix
from numbaglm.errors import InputError, MissingFileError

_VEST = (".mat", ".con", ".fts", ".grp")
_TABLES = (".csv", ".txt", ".tsv", *_VEST)


def read_numbers(path: str) -> Doubles:
    """Read a matrix (n_rows, n_columns): FSL's text (.mat, .con, .fts, .grp), or numbers with commas or blanks between.

    Raises
    ------
    MissingFileError, InputError
    """
    place = Path(path).expanduser()
    if place.suffix in _VEST:
        return read_text_matrix(path).values
    rows = [_row(path, number, line) for number, line in enumerate(_lines(path), 1) if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        what = "no row" if not rows else f"rows of {' and '.join(map(str, sorted(widths)))} numbers"
        raise InputError(f"{path}: there is {what}. Each row needs one number for each column.")
    return np.array(rows)


def read_sets(path: str) -> list[Doubles]:
    """Read the matrices of a file (.mset): a line ``Matrix rows columns``, then the rows, as often as one likes.

    Raises
    ------
    MissingFileError, InputError
    """
    found: list[list[list[float]]] = []
    sizes: list[tuple[int, int]] = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        if words[0] == "Matrix":
            if len(words) != 3 or not all(word.isdecimal() for word in words[1:]):
                raise InputError(f"{path}, line {number}: {line.strip()!r}. Allowed: Matrix, rows, columns.")
            sizes.append((int(words[1]), int(words[2])))
            found.append([])
        elif not found:
            raise InputError(f"{path}, line {number}: numbers come before the first line 'Matrix rows columns'.")
        else:
            found[-1].append(_row(path, number, line))
    if not found:
        raise InputError(f"{path} has no line 'Matrix rows columns'. It needs one before each matrix.")
    for rows, size in zip(found, sizes, strict=True):
        if len(rows) != size[0] or {len(row) for row in rows} != {size[1]}:
            raise InputError(
                f"{path}: a matrix of {size[0]} rows and {size[1]} columns is announced, and others follow."
            )
    return [np.array(rows) for rows in found]


def read_labels(path: str) -> NDArray[np.int64]:
    """Read whole numbers (n_rows, n_columns): blocks, groups.

    Raises
    ------
    MissingFileError, InputError
    """
    values = read_numbers(path)
    if (values != np.round(values)).any() or (np.abs(values) > 2**31).any():
        raise InputError(f"{path} holds numbers that are not whole. Allowed: whole numbers, a row a subject.")
    return values.astype(np.int64)


def _lines(path: str) -> list[str]:
    place = Path(path).expanduser()
    try:
        require_regular(place)
        return place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). It needs to be a text file of numbers.") from error


def _row(path: str, number: int, line: str) -> list[float]:
    return finite_numbers(line.replace(",", " ").split(), f"{path}, line {number}")
