"""True discoveries of a result: in any region, in every cluster, and the largest clusters with a stated share of them.

One promise covers all of it: with probability 1 - alpha the bounds of all regions and all clusters hold at once, so
that each may be chosen after a look at the map. They are those of all-resolution inference, made of the parametric p of
the statistic, of both tails where the test has two sides (`numbaglm.stats.discoveries.ari`); or, where the test asked
for a template, those that its shufflings calibrated. They hold for the elements of one contrast. Over k contrasts, ask
for each at alpha / k; those of templates hold over all contrasts of a test with ``fwe_across_contrasts=True``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Ints
from numbaglm.data import images  # what is of elements is loaded where it is used
from numbaglm.data.images import grid_of, is_image, list_maps, read_map, to_image
from numbaglm.errors import InputError, invalid, term, warn
from numbaglm.kernels.discoveries import Tree, component_tree
from numbaglm.results.provenance import WrongProvenanceError
from numbaglm.results.record import Record
from numbaglm.results.vocabulary import ALPHA
from numbaglm.spaces.space import Space
from numbaglm.stats.discoveries import Bound, Calibration, Learned, ThresholdTemplate, TrueDiscoveries, Way, ari

_REMEDY = "discoveries='simes'"
_GROUPED = {"v": "v", "g": "G"}

CALIBRATED = "discoveries"
"""What a provenance keeps of a calibration, where shufflings made one."""


@dataclass(frozen=True, eq=False)
class Discoveries:
    """The largest clusters with at least a stated share of true discoveries, each with a threshold of its own.

    With probability 1 - alpha the bounds of all clusters, at all thresholds, hold at once, and so do these.

    Attributes
    ----------
    labels
        (n_elements,) int32, number of each element's cluster in the table; 0 outside.
    clusters
        A row a cluster, the largest first: ``sign`` and place of the peak, its statistic (``peak_stat``),
        ``n_elements``, how many of these have an effect at least (``n_true``), their share (``tdp``), and the z at
        which the cluster is one (``threshold``); and the number of the element of the peak, from 0 (``peak_element``).
    space
        Where the elements lie.
    tdp, alpha
        What was asked for.
    """

    labels: Ints
    clusters: pd.DataFrame
    space: Space
    tdp: float
    alpha: float

    def to_image(self) -> Any:
        """Labels of the clusters in the format that the maps of the cohort came in; see `Record.to_image`."""
        if self.space.is_volume:
            return to_image(self.space.volume, self.labels, dtype=np.int32)
        return images.element_image(self.space, self.labels, 0.0, "discoveries")

    def __repr__(self) -> str:
        where = f"{len(self.clusters)} clusters with TDP >= {self.tdp:g}, alpha = {self.alpha:g}"
        return f"<{type(self).__name__} {where}\n{self.clusters.to_string(index=False)}>"


def true_discoveries(result: Record, region: Any, alpha: float = ALPHA) -> TrueDiscoveries | pd.DataFrame:
    """Bound the true discoveries in a region of a result, or in each region of an atlas.

    `numbaglm.PermutationResult.true_discoveries` says what is taken and returned.
    """
    bound = bound_of(result, alpha)
    chosen = elements_of(result.space, region)
    if chosen.size == result.space.n and chosen.dtype.kind != "b":
        found = bound.of_labels(chosen)
        rows = [(label, one.n_elements, one.n_true, one.tdp) for label, one in found.items()]
        return pd.DataFrame(rows, columns=pd.Index(["label", "n_elements", "n_true", "tdp"])).set_index("label")
    one = bound.of(chosen)
    assert isinstance(one, TrueDiscoveries)
    return one


def discovery_map(result: Record, tdp: float = 0.7, alpha: float = ALPHA) -> Discoveries:
    """Find the largest clusters with a share of true discoveries; see `numbaglm.PermutationResult.discovery_map`."""
    space, conventions = result.space, result.asked.conventions
    space.require_neighbours()
    z, two_sided = np.asarray(result.maps["z"], np.float64), result.asked.two_sided
    tree = tree_of(space, z, conventions, two_sided)
    assert tree is not None
    found = bound_of(result, alpha).of_clusters(tree).largest(tdp)
    inside = np.flatnonzero(found.labels)
    order = inside[np.lexsort((-np.abs(z[inside]), found.labels[inside]))]
    edges = np.searchsorted(found.labels[order], np.arange(1, len(found.clusters) + 2))
    peak, lowest = order[edges[:-1]], order[edges[1:] - 1]
    xyz = space.coordinates(peak)
    table: dict[str, Any] = {
        "cluster": np.arange(1, peak.size + 1),
        "sign": np.where(z[peak] < 0, "-", "+"),
        "peak_x": xyz[:, 0],
        "peak_y": xyz[:, 1],
        "peak_z": xyz[:, 2],
        **({} if space.is_volume else {"structure": space.structures(peak), "peak": space.places(peak)}),
        "peak_stat": result.maps[result.statistic][peak],
        "n_elements": [one.n_elements for one in found.clusters],
        "n_true": [one.n_true for one in found.clusters],
        "tdp": [one.tdp for one in found.clusters],
        "threshold": np.abs(z[lowest]),
        "peak_element": peak,
    }
    return Discoveries(found.labels, pd.DataFrame(table), space, tdp, alpha)


def bound_of(result: Record, alpha: float = ALPHA) -> Bound:
    """Bounds of all sets of elements of a result.

    Raises
    ------
    InputError
        Its statistic has no p of its own, or alpha is none.
    """
    if result.asked.variance_smoothing_fwhm is not None:
        raise InputError(
            "True discoveries are bounded by parametric p, and pseudo-t (variance_smoothing_fwhm) has none. Test t."
        )
    if not result.asked.has_parametric_p:
        raise InputError(
            f"True discoveries are bounded by parametric p, and {term(f'combine={result.asked.combine!r}')} has none. "
            "Test another statistic."
        )
    kept = result.provenance.get(CALIBRATED)
    if kept is None and not result.asked.p_holds:
        of = term(f"combine={result.asked.combine!r}") if result.asked.combine else _GROUPED[result.asked.statistic]
        raise InputError(
            f"Without shufflings true discoveries are bounded by parametric p, and those of {of} are too small where "
            f"{_where(result)}. Test with {term(_REMEDY)}, which shufflings calibrate."
        )
    p = result.maps["p_parametric"]
    if kept is None:
        return ari(p, alpha)
    calibration = as_made(kept)
    if alpha != calibration.alpha:
        fix = "Test with discoveries='ari' for another."
        raise InputError(invalid("alpha", alpha, f"{calibration.alpha:g}, at which shufflings calibrated it", fix))
    return calibration.bound(p)


def _where(result: Record) -> str:
    """Where parametric p of a test are too small that do not hold."""
    return "maps hang together" if result.asked.combine else "a small group varies most"


def in_words(result: Record) -> list[str]:
    """Say in two sentences how much of the map has an effect; nothing of what has no parametric p."""
    if result.asked.variance_smoothing_fwhm is not None or not result.asked.has_parametric_p:
        return []
    if result.provenance.get(CALIBRATED) is None and not result.asked.p_holds:
        of = result.asked.combine or _GROUPED[result.asked.statistic]
        why = f"parametric p of {of} are too small where {_where(result)}"
        return [f"How many {result.space.nouns} have an effect is not told: {why}, and no template was calibrated."]
    everywhere = bound_of(result).of(np.ones(result.space.n, bool))
    assert isinstance(everywhere, TrueDiscoveries)
    kept = result.provenance.get(CALIBRATED)
    how = "all-resolution inference" if kept is None else _words_of(kept)
    n, nouns = everywhere.n_true, result.space.nouns
    if not n:
        return [f"How many {nouns} have an effect can't be said: 0 at least ({how})."]
    alone = _alone(result.widest, 1 if kept is None else kept["n_together"])
    found = f"At least {n:,} of the {everywhere.n_elements:,} {nouns} {'has' if n == 1 else 'have'} an effect"
    more = ", and of each cluster at least the share under TDP" if "tdp" in result.clusters else ""
    return [
        f"{found}{more}: with {1 - ALPHA:.0%} these bounds, and those of any other region, hold at once ({how}{alone})."
    ]


def _alone(widest: str, n_together: int) -> str:
    """What bounds are of, where p are corrected over more than that."""
    of = ["contrast"] if "contrasts" in widest and n_together == 1 else []
    of += ["modality"] if "modalities" in widest else []
    return f"; of this {' and '.join(of)} alone" if of else ""


def _words_of(kept: Mapping[str, Any]) -> str:
    """What made bounds, and over how much they hold."""
    way, n = Way.parse(kept["template"]), kept["n_together"]
    assert way is not None
    few = f"; regions with no more than {way.shift} are told 0 of" if way.shift else ""
    return way.words + few + (f"; over {n} contrasts at once" if n > 1 else "")


_COUNTS = ("n_elements", "n_shufflings", "n_left_out", "n_together")


def as_kept(calibration: Calibration) -> dict[str, Any]:
    """Return what a provenance keeps of a calibration, JSON types: thresholds follow from it, but for learned ones."""
    learned = isinstance(calibration.template, Learned)
    return {
        "template": calibration.name,
        "level": calibration.level,
        "n_thresholds": calibration.thresholds.size,
        **{one: getattr(calibration, one) for one in ("alpha", "tie", *_COUNTS)},
        "thresholds": calibration.thresholds.tolist() if learned else None,
    }


def as_made(kept: Any) -> Calibration:
    """Make a calibration of what `as_kept` returned.

    Raises
    ------
    WrongProvenanceError
        It is something else.
    """
    try:
        way, n_thresholds = Way.parse(kept["template"]), int(kept["n_thresholds"])
        level, alpha, tie = (float(kept[name]) for name in ("level", "alpha", "tie"))
        n, n_shufflings, n_left_out, n_together = (int(kept[name]) for name in _COUNTS)
        least = 0 if way is not None and way.template is not None else -1
        if not (way and 0 < n_thresholds <= n and level >= least and 0 < alpha < 1 and 0 <= tie < 1):
            raise ValueError
        if way.template is None:
            thresholds = np.array(kept["thresholds"], np.float64)
            if thresholds.shape != (n_thresholds,) or not (np.diff(thresholds) >= 0).all() or thresholds[0] < 0:
                raise ValueError
            template: ThresholdTemplate = Learned(thresholds[:, None])  # all that is left of its curves
        else:
            template = way.template
            thresholds = template.thresholds(level, n_thresholds, n)
    except (KeyError, TypeError, ValueError) as error:
        raise WrongProvenanceError(f"{CALIBRATED!r} is {str(kept)[:60]!r}, not a calibration") from error
    return Calibration(thresholds, template, level, n, alpha, n_shufflings, n_left_out, way.steps_down, n_together, tie)


def tree_of(space: Space, z: Doubles, conventions: Mapping[str, Any], two_sided: bool) -> Tree | None:
    """All clusters at all thresholds, of every part of a space; None where it is not known which elements touch.

    Parameters
    ----------
    z
        (n,) of the elements.
    conventions
        Of which ``cluster_connectivity`` and ``merge_signs`` matter, as for clusters at one threshold.
    two_sided
        Whether values below 0 count.
    """
    if two_sided and conventions["merge_signs"]:
        z, two_sided = np.abs(z), False
    trees: list[Tree] = []
    n_nodes = 0
    for part, where in zip(space.parts, space.slices, strict=True):
        topology = part.topology(conventions["cluster_connectivity"])
        if topology is None:
            return None
        one = component_tree(np.ascontiguousarray(z[where]), topology, two_sided)
        parent = np.where(one.parent < 0, -1, one.parent + n_nodes)
        trees.append(Tree(one.element + where.start, parent, one.height))
        n_nodes += len(parent)
    element, parent = (np.concatenate([tree[k] for tree in trees]).astype(np.int32) for k in range(2))
    return Tree(element, parent, np.concatenate([tree.height for tree in trees]))


def best_tdp(bound: Bound, space: Space, z: Doubles, conventions: Mapping[str, Any], two_sided: bool) -> Doubles | None:
    """(n,) largest share of true discoveries of any cluster, at any threshold, that holds each element; see `tree_of`.

    A tree takes longer than the rest of what is made of a map: where nothing is found in all of it none is grown.
    """
    if not bound.n_true and space.unconnected is None:
        return np.zeros(space.n)
    tree = tree_of(space, z, conventions, two_sided)
    return None if tree is None else bound.of_clusters(tree).best_tdp()


def elements_of(space: Space, region: Any) -> NDArray[Any]:
    """Read a region: a mask (n,), labels (n,), or numbers of elements, of a space.

    Parameters
    ----------
    region
        An image or its path, of a mask or labels; the same as an array of the shape that images have; or a vector of
        the elements: booleans, labels, or numbers of elements. What holds 0 and 1 alone is a mask.

    Raises
    ------
    InputError, ImageError, MissingFileError
    """
    values = _values_of(space, region)
    if values.dtype.kind not in "biuf" and values.size:
        raise InputError(invalid("region", f"values of type {values.dtype}", "a mask, or labels: whole numbers"))
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            received = "numbers with a fraction" if np.isfinite(values).all() else "values that are not finite"
            raise InputError(invalid("region", received, "a mask, or labels: whole numbers"))
        values = values.astype(np.int64)
    if values.shape == (space.n,) and values.dtype.kind in "iu" and values.min() >= 0 and values.max() <= 1:
        return np.asarray(values == 1)
    return values


def _values_of(space: Space, region: Any) -> NDArray[Any]:
    """What a region is, a number an element where it is a map."""
    if space.is_volume and (is_image(region) or isinstance(region, str | os.PathLike)):
        return _of_volume(space, region)
    shape = space.mask.shape if space.is_volume or space.kept is not None else (space.n,)
    array = np.asarray(region) if isinstance(region, np.ndarray | list | tuple | pd.Series) else None
    if array is not None and array.shape == shape:
        return array[space.mask] if len(shape) > 1 or space.kept is not None else array
    if array is not None and array.ndim == 1:
        return array
    if space.template is not None:
        return np.asarray(images.element_values(region, space.template, "region")[space.mask])
    received = type(region).__name__ if array is None else f"an array of shape {array.shape}"
    allowed = f"an image, its path, or an array of shape {shape} or ({space.n},)"
    raise InputError(invalid("region", received, allowed))


def _of_volume(space: Space, region: Any) -> NDArray[Any]:
    """Labels of voxels from an image; on another grid the nearest voxel counts."""
    source = list_maps([region], minimum=1)[0][0]
    values, (shape, affine) = np.nan_to_num(read_map(source)), grid_of(source)
    place = space.volume
    if not place.same_grid(shape, affine):
        from numbaglm.spaces.resampling import nearest_values

        warn("The region lies on another grid than the maps: its nearest voxels count.")
        values = nearest_values(values, affine, place.shape, place.affine)
    return np.asarray(values[place.mask])
