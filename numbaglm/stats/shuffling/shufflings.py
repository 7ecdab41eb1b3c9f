"""Which shufflings are allowed, how many are distinct, and shuffling i as a function of (seed, i).

A shuffling is a signed permutation P: (P E)[r] = sign[r] * E[index[r]]. The permuted statistic sees X' P E,
so that two permutations are distinct if they arrange the rows of X differently over the data, A = P' X; each
comes with each distinct sign flip. Of the permutations that give one arrangement, the one that keeps subjects
with equal rows of X in order stands for all.

The identity is number 0. Where there are fewer than 2**62 distinct shufflings they are ranked, and a keyed
bijection of the ranks draws them without repetition (a random subset of the group with the identity added
gives a valid test: Hemerik & Goeman 2018). Where there are more, each is drawn by itself, uniformly over the
group: n_perm of them hold a repeated one with a probability below n_perm**2 / 2**63 (1e-11 for 10,000, 1e-7
for a million).

References
----------
Winkler et al. (2014), Permutation inference for the general linear model, NeuroImage 92:381-397.
Winkler et al. (2015), Multi-level block permutation, NeuroImage 123:253-268.
Hemerik & Goeman (2018), Exact testing with random permutations, TEST 27:811-825.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import log10, prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbaglm.errors import InputError, ShufflingError, invalid, term
from numbaglm.kernels.panels.arrangements import enumerate_arrangements
from numbaglm.stats.shuffling.blocks import parse_blocks
from numbaglm.stats.shuffling.draws import KEY_DIGITS, keyed_bijection, random_digits, shuffle_siblings
from numbaglm.stats.shuffling.trees import BlockTree, Choice, arrange, choices, flip_units, free_tree, orbits, place

ERRORS = {
    "ee": "permutations (exchangeable errors)",
    "ise": "sign flips (independent and symmetric errors)",
    "both": "permutations with sign flips (exchangeable, independent and symmetric errors)",
}

_OF_BLOCKS = {
    "within": " within the exchangeability blocks",
    "whole": " of whole exchangeability blocks",
    "both": " of whole exchangeability blocks and within them",
    "tree": " along the tree of exchangeability blocks",
}

FLIPS, PERMUTATIONS = term("errors='ise'"), term("errors='ee'")
"""How messages call what is assumed of the errors."""

# Ranks up to here leave room for sums of two in int64.
_RANKABLE = 2**62
# Rows of X are equal to within what a matrix product may round differently from one row to the next.
_EQUAL = 1e-13


@dataclass(frozen=True, eq=False)
class Shufflings:
    """The shufflings of a test: immutable, small, picklable; workers draw from it.

    Parameters
    ----------
    n_subjects
        Number of subjects.
    errors
        What is assumed of the errors, so what a shuffling is: "ee" permutations, "ise" sign flips, "both".
    n_distinct
        Distinct shufflings there are, the identity among them, exactly.
    n_shufflings
        How many are used, the identity (number 0) among them.
    exhaustive
        Whether these are all the distinct ones.
    seed
        What the random ones are drawn with.
    reason
        One sentence: why these errors, how many distinct shufflings, whether enumerated or sampled.
    """

    n_subjects: int
    errors: str
    n_distinct: int = field(repr=False)  # see n_distinct_text
    n_shufflings: int
    exhaustive: bool
    seed: int
    reason: str
    _tree: BlockTree = field(repr=False)
    _choices: tuple[Choice, ...] = field(repr=False)
    _flip_unit: NDArray[np.int32] | None = field(repr=False)
    _row_class: tuple[int, ...] | None = field(repr=False, default=None)
    _n_skipped: int = field(repr=False, default=0)

    @property
    def sampled(self) -> bool:
        """Whether they are random, so that the first of them are a sample as well."""
        return not self.exhaustive

    def part(self, first: int, last: int) -> Shufflings:
        """Return the identity and the random shufflings number ``first`` to ``last`` - 1, first above 0."""
        assert not self.exhaustive
        assert 0 < first < last <= self.n_shufflings
        return replace(self, n_shufflings=1 + last - first, _n_skipped=first - 1)

    def draw(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Make shufflings number `start` to `stop` - 1.

        Parameters
        ----------
        start, stop
            0 <= start <= stop <= n_shufflings. Any two ranges agree where they overlap.

        Returns
        -------
        index
            Subject whose data each row takes (stop - start, n_subjects).
        sign
            1 or -1, what it is multiplied with (stop - start, n_subjects): shuffling i maps data E to
            (P_i E)[r] = sign[i, r] * E[index[i, r]].

        Raises
        ------
        InputError
            The range is not within the shufflings.
        """
        if not 0 <= start <= stop <= self.n_shufflings:
            allowed = f"0 <= start <= stop <= {self.n_shufflings}"
            raise InputError(invalid("start, stop", (start, stop), allowed))
        if self._n_skipped == 0:
            return self._draw(start, stop)
        later = self._draw(max(start, 1) + self._n_skipped, max(stop, 1) + self._n_skipped)
        if start > 0 or stop == 0:
            return later
        first = self._draw(0, 1)
        return np.concatenate([first[0], later[0]]), np.concatenate([first[1], later[1]])

    def _draw(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        if self._row_class is not None:
            index = _all_permutations(self._row_class, self.n_shufflings)[start:stop]
            return index, np.ones(index.shape, np.int8)
        if self.n_distinct < _RANKABLE:
            ranks = np.arange(start, stop, dtype=np.int64)
            if not self.exhaustive:
                random = ranks > 0
                ranks[random] = 1 + keyed_bijection(ranks[random] - 1, self.n_distinct - 1, self.seed)
            return self._unrank(ranks)
        index = np.empty((stop - start, self.n_subjects), np.int32)
        sign = np.empty(index.shape, np.int8)
        # Few enough at a time to stay in cache: four times as fast for 40,000 subjects.
        step = max(1, 2**16 // self.n_subjects)
        for first in range(start, stop, step):
            rows = slice(first - start, first - start + step)
            index[rows], sign[rows] = self._random(first, min(first + step, stop))
        return index, sign

    def orbits(self) -> NDArray[np.intp]:
        """Find which subjects permutations exchange: these share a number (n_subjects,).

        What is constant on these (the intercept, under within-block permutations each block's mean) is the
        same after every permutation. Under sign flips alone every subject stays by itself.
        """
        return np.arange(self.n_subjects) if self.errors == "ise" else orbits(self._tree)

    @property
    def n_distinct_text(self) -> str:
        """`n_distinct` for people and files: it may have more digits than Python agrees to print."""
        return _count(self.n_distinct)

    def flip_units(self) -> NDArray[np.intp]:
        """Find which subjects change sign together: these share a number (n_subjects,) from 0; -1 for never."""
        if self._flip_unit is None:
            return np.full(self.n_subjects, -1)
        return self._flip_unit.astype(np.intp)

    @property
    def _n_flips(self) -> int:
        """Number of units that change sign on their own."""
        return 0 if self._flip_unit is None else int(self._flip_unit.max()) + 1

    def _unrank(self, ranks: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Make the shufflings of these ranks; flips are the low bits, then one digit a choice."""
        n_flips = self._n_flips
        sign = self._signs((ranks[:, None] >> np.arange(n_flips)) & 1)
        digits = ranks >> n_flips
        slots: list[NDArray[np.int32] | None] = [None] * len(self._tree.levels)
        for choice in self._choices:
            digits, digit = np.divmod(digits, choice.n_arrangements)
            slot = slots[choice.level]
            if slot is None:
                n_nodes = len(self._tree.levels[choice.level].parent)
                slot = np.tile(np.arange(n_nodes, dtype=np.int32), (len(ranks), 1))
                slots[choice.level] = slot
            stop = choice.start + len(choice.classes)
            slot[:, choice.start : stop] = choice.start + arrange(choice, digit)
        return place(self._tree, slots, len(ranks)), sign

    def _random(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
        """Draw shufflings uniformly over the whole group, each from random digits of its own."""
        levels = self._tree.levels if self.errors != "ise" else ()
        movable = [np.flatnonzero(level.shuffled) for level in levels]
        used = -(-self._n_flips // 16)
        digits = random_digits(self.seed, start, stop, used + KEY_DIGITS * sum(map(len, movable)))
        flips = np.ascontiguousarray(digits[:, :used].astype("<u2")).view(np.uint8)
        sign = self._signs(np.unpackbits(flips, axis=1, bitorder="little"))
        slots: list[NDArray[np.int32] | None] = [None] * len(self._tree.levels)
        for depth, nodes in enumerate(movable):
            if len(nodes):
                keys = digits[:, used : used + KEY_DIGITS * len(nodes)]
                slots[depth] = shuffle_siblings(levels[depth].parent, nodes, keys)
                used += keys.shape[1]
        index = place(self._tree, slots, stop - start)
        if start == 0:
            index[0], sign[0] = np.arange(self.n_subjects), 1
        return index, sign

    def _signs(self, bits: NDArray[np.integer]) -> NDArray[np.int8]:
        """Signs of the subjects (m, n_subjects) from the bits of the flip units (m, at least n_flips)."""
        if self._flip_unit is None:
            return np.ones((len(bits), self.n_subjects), np.int8)
        of_unit = np.ones((len(bits), self._n_flips + 1), np.int8)  # the last column: those that never flip
        of_unit[:, :-1] -= 2 * bits[:, : self._n_flips].astype(np.int8)
        return of_unit[:, self._flip_unit]


def plan_shufflings(
    n_subjects: int,
    n_perm: int,
    seed: int,
    *,
    design_rows: ArrayLike,
    errors: str | None = None,
    rule: str | None = None,
    blocks: ArrayLike | None = None,
    block_scheme: str = "within",
    why: str = "as asked for",
) -> Shufflings:
    """Decide which shufflings a test uses.

    Parameters
    ----------
    n_subjects
        Number of subjects.
    n_perm
        Random shufflings beside the observed data. When the distinct ones, identity included, are no more
        than n_perm + 1, all of them are used instead. 0 uses the identity alone.
    seed
        Whole number >= 0.
    design_rows
        The tested regressors X (n_subjects, n_tested): the columns with contrast weight.
    errors
        "ee" for permutations, "ise" for sign flips, "both"; None leaves it to the rule.
    rule
        What the rule for errors says ("ise" tests a mean). By default "ise" where all rows of `design_rows` are equal,
        as no permutation could change the statistic then, else "ee".
    blocks, block_scheme
        Exchangeability blocks, see `numbaglm.stats.shuffling.blocks.parse_blocks`. Those that change sign alone may
        be of any size.
    why
        What asks for ``errors`` where they are given.

    Returns
    -------
    Shufflings
        Which to use, how many, and why.

    Raises
    ------
    ShufflingError
        A parameter is not allowed, the blocks make no tree, or they leave no shuffling but the identity.

    References
    ----------
    Winkler et al. (2014), NeuroImage 92:381-397; Winkler et al. (2015), NeuroImage 123:253-268.
    """
    n_perm, seed = _whole_number("n_perm", n_perm), _whole_number("seed", seed)
    row_class = equal_rows(design_rows, n_subjects)
    if errors is None:
        errors = rule or ("ee" if row_class.any() else "ise")
        why = f"since the contrast tests {'a mean' if errors == 'ise' else 'differences between subjects'}"
    elif errors not in tuple(ERRORS):
        raise ShufflingError(invalid("errors", errors, "None, " + ", ".join(map(repr, ERRORS))))
    if blocks is None and block_scheme != "within":
        allowed = "'within', the default, where there are no exchangeability blocks"
        raise ShufflingError(invalid("block_scheme", block_scheme, allowed, f"Give {term('exchangeability_blocks')}."))
    tree = free_tree(n_subjects)
    if blocks is not None:
        tree = parse_blocks(blocks, block_scheme, n_subjects, change_places=errors != "ise")

    found = choices(tree, row_class) if errors != "ise" else []
    flip_unit = flip_units(tree) if errors != "ee" else None
    n_flips = 0 if flip_unit is None else int(flip_unit.max()) + 1
    n_distinct = prod(choice.n_arrangements for choice in found) << n_flips
    if n_distinct == 1 and n_perm > 0:
        raise ShufflingError(_nothing_to_shuffle(errors, blocks is not None, not row_class.any()))
    exhaustive = n_distinct <= n_perm + 1
    n_shufflings = n_distinct if exhaustive else n_perm + 1
    random = f"{n_perm} random one{'s' if n_perm > 1 else ''} of {_count(n_distinct)}"
    used = f"{f'all {n_distinct}' if exhaustive else random} distinct shufflings" if n_perm else "none was asked for"
    reason = f"Shuffling by {ERRORS[errors]}{of_blocks(blocks, block_scheme, n_subjects)}, {why}: {used}."
    return Shufflings(
        n_subjects,
        errors,
        n_distinct,
        n_shufflings,
        exhaustive,
        seed,
        reason,
        tree,
        tuple(found) if n_distinct < _RANKABLE else (),
        flip_unit,
        tuple(row_class.tolist()) if exhaustive and errors == "ee" and blocks is None else None,
    )


@lru_cache(maxsize=4)
def _all_permutations(row_class: tuple[int, ...], n_distinct: int) -> NDArray[np.int32]:
    """Every distinct permutation (n_distinct, n_subjects) of free subjects, the identity first.

    With nuisance it matters which of the subjects with equal rows of X goes where, and any choice is as good as
    another: this is PALM's, so that its p are ours.
    """
    classes = np.array(row_class, np.int32)
    order = np.argsort(classes, kind="stable").astype(np.int32)
    arrangements = np.empty((n_distinct, classes.size), np.int32)
    enumerate_arrangements(classes[order], order.copy(), arrangements)
    rows = np.empty_like(arrangements)
    rows[:, order] = arrangements
    index = np.argsort(rows, axis=1).astype(np.int32)  # these move X: the data move the other way
    index.flags.writeable = False
    return index


def _whole_number(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise ShufflingError(invalid(name, value, "a whole number >= 0"))
    return number


def of_blocks(blocks: ArrayLike | None, block_scheme: str, n_subjects: int) -> str:
    """Say what exchangeability blocks do to shufflings; nothing where there are none."""
    return "" if blocks is None else _OF_BLOCKS["tree" if np.size(blocks) > n_subjects else block_scheme]


def equal_rows(design_rows: ArrayLike, n_subjects: int) -> NDArray[np.int32]:
    """Give equal rows one number, 0 if all are equal (n_subjects,)."""
    X = np.asarray(design_rows, np.float64)
    if X.ndim != 2 or X.shape[0] != n_subjects or X.size == 0 or not np.isfinite(X).all():
        allowed = f"finite numbers, shape ({n_subjects}, n_tested) with n_tested >= 1"
        raise ShufflingError(invalid("design_rows", f"shape {X.shape}", allowed))
    step = np.empty(X.shape, np.int64)
    for column, values in enumerate(X.T):
        order = np.argsort(values)
        gap = np.diff(values[order], prepend=values[order[0]]) > _EQUAL * np.abs(values).max()
        step[order, column] = np.cumsum(gap)
    return np.unique(step, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _nothing_to_shuffle(errors: str, has_blocks: bool, constant: bool) -> str:
    received = f"{term(f'errors={errors!r}')}{' with exchangeability blocks' if has_blocks else ''}"
    if errors == "ise":
        fix = "Give an index > 0 to the blocks whose parts may change sign."
        return f"No subject may change sign under {received}: nothing is left to test. {fix}"
    allowed, why = "Every permutation", "their rows are all equal"
    if has_blocks and not constant:
        allowed += " that the blocks allow"
        why = "their rows are equal within blocks, or whole blocks that change places are alike, or nothing may move"
    fix = f"Use {FLIPS} if the errors are symmetric around zero"
    return (
        f"{allowed} leaves the tested regressors as they are ({why}) under "
        f"{received}: nothing is left to test. {fix}{', or other blocks' if has_blocks else ''}."
    )


def _count(number: int) -> str:
    return str(number) if number < 10**15 else f"about 10^{log10(number):.0f}"
