"""Which elements each subject has: a bit each, and the distinct patterns of them.

What holds for the subjects of an element (how many they are, the Gram matrix of their rows of a design) depends on its
pattern alone, and most elements share a few: they are found once, when a cohort is complete, and kept beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
"""Packed along the last axis, the first element in the lowest bit; 0 beyond the last."""


def pack(present: NDArray[np.bool_]) -> Bits:
    """(..., ceil(n / 8)) bits of (..., n) flags."""
    return np.packbits(present, axis=-1, bitorder="little")


def unpack(bits: Bits, n: int) -> NDArray[np.bool_]:
    """(..., n) flags of their bits."""
    return np.unpackbits(bits, axis=-1, count=n, bitorder="little").view(np.bool_)


def n_bytes(n: int) -> int:
    """How many bytes n flags take."""
    return -(-n // 8)


@dataclass(frozen=True, eq=False)
class Patterns:
    """The distinct sets of subjects that elements have.

    Attributes
    ----------
    bits
        (n_patterns, ceil(n_subjects / 8)), in the order of the first element that has each.
    of
        (n_elements,) number of each element's pattern.
    n_subjects
        How many subjects there are.
    """

    bits: Bits
    of: NDArray[np.int32]
    n_subjects: int

    @classmethod
    def whole(cls, n_subjects: int, n_elements: int) -> Patterns:
        """Of a cohort whose subjects have all elements: one pattern."""
        return cls(pack(np.ones((1, n_subjects), bool)), np.zeros(n_elements, np.int32), n_subjects)

    @classmethod
    def find(cls, blocks: Iterable[NDArray[np.bool_]], n_subjects: int) -> Patterns:
        """Find them, from flags (n_subjects, k) of a few elements at a time."""
        known: dict[bytes, int] = {}
        of = []
        for block in blocks:
            which, first = _alike(block)
            numbers, order = np.empty(len(first), np.int32), np.argsort(first)
            keys = _keys(block[:, first[order]]).tolist()
            numbers[order] = [known.setdefault(key, len(known)) for key in keys]
            of.append(numbers[which])
        bits = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), n_bytes(n_subjects))
        return cls(bits, np.concatenate(of), n_subjects)

    def among(self, elements: NDArray[np.intp] | slice) -> Patterns:
        """Those of some elements, in the order in which they stand here."""
        of = self.of[elements]
        there = np.bincount(of, minlength=self.n) > 0
        return Patterns(self.bits[there], (np.cumsum(there, dtype=np.int32) - np.int32(1))[of], self.n_subjects)

    @property
    def n(self) -> int:
        """How many patterns there are."""
        return len(self.bits)

    @cached_property
    def n_present(self) -> NDArray[np.int64]:
        """(n_patterns,) how many subjects each has."""
        return np.asarray(np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64))

    @property
    def all_present(self) -> bool:
        """Whether every subject has every element."""
        return bool((self.n_present == self.n_subjects).all())

    @property
    def every(self) -> NDArray[np.bool_]:
        """(n_patterns, n_subjects) who is in each pattern."""
        return unpack(self.bits, self.n_subjects)

    def present(self, number: int) -> NDArray[np.bool_]:
        """(n_subjects,) who is in a pattern."""
        return unpack(self.bits[number], self.n_subjects)


def _keys(block: NDArray[np.bool_]) -> NDArray[np.void]:
    """Bits (k,) of flags (n_subjects, k), those of an element in one."""
    rows = pack(np.ascontiguousarray(block.T))
    return rows.view(np.dtype((np.void, rows.shape[1]))).ravel()


def _alike(block: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which elements (n_subjects, k) have one pattern: its number (k,), in some order, and the first that has each."""
    which, first = np.zeros(block.shape[1], np.intp), []
    whole = block.all(axis=0)
    if whole.any():  # most are: they need not be sorted
        first.append(np.flatnonzero(whole)[:1])
    if len(rest := np.flatnonzero(~whole)):
        _, begin, inverse = np.unique(_keys(block[:, rest]), return_index=True, return_inverse=True)
        which[rest] = inverse + len(first)
        first.append(rest[begin])
    return which, np.concatenate(first) if first else np.empty(0, np.intp)
