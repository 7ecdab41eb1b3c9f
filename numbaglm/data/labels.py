"""Labels of maps and of rows, and the one way in which rows are matched to maps.

Where the rows of a table carry labels, they are matched to the maps by them, or the call is refused. Rows go by their
order only where they carry none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.data.tables import LABEL_COLUMNS, listed, repeated
from numbaglm.errors import InputError, invalid, near, term

log = logging.getLogger("numbaglm")

_LIKE_LABELS = frozenset(
    {
        *("id", "sub", "subid", "subj", "subjid", "subject", "subjectid", "subjectlabel"),
        *("participant", "participantid", "participantlabel"),
        # Of UK Biobank, NDA, ADNI, REDCap, CDISC, HCP.
        *("eid", "srcsubjectid", "subjectkey", "rid", "ptid", "recordid", "usubjid", "subno", "subjno", "subjectno"),
        *(
            "subnum",
            "subjnum",
            "subjectnumber",
            "participantno",
            "participantnumber",
            "subjectcode",
            "patientid",
            "pid",
        ),
    }
)
_LIKE_SESSIONS = frozenset({"ses", "session", "sessionid", "sessionlabel", "visit", "visitid", "timepoint", "wave"})
_NAMELESS = re.compile(r"Unnamed: 0")
_ENDING = re.compile(r"(\+(orig|acpc|tlrc))?\.(nii|hdr|img|head|brik|mgh|mgz)(\.(gz|bz2|zst))?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class MapLabels:
    """What maps are called.

    Attributes
    ----------
    labels
        (n_subjects,) their labels.
    known
        Whether these are more than numbers that stand in for labels.
    paths
        (n_subjects,) their files, whose names may hold other labels; fewer where there are none.
    moved
        Whether the maps were sorted by label, and lay in another order before.
    """

    labels: list[str]
    known: bool
    paths: tuple[str, ...] = ()
    moved: bool = False

    @classmethod
    def of_table(cls, subjects: pd.DataFrame) -> MapLabels:
        """Those of a cohort's subject table."""
        labels = [str(label) for label in subjects["subject_label"]]
        paths = tuple(str(source) for source in subjects.get("source", ()))
        # Images in memory have a name without a folder, volumes of one image the same path.
        usable = len(paths) == len(labels) and all(re.search(r"[/\\]", path) for path in paths)
        return cls(labels, labels_are_known(labels), paths if usable and not _in_one_image(paths) else ())

    def candidates(self) -> Iterator[list[str]]:
        """The labels, then every other part of the paths that tells the maps apart."""
        yield self.labels
        yield from _distinct_parts(self.paths)


def _in_one_image(paths: Sequence[str]) -> bool:
    return any(path.endswith(")") and "(volume " in path for path in paths)


def _distinct_parts(paths: Sequence[str]) -> Iterator[list[str]]:
    """Parts of paths that differ in all of them: file names, folders, and what underscores part in them."""
    if not paths:
        return
    split = [re.split(r"[/\\]", _ENDING.sub("", path)) for path in paths]
    depth = min(map(len, split))
    for level in range(1, depth + 1):
        parts = [one[-level] for one in split]
        if len(set(parts)) == 1:
            continue
        if len(set(parts)) == len(parts):
            yield parts
        pieces = [part.split("_") for part in parts]
        if len({len(piece) for piece in pieces}) == 1 and len(pieces[0]) > 1:
            for tokens in zip(*pieces, strict=True):
                if len(set(tokens)) == len(tokens):
                    yield list(tokens)


def check_labels(labels: Sequence[Any], n_subjects: int, parameter: str = "subjects") -> list[str]:
    """Labels as strings: one for each map, none twice."""
    if isinstance(labels, str):
        raise InputError(invalid(parameter, labels, f"a list of {n_subjects} labels"))
    names = texts(labels, strip=False)
    if len(names) != n_subjects:
        raise InputError(invalid(parameter, f"{len(names)} labels", f"one for each of the {n_subjects} maps"))
    require_labels(names, parameter, "a label for each map", "Name each, or give no labels: maps are then numbered.")
    twice = repeated(names)
    if twice:
        raise InputError(
            invalid(
                parameter,
                f"{listed(twice)} more than once",
                "a different label for each map",
                "Choose one map a subject (one map_name), or tell the maps apart in the label.",
            )
        )
    return names


