"""TFCE as it is defined: components labelled anew at every height."""

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def tfce(volume, connectivity, **how):
    """Enhance a volume (0 outside the mask)."""
    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    return _enhance(volume, lambda inside: label(inside, structure)[0], **how)


def tfce_graph(values, indptr, indices, measure=None, **how):
    """Enhance the values of a graph's nodes; extents are sums of their measures, or count them."""
    graph = csr_array((np.ones(len(indices)), indices, indptr), shape=(len(values),) * 2)

    def label_nodes(inside):
        labels = np.zeros(len(values), int)
        labels[inside] = 1 + connected_components(graph[inside][:, inside], directed=False)[1]
        return labels

    return _enhance(values, label_nodes, measure=measure, **how)


def _enhance(values, label_inside, E=0.5, H=2.0, two_sided=True, n_steps=0, dh=0.0, times_step=True, measure=None):
    """Enhance exactly, in `n_steps` up to the peak, or in steps of `dh`."""
    values = np.asarray(values, dtype=np.float64)
    peak = np.abs(values).max() if two_sided else values.max()
    out = _positive(values, peak, label_inside, E, H, n_steps, dh, times_step, measure)
    if two_sided:
        out -= _positive(-values, peak, label_inside, E, H, n_steps, dh, times_step, measure)
    return out


def _positive(values, peak, label_inside, E, H, n_steps, dh, times_step, measure):
    out = np.zeros(values.shape)
    if peak <= 0:
        return out
    if n_steps or dh:
        heights = np.arange(1, int(peak / dh) + 2) * dh if dh else np.linspace(0, peak, n_steps + 1)[1:]
        weights = heights**H
        if times_step:
            weights = weights * (dh or peak / n_steps)
    else:
        heights = np.unique(values[values > 0])
        weights = np.diff(np.r_[0, heights ** (H + 1)]) / (H + 1)
    for height, weight in zip(heights, weights, strict=True):
        labels = label_inside(values >= height)
        extent = np.bincount(labels.ravel(), weights=measure).astype(np.float64)
        extent[1:] **= E
        extent[0] = 0
        out += weight * extent[labels]
    return out
