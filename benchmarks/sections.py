"""Sections of the report: each measures one thing and returns its table."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import mrtrix
from bench_conversion import MAPS, PLAIN, ConversionCase
from bench_discoveries import Shufflings, ZMap, notip_thresholds
from bench_missing import CASES as MISSING_CASES
from bench_missing import SIZES as MISSING_SIZES
from bench_missing import MissingCase, own_patterns
from bench_modalities import CASES as MODALITIES
from bench_modalities import N_PERM as MODALITIES_PERM
from bench_modalities import N_VOXELS as MODALITIES_VOXELS
from bench_modalities import call as of_modalities
from bench_own_regressors import SIZES as OWN_SIZES
from bench_own_regressors import OwnCase
from bench_spaces import N_MAPS, ROUGH, SMOOTH, MeshCase, NetworkCase, VolumeCase
from bench_tfce import MapCase
from cases import KERNEL_SUBJECTS, KINDS, KernelCase, Size, ours, peak_memory, run_child, until_told, whole_case
from measure import Budget, Curve, Row, Section, Times, in_turn, n_cores, seconds, widest
from numbaglm import Cohort, simulate_button_press
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import MemoryLedger
from numbaglm.datasets.simulated import brain_geometry
from numbaglm.engine import schedule
from numbaglm.engine.permutation.maps import ClusterTask, form_clusters
from numbaglm.engine.permutation.run import run_test
from numbaglm.engine.permutation.size import BATCH
from numbaglm.engine.permutation.voxels import Source, permute_block
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.results.discoveries import best_tdp, bound_of
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.methods import OF_P

Calls = dict[str, Callable[[], object]]
WORDS = {"max-t": "max-t", "clusters": "max-t, extent and mass", "tfce": "max-t and TFCE"}
PEER_SHUFFLINGS = 100
CALIBRATED = ("simes", "shifted", "beta", "learned", "simes-step-down", "beta-step-down", "learned-step-down")
_WARM = 30  # shufflings of a call that only warms up
_FEW = 2  # of a peer that takes seconds for each


def kernel(size: Size) -> Section:
    """Rate of the permuted-statistic kernel beside the bare product, on one core."""
    rows, rates = [], []
    with threadpool_limits(limits=1):
        for n_subjects in KERNEL_SUBJECTS:
            case = KernelCase(n_subjects, size.n_tiles)
            taken = in_turn({"kernel": case.kernel, "sgemm": case.sgemm}, 11)
            work = 2e-9 * BATCH * n_subjects * size.n_tiles * TILE
            mine, bare = work / taken["kernel"].median, work / taken["sgemm"].median
            rates.append((n_subjects, mine, bare))
            name, budgets = f"{n_subjects} subjects", (Budget("ratio", "≥", 0.7),)
            rows.append(Row(name, "GFLOP/s", mine, bare, mine / bare, widest(*taken.values()), budgets))
        copy, product = machine_rates(size)
    note = (
        f"Batches of {BATCH} sign flips through tiles of {TILE} voxels: products, maximum of each flip and count "
        "of each voxel, beside `np.dot` of the same tiles and nothing else. The machine: a streaming copy moves "
        f"{copy:.1f} GB/s (read and written), sgemm of 2,048 x 2,048 matrices makes {product:.0f} GFLOP/s, on one core."
    )
    curves = (
        Curve(tuple(r[0] for r in rates), tuple(r[1] for r in rates), "kernel"),
        Curve(tuple(r[0] for r in rates), tuple(r[2] for r in rates), "sgemm, same tiles"),
        Curve((rates[0][0], rates[-1][0]), (product, product), "sgemm, 2,048 x 2,048"),
    )
    return Section("The kernel", note, tuple(rows), "sgemm", "numbaglm / sgemm", curves)


def machine_rates(size: Size) -> tuple[float, float]:
    """GB/s of a streaming copy, and GFLOP/s of a thick product, of one core."""
    source = np.ones(size.n_tiles * 2**20, np.float32)  # 256 MiB, past any cache
    target = np.empty_like(source)
    a = np.ones((2048, 2048), np.float32)
    out = np.empty_like(a)
    taken = in_turn({"copy": lambda: np.copyto(target, source), "sgemm": lambda: np.dot(a, a, out=out)}, 7)
    return 2e-9 * source.nbytes / taken["copy"].median, 2e-9 * 2048**3 / taken["sgemm"].median


def whole(size: Size) -> Section:
    """Whole calls: what each kind of inference adds, and what surrounds the kernels."""
    n_subjects, n_perm = size.subjects[0], size.n_perm
    case = whole_case(n_subjects, size.voxel_size)
    alone = tasks_alone(case.cohort, n_perm)
    clusters = partial(ours, case.cohort, "clusters", n_perm)
    calls: Calls = {"max-t": partial(ours, case.cohort, "max-t", n_perm), "clusters": clusters, "alone": alone}
    taken = in_turn(calls, 2 * size.rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        case.save(Path(folder))
        taken |= in_turn({"command": partial(permute_command, Path(folder), n_perm)}, size.rounds)
    everything = partial(ours, case.cohort, "clusters, tfce", two_sided=False)
    everything(_WARM)
    taken |= in_turn({"tfce": partial(everything, n_perm)}, min(size.rounds, 2), warm=False)
    max_t = taken["max-t"]

    def row(name: str, key: str, other: Times | None, budgets: tuple[Budget, ...], headline: bool = True) -> Row:
        time = taken[key].median
        beside = None if other is None else other.median
        spread = widest(taken[key]) if other is None else widest(taken[key], other)
        shown = f"{n_perm:,} shufflings, {n_subjects} subjects: {name}" if headline else None
        return Row(name, "s", time, beside, None if beside is None else time / beside, spread, budgets, shown)

    rows = (
        row("max-t", "max-t", None, (), False),
        row("max-t, extent and mass", "clusters", max_t, (Budget("ours", "≤", 3.0), Budget("ratio", "≤", 1.5))),
        row("max-t, extent, mass and TFCE, one-sided", "tfce", max_t, (Budget("ours", "≤", 45.0),)),
        row("max-t, extent and mass, beside its tasks alone", "clusters", taken["alone"],
            (Budget("ratio", "≤", 1.1),), False),
        row("`numbaglm permute`, files, figures and a report written", "command", taken["clusters"],
            (Budget("ours", "≤", 6.0),)),
    )  # fmt: skip
    note = (
        f"{n_perm:,} shufflings, {n_subjects} subjects, {case.cohort.n_voxels:,} voxels, {n_cores()} threads, from a "
        "cohort in memory, two-sided where nothing else is said. Beside it: "
        "the call with max-t alone; its tasks alone, which run the kernels (residuals, permuted statistics, clusters), "
        "without the plan, the table of shufflings, records, correction and naming; beside the command, the call with "
        "max-t, extent and mass."
    )
    return Section("Whole calls", note, rows, "beside it", "numbaglm / beside it")


def tasks_alone(cohort: Cohort, n_perm: int) -> Callable[[], object]:
    """The tasks of a call with max-t, extent and mass, and nothing around them."""
    with mock.patch("numbaglm.inference.running.run_test", wraps=run_test) as seen:
        ours(cohort, "clusters", n_perm)
    store, spec, plan, _, _ = seen.call_args.args
    ledger, keys = MemoryLedger(), [f"rounds/{i}" for i in range(len(plan.blocks))]
    clusters = ledger.share("clusters", ClusterTask.build(spec, store.geometry))

    def run() -> None:
        source = Source(store, ledger.share("spec", spec), plan, None, {})
        for first, last in plan.ranges:
            tasks = [(source, *block, first, last, ledger, None, ()) for block in plan.blocks]
            ledger.records.update(zip(keys, schedule.run_tasks(permute_block, tasks, label=""), strict=True))
            n, step = last - first, plan.clusterings
            parts = [(start, min(start + step, n)) for start in range(0, n, step)]
            schedule.run_tasks(form_clusters, [(clusters, ledger, keys, *part) for part in parts], label="")

    return run


def permute_command(folder: Path, n_perm: int) -> None:
    """The whole command, in a process of its own."""
    command = [sys.executable, "-c", "from numbaglm.faces.commands import main; main()", "permute"]
    command += [
        str(folder / "cohort.zarr"),
        "--output",
        str(folder / "results"),
        "--overwrite",
        "--n-perm",
        str(n_perm),
    ]
    subprocess.run(command, check=True, capture_output=True)


def beside_nilearn(size: Size) -> Section:
    """A shuffling of whole calls, beside nilearn's default."""
    title = "Beside nilearn"
    if not find_spec("nilearn"):
        return Section(title, "nilearn is not installed.", ())
    for kind in KINDS:  # imports
        whole_case(12, 10.0).calls(kind)["nilearn"](2)
    rows = []
    for n_subjects in size.subjects:
        case = whole_case(n_subjects, size.voxel_size)
        for kind in KINDS:
            step = size.peer_steps[kind]
            mine, peer = case.calls(kind)["numbaglm"], case.calls(kind)["nilearn"]
            n_perm = size.n_perm_tfce if kind == "tfce" else size.n_perm
            mine(_WARM)
            calls = {"ours": partial(mine, n_perm), "short": partial(peer, step), "long": partial(peer, 2 * step)}
            taken = in_turn(calls, min(size.rounds, 2) if kind == "tfce" else size.rounds, warm=False)
            least = 60.0 if n_subjects < 100 and kind != "tfce" else 100.0
            name = f"{WORDS[kind]}, {n_subjects} subjects"
            row = _a_shuffling(name, taken, n_perm, step, least)
            rows.append(row if n_subjects < 100 or kind == "max-t" else replace(row, headline=None))
    note = (
        f"ms a shuffling, {case.cohort.n_voxels:,} voxels, sign flips, two-sided. numbaglm: the whole call over its "
        f"shufflings, set-up included, at its defaults on {n_cores()} threads. nilearn: `permuted_ols` at its default "
        "of one job, what each further shuffling adds, its set-up left out."
    )
    return Section(title, note, tuple(rows), f"nilearn {metadata.version('nilearn')}", "nilearn / numbaglm")


