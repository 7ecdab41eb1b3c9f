"""v and G of elements of which some subjects are missing: each is tested with those that it has.

As in `numbaglm.stats.families.incomplete` residuals E and presence w are shuffled together, and all that
`numbaglm.stats.families.welch` takes of the design is that of those who are there then. With M orthonormal rows that
span the design, and of each variance group g

    p_g = sum over g of M (P E),            q_g = sum over g of (P E)^2,
    A_g = sum over g of M diag(|P| w) M',   n_g = sum over g of |P| w,

A = sum A_g and b = A^-1 sum p_g, the group holds f_g = n_g - tr A^-1 A_g degrees of freedom and the sum of squares
q_g - 2 b'p_g + b' A_g b. Weights W_g, their quotients, and B = sum W_g A_g make v or G, as there. The score is 0 where
the design has no rank, or a group too few degrees of freedom to tell its variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels import incomplete
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import PRESENCE, REASON, Family, Given, Layer, Prepared, Shuffled
from numbaglm.stats.families.incomplete import grams_of, reasons_of
from numbaglm.stats.families.welch import LEAST_GROUP, bounds_of
from numbaglm.stats.scales import SMALLEST_VARIANCE, Standard

LEAST_FREE = 0.1
"""Degrees of freedom that a group must hold: with fewer its residuals are next to nothing whatever its variance."""

_TOO_FEW = "leave a variance group too few subjects to tell its variance"

_THERE = 1e-300  # in place of residuals that are 0, so that 0 is what a missing value alone has
_SINGULAR = 1e-9  # of what a column has of itself, what those before it leave


@Score
def of_groups(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make v or G, and its degrees of freedom; NaN where a group's sum of squares is not known well.

    Parameters
    ----------
    products
        p_g of each group, what is tested last; q_g; and the lower triangle of A_g, row by row, and n_g of each group.
    sizes
        Groups, columns of the design, those tested.
    constants
        What degrees of freedom are multiplied by, those that a group must hold, the least sum of squares, and what is
        nothing on the diagonal of A.
    """
    incomplete.groups_apart(products, sizes[0], sizes[1], sizes[2], constants)


