"""True discoveries: how many elements of a set have an effect, at least, for any set and after any look at the data.

One statement covers all sets at once: with probability 1 - alpha the bounds of *all* of them hold together. A set may
then be chosen for whatever reason, the bound itself among them, and none of it costs anything.

Every bound here has one form. There are increasing thresholds t_1 <= t_2 <= ..., and

    d(S) = max over k >= 1 of 1 - k + #{i in S: p_i below t_k}

elements of S are true discoveries. Once each element has its *level*, the first k whose threshold its p is below,
the bound of a set is that of its levels (`kernels.discoveries`). The thresholds come from one of two places.

*All-resolution inference* (`ari`): t_k = k alpha / h, with Hommel's h, the size of the largest set that Simes' test
does not reject. It needs p alone, and holds wherever Simes' inequality does (independence, positive dependence).

*Shufflings* (`calibrate`): t_k is a template of one parameter, and the parameter as large as the shufflings allow:
no more than alpha of them have their k-th smallest p below t_k for any k. It knows how the elements depend on one
another, so that it finds more where they do. It holds as far as shufflings are exchangeable.

References
----------
Goeman, Meijer, Krebs and Solari (2019), Simultaneous control of all false discovery proportions in large-scale
multiple hypothesis testing, Biometrika 106, 841-856.
Rosenblatt, Finos, Weeda, Solari and Goeman (2018), All-resolutions inference for brain imaging, NeuroImage 181,
786-796.
Blanchard, Neuvial and Roquain (2020), Post hoc confidence bounds on false positives using reference families, Annals
of Statistics 48, 1281-1303.
Andreella, Hemerik, Finos, Weeda and Goeman (2023), Permutation-based true discovery proportions for functional
magnetic resonance imaging cluster analysis, Statistics in Medicine 42, 2311-2340.
Blain, Thirion and Neuvial (2022), Notip: non-parametric true discovery proportion control for brain imaging,
NeuroImage 260, 119492.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from numbaglm.arrays import Doubles, Ints
from numbaglm.errors import InputError, InputTypeError, invalid, warn
from numbaglm.kernels.discoveries import (
    NEVER,
    Tree,
    bound_clusters,
    count_lower,
    largest_nodes,
    leave_out,
)
from numbaglm.stats.conventions import is_number, is_probability

Numbers = int | NDArray[np.integer[Any]]

_TIE = 1e-12
"""p that differ from a threshold by no more than this share count as equal to it, so that rounding decides nothing."""


@dataclass(frozen=True)
class TrueDiscoveries:
    """What is known of a set.

    Parameters
    ----------
    n_elements
        How many there are in the set.
    n_true
        How many of them have an effect, at least.
    alpha
        The chance that this, or the bound of any other set from the same source, is wrong.
    """

    n_elements: int
    n_true: int
    alpha: float

    @property
    def tdp(self) -> float:
        """True discovery proportion, at least; 0 for a set without elements."""
        return self.n_true / self.n_elements if self.n_elements else 0.0


@dataclass(frozen=True, eq=False)
class Bound:
    """Bounds the true discoveries of all sets of some elements at once.

    Parameters
    ----------
    level
        (n_elements,) int32: the first threshold that each element's p is below, counted from 1; the largest int32 where
        there is none.
    alpha
        The chance that any of the bounds is wrong.
    """

    level: Ints
    alpha: float

    def of(self, region: ArrayLike) -> TrueDiscoveries | dict[int, TrueDiscoveries]:
        """Bound one set, or many that don't overlap.

        Parameters
        ----------
        region
            A mask (n_elements,) of booleans; the numbers of the elements, each once; or labels (n_elements,) of
            integers, where 0 is outside all regions.

        Returns
        -------
        TrueDiscoveries or dict
            Of the set; of labels a dict with one for each label, in increasing order.

        Raises
        ------
        InputError
            If the region is none of these.
        """
        chosen, is_labels = _parse_region(region, self.level.size)
        if is_labels:
            return self.of_labels(chosen)
        levels = np.sort(self.level[chosen])
        return TrueDiscoveries(levels.size, _bound(levels[levels != NEVER]), self.alpha)

    def of_labels(self, labels: NDArray[np.integer[Any]]) -> dict[int, TrueDiscoveries]:
        """Bound the set of each label (n_elements,) other than 0."""
        return _bound_labels(labels, self.level, self.alpha)

    @cached_property
    def n_true(self) -> int:
        """True discoveries among all elements, at least. Of no set is more known."""
        return _bound(np.sort(self.level[self.level != NEVER]))

    def of_clusters(self, tree: Tree) -> ClusterBounds:
        """Bound all clusters at all thresholds.

        Parameters
        ----------
        tree
            From `kernels.discoveries.component_tree`, of a map of the same elements.
        """
        n_nodes = tree.parent.size
        size, found = np.empty(n_nodes, np.int32), np.empty(n_nodes, np.int32)
        best = np.empty(n_nodes)
        bound_clusters(tree.parent, tree.height, self.level[tree.element], size, found, best)
        return ClusterBounds(tree, size, found, best, self.level.size, self.alpha)


@dataclass(frozen=True, eq=False)
class DiscoveryMap:
    """The largest clusters with at least a stated share of true discoveries.

    Parameters
    ----------
    labels
        (n_elements,) int32: the number of each element's cluster, the largest first, from 1; 0 outside.
    clusters
        What is known of each, in that order.
    """

    labels: Ints
    clusters: tuple[TrueDiscoveries, ...]


@dataclass(frozen=True, eq=False)
class ClusterBounds:
    """True discoveries in all clusters of a map, at all thresholds.

    The cluster of a node holds the elements connected to the node's own at a threshold of just its value.

    Parameters
    ----------
    tree
        Of the map.
    n_elements
        (n_nodes,) int32, how many are in each cluster.
    n_true
        (n_nodes,) int32, how many of them have an effect, at least.
    best
        (n_nodes,) largest true discovery proportion of each cluster and those that it is part of.
    n_total
        Elements of the map.
    alpha
        The chance that any of the bounds is wrong.
    """

    tree: Tree
    n_elements: Ints
    n_true: Ints
    best: Doubles
    n_total: int
    alpha: float

    def best_tdp(self) -> Doubles:
        """(n_total,) largest true discovery proportion of any cluster that holds each element; 0 where none does."""
        found = np.zeros(self.n_total)
        found[self.tree.element] = self.best
        return found

    def largest(self, tdp: float) -> DiscoveryMap:
        """Find the clusters with at least this share of true discoveries that are part of no larger one.

        Each has a threshold of its own. Since all bounds hold together, so do those of the clusters found.

        Parameters
        ----------
        tdp
            Above 0, 1 at most.

        References
        ----------
        Chen, Goeman, Krebs, Meijer and Weeda (2023), Adaptive cluster thresholding with spatial activation guarantees
        using all-resolutions inference, arXiv:2206.13587.
        """
        if not (is_number(tdp) and 0 < tdp <= 1):
            raise InputError(invalid("tdp", tdp, "above 0, 1 at most"))
        chosen = np.empty(self.n_true.size, np.int32)
        largest_nodes(self.tree.parent, self.n_elements, self.n_true, tdp * (1 - _TIE), chosen)
        nodes, number = np.unique(chosen, return_inverse=True)
        order = np.lexsort((nodes, -self.n_elements[nodes] * (nodes >= 0)))  # those of no cluster, -1, come last
        place = np.empty(nodes.size, np.int32)
        place[order] = np.arange(1, nodes.size + 1)
        place[nodes < 0] = 0
        labels = np.zeros(self.n_total, np.int32)
        labels[self.tree.element] = place[number]
        found = [node for node in nodes[order].tolist() if node >= 0]
        n, true = self.n_elements, self.n_true
        return DiscoveryMap(labels, tuple(TrueDiscoveries(int(n[k]), int(true[k]), self.alpha) for k in found))


def true_discoveries(
    p: ArrayLike, region: ArrayLike, alpha: float = 0.05
) -> TrueDiscoveries | dict[int, TrueDiscoveries]:
    """Bound the true discoveries in a region by all-resolution inference.

    With probability 1 - alpha, at least `n_true` elements of the region have an effect, and as much is true of all
    regions that could have been asked about instead.

    Parameters
    ----------
    p
        (n_elements,) parametric p of all elements tested, finite, 0 to 1.
    region
        A mask, element numbers, or labels: see `Bound.of`.
    alpha
        Above 0, below 1.

    Returns
    -------
    TrueDiscoveries or dict
        Of the region; of labels a dict with one for each label other than 0.

    Raises
    ------
    InputError
        If p, region or alpha are not such.
    """
    return ari(p, alpha).of(region)


def hommel_value(p: ArrayLike, alpha: float = 0.05) -> int:
    """Size of the largest set of elements that Simes' test at alpha does not reject: Hommel's h.

    h is the largest i for which i p_(n - i + j) > j alpha, j = 1 ... i. So many elements have no effect, at most
    (1 - alpha). The elements with p <= alpha alone can make the inequality fail, so that no others are sorted.

    Parameters
    ----------
    p, alpha
        As for `true_discoveries`.

    References
    ----------
    Hommel (1988), A stagewise rejective multiple test procedure based on a modified Bonferroni test, Biometrika 75,
    383-386.
    """
    p, alpha = _parse_p(p), _parse_alpha(alpha) * (1 + _TIE)
    small = np.sort(p[p <= alpha])
    if small.size == p.size:
        return 0
    # Row r fails from i = alpha (n - r) / (alpha - p_(r)) on; division may round to a neighbour of the right i.
    above = p.size - np.arange(1, small.size + 1)
    rising = small < alpha
    limits = alpha * above[rising] / (alpha - small[rising])
    h = min(int(limits.min(initial=p.size)) + 1, p.size)
    while _simes_rejects_largest(h, small, above, alpha):
        h -= 1
    return h


def _simes_rejects_largest(size: int, small: Doubles, above: NDArray[np.int64], alpha: float) -> bool:
    """Whether Simes' test rejects the largest p, `size` of them; `above` of all p are larger than each small one."""
    first = int(np.searchsorted(-above, -size, side="right"))  # of the small that are among them: above < size
    return bool((size * small[first:] <= (size - above[first:]) * alpha).any())


