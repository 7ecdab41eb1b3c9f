"""The one form of every permuted statistic: a few products of each shuffling, of which one number a voxel is made.

A family of statistics is a record of this form. What runs a test knows no family: it shuffles the rows of the layers,
multiplies, calls the score kernel, and takes what that leaves into maxima, counts, picks, maps and tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels.panels import shuffle
from numbaglm.kernels.panels.scores import Score
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.scales import Grades, Scale


class Rows(Protocol):
    """A few rows of each shuffling."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows a shuffling, and units that they run over."""
        ...

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[Any]) -> None:
        """Fill ``out`` (n_rows, height, n_units), ``height`` the shufflings or more, with the rows of a batch.

        Parameters
        ----------
        index, sign
            (n_batch, n_subjects); shuffling b maps E to ``sign[b, r] * E[index[b, r]]``.
        """


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Rows that are permuted and flipped as the data are.

    Attributes
    ----------
    basis
        (n_rows, n_units).
    flipped
        Whether signs act on them; they don't on what is multiplied with squares.
    """

    basis: Doubles
    flipped: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """See `Rows`."""
        return self.basis.shape[0], self.basis.shape[1]

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[Any]) -> None:
        """See `Rows`."""
        if not len(self.basis):
            return
        sign = sign if self.flipped else np.ones_like(sign)
        shuffle.shuffle_rows(self.basis, index, sign, out.reshape(-1, out.shape[2]))


@dataclass(frozen=True, eq=False)
class Refitted:
    """Rows that are residualised on the nuisance after they were shuffled: the model is shuffled, not the data.

    Attributes
    ----------
    basis
        (n_rows, n_subjects) rows of interest.
    nuisance
        (n_columns, n_subjects) orthonormal rows.
    """

    basis: Doubles
    nuisance: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """See `Rows`."""
        return self.basis.shape[0], self.basis.shape[1]

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[Any]) -> None:
        """See `Rows`."""
        n_batch, n = index.shape
        n_rows = len(self.basis)
        rows = np.empty((n_rows * n_batch, n))
        shuffle.shuffle_rows(self.basis, index, sign, rows)
        rows -= (rows @ self.nuisance.T) @ self.nuisance
        stacked = rows.reshape(n_rows, n_batch, n).transpose(1, 0, 2)
        # The nearest orthonormal rows, of one sign with them. What the nuisance explains has no direction of its own.
        turned, sizes, directions = np.linalg.svd(stacked, full_matrices=False)
        refitted = turned @ (directions * (sizes > 1e-10)[:, :, None])
        for k in range(n_rows):
            out[k, :n_batch] = refitted[:, k]


@dataclass(frozen=True, eq=False)
class Gathered:
    """One row that is each voxel's own: another layer, permuted, is multiplied with this one unit by unit.

    No weights are due but the places that units take. Under sign flips alone the product of both layers, with a row of
    signs, says the same at the cost of a row.

    Attributes
    ----------
    n_units
        Of both layers.
    permuted
        Number of the layer that shufflings permute.
    inverse
        Whether they move it the other way.
    flipped
        Whether signs act on it; see `Shuffled`.
    """

    n_units: int
    permuted: int
    inverse: bool = False
    flipped: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        """See `Rows`."""
        return 1, self.n_units

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[Any]) -> None:
        """Fill ``out`` (1, height, n_units) with places: the unit that is multiplied with, n_units on if it flips."""
        sign = sign if self.flipped else np.ones_like(sign)
        places = index + self.n_units * (sign < 0)
        if self.inverse:
            here = np.broadcast_to(np.arange(self.n_units), index.shape) + self.n_units * (sign < 0)
            places = np.empty_like(here)
            np.put_along_axis(places, np.asarray(index, np.intp), here, axis=1)
        out[0, : len(index)] = places


def as_they_are(E: Doubles) -> Doubles:
    """Give residuals as they are."""
    return E


@dataclass(frozen=True, eq=False)
class Layer:
    """What some rows are multiplied with.

    Attributes
    ----------
    rows
        Over the units of the layer: subjects, or clusters of them.
    make
        Makes the layer (n_units, n_voxels) of what is shuffled (n_shuffled, n_voxels), of unit length or 0.
    """

    rows: Rows
    make: Callable[[Doubles], Doubles] = as_they_are


class Finish(Protocol):
    """Scores that are too dear to be made of every product: only of those that may count, be picked, or be a maximum.

    The score kernel leaves a number that grows with the score, and beside it what the score takes in addition. Of both
    `score` makes the score.
    """

    @property
    def bounds(self) -> tuple[Doubles, Doubles, Doubles]:
        """Numbers in steps of one size (n,), and the least and the largest score (n,) that each can stand for."""
        ...

    def score(self, number: NDArray[np.floating[Any]], more: NDArray[np.floating[Any]]) -> Doubles:
        """Scores of numbers."""
        ...

    def directly(self, E: NDArray[np.floating[Any]]) -> tuple[Doubles, Doubles]:
        """Both numbers of data (n_shuffled, m) that have been shuffled, where the kernel could not tell (NaN)."""
        ...


class BoundWhole(Protocol):
    """Scores of whole maps of one geometry."""

    def score(self, *maps: NDArray[np.floating[Any]]) -> Doubles:
        """Scores (n_voxels,) of the fields (n_voxels,) of one shuffling."""
        ...


class Whole(Protocol):
    """Scores that a voxel has not by itself: whole maps of a few fields come first."""

    @property
    def n_fields(self) -> int:
        """Maps that the score is made of."""
        ...

    @property
    def label(self) -> str:
        """What making scores of them is called while it runs."""
        ...

    def fields(self, products: NDArray[np.floating[Any]], fixed: NDArray[np.floating[Any]]) -> Sequence[Doubles]:
        """Fields (n_batch, n_voxels) of products (n_rows, n_batch, n_voxels) and of what no shuffling changes."""
        ...

    def bind(self, geometry: Geometry) -> BoundWhole:
        """Take what is needed of a geometry."""
        ...


PRESENCE = "presence"
"""What a family that must know which values are there names among its needs."""

REASON = "reason"
"""Name of the map that says why an element can't be tested, see `Family.reasons`."""


