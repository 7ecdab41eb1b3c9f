"""The histogram of a null.

A part of `numbaglm.display.brains`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from numbaglm.display.canvas import FAINT, HIGHLIGHT, INK
from numbaglm.stats.pvalues import critical_value

NULL_LABELS = {
    "max_t": "maximum t",
    "max_f": "maximum F",
    "max_z": "maximum z",
    "max_size": "maximum cluster extent (voxels)",
    "max_mass": "maximum cluster mass",
    "max_tfce": "maximum TFCE",
    "max_z_contrasts": "maximum z over all contrasts",
    "max_size_contrasts": "maximum cluster extent over all contrasts (voxels)",
    "max_mass_contrasts": "maximum cluster mass over all contrasts",
    "max_tfce_contrasts": "maximum TFCE over all contrasts",
}
"""What the nulls are called in the field; a name that is not here stands for itself."""


def draw_null(ax: Axes, name: str, null: NDArray[np.float64], observed: float, alpha: float) -> None:
    """Draw the histogram of a null, what was observed, and the critical value.

    The axis ends where the bulk of the null, or the observed value, does. It is logarithmic where the observed value
    lies so far out that the null would be a sliver. What is not drawn is counted.

    Parameters
    ----------
    ax
        Where to draw.
    name
        Of the null, such as max_t.
    null
        (n_shufflings,) maxima, the observed one among them.
    observed
        The observed maximum.
    alpha
        Family-wise error rate of the critical value.
    """
    critical = critical_value(null, alpha)
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
    ax.set_xlabel(NULL_LABELS.get(name, name), size=9, color=INK)
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
