"""Damaged files handed to numbaglm in a process of its own: `python worker.py FOLDER '{"FORMAT": [NUMBER, ...]}'`.

Lines of JSON: which case begins, and how it ended. "right" and "refused" are as they should be; else it
is told what fell. The process may die at a case, of a crash or as time is up: it is then the last line.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.formats import FORMATS, REFUSALS
from hostile.mutations import mutated

SECONDS = 30
"""What a case may take: each is a few kilobytes."""

ROOM = 2**30
"""Bytes that the process may grow by, of addresses."""

# What no data has run: programs, connections, and pickles of anything but what dask lays down in memory.
_NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
_OWN = ("builtins.slice", "dask", "distributed", "numbaglm", "numpy", "_codecs", "collections", "pathlib", "pandas")


class Watch:
    """What a case does beside what it returns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.on, self.seen = folder, False, ""
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or self.seen:
            return
        if event in _NEVER or (event == "pickle.find_class" and not ".".join(arguments).startswith(_OWN)):
            self.seen = f"{event}{arguments!r}"[:200]
        elif event == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            path = os.path.abspath(arguments[0])  # noqa: PTH100 - links are not followed
            if not path.startswith((str(self.folder), os.devnull)) and not re.search(r"\.nb[ic]|__pycache__", path):
                self.seen = f"{path} is written"


def try_one(name: str, number: int, sound: dict[str, Any], watch: Watch, folder: Path) -> str:
    """How a case ends."""
    kind, chance = FORMATS[name], Random(f"{name} {number}")
    case = folder / "case"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(folder / "sound", case)
    target = chance.choice(sorted(one for one in case.glob(kind.targets) if one.is_file()))
    target.write_bytes(mutated(target.read_bytes(), target.name, chance, kind.fields, kind.text))
    watch.seen, watch.on = "", True
    try:
        found = kind.use(case)
    except REFUSALS as error:
        outcome = "refused" if len(str(error)) > 20 else f"it says too little: {error}"
        if len(str(error)) > 5000:
            outcome = f"it says too much: {len(str(error))} letters"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)
        ours = [one for one in last if "/numbaglm/" in one.filename][-1:]
        where = ours[0] if ours else last[-1]
        outcome = f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})"
    else:
        watch.on = False
        try:
            outcome = kind.right(case, found, sound) or "right"
        except Exception:  # another reader refuses the file: there is nothing to compare with
            outcome = "right"
    watch.on = False
    return watch.seen or outcome


def main() -> None:
    folder, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    warnings.simplefilter("error", RuntimeWarning)  # of numbers; nibabel may say that a header is odd
    watch = Watch(folder)
    for name, numbers in cases.items():
        kind = FORMATS[name]
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "sound").mkdir(parents=True)
        kind.make(folder / "sound")
        shutil.copytree(folder / "sound", folder / "case")
        sound = kind.use(folder / "case")  # all is imported and compiled then
        assert not kind.right(folder / "case", sound, sound)
        with bounded():
            for number in numbers:
                _tell([name, number])
                faulthandler.dump_traceback_later(SECONDS, exit=True)
                outcome = try_one(name, number, sound, watch, folder)
                faulthandler.cancel_dump_traceback_later()
                _tell([name, number, outcome])


@contextmanager
def bounded() -> Iterator[None]:
    """Have the process grow by no more than `ROOM`."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    pages = next(line for line in status.read_text().splitlines() if line.startswith("VmSize"))
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(pages.split()[1]) * 1024 + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _tell(line: list[Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
