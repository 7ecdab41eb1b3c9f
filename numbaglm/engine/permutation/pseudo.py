"""Pseudo-t: the effect over a standard error whose variance was smoothed in space.

With few subjects the variance of a voxel is a poor estimate; its neighbours' help. The statistic has no parametric
distribution, so its null comes from shuffling alone (Nichols and Holmes, 2002, Human Brain Mapping 15:1-25).

Whole maps are needed before a single score is known, so that voxel scope leaves effects and variances in the
scratch, and map scope smooths, scores and reduces them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its ndimage is loaded where it is used
from numpy.typing import NDArray

from numbaglm.data.runs.ledger import Ledger, Shared
from numbaglm.data.runs.maps import Maps
from numbaglm.engine.permutation.maps import Clustered, ClusterTask, TfceTask, as_bytes
from numbaglm.engine.permutation.records import Picks, Spec
from numbaglm.engine.permutation.voxels import Source
from numbaglm.engine.schedule import checkpoint
from numbaglm.kernels.shuffle import TILE
from numbaglm.spaces.smoothing import FWHM_PER_SIGMA
from numbaglm.spaces.volume import Geometry

Floats = NDArray[np.floating[Any]]
_Pair = tuple[Maps, Maps]

_TIE = 1e-9  # relative; everything is double precision here


@dataclass(frozen=True, eq=False)
class Filled:
    """The record of a block whose maps are there: nothing else is to be told."""


def fill_block(
    source: Source, start: int, stop: int, first: int, last: int, ledger: Ledger, observed: str | None, maps: _Pair
) -> Filled:
    """Leave the effects and the variances of a block under shufflings ``first`` to ``last`` in the maps.

    Parameters
    ----------
    ledger, observed
        As in `numbaglm.engine.permutation.voxels.permute_block`.
    maps
        For effects, and for residual variances.
    """
    block, spec, plan = source.block(start, stop), source.spec.get(), source.plan
    if observed is not None:
        ledger.put(observed, block.observed)
    n_rows, dof, length = spec.n_rows, spec.hypothesis.design.dof, block.observed.length
    weights = np.zeros((plan.batch * n_rows, block.tiles.shape[1]))
    for i, index, sign in source.batches(first, last):
        spec.hypothesis.weights(index, sign, weights)
        effects, variances = np.empty((2, len(index), block.n_voxels))
        for t, tile in enumerate(block.tiles):
            columns = slice(t * TILE, min((t + 1) * TILE, block.n_voxels))
            width = columns.stop - columns.start
            products = (weights @ tile[:, :width]).reshape(n_rows, plan.batch, width)[:, : len(index)]
            left = np.maximum(1.0 - (products**2).sum(axis=0), 0.0)
            effects[:, columns] = products[0] * length[columns]
            variances[:, columns] = left * length[columns] ** 2 / dof
        for one, values in zip(maps, (effects, variances), strict=True):
            one.write(i - first, start, values)
    return Filled()


@dataclass(frozen=True, eq=False)
class PseudoRound:
    """What map scope returns of a span of shufflings: counts, and maxima (None of what wasn't asked for)."""

    counts: NDArray[np.uint8] | None
    maxima: NDArray[np.float64]
    size: NDArray[np.int32] | None
    mass: NDArray[np.float64] | None
    tfce: NDArray[np.float64] | None
    tfce_counts: NDArray[np.uint8] | None


def reduce_maps(task: Shared, maps: _Pair, first: int, last: int) -> PseudoRound:
    """Score, count and cluster maps ``first`` to ``last``."""
    found: PseudoRound = task.get().reduce(*(one.rows(first, last) for one in maps))
    return found


@dataclass(frozen=True, eq=False)
class PseudoTask:
    """What tasks that score whole maps share.

    Attributes
    ----------
    sigma
        (3,) standard deviations of the Gaussian, in voxels.
    weight
        (n_voxels,) the mask, smoothed: makes up for what leaks out of it.
    observed
        (n_voxels,) observed pseudo-t, None while it isn't known.
    """

    spec: Spec
    geometry: Geometry
    sigma: NDArray[np.float64]
    weight: NDArray[np.float64]
    clusters: ClusterTask | None
    enhance: TfceTask | None
    observed: NDArray[np.float64] | None = None

    @classmethod
    def build(cls, spec: Spec, geometry: Geometry) -> PseudoTask:
        """Take from a geometry what smoothing needs."""
        assert spec.variance_fwhm is not None
        sigma = spec.variance_fwhm / (FWHM_PER_SIGMA * geometry.voxel_sizes)
        inside = scipy.ndimage.gaussian_filter(geometry.mask.astype(np.float64), sigma, mode="constant")
        return cls(
            spec=spec,
            geometry=geometry,
            sigma=sigma,
            weight=inside[geometry.mask],
            clusters=None if spec.threshold is None else ClusterTask.build(spec, geometry),
            enhance=TfceTask.build(spec, geometry) if spec.tfce else None,
        )

    def score(self, effect: Floats, variance: Floats) -> NDArray[np.float64]:
        """Pseudo-t (n_voxels,) of an effect and its residual variance."""
        volume = np.asarray(self.geometry.unmask(variance), dtype=np.float64)
        smoothed = scipy.ndimage.gaussian_filter(volume, self.sigma, mode="constant")[self.geometry.mask]
        error = np.sqrt(smoothed / self.weight)
        return np.asarray(np.divide(effect, error, out=np.zeros(effect.shape), where=error > 0))

    def picks(self, score: NDArray[np.float64]) -> Picks:
        """Voxels of one map that reach the cluster-forming threshold."""
        threshold = self.spec.threshold
        assert threshold is not None
        size = np.abs(score) if self.spec.two_sided else score
        above = np.flatnonzero(size > threshold if self.spec.conventions.strict else size >= threshold)
        return np.array([0, above.size]), above.astype(np.int32), score[above]

    def observed_picks(self) -> tuple[NDArray[np.int32], Floats] | None:
        """Picks of the observed map, where clusters are formed."""
        if self.clusters is None or self.observed is None:
            return None
        return self.picks(self.observed)[1:]

    def reduce(self, effects: Floats, variances: Floats) -> PseudoRound:
        """Score, count and cluster the maps of some shufflings, (n_shufflings, n_voxels)."""
        spec, observed = self.spec, self.observed
        assert observed is not None
        height = np.abs(observed) if spec.two_sided else observed
        reference = height - _TIE * np.maximum(1.0, np.abs(height))
        counts = np.zeros(observed.size, np.int32)
        maxima: list[float] = []
        largest: list[Clustered] = []

        def scores() -> Iterator[NDArray[np.float64]]:
            for effect, variance in zip(effects, variances, strict=True):
                checkpoint()
                score = self.score(effect, variance)
                size = np.abs(score) if spec.two_sided else score
                counts[size >= reference] += 1
                maxima.append(size.max())
                if self.clusters is not None:
                    largest.append(self.clusters.largest([self.picks(score)]))
                yield score

        enhanced = None
        if self.enhance is not None:
            enhanced = self.enhance.largest(scores(), self.observed_tfce())
        else:
            for _ in scores():
                pass
        return PseudoRound(
            counts=as_bytes(counts),
            maxima=np.array(maxima),
            size=np.concatenate([one.size for one in largest]) if largest else None,
            mass=np.concatenate([one.mass for one in largest]) if largest else None,
            tfce=None if enhanced is None else enhanced.maxima,
            tfce_counts=None if enhanced is None else enhanced.counts,
        )

    def observed_tfce(self) -> NDArray[np.float64] | None:
        """Observed TFCE, where it is counted."""
        if self.enhance is None or self.observed is None or not self.spec.tfce_counts:
            return None
        return self.enhance.reference(self.observed)
