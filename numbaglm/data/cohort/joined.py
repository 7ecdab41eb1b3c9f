"""Several cohorts of the same subjects as one, whose layers are their maps: the elements that all of them have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.data.cohort.arranged import arrange
from numbaglm.data.cohort.layout import DATA, Arrays
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.tables import listed
from numbaglm.errors import InputError, invalid
from numbaglm.spaces.space import Space

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Member:
    """A cohort among others.

    Attributes
    ----------
    rows, columns
        (n_subjects,) and (n_elements,) where the joined subjects and elements are in it.
    """

    store: CohortStore
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def read(self, start: int, stop: int) -> Float32:
        """Joined elements ``start`` to ``stop`` of all subjects, in the joined order."""
        columns = self.columns[start:stop]
        first, last = int(columns[0]), int(columns[-1]) + 1
        block = self.store.read(first, last)
        if last - first > columns.size:
            block = block[:, columns - first]
        if (self.rows != np.arange(self.rows.size)).any():
            block = block[self.rows]
        return np.ascontiguousarray(block)


@dataclass(frozen=True, eq=False)
class JoinedStore(CohortStore):
    """Cohorts on disk as one: the first is the data, the others are layers by name. Nothing is copied."""

    members: Mapping[str, Member] = field(default_factory=dict)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.header.subjects)

    @property
    def n_voxels(self) -> int:
        """Number of elements that all have."""
        return self.space.n

    @property
    def chunks(self) -> tuple[int, int]:
        """As those of the first."""
        return self._first.chunks

    @property
    def chunks_at_once(self) -> int:
        """As of the first."""
        return self._first.chunks_at_once

    @property
    def _first(self) -> CohortStore:
        return next(iter(self.members.values())).store

    @cached_property
    def all_present(self) -> bool:
        """Always: others are refused."""
        return True

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all of them, and of the elements that they share."""
        digest = hashlib.sha256(self.space.digest.encode())
        for name, member in self.members.items():
            digest.update(f"{name} {member.store.fingerprint}".encode())
        return digest.hexdigest()

    def read(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read`."""
        self._check(start, stop, self.n_voxels)
        return self.members[layer].read(start, stop)

    def pieces(self, start: int, stop: int) -> Iterator[tuple[slice, Float32]]:
        """See `CohortStore.pieces`; all subjects at once."""
        yield slice(0, self.n_subjects), self.read(start, stop)

    def read_subjects(self, start: int, stop: int, layer: str = DATA) -> Float32:
        """See `CohortStore.read_subjects`."""
        return self.members[layer].read(0, self.n_voxels)[start:stop]

    def __reduce__(self) -> tuple[Any, ...]:
        return JoinedStore, (self.location, self.header, self.arrays, None, self.members)


def join(stores: Mapping[str, CohortStore]) -> CohortStore:
    """Join cohorts of the same subjects, matched by label, in the order of the first.

    Returns
    -------
    A store whose data are the first's, and whose layers are the others' by name: in memory where all of them are.

    Raises
    ------
    InputError
        They are of other subjects, lie elsewhere, share no element, or lack values.
    """
    members = _members(stores)
    names = [DATA, *list(stores)[1:]]
    first = next(iter(stores.values()))
    space = first.space.select(_among(first.space, members[0].columns))
    header = replace(
        first.header,
        space=space,
        layers=tuple(names),
        report=tuple(f"{name}: {text}" for name, store in stores.items() for text in store.report),
        has_presence=False,
    )
    by_name = dict(zip(names, members, strict=True))
    if any(one.store.location is None for one in members):
        layers = {name: one.read(0, space.n) for name, one in by_name.items()}
        for values in layers.values():
            values.flags.writeable = False
        return CohortStore(None, header, Arrays(layers, None, None))
    return JoinedStore(first.location, header, Arrays({}, None, None), None, by_name)


def align(stores: Mapping[str, CohortStore]) -> dict[str, CohortStore]:
    """Bring cohorts of the same subjects into the order of the first, each in a space of its own.

    Raises
    ------
    InputError
        They are of other subjects.
    """
    (name, first), *others = stores.items()
    labels = _labels(first)
    aligned = {name: first}
    for other, store in others:
        _require_same(name, labels, other, _labels(store))
        if _labels(store) == labels:
            aligned[other] = store
            continue
        aligned[other] = arrange(store, _rows(labels, _labels(store)))
    return aligned


def _labels(store: CohortStore) -> list[str]:
    return [str(label) for label in store.subjects["subject_label"]]


def _rows(labels: Sequence[str], mine: Sequence[str]) -> NDArray[np.intp]:
    """Rows of a cohort whose subjects are labelled ``mine``, in the order of ``labels``."""
    place = {label: row for row, label in enumerate(mine)}
    return np.array([place[label] for label in labels], np.intp)


def _require_same(name: str, labels: Sequence[str], other: str, mine: Sequence[str]) -> None:
    if sorted(labels) == sorted(mine):
        return
    here, there = sorted(set(labels) - set(mine)), sorted(set(mine) - set(labels))
    alone = "; ".join(
        f"{len(some)} in {which!r} alone ({listed(some, 3)})" for which, some in ((name, here), (other, there)) if some
    )
    raise InputError(
        invalid(
            "maps",
            f"{name!r} and {other!r} of other subjects: {alone}",
            "cohorts of the same subjects",
            "Convert the maps of those that all have.",
        )
    )


def _among(space: Space, columns: NDArray[np.intp]) -> NDArray[np.bool_]:
    keep = np.zeros(space.n, bool)
    keep[columns] = True
    return keep


def _cells(space: Space) -> NDArray[np.intp]:
    """Where the elements are among all that maps of this kind list."""
    where = space.mask if space.is_volume else space.kept
    assert where is not None
    return np.flatnonzero(where)


def _lie_alike(one: Space, two: Space) -> bool:
    if one.is_volume != two.is_volume:
        return False
    if one.is_volume:
        return one.volume.shape == two.volume.shape and np.allclose(one.volume.affine, two.volume.affine, atol=1e-4)
    assert one.template is not None
    assert two.template is not None
    return one.template.lists_the_same(two.template)


def _members(stores: Mapping[str, CohortStore]) -> list[Member]:
    (name, first), *others = stores.items()
    labels = _labels(first)
    shared = _cells(first.space)
    for other, store in others:
        _require_same(name, labels, other, _labels(store))
        if not _lie_alike(first.space, store.space):
            raise InputError(
                invalid(
                    "maps",
                    f"{name!r} on {first.space.label}, {other!r} on {store.space.label}",
                    "cohorts in one space where they are combined",
                    "Without combine= each has its own.",
                )
            )
        shared = np.intersect1d(shared, _cells(store.space), assume_unique=True)
    if not shared.size:
        raise InputError(f"The masks of {', '.join(stores)} have no {first.space.noun} in common.")
    for which, store in stores.items():
        if not store.all_present:
            raise InputError(
                f"The cohort {which!r} lacks values of some subjects, and a combination needs all of them: convert its "
                "maps with a mask that all of them fill."
            )
    return [
        Member(store, _rows(labels, _labels(store)), np.searchsorted(_cells(store.space), shared))
        for store in stores.values()
    ]
