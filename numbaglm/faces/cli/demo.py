"""The classic group analysis, in full, in one call: what `numbaglm demo` runs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numbaglm import plotting
from numbaglm.arrays import Floats
from numbaglm.cohort import Cohort
from numbaglm.data.images import list_maps, read_maps, save_maps
from numbaglm.data.storage.folders import whole_folder
from numbaglm.datasets.localizer import fetch_localizer
from numbaglm.datasets.simulated import simulate_button_press
from numbaglm.engine.progress import preparing
from numbaglm.faces.cli import output
from numbaglm.inference.parametric import parametric_maps
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.report import PAGE, write_report
from numbaglm.results.reporting import figures
from numbaglm.results.reporting.tables import cluster_text
from numbaglm.results.reporting.words import summarise
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import ALPHA, meaning_of, write_readme
from numbaglm.stats.model.design import Design, parse_contrasts

log = logging.getLogger("numbaglm")

MARKER = "demo.json"
SMOOTHING_FWHM = 8.0
N_SUBJECTS = 16


@dataclass(frozen=True)
class Pace:
    """How the demo runs: threads, and whether progress is shown."""

    n_workers: int | None = None
    progress: bool = False


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo made.

    Attributes
    ----------
    folder
        Where everything is.
    result
        The permutation test.
    summary
        What was found, as JSON types.
    text
        The same to be read.
    page
        The report; None where none was asked for.
    """

    folder: Path
    result: PermutationResult
    summary: dict[str, Any]
    text: str
    page: Path | None

    @classmethod
    def of(
        cls, folder: Path, result: PermutationResult, summary: Mapping[str, Any], text: str, has_report: bool
    ) -> Demo:
        """Say where everything is, beside what was found."""
        page = folder / PAGE if has_report else None
        places = {"output": str(folder)} | ({} if page is None else {"report": str(page)})
        return cls(folder, result, {**places, **summary}, text, page)


def run_demo(
    folder: str | os.PathLike[str] = "numbaglm-demo",
    n_perm: int = 10_000,
    seed: int = 0,
    *,
    localizer: bool = False,
    overwrite: bool = False,
    report: bool = True,
    voxel_size: float = 3.0,
    running: Pace = Pace(),
) -> Demo:
    """Analyse left versus right button presses of 16 subjects, and write down everything.

    Parameters
    ----------
    folder
        Where to write. It appears once everything is in it.
    n_perm
        Sign flips beside the observed data.
    seed
        Of the simulation and of the sign flips.
    localizer
        Analyse the real maps of the Brainomics localizer instead, which nilearn fetches.
    overwrite
        Whether to replace the output of an earlier demo.
    report
        Whether to write everything onto one page, too.
    voxel_size
        Of the simulated maps, in mm.
    running
        Threads and progress.

    Raises
    ------
    OutputExistsError, OutputError
        The folder exists, or can't be written.
    MissingExtraError, NumbaglmError
        The localizer needs nilearn, or could not be downloaded.
    """
    begun = time.perf_counter()
    with whole_folder(folder, MARKER, overwrite) as part:
        workers: dict[str, Any] = {"progress": running.progress, "n_workers": running.n_workers}
        with preparing():
            if localizer:
                log.info("1/5 Fetching %d subjects", N_SUBJECTS)
                maps, mask = list(fetch_localizer(N_SUBJECTS).maps), None
                source = "Real maps of the Brainomics localizer (Pinel et al. 2007, BMC Neuroscience 8:91)."
            else:
                log.info("1/5 Simulating %d subjects as NIfTI files", N_SUBJECTS)
                simulated = simulate_button_press(
                    part / "maps", N_SUBJECTS, seed, voxel_size, progress=running.progress
                )
                maps, mask = list(simulated.maps), simulated.mask
                source = f"Simulated maps (seed {seed}): `maps/truth.nii.gz` is the effect that was planted."
            log.info("2/5 Converting them to Zarr, smoothed by %g mm", SMOOTHING_FWHM)
            cohort = Cohort.create(part / "cohort.zarr", maps, mask, SMOOTHING_FWHM, **workers)
            _draw_subjects(cohort, maps, part / "figures" / "subjects.png")
            log.info("3/5 Fitting the one-sample model")
            logp_bonferroni = _parametric(cohort, part, running)["logp_bonferroni"]
            n_bonferroni = int(np.sum(logp_bonferroni >= -np.log10(ALPHA)))
        log.info("4/5 Flipping signs")
        test: dict[str, Any] = {"n_perm": n_perm, "two_sided": False, "seed": seed}
        result = permutation_test(cohort, contrast="intercept", **test, **workers)
        log.info("5/5 Writing maps, tables and figures")
        (part / "permutation").mkdir()
        result.write(part / "permutation")
        if report:
            write_report(result, part / PAGE, cohort=cohort)
        _draw_corrected(result, logp_bonferroni, part / "figures" / "corrected.png")
        figures.nulls(result, part / "figures" / "nulls.png")
        summary = {**summarise(result), "n_bonferroni_0.05": n_bonferroni}
        (part / MARKER).write_text(json.dumps(summary, indent=2) + "\n")
        text = _describe(result, n_bonferroni)
        _write_readme(part, source, text)
    log.info("Done in %.1f s.", time.perf_counter() - begun)
    return Demo.of(Path(folder), result, summary, text, report)


