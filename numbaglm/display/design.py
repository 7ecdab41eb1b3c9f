"""The picture of a design matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from numbaglm.display.canvas import SavePath, finish, new_figure, shortened, text_width
from numbaglm.errors import InputError, invalid

_SLANT = np.radians(40.0)  # of the names above a design matrix


def design_matrix(
    matrix: NDArray[np.floating],
    columns: Sequence[str],
    subjects: Sequence[str] | None = None,
    *,
    title: str | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw a design matrix, each column in greys from its smallest value to its largest.

    Parameters
    ----------
    matrix
        (n_subjects, n_regressors) values.
    columns
        (n_regressors,) names.
    subjects
        (n_subjects,) labels; row numbers by default.
    title, save
        As in `glass_brain`.

    Raises
    ------
    InputError, OutputError
        As `glass_brain`.

    Examples
    --------
    >>> import numpy as np
    >>> from numbaglm import plotting
    >>> age = np.linspace(20, 60, 12)
    >>> figure = plotting.design_matrix(np.column_stack([age, np.ones(12)]), ["age", "intercept"])
    """
    X = np.asarray(matrix, dtype=float)
    if X.ndim != 2 or X.shape[1] != len(columns):
        raise InputError(invalid("matrix", X.shape, f"(n_subjects, {len(columns)}), a column for each name"))
    if subjects is not None and len(subjects) != len(X):
        raise InputError(invalid("subjects", f"{len(subjects)} labels", f"one for each of the {len(X)} rows"))
    low, span = X.min(axis=0), np.ptp(X, axis=0)
    # A constant column has no range: it is white, or black where it is 0.
    shade = np.where(span > 0, (X - low) / np.where(span > 0, span, 1.0), X != 0)
    names = [str(i + 1) for i in range(len(X))] if subjects is None else [shortened(label, 24) for label in subjects]
    pitch = min(0.55, 11.0 / len(columns))  # inches from column to column
    every, above = max(1, int(np.ceil(0.17 / pitch))), [shortened(column) for column in columns]
    along, up = np.outer((np.cos(_SLANT), np.sin(_SLANT)), [text_width(name, 8) for name in above])
    body, head = min(max(0.16 * len(X), 1.2), 7.0), 0.25 + up.max() + (0.3 if title else 0.0)
    side = 0.2 + max(text_width(name, 8) for name in names)
    over = max(float(np.max(along - pitch * np.arange(len(columns) - 0.5, 0.0, -1.0))), 0.0)
    width, height = side + pitch * len(columns) + over + 0.2, body + head + 0.15
    figure = new_figure(width, height, title)
    ax = figure.add_axes((side / width, 0.15 / height, pitch * len(columns) / width, body / height))
    ax.imshow(shade, aspect="auto", cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    slanted: dict[str, Any] = {"rotation": np.degrees(_SLANT), "ha": "left", "rotation_mode": "anchor"}
    ax.set_xticks(range(0, len(columns), every), above[::every], size=8, parse_math=False, **slanted)
    ax.xaxis.tick_top()
    every = max(1, -(-len(X) // 40))
    ax.set_yticks(range(0, len(X), every), names[::every], size=8, parse_math=False)
    ax.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
    ax.grid(which="minor", axis="x", color="#4477aa", linewidth=min(1.2, 6.0 * pitch))
    ax.tick_params(which="both", length=0)
    return finish(figure, save)
