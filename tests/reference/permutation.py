"""A permutation test by refitting the whole model to every shuffled data set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from scipy import linalg

from reference import clusters, glm


def shuffled_statistics(Y, M, C, index, sign):
    """(n_shufflings, n_voxels) t or F after Freedman and Lane: P R_Z Y + H_Z Y is fitted with the full model."""
    Z = M @ linalg.null_space(np.atleast_2d(C))
    residual = glm.residuals(Y, Z) if Z.shape[1] else np.asarray(Y, float)
    fitted = np.asarray(Y, float) - residual
    shuffled = (s[:, None] * residual[i] + fitted for i, s in zip(index, sign, strict=True))
    return np.array([glm.statistic(one, M, C) for one in shuffled])


def p_between(seen, dof, power):
    """Bounds of (p_unc, p_fwe_voxel) in single precision, where scores within 1e-5 may count as equal.

    A score is the correlation (power 1/2, of t squared) or the share of variance (power 1, of F).
    """
    share = seen**2 / (seen**2 + dof) if power == 0.5 else seen * dof[0] / (seen * dof[0] + dof[1])
    score = np.sign(seen) * share**power
    bounds = []
    for shift in (1e-6, -1e-5):
        floor = score[0] + shift
        reached = score[1:] >= floor, score[1:].max(axis=1)[:, None] >= floor
        first = True, score[0].max() >= score[0]
        bounds.append([(r.sum(axis=0) + f) / len(seen) for r, f in zip(reached, first, strict=True)])
    return bounds


def correct(statistics, mask, *, two_sided, threshold, connectivity=26, tie=1e-9):
    """Nulls, corrected and uncorrected p of the statistics of all shufflings, the observed first.

    `tie` is relative: statistics this close are equal on paper.
    """
    seen = np.abs(statistics) if two_sided else statistics
    observed, n = seen[0], len(seen)
    floor = observed - tie * np.maximum(np.abs(observed), 1)
    maxima = seen.max(axis=1)
    sizes, masses, first = [], [], None
    for one in statistics:
        volume = np.zeros(mask.shape)
        volume[mask] = one
        above = mask & ((np.abs(volume) if two_sided else volume) >= threshold)
        labels, k = clusters.label(above, np.sign(volume), connectivity)
        if first is None:
            first = labels[mask], k, np.abs(volume)[mask]
        size, mass = clusters.largest(labels, k, np.abs(volume))
        sizes.append(size)
        masses.append(mass)
    sizes, masses = np.array(sizes), np.array(masses)
    labels, k, height = first
    size = np.array([np.sum(labels == c) for c in range(1, k + 1)])
    mass = np.array([height[labels == c].sum() for c in range(1, k + 1)])
    p_size = np.array([np.mean(sizes >= value) for value in size])
    p_mass = np.array([np.mean(masses >= value * (1 - tie)) for value in mass])
    order = np.lexsort((-mass, -size))
    return SimpleNamespace(
        statistics=seen,
        statistic=statistics[0],
        p_unc=(seen >= floor).sum(axis=0) / n,
        p_fwe_voxel=(maxima[:, None] >= floor).mean(axis=0),
        p_fwe_size=np.append(1.0, p_size)[labels],
        p_fwe_mass=np.append(1.0, p_mass)[labels],
        max_stat=maxima,
        max_size=sizes,
        max_mass=masses,
        size=size[order],
        mass=mass[order],
    )
