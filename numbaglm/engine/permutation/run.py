"""A permutation test as tasks over a cohort: voxel scope, then map scope, then the reduction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.ledger import Shared, array
from numbaglm.data.runs.maps import DamagedMapsError, Maps, MemoryMaps
from numbaglm.engine.permutation.maps import (
    Clustered,
    ClusterTask,
    MapRound,
    MapTask,
    form_clusters,
    merge_blocks,
    reduce_maps,
)
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.records import (
    ObservedBlock,
    Picks,
    Refined,
    Round,
    RunResult,
    Smallest,
    Spec,
    slice_picks,
)
from numbaglm.engine.permutation.scorers import VoxelBlock
from numbaglm.engine.permutation.smallest import smallest_of
from numbaglm.engine.permutation.stages import Stage, Stages
from numbaglm.engine.permutation.voxels import DrawTable, Source, draw_batch, permute_block, refine_block
from numbaglm.engine.permutation.workspace import Workspace
from numbaglm.engine.schedule import single_threaded_blas

ObservedPicks = tuple[NDArray[np.int32], NDArray[np.floating[Any]]]

Sized = tuple[str, int]
"""Key of a record, and the number of shufflings that it is of."""

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
    kept: dict[int, VoxelBlock] | None = {} if plan.resident else None
    stages = Stages(name, plan.blocks, plan.ranges)
    test = _Test(store, spec, plan, work, stages, shared, Source(store, shared, plan, None, kept))
    # Where tasks run in this process, each stage would look for the libraries of BLAS: milliseconds every time.
    with single_threaded_blas() if work.client is None else nullcontext():
        outcome = test.whole()
    work.ledger.drop(work.ledger.done(stages.drawn(plan.drawn).name))
    return outcome


@dataclass(frozen=True, eq=False)
class _Test:
    """A test on its way."""

    store: CohortStore
    spec: Spec
    plan: Plan
    work: Workspace
    stages: Stages
    shared: Shared
    source: Source
    volatile: list[Maps] = field(default_factory=list)
    shared_maps: list[Shared] = field(default_factory=list)

    def whole(self) -> RunResult:
        """Run the test, round by round."""
        source = self.drawn()
        rounds: list[list[str]] = []
        clustered: list[Sized] = []
        mapped: list[Sized] = []
        for number in range(len(self.plan.ranges)):
            maps = self.maps(number)
            above = self.stages.maps(number, self.plan.map_rows)
            keys = self.voxel_scope(source, number, maps, above)
            rounds.append(keys)
            if self.picked:
                clustered += self.form_clusters(keys, number)
            if maps:
                arguments = [(self.against(maps), tuple(maps), *span) for span in above.spans]
                mapped += self.map_scope(above, reduce_maps, arguments, self.label, number)
            self.work.clear(self.scratch_names(number))
        parts, sums = self.counted(mapped)
        if self.spec.family.whole is None:
            observed, (counts, maxima, picks) = self.observed, self.gathered(rounds)
            clusters = [self.get(key, Clustered, n_shufflings=size) for key, size in clustered]
            sizes, masses = [one.size for one in clusters], [one.mass for one in clusters]
        else:
            score = self.get(self.scored_key, _Score, n_voxels=self.store.n_voxels).score
            z = self.spec.family.scale.to_z(score)
            observed = replace(self.observed, score=score, statistic=score, z=z)
            counts, maxima = sums["counts"], np.concatenate(_there(one.maxima for one in parts))
            picks = None if self.spec.threshold is None else self.map_task.picks(score)[1:]
            sizes, masses = _there(one.size for one in parts), _there(one.mass for one in parts)
        found = self.outcome(observed, counts, maxima, picks)
        tfce = _there(one.tfce for one in parts)
        found = replace(
            found,
            max_size=_extents(np.concatenate(sizes, axis=1)) if sizes else None,
            max_mass=np.concatenate(masses, axis=1) if masses else None,
            max_tfce=np.concatenate(tfce, axis=1) if tfce else None,
            tfce_counts=sums.get("tfce_counts"),
        )
        found = replace(found, refined=self.refine(rounds)) if self.spec.tail_length else found
        found = replace(found, smallest=self.smallest(rounds)) if self.spec.listing is not None else found
        return replace(found, undefined=self.undefined(rounds)) if self.spec.family.lacks else found

    def drawn(self) -> Source:
        """Draw all shufflings, where several blocks need them."""
        stages = [self.stages.voxels(number) for number in range(len(self.plan.ranges))]
        left = any(set(stage.keys) - self.work.ledger.done(stage.name) for stage in stages)
        if not self.plan.tabled or self.spec.shufflings.n_shufflings == 1 or not left:
            return self.source
        stage = self.stages.drawn(self.plan.drawn)
        self.work.run(
            stage.name,
            draw_batch,
            [(self.shared, *span) for span in stage.spans],
            label="Drawing",
            unit="shuffling",
            weights=stage.sizes,
        )
        n_shuffled = self.spec.hypothesis.basis.shape[1]
        return replace(
            self.source, draw=DrawTable(self.work.ledger, stage.name, self.plan.drawn, stage.spans[-1][1], n_shuffled)
        )

    def maps(self, number: int) -> list[Maps]:
        """Room for the whole maps of a round; in memory it is the same room for each, on disk nothing of another."""
        shape = max(last - first for first, last in self.plan.ranges), self.store.n_voxels
        if self.plan.resident:
            while len(self.volatile) < self.spec.n_maps:
                self.volatile.append(MemoryMaps(np.empty(shape, self.spec.precision)))
            return self.volatile
        start, stop = self.plan.blocks[0]
        chunks = min(self.plan.map_rows, shape[0]), stop - start
        return [self.work.scratch(name, shape, chunks, self.spec.precision) for name in self.scratch_names(number)]

    def scratch_names(self, number: int) -> list[str]:
        """Names of the scratch of a round of this test."""
        return [f"{self.stages.test}-{k}-{number:03d}" for k in range(self.spec.n_maps)]

    @property
    def picked(self) -> bool:
        """Whether clusters are made of what blocks pick."""
        return self.spec.threshold is not None and self.spec.family.whole is None

    @property
    def scored_key(self) -> str:
        """Key of the observed scores, where these need whole maps."""
        return self.stages.scored().keys[0]

    @property
    def label(self) -> str:
        """What is made of whole maps."""
        return "Enhancing (TFCE)" if self.spec.family.whole is None else self.spec.family.whole.label

    def voxel_scope(self, source: Source, number: int, maps: Sequence[Maps], above: Stage) -> list[str]:
        """Take all blocks through a round of shufflings; ``above`` is what is made of its maps."""
        (first, last), stage, there = self.plan.ranges[number], self.stages.voxels(number), self.stages.observed()
        if number == 0:  # what was observed is kept along with the first round, and lost with it
            done = self.work.ledger.done(there.name)
            lost = [key for key, observed in zip(stage.keys, there.keys, strict=True) if observed not in done]
            self.work.ledger.drop(lost)
        wanted = [above, *([self.stages.scored()] if self.spec.family.whole is not None and number == 0 else [])]
        if maps and any(set(one.keys) - self.work.ledger.done(one.name) for one in wanted):
            self.forget_lost_maps(stage, last - first, maps)
        keys = there.keys if number == 0 else [None] * len(stage.spans)
        return self.work.run(
            stage.name,
            permute_block,
            [
                (source, *span, first, last, self.work.ledger, observed, tuple(maps))
                for span, observed in zip(stage.spans, keys, strict=True)
            ],
            label="Shuffling",
            unit="voxel",
            weights=[(last - first) * size for size in stage.sizes],
            seconds=(self.plan.seconds - self.plan.map_seconds) / len(self.plan.ranges),
        )

    def forget_lost_maps(self, stage: Stage, n_maps: int, maps: Sequence[Maps]) -> None:
        """Drop the records of blocks whose maps are gone: an earlier process had them in memory."""
        done = self.work.ledger.done(stage.name)
        if done:
            there = set.intersection(*(one.columns(n_maps) for one in maps))
            of_blocks = zip(stage.keys, stage.spans, strict=True)
            self.work.ledger.drop([key for key, (start, _) in of_blocks if key in done and start not in there])

    def form_clusters(self, rounds: list[str], number: int) -> list[Sized]:
        """Largest clusters of a round of shufflings."""
        stage = self.stages.clusters(number, self.plan.clusterings)
        arguments = [(self.clusters, self.work.ledger, rounds, *span) for span in stage.spans]
        return self.map_scope(stage, form_clusters, arguments, "Merging clusters", number)

    @cached_property
    def clusters(self) -> Shared:
        """What tasks that form clusters share."""
        task = ClusterTask.build(self.spec, self.store.space)
        return self.work.share(f"{self.stages.test}-clusters", task)

    @cached_property
    def map_task(self) -> MapTask:
        """How whole maps are taken."""
        return MapTask.build(self.spec, self.store.space)

    def against(self, maps: Sequence[Maps]) -> Shared:
        """What tasks that take whole maps share: the first of those of the first round is what was observed."""
        if not self.shared_maps:
            task = self.map_task
            if task.bound is not None:
                task = task.against(self.scored(maps))
            elif self.spec.tfce_counts:
                task = task.against(self.observed.score)
            self.shared_maps.append(self.work.share(f"{self.stages.test}-maps", task))
        return self.shared_maps[0]

    def scored(self, maps: Sequence[Maps]) -> NDArray[np.float64]:
        """Scores of the observed maps, which are kept: later rounds overwrite them."""
        if self.scored_key not in self.work.ledger.done(self.stages.scored().name):
            assert self.map_task.bound is not None
            score = self.map_task.bound.score(*(one.rows(0, 1)[0] for one in maps))
            self.work.ledger.put(self.scored_key, _Score(score))
        return self.get(self.scored_key, _Score, n_voxels=self.store.n_voxels).score

    def map_scope(
        self, stage: Stage, function: Callable[..., Any], arguments: list[Any], label: str, number: int
    ) -> list[Sized]:
        """Run tasks over whole maps; where these turn out to be damaged, they are forgotten."""
        try:
            seconds = 0.0 if function is form_clusters else self.plan.map_seconds / len(self.plan.ranges)
            how: dict[str, Any] = {"label": label, "unit": "map", "weights": stage.sizes, "seconds": seconds}
            keys = self.work.run(stage.name, function, arguments, **how)
            return list(zip(keys, stage.sizes, strict=True))
        except DamagedMapsError:
            self.work.ledger.drop(self.stages.voxels(number).keys)
            self.work.clear(self.scratch_names(number))
            raise

    def refine(self, rounds: list[list[str]]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Uncorrected p by the tails of the voxels, and where each comes from."""
        stage, of_blocks = self.stages.refined(), list(zip(*rounds, strict=True))
        arguments = [
            (self.shared, self.work.ledger, observed, keys)
            for observed, keys in zip(self.stages.observed().keys, of_blocks, strict=True)
        ]
        keys = self.work.run(stage.name, refine_block, arguments, label="Refining p", unit="voxel", weights=stage.sizes)
        parts = [self.get(key, Refined, n_voxels=size) for key, size in zip(keys, stage.sizes, strict=True)]
        return np.concatenate([one.p for one in parts]), np.concatenate([one.source for one in parts])

    def smallest(self, rounds: list[list[str]]) -> Smallest | None:
        """Smallest p of the shufflings that are listed; None where an earlier call made a part of them without."""
        assert self.spec.listing is not None
        listed: list[list[Picks]] = []
        for keys, (first, last) in zip(rounds, self.plan.ranges, strict=True):
            if first >= self.spec.listing.n_shufflings:
                break
            sizes = {"n_maxima": last - first, "n_elements": self.store.n_voxels}
            parts = zip(self.plan.blocks, keys, strict=True)
            there = [self.get(key, Round, n_voxels=stop - start, **sizes).listed for (start, stop), key in parts]
            n_listed = min(last, self.spec.listing.n_shufflings) - first
            if any(one is None or one[0].size != n_listed + 1 for one in there):
                return None
            if self.spec.listing.elements and any(one is None or one[1].size != one[2].size for one in there):
                return None
            listed.append(_there(there))
        return smallest_of(self.spec, listed, self.store.n_voxels)

    def undefined(self, rounds: list[list[str]]) -> NDArray[np.int64]:
        """Shufflings that leave nothing to test at each voxel."""
        found = np.zeros(self.store.n_voxels, np.int64)
        for keys, (first, last) in zip(rounds, self.plan.ranges, strict=True):
            for (start, stop), key in zip(self.plan.blocks, keys, strict=True):
                sizes = {"n_voxels": stop - start, "n_maxima": last - first, "n_elements": self.store.n_voxels}
                part = self.get(key, Round, **sizes).undefined
                if part is not None:
                    found[start:stop] += part
        return found

    @cached_property
    def observed(self) -> ObservedBlock:
        """What was observed in all blocks."""
        stage, sizes = self.stages.observed(), {"n_interest": len(self.spec.hypothesis.effect)}
        sizes["n_more"] = len(self.spec.family.more)
        parts = zip(stage.keys, stage.sizes, strict=True)
        return ObservedBlock.joined([self.get(key, ObservedBlock, n_voxels=n, **sizes) for key, n in parts])

    def get(self, key: str, kind: type[Part], **sizes: int) -> Part:
        """Return a record, which must have these sizes."""
        return self.work.ledger.get(key, kind, **sizes)

    def counted(self, keys: list[Sized]) -> tuple[list[MapRound], dict[str, NDArray[np.int64]]]:
        """Records of map scope, and the sums of their counts: these are as long as a map, and go one by one."""
        parts: list[MapRound] = []
        total: dict[str, NDArray[np.int64]] = {}
        for key, size in keys:
            part = self.get(key, MapRound, n_shufflings=size, n_voxels=self.store.n_voxels)
            for name in ("counts", "tfce_counts"):
                counts = getattr(part, name)
                if counts is not None:
                    total.setdefault(name, np.zeros(counts.shape, np.int64))
                    total[name] += counts
            parts.append(replace(part, counts=None, tfce_counts=None))
        return parts, total

    def gathered(self, rounds: list[list[str]]) -> tuple[NDArray[np.int64], NDArray[np.float64], ObservedPicks | None]:
        """Counts of all voxels, maxima of all shufflings, and what is above the threshold in the observed map."""
        counts = np.zeros(self.store.n_voxels, np.int64)
        maxima, observed = [], []
        for keys, (first, last) in zip(rounds, self.plan.ranges, strict=True):
            best = np.full(1, -np.inf)
            for (start, stop), key in zip(self.plan.blocks, keys, strict=True):
                part = self.get(
                    key, Round, n_voxels=stop - start, n_maxima=last - first, n_elements=self.store.n_voxels
                )
                counts[start:stop] += part.counts
                best = np.maximum(best, part.maxima)
                if keys is rounds[0]:
                    observed.append(slice_picks(part.picks, 0, 1))
            maxima.append(best)
        picks = None if self.spec.threshold is None else merge_blocks(observed)[1:]
        return counts, np.concatenate(maxima), picks

    def outcome(
        self,
        observed: ObservedBlock,
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
            tfce=None if self.map_task.enhance is None else self.map_task.enhance.enhance(observed.score),
        )


@dataclass(frozen=True, eq=False)
class _Score:
    """Observed scores (n_voxels,), where these need whole maps."""

    score: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))


def _extents(size: NDArray[np.int32 | np.float64]) -> NDArray[np.int64 | np.float64]:
    return size.astype(np.int64) if size.dtype.kind == "i" else size.astype(np.float64)


def _there(parts: Iterable[Part | None]) -> list[Part]:
    return [one for one in parts if one is not None]