def beside_mrtrix(size: Size) -> Section:
    """A shuffling of whole calls, beside MRtrix3's."""
    title = "Beside MRtrix3"
    version = mrtrix.version()
    if version is None:
        return Section(title, "MRtrix3 (`mrclusterstats`) is not installed.", ())
    n_subjects, step = size.subjects[0], size.mrtrix_step
    case = whole_case(n_subjects, size.voxel_size)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mrtrix.save(case, folder)
        for kind in ("clusters", "tfce"):
            n_perm = size.n_perm_tfce if kind == "tfce" else size.n_perm
            mine = partial(ours, case.cohort, kind, two_sided=False)
            peer = partial(mrtrix.run, folder, kind, n_subjects, n_cores())
            mine(_WARM)
            calls: Calls = {
                "ours": partial(mine, n_perm),
                "short": partial(peer, _WARM),
                "long": partial(peer, _WARM + step),
            }
            taken = in_turn(calls, min(size.rounds, 2), warm=False)
            row = _a_shuffling(f"{WORDS[kind]}, {n_subjects} subjects", taken, n_perm, step, None)
            rows.append(replace(row, headline=f"a shuffling, one-sided: {row.name}") if row.other else row)
    note = (
        f"ms a shuffling, {case.cohort.n_voxels:,} voxels, {n_cores()} threads each, sign flips, one-sided. numbaglm: "
        "the whole call over its shufflings. `mrclusterstats`: what each further shuffling adds, reading left out; it "
        "has no max-t and no mass. TFCE: exact here, in steps of 0.1 there, 6 neighbours; clusters: 26 neighbours."
    )
    return Section(title, note, tuple(rows), f"MRtrix3 {version}", "MRtrix3 / numbaglm")


