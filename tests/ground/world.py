"""What the soak works with: small studies of every kind, calls of every family, and processes that can be killed."""

from __future__ import annotations

import faulthandler
import gc
import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import psutil

import numbaglm as ng
from numbaglm.data.cohort import writer
from numbaglm.engine import memory
from numbaglm.errors import NumbaglmError, StoreError
from reference.maps import write_maps
from reference.meshes import icosphere

N, SHAPE = 12, (14, 12, 13)
PAIRS, GROUP = np.repeat(np.arange(N // 2), 2), np.arange(N) % 3 // 2
DESIGN = pd.DataFrame({"age": np.random.default_rng(1).normal(size=N), "group": GROUP * 1.0, "intercept": 1.0})
DIGEST = dict[str, str]


# --- Studies and calls ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A call of `permutation_test`: of which study, or studies by modality, and with which options."""

    study: str | tuple[str, ...] = "maps"
    contrast: Any = "age"
    design: tuple[str, ...] = tuple(DESIGN)
    options: Mapping[str, Any] = field(default_factory=dict)


def _call(*study: str, contrast: Any = "age", design: tuple[str, ...] = tuple(DESIGN), **options: Any) -> Call:
    return Call(study[0] if len(study) == 1 else study or "maps", contrast, design, options)


CALLS = {
    "t": _call(tfce=True, n_perm=600),
    "t, one-sided": _call(two_sided=False, tail="pareto"),
    "F": _call(contrast=["age", "group"], tfce_uncorrected=True),
    "flips": _call(contrast="intercept", n_perm=700),
    "several": _call(contrast={"age": "age", "F": ["age", "group"]}, fwe_across_contrasts=True),
    "pairs": _call(exchangeability_blocks=PAIRS, tfce=True),
    "stopped": _call(stop="decided", tfce=True),
    "discoveries": _call(discoveries="simes"),
    "dekker": _call(method="dekker"),
    "huh-jhun": _call(method="huh-jhun"),
    "ter-braak": _call(method="ter-braak"),
    "v": _call(variance_groups=GROUP),
    "r": _call(correlation=True, design=("age", "intercept")),
    "pseudo-t": _call(variance_smoothing_fwhm=6.0, tfce=True),
    "weighted": _call("layers", weights="variance"),
    "own regressor": _call("layers", contrast="gm", regressors={"gm": "gm"}),
    "sandwich": _call(covariance="sandwich", exchangeability_blocks=PAIRS),
    "modified": _call(
        covariance="sandwich", exchangeability_blocks=PAIRS, estimator="modified", visits=np.tile([1, 2], N // 2)
    ),
    "mixed model": _call(covariance="binned-gls", exchangeability_blocks=PAIRS),
    "missing": _call("holes", missing="element", cluster_forming_threshold=("z", 1.5)),
    "modalities": _call("maps", "others"),
    "combined": _call("maps", "others", combine="fisher"),
    "multivariate": _call("maps", "others", combine="pillai", contrast=["age", "group"]),
    "surface": _call("surface", tfce=True, cluster_forming_threshold=0.05),
    "network": _call("network", tfce=True, cluster_forming_threshold=0.05),
    "table": _call("table", cluster_forming_threshold=None),
}


def volumes(seed: int) -> np.ndarray:
    """(n, 14, 12, 13) float32: noise and a mean, 0 outside of a mask."""
    mask = np.random.default_rng(0).random(SHAPE) < 0.95
    return ((np.random.default_rng(seed).normal(size=(N, *SHAPE)) + 0.3) * mask).astype(np.float32)


class World:
    """Studies in a folder.

    Attributes
    ----------
    folder, turn
        All of it, and what belongs to the turn.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.turn = folder, folder / "turn"
        self.n_children = 0
        for name in ("turn", "tmp", "said"):
            (folder / name).mkdir()
        tempfile.tempdir = str(folder / "tmp")
        self.maps = write_maps(folder / "maps", volumes(1), suffix=".nii")
        self._sources: dict[str, tuple[Any, dict[str, Any]]] = {"maps": (self.maps, {})}
        others = write_maps(folder / "others", volumes(2), suffix=".nii")
        self._sources["others"] = (others, {})
        positive = {
            name: write_maps(folder / name, np.abs(volumes(3 + k)) + np.float32(0.1), suffix=".nii")
            for k, name in enumerate(("variance", "gm"))
        }
        self._sources["layers"] = (self.maps, {"layers": positive})
        holes = volumes(5)
        holes[np.random.default_rng(5).random(holes.shape) < 0.1] = np.nan
        self._sources["holes"] = (write_maps(folder / "holes", holes, suffix=".nii"), {"min_subjects": 0.5})
        points, faces = icosphere(3)
        rng, thick = np.random.default_rng(6), []
        for k in range(N):
            array = nib.gifti.GiftiDataArray(rng.normal(0.3, 1, len(points)).astype(np.float32))
            thick.append(folder / f"s{k:02d}.func.gii")
            nib.save(nib.GiftiImage(darrays=[array]), thick[-1])
        self._sources["surface"] = (thick, {"surfaces": (points, faces)})
        edges = rng.normal(0.3, 1, (N, 30, 30))
        nodes = [f"n{k}" for k in range(30)]
        self._sources["network"] = (edges + edges.transpose(0, 2, 1), {"space": "network", "nodes": nodes})
        labels = [f"s{k:02d}" for k in range(N)]
        self._sources["table"] = (pd.DataFrame(rng.normal(size=(N, 68)).astype(np.float32), index=labels), {})
        self.in_memory = cache(self._in_memory)
        for name in self._sources:
            self.expect_of(lambda name=name: self.create(name, folder / f"{name}.zarr").fingerprint)

    def _in_memory(self, name: str) -> ng.Cohort:
        maps, options = self._sources[name]
        return ng.Cohort.from_maps(maps, n_workers=1, **options)

    def on_disk(self, name: str) -> ng.Cohort:
        """A study of the world, from its cohort on disk."""
        return ng.Cohort.open(self.folder / f"{name}.zarr")

    def create(self, name: str, path: Path, chunks: tuple[int, int] = (5, 700), **options: Any) -> ng.Cohort:
        """Make a cohort of a study, of small chunks."""
        writer.choose_chunks = lambda *_: chunks  # type: ignore[assignment]
        maps, own = self._sources[name]
        return ng.Cohort.create(path, maps, **own, **options)

    def run(self, name: str, seed: int, study: Callable[[str], ng.Cohort], **how: Any) -> Any:
        """Make a call: result, or results by name."""
        call = CALLS[name]
        maps = {one: study(one) for one in call.study} if isinstance(call.study, tuple) else study(call.study)
        options = {"n_perm": 300, "cluster_forming_threshold": 0.05, "seed": seed, **call.options, **how}
        if options.get("memory_limit") is not None:  # beside what is loaded already
            memory.held_before = lambda client: 0
        return ng.permutation_test(maps, DESIGN[list(call.design)], call.contrast, **options)

    def expected(self, name: str, seed: int) -> tuple[DIGEST, float]:
        """What a call is to give, made once, in memory and by one thread; and the seconds that it took."""
        return self._expected(name, seed)

    @cache  # noqa: B019 - there is one world
    def _expected(self, name: str, seed: int) -> tuple[DIGEST, float]:
        start = time.monotonic()
        found = digest(self.run(name, seed, self.in_memory, n_workers=1))
        return found, time.monotonic() - start

    # --- Processes ---

    def start(self, call: Callable[[], Any], gate: int | None = None) -> Child:
        """Start a call in a process of its own."""
        self.n_children += 1
        return Child(call, self.folder / "said" / str(self.n_children), gate)

    def expect_of(self, call: Callable[[], Any], seconds: float = 120.0) -> Any:
        """What a call returns in a process of its own."""
        return self.start(call).answer(seconds)


def digest(found: Any) -> DIGEST:
    """Hash of each map, null and table of a result, or of results by name, and by modality."""
    if isinstance(found, Mapping):
        return {f"{name}/{key}": value for name, one in found.items() for key, value in digest(one).items()}
    arrays = {**found.maps, **{f"h0 {name}": null for name, null in found.h0.items()}}
    hashes = {name: _hash(np.ascontiguousarray(values).tobytes()) for name, values in arrays.items()}
    return hashes | {"clusters": _hash(found.clusters.to_csv().encode())}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# --- Processes ------------------------------------------------------------------------------------------------------


class Fell(Exception):
    """Something is not as it should be."""


class Child:
    """A call in a process that is forked from this one, which has imported and compiled all."""

    def __init__(self, call: Callable[[], Any], said: Path, gate: int | None) -> None:
        self.said, self.code = said, None
        self.pid = os.fork()
        if not self.pid:
            self._work(call, gate)

    def _work(self, call: Callable[[], Any], gate: int | None) -> None:
        code = 1
        try:
            said = self.said.open("w")
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            faulthandler.register(signal.SIGUSR1, said)
            if gate is not None:
                os.read(gate, 1)  # until all are there
            try:
                answer, code = call(), 0
            except NumbaglmError as error:
                answer, code = f"{type(error).__name__}: {error}", 3
                del error
            left = left_in_process(self.said.parents[1])
            answer, code = (answer, code) if not left else (f"left behind in its process: {left}", 4)
            partial = self.said.with_suffix(".partial")
            partial.write_text(json.dumps(answer))
            partial.rename(self.said.with_suffix(".json"))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """How it ended (a signal's number below 0); None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float = 120.0) -> int:
        """How it ended."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGUSR1)
                time.sleep(1)
                self.kill(signal.SIGKILL)
                raise Fell(f"it hangs:\n{self.text()}")
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def kill(self, number: int) -> int:
        """Send a signal; how it ended."""
        if self.poll() is None:
            os.kill(self.pid, number)
        return self.wait()

    def text(self) -> str:
        """What it said."""
        return self.said.read_text()[-3000:]

    def value(self) -> Any:
        """What it returned, or the error that it met."""
        return json.loads(self.said.with_suffix(".json").read_text())

    def answer(self, seconds: float = 120.0) -> Any:
        """What it returned, and nothing went wrong."""
        code = self.wait(seconds)
        if code:
            raise Fell(f"it ended with {code}: {self.value() if code in (3, 4) else self.text()}")
        return self.value()


def left_in_process(folder: Path) -> list[str]:
    """Threads, processes and open files of a folder that a call has left behind. zarr keeps its threads."""
    gc.collect()
    threads = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
    left = [f"thread {name}" for name in threads if not name.startswith(("zarr", "asyncio"))]
    left += [f"process {one}" for one in psutil.Process().children(recursive=True)]
    for one in Path("/proc/self/fd").iterdir():
        try:
            target = str(one.readlink())
        except OSError:
            continue
        if target.startswith(str(folder)) and "/said/" not in target:
            left.append(f"open {target}")
    return left


def left_on_disk(world: World) -> list[str]:
    """Temporary files, locks and halves of files."""
    found = list((world.folder / "tmp").iterdir())
    for above in (world.folder, world.turn):
        found += above.glob(".numbaglm-*")
    for one in world.turn.rglob("*"):
        if one.name == "lock" or one.name.endswith((".partial", ".old")) or one.name in ("shared", "draft"):
            found.append(one)
    return [str(one.relative_to(world.folder)) for one in found]


def patient(call: Callable[[], Any], seconds: float = 100.0) -> Any:
    """Make a call once nobody else writes there, of what is there then."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except StoreError as error:
            busy = any(one in str(error) for one in ("is being written by another call", "changed since it was opened"))
            if not busy or time.monotonic() > end:
                raise
        time.sleep(0.01)
