"""Regressors that are each element's own, by refitting every shuffling at every element."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from reference import glm


def statistics(Y, S, regressors, C, index, sign, method="freedman-lane"):
    """(n_shufflings, n_voxels) t or F of the model [S, regressors], fitted anew to each shuffling of each element.

    Parameters
    ----------
    Y
        (n_subjects, n_voxels) data.
    S
        (n_subjects, p) columns that all elements share.
    regressors
        (q, n_subjects, n_voxels) columns of their own.
    C
        (n_rows, p + q).
    index, sign
        (n_shufflings, n_subjects) shufflings.
    method
        "freedman-lane", "manly" or "dekker".
    """
    C = np.atleast_2d(C)
    found = np.empty((len(index), Y.shape[1]))
    for v in range(Y.shape[1]):
        M, y = np.column_stack([S, *(one[:, v] for one in regressors)]), np.asarray(Y[:, v], float)
        Z = M @ linalg.null_space(C)
        residual = glm.residuals(y[:, None], Z)[:, 0] if Z.shape[1] else y
        if method == "freedman-lane":  # P R_Z y + H_Z y = M b + e
            found[:, v] = glm.statistic((sign * residual[index] + y - residual).T, M, C)
        elif method == "manly":  # P y = M b + e
            found[:, v] = glm.statistic((sign * y[index]).T, M, C)
        else:  # y = P X b + Z g + e, X being orthogonal to Z: P moves X where it moved y the other way
            D = np.linalg.inv(M.T @ M)
            X = M @ D @ C.T @ np.linalg.inv(C @ D @ C.T)
            for i in range(len(index)):
                moved = np.empty_like(X)
                moved[index[i]] = sign[i][:, None] * X
                selected = np.eye(X.shape[1], X.shape[1] + Z.shape[1])
                found[i, v] = glm.statistic(y[:, None], np.hstack([moved, Z]), selected)[0]
    return found
