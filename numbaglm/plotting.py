"""Figures: every function returns a matplotlib figure, opens no window, and writes a file where `save` names one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.display import nulls as _nulls
from numbaglm.display.canvas import SavePath
from numbaglm.display.carpet import carpet
from numbaglm.display.design import design_matrix
from numbaglm.display.maps.brains import glass_brain, logp_panel, slices, subject_grid
from numbaglm.display.panels import maps
from numbaglm.results.vocabulary import NULLS

__all__ = [
    "carpet",
    "design_matrix",
    "glass_brain",
    "logp_panel",
    "maps",
    "null_histograms",
    "quality",
    "slices",
    "subject_grid",
]


def null_histograms(
    nulls: Mapping[str, NDArray[np.floating[Any]]],
    observed: Mapping[str, float],
    *,
    alpha: float = 0.05,
    title: str | None = None,
    save: SavePath = None,
) -> Any:
    """Draw the distribution of each maximum statistic, the observed one, and the value it must exceed.

    Parameters
    ----------
    nulls
        Name (such as max_t, max_size) and (n_shufflings,) maxima of each statistic, the observed
        one among them.
    observed
        The observed maximum, by the same names.
    alpha
        Family-wise error rate at which to mark the critical value.
    title, save
        As in `glass_brain`.

    Returns
    -------
    A matplotlib figure.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> result = ng.permutation_test(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps, n_perm=255)
    >>> figure = plotting.null_histograms(result.h0, {name: null[0] for name, null in result.h0.items()})
    """
    labels = {name: one.label for name, one in NULLS.items()}
    return _nulls.null_histograms(nulls, observed, labels=labels, alpha=alpha, title=title, save=save)


def quality(cohort: Cohort, *, title: str | None = None, save: SavePath = None) -> Any:
    """Draw how the maps of a cohort differ, and which of them stand out.

    On the left is the carpet: a row a subject (or a few, where they are more than 1000), a column some hundred
    neighbouring voxels, from the lowest to the highest. Its colours are robust z: how far the mean of those voxels lies
    from that of the other subjects. On the right are the numbers of `Cohort.quality`, and the range within which they
    don't stand out.

    Parameters
    ----------
    cohort
        What to look at; one pass over it, unless it was looked at before.
    title, save
        As in `glass_brain`, which tells what is refused, too.

    Returns
    -------
    A matplotlib figure.

    Examples
    --------
    >>> import numbaglm as ng
    >>> from numbaglm import plotting
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", 8, voxel_size=10.0).maps)
    >>> figure = plotting.quality(cohort, save="quality.png")
    """
    return carpet(cohort.examine(), title=title, save=save)
