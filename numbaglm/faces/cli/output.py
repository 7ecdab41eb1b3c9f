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
from numbaglm.cohort import Cohort
from numbaglm.data.images import save_maps
from numbaglm.data.storage.files import README, whole_folder, write_readme
from numbaglm.display.projection import decimals
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.quality import Quality, examine
from numbaglm.errors import ContrastError
from numbaglm.faces.bids import results as _bids_results
from numbaglm.faces.bids.names import label_of, labels_of, shared_entities
from numbaglm.faces.cli.inputs import Question
from numbaglm.faces.nilearn.second_level import SecondLevelModel
from numbaglm.inference.assembly import versions
from numbaglm.results.record import MARKER, Floats, PermutationResult
from numbaglm.results.tables import STATISTIC_LABELS, cubic
from numbaglm.results.words import display_threshold, on_quality
from numbaglm.stats import pvalues

log = logging.getLogger("numbaglm")

FIT_MARKER = _bids_results.FIT
ALPHA = 0.05
Z_UNCORRECTED = 3.09
"""z of an uncorrected one-sided p of 0.001."""

_P_FLOOR = float(np.finfo(np.float32).tiny)  # images hold float32, and p is never 0


@dataclass(frozen=True)
class Target:
    """Where a command writes: a folder, whether what is there is replaced, and how files are named.

    Attributes
    ----------
    bids
        Whether names are those of BIDS.
    several
        Whether each contrast has a folder of its own.
    """

    folder: str
    overwrite: bool
    bids: bool
    several: bool = False

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
        elif self.several:
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
        raise ContrastError(
            f"The contrast {name!r} can't name a folder. Allowed for several contrasts: up to 60 letters, digits, "
            "blanks, '_', '-' and '+', a letter or digit first. Write such a name before it: --contrast 'NAME=EXPR'."
        )


def summarise(result: PermutationResult) -> dict[str, Any]:
    """Return what was found, as JSON types."""
    provenance = result.provenance
    n_reached = {
        name.removeprefix("p_fwe_"): int(np.sum(p <= ALPHA))
        for name, p in result.maps.items()
        if name in ("p_fwe_voxel", "p_fwe_tfce")
    }
    for kind in ("size", "mass"):
        if f"max_{kind}" in result.h0:
            n_reached[f"clusters_by_{kind}"] = int(np.sum(result.clusters[f"p_fwe_{kind}"] <= ALPHA))
    keys = (
        "n_subjects",
        "n_voxels",
        "n_shufflings",
        "exhaustive",
        "shuffling",
        "statistic",
        "dof",
        "two_sided",
    )
    values = result.maps[result.statistic]
    critical, top = np.inf, np.max(np.abs(values) if provenance["two_sided"] else values)
    if result.h0:
        critical, top = result.critical(result.max_statistic, ALPHA), result.h0[result.max_statistic][0]
    return {
        "contrast": provenance["contrast"]["name"],
        **{key: provenance[key] for key in keys},
        "cluster_forming_statistic": provenance["cluster_forming_statistic"],
        "seed": provenance["seed"],
        "observed_maximum": float(top),
        "critical_statistic": critical if np.isfinite(critical) else None,
        "n_fwe_0.05": n_reached,
        **({"n_voxels_fwe_across_contrasts_0.05": _n_across_contrasts(result)} if result.over_contrasts else {}),
        "clusters": result.clusters.to_dict("records"),
        "cohort_fingerprint": provenance["cohort_fingerprint"],
        "left_out": provenance["left_out"],
    }


def _n_across_contrasts(result: PermutationResult) -> dict[str, int]:
    """How many voxels reach a p that is corrected over contrasts as well, by what it is of."""
    ends = "p_fwe_", "_contrasts"
    return {
        name.removeprefix(ends[0]).removesuffix(ends[1]): int(np.sum(p <= ALPHA))
        for name, p in result.maps.items()
        if name.startswith(ends[0]) and name.endswith(ends[1])
    }


