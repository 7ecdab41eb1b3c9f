"""The subject table: covariates matched to maps, and its form in a store's attributes."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.errors import InputError, MissingFileError, invalid

# Columns of the subject table that are not covariates.
OWN_COLUMNS = ("subject_label", "source", "source_bytes", "source_state", "n_missing_voxels")
_LABEL_COLUMNS = ("participant_id", "subject_label")


def check_labels(labels: Sequence[Any], n_subjects: int, parameter: str = "subjects") -> list[str]:
    """Labels as strings: one for each map, none twice."""
    if isinstance(labels, str):
        raise InputError(invalid(parameter, labels, f"a list of {n_subjects} labels"))
    names = [str(label) for label in labels]
    if len(names) != n_subjects:
        raise InputError(invalid(parameter, f"{len(names)} labels", f"one for each of the {n_subjects} maps"))
    twice = _repeated(names)
    if twice:
        raise InputError(
            invalid(
                parameter,
                f"{_listed(twice)} more than once",
                "a different label for each map",
                "Choose one map a subject (one map_name), or tell the maps apart in the label.",
            )
        )
    return names


def sorted_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Nilearn's table of maps, in the order of its labels."""
    missing = [column for column in ("subject_label", "effects_map_path") if column not in frame.columns]
    if missing:
        raise InputError(
            invalid(
                "maps",
                f"a DataFrame with columns {list(frame.columns)}",
                "columns 'subject_label' and 'effects_map_path'",
                f"Add {', '.join(missing)}.",
            )
        )
    return frame.sort_values("subject_label", kind="stable").reset_index(drop=True)


def labels_of(files: Sequence[Path | None], n_subjects: int) -> list[str]:
    """Labels from BIDS entities, else from file names, when they tell the maps apart; else numbers.

    Parameters
    ----------
    files
        The file of each map; None, or fewer than there are maps, where there is none.
    n_subjects
        How many maps there are.
    """
    paths = [file for file in files if file is not None]
    if len(paths) == n_subjects:
        subjects = [re.findall(r"sub-[0-9a-zA-Z]+", str(path)) for path in paths]
        if all(subjects) and len({found[-1] for found in subjects}) == len(paths):
            return [found[-1] for found in subjects]
        stems = [re.sub(r"\.(nii|hdr|img)(\.(gz|bz2|zst))?$", "", path.name) for path in paths]
        if len(set(stems)) == len(paths):
            return stems
    return [f"subject-{number:03d}" for number in range(1, n_subjects + 1)]


def match_covariates(
    covariates: Any, labels: Sequence[str], *, labels_known: bool
) -> tuple[pd.DataFrame | None, list[str]]:
    """Bring a table of covariates into the order of the maps.

    Parameters
    ----------
    covariates
        A DataFrame, the path of a tsv or csv file, or None.
    labels
        (n_subjects,) labels of the maps.
    labels_known
        Whether the labels mean something (not merely numbers): then rows are matched by label if the table
        has labels too, and by order otherwise.

    Returns
    -------
    The covariates, a row a map, without the label column; and sentences on what was done.
    """
    if covariates is None:
        return None, []
    frame = covariates if isinstance(covariates, pd.DataFrame) else read_table(covariates, "covariates")
    names, frame = _split_labels(frame)
    taken = sorted(set(map(str, frame.columns)) & set(OWN_COLUMNS))
    if taken:
        raise InputError(invalid("covariates", f"a column {taken[0]!r}", "other column names", "Rename it."))
    frame = frame.rename(columns=str).reset_index(drop=True)
    if names is None or not labels_known:
        if len(frame) != len(labels):
            raise InputError(invalid("covariates", f"{len(frame)} rows", f"one for each of the {len(labels)} maps"))
        return frame, [f"Covariates are matched to the {len(labels)} maps by their order: no labels on both sides."]
    twice = _repeated(names)
    if twice:
        raise InputError(invalid("covariates", f"{_listed(twice)} in more than one row", "a row a subject"))
    row = {name: number for number, name in enumerate(names)}
    lacking = [label for label in labels if label not in row]
    if lacking:
        raise InputError(
            invalid(
                "covariates",
                f"no row for {_listed(lacking)}",
                f"a row for each map, by label (the table has {_listed(names)})",
                "Add the rows, or pass subjects= with the labels that the table uses.",
            )
        )
    unused = sorted(set(names) - set(labels))
    notes = [f"Covariates of {len(unused)} subject(s) without a map are not used: {_listed(unused)}."] if unused else []
    return frame.iloc[[row[label] for label in labels]].reset_index(drop=True), notes


def labels_are_known(labels: Sequence[str]) -> bool:
    """Whether labels are more than the numbers that stand in for them."""
    return not all(re.fullmatch(r"subject-\d{3,}", label) for label in labels)


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
        {column["name"]: pd.Series(column["values"], dtype=types[column["kind"]]) for column in attributes["columns"]}
    )


def read_table(path: Any, parameter: str) -> pd.DataFrame:
    """Read a .tsv or .csv file with a header line; ``parameter`` is what errors call it."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(invalid(parameter, type(path).__name__, "a DataFrame or the path of a .tsv or .csv file"))
    file = Path(path).expanduser()
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"The table {path} given as {parameter} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:
        raise InputError(invalid(parameter, str(path), f"a file that can be opened ({error})")) from error
    separators = {".tsv": "\t", ".csv": ","}
    if file.suffix not in separators:
        raise InputError(invalid(parameter, str(path), "a DataFrame or the path of a .tsv or .csv file"))
    try:
        header = pd.read_csv(file, sep=separators[file.suffix], nrows=0).columns
        # Labels stay text: "01" is not 1.
        texts: dict[Any, Any] = {name: "str" for name in header if name in _LABEL_COLUMNS}
        return pd.read_csv(file, sep=separators[file.suffix], dtype=texts, na_values=["n/a"])
    except (ValueError, OSError) as error:
        raise InputError(invalid(parameter, str(path), "a table with one header line", str(error))) from error


def _split_labels(frame: pd.DataFrame) -> tuple[list[str] | None, pd.DataFrame]:
    """Part a table into labels (a column known by name, else a first column or an index of text) and rest."""
    named = [name for name in _LABEL_COLUMNS if name in frame.columns]
    if named:
        return [str(label) for label in frame[named[0]]], frame.drop(columns=named)
    if len(frame.columns) and not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[0]):
        return [str(label) for label in frame.iloc[:, 0]], frame.iloc[:, 1:]
    if not pd.api.types.is_numeric_dtype(frame.index.dtype):
        return [str(label) for label in frame.index], frame
    return None, frame


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _listed(names: Sequence[str], most: int = 5) -> str:
    """List some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
