"""The clusters of the observed map: extent, mass, peaks, and their corrected p as a table and as maps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.engine.permutation.maps import MAP_TOLERANCE, ClusterTask, map_tolerance
from numbaglm.engine.permutation.records import RunResult, Spec
from numbaglm.results.vocabulary import ELSEWHERE, EVERY_TABLE
from numbaglm.spaces.space import Space
from numbaglm.stats import pvalues
from numbaglm.stats.corrected import Corrected, from_null


@dataclass(frozen=True, eq=False)
class ObservedClusters:
    """Clusters of the observed map.

    Attributes
    ----------
    voxel
        (k,) voxels above the cluster-forming threshold.
    label
        (k,) their clusters, from 0.
    positive
        (n_clusters,) sign.
    size, mass
        (n_clusters,); extents in voxels, or in the unit of the measure of their domain.
    peak
        (n_clusters,) voxel of the largest statistic.
    tolerance
        (n_clusters,) how close masses must be to count as equal, relative.
    domain
        (n_clusters,) number of the domain that each lies in.
    measured
        (n_domains,) whether extents are sums of measures.
    """

    spec: Spec
    space: Space
    voxel: NDArray[np.int32]
    label: NDArray[np.int64]
    positive: NDArray[np.bool_]
    size: NDArray[np.int64 | np.float64]
    mass: NDArray[np.float64]
    peak: NDArray[np.intp]
    tolerance: NDArray[np.float64]
    domain: NDArray[np.int64]
    measured: NDArray[np.bool_]

    @classmethod
    def find(cls, spec: Spec, space: Space, raw: RunResult) -> ObservedClusters:
        """Form the clusters of the observed map."""
        assert raw.observed_picks is not None
        voxel, _ = raw.observed_picks
        score = raw.score[voxel]  # in double precision
        task = ClusterTask.build(spec, space)
        label = task.label(voxel, score) - 1
        n_clusters = int(label.max(initial=-1)) + 1
        order = np.lexsort((-np.abs(score), label))
        highest = order[np.searchsorted(label[order], np.arange(n_clusters))]
        domain = domain_of(space, voxel[highest])
        return cls(
            spec=spec,
            space=space,
            voxel=voxel,
            label=label,
            positive=score[highest] > 0,
            size=np.bincount(label, task.measures(voxel), n_clusters),
            mass=np.bincount(label, task.contributions(voxel, score), n_clusters).astype(np.float64).clip(0),
            peak=voxel[highest].astype(np.intp),
            tolerance=map_tolerance(spec, score[highest]),
            domain=domain,
            measured=task.measured,
        )

    def corrected(self, kind: str, maxima: NDArray[Any], which: NDArray[np.bool_] | slice = slice(None)) -> Corrected:
        """Corrected p of "size" or "mass" of those of the clusters against a null (n_shufflings,)."""
        observed = getattr(self, kind)[which]
        if kind == "mass":
            tolerance = observed * self.tolerance[which]
        else:  # the same areas in another order are another number
            tolerance = np.where(self.measured[self.domain[which]], observed * MAP_TOLERANCE["float64"], 0.5)
        if not self.spec.conventions.clipped_cluster_p:
            return from_null(self.spec.tail, self.spec.shufflings, observed, maxima, tolerance)
        random = np.sort(maxima[1:])
        reached = random.size - np.searchsorted(random, observed - tolerance)
        clipped = np.clip(reached / random.size, 1 / random.size, self._most)
        return Corrected(clipped, pvalues.from_maxima(observed, maxima, tolerance))

    def as_map(self, values: NDArray[Any], background: float) -> NDArray[np.float64]:
        """Give each voxel the value (n_clusters,) of its cluster, and ``background`` to all others."""
        full = np.full(self.space.n, background)
        full[self.voxel] = values[self.label]
        return full

    def p_map(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map of corrected p; where there is no cluster it is as large as it gets."""
        return self.as_map(p, self._most)

    @property
    def _most(self) -> float:
        """The largest p that a cluster can have; a single random shuffling is too few to stay below 1."""
        n_random = self.spec.shufflings.n_shufflings - 1
        return 1.0 - 1.0 / n_random if self.spec.conventions.clipped_cluster_p and n_random > 1 else 1.0

    @cached_property
    def ranked(self) -> NDArray[np.intp]:
        """(n_clusters,) in the order of their table: the largest first."""
        return np.lexsort((-self.mass, -self.size))

    def numbers(self) -> NDArray[np.int32]:
        """(n_voxels,) number that each voxel's cluster has in the table; 0 outside clusters."""
        number_of = np.empty(len(self.ranked), np.int32)
        number_of[self.ranked] = np.arange(1, len(self.ranked) + 1)
        full = np.zeros(self.space.n, np.int32)
        full[self.voxel] = number_of[self.label]
        return full

    def table(self, statistic: NDArray[np.float64], p_voxel: NDArray[np.float64]) -> pd.DataFrame:
        """Table of the clusters with the columns that theirs has; p of extent and mass are NaN."""
        xyz, volume = self.space.coordinates(self.peak), self.space.is_volume
        found = {
            "cluster": 0,
            "sign": np.where(self.positive, "+", "-"),
            "peak_x": xyz[:, 0],
            "peak_y": xyz[:, 1],
            "peak_z": xyz[:, 2],
            "peak_stat": statistic[self.peak],
            "mass": self.mass,
            "p_fwe_voxel": p_voxel[self.peak],
            **(self._extents() if volume else self._places()),
        }
        table = pd.DataFrame(found, columns=pd.Index(EVERY_TABLE if volume else ELSEWHERE)).iloc[self.ranked]
        table["cluster"] = np.arange(1, len(table) + 1)
        return table.reset_index(drop=True)

    def _extents(self) -> dict[str, Any]:
        return {"size_voxels": self.size, "size_mm3": self.size * self.space.volume.voxel_volume}

    def _places(self) -> dict[str, Any]:
        """Where clusters lie that are in no volume, or not in that alone, and what their extents are in."""
        part = self.space.part_of(self.peak)
        nodes = [", ".join(self.space.nodes(self.voxel[self.label == k])) for k in range(len(self.peak))]
        return {
            "domain": [self.space.parts[number].domain for number in part],
            "structure": self.space.structures(self.peak),
            "peak": self.space.places(self.peak),
            "peak_element": self.peak,
            "size_elements": np.bincount(self.label, minlength=len(self.peak)),
            "size": np.bincount(self.label, self.space.measure[self.voxel], len(self.peak)),
            "unit": [self.space.parts[number].unit for number in part],
            "nodes": nodes,
        }


def domain_of(space: Space, elements: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Number (k,) of the domain of some elements."""
    number = np.empty(len(space.parts), np.int64)
    for k, parts in enumerate(space.domains.values()):
        number[list(parts)] = k
    return number[space.part_of(elements)]
