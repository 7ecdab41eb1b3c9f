"""Measure this machine and write benchmarks/results.md and results.png: `python benchmarks/report.py`.

Both sides of a ratio run in turn, so that a busy machine slows both; the ratio is of their medians. A
shuffling's time is, for numbaglm, the whole call divided by its shufflings, reading and set-up included; for
nilearn what each further shuffling adds, its set-up left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_info, threadpool_limits

from cases import KERNEL_SUBJECTS, KINDS, SIZES, TILES, KernelCase, WholeCase, peak_memory, seconds
from numbaglm import __version__

PACKAGES = ("nilearn", "numba", "numpy", "scipy", "dask")
# Shufflings between the two nilearn runs whose difference is timed.
PEER_SHUFFLINGS = {"max-t": 50, "clusters": 30, "tfce": 5}


@dataclass(frozen=True)
class Row:
    """A whole call, ours and the peer's: ms a shuffling, and seconds of our call."""

    name: str
    ours: float
    peer: float
    whole: float
    spread: float


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            duration = seconds(call)
            if number:
                taken[name].append(duration)
    return taken


def kernel_ratios(size: str) -> dict[int, float]:
    """Rate of the kernel over that of the bare product, by number of subjects."""
    ratios = {}
    with threadpool_limits(limits=1):
        for n_subjects in KERNEL_SUBJECTS:
            case = KernelCase(n_subjects, TILES[size])
            taken = in_turn({"kernel": case.kernel, "sgemm": case.sgemm}, 15)
            ratios[n_subjects] = median(taken["sgemm"]) / median(taken["kernel"])
            print(f"kernel, {n_subjects} subjects: {ratios[n_subjects]:.2f} of sgemm", flush=True)
    return ratios


def whole_rows(size: str, kinds: tuple[str, ...], rounds: int) -> list[Row]:
    """Time whole calls; without nilearn there is no peer to divide by, and its columns are NaN."""
    subjects, voxel_size, n_perm = SIZES[size]
    rows = []
    for n_subjects in subjects:
        case = WholeCase(n_subjects, voxel_size)
        for kind in kinds:
            step = PEER_SHUFFLINGS[kind]
            mine = case.calls(kind)["numbaglm"]
            peer = case.calls(kind).get("nilearn")
            timed: dict[str, Callable[[], object]] = {"ours": partial(mine, n_perm)}
            if peer is not None:
                timed |= {"short": partial(peer, step), "long": partial(peer, 2 * step)}
            taken = in_turn(timed, rounds)
            whole = median(taken["ours"])
            added = median(taken["long"]) - median(taken["short"]) if peer is not None else np.nan
            spread = max(max(times) / min(times) for times in taken.values())
            name = f"{kind}, {n_subjects} subjects, {case.cohort.n_voxels:,} voxels"
            rows.append(Row(name, whole / n_perm * 1e3, added / step * 1e3, whole, spread))
            print(rows[-1], flush=True)
    return rows


def memory_rows(size: str) -> list[tuple[str, float, float, float]]:
    """Name, size of the data, and peaks of our process and of nilearn's, in MB."""
    subjects, voxel_size, _ = SIZES[size]
    rows = []
    for n_subjects in subjects:
        case = WholeCase(n_subjects, voxel_size)
        with tempfile.TemporaryDirectory() as folder:
            case.save(Path(folder))
            ours = peak_memory("numbaglm", Path(folder), "max-t", 1000)
            peer = peak_memory("nilearn", Path(folder), "max-t", 20) if find_spec("nilearn") else np.nan
        rows.append((f"{n_subjects} subjects, {case.cohort.n_voxels:,} voxels", case.matrix.nbytes / 1e6, ours, peer))
        print(rows[-1], flush=True)
    return rows


def machine() -> str:
    """Describe the processor, the cores that may be used and BLAS, without naming the machine."""
    models = [platform.machine()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or models
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    blas = sorted({f"{library['internal_api']} {library['version']}" for library in libraries})
    python = f"Python {platform.python_version()}"
    return ", ".join([models[0], f"{cores} cores", platform.system(), python, *blas])


def versions() -> str:
    """Versions of both sides and of what they stand on."""
    peers = [f"{name} {metadata.version(name)}" for name in PACKAGES if find_spec(name)]
    return ", ".join([f"numbaglm {__version__}", *peers])


def table(kernels: dict[int, float], rows: list[Row], memory: list[tuple[str, float, float, float]]) -> str:
    """Write all results as Markdown."""
    lines = [
        "# Results",
        "",
        f"Written by `python benchmarks/report.py`. {machine()}; {versions()}.",
        "",
        "Kernel (max-t and counts), one core, as a share of the rate of sgemm alone on the same tiles:",
        "",
        "| subjects | " + " | ".join(str(n) for n in kernels) + " |",
        "|---|" + "---|" * len(kernels),
        "| share | " + " | ".join(f"{ratio:.2f}" for ratio in kernels.values()) + " |",
        "",
        "Whole call (numbaglm's defaults, nilearn's default of one job), ms a shuffling:",
        "",
        "| test | numbaglm | nilearn | ratio | numbaglm, whole | slowest / fastest round |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        ratio = f"{r.peer / r.ours:.0f}x" if np.isfinite(r.peer) else "nilearn is not installed"
        lines.append(f"| {r.name} | {r.ours:.3f} | {r.peer:.2f} | {ratio} | {r.whole:.1f} s | {r.spread:.2f} |")
    lines += [
        "",
        "Peak memory of the process, max-t:",
        "",
        "| data | float32 size | numbaglm | nilearn |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {data:.0f} MB | {ours:.0f} MB | {peer:.0f} MB |" for name, data, ours, peer in memory]
    return "\n".join(lines) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Draw ms a shuffling, both sides of each row."""
    figure = Figure(figsize=(8.0, 1.1 + 0.4 * len(rows)), layout="constrained")
    ax = figure.add_subplot()
    place = np.arange(len(rows))[::-1]
    ours, peer = np.array([r.ours for r in rows]), np.array([r.peer for r in rows])
    ax.hlines(place, ours, peer, color="#d0d0d0", linewidth=2, zorder=0)
    ax.scatter(ours, place, color="#c44e52", label="numbaglm")
    ax.scatter(peer, place, color="#4c72b0", label="nilearn, one job")
    for y, ratio, middle in zip(place, peer / ours, np.sqrt(ours * peer), strict=True):
        if np.isfinite(ratio):
            ax.annotate(f"{ratio:.0f}x", (middle, y), (0, 3), textcoords="offset points", ha="center")
    ax.set_xscale("log")
    ax.set_xlabel("ms a shuffling")
    ax.set_yticks(place, [row.name for row in rows])
    ax.margins(y=0.5 / len(rows))
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, print, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the two files")
    asked = parser.parse_args()
    kernels = kernel_ratios(asked.size)
    rows = whole_rows(asked.size, tuple(asked.kinds), asked.rounds)
    text = table(kernels, rows, memory_rows(asked.size))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "results.md").write_text(text)
    plot(rows, asked.out / "results.png")
    print(text)


if __name__ == "__main__":
    main()