@dataclass(frozen=True, eq=False)
class IncompleteGroups:
    """A hypothesis of groups with variances of their own, of elements with the subjects that they have.

    Attributes
    ----------
    rows
        (rank, n_subjects) orthonormal rows that span the design, those of interest last.
    n_interest
        How many these are.
    effect
        (n_interest, rank) makes the contrast of the parameter estimates of coefficients of the rows.
    groups
        (n_groups, n_subjects) who is in which.
    dof_factor
        See `numbaglm.stats.families.welch.VarianceGroups`.
    """

    rows: Doubles
    n_interest: int
    effect: Doubles
    groups: NDArray[np.bool_]
    dof_factor: float

    @property
    def factor(self) -> float:
        """What degrees of freedom are multiplied by."""
        return self.dof_factor if self.n_interest == 1 else 1.0

    @property
    def constants(self) -> Doubles:
        """What the score kernel is told, see `of_groups`."""
        return np.array([self.factor, LEAST_FREE, LEAST_GROUP, _SINGULAR])

    @cached_property
    def of_groups(self) -> Doubles:
        """(n_groups * rank, n_subjects) the rows, in each group alone."""
        return np.vstack([self.rows * group for group in self.groups])

    @cached_property
    def pairs(self) -> Doubles:
        """(n, n_subjects) of each group the products of two rows, as `of_groups` has them, and who is in it."""
        i, j = np.tril_indices(len(self.rows))
        pairs = np.vstack([self.rows[i] * self.rows[j], np.ones(self.rows.shape[1])])
        return np.vstack([pairs * group for group in self.groups])

    def score(self, number: NDArray[np.floating[Any]], more: NDArray[np.floating[Any]]) -> Doubles:
        """z of v or G and its degrees of freedom, see `Finish.score`."""
        several = None if self.n_interest == 1 else self.n_interest
        dof = np.asarray(more, np.float64)  # 0 where there is nothing to test, and the number is 0 too
        return pvalues.to_z(np.asarray(number, np.float64), np.where(dof == 0, 1.0, dof), several)

    @cached_property
    def bounds(self) -> tuple[Doubles, Doubles, Doubles]:
        """See `Finish.bounds`."""
        s, others = self.n_interest, len(self.groups) - 1
        whole = s * (s + 2) / 3.0 * self.factor
        most = self.rows.shape[1] - len(self.rows)
        return bounds_of(self.score, s, whole * LEAST_FREE / others, whole * most / others**2)

    def directly(self, E: NDArray[np.floating[Any]]) -> tuple[Doubles, Doubles]:
        """v or G (n_voxels,) and its degrees of freedom, of shuffled residuals that are 0 where a value is missing."""
        M, s, w = self.rows, self.n_interest, E != 0
        there = self.groups[:, :, None] & w
        of_group = np.einsum("ai,bi,giv->vgab", M, M, there.astype(np.float64), optimize=True)
        A = of_group.sum(axis=1)
        tested = np.linalg.eigvalsh(A)[:, 0] > _SINGULAR
        A[~tested] = np.eye(len(M))
        inverse = np.linalg.inv(A)
        free = (there.sum(axis=1) - np.einsum("vab,vgab->gv", inverse, of_group)) * tested
        tested &= (free >= LEAST_FREE).all(axis=0)
        free = np.where(tested, free, 1.0)
        b = np.einsum("vab,bv->av", inverse, M @ E)
        squares = (there * (E - M.T @ b) ** 2).sum(axis=1)
        weights = free / np.maximum(squares, 1e-20)
        share = weights * there.sum(axis=1)
        excess = ((1.0 - share / share.sum(axis=0)) ** 2 / free).sum(axis=0)
        # The triangle of a root of B, heavy rows first: a group of equal values has nearly infinite weight.
        heavy = np.einsum("gv,giv->vi", np.sqrt(weights), there)
        order = np.argsort(-heavy, axis=1, kind="stable")
        root = np.take_along_axis(heavy, order, axis=1)[:, :, None] * M.T[order]
        root[~tested] = np.eye(M.shape[1], len(M))
        R = np.asarray(np.linalg.qr(root, mode="r"))[:, -s:, -s:]
        dof = s * (s + 2) / (3.0 * np.maximum(excess, 1e-20)) * self.factor
        if s == 1:
            number = b[-1] * np.abs(R[:, 0, 0])
        else:
            form = (np.einsum("vkl,lv->vk", R, b[-s:]) ** 2).sum(axis=1)
            number = form / (s * (1.0 + 2.0 * (s - 1) / (s * (s + 2)) * excess))
        return np.where(tested, number, 0.0), np.where(tested, dof, 1.0)

    def _reasons(self, present: NDArray[np.bool_]) -> tuple[Doubles, NDArray[np.intp]]:
        """Gram matrices (n_patterns, rank, rank) of patterns (n_patterns, n_subjects), and why they can't be tested."""
        gram, reason = grams_of(self.rows, present.T)
        inverse = np.linalg.inv(gram)
        there = (self.groups[None] & present[:, None]).astype(np.float64)
        leverage = np.einsum("ai,vab,bi->vi", self.rows, inverse, self.rows, optimize=True)
        free = np.einsum("vgi,vi->vg", there, 1.0 - leverage)
        return gram, np.where((reason == 0) & (free < LEAST_FREE).any(axis=1), 3, reason)

    def prepare(self, given: Given) -> Prepared:
        """See `Family.prepare`."""
        r, s = len(self.rows), self.n_interest
        n_voxels = given.data.shape[1]
        of, present = given.patterns
        gram, reason = self._reasons(present)
        there = present[of]
        data: Doubles = np.ascontiguousarray(given.data.T, dtype=np.float64) * there
        E, products = np.empty(data.shape), np.empty((n_voxels, r))
        inverses: Doubles = np.ascontiguousarray(np.linalg.inv(gram[:, : r - s, : r - s]), dtype=np.float64)
        incomplete.residuals(data, of, present, np.ascontiguousarray(self.rows[: r - s]), inverses, E)
        incomplete.products(data, self.rows, products)
        length = np.sqrt((E**2).sum(axis=1))
        untested = reason[of] > 0
        degenerate = untested | (length <= np.sqrt(SMALLEST_VARIANCE) * np.sqrt((data**2).sum(axis=1)))
        length = np.where(degenerate, 0.0, length)
        E *= np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))[:, None]
        E[there & (E == 0)] = _THERE
        layer = np.ascontiguousarray(E.T)
        statistic, dof = self._observed(E, present, of)
        statistic = np.where(degenerate, 0.0, statistic)
        coefficients = np.einsum("vij,vj->vi", np.linalg.inv(gram)[of], products)
        effect = np.where(untested, 0.0, np.einsum("ei,vi->ev", self.effect, coefficients))
        squares = np.where(degenerate, there.T / np.maximum(there.sum(axis=1), 1), layer**2)
        more = np.stack([there.sum(axis=1), np.where(untested, 0.0, dof), reason[of]]).astype(np.float64)
        return Prepared(
            layers=(layer, squares, np.ascontiguousarray(there.T, dtype=np.float64)),
            score=np.where(degenerate, 0.0, self.score(statistic, dof)),
            statistic=statistic,
            effect=effect,
            degenerate=degenerate,
            length=length,
            fixed=np.empty((0, n_voxels)),
            more=more,
        )

    def _observed(self, E: Doubles, present: NDArray[np.bool_], of: NDArray[np.int32]) -> tuple[Doubles, Doubles]:
        """v or G and its degrees of freedom, of residuals (n_voxels, n_subjects) and what is present of them."""
        parts = []
        whole: tuple[tuple[Doubles, Doubles], ...] = (
            (E, self.of_groups),
            (E**2, self.groups.astype(np.float64)),
            (present.astype(np.float64), self.pairs),
        )
        for data, rows in whole:
            parts.append(np.empty((len(data), len(rows))))
            incomplete.products(data, rows, parts[-1])
        table = np.ascontiguousarray(np.hstack([parts[0], parts[1], parts[2][of]]).T)
        incomplete.groups_apart(table, len(self.groups), len(self.rows), self.n_interest, self.constants)
        for v in np.flatnonzero(np.isnan(table[0])):  # one by one: its bits must not depend on those beside it
            table[0, v : v + 1], table[1, v : v + 1] = self.directly(E[v][:, None])
        return table[0], table[1]

    def family(self) -> Family:
        """Build the family."""
        return Family(
            name="v" if self.n_interest == 1 else "g",
            layers=(
                Layer(Shuffled(self.of_groups)),
                Layer(Shuffled(self.groups.astype(np.float64), flipped=False)),
                Layer(Shuffled(self.pairs, flipped=False)),
            ),
            score=of_groups,
            scale=Standard(),
            observe=None,
            sizes=(len(self.groups), len(self.rows), self.n_interest),
            constants=self.constants,
            finish=self,
            precision="float64",
            pooled=False,
            prepare=self.prepare,
            needs=(PRESENCE,),
            more=("n_subjects", "dof", REASON),
            reasons=(*reasons_of(len(self.rows)), _TOO_FEW),
            undefined=("leave the design without its rank, of those that are there then", _TOO_FEW),
            p_holds=False,  # far out, where a small group varies most
        )
