"""FreeSurfer's text files: group descriptors (FSGD) and matrices (.mtx)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.data.storage.files import require_regular
from numbaglm.data.tables import listed, repeated
from numbaglm.data.text_matrix import finite_numbers
from numbaglm.errors import InputError, MissingFileError

METHODS = ("dods", "doss")
"""How a descriptor becomes a design: slopes that differ between classes, or the same slope in all."""


@dataclass(frozen=True, eq=False)
class GroupDescriptor:
    """Who is in which class, with which values: a FreeSurfer Group Descriptor file.

    Attributes
    ----------
    path
        Where it was read.
    classes, variables
        Names, in the order of the file.
    inputs
        (n,) names of the subjects.
    of_class
        (n,) number of each one's class.
    values
        (n, n_variables).
    method
        "dods" or "doss", as the file says; "dods" where it says nothing.
    demean, rescale
        Whether the mean of each variable over all subjects is taken off, and its standard deviation divided by.
    contrasts
        Name -> (n_rows, n_columns), where the file has any.
    lines
        As they were read, without comments.
    """

    path: Path
    classes: tuple[str, ...]
    variables: tuple[str, ...]
    inputs: tuple[str, ...]
    of_class: tuple[int, ...]
    values: Doubles
    method: str = "dods"
    demean: bool = False
    rescale: bool = False
    contrasts: Mapping[str, Doubles] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def design(self, method: str | None = None) -> tuple[Doubles, tuple[str, ...]]:
        """Make the design matrix.

        Parameters
        ----------
        method
            "dods": a column a class, then for each variable a column a class; "doss": a column a class, then a column
            a variable. By default what the file says.

        Returns
        -------
        (n, n_columns), and a name for each column: "class", "class:variable" or "variable".
        """
        method = method or self.method
        offsets = np.eye(len(self.classes))[list(self.of_class)]
        values = self.values - self.values.mean(axis=0) if self.demean else self.values
        if self.rescale and len(self.variables):
            spread = self.values.std(axis=0)
            values = values / np.where(spread > 0, spread, 1.0)
        if method == "doss":
            return np.hstack([offsets, values]), (*self.classes, *self.variables)
        slopes = [offsets * column[:, None] for column in values.T]
        names = [f"{one}:{variable}" for variable in self.variables for one in self.classes]
        return np.hstack([offsets, *slopes]), (*self.classes, *names)


def read_descriptor(path: str, *, repeats: bool = False) -> GroupDescriptor:
    """Read a group descriptor, version 1.

    Tags may be written in capitals or not, labels are taken as they are; lines that begin with # and tags that are not
    known are passed over.

    Parameters
    ----------
    path
        The file.
    repeats
        Whether a subject may stand there more than once.

    Raises
    ------
    MissingFileError, InputError
        There is no such file, or it is not what it should be; the message names file and line.
    """
    place, lines = _lines(path)
    found = _Tags(place)
    kept: list[str] = []
    for number, text in lines:
        tag, *words = text.split()
        if not kept and tag.lower() != "groupdescriptorfile":
            raise InputError(f"{place} begins with {tag!r}. A group descriptor begins with: GroupDescriptorFile 1.")
        found.take(number, tag.lower(), words)
        kept.append(text)
    if not kept:
        raise InputError(f"{place} is empty. A group descriptor begins with: GroupDescriptorFile 1.")
    return found.descriptor(tuple(kept), repeats)


class _Tags:
    """What the lines of a descriptor say."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.classes: list[str] = []
        self.variables: list[str] | None = None
        self.inputs: list[tuple[int, str, str, list[float]]] = []
        self.flags = {"demeanflag": 0, "rescaleflag": 0}
        self.method = "dods"
        self.contrasts: dict[str, Doubles] = {}
        self.joined: list[tuple[int, str, list[str]]] = []

    def take(self, number: int, tag: str, words: list[str]) -> None:
        """Take a line."""
        where = f"{self.place}, line {number}"
        if tag == "groupdescriptorfile" and words != ["1"]:
            raise InputError(f"{where}: version {' '.join(words) or 'none'}. Allowed: GroupDescriptorFile 1.")
        if tag == "class":
            if not words:
                raise InputError(f"{where}: a class needs a name.")
            self.classes.append(words[0])
        elif tag in ("variables", "variable"):
            if self.variables is not None:
                raise InputError(f"{where}: Variables are there twice. Name all on one line.")
            self.variables = words
        elif tag == "input":
            self._input(where, number, words)
        elif tag in METHODS:
            self.method = tag
        elif tag in self.flags:
            self.flags[tag] = int(finite_numbers(words[:1], where)[0]) if words else 1
        elif tag == "contrast" and words:
            self.contrasts[words[0]] = np.array([finite_numbers(words[1:], where)])
        elif tag == "fcontrast" and words:
            self.joined.append((number, words[0], words[1:]))
        elif tag in ("variablefromfile", "variablefromaseg"):
            raise InputError(f"{where}: {tag} is not read. Write the values into the Input lines, or give --X.")

    def _input(self, where: str, number: int, words: list[str]) -> None:
        names = self.variables or []
        if len(words) < 2 or words[1] not in self.classes:
            received = f"the class {words[1]!r}" if len(words) > 1 else "no class"
            raise InputError(f"{where}: {received}. Allowed: one of the classes above: {listed(self.classes)}.")
        if len(words) - 2 != len(names):
            raise InputError(f"{where}: {words[0]} has {len(words) - 2} values, and there are {len(names)} variables.")
        self.inputs.append((number, words[0], words[1], finite_numbers(words[2:], where)))

    def descriptor(self, lines: tuple[str, ...], repeats: bool) -> GroupDescriptor:
        """Put it together, and check it as a whole."""
        labels = [label for _, label, _, _ in self.inputs]
        for what, names in (("class", self.classes), ("variable", self.variables or [])):
            if twice := repeated(names):
                raise InputError(f"{self.place}: the {what} {listed(twice)} is there twice.")
        if not repeats and (twice := repeated(labels)):
            raise InputError(f"{self.place}: the subject {listed(twice)} is there twice. --allowsubjrep lets it.")
        used = {label for _, _, label, _ in self.inputs}
        if not self.inputs or (unused := [one for one in self.classes if one not in used]):
            raise InputError(
                f"{self.place}: {f'nobody is in the class {listed(unused)}' if self.inputs else 'no Input'}."
            )
        for number, name, parts in self.joined:
            lacking = [one for one in parts if one not in self.contrasts]
            if lacking or not parts:
                raise InputError(f"{self.place}, line {number}: there is no contrast {listed(lacking)} above {name}.")
            self.contrasts[name] = np.vstack([self.contrasts[one] for one in parts])
        return GroupDescriptor(
            self.place,
            tuple(self.classes),
            tuple(self.variables or ()),
            tuple(labels),
            tuple(self.classes.index(one) for _, _, one, _ in self.inputs),
            np.array([values for *_, values in self.inputs], np.float64).reshape(len(labels), -1),
            self.method,
            bool(self.flags["demeanflag"]),
            bool(self.flags["rescaleflag"]),
            self.contrasts,
            lines,
        )


