"""Maps of any space, several in one picture on one scale: brains, hemispheres, bars, networks.

What a picture needs of a space is chosen here and nowhere else; see `numbaglm.plotting.maps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from numbaglm.display.canvas import FAINT, ColourScale, Map, SavePath, finish, mark_ends, paint, planes, stacked
from numbaglm.display.maps.background import Background
from numbaglm.display.maps.brains import glass_panels
from numbaglm.display.maps.elements import bars, networks
from numbaglm.display.maps.parcels import spread
from numbaglm.display.maps.projection import VIEWS
from numbaglm.display.maps.surfaces import sheets_of, views_of
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.network import Connectome
from numbaglm.spaces.parcels import Parcels
from numbaglm.spaces.space import Space
from numbaglm.spaces.surface import Surface
from numbaglm.spaces.volume import Geometry

_N_CUTS = 7


def maps(
    space: Space,
    panels: Mapping[str, Map],
    *,
    threshold: float | None = None,
    two_sided: bool = True,
    surface: Any = None,
    background: Any = None,
    parcellation: Any = None,
    views: Sequence[str] = ("lateral", "medial"),
    cuts: Sequence[float] | int = _N_CUTS,
    vmax: float | None = None,
    alpha: float = 1.0,
    contours: bool = False,
    cmap: Any = None,
    title: str | None = None,
    label: str | None = None,
    dpi: float | None = None,
    figsize: tuple[float, float] | None = None,
    save: SavePath = None,
) -> Figure:
    """Draw maps of any space on one scale, as this space is looked at.

    Volumes are seen through, as `glass_brain` does it. Surfaces are seen from several sides, and the voxels of a CIFTI
    file in slices beneath them. Parcels and elements of a graph are bars, the largest above. Networks are a matrix and
    a circle.

    Parameters
    ----------
    space
        Where the maps lie: ``result.space``.
    panels
        Title of each map, and its (n,) values. NaN and 0 are not drawn.
    threshold
        Values of smaller magnitude are not coloured.
    two_sided
        Draw both signs; otherwise positive values alone.
    surface
        Meshes to draw surfaces on, ``{"left": "L.inflated.surf.gii", "right": ...}``, of as many vertices as those that
        were analysed; by default these.
    background
        What lies beneath maps on surfaces, larger values darker, such as sulcal depth or curvature: files or values by
        side. By default it is the curvature of the mesh that was analysed. Of a volume it is an anatomy, over which
        slices are drawn (``"volume"`` beside sides); see `slices`.
    parcellation
        Of parcels: an atlas that names them, which are drawn where they lie in place of bars. An image of labels with
        its names, or a dict of .label.gii or .annot by side, with ``surface``; as
        `numbaglm.PermutationResult.regions` takes it.
    views
        Of surfaces: "lateral", "medial", "dorsal", "ventral", "anterior", "posterior", one or several.
    cuts
        Of voxels in slices: places of axial ones in mm, or how many to spread over them.
    vmax
        Value at the end of the colour bar; the largest of all maps by default.
    alpha
        How opaque colours are over what lies beneath, from 0 to 1.
    contours
        Whether a line goes around what is coloured of voxels; with ``alpha=0`` it stands alone.
    cmap
        A colour map of matplotlib, or its name, in place of red and blue; of two sides one that diverges.
    title, label
        What to write above the figure, and beside the colour bar.
    dpi, figsize
        Pixels an inch, and width and height in inches.
    save
        File to write (.png, .pdf or .svg).

    Raises
    ------
    InputError
        A parameter is out of its range, a map does not fit the space, or surfaces have no mesh and none is given.
    GridError, MissingFileError, ImageError
        A mesh has another number of vertices, or a file can't be read.
    OutputError
        The file can't be written.

    Examples
    --------
    >>> import numpy as np, pandas as pd, numbaglm as ng
    >>> from numbaglm import plotting
    >>> table = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 3)), columns=["insula", "cuneus", "pole"])
    >>> result = ng.permutation_test(table, n_perm=255)
    >>> figure = plotting.maps(result.space, {"t": result.maps["t"]}, threshold=2.0, label="t", save="t.svg")
    """
    if not panels:
        raise InputError(invalid("panels", dict(panels), "one map or more, by title"))
    given = {name: np.asarray(vector) for name, vector in panels.items()}
    for vector in given.values():
        if vector.shape != (space.n,):
            raise InputError(
                invalid("panels", vector.shape, f"maps of shape ({space.n},), the {space.nouns} of the space")
            )
    if parcellation is not None:
        parcels = space.parts[0]
        if not isinstance(parcels, Parcels):
            raise InputError(
                invalid("parcellation", type(parcellation).__name__, "None, as these maps are of no parcels")
            )
        space, number = spread(parcels, parcellation, surface)
        given = {name: vector[number] for name, vector in given.items()}
    if surface is not None and not any(isinstance(part, Surface) for part in space.parts):
        raise InputError(invalid("surface", type(surface).__name__, "None, as these maps lie on no surface"))
    if contours and not any(isinstance(part, Structures | Geometry) for part in space.parts):
        raise InputError(invalid("contours", contours, "False, as these maps hold no voxels"))
    scale = ColourScale.of(np.concatenate(list(given.values())), threshold, two_sided, vmax, alpha, cmap, contours)
    if space.is_volume and background is None:
        figure = glass_panels(space.volume, list(given.items()), scale, "xyz", min(2, len(given)), title, label)
    elif isinstance(space.parts[0], Connectome):
        figure = networks(space.parts[0], given, scale, title, label)
    elif any(isinstance(part, Surface | Structures | Geometry) for part in space.parts):
        figure = _grayordinates(space, given, scale, (surface, background, views, cuts, dpi), title, label)
    else:
        figure = bars(space.places(np.arange(space.n)), given, scale, title, label)
    return finish(figure, save, dpi, figsize)


def _grayordinates(
    space: Space,
    panels: Mapping[str, Map],
    scale: ColourScale,
    how: tuple[Any, Any, Sequence[str], Sequence[float] | int, float | None],
    title: str | None,
    label: str | None,
) -> Figure:
    """Draw surfaces, and voxels in slices beneath them."""
    surface, background, looks, cuts, dpi = how
    below = background if space.is_volume else None
    if isinstance(background, Mapping):
        below = background.get("volume")
        background = {side: one for side, one in background.items() if side != "volume"} or None
    sheets = [] if space.is_volume else sheets_of(space, surface, background)
    views = views_of(sheets, looks, dpi or 0.0) if sheets else []
    boxes = [
        (Background.under(part.volume if isinstance(part, Structures) else part, below), where)
        for part, where in zip(space.parts, space.slices, strict=True)
        if isinstance(part, Structures | Geometry)
    ]
    slices = [planes(under.grid, "z", cuts) for under, _ in boxes]
    rows: list[tuple[str, list[tuple[float, float]]]] = []
    for name in panels:
        above = [(name, [view.size for view in views])] if views else []
        sizes = [[under.grid.size("z")] * len(shown) for (under, _), (shown, _) in zip(boxes, slices, strict=True)]
        rows += [*above, *[("" if above or k else name, row) for k, row in enumerate(sizes)]]
    figure, axes = stacked(rows, scale, title, label)
    remaining = iter(axes)
    for vector in panels.values():
        first = None
        if views:
            first = next(remaining)
            for ax, view in zip(first, views, strict=True):
                view.draw(ax, vector, scale)
        for (under, where), (shown, names) in zip(boxes, slices, strict=True):
            row, grid = next(remaining), under.grid
            over = grid.volume(np.asarray(vector[where]))
            for ax, (axial, k), name in zip(row, shown, names, strict=True):
                under.draw(ax, axial, k)
                plane = np.take(over, k, axis=VIEWS[axial][0])
                paint(ax, grid, (np.maximum(plane, 0.0), np.minimum(plane, 0.0)), axial, scale)
                mark_ends(ax, axial)
                ax.text(0.5, 1.02, name, transform=ax.transAxes, ha="center", va="bottom", size=8, color=FAINT)
            first = first or row
        if first is not None and not scale.shown(np.nan_to_num(np.asarray(vector, np.float32))).any():
            left, right = first[0].get_position(), first[-1].get_position()
            text = f"nothing reaches {scale.threshold:.3g}"
            figure.text((left.x0 + right.x1) / 2, left.y0, text, ha="center", va="top", size=8, color=FAINT)
    return figure
