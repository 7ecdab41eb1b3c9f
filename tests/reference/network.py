"""A network as the explicit graph of its edges, those that share a node beside one another."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array


def line_graph(ends):
    """CSR adjacency of edges (n_edges, 2)."""
    shared = (ends[:, None, :, None] == ends[None, :, None, :]).any(axis=(2, 3))
    np.fill_diagonal(shared, False)
    return csr_array(shared)
