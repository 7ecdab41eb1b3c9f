"""Damaged and ill-meant files: each gives the right result or one clear error, soon and within a bound of memory.

`NUMBAGLM_HOSTILE=all python -m pytest tests/hostile` tries all of them; by default it is a sample.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.formats import FORMATS

pytest.importorskip("resource", reason="memory is bounded by POSIX's limits")

EACH = 60  # of a format: more than 2,000 in all
SAMPLE = EACH if os.environ.get("NUMBAGLM_HOSTILE") == "all" else 6


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How each case ended, by format."""
    folder, left = tmp_path_factory.mktemp("hostile") / "work", {name: list(range(SAMPLE)) for name in FORMATS}
    environment = os.environ | {
        "MALLOC_ARENA_MAX": "1",  # else each thread takes addresses in advance
        "MPLBACKEND": "agg",
    }
    found: dict[str, dict[int, str]] = {name: {} for name in FORMATS}
    while any(left.values()):
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(folder), json.dumps(left)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        for name, number, *outcome in lines:
            died = f"the process died ({done.returncode}): {done.stderr[-2000:]}"
            found[name][number] = outcome[0] if outcome else died
        left = {name: [k for k in numbers if k not in found[name]] for name, numbers in left.items()}
        left = {name: numbers for name, numbers in left.items() if numbers}
        assert not left or len(lines[-1]) == 2, done.stderr  # between two cases
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_damaged_is_read_or_refused(ends, name):
    assert sorted(ends[name]) == list(range(SAMPLE))
    falls = {number: end for number, end in ends[name].items() if end not in ("right", "refused")}
    assert falls == {}


def test_the_corpus_is_large_enough():
    assert EACH * len(FORMATS) >= 2000
