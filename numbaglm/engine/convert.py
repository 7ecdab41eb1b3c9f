"""Maps to a cohort as tasks: a pass that judges the mask, a pass that stores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.conversion import Base, Inputs, convert_block, fortran_index, survey_block
from numbaglm.data.geometry import Geometry
from numbaglm.data.groups import Header
from numbaglm.data.masking import Survey, Verdict, judge
from numbaglm.data.store import CohortStore, choose_chunks
from numbaglm.data.writer import CohortWriter
from numbaglm.engine.schedule import run_tasks

log = logging.getLogger("numbaglm")

# Maps up to this size in all are kept between the pass that judges the mask and the pass that stores them.
_HOLD_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Conversion:
    """How the tasks of one call run, and the passes over the maps."""

    client: Any = None
    n_workers: int | None = None
    progress: bool = False

    def tasks(
        self, function: Any, arguments: Sequence[tuple[Any, ...]], label: str, on_result: Any = None
    ) -> list[Any]:
        """Run tasks; see `run_tasks`."""
        return run_tasks(
            function,
            arguments,
            label=label,
            unit="block",
            client=self.client,
            n_workers=self.n_workers,
            progress=self.progress,
            on_result=on_result,
        )

    def look(
        self, inputs: Inputs, zero_is_missing: bool, drop_constant: bool
    ) -> tuple[Verdict, NDArray[np.float32] | None]:
        """First pass: which voxels stay; and the maps themselves if they are few enough to be kept."""
        n, size = len(inputs.sources), int(np.prod(inputs.grid.shape))
        places = None if inputs.mask is None else fortran_index(inputs.mask.mask)
        fits = self.client is None and n * size * 4 <= _HOLD_BYTES
        hold = np.empty((n, size), np.float32) if fits else None
        total = Survey.empty(size if places is None else len(places), n)
        rows = choose_chunks(n, size)[0]
        blocks = [
            (
                inputs.sources[i : i + rows],
                inputs.grid,
                i,
                places,
                zero_is_missing,
                n,
                None if hold is None else hold[i : i + rows],
            )
            for i in range(0, n, rows)
        ]
        self.tasks(survey_block, blocks, "look at maps", lambda _, result: total.merge(result.pop()))
        verdict = judge(
            total,
            inputs.labels,
            zero_is_missing=zero_is_missing,
            drop_constant=drop_constant,
            places="grid" if inputs.mask is None else "mask",
        )
        for sentence in (*inputs.notes, *verdict.report):
            log.info(sentence)
        for sentence in verdict.warnings:
            log.warning(sentence)
        return verdict, hold

    def survey(self, inputs: Inputs) -> tuple[Header, NDArray[np.float32] | None]:
        """Judge the mask of a new cohort."""
        verdict, hold = self.look(inputs, zero_is_missing=inputs.mask is None, drop_constant=True)
        if inputs.mask is None:
            mask = verdict.keep.reshape(inputs.grid.shape, order="F")
        else:
            mask = inputs.mask.mask.copy()
            mask[mask] = verdict.keep
        rule = "intersection" if inputs.mask is None else "given"
        report = (*inputs.notes, *verdict.report, *verdict.warnings)
        geometry = Geometry(mask, inputs.grid.affine)
        subjects = inputs.subjects.assign(n_missing_voxels=verdict.missing_in - verdict.n_nowhere)
        return Header(geometry, subjects, inputs.smoothing_fwhm, rule, inputs.given_mask, report), hold

    def survey_additions(self, store: CohortStore, inputs: Inputs) -> tuple[Header, NDArray[np.float32] | None, Base]:
        """Judge the mask of an extended cohort: the old one, without what the new maps lack."""
        verdict, hold = self.look(inputs, store.header.mask_rule == "intersection", drop_constant=False)
        mask = store.geometry.mask.copy()
        mask[mask] = verdict.keep
        columns = ["subject_label", *[name for name in store.subjects.columns if name != "subject_label"]]
        added = inputs.subjects.assign(n_missing_voxels=verdict.missing_in)
        subjects = pd.concat([store.subjects, added], ignore_index=True).reindex(columns=columns)
        report = (
            *store.report,
            *(f"Appended maps: {text}" for text in (*inputs.notes, *verdict.report, *verdict.warnings)),
        )
        header = Header(
            Geometry(mask, store.geometry.affine),
            subjects,
            store.smoothing_fwhm,
            store.header.mask_rule,
            store.header.given_mask,
            report,
        )
        return header, hold, Base(store, np.flatnonzero(verdict.keep))

    def convert(
        self,
        writer: CohortWriter,
        inputs: Inputs,
        hold: NDArray[np.float32] | None = None,
        base: Base | None = None,
    ) -> CohortStore:
        """Second pass: smooth, mask and store, a subject block a task."""
        n_old = 0 if base is None else base.store.n_subjects
        blocks = []
        for start, stop in writer.blocks:
            new = slice(max(start - n_old, 0), max(stop - n_old, 0))
            kept = None if hold is None else hold[new]
            blocks.append((writer, start, stop, inputs.sources[new], inputs.grid, kept, base))
        self.tasks(convert_block, blocks, "store maps")
        return writer.complete()
