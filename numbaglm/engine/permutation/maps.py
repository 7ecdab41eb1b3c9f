"""Map scope: a task takes shufflings, gathers their voxels from all blocks, and returns maxima of whole maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.data.runs.ledger import Ledger, Shared, array
from numbaglm.data.runs.maps import Maps
from numbaglm.engine.permutation.records import Picks, Round, Spec, slice_picks
from numbaglm.engine.schedule import checkpoint
from numbaglm.kernels.spatial import clusters, tfce
from numbaglm.kernels.spatial.topology import Topology, extent_type
from numbaglm.spaces.space import Part, Space
from numbaglm.stats.families.family import BoundWhole
from numbaglm.stats.scales import Scale

MAP_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}
"""Relative: masses and TFCE scores closer than this are equal. They are sums of statistics."""


def map_tolerance(spec: Spec, score: Floats, scale: Scale | None = None) -> NDArray[np.float64]:
    """`MAP_TOLERANCE` of what is made of the statistics of these scores; more where rounding takes them further.

    ``scale`` is that of these very scores; by default the family's.
    """
    scale = spec.family.scale if scale is None else scale
    found = scale.relative_error(np.asarray(score, dtype=np.float64), spec.precision)
    return np.maximum(MAP_TOLERANCE[spec.precision], found)


def merge_blocks(parts: Sequence[Picks]) -> Picks:
    """Merge the picks of all blocks, which follow each other in space, shuffling by shuffling."""
    sizes = np.stack([np.diff(bounds) for bounds, _, _ in parts])
    bounds = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))])
    before = np.cumsum(sizes, axis=0) - sizes  # picks of earlier blocks in the same shuffling
    voxel = np.empty(bounds[-1], np.int32)
    value = np.empty(bounds[-1], parts[0][2].dtype)
    for part, offset, size in zip(parts, before, sizes, strict=True):
        start = np.repeat(bounds[:-1] + offset - part[0][:-1], size)
        place = start + np.arange(part[1].size)
        voxel[place], value[place] = part[1], part[2]
    return bounds, voxel, value


def on_scale(spec: Spec, score: Floats) -> NDArray[np.float64]:
    """Scores on the scale that clusters and TFCE see: the statistic, or z."""
    scale = spec.family.scale
    return scale.to_z(score) if spec.conventions.statistic == "z" else scale.to_statistic(score)


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of the maps, in which elements touch: its maxima are those of its domain.

    Attributes
    ----------
    domain
        Its name, and ``number`` among the domains.
    where
        Its elements.
    topology
        Which of them touch, and how large they are.
    """

    domain: str
    number: int
    where: slice
    topology: Topology

    @classmethod
    def all_of(cls, space: Space, connectivity: int, structures: str) -> tuple[Stretch, ...]:
        """The pieces of a space, in its order; see `Space.topologies`."""
        number = {domain: k for k, domain in enumerate(space.domains)}
        pieces = zip(space.parts, space.slices, space.topologies(connectivity, structures), strict=True)
        return tuple(cls(part.domain, number[part.domain], where, topology) for part, where, topology in pieces)


@dataclass(frozen=True, eq=False)
class Clustered:
    """Extent and mass of the largest cluster of each shuffling of a span, (n_domains, n_shufflings)."""

    size: NDArray[np.int32 | np.float64] = field(metadata=array("i4 f8", "n_domains", "n_shufflings"))
    mass: NDArray[np.float64] = field(metadata=array("f8", "n_domains", "n_shufflings"))


@dataclass(frozen=True, eq=False)
class MapRound:
    """What whole maps of a span of shufflings leave; None of what wasn't asked for, or is known without them.

    Attributes
    ----------
    counts, tfce_counts
        (n_voxels,) maps whose score, or whose TFCE, reaches the observed one there.
    maxima
        (n_shufflings,) largest score of each map.
    tfce, size, mass
        (n_domains, n_shufflings) largest TFCE, and those of the largest cluster, of each map.
    """

    counts: NDArray[np.uint8] | None = field(default=None, metadata=array("u1", "n_voxels"))
    maxima: NDArray[np.float64] | None = field(default=None, metadata=array("f8", "n_shufflings"))
    size: NDArray[np.int32 | np.float64] | None = field(
        default=None, metadata=array("i4 f8", "n_domains", "n_shufflings")
    )
    mass: NDArray[np.float64] | None = field(default=None, metadata=array("f8", "n_domains", "n_shufflings"))
    tfce: NDArray[np.float64] | None = field(default=None, metadata=array("f8", "n_domains", "n_shufflings"))
    tfce_counts: NDArray[np.uint8] | None = field(default=None, metadata=array("u1", "n_voxels"))


