"""Tables that people write, read one way whatever wrote them; and the subject table in a store's attributes."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.errors import InputError, MissingFileError, invalid, term

log = logging.getLogger("numbaglm")

# Columns of the subject table that are not covariates.
OWN_COLUMNS = ("subject_label", "source", "source_bytes", "source_state", "n_missing_voxels")
LABEL_COLUMNS = ("participant_id", "subject_label")

_SEPARATORS = {".tsv": "\t", ".csv": ","}
_SHEETS = (".xlsx", ".xlsm")
_ALLOWED = f"{term('a DataFrame or the path of a')} .tsv or .csv file"
# What stands for no value among numbers. Among words only an empty cell and n/a do: groups may be called NA or None.
_NO_NUMBER = frozenset(
    {
        *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    }
)
_NO_VALUE = frozenset({"n/a", "N/A"})
_DECIMAL = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


def table_to_json(table: pd.DataFrame) -> dict[str, Any]:
    """Turn a table into JSON, column by column with its type, so that it comes back as it was."""
    columns = []
    for name, series in table.items():
        kind = series.dtype.kind
        if kind in "iub" and not isinstance(series.dtype, pd.api.extensions.ExtensionDtype):
            values = series.tolist()
        elif kind == "f":
            values = [
                float(value) if np.isfinite(value) else None if np.isnan(value) else str(value) for value in series
            ]
        else:
            kind = "O"
            values = [None if pd.isna(value) else str(value) for value in series]
        columns.append({"name": str(name), "kind": kind, "values": values})
    return {"columns": columns}


def table_from_json(attributes: Mapping[str, Any]) -> pd.DataFrame:
    """Read the table that `table_to_json` wrote."""
    types: dict[str, Any] = {"i": np.int64, "u": np.uint64, "b": np.bool_, "f": np.float64, "O": "str"}
    return pd.DataFrame(
        {column["name"]: _column(column["values"], types[column["kind"]]) for column in attributes["columns"]}
    )


def _column(values: list[Any], kind: Any) -> Any:
    # Of a column each, pandas makes a Series and its index, which takes a minute for 10^5.
    return pd.Series(values, dtype=kind) if kind == "str" else np.array(values, dtype=kind)


def read_table(path: Any, parameter: str, *, may_lack_names: bool = False) -> pd.DataFrame:
    """Read a .tsv or .csv file with a header line, or the first sheet of an .xlsx; ``parameter`` is for errors.

    Byte-order marks, line ends of all systems, blanks around names and values, and separators at the ends of lines are
    no part of it. Semicolons in the place of a file's separator are taken as that, with commas for decimal points.
    Columns of labels stay text: "01" is not 1.

    Parameters
    ----------
    path, parameter
        The file, and what errors call it.
    may_lack_names
        Whether a first line of numbers alone, as in PALM's files, is a row: columns are then called 0, 1, ...

    Raises
    ------
    InputError, MissingFileError
        It can't be read; names what is wrong, and where.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(invalid(parameter, type(path).__name__, _ALLOWED))
    file = _regular(path, parameter)
    ending = file.suffix.casefold()
    if ending in _SHEETS:
        rows = list(enumerate(_cells(file, path, parameter), 1))
        separator = "\t"
    elif ending in _SEPARATORS:
        text = _decoded(file, path, parameter)
        separator = _separator(text, _SEPARATORS[ending])
        try:
            lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
            reader = csv.reader((f"{line}\n" for _, line in lines), delimiter=separator, skipinitialspace=True)
            rows = [(lines[reader.line_num - 1][0], row) for row in reader]
        except csv.Error as error:
            raise InputError(invalid(parameter, str(path), "a table with one header line", f"{error}.")) from error
    else:
        fix = "Save the sheet as tab-separated text (.tsv)." if ending in (".xls", ".ods", ".numbers") else ""
        raise InputError(invalid(parameter, str(path), _ALLOWED, fix))
    numbered = [(n, [cell.strip() for cell in row]) for n, row in rows]
    while numbered and len(numbered[-1][1]) > 1 and not any(numbered[-1][1]):  # what spreadsheets leave at the end
        numbered.pop()
    if not numbered:
        raise InputError(invalid(parameter, str(path), "a table with one header line", "The file is empty."))
    if may_lack_names and all(map(_is_number, numbered[0][1])):
        log.info("%s has no line of names: its first line is the first subject's.", path)
        numbered = [(0, [str(k) for k in range(len(numbered[0][1]))]), *numbered]
    names, columns = _columns(numbered, path, parameter)
    found = {
        name: _unpointed(name, values, path, parameter) if separator != "," else values
        for name, values in zip(names, columns, strict=True)
    }
    return _typed(found, path, parameter)


