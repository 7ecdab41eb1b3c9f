"""FSL's text matrices: designs (.mat), contrasts (.con), F tests (.fts) and groups (.grp)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.storage.files import require_regular
from numbaglm.errors import InputError, MissingFileError

_ROWS = ("NumPoints", "NumContrasts")  # scripts write either into a .con
_NAME = re.compile(r"ContrastName(\d+)$")


@dataclass(frozen=True, eq=False)
class TextMatrix:
    """A matrix that FSL's Glm or Text2Vest wrote.

    Attributes
    ----------
    path
        Where it was read.
    values
        (n_rows, n_columns) float64.
    names
        Names of contrasts by number, from 1, where the file has any.
    """

    path: Path
    values: NDArray[np.float64]
    names: dict[int, str]


def read_text_matrix(path: str | os.PathLike[str]) -> TextMatrix:
    """Read a .mat, .con, .fts or .grp file.

    Lines of keywords (``/NumWaves 2``) come first, then ``/Matrix`` and a line for each row. The numbers of rows and
    columns are checked where the keywords tell them; ``/PPheights`` and ``/RequiredEffect`` play no part.

    Raises
    ------
    MissingFileError, InputError
        There is no such file, or it isn't what it should be; the message names file and line.
    """
    place = Path(path).expanduser()
    try:
        require_regular(place)
        lines = place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). It needs to be a text file of FSL's.") from error
    keywords, names, rows = _read_lines(place, lines)
    widths = {len(row) for row in rows.values()}
    if not rows or len(widths) > 1:
        what = "no row" if not rows else f"rows of {' and '.join(map(str, sorted(widths)))} numbers"
        raise InputError(f"{place}: there is {what} after /Matrix. Each row needs one number for each column.")
    values = np.array(list(rows.values()))
    told = {name: keywords[name] for name in ("NumWaves", *_ROWS) if name in keywords}
    for name, (line, count) in told.items():
        n = values.shape[0 if name in _ROWS else 1]
        if count != n:
            raise InputError(
                f"{place}, line {line}: /{name} says {count}, but the matrix has {n} "
                f"{'rows' if name in _ROWS else 'columns'}. Correct whichever is wrong."
            )
    return TextMatrix(place, values, names)


def finite_numbers(words: Sequence[str], where: str) -> list[float]:
    """Read the words of a line as numbers.

    Raises
    ------
    InputError
        One is no finite number; ``where`` it stands is told.
    """
    row = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise InputError(f"{where}: {_short(word)} is not a finite number. Correct it.")
        row.append(value)
    return row


def _read_lines(
    place: Path, lines: list[str]
) -> tuple[dict[str, tuple[int, int]], dict[int, str], dict[int, list[float]]]:
    """Counts (line, value) by keyword, names of contrasts, and the rows of the matrix by line."""
    counts: dict[str, tuple[int, int]] = {}
    names: dict[int, str] = {}
    rows: dict[int, list[float]] = {}
    in_matrix = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if in_matrix:
            rows[number] = finite_numbers(text.split(), f"{place}, line {number}")
        elif not text.startswith("/"):
            raise InputError(
                f"{place}, line {number}: {_short(text)} comes before /Matrix, where only keywords such as /NumWaves "
                "may be. Make the file with FSL's Glm, or of a plain table with Text2Vest."
            )
        else:
            keyword, rest = (*text[1:].split(maxsplit=1), "", "")[:2]
            in_matrix = keyword == "Matrix"
            named = _NAME.match(keyword)
            if named:
                names[int(named[1])] = rest.strip()
            elif keyword in ("NumWaves", *_ROWS):
                counts[keyword] = number, _count(place, number, keyword, rest)
    if not in_matrix:
        raise InputError(f"{place} has no line /Matrix. It needs to be a text file that FSL's Glm or Text2Vest wrote.")
    return counts, names, rows


def _count(place: Path, number: int, keyword: str, rest: str) -> int:
    try:
        return int(rest)
    except ValueError:
        raise InputError(
            f"{place}, line {number}: /{keyword} {_short(rest.strip())} is not a whole number. Correct it."
        ) from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
