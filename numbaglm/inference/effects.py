"""What a mixed model takes beside its design: effects, whose maps are of one subject, and a kinship matrix."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.data.labels import MapLabels, match_labels, plain_label, require_order
from numbaglm.data.tables import listed, read_table, repeated
from numbaglm.errors import InputError, invalid, term
from numbaglm.stats.variance.covariance import EFFECTS, MOST_BINS

if TYPE_CHECKING:
    from numbaglm.stats.variance.components import Kinship

_SMALL = 1e-8  # of the mean diagonal of a kinship matrix: what lies below counts as 0
_SQUARE = "a matrix of the maps, or of the subjects by their labels; or a dict of these, by block"


def read_effects(effects: Any, subjects: Any, kinship: Any) -> tuple[str, ...]:
    """Names of the effects; by default those that there is something for.

    Raises
    ------
    InputError
        There are no such effects, or not what they take, or what is given is of none.
    """
    given = {"subject": ("subjects", subjects), "kinship": ("kinship", kinship)}
    if effects is None:
        return ("family", *(name for name, (_, one) in given.items() if one is not None), "error")
    named = tuple(effects) if isinstance(effects, Sequence) and not isinstance(effects, str) else ()
    allowed = f"two or more of {list(EFFECTS)}, each once, 'error' among them"
    if len(named) < 2 or len(set(named)) < len(named) or not set(named) <= set(EFFECTS) or "error" not in named:
        raise InputError(invalid("effects", effects, allowed))
    for name, (option, one) in given.items():
        if name in named and one is None:
            raise InputError(invalid("effects", effects, f"{name!r} with {term(f'{option}=')}", "Give it too."))
        if name not in named and one is not None:
            raise InputError(
                invalid(option, f"a {type(one).__name__}", f"None without {name!r} among the effects", "Add it there.")
            )
    return named


def check_bins(bins: Any, interval: Any) -> None:
    """Refuse what are no numbers of bins, or no coverage.

    Raises
    ------
    InputError
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or not 1 <= bins <= MOST_BINS:
        raise InputError(invalid("component_bins", bins, f"a whole number from 1 to {MOST_BINS}"))
    if interval is not None and not (isinstance(interval, float | np.floating) and 0 < interval < 1):
        raise InputError(invalid("component_interval", interval, "a coverage between 0 and 1, such as 0.95, or None"))


def read_subjects(subjects: Any, maps: MapLabels, covariates: pd.DataFrame) -> Any:
    """Labels (n_maps,) of the subjects of the maps, in the order of these, as the covariates are.

    Raises
    ------
    InputError
    """
    if subjects is None:
        return None
    matched = match_labels(subjects, maps, "subjects")
    require_order(matched, covariates, "subjects")
    values = np.asarray(matched, dtype=object)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    n = len(maps.labels)
    allowed = f"a label for each of the {n} maps"
    if values.shape != (n,):
        raise InputError(invalid("subjects", f"shape {values.shape}", allowed))
    if missing := np.flatnonzero(pd.isna(values)).tolist():
        raise InputError(invalid("subjects", f"none in row(s) {missing[:10]} (counted from 0)", allowed))
    return _texts(values)


def _texts(labels: Any) -> NDArray[Any]:
    """Labels (n,) as texts: whole numbers that a missing one, or a file, made floats of are whole again."""
    whole = [
        int(one) if isinstance(one, float | np.floating) and float(one).is_integer() else one
        for one in np.asarray(labels, dtype=object).ravel()
    ]
    return np.array(whole, dtype=object).astype(str)


def numbered(labels: Any) -> NDArray[np.intp]:
    """Numbers from 0 of labels (n,)."""
    return np.unique(np.asarray(labels, dtype=object).ravel().astype(str), return_inverse=True)[1].astype(np.intp)


