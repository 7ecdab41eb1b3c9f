"""Exchangeability blocks as a tree: what may change places with what, and in how many distinct ways.

Every restriction on shuffling is one tree whose leaves are the subjects. A node with a positive index lets
its children change places as wholes; a node with a negative index keeps them where they are. Free
exchangeability is one positive node over all subjects; "within", "whole" and "both" are trees of two levels;
PALM's multi-column blocks are trees of any depth.

References
----------
Winkler et al. (2014), Permutation inference for the general linear model, NeuroImage 92:381-397.
Winkler et al. (2015), Multi-level block permutation, NeuroImage 123:253-268.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import ShufflingError, invalid

BLOCK_SCHEMES = ("within", "whole", "both")


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes at one depth of a tree, siblings next to each other.

    Parameters
    ----------
    parent
        Node of the level above that each one belongs to (n_nodes,), ascending.
    shuffled
        Whether that parent lets its children change places (n_nodes,).
    offset
        First leaf of each node, counted from the first leaf of its parent (n_nodes,).
    """

    parent: NDArray[np.int32]
    shuffled: NDArray[np.bool_]
    offset: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class BlockTree:
    """A tree of exchangeability blocks.

    Parameters
    ----------
    order
        Subject at each leaf (n_subjects,).
    levels
        From the children of the root down to the leaves.
    """

    order: NDArray[np.int32]
    levels: tuple[Level, ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """One node whose children can be arranged in more than one distinct way.

    Parameters
    ----------
    level
        Level of the children in `BlockTree.levels`.
    start
        The first of them in that level.
    classes
        Class of each child (n_children,), numbered by first appearance: children of one class bring the same
        rows of X, in any order their own shuffling allows.
    n_arrangements
        Multinomial coefficient of the class sizes.
    """

    level: int
    start: int
    classes: NDArray[np.int32]
    n_arrangements: int


def free_tree(n_subjects: int) -> BlockTree:
    """Let every subject change places with every other."""
    subjects = np.arange(n_subjects, dtype=np.int32)
    root = Level(np.zeros(n_subjects, np.int32), np.ones(n_subjects, np.bool_), subjects)
    return BlockTree(subjects, (root,))


def parse_blocks(blocks: ArrayLike, scheme: str, n_subjects: int) -> BlockTree:
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

    Raises
    ------
    ShufflingError
        The blocks are of the wrong length, are not whole numbers, or are no tree of this kind.
    """
    if scheme not in BLOCK_SCHEMES:
        raise ShufflingError(invalid("block_scheme", scheme, ", ".join(map(repr, BLOCK_SCHEMES))))
    values = _whole_numbers(blocks, n_subjects)
    if values.ndim == 2 and values.shape[1] > 1:
        if scheme != "within":
            allowed = "'within', the default, with multi-level blocks, whose signs tell what changes places"
            raise ShufflingError(invalid("block_scheme", scheme, allowed))
        return _tree(values)
    labels = values.reshape(-1)
    if labels.min() < 0:
        fix = "Signs mean something in multi-level blocks only; -1 often stands for a missing label."
        raise _refused(f"{labels.min()} in {_rows(np.flatnonzero(labels == labels.min()))}", "labels >= 0", fix)
    if scheme != "within":
        _require_equal_sizes(labels, scheme)
    root = np.full(n_subjects, -1 if scheme == "within" else 1)
    inside = -(labels + 1) if scheme == "whole" else labels + 1
    return _tree(np.column_stack([root, inside, np.arange(1, n_subjects + 1)]))


def _whole_numbers(blocks: ArrayLike, n_subjects: int) -> NDArray[np.int64]:
    values = np.asarray(blocks, dtype=object)  # NumPy would make text of a number beside text
    allowed = f"labels ({n_subjects},), or a tree of whole numbers ({n_subjects}, n_levels)"
    if values.ndim not in (1, 2) or values.shape[0] != n_subjects or values.size == 0:
        fix = "Give one label, or one row of indices, a subject, in the order of the design matrix (not a file's name)."
        raise _refused(f"shape {values.shape}", allowed, fix)
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
        fix = "Use block_scheme='within', or multi-level blocks that put blocks of one size under one index."
        received = f"{', '.join(odd[:5])}{', ...' if len(odd) > 5 else ''}, where the others are of {usual}"
        raise _refused(received, f"blocks of equal size with block_scheme={scheme!r}", fix)


def _tree(indices: NDArray[np.int64]) -> BlockTree:
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
        for first, last in _families(level):
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


def choices(tree: BlockTree, row_class: NDArray[np.int32]) -> list[Choice]:
    """Find the nodes that make one arrangement of X's rows differ from another.

    Siblings that may change places either bring the same set of arrangements (one class) or sets without
    overlap. So the distinct arrangements under a node are the distinct sequences of its children's classes
    times, for every child, its own arrangements; and of the whole tree, the product of `n_arrangements`.

    Parameters
    ----------
    row_class
        Equal for subjects with equal rows of X (n_subjects,).
    """
    found: list[Choice] = []
    below = row_class[tree.order].tolist()
    for depth in range(len(tree.levels) - 1, -1, -1):
        level, seen, above = tree.levels[depth], dict[tuple[int, ...], int](), []
        for first, last in _families(level):
            classes = below[first:last]
            if level.shuffled[first]:
                number: dict[int, int] = {}
                numbered = [number.setdefault(c, len(number)) for c in classes]
                if len(number) > 1:
                    sizes = Counter(numbered).values()
                    count = factorial(len(classes)) // prod(map(factorial, sizes))
                    found.append(Choice(depth, first, np.array(numbered, np.int32), count))
                classes = sorted(classes)
            above.append(seen.setdefault(tuple(classes), len(seen)))
        below = above
    return found


def arrange(choice: Choice, rank: NDArray[np.int64]) -> NDArray[np.int32]:
    """Unrank arrangements of a node's children, rank 0 being the one there is.

    Class after class takes a subset of the places still free, numbered by the combinatorial number system;
    the largest class takes what is left. Children of one class keep their order.

    Returns
    -------
    NDArray
        Place of each child (m, n_children).
    """
    subsets = _subsets(choice)
    rank = (rank + _present_rank(choice, subsets)) % choice.n_arrangements
    n_children, row = len(choice.classes), np.arange(len(rank))
    places = np.empty((len(rank), n_children), np.int32)
    free = np.tile(np.arange(n_children, dtype=np.int32), (len(rank), 1))
    rest = np.ones(n_children, np.bool_)
    for children, tables in subsets:
        rank, within = np.divmod(rank, comb(free.shape[1], len(children)))
        taken = np.zeros(free.shape, np.bool_)
        for child, table in zip(children[::-1], tables[::-1], strict=True):
            where = np.searchsorted(table, within, side="right") - 1
            within = within - table[where]
            places[:, child] = free[row, where]
            taken[row, where] = True
        free = free[~taken].reshape(len(rank), free.shape[1] - len(children))
        rest[children] = False
    places[:, rest] = free
    return places


Subset = tuple[NDArray[np.intp], list[NDArray[np.int64]]]


def _subsets(choice: Choice) -> list[Subset]:
    """List the children of each class but the largest, with binomials C(p, j), p = 0 ... n_free - 1.

    j runs from 1 to the size of the class. A class as large is still to be placed, so that j <= n_free / 2
    and no binomial exceeds the number of subsets.
    """
    *smaller, _ = np.argsort(np.bincount(choice.classes), kind="stable")
    n_free, subsets = len(choice.classes), []
    for number in smaller:
        children = np.flatnonzero(choice.classes == number)
        tables = [np.arange(n_free)]
        for _ in children[1:]:
            tables.append(np.concatenate([[0], np.cumsum(tables[-1])[:-1]]))
        subsets.append((children, tables))
        n_free -= len(children)
    return subsets


def _present_rank(choice: Choice, subsets: list[Subset]) -> int:
    free, rank, scale = np.arange(len(choice.classes)), 0, 1
    for children, tables in subsets:
        places = np.searchsorted(free, children)
        rank += scale * sum(int(table[p]) for table, p in zip(tables, places, strict=True))
        scale *= comb(len(free), len(children))
        free = np.delete(free, places)
    return rank


def flip_units(tree: BlockTree) -> NDArray[np.int32]:
    """Find the sets of subjects whose signs flip together.

    What may change places may also change sign: a child of a positive node flips as a whole (Winkler 2015).
    Flips of a node and of nodes inside it commute, so every subject follows its innermost node that can flip,
    and the flips of nodes around that add nothing new.

    Returns
    -------
    NDArray
        Number of each subject's set (n_subjects,), -1 for those that never flip.
    """
    unit = np.full(1, -1, np.int64)
    for depth, level in enumerate(tree.levels):
        own = np.arange(len(level.parent)) + depth * len(tree.order)
        unit = np.where(level.shuffled, own, unit[level.parent])
    units = np.full(len(unit), -1, np.int32)
    flips = unit >= 0
    units[tree.order[flips]] = np.unique(unit[flips], return_inverse=True)[1]
    return units


def orbits(tree: BlockTree) -> NDArray[np.intp]:
    """Find which subjects permutations exchange: these share a number (n_subjects,).

    Siblings that change places share what their parent has; others keep their place within it.
    """
    orbit = np.zeros(1, np.intp)
    for level in tree.levels:
        number = np.arange(len(level.parent)) - np.searchsorted(level.parent, level.parent)
        keys = np.column_stack([orbit[level.parent], np.where(level.shuffled, 0, number)])
        orbit = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    of_subject = np.empty_like(orbit)
    of_subject[tree.order] = orbit
    return of_subject


def place(tree: BlockTree, slots: Sequence[NDArray[np.int32] | None], n_rows: int) -> NDArray[np.int32]:
    """Carry the nodes' places down to the subjects.

    Parameters
    ----------
    slots
        For each level, the sibling whose place each node takes (n_rows, n_nodes), None where all stay.

    Returns
    -------
    NDArray
        Subject whose place each subject takes (n_rows, n_subjects).
    """
    first_leaf = np.zeros((n_rows, 1), np.int32)
    for level, slot in zip(tree.levels, slots, strict=True):
        offset = level.offset[None] if slot is None else np.take(level.offset, slot)
        first_leaf = offset + (first_leaf if first_leaf.shape[1] == 1 else first_leaf[:, level.parent])
    if np.all(tree.order[:-1] < tree.order[1:]):  # leaves are subjects
        return first_leaf
    index = np.empty_like(first_leaf)
    index[:, tree.order] = np.take(tree.order, first_leaf)
    return index


def _families(level: Level) -> list[tuple[int, int]]:
    """First and last + 1 of each set of siblings."""
    edges = np.flatnonzero(np.diff(level.parent, prepend=-1, append=level.parent[-1] + 1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _refused(received: str, allowed: str, fix: str = "") -> ShufflingError:
    where = "Rows and columns are counted from 0." if "row" in received or "column" in received else ""
    return ShufflingError(invalid("exchangeability_blocks", received, allowed, f"{fix} {where}".strip()))


def _rows(rows: Sequence[int] | NDArray[np.intp]) -> str:
    shown = ", ".join(str(int(row)) for row in rows[:5])
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', ...' if len(rows) > 5 else ''}"
