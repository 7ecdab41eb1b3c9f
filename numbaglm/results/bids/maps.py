"""Maps of subjects in a BIDS derivatives dataset: folders walked, names picked by their entities, participants joined.

A name is read by a regular expression. pybids would index every file of the dataset into a database first, which
takes minutes where a walk over the folders takes seconds, and brings dependencies of its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import pandas as pd

from numbaglm.data.storage.files import parse_json
from numbaglm.data.tables import read_table
from numbaglm.errors import InputError, MissingFileError, invalid
from numbaglm.results.bids.names import SHORT, Named, same

log = logging.getLogger("numbaglm")

Wanted = Mapping[str, Sequence[str] | None]
Wording = Callable[[str, str | None], str]

_EXTENSIONS = (".nii", ".nii.gz")
# Where no subject's map is, and what may be large.
_SKIPPED = ("code", "derivatives", "figures", "logs", "reports", "sourcedata")
_NONE = "(none)"


def find_maps(derivatives: str | os.PathLike[str], wanted: Wanted, wording: Wording) -> pd.DataFrame:
    """Find the maps of `bids_maps`.

    Parameters
    ----------
    derivatives
        Folder of the dataset.
    wanted
        Entity, short or in full -> labels that are allowed, None for maps without it.
    wording
        (key, label or None) -> how the reader of an error picks that label, or maps without one.
    """
    folder = Path(derivatives).expanduser()
    _check_dataset(folder)
    chosen = _Chosen.parse(wanted, wording)
    named = [one for one in _files(folder, chosen.suffix) if "sub" in one.entities]
    if not named:
        raise MissingFileError(
            f"There is no map of a subject in {folder}: no file is named such as "
            f"sub-01_contrast-a_stat-effect_{chosen.suffix}.nii.gz (volumes alone are read). Check the folder."
        )
    left = chosen.pick(named, folder)
    subjects = sorted({one.entities["sub"] for one in left})
    lost = sorted({one.entities["sub"] for one in named} - set(subjects))
    if lost and "sub" not in chosen.labels:
        log.warning(
            "%d of %d subjects have no such map, and are left out: %s.",
            len(lost),
            len(lost) + len(subjects),
            _listed(f"sub-{label}" for label in lost),
        )
    path = {one.entities["sub"]: Path(os.path.abspath(folder)) / one.path for one in left}  # noqa: PTH100
    empty = [str(one) for one in path.values() if not one.exists()]
    if empty:
        raise MissingFileError(
            f"{len(empty)} of {len(path)} maps are links to files that are not here: {_listed(empty, 3)}. Get them "
            "first, such as with 'datalad get'."
        )
    maps = pd.DataFrame(
        {
            "subject_label": [f"sub-{label}" for label in subjects],
            "effects_map_path": [str(path[label]) for label in subjects],
        }
    )
    return _with_participants(maps, folder)


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What is picked: labels by the key in a name, and how to speak of it."""

    suffix: str
    labels: dict[str, Sequence[str] | None]
    wording: Wording

    @classmethod
    def parse(cls, wanted: Wanted, wording: Wording) -> _Chosen:
        labels = {SHORT.get(key, key): several for key, several in wanted.items()}
        suffixes = labels.pop("suffix", None) or ["statmap"]
        if len(suffixes) > 1:
            raise InputError(invalid("suffix", list(suffixes), "one suffix, such as statmap"))
        if suffixes[0] == "statmap":
            labels.setdefault("stat", ["effect"])
        return cls(suffixes[0], labels, wording)

    def pick(self, named: list[Named], folder: Path) -> list[Named]:
        """Maps with these labels: one a subject, all alike in what was not picked."""
        left = named
        for key, several in self.labels.items():
            had = left
            left = [one for one in left if self._allows(key, several, one.entities.get(key))]
            if not left:
                raise InputError(
                    f"There is no map {_told(key, several)} in {folder}{self._others(key)}. "
                    f"Of {key} there is {_listed(_labels_of(key, had))}."
                )
        varying = {key for key in self._keys(left) if len(_labels_of(key, left)) > 1}
        open_keys = sorted(key for key in varying if len(self.labels.get(key) or ()) < 2)
        if open_keys:
            found = "; ".join(f"{key}: {_listed(_labels_of(key, left))}" for key in open_keys)
            fix = " ".join(self.wording(key, left[0].entities.get(key)) for key in open_keys)
            raise InputError(
                f"{len(left)} maps of {len(_labels_of('sub', left))} subjects are left in {folder}, which differ in "
                f"{found}. One map a subject is needed, all alike: pick one of each, such as {fix}."
            )
        self._check_single(left)
        return left

    def _allows(self, key: str, several: Sequence[str] | None, label: str | None) -> bool:
        if several is None or label is None:
            return several is None and label is None
        return any(same(key, label, one) for one in several)

    def _others(self, key: str) -> str:
        """The other entities that were picked before ``key``, in words."""
        before = list(self.labels)[: list(self.labels).index(key)]
        told = [_told(one, self.labels[one]) for one in before]
        return f" among those {' and '.join(told)}" if told else ""

    @staticmethod
    def _keys(left: list[Named]) -> set[str]:
        return {key for one in left for key in one.entities} - {"sub"}

    @staticmethod
    def _check_single(left: list[Named]) -> None:
        first: dict[str, PurePath] = {}
        for one in left:
            other = first.setdefault(one.entities["sub"], one.path)
            if other != one.path:
                raise InputError(
                    f"sub-{one.entities['sub']} has more than one map: {other} and {one.path}. Pick fewer labels, or "
                    "move one of the files away."
                )


