"""Figures of a result: its statistic, its corrected p, its nulls and its design."""

from __future__ import annotations

from typing import Any

from numbaglm import plotting
from numbaglm.display.canvas import SavePath
from numbaglm.results.record import Record
from numbaglm.results.vocabulary import ALPHA, FWE_KINDS, map_of
from numbaglm.results.words import display_threshold, symbol


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
    return plotting.glass_brain(
        result.geometry,
        result.maps[name],
        threshold=threshold,
        two_sided=result.asked.two_sided,
        title=title if titled else None,
        label=map_of(name).label,
        save=save,
    )


def corrected(result: Record, save: SavePath = None) -> Any:
    """Draw the corrected -log10 p side by side; see `numbaglm.PermutationResult.plot`."""
    end = "_contrasts" if result.over_contrasts else ""
    names = [f"logp_fwe_{kind}{end}" for kind in FWE_KINDS] if result.h0 else ["logp_bonferroni"]
    panels = {map_of(name).label: result.maps[name] for name in names if name in result.maps}
    return plotting.logp_panel(result.geometry, panels, save=save)


def nulls(result: Record, save: SavePath = None) -> Any:
    """Draw the histogram of each null with what was observed."""
    observed = {name: float(null[0]) for name, null in result.h0.items()}
    return plotting.null_histograms(result.h0, observed, alpha=ALPHA, save=save)


def design(result: Record, save: SavePath = None) -> Any:
    """Draw the design matrix, subjects as its rows."""
    asked = result.asked
    return plotting.design_matrix(asked.rows, asked.columns, asked.subjects, save=save)
