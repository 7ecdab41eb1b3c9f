"""Contrasts as they are written: sums of columns, read by a parser that knows names, numbers, + - * / and no code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import ContrastError, invalid, near

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?(?!\w)")
_QUOTED = re.compile(r"`([^`]*)`|\"([^\"]*)\"|'([^']*)'")
_MOST_SHOWN = 20
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_MOST_LETTERS, _MOST_DEPTH = 10_000, 50  # far beyond what anybody writes, and what a stack can hold


class _NotLinear(Exception):
    """Why an expression is no sum of columns."""


def linear_weights(expression: str, columns: Sequence[str]) -> NDArray[np.float64]:
    """Weights (n_columns,) of an expression such as ``"patient - control"`` or ``"(a + b) / 2 - c"``.

    Parameters
    ----------
    expression
        A column, or sums, differences and multiples of columns. Names are written as they are where they begin with a
        letter and hold no blank and no sign outside of brackets (``visit[b]:group[c]``); all others in backticks or
        quotes.
    columns
        Names of the columns.

    Raises
    ------
    ContrastError
        It can't be read, or is not a sum of columns. Nothing of it is ever run.

    Examples
    --------
    >>> from numbaglm.stats.model.contrasts import linear_weights
    >>> linear_weights("(a + group[b]) / 2 - `c d`", ["a", "group[b]", "c d"])
    array([ 0.5,  0.5, -1. ])
    """
    if expression in columns:
        return _unit(len(columns), list(columns).index(expression))
    try:
        if len(expression) > _MOST_LETTERS:
            raise _NotLinear(f"it has {len(expression):,} letters")
        found = _Parser(expression, list(columns)).read()
        if found[-1]:
            raise _NotLinear(f"it adds the number {found[-1]:g} to the columns")
    except _NotLinear as why:
        shown = expression if len(expression) <= 200 else f"{expression[:200]}..."
        allowed = f"a column, or a linear expression without constants (sums, multiples), over {listed(columns)}"
        end = "" if str(why).endswith("?") else "."
        fix = f"Here {why}{end} Put names that hold blanks or signs into backticks."
        raise ContrastError(invalid("contrast", shown, allowed, fix)) from None
    return found[:-1]


def listed(columns: Sequence[str]) -> str:
    """Columns as messages list them: not 10^5, and none longer than a line."""
    shown = [name if len(name) <= 100 else f"{name[:100]}..." for name in columns[:_MOST_SHOWN]]
    more = len(columns) - len(shown)
    return f"{shown}{f' and {more:,} more' if more else ''}"


@dataclass
class _Parser:
    """Reads from left to right. Values are (n_columns + 1,): the weights, and a number beside them."""

    text: str
    columns: list[str]
    at: int = 0
    depth: int = 0
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        # The longest first: age:group[b] is not age.
        self.names = sorted(filter(_is_bare, self.columns), key=len, reverse=True)

    def read(self) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):  # what is not finite is refused with the weights
            found = self._sum()
        if self._next():
            raise _NotLinear(f"{self.text[self.at :][:20]!r} comes where + - * / or the end would")
        return found

    def _next(self) -> str:
        """Next letter that is no blank, "" at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _sum(self) -> NDArray[np.float64]:
        value = self._product()
        while (sign := self._next()) in ("+", "-") and sign:
            self.at += 1
            other = self._product()
            value = value + other if sign == "+" else value - other
        return value

    def _product(self) -> NDArray[np.float64]:
        value = self._signed()
        while (sign := self._next()) in ("*", "/") and sign:
            self.at += 1
            other = self._signed()
            if sign == "/":
                if other[:-1].any() or not other[-1]:
                    raise _NotLinear("it divides by a column, or by 0")
                value = value / other[-1]
            elif value[:-1].any() and other[:-1].any():
                raise _NotLinear("it multiplies columns with each other")
            else:
                value = value * other[-1] if value[:-1].any() else other * value[-1]
        return value

    def _signed(self) -> NDArray[np.float64]:
        sign = 1.0
        while (letter := self._next()) in ("+", "-") and letter:
            sign = -sign if letter == "-" else sign
            self.at += 1
        value = self._operand()
        return value if sign > 0 else -value + 0.0

    def _operand(self) -> NDArray[np.float64]:
        letter = self._next()
        if letter == "(":
            self.at, self.depth = self.at + 1, self.depth + 1
            if self.depth > _MOST_DEPTH:
                raise _NotLinear("its brackets are too deep")
            value = self._sum()
            if self._next() != ")":
                raise _NotLinear("a bracket is not closed")
            self.at, self.depth = self.at + 1, self.depth - 1
            return value
        if quoted := _QUOTED.match(self.text, self.at):
            self.at = quoted.end()
            return self._column(next(name for name in quoted.groups() if name is not None))
        for name in self.names:
            end = self.at + len(name)
            whole = not (name[-1].isalnum() or name[-1] == "_") or not re.match(r"[\w.:\[(]", self.text[end : end + 1])
            if whole and self.text.startswith(name, self.at):
                self.at = end
                return self._column(name)
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            value = np.zeros(len(self.columns) + 1)
            value[-1] = float(number[0])
            return value
        word = re.match(r"[\w.:]+|.?", self.text[self.at :], re.DOTALL)
        assert word is not None
        raise self._unknown(word[0]) if word[0] else _NotLinear("it ends where a column would come")

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in self.columns:
            raise self._unknown(name)
        return _unit(len(self.columns) + 1, self.columns.index(name))

    def _unknown(self, name: str) -> _NotLinear:
        meant = near(name, self.columns)
        return _NotLinear(f"{name[:40]!r} is no column{'. ' if meant else ''}{meant}")


def _unit(n: int, at: int) -> NDArray[np.float64]:
    value = np.zeros(n)
    value[at] = 1.0
    return value


def _is_bare(name: str) -> bool:
    """Whether a name is told from an expression without quotes: no blank or sign but in brackets, which close."""
    if not re.match(r"[^\W\d]", name):
        return False
    open_ones: list[str] = []
    for letter in name:
        if letter in _BRACKETS:
            open_ones.append(_BRACKETS[letter])
        elif open_ones and letter == open_ones[-1]:
            open_ones.pop()
        elif not open_ones and not re.match(r"[\w.:]", letter):
            return False
    return not open_ones
