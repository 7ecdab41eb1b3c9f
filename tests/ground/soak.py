"""Random calls that are killed, starved and crowded: `python tests/ground/soak.py --minutes 60`.

Every call must end in the bits that an undisturbed one gives, or in one clear error after which its repetition does;
no cohort may lose or mix anything; no thread, process, lock or half of a file may be left. What a turn does is drawn
from the seed and its number (`--turn NUMBER` does it again); when processes are killed depends on the machine too.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import dask.base
import dask.delayed
import dask.threaded
import matplotlib.figure
import psutil
import zarr.codecs
import zarr.storage

import numbaglm as ng
from ground.world import CALLS, DESIGN, DIGEST, Child, Fell, N, World, digest, left_in_process, left_on_disk, patient
from numbaglm.faces import commands

# Imported here, so that the processes that are forked need not.
_IMPORTED = (dask.base, dask.delayed, dask.threaded, matplotlib.figure, zarr.codecs, zarr.storage)

CROWD = 8
SEEDS = 3


def require(found: DIGEST, expected: DIGEST) -> None:
    """Refuse other bits than those that are expected."""
    differing = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    if differing:
        raise Fell(f"other bits than an undisturbed call gives: {', '.join(differing)}")


def draw(chance: Random) -> tuple[str, int, dict[str, Any]]:
    """A call, its seed, and how it is run."""
    how = {"n_workers": chance.choice([1, 2, 3]), "memory_limit": chance.choice([None, None, "120MB", "300MB"])}
    return chance.choice(list(CALLS)), chance.randrange(SEEDS), how


# --- Turns ----------------------------------------------------------------------------------------------------------


def undisturbed(world: World, chance: Random) -> None:
    """Calls from disk, with a store or without, saved and loaded: the same as in memory by one thread."""
    name, seed, how = draw(chance)
    store = chance.choice([None, world.turn / "run"])

    def call() -> list[DIGEST]:
        found = world.run(name, seed, world.on_disk, store=store, **how)
        several = found if isinstance(found, dict) else {"": found}
        loaded = {}
        for number, (key, one) in enumerate(several.items()):
            loaded[key] = ng.PermutationResult.load(one.save(world.turn / f"out-{number}"))
        return [digest(found), digest(loaded if isinstance(found, dict) else loaded[""])]

    for found in world.expect_of(call):
        require(found, world.expected(name, seed)[0])


def killed(world: World, chance: Random) -> None:
    """A call with a store, killed again and again at any moment."""
    name, seed, _ = draw(chance)
    expected, seconds = world.expected(name, seed)
    for _ in range(chance.randint(1, 6)):
        _, _, how = draw(chance)
        child = world.start(
            lambda how=how: digest(world.run(name, seed, world.on_disk, store=world.turn / "run", **how))
        )
        time.sleep(chance.uniform(0, 2 * seconds + 0.1))
        code = child.kill(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        if code == 0:
            require(child.value(), expected)
        elif code > 0:
            child.answer()
    _, _, how = draw(chance)
    run = world.turn / "run"
    require(world.expect_of(lambda: digest(world.run(name, seed, world.on_disk, store=run, **how))), expected)
    if chance.random() < 0.3:  # a run that is whole is only read
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*.npz")}
        require(world.expect_of(lambda: digest(world.run(name, seed, world.on_disk, store=run))), expected)
        if {path: path.stat().st_mtime_ns for path in run.rglob("*.npz")} != before:
            raise Fell("what was done was done again")


def command_killed(world: World, chance: Random) -> None:
    """The command, ended by a signal that it hears: nothing is left, and it goes on where a store was named."""
    stored = chance.random() < 0.5
    cohort, out = world.folder / "maps.zarr", world.turn / "out"
    table = world.turn / "design.tsv"
    DESIGN.to_csv(table, sep="\t", index=False)
    arguments = ["numbaglm", "permute", str(cohort), "--design", str(table), "--contrast", "age", "--n-perm", "600"]
    arguments += ["--cluster-forming-threshold", "0.05", "--tfce", "--output", str(out), "--quiet"]
    arguments += ["--store", str(world.turn / "run")] if stored else ["--memory-limit", "2GB"]

    def call() -> None:
        sys.argv = arguments
        commands.main()

    for _ in range(chance.randint(1, 3)):
        child = world.start(call)
        time.sleep(chance.uniform(0.05, 2.0))
        number = chance.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
        code = child.kill(number)
        if code == 0:
            break
        if code not in (128 + number, 1, -number):
            raise Fell(f"it ended with {code} of signal {number}: {child.text()}")
        left = [one for one in left_on_disk(world) if one != "turn/run/shared"]  # the run goes on
        if left:
            raise Fell(f"left behind by signal {number}: {left}")
    if not out.exists():
        child = world.start(call)
        if child.wait() != 0:
            raise Fell(f"it ended with {child.code}: {child.text()}")
    found = world.expect_of(lambda: digest(ng.PermutationResult.load(out)))
    require(found, world.expected("t", 0)[0])


def conversion_killed(world: World, chance: Random) -> None:
    """A cohort that is made, or added to, by a process that is killed again and again."""
    study = chance.choice(["maps", "layers", "holes", "surface", "network", "table"])
    path = world.turn / "c.zarr"
    expected = world.expect_of(lambda: world.on_disk(study).fingerprint)
    chunks = (chance.randint(1, 5), chance.choice([64, 300, 2000]))
    limit = chance.choice([None, "1GB"])

    def call() -> str:
        found = world.create(study, path, chunks, n_workers=chance.choice([1, 2]), memory_limit=limit)
        return found.fingerprint

    for _ in range(chance.randint(1, 5)):
        child = world.start(call)
        time.sleep(chance.uniform(0, 0.5))
        if child.kill(chance.choice([signal.SIGKILL, signal.SIGTERM])) == 0:
            break
        if child.code == 3 and "holds a cohort already" in child.value():  # the last was killed as it had just ended
            break
        if child.code is not None and child.code > 0:
            child.answer()

    def finish() -> str:
        cohort = ng.Cohort.open(path) if child.code == 0 else None
        if cohort is None:
            try:
                cohort = world.create(study, path, chunks)
            except ng.errors.OutputExistsError:
                cohort = ng.Cohort.open(path)
        cohort.verify()
        return cohort.fingerprint

    if world.expect_of(finish) != expected:
        raise Fell(f"{study}: another cohort than an undisturbed conversion makes")
    tidy(path)


def tidy(path: Path) -> None:
    """Refuse a cohort that holds what is of no use any more."""
    left = [one.name for one in path.iterdir() if one.name.startswith("appended-") or one.name == "surveys"]
    if len(left) > 1 or "surveys" in left:
        raise Fell(f"left behind in the cohort: {left}")


def disk_full(world: World, chance: Random) -> None:
    """A disk that is full at any moment: an error that names it, and with room the call goes on."""
    disk = world.turn / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", f"size={chance.choice([8, 40, 100, 300, 900])}k", "tmpfs", str(disk))
    try:
        what = chance.choice(["run", "run", "cohort", "result"])
        name, seed, how = draw(chance)
        expected = world.expected(name, seed)[0]
        if what == "cohort":
            expected = {"fingerprint": world.expect_of(lambda: world.on_disk("maps").fingerprint)}

        def call() -> DIGEST:
            if what == "cohort":
                cohort = world.create("maps", disk / "c.zarr")
                cohort.verify()
                return {"fingerprint": cohort.fingerprint}
            if what == "run":
                return digest(world.run(name, seed, world.on_disk, store=disk / "run", **how))
            found = world.run(name, seed, world.in_memory)
            if not isinstance(found, dict):
                return digest(ng.PermutationResult.load(found.save(disk / "out")))
            return digest({key: ng.PermutationResult.load(one.save(disk / key)) for key, one in found.items()})

        child = world.start(call)
        code = child.wait()
        if code == 3 and str(disk) in child.value() and "No space left" in child.value():
            if list(disk.rglob("*.partial")) or (what == "result" and (disk / "out").exists()):
                raise Fell(f"left on the full disk: {sorted(map(str, disk.rglob('*')))}")
            mount("-o", "remount,size=64m", str(disk))
            for one in disk.iterdir():  # a result beside others is saved again
                if what == "result":
                    shutil.rmtree(one)
            child = world.start(call)
        require(child.answer(), expected)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def mount(*arguments: str) -> None:
    """Mount, in a space of this process's own."""
    subprocess.run(["mount", *arguments], check=True)


