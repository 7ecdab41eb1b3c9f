"""One bar of a call, whatever its stages, and one estimate of the time that is left.

Whoever calls opens the bar; what it calls in turn moves that one and opens none of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")

_FORM = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
_MOST, _PREPARED = 0.99, 0.2  # of the bar, as long as the call goes on; and before anything can be predicted


@dataclass
class Estimate:
    """How far a call is: of what its stages took, and what was predicted of those to come.

    Predicted seconds are right in their proportions; how long one really takes is learnt as stages go on. Where nothing
    was predicted, it is how far the stage is.

    Attributes
    ----------
    clock
        Seconds of now.
    to_come
        Predicted seconds of stages that have not begun.
    preparing
        Whether most is to come, of which nothing can be predicted yet.
    """

    clock: Callable[[], float] = time.monotonic
    to_come: float = 0.0
    preparing: bool = False
    # Of the stage: when it began, how much there is to do, predicted seconds, how much is done.
    _stage: tuple[float, float, float] = (0.0, 1.0, 0.0)
    _done: float = 0.0
    _known: tuple[float, float] = (0.0, 0.0)  # seconds of stages that have ended: taken, and predicted
    _share: float = 0.0
    _base: float = 0.0  # share of what came before anything was predicted

    def begin(self, total: float, seconds: float = 0.0) -> None:
        """Begin a stage of so much, which may have been predicted to take so many of the seconds to come."""
        self.to_come = max(0.0, self.to_come - seconds)
        self._stage, self._done = (self.clock(), total, seconds), 0.0

    def advance(self, done: float) -> None:
        """So much more of the stage is done."""
        self._done += done

    def end(self) -> None:
        """The stage has ended."""
        begun, _, seconds = self._stage
        if seconds:
            self._known = self._known[0] + self.clock() - begun, self._known[1] + seconds
        self._stage, self._done = (self.clock(), 1.0, 0.0), 1.0

    @property
    def left(self) -> float | None:
        """Seconds that the call may still take; None as long as nothing tells."""
        begun, total, seconds = self._stage
        taken, done = self.clock() - begun, min(1.0, self._done / total)
        known = self._known[0] + (taken if seconds else 0.0), self._known[1] + seconds * done
        if self.preparing or not (done or self._known[1]):
            return None
        pace = known[0] / known[1] if known[1] else 0.0
        if self.to_come and not pace:
            return None
        rest = taken * (1 - done) / done if done else max(seconds * pace - taken, 0.0)
        return rest + self.to_come * pace

    @property
    def share(self) -> float:
        """How much of the call is done, from 0 to 1: by what was predicted, if anything was; then it never falls."""
        _, total, seconds = self._stage
        done = min(1.0, self._done / total)
        predicted = self._known[1] + seconds + self.to_come
        if self.preparing:
            self._share = max(self._share, _PREPARED * done)
        elif predicted:
            made = (self._known[1] + seconds * done) / predicted
            self._share = max(self._share, min(_MOST, self._base + (1 - self._base) * made))
        else:
            self._share = min(_MOST, done)
        return self._share

    def expect(self, seconds: float) -> None:
        """Stages of so many predicted seconds are to come."""
        if not (self.to_come or self._known[1]):
            self._base = self._share = min(self._share, _PREPARED)  # what came before was of stages by themselves
        self.to_come += seconds


class Bar:
    """The bar of a call, in a terminal or a notebook; it is there once a stage begins."""

    def __init__(self) -> None:
        self.estimate = Estimate()
        self._bar: Any = None
        self._shown: Any = None  # what stands beneath it in a notebook
        self._closed = False

    def begin(self, label: str, total: float, seconds: float) -> None:
        """Name the stage that begins; see `Estimate.begin`."""
        self.estimate.begin(total, seconds)
        if self._bar is None and not self._closed:
            from tqdm.auto import tqdm  # in a notebook it asks for widgets: only who wants a bar should need them

            self._bar = tqdm(total=100, bar_format=_FORM, desc=_title(label))
        if self._bar is not None:
            self._bar.set_description_str(_title(label), refresh=False)
        self._show()

    def advance(self, done: float) -> None:
        """Move as a task ends."""
        self.estimate.advance(done)
        self._show()

    def end(self) -> None:
        """Let the stage be over."""
        self.estimate.end()

    def close(self, whole: bool) -> None:
        """End the bar, full where the call came to its end."""
        bar, self._bar, self._closed = self._bar, None, True
        if bar is None:
            return
        bar.set_postfix_str("", refresh=False)
        if whole:
            bar.update(100 - bar.n)
        bar.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make room for a line on stderr."""
        with nullcontext() if self._bar is None else type(self._bar).external_write_mode(file=sys.stderr):
            yield

    def show(self, notebook: Any, html: str) -> None:
        """Show HTML beneath the bar, in the place of what was shown before."""
        if self._shown is None:
            self._shown = notebook.display(notebook.HTML(html), display_id=True)
        else:
            self._shown.update(notebook.HTML(html))

    def _show(self) -> None:
        if self._bar is None:
            return
        left = self.estimate.left
        self._bar.set_postfix_str("" if left is None else f"about {in_words(left)} left", refresh=False)
        by = 100 * self.estimate.share - self._bar.n
        if by < 0:  # a stage by itself, after another
            self._bar.n += by
        self._bar.update(max(0.0, by))


