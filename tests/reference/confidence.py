"""Errors of flipped residuals the slow way: the model is fitted to each flip."""

from __future__ import annotations

import numpy as np


def flipped_t(Y, M, c, signs):
    """|t| (n_flips, n_voxels) of the contrast of flipped residuals of the whole model, fitted again."""
    inverse = np.linalg.pinv(M)
    residuals = Y - M @ (inverse @ Y)
    found = []
    for sign in signs:
        flipped = sign[:, None] * residuals
        beta = inverse @ flipped
        left = flipped - M @ beta
        variance = (left**2).sum(axis=0) / (len(M) - M.shape[1])
        found.append(np.abs(c @ beta) / np.sqrt(variance * (c @ inverse @ inverse.T @ c)))
    return np.array(found)


def influence_of_d(Y, M, c, w):
    """(n_subjects, n_voxels) what each subject adds to the error of Cohen's d."""
    inverse = np.linalg.pinv(M)
    dof = len(M) - M.shape[1]
    residuals = Y - M @ (inverse @ Y)
    s = np.sqrt((residuals**2).sum(axis=0) / dof)
    d = w * (c @ inverse @ Y) / s
    e = residuals / s
    a = c @ inverse
    return np.array([w * a[i] * e[i] - d * (e[i] ** 2 - dof / len(M)) / (2 * dof) for i in range(len(M))])


def t_of_means(rows):
    """|t| of the mean of each column."""
    return np.abs(rows.mean(axis=0)) / (rows.std(axis=0, ddof=1) / np.sqrt(len(rows)))
