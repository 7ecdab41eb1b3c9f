"""Extents, masses and TFCE of maps on several parts, by definition, and their p within domains and over them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from reference.clusters import label_graph
from reference.tfce import tfce_graph


def one_sample_t(Y, flips):
    """(n_flips, n_elements) t of the mean of data whose rows change sign."""
    shuffled = flips[:, :, None] * Y
    return shuffled.mean(axis=1) / (shuffled.std(axis=1, ddof=1) / np.sqrt(len(Y)))


def observe(t, parts, threshold, weighted=False):
    """Of one map: by element its cluster's extent and mass (0 outside), and TFCE.

    `parts` are (start, graphs of clusters and of TFCE as dense adjacency, measure or None, E, H). A `weighted` mass is
    the sum of t times measure.
    """
    found = {name: np.zeros(t.size) for name in ("size", "mass", "tfce")}
    for start, touching, linked, measure, E, H in parts:
        values = t[start : start + len(touching)]
        graph, weights = csr_array(touching), np.ones(values.size) if measure is None else measure
        labels, n = label_graph(np.abs(values) >= threshold, np.sign(values), graph.indptr, graph.indices)
        for number in range(1, n + 1):
            inside = start + np.flatnonzero(labels == number)
            found["size"][inside] = weights[labels == number].sum()
            each = weights[labels == number] if weighted else 1.0
            found["mass"][inside] = (np.abs(t[inside]) * each).sum()
        graph = csr_array(linked)
        enhanced = tfce_graph(values, graph.indptr, graph.indices, measure, E=E, H=H)
        found["tfce"][start : start + values.size] = np.abs(enhanced)
    return found


def corrected(maps, domain, tie=1e-9):
    """p (n_elements,) within domains and over them, of values (n_shufflings, n_elements), the observed first."""
    names = np.unique(domain)
    nulls = np.array([maps[:, domain == name].max(axis=1) for name in names])

    def within(null, values):
        return (null[:, None] >= values * (1 - tie)).mean(axis=0)

    p = np.empty(maps.shape[1])
    for name, null in zip(names, nulls, strict=True):
        p[domain == name] = within(null, maps[0, domain == name])
    least = np.min([within(null, null) for null in nulls], axis=0)
    return p, (least[:, None] <= p).mean(axis=0)
