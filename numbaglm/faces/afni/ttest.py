"""What is asked of `numbaglm 3dttest++`: sets of maps, covariates, and the tests that they make."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.data.images import bricks_of, weighted_sum
from numbaglm.data.images.formats.afni import find_data_set
from numbaglm.data.tables import read_lines
from numbaglm.errors import DesignError, InputError, MissingFileError
from numbaglm.faces.afni.run import Asked, Tested
from numbaglm.faces.flags import Given

_LONGEST = 12  # letters of a label
_CENTERS = ("NONE", "DIFF", "SAME")
_MEANS: dict[str, Callable[..., Any]] = {"MEAN": np.mean, "MEDIAN": np.median}
_FEW = 5  # values of -zskip


@dataclass(frozen=True, eq=False)
class MapSet:
    """A set of maps.

    Attributes
    ----------
    name
        Of the set.
    labels, maps
        Of each map, and what is read.
    covariates
        (n, n_covariates).
    """

    name: str
    labels: tuple[str, ...]
    maps: tuple[str, ...]
    covariates: Doubles


def parse_ttest(given: Given) -> Asked:
    """Check the flags, and put the tests together.

    Raises
    ------
    InputError, MissingFileError, DesignError, OutputExistsError, OutputError
    """
    if "set_a" not in given:
        raise InputError("-setA is needed: the maps.")
    paired, unpooled, two = "paired" in given, "unpooled" in given, "set_b" in given
    center, meth = given.word("center", "DIFF").upper(), given.word("cmeth", "MEAN").upper()
    refusals = (
        (paired and not two, "-paired needs -setB"),
        (unpooled and (paired or not two), "-unpooled needs -setB, and does not go with -paired"),
        (unpooled and "covariates" in given, "-unpooled does not go with -covariates"),
        ("zskip" in given and ("covariates" in given or two), "-zskip goes with one set, without -covariates"),
        ("nomeans" in given and "notests" in given, "-nomeans and -notests leave nothing to write"),
        (center not in _CENTERS, f"-center {center}: {', '.join(_CENTERS)}"),
        (center == "SAME" and not two, "-center SAME needs -setB"),
        (meth not in _MEANS, f"-cmeth {meth}: {', '.join(_MEANS)}"),
        (len(given.all("set_a")) > 1 or len(given.all("set_b")) > 1, "-setA and -setB are typed once each"),
    )
    for refused, why in refusals:
        if refused:
            raise InputError(f"{why}.")
    names, table = _covariates(given.word("covariates")) if "covariates" in given else ([], {})
    first = _set(given, "a", "SetA", names, table)
    sets = [first]
    if two:
        second = _set(given, "b", "SetB", names, table)
        if paired:
            if len(second.maps) != len(first.maps):
                raise InputError(f"-paired: there are {len(first.maps)} maps in -setA and {len(second.maps)} in -setB.")
            second = MapSet(second.name, second.labels, second.maps, first.covariates)
        sets.append(second)
    mean = _MEANS[meth]
    if center == "SAME":
        middle = mean(np.vstack([one.covariates for one in sets]), axis=0)
        sets = [MapSet(one.name, one.labels, one.maps, one.covariates - middle) for one in sets]
    elif center == "DIFF":
        sets = [MapSet(one.name, one.labels, one.maps, one.covariates - mean(one.covariates, axis=0)) for one in sets]
    as_z = "toz" in given or unpooled or "zskip" in given or "clustsim" in given
    sign = -1.0 if given.last_of("a_minus_b", "b_minus_a") == "b_minus_a" else 1.0
    tests: list[Tested] = []
    label = _Labels("Zscr" if as_z else "Tstat", "nomeans" not in given, "notests" not in given)
    if two:
        tests += _two(sets, names, label, sign, paired, unpooled)
    if not two or "no1sam" not in given:
        for one in sets:
            tests += _one(one, names, label, _zskip(given, len(one.maps)))
    return Asked.parse(given, tests, as_z)


@dataclass(frozen=True)
class _Labels:
    """How volumes are called, and which are written."""

    statistic: str
    effects: bool
    tests: bool

    def of(self, name: str, covariate: str = "") -> tuple[str, str]:
        """Labels of effect and statistic."""
        effect = f"{name}_{covariate or 'mean'}" if self.effects else ""
        test = f"{name}_{covariate}_{self.statistic}" if covariate else f"{name}_{self.statistic}"
        return effect, test if self.tests else ""


def _two(
    sets: Sequence[MapSet], names: Sequence[str], label: _Labels, sign: float, paired: bool, unpooled: bool
) -> list[Tested]:
    """Tests of the difference, and of that of slopes."""
    a, b = sets
    name = f"{a.name}-{b.name}" if sign > 0 else f"{b.name}-{a.name}"
    n_a, n_b, k = len(a.maps), len(b.maps), len(names)
    if paired:
        maps: list[Any] = [weighted_sum([(sign, x), (-sign, y)]) for x, y in zip(a.maps, b.maps, strict=True)]
        return _tests(maps, np.column_stack([np.ones(n_a), a.covariates]), np.eye(1 + k), name, names, label, {})
    of_a, of_b = np.repeat([1.0, 0.0], [n_a, n_b]), np.repeat([0.0, 1.0], [n_a, n_b])
    values = np.vstack([a.covariates, b.covariates])
    X = np.column_stack([of_a, values * of_a[:, None], of_b, values * of_b[:, None]])
    rows = sign * np.hstack([np.eye(1 + k), -np.eye(1 + k)])
    options = {"variance_groups": np.repeat([1, 2], [n_a, n_b])} if unpooled else {}
    return _tests([*a.maps, *b.maps], X, rows, name, names, label, options)


def _one(one: MapSet, names: Sequence[str], label: _Labels, zskip: dict[str, Any]) -> list[Tested]:
    """Tests of a set by itself."""
    X = np.column_stack([np.ones(len(one.maps)), one.covariates])
    options = {"missing": "element"} if zskip else {}
    return _tests(list(one.maps), X, np.eye(X.shape[1]), one.name, names, label, options, zskip)


def _tests(
    maps: list[Any],
    X: Doubles,
    rows: Doubles,
    name: str,
    names: Sequence[str],
    label: _Labels,
    options: dict[str, Any],
    choices: dict[str, Any] | None = None,
) -> list[Tested]:
    if len(X) <= X.shape[1]:
        raise DesignError(
            f"{name}: {len(X)} maps and {X.shape[1]} columns leave nothing to estimate the variance from."
        )
    return [
        Tested(*label.of(name, covariate), maps, X, row[None], options, choices or {})
        for covariate, row in zip(("", *names), rows, strict=True)
    ]


def _zskip(given: Given, n: int) -> dict[str, Any]:
    """How `Cohort.from_maps` leaves zeros out."""
    if "zskip" not in given:
        return {}
    word = given.word("zskip", str(_FEW))
    try:
        value = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if word.endswith("%") or "." in word:
        value = np.ceil(value * n)
    if not 2 <= value <= n:
        raise InputError(f"-zskip {word}: a number from 2 to {n}, the maps of the set, or a share of them, is allowed.")
    return {"zero_is_missing": True, "min_subjects": int(value)}


def _set(given: Given, which: str, otherwise: str, names: Sequence[str], table: dict[str, list[float]]) -> MapSet:
    """Read a set, in its short form (maps) or its long one (a name, and pairs of label and map)."""
    words, flag = list(given.words(f"set_{which}")), f"-set{which.upper()}"
    short = bool(_files(words[0]))
    name = given.word(f"label_{which}", otherwise)
    if short:
        maps = [brick for word in words for brick in _bricks(word, flag)]
        labels = [_prefix(one) for one in maps]
    else:
        name, rest = words[0], words[1:]
        if not rest or len(rest) % 2:
            raise MissingFileError(
                f"{flag} {words[0]}: there is no such data set, and as the name of a set it needs pairs of a label and "
                f"a data set after it, which {len(rest)} words are not."
            )
        labels = rest[::2]
        maps = [brick for word in rest[1::2] for brick in _bricks(word, flag)]
        if len(maps) != len(labels):
            raise InputError(f"{flag}: each label goes with one sub-brick. Pick one of each data set: file+tlrc[1].")
    if len(maps) < 2:
        raise InputError(f"{flag} has {len(maps)} map: 2 or more are needed.")
    return MapSet(name, tuple(labels), tuple(maps), _values(labels, names, table))


def _files(word: str) -> list[str]:
    """Data sets that a word names, wildcards filled in."""
    if find_data_set(word) is not None:
        return [word]
    name, selector = re.fullmatch(r"(.+?)(\[[^\[\]]*\])?", word, re.DOTALL).groups()  # type: ignore[union-attr]
    if not any(sign in name for sign in "*?"):
        return []
    found = sorted(glob.glob(os.path.expanduser(name)))  # noqa: PTH111, PTH207
    return [f"{one}{selector or ''}" for one in found if not one.endswith((".BRIK", ".BRIK.gz"))]


def _bricks(word: str, flag: str) -> list[str]:
    files = _files(word)
    if not files:
        raise MissingFileError(f"{flag} {word}: there is no such data set. Check the path.")
    return [brick for file in files for brick in bricks_of(file)]


def _prefix(name: str) -> str:
    """A data set's own label: its file, without view, ending and selector."""
    plain = re.sub(r"\[[^\[\]]*\]$", "", Path(name).name)
    return re.sub(r"(\+(orig|acpc|tlrc))?\.?(HEAD|BRIK(\.gz)?|nii(\.gz)?)?$", "", plain)


