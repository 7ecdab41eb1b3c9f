"""A sandwich test of visits, small. See clusters.py for the sizes that tell more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bench_visits_of_people(tmp_path: Path) -> None:
    script = Path(__file__).with_name("clusters.py")
    command = [sys.executable, str(script), "small", "--folder", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert '"found"' in done.stdout
