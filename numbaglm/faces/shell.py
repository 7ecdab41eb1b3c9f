"""The habits that all commands share: common options, what is printed where, how they fail.

stdout carries the outcome, as text or JSON; stderr everything else, without tracebacks unless --verbose. Exit codes: 0,
1 for what can't be done, 2 for what was typed wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click

from numbaglm.engine import progress
from numbaglm.errors import NumbaglmError, NumbaglmWarning, worded
from numbaglm.faces.signals import Signals

log = logging.getLogger("numbaglm")

Command = Callable[..., Any]

PATH = click.Path(readable=False)
"""Paths, which shells complete; whether they are there and can be read is judged by who opens them."""

# What messages mark as Python's, and no option of a command is called: the shell's word for it.
_WORDS = {
    "Open it with Cohort.open, add to it with append, choose": "Choose",
    "Cohort.from_maps(maps, covariates=...) makes a cohort that has one": "name one with --covariates",
    "Cohort.create(path, maps)": "numbaglm convert",
    "Cohort.create(..., layers=...)": "numbaglm convert --layer",
    "Cohort.create": "numbaglm convert",
    "Cohort.verify()": "numbaglm verify",
    "space='network'": "--network",
    "resample=True": "--resample",
    "inside=": "--spm-folder",
    "overwrite=True": "--overwrite",
    "name the errors": "take one way of shuffling for all with --errors",
    "use simulate_button_press()": "leave --localizer out",
    "Cohort.from_maps(maps, subjects=...)": "a table of maps (subject_label, effects_map_path)",
    "subjects=": "a table of maps (subject_label, effects_map_path)",
    "a DataFrame or the path of a": "the path of a",
}
_PARAMETERS = {"path": "output"}  # of Python, and the option that a command has in its place


@dataclass(frozen=True)
class Terminal:
    """What a command may print.

    Attributes
    ----------
    quiet, as_json
        As asked for.
    said
        What the log has told so far.
    alone
        Whether the process is there for the command alone.
    """

    quiet: bool
    as_json: bool
    said: set[str] = field(default_factory=set)
    alone: bool = False

    @property
    def progress(self) -> bool:
        """Whether to show a progress bar: only to somebody who watches."""
        # A process that is started without a stderr has None.
        return not self.quiet and sys.stderr is not None and sys.stderr.isatty()

    def outcome(self, summary: dict[str, Any], text: str) -> None:
        """Print what came out: the summary as JSON where asked, else the text."""
        progress.finish()
        click.echo(json.dumps(summary, indent=2) if self.as_json else text)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Import what a command needs, half a million objects that stay: no search for garbage goes through them.

        Those searches, the last as the process ends, are a sixth of the time of a small command.
        """
        if not self.alone:
            yield
            return
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


def habits(function: Command) -> Command:
    """Give a command the common options, a `Terminal` as its first argument, and a clean end."""

    @click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="Print the outcome, warnings and errors alone.")
    @click.option("-v", "--verbose", is_flag=True, help="Print everything, tracebacks of errors included.")
    @wraps(function)
    def command(as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
        ctx = click.get_current_context()
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other.")
        level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
        signals = ctx.find_root().obj or Signals()
        terminal = Terminal(quiet, as_json, alone=bool(ctx.find_root().obj))

        def interrupted() -> None:
            store = options.get("store")
            kept = f" What was done is kept in {store}: the same command goes on from there." if store else ""
            click.echo(f"\nInterrupted.{kept}", err=True)
            ctx.exit(128 + (signals.received or signal.SIGINT))

        with _logging(level, terminal.said):
            try:
                with progress.one_bar(terminal.progress):
                    function(terminal, **options)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                raise
            except Exception as error:
                if signals.received is not None:  # what a library made of it
                    interrupted()
                if verbose:
                    click.echo(traceback.format_exc(), err=True, nl=False)
                click.echo(f"Error: {_told(error, ctx.command)}", err=True)
                ctx.exit(1)
            except KeyboardInterrupt:
                interrupted()
            else:
                if signals.received is not None and not any(text.startswith("Interrupted") for text in terminal.said):
                    click.echo("The interrupt came too late: all is done.", err=True)

    return command


def grouped(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Make one decorator of several options, shown in this order."""

    def decorate(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def examples(*lines: str) -> str:
    """Lay out the examples of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _told(error: Exception, command: click.Command) -> str:
    """What went wrong, for whoever typed the command."""
    if isinstance(error, NumbaglmError):
        return as_typed(error, command)
    if isinstance(error, MemoryError):
        why = str(error) or "MemoryError"
        return f"There is not enough memory ({why}). Close other programs, or use a larger machine."
    if isinstance(error, OSError):
        return f"{error}."
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return "The system starts no more threads (ulimit -u, or pids.max of a cgroup). Have the limit raised."
    return (
        f"Something unforeseen went wrong ({type(error).__name__}: {error}), which is a fault of numbaglm. "
        "Please report it, with what the same command prints with --verbose."
    )


def as_typed(error: NumbaglmError, command: click.Command) -> str:
    """Word an error with the options that were typed, not with Python's parameters."""
    options = {str(parameter.name): _option(parameter) for parameter in command.params}

    def word(python: str) -> str:
        name, _, value = python.partition("=")
        if python in _WORDS or name not in options:
            return _WORDS.get(python, python)
        value = {"True": "", "None": "none"}.get(value, value.strip("'"))
        return f"{options[name]} {value}".strip()

    told = error.refusal
    if told is None:
        # An OSError that knows its errno would print that number first.
        return str((isinstance(error, OSError) and error.strerror) or error)
    if not told.parameter:
        return worded(told.template, word)
    name = _PARAMETERS.get(told.parameter, told.parameter)
    shown = options.get(name, name)
    named = shown if shown.isupper() else f"'{shown}'"
    allowed, fix = (worded(text, word) for text in (told.allowed, told.fix))
    return f"Invalid value for {named}: got {told.received}. Allowed: {allowed}.{' ' if fix else ''}{fix}"


def _option(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return str(parameter.name).upper()
    return next((option for option in parameter.opts if option.startswith("--")), parameter.opts[0])


class _ToStderr(logging.Handler):
    def __init__(self, said: set[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message in self._said and record.levelno >= logging.WARNING:
            return  # of several tests of one command each may warn of the same
        self._said.add(message)
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.capitalize()}: "
        with progress.aside():
            click.echo(f"{prefix}{message}", err=True)


@contextmanager
def _logging(level: int, said: set[str]) -> Iterator[None]:
    """Let the package's log and warnings go to stderr, and leave both as they were."""
    before = log.level, log.propagate, log.handlers[:]
    log.setLevel(level)
    log.propagate, log.handlers[:] = False, [_ToStderr(said)]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        log.propagate, log.handlers[:] = before[1:]
        log.setLevel(before[0])


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Tell of a warning as the log does, without its place in the code; those of libraries to who wants everything."""
    level = logging.WARNING if issubclass(category, NumbaglmWarning) else logging.DEBUG
    log.log(level, "%s", message)
