"""What is asked of `numbaglm 3dMVM`: the table, the terms of its model, and the tests that they make.

Between subjects factors are coded so that their columns sum to 0, and F have type III sums of squares. What varies
within subjects is tested on orthonormal contrasts of each subject's maps: one is a map a subject; several of one effect
are stacked, each with its own columns and all with one variance, which is the F under sphericity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm.arrays import Doubles
from numbaglm.data.images import weighted_sum
from numbaglm.data.tables import read_lines
from numbaglm.errors import DesignError, InputError, MissingFileError
from numbaglm.faces.afni.run import Asked, Tested
from numbaglm.faces.flags import Given

_SUBJECT, _FILE = "Subj", "InputFile"
Term = tuple[str, ...]


def parse_mvm(given: Given) -> Asked:
    """Check the flags, and put the tests together.

    Raises
    ------
    InputError, MissingFileError, DesignError, OutputExistsError, OutputError
    """
    if "table" not in given:
        raise InputError("-dataTable is needed: Subj, the variables and InputFile; it comes last.")
    table = _table(given.words("table"))
    quantities = [one.strip() for one in given.word("q_vars", "").split(",") if one.strip()]
    within = _within(given.word("ws_vars", ""), table)
    between = _terms(given.word("bs_vars", "1"))
    named = {*quantities, *within, *(name for term in between for name in term)}
    lacking = sorted(named - set(table.columns))
    if lacking:
        raise InputError(f"-dataTable has no column {', '.join(lacking)}. It has {', '.join(table.columns)}.")
    model = _Model.build(table, between, within, quantities, given)
    return Asked.parse(given, [*model.effects(), *model.codes(given)], as_z=False)


def _table(words: Sequence[str]) -> pd.DataFrame:
    """Rows of the table, as words or in a file."""
    if words and words[0].startswith("@"):
        path = Path(words[0][1:]).expanduser()
        if not path.is_file():
            raise MissingFileError(f"-dataTable {words[0]}: there is no such file. Check the path.")
        words = [word for line in read_lines(path, "-dataTable") for word in line.removesuffix("\\").split()]
    if not words or words[0] != _SUBJECT or _FILE not in words:
        raise InputError(f"-dataTable begins with the headings: {_SUBJECT} first, {_FILE} last.")
    width = list(words).index(_FILE) + 1
    if len(words) % width or len(words) == width:
        raise InputError(
            f"-dataTable has {width} headings and {len(words) - width} words after them: rows are not full."
        )
    rows = [words[k : k + width] for k in range(width, len(words), width)]
    return pd.DataFrame(rows, columns=pd.Index(words[:width]))


def _terms(formula: str) -> list[Term]:
    """Terms of a formula: + adds, : is an interaction, * both."""
    found: dict[frozenset[str], Term] = {}
    for part in formula.replace(" ", "").split("+"):
        if part in ("1", ""):
            continue
        factors = [tuple(one.split(":")) for one in part.split("*")]
        if not all(re.fullmatch(r"[A-Za-z.][\w.]*", name) for one in factors for name in one):
            raise InputError(f"{formula!r} can't be read. Allowed: names of columns with +, * and : between them.")
        for size in range(1, len(factors) + 1):
            for some in combinations(factors, size):
                term = tuple(dict.fromkeys(name for one in some for name in one))
                found.setdefault(frozenset(term), term)
    return sorted(found.values(), key=len)


def _within(formula: str, table: pd.DataFrame) -> list[str]:
    names = [one.strip() for one in formula.split("*") if one.strip()]
    if any(not re.fullmatch(r"[A-Za-z.][\w.]*", name) for name in names):
        raise InputError(f"-wsVars {formula!r}: factors within subjects are crossed, a*b. Others: 3dLME.")
    return names


@dataclass(frozen=True, eq=False)
class _Model:
    """Subjects, their maps in each cell of what varies within them, and the design between them.

    Attributes
    ----------
    cells
        Maps by subject and by levels of the factors within.
    levels
        Of each factor.
    between
        Columns of the factors and numbers, a row a subject.
    terms
        Of the model between subjects.
    within, quantities
        Names.
    """

    cells: list[Mapping[Term, str]]
    levels: dict[str, list[str]]
    between: pd.DataFrame
    terms: list[Term]
    within: list[str]
    quantities: list[str]

    @classmethod
    def build(
        cls, table: pd.DataFrame, terms: list[Term], within: list[str], quantities: list[str], given: Given
    ) -> _Model:
        """Sort the rows of the table by subject."""
        names = list(dict.fromkeys(name for term in terms for name in term))
        factors = [name for name in (*within, *names) if name not in quantities]
        levels = {name: sorted(set(table[name])) for name in factors}
        wanted = set(product(*(levels[name] for name in within)))
        cells: list[Mapping[Term, str]] = []
        rows = []
        for subject, own in table.groupby(_SUBJECT, sort=False):
            found = {tuple(row[name] for name in within): row[_FILE] for _, row in own.iterrows()}
            if set(found) != wanted or len(own) != len(wanted):
                raise InputError(
                    f"-dataTable: {subject} has {len(own)} maps for the {len(wanted)} cells of "
                    f"{'*'.join(within) or 'a model without -wsVars'}: one for each is needed. Gaps: 3dLME."
                )
            if any(own[name].nunique() > 1 for name in names):
                raise InputError(
                    f"-dataTable: {subject} has several values of a variable between subjects. Such: 3dLME."
                )
            cells.append(found)
            rows.append(own.iloc[0][names])
        between = pd.DataFrame(rows).reset_index(drop=True)
        alone = sorted(name for name, found in levels.items() if len(found) < 2)
        if alone:
            raise InputError(f"-dataTable: all maps have the same {', '.join(alone)}, which then can't be tested.")
        centers = [one for one in given.word("q_centers", "").split(",") if one.strip()]
        if centers and len(centers) != len(quantities):
            raise InputError(
                f"-qVarCenters has {len(centers)} values for {len(quantities)} of -qVars: give one for each."
            )
        for number, name in enumerate(quantities):
            if name not in names:
                continue
            try:
                values = between[name].astype(float)
                between[name] = values - (float(centers[number]) if centers else values.mean())
            except ValueError:
                raise InputError(f"-dataTable: {name} of -qVars holds what is no number.") from None
        return cls(cells, levels, between, terms, within, quantities)

    def _coding(self, name: str) -> Doubles:
        """(n_levels, n_levels - 1) columns that sum to 0."""
        n = len(self.levels[name])
        return np.vstack([np.eye(n - 1), -np.ones((1, n - 1))])

    def _columns(self, name: str) -> Doubles:
        """(n_subjects, k) of a variable."""
        if name in self.quantities:
            return self.between[[name]].to_numpy(np.float64)
        index = [self.levels[name].index(one) for one in self.between[name]]
        return np.asarray(self._coding(name)[index])

    def design(self) -> tuple[Doubles, dict[Term, slice]]:
        """Design between subjects, a column of ones first, and where the columns of each term are."""
        parts, n = [np.ones((len(self.cells), 1))], 1
        where: dict[Term, slice] = {(): slice(0, 1)}
        for term in self.terms:
            part = reduce(lambda a, b: np.einsum("ij,ik->ijk", a, b).reshape(len(a), -1), map(self._columns, term))
            parts.append(part)
            where[term] = slice(n, n + part.shape[1])
            n += part.shape[1]
        X = np.hstack(parts)
        if len(X) <= n:
            raise DesignError(f"{len(X)} subjects and {n} columns leave nothing to estimate the variance from.")
        return X, where

    def _maps(self, weights: Mapping[Term, float]) -> list[Any]:
        """Each subject's weighted sum of the maps of its cells."""
        used = {cell: weight for cell, weight in weights.items() if weight}
        if list(used.values()) == [1.0]:
            (cell,) = used
            return [found[cell] for found in self.cells]
        return [weighted_sum([(weight, found[cell]) for cell, weight in used.items()]) for found in self.cells]

    def _weights(self, of: Mapping[str, Doubles]) -> dict[Term, float]:
        """Weights of cells: of some factors as given, over the levels of others the mean."""
        each = [of.get(name, np.full(len(self.levels[name]), 1 / len(self.levels[name]))) for name in self.within]
        cells = product(*(self.levels[name] for name in self.within))
        values = [math.prod(one) for one in product(*each)]
        return dict(zip(cells, values, strict=True))

    def effects(self) -> list[Tested]:
        """F of all terms between subjects, within, and of both."""
        X, where = self.design()
        found = []
        for size in range(len(self.within) + 1):
            for some in combinations(self.within, size):
                bases = [_orthonormal(len(self.levels[name])) for name in some]
                chosen = list(product(*(basis.T for basis in bases)))
                images = [self._maps(self._weights(dict(zip(some, one, strict=True)))) for one in chosen]
                d = len(images)
                maps = [image for subject in zip(*images, strict=True) for image in subject]
                matrix = np.asarray(np.kron(X, np.eye(d)), np.float64)
                options: dict[str, Any] = {}
                if d > 1:
                    blocks = np.repeat(np.arange(1, len(X) + 1), d)
                    options = {"exchangeability_blocks": blocks, "block_scheme": "whole"}
                for term, columns in where.items():
                    label = ":".join((*term, *some)) or "(Intercept)"
                    rows = np.asarray(np.kron(np.eye(X.shape[1])[columns], np.eye(d)), np.float64)
                    found.append(Tested("", f"{label} F", maps, matrix, rows, options, is_f=True))
        return found

    def codes(self, given: Given) -> list[Tested]:
        """Tests of weights of levels: each is a combination of a subject's maps, and a row over the design."""
        labels = {words[0]: words[1] for words in given.all("glt_label")}
        codes = {words[0]: " ".join(words[1:]) for words in given.all("glt_code")}
        if set(labels) != set(codes):
            raise InputError("-gltLabel and -gltCode go together, a number each: -gltLabel 1 NAME -gltCode 1 'CODE'.")
        number = given.number("num_glt", float(len(codes)))
        if number != len(codes):
            raise InputError(f"-num_glt says {number:g}, and there are {len(codes)} of -gltCode.")
        X, where = self.design()
        found = []
        for key in sorted(codes, key=lambda word: (len(word), word)):
            of, slopes = self._read(codes[key])
            maps = self._maps(self._weights({name: one for name, one in of.items() if name in self.within}))
            row = np.zeros((1, X.shape[1]))
            for term, columns in where.items():
                row[0, columns] = self._row(term, of, slopes)
            if not row.any():
                raise InputError(f"-gltCode {key} {codes[key]!r} tests nothing that -bsVars has.")
            found.append(Tested(labels[key], f"{labels[key]} t", maps, X, row))
        return found

    def _row(self, term: Term, of: Mapping[str, Doubles], slopes: list[str]) -> Doubles:
        """Weights of a term's columns: factors as given or at their mean, numbers at 0, or their slope."""
        if [name for name in term if name in self.quantities] != slopes:
            return np.zeros(1)
        row: Doubles = np.ones(1)
        for name in term:
            if name in self.quantities:
                continue
            mean = np.full(len(self.levels[name]), 1 / len(self.levels[name]))
            row = np.asarray(np.kron(row, of.get(name, mean) @ self._coding(name)), np.float64)
        others = (name for name in of if name not in term and name not in self.within)
        return np.asarray(row * math.prod(float(of[name].sum()) for name in others))

    def _read(self, code: str) -> tuple[dict[str, Doubles], list[str]]:
        """Weights of levels by factor, and the numbers whose slope is meant."""
        words = code.replace(":", " : ").split()
        starts = [k - 1 for k, word in enumerate(words) if word == ":"]
        of: dict[str, Doubles] = {}
        slopes = []
        if not starts or starts[0] != 0:
            raise InputError(f"-gltCode {code!r} can't be read. Allowed: 'factor : 1*level -1*level number :'.")
        for start, stop in zip(starts, [*starts[1:], len(words)], strict=True):
            name, weights = words[start], words[start + 2 : stop]
            if name in self.quantities and not weights:
                slopes.append(name)
                continue
            if name not in self.levels:
                raise InputError(f"-gltCode {code!r}: {name} is none of {', '.join([*self.levels, *self.quantities])}.")
            of[name] = np.zeros(len(self.levels[name]))
            for weight in weights:
                number, _, level = weight.partition("*")
                if level not in self.levels[name] or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", number):
                    raise InputError(
                        f"-gltCode {code!r}: {weight} is no weight*level of {', '.join(self.levels[name])}."
                    )
                of[name][self.levels[name].index(level)] += float(number)
            if not of[name].any():
                raise InputError(f"-gltCode {code!r}: {name} has no weights that are not 0.")
        return of, slopes


def _orthonormal(n: int) -> Doubles:
    """(n, n - 1) orthonormal columns that sum to 0."""
    return np.asarray(np.linalg.svd(np.eye(n) - 1 / n)[0][:, : n - 1])
