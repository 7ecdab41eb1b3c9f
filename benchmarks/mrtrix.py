"""MRtrix3's permutation test, `mrclusterstats`, on the same maps."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from scipy import stats

from cases import THRESHOLD, WholeCase
from numbaglm.data.images import mask_image, save_image, to_image

COMMAND = "mrclusterstats"


def version() -> str | None:
    """Version of MRtrix3 on this machine; None where there is none."""
    if shutil.which(COMMAND) is None:
        return None
    first = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return first.strip("= ").removeprefix(COMMAND).strip()


def save(case: WholeCase, folder: Path) -> None:
    """Write maps, mask, design and contrast of a one-sample test as MRtrix reads them, not compressed."""
    geometry = case.cohort.geometry
    names = [f"sub-{i:04d}.nii" for i in range(case.n_subjects)]
    for name, row in zip(names, case.matrix, strict=True):
        save_image(to_image(geometry, row), folder / name)
    save_image(mask_image(geometry), folder / "mask.nii")
    (folder / "maps.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "design.txt").write_text("1\n" * case.n_subjects)
    (folder / "contrast.txt").write_text("1\n")


def run(folder: Path, kind: str, n_subjects: int, n_threads: int, n_perm: int) -> None:
    """Flip signs of what `save` wrote: TFCE by default, or clusters of 26 neighbours, of one side."""
    options = []
    if kind == "clusters":
        options = ["-threshold", f"{stats.t.isf(THRESHOLD, n_subjects - 1):.4f}", "-connectivity"]
    command = [COMMAND, "maps.txt", "design.txt", "contrast.txt", "mask.nii", "out_", *options]
    command += ["-errors", "ise", "-nshuffles", str(n_perm), "-nthreads", str(n_threads), "-force", "-quiet"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