def sorted_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Nilearn's table of maps, in the order of its labels (and of its index, if it was in another)."""
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
    fix = "Name the subject of each map, or leave the row out."
    require_labels(texts(frame["subject_label"]), "maps", "a subject_label in every row", fix)
    return frame.sort_values("subject_label", kind="stable").reset_index(drop=True)


def labels_of(files: Sequence[Path | None], n_subjects: int) -> list[str]:
    """Labels from BIDS entities, file names, or the folder that tells the maps apart; else numbers.

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
        visits = labels_of_visits([str(path) for path in paths])
        if visits is not None:
            return visits
        stems = [_ENDING.sub("", path.name) for path in paths]
        if len(set(stems)) == len(paths):
            return stems
        folders = zip(*(path.parts[-2::-1] for path in paths), strict=False)
        for level in folders:
            if len(set(level)) == len(paths):
                return list(level)
    return [f"subject-{number:03d}" for number in range(1, n_subjects + 1)]


def labels_of_visits(paths: Sequence[str]) -> list[str] | None:
    """Subjects and sessions of BIDS entities, ``sub-01_ses-1``, where they tell all maps apart."""
    found = [(re.findall(r"sub-[0-9a-zA-Z]+", path), re.findall(r"ses-[0-9a-zA-Z]+", path)) for path in paths]
    if not found or not all(subjects and sessions for subjects, sessions in found):
        return None
    visits = [f"{subjects[-1]}_{sessions[-1]}" for subjects, sessions in found]
    return visits if len(set(visits)) == len(visits) else None


def labels_are_known(labels: Sequence[str]) -> bool:
    """Whether labels are more than the numbers that stand in for them."""
    return not all(re.fullmatch(r"subject-\d{3,}", label) for label in labels)


def further_columns(maps: Any, labels: Sequence[str]) -> pd.DataFrame:
    """Covariates that stand in a table of maps beside labels and paths, in the order of the labels; else no column."""
    if not isinstance(maps, pd.DataFrame) or "effects_map_path" not in maps.columns:
        return pd.DataFrame(index=pd.Index(labels))
    own = [name for name in ("subject_label", "map_name", "effects_map_path") if name in maps.columns]
    return sorted_frame(maps).drop(columns=own).rename(columns=str).set_axis(pd.Index(labels))


def people_of(labels: Sequence[str], covariates: pd.DataFrame) -> list[str]:
    """Whose maps are: the participant_id of the covariates, else what stands before "_ses-", else each its own.

    Parameters
    ----------
    labels
        (n_subjects,) of the maps.
    covariates
        A row a map, in their order; or a table of other rows, which is not looked at.
    """
    named = [name for name in LABEL_COLUMNS if name in covariates.columns]
    if named and len(covariates) == len(labels):
        return texts(covariates[named[0]])
    return [label.partition("_ses-")[0] for label in labels]


def warn_of_visits(labels: Sequence[str], covariates: pd.DataFrame) -> None:
    """Say that some maps are of one person, where nothing was said that keeps them together."""
    n_people = len(set(people_of(labels, covariates)))
    if n_people < len(labels):
        log.warning(
            "%d maps are of %d people, and are shuffled as if each were of another person: where maps of a person hang "
            "together p are wrong, mostly far too small for what differs between people. Blocks, the person of each "
            "map, keep them together.",
            len(labels),
            n_people,
        )


def rows_without(labels: Sequence[str], leave_out: Sequence[str], parameter: str = "leave_out") -> list[int]:
    """Rows that stay where some labels, as they are written or as `plain_label` has it, are left out.

    A label that several rows have stands for all of them.

    Raises
    ------
    InputError
        One is not there, may be several, or none is left.
    """
    out: set[str] = set()
    form: Callable[[str], str]
    for form in (str, plain_label):
        known = {form(label) for label in labels}
        out = {form(label) for label in leave_out}
        if len(known) == len(set(labels)) and out <= known:
            break
    else:
        plain = {plain_label(label) for label in labels}
        wrong = next((one for one in leave_out if plain_label(one) not in plain), "") or next(
            one for one in leave_out if one not in labels
        )
        fix = near(wrong, labels)
        raise InputError(invalid(parameter, wrong, f"labels of the maps ({listed(labels)})", fix))
    rows = [row for row, label in enumerate(labels) if form(label) not in out]
    if labels and not rows:
        raise InputError(invalid(parameter, f"all {len(labels)} subjects", "some of them"))
    return rows


def were_moved(maps: Any, labels: Sequence[str]) -> bool:
    """Whether the subjects of a table of maps lay in another order than that of their sorted labels.

    A table of parcels keeps its own.
    """
    if not isinstance(maps, pd.DataFrame) or "effects_map_path" not in maps.columns:
        return False
    return list(dict.fromkeys(str(label) for label in maps["subject_label"])) != list(dict.fromkeys(labels))


def match_rows(
    table: pd.DataFrame,
    maps: MapLabels,
    parameter: str,
    *,
    by_order: bool = False,
    people: bool = False,
    regressors: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Bring the rows of a table into the order of the maps.

    Parameters
    ----------
    table
        A row a map. Its labels are a column participant_id or subject_label; else one called so or so (subject, id,
        ...); else its index, or its first column, if that holds text and no value twice. Where a label is there more
        than once, a column session_id (session, visit, ...) tells the rows of a subject apart: ``sub-01_ses-1``.
    maps
        What the maps are called. ``sub-01``, ``01`` and ``1`` are one label where that tells all of them apart.
    parameter
        What errors call the table.
    by_order
        Whether rows are taken as they stand, as was asked for by name: labels are dropped.
    people
        Whether labels that several rows share stay among the columns, and what tells these rows apart: they say which
        maps are of one subject.
    regressors
        Whether visits that are numbers stay among the columns even so, as they may be a regressor.

    Returns
    -------
    The rows, without labels, numbered from 0; and sentences on what was done.

    Raises
    ------
    InputError
        Rows carry labels which are not the maps', or there are too few or too many.
    """
    names, rest = split_labels(table, maps, people=people, regressors=regressors)
    rest = rest.reset_index(drop=True)
    n = len(maps.labels)
    if names is None or by_order:
        if maps.moved:
            fix = "Give its rows their labels too, as a column subject_label, or sort the maps by theirs."
            what = "rows by their order, for maps that were sorted by their labels"
            raise InputError(invalid(parameter, what, f"rows with labels ({listed(maps.labels, 3)})", fix))
        if len(rest) != n:
            raise InputError(invalid(parameter, f"{len(rest)} rows", f"one for each of the {n} maps"))
        return rest, [f"Rows of {parameter} are matched to the {n} maps by their order."]
    fix = "Write the label of the map that each is of, or leave the row out."
    require_labels(names, parameter, "a label in every row, or in none", fix)
    twice = repeated(names)
    if twice:
        fix = "Where a subject has several maps, tell its rows apart in a column session_id."
        raise InputError(invalid(parameter, f"{listed(twice)} in more than one row", "a row a map", fix))
    order = _order(names, maps)
    if order is None:
        raise InputError(_unmatched(names, maps, parameter))
    unused = sorted(set(names) - {names[row] for row in order})
    notes = (
        [f"Rows of {parameter} for {len(unused)} subject(s) without a map are not used: {listed(unused)}."]
        if unused
        else []
    )
    return rest.iloc[order].reset_index(drop=True), notes


