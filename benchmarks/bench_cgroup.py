"""A container's or a batch job's memory: a conversion and a test in a real cgroup, which kills what takes more.

Nothing is given as memory_limit: the limit is found. Skipped where no cgroup can be made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from numbaglm.data.images import save_image, to_image
from numbaglm.datasets.simulated import brain_geometry, simulate_maps

LIMIT, N_DISTINCT = 1_200_000_000, 25
N_MAPS = {"small": 250, "full": 2500}

CHILD = """
import logging, sys
from pathlib import Path
import numbaglm as ng
from numbaglm.engine.memory import free_memory

limit = free_memory()
print("limit", limit.n_bytes, limit.source)
maps = sorted(Path(sys.argv[1]).glob("sub-*.nii.gz"))
cohort = ng.Cohort.create(Path(sys.argv[1]) / "cohort.zarr", maps, overwrite=True)
result = ng.permutation_test(cohort, n_perm=200, tfce=True)
print("subjects", cohort.n_subjects, "shufflings", len(result.h0["max_t"]))
"""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup below this process's own, of version 1 or 2."""
    top, own = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    text = own.read_text() if own.exists() else ""
    first, second = (re.search(pattern, text, re.MULTILINE) for pattern in (r"^\d+:memory:(.*)$", r"^0::(.*)$"))
    if first is not None and (top / "memory").is_dir():
        folder, file = top / "memory" / first[1].strip("/"), "memory.limit_in_bytes"
    elif second is not None:
        folder, file = top / second[1].strip("/"), "memory.max"
    else:
        pytest.skip("there are no cgroups")
    folder /= f"numbaglm-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / file).write_text(str(LIMIT))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no cgroup can be made ({error})")
    yield folder
    folder.rmdir()


def bench_conversion_and_test_in_a_cgroup(cgroup: Path, tmp_path: Path, size: str, benchmark: Any) -> None:
    """2,500 maps of 1 MB in a cgroup of 1.2 GB: more than they take, and neither call is killed."""
    geometry, n_maps = brain_geometry(3.0), N_MAPS[size]
    for number, values in enumerate(simulate_maps(geometry, N_DISTINCT, seed=1)):
        save_image(to_image(geometry, values), tmp_path / f"own-{number:02d}.nii.gz")
    for number in range(n_maps):
        (tmp_path / f"sub-{number:04d}.nii.gz").symlink_to(tmp_path / f"own-{number % N_DISTINCT:02d}.nii.gz")

    def call() -> str:
        enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", enter, "sh", sys.executable, "-c", CHILD, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    said = benchmark.pedantic(call, rounds=1)
    found = re.search(r"^limit (\d+) (.*)$", said, re.MULTILINE)
    assert found is not None
    assert 0 < int(found[1]) <= LIMIT
    assert found[2] == f"the cgroup {cgroup}"
    assert f"subjects {n_maps} shufflings 201" in said
    peak = next(
        (cgroup / name for name in ("memory.max_usage_in_bytes", "memory.peak") if (cgroup / name).exists()), None
    )
    benchmark.extra_info["peak_mb"] = None if peak is None else int(peak.read_text()) / 1e6