@dataclass(frozen=True, eq=False)
class Given:
    """Some elements, as a family that prepares them by itself is handed them.

    Attributes
    ----------
    data
        (n_subjects, n_voxels) float32, as the cohort has them; 0 where one is missing.
    layers
        Those of the cohort's layers that `Family.needs` names, of the same shape.
    present
        (n_subjects, n_voxels) which values are there; None where all are, or where the family doesn't ask.
    known
        Where patterns of presence are known: which each has (n_voxels,), and the patterns (n_patterns, n_subjects).
    """

    data: Floats
    layers: Mapping[str, Floats] = field(default_factory=dict)
    present: NDArray[np.bool_] | None = None
    known: tuple[NDArray[np.int32], NDArray[np.bool_]] | None = None

    @property
    def patterns(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Which pattern each element has (n_voxels,), and the patterns (n_patterns, n_subjects)."""
        if self.known is not None:
            return self.known
        if self.present is None:
            n, n_voxels = self.data.shape
            return np.zeros(n_voxels, np.int32), np.ones((1, n), bool)
        rows = np.ascontiguousarray(self.present.T)
        bits = np.packbits(rows, axis=1)
        keys = bits.view(np.dtype((np.void, bits.shape[1]))).ravel()
        _, first, of = np.unique(keys, return_index=True, return_inverse=True)
        return of.astype(np.int32), rows[first]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a family makes of some elements.

    Attributes
    ----------
    layers
        (n_units, n_voxels) each of `Family.layers`, at a length at which what the kernel makes of products are scores.
    score, statistic
        (n_voxels,) of what is observed; 0 where degenerate.
    effect
        (n_interest, n_voxels) contrast of the parameter estimates.
    degenerate
        (n_voxels,) whether there is nothing to test: statistic 0, p 1.
    length
        (n_voxels,) of what is shuffled, before it was brought to the length that it has; 0 where degenerate.
    fixed
        (n_fixed, n_voxels) what no shuffling changes, for the score kernel.
    more
        (n_more, n_voxels) of `Family.more`, in its order.
    number
        (n_voxels,) what the kernel leaves of what is observed, where elements have scales of their own (`OfPatterns`);
        else that is the score.
    """

    layers: tuple[Doubles, ...]
    score: Doubles
    statistic: Doubles
    effect: Doubles
    degenerate: NDArray[np.bool_]
    length: Doubles
    fixed: Doubles
    more: Doubles
    number: Doubles | None = None


@dataclass(frozen=True, eq=False)
class OfPatterns:
    """What depends on which subjects an element has: its pattern, which it shares with others.

    Degrees of freedom do, so that elements have scales of their own. The score kernel leaves a number on the scale of
    the element; scores, that one maximum is taken of, are z.

    Attributes
    ----------
    scales
        Of the numbers: one for each grade of elements.
    grade
        (n_patterns,) number of the scale of each pattern (n_subjects, n_patterns).
    rows
        Over the subjects: multiplied with 1 where one is there and 0 elsewhere; None where shufflings change nothing of
        a pattern.
    factor
        The kernel that makes of these products, in double precision, what the score kernel finds behind its own: it
        leaves them in its first ``n_kept`` rows.
    sizes, constants, n_scratch
        As of the score kernel.
    fixed
        Makes what no shuffling changes (n_fixed, n_patterns) of patterns (n_subjects, n_patterns).
    whole
        What the score kernel is told, in place of `Family.sizes`, of elements that all subjects have; None for those.
    """

    scales: Grades
    grade: Callable[[NDArray[np.bool_]], NDArray[np.intp]]
    rows: Rows | None = None
    factor: Score | None = None
    n_kept: int = 0
    sizes: tuple[int, ...] = ()
    constants: Doubles = field(default_factory=lambda: np.empty(0))
    n_scratch: int = 0
    fixed: Callable[[NDArray[np.bool_]], Doubles] | None = None
    whole: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Family:
    """One statistic of one hypothesis, in the form that all have.

    Attributes
    ----------
    name
        Of its map: "t", "f", "v", "g".
    layers
        What rows are multiplied with, and the rows.
    score
        The kernel that makes a score of the products; None where the product of the one row is the score.
    scale
        What scores mean.
    observe
        Makes score and statistic (n_voxels,) of what is observed: residuals (n_subjects, n_voxels) on the nuisance, of
        unit length or 0. A family that prepares data by itself may have None.
    sizes, constants
        What the score kernel is told of the design.
    n_scratch
        Rows of scratch that it takes.
    fixed
        Makes what no shuffling changes (n_fixed, n_voxels) of the length of the residuals (n_voxels,); None for
        nothing.
    finish, whole
        How a score is finished, or made of whole maps; None where the kernel makes it.
    precision
        "float64" where its products need it; None where single precision will do for random shufflings.
    pooled
        Whether all subjects have one variance, of which standard errors and intervals of the effect follow.
    prepare
        Makes layers, what is fixed and what is observed of data that residuals on the nuisance alone don't tell all of
        (values that are missing, weights, clusters of subjects); None where `Layer.make`, `fixed` and `observe` do.
        It must not matter with which others an element is prepared.
    needs
        Layers of the cohort that `prepare` is handed beside the data; `PRESENCE` for which values are there.
    more
        Names of the further maps that it leaves, each in `numbaglm.results.vocabulary`. Effect sizes are among them:
        nobody else knows them. Of "reason" see `reasons`.
    reasons
        Why elements can't be tested, in words that follow their number ("have fewer than 5 subjects"). The map "reason"
        says which: 1 for the first, 0 for none.
    undefined
        What shufflings may do to elements with the subjects that they have, so that they score 0 there.
    patterns
        What depends on which subjects an element has; None where all elements are alike.
    dof
        Degrees of freedom of the statistic, where they are others than those of the residuals.
    held
        Bytes of tables that a process may keep for `prepare`, beside the record itself.
    parametric
        Whether z is that of a distribution of the statistic, of which parametric p follow. Otherwise it orders scores.
    p_holds
        Whether these p have their level, far out too, see `numbaglm.stats.methods.p_holds`.
    """

    name: str
    layers: tuple[Layer, ...]
    score: Score | None
    scale: Scale
    observe: Callable[[Doubles], tuple[Doubles, Doubles]] | None
    sizes: tuple[int, ...] = ()
    constants: Doubles = field(default_factory=lambda: np.empty(0))
    n_scratch: int = 0
    fixed: Callable[[Doubles], Doubles] | None = None
    finish: Finish | None = None
    whole: Whole | None = None
    precision: str | None = None
    pooled: bool = True
    prepare: Callable[[Given], Prepared] | None = None
    needs: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ("leave the design without its rank, of those that are there then",)
    patterns: OfPatterns | None = None
    dof: float | None = None
    held: int = 0
    parametric: bool = True
    p_holds: bool = True

    @property
    def lacks(self) -> bool:
        """Whether it tests elements with the subjects that they have, so that shufflings may leave nothing to test."""
        return PRESENCE in self.needs

    @property
    def n_rows(self) -> int:
        """Rows a shuffling, of all layers."""
        return sum(layer.rows.shape[0] for layer in self.layers)

    @property
    def n_units(self) -> int:
        """Units of all layers, one below the other."""
        return sum(layer.rows.shape[1] for layer in self.layers)

    def stack(self, E: Doubles, out: NDArray[np.floating[Any]]) -> None:
        """Fill ``out`` (n_units, n_voxels) with the layers that are made of what is shuffled."""
        self.lay((layer.make(E) for layer in self.layers), out)

    def lay(self, layers: Iterable[Doubles], out: NDArray[np.floating[Any]]) -> None:
        """Fill ``out`` (n_units, n_voxels) with layers that are made."""
        first = 0
        for layer, made in zip(self.layers, layers, strict=True):
            last = first + layer.rows.shape[1]
            out[first:last] = made
            first = last
