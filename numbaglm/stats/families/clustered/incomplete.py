"""t and F with a sandwich variance of elements of which some maps are missing: each is tested with those that it has.

What a flip of clusters takes, see `numbaglm.stats.families.sandwich`, is of the maps that are there: an orthonormal
basis M of their design, what is tested first; the corrections A_k, and with them h_ik = u_ik' A_k e_k and the loadings
q_ik. Flips leave all of that as it is. Loadings differ between patterns of presence, so that they are part of the
layers, and rows are signs of clusters alone:

    d = sum_k f_k M_k' e_k,       w_ij = sum_k f_k h_ik q_jk,
    S_ij = sum_k h_ik h_jk - (w_ij + w_ji)' d + d' (sum_k q_ik q_jk') d.

Degrees of freedom are those of each pattern, rounded down to steps of a hundredth: elements of a step share a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels import incomplete, sandwich
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.effects import confidence_interval
from numbaglm.stats.families.family import PRESENCE, REASON, Family, Given, Layer, OfPatterns, Prepared
from numbaglm.stats.families.incomplete import FULL_RANK
from numbaglm.stats.families.sandwich import Flipped, quotient
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Graded, Share
from numbaglm.stats.variance.covariance import Sandwich
from numbaglm.stats.variance.sandwich import ALONE, naive_dof, satterthwaite

_STEP = 1.01  # from one number of degrees of freedom to the next: z of elements differ by less than a hundredth for it

_AT_ONCE = 2**21  # values of matrices of the clusters of some patterns


@Score
def of_patterns(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of d and of w_ij.

    Parameters
    ----------
    products
        d (p rows), then w_ij (p rows each).
    fixed
        The degrees of freedom; for each i and j <= i, row by row, sum_k h_ik h_jk; and for each, the lower triangle of
        the form of d, entries beside its diagonal twice.
    sizes
        p, and directions tested s.
    """
    p, s = sizes[0], sizes[1]
    n, width = products.shape[1], fixed.shape[1]
    triangle, n_forms = s * (s + 1) // 2, p * (p + 1) // 2
    S = products[p + s * s * p :]
    for i in range(s):
        for j in range(i + 1):
            which = i * (i + 1) // 2 + j
            to, own = S[which], fixed[1 + which]
            forms = fixed[1 + triangle + which * n_forms : 1 + triangle + (which + 1) * n_forms]
            for first in range(0, n, width):
                for v in range(width):
                    to[first + v] = own[v]
            for m in range(p):
                d = products[m]
                left, right = products[p + (i * s + j) * p + m], products[p + (j * s + i) * p + m]
                for v in range(n):
                    to[v] -= (left[v] + right[v]) * d[v]
                for k in range(m + 1):
                    other, form = products[k], forms[m * (m + 1) // 2 + k]
                    for first in range(0, n, width):
                        for v in range(width):
                            to[first + v] += form[v] * (d[first + v] * other[first + v])
            for first in range(0, n, width):
                for v in range(width):
                    to[first + v] *= fixed[0, v]
    sandwich.wald(products, S, fixed[1:], s, 1.0)


@dataclass(frozen=True, eq=False)
class _Patterns:
    """What patterns of presence make of the design.

    Attributes
    ----------
    reason
        (n_patterns,) why a pattern can't be tested, as in `Family.reasons`; 0 where it can.
    dof
        (n_patterns,) of S.
    inverse
        (n_patterns, rank, rank) of the Gram matrix of the rows over those who are there.
    nuisance
        (n_patterns, rank - s, rank - s) the same of the nuisance alone.
    basis, adjusted, loadings
        (n_patterns, rank, n), (n_patterns, s, n) and (n_patterns, s, n_clusters, rank), see the module.
    """

    reason: NDArray[np.intp]
    dof: Doubles
    inverse: Doubles
    nuisance: Doubles
    basis: Doubles
    adjusted: Doubles
    loadings: Doubles


@dataclass(frozen=True, eq=False)
class IncompleteClusters:
    """A hypothesis with a sandwich variance, of elements with the maps that they have.

    Attributes
    ----------
    rows
        (rank, n_subjects) orthonormal rows that span the design, those of interest first.
    n_interest
        How many these are.
    effect
        (n_interest, rank) makes the contrast of the parameter estimates of coefficients of the rows.
    number
        (n_subjects,) number of each map's cluster.
    asked
        Which sandwich variance, a classic one.
    whole_dof
        Degrees of freedom of S where all maps are there.
    """

    rows: Doubles
    n_interest: int
    effect: Doubles
    number: NDArray[np.intp]
    asked: Sandwich
    whole_dof: float

    @property
    def n_clusters(self) -> int:
        """In all."""
        return int(self.number.max()) + 1

    @property
    def least(self) -> int:
        """Maps that an element must have."""
        return len(self.rows) + 2

    @cached_property
    def steps(self) -> Doubles:
        """Degrees of freedom that there are, from the most; those of all maps among them."""
        most = np.ceil(np.log(self.rows.shape[1] / self.whole_dof) / np.log(_STEP))
        least = np.floor(np.log(self.whole_dof / self.n_interest) / np.log(_STEP))
        return np.asarray(self.whole_dof * _STEP ** np.arange(max(most, 0.0), -max(least, 0.0) - 1, -1))

    @cached_property
    def scales(self) -> tuple[Correlation, ...] | tuple[Share, ...]:
        """Of the steps."""
        s = self.n_interest
        if s == 1:
            return tuple(Correlation(dof) for dof in self.steps)
        return tuple(Share(dof - s + 1, s) for dof in self.steps)

    def grade(self, present: NDArray[np.bool_]) -> NDArray[np.intp]:
        """See `OfPatterns.grade`."""
        made = [self._grades(one.dof) for one in self._in_parts(present.T)]
        return np.concatenate(made)

    def _grades(self, dof: Doubles) -> NDArray[np.intp]:
        """Numbers of the steps that degrees of freedom are rounded down to."""
        below = np.searchsorted(-self.steps, -dof * (1 + 1e-9))
        return np.minimum(below, len(self.steps) - 1)

    def _in_parts(self, present: NDArray[np.bool_]) -> list[_Patterns]:
        """Patterns (n_patterns, n_subjects), a few at a time."""
        step = max(1, _AT_ONCE // (self.n_clusters * len(self.rows) ** 2))
        return [self._patterns(present[i : i + step]) for i in range(0, len(present), step)]

    def _patterns(self, present: NDArray[np.bool_]) -> _Patterns:
        r, s = len(self.rows), self.n_interest
        gram = np.empty((len(present), r, r))
        incomplete.grams(self.rows, np.ascontiguousarray(present), gram)
        few, lost = present.sum(axis=1) < self.least, np.linalg.eigvalsh(gram)[:, 0] < FULL_RANK
        gram[few | lost] = np.eye(r)
        order = np.roll(np.arange(r), -s)  # the nuisance first: what is left of the others is theirs
        turn = np.linalg.inv(np.linalg.cholesky(gram[:, order[:, None], order]))
        basis = np.roll(turn @ self.rows[order], s, axis=1) * present[:, None]
        adjusted, loadings, alone = self._corrected(basis, present)
        dof = self._dof(basis, adjusted, loadings, present * ~(few | lost)[:, None])
        reason = np.where(few, 1, np.where(lost, 2, np.where(alone | (dof < self.n_interest), 3, 0)))
        dof = np.where(reason > 0, self.whole_dof, dof)
        inverse: Doubles = np.asarray(np.linalg.inv(gram), np.float64)
        nuisance: Doubles = np.asarray(np.linalg.inv(gram[:, s:, s:]), np.float64)
        return _Patterns(reason, dof, inverse, nuisance, basis, adjusted, loadings)

    def _corrected(self, basis: Doubles, present: NDArray[np.bool_]) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
        """A_k u_ik, loadings, and whether a cluster decides by itself what is tested."""
        s, kind = self.n_interest, self.asked.adjustment
        u = basis[:, :s]
        power = -0.5 if kind in ("HC2", "C2") else -1.0
        if kind in ("HC2", "HC3"):
            left = 1.0 - (basis**2).sum(axis=1)
            alone = left < ALONE
            adjusted = u * np.where(alone, 0.0, np.where(alone, 1.0, left) ** power)[:, None]
            lost = (np.abs(u).max(axis=1) > 1e-8) & alone
            return adjusted, self._products(adjusted, basis), lost.any(axis=1)
        blocks = self._products(basis, basis).transpose(0, 2, 1, 3)  # M_k' M_k
        sizes, turned = np.linalg.eigh(blocks)
        alone = 1.0 - sizes < ALONE
        lost = (np.abs(turned[:, :, :s]).max(axis=2) * alone > 1e-8).any(axis=(1, 2))
        if kind in ("none", "n/(n-p)"):
            n = present.sum(axis=1)
            times = np.ones(len(n)) if kind == "none" else np.sqrt(n / np.maximum(n - len(self.rows), 1))
            adjusted = u * times[:, None, None]
            return adjusted, self._products(adjusted, basis), lost
        # A_k = I + M_k g M_k', by the roots of M_k' M_k, which (I - M_k M_k')^power shares.
        some = np.clip(sizes, 1e-30, 1.0 - ALONE)
        g = np.where(alone, -1.0, np.expm1(power * np.log1p(-some)) / some)
        weights = (turned * g[:, :, None]) @ turned.swapaxes(2, 3) @ blocks[..., :s]
        adjusted = u + np.einsum("qmr,qrms->qsr", basis, weights[:, self.number])
        loadings = blocks[..., :s] + blocks @ weights
        return np.ascontiguousarray(adjusted), np.ascontiguousarray(loadings.transpose(0, 3, 1, 2)), lost

    def _products(self, left: Doubles, right: Doubles) -> Doubles:
        """(n_patterns, k, n_clusters, m) sums over clusters of products of rows."""
        out = np.empty((len(left), left.shape[1], self.n_clusters, right.shape[1]))
        sandwich.products_of_clusters(np.ascontiguousarray(left), np.ascontiguousarray(right), self.number, out)
        return out

    def _dof(self, basis: Doubles, adjusted: Doubles, loadings: Doubles, present: NDArray[np.bool_]) -> Doubles:
        """Degrees of freedom of S."""
        if self.asked.dof == "satterthwaite":
            return satterthwaite(self._products(adjusted, adjusted).transpose(0, 1, 3, 2), loadings)
        found = np.zeros(len(basis))
        for q, there in enumerate(present):
            members = [np.flatnonzero(there & (self.number == k)) for k in np.unique(self.number[there])]
            if there.any():
                found[q] = naive_dof(np.ascontiguousarray(basis[q].T), self.n_interest, members)
        return found

    def prepare(self, given: Given) -> Prepared:
        """See `Family.prepare`."""
        r, s = len(self.rows), self.n_interest
        n_voxels = given.data.shape[1]
        of, present = given.patterns
        parts = self._in_parts(present)
        reason, dof, inverse, nuisance, basis, adjusted, loadings = (
            np.concatenate([getattr(one, name) for one in parts]) for name in _Patterns.__dataclass_fields__
        )
        data: Doubles = np.ascontiguousarray(given.data.T, dtype=np.float64) * present[of]
        E, products = np.empty(data.shape), np.empty((n_voxels, r))
        incomplete.residuals(data, of, present, np.ascontiguousarray(self.rows[s:]), nuisance, E)
        incomplete.products(data, self.rows, products)
        length = np.sqrt((E**2).sum(axis=1))
        untested = reason[of] > 0
        degenerate = untested | (length <= np.sqrt(SMALLEST_VARIANCE) * np.sqrt((data**2).sum(axis=1)))
        length = np.where(degenerate, 0.0, length)
        E *= np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))[:, None]
        layers, own = np.empty((r + s * s * r, self.n_clusters, n_voxels)), np.empty((s, self.n_clusters, n_voxels))
        sandwich.layers_of_patterns(E, of, basis, adjusted, loadings, self.number, layers, own)
        grade = self._grades(dof)
        fixed = self._fixed(own, loadings, self.steps[grade], of)
        d, S = self._observed(layers, fixed)
        number = np.where(degenerate, 0.0, quotient(d, S, self.steps[grade][of]))
        coefficients = np.einsum("vij,vj->vi", inverse[of], products)
        effect = np.where(untested, 0.0, np.einsum("ei,vi->ev", self.effect, coefficients))
        statistic, z = np.zeros((2, n_voxels))
        for one in np.unique(grade[of][~degenerate]):
            which, scale = np.flatnonzero(~degenerate & (grade[of] == one)), self.scales[one]
            statistic[which], z[which] = scale.to_statistic(number[which]), scale.to_z(number[which])
        used = np.where(untested, 0.0, self.steps[grade][of] - s + 1)  # as those of the scales
        more = [present.sum(axis=1)[of], used, reason[of]]
        if s == 1:
            unit = np.einsum("i,pij,j->p", self.effect[0], inverse, self.effect[0])[of]
            error = np.sqrt(unit * S[0, 0]) * length
            more = [error, *confidence_interval(effect[0], error, np.where(untested, 1.0, used)), *more]
        return Prepared(
            tuple(layers), z, statistic, effect, degenerate, length, fixed, np.array(more, np.float64), number
        )

    def _fixed(self, own: Doubles, loadings: Doubles, dof: Doubles, of: NDArray[np.int32]) -> Doubles:
        """What no flip changes, see `of_patterns`."""
        a, b = np.tril_indices(len(self.rows))
        forms = np.einsum("qikm,qjkn->ijqmn", loadings, loadings)
        forms = (forms + forms.swapaxes(3, 4))[..., a, b] * np.where(a == b, 0.5, 1.0)
        i, j = np.tril_indices(self.n_interest)
        squares = np.einsum("ikv,ikv->iv", own[i], own[j])
        return np.vstack([dof[of][None], squares, *(one[of].T for one in forms[i, j])])

    def _observed(self, layers: Doubles, fixed: Doubles) -> tuple[Doubles, Doubles]:
        """d of what is tested, and S."""
        r, s = len(self.rows), self.n_interest
        i, j = np.tril_indices(s)
        a, b = np.tril_indices(r)
        sums = layers.sum(axis=1)
        d, w = sums[:r], sums[r:].reshape(s, s, r, -1)
        forms = fixed[1 + len(i) :].reshape(len(i), len(a), -1)
        S = np.empty((s, s, layers.shape[2]))
        S[i, j] = fixed[1 : 1 + len(i)] - ((w[i, j] + w[j, i]) * d).sum(axis=1) + (forms * (d[a] * d[b])).sum(axis=1)
        S[j, i] = S[i, j]
        S[range(s), range(s)] = np.maximum(S[range(s), range(s)], 0.0)
        return d[:s], S

    def family(self) -> Family:
        """Build the family."""
        r, s = len(self.rows), self.n_interest
        once = Flipped(np.ones((1, self.n_clusters)), np.unique(self.number, return_index=True)[1])
        own = ("effect_se", "effect_lower", "effect_upper") if s == 1 else ()
        return Family(
            name="t" if s == 1 else "f",
            layers=(Layer(once),) * (r + s * s * r),
            score=of_patterns,
            scale=Graded(scales=self.scales),
            observe=None,
            sizes=(r, s),
            n_scratch=s * (s + 1) // 2,
            pooled=False,
            prepare=self.prepare,
            needs=(PRESENCE,),
            more=(*own, "n_subjects", "dof", REASON),
            reasons=(
                f"have fewer than the {self.least} maps that this design takes",
                "leave the design without its rank, of the maps that they have",
                "leave what is tested to too few clusters to tell its variance",
            ),
            patterns=OfPatterns(self.scales, self.grade),
            dof=self.whole_dof if s == 1 else self.whole_dof - s + 1,
        )