@dataclass(frozen=True, eq=False)
class ClusterTask:
    """What tasks that form clusters share: the neighbourhoods and the scale."""

    spec: Spec
    pieces: tuple[Stretch, ...]

    @classmethod
    def build(cls, spec: Spec, space: Space | Part) -> ClusterTask:
        """Take from a space what clusters need."""
        record = spec.conventions
        return cls(spec, Stretch.all_of(Space.of(space), record.cluster_connectivity, record.structures))

    @property
    def n_domains(self) -> int:
        """In how many domains clusters are compared."""
        return 1 + max(piece.number for piece in self.pieces)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(n_domains,) whether extents are sums of measures; otherwise they are counts."""
        found = np.zeros(self.n_domains, bool)
        for piece in self.pieces:
            found[piece.number] |= bool(piece.topology.measure)
        return found

    def contributions(self, voxel: NDArray[np.int32], score: Floats) -> NDArray[np.float64]:
        """What each voxel (k,) adds to its cluster's mass."""
        height = np.abs(on_scale(self.spec, score))
        if self.spec.conventions.mass == "excess":
            height -= on_scale(self.spec, np.array([self.spec.threshold]))[0]
        if self.spec.conventions.mass == "area" and (measures := self.measures(voxel)) is not None:
            height *= measures
        return height

    def measures(self, voxel: NDArray[np.int32]) -> NDArray[np.float64] | None:
        """What each voxel (k,) adds to its cluster's extent, exactly as kernels have it; None where all are counted."""
        return None if self._measures is None else self._measures[voxel]

    @cached_property
    def _measures(self) -> NDArray[np.float64] | None:
        """(n_voxels,) of all of them."""
        if not self.measured.any():
            return None
        found = np.ones(max(piece.where.stop for piece in self.pieces))
        for piece in self.pieces:
            if piece.topology.measure:
                units, unit = piece.topology.measure
                found[piece.where] = units * unit
        return found

    def signs(self, score: Floats) -> NDArray[np.int8]:
        """Sign of each voxel; voxels of different signs are never in one cluster."""
        if self.spec.conventions.merge_signs:
            return np.ones(score.size, np.int8)
        return np.sign(score).astype(np.int8)

    def largest(self, parts: Sequence[Picks]) -> Clustered:
        """Largest extent and mass of each shuffling."""
        bounds, voxel, score = merge_blocks(parts)
        n_batch, most = bounds.size - 1, int(np.diff(bounds).max(initial=0))
        masses, signs = self.contributions(voxel, score), self.signs(score)
        size = np.zeros((self.n_domains, n_batch), np.float64 if self.measured.any() else np.int32)
        mass = np.zeros((self.n_domains, n_batch))
        for piece in self.pieces:
            its_size, its_mass = np.empty(n_batch, extent_type(piece.topology)), np.empty(n_batch)
            first, scratch = piece.where.start, clusters.new_cluster_scratch(piece.topology, most)
            begin, end = bounds[:-1], bounds[1:]
            if len(self.pieces) > 1:
                begin, end = np.empty(n_batch, np.int64), np.empty(n_batch, np.int64)
                clusters.part_bounds(bounds, voxel, first, piece.where.stop, begin, end)
            clusters.cluster_maxima(
                begin, end, voxel, masses, signs, first, piece.topology, scratch, its_size, its_mass
            )
            size[piece.number] = np.maximum(size[piece.number], its_size)
            mass[piece.number] = np.maximum(mass[piece.number], its_mass)
        return Clustered(size, mass)

    def label(self, voxel: NDArray[np.int32], score: Floats) -> NDArray[np.int64]:
        """Label (k,) the clusters of one map from 1, in the order of their first voxel."""
        first, signs = np.empty(voxel.size, np.int64), self.signs(score)
        for piece, which in self._apart(voxel):
            inside, topology = voxel[which], piece.topology
            scratch = clusters.new_cluster_scratch(topology, inside.size)
            clusters.label_clusters(
                inside, signs[which], piece.where.start, topology, topology.strides, scratch.cells, scratch.parent
            )
            first[which] = which.start + scratch.parent
        return np.asarray(np.unique(first, return_inverse=True)[1] + 1, dtype=np.int64)

    def _apart(self, voxel: NDArray[np.int32]) -> Iterator[tuple[Stretch, slice]]:
        """Which of the voxels (k,), increasing, are of each piece."""
        for piece in self.pieces:
            start, stop = np.searchsorted(voxel, [piece.where.start, piece.where.stop])
            yield piece, slice(int(start), int(stop))


