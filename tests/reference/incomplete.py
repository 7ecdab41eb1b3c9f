"""Missing data, obviously: every shuffling is refitted, an element at a time, with the subjects that it has there."""

from __future__ import annotations

import numpy as np
from scipy import linalg, special, stats

LOWEST = -40.0
"""z of an F of 0: below all others."""


def partial(y, present, tested, nuisance):
    """Squared share that the tested regressors take, signed for one of them, and None where that can't be told."""
    X, Z, y = tested[present], nuisance[present], y[present]
    whole = np.hstack([X, Z])
    if np.linalg.matrix_rank(whole, tol=1e-8) < np.linalg.matrix_rank(np.hstack([tested, nuisance])):
        return None
    left = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0] if Z.shape[1] else y
    beta = np.linalg.lstsq(whole, y, rcond=None)[0]
    rest = y - whole @ beta
    total, error = left @ left, rest @ rest
    share = 1 - error / total
    return np.sign(beta[0]) * np.sqrt(max(share, 0)) if X.shape[1] == 1 else share


def scores(Y, present, tested, nuisance, index, sign):
    """Partial correlations, or shares (n_shufflings, n_voxels); 0 where there is none.

    Residuals on the nuisance of those who are present are shuffled with their presence.
    """
    found = np.zeros((len(index), Y.shape[1]))
    for v in range(Y.shape[1]):
        w = present[:, v]
        E = np.zeros(len(Y))
        Z = nuisance[w]
        E[w] = Y[w, v] - (Z @ np.linalg.lstsq(Z, Y[w, v], rcond=None)[0] if Z.shape[1] else 0)
        for b, (i, s) in enumerate(zip(index, sign, strict=True)):
            score = partial(s * E[i], w[i], tested, nuisance)
            found[b, v] = 0.0 if score is None else score
    return found


def separate_z(Y, present, X, C, label, index, sign):
    """z of v or G (n_shufflings, n_voxels), by the definition; that of 0 where design or group can't be told."""
    groups, Z = np.unique(label), X @ linalg.null_space(C)
    found = np.full((len(index), Y.shape[1]), 0.0 if len(C) == 1 else LOWEST)
    for v in range(Y.shape[1]):
        w, E = present[:, v], np.zeros(len(Y))
        E[w] = Y[w, v] - Z[w] @ np.linalg.lstsq(Z[w], Y[w, v], rcond=None)[0]
        for b, (i, s) in enumerate(zip(index, sign, strict=True)):
            there = w[i]
            M, y = X[there], (s * E[i])[there]
            if np.linalg.matrix_rank(M) < X.shape[1]:
                continue
            left = y - M @ np.linalg.lstsq(M, y, rcond=None)[0]
            leverage = np.einsum("ij,ji->i", M, np.linalg.pinv(M))
            of_group = label[there] == groups[:, None]
            free = of_group @ (1 - leverage)
            if (free < 0.1).any():
                continue
            weight = free / (of_group @ left**2)
            W = weight @ of_group
            effect = C @ np.linalg.lstsq(M, y, rcond=None)[0]
            form = effect @ np.linalg.solve(C @ np.linalg.inv(M.T @ (W[:, None] * M)) @ C.T, effect)
            excess = ((1 - weight * of_group.sum(axis=1) / W.sum()) ** 2 / free).sum()
            k = len(C)
            dof = k * (k + 2) / (3 * excess)
            if k == 1:
                found[b, v] = -np.sign(effect[0]) * special.ndtri(stats.t.sf(np.sqrt(form), dof))
            else:
                G = form / (k * (1 + 2 * (k - 1) / (k * (k + 2)) * excess))
                found[b, v] = -special.ndtri(stats.f.sf(G, k, dof))
    return found


def own_scores(Y, present, S, regressors, C, index, sign):
    """As `scores`, with regressors (q, n_subjects, n_voxels) of each element's own beside the columns S that all share.

    Those of subjects that are missing are not known: they stand at the mean of the others.
    """
    C = np.atleast_2d(C)
    found = np.zeros((len(index), Y.shape[1]))
    for v in range(Y.shape[1]):
        w = present[:, [v]]
        own = [np.where(w, by * c[:, [v]], by * c[w[:, 0], v].mean()) for by, c in regressors]
        M = np.column_stack([S, *own])
        found[:, [v]] = scores(Y[:, [v]], w, M @ C.T, M @ linalg.null_space(C), index, sign)
    return found
