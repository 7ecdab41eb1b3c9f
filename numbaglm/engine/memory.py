"""How much memory and how many cores this process may really have, and where that is said.

A machine tells all that it has to whoever asks; a container, a batch job or a shell may have been given less of it. So
everything that limits a process is asked here, once: its cgroups (version 1 and 2), its limit of address space, the
cores that it is bound to, and the quota of their time.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numbaglm.errors import InputError, compose, invalid

# Of a process that has run a small test: 310 MB; of one that has imported numbaglm and opened a cohort: 230 MB.
_LIBRARIES, _STILL_TO_LOAD = 340_000_000, 90_000_000
_MORE_TO_LOAD = 30_000_000  # where one test is done, by another that needs other kernels

_CGROUPS, _OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT = 2**60  # version 1 says "none" by a number that no machine has

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@dataclass(frozen=True)
class Limit:
    """Memory that this process may still take.

    Attributes
    ----------
    n_bytes
        How much.
    source
        What says so: "the machine", "the cgroup /...", "the limit of address space (ulimit -v)".
    """

    n_bytes: int
    source: str


def n_cores() -> int:
    """Cores this process may use: those that it is bound to, and no more than its quota of their time is worth."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas())]))


def free_memory() -> Limit:
    """What this process may still take: the least that its machine, its cgroups and its own limits leave."""
    import psutil

    found = [Limit(int(psutil.virtual_memory().available), "the machine"), *_cgroup_limits(), *_own_limits()]
    return min(found, key=lambda limit: limit.n_bytes)


@dataclass(frozen=True)
class Room:
    """Memory that tasks may take in each process.

    Attributes
    ----------
    n_bytes
        How much, beside what the process holds before them; below 0 where that alone is too much.
    source
        Where that comes from: "memory_limit", "50% of what the cgroup /... leaves".
    given
        The limit that was asked for; None for none.
    held
        Tells the bytes that the process holds before its tasks. To ask gives back what was freed, which takes
        milliseconds, and more to take it again: where no limit is given, refusals alone do.
    """

    n_bytes: int
    source: str
    given: int | str | None
    held: Callable[[], int]

    def refusal(self, needed: int, what: str, fix: str = "") -> InputError:
        """Make the error of tasks that need more; it names the limit that would do.

        Parameters
        ----------
        needed
            Bytes that tasks take, beside what the process holds.
        what
            What needs them, with its verb: "16 subjects take".
        fix
            What else may be done, a whole sentence.
        """
        held = self.held()
        least, there = math.ceil((held + needed) / 1e6), f"{max(self.n_bytes, 0) / 1e6:,.0f} MB"
        own = f"Python, the libraries and the data of this process take {held / 1e6:,.0f} MB by themselves"
        allowed = f"{least:,} MB or more ({own}, and {what} {math.ceil(needed / 1e6):,} MB)"
        received = f"None, that is {there}, {self.source}," if self.given is None else repr(self.given)
        return InputError(compose("memory_limit", received, allowed, fix))


def memory_room(limit: int | str | None, share: float, client: Any | None) -> Room:
    """Memory that tasks may take in each process, beside what it holds before them.

    Parameters
    ----------
    limit
        What a process may hold in all: a number of bytes, a string like "8GB", or None for a share of what is free
        now (of what a worker may take).

    Raises
    ------
    InputError
        It is no limit. One that is too small is refused by who knows what is needed, see `Room.refusal`.
    """
    if limit is not None:
        held = held_before(client)
        return Room(parse_limit(limit) - held, "memory_limit", limit, lambda: held)
    free = free_memory() if client is None else Limit(min(_worker_limits(client)), "a worker")
    part = "" if share == 1 else f"{share:.0%} of "
    return Room(int(free.n_bytes * share), f"{part}what {free.source} leaves", None, lambda: held_before(client))


