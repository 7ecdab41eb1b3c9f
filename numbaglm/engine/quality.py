"""The quality of a cohort's maps: one pass over it, a voxel block a task."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.data.cohort.complete import complete
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine import memory, schedule
from numbaglm.errors import MaskError
from numbaglm.spaces.space import Space
from numbaglm.stats.quality import Measure, Tally, measures, robust_z, tally

N_COLUMNS = 256
MOST_ROWS = 1000

_SHARE_OF_MEMORY = 0.25  # of what is free, where no limit is given
_MOST_BYTES = 64 * 2**20  # of a task's block: more would not be faster
_COPIES = 3  # of a block at most, beside tiles: compressed chunks, chunks, and the block that they make
_WIDEST = 65536  # voxels of a block, where the store has no chunks that say
_STEPS = 16  # of the carpet, to a robust standard deviation, as it is kept in JSON


@dataclass(frozen=True, eq=False)
class Quality:
    """What a pass over a cohort found of each map.

    Attributes
    ----------
    table
        A row a subject, by label; `numbaglm.Cohort.quality` tells the columns.
    carpet
        (n_rows, n_columns) the cohort as one picture. A column is the mean of neighbouring voxels, from the lowest to
        the highest; a row is a subject, or the mean of a few in their order where they are more than 1000. Values
        are robust z over the rows of a column.
    heights
        (n_columns,) z of each column, mm.
    rows
        (n_rows,) number of the first subject of each row.
    """

    table: pd.DataFrame
    carpet: NDArray[np.float32]
    heights: NDArray[np.float64]
    rows: NDArray[np.intp]

    @property
    def measures(self) -> dict[str, Measure]:
        """What each map is judged by: mean, sd, correlation and missing voxels."""
        mean, sd, correlation, missing = self.table[["mean", "sd", "correlation", "missing"]].to_numpy(float).T
        return measures(mean, sd, correlation, missing)

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON types; the carpet to a sixteenth, up to 7.9 standard deviations."""
        limit = np.iinfo(np.int8).max
        steps = np.clip(np.rint(self.carpet * _STEPS), -limit, limit).astype(np.int8)
        columns = {str(name): values.astype(object).where(values.notna(), None) for name, values in self.table.items()}
        return {
            "subjects": self.table.index.tolist(),
            "columns": {name: values.tolist() for name, values in columns.items()},
            "carpet": base64.b64encode(steps.tobytes()).decode("ascii"),
            "heights": self.heights.tolist(),
            "rows": self.rows.tolist(),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Quality:
        """Read what `as_json` returned."""
        index = pd.Index(kept["subjects"], name="subject_label", dtype="str")
        table = pd.DataFrame(kept["columns"], index=index).astype(_TYPES)
        steps = np.frombuffer(base64.b64decode(kept["carpet"]), np.int8).reshape(len(kept["rows"]), -1)
        carpet = steps.astype(np.float32) / np.float32(_STEPS)
        return cls(table, carpet, np.asarray(kept["heights"], float), np.asarray(kept["rows"], np.intp))


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("mean", "sd", "min", "max", "correlation"), np.float64),
    "n_missing_voxels": "Int64",
    "n_empty_voxels": np.int64,
    "missing": np.float64,
    **dict.fromkeys(("z_mean", "z_sd", "z_correlation"), np.float64),
    "outlier": bool,
    "reason": "str",
}


