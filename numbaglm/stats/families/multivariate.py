"""Statistics of several variables: Hotelling's T2, Wilks, Pillai, Lawley-Hotelling, Roy, canonical correlations.

With E_k what the nuisance leaves of variable k, T = E'E does not change under shuffling. Whitened once by it, the
variables W are orthonormal, and of the s x K products B of the shuffled rows of interest with them follow all roots of
H (E + H)^-1: they are those of B B'. Where shuffling moves nuisance, N its products, T becomes I - N'N, and B is
whitened by that.

Beside them stand loadings: correlations of each variable with the sum of all that goes with what is tested (its first
discriminant, or the canonical variate).

References
----------
Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511. Mardia, Kent and Bibby (1979), Multivariate Analysis. Rao (1951),
Bull. Int. Stat. Inst. 33:177-180, for Wilks; McKeon (1974), Biometrika 61:381-383, for Lawley-Hotelling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels import glm
from numbaglm.kernels.eigen import root
from numbaglm.kernels.panels.scores import Score
from numbaglm.kernels.panels.straight import Numbers, Straight, follow, in_words, vector_code
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import REASON, Family, Given, Layer, Prepared, Rows
from numbaglm.stats.families.variables import (
    FIXED,
    Heights,
    as_signed,
    directions,
    named_loadings,
    unit_residuals,
)
from numbaglm.stats.methods import p_holds
from numbaglm.stats.scales import TIE_TOLERANCE

DEPENDENT = "have variables that follow from each other"
"""A reason: the variables have no inverse of their covariance."""

_LEAST_PIVOT = 1e-10  # of a variable's variance that the others before it must leave

SUM, WILKS, LAWLEY, ROOT = range(4)
"""What the kernel makes of the roots: their sum, one less the product of their complements, the sum of their odds,
one."""


def recipe(of: Numbers, n_variables: int, s: int, moved: int, kind: int, which: int) -> tuple[int, Any]:
    """Make scores as `roots` does, of the products of rows with each other: G = R R', R = [N; B], as rows of variables.

    Eliminating N leaves of I - G an I - M; the roots of M beyond 0 are those that are sought.
    """
    rows, tiny = s + moved, 1e-14
    order = [*range(s, rows), *range(s)]
    G: dict[tuple[int, int], Any] = {}
    for i in range(rows):
        for j in range(i + 1):
            if kind == SUM and i != j >= moved:
                continue  # nothing but the diagonal of M is looked at
            for a in range(n_variables):
                product = of.row(a * rows + order[i]) * of.row(a * rows + order[j])
                G[i, j] = product + G[i, j] if a else product
    left: dict[int, Any] = {}  # pivots of I - G, of which shares are what rows are eliminated by
    share: dict[tuple[int, int], Any] = {}
    for j in range(moved if kind in (SUM, ROOT) else rows):
        pivot = 1.0 - G[j, j]
        left[j] = of.where_less(pivot, tiny, tiny, pivot)  # NaN, of shufflings that are not there, stays it
        for i in range(j + 1, rows):
            share[i, j] = G[i, j] / left[j]
            for k in range(j + 1, i + 1):
                if (i, k) in G:
                    G[i, k] = G[i, k] + share[i, j] * G[k, j]
    score = G[moved, moved]
    if kind == SUM:
        for i in range(moved + 1, rows):
            score = score + G[i, i]
    elif kind == WILKS:  # put together of what each pivot lacks: small roots would be lost beside 1
        for i in range(moved + 1, rows):
            score = score + G[i, i] * (1.0 - score)
    elif kind == LAWLEY:  # the trace of the inverse, by that of the factor, less what is 1
        score = score / left[moved]
        for i in range(moved + 1, rows):
            score = score + G[i, i] / left[i]
            inverse = {i: 1.0}
            for j in reversed(range(moved, i)):
                terms = [inverse[c] * share[c, j] for c in range(j + 1, i + 1)]
                inverse[j] = sum(terms[1:], start=terms[0])
                score = score + inverse[j] * inverse[j] / left[i]
    elif s == 2:
        first, beside, last = score, G[moved + 1, moved], G[moved + 1, moved + 1]
        apart = 0.5 * (first - last)
        reach = of.sqrt(apart * apart + beside * beside)
        score = 0.5 * (first + last) + (reach if which == 0 else -reach)
    return 0, score


_vector_code = vector_code(recipe)


@cache
def straight_roots(n_variables: int, s: int, moved: int, kind: int, which: int) -> Straight:
    """`roots` for some sizes, without loops; see `is_straight`."""
    sizes = n_variables, s, moved, kind, which
    words = in_words(sizes)

    def score(products: Floats, fixed: Floats, told: NDArray[np.int64], constants: Floats) -> None:
        _vector_code(products, constants, words)

    def plain(products: Floats, fixed: Floats, told: NDArray[np.int64], constants: Floats) -> None:
        follow(recipe, sizes, products, constants)

    return Straight(score, plain, straight_roots, sizes)


def is_straight(n_variables: int, s: int, moved: int, kind: int) -> bool:
    """Whether rows are few enough for `straight_roots`, and roots that are told apart few enough to be written down."""
    few = n_variables * (s + moved) * (s + moved + 1) // 2 <= _PRODUCTS and moved <= 2 * n_variables
    return few and (kind != ROOT or s <= min(2, n_variables))


_PRODUCTS = 150  # past which registers don't hold them, and compiling them takes long


@Score
def roots(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of products, the rows of the first variable first, in each those of interest first.

    Parameters
    ----------
    sizes
        Variables, rows of interest, rows of moved nuisance, what is made of the roots, and which of them, from 0.
    """
    n_variables, s, moved, kind, which = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    n, rows = products.shape[1], s + moved
    tiny = products.dtype.type(1e-14)  # what stands for shufflings that are not there, NaN, stays it
    one = products.dtype.type(1.0)
    zero = products.dtype.type(0.0)
    L = n_variables * rows  # first row of scratch: a triangle, row by row, of whose diagonal there are the inverses
    if moved > 0:
        for b in range(n_variables):
            for a in range(b + 1):
                entry, begin = products[L + b * (b + 1) // 2 + a], one if a == b else zero
                left, right = products[a * rows + s], products[b * rows + s]
                for v in range(n):
                    entry[v] = begin - left[v] * right[v]
                for j in range(s + 1, rows):
                    left, right = products[a * rows + j], products[b * rows + j]
                    for v in range(n):
                        entry[v] -= left[v] * right[v]
                for c in range(a):
                    left, right = products[L + a * (a + 1) // 2 + c], products[L + b * (b + 1) // 2 + c]
                    for v in range(n):
                        entry[v] -= left[v] * right[v]
                if a == b:
                    for v in range(n):
                        entry[v] = one / np.sqrt(tiny if entry[v] < tiny else entry[v])
                else:
                    pivot = products[L + a * (a + 1) // 2 + a]
                    for v in range(n):
                        entry[v] *= pivot[v]
        for j in range(s):
            for a in range(n_variables):
                x = products[a * rows + j]
                for c in range(a):
                    factor, before = products[L + a * (a + 1) // 2 + c], products[c * rows + j]
                    for v in range(n):
                        x[v] -= factor[v] * before[v]
                pivot = products[L + a * (a + 1) // 2 + a]
                for v in range(n):
                    x[v] *= pivot[v]
    score = products[0]
    d = min(s, n_variables)
    if kind == 0 or d == 1:
        for v in range(n):
            score[v] *= score[v]
        for j in range(s):
            for a in range(n_variables):
                if a + j > 0:
                    other = products[a * rows + j]
                    for v in range(n):
                        score[v] += other[v] * other[v]
        if kind == 2:
            for v in range(n):
                left_over = one - score[v]
                score[v] /= tiny if left_over < tiny else left_over
        return
    # The smaller of B B' and B'B, whose roots beyond 0 are the same.
    for i in range(d):
        for j in range(i + 1):
            entry = products[L + i * (i + 1) // 2 + j]
            for k in range(max(s, n_variables)):
                left = products[k * rows + i] if s <= n_variables else products[i * rows + k]
                right = products[k * rows + j] if s <= n_variables else products[j * rows + k]
                if k == 0:
                    for v in range(n):
                        entry[v] = left[v] * right[v]
                else:
                    for v in range(n):
                        entry[v] += left[v] * right[v]
    if d == 2:
        half, first, beside, last = products.dtype.type(0.5), products[L], products[L + 1], products[L + 2]
        if kind == 3:
            for v in range(n):
                apart = half * (first[v] - last[v])
                reach = np.sqrt(apart * apart + beside[v] * beside[v])
                score[v] = half * (first[v] + last[v]) + (reach if which == 0 else -reach)
        elif kind == 1:
            for v in range(n):
                score[v] = first[v] + last[v] * (one - first[v]) + beside[v] * beside[v]
        else:
            for v in range(n):
                both = first[v] * last[v] - beside[v] * beside[v]
                left_over = (one - first[v]) * (one - last[v]) - beside[v] * beside[v]
                score[v] = (first[v] + last[v] - both - both) / (tiny if left_over < tiny else left_over)
        return
    if kind == 3:
        for v in range(n):
            score[v] = root(products, L, d, which, v)
        return
    # Of I - M: a triangle whose squared diagonal has its determinant, and whose inverse the trace of the inverse. One
    # less the determinant is put together of what each pivot lacks: small roots would be lost beside 1.
    for i in range(d):
        for j in range(i + 1):
            entry = products[L + i * (i + 1) // 2 + j]
            for c in range(j):
                left, right = products[L + i * (i + 1) // 2 + c], products[L + j * (j + 1) // 2 + c]
                for v in range(n):
                    entry[v] += left[v] * right[v]
            if i == j:
                for v in range(n):
                    lacking = entry[v]
                    score[v] = lacking if i == 0 else score[v] + lacking * (one - score[v])
                    left_over = one - lacking
                    entry[v] = one / np.sqrt(tiny if left_over < tiny else left_over)
            else:
                pivot = products[L + j * (j + 1) // 2 + j]
                for v in range(n):
                    entry[v] *= -pivot[v]
    if kind == 1:
        return
    column = L + d * (d + 1) // 2
    for v in range(n):
        score[v] = products.dtype.type(-d)
    for j in range(d):
        for i in range(j, d):
            x = products[column + i]
            for v in range(n):
                x[v] = one if i == j else zero
            for c in range(j, i):
                factor, before = products[L + i * (i + 1) // 2 + c], products[column + c]
                for v in range(n):
                    x[v] -= factor[v] * before[v]
            pivot = products[L + i * (i + 1) // 2 + i]
            for v in range(n):
                x[v] *= pivot[v]
                score[v] += x[v] * x[v]


@dataclass(frozen=True)
class Statistic:
    """One of them.

    Attributes
    ----------
    name
        As it is asked for; ``map`` is that of its map.
    kind
        What the kernel makes of the roots.
    parametric
        F and its degrees of freedom of a score, of variables, rows of interest and residual degrees of freedom.
    value
        What its map shows of a score, and residual degrees of freedom.
    one_row
        Whether it is for contrasts of one row alone.
    """

    name: str
    map: str
    kind: int
    parametric: Callable[[Doubles, int, int, int], tuple[Doubles, float, float]]
    value: Callable[[Doubles, int], Doubles]
    one_row: bool = False


def _hotelling_f(score: Doubles, p: int, s: int, dof: int) -> tuple[Doubles, float, float]:
    return score / _left(score) * (dof - p + 1) / p, p, dof - p + 1


def _wilks_f(score: Doubles, p: int, s: int, dof: int) -> tuple[Doubles, float, float]:
    t = np.sqrt((p * p * s * s - 4) / (p * p + s * s - 5)) if p * p + s * s > 5 else 1.0
    w = dof + s - (p + s + 1) / 2
    second = w * t - (p * s - 2) / 2
    left = np.maximum(1.0 - score, 1e-300) ** (1 / t)
    return (1 - left) / left * second / (p * s), p * s, second


def _pillai_f(score: Doubles, p: int, s: int, dof: int) -> tuple[Doubles, float, float]:
    b, m, n = min(p, s), (abs(p - s) - 1) / 2, (dof - p - 1) / 2
    return (
        (2 * n + b + 1) / (2 * m + b + 1) * score / np.maximum(b - score, 1e-14),
        b * (2 * m + b + 1),
        b * (2 * n + b + 1),
    )


def _lawley_f(score: Doubles, p: int, s: int, dof: int) -> tuple[Doubles, float, float]:
    b, m, n = min(p, s), (abs(p - s) - 1) / 2, (dof - p - 1) / 2
    if n <= 0:
        first, second = b * (2 * m + b + 1), 2 * (b * n + 1)
        return score / b * second / first, first, second
    product = 2 * (2 * n + 1) * (n - 1)
    extra = (p * s + 2) * product / ((p + 2 * n) * (s + 2 * n) - product)
    return score * 2 * n / (2 + extra) * (4 + extra) / (p * s), p * s, 4 + extra


def _roy_f(score: Doubles, p: int, s: int, dof: int) -> tuple[Doubles, float, float]:
    most = max(p, s)
    return score / _left(score) * (dof - most + s) / most, most, dof - most + s


def _left(score: Doubles) -> Doubles:
    return np.maximum(1.0 - score, 1e-14)


STATISTICS = {
    one.name: one
    for one in (
        Statistic("hotelling", "t2", SUM, _hotelling_f, lambda score, dof: dof * score / _left(score), one_row=True),
        Statistic("wilks", "wilks", WILKS, _wilks_f, lambda score, dof: 1.0 - score),
        Statistic("pillai", "pillai", SUM, _pillai_f, lambda score, dof: score),
        Statistic("lawley-hotelling", "lawley", LAWLEY, _lawley_f, lambda score, dof: score),
        Statistic("roy", "roy", ROOT, _roy_f, lambda score, dof: score / _left(score)),
        Statistic("roy-theta", "roy_theta", ROOT, _roy_f, lambda score, dof: score),
        Statistic("cca", "cca", ROOT, _roy_f, lambda score, dof: np.sqrt(np.maximum(score, 0.0))),
    )
}
"""All of them, by name. What has no distribution of its own (Roy's root, canonical correlations) takes the F that
bounds the p of the largest root from below."""


@dataclass(frozen=True)
class Roots:
    """What scores of several variables mean: all that follows of a score (clusters, TFCE) is of the z of the same p.

    Attributes
    ----------
    statistic
        A name in `STATISTICS`.
    n_variables, n_rows, dof
        Variables, rows of interest, residual degrees of freedom.
    """

    statistic: str
    n_variables: int
    n_rows: int
    dof: int
    name: str = "z"

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """z of a score."""
        return self.to_z(score)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """z of a map, by a table: exact to 1e-8 above -1, which is all that clusters and TFCE look at."""
        first, spline = self._table
        place = -np.log1p(-np.minimum(self._share(score), 1.0 - 1e-14))
        out[:] = spline(np.maximum(place, first))

    @cached_property
    def _table(self) -> tuple[float, interpolate.CubicSpline]:
        first = -np.log1p(-float(self._share(np.array([self.to_score("z", -1.0, False)]))[0]))
        nodes = np.linspace(first, -np.log(1e-14), 2**14)
        share = -np.expm1(-nodes)
        return first, interpolate.CubicSpline(nodes, self.to_z(self._of_share(share)))

    def _share(self, score: NDArray[np.floating]) -> Doubles:
        """A number from 0 to 1 that grows with the score."""
        score = np.asarray(score, dtype=np.float64)
        most = min(self.n_variables, self.n_rows)
        kind = STATISTICS[self.statistic].kind
        return np.asarray(score / (1.0 + score) if kind == LAWLEY else score / most if kind == SUM else score)

    def _of_share(self, share: Doubles) -> Doubles:
        most = min(self.n_variables, self.n_rows)
        kind = STATISTICS[self.statistic].kind
        return np.asarray(share / (1.0 - share) if kind == LAWLEY else share * most if kind == SUM else share)

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold on z or p."""
        z = float(value) if kind == "z" else float(-special.ndtri(value))

        def beyond(share: float) -> float:
            return float(self.to_z(self._of_share(np.array([share])))[0]) - z

        if beyond(1.0 - 1e-14) < 0:
            return np.inf
        share = optimize.brentq(beyond, 1e-300, 1.0 - 1e-14, xtol=1e-15, rtol=1e-14)
        return float(self._of_share(np.array([share]))[0])

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of the p that the statistic's F has."""
        above: Doubles = np.maximum(np.asarray(score, dtype=np.float64), 0.0)
        of = STATISTICS[self.statistic]
        f, first, second = of.parametric(above, self.n_variables, self.n_rows, self.dof)
        return pvalues.to_z(f, second, first)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A score that lies a tolerance below on the scale of correlations; of odds as far as these are from 0."""
        if STATISTICS[self.statistic].kind == LAWLEY:
            return np.asarray(height - TIE_TOLERANCE[precision] * (1.0 + height) ** 2)
        return np.asarray(np.maximum(np.sqrt(np.maximum(height, 0.0)) - TIE_TOLERANCE[precision], 0.0) ** 2)

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of z: far where the model nearly fits."""
        left = np.maximum(1.0 - self._share(score), 1e-14)
        return np.asarray(np.minimum(10 * np.finfo(precision).eps / left, 0.01))


@dataclass(frozen=True, eq=False)
class Prepare:
    """Whitens the variables of some elements, see `Family.prepare`.

    Attributes
    ----------
    others
        Names of the layers that hold the maps after the first.
    interest, nuisance
        (n_rows, n_subjects) orthonormal rows.
    effect
        (n_effects, n_subjects) whose product with a variable is the contrast of its parameter estimates.
    statistic, dof, which
        A name in `STATISTICS`, residual degrees of freedom, and which of the roots, from 0, loadings are of.
    mix
        Sums of the maps that are the variables, see `variables_of`; None for the maps themselves.
    """

    others: tuple[str, ...]
    interest: Doubles
    nuisance: Doubles
    effect: Doubles
    statistic: str
    dof: int
    which: int
    mix: Doubles | None

    def __call__(self, given: Given) -> Prepared:
        """Of the variables of some elements."""
        E, lengths = unit_residuals(given, self.others, self.nuisance, self.mix)
        n_variables, _, n = E.shape
        reason = np.where((lengths == 0).any(axis=0), 1.0, 0.0)
        W, B, independent = np.empty_like(E), np.empty((n, len(self.interest), n_variables)), np.empty(n)
        R = np.empty((n, n_variables, n_variables))
        glm.whiten(E, _LEAST_PIVOT, self.interest, W, R, B, independent)
        reason[(independent == 0) & (reason == 0)] = 2.0
        degenerate = reason > 0
        W[:, :, degenerate], B[degenerate] = 0.0, 0.0
        of = STATISTICS[self.statistic]
        score = np.where(degenerate, 0.0, _score(B, of.kind, self.which))
        # Correlations with a sum of W, of unit length or 0, are sums of those with W.
        loadings = np.einsum("nca,nc->an", R, directions(B, self.which))
        effect = np.empty((n_variables, len(self.effect), n))
        for e, found in zip(E, effect, strict=True):  # to which nuisance adds nothing
            glm.products_of_rows(self.effect, e, found)
        effect *= lengths[:, None]
        return Prepared(
            layers=tuple(W),
            score=score,
            statistic=np.where(degenerate, of.value(np.zeros(n), self.dof), of.value(score, self.dof)),
            effect=effect.reshape(-1, n),
            degenerate=degenerate,
            length=np.where(degenerate, 0.0, lengths[0]),
            fixed=np.empty((0, n)),
            more=np.vstack([reason[None], as_signed(loadings, signed=len(self.interest) == 1)]),
        )


def _score(B: Doubles, kind: int, which: int) -> Doubles:
    """Scores (n,) of the products (n, n_rows, n_variables) of what is observed."""
    if kind == SUM:
        return np.asarray((B**2).sum(axis=(1, 2)))
    n, s, n_variables = B.shape
    if s <= min(2, n_variables):
        rows = np.ascontiguousarray(B.transpose(2, 1, 0)).reshape(-1, n)
        _, score = recipe(Numbers(rows, np.empty(0)), n_variables, s, 0, kind, which)
        return np.asarray(np.clip(score, 0.0, np.inf if kind == LAWLEY else 1.0))
    M = B @ B.transpose(0, 2, 1) if B.shape[1] <= B.shape[2] else B.transpose(0, 2, 1) @ B
    found = np.clip(np.linalg.eigvalsh(M), 0.0, 1.0)
    if kind == ROOT:
        return np.asarray(found[:, -1 - which])
    left = np.maximum(1.0 - found, 1e-14)
    return np.asarray(1.0 - left.prod(axis=1) if kind == WILKS else (1.0 / left - 1.0).sum(axis=1))


def multivariate(
    statistic: str,
    others: tuple[str, ...],
    rows: Rows,
    interest: Doubles,
    nuisance: Doubles,
    effect: Doubles,
    dof: int,
    which: int = 0,
    mix: Doubles | None = None,
    names: tuple[str, ...] | None = None,
    fisher: bool = False,
) -> Family:
    """Build a statistic of several variables.

    Parameters
    ----------
    statistic
        A name in `STATISTICS`.
    others
        Layers that hold the maps after the first, which is the data.
    rows
        What is shuffled: the rows of interest, then the nuisance that shuffling moves.
    interest, nuisance
        (n_rows, n_subjects) orthonormal rows.
    effect
        See `Prepare`.
    dof
        Residual degrees of freedom.
    which
        Which canonical correlation, from 0.
    mix
        (n_variables, n_maps) sums of the maps that are the variables; None for the maps themselves.
    names
        Of the variables, by which the maps of their loadings are called; None for their numbers.
    fisher
        Whether canonical correlations are compared as PALM has them, by Fisher's transform, and have no parametric p.
    """
    of, n_variables, s = STATISTICS[statistic], 1 + len(others) if mix is None else len(mix), len(interest)
    moved, d = rows.shape[0] - s, min(s, n_variables)
    score, n_scratch = roots, max(n_variables * (n_variables + 1) // 2, d * (d + 1) // 2 + d)
    if is_straight(n_variables, s, moved, of.kind):
        score, n_scratch = straight_roots(n_variables, s, moved, of.kind, which), 0
    return Family(
        name=of.map,
        layers=(Layer(rows),) * n_variables,
        score=score,
        scale=Heights() if fisher else Roots(statistic, n_variables, s, dof),
        observe=None,
        sizes=(n_variables, s, moved, of.kind, which),
        n_scratch=n_scratch,
        # Rotations take double precision, and so do roots but the largest, which are small.
        precision="float64" if of.kind == ROOT and (d > 2 or which > 0) else None,
        pooled=False,
        prepare=Prepare(others, interest, nuisance, effect, statistic, dof, which, mix),
        needs=others,
        more=(REASON, *named_loadings(names, n_variables)),
        reasons=(FIXED, DEPENDENT),
        parametric=not fisher,
        p_holds=p_holds(statistic, s, n_variables),
    )
