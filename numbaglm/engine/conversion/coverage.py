"""Which voxels of a cohort's maps can be analysed, and why the others can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError, MaskError, invalid, term

# A map that alone costs more than this share of the voxels is worth a warning.
_COSTLY = 0.05

# Least and greatest values are looked up one by one where they are still wanted at less than this share of the voxels.
_SPARSE = 0.1

_EVEN = 20  # of one value, which by chance no map has

_SINGULARS = {"vertices": "vertex"}

_SUMMED = ("n_nonfinite", "n_zero", "nonfinite_in", "zero_in", "rounded_in", "even_in")
_FIELDS = (*_SUMMED, "absent", "low", "high")

MISSING = np.float32(0)
"""What stands in a cohort for a value that a map lacks: 0 to whoever computes; a bit tells that it is missing."""


@dataclass(frozen=True)
class MaskRule:
    """When a voxel stays in the mask.

    Attributes
    ----------
    zero_is_missing
        Whether exactly 0 means "no value", beside NaN and infinity.
    min_coverage
        Share of the maps that must have a value there.
    keeps_missing
        Whether a value that is missing stays missing; else it is taken as 0.
    """

    zero_is_missing: bool
    min_coverage: float = 1.0
    keeps_missing: bool = False

    def n_allowed(self, n_subjects: int) -> int:
        """How many of so many maps may lack a value at a voxel that stays."""
        return n_subjects - ceil(self.min_coverage * n_subjects - 1e-9)

    @property
    def keeps_incomplete(self) -> bool:
        """Whether voxels stay that some maps lack."""
        return self.min_coverage < 1

    def present(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Where there are values."""
        finite = np.isfinite(values)
        return np.asarray(finite & (values != 0) if self.zero_is_missing else finite)


def parse_min_coverage(min_coverage: Any) -> float:
    """Check a share of maps above 0, at most 1.

    Raises
    ------
    InputError
    """
    try:
        share = float(min_coverage)
    except (TypeError, ValueError):
        share = np.nan
    if isinstance(min_coverage, bool | str) or not 0 < share <= 1:
        raise InputError(
            invalid("min_coverage", min_coverage, "a share of the maps above 0, at most 1", "95 % of them are 0.95.")
        )
    return share


def parse_min_subjects(min_subjects: Any, n_subjects: int) -> float:
    """Check how many of so many maps must have a value, a number or a share; return the share.

    Raises
    ------
    InputError
    """
    allowed = f"a share of the maps above 0, at most 1, or a whole number up to {n_subjects}"
    whole = isinstance(min_subjects, int | np.integer) and not isinstance(min_subjects, bool)
    if whole and 1 <= min_subjects <= n_subjects:
        return float(min_subjects) / n_subjects
    share = float(min_subjects) if isinstance(min_subjects, float | np.floating) else np.nan
    if not 0 < share <= 1:
        raise InputError(invalid("min_subjects", min_subjects, allowed, "Half of them are 0.5."))
    return share


def singular(nouns: str) -> str:
    """One of what elements are called."""
    return _SINGULARS.get(nouns, nouns[:-1])


class _Tally:
    """At how many maps a flag is up, at each of k places; up to 255 of them, in bytes: a tenth of the time of integers.

    Maps lack values at the same places for the most part, those outside the brain. So a run of maps whose flags are
    alike is counted when it ends.
    """

    def __init__(self, n_places: int) -> None:
        # Not np.zeros: that has no huge pages, and a page fault every 4 KiB.
        self.counts, self.last, self._scratch = np.full((3, n_places), 0, np.uint8)
        self._run = np.full(n_places, False)
        self._length, self._order, self._n_flags = 0, 0, 0

    def add(self, flags: NDArray[np.bool_], order: int) -> int:
        """Count a map's flags; ``order`` is its place among the maps, from 1. Return how many are up."""
        if self._length and np.not_equal(flags, self._run, out=self._scratch.view(np.bool_)).any():
            self.settle()
        if not self._length:
            self._run[:], self._order, self._n_flags = flags, order, int(np.count_nonzero(flags))
        self._length += 1
        return self._n_flags

    def settle(self) -> None:
        """End the run. At places with one flag ``last`` is the order of the map that has it then."""
        if not self._length:
            return
        flags = self._run.view(np.uint8)
        if self._length == 1:
            self.counts += flags
            np.multiply(flags, np.uint8(self._order), out=self._scratch)
            np.maximum(self.last, self._scratch, out=self.last)
        else:
            self.counts += np.multiply(flags, np.uint8(self._length), out=self._scratch)
        self._length = 0

    def clear(self) -> None:
        """Begin anew."""
        self.counts[:] = self.last[:] = self._length = 0