def examine(
    store: CohortStore,
    *,
    memory_limit: int | str | None = None,
    client: Any = None,
    n_workers: int | None = None,
    progress: bool = False,
) -> Quality:
    """Look at every map of a cohort, in one pass that holds a block of voxels a task.

    Parameters
    ----------
    store
        The data.
    memory_limit, client, n_workers, progress
        As in `numbaglm.permutation_test`.
    """
    with suppress(MaskError):  # elements that all maps have, where there are any: nothing else stands in for others
        store = complete(store)
    client = None if store.location is None else schedule.active_client(client)  # data in memory stay here
    # Of one process, as memory limits are.
    threads = n_workers or memory.n_cores() if client is None else max(client.nthreads().values(), default=1)
    room = memory.memory_room(memory_limit, _SHARE_OF_MEMORY, client)
    least = 4 * store.n_subjects * _COPIES * threads
    if room.n_bytes < least:
        raise room.refusal(least, f"a voxel of {store.n_subjects:,} subjects with {threads} worker(s) takes")
    spans = voxel_blocks(store, min(room.n_bytes // (_COPIES * threads), _MOST_BYTES))
    columns, heights = _columns(store.space)
    rows = np.linspace(0, store.n_subjects, min(store.n_subjects, MOST_ROWS), endpoint=False).astype(np.intp)
    total = _Total()
    schedule.run_tasks(
        tally_block,
        [(store, *span, columns[slice(*span)], len(heights), rows) for span in spans],
        label="Looking at maps",
        weights=[stop - start for start, stop in spans],
        client=client,
        n_workers=n_workers,
        progress=progress,
        on_result=total.add,
    )
    found = total.tally
    assert found is not None
    assert found.n_voxels == store.n_voxels
    size = np.diff(rows, append=store.n_subjects)[:, None] * np.bincount(columns)
    return Quality(_table(store, found), robust_z(found.sums / size).astype(np.float32), heights, rows)


def tally_block(
    store: CohortStore, start: int, stop: int, columns: NDArray[np.uint16], n_columns: int, rows: NDArray[np.intp]
) -> list[Tally]:
    """Task: tally voxels ``start`` to ``stop``. A list of one, so that who adds it up can take it out and free it."""
    return [tally(store.read(start, stop), columns, n_columns, rows)]


def voxel_blocks(store: CohortStore, budget: int) -> list[tuple[int, int]]:
    """(start, stop) of the blocks of a pass: a chunk wide, or an even part of it where a chunk has no room.

    Parameters
    ----------
    store
        What is read.
    budget
        Bytes that a block may have.
    """
    width = min(store.chunks[1], _WIDEST)
    most = max(1, budget // (4 * store.n_subjects))
    step = -(-width // -(-width // most))
    starts = [start for chunk in range(0, store.n_voxels, width) for start in range(chunk, chunk + width, step)]
    edges = [start for start in starts if start < store.n_voxels]
    return list(zip(edges, [*edges[1:], store.n_voxels], strict=True))


class _Total:
    """The sum of all tallies, in the order of their voxels: rounding depends on no worker's pace."""

    def __init__(self) -> None:
        self.tally: Tally | None = None
        self._next = 0
        self._waiting: dict[int, Tally] = {}

    def add(self, number: int, found: list[Tally]) -> None:
        self._waiting[number] = found.pop()
        while self._next in self._waiting:
            one = self._waiting.pop(self._next)
            self._next += 1
            if self.tally is None:
                self.tally = one
            else:
                self.tally.merge(one)


def _columns(space: Space) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """(n_voxels,) column of the carpet of each voxel, from the lowest to the highest; and the z of each column, mm."""
    z = space.coordinates(np.arange(space.n))[:, 2]
    z = np.where(np.isnan(z), 0.0, z)  # what has no place in the head stays in its order
    n_columns = min(N_COLUMNS, len(z))
    columns = np.empty(len(z), np.uint16)
    columns[np.argsort(z, kind="stable")] = np.arange(len(z)) * n_columns // len(z)
    return columns, np.bincount(columns, z) / np.bincount(columns)


def _table(store: CohortStore, found: Tally) -> pd.DataFrame:
    unknown = pd.Series(pd.NA, store.subjects.index)  # of a cohort that was not made of images
    n_missing = store.subjects.get("n_missing_voxels", unknown).to_numpy()
    lacked = pd.to_numeric(pd.Series(n_missing)).fillna(0).to_numpy(np.float64)
    share = (lacked + found.n_empty) / (store.n_voxels + lacked)
    judged = measures(found.mean, found.sd, found.correlation, share)
    copies = _copies(store)
    reasons = [
        ", ".join([*(name for name, one in judged.items() if one.odd[row]), *copies.get(row, [])])
        for row in range(store.n_subjects)
    ]
    columns = {
        "mean": found.mean,
        "sd": found.sd,
        "min": found.low,
        "max": found.high,
        "correlation": found.correlation,
        "n_missing_voxels": n_missing,
        "n_empty_voxels": found.n_empty,
        "missing": share,
        **{f"z_{name}": judged[name].z for name in ("mean", "sd", "correlation")},
        "outlier": [bool(reason) for reason in reasons],
        "reason": reasons,
    }
    index = pd.Index(store.subjects["subject_label"], name="subject_label")
    return pd.DataFrame(columns, index).astype(_TYPES)


def _copies(store: CohortStore) -> dict[int, list[str]]:
    """Of each map whose data another one has too, to the last bit: a word on that."""
    labels = list(store.subjects["subject_label"])
    alike: dict[bytes, list[int]] = {}
    for row, digest in enumerate(store.hashes):
        alike.setdefault(digest.tobytes(), []).append(row)
    groups = [rows for rows in alike.values() if len(rows) > 1]
    return {row: [f"same data as {labels[rows[row == rows[0]]]}"] for rows in groups for row in rows}
