"""t and F of elements of which some subjects are missing: each is tested with those that it has.

E are the residuals on the nuisance of the subjects that are there, of unit length, and 0 for the others; w is 1 where a
subject is there. The pair (E, w) is shuffled. With M orthonormal rows of the design, and P a shuffling, what a refit of
the shuffled element needs is

    b = M P E (signs and all),  and the Gram matrix of M over the shuffled w, M diag(|P| w) M'.

Nuisance that permutations leave as it is (f) has no product with E. With the Gram matrix of the others (m), those moved
first and those of interest last, less what f explains of them,

    S = G_mm - G_mf G_ff^-1 G_fm = C C',  r = C^-1 b,

t is ``r_x / sqrt(1 - |r_z|^2)`` and F ``|r_x|^2 / (1 - |r_z|^2)``, as in `t_f`. The Gram matrix depends on the pattern
of w alone: C^-1 is made once a pattern; sign flips leave it as it is. Where it is singular under a shuffling (all who
are there in one group, say) nothing can be tested, and the score is 0.

Without nuisance this is exact where the pairs of value and presence are independent of what is tested, so also where
presence depends on the value; with nuisance it is an approximation, as that of Freedman and Lane is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels import incomplete
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import effects, pvalues
from numbaglm.stats.families.family import PRESENCE, REASON, Family, Given, Layer, OfPatterns, Prepared, Shuffled
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Graded, Scale, Share

FULL_RANK = 1e-8
"""Least eigenvalue of the Gram matrix of the design's orthonormal rows over those who are there, from which on its rank
is whole: all columns are then told apart by more than rounding."""

_EFFECTS = ("effect_se", "effect_lower", "effect_upper", "cohens_d", "hedges_g", "partial_r2")


@Score
def factor(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make the inverse of the triangle of S, row by row, of products of pairs of rows; zeros where it is singular.

    Of two rows, one of which is tested, no root is taken here: it is 1 / S_zz, S_xz / S_zz, and one over what z leaves
    of S_xx.

    Parameters
    ----------
    products
        The triangle of G_mm, row by row, then G_mf.
    fixed
        The inverse of the triangle of G_ff, row by row.
    sizes
        How many rows move, how many don't, and how many are of interest.
    """
    m, f, s = sizes[0], sizes[1], sizes[2]
    n, width = products.shape[1], fixed.shape[1]
    triangle = m * (m + 1) // 2
    own = products[triangle + m * f :]
    if m == 2 and f == 1 and s == 1:  # nearly every design: in one pass
        for start in range(0, n, width):
            here = slice(start, start + width)
            zz, xz, xx, zf, xf = (
                products[0, here],
                products[1, here],
                products[2, here],
                products[3, here],
                products[4, here],
            )
            for v in range(width):
                z, x = zf[v] * fixed[0, v], xf[v] * fixed[0, v]
                zz[v], xz[v], xx[v] = incomplete.of_two(zz[v] - z * z, xz[v] - z * x, xx[v] - x * x, zz[v], xx[v])
        return
    for i in range(m):
        diagonal, kept = products[i * (i + 1) // 2 + i], own[i]
        for v in range(n):
            kept[v] = diagonal[v]
        for j in range(f - 1, -1, -1):  # from the last: those before it are needed as they are
            to, c = products[triangle + i * f + j], j * (j + 1) // 2
            for first in range(0, n, width):
                for v in range(width):
                    to[first + v] *= fixed[c + j, v]
            for k in range(j):
                there = products[triangle + i * f + k]
                for first in range(0, n, width):
                    for v in range(width):
                        to[first + v] += fixed[c + k, v] * there[first + v]
        for k in range(i + 1):
            to = products[i * (i + 1) // 2 + k]
            for j in range(f):
                left, right = products[triangle + i * f + j], products[triangle + k * f + j]
                for v in range(n):
                    to[v] -= left[v] * right[v]
    if m == 1:
        only, least = products[0], own[0]
        for v in range(n):
            there_is = 1.0 if only[v] > incomplete.SINGULAR * least[v] else 0.0
            only[v] = there_is / np.sqrt(only[v] * there_is + 1.0 - there_is)
        return
    if m == 2 and s == 1:
        for v in range(n):
            products[0, v], products[1, v], products[2, v] = incomplete.of_two(
                products[0, v], products[1, v], products[2, v], own[0, v], own[1, v]
            )
        return
    whole = own[m]
    whole[:] = 1.0
    for i in range(m):
        for j in range(i + 1):
            to = products[i * (i + 1) // 2 + j]
            for k in range(j):
                left, right = products[i * (i + 1) // 2 + k], products[j * (j + 1) // 2 + k]
                for v in range(n):
                    to[v] -= left[v] * right[v]
            if i == j:
                before = own[i]
                for v in range(n):
                    there_is = to[v] > incomplete.SINGULAR * before[v]
                    whole[v] = whole[v] if there_is else 0.0
                    to[v] = np.sqrt(to[v]) if there_is else 1.0
            else:
                root = products[j * (j + 1) // 2 + j]
                for v in range(n):
                    to[v] /= root[v]
    for i in range(m):
        diagonal = products[i * (i + 1) // 2 + i]
        for v in range(n):
            diagonal[v] = 1.0 / diagonal[v]
        for j in range(i):
            to = products[i * (i + 1) // 2 + j]
            turned = products[j * (j + 1) // 2 + j]
            for v in range(n):
                to[v] *= turned[v]
            for k in range(j + 1, i):
                left, turned = products[i * (i + 1) // 2 + k], products[k * (k + 1) // 2 + j]
                for v in range(n):
                    to[v] += left[v] * turned[v]
            for v in range(n):
                to[v] *= -diagonal[v]
    for i in range(triangle):
        to = products[i]
        for v in range(n):
            to[v] *= whole[v]


@Score
def combine(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make partial correlations, or shares of variance, of products with the rows that move, those of interest last.

    Parameters
    ----------
    products
        Those products, and behind them the inverse of the triangle of S where shufflings change it.
    fixed
        That inverse where they don't.
    sizes
        Rows that move, rows of interest, whether the score is signed (1), and where the inverse is: behind the products
        (0), among what is fixed (1), or nowhere, as it is that of the identity (2).
    """
    m, s, is_t, where = sizes[0], sizes[1], sizes[2] == 1, sizes[3]
    n, width = products.shape[1], fixed.shape[1]
    one, tiny = products.dtype.type(1.0), products.dtype.type(np.finfo(products.dtype).eps)
    inside = where == 1
    score = products[0]
    if m == 1 and where == 0 and is_t:
        turn = products[1]
        for v in range(n):
            score[v] *= turn[v]
        return
    if m == 2 and s == 1 and where == 2 and is_t:
        tested = products[1]
        for v in range(n):
            rest = one - score[v] * score[v]
            score[v] = tested[v] / np.sqrt(rest if rest > tiny else tiny)
        return
    if m == 2 and s == 1 and where == 0:  # the commonest, in one pass; see `factor`
        tested, turn, crossed, left = products[1], products[2], products[3], products[4]
        for v in range(n):
            rest = one - turn[v] * score[v] * score[v]
            rest = rest if rest > tiny else tiny
            score[v] = (tested[v] - crossed[v] * score[v]) * np.sqrt(left[v] / rest)
        return
    for i in range(m - 1 if where < 2 else -1, -1, -1):
        to, c = products[i], i * (i + 1) // 2
        if inside:
            for first in range(0, n, width):
                for v in range(width):
                    to[first + v] *= fixed[c + i, v]
            for k in range(i):
                there = products[k]
                for first in range(0, n, width):
                    for v in range(width):
                        to[first + v] += fixed[c + k, v] * there[first + v]
        else:
            turn = products[m + c + i]
            for v in range(n):
                to[v] *= turn[v]
            for k in range(i):
                turn, there = products[m + c + k], products[k]
                for v in range(n):
                    to[v] += turn[v] * there[v]
    if m == s:
        if not is_t:
            for v in range(n):
                score[v] *= score[v]
            for k in range(1, s):
                there = products[k]
                for v in range(n):
                    score[v] += there[v] * there[v]
        return
    for v in range(n):
        score[v] = one - score[v] * score[v]
    for k in range(1, m - s):
        there = products[k]
        for v in range(n):
            score[v] -= there[v] * there[v]
    last = products[m - s]
    if not is_t:
        for v in range(n):
            last[v] *= last[v]
        for k in range(m - s + 1, m):
            there = products[k]
            for v in range(n):
                last[v] += there[v] * there[v]
    for v in range(n):
        rest = score[v] if score[v] > tiny else tiny
        score[v] = last[v] / (np.sqrt(rest) if is_t else rest)


@dataclass(frozen=True, eq=False)
class Incomplete:
    """A hypothesis of elements with the subjects that they have.

    Attributes
    ----------
    rows
        (rank, n_subjects) orthonormal rows that span the design: of interest, moved by shuffling, and left by it.
    n_interest, n_moved
        How many of them are of interest, and move.
    is_t
        Whether the contrast has one row.
    effect
        (n_interest, rank) makes the contrast of the parameter estimates of coefficients of the rows.
    swing
        See `numbaglm.stats.effects.swing`.
    flips
        Whether subjects stay where they are: patterns too.
    """

    rows: Doubles
    n_interest: int
    n_moved: int
    is_t: bool
    effect: Doubles
    swing: float
    flips: bool

    @property
    def n_subjects(self) -> int:
        """In all."""
        return int(self.rows.shape[1])

    @property
    def least(self) -> int:
        """Subjects that an element must have."""
        return least_of(len(self.rows))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Rows that take part in products: those moved, then those of interest."""
        return np.roll(np.arange(self.n_interest + self.n_moved), self.n_moved)

    @cached_property
    def scales(self) -> tuple[Correlation, ...] | tuple[Share, ...]:
        """Of elements with all subjects, with one less, and so on."""
        dofs = range(self.n_subjects - len(self.rows), 1, -1)
        if self.is_t:
            return tuple(Correlation(dof) for dof in dofs)
        return tuple(Share(dof, self.n_interest) for dof in dofs)

    @cached_property
    def dofs(self) -> Doubles:
        """Degrees of freedom of the scales."""
        return np.array([scale.dof for scale in self.scales], np.float64)

    def grade(self, present: NDArray[np.bool_]) -> NDArray[np.intp]:
        """See `OfPatterns.grade`."""
        absent = self.n_subjects - present.sum(axis=0)
        return np.asarray(np.minimum(absent, len(self.scales) - 1), np.intp)

    @cached_property
    def pairs(self) -> Doubles:
        """(n, n_subjects) products of pairs of rows that shufflings move against a pattern; see `factor`."""
        moving, still = self.rows[self.order], self.rows[len(self.order) :]
        i, j = np.tril_indices(len(moving))
        crossed = moving[:, None] * still[None]
        return np.vstack([moving[i] * moving[j], crossed.reshape(-1, self.n_subjects)])

    def still(self, present: NDArray[np.bool_]) -> Doubles:
        """Inverse of the triangle of G_ff of each pattern (n, n_patterns); see `OfPatterns.fixed`."""
        rows = self.rows[len(self.order) :]
        gram = np.empty((present.shape[1], len(rows), len(rows)))
        incomplete.grams(rows, np.ascontiguousarray(present.T), gram)
        if len(rows):  # of what is broken nothing is tested, so that it may be anything
            gram[np.linalg.eigvalsh(gram)[:, 0] < FULL_RANK] = np.eye(len(rows))
        i, j = np.tril_indices(len(rows))
        return np.ascontiguousarray(np.linalg.inv(np.linalg.cholesky(gram))[:, i, j].T)

    def _grams(self, present: NDArray[np.bool_]) -> tuple[Doubles, NDArray[np.intp]]:
        """Gram matrices (n_patterns, rank, rank), of those that can be tested, and why the others can't."""
        return grams_of(self.rows, present)

    def _inverses(self, gram: Doubles) -> Doubles:
        """Inverses (n_patterns, m, m) of the triangles of S."""
        order, m = self.order, len(self.order)
        S = gram[:, order[:, None], order]
        if m < len(self.rows):
            crossed = gram[:, order, m:]
            S = S - crossed @ np.linalg.solve(gram[:, m:, m:], crossed.transpose(0, 2, 1))
        return np.asarray(np.linalg.inv(np.linalg.cholesky(S)))

    def prepare(self, given: Given) -> Prepared:
        """See `Family.prepare`."""
        s, m = self.n_interest, len(self.order)
        n_voxels = given.data.shape[1]
        of, present = given.patterns
        gram, reason = self._grams(present.T)
        full = np.linalg.inv(gram)
        turned = self._inverses(gram)
        E, found = np.empty(given.data.shape), np.empty((len(self.rows) + s + 1, n_voxels))
        inverses: Doubles = np.ascontiguousarray(np.linalg.inv(gram[:, s:, s:]), dtype=np.float64)
        there = np.ones(E.shape, bool) if given.present is None else given.present
        least = float(np.sqrt(SMALLEST_VARIANCE))
        incomplete.fit(given.data, there, of, reason > 0, inverses, self.rows, least, E, found)
        products, tested, length = found[: len(self.rows)], found[len(self.rows) : -1], found[-1]
        untested, degenerate = reason[of] > 0, length == 0
        r = _of_each(turned[:, m - s :, m - s :], of, tested)
        number = np.where(degenerate, 0.0, r[0] if self.is_t else (r**2).sum(axis=0))
        estimate = np.zeros((len(present), *self.effect.shape))
        for weights, row in zip(self.effect.T, full.transpose(1, 0, 2), strict=True):
            estimate += weights[:, None] * row[:, None]
        effect = np.where(untested, 0.0, _of_each(estimate, of, products))
        grade = self.grade(present.T)[of]
        # Scales of one kind go by their degrees of freedom alone, which may be each element's own.
        scale = replace(self.scales[0], dof=cast(float, self.dofs[grade]))
        statistic = np.where(degenerate, 0.0, scale.to_statistic(number))
        z = np.where(degenerate, 0.0, pvalues.to_z(statistic, self.dofs[grade], None if self.is_t else s))
        more = np.zeros((len(self.more), n_voxels))
        n_there = present.sum(axis=1)[of]
        more[-3:] = n_there, np.where(untested, 0, n_there - len(self.rows)), reason[of]
        share = np.minimum(number**2 if self.is_t else number, 1.0)
        if self.is_t:
            unit = np.einsum("ei,pij,ej->pe", self.effect, full, self.effect)[of, 0]
            sigma = effects.residual_sd(length, share, self.dofs[grade])
            maps = effects.effect_maps(effect[0], sigma, self.dofs, unit, self.swing, of=grade)
            for k, name in enumerate(_EFFECTS[:-1]):
                more[k] = np.where(degenerate, 0.0, maps[name])
        more[len(self.more) - 4] = share
        fixed = np.empty((0, n_voxels))
        if self.flips and m == 1:
            E *= turned[of, 0, 0]
        elif self.flips:
            i, j = np.tril_indices(m)
            fixed = np.ascontiguousarray(turned[of][:, i, j].T)
        return Prepared((E,), z, statistic, effect, degenerate, length, fixed, more, number)

    @property
    def more(self) -> tuple[str, ...]:
        """Names of further maps, see `Family.more`."""
        return (*(_EFFECTS if self.is_t else _EFFECTS[-1:]), "n_subjects", "dof", REASON)

    def family(self) -> Family:
        """Build the family."""
        m, s = len(self.order), self.n_interest
        f, triangle = len(self.rows) - m, m * (m + 1) // 2
        scale: Scale = Graded(scales=self.scales)
        whole = (m, s, int(self.is_t), 2)
        patterns = OfPatterns(self.scales, self.grade, whole=whole)
        if not self.flips:
            patterns = OfPatterns(
                self.scales,
                self.grade,
                rows=Shuffled(self.pairs, flipped=False),
                factor=factor,
                n_kept=triangle,
                sizes=(m, f, s),
                n_scratch=m + 1,
                fixed=self.still,
                whole=whole,
            )
        return Family(
            name="t" if self.is_t else "f",
            layers=(Layer(Shuffled(np.ascontiguousarray(self.rows[self.order]))),),
            score=None if self.flips and self.is_t and m == 1 else combine,
            scale=scale,
            observe=None,
            sizes=(m, s, int(self.is_t), int(self.flips)),
            prepare=self.prepare,
            needs=(PRESENCE,),
            more=self.more,
            reasons=reasons_of(len(self.rows)),
            patterns=patterns,
        )


def _of_each(matrices: Doubles, of: NDArray[np.int32], values: Doubles) -> Doubles:
    """Products (k, n_voxels) of values (n, n_voxels) with the matrix (n_patterns, k, n) of each element's pattern."""
    out = np.zeros((matrices.shape[1], values.shape[1]))
    for i, j in np.ndindex(matrices.shape[1:]):
        out[i] += matrices[:, i, j][of] * values[j]
    return out


def least_of(rank: int) -> int:
    """Subjects that an element must have: two more than the design has dimensions, so that errors have a spread."""
    return rank + 2


def grams_of(rows: Doubles, present: NDArray[np.bool_]) -> tuple[Doubles, NDArray[np.intp]]:
    """Gram matrices of the design in the subjects of each pattern that can be tested, and why the others can't.

    Parameters
    ----------
    rows
        (rank, n_subjects) orthonormal rows that span the design.
    present
        (n_subjects, n_patterns).

    Returns
    -------
    (n_patterns, rank, rank), the identity where nothing can be tested; and (n_patterns,) numbers of `reasons_of`, 0
    where it can.
    """
    gram = np.empty((present.shape[1], len(rows), len(rows)))
    incomplete.grams(rows, np.ascontiguousarray(present.T), gram)
    lost = np.linalg.eigvalsh(gram)[:, 0] < FULL_RANK
    reason = np.where(present.sum(axis=0) < least_of(len(rows)), 1, np.where(lost, 2, 0))
    gram[reason > 0] = np.eye(len(rows))
    return gram, reason


def reasons_of(rank: int) -> tuple[str, str]:
    """Why elements can't be tested, see `Family.reasons`."""
    return (
        f"have fewer than the {least_of(rank)} subjects that this design takes",
        "leave the design without its rank, of the subjects that they have",
    )