def describe(result: PermutationResult, n_clusters: int = 10) -> str:
    """Return the summary as text, and the first rows of the cluster table."""
    text = result.summary()
    if "max_size" in result.h0:
        table = cluster_table(result.clusters, result.statistic, n_clusters, decimals(result.geometry.voxel_sizes))
        return f"{text}\n\n{table}"
    return text


def cluster_table(clusters: pd.DataFrame, statistic: str, n_rows: int = 10, digits: int = 0) -> str:
    """Lay the first rows of a table of clusters out to be read.

    Parameters
    ----------
    clusters
        As in `PermutationResult.clusters`.
    statistic
        "t" or "f".
    n_rows
        How many rows to show.
    digits
        Of a peak's mm, after the point.
    """
    if clusters.empty:
        return "No cluster at this threshold."
    shown = clusters.head(n_rows)
    peaks = shown[["peak_x", "peak_y", "peak_z"]].round(digits) + 0.0  # no negative zero
    columns = {
        "cluster": [str(number) for number in shown["cluster"]],
        "peak (mm)": [" ".join(f"{mm:4.{digits}f}" for mm in peak) for peak in peaks.itertuples(index=False)],
        statistic: [f"{value:.2f}" for value in shown["peak_stat"]],
        "p(peak)": [_short_p(p) for p in shown["p_fwe_voxel"]],
        "voxels": [f"{n:,}" for n in shown["size_voxels"]],
        "mm3": [cubic(size) for size in shown["size_mm3"]],
        "p(size)": [_short_p(p) for p in shown["p_fwe_size"]],
        "mass": [f"{mass:,.1f}" for mass in shown["mass"]],
        "p(mass)": [_short_p(p) for p in shown["p_fwe_mass"]],
    }
    lines = [[name, *cells] for name, cells in columns.items()]
    widths = [max(map(len, cells)) for cells in lines]
    rows = zip(*lines, strict=True)
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    more = len(clusters) - len(shown)
    return "\n".join(["Clusters, p corrected for family-wise error:", *table, *([f"... {more} more"] if more else [])])


def _short_p(p: float) -> str:
    return f"{p:.4f}" if p >= 5e-5 else f"{p:.0e}"


def tell_results(results: Sequence[PermutationResult], target: Target) -> tuple[dict[str, Any], str]:
    """What `save_results` wrote, as JSON types and as text."""
    texts = [describe(result) for result in results]
    end = f"Maps, tables, figures and a README are in {target.folder}"
    if not target.several:
        return {"output": target.folder, **summarise(results[0])}, f"{texts[0]}\n\n{end}."
    folders = target.folders([_name(result) for result in results])
    told = {
        _name(result): {"output": str(Path(target.folder) / folders[_name(result)]), **summarise(result)}
        for result in results
    }
    places = "" if target.bids else f", in a folder for each contrast: {', '.join(folders)}"
    return {"output": target.folder, "contrasts": told}, "\n\n".join([*texts, f"{end}{places}."])


def tell_plans(plans: Mapping[str, Plan]) -> tuple[dict[str, Any], str]:
    """The plan of a contrast, or of several by name, as JSON types and as text."""
    if len(plans) == 1:
        (plan,) = plans.values()
        return asdict(plan), f"Plan: {plan.describe()}."
    lines = [f"Plan of {name}: {plan.describe()}." for name, plan in plans.items()]
    return {"contrasts": {name: asdict(plan) for name, plan in plans.items()}}, "\n".join(lines)


def _name(result: PermutationResult) -> str:
    return str(result.provenance["contrast"]["name"])