def _draw_subjects(cohort: Cohort, maps: list[Path], save: Path) -> None:
    """Draw the maps as they came, before smoothing."""
    inside = [volume[cohort.geometry.mask] for volume in read_maps(list_maps(maps)[0])]
    title = "Left \u2212 right button press, each subject, threshold 2"
    plotting.subject_grid(cohort.geometry, np.stack(inside), cohort.subjects, threshold=2.0, title=title, save=save)


def _parametric(cohort: Cohort, part: Path, running: Pace) -> Mapping[str, Floats]:
    """Fit the one-sample model, write its maps and draw z."""
    design = Design.parse(None, cohort.n_subjects)
    (contrast,) = parse_contrasts("intercept", design)
    maps = parametric_maps(cohort, design, contrast, n_workers=running.n_workers)
    (part / "parametric").mkdir()
    save_maps(cohort.geometry, maps, part / "parametric", lambda name: meaning_of(name, design.dof, None))
    output.draw_z(cohort.store.space, maps["z"], "Left \u2212 right button press", part / "figures" / "z.png")
    return maps


def _draw_corrected(result: PermutationResult, logp_bonferroni: Floats, save: Path) -> None:
    panels = {
        "Bonferroni (parametric)": logp_bonferroni,
        "max-t": result.maps["logp_fwe_voxel"],
        "cluster size": result.maps["logp_fwe_size"],
        "cluster mass": result.maps["logp_fwe_mass"],
    }
    title = "Corrected \u2212log10 p of left > right"
    plotting.logp_panel(result.geometry, panels, title=title, save=save)


def _describe(result: PermutationResult, n_bonferroni: int) -> str:
    return (
        f"{result.summary()}\n"
        f"voxels with Bonferroni p <= 0.05 (parametric): {n_bonferroni:,}\n\n"
        f"{cluster_text(result.clusters, result.statistic)}"
    )


def _write_readme(part: Path, source: str, text: str) -> None:
    figures = [
        ("subjects", "The maps of the subjects, as they came"),
        ("z", "One-sample model, uncorrected"),
        ("corrected", "Four ways to correct for multiple testing, side by side"),
        ("nulls", "The null of each maximum, and what was observed"),
    ]
    pictures = "\n\n".join(f"{title}:\n\n![{title}](figures/{name}.png)" for name, title in figures)
    write_readme(
        part,
        "Left versus right button press, 16 subjects",
        f"Made by `numbaglm demo`. {source}\n\n"
        f"The maps were smoothed ({SMOOTHING_FWHM:g} mm) into a cohort on Zarr, and tested by a one-sample "
        "model and by sign flips, clusters being formed at p < 0.001, one-sided.\n\n"
        f"```text\n{text}\n```\n\n{pictures}",
    )