class Survey:
    """What a number of maps hold at each of k places. Surveys of different maps of a cohort add up.

    Attributes
    ----------
    n_nonfinite, n_zero
        (k,) how many maps are NaN or infinite there, and exactly 0.
    absent
        (k,) number of a map that lacks a value there: the only one, where just one lacks it.
    low, high
        (n_candidates,) two values that maps have there, at those of the places that may stay: equal where all maps have
        the same. Where two differ, others are not looked at.
    nonfinite_in, zero_in
        (n_subjects,) how many places are NaN or infinite, and 0, in each map.
    rounded_in
        (n_subjects,) how many of the latter were stored as another number, which stands for 0.
    even_in
        (n_subjects,) how many places have the value of the first one, where that is a number other than 0.
    """

    def __init__(self, n_places: int, n_candidates: int, n_subjects: int, rule: MaskRule) -> None:
        self.rule = rule
        # Not np.zeros: that has no huge pages, and a page fault every 4 KiB.
        self.n_nonfinite, self.n_zero, self.absent = np.full((3, n_places), 0, np.int32)
        self.low = np.full(n_candidates, np.inf, np.float32)
        self.high = np.full(n_candidates, -np.inf, np.float32)
        self.nonfinite_in, self.zero_in, self.rounded_in, self.even_in = np.zeros((4, n_subjects), np.int64)
        # Of the last maps, whose numbers these are.
        self._nonfinite, self._zero = _Tally(n_places), _Tally(n_places)
        self._numbers: list[int] = []
        self._flags = np.empty(n_places, np.bool_)
        self._alike: NDArray[np.intp] | None = None  # where low and high don't differ yet; None where they may anywhere

    def add(
        self, number: int, presence: NDArray[Any], values: NDArray[np.float32], *, is_rounded: bool = False
    ) -> None:
        """Add the map of subject ``number``.

        Parameters
        ----------
        presence
            (k,) numbers that are 0, and not finite, where the map is.
        values
            (n_candidates,) of the map.
        is_rounded
            Whether its zeros were stored as another number.
        """
        if len(self._numbers) == 255:
            self.settle()
        self._numbers.append(number)
        if presence.dtype.kind == "f" and not np.isfinite(presence, out=self._flags).all():
            np.logical_not(self._flags, out=self._flags)
            self.nonfinite_in[number] = self._nonfinite.add(self._flags, len(self._numbers))
        if np.equal(presence, 0, out=self._flags).any():
            self.zero_in[number] = self._zero.add(self._flags, len(self._numbers))
        self.rounded_in[number] = self.zero_in[number] * is_rounded
        if self.rule.zero_is_missing and presence[0] != 0 and np.isfinite(presence[0]):
            self.even_in[number] = np.count_nonzero(presence == presence[0])
        self._compare(values)

    def _compare(self, values: NDArray[np.float32]) -> None:
        where = self._alike
        if where is not None and not len(where):
            return
        low, high = (self.low, self.high) if where is None else (self.low[where], self.high[where])
        values = values if where is None else values.take(where)
        if self.rule.keeps_incomplete:  # else it does not matter what is least where a value is missing
            values = np.where(self.rule.present(values), values, np.float32(np.nan))
        np.fmin(low, values, out=low)
        np.fmax(high, values, out=high)
        alike = ~(low < high)
        if where is not None:
            self.low[where], self.high[where] = low, high
            self._alike = where[alike]
        elif np.count_nonzero(alike) <= _SPARSE * len(alike):
            self._alike = np.flatnonzero(alike)

    def settle(self) -> None:
        """Add the counts of the last maps to the others, which are whole then."""
        if not self._numbers:
            return
        for tally in (self._nonfinite, self._zero):
            tally.settle()
        nonfinite, zero = self._nonfinite, self._zero
        self.n_nonfinite += nonfinite.counts
        self.n_zero += zero.counts
        missing, last = nonfinite.counts, nonfinite.last
        if self.rule.zero_is_missing:
            missing, last = missing + zero.counts, np.maximum(last, zero.last)
        once = np.flatnonzero(missing == 1)
        self.absent[once] = np.array([0, *self._numbers], np.int32)[last[once]]
        for tally in (nonfinite, zero):
            tally.clear()
        self._numbers.clear()

    def merge(self, other: Survey) -> None:
        """Add the maps of another survey."""
        self.add_arrays(other.arrays())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was found, by name."""
        self.settle()
        return {name: getattr(self, name) for name in _FIELDS}

    def add_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add what another survey's `arrays` returned."""
        self.settle()
        for name in _SUMMED:
            mine = getattr(self, name)
            mine += arrays[name]
        np.maximum(self.absent, arrays["absent"], out=self.absent)
        np.fmin(self.low, arrays["low"], out=self.low)
        np.fmax(self.high, arrays["high"], out=self.high)
        self._alike = None

    @property
    def n_missing(self) -> NDArray[np.int32]:
        """(k,) how many maps lack a value there."""
        return self.n_nonfinite + self.n_zero if self.rule.zero_is_missing else self.n_nonfinite

    @property
    def missing_in(self) -> NDArray[np.int64]:
        """(n_subjects,) places without a value in each map."""
        return self.nonfinite_in + self.zero_in if self.rule.zero_is_missing else self.nonfinite_in


