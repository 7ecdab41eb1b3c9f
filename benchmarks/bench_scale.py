"""What many machines would take, at its smallest. See scale.py for what tells more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def bench_many_machines(tmp_path: Path) -> None:
    script, page = Path(__file__).with_name("scale.py"), tmp_path / "scale.md"
    command = [sys.executable, str(script), "--small", "--stubs", "3", "--output", str(page)]
    subprocess.run(command, check=True, capture_output=True)
    assert "held up by" in page.read_text()
