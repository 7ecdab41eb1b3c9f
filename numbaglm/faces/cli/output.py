"""What commands print and save of a result: summary, cluster table, figures, parametric maps."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from numbaglm import plotting
from numbaglm.arrays import Floats
from numbaglm.cohort import Cohort
from numbaglm.data.images import save_maps
from numbaglm.data.storage.files import DEVICE
from numbaglm.data.storage.folders import whole_folder
from numbaglm.display.maps.projection import decimals
from numbaglm.engine.permutation.plan import Plan
from numbaglm.errors import ContrastError
from numbaglm.faces.cli.inputs import Question
from numbaglm.inference.parametric import parametric_maps
from numbaglm.results.bids import results as _bids_results
from numbaglm.results.bids.names import label_of, labels_of, shared_entities
from numbaglm.results.provenance import versions
from numbaglm.results.record import MARKER
from numbaglm.results.report import PAGE, write_index, write_report, write_reports
from numbaglm.results.reporting import figures
from numbaglm.results.reporting.words import are_modalities, counted, describe, names_of, on_quality, summarise
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import ALPHA, README, meaning_of, write_readme
from numbaglm.spaces.space import Space
from numbaglm.stats.model.design import warn_of_lacking_mean
from numbaglm.stats.model.estimable import GroupDesign

log = logging.getLogger("numbaglm")

FIT_MARKER = _bids_results.FIT
Z_UNCORRECTED = 3.09
"""z of an uncorrected one-sided p of 0.001."""


@dataclass(frozen=True)
class Target:
    """Where a command writes: a folder, whether what is there is replaced, and how files are named.

    Attributes
    ----------
    bids
        Whether names are those of BIDS.
    several
        Whether each contrast has a folder of its own.
    report
        Whether each result gets a page, and several one above that lists them.
    """

    folder: str
    overwrite: bool
    bids: bool
    several: bool = False
    report: bool = True

    def within(self, name: str = "") -> dict[str, str]:
        """Where a result is, and its page, as JSON types; ``name`` is its folder in this one."""
        place = Path(self.folder, name)
        return {"output": str(place)} | ({"report": str(place / PAGE)} if self.report else {})

    def marker(self, own: str) -> str:
        """File by which a folder that may be replaced is known; ``own`` is that of one contrast without BIDS."""
        return _bids_results.MARKER if self.bids else _bids_results.SEVERAL if self.several else own

    def check(self, contrast: Any) -> None:
        """Refuse before any work what names of files can't tell.

        Raises
        ------
        ContrastError
            A contrast makes no BIDS label, or two the same; or its name is no name of a folder.
        """
        if self.bids and isinstance(contrast, Mapping):
            labels_of(list(contrast))
        elif self.bids and contrast is not None:
            label_of(contrast if isinstance(contrast, str) else "; ".join(contrast))
        elif self.several and isinstance(contrast, Mapping):
            for name in contrast:
                _check_folder(name)

    def folders(self, names: Sequence[str]) -> dict[str, str]:
        """Where the results of several contrasts can be loaded from, relative to the folder."""
        if not self.bids:
            return {name: name for name in names}
        return {name: f"numbaglm/contrast-{label}" for name, label in labels_of(names).items()}


def _check_folder(name: str) -> None:
    # Blanks at an end are gone already. File systems take 255 bytes, of which a letter may be four.
    if not re.fullmatch(r"\w[\w +-]{0,59}", name):
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        raise ContrastError(
            f"The contrast {shown!r} can't name a folder. Allowed for several contrasts: up to 60 letters, digits, "
            "blanks, '_', '-' and '+', a letter or digit first. Write such a name before it: --contrast 'NAME=EXPR'."
        )
    if DEVICE.fullmatch(name):
        raise ContrastError(
            f"The contrast {name!r} can't name a folder: Windows has a device of that name, and would not open it. "
            "Write another name before it: --contrast 'NAME=EXPR'."
        )


def tell_results(results: Sequence[PermutationResult], target: Target) -> tuple[dict[str, Any], str]:
    """What `save_results` wrote, as JSON types and as text."""
    texts = [describe(result) for result in results]
    names = names_of(results)
    end = f"Maps, tables, figures and a README are in {target.folder}"
    page = f"\nThe report is {Path(target.folder, PAGE)}; open it in a browser." if target.report else ""
    if not target.several:
        return {**target.within(), **summarise(results[0])}, f"{texts[0]}\n\n{end}.{page}"
    folders = target.folders(names)
    told = {
        name: {**target.within(folders[name]), **summarise(result)} for name, result in zip(names, results, strict=True)
    }
    each = "modality" if are_modalities(results) else "contrast"
    places = "" if target.bids else f", in a folder for each {each}: {', '.join(folders)}"
    return {**target.within(), "contrasts": told}, "\n\n".join([*texts, f"{end}{places}.{page}"])


def tell_plans(plans: Mapping[str, Plan]) -> tuple[dict[str, Any], str]:
    """The plan of a contrast, or of several by name, as JSON types and as text."""
    if len(plans) == 1:
        (plan,) = plans.values()
        return asdict(plan), f"Plan: {plan.describe()}."
    lines = [f"Plan of {name}: {plan.describe()}." for name, plan in plans.items()]
    return {"contrasts": {name: asdict(plan) for name, plan in plans.items()}}, "\n".join(lines)


def _name(result: PermutationResult) -> str:
    return result.asked.contrast


def flattened(made: Any) -> dict[str, Any]:
    """Results, or plans, of modalities and contrasts by name, in one dict."""
    if not isinstance(made, dict):
        return {"": made}
    found = {}
    for name, one in made.items():
        for inner, its in flattened(one).items():
            found[f"{name} {inner}".strip()] = its
    return found


def draw(result: PermutationResult, folder: Path) -> None:
    """Write the figures of a result: the statistic, the corrected p, the nulls, the design, the maps' quality."""
    if figures.can_draw(result.space):
        figures.statistic(result, folder / "statistic.png", titled=True)
        figures.corrected(result, folder / "corrected.png")
    figures.nulls(result, folder / "nulls.png")
    if len(result.asked.columns) > 1:
        figures.design(result, folder / "design.png")
    if result.quality is not None:
        plotting.carpet(result.quality, save=folder / "quality.png")