@dataclass(frozen=True, eq=False)
class TfceTask:
    """What tasks that enhance maps share.

    Attributes
    ----------
    pieces, how
        Of each piece, how it is enhanced.
    """

    spec: Spec
    pieces: tuple[Stretch, ...]
    how: tuple[tfce.Enhancement, ...]

    @classmethod
    def build(cls, spec: Spec, space: Space | Part) -> TfceTask:
        """Take from a space and the conventions what TFCE needs."""
        record = spec.conventions
        pieces = Stretch.all_of(Space.of(space), record.tfce_connectivity, record.structures)
        exponents = [record.exponents(piece.domain) for piece in pieces]
        how = tuple(
            tfce.Enhancement(
                E=E,
                H=H,
                two_sided=spec.two_sided and not record.merge_signs,
                n_steps=record.tfce_steps,
                dh=float(record.tfce_dh),
                times_step=record.tfce_times_step,
            )
            for E, H in exponents
        )
        return cls(spec, pieces, how)

    def heights(self, score: Floats) -> Floats:
        """Map that is enhanced, of its scores."""
        if self.spec.conventions.statistic == "z":
            height = np.asarray(on_scale(self.spec, score), dtype=self.spec.precision)
        else:
            height = np.empty(score.size, self.spec.precision)
            self.spec.family.scale.fill_statistic(score, height)
        if self.spec.two_sided and self.spec.conventions.merge_signs:
            height = np.abs(height)
        return height

    def reference(self, score: Floats) -> NDArray[np.float64]:
        """TFCE (n_voxels,) that a map must reach to equal that of a map of scores."""
        return np.abs(self.enhance(score)) * (1 - map_tolerance(self.spec, score))

    def largest(self, scores: Iterable[Floats], reference: NDArray[np.float64] | None) -> MapRound:
        """Largest TFCE of maps of scores; and, where a ``reference`` (n_voxels,) is given, how many reach it."""
        room = [tfce.new_scratch(piece.topology) for piece in self.pieces]
        counts = None if reference is None else np.zeros(reference.size, np.int32)
        maxima = []
        for score in scores:
            height, largest = self.heights(score), [0.0] * (1 + max(piece.number for piece in self.pieces))
            for piece, how, scratch in zip(self.pieces, self.how, room, strict=True):
                where, space = piece.where, piece.topology
                if reference is None or counts is None:
                    found = tfce.tfce_max(height[where], space, scratch, how)
                else:
                    found = tfce.tfce_count(height[where], space, scratch, how, reference[where], counts[where])
                largest[piece.number] = max(largest[piece.number], found)
            maxima.append(largest)
        return MapRound(tfce=np.array(maxima).T, tfce_counts=None if counts is None else as_bytes(counts))

    def enhance(self, score: Floats) -> NDArray[np.float64]:
        """TFCE (n_voxels,) of one map of scores; negative where the score is, unless signs merge."""
        height, out = self.heights(score), np.empty(score.size)
        for piece, how in zip(self.pieces, self.how, strict=True):
            scratch = tfce.new_scratch(piece.topology)
            tfce.tfce_map(height[piece.where], piece.topology, scratch, how, out[piece.where])
        return out