def crowd_at_a_store(world: World, chance: Random) -> None:
    """Eight processes with one call and one store, some of which are killed: whoever is left has the same bits."""
    name, seed, _ = draw(chance)
    expected, seconds = world.expected(name, seed)
    store = world.turn / "run"
    crowd = crowded(world, lambda: digest(patient(lambda: world.run(name, seed, world.on_disk, store=store))))
    for one in chance.sample(crowd, chance.choice([0, 0, 1, 3])):
        time.sleep(chance.uniform(0, seconds + 0.1))
        one.kill(signal.SIGKILL)
    for one in crowd:
        if one.code == -signal.SIGKILL:
            continue
        require(one.answer(), expected)
    require(world.expect_of(lambda: digest(world.run(name, seed, world.on_disk, store=store))), expected)


def crowded(world: World, *calls: Callable[[], Any]) -> list[Child]:
    """Eight processes, the calls in turn, which begin at once."""
    gate, opened = os.pipe()
    try:
        children = [world.start(calls[k % len(calls)], gate) for k in range(CROWD)]
        os.write(opened, b"x" * CROWD)
    finally:
        os.close(opened)
        os.close(gate)
    return children


def crowd_at_a_cohort(world: World, chance: Random) -> None:
    """Eight processes that make one cohort, or each add a person of their own to one: nobody is lost."""
    path = world.turn / "c.zarr"
    if chance.random() < 0.5:

        def make() -> str:
            try:
                return world.create("maps", path).fingerprint
            except ng.errors.OutputExistsError:
                return ng.Cohort.open(path).fingerprint

        crowd = crowded(world, lambda: patient(make))
        expected = world.expect_of(lambda: world.on_disk("maps").fingerprint)
        if [one.answer() for one in crowd] != [expected] * CROWD:
            raise Fell("another cohort than an undisturbed conversion makes")
        return
    world.expect_of(lambda: ng.Cohort.create(path, world.maps[: N - CROWD]).fingerprint)
    adding = [
        lambda k=k: patient(lambda: ng.Cohort.open(path).append([world.maps[k]])) and None for k in range(N - CROWD, N)
    ]
    for one in crowded(world, *adding):
        one.answer()

    def look() -> list[str]:
        cohort = ng.Cohort.open(path)
        cohort.verify()
        whole = world.on_disk("maps")
        rows = [list(whole.subjects).index(label) for label in cohort.subjects]
        same = (cohort.store.read(0, cohort.n_voxels) == whole.store.read(0, whole.n_voxels)[rows]).all()
        return sorted(cohort.subjects) if same else []

    labels = world.expect_of(lambda: sorted(world.on_disk("maps").subjects))
    if world.expect_of(look) != labels:
        raise Fell("somebody was lost")
    tidy(path)


