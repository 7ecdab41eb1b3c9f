"""t and F of designs with regressors of each element's own, of elements of which some subjects are missing.

As in `numbaglm.stats.families.incomplete` residuals E of the subjects that are there, 0 for the others, and presence w
are shuffled together, and the model is fitted anew to those who are there then. With M the columns of an element, those
of nuisance first,

    b = M P E,    G = M diag(|P| w) M' = L L',    q = L^-1 b,

t is ``q_x / sqrt(1 - |q_z|^2)`` and F ``|q_x|^2 / (1 - |q_z|^2)``. Columns that all share have products of rows; those
of an element's own, and their products with others, are gathered (`numbaglm.stats.families.elementwise`). Where G is
singular under a shuffling nothing can be tested, and the score is 0.

Sign flips leave G as it is: the columns are brought to orthonormal ones once for each element, and the products of
these with E, flipped, are q.

Of a subject that is missing at an element the cohort has no regressor either. Under flips it takes no part. Under
permutations, which bring others to its row, the row has the mean of the regressor over those who are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from numbaglm.arrays import Doubles
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import effects, pvalues
from numbaglm.stats.families.elementwise import NOTHING_NEW
from numbaglm.stats.families.elementwise import REASONS as OWN_REASONS
from numbaglm.stats.families.family import (
    PRESENCE,
    REASON,
    Family,
    Gathered,
    Given,
    Layer,
    OfPatterns,
    Prepared,
    Shuffled,
)
from numbaglm.stats.families.incomplete import factor, grams_of, reasons_of
from numbaglm.stats.model.design import Contrast, Design, Regressor, orthonormal
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Graded, Share

_SINGULAR = 1e-9  # of what a column has of itself, what those before it leave


@Score
def refit(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make partial correlations, or shares of variance, of a refit of the columns to what was shuffled.

    Parameters
    ----------
    products
        q, of nuisance and then of interest; or b and G, where they move. Behind them, where they move and values are
        missing, a triangle that ends with 0 where presence leaves the columns that all share no rank.
    sizes
        Columns, those of interest, whether the score is signed, whether G moves, the last row of that triangle (0 for
        none), and, where it moves, the rows of b, and of the lower triangle of G, row by row.
    constants
        What is nothing on the diagonal of L, as a share of what it was.
    """
    r, s, signed, moves, last = sizes[0], sizes[1], sizes[2] == 1, sizes[3] == 1, sizes[4]
    n = products.shape[1]
    one, zero = products.dtype.type(1.0), products.dtype.type(0.0)
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    rest, gain, whole = products[products.shape[0] - 3], products[products.shape[0] - 2], products[len(products) - 1]
    b, triangle = sizes[5:], sizes[5 + r :]
    rest[:] = one
    gain[:] = zero
    whole[:] = one
    for i in range(r):
        here = products[b[i] if moves else i]
        if moves:
            for j in range(i):
                to, there = products[triangle[i * (i + 1) // 2 + j]], products[b[j]]
                inverse = products[triangle[j * (j + 1) // 2 + j]]
                for m in range(j):
                    left = products[triangle[i * (i + 1) // 2 + m]]
                    right = products[triangle[j * (j + 1) // 2 + m]]
                    for v in range(n):
                        to[v] -= left[v] * right[v]
                for v in range(n):
                    to[v] *= inverse[v]
                    here[v] -= to[v] * there[v]
            diagonal = products[triangle[i * (i + 1) // 2 + i]]
            for v in range(n):
                gain[v] = diagonal[v] * constants[0]
            for j in range(i):
                left = products[triangle[i * (i + 1) // 2 + j]]
                for v in range(n):
                    diagonal[v] -= left[v] * left[v]
            for v in range(n):
                there_is = diagonal[v] > gain[v]
                whole[v] = whole[v] if there_is else zero
                diagonal[v] = one / np.sqrt(diagonal[v]) if there_is else zero
                here[v] *= diagonal[v]
        if i < r - s:
            for v in range(n):
                rest[v] -= here[v] * here[v]
    gain[:] = zero
    for i in range(r - s, r):
        here = products[b[i] if moves else i]
        for v in range(n):
            gain[v] = here[v] if signed else gain[v] + here[v] * here[v]
    if last > 0:
        there_is = products[last]
        for v in range(n):
            whole[v] = whole[v] if there_is[v] != zero else zero
    score = products[0]
    for v in range(n):
        left_of = rest[v] if rest[v] > tiny else tiny
        # Of shufflings that are not there NaN stays.
        score[v] = gain[v] * whole[v] / (np.sqrt(left_of) if signed else left_of)


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns of the model, each a mixture of columns that all share and of regressors of elements' own.

    Attributes
    ----------
    shared
        (k, n_subjects) the part of each that all share.
    own
        (k, q) weights of the regressors in each.
    """

    shared: Doubles
    own: Doubles

    @property
    def differs(self) -> NDArray[np.bool_]:
        """(k,) which differ between elements."""
        return np.asarray(self.own.any(axis=1))

    def of(self, regressors: Doubles) -> Doubles:
        """Columns (k, n_subjects, n_voxels) of each element, of its regressors (q, n_subjects, n_voxels)."""
        return np.asarray(self.shared[:, :, None] + np.einsum("kq,qsv->ksv", self.own, regressors))


@dataclass(frozen=True, eq=False)
class IncompleteOwn:
    """A hypothesis with regressors of elements' own, of elements with the subjects that they have.

    Attributes
    ----------
    shared
        (p, n_subjects) columns that all elements share, of unit length.
    regressors
        Those of elements' own.
    nuisance, interest
        The columns, those of nuisance that all share first.
    contrast
        (n_interest, n_interest) makes the contrast of the parameter estimates of the columns of interest.
    swing
        See `numbaglm.stats.effects.swing`; None where what is tested is elements' own.
    flips
        Whether subjects stay where they are.
    """

    shared: Doubles
    regressors: tuple[Regressor, ...]
    nuisance: _Columns
    interest: _Columns
    contrast: Doubles
    swing: float | None
    flips: bool

    @classmethod
    def build(cls, design: Design, contrast: Contrast, flips: bool) -> IncompleteOwn:
        """Part the model of a contrast into columns of nuisance and of interest."""
        p, q = len(design.columns), len(design.own)
        shared = np.ascontiguousarray((design.matrix / design.lengths).T) if p else np.empty((0, design.n_subjects))
        C = np.hstack([contrast.matrix[:, :p] / design.lengths, contrast.matrix[:, p:]])
        left = linalg.null_space(C)
        # Nuisance that all share first: what has no part of the regressors; then what is left of it.
        of_shared = linalg.null_space(C[:, :p]) if p else np.empty((0, 0))
        alone = np.pad(of_shared, ((0, q), (0, 0)))
        further = left if not alone.shape[1] else left @ linalg.null_space(alone.T @ left)
        weights = np.hstack([alone, further]).T
        swing = None
        if contrast.is_t and not C[:, p:].any():
            swing = effects.swing(design.matrix, contrast.matrix[0, :p])
        nuisance, interest = (_Columns(one[:, :p] @ shared, one[:, p:]) for one in (weights, C))
        return cls(shared, design.own, nuisance, interest, C @ C.T, swing, flips)

    @property
    def n_subjects(self) -> int:
        """In all."""
        return int(self.shared.shape[1])

    @property
    def is_t(self) -> bool:
        """Whether the contrast has one row."""
        return len(self.contrast) == 1

    @property
    def rank(self) -> int:
        """Columns of the model."""
        return len(self.nuisance.own) + len(self.interest.own)

    @cached_property
    def span(self) -> Doubles:
        """(p, n_subjects) orthonormal rows that span the columns that all share."""
        return np.ascontiguousarray(orthonormal(self.shared.T).T) if len(self.shared) else self.shared

    @cached_property
    def beside(self) -> Doubles:
        """(k, n_subjects) orthonormal rows that span the nuisance that all share."""
        alone = self.nuisance.shared[~self.nuisance.differs]
        return np.ascontiguousarray(orthonormal(alone.T).T) if len(alone) else alone

    @cached_property
    def rows(self) -> Doubles:
        """(k, n_subjects) columns that shufflings multiply as rows: nuisance that all share, then interest."""
        tested = self.interest.shared[~self.interest.differs]
        tested = tested - (tested @ self.beside.T) @ self.beside
        return np.vstack([self.beside, tested / np.maximum(np.linalg.norm(tested, axis=1, keepdims=True), 1e-300)])

    @cached_property
    def n_own(self) -> int:
        """Columns that differ between elements."""
        return self.rank - len(self.rows)

    @cached_property
    def scales(self) -> tuple[Correlation, ...] | tuple[Share, ...]:
        """Of elements with all subjects, with one less, and so on."""
        dofs = range(self.n_subjects - self.rank, 1, -1)
        if self.is_t:
            return tuple(Correlation(dof) for dof in dofs)
        return tuple(Share(dof, len(self.contrast)) for dof in dofs)

    @cached_property
    def dofs(self) -> Doubles:
        """Degrees of freedom of the scales."""
        return np.array([scale.dof for scale in self.scales], np.float64)

    def grade(self, present: NDArray[np.bool_]) -> NDArray[np.intp]:
        """See `OfPatterns.grade`."""
        absent = self.n_subjects - present.sum(axis=0)
        return np.asarray(np.minimum(absent, len(self.scales) - 1), np.intp)

    @property
    def reasons(self) -> tuple[str, ...]:
        """See `Family.reasons`."""
        return (*reasons_of(self.rank), OWN_REASONS[0])

    @property
    def more(self) -> tuple[str, ...]:
        """See `Family.more`."""
        names: tuple[str, ...] = ("partial_r2",)
        if self.is_t:
            sizes = () if self.swing is None else ("cohens_d", "hedges_g")
            names = ("effect_se", "effect_lower", "effect_upper", *sizes, "partial_r2")
        return (*names, "n_subjects", "dof", REASON)

    def prepare(self, given: Given) -> Prepared:
        """See `Family.prepare`."""
        r, s, (n, n_voxels) = self.rank, len(self.contrast), given.data.shape
        w = np.ones((n, n_voxels), bool) if given.present is None else given.present
        of, patterns = given.patterns
        lost = np.zeros(n_voxels, bool)
        if len(self.span):
            lost = grams_of(self.span, patterns.T)[1][of] == 2
        few = w.sum(axis=0) < r + 2
        known, c = self._regressors(given, w)
        reason = np.where(few, 1, np.where(lost, 2, np.where(self._follows(known, w, few | lost), 3, 0)))
        untested = reason > 0
        y = given.data.astype(np.float64) * w
        Q, R = self._directions(c, w, untested)
        a = np.einsum("vsk,sv->kv", Q, y)
        # The estimates of interest are the last: a triangle of them alone.
        delta = np.linalg.solve(R[:, r - s :, r - s :], a[r - s :].T[:, :, None])[:, :, 0]
        effect = np.where(untested, 0.0, (delta @ self.contrast.T).T)
        E = y
        for _ in range(2):  # what rounding left of the first time goes the second
            E = E - np.einsum("vsk,vk->sv", Q[:, :, : r - s], np.einsum("vsk,sv->vk", Q[:, :, : r - s], E))
        length, total = (np.sqrt(np.einsum("sv,sv->v", one, one)) for one in (E, y))
        degenerate = untested | (length <= np.sqrt(SMALLEST_VARIANCE) * total)
        length = np.where(degenerate, 0.0, length)
        E = E * np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))
        tested = np.einsum("vsk,sv->kv", Q[:, :, r - s :], E)
        number = tested[0] if self.is_t else (tested**2).sum(axis=0)
        dof = self.dofs[self.grade(w)]
        scale = replace(self.scales[0], dof=cast(float, dof))  # each element's own
        statistic = np.where(degenerate, 0.0, scale.to_statistic(number))
        z = np.where(degenerate, 0.0, pvalues.to_z(statistic, dof, None if self.is_t else s))
        maps = {"n_subjects": w.sum(axis=0), "dof": np.where(untested, 0, w.sum(axis=0) - r), REASON: reason}
        unit = np.where(untested, 0.0, self.contrast[0, 0] ** 2 / R[:, -1, -1] ** 2)
        maps |= self._sizes(effect, length, number, unit, self.grade(w))
        more = np.stack([np.where(degenerate & (name not in _OF_ALL), 0.0, maps[name]) for name in self.more])
        layers = tuple(Q[:, :, k].T * E for k in range(r)) if self.flips else self._layers(c, w, E)
        return Prepared(
            layers=tuple(np.where(degenerate, 0.0, layer) for layer in layers),
            score=z,
            statistic=statistic,
            effect=effect,
            degenerate=degenerate,
            length=length,
            fixed=np.empty((0, n_voxels)),
            more=more,
            number=np.where(degenerate, 0.0, number),
        )

    def _regressors(self, given: Given, w: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
        """Regressors (q, n_subjects, n_voxels) of those who are there, 0 for others; and with their mean for these."""
        known, filled = np.empty((2, len(self.regressors), *w.shape))
        for k, one in enumerate(self.regressors):
            by = np.ones((len(w), 1)) if one.by is None else one.by[:, None]
            layer = np.where(w, given.layers[one.layer].astype(np.float64), 0.0)
            mean = layer.sum(axis=0) / np.maximum(w.sum(axis=0), 1)
            known[k], filled[k] = layer * by, np.where(w, layer, mean) * by
        return known, filled

    def _follows(self, known: Doubles, w: NDArray[np.bool_], untested: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where (n_voxels,) a regressor adds nothing to what all share and to those before it."""
        p = len(self.span)
        whole = np.concatenate([self.span[:, :, None] * w, known]).transpose(2, 1, 0)
        whole[untested] = np.eye(*whole.shape[1:])
        triangle = np.asarray(np.linalg.qr(whole, mode="r"))
        left = np.diagonal(triangle, axis1=1, axis2=2)[:, p:]
        square = np.einsum("vsk,vsk->vk", whole[:, :, p:], whole[:, :, p:])
        return np.asarray((left**2 <= NOTHING_NEW * square).any(axis=1))

    def _directions(self, c: Doubles, w: NDArray[np.bool_], untested: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
        """Orthonormal columns (n_voxels, n_subjects, rank) over those who are there, and the triangle (.., rank, rank).

        Column by column they span nuisance and interest; each points where the one that it is made of does.
        """
        columns = np.concatenate([self.nuisance.of(c), self.interest.of(c)])
        M = (columns * w).transpose(2, 1, 0)
        M[untested] = np.eye(*M.shape[1:])
        Q, R = np.linalg.qr(M)
        sign = np.where(np.diagonal(R, axis1=1, axis2=2) < 0, -1.0, 1.0)
        return Q * sign[:, None], R * sign[:, :, None]

    def _sizes(
        self, effect: Doubles, length: Doubles, number: Doubles, unit: Doubles, grade: NDArray[np.intp]
    ) -> dict[str, Doubles]:
        """How large the effect is (n_voxels,), by the names of maps."""
        share = np.minimum(number**2 if self.is_t else number, 1.0)
        if not self.is_t:
            return {"partial_r2": share}
        sigma = effects.residual_sd(length, share, self.dofs[grade])
        maps = effects.effect_maps(effect[0], sigma, self.dofs, unit, self.swing or 1.0, of=grade)
        return maps | {"partial_r2": share}

    def _layers(self, c: Doubles, w: NDArray[np.bool_], E: Doubles) -> list[Doubles]:
        """E; the columns of elements' own; presence; and what these columns make with others; as `family` has them."""
        own = []
        for columns in (self.nuisance, self.interest):
            for column in columns.of(c)[columns.differs]:
                left = column - self.beside.T @ (self.beside @ column)
                size = np.sqrt(np.einsum("sv,sv->v", left, left))
                own.append(left / np.where(size > 0, size, 1.0))
        crossed = [column * row[:, None] for column in own for row in self.rows]
        squares = [one * other for i, one in enumerate(own) for other in own[: i + 1]]
        return [E, *own, w.astype(np.float64), *crossed, *squares]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Rows of b among the products, in the order of the columns, and of the lower triangle of G."""
        k, q, r = len(self.rows), self.n_own, self.rank
        z, own_z = len(self.beside), int(self.nuisance.differs.sum())
        # Products are of shared columns, and then of others; columns are those of nuisance and then of interest.
        tested = iter(range(z, k)), iter(range(k + own_z, r))
        b = [*range(z), *range(k, k + own_z), *(next(tested[int(own)]) for own in self.interest.differs)]
        found = []
        for i in range(r):
            for j in range(i + 1):
                high, low = max(b[i], b[j]), min(b[i], b[j])
                if high < k:
                    found.append(r + high * (high + 1) // 2 + low)
                elif low < k:
                    found.append(r + k * (k + 1) // 2 + (high - k) * k + low)
                else:
                    here = high - k
                    found.append(r + k * (k + 1) // 2 + q * k + here * (here + 1) // 2 + low - k)
        return (*b, *found)

    @cached_property
    def pairs(self) -> Doubles:
        """(n, n_subjects) products of two rows."""
        i, j = np.tril_indices(len(self.rows))
        return self.rows[i] * self.rows[j]

    def family(self) -> Family:
        """Build the family."""
        n, r, k, q = self.n_subjects, self.rank, len(self.rows), self.n_own
        beginning = (r, len(self.contrast), int(self.is_t), int(not self.flips))
        sizes = whole = (*beginning, 0, *(() if self.flips else self.order))
        patterns = OfPatterns(self.scales, self.grade)
        if self.flips:
            layers = tuple(Layer(Shuffled(np.ones((1, n)))) for _ in range(r))
        else:
            presence = 1 + q
            squares = q * k + q * (q + 1) // 2
            layers = (
                Layer(Shuffled(self.rows)),
                *(Layer(Gathered(n, 0)) for _ in range(q)),
                Layer(Shuffled(self.pairs, flipped=False)),
                *(Layer(Gathered(n, presence, flipped=False)) for _ in range(squares)),
            )
            if k:
                sizes = (*beginning, r + r * (r + 1) // 2 + len(self.pairs) - 1, *self.order)
                patterns = OfPatterns(
                    self.scales,
                    self.grade,
                    rows=Shuffled(self.pairs, flipped=False),
                    factor=factor,
                    n_kept=len(self.pairs),
                    sizes=(k, 0, 0),
                    n_scratch=k + 1,
                    whole=whole,
                )
        return Family(
            name="t" if self.is_t else "f",
            layers=layers,
            score=refit,
            scale=Graded(scales=self.scales),
            observe=None,
            sizes=sizes,
            constants=np.array([_SINGULAR]),
            n_scratch=3,
            precision=None if self.flips else "float64",
            prepare=self.prepare,
            needs=(*dict.fromkeys(one.layer for one in self.regressors), PRESENCE),
            more=self.more,
            reasons=self.reasons,
            undefined=("leave the design without its rank, of those that are there then",),
            patterns=patterns,
        )


_OF_ALL = ("n_subjects", "dof", REASON)
