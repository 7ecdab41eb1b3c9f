"""Drop-ins for nilearn's thresholded maps and tables of clusters, of any statistical map."""

from __future__ import annotations

import warnings
from string import ascii_lowercase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from numbaglm.data.geometry import Geometry
from numbaglm.data.images import grid_of, list_maps, load_mask, read_map, to_image
from numbaglm.errors import GridError, InputError, NumbaglmWarning, invalid
from numbaglm.stats import pvalues

Volume = NDArray[np.float64]

TABLE_COLUMNS = ("Cluster ID", "X", "Y", "Z", "Peak Stat", "Cluster Size (mm3)")
_MOST_PEAKS = 4
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
        Image or path, 3D, of z. It may be None where the threshold doesn't depend on it.
    mask_img
        Image or path: what lies outside becomes 0. By default the voxels that are finite and not 0.
    alpha
        False positive rate, false discovery rate or family-wise error rate, of both tails where two-sided.
    threshold
        z, used only with ``height_control=None``; 3 by default.
    height_control
        "fpr" (no correction), "fdr" (Benjamini and Hochberg), "bonferroni", or None for ``threshold``.
    cluster_threshold
        Clusters (6 neighbours, signs apart) of fewer voxels become 0.
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
    (nilearn guesses a mask from its intensities), that a mask on another grid is refused (nilearn resamples
    it), and that the default threshold of 3 comes without a warning. NaN counts as 0.

    Examples
    --------
    >>> import numbaglm as ng
    >>> round(ng.threshold_stats_img(alpha=0.05)[1], 2)
    1.96
    """
    if height_control not in _HEIGHT_CONTROLS:
        raise InputError(invalid("height_control", height_control, f"one of {_HEIGHT_CONTROLS}"))
    if not 0 < alpha < 1:
        raise InputError(invalid("alpha", alpha, "a probability between 0 and 1"))
    if height_control is not None and threshold is not None:
        message = f"threshold={threshold} is not used with height_control={height_control!r}, but only with None."
        warnings.warn(message, NumbaglmWarning, stacklevel=2)
    level = alpha / 2 if two_sided else alpha
    height = 3.0 if threshold is None else float(threshold)
    if height_control == "fpr":
        height = float(stats.norm.isf(level))
    if stat_img is None:
        if height_control in ("fdr", "bonferroni"):
            raise InputError(invalid("stat_img", None, f"a map of z with height_control={height_control!r}"))
        return None, height
    volume, grid = _read(stat_img)
    if mask_img is not None:
        mask = load_mask(mask_img)
        if mask is None or not grid.same_grid(mask.shape, mask.affine):
            raise GridError("mask_img and stat_img lie on different grids. Resample the mask to the map first.")
        volume[~mask.mask] = 0.0
        z = volume[mask.mask]
    else:
        z = volume[volume != 0]
    if height_control in ("fdr", "bonferroni") and z.size:
        height = _corrected(np.abs(z) if two_sided else z, level, height_control)
    return to_image(grid, _thresholded(volume, height, cluster_threshold, two_sided).ravel()), height


def get_clusters_table(
    stat_img: Any,
    stat_threshold: float,
    cluster_threshold: float = 0,
    two_sided: bool = False,
    min_distance: float = 8.0,
    return_label_maps: bool = False,
) -> Any:
    """Tabulate the clusters of a map and their peaks, with nilearn's signature and columns.

    Parameters
    ----------
    stat_img
        Image or path, 3D; larger values mean more (z, t, -log10 p).
    stat_threshold
        Voxels strictly above it form clusters by their faces (6 neighbours); where it is negative
        (one-sided), those below it.
    cluster_threshold
        Clusters of fewer voxels are left out.
    two_sided
        Whether clusters below ``-stat_threshold`` are listed as well, after the others.
    min_distance
        Sub-peaks are further than this from the stronger ones, in mm.
    return_label_maps
        Whether to return a list of images as well, one a sign that has clusters, with the clusters' numbers.

    Returns
    -------
    DataFrame with columns Cluster ID (a number; sub-peaks have a letter after it), X, Y, Z (mm), Peak Stat
    and Cluster Size (mm3) (whole; empty for sub-peaks). Clusters of a sign come by falling peak, each with
    its peak and up to three sub-peaks. A flat peak is at the voxel of it nearest to its centre of mass.

    Raises
    ------
    InputError, ImageError, MissingFileError
        An argument or the image can't be used.

    Notes
    -----
    Label maps number each sign's clusters from 1. NaN counts as 0. It differs from nilearn 0.14.1 in that

    - sub-peaks are apart from all stronger ones; nilearn lets in those that are close to the peak but far
      from a weaker one;
    - below a negative threshold peaks keep their sign, and the lowest comes first.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, numbaglm as ng
    >>> z = np.zeros((9, 9, 9)); z[2:4, 2:4, 2:4] = 4; z[2, 2, 2] = 5
    >>> table = ng.get_clusters_table(nib.Nifti1Image(z, np.diag([2, 2, 2, 1])), 3.0)
    >>> table.astype(float).iloc[0].tolist()
    [1.0, 4.0, 4.0, 4.0, 5.0, 64.0]
    """
    if not min_distance > 0:
        raise InputError(f"'min_distance' must be positive: got {min_distance!r}. Allowed: a distance in mm.")
    volume, grid = _read(stat_img)
    volume = _thresholded(volume, stat_threshold, cluster_threshold, two_sided)
    rows: list[list[Any]] = []
    label_maps = []
    n_before = 0
    for sign in (1, -1) if two_sided else (1 if stat_threshold >= 0 else -1,):
        heights = sign * volume
        label, n_clusters = ndimage.label(heights > abs(stat_threshold))
        if n_clusters == 0:
            side = f"{'higher' if sign == 1 else 'lower'} than {sign * abs(stat_threshold)}"
            warnings.warn(f"No clusters found with stat {side}.", NumbaglmWarning, stacklevel=2)
            continue
        highest = ndimage.maximum(heights, label, np.arange(1, n_clusters + 1))
        order = np.argsort(-np.asarray(highest), kind="stable") + 1
        sizes, boxes = np.bincount(label.ravel()), ndimage.find_objects(label)
        for number, one in enumerate(order, n_before + 1):
            ijk, values = _peaks(heights, label, int(one), boxes[one - 1])
            xyz = ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3]
            kept = _apart(xyz, min_distance)
            size = int(sizes[one] * grid.voxel_volume + 1e-6)  # the volume's rounding costs no whole mm3
            for k, peak in enumerate(kept):
                name = number if k == 0 else f"{number}{ascii_lowercase[k - 1]}"
                rows.append([name, *xyz[peak].tolist(), sign * float(values[peak]), size if k == 0 else ""])
        n_before += n_clusters
        rank = np.zeros(n_clusters + 1, dtype=np.int32)
        rank[order] = np.arange(1, n_clusters + 1)
        label_maps.append(to_image(grid, rank[label].ravel(), dtype=np.int32))
    table = pd.DataFrame(rows, columns=pd.Index(TABLE_COLUMNS))
    return (table, label_maps) if return_label_maps else table


def _read(stat_img: Any) -> tuple[Volume, Geometry]:
    """Values of one 3D image, 0 where they aren't finite, and its whole grid."""
    sources, _, _ = list_maps([stat_img], minimum=1)
    shape, affine = grid_of(sources[0])
    volume = read_map(sources[0]).astype(np.float64)
    volume[~np.isfinite(volume)] = 0.0
    return volume, Geometry(np.ones(shape, dtype=bool), affine)


