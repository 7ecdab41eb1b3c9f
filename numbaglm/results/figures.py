"""Figures of a result: its statistic, its corrected p, its nulls and its design."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaglm import plotting
from numbaglm.display.canvas import SavePath
from numbaglm.errors import InputError, invalid
from numbaglm.results.record import Record
from numbaglm.results.tables import null_label, upward
from numbaglm.results.vocabulary import ALPHA, FWE_KINDS, map_of
from numbaglm.results.words import display_threshold, symbol
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Surface

LOGP = -float(np.log10(ALPHA))
"""-log10 of the corrected p from which on results are significant."""


def statistic(result: Record, save: SavePath = None, titled: bool = False) -> Any:
    """Draw the statistic on a glass brain, where it reaches `numbaglm.results.words.display_threshold`.

    Parameters
    ----------
    result, save
        What to draw, and a file to write.
    titled
        Whether the name of the contrast and the threshold stand above.
    """
    name, (threshold, _) = result.statistic, display_threshold(result)
    title = f"{result.asked.contrast}: {symbol(result)} \u2265 {threshold:.2f}"
    if not result.space.is_volume:
        return one_map(result, name, threshold, title if titled else None, save)
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
    end = "_contrasts" if result.over_contrasts else ""
    names = [f"logp_fwe_{kind}{end}" for kind in FWE_KINDS] if result.h0 else ["logp_bonferroni"]
    panels = {map_of(name).label: result.maps[name] for name in names if name in result.maps}
    if not result.space.is_volume:
        return plotting.maps(
            result.space, panels, threshold=LOGP, two_sided=False, label="\u2212log10 p", save=save, **look
        )
    return plotting.logp_panel(result.geometry, panels, save=save)


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
        threshold = LOGP if is_p else display_threshold(result)[0] if name == result.statistic else None
    signed = not is_p and bool(np.min(values) < 0) and (name != result.statistic or result.asked.two_sided)
    options: dict[str, Any] = {
        "threshold": threshold,
        "two_sided": signed,
        "title": title,
        "label": map_of(name).label,
        "save": save,
    }
    return plotting.maps(result.space, {"": values}, **options, **look)


def can_draw(space: Space) -> bool:
    """Whether a space has all that a picture of its maps needs: surfaces have meshes."""
    return all(part.mesh is not None for part in space.parts if isinstance(part, Surface))


def nulls(result: Record, save: SavePath = None) -> Any:
    """Draw the histogram of each null with what was observed."""
    shown = {null_label(result, name): upward(name, null) for name, null in result.h0.items()}
    observed = {name: float(null[0]) for name, null in shown.items()}
    return plotting.null_histograms(shown, observed, alpha=ALPHA, save=save)


def design(result: Record, save: SavePath = None) -> Any:
    """Draw the design matrix, subjects as its rows."""
    asked = result.asked
    return plotting.design_matrix(asked.rows, asked.columns, asked.subjects, save=save)
