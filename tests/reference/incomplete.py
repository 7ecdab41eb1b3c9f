"""Missing data, obviously: every shuffling is refitted, an element at a time, with the subjects that it has there."""

from __future__ import annotations

import numpy as np


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