def _title(label: str) -> str:
    return label[:1].upper() + label[1:]


_current: ContextVar[Bar | None] = ContextVar("bar", default=None)


@contextmanager
def one_bar(shown: bool = True) -> Iterator[Bar | None]:
    """Show one bar for as long as a with block takes; that of whoever called stays the one."""
    if _current.get() is not None or not shown:
        yield _current.get()
        return
    bar, whole = Bar(), False
    token = _current.set(bar)
    try:
        yield bar
        whole = True
    finally:
        _current.reset(token)
        bar.close(whole)


def in_one_bar(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Let a function with a keyword ``progress`` show one bar for all that it does."""

    @wraps(function)
    def call(*arguments: Given.args, **options: Given.kwargs) -> Made:
        with one_bar(bool(options.get("progress", False))):
            return function(*arguments, **options)

    return call


def expect(seconds: float) -> None:
    """Tell the bar of the call, if there is one, that stages of so many predicted seconds are to come."""
    bar = _current.get()
    if bar is not None:
        bar.estimate.expect(seconds)


@contextmanager
def preparing() -> Iterator[None]:
    """Do what comes before the most of a call, as long as nothing can be predicted of that."""
    bar = _current.get()
    before = bar is not None and bar.estimate.preparing
    if bar is not None:
        bar.estimate.preparing = True
    yield
    if bar is not None:
        bar.estimate.preparing = before


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Make stages that were expected to take so long: when the block ends none of them is to come."""
    bar = _current.get()
    after = 0.0 if bar is None else max(0.0, bar.estimate.to_come - seconds)
    yield
    if bar is not None:
        bar.estimate.to_come = after


@contextmanager
def steps(label: str, total: float) -> Iterator[Callable[[float], None]]:
    """Let the bar of the call, if there is one, move by what is called with, whatever stages are begun within."""
    bar = _current.get()
    if bar is None:
        yield lambda done: None
        return
    bar.begin(label, total, 0.0)
    token = _current.set(None)
    try:
        yield bar.advance
    finally:
        _current.reset(token)
        bar.end()


@contextmanager
def aside() -> Iterator[None]:
    """Make room for a line on stderr, beside the bar of the call, if there is one."""
    bar = _current.get()
    with nullcontext() if bar is None else bar.aside():
        yield


def has_room() -> bool:
    """Whether the call has a bar in a notebook, where there is room for pictures beneath it."""
    return _current.get() is not None and _notebook() is not None


def show(html: str) -> None:
    """Show HTML beneath the bar of the call, in the place of what it showed before; nothing where there is no room."""
    bar, notebook = _current.get(), _notebook()
    if bar is not None and notebook is not None:
        bar.show(notebook, html)


def _notebook() -> Any:
    """IPython's display, where a notebook's kernel runs this, which has loaded it; None elsewhere."""
    ipython, display = sys.modules.get("IPython"), sys.modules.get("IPython.display")
    shell = None if ipython is None else ipython.get_ipython()
    return display if hasattr(shell, "kernel") else None  # a terminal's shell has none


def finish() -> None:
    """End the bar of the call, if there is one: what follows is no work."""
    bar = _current.get()
    if bar is not None:
        bar.close(whole=True)


def in_words(seconds: float) -> str:
    """Write a time as it is read."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
