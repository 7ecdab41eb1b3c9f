"""The report of a `SecondLevelModel`: one page of the model, its design, its mask and the maps of contrasts.

The page fetches nothing: pictures, tables and the maps of its slice viewer are inside, and its content policy
forbids everything else.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm import plotting
from numbaglm.data.images import list_maps
from numbaglm.display.html_report import HTMLReport
from numbaglm.display.maps.background import mask_slices, template_of
from numbaglm.display.maps.projection import decimals
from numbaglm.display.maps.surfaces import sheets_of
from numbaglm.display.page import (
    MOST_VERTICES,
    Picture,
    ViewerMap,
    design_picture,
    fill,
    picture,
    slice_viewer,
    surface_viewer,
)
from numbaglm.errors import InputError, InputTypeError, NumbaglmFutureWarning, invalid, warn
from numbaglm.faces.nilearn.maskers import Masker, SurfaceMasker
from numbaglm.faces.nilearn.model import words as words
from numbaglm.faces.nilearn.model.options import Asked, contrasts_of
from numbaglm.faces.nilearn.model.record import Fitted, ModelRecord
from numbaglm.faces.nilearn.thresholds import get_clusters_table, threshold_stats_img
from numbaglm.results.provenance import versions
from numbaglm.results.reporting.tables import Cell, Row, Table, number, weight_rows, xyz_cells
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import is_surface
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.estimable import GroupDesign

_MOST_CUTS, _SLICES = 8, 20  # slices lie apart by a twentieth of the mask or more
_MOST_OPEN = 30  # rows of a table that is not folded up
_MEANINGS = {
    "Cluster ID": "number; sub-peaks have a letter after that of their cluster",
    "Hemisphere": "part of the surface",
    "X": "mm, to the right",
    "Y": "mm, to the front",
    "Z": "mm, up",
    "Peak Stat": "z at the peak",
    "Cluster Size (mm3)": "extent in cubic millimetres",
    "Cluster Size (vertices)": "extent in vertices",
}


@dataclass(frozen=True, eq=False)
class Found:
    """What was found for a contrast.

    Attributes
    ----------
    contrast
        Its name, and weights over the columns that were given.
    z, shown
        Images: the map, and what of it reaches the threshold.
    threshold
        z; infinity where nothing is significant.
    table
        Clusters and their peaks.
    notes
        What has to be said about them.
    """

    contrast: Contrast
    z: Any
    shown: Any
    threshold: float
    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def n_clusters(self) -> int:
        """Rows of the table that are no sub-peaks."""
        return int(pd.to_numeric(self.table["Cluster ID"], errors="coerce").notna().sum())


def generate_report(
    model: ModelRecord, contrasts: Any, title: Any, report_dims: Any, options: Mapping[str, Any]
) -> HTMLReport:
    """Make the report of a model.

    Parameters
    ----------
    model
        What is told and drawn of it.
    contrasts, title, report_dims
        As in `numbaglm.SecondLevelModel.generate_report`.
    options
        Its other arguments, by name.
    """
    if not isinstance(title, str | None):
        raise InputTypeError(invalid("title", title, "a text, or None"))
    if np.shape(report_dims) != (2,):
        raise InputError(invalid("report_dims", report_dims, "width and height in pixels"))
    asked, notes = Asked.parse(options)
    wanted, fitted = contrasts_of(contrasts), model.fitted
    notes += _shortcomings(model, bool(wanted))
    found = []
    if fitted is not None:  # what can't be used is refused before anything is computed
        if asked.bg_img is not None and not is_surface(asked.bg_img):
            list_maps(asked.bg_img, minimum=1)
        parsed = [(_contrast(fitted.design, name, one), one) for name, one in wanted]
        found = [_find(fitted, contrast, one, asked) for contrast, one in parsed]
    for note in notes:
        warn(note)
    page = fill(
        "model_report.html",
        title=title or model.kind,
        model=model.text,
        version=versions()["numbaglm"],
        notes=notes,
        parameters=words.parameters(model),
        fitted=None if fitted is None else _content(fitted, found, asked),
    )
    return HTMLReport(page, *report_dims)


def _shortcomings(model: ModelRecord, contrasts: bool) -> list[str]:
    """Say what keeps a report from being whole."""
    notes = []
    if not model.reports:
        notes.append("Report generation not enabled: the model was made with reports=False.")
    if model.fitted is None:
        notes.append("This estimator has not been fit yet. Call fit first: the page lists its parameters alone.")
    elif not contrasts:
        notes.append("No contrast passed during report generation. Name some in 'contrasts' to see their maps.")
    return notes


def _find(model: Fitted, contrast: Contrast, given: Any, asked: Asked) -> Found:
    z = model.z_of(given)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        shown, threshold = threshold_stats_img(
            z,
            model.masker.mask_img_,
            alpha=asked.alpha,
            threshold=asked.threshold,
            height_control=asked.height_control,
            cluster_threshold=asked.cluster_threshold,
            two_sided=asked.two_sided,
        )
        table = get_clusters_table(
            shown, threshold, asked.cluster_threshold, two_sided=asked.two_sided, min_distance=asked.min_distance
        )
    # That nothing was found is in the page itself.
    said = dict.fromkeys(str(one.message) for one in raised if not issubclass(one.category, NumbaglmFutureWarning))
    notes = [text for text in said if not text.startswith("No clusters found")] if len(table) else []
    return Found(contrast, z, shown, float(threshold), table, tuple(notes))


def _contrast(design: GroupDesign, name: str | None, given: Any) -> Contrast:
    """The contrast over the columns that were given, filled up with zeros as the model does."""
    weights = np.asarray(given) if given is not None else np.ones(1)
    if weights.dtype.kind in "biuf":
        rows = np.atleast_2d(weights).astype(np.float64)
        given = np.pad(rows, ((0, 0), (0, max(0, len(design.columns) - rows.shape[1]))))
    return Contrast.parse(given, Design(design.matrix, design.columns), name)


def _content(model: Fitted, found: Sequence[Found], asked: Asked) -> dict[str, Any]:
    """What the page holds of a model that is fitted."""
    (cohort, masker), design = model.read(), model.design
    geometry = masker.geometry if isinstance(masker, Masker) else None
    if asked.bg_img is not None and is_surface(asked.bg_img) != (geometry is None):
        raise InputTypeError(_wrong_background(asked.bg_img, geometry))
    contrasts = [(one.contrast.name, one.contrast.is_t) for one in found]
    methods, references = words.methods_paragraph(model, contrasts, asked)
    return {
        "n_subjects": len(design.matrix),
        "n_elements": masker.n_elements_,
        "noun": "vertices" if geometry is None else "voxels",
        "facts": words.about_model(model),
        "design": design_picture(design.matrix, design.columns, cohort.subjects),
        "headings": [heading for one in found for heading in _headings(one.contrast)],
        "weights": weight_rows(design.columns, [row for one in found for row in one.contrast.matrix.tolist()]),
        "mask": words.about_mask(model),
        "mask_picture": None if geometry is None else _mask_picture(geometry, asked),
        "left_out": cohort.report,
        "viewer": _viewer(geometry, found, asked) if geometry is not None and found else None,
        "turner": _turner(masker, found, asked) if isinstance(masker, SurfaceMasker) and found else None,
        "found": [_section(masker, one, k, asked) for k, one in enumerate(found)],
        "methods": methods,
        "references": references,
        "origins": words.origins(model),
    }


def _wrong_background(given: Any, geometry: Geometry | None) -> str:
    kind = type(given).__name__
    if geometry is None:
        return f"'bg_img' must a SurfaceImage instance where maps lie on a surface: got {kind}. Leave it out."
    return f"'bg_img' must be an image of a volume, or its path, where maps are volumes: got {kind}."


def _headings(contrast: Contrast) -> list[str]:
    if contrast.is_t:
        return [contrast.name]
    return [f"{contrast.name}, row {k}" for k in range(1, len(contrast.matrix) + 1)]


def _mask_picture(geometry: Geometry, asked: Asked) -> Picture:
    beneath = _beneath(geometry, asked)
    figure = mask_slices(geometry, beneath)
    over = "in grey" if beneath is None else "outlined over the background"
    caption = f"The voxels that are analysed, {over}. Left is on the left."
    return picture(figure, "Slices of the mask.", caption, plain=beneath is None)


def _viewer(geometry: Geometry, found: Sequence[Found], asked: Asked) -> dict[str, Any]:
    volumes = []
    for one in found:
        values, signed = _vector(geometry, one.z), asked.two_sided or one.threshold < 0
        height = abs(one.threshold) if np.isfinite(one.threshold) else float(np.abs(values).max())
        volumes.append(ViewerMap("z", f"z: {one.contrast.name}", values, height, signed))
    first = volumes[0]
    start = int(np.argmax(np.abs(first.values) if first.signed else first.values))
    return slice_viewer(geometry, volumes, start, _beneath(geometry, asked))


def _beneath(geometry: Geometry, asked: Asked) -> Any:
    """What lies beneath maps: what was asked for, or the template of their space where there is one."""
    return asked.bg_img if asked.bg_img is not None else template_of(geometry)


def _turner(masker: SurfaceMasker, found: Sequence[Found], asked: Asked) -> dict[str, Any] | None:
    """What turns on the page: the maps of all contrasts."""
    space = Space(masker.vertices.parts)
    if sum(part.n_vertices for part in masker.vertices.parts) > MOST_VERTICES:
        return None
    shown = []
    for one in found:
        values, signed = np.asarray(masker.transform(one.z), np.float64).ravel(), asked.two_sided or one.threshold < 0
        height = abs(one.threshold) if np.isfinite(one.threshold) else float(np.abs(values).max())
        shown.append(ViewerMap("z", f"z: {one.contrast.name}", values, height, signed))
    start = int(np.argmax(np.abs(shown[0].values) if shown[0].signed else shown[0].values))
    return surface_viewer(sheets_of(space, background=_depth(asked)), shown, start)


def _depth(asked: Asked) -> dict[str, Any] | None:
    """Values of the background by side."""
    if asked.bg_img is None:
        return None
    return {side: np.asarray(values).reshape(len(values), -1)[:, 0] for side, values in asked.bg_img.data.parts.items()}


def _on_surfaces(masker: SurfaceMasker, found: Found, asked: Asked) -> Picture:
    """Draw what reaches the threshold on the surfaces."""
    values = np.asarray(masker.transform(found.shown), np.float64).ravel()
    n = int(np.count_nonzero(values))
    figure = plotting.maps(
        Space(masker.vertices.parts),
        {"": values},
        threshold=abs(found.threshold),
        two_sided=asked.two_sided or found.threshold < 0,
        background=_depth(asked),
        label="z",
    )
    alt = f"z of {found.contrast.name}: {n:,} vertices reach the threshold."
    caption = f"{words.reach(asked, found.threshold)}, {n:,} vertices, from outside and inside; darker grey is deeper."
    return picture(figure, alt, caption, plain=False)


def _vector(geometry: Geometry, image: Any) -> NDArray[np.float64]:
    return np.asarray(image.dataobj, dtype=np.float64)[geometry.mask]


def _section(masker: Masker | SurfaceMasker, found: Found, number_of: int, asked: Asked) -> dict[str, Any]:
    """What the page holds of a contrast."""
    geometry = masker.geometry if isinstance(masker, Masker) else None
    drawn = None
    if not found.table.empty:
        drawn = (
            _on_surfaces(masker, found, asked)
            if isinstance(masker, SurfaceMasker)
            else _brain(masker.geometry, found, asked)
        )
    return {
        "name": found.contrast.name,
        "kind": "t" if found.contrast.is_t else "F",
        "facts": words.about_threshold(asked, found.threshold, "vertices" if geometry is None else "voxels"),
        "found": words.what_was_found(asked, found.table, found.n_clusters),
        "n_clusters": found.n_clusters,
        "picture": drawn,
        "notes": found.notes,
        "table": _table(found.table, geometry, number_of),
        "open": len(found.table) <= _MOST_OPEN,
    }


def _brain(geometry: Geometry, found: Found, asked: Asked) -> Picture:
    """Draw what reaches the threshold."""
    values, height = _vector(geometry, found.shown), abs(found.threshold)
    signed = asked.two_sided or found.threshold < 0
    name, reached = found.contrast.name, words.reach(asked, found.threshold)
    n = int(np.count_nonzero(values))
    alt = f"z of {name}: {n:,} voxels reach the threshold."
    if asked.glass:
        figure = plotting.glass_brain(
            geometry, values, threshold=height, two_sided=signed, label="z", views=asked.views
        )
        return picture(figure, alt, f"{reached}, {n:,} voxels, seen through the brain.")
    cuts = asked.cuts if asked.cuts is not None else _cuts(found.table, asked.views, geometry)
    under = _beneath(geometry, asked)
    figure = plotting.slices(
        geometry, values, under, view=asked.views, cuts=cuts, threshold=height, two_sided=signed, label="z"
    )
    beneath = "mask" if under is None else "background"
    where = "" if asked.cuts is not None else ", in slices through the highest peaks"
    caption = f"{reached}, {n:,} voxels, over the {beneath}{where}. Left is on the left."
    return picture(figure, alt, caption, plain=under is None)


def _cuts(table: pd.DataFrame, views: str, geometry: Geometry) -> list[float]:
    """Places of slices, mm: at the highest peak of all, or of one view at several peaks that lie apart."""
    order = table["Peak Stat"].astype(float).abs().sort_values(ascending=False, kind="stable").index
    peaks = table.loc[order, [view.upper() for view in views]].to_numpy(float)
    if len(views) > 1:
        return [float(mm) for mm in peaks[0]]
    apart = np.ptp(geometry.coordinates(np.arange(geometry.n_voxels))[:, "xyz".index(views)]) / _SLICES
    kept: list[float] = []
    for (mm,) in peaks.tolist():
        if len(kept) < _MOST_CUTS and all(abs(mm - other) >= apart for other in kept):
            kept.append(mm)
    return sorted(kept)


def _table(table: pd.DataFrame, geometry: Geometry | None, volume: int) -> Table:
    """The table of clusters as the page shows it."""
    columns = tuple((str(name), _MEANINGS[str(name)]) for name in table.columns)
    digits = 0 if geometry is None else decimals(geometry.voxel_sizes)
    rows = []
    for k, one in enumerate(table.to_dict("records")):
        label, size = str(one["Cluster ID"]), one[table.columns[-1]]
        mm = () if geometry is None else tuple(float(one[axis]) for axis in "XYZ")
        cells = (
            Cell(label, k),
            *(xyz_cells(mm, digits) if mm else (Cell(one["Hemisphere"], one["Hemisphere"]),)),
            Cell(number(one["Peak Stat"]), float(one["Peak Stat"])),
            Cell("", 0) if size == "" else Cell(number(size, 0), size),
        )
        rows.append(Row(cells, mm, None if geometry is None else volume))
    return Table(columns, tuple(rows))