def _corrected(z: NDArray[np.float64], level: float, height_control: str) -> float:
    """Least z that is significant at a corrected level, one tail."""
    if height_control == "bonferroni":
        return float(stats.norm.isf(level / z.size))
    found = pvalues.fdr(stats.norm.sf(z)) <= level
    return float(z[found].min()) if found.any() else float("inf")


def _thresholded(volume: Volume, threshold: float, cluster_threshold: float, two_sided: bool) -> Volume:
    """Set to 0 what doesn't reach the threshold, or lies in too small a cluster."""
    if two_sided and threshold < 0:
        raise InputError(
            f"The threshold should not be a negative value when two_sided=True: got {threshold}. "
            "Allowed: 0 or above. Give its absolute value."
        )
    if cluster_threshold < 0:
        raise InputError(f"'cluster_threshold' must be > 0: got {cluster_threshold}. Allowed: a number of voxels.")
    reached = np.abs(volume) >= threshold if two_sided else volume >= threshold
    if threshold < 0:
        reached = volume <= threshold
    kept = np.where(reached, volume, 0.0)
    if cluster_threshold > 0:
        for sign in (1, -1):
            label, _ = ndimage.label(sign * kept > 0)
            small = np.bincount(label.ravel()) < cluster_threshold
            small[0] = False
            kept[small[label]] = 0.0
    return kept


def _peaks(
    heights: Volume, label: NDArray[np.signedinteger[Any]], number: int, box: tuple[slice, ...]
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
