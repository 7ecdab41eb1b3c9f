"""What tasks are told of a test, and the records that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Floats
from numbaglm.data.runs.ledger import array
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import Conventions
from numbaglm.stats.families.family import Family
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.shuffling.shufflings import Shufflings

Picks = tuple[NDArray[np.int64], NDArray[np.int32], Floats]
"""(bounds, voxel, score): the picks of shuffling i are those in bounds[i]:bounds[i + 1], voxels increasing."""


def slice_picks(picks: Picks, first: int, last: int) -> Picks:
    """Picks of shufflings ``first`` to ``last``: copies, so that the others can go."""
    bounds, voxel, value = picks
    inside = slice(bounds[first], bounds[last])
    return bounds[first : last + 1] - bounds[first], voxel[inside].copy(), value[inside].copy()


@dataclass(frozen=True)
class Listing:
    """The largest scores of some shufflings, over all voxels, that a test leaves beside what it is made for.

    Attributes
    ----------
    threshold
        Score above which they are picked, block by block.
    n_listed
        How many are kept of each shuffling.
    n_shufflings
        Of the first so many.
    elements
        Whether to list as well whose they are.
    n_learned
        The last so many are there to learn from: whose theirs are nobody asks.
    """

    threshold: float
    n_listed: int
    n_shufflings: int
    elements: bool
    n_learned: int = 0


@dataclass(frozen=True, eq=False)
class Spec:
    """All that a task must know of a test; small, and the same on every worker.

    Attributes
    ----------
    threshold
        Cluster-forming threshold, as a score; None for no clusters.
    tfce
        Whether TFCE is computed.
    tfce_counts
        Whether each voxel's TFCE is counted as well, for its uncorrected p.
    precision
        "float32" or "float64", of the products.
    tail
        What refines p: "counts" (nothing), "pareto" or "gamma".
    listing
        Largest scores to list on the way; None for none.
    """

    hypothesis: Hypothesis
    shufflings: Shufflings
    conventions: Conventions
    two_sided: bool
    threshold: float | None
    tfce: bool
    precision: str
    tail: str = "counts"
    tfce_counts: bool = False
    listing: Listing | None = None

    @property
    def family(self) -> Family:
        """The statistic, in the form that all have."""
        return self.hypothesis.family

    @property
    def n_maps(self) -> int:
        """Whole maps of each shuffling that are kept for a while: fields of scores, or the scores for TFCE."""
        return int(self.tfce) if self.family.whole is None else self.family.whole.n_fields

    @property
    def tail_length(self) -> int:
        """How many of the largest scores of a voxel are kept, to refine its uncorrected p; 0 where none are."""
        refines = self.tail == "pareto" and self.family.whole is None and self.family.parametric
        if not refines:
            return 0
        from numbaglm.stats.tails import tail_length  # where something is refined

        return tail_length(self.shufflings.n_shufflings - 1)

    def height(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """What counts of a score: its absolute value if two-sided."""
        return np.abs(score) if self.two_sided else score

    def parametric_p(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """p by the statistic's own distribution, whose z is given; of both tails if two-sided."""
        return pvalues.of_z(self.height(z)) * (1 + self.two_sided)


@dataclass(frozen=True, eq=False)
class ObservedBlock:
    """What was observed in some voxels.

    Attributes
    ----------
    score, statistic, z
        (n_voxels,) float64; 0 where nothing varies.
    effect
        (n_interest, n_voxels) contrast of the parameter estimates.
    degenerate
        (n_voxels,) whether the nuisance explains all of the data, so that nothing is left to test.
    length
        (n_voxels,) of the residuals on the nuisance, before they were brought to unit length.
    more
        (n_more, n_voxels) further maps of the family, see `Family.more`; None where it has none.
    """

    score: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))
    statistic: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))
    z: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))
    effect: NDArray[np.float64] = field(metadata=array("f8", "n_interest", "n_voxels"))
    degenerate: NDArray[np.bool_] = field(metadata=array("b1", "n_voxels"))
    length: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))
    more: NDArray[np.float64] | None = field(default=None, kw_only=True, metadata=array("f8", "n_more", "n_voxels"))

    @classmethod
    def empty(cls, n_effects: int, n_voxels: int, n_more: int = 0) -> ObservedBlock:
        """Room for so many."""
        return cls(
            np.empty(n_voxels),
            np.empty(n_voxels),
            np.empty(n_voxels),
            np.empty((n_effects, n_voxels)),
            np.empty(n_voxels, dtype=bool),
            np.empty(n_voxels),
            more=np.empty((n_more, n_voxels)) if n_more else None,
        )

    @classmethod
    def joined(cls, parts: Sequence[ObservedBlock]) -> ObservedBlock:
        """Join what was observed in blocks that follow each other."""
        there = [one.name for one in fields(cls) if getattr(parts[0], one.name) is not None]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in there})


