"""The report of a result: one HTML file that needs nothing else, to be read, sent and kept.

The page fetches nothing: pictures, tables and the maps of its viewers are inside, and its content policy
forbids everything else.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from numbaglm import plotting
from numbaglm.cohort import Cohort
from numbaglm.data.storage.files import write_file
from numbaglm.display.maps.background import template_of
from numbaglm.display.maps.surfaces import sheets_of
from numbaglm.display.page import (
    MOST_VERTICES,
    Picture,
    ViewerMap,
    design_picture,
    fill,
    page_path,
    picture,
    slice_viewer,
    surface_viewer,
)
from numbaglm.engine.quality import Quality
from numbaglm.errors import InputError, OutputError, OutputExistsError, invalid, term
from numbaglm.results.record import Record
from numbaglm.results.regions import cluster_regions, regions_of, with_column
from numbaglm.results.reporting import elsewhere, figures, tables, words
from numbaglm.results.reporting.finding import check_findings
from numbaglm.results.reporting.icicle import icicle
from numbaglm.results.reporting.tables import null_table, number, quality_table, weight_rows
from numbaglm.results.vocabulary import ALPHA, FWE_KINDS, OVER, is_loading, map_of
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry
from numbaglm.version import __version__

PAGE = "report.html"
"""What commands call the report of a result, in its folder."""

TDP = 0.7
"""Share of true discoveries, at least, of the clusters that have a table of their own."""

LOADING = 0.5
"""Loading from which the viewer shows a modality: of its variance a quarter."""

MOST_VALUES = 5_000
"""Numbers of a design that the page lists; of more it says where they are."""

MARKER = '<meta name="generator" content="numbaglm report">'
"""What stands near the head of every report: a file without it is never replaced."""


def write_report(
    result: Record,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    cohort: Cohort | None = None,
    background: Any = None,
    surface: Any = None,
    atlas: Any = None,
    beyond: Any = (),
) -> Path:
    """Write the report of a result.

    Parameters
    ----------
    result
        What to report.
    path
        File to write (.html); it appears whole or not at all.
    overwrite
        Whether a report that is there is replaced. Nothing but a report is ever replaced.
    cohort
        What was analysed, for the quality of its maps where the result does not hold it.
    background, surface, atlas, beyond
        What lies beneath the maps, what surfaces are drawn on, names of places, and what else to tell; see
        `numbaglm.PermutationResult.report`.

    Returns
    -------
    The file.

    Raises
    ------
    InputError
        The name of the file does not end in .html, or the cohort is another.
    OutputExistsError, OutputError
        The file exists, or can't be written.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm.results.report import write_report
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=8, voxel_size=10.0).maps)
    >>> result = ng.permutation_test(cohort, n_perm=255)
    >>> write_report(result, "report.html", cohort=cohort).name
    'report.html'
    """
    target = check_free(path, overwrite)
    return write_file(target, make_page(result, cohort, background, surface, atlas, beyond).encode(), "report")


def make_page(
    result: Record,
    cohort: Cohort | None = None,
    background: Any = None,
    surface: Any = None,
    atlas: Any = None,
    beyond: Any = (),
) -> str:
    """Make the report of a result as HTML; see `write_report`."""
    _check_look(result, {"background": (background, Surface | Structures | Geometry), "surface": (surface, Surface)})
    findings = check_findings(beyond, result.space)
    if background is None and result.space.is_volume:
        background = template_of(result.geometry)
    found, asked = _quality(result, cohort), result.asked
    rows = asked.weights.tolist()
    methods, references = words.methods_paragraph(result, found)
    return fill(
        "report.html",
        provenance=dict(result.provenance),
        title=asked.contrast,
        modality=asked.modalities[0] if asked.modalities and asked.combine is None else "",
        in_words=words.in_words(result),
        asked=words.what_was_asked(result),
        headings=["weight"] if len(rows) == 1 else [f"row {k}" for k in range(1, len(rows) + 1)],
        weights=weight_rows(asked.terms, rows),
        design=_design(result),
        data=words.about_data(result),
        coverage=_coverage_section(result, background, surface),
        quality=None if found is None else _quality_section(found),
        noun=result.space.noun,
        nouns=result.space.nouns,
        viewer=viewer(result, background),
        turner=turner(result, background, surface),
        pictures=list(_pictures(result, background, surface)),
        **_tables(result, atlas),
        discoveries=tables.discovery_table(result, TDP) if result.h0 else None,
        icicle=icicle(result) if result.h0 else None,
        tdp=TDP,
        findings=[(one, picture(one.plot(), f"{one.title}. {one.found}", one.promise)) for one in findings],
        nulls=_nulls(result),
        null_table=null_table(result),
        fits=[
            (words.null_in_words(name), words.fit_in_words(fit, result.space.nouns))
            for name, fit in asked.tail_fits.items()
            if fit
        ],
        origins=words.origins(result),
        everything=json.dumps(_listed(result), indent=1),
        methods=methods,
        references=references,
        alpha=result.alpha,
        alpha_tdp=ALPHA,
    )


def _listed(result: Record) -> dict[str, Any]:
    """The provenance, without the rows of a design that would be most of the page."""
    kept, rows = dict(result.provenance), result.asked.rows
    if rows.size > MOST_VALUES:
        where = "design.tsv and provenance.json of the saved result"
        kept["design"] = kept["design"] | {"rows": f"{len(rows):,} rows of {rows.shape[1]} numbers: see {where}"}
    return kept


def _tables(result: Record, atlas: Any = None) -> dict[str, Any]:
    """Tables of clusters, of their peaks, and of parcels, edges or the like."""
    is_volume = result.space.is_volume
    regions = None if atlas is None else regions_of(result, atlas)
    clusters = None
    if words.formed_clusters(result):
        clusters = tables.cluster_table(result) if is_volume else elsewhere.cluster_table(result)
        if regions is not None or "regions" in result.clusters:
            found = result.clusters if regions is None else cluster_regions(result, regions)
            named = found["regions"][tables.shown_clusters(result)].tolist()
            clusters = with_column(clusters, ("regions", "of the atlas, with their shares of the cluster"), named)
    if not is_volume and not elsewhere.has_peaks(result):
        return {"clusters": clusters, "peaks": None, "apart": "", "elements": elsewhere.element_table(result)}
    apart = tables.peak_distance(result.geometry) if is_volume else elsewhere.peak_distance(result)
    peaks = None
    if result.h0:
        peaks = tables.peak_table(result) if is_volume else elsewhere.peak_table(result)
        if regions is not None:
            places = tables.find_peaks(result) if is_volume else elsewhere.find_peaks(result)
            peaks = with_column(peaks, ("region", "of the atlas, at the peak"), [regions[k] for _, k in places])
    return {"clusters": clusters, "peaks": peaks, "apart": f"{apart:.2g}", "elements": None}


def write_index(results: Sequence[Record], pages: Sequence[str], target: Path) -> Path:
    """Write a page that lists the reports of several results, with what was found in each.

    Parameters
    ----------
    results, pages
        Each with the path of its report, relative to the page.
    target
        File to write, from `check_free`.
    """
    found = [
        {
            "name": name,
            "page": page,
            "in_words": words.in_words(one),
            "pictures": list(islice(_pictures(one, None, None), 1)),
            "clusters": _tables(one)["clusters"],
        }
        for name, one, page in zip(words.names_of(results), results, pages, strict=True)
    ]
    headings, weights = _all_weights(results)
    values = {
        "found": found,
        "headings": headings,
        "weights": weights,
        "alpha": results[0].alpha,
        "version": __version__,
    }
    page = fill("index.html", title=words.counted(results), **values)
    return write_file(target, page.encode(), "report")


def write_reports(
    results: Sequence[Record], folders: Sequence[Path], above: Path, overwrite: bool = False, **look: Any
) -> list[Path]:
    """Write the report of each result of several, and a page above them that lists these.

    Parameters
    ----------
    results, folders
        What to report, and below ``above`` the folder of each, which gets a ``report.html``.
    above
        Folder of the page that lists them, ``report.html`` too.
    overwrite, look
        As in `write_report`.

    Returns
    -------
    The pages, the one that lists the others first.

    Raises
    ------
    InputError, OutputExistsError, OutputError
        As `write_report`.
    """
    index = check_free(above / PAGE, overwrite)
    pages = [folder / PAGE for folder in folders]
    for result, page in zip(results, pages, strict=True):
        write_report(result, page, overwrite, **look)
    write_index(results, [page.relative_to(above).as_posix() for page in pages], index)
    return [index, *pages]


def _all_weights(results: Sequence[Record]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Headings and rows of the table of all contrasts; none where they are of several designs."""
    columns = results[0].asked.columns
    if any(one.asked.columns != columns for one in results):
        return [], []
    rows = list({one.asked.contrast: one.asked.weights.tolist() for one in results}.items())
    headings = [name if len(of) == 1 else f"{name}, row {k}" for name, of in rows for k in range(1, len(of) + 1)]
    return headings, weight_rows(columns, [row for _, of in rows for row in of])


