"""A cohort under a memory limit, against all the memory: the same nulls. See large.py for the sizes that tell more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bench_a_memory_limit(tmp_path: Path) -> None:
    script = Path(__file__).with_name("large.py")
    command = [sys.executable, str(script), "small", "--folder", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "time ratio" in done.stdout