def parse_limit(limit: Any) -> int:
    """Bytes of a memory limit: a number above 0, or a string such as "8GB" (1000 to the step) or "8GiB" (1024).

    Raises
    ------
    InputError
    """
    n_bytes = math.nan
    if isinstance(limit, str):
        found = re.fullmatch(r"\s*(\d*\.?\d*(?:e[+-]?\d+)?)\s*([kmgtp]?)(i?)b?\s*", limit.lower())
        if found is not None and (found[2] or not found[3]):
            with suppress(ValueError):
                n_bytes = float(found[1] or "1") * (1024 if found[3] else 1000) ** _POWERS[found[2]]
    elif not isinstance(limit, bool):
        with suppress(TypeError, ValueError):
            n_bytes = float(limit)
    if not 0 < n_bytes < math.inf:
        allowed = 'a number of bytes above 0, or a string such as "8GB"'
        raise InputError(invalid("memory_limit", limit, allowed))
    return int(n_bytes)


def held_before(client: Any | None) -> int:
    """Bytes that a process holds before its first task, with the libraries and compiled code that tasks will load."""
    if client is not None:
        return _LIBRARIES
    import psutil

    _give_back()
    kernels = sys.modules.get("numbaglm.kernels.panels.shuffle")  # to import it would take half a second
    still = _MORE_TO_LOAD if kernels is not None and kernels.shuffle_rows.signatures else _STILL_TO_LOAD
    return max(int(psutil.Process().memory_info().rss) + still, _LIBRARIES)


def _give_back() -> None:
    """Have the C library give back what was freed, if it is one that keeps it: it is not held by anything."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _worker_limits(client: Any) -> list[int]:
    """Memory limit of each worker; half a machine's memory where it has none, as several may share one."""
    import psutil

    limits = [
        int(worker.get("memory_limit") or 0) for worker in client.scheduler_info(n_workers=-1)["workers"].values()
    ]
    return [limit or psutil.virtual_memory().total // 2 for limit in limits] or [psutil.virtual_memory().total // 2]


def _cgroup_limits() -> Iterator[Limit]:
    """What each cgroup that this process is in, and each above it, leaves of its limit.

    Pages of files that it read, and has not used lately, count as its use, but are given up when memory is wanted.
    """
    for folder, is_first in _cgroups("memory"):
        most, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes") if is_first else ("memory.max", "memory.current")
        )
        limit, use = _number(folder / most), _number(folder / used)
        if limit is None or limit >= _NO_LIMIT or use is None:
            continue
        given_up = _entry(folder / "memory.stat", "total_inactive_file" if is_first else "inactive_file")
        yield Limit(max(int(limit - use + min(given_up, use)), 0), f"the cgroup {folder}")


def _quotas() -> Iterator[float]:
    """Cores that the quota of each cgroup is worth."""
    for folder, is_first in _cgroups("cpu"):
        if is_first:
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        else:
            words = _text(folder / "cpu.max").split()
            quota, period = (float(word) if word.isdigit() else None for word in [*words, "", ""][:2])
        if quota is not None and quota > 0 and period:
            yield quota / period


def _cgroups(controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of the cgroups that a controller has this process in, and whether they are of version 1.

    In a container the path may be the host's: what is not there as a folder is passed over, and the root counts.
    """
    for line in _text(_OWN_CGROUPS).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        is_first = number != "0"
        if is_first and controller not in names.split(","):
            continue
        top = _CGROUPS / names if is_first and (_CGROUPS / names).is_dir() else _CGROUPS
        top = _CGROUPS / controller if is_first and (_CGROUPS / controller).is_dir() else top
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_dir():
                yield folder, is_first
            if folder == top:
                break


def _own_limits() -> Iterator[Limit]:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    import psutil

    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        left = max(int(most - psutil.Process().memory_info().vms), 0)
        yield Limit(left, "the limit of address space (ulimit -v)")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> float | None:
    text = _text(file).strip()
    return float(text) if re.fullmatch(r"-?\d+", text) else None


def _entry(file: Path, name: str) -> float:
    found = re.search(rf"^{name} (\d+)$", _text(file), re.MULTILINE)
    return float(found[1]) if found else 0.0