def read_kinship(kinship: Any, maps: MapLabels, blocks: Any, subjects: Any) -> Kinship | None:
    """A kinship matrix as it is given: a matrix, the path of a table, or a dict of matrices by block.

    Parameters
    ----------
    blocks, subjects
        Labels (n_maps,) of the exchangeability blocks, and of the subjects or None.

    Raises
    ------
    InputError
        It can't be read, is not of these maps, or relates maps of different blocks.
    """
    if kinship is None:
        return None
    from numbaglm.stats.variance.components import Kinship  # where it is given

    labels = _texts(blocks)
    if labels.shape != (len(maps.labels),):
        raise InputError(
            invalid("exchangeability_blocks", labels.shape, f"a label for each of {len(maps.labels)} maps")
        )
    names = np.array(maps.labels, dtype=object)
    number = numbered(labels)
    members = [np.flatnonzero(number == k) for k in range(number.max() + 1)]
    called = [str(labels[rows[0]]) for rows in members]
    if isinstance(kinship, Mapping):
        by_label = dict(zip(_texts(list(kinship)), kinship.values(), strict=True))
        if lacking := [labels[rows[0]] for rows in members if labels[rows[0]] not in by_label]:
            allowed = f"a dict with a matrix for each block (none for {listed(lacking)})"
            raise InputError(invalid("kinship", f"a dict of {len(kinship)} matrices", allowed))
        found = []
        for rows in members:
            matrix, place = _placed(
                by_label[labels[rows[0]]], names[rows], None if subjects is None else subjects[rows]
            )
            found.append(matrix[np.ix_(place, place)])
        return Kinship.build(found, names=called)
    matrix, place = _placed(kinship, names, subjects)
    scale = float(np.abs(np.diag(matrix)).mean())
    used = np.unique(place)
    for rows in members:
        own = np.unique(place[rows])
        others = np.setdiff1d(used, own, assume_unique=True)
        if (np.abs(matrix[np.ix_(own, others)]) > _SMALL * scale).any():
            received = f"a matrix that relates maps of block {str(labels[rows[0]])!r} with those of others"
            fix = "Put relatives into one block, and set to 0 what is too small to count."
            raise InputError(invalid("kinship", received, "0 between blocks, which are independent", fix))
    return Kinship.build([matrix[np.ix_(place[rows], place[rows])] for rows in members], names=called)


def _placed(given: Any, maps: NDArray[Any], subjects: NDArray[Any] | None) -> tuple[Doubles, NDArray[np.intp]]:
    """A matrix, and the row of it (n_maps,) that each map has."""
    if isinstance(given, str | os.PathLike):
        given = read_table(given, "kinship")
    if isinstance(given, pd.DataFrame):
        given = _labelled(given)
    several = None if subjects is None else np.array(list(dict.fromkeys(subjects)), dtype=object)
    try:
        matrix = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        received = f"a {type(given).__name__} of shape {np.shape(given)}"
        raise InputError(invalid("kinship", received, _SQUARE))
    if isinstance(given, pd.DataFrame):
        row = {label: number for number, label in enumerate(_texts(given.index))}
        plain = {plain_label(label): number for label, number in row.items()}
        for names in (maps, subjects):
            if names is not None and all(str(name) in row for name in names):
                return matrix, np.array([row[str(name)] for name in names], dtype=np.intp)
        for names in (maps, subjects) if len(plain) == len(row) and not _is_numbered(given.index) else ():
            called = [] if names is None else [plain_label(str(name)) for name in names]
            told = names is not None and len(set(called)) == len(set(map(str, names)))
            if told and all(name in plain for name in called):
                return matrix, np.array([plain[name] for name in called], dtype=np.intp)
        if not _is_numbered(given.index):
            wanted = [str(name) for name in (maps if subjects is None else subjects)]
            lacking = [name for name in wanted if plain_label(name) not in plain]
            lacking = lacking or [name for name in wanted if name not in row]
            received = f"no row for {listed(list(dict.fromkeys(lacking)))}"
            raise InputError(invalid("kinship", received, "a row for each map, or each subject, by its label"))
    if len(matrix) == len(maps):
        return matrix, np.arange(len(maps))
    if subjects is not None and several is not None and len(matrix) == len(several):
        row = {name: number for number, name in enumerate(several)}
        return matrix, np.array([row[name] for name in subjects], dtype=np.intp)
    allowed = f"one of {len(maps)} rows, for the maps" + (
        "" if several is None else f", or of {len(several)}, for the subjects in the order of their first maps"
    )
    raise InputError(invalid("kinship", f"a matrix of shape {matrix.shape}", allowed))


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """A table of a square matrix whose index has its labels, if it has any, and columns in the order of its rows.

    Raises
    ------
    InputError
        A label is there twice, or rows and columns have different ones.
    """
    if table.shape[1] == table.shape[0] + 1:  # labels are a column
        table = table.set_index(table.columns[0])
    if table.shape[0] != table.shape[1]:
        return table
    rows, columns = _texts(table.index), _texts(table.columns)
    if _is_numbered(table.index):
        rows = columns
        table = table.set_axis(table.columns, axis=0)
    for names in (rows, columns):
        if twice := repeated(list(names)):
            raise InputError(invalid("kinship", f"{listed(twice)} more than once", "a row and a column for each label"))
    if _is_numbered(table.columns):
        return table
    if set(rows) != set(columns):
        received = f"rows of {listed(sorted(rows), 3)} and columns of {listed(sorted(columns), 3)}"
        raise InputError(invalid("kinship", received, "rows and columns of the same maps, or subjects"))
    place = {label: number for number, label in enumerate(columns)}
    return table.iloc[:, [place[label] for label in rows]]


def _is_numbered(labels: pd.Index) -> bool:
    """Whether these are but the numbers that pandas gives to rows, or columns, without labels."""
    return isinstance(labels, pd.RangeIndex) and labels.start == 0 and labels.step == 1