def _a_shuffling(name: str, taken: dict[str, Times], n_perm: int, step: int, least: float | None) -> Row:
    """Our whole call over its shufflings, beside what further ones add to the peer's."""
    mine = taken["ours"].median / n_perm * 1e3
    added = (taken["long"].median - taken["short"].median) / step * 1e3
    if added <= 0:  # noise of a machine too busy for so few
        return Row(name, "ms", mine, spread=widest(*taken.values()))
    budgets = () if least is None else (Budget("ratio", "≥", least),)
    return Row(name, "ms", mine, added, added / mine, widest(*taken.values()), budgets, f"a shuffling: {name}")


def tfce(size: Size) -> Section:
    """Exact TFCE of one map beside the C library."""
    if not find_spec("tfce"):
        return Section("TFCE of one map", "The C library `tfce` is not installed.", ())
    limits = {6: (4.5, 3.0), 26: (6.0, 4.0)}
    rows = []
    with threadpool_limits(limits=1):
        for two_sided in (False, True):
            for connectivity, (most, least) in limits.items():
                case = MapCase(size.map_voxel_size, connectivity, two_sided)
                taken = in_turn({side: case.sides[side] for side in ("map", "tfce")}, 15)
                mine, peer = taken["map"].median, taken["tfce"].median
                name = f"{connectivity} neighbours, {'both sides' if two_sided else 'above 0'}"
                budgets = (Budget("ours", "≤", most), Budget("ratio", "≥", least))
                row = Row(name, "ms", mine * 1e3, peer * 1e3, peer / mine, widest(*taken.values()))
                headline = f"TFCE of a map: {name}, one core" if connectivity == 26 else None
                rows.append(row if two_sided else replace(row, budgets=budgets, headline=headline))
    note = f"Exact integral of smooth noise in {case.geometry.n_voxels:,} voxels, one core each."
    return Section("TFCE of one map", note, tuple(rows), f"tfce {metadata.version('tfce')}", "tfce / numbaglm")