def draw_design(design: pd.DataFrame, folder: Path) -> None:
    """Write the picture of a design matrix, subjects as its index."""
    columns, subjects = [str(name) for name in design.columns], [str(label) for label in design.index]
    plotting.design_matrix(design.to_numpy(np.float64), columns, subjects, save=folder / "design.png")


def save_fit(question: Question, target: Target, progress: bool, n_workers: int | None) -> tuple[dict[str, Any], str]:
    """Fit the parametric model of a question and write its maps; return the summary and its text."""
    table, cohort = question.design, question.cohort
    design = GroupDesign.parse(table, cohort.n_subjects)
    contrast = design.contrast(question.contrast)
    warn_of_lacking_mean(design.matrix)
    statistic = "t" if contrast.is_t else "f"
    maps = parametric_maps(cohort, design.design, contrast, n_workers=n_workers, progress=progress)
    space = cohort.store.space
    top = int(np.argmax(maps[statistic]))
    best = np.array([top])
    place = space.coordinates(best)[0]
    summary = {
        "contrast": contrast.name,
        "statistic": statistic,
        "dof": design.dof,
        "n_subjects": cohort.n_subjects,
        "n_voxels": cohort.n_voxels,
        "maximum": float(maps[statistic][top]),
        "maximum_mm": None if np.isnan(place).any() else place.tolist(),
        "voxel_sizes_mm": space.volume.voxel_sizes.tolist() if space.is_volume else None,
        "elements": space.nouns,
        "maximum_at": space.places(best)[0] or space.structures(best)[0],
        "n_uncorrected_0.001": int(np.sum(maps["p_parametric"] < 0.001)),
        "n_bonferroni_0.05": int(np.sum(maps["p_bonferroni"] <= ALPHA)),
        "smoothing_fwhm": cohort.store.smoothing_fwhm,
        "cohort_fingerprint": cohort.fingerprint,
        "left_out": list(cohort.report),
        "versions": versions(),
    }
    text = describe_fit(summary)
    with whole_folder(target.folder, target.marker(FIT_MARKER), target.overwrite) as part:
        own = part / ".native" if target.bids else part
        own.mkdir(exist_ok=True)
        n_rows = None if contrast.is_t else len(contrast.matrix)
        save_maps(space, maps, own, lambda name: meaning_of(name, design.dof, n_rows))
        table.to_csv(own / "design.tsv", sep="\t", index_label="subject_label")
        if figures.can_draw(space):
            draw_z(space, maps["z"], contrast.name, part / "figures" / "z.png")
        if len(table.columns) > 1:
            draw_design(table, part / "figures")
        (own / FIT_MARKER).write_text(json.dumps(summary, indent=2) + "\n")
        if target.bids:
            _bids_results.write_fit(own, part, summary, text, _entities(cohort), space)
        else:
            write_readme(part, contrast.name, f"```text\n{text}\n```", space)
    return summary, text