def read_matrix(path: str) -> Doubles:
    """Read a matrix as text, a row a line; what follows a # is passed over. (n_rows, n_columns).

    Raises
    ------
    MissingFileError, InputError
    """
    place, lines = _lines(path)
    rows = [finite_numbers(text.split(), f"{place}, line {number}") for number, text in lines]
    if not rows or len({len(row) for row in rows}) > 1:
        what = "no number" if not rows else f"rows of {listed(sorted({str(len(row)) for row in rows}))} numbers"
        raise InputError(f"{place} holds {what}. Allowed: a matrix as text, as many numbers in each line.")
    return np.array(rows)


def matrix_text(matrix: Doubles) -> str:
    """Write a matrix as FreeSurfer does, a row a line."""
    return "".join(" ".join(f"{value:.10g}" for value in row) + "\n" for row in np.atleast_2d(matrix))


def _lines(path: str) -> tuple[Path, list[tuple[int, str]]]:
    """Lines that hold something, by number, without comments."""
    place = Path(path).expanduser()
    try:
        require_regular(place)
        text = place.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist. Check the path.") from None
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}). Allowed: a text file.") from error
    if b"\0" in text:
        raise InputError(f"{path} is no text. Allowed: a text file (of MATLAB: save('X.txt', 'X', '-ascii')).")
    return place, list(_told(text.decode("utf-8-sig", "replace")))


def _told(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        told = line.split("#")[0].strip()
        if told:
            yield number, told