def surface(size: Size) -> Section:
    """Exact TFCE of maps on a mesh beside the C library."""
    if not find_spec("tfce"):
        return Section("TFCE on a mesh", "The C library `tfce` is not installed.", ())
    rows = []
    with threadpool_limits(limits=1):
        for n_rounds, two_sided in itertools.product((SMOOTH, ROUGH), (False, True)):
            case = MeshCase(size.name, n_rounds, two_sided)
            taken = in_turn({side: case.sides[side] for side in ("vertices", "tfce")}, 9)
            mine, peer = (taken[side].median / N_MAPS for side in ("vertices", "tfce"))
            name = f"{'smooth' if n_rounds else 'rough'}, {'both sides' if two_sided else 'above 0'}"
            budgets = (Budget("ratio", "≥", 4.0),)
            headline = None if two_sided or not n_rounds else "TFCE of a map on a mesh: above 0, one core"
            spread = widest(*taken.values())
            rows.append(Row(name, "ms", mine * 1e3, peer * 1e3, peer / mine, spread, budgets, headline))
    note = (
        f"Exact integral of noise on a mesh of {case.areas.size:,} vertices, each counted as one since `tfce` has no "
        "areas, E 1, H 2; one core each."
    )
    return Section("TFCE on a mesh", note, tuple(rows), f"tfce {metadata.version('tfce')}", "tfce / numbaglm")


def spaces(size: Size) -> Section:
    """Exact TFCE of maps on a mesh and in a network beside maps of volumes, an element."""
    rows = []
    with threadpool_limits(limits=1):
        for n_rounds, two_sided in itertools.product((SMOOTH, ROUGH), (False, True)):
            case = MeshCase(size.name, n_rounds, two_sided)
            beside = VolumeCase(size.name, n_rounds > 0, two_sided)
            taken = in_turn({"mesh": case.sides["areas"], "volume": beside.call}, 9)
            mine = taken["mesh"].median / N_MAPS
            peer = taken["volume"].median / N_MAPS * case.areas.size / beside.volume.position.size
            name = f"mesh with areas, {'smooth' if n_rounds else 'rough'}, {'both sides' if two_sided else 'above 0'}"
            at_most = () if two_sided else (Budget("ours", "≤", 1.6),)
            budgets = (*at_most, Budget("ratio", "≥", 0.67))
            rows.append(Row(name, "ms", mine * 1e3, peer * 1e3, peer / mine, widest(*taken.values()), budgets))
        for two_sided in (False, True):
            network = NetworkCase(400 if size.name == "full" else 40, two_sided)
            taken = in_turn({"network": network.call}, 9)
            mine = taken["network"].median / N_MAPS
            name = f"network of {network.n_nodes} nodes, {'both sides' if two_sided else 'above 0'}"
            budgets = (Budget("ours", "≤", 6.0),)
            rows.append(Row(name, "ms", mine * 1e3, spread=widest(*taken.values()), budgets=budgets))
    note = (
        f"Exact integral of noise on a mesh of {case.areas.size:,} vertices with areas (E 1, H 2), beside the time "
        "that a brain of about as many voxels (26 neighbours, E 0.5, H 2) takes for as many; and of noise at "
        f"{network.network.position.size:,} edges (E 0.4, H 3). One core."
    )
    return Section("TFCE in other spaces", note, tuple(rows), "volume", "volume / mesh")


