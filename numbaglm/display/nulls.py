"""The distributions of maximum statistics, with what was observed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from numbaglm.display.canvas import FAINT, HIGHLIGHT, INK, SavePath, finish, new_figure
from numbaglm.errors import InputError, invalid
from numbaglm.stats.conventions import is_probability
from numbaglm.stats.pvalues import critical_value


def null_histograms(
    nulls: Mapping[str, NDArray[np.floating]],
    observed: Mapping[str, float],
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
    alpha: float = 0.05,
    counted: Mapping[str, float] = MappingProxyType({}),
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw the distribution of each maximum statistic, the observed one, and the value it must exceed.

    Parameters
    ----------
    nulls
        Name (such as max_t, max_size) and (n_shufflings,) maxima of each statistic, the observed
        one among them.
    observed
        The observed maximum, by the same names.
    labels
        Name -> what to write below its histogram; the name itself by default.
    alpha
        Family-wise error rate at which to mark the critical value.
    counted
        The counted p that this rate comes to, by name of the null, where p are not as counted.
    title, save
        As in `numbaglm.display.maps.brains.glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `numbaglm.display.maps.brains.glass_brain`.
    """
    if not nulls or set(nulls) != set(observed):
        raise InputError(invalid("observed", sorted(observed), f"one value for each of {sorted(nulls)}"))
    if not is_probability(alpha):
        raise InputError(invalid("alpha", alpha, "a rate between 0 and 1"))
    n_columns = min(2, len(nulls))
    n_rows = -(-len(nulls) // n_columns)
    width, height = 4.7 * n_columns, 2.8 * n_rows + (0.35 if title else 0.0)
    figure = new_figure(width, height, title)
    top = height - (0.35 if title else 0.0)
    for number, (name, null) in enumerate(nulls.items()):
        row, column = divmod(number, n_columns)
        left, bottom = 4.7 * column + 0.7, top - 2.8 * (row + 1) + 0.55
        ax = figure.add_axes((left / width, bottom / height, 3.8 / width, 1.85 / height))
        _draw_null(
            ax,
            labels.get(name, name),
            np.asarray(null, dtype=float),
            float(observed[name]),
            alpha,
            counted.get(name, alpha),
        )
    return finish(figure, save)


def _draw_null(ax: Axes, label: str, null: NDArray[np.float64], observed: float, alpha: float, counted: float) -> None:
    """Draw the histogram of a null, what was observed, and the critical value.

    The axis ends where the bulk of the null, or the observed value, does. It is logarithmic where the observed value
    lies so far out that the null would be a sliver. What is not drawn is counted.

    Parameters
    ----------
    ax
        Where to draw.
    label
        What to write below.
    null
        (n_shufflings,) maxima, the observed one among them.
    observed
        The observed maximum.
    alpha
        Family-wise error rate of the critical value.
    counted
        The counted p that it is of.
    """
    critical = critical_value(null, counted)
    reach = max(observed, critical if np.isfinite(critical) else -np.inf, float(np.quantile(null, 0.995)))
    bulk = float(np.quantile(null, 0.99))
    far = null.min() >= 0 and 0 < 5 * bulk < reach
    drawn = null[null > 0] if far else null
    ax.hist(drawn, bins=_bins(drawn, bulk, far).tolist(), histtype="stepfilled", color="#a9b9cc")
    if np.isfinite(critical):
        text = f"critical value {critical:.4g} (FWE {alpha:g})"
        ax.axvline(critical, color=INK, linewidth=1.2, linestyle="--", label=text)
    ax.axvline(observed, color=HIGHLIGHT, linewidth=2.0, label=f"observed {observed:.4g}")
    low = drawn.min()
    if far:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:,g}")
        ax.set_xlim(low / (reach / low) ** 0.03, reach * (reach / low) ** 0.03)
    else:
        ax.set_xlim(low - (0.03 * (reach - low) or 0.5), reach + (0.03 * (reach - low) or 0.5))
    right = ax.get_xlim()[1]
    notes = {"at 0": len(null) - len(drawn), f"above {right:,.4g}": int((null > right).sum())}
    if note := ", ".join(f"{n:,} {where}" for where, n in notes.items() if n):
        clear = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
        place: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": "top", "bbox": clear}
        ax.text(1.0, 0.98, f"not drawn: {note}", size=7, color=FAINT, **place)
    ax.set_xlabel(label, size=9, color=INK)
    ax.set_ylabel("shufflings", size=9, color=INK)
    ax.tick_params(labelsize=8, colors=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=8, frameon=False, borderaxespad=0.2)


def _bins(values: NDArray[np.float64], bulk: float, logarithmic: bool) -> NDArray[np.float64]:
    """Edges of bins that fit the bulk of a null: the few shufflings near the observed one would stretch them."""
    low, high = values.min(), values.max()
    whole = np.array_equal(values, np.rint(values))  # extents: the same number of whole numbers in each bin
    if logarithmic:
        edges = np.geomspace(low, high, 40) if high > low else np.array([low, 2 * low])
        return np.unique(np.r_[np.rint(edges), high + 1]) - 0.5 if whole else edges
    step = max((bulk - low) / 40, (high - low) / 400) or 1.0
    if whole:
        low, step = low - 0.5, np.ceil(step)
    return np.arange(low, high + 2 * step, step)
