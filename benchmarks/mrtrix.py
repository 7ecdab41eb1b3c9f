"""MRtrix3's permutation tests on the same data: `mrclusterstats`, and `vectorstats`, which takes missing values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from cases import THRESHOLD, WholeCase
from numbaglm.data.images import mask_image, save_image, to_image

COMMAND, VECTORS = "mrclusterstats", "vectorstats"


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


def save_vectors(Y: NDArray[np.float32], design: pd.DataFrame, contrast: str, folder: Path) -> None:
    """Write data (n_subjects, n_elements), NaN where a value is missing, and a model as `vectorstats` reads them."""
    names = [f"sub-{i:04d}.txt" for i in range(len(Y))]
    for name, row in zip(names, Y, strict=True):
        np.savetxt(folder / name, row, fmt="%.9g")
    (folder / "vectors.txt").write_text("".join(f"{name}\n" for name in names))
    np.savetxt(folder / "design.txt", design.to_numpy(), fmt="%.17g")
    np.savetxt(folder / "contrast.txt", (design.columns == contrast)[None], fmt="%d")


def run_vectors(folder: Path, n_threads: int, n_perm: int) -> None:
    """Permute what `save_vectors` wrote, of one side: each element with the subjects that it has."""
    command = [VECTORS, "vectors.txt", "design.txt", "contrast.txt", "out_", "-nshuffles", str(n_perm)]
    command += ["-nthreads", str(n_threads), "-force", "-quiet"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