def own(size: Size) -> Section:
    """A regressor of each element's own as nuisance, beside none."""
    n_subjects, n_tiles, n_perm = OWN_SIZES[size.name]
    rows = []
    for errors, what, most in (("ee", "permutations", 8.0), ("ise", "sign flips", 3.0)):
        taken = in_turn(OwnCase(size.name, errors).sides, 2 * size.rounds + 1)
        mine, peer = taken["with"].median, taken["without"].median
        budgets = (Budget("ratio", "≤", most),)
        headline = f"A regressor of each voxel's own, {what}"
        rows.append(Row(what, "s", mine, peer, mine / peer, widest(*taken.values()), budgets, headline))
    note = (
        f"Whole calls of {n_perm:,} shufflings, {n_subjects} subjects, {n_tiles * TILE:,} voxels, {n_cores()} threads: "
        "a covariate under permutations, the mean under sign flips, each with a layer of the cohort as nuisance."
    )
    return Section("Regressors of elements' own", note, tuple(rows), "without it", "with / without")


def missing(size: Size) -> Section:
    """Values that are missing, beside data that are whole."""
    n_voxels, n_perm = MISSING_SIZES[size.name]
    rows = []
    most = {"20 % in 20 patterns": 1.5, "a pattern each": 12.0}
    told = {"t": "t", "v": "v of 2 groups", "G": "G of 3 groups", "weights": "t, weights", "own": "t, own regressor"}
    for statistic, errors, n in MISSING_CASES:
        sides = MissingCase(size.name, n, statistic, errors).sides
        rounds = 4 * size.rounds + 1 if statistic == "t" else size.rounds
        taken = in_turn(sides, rounds, clock=time.process_time)
        peer = taken["whole, plain"].median
        for name, least in most.items():
            mine = taken[name].median
            budgets = (Budget("ratio", "≤", least),) if statistic == "t" else ()
            what = f"{told[statistic]}, {'permutations' if errors == 'ee' else 'sign flips'}, {n} subjects: {name}"
            spread = widest(taken[name], taken["whole, plain"])
            rows.append(Row(what, "s", mine, peer, mine / peer, spread, budgets))
    note = (
        f"Seconds of the processor that whole calls of {n_perm:,} shufflings take, {n_voxels:,} voxels, one thread: a "
        "fifth of the voxels follow 20 patterns of who is there, or every voxel has its own. Beside it the same test "
        "of whole data. t of a covariate beside a confound; v and G of groups beside a covariate; under sign flips, "
        "where there are no groups, of the mean: with weights by a layer of variances, and beside a regressor of each "
        "voxel's own."
    )
    return Section("Values that are missing", note, tuple(rows), "whole data", "missing / whole")


def modalities(size: Size) -> Section:
    """Several modalities in one test, beside as many tests of one."""
    taken = in_turn({name: of_modalities(size.name, name) for name in MODALITIES}, 2 * size.rounds + 1)
    rows = []
    for name, (combine, k, _) in MODALITIES.items():
        if combine is None:
            continue
        one = taken["F" if " of F" in name else "t"]
        peer, most = k * one.median, 1.3 if combine in OF_P else 1.2
        mine, spread = taken[name].median, widest(taken[name], one)
        rows.append(Row(name, "s", mine, peer, mine / peer, spread, (Budget("ratio", "≤", most),)))
    note = (
        f"Whole calls of {MODALITIES_PERM[size.name]:,} permutations, 100 subjects, {MODALITIES_VOXELS[size.name]:,} "
        "voxels, one thread: two groups (t) or three (F) beside a covariate, K modalities in one test; beside it K "
        "times the call with one of them."
    )
    return Section("Several modalities", note, tuple(rows), "K times t or F", "K in one / K times one")


def beside_vectorstats(size: Size) -> Section:
    """A shuffling of data that lack values, beside MRtrix3's, which takes them an element at a time."""
    title = "Values that are missing, beside MRtrix3"
    version = mrtrix.version()
    if version is None:
        return Section(title, "MRtrix3 (`vectorstats`) is not installed.", ())
    n_voxels, n_perm = MISSING_SIZES[size.name]
    rows = []
    for n in (30, 100):
        case = MissingCase(size.name, n)
        ours_of = case.side(own_patterns, "element", two_sided=False, n_workers=n_cores())
        with tempfile.TemporaryDirectory() as name:
            Y = np.where(own_patterns(n, n_voxels), case.data, np.float32(np.nan))
            mrtrix.save_vectors(Y, case.design, "x", Path(name))
            peer = partial(mrtrix.run_vectors, Path(name), n_cores())
            calls: Calls = {
                "ours": ours_of,
                "short": partial(peer, _FEW),
                "long": partial(peer, 4 * _FEW),
            }
            ours_of()
            taken = in_turn(calls, min(size.rounds, 2), warm=False)
        rows.append(_a_shuffling(f"every voxel its own pattern, {n} subjects", taken, n_perm, 3 * _FEW, 100.0))
    note = (
        f"ms a shuffling, {n_voxels:,} elements that each lack a fifth of the subjects in its own way, a covariate "
        f"beside a confound, permutations, one-sided, {n_cores()} threads each. numbaglm: the whole call over its "
        f"{n_perm:,} shufflings. `vectorstats`: what each further shuffling adds, reading left out."
    )
    return Section(title, note, tuple(rows), f"MRtrix3 {version}", "MRtrix3 / numbaglm")


