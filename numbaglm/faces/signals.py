"""Signals that end a command: Ctrl-C and its kin, which are heeded wherever they meet it."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

_AGAIN = 0.02  # seconds until a signal that was lost comes again, when what lost it is over


class Signals:
    """Handle what ends a command, for the length of a with block.

    The exception that a handler raises comes up in whatever line the main thread is at. Where that is a callback of a
    library (of a weak reference, of C code), Python prints and drops it; where it is an import, or C code, others may
    make another error of it. The first is sent again; for the second, `received` says what was asked.

    Attributes
    ----------
    received
        Number of the last signal; None where there was none.
    """

    received: int | None = None

    def __enter__(self) -> Signals:
        self._hook, self._before = sys.unraisablehook, {}
        sys.unraisablehook = self._look
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            before = None if number is None else signal.getsignal(number)
            if number is not None and before not in (None, signal.SIG_IGN):  # nohup's choice, and a shell's, stay
                self._before[number] = before
                signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        sys.unraisablehook = self._hook

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)  # what a shell expects, when all that is half-done is cleared away

    def _look(self, lost: Any) -> None:
        """Look at an exception that goes no further."""
        number = self.received
        if number is None or not issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
            self._hook(lost)
            return
        again = threading.Timer(_AGAIN, signal.raise_signal, [number])
        again.daemon = True
        again.start()

    _hook: Any
    _before: dict[int, Any]