def as_bytes(counts: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Counts of a task of map scope in a quarter of the room: it takes a few maps, see `Plan.map_rows`."""
    assert counts.max(initial=0) <= np.iinfo(np.uint8).max
    return counts.astype(np.uint8)


def form_clusters(task: Shared, ledger: Ledger, rounds: Sequence[str], first: int, last: int) -> Clustered:
    """Form the clusters of shufflings ``first`` to ``last`` of a round, of the records that its blocks left."""
    cluster_task: ClusterTask = task.get()
    n_elements = max(piece.where.stop for piece in cluster_task.pieces)
    parts = [slice_picks(ledger.get(key, Round, n_elements=n_elements).picks, first, last) for key in rounds]
    return cluster_task.largest(parts)


@dataclass(frozen=True, eq=False)
class MapTask:
    """What tasks that take whole maps share.

    Attributes
    ----------
    bound
        Makes scores of fields; None where the maps are scores, whose maxima, counts and clusters are known.
    observed
        (n_voxels,) observed scores; None while they aren't known, or nothing is held against them.
    tfce_reference
        (n_voxels,) what counts as equal to the observed TFCE, where that is counted.
    """

    spec: Spec
    bound: BoundWhole | None
    clusters: ClusterTask | None
    enhance: TfceTask | None
    observed: NDArray[np.float64] | None = None
    tfce_reference: NDArray[np.float64] | None = None

    @classmethod
    def build(cls, spec: Spec, space: Space) -> MapTask:
        """Take from a space what scores, clusters and TFCE need."""
        whole = spec.family.whole
        return cls(
            spec=spec,
            bound=None if whole is None else whole.bind(space.volume),
            clusters=None if whole is None or spec.threshold is None else ClusterTask.build(spec, space),
            enhance=TfceTask.build(spec, space) if spec.tfce else None,
        )

    def against(self, observed: NDArray[np.float64]) -> MapTask:
        """Hold maps against observed scores."""
        counted = self.enhance if self.spec.tfce_counts else None
        reference = None if counted is None else counted.reference(observed)
        return replace(self, observed=observed, tfce_reference=reference)

    def picks(self, score: NDArray[np.float64]) -> Picks:
        """Voxels of one map that reach the cluster-forming threshold."""
        threshold = self.spec.threshold
        assert threshold is not None
        size = self.spec.height(score)
        above = np.flatnonzero(size > threshold if self.spec.conventions.strict else size >= threshold)
        return np.array([0, above.size]), above.astype(np.int32), score[above]

    def reduce(self, maps: Sequence[Floats]) -> MapRound:
        """Score, count, cluster and enhance maps (n_shufflings, n_voxels), one of each field, of some shufflings."""
        if self.bound is None:
            assert self.enhance is not None
            return self.enhance.largest(_in_turn(maps[0]), self.tfce_reference)
        assert self.observed is not None
        height = self.spec.height(self.observed)
        reference = height - MAP_TOLERANCE[self.spec.precision] * np.maximum(1.0, np.abs(height))
        counts = np.zeros(height.size, np.int32)
        maxima: list[float] = []
        largest: list[Clustered] = []

        def scores() -> Iterator[NDArray[np.float64]]:
            assert self.bound is not None
            for fields in zip(*(_in_turn(one) for one in maps), strict=True):
                score = self.bound.score(*fields)
                size = self.spec.height(score)
                counts[size >= reference] += 1
                maxima.append(size.max())
                if self.clusters is not None:
                    largest.append(self.clusters.largest([self.picks(score)]))
                yield score

        enhanced = MapRound()
        if self.enhance is not None:
            enhanced = self.enhance.largest(scores(), self.tfce_reference)
        else:
            for _ in scores():
                pass
        return replace(
            enhanced,
            counts=as_bytes(counts),
            maxima=np.array(maxima),
            size=np.concatenate([one.size for one in largest], axis=1) if largest else None,
            mass=np.concatenate([one.mass for one in largest], axis=1) if largest else None,
        )


def reduce_maps(task: Shared, maps: tuple[Maps, ...], first: int, last: int) -> MapRound:
    """Take maps ``first`` to ``last``, one of each field, to what they leave."""
    found: MapRound = task.get().reduce([one.rows(first, last) for one in maps])
    return found


def _in_turn(maps: Floats) -> Iterator[Floats]:
    for score in maps:
        checkpoint()
        yield score