def ari(p: ArrayLike, alpha: float = 0.05) -> Bound:
    """Bound the true discoveries of all sets by all-resolution inference.

    Parameters
    ----------
    p, alpha
        As for `true_discoveries`.

    References
    ----------
    Goeman et al. (2019); Rosenblatt et al. (2018): see the module.
    """
    p = _parse_p(p)
    h = hommel_value(p, alpha)
    k = np.maximum(np.ceil(h * p / (alpha * (1 + _TIE))), 1)
    return Bound(np.where(k <= p.size, k, NEVER).astype(np.int32), alpha)


class ThresholdTemplate(Protocol):
    """A sequence of thresholds for each value of one parameter, its level; they grow with it."""

    def level(self, p: Doubles, k: Numbers, n_elements: int) -> Doubles:
        """Largest level at which the k-th threshold is not above p; the inverse of `thresholds`.

        Parameters
        ----------
        p
            Any shape.
        k
            From 1; one for all, or for each.
        n_elements
            Of the map.
        """
        ...

    def thresholds(self, level: float, n_thresholds: int, n_elements: int) -> Doubles:
        """(n_thresholds,) increasing thresholds."""
        ...


@dataclass(frozen=True)
class Simes:
    """t_k = level (k - shift) / (n - shift), a line; 0 for k <= shift.

    Parameters
    ----------
    shift
        0 is Simes' own. A larger one gives up sets with fewer true discoveries than that, and finds more in large ones.

    References
    ----------
    Andreella et al. (2023), whose delta is the shift: see the module.
    """

    shift: int = 0

    def level(self, p: Doubles, k: Numbers, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        beyond = np.maximum(k - self.shift, 0)
        return np.where(beyond > 0, p * ((n_elements - self.shift) / np.maximum(beyond, 1)), np.inf)

    def thresholds(self, level: float, n_thresholds: int, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        k = np.arange(1, n_thresholds + 1)
        return np.asarray(level * np.maximum(k - self.shift, 0) / (n_elements - self.shift), dtype=np.float64)


@dataclass(frozen=True)
class Beta:
    """t_k is the quantile at the level of the k-th smallest of n independent uniform p: every k errs alike."""

    def level(self, p: Doubles, k: Numbers, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        return np.asarray(special.betainc(k, n_elements + 1 - k, p), dtype=np.float64)

    def thresholds(self, level: float, n_thresholds: int, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        k = np.arange(1, n_thresholds + 1)
        return np.asarray(special.betaincinv(k, n_elements + 1 - k, level), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Learned:
    """t_k is a quantile of the k-th smallest p of training shufflings.

    The level is the number of that quantile, from 0; between two of them, a share of the way. From 0 at level -1 the
    thresholds rise to the lowest quantile in the same way, so that few training shufflings find less and err no more.

    Parameters
    ----------
    curves
        (n_thresholds, n_training) increasing along rows: the k-th smallest p of all training shufflings. From `learn`.

    References
    ----------
    Blain, Thirion and Neuvial (2022): see the module.
    """

    curves: Doubles

    @staticmethod
    def learn(sorted_p: ArrayLike) -> Learned:
        """Learn from shufflings that are not those of the calibration.

        Parameters
        ----------
        sorted_p
            (n_training, n_thresholds), the smallest p of each, increasing along rows; or those of another study.
        """
        return Learned(np.sort(np.ascontiguousarray(_parse_sorted_p(sorted_p).T), axis=1))

    def level(self, p: Doubles, k: Numbers, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        p, k = np.broadcast_arrays(p, k)
        n, which, lower = self.curves.shape[1], k.astype(np.int64) - 1, np.empty(p.shape, np.int64)
        count_lower(self.curves, which.reshape(-1), np.ascontiguousarray(p).reshape(-1), lower.reshape(-1))
        below = np.where(lower > 0, self.curves[which, np.maximum(lower - 1, 0)], 0.0)
        above = np.where(lower < n, self.curves[which, np.minimum(lower, n - 1)], np.inf)
        return np.asarray(lower - 1 + (p - below) / (above - below), dtype=np.float64)  # past the last no share is made

    def thresholds(self, level: float, n_thresholds: int, n_elements: int) -> Doubles:
        """See `ThresholdTemplate`."""
        number = int(np.floor(level))
        lower = self.curves[:, number] if number >= 0 else np.zeros(n_thresholds)
        upper = self.curves[:, min(number + 1, self.curves.shape[1] - 1)]
        return np.asarray(lower + (level - number) * (upper - lower), dtype=np.float64)


ARI = "ari"
"""What bounds by parametric p alone are called beside the templates."""

TEMPLATES: dict[str, ThresholdTemplate] = {"simes": Simes(), "beta": Beta()}
"""Templates that need no choice. `Simes` takes a shift; `Learned.learn` makes one of training shufflings."""

SHIFT = 27
"""Of "shifted" where no number is named: a voxel and all that touch it, as pARI has it."""

_STEPS = "-step-down"
NAMES = (*TEMPLATES, "shifted", "learned", *(f"{name}{_STEPS}" for name in (*TEMPLATES, "learned")))
"""Of the ways to calibrate; "shifted-100" shifts by another number than `SHIFT`."""


@dataclass(frozen=True)
class Way:
    """A way to calibrate.

    Attributes
    ----------
    template
        None for one that is learned.
    steps_down
        Whether elements that are found one by one are left out of the shufflings, in rounds.
    """

    template: ThresholdTemplate | None
    steps_down: bool = False

    @classmethod
    def parse(cls, name: str) -> Way | None:
        """Read a name, see `NAMES`; None if it is none."""
        if shifted := re.fullmatch("shifted(?:-([1-9][0-9]{0,8}))?", name):
            return cls(Simes(int(shifted[1] or SHIFT)))
        bare = name.removesuffix(_STEPS)
        return cls(TEMPLATES.get(bare), bare != name) if bare in (*TEMPLATES, "learned") else None

    @property
    def name(self) -> str:
        """Its name, with the shift."""
        return name_of(self.template, self.steps_down)

    @property
    def shift(self) -> int:
        """Of the template: as many true discoveries are never told of."""
        return self.template.shift if isinstance(self.template, Simes) else 0

    @property
    def words(self) -> str:
        """What it is, for a sentence."""
        which = {"simes": "Simes", "beta": "beta"}.get(self.name.removesuffix(_STEPS), "learned from other shufflings")
        which = f"Simes shifted by {self.shift}" if self.shift else which
        return f"a template, {which}, calibrated by shufflings{', stepping down' * self.steps_down}"


def name_of(template: ThresholdTemplate | None, steps_down: bool) -> str:
    """Name of a way to calibrate; None is a template that is learned."""
    if isinstance(template, Simes) and template.shift:
        return f"shifted-{template.shift}"
    name = next((name for name, one in TEMPLATES.items() if one == template), "learned")
    return name + _STEPS * steps_down


def _exact(levels: Doubles, alpha: float) -> float:
    """Largest level that no more than alpha of the shufflings miss, the observed map among them."""
    return float(np.sort(levels)[_n_missing(levels.size, alpha)])


def _pari(levels: Doubles, alpha: float) -> float:
    return float(np.sort(levels)[int(np.floor(alpha * levels.size))])


def _sanssouci(levels: Doubles, alpha: float) -> float:
    return float(np.quantile(levels[1:], alpha))


def _n_missing(n_shufflings: int, alpha: float) -> int:
    return int(np.floor(alpha * n_shufflings * (1 + _TIE)))


RULES: dict[str, Callable[[Doubles, float], float]] = {
    "exact": _exact,
    "pari": _pari,
    "sanssouci": _sanssouci,
    "notip": _sanssouci,
}
"""How a level is chosen from those that the shufflings reach.

"exact": of n shufflings, the observed map among them, the (floor(alpha n) + 1)-th smallest, so that no more than alpha
of them err. The others are there to compare: "pari" is the same without a guard against rounding (0.29 of 100
shufflings are 28 to it); "sanssouci" leaves the observed map out and interpolates, as `numpy.quantile` does; "notip"
does so too, and looks for the curve of a `Learned` template by halving, with a calibrated line in its place where no
curve will do.
"""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Thresholds that shufflings allow.

    Parameters
    ----------
    thresholds
        (n_thresholds,), increasing.
    template
        Whose they are.
    level
        The template's parameter.
    n_elements
        Of each map.
    alpha
        The chance that any bound is wrong.
    n_shufflings
        The observed map among them.
    n_left_out
        Elements that stepping down took out of the shufflings, as they are true discoveries one by one.
    steps_down
        Whether it did.
    n_together
        Maps whose bounds hold together.
    tie
        p that are below a threshold by no more than this share are not below it.
    """

    thresholds: Doubles
    template: ThresholdTemplate
    level: float
    n_elements: int
    alpha: float
    n_shufflings: int
    n_left_out: int
    steps_down: bool = False
    n_together: int = 1
    tie: float = _TIE

    @property
    def name(self) -> str:
        """Of the way it was calibrated."""
        return name_of(self.template, self.steps_down)

    def bound(self, p: ArrayLike) -> Bound:
        """Bound the true discoveries of all sets.

        Parameters
        ----------
        p
            (n_elements,) of the observed map, made as those of the shufflings were.
        """
        p = _parse_p(p)
        if p.size != self.n_elements:
            raise InputError(invalid("p", f"{p.size} of them", f"one for each of the {self.n_elements} elements"))
        k = np.searchsorted(self.thresholds * (1 - self.tie), p, side="right")
        return Bound(np.where(k < self.thresholds.size, k + 1, NEVER).astype(np.int32), self.alpha)


def calibrate(
    sorted_p: ArrayLike,
    n_elements: int,
    template: str | ThresholdTemplate = "simes",
    alpha: float = 0.05,
    *,
    elements: ArrayLike | None = None,
    rule: str = "exact",
) -> Calibration:
    """Find the thresholds of a template that shufflings allow.

    The level of a shuffling is the largest parameter of the template at which none of its sorted p is below its
    threshold. The parameter chosen is that which no more than alpha of the shufflings, the observed map among them,
    have a level below. With probability 1 - alpha then no k of the elements without effect have p below t_k, whatever
    k, so that at most k - 1 of the elements below t_k are false discoveries, in any set.

    Parameters
    ----------
    sorted_p
        (n_shufflings, n_thresholds) the smallest p of each shuffling, increasing along rows. The first row is the
        observed map's. The p may be parametric: what they are worth is what is calibrated. As many thresholds are made
        as p are given of each; 1,000 are enough for a map of a brain.
    n_elements
        Of each map.
    template
        "simes", "beta"; `Simes` with a shift; `Learned.learn(...)` of other shufflings.
    alpha
        Above 0, below 1; at least one of the shufflings.
    elements
        (n_shufflings, n_thresholds) integers, the element that each p is of; n_elements for a p that is of none, and
        fills a list up. With them the calibration steps down: elements below the first threshold have an effect, and
        are left out of all shufflings in another round, until no more are found. The thresholds can only grow. A
        shifted template finds no such elements.
    rule
        "exact"; "pari", "sanssouci" or "notip" to find what these find (see `RULES`).

    Raises
    ------
    InputError
        If p are not such, or if there are too few shufflings to err in one of them.

    References
    ----------
    Blanchard, Neuvial and Roquain (2020), with its step-down; Andreella et al. (2023): see the module.
    """
    return calibrate_together([Lists(sorted_p, template, elements)], n_elements, alpha, rule=rule)[0]


@dataclass(frozen=True, eq=False)
class Lists:
    """The smallest p of the shufflings of a map, and what is to be calibrated by them; see `calibrate`."""

    sorted_p: ArrayLike
    template: str | ThresholdTemplate = "simes"
    elements: ArrayLike | None = None


def calibrate_together(
    maps: Sequence[Lists], n_elements: int, alpha: float = 0.05, *, rule: str = "exact", tie: float = _TIE
) -> list[Calibration]:
    """Find thresholds for several maps whose bounds hold together: with probability 1 - alpha those of all sets of all.

    The level of a shuffling is the least of those of its maps, so that all have one level.

    Parameters
    ----------
    maps
        Of the same shufflings, in one order: those of several contrasts, say.
    n_elements, alpha, rule
        As for `calibrate`.
    tie
        To what share of them p are known: those of the map that thresholds are held against may differ by as much from
        those of the same shuffling in its list.

    Raises
    ------
    InputError
        As `calibrate`; or if the maps are of different shufflings.
    """
    alpha = _parse_alpha(alpha)
    parsed = [_Parsed.parse(one, n_elements, alpha, rule) for one in maps]
    if len({len(one.p) for one in parsed}) != 1:
        received = ", ".join(str(len(one.p)) for one in parsed) or "none"
        raise InputError(invalid("maps", f"{received} shufflings", "as many of each, the same"))
    n_out = -1
    while True:
        templates, level, thresholds = _choose(parsed, n_elements, alpha, rule)
        for one, its in zip(parsed, thresholds, strict=True):
            one.find(its[0] * (1 - tie))
        if n_out == (n_out := sum(one.n_out for one in parsed)):
            break
        for one in parsed:
            one.leave_out(n_elements)
    return [
        Calibration(
            its, template, level, n_elements, alpha, len(one.p), one.n_out, one.whose is not None, len(parsed), tie
        )
        for one, template, its in zip(parsed, templates, thresholds, strict=True)
    ]


@dataclass(eq=False)
class _Parsed:
    """Lists of a map on their way: ``left`` are the p of elements that are not ``out``, (n_elements + 1,)."""

    p: Doubles
    template: ThresholdTemplate
    whose: Ints | None
    left: Doubles
    out: NDArray[np.bool_]

    @classmethod
    def parse(cls, given: Lists, n_elements: int, alpha: float, rule: str) -> _Parsed:
        """Check what a caller gave."""
        p = _parse_sorted_p(given.sorted_p)
        template = _parse_template(given.template, p.shape[1])
        _check(p, n_elements, alpha, rule)
        whose = None if given.elements is None else _parse_elements(given.elements, p.shape, n_elements)
        return cls(p, template, whose, p, np.zeros(n_elements + 1, np.bool_))

    @property
    def n_out(self) -> int:
        """How many are out."""
        return int(self.out.sum())

    def find(self, least: float) -> None:
        """Take out what is below the first threshold."""
        if self.whose is not None:
            self.out[self.whose[0][self.p[0] < least]] = True
            self.out[-1] = False

    def leave_out(self, n_elements: int) -> None:
        """Leave out what is out of all shufflings."""
        if self.whose is not None:
            # What lies beyond a list is no smaller than its last; beyond one of all elements there is nothing.
            self.left = np.empty(self.p.shape)
            leave_out(self.p, self.whose, self.out, 1.0 if self.p.shape[1] == n_elements else 0.0, self.left)


def _check(p: Doubles, n_elements: int, alpha: float, rule: str) -> None:
    if rule not in RULES:
        raise InputError(invalid("rule", rule, ", ".join(RULES)))
    if not isinstance(n_elements, int | np.integer) or n_elements < p.shape[1]:
        raise InputError(invalid("n_elements", n_elements, f"an integer, at least the {p.shape[1]} of each shuffling"))
    if _n_missing(p.shape[0], alpha) < 1:
        received = f"{p.shape[0]} shufflings at alpha = {alpha:g}"
        raise InputError(
            invalid("sorted_p", received, f"at least {int(np.ceil(1 / alpha))} shufflings, or a larger alpha")
        )


def _choose(
    maps: Sequence[_Parsed], n_elements: int, alpha: float, rule: str
) -> tuple[list[ThresholdTemplate], float, list[Doubles]]:
    """The templates, their level, and the thresholds of each map."""
    n_shufflings = len(maps[0].p)
    n_least = min(
        _n_missing(n_shufflings, alpha) + 3, n_shufflings
    )  # one more for a quantile between two, one for the first
    # What is among the least of all maps is among those of its own, where levels are exact.
    levels = np.min([least_levels(one.template, one.left, n_elements, n_least) for one in maps], axis=0)
    templates = [one.template for one in maps]
    if rule == "notip" and isinstance(templates[0], Learned):
        level = _halve(levels[1:], alpha, templates[0].curves.shape[1])
        if level < 0:
            warn("No curve of the learned template keeps alpha: a line (Simes) is calibrated instead, as notip does.")
            return _choose([replace(one, template=Simes()) for one in maps], n_elements, alpha, "sanssouci")
    else:
        level = RULES[rule](levels, alpha)
    sizes = [one.p.shape[1] for one in maps]
    return templates, level, [t.thresholds(level, n, n_elements) for t, n in zip(templates, sizes, strict=True)]


def least_levels(template: ThresholdTemplate, sorted_p: Doubles, n_elements: int, n_least: int) -> Doubles:
    """Level of each shuffling, the least of its p's, as far as it can be among the smallest.

    A few k bound all levels from above, and with them the largest level that is needed. Only p below its thresholds can
    make a level smaller that matters: a few in a hundred.

    Parameters
    ----------
    sorted_p
        (n_shufflings, n_thresholds), increasing along rows.
    n_least
        So many of the smallest levels are exact; the others may be larger than they are, infinite even.
    """
    n_thresholds = sorted_p.shape[1]
    few = np.unique(np.geomspace(1, n_thresholds, _N_FEW).astype(np.int64))
    levels = np.full(len(sorted_p), np.inf)
    # The others of a column are above as many as are needed.
    rows = np.argpartition(sorted_p[:, few - 1], n_least - 1, axis=0)[:n_least]
    np.minimum.at(levels, rows, template.level(sorted_p[rows, few - 1], few, n_elements))
    needed = float(np.partition(levels, n_least - 1)[n_least - 1])
    below = sorted_p < template.thresholds(needed, n_thresholds, n_elements) * (1 + _ROUNDING)
    place = np.flatnonzero(below)
    rows, column = np.divmod(place, n_thresholds)
    np.minimum.at(levels, rows, template.level(sorted_p.ravel()[place], column + 1, n_elements))
    return levels


_N_FEW = 20
_ROUNDING = 1e-6  # of a template's inverse, by a wide margin: it costs a few evaluations


def _halve(levels: Doubles, alpha: float, n_curves: int) -> float:
    """Look for a curve as notip does: below alpha, or the first met at alpha; -1 if the lowest is not below."""

    def excess(curve: int) -> float:
        return float(np.sum(levels < curve) / levels.size - alpha)

    low, high = 0, n_curves - 1
    if excess(high) <= 0:
        return high
    if excess(low) >= 0:
        return -1
    while high - low > 1:
        middle = (high + low) // 2
        above = excess(middle)
        if above == 0:
            return middle
        low, high = (low, middle) if above > 0 else (middle, high)
    return low


def _bound(levels: Ints) -> int:
    """Bound a set by its levels in increasing order, those that no threshold reaches left out."""
    return int((np.arange(2, levels.size + 2) - levels).max(initial=0))


def _bound_labels(label: NDArray[np.integer[Any]], level: Ints, alpha: float) -> dict[int, TrueDiscoveries]:
    inside = np.flatnonzero(label)
    names, number, sizes = np.unique(label[inside], return_inverse=True, return_counts=True)
    jobs = level[inside] != NEVER
    levels, number = level[inside][jobs], number[jobs]
    order = np.lexsort((levels, number))
    ends = np.searchsorted(number[order], np.arange(names.size + 1))
    return {
        int(name): TrueDiscoveries(int(size), _bound(levels[order[begin:end]]), alpha)
        for name, size, begin, end in zip(names, sizes, ends[:-1], ends[1:], strict=True)
    }


def _parse_p(p: ArrayLike) -> Doubles:
    array = _floats("p", p)
    if array.ndim != 1 or array.size == 0:
        raise InputError(invalid("p", f"an array of shape {array.shape}", "one dimension, a p for each element"))
    _check_range("p", array)
    return array


def _parse_sorted_p(sorted_p: ArrayLike) -> Doubles:
    array = _floats("sorted_p", sorted_p)
    if array.ndim != 2 or array.size == 0:
        raise InputError(invalid("sorted_p", f"an array of shape {array.shape}", "(n_shufflings, n_thresholds)"))
    ends = array[:, [0, -1]]
    if not ((array[:, 1:] >= array[:, :-1]).all() and (ends >= 0).all() and (ends <= 1).all()):
        _check_range("sorted_p", array)
        falls = array[:, 1:] < array[:, :-1]
        row, k = divmod(int(falls.argmax()), falls.shape[1])
        received = f"{array[row, k]:g} before {array[row, k + 1]:g} in row {row}"
        raise InputError(invalid("sorted_p", received, "p that increase along rows", "Sort each row."))
    return array


def _floats(name: str, values: ArrayLike) -> Doubles:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise InputTypeError(invalid(name, f"an array of {array.dtype}", "numbers"))
    return np.ascontiguousarray(array, dtype=np.float64)


def _check_range(name: str, p: Doubles) -> None:
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), p.shape)
        where = ", ".join(str(int(k)) for k in first)
        fix = "Leave elements that were not tested out." if np.isnan(p[first]) else ""
        raise InputError(invalid(name, f"{p[first]:g} at [{where}]", "finite p, 0 to 1", fix))


def _parse_alpha(alpha: float) -> float:
    if not is_probability(alpha):
        raise InputError(invalid("alpha", alpha, "above 0, below 1"))
    return alpha


def _parse_template(template: str | ThresholdTemplate, n_thresholds: int) -> ThresholdTemplate:
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise InputError(invalid("template", template, f"{', '.join(TEMPLATES)}, or a template"))
        template = TEMPLATES[template]
    if isinstance(template, Simes) and not 0 <= template.shift < n_thresholds:
        raise InputError(invalid("shift", template.shift, f"0 or more, below the number of thresholds, {n_thresholds}"))
    if isinstance(template, Learned) and template.curves.shape[0] != n_thresholds:
        allowed = f"{template.curves.shape[0]}, as many as the template was learned from"
        raise InputError(invalid("sorted_p", f"{n_thresholds} p of each shuffling", allowed))
    return template


def _parse_elements(elements: ArrayLike, shape: tuple[int, ...], n_elements: int) -> Ints:
    array = np.asarray(elements)
    if array.shape != shape or array.dtype.kind not in "iu":
        received = f"{array.dtype} of shape {array.shape}"
        raise InputError(invalid("elements", received, f"integers of shape {shape}, as sorted_p has it"))
    _check_numbers("elements", array, n_elements + 1)
    return np.ascontiguousarray(array, dtype=np.int32)


def _check_numbers(name: str, numbers: NDArray[Any], n_elements: int) -> None:
    outside = (numbers < 0) | (numbers >= n_elements)
    if outside.any():
        raise InputError(invalid(name, int(numbers[outside][0]), f"numbers of elements, 0 to {n_elements - 1}"))


def _parse_region(region: ArrayLike, n_elements: int) -> tuple[NDArray[Any], bool]:
    """A mask, numbers of elements, or labels; and whether it is labels."""
    array = np.asarray(region)
    if array.ndim != 1 or (array.dtype.kind not in "biu" and array.size > 0):
        received = f"{array.dtype} of shape {array.shape}"
        allowed = "booleans or integers in one dimension: a mask, numbers of elements, or labels"
        raise InputError(invalid("region", received, allowed))
    if array.dtype.kind == "b":
        if array.size != n_elements:
            raise InputError(invalid("region", f"a mask of {array.size}", f"one of the {n_elements} elements"))
        return array, False
    array = array.astype(np.int64)
    distinct = np.count_nonzero(array == 0) < 2 and np.unique(array).size == array.size
    if array.size == n_elements and not distinct:
        return array, True
    if array.size == n_elements:
        received = f"{array.size} different integers for {n_elements} elements"
        fix = "If they are all elements, give a mask of True."
        raise InputError(invalid("region", received, "labels, of which some are equal, or numbers of elements", fix))
    _check_numbers("region", array, n_elements)
    if not distinct:
        raise InputError(invalid("region", "a number more than once", "each element once"))
    return array, False
