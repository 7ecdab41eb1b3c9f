"""How things are timed and told: rounds in turn, rows with what stands beside them, tables.

Both sides of a ratio run in turn, so that a busy machine slows both; the ratio is of their medians.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_info

import numbaglm

PACKAGES = ("nilearn", "tfce", "sanssouci", "notip", "numba", "numpy", "scipy", "dask", "zarr")


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall time of a call, or what another clock tells of it."""
    start = clock()
    call()
    return clock() - start


@dataclass(frozen=True)
class Times:
    """Seconds of a call, round by round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Slowest round over the fastest."""
        return max(self.rounds) / min(self.rounds)


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time calls, each once a round; a first round that does not count warms them up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(1 - warm, rounds + 1):
        for name, call in calls.items():
            duration = seconds(call, clock)
            if number:
                taken[name].append(duration)
    return {name: Times(tuple(durations)) for name, durations in taken.items()}


def widest(*times: Times) -> float:
    """Largest spread of several."""
    return max(one.spread for one in times)


@dataclass(frozen=True)
class Budget:
    """What a row is held to: a limit of our number, or of the ratio."""

    measure: Literal["ours", "ratio"]
    sign: Literal["≤", "≥"]
    limit: float

    def describe(self, row: Row) -> str:
        """Limit, and whether the row keeps it."""
        value = row.ours if self.measure == "ours" else row.ratio
        if value is None:
            return ""
        kept = value <= self.limit if self.sign == "≤" else value >= self.limit
        unit = f" {row.unit}".rstrip() if self.measure == "ours" else "x"
        return f"{self.sign} {self.limit:g}{unit}{'' if kept else ' **missed**'}"


@dataclass(frozen=True)
class Row:
    """One measurement, and what stands beside it.

    Attributes
    ----------
    ours, other, unit
        Two numbers of one unit; None where there is nothing beside ours.
    ratio
        Of the two, in the sense that the section says.
    spread
        Slowest round over the fastest, of the side where they differ most.
    headline
        What the README calls it; None where it does not show it.
    """

    name: str
    unit: str
    ours: float
    other: float | None = None
    ratio: float | None = None
    spread: float | None = None
    budgets: tuple[Budget, ...] = ()
    headline: str | None = None

    def cells(self) -> list[str]:
        """As the table of a section shows it."""
        budgets = "; ".join(filter(None, (budget.describe(self) for budget in self.budgets)))
        spread = "" if self.spread is None else f"{self.spread:.2f}"
        return [
            self.name,
            figure(self.ours, self.unit),
            figure(self.other, self.unit),
            times(self.ratio),
            spread,
            budgets,
        ]


@dataclass(frozen=True)
class Curve:
    """What was measured (y) against a size (x), for a plot."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str

    @property
    def slope(self) -> float:
        """Of the logarithms: 1 where y is proportional to x."""
        return float(np.polyfit(np.log(self.x), np.log(self.y), 1)[0])

    @property
    def line(self) -> tuple[float, float, float]:
        """Fixed part and slope of the line that fits y best, relatively; and how far off it is at most, as a share."""
        x, y = np.array(self.x), np.array(self.y)
        slope, fixed = np.polyfit(x, y, 1, w=1 / y)
        return float(fixed), float(slope), float(np.abs((fixed + slope * x) / y - 1).max())


@dataclass(frozen=True)
class Section:
    """A table: what is measured, how, and what stands beside it.

    Attributes
    ----------
    other, ratio
        Heads of the columns of what stands beside ours and of the ratio.
    curves
        For the plot of scaling.
    """

    title: str
    note: str
    rows: tuple[Row, ...]
    other: str = ""
    ratio: str = ""
    curves: tuple[Curve, ...] = ()

    def without_budgets(self) -> Section:
        """Another size has no budgets."""
        return replace(self, rows=tuple(replace(row, budgets=()) for row in self.rows))

    def markdown(self) -> str:
        """Title, note and table, without the columns that are empty."""
        heads = ["", "numbaglm", self.other, self.ratio, "slowest / fastest round", "budget"]
        cells = [row.cells() for row in self.rows]
        kept = [i for i in range(len(heads)) if i < 2 or any(line[i] for line in cells)]
        table = markdown_table([heads[i] for i in kept], [[line[i] for i in kept] for line in cells])
        return "\n\n".join(filter(None, (f"## {self.title}", self.note, table if self.rows else "")))


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; numbers to the right."""
    rule = ["---", *["--:"] * (len(heads) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *lines))


def figure(value: float | None, unit: str) -> str:
    """A number of three digits with its unit."""
    if value is None:
        return ""
    digits = max(0, 2 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{digits}f} {unit}".strip()


def times(ratio: float | None) -> str:
    """A ratio of two or three digits."""
    if ratio is None:
        return ""
    return f"{ratio:.2f}x" if ratio < 3 else f"{ratio:.1f}x" if ratio < 30 else f"{ratio:,.0f}x"


def machine() -> str:
    """Describe the processor, the cores that may be used and BLAS, without naming the machine."""
    models = [platform.machine()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or models
    blas = sorted({f"{one['internal_api']} {one['version']}" for one in _blas()})
    python = f"Python {platform.python_version()}"
    return ", ".join([models[0], f"{n_cores()} cores", platform.system(), python, *blas])


def _blas() -> list[dict[str, Any]]:
    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> str:
    """What else the machine did in the last minute."""
    return f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load not known"


def versions(*more: str) -> str:
    """Versions of both sides and of what they stand on."""
    peers = [f"{name} {metadata.version(name)}" for name in PACKAGES if find_spec(name)]
    return ", ".join([f"numbaglm {numbaglm.__version__}", *more, *peers])
