"""Pseudo-t: the effect over a standard error whose variance was smoothed in space.

With few subjects the variance of a voxel is a poor estimate; its neighbours' help. The statistic has no parametric
distribution, so its null comes from shuffling alone (Nichols and Holmes, 2002, Human Brain Mapping 15:1-25).

Whole maps are needed before a single score is known, so that voxel scope leaves effects and variances in the
scratch, and map scope smooths, scores and reduces them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from numbaglm.data.geometry import Geometry
from numbaglm.data.smoothing import FWHM_PER_SIGMA
from numbaglm.data.store import CohortStore
from numbaglm.engine.maps import ClusterTask, TfceTask
from numbaglm.engine.plan import Plan
from numbaglm.engine.schedule import checkpoint
from numbaglm.engine.voxels import Block, Picks, Spec, prepare_block
from numbaglm.kernels.shuffle import TILE

Floats = NDArray[np.floating[Any]]

_TIE = 1e-9  # relative; everything is double precision here


def fill_block(
    source: Block | tuple[CohortStore, int, int], spec: Spec, plan: Plan, first: int, last: int, scratch: Any
) -> tuple[Block, None]:
    """Leave the effects and the variances of a block under shufflings ``first`` to ``last`` in the scratch.

    Parameters
    ----------
    scratch
        Two arrays (n_shufflings, n_voxels): effects, and residual variances.
    """
    block = source if isinstance(source, Block) else prepare_block(source[0], spec, source[1], source[2])
    effects, variances = scratch
    n_rows, dof = spec.n_rows, spec.hypothesis.design.dof
    weights = np.zeros((plan.batch * n_rows, block.tiles.shape[1]))
    for i in range(first, last, plan.batch):
        checkpoint()
        index, sign = spec.shufflings.draw(i, min(i + plan.batch, last))
        spec.hypothesis.weights(index, sign, weights)
        rows = slice(i - first, i - first + len(index))
        for t, tile in enumerate(block.tiles):
            start = t * TILE
            width = min(TILE, block.n_voxels - start)
            length = block.length[start : start + width]
            products = (weights @ tile[:, :width]).reshape(n_rows, plan.batch, width)[:, : len(index)]
            left = np.maximum(1.0 - (products**2).sum(axis=0), 0.0)
            columns = slice(block.start + start, block.start + start + width)
            effects[rows, columns] = products[0] * length
            variances[rows, columns] = left * length**2 / dof
    return (block if plan.resident else replace(block, tiles=block.tiles[:0])), None


@dataclass(frozen=True, eq=False)
class PseudoRound:
    """What map scope returns of a span of shufflings: counts, and maxima (None of what wasn't asked for)."""

    counts: NDArray[np.int32]
    maxima: NDArray[np.float64]
    size: NDArray[np.int32] | None
    mass: NDArray[np.float64] | None
    tfce: NDArray[np.float64] | None


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
        return cls(
            spec=spec,
            geometry=geometry,
            sigma=sigma,
            weight=gaussian_filter(geometry.mask.astype(np.float64), sigma, mode="constant")[geometry.mask],
            clusters=None if spec.threshold is None else ClusterTask.build(spec, geometry),
            enhance=TfceTask.build(spec, geometry) if spec.tfce else None,
        )

    def score(self, effect: Floats, variance: Floats) -> NDArray[np.float64]:
        """Pseudo-t (n_voxels,) of an effect and its residual variance."""
        volume = np.asarray(self.geometry.unmask(variance), dtype=np.float64)
        smoothed = gaussian_filter(volume, self.sigma, mode="constant")[self.geometry.mask]
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

    def reduce(self, scratch: Any, first: int, last: int) -> PseudoRound:
        """Score, count and cluster rows ``first`` to ``last`` of the scratch."""
        spec, observed = self.spec, self.observed
        assert observed is not None
        effects, variances = scratch
        height = np.abs(observed) if spec.two_sided else observed
        reference = height - _TIE * np.maximum(1.0, np.abs(height))
        counts = np.zeros(observed.size, np.int32)
        maxima, largest, tfce = [], [], []
        for i in range(first, last):
            score = self.score(effects[i], variances[i])
            size = np.abs(score) if spec.two_sided else score
            counts += size >= reference
            maxima.append(size.max())
            if self.clusters is not None:
                largest.append(self.clusters.largest([self.picks(score)]))
            if self.enhance is not None:
                tfce.append(self.enhance.largest([score], 0, 1))
        return PseudoRound(
            counts=counts,
            maxima=np.array(maxima),
            size=np.concatenate([size for size, _ in largest]) if largest else None,
            mass=np.concatenate([mass for _, mass in largest]) if largest else None,
            tfce=np.concatenate(tfce) if tfce else None,
        )
