"""One tree of errors under `NumbaglmError`.

Each is also the builtin that it is, so that ``except ValueError`` and ``except FileNotFoundError`` go on
working. Every message says what was wrong, where, what is allowed and what to do.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Self

_HERE = __file__.removesuffix("errors.py")


_OPEN, _CLOSE = "\ue000", "\ue001"  # of Unicode's private use: nobody types them
_TERM = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}")


def term(python: str) -> str:
    """Mark what Python calls by this name, such as ``resample=True`` or ``Cohort.create``: a face has its own word."""
    return f"{_OPEN}{python}{_CLOSE}"


def worded(template: str, word: Callable[[str], str] = str) -> str:
    """Put a face's word for each term that is marked in a text; by default Python's."""
    return _TERM.sub(lambda found: word(found[1]), template)


class Refusal(str):
    """A message that keeps its parts, so that a face can word it anew, in its user's terms.

    Attributes
    ----------
    template
        The message with its terms marked, see `term`.
    parameter, received, allowed, fix
        As in `invalid`: texts, what is allowed and the fix with marked terms; "" where the message is a sentence.
    """

    template: str
    parameter: str
    received: str
    allowed: str
    fix: str

    def __new__(cls, template: str, parameter: str = "", received: str = "", allowed: str = "", fix: str = "") -> Self:
        """Word the message as Python does, and keep the parts."""
        self = super().__new__(cls, worded(template))
        self.template, self.parameter, self.received, self.allowed, self.fix = (
            template,
            parameter,
            received,
            allowed,
            fix,
        )
        return self


class NumbaglmError(Exception):
    """Everything that numbaglm raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(Refusal(one) if isinstance(one, str) and _OPEN in one else one for one in args))

    @property
    def refusal(self) -> Refusal | None:
        """Parameter, what was received, what is allowed and what to do, where a value was refused."""
        return next((one for one in self.args if isinstance(one, Refusal)), None)

    def naming(self, parameter: str) -> Self:
        """Return the same error, of a parameter that the caller knows under another name."""
        told = self.refusal
        if told is None or not told.parameter:
            return self
        return type(self)(compose(parameter, told.received, told.allowed, told.fix))


class InputError(NumbaglmError, ValueError):
    """A parameter has a value that is not allowed."""


class InputTypeError(InputError, TypeError):
    """A parameter is of a type that is not allowed."""


class NotFittedError(InputError, AttributeError):
    """A model is asked for what `fit` makes, before it was called."""


class UnknownNameError(NumbaglmError, KeyError):
    """There is no map, or no null, of that name."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError would quote it


class MissingFileError(NumbaglmError, FileNotFoundError, ValueError):
    """A file that was named does not exist; a ValueError too, as nilearn has it."""


class ImageError(NumbaglmError, ValueError):
    """An image can't be read, or is not what is needed."""


class GridError(ImageError):
    """Two images lie on different grids (shape or affine)."""


class MaskError(NumbaglmError, ValueError):
    """A mask is empty, or leaves no voxel to analyse."""


class DesignError(NumbaglmError, ValueError):
    """A design matrix can't be used."""


class ContrastError(DesignError):
    """A contrast names no column, has the wrong length, or is not estimable."""


class ShufflingError(DesignError):
    """The design or its exchangeability blocks allow no valid test by shuffling."""


class StoreError(NumbaglmError, RuntimeError):
    """A cohort or a run on disk is incomplete, damaged, or of another making."""


class ThreadsError(NumbaglmError, RuntimeError):
    """The system starts no more threads."""


class OutputExistsError(NumbaglmError, FileExistsError):
    """The place to write to is taken."""


class OutputError(NumbaglmError, OSError):
    """Something could not be written (permission, disk full)."""


class MissingExtraError(NumbaglmError, ImportError):
    """An optional package is needed and is not installed."""


class NumbaglmWarning(UserWarning):
    """Something worth knowing that stops nothing."""


class NumbaglmFutureWarning(NumbaglmWarning, FutureWarning):
    """Something that works today is on its way out."""


def warn(message: str, category: type[Warning] = NumbaglmWarning) -> None:
    """Warn, naming the line outside this package that called into it."""
    level = 1
    while sys._getframe(level).f_code.co_filename.startswith(_HERE):
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


def near(name: object, known: Iterable[object]) -> str:
    """Ask whether a name that is close to one that nobody knows was meant: a sentence, "" where none is close."""
    import difflib

    names = [str(one) for one in known]
    folded = {one.casefold(): one for one in names}
    wanted = str(name)[:_LONGEST].casefold()
    found = difflib.get_close_matches(wanted, [one for one in folded if len(one) <= _LONGEST], n=1)
    return f"Did you mean {folded[found[0]]!r}?" if found else ""


def invalid(parameter: str, received: object, allowed: str, fix: str = "") -> Refusal:
    """Compose the message of a refused value.

    Parameters
    ----------
    parameter
        Name of the parameter, as the caller wrote it.
    received
        The value received.
    allowed
        What is allowed, after "Allowed:".
    fix
        What to do about it, a whole sentence. Names that only Python knows are marked with `term` in both.
    """
    shown = repr(received)
    return compose(parameter, shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}...", allowed, fix)


_LONGEST = 300  # letters of a value in a message


def compose(parameter: str, received: str, allowed: str, fix: str) -> Refusal:
    """As `invalid`, of what was received as text."""
    message = f"Invalid value for '{parameter}': got {received}. Allowed: {allowed}."
    return Refusal(f"{message} {fix}" if fix else message, parameter, received, allowed, fix)