def describe_fit(summary: Mapping[str, Any]) -> str:
    """Return the summary of a fit as text."""
    # Folders of 0.1 hold volumes alone, and no words for them.
    nouns, where = summary.get("elements", "voxels"), summary.get("maximum_at", "")
    if summary["maximum_mm"] is not None:
        sizes = summary["voxel_sizes_mm"]
        digits = 0 if sizes is None else decimals(np.array(sizes))
        mm = ", ".join(f"{round(value, digits) + 0.0:.{digits}f}" for value in summary["maximum_mm"])
        where = f"({mm}) mm{', ' if where else ''}{where}"
    return (
        f"{summary['contrast']}: {summary['n_voxels']:,} {nouns}, {summary['n_subjects']} subjects, "
        f"{summary['dof']} degrees of freedom\n"
        f"largest {summary['statistic']}: {summary['maximum']:.2f} at {where}\n"
        f"{nouns} with uncorrected p < 0.001 (one-sided): {summary['n_uncorrected_0.001']:,}\n"
        f"{nouns} with Bonferroni p <= 0.05 (one-sided): {summary['n_bonferroni_0.05']:,}"
    )


def with_quality(results: Sequence[PermutationResult], cohort: Cohort, **running: Any) -> list[PermutationResult]:
    """Put the quality of the maps into the results, where reports find it; warn of maps that stand out.

    Parameters
    ----------
    results, cohort
        What was analysed.
    running
        As in `numbaglm.Cohort.quality`.
    """
    found = cohort.examine(**running)
    log.log(logging.WARNING if found.table["outlier"].any() else logging.INFO, on_quality(found)[0])
    return [replace(result, quality=found) for result in results]


def with_regions(results: Sequence[PermutationResult], atlas: Any) -> list[PermutationResult]:
    """Name the places of clusters, where any were formed; ``atlas`` as in `numbaglm.PermutationResult.regions`."""
    return [one.with_regions(atlas) if "clusters" in one.maps and atlas is not None else one for one in results]


def save_results(results: Sequence[PermutationResult], target: Target, cohort: Cohort, atlas: Any = None) -> None:
    """Write results of a cohort as `PermutationResult.save` or `save_bids` do, with their figures and reports."""
    # Figures hold the GIL while files are compressed, which does not.
    with whole_folder(target.folder, target.marker(MARKER), target.overwrite) as part, ThreadPoolExecutor(1) as pool:
        if target.bids:
            files = pool.submit(_bids_results.write_results, results, part, _entities(cohort))
            for result in results:
                own = f"contrast-{label_of(_name(result))}" if target.several else ""
                draw(result, part / "figures" / own)
            files.result()
            if target.report and target.several:
                folders = target.folders([_name(result) for result in results])
                write_reports(results, [part / one for one in folders.values()], part, atlas=atlas)
            elif target.report:
                write_report(results[0], part / PAGE, atlas=atlas)
        elif target.several:
            for name, result in zip(names_of(results), results, strict=True):
                (part / name).mkdir()
                _write_result(result, part / name, pool, target.report, atlas)
            _write_overview(results, part)
            if target.report:
                write_index(results, [f"{name}/{PAGE}" for name in names_of(results)], part / PAGE)
        else:
            _write_result(results[0], part, pool, target.report, atlas)


def _write_result(result: PermutationResult, folder: Path, pool: ThreadPoolExecutor, report: bool, atlas: Any) -> None:
    files = pool.submit(result.write, folder)
    draw(result, folder / "figures")
    if report:
        write_report(result, folder / PAGE, atlas=atlas)
    files.result()
    write_readme(folder, _name(result), f"```text\n{describe(result)}\n```", result.space)


def _write_overview(results: Sequence[PermutationResult], folder: Path) -> None:
    """Write what stands above the folders of several contrasts: what was found, to be read and for programs."""
    names, each = names_of(results), "modality" if are_modalities(results) else "contrast"
    found = {name: summarise(result) for name, result in zip(names, results, strict=True)}
    (folder / _bids_results.SEVERAL).write_text(json.dumps(found, indent=2) + "\n")
    parts = [f"## {name}\n\n```text\n{describe(one)}\n```" for name, one in zip(names, results, strict=True)]
    end = f"Each {each} has a folder of its name, with a README of its own; `{_bids_results.SEVERAL}` is the same as "
    heading = f"# {counted(results)}"
    text = "\n\n".join([heading, *parts, f"{end}this page, for programs."])
    (folder / README).write_text(f"{text}\n", encoding="utf-8")


def _entities(cohort: Cohort) -> dict[str, str]:
    """What the names of all maps of a cohort share."""
    return shared_entities(cohort.store.subjects["source"])


def draw_z(space: Space, z: Floats, title: str, save: Path) -> None:
    """Write the picture of z at an uncorrected p < 0.001."""
    title = f"{title}: z \u2265 {Z_UNCORRECTED} (p < 0.001, uncorrected)"
    plotting.maps(space, {"": z}, threshold=Z_UNCORRECTED, title=title, label="z", save=save)
