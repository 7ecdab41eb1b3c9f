"""Scores of shufflings one at a time, in double precision, and what is reduced from them."""

from __future__ import annotations

import numpy as np


def scores(basis, E, index, sign, n_interest, is_t):
    """(n_shufflings, n_voxels) correlation (t) or share of variance (F) of P E, P moving the data themselves."""
    found = []
    for i, s in zip(index, sign, strict=True):
        products = basis.astype(float) @ (s[:, None] * E[i].astype(float))
        interest, nuisance = products[:n_interest], products[n_interest:]
        left = 1.0 - (nuisance**2).sum(axis=0)
        found.append(interest[0] / np.sqrt(left) if is_t else (interest**2).sum(axis=0) / left)
    return np.array(found)


def reduce(scores, reference, threshold, two_sided):
    """Counts per voxel, maximum per shuffling, and the (shuffling, voxel) pairs that reach the threshold."""
    seen = np.abs(scores) if two_sided else scores
    return (seen >= reference).sum(axis=0), seen.max(axis=1), np.argwhere(seen >= threshold)