def read_lines(path: Any, parameter: str) -> list[str]:
    """Lines of a text file without blanks around them; empty ones and those that begin with # left out."""
    lines = [line.strip() for line in _decoded(_regular(path, parameter), path, parameter).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _regular(path: Any, parameter: str) -> Path:
    """Refuse what is no file before it is opened: a pipe would wait for good."""
    file = Path(path).expanduser()
    try:
        kind = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"The table {path} given as {parameter} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:
        raise InputError(invalid(parameter, str(path), f"a file that can be opened ({error})")) from error
    if not stat.S_ISREG(kind):
        raise InputError(invalid(parameter, str(path), "a file (no folder, pipe or device)"))
    return file


def _decoded(file: Path, path: Any, parameter: str) -> str:
    """Text of a file, with line ends of one kind."""
    try:
        raw = file.read_bytes()
        wide = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = raw.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise InputError(invalid(parameter, str(path), f"a file that can be read ({error.strerror})")) from error
    except UnicodeDecodeError as error:
        fix = "Save it as text in UTF-8: a spreadsheet offers that among its formats."
        raise InputError(invalid(parameter, str(path), f"text in UTF-8 (byte {error.start} is none)", fix)) from error
    if "\0" in text:
        raise InputError(invalid(parameter, str(path), "text (it holds a byte of 0)", "Save it as .tsv or .csv."))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _separator(text: str, usual: str) -> str:
    """The file's separator, or the one that its header has in its place."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or usual in lines[0]:
        return usual
    others = [sign for sign in ";\t," if sign in lines[0] and all(sign in line for line in lines)]
    return others[0] if others else usual


def _cells(file: Path, path: Any, parameter: str) -> list[list[str]]:
    """Cells of the first sheet of a spreadsheet, as text."""
    try:
        sheet = pd.read_excel(file, header=None, dtype=object, keep_default_na=False, engine="openpyxl")
    except ImportError as error:
        fix = "Save the sheet as tab-separated text (.tsv), or install openpyxl."
        raise InputError(invalid(parameter, str(path), _ALLOWED, fix)) from error
    except Exception as error:  # openpyxl raises what zip files and XML raise
        fix = f"It can't be read ({error}). Save the sheet as tab-separated text (.tsv)."
        raise InputError(invalid(parameter, str(path), "a spreadsheet of one table", fix)) from error
    return [["" if cell is None else str(cell) for cell in row] for row in sheet.to_numpy()]


def _columns(
    rows: Sequence[tuple[int, list[str]]], path: Any, parameter: str
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Names, and values a column; separators that end lines make no column."""
    names, body = list(rows[0][1]), [row for _, row in rows[1:]]
    if body and all(len(row) == len(names) + 1 for row in body) and any(row[-1] for row in body):
        names = ["", *names]  # R names no column of row names
    width = len(names)
    for (number, _), row in zip(rows[1:], body, strict=True):
        if any(row[width:]) or len(row) < width:
            what = f"{len(row)} values in line {number}, for {width} names"
            fix = "Put values that hold a separator into quotes."
            raise InputError(invalid(parameter, f"{path}: {what}", "a value for each name in the header line", fix))
    columns = list(zip_longest(*(row[:width] for row in body), fillvalue="")) or [()] * width
    kept = [k for k in range(width) if names[k] or any(columns[k])]
    names = [names[k] or f"Unnamed: {k}" for k in kept]
    twice = repeated(names)
    if twice:
        fix = "Give each column its own name, in a first line of names."
        raise InputError(invalid(parameter, f"{path}: {listed(twice)} more than once", "different names", fix))
    return names, [columns[k] for k in kept]


def _unpointed(name: str, values: tuple[str, ...], path: Any, parameter: str) -> tuple[str, ...]:
    """Decimal commas as points, in a column that has nothing else; thousands may be meant, and are refused."""
    some = [value for value in values if value and value not in _NO_NUMBER]
    commas = [value for value in some if _DECIMAL.fullmatch(value) or _THOUSANDS.fullmatch(value)]
    if not commas or not all(_DECIMAL.fullmatch(value) or _is_number(value) for value in some):
        if commas and all(_is_number(value.replace(",", "")) for value in some):
            raise InputError(_thousands(name, commas[0], path, parameter))
        return values
    if all(_THOUSANDS.fullmatch(value) for value in commas):
        raise InputError(_thousands(name, commas[0], path, parameter))
    return tuple(value.replace(",", ".") for value in values)


def _thousands(name: str, value: str, path: Any, parameter: str) -> str:
    fix = "Write numbers with a decimal point, and thousands without a sign."
    return invalid(parameter, f"{path}: {value!r} in column {name!r}", "numbers that can be read one way", fix)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return "_" not in value


def _typed(columns: Mapping[str, tuple[str, ...]], path: Any, parameter: str) -> pd.DataFrame:
    """Columns of numbers, of truth values and of words."""
    none: dict[str, Any] = {}
    for name, values in columns.items():
        words = {value for value in values if value and value not in _NO_NUMBER and not _is_number(value)}
        none[name] = ["", *(_NO_VALUE if words or name in LABEL_COLUMNS else _NO_NUMBER)]
        odd = sorted({value for value in values if value in _NO_NUMBER - _NO_VALUE})
        if words and odd and name not in LABEL_COLUMNS:
            log.warning(
                "%r in column %r of %s is read as a word like the others there. Write n/a where there is no value.",
                odd[0],
                name,
                path,
            )
        elif odd and not words and set(values) <= {*odd, ""}:
            none[name] = ["", *_NO_VALUE]  # of nothing but such words
    texts: dict[Any, Any] = {name: "str" for name in columns if name in LABEL_COLUMNS}
    clean = io.StringIO()
    writer = csv.writer(clean, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    clean.seek(0)
    try:
        return pd.read_csv(clean, dtype=texts, na_values=none, keep_default_na=False, skip_blank_lines=False)
    except (ValueError, OSError) as error:
        raise InputError(invalid(parameter, str(path), "a table with one header line", str(error))) from error


def repeated(names: Sequence[str]) -> list[str]:
    """Names that are there more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


def listed(names: Sequence[str], most: int = 5) -> str:
    """List some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
