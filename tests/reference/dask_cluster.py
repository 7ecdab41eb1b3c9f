"""Processes on this machine, and a Dask cluster made of them: each can be killed, and none is waited for forever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Process = subprocess.Popen[str]


def start_process(*arguments: object, module: tuple[str, ...] = (), variables: Mapping[str, str] = {}) -> Process:
    """Start this Python with a script or module; what it says on stderr is kept."""
    command = [sys.executable, *module, *map(str, arguments)]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **streams, text=True, env={**os.environ, **variables})


def kill(processes: Iterable[Process]) -> None:
    """Kill what still runs."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


class Cluster:
    """A scheduler and workers, each a process, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workers: list[Process] = []
        self.all: list[Process] = []
        self.start_scheduler()

    def start_scheduler(self) -> None:
        """Start a scheduler: the first, or one that takes the place of the last."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
        self.scheduler = start_process("scheduler", *options, module=("-m", "dask"))
        self.all.append(self.scheduler)
        end = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        self.address: str = json.loads(file.read_text())["address"]

    def start_workers(self, n_workers: int, variables: Mapping[str, str] = {}) -> None:
        """Start workers of one thread, with variables of the environment; nothing starts them again when they die."""
        options = [self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", self.folder]
        for _ in range(n_workers):
            self.workers.append(start_process("worker", *options, module=("-m", "dask"), variables=variables))
            self.all.append(self.workers[-1])

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Client of the cluster, which is not Dask's default."""
        from distributed import Client

        with warnings.catch_warnings(), Client(self.address, set_as_default=False, timeout="60s") as client:
            yield client

    def stop(self) -> None:
        """Kill every process that was started."""
        kill(self.all)
