"""Exchangeability blocks as users give them, labels or PALM's multi-level form, read into a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import ShufflingError, invalid, term
from numbaglm.stats.shuffling.trees import BlockTree, Level, families

BLOCK_SCHEMES = ("within", "whole", "both")


def parse_blocks(blocks: ArrayLike, scheme: str, n_subjects: int, *, change_places: bool = True) -> BlockTree:
    """Read exchangeability blocks.

    Parameters
    ----------
    blocks
        Either one label a subject (n_subjects,), text or whole numbers >= 0, or PALM's multi-level blocks
        (n_subjects, n_levels), one row a subject, read from left to right: the first column holds one index
        for everybody; rows that agree in all columns up to one are a block of that level; a positive index
        lets the blocks of the next column change places as wholes, a negative one keeps them in place. Blocks
        that change places with each other must be built alike (sizes, levels and signs), since their
        observations replace one another in the order of their labels. The last column tells the single
        subjects apart, and its sign then means nothing. Where it doesn't (as PALM's manual allows), its
        blocks are kept as they are inside if the column before is positive or they are negative, and
        shuffled inside otherwise.
    scheme
        For labels: "within" shuffles inside blocks, "whole" moves whole blocks of one size and keeps the
        order of subjects inside (that of the rows), "both" does both.
    n_subjects
        Number of subjects.
    change_places
        Whether anything does: blocks that change sign alone may be of any size.

    Raises
    ------
    ShufflingError
        The blocks are of the wrong length, are not whole numbers, or are no tree of this kind.
    """
    if scheme not in BLOCK_SCHEMES:
        raise ShufflingError(invalid("block_scheme", scheme, ", ".join(map(repr, BLOCK_SCHEMES))))
    values = _whole_numbers(blocks, n_subjects)
    if values.ndim == 2:
        if scheme != "within":
            allowed = "'within', the default, with multi-level blocks, whose signs tell what changes places"
            raise ShufflingError(invalid("block_scheme", scheme, allowed))
        return _tree(values, change_places=change_places)
    labels = values
    if labels.min() < 0:
        fix = "Signs mean something in multi-level blocks only; -1 often stands for a missing label."
        raise _refused(f"{labels.min()} in {_rows(np.flatnonzero(labels == labels.min()))}", "labels >= 0", fix)
    if scheme != "within" and change_places:
        _require_equal_sizes(labels, scheme)
    root = np.full(n_subjects, -1 if scheme == "within" else 1)
    inside = -(labels + 1) if scheme == "whole" else labels + 1
    return _tree(np.column_stack([root, inside, np.arange(1, n_subjects + 1)]), change_places=change_places)


def _whole_numbers(blocks: ArrayLike, n_subjects: int) -> NDArray[np.int64]:
    values = np.array(blocks, dtype=object)  # NumPy would make text of a number beside text
    allowed = f"labels ({n_subjects},), or a tree of whole numbers ({n_subjects}, n_levels)"
    if values.ndim not in (1, 2) or values.shape[0] != n_subjects or values.size == 0:
        fix = "Give one label, or one row of indices, a subject, in the order of the design matrix (not a file's name)."
        raise _refused(f"shape {values.shape}", allowed, fix)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]  # of a table
    values[pd.isna(values)] = np.nan
    text = np.array([isinstance(label, str) for label in values.flat]).reshape(values.shape)
    if values.ndim == 1 and text.all():
        return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):  # among labels of text others are wrong, in a tree they are
        numbers = np.where(text == (values.ndim == 2), np.nan, 0.0)
    wrong = ~np.isfinite(numbers) | (numbers != np.round(numbers)) | (np.abs(numbers) > 2**53)
    if wrong.any():
        rows = np.flatnonzero(wrong.reshape(n_subjects, -1).any(axis=1))
        fix = "Give every subject a label: all of them whole numbers, or all of them text."
        raise _refused(f"{values[rows[0]]} in {_rows(rows)}", allowed, fix)
    return numbers.astype(np.int64)


def _require_equal_sizes(labels: NDArray[np.int64], scheme: str) -> None:
    blocks, sizes = np.unique(labels, return_counts=True)
    usual = Counter(sizes.tolist()).most_common(1)[0][0]
    odd = [f"block {b} of {s}" for b, s in zip(blocks[sizes != usual], sizes[sizes != usual], strict=True)]
    if odd:
        within = term("block_scheme='within'")
        fix = f"Use {within}, or multi-level blocks that put blocks of one size under one index."
        received = f"{', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}, where the others are of {usual}"
        raise _refused(received, f"blocks of equal size with {term(f'block_scheme={scheme!r}')}", fix)


def _tree(indices: NDArray[np.int64], *, change_places: bool) -> BlockTree:
    """Build and check the tree of signed indices (n_subjects, n_levels)."""
    if (indices == 0).any():
        rows = np.flatnonzero((indices == 0).any(axis=1))
        allowed = "positive (children change places) or negative (they don't) indices in multi-level blocks"
        raise _refused(f"0 in {_rows(rows)}", allowed)
    if len(np.unique(indices[:, 0])) > 1:
        received = f"{np.unique(indices[:, 0]).tolist()} in the first column"
        allowed = "one index in the first column of multi-level blocks, which groups all subjects"
        fix = "Put a column of 1 before it if its blocks may change places with each other, of -1 if not."
        raise _refused(received, allowed, fix)
    order = np.lexsort(np.abs(indices[:, ::-1]).T)
    indices = indices[order]
    new = np.ones(indices.shape, np.bool_)
    new[1:] = np.logical_or.accumulate(np.diff(np.abs(indices), axis=0) != 0, axis=1)
    _require_one_sign(indices, new, order)
    if not new[:, -1].all():
        # Rows that share the last index are a block without a column of its own for the subjects.
        inside = (indices[:, -1] > 0) & (indices[:, -2] < 0)
        indices[:, -1] = np.where(inside, 1, -1) * np.abs(indices[:, -1])
        new = np.column_stack([new, np.ones(len(new), np.bool_)])
    starts = [np.flatnonzero(column) for column in new.T]
    levels = []
    for depth in range(1, len(starts)):
        parent = (np.searchsorted(starts[depth - 1], starts[depth], side="right") - 1).astype(np.int32)
        shuffled = indices[starts[depth - 1], depth - 1][parent] > 0
        offset = (starts[depth] - starts[depth - 1][parent]).astype(np.int32)
        levels.append(Level(parent, shuffled, offset))
    if change_places:
        _require_alike(levels, starts, indices, order)
    return BlockTree(order.astype(np.int32), tuple(levels))


def _require_one_sign(indices: NDArray[np.int64], new: NDArray[np.bool_], order: NDArray[np.intp]) -> None:
    mixed = ~new[1:] & (np.diff(indices, axis=0) != 0)
    if mixed.any():
        row, column = np.argwhere(mixed)[0]
        rows = sorted(order[row : row + 2].tolist())
        received = f"{indices[row, column]} and {indices[row + 1, column]} in column {column}, {_rows(rows)}"
        raise _refused(received, "one sign for all rows of a block")


def _require_alike(
    levels: Sequence[Level],
    starts: Sequence[NDArray[np.intp]],
    indices: NDArray[np.int64],
    order: NDArray[np.intp],
) -> None:
    """Refuse children that may change places but are not built alike."""
    shape = [0] * len(starts[-1])
    for depth in range(len(levels), 0, -1):
        level, seen, above = levels[depth - 1], dict[tuple[bool, tuple[int, ...]], int](), []
        for first, last in families(level):
            shuffled, shapes = bool(level.shuffled[first]), shape[first:last]
            if shuffled and len(set(shapes)) > 1:
                other = first + next(j for j, s in enumerate(shapes) if s != shapes[0])
                rows = np.split(order, starts[depth][1:])
                names = [f"{indices[starts[depth][j], depth]} ({_rows(sorted(rows[j]))})" for j in (first, other)]
                received = f"the unlike blocks {names[0]} and {names[1]} in column {depth}"
                allowed = "blocks of the same sizes, levels and signs under one positive index"
                fix = "Make the index above negative, or put blocks of one kind under an index of their own."
                raise _refused(received, allowed, fix)
            above.append(seen.setdefault((shuffled, tuple(shapes)), len(seen)))
        shape = above


def _refused(received: str, allowed: str, fix: str = "") -> ShufflingError:
    where = "Rows and columns are counted from 0." if "row" in received or "column" in received else ""
    return ShufflingError(invalid("exchangeability_blocks", received, allowed, f"{fix} {where}".strip()))


def _rows(rows: Sequence[int] | NDArray[np.intp]) -> str:
    shown = ", ".join(str(int(row)) for row in rows[:5])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', ...' if len(rows) > 5 else ''}"