def draw(result: PermutationResult, folder: Path) -> None:
    """Write the figures of a result: the statistic, the corrected p, the nulls, the design, the maps' quality."""
    provenance, name = result.provenance, result.statistic
    threshold, _ = display_threshold(result)
    label = STATISTIC_LABELS[name]
    reach = f"|{label}|" if provenance["two_sided"] else label
    plotting.glass_brain(
        result.geometry,
        result.maps[name],
        threshold=threshold,
        two_sided=provenance["two_sided"],
        title=f"{provenance['contrast']['name']}: {reach} \u2265 {threshold:.2f}",
        label=label,
        save=folder / "statistic.png",
    )
    result.plot(save=folder / "corrected.png")
    draw_nulls(result, folder / "nulls.png")
    design = provenance["design"]
    if len(design["columns"]) > 1:
        draw_design(pd.DataFrame(design["rows"], provenance["subjects"], pd.Index(design["columns"])), folder)
    if "quality" in provenance:
        plotting.carpet(Quality.from_json(provenance["quality"]), save=folder / "quality.png")


def draw_nulls(result: PermutationResult, save: Path) -> None:
    """Write the histogram of each null with what was observed."""
    observed = {name: float(null[0]) for name, null in result.h0.items()}
    plotting.null_histograms(dict(result.h0), observed, save=save)


def draw_design(design: pd.DataFrame, folder: Path) -> None:
    """Write the picture of a design matrix, subjects as its index."""
    columns, subjects = [str(name) for name in design.columns], [str(label) for label in design.index]
    plotting.design_matrix(design.to_numpy(np.float64), columns, subjects, save=folder / "design.png")


def parametric_maps(model: SecondLevelModel, contrast: Any, statistic: str) -> dict[str, Floats]:
    """(n_voxels,) maps of a contrast by the names of their files; p is of one tail."""
    images = model.compute_contrast(contrast, output_type="all")
    mask = model.cohort_.geometry.mask

    def inside(name: str) -> Floats:
        values = images[name].get_fdata()[mask]
        return np.ascontiguousarray(values.T)

    p = np.maximum(inside("p_value"), _P_FLOOR)
    bonferroni = pvalues.bonferroni(p)
    return {
        statistic: inside("stat"),
        "z": inside("z_score"),
        "effect": inside("effect_size"),
        "variance": inside("effect_variance"),
        "p_parametric": p,
        "logp_parametric": pvalues.logp(p),
        "p_bonferroni": bonferroni,
        "logp_bonferroni": pvalues.logp(bonferroni),
    }