def two_callers(world: World, chance: Random) -> None:
    """Two questions and one store: one of them has it, the other is told so."""
    name, _, _ = draw(chance)
    store = world.turn / "run"
    calls = [
        lambda seed=seed: digest(patient(lambda: world.run(name, seed, world.on_disk, store=store))) for seed in (0, 1)
    ]
    answers = []
    for k, one in enumerate(crowded(world, *calls)):
        code = one.wait()
        answers.append((k % 2, code))
        if code == 0:
            require(one.value(), world.expected(name, k % 2)[0])
        elif code != 3 or "is of something else" not in one.value():
            one.answer()
    if len({code for seed, code in answers if seed == 0}) != 1 or {code for _, code in answers} != {0, 3}:
        raise Fell(f"both questions in one store, or neither: {answers}")


def threads(world: World, chance: Random) -> None:
    """Calls of several threads of one process, two of them on one store."""
    drawn = [draw(chance) for _ in range(3)]
    drawn.append(drawn[0])

    def call() -> list[Any]:
        found: list[Any] = [None] * len(drawn)

        def one(k: int) -> None:
            name, seed, how = drawn[k]
            store = world.turn / f"run-{k % 3}"
            try:
                found[k] = digest(
                    patient(lambda: world.run(name, seed, world.on_disk, store=store, n_workers=how["n_workers"]))
                )
            except BaseException:
                found[k] = traceback.format_exc()

        at_once = [threading.Thread(target=one, args=(k,)) for k in range(len(drawn))]
        for thread in at_once:
            thread.start()
        for thread in at_once:
            thread.join()
        return found

    expected = [world.expected(name, seed)[0] for name, seed, _ in drawn]
    for found, right in zip(world.expect_of(call), expected, strict=True):
        if isinstance(found, str):
            raise Fell(found)
        require(found, right)