@dataclass(frozen=True, eq=False)
class Round:
    """What a block leaves of a range of shufflings.

    Attributes
    ----------
    maxima
        (n_shufflings,) largest score (absolute if two-sided); none where scores need whole maps.
    counts
        (n_voxels,) shufflings whose score reaches the observed one; as above.
    bounds, voxel, value
        Scores that reach the cluster-forming threshold, as `Picks`; voxels are counted from the start of the cohort.
    tail_voxels, tails
        Where they are kept: the voxels (m,) that are watched, counted from the start of the block; and their largest
        scores (m, k), descending, filled up with -inf where the shufflings are fewer.
    undefined
        (n_voxels,) shufflings under which a voxel's pattern leaves the design without its rank, so that it scores 0;
        None where that can't be.
    listed_bounds, listed_voxel, listed_value
        Scores above the threshold of a listing, as `Picks`, of those of the shufflings that are listed; None where
        none are. No voxels where a listing has no elements.
    """

    maxima: NDArray[np.float64] = field(metadata=array("f8", "n_maxima"))
    counts: NDArray[np.int32] = field(metadata=array("i4", "n_voxels"))
    bounds: NDArray[np.int64] = field(metadata=array("i8", "n_bounds", bounds="n_picks"))
    voxel: NDArray[np.int32] = field(metadata=array("i4", "n_picks", below="n_elements"))
    value: Floats = field(metadata=array("f4 f8", "n_picks"))
    tail_voxels: NDArray[np.int32] | None = field(default=None, metadata=array("i4", "n_watched", below="n_voxels"))
    tails: Floats | None = field(default=None, metadata=array("f4 f8", "n_watched", "n_kept"))
    undefined: NDArray[np.int32] | None = field(default=None, metadata=array("i4", "n_voxels"))
    listed_bounds: NDArray[np.int64] | None = field(
        default=None, metadata=array("i8", "n_listed_bounds", bounds="n_listed_picks")
    )
    listed_voxel: NDArray[np.int32] | None = field(
        default=None, metadata=array("i4", "n_listed_voxels", below="n_elements")
    )
    listed_value: Floats | None = field(default=None, metadata=array("f4 f8", "n_listed_picks"))

    @property
    def picks(self) -> Picks:
        """Bounds, voxels and scores."""
        return self.bounds, self.voxel, self.value

    @property
    def listed(self) -> Picks | None:
        """Those of a listing."""
        if self.listed_bounds is None or self.listed_voxel is None or self.listed_value is None:
            return None
        return self.listed_bounds, self.listed_voxel, self.listed_value


@dataclass(frozen=True, eq=False)
class Refined:
    """Uncorrected p (n_voxels,) by the tails of the voxels of a block, and where each comes from."""

    p: NDArray[np.float64] = field(metadata=array("f8", "n_voxels"))
    source: NDArray[np.uint8] = field(metadata=array("u1", "n_voxels"))


@dataclass(frozen=True, eq=False)
class Drawn:
    """A batch of shufflings as they are kept: identities are left out.

    Attributes
    ----------
    index
        (n_batch, n_shuffled) of the narrowest type that holds it.
    flips
        (n_batch, n_shuffled / 8) a bit a subject, 1 where the sign changes.
    """

    index: NDArray[np.unsignedinteger[Any]] | None = field(
        default=None, metadata=array("u1 u2 u4", "n_batch", "n_shuffled", below="n_shuffled")
    )
    flips: NDArray[np.uint8] | None = field(default=None, metadata=array("u1", "n_batch", "n_flip_bytes"))


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest parametric p of shufflings, over all voxels.

    Attributes
    ----------
    p
        (n_shufflings, n_listed) increasing along rows. A shuffling with fewer scores above the threshold is filled up
        with its p: what it lacks is no smaller.
    voxel
        (n, n_listed) whose p these are, n_voxels for what fills up, of the shufflings that calibrate; None where that
        was not asked for.
    """

    p: NDArray[np.float64]
    voxel: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class RunResult(ObservedBlock):
    """Raw results: what was observed over all voxels; counts and nulls.

    Attributes
    ----------
    counts
        (n_voxels,) shufflings whose score reaches the observed one, the observed among them.
    max_score
        (n_shufflings,) largest score of each shuffling (absolute if two-sided).
    max_size, max_mass
        (n_domains, n_shufflings) of the largest cluster, where clusters were asked for.
    observed_picks
        Voxels above the cluster-forming threshold in the observed map, and their scores.
    tfce, max_tfce
        (n_voxels,) observed TFCE, and (n_domains, n_shufflings) its maximum, where it was asked for.
    tfce_counts
        (n_voxels,) shufflings whose TFCE reaches the observed one, where that was asked for.
    refined
        Where tails were kept: uncorrected p (n_voxels,), and where each comes from.
    undefined
        (n_voxels,) as `Round.undefined`, of all shufflings.
    smallest
        What a listing found, where one was asked for and all rounds were made with it.
    """

    counts: NDArray[np.int64]
    max_score: NDArray[np.float64]
    max_size: NDArray[np.int64 | np.float64] | None = None
    max_mass: NDArray[np.float64] | None = None
    observed_picks: tuple[NDArray[np.int32], Floats] | None = None
    tfce: NDArray[np.float64] | None = None
    max_tfce: NDArray[np.float64] | None = None
    tfce_counts: NDArray[np.int64] | None = None
    refined: tuple[NDArray[np.float64], NDArray[np.uint8]] | None = None
    undefined: NDArray[np.int64] | None = None
    smallest: Smallest | None = None
