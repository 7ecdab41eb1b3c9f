"""The clusters of a map at rising thresholds: which falls into which, and how much of each has an effect at least.

A part of `numbaglm.results.report`. The tree of a map has as many nodes as the map has elements; what is drawn are its
clusters at a few thresholds, those that are too small for their place together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Ints
from numbaglm.display.maps.projection import decimals
from numbaglm.kernels.discoveries import Tree
from numbaglm.results.discoveries import bound_of, tree_of
from numbaglm.results.record import Record
from numbaglm.results.reporting.tables import leads, number
from numbaglm.results.vocabulary import map_of
from numbaglm.stats.discoveries import Bound, ClusterBounds, TrueDiscoveries

_MOST_LEVELS = 30
_STEPS = (0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)  # of z
_FROM = 0.1  # share of true discoveries from which on clusters are drawn
_LEAST = 1 / 120  # of the width
_GAP, _LEAST_SIDE = 0.02, 0.1  # between signs; of the width of one
_TICKS, _ROUND = 9, 1e-6


@dataclass(frozen=True)
class Piece:
    """A cluster over a range of thresholds at which it is the same one, or several that are small.

    Attributes
    ----------
    left, width
        Shares of the width of all.
    level, n_levels
        The lowest threshold, counted from 0, and over how many it stays.
    parent
        Number of the piece that it is part of below; -1 where there is none.
    found
        How many elements, and how many of them have an effect, at least.
    n_clusters
        1, or of how many it is.
    told
        All that there is to know of it, in words.
    mm, element
        Where its peak is shown, as of `numbaglm.results.reporting.tables.Row`.
    threshold
        Of the map that viewers show first: at it, the cluster around the peak is this one.
    """

    left: float
    width: float
    level: int
    n_levels: int
    parent: int
    found: TrueDiscoveries
    n_clusters: int
    told: str
    mm: tuple[float, ...]
    element: int | None
    threshold: float


@dataclass(frozen=True)
class Icicle:
    """Clusters at rising thresholds.

    Attributes
    ----------
    pieces
        From the lowest threshold to the highest.
    levels
        The thresholds, z; each is the lower edge of a row.
    ticks
        Number of the level, and what to write there.
    sides
        Middle of those of each sign, as a share of the width, and what to call them; none where there is one sign.
    n_small
        How many pieces are several clusters.
    least
        Share of true discoveries of the cluster where thresholds begin.
    """

    pieces: tuple[Piece, ...]
    levels: NDArray[np.float64]
    ticks: tuple[tuple[int, str], ...]
    sides: tuple[tuple[float, str], ...]
    n_small: int
    least: float


def icicle(result: Record) -> Icicle | None:
    """Lay out the clusters of a result; None where no cluster has a true discovery, or there are no clusters."""
    if "tdp" not in result.maps or not np.any(result.maps["tdp"] > 0):
        return None
    z, asked = np.asarray(result.maps["z"], np.float64), result.asked
    tree = tree_of(result.space, z, asked.conventions, asked.two_sided)
    assert tree is not None
    bound = bound_of(result)
    clusters = bound.of_clusters(tree)
    shares = clusters.n_true / clusters.n_elements
    least = min(_FROM, float(shares.max()))
    low = float(tree.height[shares >= least].min())
    levels = _levels(low, float(tree.height.max()))
    return _Layout(result, bound, clusters, levels, z).made(least) if levels.size else None


def _levels(low: float, top: float) -> NDArray[np.float64]:
    """Round thresholds, evenly apart, from about ``low`` up to below ``top``."""
    step = next((one for one in _STEPS if (top - low) / one <= _MOST_LEVELS), (top - low) / _MOST_LEVELS)
    first = np.floor(low / step)
    levels = np.round(np.arange(first, np.ceil(top / step)) * step, 10)
    return np.asarray(levels[levels > 0])


class _Slot(NamedTuple):
    """A place in a row: the nodes of the tree whose clusters are there, and the piece that they are part of."""

    nodes: tuple[int, ...]
    left: float
    width: float
    parent: int


class _Layout:
    """Where each piece goes, level after level."""

    def __init__(
        self, result: Record, bound: Bound, clusters: ClusterBounds, levels: Doubles, z: NDArray[np.float64]
    ) -> None:
        self.result, self.bound, self.clusters, self.levels = result, bound, clusters, levels
        self.element = clusters.tree.element
        self.positive = z[self.element] > 0
        self.height = np.asarray(result.height, np.float64)[self.element]
        self.pieces: list[Piece] = []
        self.nodes: list[tuple[int, ...]] = []  # of each piece

    def made(self, least: float) -> Icicle:
        """Lay out all levels."""
        cuts = [_cut(self.clusters.tree, level) for level in self.levels.tolist()]
        slots, sides = self._roots(np.unique(cuts[0][cuts[0] >= 0]))
        for k, cut in enumerate(cuts):
            slots = self._row(k, cut, cuts[k + 1] if k + 1 < len(cuts) else None, slots)
        n_small = sum(one.n_clusters > 1 for one in self.pieces)
        sides = sides if len(sides) > 1 else ()
        return Icicle(tuple(self.pieces), self.levels, _ticks(self.levels), sides, n_small, least)

    def _roots(self, roots: Ints) -> tuple[list[_Slot], tuple[tuple[float, str], ...]]:
        """Slots of the lowest threshold, and the middle of those of each sign."""
        signs = [(text, roots[self.positive[roots] == up]) for text, up in (("above 0", True), ("below 0", False))]
        signs = [(text, some) for text, some in signs if some.size]
        sizes = np.array([self.clusters.n_elements[some].sum() for _, some in signs], float)
        widths = np.maximum(sizes / sizes.sum(), _LEAST_SIDE)
        widths *= (1.0 - _GAP * (len(signs) - 1)) / widths.sum()
        slots: list[_Slot] = []
        sides, left = [], 0.0
        for width, (text, some) in zip(widths.tolist(), signs, strict=True):
            slots += self._split(some, left, width, -1)
            sides.append((left + width / 2, text))
            left += width + _GAP
        return slots, tuple(sides)

    def _row(self, k: int, cut: Ints, following: Ints | None, slots: list[_Slot]) -> list[_Slot]:
        """Place the pieces of a level; return the slots of the next."""
        parts: dict[int, list[int]] = {}
        if following is not None:
            heads = np.unique(following[following >= 0])
            for head, whole in zip(heads.tolist(), cut[heads].tolist(), strict=True):
                parts.setdefault(whole, []).append(head)
        rest: list[_Slot] = []
        for slot in slots:
            if slot.parent >= 0 and self.nodes[slot.parent] == slot.nodes:  # the same as below
                here = slot.parent
                self.pieces[here] = replace(self.pieces[here], n_levels=self.pieces[here].n_levels + 1)
            else:
                here = self._place(k, cut, slot)
            new = np.array([head for node in slot.nodes for head in parts.get(node, [])], np.int32)
            if len(slot.nodes) > 1 and new.size:  # what is too small stays in its strip
                rest.append(_Slot(tuple(new.tolist()), slot.left, slot.width, here))
            elif new.size:
                rest += self._split(new, slot.left, slot.width, here)
        return rest

    def _split(self, heads: Ints, left: float, width: float, parent: int) -> Iterator[_Slot]:
        """Share a width among clusters by their sizes, the largest first; those too small for it get one strip."""
        heads = heads[np.lexsort((heads, -self.clusters.n_elements[heads]))]
        shares = self.clusters.n_elements[heads] / self.clusters.n_elements[heads].sum()
        small = shares * width < _LEAST
        if np.count_nonzero(small) == 1:  # a strip of one would be that cluster
            small[:] = False
        groups = [(head,) for head in heads[~small].tolist()] + [tuple(heads[small].tolist())] * bool(small.any())
        given = np.append(shares[~small], [shares[small].sum()] * bool(small.any())) * width
        widths = np.maximum(given, min(_LEAST, width / len(groups)))
        widths *= width / widths.sum()
        for nodes, its in zip(groups, widths.tolist(), strict=True):
            yield _Slot(nodes, left, its, parent)
            left += its

    def _place(self, k: int, cut: Ints, slot: _Slot) -> int:
        """Add a piece; return its number."""
        inside, (node, *others) = np.flatnonzero(np.isin(cut, slot.nodes)), slot.nodes
        found = TrueDiscoveries(int(self.clusters.n_elements[node]), int(self.clusters.n_true[node]), self.bound.alpha)
        if others:
            together = self.bound.of(self.element[inside])
            assert isinstance(together, TrueDiscoveries)
            found = together
        peak = int(self.element[inside[np.argmax(self.height[inside])]])
        told, (mm, _, element) = self._in_words(k, found, len(slot.nodes), peak), leads(self.result, peak)
        at = float(self.height[inside].min())
        self.pieces.append(
            Piece(slot.left, slot.width, k, 1, slot.parent, found, len(slot.nodes), told, mm, element, at)
        )
        self.nodes.append(slot.nodes)
        return len(self.pieces) - 1

    def _in_words(self, k: int, found: TrueDiscoveries, n_clusters: int, peak: int) -> str:
        result, space = self.result, self.result.space
        what = f"{found.n_elements:,} {space.nouns if found.n_elements > 1 else space.noun}"
        if n_clusters > 1:
            what = f"{n_clusters:,} small clusters of {what} together"
        if space.is_volume:
            digits = decimals(space.volume.voxel_sizes)
            xyz = space.coordinates(np.array([peak]))[0].tolist()
            place = f"{', '.join(number(round(x, digits) + 0.0, digits) for x in xyz)} mm"
        else:
            place = str(space.places(np.array([peak]))[0])
        value = number(float(result.maps[result.drawn][peak]))
        at = f"z \u2265 {number(float(self.levels[k]))}"
        true = f"{found.n_true:,} of them ({100 * found.tdp:.0f} %) with an effect, at least"
        return f"{at}: {what}, {true}. Peak: {map_of(result.drawn).label} = {value} at {place}."


def _cut(tree: Tree, level: float) -> Ints:
    """(n_nodes,) the node that is each one's cluster at a level, the last that it holds; -1 of those below."""
    there = tree.height >= level
    joins = there & (tree.parent >= 0) & (tree.height[tree.parent] >= level)
    last = np.where(joins, tree.parent, np.arange(tree.parent.size, dtype=np.int32))
    while not np.array_equal(further := last[last], last):
        last = further
    return np.where(there, last, -1)


def _ticks(levels: Doubles) -> tuple[tuple[int, str], ...]:
    """Thresholds to write beside their rows: round ones, where there are some."""
    span, last = float(levels[-1] - levels[0]), levels.size - 1
    every = next((one for one in _STEPS if span / one <= _TICKS), np.inf)
    found: list[int] = np.flatnonzero(np.abs(levels / every - np.rint(levels / every)) < _ROUND).tolist()
    chosen = found if np.isfinite(every) and found else sorted({0, last})
    return tuple((k, f"{levels[k]:g}") for k in chosen)
