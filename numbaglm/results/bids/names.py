"""Names of files after BIDS: entities read from them, and labels and statistics written into them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from numbaglm.errors import ContrastError

_PAIR = re.compile(r"([a-zA-Z]+)-(.+)")

SHORT = {
    "acquisition": "acq",
    "density": "den",
    "description": "desc",
    "direction": "dir",
    "hemisphere": "hemi",
    "reconstruction": "rec",
    "resolution": "res",
    "session": "ses",
    "subject": "sub",
}
"""Names of entities that people write out, and what stands in a file's name."""

_NUMBERED = ("run", "echo", "flip", "inv", "split")  # of which 1 and 01 are the same
_SIGNS = {"-": "Minus", "\u2212": "Minus", "+": "Plus", ">": "Gt", "<": "Lt", "*": "Times", "/": "Over"}
INHERITED = ("task", "acq", "dir", "hemi", "space", "res", "den")
"""What the results of a group may share with the maps that went in, in the order of BIDS."""

LABEL = r"[0-9a-zA-Z+]+"
"""What a label is made of."""


@dataclass(frozen=True)
class Named:
    """What the name of a file tells, and those of the folders it is in.

    Attributes
    ----------
    path
        Relative to the dataset.
    entities
        Key in the name -> label: {"sub": "01", "task": "rest"}.
    suffix, extension
        What comes after the entities: "statmap", ".nii.gz".
    """

    path: PurePath
    entities: Mapping[str, str]
    suffix: str
    extension: str

    @classmethod
    def parse(cls, path: PurePath) -> Named | None:
        """Read a name; None if it is not made of entities and a suffix."""
        stem, dot, extension = path.name.partition(".")
        *pairs, suffix = stem.split("_")
        entities: dict[str, str] = {}
        for part in path.parts[:-1]:
            found = [_PAIR.fullmatch(pair) for pair in part.split("_")]
            entities |= {pair[1]: pair[2] for pair in found if pair}
        for text in pairs:
            pair = _PAIR.fullmatch(text)
            if pair is None:
                return None
            entities[pair[1]] = pair[2]
        return cls(path, entities, suffix, f"{dot}{extension}")


def same(key: str, label: str, wanted: str) -> bool:
    """Whether a label is the one that is wanted: "sub-01" is 01, and run 1 is run 01."""
    wanted = wanted.removeprefix(f"{key}-")
    if key in _NUMBERED and label.isdecimal() and wanted.isdecimal():
        return int(label) == int(wanted)
    return label == wanted


def shared_entities(sources: Iterable[str | None]) -> dict[str, str]:
    """Entities that all files have in common, and that results may take on; empty where one has none."""
    shared: dict[str, str] | None = None
    for source in sources:
        named = Named.parse(PurePath(Path(source).name)) if source else None
        own = dict(named.entities) if named else {}
        shared = own if shared is None else {key: label for key, label in shared.items() if own.get(key) == label}
        if not shared:
            return {}
    allowed = (*INHERITED, "contrast", "stat")
    return {key: label for key, label in (shared or {}).items() if key in allowed and re.fullmatch(LABEL, label)}


def label_of(name: str) -> str:
    """A label of letters and digits: "patient - control" becomes patientMinusControl.

    Raises
    ------
    ContrastError
        Nothing of the name is left, or too much.
    """
    text = unicodedata.normalize("NFKD", "".join(f" {_SIGNS[sign]} " if sign in _SIGNS else sign for sign in name))
    # Letters that ASCII has not are dropped, and don't part a word.
    plain = "".join(sign for sign in text if sign.isascii() or not (sign.isalnum() or unicodedata.combining(sign)))
    words: list[str] = re.findall(r"[0-9a-zA-Z]+", plain)
    if not words:
        raise ContrastError(f"The contrast {name!r} holds no letter and no digit for a BIDS label. Name it otherwise.")
    label = words[0] + "".join(word[0].upper() + word[1:] for word in words[1:])
    if len(label) > _LONGEST:
        raise ContrastError(
            f"The contrast {name[:_LONGEST]!r}... makes a BIDS label of {len(label):,} letters, for which names of "
            f"files have no room. Allowed: up to {_LONGEST}. Name it otherwise."
        )
    return label


_LONGEST = 100  # with entities beside it a name holds 255 bytes


def labels_of(names: Sequence[str]) -> dict[str, str]:
    """Labels of several contrasts, which files must tell apart whatever their case.

    Raises
    ------
    ContrastError
        Two have the same label, or one has none.
    """
    labels: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        label = label_of(name)
        other = taken.setdefault(label.lower(), name)
        if other != name:
            raise ContrastError(
                f"The contrasts {other!r} and {name!r} have the same BIDS label {label!r}, which holds letters and "
                "digits alone. Name one of them otherwise."
            )
        labels[name] = label
    return labels


def stem_of(entities: Mapping[str, str], **own: str) -> str:
    """Start of a file's name: entities inherited from the input, then ``own``, those that are not empty."""
    pairs = {key: entities[key] for key in INHERITED if key in entities} | own
    return "_".join(f"{key}-{label}" for key, label in pairs.items() if label)
