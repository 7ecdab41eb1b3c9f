"""What other systems lack or do otherwise, on this one: `python other_systems.py FOLDER DOUBLE` works through a study.

"windows" has no fcntl, resource or pwd, none of POSIX's flags, users and signals; a file that is open can't be
replaced, renamed or deleted, nor a folder that holds one; text files are written with carriage returns. There and on
"macos" names that differ by case alone are one name.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

LACKING = {
    os: (
        "O_NOFOLLOW",
        "O_NONBLOCK",
        "geteuid",
        "getuid",
        "mkfifo",
        "sched_getaffinity",
        "getloadavg",
        "uname",
    ),
    signal: ("SIGHUP", "SIGPIPE", "SIGKILL", "SIGUSR1", "SIGALRM", "setitimer", "pthread_sigmask"),
}


def lacking() -> None:
    """Take away what POSIX has alone, once all libraries are loaded: how they do without it is theirs."""
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in LACKING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # so it deletes folders where these flags are not


def in_use() -> None:
    """Have the system refuse what Windows refuses while a file is open in this process, or mapped into it."""
    sys.modules["fcntl"] = None  # type: ignore[assignment]  # Windows has no such locks, which are of open files

    def opened() -> list[str]:
        found = []
        for one in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{one}"))
            except OSError:
                continue
        maps = Path("/proc/self/maps").read_text().splitlines()
        return found + [line.split(maxsplit=5)[5] for line in maps if line.count(" ") > 5 and "/" in line]

    def refusing(function: Any, n_paths: int) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            within = options.get("dir_fd")
            for path in arguments[:n_paths]:
                name = (
                    os.path.abspath(os.fspath(path))
                    if within is None
                    else os.path.join(os.readlink(f"/proc/self/fd/{within}"), os.fspath(path))
                )
                folder = os.path.isdir(name)
                if any(
                    one == name or (folder and one.startswith(f"{name}/"))
                    for one in opened()
                    if one != name or not folder
                ):
                    raise PermissionError(errno.EACCES, "The process cannot access the file, which is in use", name)
            return function(*arguments, **options)

        return call

    for name, n_paths in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1)):
        setattr(os, name, refusing(getattr(os, name), n_paths))


def one_case() -> None:
    """Have a name that is there in another case stand for that file, as on most disks of macOS and Windows."""

    def found(path: Any, options: Any = None) -> Any:
        if isinstance(path, int) or (options and options.get("dir_fd") is not None):
            return path
        text = os.fspath(path)
        if isinstance(text, bytes):
            return path
        above, name = os.path.split(text)
        if not name or os.path.lexists(text):
            return path
        try:
            like = [one for one in listdir(above or ".") if one.casefold() == name.casefold()]
        except OSError:
            return path
        return os.path.join(above, like[0]) if like else path

    listdir = os.listdir
    for name, n_paths in (("mkdir", 1), ("replace", 2), ("rename", 2), ("link", 2), ("stat", 1), ("unlink", 1)):
        function = getattr(os, name)

        def call(*arguments: Any, _function: Any = function, _n: int = n_paths, **options: Any) -> Any:
            paths = [found(path, options) for path in arguments[:_n]]
            return _function(*paths, *arguments[_n:], **options)

        setattr(os, name, call)
    opening = io.open

    def open_(file: Any, *arguments: Any, **options: Any) -> Any:
        return opening(found(file), *arguments, **options)

    io.open = builtins.open = open_


def crlf() -> None:
    """Write lines as Windows ends them, wherever a file does not say how."""
    opening = io.open

    def open_(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        if "b" not in mode and newline is None and set(mode) & set("wax+"):
            newline = "\r\n"
        return opening(file, mode, buffering, encoding, errors, newline, *rest, **options)

    io.open = builtins.open = open_


DOUBLES = {"windows": (lacking, in_use, one_case, crlf), "macos": (one_case,)}


def study(folder: Path) -> None:
    """Convert, add, test with a store, go on, save, load, report, and the same in the shell."""
    import numpy as np
    import pandas as pd
    import pytest

    import numbaglm as ng
    from numbaglm.data.storage.locks import held
    from numbaglm.data.storage.places import Place
    from numbaglm.errors import InputError, StoreError
    from numbaglm.faces.commands import commands
    from reference.maps import volumes, write_maps

    maps = write_maps(folder / "maps", volumes(9))
    people = folder / "people.tsv"
    pd.DataFrame({"participant_id": [f"sub-{k:02d}" for k in range(1, 10)], "age": np.arange(9.0)}).to_csv(
        people, sep="\t", index=False
    )
    cohort = ng.Cohort.create(folder / "c.zarr", maps[:6], covariates=people)
    cohort.append(maps[6:], covariates=people)
    assert cohort.fingerprint == ng.Cohort.from_maps(maps, covariates=people).fingerprint
    cohort.verify()
    options = {"n_perm": 60, "cluster_forming_threshold": ("t", 1.0)}
    expected = ng.permutation_test(cohort, "~ age", "age", **options)
    for _ in range(2):
        found = ng.permutation_test(cohort, "~ age", "age", store=folder / "run", **options)
        np.testing.assert_array_equal(found.h0["max_t"], expected.h0["max_t"])
    refused = pytest.raises(StoreError, match="is being written by another call")
    with held(Place.parse(folder / "run"), "The run"), refused:
        ng.permutation_test(cohort, "~ age", "age", store=folder / "run", **options)
    for _ in range(2):
        found.save(folder / "out", overwrite=True)
    loaded = ng.PermutationResult.load(folder / "out")
    np.testing.assert_array_equal(loaded.maps["t"], expected.maps["t"])
    pd.testing.assert_frame_equal(loaded.clusters, expected.clusters)
    page = loaded.report(folder / "report.html")
    loaded.report(page, overwrite=True)
    arguments = ["permute", str(folder / "c.zarr"), "--design", str(people), "--n-perm", "9", "--output"]
    contrasts = ["--contrast", "up=age"]
    for _ in range(2):
        commands.main([*arguments, str(folder / "both"), "--overwrite", *contrasts, "--quiet"], standalone_mode=False)
    with pytest.raises(InputError, match="case"):
        ng.Cohort.create(folder / "layers.zarr", maps[:6], layers={"GM": maps[:6], "gm": maps[:6]})
    left = [
        path.name
        for path in folder.rglob("*")
        if path.name.endswith((".partial", ".old", "lock")) or path.name[0] == "."
    ]
    assert not left, left
    for above in [folder, *(one for one in folder.rglob("*") if one.is_dir())]:
        names = [one.name.casefold() for one in above.iterdir()]
        assert len(set(names)) == len(names), above


def main() -> None:
    folder, double = Path(sys.argv[1]), sys.argv[2]
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if double == "windows":  # what libraries load late, they load as this system is
        study(folder / "before")
    for change in DOUBLES[double]:
        change()
    study(folder / "study")


if __name__ == "__main__":
    main()
