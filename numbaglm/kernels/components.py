"""Sums over clusters of maps: products within them, and what generalised least squares makes of them.

Maps come cluster after cluster, as rows; elements side by side, each of which is summed by itself and in one order.
Clusters that are built alike are of one kind, and share their blocks of a matrix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels._jit import kernel


@kernel
def quadratic_forms(
    E: Doubles,
    starts: NDArray[np.int64],
    kind: NDArray[np.int64],
    begins: NDArray[np.int64],
    blocks: Doubles,
    into: NDArray[np.int64],
    out: Doubles,
) -> None:
    """Add up e_k' B_k e_k of symmetric blocks B_k of each of several matrices.

    Parameters
    ----------
    E
        (n_maps, n_elements).
    starts
        (n_clusters + 1,) the first map of each cluster, and the end of the last.
    kind, begins
        (n_clusters,) the kind of each; and where the block of each kind begins in ``blocks``, row by row.
    blocks
        (n_matrices, n_entries).
    into
        (n_clusters,) which part of ``out`` each cluster is added to.
    out
        (n_parts, n_matrices, n_elements), added to.
    """
    n_matrices, n = blocks.shape[0], E.shape[1]
    product = np.empty(n)
    for k in range(starts.shape[0] - 1):
        first, size = starts[k], starts[k + 1] - starts[k]
        begin, part = begins[kind[k]], out[into[k]]
        for i in range(size):
            here = E[first + i]
            for j in range(i + 1):
                there = E[first + j]
                for v in range(n):
                    product[v] = here[v] * there[v]
                for m in range(n_matrices):
                    weight = blocks[m, begin + i * size + j] * (1.0 if i == j else 2.0)
                    if weight != 0.0:
                        for v in range(n):
                            part[m, v] += weight * product[v]


@kernel
def subtract_fit(E: Doubles, weights: Doubles, fitted: Doubles, room: Doubles) -> None:
    """Leave the residuals e - F A' e of each element.

    Parameters
    ----------
    E
        (n_maps, n_elements), changed.
    weights, fitted
        (n_maps, n_columns) A and F.
    room
        (n_columns, n_elements), filled with A' e.
    """
    n = E.shape[1]
    room[:] = 0.0
    for i in range(E.shape[0]):
        for j in range(weights.shape[1]):
            weight, here, there = weights[i, j], E[i], room[j]
            for v in range(n):
                there[v] += weight * here[v]
    for i in range(E.shape[0]):
        for j in range(fitted.shape[1]):
            weight, here, there = fitted[i, j], E[i], room[j]
            for v in range(n):
                here[v] -= weight * there[v]


@kernel
def sum_over_clusters(E: Doubles, weights: Doubles, starts: NDArray[np.int64], out: Doubles, total: Doubles) -> None:
    """Add up weighted maps over each cluster, and over all.

    Parameters
    ----------
    E
        (n_maps, n_elements).
    weights
        (n_maps, n_columns).
    starts
        (n_clusters + 1,) the first map of each cluster, and the end of the last.
    out, total
        (n_columns, n_clusters, n_elements) and (n_columns, n_elements), filled.
    """
    n = E.shape[1]
    total[:] = 0.0
    for j in range(weights.shape[1]):
        for k in range(starts.shape[0] - 1):
            there = out[j, k]
            there[:] = 0.0
            for i in range(starts[k], starts[k + 1]):
                weight, here = weights[i, j], E[i]
                for v in range(n):
                    there[v] += weight * here[v]
            for v in range(n):
                total[j, v] += there[v]