def in_another_order_by_files(paths: Sequence[str], maps: MapLabels) -> bool:
    """Whether files are told apart by what tells the maps apart, and none of it has both in the same order.

    Such are ``con_2.nii, con_10.nii`` and ``gm10.nii, gm2.nii``: numbers, what underscores part, names of folders.

    Parameters
    ----------
    paths
        (n_subjects,) files of a layer; fewer where there are none.
    """
    orders = [
        match_order(theirs, own)
        for own in (maps.labels, *_distinct_parts(maps.paths), *_distinct_numbers(maps.paths))
        for theirs in (*_distinct_parts(paths), *_distinct_numbers(paths))
    ]
    found = [order for order in orders if order is not None]
    return bool(found) and list(range(len(paths))) not in found


def _distinct_numbers(paths: Sequence[str]) -> Iterator[list[str]]:
    """Numbers in file names, or folders, that differ in all of them."""
    split = [re.split(r"[/\\]", _ENDING.sub("", path)) for path in paths]
    for level in range(1, min(map(len, split), default=0) + 1):
        numbers = [re.findall(r"\d+", one[-level]) for one in split]
        if len({len(found) for found in numbers}) == 1:
            yield from (list(column) for column in zip(*numbers, strict=True) if len(set(column)) == len(column))


def without_labels(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the labels that its rows carry: rows then go by their order."""
    return split_labels(table, MapLabels([], known=False))[1].reset_index(drop=True)


def in_another_order(table: pd.DataFrame, maps: MapLabels) -> bool:
    """Whether a table has the labels of the maps, in another order than theirs."""
    names, _ = split_labels(table, maps)
    order = None if names is None else _order(names, maps)
    return order is not None and order != list(range(len(order)))


def has_labels(values: Any) -> bool:
    """Whether a table has a column of labels, participant_id or subject_label, beside others."""
    return (
        isinstance(values, pd.DataFrame)
        and values.shape[1] > 1
        and not set(map(str, values.columns)).isdisjoint(LABEL_COLUMNS)
    )


def match_labels(values: Any, maps: MapLabels, parameter: str) -> Any:
    """Bring labels of blocks or groups into the order of the maps where a Series or a table has labels of these.

    They are its index, or of a table a column participant_id or subject_label.

    Raises
    ------
    InputError
        The labels are others than the maps', or there are none and the maps were sorted by theirs.
    """
    if has_labels(values):
        if parameter != "visits":
            require_more_than_labels(values, parameter)
        return match_rows(values, maps, parameter, regressors=False)[0]
    if not isinstance(values, pd.Series | pd.DataFrame) or not are_labels(values.index, maps):
        if maps.moved and not (values is None or isinstance(values, str)):
            fix = 'Give a Series of them, such as table.set_index("subject_label")["site"], or sort the maps by theirs.'
            what = "values by their order, for maps that were sorted by their labels"
            raise InputError(invalid(parameter, what, f"values with labels ({listed(maps.labels, 3)})", fix))
        return values
    numbered = pd.DataFrame({"row": np.arange(len(values))}, index=values.index)
    rows = match_rows(numbered, maps, parameter)[0]["row"]
    return values.iloc[rows.to_numpy()]


def require_more_than_labels(table: pd.DataFrame, parameter: str) -> None:
    """Refuse a table of blocks or groups that has nothing but labels of the maps: subjects, and their visits.

    Raises
    ------
    InputError
    """
    columns = list(map(str, table.columns))
    if has_labels(table) and all(name in LABEL_COLUMNS or _of_visits(name) for name in columns):
        received = f"a table of {listed(columns)}, which are labels of the maps"
        raise InputError(invalid(parameter, received, "a further column beside these, with what is asked for"))


def split_labels(
    table: pd.DataFrame, maps: MapLabels, *, people: bool = False, regressors: bool = True
) -> tuple[list[str] | None, pd.DataFrame]:
    """Part a table into its labels, None if it has none, and the rest; other arguments as in `match_rows`."""
    columns = [str(name) for name in table.columns]
    named = [k for k, name in enumerate(columns) if name in LABEL_COLUMNS]
    if named:
        visits, of_visits = _with_visits(table, named[0], maps)
        if visits is not None:
            return visits, table if people else _without_visits(table, [*named, of_visits], regressors)
        return texts(table.iloc[:, named[0]]), table.iloc[:, [k for k in range(len(columns)) if k not in named]]
    like = [k for k, name in enumerate(columns) if re.sub(r"[\W_]", "", name).casefold() in _LIKE_LABELS]
    for k in [*like, *([0] if columns and 0 not in like else [])]:
        values = table.iloc[:, k]
        nameless = bool(_NAMELESS.fullmatch(columns[k]))
        labels = texts(values)
        distinct = len(set(labels)) == len(labels)
        visits, of_visits = _with_visits(table, k, maps) if k in like else (None, -1)
        if visits is not None and (_is_text(values) or _order(visits, maps) is not None):
            return visits, table if people else _without_visits(table, [k, of_visits], regressors)
        if _is_text(values):
            found = k in like or nameless or (distinct and (len(columns) > 1 or _order(labels, maps) is not None))
        else:
            called = k in like or nameless or _are_numbers_of_maps(labels, maps)
            found = called and distinct and _order(labels, maps) is not None
        if found:
            return labels, table.drop(columns=table.columns[k])
        order = _order(labels, maps) if distinct and maps.known and not _is_text(values) and len(columns) > 1 else None
        if order is not None and order != sorted(order):
            raise InputError(
                f"The first column of a table, {columns[k]!r}, holds the numbers that the maps are called by, in "
                "another order. Call it participant_id if they are labels; if not, put another column first."
            )
        if nameless:  # the numbers of rows that pandas writes
            return None, table.drop(columns=table.columns[k])
        if k in like:
            log.warning(
                "%s holds numbers, which are no labels of the maps (%s): rows go by their order. To match them by "
                "label, call the column participant_id and write what the maps are called.",
                columns[k],
                listed(maps.labels, 3),
            )
    if are_labels(table.index, maps):
        return texts(table.index), table
    return None, table


def _of_visits(name: str) -> bool:
    return re.sub(r"[\W_]", "", name).casefold() in _LIKE_SESSIONS


def _with_visits(table: pd.DataFrame, of_subject: int, maps: MapLabels) -> tuple[list[str] | None, int]:
    """Labels of the visits of subjects, where another column has visits, and ``of_subject`` some more than once.

    Or all maps are of visits: those of a wave are one a subject.

    Returns
    -------
    The labels, None where there are none, and the number of the column of visits.
    """
    subjects = texts(table.iloc[:, of_subject])
    of_waves = bool(maps.labels) and all("_ses-" in label for label in maps.labels)
    if len(set(subjects)) == len(subjects) and not of_waves:
        return None, -1
    for k, name in enumerate(map(str, table.columns)):
        if k == of_subject or not _of_visits(name):
            continue
        visits = [re.sub(r"^ses-", "", visit, flags=re.IGNORECASE) for visit in texts(table.iloc[:, k])]
        labels = [f"{subject}_ses-{visit}" for subject, visit in zip(subjects, visits, strict=True)]
        if len(set(labels)) == len(labels):
            return labels, k
    return None, -1


def _without_visits(table: pd.DataFrame, used: Sequence[int], regressors: bool) -> pd.DataFrame:
    """Drop the columns that made labels; visits that may be a regressor, or are all that is left, stay."""
    *of_subjects, of_visits = used
    rest = [k for k in range(len(table.columns)) if k not in used]
    if not rest or (regressors and not _is_text(table.iloc[:, of_visits])):
        rest = [k for k in range(len(table.columns)) if k not in of_subjects]
    return table.iloc[:, rest]


def texts(values: Any, strip: bool = True) -> list[str]:
    """Labels as texts, without blanks around them, "" where there is none.

    Whole numbers that became floats, as where others lack, are themselves.
    """
    whole = [int(label) if isinstance(label, float) and label.is_integer() else label for label in values]
    found = ["" if pd.api.types.is_scalar(label) and pd.isna(label) else str(label) for label in whole]
    return [label.strip() for label in found] if strip else found


def require_labels(names: Sequence[str], parameter: str, allowed: str, fix: str) -> None:
    """Refuse rows without a label ("") among those that have one.

    Raises
    ------
    InputError
    """
    rows = [str(row) for row, name in enumerate(names) if _lacks(name)]
    if rows:
        received = f"no label in row{'s' if len(rows) > 1 else ''} {listed(rows)} (counted from 0)"
        raise InputError(invalid(parameter, received, allowed, fix))


def _lacks(label: str) -> bool:
    """Whether a label is none, or is of a visit without its subject or its own label."""
    return not label or label.startswith("_ses-") or label.endswith("_ses-")


def _is_text(values: Any) -> bool:
    kind = values.dtype
    return not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind))


def are_labels(index: pd.Index, maps: MapLabels) -> bool:
    """Whether an index has labels of maps: text, what is called so, or numbers that all maps are called by.

    Numbers from 0, in whatever order, are those that pandas gives to rows.
    """
    if _is_text(index) or str(index.name) in LABEL_COLUMNS:
        return True
    return numbers_are_labels(index, maps)


def numbers_are_labels(index: pd.Index, maps: MapLabels) -> bool:
    """Whether all maps are called by these numbers, and they are no numbers of rows."""
    names = texts(index)
    return maps.known and _order(names, maps) is not None and set(names) != set(map(str, range(len(names))))


def _are_numbers_of_maps(labels: Sequence[str], maps: MapLabels) -> bool:
    """Whether numbers, as those of people, can be nothing but labels: far above ranks and numbers of rows."""
    return (
        maps.known
        and len(labels) > 1
        and all(re.fullmatch(r"[1-9]\d*", label) and int(label) > 10 * len(labels) for label in labels)
    )


def require_order(values: Any, covariates: pd.DataFrame, parameter: str) -> None:
    """Refuse columns that the covariates have too, with the same values in another order: that of another table.

    Raises
    ------
    InputError
    """
    columns = [values] if isinstance(values, pd.Series) else []
    if isinstance(values, pd.DataFrame):
        columns = [values.iloc[:, k] for k in range(values.shape[1])]
    for column in columns:
        if str(column.name) not in covariates.columns or len(column) != len(covariates):
            continue
        given, there = texts(column), texts(covariates[str(column.name)])
        if given != there and sorted(given) == sorted(there):
            raise InputError(
                invalid(
                    parameter,
                    f"{str(column.name)!r} in another order than that of the cohort's covariates, by row",
                    "rows in the order of the maps, or with their labels",
                    f"Give {term(f'cohort.covariates[{str(column.name)!r}]')}, or, if this order is meant, an array.",
                )
            )


def _order(names: Sequence[str], maps: MapLabels) -> list[int] | None:
    """Row of each map; None where rows and maps don't match, or in more than one way."""
    own = match_order(names, maps.labels)
    if own is not None:
        return own
    found = {tuple(rows) for labels in maps.candidates() if (rows := match_order(names, labels)) is not None}
    return list(found.pop()) if len(found) == 1 else None


def match_order(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Row of each label, as written or as `plain_label` has it; None where one has none."""
    for form in (str, plain_label):
        row = {form(name): number for number, name in enumerate(names)}
        wanted = [form(label) for label in labels]
        if len(row) == len(names) and len(set(wanted)) == len(wanted) and all(label in row for label in wanted):
            return [row[label] for label in wanted]
    return None


def plain_label(label: str) -> str:
    """A label without "sub-" and "ses-", and without zeros that only fill it up, or make a float of it."""
    subject, visit, session = label.strip().partition("_ses-")
    bare = [re.sub(r"^sub-", "", subject, flags=re.IGNORECASE), *([session] if visit else [])]
    whole = [re.fullmatch(r"(\d{1,18})(\.0)?", one) for one in bare]
    return "_ses-".join(str(int(one[1])) if one else text for one, text in zip(whole, bare, strict=True))


def _unmatched(names: Sequence[str], maps: MapLabels, parameter: str) -> str:
    """Say whose labels are not those of whom."""
    form: Callable[[str], str] = plain_label
    rows = {form(name) for name in names}
    lacking = [label for label in maps.labels if form(label) not in rows]
    named = term("Cohort.from_maps(maps, subjects=...)")
    if not maps.known:
        received = f"rows with labels ({listed(names, 3)}), for maps without"
        fix = f"Drop the labels if the rows are in the order of the maps, or take {named} with them."
        return invalid(parameter, received, "rows without labels, or maps whose files or table name them", fix)
    fix = f"Add the rows, or take {named} with the labels that the table uses."
    if len(lacking) < len(maps.labels):
        fix = "Add the rows, or leave these maps out: name the others alone."
    there = listed(names) or "none"
    return invalid(
        parameter, f"no row for {listed(lacking)}", f"a row for each map, by label (the table has {there})", fix
    )
