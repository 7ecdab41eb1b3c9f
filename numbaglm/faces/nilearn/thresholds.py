"""Drop-ins for nilearn's thresholded maps and tables of clusters, of any statistical map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from numbaglm.errors import InputError, InputTypeError, NumbaglmFutureWarning, invalid, warn
from numbaglm.faces.nilearn.model.permuted import check_compatibility
from numbaglm.faces.nilearn.stat_maps import StatMap, Values, read_stat_map
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import is_probability

TABLE_COLUMNS = ("Cluster ID", "X", "Y", "Z", "Peak Stat", "Cluster Size (mm3)")
SURFACE_COLUMNS = ("Cluster ID", "Hemisphere", "Peak Stat", "Cluster Size (vertices)")
_MOST_PEAKS = 4
_MIN_DISTANCE = 8.0
_HEIGHT_CONTROLS = ("fpr", "fdr", "bonferroni", None)


def threshold_stats_img(
    stat_img: Any = None,
    mask_img: Any = None,
    alpha: float = 0.001,
    threshold: float | None = None,
    height_control: str | None = "fpr",
    cluster_threshold: float = 0,
    two_sided: bool = True,
) -> tuple[Any, float]:
    """Threshold a map of z, with nilearn's signature.

    Parameters
    ----------
    stat_img
        Image or path, 3D, of z, or a SurfaceImage. It may be None where the threshold doesn't depend on it.
    mask_img
        Image or path: what lies outside becomes 0. On another grid than the map its nearest voxels count, with a
        warning. By default the voxels that are finite and not 0.
    alpha
        False positive rate, false discovery rate or family-wise error rate, of both tails where two-sided.
    threshold
        z, used only with ``height_control=None``; 3 by default.
    height_control
        "fpr" (no correction), "fdr" (Benjamini and Hochberg), "bonferroni", or None for ``threshold``.
    cluster_threshold
        Clusters (6 neighbours; the edges of triangles on surfaces; signs apart) of fewer voxels become 0.
    two_sided
        Whether both signs count. One-sided keeps what is at least the threshold (at most, where that is
        negative).

    Returns
    -------
    The map, with 0 for what doesn't reach the threshold (None without a map), and the threshold, infinity
    where no voxel reaches the false discovery rate.

    Raises
    ------
    InputError, ImageError, GridError, MissingFileError
        An argument or an image can't be used.

    Notes
    -----
    It differs from nilearn 0.14.1 in that voxels are counted in the map itself where no mask is given
    (nilearn guesses a mask from its intensities), and that they are counted on the map's own grid where the mask has
    another (nilearn counts the mask's). NaN counts as 0, with a warning. On surfaces nilearn joins clusters of opposite
    signs that touch; here they are counted apart.

    Examples
    --------
    >>> import numbaglm as ng
    >>> print(f"{ng.threshold_stats_img(alpha=0.05)[1]:.2f}")
    1.96
    """
    if height_control not in _HEIGHT_CONTROLS:
        raise InputError(f"'height_control' must be one of {_HEIGHT_CONTROLS}: got {height_control!r}.")
    if not is_probability(alpha):
        raise InputError(invalid("alpha", alpha, "a probability between 0 and 1"))
    if height_control is not None and threshold is not None:
        warn(f"threshold={threshold} is not used with height_control={height_control!r}, but only with None.")
    height = 3.0 if threshold is None else threshold
    if not isinstance(height, float | int | np.number) or np.isnan(height):
        raise InputTypeError(invalid("threshold", threshold, "a number, or None"))
    if height_control is None and height == 3.0:
        warn(
            "From nilearn version>=0.15, the default 'threshold' will be set to 3.09. It is 3.0 here, as in nilearn "
            "0.14: pass the threshold that you mean.",
            NumbaglmFutureWarning,
        )
    level = alpha / 2 if two_sided else alpha
    if height_control == "fpr":
        height = stats.norm.isf(level)
    if stat_img is None:
        if height_control in ("fdr", "bonferroni"):
            raise InputError(f"'stat_img' cannot be None with height_control={height_control!r}: pass a map of z.")
        return None, height
    found = read_stat_map(stat_img, mask_img)
    z = found.values[found.inside]
    if height_control in ("fdr", "bonferroni") and z.size:
        height = _corrected(np.abs(z) if two_sided else z, level, height_control)
        if height_control == "fdr" and np.isfinite(height) and found.hemispheres is None:
            height = np.result_type(found.dtype, np.float32).type(height)
    return found.image(_thresholded(found, height, cluster_threshold, two_sided), found.dtype), height


def get_clusters_table(
    stat_img: Any,
    stat_threshold: float,
    cluster_threshold: float = 0,
    two_sided: bool = False,
    min_distance: float = 8.0,
    return_label_maps: bool = False,
    *,
    compatibility: str | None = None,
) -> Any:
    """Tabulate the clusters of a map and their peaks, with nilearn's signature and columns.

    Parameters
    ----------
    stat_img
        Image or path, 3D, or a SurfaceImage; larger values mean more (z, t, -log10 p).
    stat_threshold
        Voxels strictly above it form clusters by their faces (6 neighbours); where it is negative
        (one-sided), those below it.
    cluster_threshold
        Clusters of fewer voxels are left out.
    two_sided
        Whether clusters below ``-stat_threshold`` are listed as well, after the others.
    min_distance
        Sub-peaks are further than this from the stronger ones, in mm. Not used on surfaces.
    return_label_maps
        Whether to return a list of images as well, one a sign that has clusters, with the clusters' numbers.
    compatibility
        "nilearn" reproduces the differences below.

    Returns
    -------
    DataFrame with columns Cluster ID (a number; sub-peaks have a letter after it), X, Y, Z (mm), Peak Stat
    and Cluster Size (mm3) (whole; empty for sub-peaks). Clusters of a sign come by falling peak, each with
    its peak and up to three sub-peaks. A flat peak is at the voxel of it nearest to its centre of mass. As in nilearn
    the first negative cluster has the number of its row, so that sub-peaks before it are counted.

    Of surfaces: Cluster ID (text), Hemisphere, Peak Stat, Cluster Size (vertices), by hemisphere and then by their
    first vertex; what is equal to the threshold belongs to a cluster there, as in nilearn.

    Raises
    ------
    InputError, ImageError, MissingFileError
        An argument or the image can't be used.

    Notes
    -----
    Label maps number each sign's clusters from 1; of surfaces they hold the Cluster ID, and two-sided there are always
    two. NaN counts as 0, with a warning. It differs from nilearn 0.14.1 in that

    - sub-peaks are apart from all stronger ones; nilearn lets in those that are close to the peak but far
      from a weaker one;
    - below a negative threshold peaks keep their sign, and the lowest comes first; nilearn turns the sign and begins
      with the highest;
    - on a surface the peak of a negative cluster is its lowest value; nilearn gives the highest.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, numbaglm as ng
    >>> z = np.zeros((9, 9, 9)); z[2:4, 2:4, 2:4] = 4; z[2, 2, 2] = 5
    >>> table = ng.get_clusters_table(nib.Nifti1Image(z, np.diag([2, 2, 2, 1])), 3.0)
    >>> table.astype(float).iloc[0].tolist()
    [1.0, 4.0, 4.0, 4.0, 5.0, 64.0]
    """
    check_compatibility(compatibility)
    if not min_distance > 0:
        raise InputError(f"'min_distance' must be positive: got {min_distance!r}. Allowed: a distance in mm.")
    found = read_stat_map(stat_img)
    if found.hemispheres is not None and min_distance != _MIN_DISTANCE:
        warn("The 'min_distance' parameter is not used for surfaces: their clusters have one peak.")
    values = _thresholded(found, stat_threshold, cluster_threshold, two_sided)
    as_nilearn = compatibility == "nilearn"
    apart = partial(_apart_as_nilearn if as_nilearn else _apart, distance=min_distance)
    rows: list[list[Any]] = []
    label_maps = []
    for sign in (1, -1) if two_sided else (1 if stat_threshold >= 0 else -1,):
        if found.hemispheres is None:
            shown = 1 if as_nilearn and not two_sided else sign
            new, label = _volume_rows(found, sign, shown, values, abs(stat_threshold), len(rows), apart)
        else:
            extreme = ndimage.minimum if as_nilearn and sign == -1 else ndimage.maximum
            new, label = _surface_rows(found, sign, values, len(rows), extreme)
        if not new:
            more = f" of {cluster_threshold} or more" if cluster_threshold > 0 else ""
            word = "higher" if sign == 1 else "lower"
            warn(f"No clusters found with stat {word} than {sign * abs(stat_threshold)}{more}.")
        if new or found.hemispheres is not None:
            label_maps.append(found.image(label, np.int64 if found.hemispheres else np.int32))
        rows += new
    table = pd.DataFrame(rows, columns=pd.Index(SURFACE_COLUMNS if found.hemispheres else TABLE_COLUMNS))
    return (table, label_maps) if return_label_maps else table


def _surface_rows(
    found: StatMap, sign: int, values: Values, n_before: int, extreme: Callable[..., Any]
) -> tuple[list[list[Any]], NDArray[Any]]:
    """Rows of the table for the clusters of one sign on a surface, and their labels.

    Parameters
    ----------
    found, sign, values
        The map, 1 or -1, and the values that are left of it.
    n_before
        Rows of the other sign.
    extreme
        Which height of a cluster is its peak's.
    """
    heights = sign * values
    label, n_clusters = found.label(heights > 0)
    numbers = np.arange(1, n_clusters + 1)
    sizes, peaks = np.bincount(label, minlength=n_clusters + 1), extreme(heights, label, numbers)
    _, first = np.unique(label[label > 0], return_index=True)
    places = np.flatnonzero(label)[first]
    assert found.hemispheres is not None
    parts = [
        next(name for name, where in found.hemispheres.items() if where.start <= place < where.stop) for place in places
    ]
    rows = [
        [str(n_before + number), part, found.dtype.type(sign * peak), int(sizes[number])]
        for number, part, peak in zip(numbers.tolist(), parts, peaks, strict=True)
    ]
    return rows, np.where(label > 0, label + n_before, 0)


def _volume_rows(
    found: StatMap,
    sign: int,
    shown: int,
    values: Values,
    height: float,
    n_before: int,
    apart: Callable[[NDArray[np.float64]], list[int]],
) -> tuple[list[list[Any]], NDArray[Any]]:
    """Rows of the table for the clusters of one sign in a volume, and their labels.

    Parameters
    ----------
    found, sign, values
        The map, 1 or -1, and the values that are left of it.
    shown
        The sign that peaks are listed with; where it is another one, clusters come by rising peak.
    height, n_before
        Threshold, and rows of the other sign.
    apart
        Chooses peaks.
    """
    heights = sign * values
    grid = found.grid
    assert grid is not None
    label, n_clusters = found.label(heights > height)
    if n_clusters == 0:
        return [], label
    highest = ndimage.maximum(heights, label, np.arange(1, n_clusters + 1))
    order = np.argsort(-sign * shown * np.asarray(highest), kind="stable") + 1
    sizes, boxes = np.bincount(label.ravel()), ndimage.find_objects(label)
    rows: list[list[Any]] = []
    for number, one in enumerate(order, 1 + n_before):
        ijk, peaks = _peaks(heights, label, int(one), boxes[one - 1])
        xyz = ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        size = int(sizes[one] * grid.voxel_volume + 1e-6)  # the volume's rounding costs no whole mm3
        for k, peak in enumerate(apart(xyz)):
            name = number if k == 0 else f"{number}{ascii_lowercase[k - 1]}"
            rows.append([name, *xyz[peak], found.dtype.type(shown * peaks[peak]), size if k == 0 else ""])
    rank = np.zeros(n_clusters + 1, dtype=np.int32)
    rank[order] = np.arange(1, n_clusters + 1)
    return rows, rank[label]


def _corrected(z: NDArray[np.float64], level: float, height_control: str) -> float:
    """Least z that is significant at a corrected level, one tail."""
    if height_control == "bonferroni":
        return np.float64(stats.norm.isf(level / z.size))
    found = pvalues.fdr(stats.norm.sf(z)) <= level
    return np.float64(z[found].min()) if found.any() else float("inf")


def _thresholded(found: StatMap, threshold: float, cluster_threshold: float, two_sided: bool) -> Values:
    """Set to 0 what doesn't reach the threshold, or lies in too small a cluster."""
    if two_sided and threshold < 0:
        raise InputError(
            f'"threshold" should not be a negative value when two_sided=True: got {threshold}. '
            "Allowed: 0 or above. Give its absolute value."
        )
    if cluster_threshold < 0:
        raise InputError(f"'cluster_threshold' must be > 0: got {cluster_threshold}. Allowed: a number of voxels.")
    if found.n_nonfinite:
        warn(f"Non-finite values detected: {found.n_nonfinite:,} values are NaN or infinite, and count as 0.")
    values = found.values
    heights = np.abs(values) if two_sided else values if threshold >= 0 else -values
    reached, highest = heights >= abs(threshold), float(heights.max())
    if abs(threshold) > highest:
        word = "exceed" if threshold >= 0 else "be less than"
        warn(
            f"The given float value must not {word} {highest if threshold >= 0 else -highest:.4g}, the map's extreme. "
            f"But, you have given threshold={threshold}: nothing reaches it."
        )
    kept = np.where(reached, values, 0.0)
    if cluster_threshold > 0:
        for sign in (1, -1):
            label, _ = found.label(sign * kept > 0)
            small = np.bincount(label.ravel()) < cluster_threshold
            small[0] = False
            kept[small[label]] = 0.0
    return kept


def _peaks(
    heights: Values, label: NDArray[np.signedinteger[Any]], number: int, box: tuple[slice, ...]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Local maxima of a cluster among 26 neighbours: voxel indices and heights, the highest first.

    A flat maximum is one peak, at its voxel nearest to its centre. Flat stretches inside a cluster, where all
    neighbours are equal, are none, unless the whole cluster is flat.
    """
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    inside = label[around] == number
    values = np.where(inside, heights[around], 0.0)
    highest = ndimage.maximum_filter(values, 3)
    maxima = inside & (values == highest)
    if not np.isclose(values[inside].min(), values[inside].max()):
        maxima &= ndimage.minimum_filter(values, 3) < highest
    plateau, n_peaks = ndimage.label(maxima)
    start = np.array([side.start for side in around])
    middle = np.array(ndimage.center_of_mass(maxima, plateau, np.arange(1, n_peaks + 1)))
    centres = np.rint(middle + start).astype(np.intp) - start  # halves go to even numbers of the whole grid
    for k, centre in enumerate(centres):
        if plateau[tuple(centre)] != k + 1:
            warn("At least one of the (sub)peaks falls outside of the cluster body: its nearest voxel is given.")
            voxels = np.argwhere(plateau == k + 1)
            centres[k] = voxels[np.argmin(((voxels - centre) ** 2).sum(axis=1))]
    peaks = values[tuple(centres.T)]
    order = np.argsort(-peaks, kind="stable")
    return centres[order] + start, peaks[order]


def _apart(xyz: NDArray[np.float64], distance: float) -> list[int]:
    """Numbers of the peaks that are further than a distance from all that are kept before them."""
    kept: list[int] = []
    for k, place in enumerate(xyz):
        if all(np.linalg.norm(xyz[other] - place) > distance for other in kept):
            kept.append(k)
            if len(kept) == _MOST_PEAKS:
                break
    return kept


def _apart_as_nilearn(xyz: NDArray[np.float64], distance: float) -> list[int]:
    """Numbers of the peaks that nilearn keeps: the last peak kept before one decides on it alone."""
    keep = np.ones(len(xyz), dtype=bool)
    for k in range(len(xyz)):
        if keep[k]:
            keep[k + 1 :] = np.linalg.norm(xyz[k + 1 :] - xyz[k], axis=1) > distance
    return [int(k) for k in np.flatnonzero(keep)[:_MOST_PEAKS]]
