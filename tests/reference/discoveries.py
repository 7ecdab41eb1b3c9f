"""True discoveries as they are defined: every subset, every threshold, every component."""

from itertools import combinations

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse.csgraph import connected_components

ROOM = 1 + 1e-12  # ties: p that differ by rounding alone count as equal


def simes_rejects(p, alpha):
    """Whether Simes' test rejects that no element of a set has an effect."""
    k = np.arange(1, p.size + 1)
    return bool((p.size * np.sort(p) <= k * alpha * ROOM).any())


def hommel_value(p, alpha):
    """Size of the largest set that Simes' test does not reject: of each size, that of the largest p."""
    ordered = np.sort(p)
    return max(size for size in range(p.size + 1) if size == 0 or not simes_rejects(ordered[-size:], alpha))


def closed_testing(p, region, alpha):
    """True discoveries in a region: its size less the largest part of it that closed testing does not reject.

    A part is rejected if Simes' test rejects every set that holds it: 2^n sets.
    """
    n = p.size
    kept = [set(s) for k in range(1, n + 1) for s in combinations(range(n), k) if not simes_rejects(p[list(s)], alpha)]
    return len(region) - max((len(s & set(region)) for s in kept), default=0)


def bound(level):
    """max over k of 1 - k + #{level <= k}."""
    level = np.asarray(level)
    return max([0, *(1 - k + int((level <= k).sum()) for k in range(1, level.size + 1))])


def false_discoveries(p, thresholds):
    """min over k of #{p >= t_k} + k - 1, and no more than there are."""
    return min([p.size, *(int((p >= t).sum()) + k for k, t in enumerate(thresholds))])


def node_sets(parent):
    """Elements (numbered as nodes) of every node of a tree."""
    sets = [{node} for node in range(len(parent))]
    for node, above in enumerate(parent):
        if above >= 0:
            sets[above] |= sets[node]
    return sets


def components(values, label_inside, two_sided):
    """For each element, the component that holds it at its own height, as a boolean map; None where it has none."""
    found = np.full(values.shape, None)
    for sign in (1, -1) if two_sided else (1,):
        signed = sign * values
        for height in np.unique(signed[signed > 0]):
            labels = label_inside(signed >= height)
            for where in zip(*np.nonzero(signed == height), strict=True):
                found[where] = labels == labels[where]
    return found


def volume_labels(connectivity):
    """Label components of a boolean volume."""
    structure = generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    return lambda inside: label(inside, structure)[0]


def graph_labels(adjacency):
    """Label components of some of a graph's nodes; adjacency is a sparse matrix."""

    def labels(inside):
        out = np.zeros(inside.size, int)
        out[inside] = 1 + connected_components(adjacency[inside][:, inside], directed=False)[1]
        return out

    return labels


def leave_out(sorted_p, elements, out, beyond):
    """Take elements out of lists of p, and fill up."""
    rows = []
    for p, whose in zip(sorted_p, elements, strict=True):
        kept = [value for value, element in zip(p, whose, strict=True) if not out[element]]
        rows.append(kept + [max(beyond, p[-1])] * (len(p) - len(kept)))
    return np.array(rows)


def n_erring(sorted_p, thresholds):
    """How many shufflings have any p below its threshold; equal but for rounding is not below."""
    return sum(bool((p < np.asarray(thresholds) * (1 - 1e-10)).any()) for p in sorted_p)


def lower_quantile(levels, alpha):
    """Largest of some levels that at most alpha of them are below."""
    return max(level for level in levels if np.mean(levels < level) <= alpha + 1e-12)


def join_rows(parts):
    """What blocks left, (bounds, values) of each, shuffling by shuffling."""
    n = len(parts[0][0]) - 1
    return [np.concatenate([values[bounds[i] : bounds[i + 1]] for bounds, values in parts]) for i in range(n)]


def join_keys(parts):
    """What blocks left, (bounds, voxels, scores) of each: numbers that sort as scores do, and end with the voxel."""
    keys = [np.float32(np.abs(scores)).view(np.int32).astype(object) * 2**32 + voxels for _, voxels, scores in parts]
    return join_rows([(bounds, key.astype(np.int64)) for (bounds, _, _), key in zip(parts, keys, strict=True)])


def p_of_scores(scores, knots, log_p):
    """p of rows of falling scores: the parabola through three knots evenly apart, and p that never fall."""
    rows = []
    for row in scores:
        p = []
        for score in row:
            first = min(np.searchsorted(knots, score, side="right") - 1, len(knots) - 3)
            parabola = np.polyfit(np.arange(3), log_p[first : first + 3], 2)
            p.append(np.exp(np.polyval(parabola, (score - knots[first]) / (knots[1] - knots[0]))))
        rows.append(np.maximum.accumulate(p))
    return np.array(rows)


def count_lower(curves, which, p):
    """How many of a curve are no larger than each p."""
    return [int((curves[curve] <= value).sum()) for curve, value in zip(which, p, strict=True)]
