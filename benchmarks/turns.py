"""Tell whether a checkout of numbaglm is slower than another: `python benchmarks/turns.py OLD NEW`.

Both sides take turns, round by round, each first in every other round, so that a busy machine slows both. A row shows
the geometric mean over rounds of old time / new time and its 95 % interval; it fails where that lies below 0.97.
Calls run with warm kernels in a process that lives on; the last rows are processes of their own.
Exits with 1 if a row fails; --expect names rows that may be slower.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import numpy as np
from scipy import stats

from checkouts import Checkout
from measure import figure, load, machine, markdown_table, seconds
from turns_rows import ROWS, SIZES, Place, Row

SLOWER = 0.97
"""A row fails where all of its interval lies below: by 3 % or more slower."""

_ROWS_SCRIPT = str(Path(__file__).with_name("turns_rows.py"))


@dataclass(frozen=True)
class Ratio:
    """Old time / new time: geometric mean over rounds, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, old: Sequence[float], new: Sequence[float]) -> Ratio:
        """Of the seconds of two rounds or more; Student's interval of the logarithm's mean."""
        logs = np.log(old) - np.log(new)
        half = stats.t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / np.sqrt(len(logs))
        return cls(*(float(np.exp(np.mean(logs) + shift)) for shift in (0.0, -half, half)))

    def verdict(self, expected: bool = False) -> str:
        """In a word or two."""
        if self.high < SLOWER:
            return "slower, as expected" if expected else "SLOWER"
        return "faster" if self.low > 1 / SLOWER else ""


class Side:
    """One checkout at work: its process that lives on, and its folder."""

    def __init__(self, checkout: Checkout, folder: Path, size: str) -> None:
        self.checkout, self.folder, self.size = checkout, folder, size
        self.compiled = 0
        folder.mkdir()
        self.child = self._start()

    def _start(self) -> Popen[str]:
        given = (_ROWS_SCRIPT, str(self.checkout.folder), str(self.folder), self.size)
        return self.checkout.start(*given, cwd=self.folder, stdin=PIPE, stdout=PIPE)

    def seconds(self, row: Row) -> float:
        """Of one run."""
        if row.prepare is None:
            return seconds(lambda: self._run(row))
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{row.name}\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline().split()
        if not answer:
            raise SystemExit(f"{self.checkout.name}: its process ended in the row {row.name!r}, see above.")
        self.compiled = int(answer[1])
        return float(answer[0])

    def _run(self, row: Row) -> None:
        maps = Place(self.folder, SIZES[self.size]).maps if "MAPS" in row.arguments else ""
        given = [str(maps) if word == "MAPS" else word for word in row.arguments]
        with self.checkout.start(*given, cwd=self.folder, stdout=DEVNULL) as child:
            code = child.wait()
        if code:
            raise SystemExit(f"{self.checkout.name}: the row {row.name!r} ended with {code}, see above.")

    def warm(self, row: Row) -> None:
        """Run it once; twice where it compiled a kernel, the second time in a process that loads what was compiled."""
        before = self.compiled
        self.seconds(row)
        if self.compiled > before:
            self.close()
            self.compiled, self.child = 0, self._start()
            self.seconds(row)

    def close(self) -> None:
        """End its process."""
        if self.child.stdin is not None:
            self.child.stdin.close()
        try:
            self.child.wait(10)
        finally:
            self.child.kill()
            self.child.wait()
            if self.child.stdout is not None:
                self.child.stdout.close()


def in_turns(sides: Sequence[Side], row: Row, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of the old side and of the new one, round by round."""
    taken: tuple[list[float], list[float]] = ([], [])
    for side in sides:
        side.warm(row)
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            taken[which].append(sides[which].seconds(row))
    return taken


def run(
    checkouts: Sequence[Checkout],
    rows: Sequence[Row],
    rounds: int,
    size: str = "full",
    expected: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> bool:
    """Time rows, tell of each, and return whether none fails.

    Parameters
    ----------
    checkouts
        The old one and the new one.
    rows, rounds, size
        What is timed, how often, and a key of ``SIZES``.
    expected
        Patterns of names of rows that may be slower.
    say
        Takes what is told.
    """
    heads = ["", "old", "new", "old / new", "95 % interval", ""]
    say(f"{machine()}; {load()} when it began; {rounds} rounds.\n\n{markdown_table(heads, [])}".rstrip())
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        sides: list[Side] = []
        try:
            sides += [Side(checkout, Path(temporary) / checkout.name, size) for checkout in checkouts]
            for row in rows:
                old, new = in_turns(sides, row, rounds)
                ratio = Ratio.of(old, new)
                verdict = ratio.verdict(any(fnmatchcase(row.name, pattern) for pattern in expected))
                interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
                times = [figure(float(np.median(one)), "s") for one in (old, new)]
                say(f"| {' | '.join([row.name, *times, f'{ratio.mean:.3f}', interval, verdict])} |")
                failed |= verdict == "SLOWER"
        finally:
            for side in sides:
                side.close()
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="checkout that it is measured against")
    parser.add_argument("new", help="checkout that must not be slower")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--only", action="append", metavar="ROW", help="row to time, or a pattern such as '*n = 30'")
    parser.add_argument(
        "--expect", action="append", default=[], metavar="ROW", help="row, or pattern, that may be slower"
    )
    asked = parser.parse_args()
    if asked.rounds < 2:
        parser.error("an interval takes 2 rounds or more")
    rows = [row for row in ROWS.values() if not asked.only or any(fnmatchcase(row.name, one) for one in asked.only)]
    if not rows:
        parser.error(f"no such row: there are {', '.join(ROWS)}")
    checkouts = Checkout.parse("old", asked.old), Checkout.parse("new", asked.new)
    return 0 if run(checkouts, rows, asked.rounds, asked.size, asked.expect) else 1


if __name__ == "__main__":
    sys.exit(main())