def _check_look(result: Record, look: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse what these maps can't be drawn on: it would be left out in silence."""
    for name, (given, kinds) in look.items():
        if given is not None and not any(isinstance(part, kinds) for part in result.space.parts):
            allowed = f"None, as it is not for {result.space.nouns}"
            raise InputError(invalid(name, type(given).__name__, allowed))


def viewer(result: Record, background: Any = None) -> dict[str, Any] | None:
    """Return what the slice viewer shows, as JSON types; None where there are no voxels."""
    for part, where in zip(result.space.parts, result.space.slices, strict=True):
        if isinstance(part, Geometry | Structures):
            geometry = part if isinstance(part, Geometry) else part.volume
            top = int(np.argmax(result.height[where]))
            shown = [replace(one, values=one.values[where]) for one in _viewed(result)]
            return slice_viewer(geometry, shown, top, figures.of_voxels(result.space, background))
    return None


def turner(result: Record, background: Any = None, surface: Any = None) -> dict[str, Any] | None:
    """Return what the viewer of surfaces shows, as JSON types; None where there are none, or they are too large."""
    space = result.space
    surfaces = [part for part in space.parts if isinstance(part, Surface)]
    drawable = surface is not None or figures.can_draw(space)
    if not surfaces or not drawable or sum(part.n_vertices for part in surfaces) > MOST_VERTICES:
        return None
    sheets = sheets_of(space, surface, figures.of_surfaces(space, background))
    on_surfaces = np.zeros(space.n, bool)
    for sheet in sheets:
        on_surfaces[sheet.where] = True
    height = np.where(on_surfaces, result.height, -np.inf)
    return surface_viewer(sheets, list(_viewed(result)), int(np.argmax(height)))


def check_free(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse early what can't be written to; touches nothing.

    Raises
    ------
    InputError, OutputExistsError, OutputError
        As `write_report`.
    """
    target = page_path(path)
    if not target.exists():
        return target
    if not target.is_file() or MARKER not in _head(target):
        raise OutputExistsError(f"{target} exists and is no report of numbaglm: it is left alone. Choose another.")
    if not overwrite:
        raise OutputExistsError(
            f"The report {target} exists: choose another, or {term('overwrite=True')} to replace it."
        )
    return target


def _head(target: Path) -> str:
    try:
        with target.open("rb") as file:
            return file.read(1000).decode(errors="replace")
    except OSError as error:
        raise OutputError(f"Can't read {target}, which is in the way: {error.strerror or error}.") from error


def _viewed(result: Record) -> Iterator[ViewerMap]:
    """Return the maps of the viewer, each with its first threshold."""
    corrected = [f"logp_fwe_{kind}{end}" for kind in FWE_KINDS for end in ("", *OVER)]
    shown = {result.drawn: words.display_threshold(result)[0]}
    shown |= {name: figures.least_logp(result) for name in corrected if name in result.maps}
    if "tfce" in result.maps:
        critical = result.critical("max_tfce", result.alpha) if "max_tfce" in result.h0 else np.inf
        top = float(np.abs(result.maps["tfce"]).max())
        shown["tfce"] = critical if np.isfinite(critical) else top / 2
    if not result.h0 and "p_bonferroni" in result.maps:
        shown["logp_bonferroni"] = figures.least_logp(result)
    if "tdp" in result.maps and np.any(result.maps["tdp"] > 0):
        shown["tdp"] = TDP
    shown |= {name: LOADING for name in result.maps if is_loading(name)}
    for name, threshold in shown.items():
        signed = (result.asked.two_sided and name != "tdp" and not name.startswith("logp_")) or is_loading(name)
        yield ViewerMap(name, map_of(name).label, result.maps[name], threshold, signed)


def _pictures(result: Record, background: Any, surface: Any) -> Iterator[Picture]:
    """Pictures of the statistic and of the corrected p, where there is a mesh for each surface."""
    if surface is None and not figures.can_draw(result.space):
        return
    label, nouns = map_of(result.drawn).label, result.space.nouns
    threshold, source = words.display_threshold(result)
    kind, how = _as_drawn(result)
    caption = f"{words.symbol(result)} \u2265 {number(threshold)} ({source}){how}."
    n = int(np.sum(result.height >= threshold))
    alt = f"{kind} of the {label} map: {n:,} {nouns} reach {number(threshold)}."
    plain = kind not in ("Surfaces", "Slices")
    # A glass brain has nothing beneath it, which slices have.
    look = {} if result.space.is_volume else {"background": background, "surface": surface}
    yield picture(figures.statistic(result, **look), alt, caption, plain=plain)
    if result.space.is_volume:
        yield _slices(result, background)
    if not result.h0:
        return
    end = result.widest
    over = f", over all {OVER[end]}" if end else ""
    names = [name for name in (f"p_fwe_{kind}{end}" for kind in FWE_KINDS) if name in result.maps]
    reached = [
        f"{map_of(name).label.removeprefix('p, FWE: ')} {int(np.sum(result.maps[name] <= result.alpha)):,}"
        for name in names
    ]
    if not any((result.maps[name] <= result.alpha).any() for name in names):
        return  # the words say so
    alt = f"{kind} of the corrected p. {nouns.capitalize()} at {result.alpha:g} or less: {', '.join(reached)}."
    caption = f"\u2212log10 of p corrected for family-wise error{over}, where p \u2264 {result.alpha:g}."
    yield picture(figures.corrected(result, **look), alt, caption, plain=plain)


def _slices(result: Record, background: Any) -> Picture:
    """Slices of the statistic through its peaks, with the numbers of clusters."""
    threshold, _ = words.display_threshold(result)
    beneath = "the mask" if background is None else "the anatomy"
    where = "through the highest peaks" if words.formed_clusters(result) else "through the highest values"
    numbers = ", with the numbers of their clusters" if words.formed_clusters(result) else ""
    label = map_of(result.drawn).label
    caption = (
        f"{words.symbol(result)} \u2265 {number(threshold)} over {beneath}, {where}{numbers}. Left is on the left."
    )
    alt = f"Axial slices of the {label} map {where}."
    return picture(figures.through_peaks(result, background), alt, caption, plain=background is None)


def _as_drawn(result: Record) -> tuple[str, str]:
    """What a picture of the maps is called, and how they are seen in it."""
    kinds = {part.kind for part in result.space.parts}
    if result.space.is_volume:
        return "Glass brains", ", seen through the brain from the right, the back and above"
    if "surface" in kinds:
        beside = ", and slices of the voxels" if "structures" in kinds else ""
        return "Surfaces", f", on the surfaces from outside and inside; darker grey is deeper{beside}"
    if "network" in kinds:
        return "Networks", ": all edges as a matrix, and those that reach it as a circle"
    if "structures" in kinds:
        return "Slices", ", in axial slices. Left is on the left"
    return "Bars", ": the largest values; grey bars do not reach it"


def _nulls(result: Record) -> Picture | None:
    if not result.h0:
        return None
    alt = "Histograms of the nulls, with the observed maximum and the critical value of each, which the table lists."
    return picture(figures.nulls(result), alt, "The largest value over the map, of each shuffling.")


def _design(result: Record) -> Picture | None:
    asked = result.asked
    if not asked.columns:
        return None
    return design_picture(asked.rows, asked.columns, asked.subjects)


def _coverage_section(result: Record, background: Any, surface: Any) -> dict[str, Any] | None:
    """Which elements lack how many subjects; None where none lacks any."""
    table = tables.coverage_table(result)
    if table is None:
        return None
    told, noun, shown = words.coverage(result), result.space.noun, None
    if surface is not None or figures.can_draw(result.space):
        beneath = "the anatomy" if background is not None else "the mask, which is grey where all subjects are there"
        over = f" Axial slices over {beneath}; left is on the left." if result.space.is_volume else ""
        plain = not result.space.is_volume or background is None
        caption = f"How many subjects each {noun} lacks.{over}"
        shown = picture(figures.coverage(result, background, surface), f"{caption} {told}.", caption, plain=plain)
    return {"told": told, "picture": shown, "table": table}


def _quality(result: Record, cohort: Cohort | None) -> Quality | None:
    """Quality of the maps: of the cohort, else what the result holds of it."""
    if cohort is None:
        return result.quality
    if cohort.fingerprint != result.asked.cohort_fingerprint:
        raise InputError(invalid("cohort", repr(cohort), "the cohort of which the result is, unchanged"))
    return cohort.examine()


def _quality_section(found: Quality) -> dict[str, Any]:
    odd = [str(label) for label in found.table.index[found.table["outlier"]]]
    alt = f"Every map as a row, with its mean, sd, correlation and missing voxels. {len(odd)} stand out, as listed."
    caption = (
        "Each row is a subject, each column neighbouring voxels, from the lowest to the highest; red where the map is "
        "above the others there, blue where it is below."
    )
    shown = picture(plotting.carpet(found), alt, caption, few_colours=True)
    return {"n_odd": len(odd), "words": words.on_quality(found), "picture": shown, "table": quality_table(found)}
