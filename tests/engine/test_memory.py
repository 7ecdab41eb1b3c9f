"""What limits a process, where it is written: in files that stand in for those of the system."""

import os
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest

from numbaglm.engine import memory
from numbaglm.engine.memory import free_memory, held_before, memory_room, n_cores
from numbaglm.errors import InputError


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Write the files of a system: ``own`` is /proc/self/cgroup, the others lie below /sys/fs/cgroup."""

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file = tmp_path / "fs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{text}\n")
        monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "fs")
        monkeypatch.setattr("psutil.virtual_memory", lambda: Mock(available=10**10))
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)

    return write


def test_a_machine_without_cgroups(system):
    system("")
    limit = free_memory()
    assert (limit.n_bytes, limit.source, n_cores()) == (10**10, "the machine", 8)


def test_version_2_the_tightest_of_a_cgroup_and_those_above_it(system):
    """A job's step without a limit, in a job that has one; cached files count as its use, but are given up."""
    system(
        "0::/job/step\n",
        **{
            "job/step/memory.max": "max",
            "job/step/memory.current": 10**8,
            "job/step/cpu.max": "max 100000",
            "job/memory.max": 12 * 10**8,
            "job/memory.current": 5 * 10**8,
            "job/memory.stat": f"anon 1\nactive_file 7\ninactive_file {2 * 10**8}",
            "job/cpu.max": "150000 100000",
        },
    )
    limit = free_memory()
    assert limit.n_bytes == 9 * 10**8
    assert limit.source.endswith("fs/job")
    assert n_cores() == 2
    room = memory_room(None, 0.5, None)
    assert room.n_bytes == 45 * 10**7
    assert room.source == f"50% of what {limit.source} leaves"


def test_version_2_in_a_container_that_sees_its_own_cgroup_as_the_root(system):
    root = {"memory.max": 10**9, "memory.current": 3 * 10**9, "cpu.max": "50000 100000"}
    system("0::/kubepods/pod1\n", **root)
    assert (free_memory().n_bytes, n_cores()) == (0, 1)  # more used than allowed is no negative number


def test_version_1(system):
    system(
        "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n1:name=systemd:/docker/1\n0::/\n",
        **{
            "memory/docker/1/memory.limit_in_bytes": 2**30,
            "memory/docker/1/memory.usage_in_bytes": 2**29,
            "memory/docker/1/memory.stat": "inactive_file 5\ntotal_inactive_file 1000",
            "memory/memory.limit_in_bytes": 2**63 - 4096,  # none
            "memory/memory.usage_in_bytes": 1,
            "cpu,cpuacct/docker/1/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/docker/1/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/cpu.cfs_quota_us": 300000,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
    )
    assert (free_memory().n_bytes, n_cores()) == (2**29 + 1000, 3)


def test_files_that_say_nothing_limit_nothing(system):
    system("rubbish\n0::/a\n", **{"a/memory.max": "?", "a/memory.current": "", "a/cpu.max": "0 0"})
    assert (free_memory().source, n_cores()) == ("the machine", 8)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems don't keep to it")
def test_the_limit_of_address_space():
    code = (
        "from resource import RLIMIT_AS, getrlimit, setrlimit\n"
        "setrlimit(RLIMIT_AS, (2 * 10**9, getrlimit(RLIMIT_AS)[1]))\n"
        "from numbaglm.engine.memory import free_memory\n"
        "print(free_memory().n_bytes, free_memory().source)"
    )
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    n_bytes, source = said.stdout.strip().split(" ", 1)
    assert 0 < int(n_bytes) < 2 * 10**9
    assert source == "the limit of address space (ulimit -v)"


def test_there_is_a_core():
    assert n_cores() >= 1


@pytest.mark.parametrize(
    ("limit", "n_bytes"),
    [
        ("8GB", 8 * 10**9),
        ("1 GiB", 2**30),
        ("1.5g", 15 * 10**8),
        ("2e9 b", 2 * 10**9),
        (np.int64(10**9), 10**9),
        (5e9, 5 * 10**9),
    ],
)
def test_a_memory_limit_is_of_the_whole_process(limit, n_bytes, monkeypatch):
    monkeypatch.setattr("numbaglm.engine.memory.held_before", lambda client: 10**8)
    assert memory_room(limit, 0.5, None).n_bytes == n_bytes - 10**8


def test_the_default_memory_limit_is_a_share_of_what_is_free():
    assert 0 < memory_room(None, 0.25, None).n_bytes < memory_room(None, 0.9, None).n_bytes


@pytest.mark.parametrize("limit", ["lots", "0", 0, -5, "-1GB", [], "8 gallons", "8 i", True, np.inf, np.nan, "1e999"])
def test_bad_memory_limits(limit):
    with pytest.raises(InputError, match=r"'memory_limit'.*8GB"):
        memory_room(limit, 0.5, None)


def test_what_is_loaded_is_not_reckoned_twice(monkeypatch):
    """A second contrast, or a second call, in the room that the first one had."""
    kernels = Mock()
    monkeypatch.setitem(sys.modules, "numbaglm.kernels.panels.shuffle", kernels)
    monkeypatch.setattr(memory, "_LIBRARIES", 0)
    held = []
    for kernels.shuffle_rows.signatures in ([], ["compiled"]):
        held.append(held_before(None))
    assert held[0] - held[1] > 5 * 10**7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other C libraries keep nothing")
def test_what_was_freed_is_not_held(monkeypatch):
    monkeypatch.setattr(memory, "_LIBRARIES", 0)
    before = held_before(None)
    pieces = [bytearray(b"x" * 60_000) for _ in range(3000)]
    del pieces[:-1]  # the last one keeps the C library from shrinking its heap by itself
    assert held_before(None) - before < 10**8


@pytest.mark.parametrize(("limit", "source"), [("50MB", "'50MB'"), (None, "None, that is")])
def test_one_message_says_what_limit_would_do(limit, source, monkeypatch):
    monkeypatch.setattr(memory, "held_before", lambda client: 300 * 10**6)
    room = memory_room(limit, 1, None)
    error = room.refusal(24 * 10**6, "16 subjects take", "Or use fewer workers.")
    assert str(error).startswith(f"Invalid value for 'memory_limit': got {source}")
    assert (
        "Allowed: 324 MB or more (Python, the libraries and the data of this process take 300 MB by themselves, and 16 "
        "subjects take 24 MB). Or use fewer workers."
    ) in str(error)