def _values(labels: Sequence[str], names: Sequence[str], table: dict[str, list[float]]) -> Doubles:
    rows = []
    for label in labels if names else ():
        found = table.get(label, table.get(label[:_LONGEST]))
        if found is None:
            raise InputError(f"-covariates has no row of {label}. It has rows of {', '.join(list(table)[:5])}.")
        rows.append(found)
    return np.array(rows, np.float64).reshape(len(labels), len(names))


def _covariates(word: str) -> tuple[list[str], dict[str, list[float]]]:
    """Names of covariates, and values by label; columns as a selector picks them."""
    found = re.fullmatch(r"(.+?)(?:\[([^\[\]]*)\])?", word)
    path = Path(word if found is None else found[1]).expanduser()
    if not path.is_file():
        raise MissingFileError(f"-covariates {word} does not exist. Check the path.")
    lines = [line.split() for line in read_lines(path, "-covariates")]
    head, rows = lines[0] if lines else [], lines[1:]
    odd = next((row for row in rows if len(row) != len(head)), None)
    if len(head) < 2 or not rows or odd is not None:
        raise InputError(f"-covariates {path}: {len(head)} headings, a row of {len(odd or [])} words. Fill it.")
    columns = list(range(len(head)))
    if found is not None and found[2] is not None:
        columns = [k for part in found[2].split(",") for k in _span(part, len(head), word)]
        if not columns or columns[0] != 0 or len(columns) < 2:
            raise InputError(f"-covariates {word}: column 0, the labels, comes first, and one more at least.")
    table: dict[str, list[float]] = {}
    for row in rows:
        try:
            table[row[0]] = [float(row[k]) for k in columns[1:]]
        except ValueError:
            raise InputError(
                f"-covariates {path}: the row of {row[0]} holds what is no number. Maps as covariates: "
                "numbaglm permute --regressor; groups: numbers, or -setB."
            ) from None
    return [head[k] for k in columns[1:]], table


def _span(part: str, n: int, word: str) -> list[int]:
    found = re.fullmatch(r"\s*(\d+)(?:\.\.(\d+|\$))?\s*", part)
    last = None if found is None else found[2]
    if found is None or int(found[1]) >= n or (last not in (None, "$") and int(last) >= n):
        raise InputError(f"-covariates {word}: the columns are 0 to {n - 1}.")
    return list(range(int(found[1]), (int(found[1]) if last is None else n - 1 if last == "$" else int(last)) + 1))
