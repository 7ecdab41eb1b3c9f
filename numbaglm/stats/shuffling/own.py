"""Shufflings of the user's own: rows of signed numbers, checked, and drawn as those that are planned.

A row tells of each subject which row of the design it takes, and with which sign: v at place i stands for the signed
permutation P with P[i, |v|] = sign(v), and the model is that of P X (numbers count from 1; PALM writes its sets so).
The data then move the other way, as everywhere in this package.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from hashlib import sha256

import numpy as np
import scipy  # its sparse is loaded where it is used
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import ShufflingError, invalid, term
from numbaglm.stats.shuffling.blocks import parse_blocks
from numbaglm.stats.shuffling.shufflings import ERRORS, Shufflings, equal_rows, of_blocks, plan_shufflings
from numbaglm.stats.shuffling.trees import BlockTree

Signed = NDArray[np.int32]
"""Rows (n_rows, n_subjects) of signed permutations, numbers counting from 1."""

_AT_ONCE = 2**22  # numbers that are looked at together

_ALLOWED = "rows of signed whole numbers, each a permutation of 1 to {n} but for its signs"


@dataclass(frozen=True, eq=False)
class OwnShufflings(Shufflings):
    """Shufflings that were given: the data as they are first, then the rows in their order."""

    _index: NDArray[np.int32] = field(repr=False, kw_only=True)
    _sign: NDArray[np.int8] = field(repr=False, kw_only=True)

    @property
    def sampled(self) -> bool:
        """Their order is the user's: the first of them may be anything."""
        return False

    def _draw(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        return self._index[start:stop], self._sign[start:stop]

    def orbits(self) -> NDArray[np.intp]:
        """Find which subjects these shufflings exchange: they share a number (n_subjects,)."""
        n = self.n_subjects
        if self.errors == "ise":
            return np.arange(n)
        step = max(1, _AT_ONCE // n)
        pairs: NDArray[np.int64] = np.empty(0, np.int64)
        for first in range(0, self.n_shufflings, step):
            some = np.arange(n) * n + self._index[first : first + step].astype(np.int64)
            pairs = np.unique(np.concatenate([pairs, some.ravel()]))
        touch = scipy.sparse.coo_array((np.ones(pairs.size, np.int8), (pairs // n, pairs % n)), shape=(n, n))
        return np.asarray(scipy.sparse.csgraph.connected_components(touch, directed=False)[1], dtype=np.intp)


def parse_rows(values: ArrayLike, n_subjects: int) -> Signed:
    """Read rows of signed permutations.

    Parameters
    ----------
    values
        (n_rows, n_subjects) whole numbers: v at place i makes row i of the design sign(v) times row abs(v).
    n_subjects
        Number of subjects.

    Raises
    ------
    ShufflingError
        They are of another shape, no whole numbers, or a row is no signed permutation; names the first such row.
    """
    allowed = _ALLOWED.format(n=n_subjects)
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim == 1 and numbers.size == n_subjects > 0:
        numbers = numbers[None]
    if numbers.ndim != 2 or numbers.size == 0 or numbers.shape[1] != n_subjects:
        turned = numbers.ndim == 2 and numbers.shape[0] == n_subjects
        fix = "Transpose them: a shuffling is a row." if turned else ""
        shape = f"shape {np.shape(values)}" if numbers.size else f"a {type(values).__name__}"
        raise _refused(shape, f"{allowed}, shape (n_shufflings, {n_subjects})", fix)
    size = np.abs(numbers)
    wrong = ~np.isfinite(numbers) | (numbers != np.rint(numbers)) | (size < 1) | (size > n_subjects)
    if wrong.any():
        row, place = np.argwhere(wrong)[0]
        fix = (
            "Numbers count from 1, as a sign goes with each: add 1 to those that count from 0."
            if not size.min()
            else ""
        )
        raise _refused(f"{numbers[row, place]:g} in row {row + 1}", allowed, fix)
    odd = (np.sort(size, axis=1) != np.arange(1, n_subjects + 1)).any(axis=1)
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        flips = (size == 1).all() and n_subjects > 1
        fix = "A set of signs s becomes one of shufflings as s * [1, 2, ..., n]." if flips else ""
        raise _refused(f"{_twice(size[row])} in row {row + 1} more than once", allowed, fix)
    return numbers.astype(np.int32)


def digest(rows: Signed) -> str:
    """SHA-256 of rows of signed permutations, which tells sets apart."""
    return sha256(f"{rows.shape}".encode() + np.ascontiguousarray(rows, dtype="<i4").tobytes()).hexdigest()


def plan_own(
    rows: Signed,
    seed: int,
    *,
    design_rows: ArrayLike,
    errors: str | None = None,
    blocks: ArrayLike | None = None,
    block_scheme: str = "within",
    why: str = "",
) -> Shufflings:
    """Take a set of shufflings as it is given, the data as they are among them once.

    Where no row is the identity, it is put before the others; else the first that is, is. Rows that come more than
    once count more than once. Whether signs flip or subjects change places follows from the rows.

    Parameters
    ----------
    rows
        From `parse_rows`.
    seed
        Kept; nothing is drawn.
    design_rows, blocks, block_scheme
        As in `plan_shufflings`; each row must be a shuffling that the blocks allow.
    errors
        None, or what rows may be no more than: "ee" permutations, "ise" sign flips, "both".
    why
        What asks for ``errors``, where the caller has not named them.

    Raises
    ------
    ShufflingError
        A row is beyond ``errors`` or the blocks, or there is none but the identity.

    References
    ----------
    Hemerik & Goeman (2018), Exact testing with random permutations, TEST 27:811-825: which sets give a valid test.
    """
    n = rows.shape[1]
    moves, flips = (np.abs(rows) != np.arange(1, n + 1)).any(axis=1), (rows < 0).any(axis=1)
    asked = term(f"errors={errors!r}") if not why else f"{term(f'errors={errors!r}')}, {why}"
    for such, kind, beside in ((moves, "ise", "changes places"), (flips, "ee", "changes signs")):
        if errors == kind and such.any():
            raise _refused(f"row {np.flatnonzero(such)[0] + 1}, which {beside}", f"{ERRORS[kind]} alone under {asked}")
    found = "both" if moves.any() and flips.any() else "ise" if flips.any() else "ee"
    if not (moves | flips).any():
        raise _refused(f"{len(rows)} row(s), each the identity", "shufflings beside the data as they are")
    frame = plan_shufflings(n, 1, seed, design_rows=design_rows, errors=found, blocks=blocks, block_scheme=block_scheme)
    index, sign = _of_data(rows)
    if blocks is not None:
        _require_signs(frame, sign)
        if found != "ise":
            _require_places(parse_blocks(blocks, block_scheme, n), index)
    there = np.flatnonzero(~(moves | flips))
    added = there.size == 0
    first = np.arange(n)[None] if added else index[there[:1]]
    rest = index if added else np.delete(index, there[0], axis=0)
    signs = sign if added else np.delete(sign, there[0], axis=0)
    index = np.concatenate([first, rest]).astype(np.int32)
    sign = np.concatenate([np.ones((1, n), np.int8), signs])
    index.flags.writeable = sign.flags.writeable = False
    whole = len(index) == frame.n_distinct == _n_distinct(rows, design_rows, added)
    told = f"{len(index)} of the user's own"
    if whole:
        told += ", which are all distinct ones"
    told += ", the data as they are added to them" if added else ", the data as they are among them"
    kept = {one.name: getattr(frame, one.name) for one in fields(frame)}
    kept |= {
        "n_shufflings": len(index),
        "exhaustive": whole,
        "reason": f"Shuffling by {ERRORS[found]}{of_blocks(blocks, block_scheme, n)}, as given: {told}.",
        "_row_class": None,
    }
    return OwnShufflings(**kept, _index=index, _sign=sign)


def _of_data(rows: Signed) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """The signed permutations of the data that do to the model what these do to the design: their inverses."""
    index = np.argsort(np.abs(rows), axis=1).astype(np.int32)
    return index, np.take_along_axis(np.sign(rows).astype(np.int8), index, axis=1)


def _n_distinct(rows: Signed, design_rows: ArrayLike, added: bool) -> int:
    """How many arrangements of the design there are among the rows, and the identity where it was added."""
    number = equal_rows(design_rows, rows.shape[1]) + 1
    arranged = np.sign(rows) * number[np.abs(rows) - 1]
    return len(np.unique(np.vstack([number, arranged]) if added else arranged, axis=0))


def _require_signs(frame: Shufflings, sign: NDArray[np.int8]) -> None:
    """Refuse signs that the exchangeability blocks hold together, and these don't."""
    unit = frame.flip_units()
    if frame.errors == "ee":
        return
    of_unit = np.zeros(unit.max(initial=-1) + 2, np.intp)
    of_unit[unit] = np.arange(len(unit))
    bad: NDArray[np.bool_] = np.where(unit < 0, sign < 0, sign != sign[:, of_unit[unit]])
    _refuse_first(
        np.asarray(bad.any(axis=1)), "changes signs of subjects that don't, or of a part of those that do together"
    )


def _require_places(tree: BlockTree, index: NDArray[np.int32]) -> None:
    """Refuse permutations that the exchangeability blocks don't allow."""
    step = max(1, _AT_ONCE // index.shape[1])
    for start in range(0, len(index), step):
        _refuse_first(~_in_tree(tree, index[start : start + step]), "moves subjects where they may not", start)


def _in_tree(tree: BlockTree, index: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether permutations (m, n_subjects) keep to a tree (m,): nodes move as wholes, among siblings that may."""
    leaf = np.empty(len(tree.order), np.intp)
    leaf[tree.order] = np.arange(len(tree.order))
    source = leaf[index[:, tree.order]]  # the leaf that each leaf takes
    fine = np.ones(len(index), np.bool_)
    node: NDArray[np.integer] = np.arange(len(tree.order))
    for level in reversed(tree.levels):
        start = np.searchsorted(node, np.arange(len(level.parent)))
        takes = node[source]  # (m, n_leaves), the node that each leaf's source is in
        of_node = takes[:, start]
        fine &= (takes == of_node[:, node]).all(axis=1)
        rank = np.arange(len(level.parent)) - np.searchsorted(level.parent, level.parent)
        fine &= (level.shuffled | (rank[of_node] == rank)).all(axis=1)
        node = level.parent[node]
    return fine


def _refuse_first(bad: NDArray[np.bool_], does: str, before: int = 0) -> None:
    if bad.any():
        fix = f"Leave {term('exchangeability_blocks')} out if the rows are meant as they are."
        received = f"row {before + int(np.flatnonzero(bad)[0]) + 1}, which {does}"
        raise _refused(received, f"shufflings that {term('exchangeability_blocks')} allow", fix)


def _twice(row: NDArray[np.float64]) -> str:
    values, times = np.unique(row, return_counts=True)
    return f"{values[times > 1][0]:g}"


def _refused(received: str, allowed: str, fix: str = "") -> ShufflingError:
    where = "Rows count from 1." if "row " in received else ""
    return ShufflingError(invalid("shufflings", received, allowed, f"{fix} {where}".strip()))
