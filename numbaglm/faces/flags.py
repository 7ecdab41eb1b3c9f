"""Command lines of other packages: flags that take as many words as follow them, each known or refused by its name.

Click's options take a fixed number of values; FreeSurfer's and AFNI's take what comes before the next flag.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

_IS_FLAG = re.compile(r"--?[A-Za-z0-9]*[A-Za-z]")  # -1 and -.5 are numbers
_HELP = ("--help", "-help", "-h")


@dataclass(frozen=True)
class Flag:
    """A flag of another package's command.

    Attributes
    ----------
    name
        As it is typed.
    field
        What the code calls it.
    help
        What it does.
    least, most
        How many words follow it; `math.inf` takes all before the next flag.
    metavar
        What they are called in the help.
    others
        Other spellings.
    refusal
        Why it is not supported, and what to do instead; "" where it is.
    takes_rest
        Whether all that follows belongs to it, but for the switches that all commands have.
    """

    name: str
    field: str
    help: str = ""
    least: int = 0
    most: float = 0
    metavar: str = ""
    others: tuple[str, ...] = ()
    refusal: str = ""
    takes_rest: bool = False

    @classmethod
    def refused(cls, name: str, why: str, *others: str) -> Flag:
        """Make a flag that is refused by its name."""
        return cls(name, f"refused_{re.sub(r'[^a-zA-Z0-9]', '_', name).strip('_')}", others=others, refusal=why)


@dataclass(frozen=True)
class Given:
    """What was typed.

    Attributes
    ----------
    typed
        Flags by field, in their order, with the words that followed each.
    line
        All words as they stood.
    """

    typed: tuple[tuple[str, tuple[str, ...]], ...]
    line: tuple[str, ...] = ()

    def __contains__(self, field: object) -> bool:
        return any(name == field for name, _ in self.typed)

    def all(self, field: str) -> list[tuple[str, ...]]:
        """Words of each time that a flag was typed."""
        return [words for name, words in self.typed if name == field]

    def words(self, field: str) -> tuple[str, ...]:
        """Words of the last time; none where it was not typed."""
        return next(iter(self.all(field)[::-1]), ())

    def word(self, field: str, otherwise: Any = None) -> Any:
        """First of them."""
        return next(iter(self.words(field)), otherwise)

    def number(self, field: str, otherwise: Any = None) -> Any:
        """First of them as a number.

        Raises
        ------
        click.UsageError
        """
        word = self.word(field)
        return otherwise if word is None else number_of(word, field)

    def last_of(self, *fields: str) -> str | None:
        """Which of some flags was typed last; None for none."""
        return next((name for name, _ in self.typed[::-1] if name in fields), None)


def number_of(word: str, what: str) -> float:
    """Read a finite number.

    Raises
    ------
    click.UsageError
    """
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise click.UsageError(f"{what}: {word!r} is not a number.")
    return value


class FlagCommand(click.Command):
    """A command that is typed as another package's; what its function gets is a `Given`, as ``given``.

    Attributes
    ----------
    flags
        What may be typed.
    peer
        Whose command it is, for messages.
    """

    def __init__(self, *args: Any, flags: Sequence[Flag], peer: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flags, self.peer = tuple(flags), peer
        self.switches = [one for one in self.params if isinstance(one, click.Option)]  # those of all commands
        shown = [_option(flag) for flag in self.flags]
        self.params = [*shown, *self.switches]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort words into flags.

        Raises
        ------
        click.UsageError
            A flag is not known, not supported, or lacks words.
        """
        ctx.params = {str(one.name): False for one in self.switches}
        switches = {spelling: str(one.name) for one in self.switches for spelling in one.opts}
        typed, words = [], list(args)
        while words:
            word = words.pop(0)
            if word in _HELP:
                click.echo(ctx.get_help(), color=ctx.color)
                ctx.exit()
            flag = self._find(word)
            if flag is None and word in switches:
                ctx.params[switches[word]] = True
                continue
            if flag is None:
                raise click.UsageError(self._unknown(word), ctx)
            if flag.refusal:
                raise click.UsageError(f"{self.peer}'s {word} is not supported: {flag.refusal}.", ctx)
            taken = _take(words, flag, switches)
            if len(taken) < flag.least:
                raise click.UsageError(f"{word} needs {flag.metavar or 'a value'}.", ctx)
            typed.append((flag.field, taken))
        ctx.params["given"] = Given(tuple(typed), tuple(args))
        ctx.args = []
        return []

    def _spellings(self) -> Iterator[tuple[str, Flag]]:
        for flag in self.flags:
            for spelling in (flag.name, *flag.others):
                yield spelling, flag

    def _find(self, word: str) -> Flag | None:
        exact = dict(self._spellings())
        if word in exact:
            return exact[word]
        folded = {spelling.lower(): flag for spelling, flag in self._spellings()}
        return folded.get(word.lower())

    def _unknown(self, word: str) -> str:
        if not _IS_FLAG.match(word):
            return f"Got unexpected extra argument ({word})."
        close = difflib.get_close_matches(word, [spelling for spelling, flag in self._spellings() if not flag.refusal])
        return f"No such option: {word}" + (f" Did you mean {close[0]}?" if close else "")


def _take(words: list[str], flag: Flag, switches: Container[str]) -> tuple[str, ...]:
    """Take the words that belong to a flag."""
    n = 0
    if flag.takes_rest:
        while n < len(words) and words[n] not in switches:
            n += 1
    else:
        while n < len(words) and n < flag.most and not _IS_FLAG.match(words[n]):
            n += 1
    taken = tuple(words[:n])
    del words[:n]
    return taken


def _option(flag: Flag) -> click.Option:
    """How the help shows a flag."""
    names = [flag.name, *flag.others, flag.field]
    if flag.most == 0 and not flag.takes_rest:
        return click.Option(names, is_flag=True, help=flag.help, hidden=bool(flag.refusal))
    return click.Option(names, metavar=flag.metavar or "VALUE", help=flag.help, hidden=bool(flag.refusal))
