"""v and G by their definition, of data that are shuffled one by one."""

from __future__ import annotations

import numpy as np


def v_or_g(Y, M, C, label, index, sign):
    """Statistic and degrees of freedom (n_shufflings, n_voxels), and residual sums of squares of the groups."""
    label = np.unique(label, return_inverse=True)[1]
    D, s = np.linalg.inv(M.T @ M), len(C)
    of_group = label[:, None] == np.arange(label.max() + 1)
    free = (1 - np.einsum("ij,jk,ik->i", M, D, M)) @ of_group
    found = []
    for i, flips in zip(index, sign, strict=True):
        one = flips[:, None] * Y[i]
        beta = D @ M.T @ one
        squares = of_group.T.astype(float) @ (one - M @ beta) ** 2
        statistic, dof = np.empty((2, Y.shape[1]))
        for v in range(Y.shape[1]):
            weight = free / squares[:, v]
            W = weight[label]
            effect = C @ beta[:, v]
            form = effect @ np.linalg.solve(C @ np.linalg.inv(M.T @ (W[:, None] * M)) @ C.T, effect)
            excess = ((1 - weight * of_group.sum(axis=0) / W.sum()) ** 2 / free).sum()
            dof[v] = s * (s + 2) / (3 * excess)
            g = form / (s * (1 + 2 * (s - 1) / (s * (s + 2)) * excess))
            statistic[v] = np.sign(effect[0]) * np.sqrt(form) if s == 1 else g
        found.append((statistic, dof, squares))
    return tuple(np.array(part) for part in zip(*found, strict=True))