def _told(key: str, several: Sequence[str] | None) -> str:
    return f"without {key}" if several is None else f"with {key} {' or '.join(several)}"


def _labels_of(key: str, named: Sequence[Named]) -> list[str]:
    labels = {one.entities.get(key) for one in named}
    return sorted(label for label in labels if label) + [_NONE] * (None in labels)


def _listed(labels: Iterator[str] | Sequence[str], most: int = 8) -> str:
    several = list(labels)
    more = f" and {len(several) - most} more" if len(several) > most else ""
    return ", ".join(several[:most]) + more


def _check_dataset(folder: Path) -> None:
    """Refuse what is no derivatives dataset.

    Raises
    ------
    MissingFileError, InputError
    """
    if not folder.is_dir():
        raise MissingFileError(f"The BIDS dataset {folder} does not exist, or is no folder. Check the path.")
    description = folder / "dataset_description.json"
    within = sorted(place.parent for place in folder.glob("*/dataset_description.json"))
    if not description.is_file():
        if within:
            raise InputError(
                f"{folder} is no dataset, but holds some. Name one of them: {_listed([str(one) for one in within])}."
            )
        log.warning(
            "%s has no dataset_description.json, which a BIDS dataset needs; its names are read all the same.", folder
        )
        return
    try:
        told = parse_json(description.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{description} can't be read ({error}). It needs to be a JSON file.") from error
    kind = told.get("DatasetType") if isinstance(told, dict) else None
    if kind == "raw":
        derived = sorted(place.parent for place in folder.glob("derivatives/*/dataset_description.json"))
        there = f" There is {_listed([str(place) for place in derived])}." if derived else ""
        raise InputError(
            f"{folder} is a raw BIDS dataset (DatasetType in its dataset_description.json). Name the derivatives that "
            f"hold the maps.{there}"
        )
    if kind is None and not (isinstance(told, dict) and {"GeneratedBy", "PipelineDescription"} & told.keys()):
        log.warning('%s does not say "DatasetType": "derivative"; its names are read all the same.', description)


def _files(folder: Path, suffix: str) -> Iterator[Named]:
    """Files with a suffix, links followed; tells of those whose names are not understood."""
    odd = []
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _SKIPPED and os.path.realpath(Path(place) / name) not in seen
        )
        for name in sorted(names):
            if not name.endswith(tuple(f"_{suffix}{extension}" for extension in _EXTENSIONS)):
                continue
            named = Named.parse(PurePath(place).relative_to(folder) / name)
            if named is None:
                odd.append(name)
            else:
                yield named
    if odd:
        log.warning("%d files are left out, whose names are not BIDS's: %s.", len(odd), _listed(odd))


def _with_participants(maps: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add the columns of participants.tsv, of the dataset or of the raw one above its derivatives."""
    above = Path(os.path.abspath(folder)).parent  # noqa: PTH100 - resolve() follows links
    places = [folder, *([above.parent] if above.name == "derivatives" else [])]
    found = next((place / "participants.tsv" for place in places if (place / "participants.tsv").is_file()), None)
    if found is None:
        log.info("There is no participants.tsv in %s: no covariates.", " or ".join(str(place) for place in places))
        return maps
    table = read_table(found, "participants.tsv")
    if "participant_id" not in table:
        raise InputError(f"{found} has no column participant_id. BIDS asks for one: correct the table.")
    labels = [f"sub-{str(label).removeprefix('sub-')}" for label in table["participant_id"]]
    table = table.drop(columns="participant_id").set_axis(pd.Index(labels))
    if table.index.has_duplicates:
        twice = sorted(set(table.index[table.index.duplicated()]))
        raise InputError(f"{found} has {_listed(twice)} in more than one row. Correct the table.")
    lacking = [label for label in maps["subject_label"] if label not in table.index]
    if lacking:
        log.warning("%s has no row for %s: no covariates there.", found, _listed(lacking))
    rows = table.reindex(maps["subject_label"]).reset_index(drop=True)
    return pd.concat([maps, rows], axis=1)