def save_fit(question: Question, target: Target, progress: bool, n_workers: int | None) -> tuple[dict[str, Any], str]:
    """Fit the parametric model of a question and write its maps; return the summary and its text."""
    design, cohort = question.design, question.cohort
    statistic = "f" if isinstance(question.contrast, list) else "t"
    model = SecondLevelModel(verbose=int(progress), n_jobs=n_workers or -1).fit(cohort, design_matrix=design)
    maps = parametric_maps(model, question.contrast, statistic)
    assert model.results_ is not None
    contrast = "; ".join(question.contrast) if statistic == "f" else question.contrast or design.columns[0]
    top = int(np.argmax(maps[statistic]))
    summary = {
        "contrast": str(contrast),
        "statistic": statistic,
        "dof": model.results_[0.0].df_residuals,
        "n_subjects": cohort.n_subjects,
        "n_voxels": cohort.n_voxels,
        "maximum": float(maps[statistic][top]),
        "maximum_mm": cohort.geometry.coordinates(np.array([top]))[0].tolist(),
        "voxel_sizes_mm": cohort.geometry.voxel_sizes.tolist(),
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
        save_maps(cohort.geometry, maps, own)
        design.to_csv(own / "design.tsv", sep="\t", index_label="subject_label")
        draw_z(model, maps["z"], str(contrast), part / "figures" / "z.png")
        if len(design.columns) > 1:
            draw_design(design, part / "figures")
        (own / FIT_MARKER).write_text(json.dumps(summary, indent=2) + "\n")
        if target.bids:
            _bids_results.write_fit(own, part, summary, text, _entities(cohort))
        else:
            write_readme(part, str(contrast), f"```text\n{text}\n```")
    return summary, text


def describe_fit(summary: Mapping[str, Any]) -> str:
    """Return the summary of a fit as text."""
    digits = decimals(np.array(summary["voxel_sizes_mm"]))
    place = ", ".join(f"{round(mm, digits) + 0.0:.{digits}f}" for mm in summary["maximum_mm"])
    return (
        f"{summary['contrast']}: {summary['n_voxels']:,} voxels, {summary['n_subjects']} subjects, "
        f"{summary['dof']} degrees of freedom\n"
        f"largest {summary['statistic']}: {summary['maximum']:.2f} at ({place}) mm\n"
        f"voxels with uncorrected p < 0.001 (one-sided): {summary['n_uncorrected_0.001']:,}\n"
        f"voxels with Bonferroni p <= 0.05 (one-sided): {summary['n_bonferroni_0.05']:,}"
    )


def with_quality(results: Sequence[PermutationResult], cohort: Cohort, **running: Any) -> list[PermutationResult]:
    """Put the quality of the maps into the results' provenance, where reports find it; warn of maps that stand out.

    Parameters
    ----------
    results, cohort
        What was analysed.
    running
        As in `numbaglm.engine.quality.examine`.
    """
    found = examine(cohort.store, **running)
    log.log(logging.WARNING if found.table["outlier"].any() else logging.INFO, on_quality(found)[0])
    quality = found.as_json()
    return [replace(result, provenance={**result.provenance, "quality": quality}) for result in results]


def save_results(results: Sequence[PermutationResult], target: Target, cohort: Cohort) -> None:
    """Write results of a cohort as `PermutationResult.save` or `save_bids` do, with their figures."""
    # Figures hold the GIL while files are compressed, which does not.
    with whole_folder(target.folder, target.marker(MARKER), target.overwrite) as part, ThreadPoolExecutor(1) as pool:
        if target.bids:
            files = pool.submit(_bids_results.write_results, results, part, _entities(cohort))
            for result in results:
                own = f"contrast-{label_of(_name(result))}" if target.several else ""
                draw(result, part / "figures" / own)
            files.result()
        elif target.several:
            for result in results:
                (part / _name(result)).mkdir()
                _write_result(result, part / _name(result), pool)
            _write_overview(results, part)
        else:
            _write_result(results[0], part, pool)


def _write_result(result: PermutationResult, folder: Path, pool: ThreadPoolExecutor) -> None:
    files = pool.submit(result.write, folder)
    Quality.from_json(result.provenance["quality"]).table.to_csv(folder / "quality.tsv", sep="\t")
    draw(result, folder / "figures")
    files.result()
    write_readme(folder, _name(result), f"```text\n{describe(result)}\n```")


def _write_overview(results: Sequence[PermutationResult], folder: Path) -> None:
    """Write what stands above the folders of several contrasts: what was found, to be read and for programs."""
    found = {_name(result): summarise(result) for result in results}
    (folder / _bids_results.SEVERAL).write_text(json.dumps(found, indent=2) + "\n")
    parts = [f"## {_name(result)}\n\n```text\n{describe(result)}\n```" for result in results]
    end = f"Each contrast has a folder of its name, with a README of its own; `{_bids_results.SEVERAL}` is the same as "
    text = "\n\n".join([f"# {len(results)} contrasts", *parts, f"{end}this page, for programs."])
    (folder / README).write_text(f"{text}\n", encoding="utf-8")


def _entities(cohort: Cohort) -> dict[str, str]:
    """What the names of all maps of a cohort share."""
    return shared_entities(cohort.store.subjects["source"])


def draw_z(model: SecondLevelModel, z: Floats, title: str, save: Path) -> None:
    """Write the glass brain of z at an uncorrected p < 0.001."""
    title = f"{title}: z \u2265 {Z_UNCORRECTED} (p < 0.001, uncorrected)"
    plotting.glass_brain(model.cohort_.geometry, z, threshold=Z_UNCORRECTED, title=title, label="z", save=save)