@dataclass(frozen=True, eq=False)
class Verdict:
    """The places that stay, and what there is to say about the others.

    Attributes
    ----------
    keep
        (k,) bool.
    report
        Sentences: how many are left out, and why; how many values are missing at those that stay.
    warnings
        Sentences on single maps that cost many voxels.
    missing_in
        (n_subjects,) places without a value in each map.
    n_nowhere
        Those of them that are without a value in every map.
    """

    keep: NDArray[np.bool_]
    report: tuple[str, ...]
    warnings: tuple[str, ...]
    missing_in: NDArray[np.int64]
    n_nowhere: int


def judge(
    survey: Survey,
    labels: Sequence[str],
    *,
    candidates: NDArray[np.intp] | None = None,
    before: tuple[int, NDArray[Any]] | None = None,
    drop_constant: bool = True,
    places: str = "grid",
    nouns: str = "voxels",
) -> Verdict:
    """Decide which places stay: those where few enough maps lack a value (by default none), and where the maps differ.

    Parameters
    ----------
    survey
        Of all maps.
    labels
        (n_subjects,) what to call the maps.
    candidates
        (n_candidates,) which places may stay at all: every other one lacks too many values. None means all.
    before
        Of a cohort that is extended: how many maps it has, and (k,) how many of them lack a value at each place.
    drop_constant
        Whether places with the same value in all maps leave.
    places
        Which places these are: those of the "grid", or of the "mask"; "" for all that the maps list.
    nouns
        What they are called.

    Raises
    ------
    MaskError
        If none stays; it tells the counts and the map that costs most.
    """
    survey.settle()
    n, rule = len(labels), survey.rule
    n_before, missing_before = (0, 0) if before is None else before
    n_missing = survey.n_missing
    allowed = rule.n_allowed(n + n_before)
    nowhere = n_missing == n
    lost = (n_missing + missing_before > allowed) & ~nowhere
    constant, all_zero = np.zeros((2, len(n_missing)), bool)
    where = slice(None) if candidates is None else candidates
    constant[where] = (survey.low == survey.high) & drop_constant
    all_zero[where] = constant[where] & (survey.low == 0)
    constant &= ~(nowhere | lost)
    all_zero &= constant
    keep = ~(nowhere | lost | constant)

    n_nowhere = int(np.count_nonzero(nowhere))
    lost_in = survey.missing_in - n_nowhere
    worst = int(np.argmax(lost_in))
    worst_text = f" (most of them in {labels[worst]}: {lost_in[worst]:,})" if lost_in[worst] else ""
    lacking = "NaN, infinite or 0" if rule.zero_is_missing else "NaN or infinite"
    if allowed:
        reasons = [(lost, f"{lacking} in more than {allowed} of {n + n_before} maps")]
    else:
        partly = "in at least one map, not in all"
        nonfinite = survey.n_nonfinite > 0
        reasons = [(lost & nonfinite, f"NaN or infinite {partly}"), (lost & ~nonfinite, f"exactly 0 {partly}")]
    reasons = [
        (nowhere, f"{lacking} in every map"),
        *reasons,
        (all_zero, "exactly 0 in every map"),
        (constant & ~all_zero, f"the same value in every map{' that has one' if allowed else ''}"),
    ]
    counts = [f"{np.count_nonzero(which):,} {text}" for which, text in reasons if which.any()]
    total, label = len(keep), f"{places} {nouns}".strip()
    n_out = total - int(np.count_nonzero(keep))
    if n_out == total:
        raise MaskError(
            f"No {singular(nouns)} is left to analyse: of {total:,} {label}, " + ", ".join(counts) + f"{worst_text}. "
            f"Check the maps, leave out those that cover too little, or pass a {term('mask=')} that all maps cover."
        )
    report = [f"{n_out:,} of {total:,} {label} are left out: " + ", ".join(counts) + f"{worst_text}."]
    report = report if n_out else []
    if allowed and n_missing[keep].any():
        told = _stays_missing if rule.keeps_missing else _taken_as_zero
        report.append(told(survey, keep, labels, nouns))
    report += _rounded(survey, nouns)
    costly = _costly_maps(survey, n_missing, keep, labels, nouns) if not allowed else ()
    warnings = (*_even_maps(survey, labels, f"{total:,} {label}", nouns), *costly)
    return Verdict(keep, tuple(report), warnings, survey.missing_in, n_nowhere)


