"""Which voxels of a cohort's maps can be analysed, and why the others can't."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import MaskError

# A map that alone costs more than this share of the voxels is worth a warning.
_COSTLY = 0.05


@dataclass(eq=False)
class Survey:
    """What a number of maps hold at each of k places. Surveys of different maps of a cohort add up.

    Attributes
    ----------
    n_nonfinite, n_zero
        (k,) how many maps are NaN or infinite there, and exactly 0.
    absent
        (k,) number of a map that lacks a value there: the only one, where just one lacks it.
    low, high
        (k,) least and greatest value.
    nonfinite_in, zero_in
        (n_subjects,) how many places are NaN or infinite, and 0, in each map.
    """

    n_nonfinite: NDArray[np.int32]
    n_zero: NDArray[np.int32]
    absent: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    nonfinite_in: NDArray[np.int64]
    zero_in: NDArray[np.int64]

    @classmethod
    def empty(cls, n_places: int, n_subjects: int) -> Survey:
        """Begin a survey, of no map."""
        return cls(
            np.zeros(n_places, np.int32),
            np.zeros(n_places, np.int32),
            np.zeros(n_places, np.int32),
            np.full(n_places, np.inf, np.float32),
            np.full(n_places, -np.inf, np.float32),
            np.zeros(n_subjects, np.int64),
            np.zeros(n_subjects, np.int64),
        )

    def add(self, number: int, values: NDArray[np.float32], zero_is_missing: bool) -> None:
        """Add the map of subject ``number``: (k,) values."""
        nonfinite = ~np.isfinite(values)
        zero = values == 0
        self.n_nonfinite += nonfinite
        self.n_zero += zero
        np.copyto(self.absent, number, where=nonfinite | zero if zero_is_missing else nonfinite)
        # NaN may win here: low and high matter only where no map has any.
        np.minimum(self.low, values, out=self.low)
        np.maximum(self.high, values, out=self.high)
        self.nonfinite_in[number] = np.count_nonzero(nonfinite)
        self.zero_in[number] = np.count_nonzero(zero)

    def merge(self, other: Survey) -> None:
        """Add the maps of another survey."""
        for field in fields(self):
            if field.name not in ("absent", "low", "high"):
                mine = getattr(self, field.name)
                mine += getattr(other, field.name)
        np.maximum(self.absent, other.absent, out=self.absent)
        np.minimum(self.low, other.low, out=self.low)
        np.maximum(self.high, other.high, out=self.high)


@dataclass(frozen=True, eq=False)
class Verdict:
    """The places that stay, and what there is to say about the others.

    Attributes
    ----------
    keep
        (k,) bool.
    report
        Sentences: how many are left out, and why.
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
    zero_is_missing: bool,
    drop_constant: bool = True,
    places: str = "grid",
) -> Verdict:
    """Decide which places stay: those where no map lacks a value and where the maps differ.

    Parameters
    ----------
    survey
        Of all maps.
    labels
        (n_subjects,) what to call the maps.
    zero_is_missing
        Whether exactly 0 means "no value", beside NaN and infinity.
    drop_constant
        Whether places with the same value in all maps leave.
    places
        What the places are called: "grid" or "mask".

    Raises
    ------
    MaskError
        If none stays; it tells the counts and the map that costs most.
    """
    n = len(labels)
    n_missing = survey.n_nonfinite + survey.n_zero if zero_is_missing else survey.n_nonfinite
    missing_in = survey.nonfinite_in + survey.zero_in if zero_is_missing else survey.nonfinite_in
    nowhere = n_missing == n
    nonfinite = (survey.n_nonfinite > 0) & ~nowhere
    zero = (n_missing > 0) & ~nowhere & ~nonfinite
    constant = (n_missing == 0) & (survey.low == survey.high) & drop_constant
    all_zero = constant & (survey.low == 0)
    keep = (n_missing == 0) & ~constant

    n_nowhere = int(np.count_nonzero(nowhere))
    lost_in = missing_in - n_nowhere
    worst = int(np.argmax(lost_in))
    worst_text = f" (most of them in {labels[worst]}: {lost_in[worst]:,})" if lost_in[worst] else ""
    lacking = "NaN, infinite or 0" if zero_is_missing else "NaN or infinite"
    reasons = [
        (nowhere, f"{lacking} in every map"),
        (nonfinite, "NaN or infinite in at least one map, not in all"),
        (zero, "exactly 0 in at least one map, not in all"),
        (all_zero, "exactly 0 in every map"),
        (constant & ~all_zero, "the same value in every map"),
    ]
    counts = [f"{np.count_nonzero(which):,} {text}" for which, text in reasons if which.any()]
    total = len(keep)
    n_out = total - int(np.count_nonzero(keep))
    if n_out == total:
        raise MaskError(
            f"No voxel is left to analyse: of {total:,} {places} voxels, " + ", ".join(counts) + f"{worst_text}. "
            "Check the maps, leave out those that cover too little, or pass a mask= that all maps cover."
        )
    report = [f"{n_out:,} of {total:,} {places} voxels are left out: " + ", ".join(counts) + f"{worst_text}."]
    costly = _costly_maps(survey, n_missing, keep, labels)
    return Verdict(keep, tuple(report) if n_out else (), costly, missing_in, n_nowhere)


def _costly_maps(
    survey: Survey, n_missing: NDArray[np.int32], keep: NDArray[np.bool_], labels: Sequence[str]
) -> tuple[str, ...]:
    """Warn of each map without which the mask would be much larger."""
    alone = np.bincount(survey.absent[n_missing == 1], minlength=len(labels))
    n_kept = int(np.count_nonzero(keep))
    return tuple(
        f"{label} alone costs {cost:,} voxels ({cost / (n_kept + cost):.0%} of those that the other maps "
        "share): check it, or leave it out."
        for label, cost in zip(labels, alone, strict=True)
        if cost > _COSTLY * (n_kept + cost)
    )
