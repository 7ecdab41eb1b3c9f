"""A permutation test as tasks over a cohort: voxel scope, then map scope, then the reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import Shared
from numbaglm.data.runs.maps import DamagedMapsError, Maps, MemoryMaps
from numbaglm.engine.permutation.maps import (
    Clustered,
    ClusterTask,
    Enhanced,
    TfceTask,
    enhance_maps,
    form_clusters,
    merge_blocks,
    slice_picks,
)
from numbaglm.engine.permutation.outcome import RunResult
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.pseudo import PseudoRound, PseudoTask, fill_block, reduce_maps
from numbaglm.engine.permutation.records import Observed, Refined, Round, Spec
from numbaglm.engine.permutation.voxels import Block, DrawTable, Source, draw_batch, permute_block, refine_block
from numbaglm.engine.permutation.workspace import Workspace

ObservedPicks = tuple[NDArray[np.int32], NDArray[np.floating[Any]]]

Part = TypeVar("Part")


def run_test(store: CohortStore, spec: Spec, plan: Plan, work: Workspace, name: str = "test") -> RunResult:
    """Run a permutation test over a cohort.

    Parameters
    ----------
    store, spec, plan
        What is tested, how, and how it is cut up.
    work
        Where records are kept, those of an earlier run of the same test among them, and the workers.
    name
        Of the test within the workspace.
    """
    shared = work.share(name, spec)
    kept: dict[int, Block] | None = {} if plan.resident else None
    run = _Run(store, spec, plan, work, name, shared, Source(store, shared, plan, None, kept))
    outcome = run.pseudo() if spec.variance_fwhm is not None else run.plain()
    work.ledger.drop(work.ledger.done(f"{name}/draws"))
    return outcome


@dataclass(frozen=True, eq=False)
class _Run:
    """A test on its way."""

    store: CohortStore
    spec: Spec
    plan: Plan
    work: Workspace
    name: str
    shared: Shared
    source: Source
    volatile: list[Maps] = field(default_factory=list)

    def plain(self) -> RunResult:
        """Statistics that each voxel has by itself."""
        source = self.drawn()
        rounds: list[list[str]] = []
        clusters: list[str] = []
        enhanced: list[str] = []
        for number, span in enumerate(self.plan.ranges):
            maps = self.maps(1, number) if self.spec.tfce else []
            above = f"{self.name}/tfce-{number:03d}"
            keys = self.voxel_scope(permute_block, source, number, span, maps, self.map_keys(above, span))
            rounds.append(keys)
            clusters += self.form_clusters(keys, number, span)
            if self.spec.tfce:
                enhanced += self.enhance(maps[0], above, span, number)
            self.work.clear(self.scratch_names(number))
        found = self.outcome(self.observed(), *self.gathered(rounds))
        sizes = [self.get(key, Clustered) for key in clusters]
        tfce, counts = self.counted(enhanced, Enhanced, "counts")
        found = _with_maps(
            found,
            [one.size for one in sizes],
            [one.mass for one in sizes],
            [one.maxima for one in tfce],
            counts.get("counts"),
        )
        return replace(found, refined=self.refine(rounds)) if self.spec.tail_length else found

    def pseudo(self) -> RunResult:
        """Statistics that need whole maps before a single score is known."""
        source = self.drawn()
        task = PseudoTask.build(self.spec, self.store.geometry)
        keys: list[str] = []
        for number, span in enumerate(self.plan.ranges):
            maps = self.maps(2, number)
            above = f"{self.name}/smooth-{number:03d}"
            wanted = [*self.map_keys(above, span), *([self.score_key] if number == 0 else [])]
            self.voxel_scope(fill_block, source, number, span, maps, wanted)
            if number == 0:
                task = self.observe(task, maps)
            shared = self.work.share(f"{self.name}-smooth", task)
            spans = _spans(span[1] - span[0], self.plan.map_rows)
            arguments: list[Any] = [(shared, tuple(maps), *one) for one in spans]
            keys += self.map_scope(above, reduce_maps, arguments, "Smoothing variances", spans, number)
            self.work.clear(self.scratch_names(number))
        assert task.observed is not None
        parts, counts = self.counted(keys, PseudoRound, "counts", "tfce_counts")
        z = self.spec.hypothesis.scale.to_z(task.observed)
        observed = replace(self.observed(), score=task.observed, statistic=task.observed, z=z)
        maxima = np.concatenate([one.maxima for one in parts])
        return _with_maps(
            self.outcome(observed, counts["counts"], maxima, task.observed_picks()),
            [one.size for one in parts if one.size is not None],
            [one.mass for one in parts if one.mass is not None],
            [one.tfce for one in parts if one.tfce is not None],
            counts.get("tfce_counts"),
        )

    def drawn(self) -> Source:
        """Draw all shufflings, where several blocks need them."""
        n = self.spec.shufflings.n_shufflings
        left = any(set(self.voxel_keys(i)) - self.work.ledger.done(self.voxel_stage(i)) for i in range(self.n_rounds))
        if not self.plan.tabled or n == 1 or not left:
            return self.source
        spans = _spans(n, self.plan.drawn)
        stage = f"{self.name}/draws"
        self.work.run(
            stage,
            draw_batch,
            [(self.shared, *span) for span in spans],
            label="Drawing",
            unit="shuffling",
            weights=[last - first for first, last in spans],
        )
        n_shuffled = self.spec.hypothesis.basis.shape[1]
        return replace(self.source, draw=DrawTable(self.work.ledger, stage, self.plan.drawn, n_shuffled))

    def maps(self, n_maps: int, number: int) -> list[Maps]:
        """Room for the whole maps of a round; in memory it is the same room for each, on disk nothing of another."""
        shape = max(last - first for first, last in self.plan.ranges), self.store.n_voxels
        if self.plan.resident:
            while len(self.volatile) < n_maps:
                self.volatile.append(MemoryMaps(np.empty(shape, self.spec.precision)))
            return self.volatile
        start, stop = self.plan.blocks[0]
        chunks = min(self.plan.map_rows, shape[0]), stop - start
        names = self.scratch_names(number)[:n_maps]
        return [self.work.scratch(name, shape, chunks, self.spec.precision) for name in names]

    def scratch_names(self, number: int) -> tuple[str, str]:
        """Names of the scratch of a round of this test."""
        return f"{self.name}-0-{number:03d}", f"{self.name}-1-{number:03d}"

    def map_keys(self, stage: str, span: tuple[int, int]) -> list[str]:
        """Keys of what is made of the whole maps of a round."""
        return [f"{stage}/{part:05d}" for part in range(len(_spans(span[1] - span[0], self.plan.map_rows)))]

    @property
    def score_key(self) -> str:
        """Key of the observed pseudo-t."""
        return f"{self.name}/pseudo/00000"

    def voxel_scope(
        self,
        function: Any,
        source: Source,
        number: int,
        span: tuple[int, int],
        maps: Sequence[Maps],
        wanted: Sequence[str],
    ) -> list[str]:
        """Take all blocks through a round of shufflings; ``wanted`` are the records that are made of its maps."""
        n, keys = span[1] - span[0], self.voxel_keys(number)
        if number == 0:  # what was observed is kept along with the first round, and lost with it
            there = self.work.ledger.done(f"{self.name}/observed")
            self.work.ledger.drop([key for i, key in enumerate(keys) if self.observed_key(i) not in there])
        made = set().union(*(self.work.ledger.done(stage) for stage in {key.rpartition("/")[0] for key in wanted}))
        if maps and not made.issuperset(wanted):
            self.forget_lost_maps(keys, n, maps)
        arguments = []
        for block, (start, stop) in enumerate(self.plan.blocks):
            observed = self.observed_key(block) if number == 0 else None
            arguments.append((source, start, stop, *span, self.work.ledger, observed, tuple(maps)))
        weights = [n * (stop - start) for start, stop in self.plan.blocks]
        stage = self.voxel_stage(number)
        return self.work.run(stage, function, arguments, label="Shuffling", unit="voxel", weights=weights)

    def forget_lost_maps(self, keys: list[str], n_maps: int, maps: Sequence[Maps]) -> None:
        """Drop the records of blocks whose maps are gone: an earlier process had them in memory."""
        done = self.work.ledger.done(keys[0].rpartition("/")[0])
        if done:
            there = set.intersection(*(one.columns(n_maps) for one in maps))
            of_blocks = zip(keys, self.plan.blocks, strict=True)
            self.work.ledger.drop([key for key, (start, _) in of_blocks if key in done and start not in there])

    @property
    def n_rounds(self) -> int:
        """Rounds of shufflings."""
        return len(self.plan.ranges)

    def voxel_stage(self, number: int) -> str:
        """Name the stage of voxel scope of a round."""
        return f"{self.name}/voxels-{number:03d}"

    def voxel_keys(self, number: int) -> list[str]:
        """Keys of its records."""
        return [f"{self.voxel_stage(number)}/{block:05d}" for block in range(len(self.plan.blocks))]

    def form_clusters(self, rounds: list[str], number: int, span: tuple[int, int]) -> list[str]:
        """Largest clusters of a round of shufflings."""
        if self.spec.threshold is None:
            return []
        spans = _spans(span[1] - span[0], self.plan.clusterings)
        arguments: list[Any] = [(self.clusters, self.work.ledger, rounds, *one) for one in spans]
        return self.map_scope(
            f"{self.name}/clusters-{number:03d}", form_clusters, arguments, "Merging clusters", spans, number
        )

    def enhance(self, maps: Maps, stage: str, span: tuple[int, int], number: int) -> list[str]:
        """TFCE of a round of maps."""
        spans = _spans(span[1] - span[0], self.plan.map_rows)
        arguments: list[Any] = [(*self.enhancement, maps, *one) for one in spans]
        return self.map_scope(stage, enhance_maps, arguments, "Enhancing (TFCE)", spans, number)

    @cached_property
    def clusters(self) -> Shared:
        """What tasks that form clusters share."""
        return self.work.share(f"{self.name}-clusters", ClusterTask.build(self.spec, self.store.geometry))

    @cached_property
    def enhancement(self) -> tuple[Shared, Shared]:
        """What tasks that enhance maps share, and the TFCE that they count the maps to reach, where they do."""
        observed = self.tfce.reference(self.observed().score) if self.spec.tfce_counts else None
        return self.work.share(f"{self.name}-tfce", self.tfce), self.work.share(f"{self.name}-tfce-observed", observed)

    @cached_property
    def tfce(self) -> TfceTask:
        """How whole maps are enhanced."""
        return TfceTask.build(self.spec, self.store.geometry)

    def map_scope(
        self, stage: str, function: Any, arguments: list[Any], label: str, spans: list[tuple[int, int]], number: int
    ) -> list[str]:
        """Run tasks over whole maps; where these turn out to be damaged, they are forgotten."""
        weights = [last - first for first, last in spans]
        try:
            return self.work.run(stage, function, arguments, label=label, unit="map", weights=weights)
        except DamagedMapsError:
            self.work.ledger.drop(self.voxel_keys(number))
            self.work.clear(self.scratch_names(number))
            raise

    def observe(self, task: PseudoTask, maps: Sequence[Maps]) -> PseudoTask:
        """Score the observed map, which is the first, and keep it: later rounds overwrite it."""
        key = self.score_key
        if key not in self.work.ledger.done(f"{self.name}/pseudo"):
            effect, variance = (one.rows(0, 1)[0] for one in maps)
            self.work.ledger.put(key, _Score(task.score(effect, variance)))
        return replace(task, observed=self.get(key, _Score).score)

    def refine(self, rounds: list[list[str]]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Uncorrected p by the tails of the voxels, and where each comes from."""
        of_blocks = list(zip(*rounds, strict=True))
        keys = self.work.run(
            f"{self.name}/refined",
            refine_block,
            [(self.shared, self.work.ledger, self.observed_key(i), keys) for i, keys in enumerate(of_blocks)],
            label="Refining p",
            unit="voxel",
            weights=[stop - start for start, stop in self.plan.blocks],
        )
        parts = [self.get(key, Refined) for key in keys]
        return np.concatenate([one.p for one in parts]), np.concatenate([one.source for one in parts])

    def observed_key(self, block: int) -> str:
        """Key of what was observed in a block."""
        return f"{self.name}/observed/{block:05d}"

    def observed(self) -> Observed:
        """Return what was observed in all blocks."""
        return Observed.joined([self.get(self.observed_key(i), Observed) for i in range(len(self.plan.blocks))])

    def get(self, key: str, kind: type[Part]) -> Part:
        """Return a record."""
        return self.work.ledger.get(key, kind)

    def counted(
        self, keys: list[str], kind: type[Part], *names: str
    ) -> tuple[list[Part], dict[str, NDArray[np.int64]]]:
        """Records of map scope, and the sums of their counts: these are as long as a map, and go one by one."""
        parts: list[Part] = []
        total: dict[str, NDArray[np.int64]] = {}
        for key in keys:
            part: Any = self.get(key, kind)
            for name in names:
                counts = getattr(part, name)
                if counts is not None:
                    total.setdefault(name, np.zeros(counts.shape, np.int64))
                    total[name] += counts
            parts.append(replace(part, **dict.fromkeys(names)))
        return parts, total

    def gathered(self, rounds: list[list[str]]) -> tuple[NDArray[np.int64], NDArray[np.float64], ObservedPicks | None]:
        """Counts of all voxels, maxima of all shufflings, and what is above the threshold in the observed map."""
        counts = np.zeros(self.store.n_voxels, np.int64)
        maxima, observed = [], []
        for keys in rounds:
            best = np.full(1, -np.inf)
            for (start, stop), key in zip(self.plan.blocks, keys, strict=True):
                part = self.get(key, Round)
                counts[start:stop] += part.counts
                best = np.maximum(best, part.maxima)
                if keys is rounds[0]:
                    observed.append(slice_picks(part.picks, 0, 1))
            maxima.append(best)
        picks = None if self.spec.threshold is None else merge_blocks(observed)[1:]
        return counts, np.concatenate(maxima), picks

    def outcome(
        self,
        observed: Observed,
        counts: NDArray[np.int64],
        max_score: NDArray[np.float64],
        picks: ObservedPicks | None,
    ) -> RunResult:
        """Put together what voxels and their maxima say."""
        # The kernels' correlations of single precision round to 1, an infinite t, where the observed one does not.
        max_score[0] = self.spec.height(observed.score).max()
        return RunResult(
            **{name: getattr(observed, name) for name in observed.__dataclass_fields__},
            counts=counts,
            max_score=max_score,
            observed_picks=picks,
            tfce=self.tfce.enhance(observed.score) if self.spec.tfce else None,
        )


@dataclass(frozen=True, eq=False)
class _Score:
    """Observed pseudo-t (n_voxels,)."""

    score: NDArray[np.float64]


def _with_maps(
    found: RunResult,
    sizes: Sequence[NDArray[np.int32]],
    masses: Sequence[NDArray[np.float64]],
    tfce: Sequence[NDArray[np.float64]],
    tfce_counts: NDArray[np.int64] | None,
) -> RunResult:
    return replace(
        found,
        max_size=np.concatenate(sizes).astype(np.int64) if sizes else None,
        max_mass=np.concatenate(masses) if masses else None,
        max_tfce=np.concatenate(tfce) if tfce else None,
        tfce_counts=tfce_counts,
    )


def _spans(n: int, step: int) -> list[tuple[int, int]]:
    return [(i, min(i + step, n)) for i in range(0, n, step)]
