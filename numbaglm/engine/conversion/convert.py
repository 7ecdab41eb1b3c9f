"""Maps to a cohort as tasks. Each map is decompressed once.

Which voxels stay is known when all maps have been read. Until then they are held in memory, if they fit; else they
are stored as a draft, of the voxels that may stay. Where all of these do, as with a mask that all maps cover, the
draft is the cohort; where some don't, the cohort is copied out of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.cohort.layout import DATA, Header
from numbaglm.data.cohort.store import CohortStore, choose_chunks
from numbaglm.data.cohort.writer import CohortWriter, begin_successor, remove, subject_blocks, take_over
from numbaglm.data.storage.places import Place
from numbaglm.engine.conversion.coverage import Survey, Verdict, judge
from numbaglm.engine.conversion.inputs import Inputs, differences
from numbaglm.engine.conversion.tasks import (
    Base,
    InTurn,
    Look,
    Reader,
    SubjectBlock,
    SubjectRows,
    check_stored,
    count_missing,
    draft_block,
    hold_block,
    keep_block,
    scout_block,
    store_block,
)
from numbaglm.engine.memory import Room, memory_room, n_cores
from numbaglm.engine.schedule import run_tasks
from numbaglm.errors import MaskError, NumbaglmError, OutputExistsError, term
from numbaglm.spaces.space import Space, Template
from numbaglm.spaces.volume import Grid

log = logging.getLogger("numbaglm")

# Maps are held in memory while they take less than this share of what there is; tasks take this share of it together.
_HELD_SHARE, _TASKS_SHARE = 0.25, 0.5

_COPIES = 3  # of a block that a task has: as it is read, without the voxels that leave, and as chunks
_A_VOXEL = 80  # bytes of a grid that a task has beside its block: its map as the file has it, smoothed, surveyed


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be converted.

    Attributes
    ----------
    inputs
        The maps.
    mask
        (nx, ny, nz), or (n,): the voxels, or other elements, that may stay.
    old
        The cohort that they are added to, if there is one.
    """

    inputs: Inputs
    mask: NDArray[np.bool_]
    old: CohortStore | None = None

    @cached_property
    def look(self) -> Look:
        """What is taken of each map."""
        inputs = self.inputs
        return Look(inputs.read_on, self.mask, inputs.rule, inputs.smoothing_fwhm, inputs.mask is None)

    def blocks(self, spans: Sequence[tuple[int, int]]) -> list[SubjectBlock]:
        """All subjects, in blocks from start to stop."""
        n_old, sources = self.n_old, self.inputs.sources
        found = []
        for start, stop in spans:
            first = max(start - n_old, 0)
            new = slice(first, max(stop - n_old, 0))
            layers = {name: maps[new] for name, maps in self.inputs.layers.items()}
            found.append(SubjectBlock(start, stop, sources[new], first, layers))
        return found

    @property
    def n_old(self) -> int:
        """Number of subjects that are there."""
        return 0 if self.old is None else self.old.n_subjects

    @property
    def n_subjects(self) -> int:
        """Number of subjects, old and new."""
        return self.n_old + len(self.inputs.sources)

    @property
    def n_bytes(self) -> int:
        """Memory that the new maps take."""
        return 4 * len(self.inputs.sources) * len(self.look.index) * (1 + len(self.inputs.layers))

    def base(self, mask: NDArray[np.bool_]) -> Base | None:
        """Rows of the subjects that are there, within a mask."""
        return None if self.old is None else Base(self.old, self.n_old, mask[self.mask])

    def mask_of(self, verdict: Verdict) -> NDArray[np.bool_]:
        """(nx, ny, nz) which of the voxels that might stay do."""
        mask = np.zeros(self.mask.size, bool)
        mask[self.look.index] = verdict.keep[self.look.index] if self.look.whole else verdict.keep
        return mask.reshape(self.mask.shape, order="F")

    def header(self, verdict: Verdict | None) -> Header:
        """Of the cohort; before there is a verdict, of its draft."""
        inputs, mask, subjects = self.inputs, self.mask, self.inputs.subjects
        rule, given, report = "given" if inputs.mask is not None else "intersection", inputs.given_mask, inputs.notes
        if verdict is not None:
            mask = self.mask_of(verdict)
            absent = verdict.missing_in - (verdict.n_nowhere if self.old is None else 0)
            subjects = subjects.assign(n_missing_voxels=absent)
            report = (*report, *verdict.report, *verdict.warnings)
        if self.old is not None:
            there = self.old.header
            rule, given = there.mask_rule, there.given_mask
            subjects = pd.concat([there.subjects, subjects], ignore_index=True).reindex(columns=there.subjects.columns)
            report = (*there.report, *(f"Appended maps: {text}" for text in report))
        return Header(
            space=Space.of(inputs.grid.space(mask)),
            subjects=subjects,
            smoothing_fwhm=inputs.smoothing_fwhm,
            mask_rule=rule,
            given_mask=given,
            report=report,
            min_coverage=inputs.rule.min_coverage,
            layers=(DATA, *inputs.layers),
            has_presence=inputs.rule.keeps_incomplete,
            keeps_missing=inputs.rule.keeps_missing,
            zero_is_missing=inputs.rule.zero_is_missing,
        )