def many(world: World, chance: Random) -> None:
    """Five hundred calls in one process: no more memory, objects or files than after the first hundred."""
    names = chance.sample(list(CALLS), 5)

    def call() -> list[list[int]]:
        held = []
        for _ in range(25):
            for name in names:
                for store in (None, world.turn / f"run-{name}", world.turn / f"run-{name}"):
                    world.run(name, 0, world.on_disk, store=store, n_perm=60)
                world.run(name, 0, world.in_memory, n_perm=60)
                shutil.rmtree(world.turn / f"run-{name}")
            gc.collect()
            # pandas keeps weak references of views in lists that it clears now and then.
            objects = sum(type(one) is not weakref.ReferenceType for one in gc.get_objects())
            held.append([in_use(), objects, psutil.Process().num_fds()])
        return held

    held = world.expect_of(call, 600)
    memory, objects, files = zip(*held, strict=True)
    if median(memory[-5:]) - median(memory[5:10]) > 2_000_000 or objects[-1] - objects[5] > 100 or files[-1] > files[5]:
        raise Fell(f"it grows, over calls of {names}: {held}")


_COUNTS = [
    "arena",
    "ordblks",
    "smblks",
    "hblks",
    "hblkhd",
    "usmblks",
    "fsmblks",
    "uordblks",
    "fordblks",
    "keepcost",
]  # of mallinfo2


def in_use() -> int:
    """Bytes that this process has asked for and not given back; as the C library counts them, where it does.

    What the process has of the system grows and shrinks beside that, by how threads share out the heap.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return int(psutil.Process().memory_info().rss)

    class Counts(ctypes.Structure):
        _fields_ = tuple((name, ctypes.c_size_t) for name in _COUNTS)

    library.mallinfo2.restype = Counts
    counts = library.mallinfo2()
    return int(counts.hblkhd + counts.uordblks)


TURNS = {
    one.__name__: (one, weight)
    for one, weight in (
        (undisturbed, 6),
        (killed, 6),
        (command_killed, 2),
        (conversion_killed, 4),
        (disk_full, 4),
        (crowd_at_a_store, 3),
        (crowd_at_a_cohort, 3),
        (two_callers, 3),
        (threads, 3),
        (many, 1),
    )
}


# --- The soak -------------------------------------------------------------------------------------------------------


def own_mounts() -> bool:
    """Give this process mounts of its own, which go with it; whether the system lets it."""
    new_mounts = 0x00020000
    if not hasattr(ctypes.CDLL(None), "unshare") or ctypes.CDLL(None).unshare(new_mounts):
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True).returncode == 0


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("--minutes", type=float, default=60.0)
    about.add_argument("--seed", type=int, default=0)
    about.add_argument("--turn", type=int, help="do this one alone")
    about.add_argument("--only", choices=list(TURNS), help="turns of this kind alone")
    asked = about.parse_args()
    turns = dict(TURNS)
    if not own_mounts():
        say("disk_full: left out, as no file systems can be mounted here")
        del turns["disk_full"]
    if asked.only:
        turns = {asked.only: turns[asked.only]}
    kinds, weights = list(turns), [weight for _, weight in turns.values()]
    done: Counter[str] = Counter()
    falls, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="numbaglm-soak-") as folder:
        world = World(Path(folder))
        number = asked.turn or 0
        while True:
            chance = Random(f"{asked.seed} {number}")
            # Each kind once, and then by weight.
            kind = kinds[number] if number < len(kinds) else chance.choices(kinds, weights)[0]
            try:
                turns[kind][0](world, chance)
                left = left_on_disk(world) + left_in_process(world.folder)
                if left:
                    raise Fell(f"left behind: {left}")
            except Exception as error:
                falls += 1
                say(f"FELL: turn {number} of seed {asked.seed}, {kind}: {error}")
                left_over = psutil.Process().children()
                for one in left_over:
                    one.kill()
                    one.wait(30)
            shutil.rmtree(world.turn)
            world.turn.mkdir()
            for one in (world.folder / "said").iterdir():
                one.unlink()
            done[kind] += 1
            number += 1
            if asked.turn is not None or (time.monotonic() - start > 60 * asked.minutes and number >= len(kinds)):
                break
    minutes = (time.monotonic() - start) / 60
    what = ", ".join(f"{count} {kind}" for kind, count in done.items())
    say(f"{done.total()} turns in {minutes:.1f} minutes, {world.n_children:,} processes: {what}. {falls} fell.")
    sys.exit(bool(falls))


if __name__ == "__main__":
    main()
