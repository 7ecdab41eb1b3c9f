"""Allowed shufflings by trying every permutation and every product of flips. For a handful of subjects."""

from __future__ import annotations

from itertools import permutations

import numpy as np

TREES = {
    "free": [[1, 1], [1, 2], [1, 3], [1, 4], [1, 5]],
    "within, sizes 2 and 3": [[-1, 1, 1], [-1, 2, 1], [-1, 1, 2], [-1, 2, 3], [-1, 2, 2]],
    "whole, rows interleaved": [[1, -1, 1], [1, -2, 1], [1, -3, 1], [1, -2, 2], [1, -1, 2], [1, -3, 2]],
    "both": [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 3, 1], [1, 3, 2]],
    "pairs and a trio": [
        [-1, 1, 1, 1],
        [-1, 1, 1, 2],
        [-1, 1, 2, 1],
        [-1, 1, 2, 2],
        [-1, 2, 1, 1],
        [-1, 2, 1, 2],
        [-1, 2, 1, 3],
    ],
    "twins, siblings fixed": [
        [1, -1, 1, 1],
        [1, -1, 1, 2],
        [1, -1, -2, 1],
        [1, -2, 1, 1],
        [1, -2, 1, 2],
        [1, -2, -2, 1],
    ],
}


def blocks_of(eb):
    """Per level, {labels down to this level: rows}; eb has one column that tells the subjects apart."""
    levels = []
    for depth in range(eb.shape[1]):
        level = {}
        for row, labels in enumerate(eb[:, : depth + 1].tolist()):
            level.setdefault(tuple(labels), set()).add(row)
        levels.append(level)
    return levels


def allowed(index, levels):
    """Whether the permutation, index[r] being the row that r goes to, respects all blocks."""
    for depth in range(1, len(levels)):
        for name, rows in levels[depth].items():
            target = {index[row] for row in rows}
            images = [other for other, rows in levels[depth].items() if rows == target]
            if not images:
                return False
            image, parent, parent_image = images[0], name[:-1], images[0][:-1]
            if {index[row] for row in levels[depth - 1][parent]} != levels[depth - 1][parent_image]:
                return False
            if parent[-1] < 0 and sibling_number(name, levels[depth]) != sibling_number(image, levels[depth]):
                return False
    return True


def sibling_number(name, level):
    return sorted((other for other in level if other[:-1] == name[:-1]), key=lambda n: abs(n[-1])).index(name)


def group(eb):
    """All permutations that respect the blocks of eb (n_subjects, n_levels)."""
    levels = blocks_of(np.asarray(eb))
    return [index for index in permutations(range(len(eb))) if allowed(index, levels)]


def flips(eb):
    """All sign vectors that are products of flips of whole children of positive blocks."""
    levels = blocks_of(np.asarray(eb))
    found = {(1,) * len(eb)}
    for depth in range(1, len(levels)):
        for name, rows in levels[depth].items():
            if name[-2] > 0:
                found |= {tuple(-s if r in rows else s for r, s in enumerate(signs)) for signs in found}
    return found


def arrangement(index, rows):
    """P' X: where each row of X lands."""
    landed = [None] * len(rows)
    for r, place in enumerate(index):
        landed[place] = rows[r]
    return tuple(landed)


def distinct(eb, rows, errors):
    """The distinct shufflings: {(arrangement of X's rows, signs)}."""
    arrangements = {arrangement(p, rows) for p in group(eb)} if errors != "ise" else {tuple(rows)}
    signs = flips(eb) if errors != "ee" else {(1,) * len(rows)}
    return {(a, s) for a in arrangements for s in signs}


def X_of(*values):
    """One regressor (n_subjects, 1) of these values."""
    return np.asarray(values, float)[:, None]


def shufflings_as_pairs(index, sign, rows):
    """What `distinct` returns, in order."""
    return [(arrangement(i, rows), tuple(s)) for i, s in zip(index.tolist(), sign.tolist(), strict=True)]
