"""Exchangeability as a tree: what may change places with what, and in how many distinct ways.

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
from numpy.typing import NDArray


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
        for first, last in families(level):
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


def families(level: Level) -> list[tuple[int, int]]:
    """First and last + 1 of each set of siblings."""
    edges = np.flatnonzero(np.diff(level.parent, prepend=-1, append=level.parent[-1] + 1))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
