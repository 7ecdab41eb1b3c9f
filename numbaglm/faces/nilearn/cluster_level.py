"""Drop-in for nilearn's proportions of true discoveries in the clusters of any map of z."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from numbaglm.errors import InputError, NumbaglmFutureWarning, invalid, warn
from numbaglm.faces.nilearn.model.permuted import check_compatibility
from numbaglm.faces.nilearn.stat_maps import StatMap, read_stat_map
from numbaglm.stats.conventions import is_probability
from numbaglm.stats.discoveries import ari

Label = Callable[[NDArray[np.bool_]], tuple[NDArray[Any], int]]


def cluster_level_inference(
    stat_img: Any,
    mask_img: Any = None,
    threshold: float | Sequence[float] = 3.0,
    alpha: float = 0.05,
    verbose: int = 0,
    *,
    compatibility: str | None = None,
) -> Any:
    """Bound the share of true discoveries in each cluster of a map of z, with nilearn's signature.

    With probability 1 - alpha the shares of all clusters, at all thresholds, hold at once (all-resolution inference):
    of each cluster at least so much has an effect above 0. It holds where Simes' inequality does, as under positive
    dependence.

    Parameters
    ----------
    stat_img
        Image or path, 3D, of z, or a SurfaceImage. p are of its upper tail.
    mask_img
        Image or path, or a SurfaceImage: what was tested. By default what is finite and not 0.
    threshold
        z, 0 or above: voxels strictly above it form clusters by their faces (6 neighbours; the edges of triangles on
        surfaces). Of several thresholds each voxel has the share of its cluster at the highest that it is above.
    alpha
        Above 0, below 1.
    verbose
        Accepted for nilearn's sake; nothing is drawn.
    compatibility
        "nilearn" reproduces the last of the differences below.

    Returns
    -------
    The shares as an image: 0 outside clusters. On surfaces they hold at once within a hemisphere, as in nilearn.

    Raises
    ------
    InputError, ImageError, GridError, MissingFileError
        An argument or an image can't be used.

    Notes
    -----
    It differs from nilearn 0.14.1 in that what is not 0 is counted where no mask is given (nilearn guesses a mask of
    voxels from their intensities, and counts all vertices); and in that

    - no share is above 1: nilearn counts one voxel too many in a cluster where a p is 0 in double precision, and in
      each cluster where all voxels are discoveries;
    - vertices are neighbours where a triangle joins them; nilearn takes those whose numbers follow each other.

    The share in a cluster that was formed otherwise, or in any other region, is told by
    `numbaglm.PermutationResult.true_discoveries`.

    References
    ----------
    Rosenblatt, Finos, Weeda, Solari and Goeman (2018), NeuroImage 181:786-796.

    Examples
    --------
    >>> import numpy as np, nibabel as nib, numbaglm as ng
    >>> z = np.random.default_rng(0).normal(size=(9, 9, 9)); z[2:5, 2:5, 2:5] += 4
    >>> share = ng.cluster_level_inference(nib.Nifti1Image(z, np.eye(4)), threshold=3.5)
    >>> f"{share.get_fdata().max():.2f}"
    '0.88'
    """
    check_compatibility(compatibility)
    heights = _parse_thresholds(threshold)
    if not is_probability(alpha):
        raise InputError(f"alpha should be between 0 and 1: got {alpha!r}.")
    found = read_stat_map(stat_img, mask_img)
    if found.n_nonfinite:
        warn(f"Non-finite values detected: {found.n_nonfinite:,} values are NaN or infinite, and count as 0.")
    shares = np.zeros(found.values.shape)
    if found.hemispheres is None:
        _fill(shares, found.values, found.inside, heights, alpha, found.label)
        return found.image(shares, np.result_type(found.dtype, np.float32))
    for where in found.hemispheres.values():
        label = ndimage.label if compatibility == "nilearn" else _labels_within(found, where)
        _fill(shares[where], found.values[where], found.inside[where], heights, alpha, label)
    return found.image(shares, np.result_type(found.dtype, np.float32))


def _parse_thresholds(threshold: float | Sequence[float]) -> list[float]:
    """Thresholds, increasing."""
    if isinstance(threshold, float | int | np.number) and threshold == 3.0:
        warn(
            "From nilearn version>=0.15, the default 'threshold' will be set to 3.09. It is 3.0 here, as in nilearn "
            "0.14: pass the threshold that you mean.",
            NumbaglmFutureWarning,
        )
    try:
        heights = np.atleast_1d(np.asarray(threshold, dtype=np.float64))
    except (TypeError, ValueError):
        heights = np.empty(0)
    if heights.ndim != 1 or heights.size == 0 or np.isnan(heights).any():
        raise InputError(invalid("threshold", threshold, "a z of 0 or above, or a list of them"))
    if (heights < 0).any():
        raise InputError(
            f"'threshold' cannot be negative or contain negative values. Got: 'threshold={threshold}'. For effects "
            "below 0 turn the sign of the map."
        )
    return [float(height) for height in np.sort(heights)]


def _labels_within(found: StatMap, where: slice) -> Label:
    """Number the connected sets of one hemisphere."""

    def label(above: NDArray[np.bool_]) -> tuple[NDArray[Any], int]:
        whole = np.zeros(found.values.size, bool)
        whole[where] = above
        labels, n_labels = found.label(whole)
        return labels[where], n_labels

    return label


def _fill(
    shares: NDArray[np.float64],
    z: NDArray[np.float64],
    inside: NDArray[np.bool_],
    heights: Sequence[float],
    alpha: float,
    label: Label,
) -> None:
    """Put the shares of the clusters of some elements, tested together, into ``shares``."""
    if not inside.any():
        return
    bound = ari(stats.norm.sf(z[inside]), alpha)
    for height in heights:
        labels = label(inside & (z > height))[0][inside]
        found = bound.of_labels(labels)
        by_label = np.zeros(len(found) + 1)
        by_label[list(found)] = [one.tdp for one in found.values()]
        shares[inside] = np.where(labels > 0, by_label[labels], shares[inside])
