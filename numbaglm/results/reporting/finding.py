"""What may be asked of a result afterwards, and told in its report: intervals, confidence sets, power."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from numbaglm.errors import InputError, InputTypeError, invalid
from numbaglm.spaces.space import Space


class Finding(ABC):
    """An answer with a title, what it promises, what was found, and a picture.

    Attributes
    ----------
    space
        Where the elements lie.
    """

    space: Space

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is of."""

    @property
    @abstractmethod
    def promise(self) -> str:
        """How often it is right, in a sentence."""

    @property
    @abstractmethod
    def found(self) -> str:
        """What was found, in a sentence."""

    @abstractmethod
    def plot(self, *, save: str | os.PathLike[str] | None = None) -> Any:
        """Draw it: a matplotlib figure, and a file of it where one is named."""


def check_findings(given: Any, space: Space) -> list[Finding]:
    """Return findings that a report is to tell, which are of its elements.

    Raises
    ------
    InputTypeError, InputError
        Something else is among them, or they are of other elements.
    """
    listed = list(given) if isinstance(given, Iterable) else [given]
    for one in listed:
        if not isinstance(one, Finding):
            allowed = "what interval, confidence_set and power return, one or several"
            raise InputTypeError(invalid("beyond", f"a {type(one).__name__}", allowed))
        if one.space.n != space.n:
            raise InputError(
                invalid("beyond", f"{one!r}"[:80], f"findings of the {space.n:,} {space.nouns} of the result")
            )
    return listed
