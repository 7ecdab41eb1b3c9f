"""The elements of a cohort that every subject has, as a cohort of their own: nothing is written, or read twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.chunks import Float32
from numbaglm.data.cohort.layout import DATA, Arrays, Header
from numbaglm.data.cohort.presence import Bits, Patterns
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import MaskError, term


def complete(store: CohortStore) -> CohortStore:
    """Return the elements that every subject has.

    Parameters
    ----------
    store
        Where a value that is missing counts as 0 (`Header.keeps_missing` is False) all are there.

    Raises
    ------
    MaskError
        There are none.
    """
    if not store.header.keeps_missing or store.all_present:
        return store
    return _complete(store)


_BY_ELEMENT = term("missing='element'")


@lru_cache(maxsize=4)  # a task unpickles it anew; stores on disk are the same objects then
def _complete(store: CohortStore) -> CohortStore:
    keep = store.patterns.n_present[store.patterns.of] == store.n_subjects
    space, n_left = store.space, int(np.count_nonzero(~keep))
    if not keep.any():
        raise MaskError(
            f"No {space.noun} is there in all of the {store.n_subjects} maps. "
            f"{_BY_ELEMENT} tests each with the subjects that it has."
        )
    note = f"{n_left:,} of {space.n:,} {space.nouns} are left out: not all maps have a value there."
    if store.location is None:
        return select(store, keep, note)
    columns = np.flatnonzero(keep)
    header = _header(store, keep, note)
    return CompleteStore(store.location, header, store.arrays, store.group, whole=store, columns=columns)


def select(store: CohortStore, keep: NDArray[np.bool_], note: str) -> CohortStore:
    """Return some elements of a cohort in memory, all of whose values count as there.

    Parameters
    ----------
    keep
        (n_elements,) which.
    note
        For its report.
    """
    assert store.location is None
    layers = {name: np.ascontiguousarray(values[:, keep]) for name, values in store.arrays.layers.items()}
    return CohortStore(None, _header(store, keep, note), Arrays(layers, None, None))


def _header(store: CohortStore, keep: NDArray[np.bool_], note: str) -> Header:
    return replace(
        store.header,
        space=store.space.select(keep),
        report=(*store.report, note),
        has_presence=False,
        keeps_missing=False,
        min_coverage=1.0,
    )


@dataclass(frozen=True, eq=False)
class CompleteStore(CohortStore):
    """Some columns of a cohort on disk.

    Attributes
    ----------
    whole
        The cohort.
    columns
        (n_voxels,) which of its elements, increasing.
    """

    whole: CohortStore = field(kw_only=True)
    columns: NDArray[np.intp] = field(kw_only=True)

    @property
    def n_voxels(self) -> int:
        """Number of elements that every subject has."""
        return len(self.columns)

    @property
    def chunks(self) -> tuple[int, int]:
        """As the cohort's."""
        rows, columns = self.whole.chunks
        return rows, min(columns, self.n_voxels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the cohort's, and of what this is of it."""
        return hashlib.sha256(f"complete elements of {self.whole.fingerprint}".encode()).hexdigest()

    @cached_property
    def all_present(self) -> bool:
        """They are."""
        return True

    @cached_property
    def patterns(self) -> Patterns:
        """One."""
        return Patterns.whole(self.n_subjects, self.n_voxels)

    def present(self, start: int, stop: int) -> NDArray[np.bool_]:
        """All are."""
        return np.ones((self.n_subjects, stop - start), bool)

    def presence_of(self, start: int, stop: int) -> Bits | None:
        """None: all have all."""
        return None

    def read(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read`."""
        self._check(start, stop, self.n_voxels)
        span, inside = self._span(start, stop)
        return np.ascontiguousarray(self.whole.read(*span, layer)[:, inside])

    def pieces(self, start: int, stop: int) -> Iterator[tuple[slice, Float32]]:
        """See `CohortStore.pieces`."""
        span, inside = self._span(start, stop)
        for rows, piece in self.whole.pieces(*span):
            yield rows, piece[:, inside]

    def read_subjects(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read_subjects`."""
        return np.ascontiguousarray(self.whole.read_subjects(start, stop, layer)[:, self.columns])

    def _span(self, start: int, stop: int) -> tuple[tuple[int, int], NDArray[np.intp]]:
        """Elements of the cohort that some are within, and which of those they are."""
        columns = self.columns[start:stop]
        first = int(columns[0])
        return (first, int(columns[-1]) + 1), columns - first

    def __reduce__(self) -> tuple[Any, ...]:
        return complete, (self.whole,)
