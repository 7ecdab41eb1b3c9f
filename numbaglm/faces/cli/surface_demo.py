"""A group analysis on surfaces, in full, in one call: what `numbaglm demo --surface` runs."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

from numbaglm.cohort import Cohort
from numbaglm.data.storage.folders import whole_folder
from numbaglm.datasets.surfaces import simulate_surface_cohort
from numbaglm.engine.progress import preparing
from numbaglm.faces.cli.demo import MARKER, N_SUBJECTS, Demo, Pace
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.report import PAGE, write_report
from numbaglm.results.reporting import figures
from numbaglm.results.reporting.words import describe, summarise
from numbaglm.results.vocabulary import write_readme
from numbaglm.spaces.space import Space

log = logging.getLogger("numbaglm")

CLUSTER_FORMING_P = 0.001


def run_surface_demo(
    folder: str | os.PathLike[str] = "numbaglm-demo",
    n_perm: int = 10_000,
    seed: int = 0,
    *,
    surfaces: Any = None,
    overwrite: bool = False,
    report: bool = True,
    running: Pace = Pace(),  # noqa: B008
) -> Demo:
    """Analyse left versus right button presses of 16 subjects on both hemispheres, and write down everything.

    Parameters
    ----------
    folder, n_perm, seed, overwrite, report, running
        As in `numbaglm.faces.cli.demo.run_demo`.
    surfaces
        Meshes to simulate on, as in `numbaglm.datasets.simulate_surface_cohort`; by default its own.

    Raises
    ------
    OutputExistsError, OutputError
        The folder exists, or can't be written.
    """
    begun = time.perf_counter()
    with whole_folder(folder, MARKER, overwrite) as part:
        workers: dict[str, Any] = {"progress": running.progress, "n_workers": running.n_workers}
        with preparing():
            log.info("1/4 Simulating %d subjects as GIFTI files", N_SUBJECTS)
            simulated = simulate_surface_cohort(part / "maps", N_SUBJECTS, seed, surfaces, progress=running.progress)
            log.info("2/4 Converting them to Zarr, with their meshes")
            cohort = Cohort.create(part / "cohort.zarr", simulated.maps, surfaces=simulated.surfaces, **workers)
        log.info("3/4 Flipping signs: clusters and TFCE along the mesh, of both hemispheres together")
        result = permutation_test(
            cohort,
            contrast="intercept",
            n_perm=n_perm,
            two_sided=False,
            seed=seed,
            cluster_forming_threshold=CLUSTER_FORMING_P,
            tfce=True,
            **workers,
        )
        log.info("4/4 Writing maps, tables and figures")
        (part / "permutation").mkdir()
        result.write(part / "permutation")
        look = {"background": simulated.depth, "views": ("lateral", "dorsal")}
        figures.statistic(result, part / "figures" / "statistic.png", titled=True, **look)
        figures.corrected(result, part / "figures" / "corrected.png", **look)
        figures.nulls(result, part / "figures" / "nulls.png")
        if report:
            write_report(result, part / PAGE, cohort=cohort, background=simulated.depth)
        summary, text = summarise(result), describe(result)
        (part / MARKER).write_text(json.dumps(summary, indent=2) + "\n")
        _write_readme(part, seed, text, cohort.store.space)
    log.info("Done in %.1f s.", time.perf_counter() - begun)
    return Demo.of(Path(folder), result, summary, text, report)


def _write_readme(part: Path, seed: int, text: str, space: Space) -> None:
    names = sorted(path.stem for path in (part / "figures").glob("*.png"))
    pictures = "\n\n".join(f"![{name}](figures/{name}.png)" for name in names)
    write_readme(
        part,
        "Left versus right button press, 16 subjects, on the cortex",
        f"Made by `numbaglm demo --surface`. Simulated maps (seed {seed}) on a cortex that is nobody's: "
        "`maps/hemi-L_truth.func.gii` and `maps/hemi-R_truth.func.gii` are the effect that was planted, beside the "
        "meshes (`.surf.gii`).\n\n"
        "The maps became a cohort on Zarr and were tested by sign flips: clusters were formed at p < 0.001, one-sided, "
        "along the edges of the mesh, and measured in mm2; TFCE took the areas of vertices into account. Both "
        "hemispheres share one null.\n\n"
        f"```text\n{text}\n```\n\n{pictures}",
        space,
    )
