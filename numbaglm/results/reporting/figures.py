"""Figures of a result: its statistic, its corrected p, its nulls and its design."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbaglm import plotting
from numbaglm.display.canvas import SavePath
from numbaglm.display.nulls import null_histograms
from numbaglm.errors import InputError, invalid
from numbaglm.results.record import Record
from numbaglm.results.reporting.tables import find_peaks, null_label, upward
from numbaglm.results.reporting.words import display_threshold, symbol
from numbaglm.results.vocabulary import FWE_KINDS, map_of
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Surface

_MOST_CUTS, _SLICES = 8, 20  # slices lie apart by a twentieth of the mask or more


def least_logp(result: Record) -> float:
    """-log10 of the corrected p from which on results are significant."""
    return -float(np.log10(result.alpha))


def statistic(result: Record, save: SavePath = None, titled: bool = False, **look: Any) -> Any:
    """Draw the statistic on a glass brain, where it reaches `numbaglm.results.reporting.words.display_threshold`.

    Parameters
    ----------
    result, save
        What to draw, and a file to write.
    titled
        Whether the name of the contrast and the threshold stand above.
    look
        Other arguments of `numbaglm.plotting.maps`, for what is no volume.
    """
    name, (threshold, _) = result.drawn, display_threshold(result)
    title = f"{result.asked.contrast}: {symbol(result)} \u2265 {threshold:.2f}"
    if not result.space.is_volume:
        return one_map(result, name, threshold, title if titled else None, save, **look)
    return plotting.glass_brain(
        result.geometry,
        result.maps[name],
        threshold=threshold,
        two_sided=result.asked.two_sided,
        title=title if titled else None,
        label=map_of(name).label,
        save=save,
    )


def corrected(result: Record, save: SavePath = None, **look: Any) -> Any:
    """Draw the corrected -log10 p side by side; see `numbaglm.PermutationResult.plot`."""
    end, least = result.widest, least_logp(result)
    names = [f"logp_fwe_{kind}{end}" for kind in FWE_KINDS] if result.h0 else ["logp_bonferroni"]
    names = [name for name in names if name in result.maps]
    drawn = [name for name in names if np.any(result.maps[name] >= least)]
    empty = [map_of(name).label.partition("FWE: ")[2] or map_of(name).label for name in names if name not in drawn]
    title = f"Nothing is significant by {', '.join(empty)}" if empty else None
    # One empty picture says as much as four of them.
    panels = {map_of(name).label if drawn else "": result.maps[name] for name in drawn or names[:1]}
    if result.space.is_volume and look.get("background") is not None:
        look["cuts"] = _through_peaks(result)[0]
    options: dict[str, Any] = {"threshold": least, "two_sided": False, "label": "\u2212log10 p"}
    return plotting.maps(result.space, panels, title=title, save=save, **options, **look)


def one_map(
    result: Record,
    name: str,
    threshold: float | None = None,
    title: str | None = None,
    save: SavePath = None,
    **look: Any,
) -> Any:
    """Draw one map of a result.

    Parameters
    ----------
    result, save
        What to draw, and a file to write.
    name
        Of the map.
    threshold
        Of its magnitude; by default what the report shows it at, and none for what has no such value.
    title
        What to write above.
    look
        Other arguments of `numbaglm.plotting.maps`.

    Raises
    ------
    UnknownNameError, InputError, OutputError
        There is no such map, it is several in one, or as `numbaglm.plotting.maps`.
    """
    values = result.maps[name]
    if values.ndim != 1:
        raise InputError(
            invalid("name", name, f"a map of one value a {result.space.noun}, such as {result.statistic!r}")
        )
    is_p = name.startswith("logp_")
    if threshold is None:
        threshold = least_logp(result) if is_p else display_threshold(result)[0] if name == result.drawn else None
    signed = not is_p and bool(np.min(values) < 0) and (name != result.drawn or result.asked.two_sided)
    options: dict[str, Any] = {
        "threshold": threshold,
        "two_sided": signed,
        "title": title,
        "label": map_of(name).label,
        "save": save,
    }
    return plotting.maps(result.space, {"": values}, **options, **look)


def through_peaks(result: Record, background: Any = None) -> Any:
    """Draw axial slices of the statistic of a volume through the peaks of its clusters, with their numbers.

    Parameters
    ----------
    result, background
        What to draw, and an anatomy beneath; the mask by default.
    """
    cuts, marks = _through_peaks(result)
    return plotting.slices(
        result.geometry,
        result.maps[result.drawn],
        background,
        cuts=cuts,
        threshold=display_threshold(result)[0],
        two_sided=result.asked.two_sided,
        marks=marks,
        label=map_of(result.drawn).label,
    )


def coverage(result: Record, background: Any = None, surface: Any = None, save: SavePath = None) -> Any:
    """Draw how many subjects the elements lack: of a volume axial slices, of other spaces as their maps are drawn.

    Parameters
    ----------
    result, background, surface
        What to draw, and on what; see `numbaglm.PermutationResult.plot`.
    save
        A file to write.
    """
    absent = (result.asked.n_subjects - result.maps["n_subjects"]).astype(np.float64)
    options: dict[str, Any] = {"two_sided": False, "label": "subjects missing", "save": save}
    if result.space.is_volume:
        return plotting.slices(result.geometry, absent, background, **options)
    return plotting.maps(result.space, {"": absent}, background=background, surface=surface, **options)


def _through_peaks(result: Record) -> tuple[list[float], list[tuple[str, list[float]]]]:
    """Places of axial slices through the highest peaks, mm, and number and place of each cluster."""
    values, space = result.maps[result.drawn], result.space
    found = sorted(find_peaks(result) if result.h0 else [], key=lambda one: -abs(values[one[1]]))
    highest = sorted(dict(reversed(found)).items(), key=lambda one: -abs(values[one[1]]))
    if not highest:
        highest = [(0, int(np.argmax(result.height)))]
    mm = space.coordinates(np.array([element for _, element in highest]))
    apart = float(np.ptp(space.volume.coordinates(np.arange(space.n))[:, 2])) / _SLICES
    cuts: list[float] = []
    for z in mm[:, 2].tolist():
        if len(cuts) < _MOST_CUTS and all(abs(z - other) >= apart for other in cuts):
            cuts.append(z)
    formed = "clusters" in result.maps
    return sorted(cuts), [(str(k), at.tolist()) for (k, _), at in zip(highest, mm, strict=True) if k and formed]


def of_surfaces(space: Space, background: Any) -> Any:
    """What of a background lies beneath surfaces."""
    if space.is_volume or not isinstance(background, Mapping):
        return None if space.is_volume else background
    return {side: one for side, one in background.items() if side != "volume"} or None


def of_voxels(space: Space, background: Any) -> Any:
    """What of a background lies beneath voxels."""
    if isinstance(background, Mapping):
        return background.get("volume")
    return background if space.is_volume else None


def can_draw(space: Space) -> bool:
    """Whether a space has all that a picture of its maps needs: surfaces have meshes."""
    return all(part.mesh is not None for part in space.parts if isinstance(part, Surface))


def nulls(result: Record, save: SavePath = None) -> Any:
    """Draw the histogram of each null with what was observed."""
    shown = {null_label(result, name): upward(name, null) for name, null in result.h0.items()}
    observed = {name: float(null[0]) for name, null in shown.items()}
    counted = {null_label(result, name): result.counted_level(name, result.alpha) for name in result.h0}
    return null_histograms(shown, observed, alpha=result.alpha, counted=counted, save=save)


def design(result: Record, save: SavePath = None) -> Any:
    """Draw the design matrix, subjects as its rows."""
    asked = result.asked
    return plotting.design_matrix(asked.rows, asked.columns, asked.subjects, save=save)
