"""The subjects of a cohort in another order: maps, layers and presence move together, and nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import Float32
from numbaglm.data.cohort.layout import DATA, Arrays
from numbaglm.data.cohort.presence import Bits, Patterns
from numbaglm.data.cohort.store import CohortStore


def arrange(store: CohortStore, rows: NDArray[np.intp]) -> CohortStore:
    """Return a cohort whose subjects are those of some rows, in their order.

    Parameters
    ----------
    store
        The cohort; in memory, it is copied.
    rows
        (n_subjects,) which row of it each subject is.
    """
    header = replace(store.header, subjects=store.subjects.iloc[rows].reset_index(drop=True))
    if store.location is not None:
        return ArrangedStore(store.location, header, Arrays({}, None, None), None, whole=store, rows=rows)
    moved = {name: values[rows] for name, values in store.arrays.layers.items()}
    for values in moved.values():
        values.flags.writeable = False
    presence = store.arrays.presence
    return CohortStore(None, header, Arrays(moved, None if presence is None else presence[rows], None))


@dataclass(frozen=True, eq=False)
class ArrangedStore(CohortStore):
    """A cohort on disk whose subjects are in another order.

    Attributes
    ----------
    whole
        The cohort as it is stored.
    rows
        (n_subjects,) which of its rows each subject is.
    """

    whole: CohortStore = field(kw_only=True)
    rows: NDArray[np.intp] = field(kw_only=True)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.rows)

    @property
    def n_voxels(self) -> int:
        """As of the cohort."""
        return self.whole.n_voxels

    @property
    def chunks(self) -> tuple[int, int]:
        """As the cohort's."""
        return self.whole.chunks

    @property
    def chunks_at_once(self) -> int:
        """As of the cohort."""
        return self.whole.chunks_at_once

    @cached_property
    def row_hashes(self) -> NDArray[np.uint8]:
        """Those of the cohort, in this order."""
        return self.whole.row_hashes[self.rows]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the cohort's, and of the order."""
        digest = hashlib.sha256(f"subjects of {self.whole.fingerprint}".encode())
        digest.update(self.rows.astype("<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def all_present(self) -> bool:
        """Whether every subject has every element."""
        return self.whole.all_present or self.patterns.all_present

    @cached_property
    def patterns(self) -> Patterns:
        """The cohort's, in this order."""
        if self.whole.all_present:
            return Patterns.whole(self.n_subjects, self.n_voxels)
        theirs = self.whole.patterns
        distinct = Patterns.find([theirs.every[:, self.rows].T], self.n_subjects)
        return replace(distinct, of=distinct.of[theirs.of])

    def present(self, start: int, stop: int) -> NDArray[np.bool_]:
        """See `CohortStore.present`."""
        return self.whole.present(start, stop)[self.rows]

    def presence_of(self, start: int, stop: int) -> Bits | None:
        """See `CohortStore.presence_of`."""
        if self.whole.all_present:
            return None
        found = [self.whole.presence_of(row, row + 1) for row in self.rows[start:stop].tolist()]
        return np.concatenate([bits for bits in found if bits is not None])

    def read(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read`."""
        self._check(start, stop, self.n_voxels)
        if layer != DATA:
            return self.whole.read(start, stop, layer)[self.rows]
        block = np.empty((self.n_subjects, stop - start), np.float32)
        for part, piece in self.whole.pieces(start, stop):  # all of the cohort beside it would be as much again
            here = np.flatnonzero((self.rows >= part.start) & (self.rows < part.stop))
            block[here] = piece[self.rows[here] - part.start]
        return block

    def pieces(self, start: int, stop: int) -> Iterator[tuple[slice, Float32]]:
        """See `CohortStore.pieces`; all subjects at once where their order is another than the cohort's."""
        if (np.diff(self.rows) <= 0).any():
            yield slice(0, self.n_subjects), self.read(start, stop)
            return
        for part, piece in self.whole.pieces(start, stop):
            first, last = np.searchsorted(self.rows, [part.start, part.stop]).tolist()
            if first < last:
                yield slice(first, last), piece[self.rows[first:last] - part.start]

    def read_subjects(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read_subjects`."""
        self._check(start, stop, self.n_subjects)
        rows = self.rows[start:stop].tolist()
        return np.concatenate([self.whole.read_subjects(row, row + 1, layer) for row in rows])

    def read_hashes_anew(self, start: int, stop: int) -> NDArray[np.uint8]:
        """See `CohortStore.read_hashes_anew`."""
        rows = self.rows[start:stop].tolist()
        return np.concatenate([self.whole.read_hashes_anew(row, row + 1) for row in rows])

    def __reduce__(self) -> tuple[Any, ...]:
        return arrange, (self.whole, self.rows)