def scaling(size: Size) -> Section:
    """Cost against subjects, voxels and shufflings, and two threads beside one."""
    most = max(size.scaled_subjects)
    geometry = brain_geometry(size.voxel_size)
    noise = np.random.default_rng(0).standard_normal((most, geometry.n_voxels), dtype=np.float32)
    n_subjects, n_perm = (sizes[len(sizes) // 2] for sizes in (size.scaled_subjects, size.scaled_perm))

    def call(n: int, there: Geometry, shufflings: int) -> Callable[[], object]:
        cohort = Cohort(CohortStore.from_array(np.ascontiguousarray(noise[:n, : there.n_voxels]), there))
        return partial(ours, cohort, "max-t", shufflings)

    brains = [brain_geometry(voxel_size) for voxel_size in size.scaled_voxels]
    axes: dict[str, dict[int, Callable[[], object]]] = {
        "subjects": {n: call(n, geometry, n_perm // 2) for n in size.scaled_subjects},
        "voxels": {brain.n_voxels: call(n_subjects, brain, n_perm) for brain in brains},
        "shufflings": {n: call(n_subjects, geometry, n) for n in size.scaled_perm},
    }
    rows, curves = [], []
    for axis, calls in axes.items():
        taken = in_turn({str(n): one for n, one in calls.items()}, size.rounds)
        curve = Curve(tuple(calls), tuple(taken[str(n)].median for n in calls), axis)
        fixed, _, off = curve.line
        name = (
            f"{axis}, {min(calls):,} to {max(calls):,}: slope of logarithms; {fixed:.2f} s and a line, within {off:.0%}"
        )
        rows.append(Row(name, "", curve.slope, spread=widest(*taken.values()), budgets=(Budget("ours", "≤", 1.1),)))
        curves.append(curve)
    rows += _threads(size)
    note = (
        f"Whole calls with max-t on noise, the others held at {n_subjects} subjects, {geometry.n_voxels:,} voxels and "
        f"{n_perm:,} shufflings ({n_perm // 2:,} against subjects); a slope of 1 is proportional, less leaves room for "
        "what does not grow: the part of a straight line that is fixed. Below, seconds with two threads beside one."
    )
    return Section("Scaling", note, tuple(rows), "one thread", "one / two threads", tuple(curves))


def _threads(size: Size) -> list[Row]:
    rows = []
    n_subjects = size.subjects[-1]
    cohort = whole_case(n_subjects, size.voxel_size).cohort
    for kind, n_perm in (("clusters", size.n_perm), ("tfce", size.n_perm_tfce // 2)):
        one, two = (partial(ours, cohort, kind, n_perm, n_workers=n) for n in (1, 2))
        taken = in_turn({"one": one, "two": two}, size.rounds, warm=False)
        ratio = taken["one"].median / taken["two"].median
        name = f"two threads, {WORDS[kind]}, {n_subjects} subjects, {n_perm:,} shufflings"
        beside = taken["one"].median
        budgets = (Budget("ratio", "≥", 1.8),)
        rows.append(Row(name, "s", taken["two"].median, beside, ratio, widest(*taken.values()), budgets))
    return rows


def conversion(size: Size) -> Section:
    """Files to a cohort, beside the bare decompression of the same files."""
    rows = []
    n_subjects = size.subjects[-1]
    compressed = {"zlib": "gzip.decompress", "zlib_ng": "zlib-ng"}
    with tempfile.TemporaryDirectory() as folder:
        for kind in (*MAPS, PLAIN):
            beside = {"read": "a plain read"} if kind == PLAIN else compressed
            case = ConversionCase(Path(folder) / kind, n_subjects, size.voxel_size, kind)
            ours = {"clear": case.clear, "convert": case.convert, "clear again": case.clear, "given": case.given}
            taken = in_turn({**ours, **{peer: getattr(case, peer) for peer in beside}}, 2 * size.rounds + 1)
            ms = {side: times.median / n_subjects * 1e3 for side, times in taken.items()}
            for way, mask in (("convert", "mask of what all hold"), ("given", "mask given")):
                for peer, name in beside.items():
                    budgets = (Budget("ratio", "≥", 0.8),) if peer == "zlib" else ()
                    shown = f"nii.gz to Zarr, a map ({kind})" if (way, peer) == ("convert", "zlib") else None
                    spread = widest(taken[way], taken[peer])
                    row = Row(f"{kind}, {mask}, beside {name}", "ms", ms[way], ms[peer], ms[peer] / ms[way], spread)
                    rows.append(replace(row, budgets=budgets, headline=shown if kind == MAPS[0] else None))
            shutil.rmtree(case.folder)
    n_voxels, shape = case.geometry.n_voxels, " x ".join(map(str, case.geometry.shape))
    note = (
        f"ms a map, {n_subjects} maps of {n_voxels:,} voxels in a grid of {shape}, files in the page cache, "
        f"{n_cores()} threads each. numbaglm: `Cohort.create`, which decompresses with zlib-ng, judges the mask, "
        "orders, hashes, and writes chunks and their checksums. Beside it: decompression in memory, or a plain read of "
        "files that are not compressed, whose result is thrown away."
    )
    return Section("Conversion", note, tuple(rows), "beside it", "beside it / numbaglm")


def discoveries(size: Size) -> Section:
    """True discoveries: what they add to a run, and beside other packages."""
    n_subjects, n_perm = size.subjects[0], size.n_perm
    case = whole_case(n_subjects, size.voxel_size)
    result = ours(case.cohort, "clusters", n_perm)
    z, conventions = np.asarray(result.maps["z"], np.float64), result.asked.conventions

    def bounds() -> None:
        bound = bound_of(result)
        assert best_tdp(bound, result.space, z, conventions, True) is not None
        bound.of_labels(result.maps["clusters"])

    calls: Calls = {
        "run": partial(ours, case.cohort, "clusters", n_perm),
        **{name: partial(ours, case.cohort, "clusters", n_perm, discoveries=name) for name in CALIBRATED},
        "bounds": bounds,
    }
    one, shufflings = ZMap(size.voxel_size), Shufflings(PEER_SHUFFLINGS, case.cohort.n_voxels, 1000)
    calls["one threshold"] = one.ours
    if find_spec("nilearn"):
        calls["nilearn"] = one.nilearn
    taken = in_turn(calls, 2 * size.rounds + 1)
    run, kept = taken["run"].median, (Budget("ratio", "≥", 10.0),)
    rows = [
        Row("all clusters at all thresholds, beside the run that they are of", "s", taken["bounds"].median, run,
            run / taken["bounds"].median, widest(taken["bounds"]), kept),
    ]  # fmt: skip
    for name in CALIBRATED:
        added = taken[name].median - run
        said = f"what a template adds ({name}), beside the same run"
        rows.append(Row(said, "s", added, run, run / added, widest(taken["run"], taken[name]), kept))
    found = [("clusters of one threshold, beside nilearn", taken["one threshold"], taken.get("nilearn"))]
    for name in ("simes", "shifted", "beta", "learned") if find_spec("sanssouci") else ():
        template, rule = shufflings.template(name), "notip" if name == "learned" else "sanssouci"
        sides: Calls = {"ours": partial(shufflings.ours, template, rule), "theirs": shufflings.sanssouci(name)}
        both = in_turn(sides, size.rounds)
        found.append((f"calibration of a template, {name}, beside sanssouci", both["ours"], both["theirs"]))
    if find_spec("notip"):
        Y = case.cohort.store.read(0, case.cohort.n_voxels)
        whole: Calls = {
            "ours": partial(ours, case.cohort, "", 2 * PEER_SHUFFLINGS - 1, discoveries="learned"),
            "theirs": partial(notip_thresholds, Y, PEER_SHUFFLINGS),
        }
        both = in_turn(whole, 1)
        name = f"from maps to a learned template, by {2 * PEER_SHUFFLINGS} flips, beside notip"
        found.append((name, both["ours"], both["theirs"]))
    for name, mine, theirs in found:
        if theirs is not None:
            ratio, budget = theirs.median / mine.median, () if "nilearn" in name else (Budget("ratio", "≥", 50.0),)
            rows.append(Row(name, "s", mine.median, theirs.median, ratio, widest(mine, theirs), budget))
    note = (
        f"{n_perm:,} shufflings with extent and mass, {n_subjects} subjects, {case.cohort.n_voxels:,} voxels; "
        "what templates add is the difference of two calls in turn; templates of the 1,000 smallest p of "
        f"{PEER_SHUFFLINGS} shufflings, as many as the peer, which takes all p of each, holds. Beside notip: our whole "
        "call, tests and maps included."
    )
    return Section("True discoveries", note, tuple(rows), "beside it", "beside it / numbaglm")


def latency(size: Size) -> Section:
    """What one waits for before anything is computed, each in a new process."""
    python = [sys.executable, "-c"]

    def run(code: str, *arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([*python, code, *arguments], check=True, capture_output=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maps = str(folder / "maps")
        simulate_button_press(maps, n_subjects=12, voxel_size=8.0)
        cache = {"NUMBA_CACHE_DIR": str(folder / "first")}
        cold_first = until_told("first", maps, **cache)
        told: list[float] = []
        calls: Calls = {
            "python": run("pass"),
            "import": run("import numbaglm"),
            "help": run("from numbaglm.faces.commands import main; main()", "--help"),
            "first": lambda: told.append(until_told("first", maps, **cache)),
        }
        taken = in_turn(calls, 2 * size.rounds + 1)
        taken["result"] = Times(tuple(told[1:]))  # the first round warms up
        everything = {"NUMBA_CACHE_DIR": str(folder / "all")}
        missed: list[str] = []
        cold = seconds(lambda: missed.extend(run_child("kernels", **everything).split()))
        warm = seconds(partial(run_child, "kernels", **everything))
        shutil.rmtree(folder / "all")
    bare = taken["python"].median

    def row(what: str, key: str, limit: float, headline: str | None = None) -> Row:
        return Row(what, "s", taken[key].median, spread=taken[key].spread, budgets=(Budget("ours", "≤", limit),),
                   headline=headline)  # fmt: skip

    rows = (
        row("`import numbaglm`", "import", 0.2),
        row("`numbaglm --help`", "help", 0.3),
        row("a first test: 12 NIfTI maps of 8 mm, 999 shufflings, clusters; until its result is printed", "result", 1.5,
            "a small test in a new process, kernels compiled before"),
        Row("the same, until the process has ended", "s", taken["first"].median, spread=taken["first"].spread),
        Row("the same, no kernel compiled before, until its result is printed", "s", cold_first),
        Row("compiling every kernel, in all precisions", "s", cold - warm, budgets=(Budget("ours", "≤", 20.0),)),
    )  # fmt: skip
    left = f" Not compiled, so not counted: {', '.join(missed)}." if missed else ""
    note = f"Seconds of new processes, to their end where nothing else is said: an empty one takes {bare:.3f}.{left}"
    return Section("Latency", note, rows)


def memory(size: Size) -> Section:
    """Peak memory of a process with one call, beside nilearn's."""
    rows = []
    for n_subjects in size.subjects:
        case = whole_case(n_subjects, size.voxel_size)
        with tempfile.TemporaryDirectory() as folder:
            case.save(Path(folder))
            mine = peak_memory("numbaglm", Path(folder), "max-t", 1000)
            peer = peak_memory("nilearn", Path(folder), "max-t", 20) if find_spec("nilearn") else None
        name = (
            f"max-t, {n_subjects} subjects, {case.cohort.n_voxels:,} voxels ({case.matrix.nbytes / 1e6:.0f} MB of data)"
        )
        ratio = None if peer is None else peer / mine
        shown = f"peak memory, {name}" if n_subjects == size.subjects[-1] else None
        rows.append(Row(name, "MB", mine, peer, ratio, headline=shown))
    return Section("Memory", "Peak of the process.", tuple(rows), "nilearn", "nilearn / numbaglm")


SECTIONS: dict[str, Callable[[Size], Section]] = {
    "kernel": kernel,
    "whole": whole,
    "nilearn": beside_nilearn,
    "mrtrix": beside_mrtrix,
    "tfce": tfce,
    "surface": surface,
    "spaces": spaces,
    "own": own,
    "discoveries": discoveries,
    "missing": missing,
    "vectorstats": beside_vectorstats,
    "modalities": modalities,
    "scaling": scaling,
    "conversion": conversion,
    "latency": latency,
    "memory": memory,
}