def _rounded(survey: Survey, nouns: str) -> list[str]:
    """Say where 0 was stored as another number."""
    n_maps, most = int(np.count_nonzero(survey.rounded_in)), int(survey.rounded_in.max(initial=0))
    if not n_maps:
        return []
    return [
        f"{n_maps} maps are stored as whole numbers with a scale that does not hold 0: the number next to it, which up "
        f"to {most:,} {nouns} of a map have, is taken as 0."
    ]


def _even_maps(survey: Survey, labels: Sequence[str], places: str, nouns: str) -> list[str]:
    """Warn of maps with a background that is not 0."""
    share = survey.even_in / max(len(survey.n_zero), 1)
    odd = np.flatnonzero((share > _COSTLY) & (survey.even_in >= _EVEN))
    if not odd.size:
        return []
    worst = int(odd[np.argmax(share[odd])])
    return [
        f"{odd.size} maps have one value other than 0 at many {nouns}, {labels[worst]} at {survey.even_in[worst]:,} of "
        f"{places}: a background that was shifted or scaled? It is analysed where it differs between maps: pass "
        "a mask."
    ]


def _taken_as_zero(survey: Survey, keep: NDArray[np.bool_], labels: Sequence[str], nouns: str) -> str:
    """Say how many values are missing in the mask."""
    n_missing = survey.n_missing[keep]
    n_values = int(n_missing.sum())
    share = n_values / (len(n_missing) * len(labels))
    return (
        f"{n_values:,} values ({share:.2%} of the mask's) that maps lack at {np.count_nonzero(n_missing):,} of "
        f"{len(n_missing):,} mask {nouns} are taken as 0. That does not mislead a test of the mean by sign flips, but "
        "a comparison of groups whose coverage differs."
    )


def _stays_missing(survey: Survey, keep: NDArray[np.bool_], labels: Sequence[str], nouns: str) -> str:
    """Say how many values are missing in the mask, where a test knows it."""
    n_missing = survey.n_missing[keep]
    n_values = int(n_missing.sum())
    share = n_values / (len(n_missing) * len(labels))
    return (
        f"{n_values:,} values ({share:.2%} of the mask's) are missing at {np.count_nonzero(n_missing):,} of "
        f"{len(n_missing):,} mask {nouns}: a test leaves these {nouns} out, or takes each with the subjects that it "
        "has (missing='element')."
    )


def _costly_maps(
    survey: Survey, n_missing: NDArray[np.int32], keep: NDArray[np.bool_], labels: Sequence[str], nouns: str
) -> tuple[str, ...]:
    """Warn of each map without which the mask would be much larger."""
    alone = np.bincount(survey.absent[n_missing == 1], minlength=len(labels))
    n_kept = int(np.count_nonzero(keep))
    return tuple(
        f"{label} alone costs {cost:,} {nouns if cost > 1 else singular(nouns)} ({cost / (n_kept + cost):.0%} of those "
        "that the other maps share): check it, or leave it out."
        for label, cost in zip(labels, alone, strict=True)
        if cost > _COSTLY * (n_kept + cost)
    )