@dataclass(frozen=True)
class Conversion:
    """How the tasks of one call run, and what they make.

    Attributes
    ----------
    client, n_workers, progress
        As in `run_tasks`.
    memory_limit
        As in `numbaglm.Cohort.create`.
    """

    client: Any = None
    n_workers: int | None = None
    progress: bool = False
    memory_limit: int | str | None = None

    @cached_property
    def room(self) -> Room:
        """Memory that a process may take, beside what it holds before."""
        return memory_room(self.memory_limit, 1.0, self.client)

    def within(self, job: Job) -> tuple[Conversion, int | None]:
        """Return this with as few workers as have room, and how many subjects a block may have; None: as ever.

        Raises
        ------
        InputError
            Not even one subject at a time has room.
        """
        share = int(self.room.n_bytes * _TASKS_SHARE)
        n_layers = 1 + len(job.inputs.layers)
        a_row, beside = 4 * _COPIES * n_layers * max(1, len(job.look.index)), _A_VOXEL * job.mask.size
        if share < a_row + beside:
            raise self.room.refusal(int((a_row + beside) / _TASKS_SHARE), "one of these maps at a time takes")
        usual = choose_chunks(job.n_subjects, len(job.look.index))[0]
        most = min(usual, (share - beside) // a_row)
        n_workers = min(self.n_workers or n_cores(), max(1, share // (a_row * most + beside)))
        return replace(self, n_workers=n_workers), None if most == usual else most

    def tasks(
        self, function: Any, arguments: Sequence[tuple[Any, ...]], label: str, on_result: Any = None
    ) -> list[Any]:
        """Run tasks; see `run_tasks`."""
        return run_tasks(
            function,
            arguments,
            label=label,
            client=self.client,
            n_workers=self.n_workers,
            progress=self.progress,
            on_result=on_result,
        )

    def create(self, inputs: Inputs, place: Place | None) -> CohortStore:
        """Make a cohort of maps, in a place, in that of an old one, or in memory."""
        mask = self._scout(inputs) if inputs.mask is None else inputs.mask
        job = Job(inputs, mask)
        run, most = self.within(job)
        if run._fits(job, place):
            return run._hold(job, place, most)
        if not mask.any():
            raise MaskError(f"No voxel is left to analyse: {inputs.sources[0].name} holds no value. Leave it out.")
        assert place is not None
        remove(place)
        draft = CohortWriter.create(place, job.header(None), is_draft=True, most=most)
        return run._in_place(job, draft, place, job.blocks(draft.blocks))

    def resume(self, inputs: Inputs, place: Place) -> CohortStore:
        """Go on with a cohort that is half-written; begin it if hardly more than its place is there.

        Raises
        ------
        OutputExistsError
            It was begun with other arguments.
        """
        writer = CohortWriter.resume(place)
        if writer is None:
            return self.create(inputs, place)
        hashes = [writer.stored_hashes(*block) for block in writer.blocks] if writer.is_draft else []
        unread = (np.concatenate(hashes) == 0).all(axis=1) if hashes else None
        differing = differences(writer.header, inputs, unread)
        if differing:
            raise OutputExistsError(
                f"{place} is half-written with other arguments: {'; '.join(differing)}. Repeat the call as it "
                f"was to go on, or pass {term('overwrite=True')} to start anew."
            )
        log.info("%s is half-written: going on where it stopped.", place)
        writer = writer.update_subjects(inputs.subjects) if writer.is_draft else writer
        job = Job(inputs, writer.header.space.mask)
        run = self.within(job)[0]
        stored = run.tasks(check_stored, [(writer, *span) for span in writer.blocks], "check maps")
        blocks = [block for block, is_there in zip(job.blocks(writer.blocks), stored, strict=True) if not is_there]
        if writer.is_draft:
            return run._in_place(job, writer, place, blocks)
        with run._readers(job, blocks) as readers:
            run.tasks(store_block, [(writer, job.look, reader) for reader in readers], "store maps")
        return writer.complete()

    def extend(self, store: CohortStore, inputs: Inputs) -> CohortStore:
        """Make a cohort of another one and more maps: it takes its place when it is complete."""
        job = Job(inputs, store.space.mask, store)
        run, most = self.within(job)
        if store.location is None:
            return run._hold(job, None, most)
        cohort = Place.parse(store.location)
        place = begin_successor(cohort)
        try:
            if run._fits(job, place):
                made = run._hold(job, place, most)
            else:
                draft = CohortWriter.create(place, job.header(None), is_draft=True, most=most)
                made = run._draft(job, draft, cohort, job.blocks(draft.blocks))
        except BaseException:
            with suppress(NumbaglmError):
                begin_successor(cohort)  # clears away
            raise
        return take_over(cohort, Place.parse(cast(str, made.location)))

    def _fits(self, job: Job, place: Place | None) -> bool:
        """Whether to hold the new maps until all are read."""
        return place is None or (self.client is None and job.n_bytes <= _HELD_SHARE * self.room.n_bytes)

    def _scout(self, inputs: Inputs) -> NDArray[np.bool_]:
        """Which voxels may stay: where one of so few maps has a value that one of them must."""
        sources = inputs.sources[: 1 + inputs.rule.n_allowed(len(inputs.sources))]
        rows = len(sources) if inputs.reel else 4
        parts = [(sources[i : i + rows], inputs.read_on, inputs.rule) for i in range(0, len(sources), rows)]
        found = np.zeros(inputs.grid.shape, bool)
        self.tasks(scout_block, parts, "look at maps", lambda _, part: np.logical_or(found, part, out=found))
        return found

    def _hold(self, job: Job, place: Place | None, most: int | None) -> CohortStore:
        """Read all maps, then store them, in blocks of so many subjects at most."""
        surveys: list[Survey] = []
        n_new = len(job.inputs.sources)
        most = None if place is None else most  # in memory all are held anyhow
        blocks = job.blocks(subject_blocks(job.n_subjects, len(job.look.index), most))
        with self._readers(job, [block for block in blocks if block.sources]) as readers:
            arguments = [(job.look, reader, surveys, n_new) for reader in readers]
            held = dict(self.tasks(hold_block, arguments, "read maps"))
        total = surveys.pop()
        for survey in surveys:
            total.merge(survey)
        header = job.header(self._judge(job, total))
        if place is not None:
            remove(place)
        return self._keep(job, CohortWriter.create(place, header, most=most), held, job.base(header.space.mask))

    def _in_place(self, job: Job, draft: CohortWriter, place: Place, blocks: Sequence[SubjectBlock]) -> CohortStore:
        """Fill a draft where the cohort shall be; a copy out of it takes its place."""
        store = self._draft(job, draft, place, blocks)
        return store if store.location == str(place) else take_over(place, Place.parse(cast(str, store.location)))

    def _draft(self, job: Job, draft: CohortWriter, cohort: Place, blocks: Sequence[SubjectBlock]) -> CohortStore:
        """Store the blocks of a draft that are not stored yet, and make a cohort of it, there or beside it."""
        n_new = len(job.inputs.sources)
        base = job.base(job.mask)
        with self._readers(job, blocks) as readers:
            self.tasks(draft_block, [(draft, job.look, reader, base, n_new) for reader in readers], "store maps")
        total = job.look.survey(n_new)
        for block in job.blocks(draft.blocks):
            if block.sources:
                total.add_arrays(draft.read_survey(block.start))
        header = job.header(self._judge(job, total))
        mask = header.space.mask
        if header.space.n == len(job.look.index):
            return draft.settle(header).complete()
        writer = CohortWriter.create(begin_successor(cohort, draft.place), header, most=draft.data.chunks[0])
        return self._keep(job, writer, {}, Base(draft, job.n_subjects, mask[job.mask]))

    def _keep(self, job: Job, writer: CohortWriter, held: dict[int, SubjectRows], base: Base | None) -> CohortStore:
        """Store what was read, or is stored elsewhere, without the voxels that leave."""
        kept = writer.header.space.mask[job.mask]
        blocks = job.blocks(writer.blocks)
        # In lists, which tasks take them out of: they are freed as they are stored.
        rows = [[held.pop(block.start)] if block.start in held else [] for block in blocks]
        assert not held
        arguments = [(writer, block, base, box, kept) for block, box in zip(blocks, rows, strict=True)]
        self.tasks(keep_block, arguments, "store maps")
        return writer.complete()

    @contextmanager
    def _readers(self, job: Job, blocks: Sequence[SubjectBlock]) -> Iterator[Sequence[Reader | InTurn]]:
        """Readers of blocks, one a task."""
        file, grid = job.inputs.reel, job.inputs.read_on
        if file is None:
            yield [Reader(block, grid) for block in blocks]
            return
        turns = InTurn(file, grid, blocks)
        try:
            yield [turns] * len(blocks)
        finally:
            turns.close()

    def _judge(self, job: Job, survey: Survey) -> Verdict:
        """Decide which voxels stay, and tell."""
        before, old = None, job.old
        if old is not None and job.inputs.rule.keeps_incomplete:
            spans = [(old, start, stop) for start, stop in subject_blocks(old.n_subjects, old.n_voxels)]
            absent = np.sum(self.tasks(count_missing, spans, "look at subjects"), axis=0)
            everywhere = np.zeros(job.mask.shape, absent.dtype)
            everywhere[job.mask] = absent
            before = (old.n_subjects, everywhere.ravel(order="F")[job.look.index])
        verdict = judge(
            survey,
            job.inputs.labels,
            candidates=job.look.index if job.look.whole else None,
            before=before,
            drop_constant=old is None,
            places="mask" if not job.look.whole else "grid" if isinstance(job.inputs.grid, Grid) else "",
            nouns=_nouns(job.inputs.grid),
        )
        for sentence in (*job.inputs.notes, *verdict.report):
            log.info(sentence)
        for sentence in verdict.warnings:
            log.warning(sentence)
        return verdict


def _nouns(grid: Grid | Template) -> str:
    """What elements are called."""
    return Space(grid.parts).nouns if isinstance(grid, Template) else "voxels"
