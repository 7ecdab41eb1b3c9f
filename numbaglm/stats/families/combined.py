"""Non-parametric combination: one statistic of the p of several variables or contrasts, shuffled together.

In every shuffling the t or F of each variable, each contrast, or each of both becomes its parametric p; a combining
function makes one number of them, which is judged against its own permutation distribution (Pesarin 2001; Winkler et
al. 2016, the one-phase algorithm). So p are exact whatever the partial tests have to do with each other.

All partial tests have one design, so one number of degrees of freedom: what one adds to the sum is a function of its
score alone. It is tabled. Products in double precision take cubic curves between nodes; those in single precision
a polynomial, or straight lines where there is none, whose error is below what counts as a tie.

References
----------
Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511. Fisher (1932); Stouffer et al. (1949); Tippett (1931); Edgington
(1972), J. Psychol. 80:351-363; Mudholkar and George (1979); Winer (1962); Nichols et al. (2005), NeuroImage
25:653-660, for the conjunction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from math import comb, factorial
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev as polynomials
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from numbaglm.arrays import Doubles, Floats
from numbaglm.errors import InputError, invalid
from numbaglm.kernels import glm
from numbaglm.kernels._jit import kernel
from numbaglm.kernels.panels.scores import Score
from numbaglm.kernels.panels.straight import Numbers, Straight, follow, in_words, vector_code
from numbaglm.kernels.tables import DEGREE, LEAST, NEAREST, SPLIT, lines, looked_up, polynomial
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import REASON, Family, Given, Layer, Prepared, Rows
from numbaglm.stats.families.variables import FIXED, unit_residuals
from numbaglm.stats.methods import p_holds
from numbaglm.stats.scales import TIE_TOLERANCE

NODES = 4096
"""Of a table."""

QUICK = 4 + 2 * NODES
"""Numbers before the tables: what single precision takes."""

_SURE = (6.0, 5.0, 4.0)  # z, about, up to which polynomials are asked for; few shufflings come to more
_REACH = 10.0  # the same of straight lines
_NEAREST = 0.0003  # the same, from which on polynomials of roots are
_STRAIGHT = 8  # partial tests at most of which scores are made without loops: more take long to compile
_NEAR = 0.05  # the same, of p near 1 whose logarithm of 1 - p, or z, rises too fast for lines

SUM, LARGEST, SMALLEST = range(3)
ONE, BOTH, CONCORDANT = range(3)
"""Which sides of the partial tests count: the upper; both, of whatever signs; both, of one sign in all variables."""


@Score
def combine_tabled(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of products, the rows of the first partial test first, in each those of interest first.

    Parameters
    ----------
    sizes
        Partial tests, how they are put together, their sides, nodes of a table, how many numbers of single precision
        stand before the tables, and whether all have one function. Then of each test its rows of interest, rows of
        moved nuisance, whether it is of t (1) or F (0), and where its tables begin.
    constants
        Weights of the partial tests; then the tables of each kind of them, see `Partial.tables`.
    """
    n_parts, how, sides, nodes, quick, alike = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5] == 1
    n, zero, one = products.shape[1], products.dtype.type(0.0), products.dtype.type(1.0)
    little, halved = products.dtype.type(1e-15), products.itemsize == 4
    first = 0
    for k in range(n_parts):  # the correlation, or the root of the share, in the first row of each
        s, moved, is_t = sizes[6 + 4 * k], sizes[7 + 4 * k], sizes[8 + 4 * k] == 1
        part = products[first]
        if not is_t and (s > 1 or moved > 0):
            for v in range(n):
                part[v] *= part[v]
            for j in range(1, s):
                other = products[first + j]
                for v in range(n):
                    part[v] += other[v] * other[v]
        if moved > 0:
            left = products[first + s]
            for v in range(n):
                left[v] = one - left[v] * left[v]
            for j in range(s + 1, s + moved):
                other = products[first + j]
                for v in range(n):
                    left[v] -= other[v] * other[v]
            if is_t:
                for v in range(n):
                    part[v] /= np.sqrt(left[v] if left[v] > little else little)
            else:
                for v in range(n):
                    part[v] = np.sqrt(part[v] / (left[v] if left[v] > little else little))
        elif not is_t:
            for v in range(n):
                part[v] = np.sqrt(part[v]) if s > 1 else abs(part[v])
        if is_t and sides == 1:
            for v in range(n):
                part[v] = abs(part[v])
        first += s + moved
    value, total, best, most = products[first], products[first + 1], products[first + 2], products[first + 3]
    other_side = products[first + 4]
    # Of tests with one function the largest, or least, is that of their correlations.
    single = alike and how > 0
    for turn in range(2 if sides == 2 else 1):
        place = 0
        for k in range(n_parts):
            part = products[place]
            s, moved, is_t = sizes[6 + 4 * k], sizes[7 + 4 * k], sizes[8 + 4 * k] == 1
            place += s + moved
            if turn == 1:
                for v in range(n):
                    part[v] = -part[v]
            if single:
                for v in range(n):
                    other = most[v] if k > 0 else part[v]
                    larger = part[v] > other
                    most[v] = part[v] if larger == (how == 1) else other
                if k < n_parts - 1:
                    continue
            here = most if single else part
            signed, table = is_t and sides != 1, sizes[9 + 4 * k]
            if halved:
                low, high, steps = constants[table], constants[table + 1], constants[table + 2]
                outside = np.int32(0)
                for v in range(n):
                    outside += np.int32((here[v] < low) | (here[v] > high))
                form = constants[table + 3]
                if form > one:
                    for v in range(n):
                        other_side[v] = np.sqrt(np.sqrt(abs(here[v])))
                    polynomial(other_side, constants, table + 4, steps, constants[table + 5 + DEGREE], value)
                elif form > zero:
                    polynomial(here, constants, table + 4, steps, one, value)
                    if signed:
                        polynomial(here, constants, table + 5 + DEGREE, steps, one, other_side)
                        for v in range(n):
                            value[v] = other_side[v] if here[v] < zero else value[v]
                else:
                    lines(here, constants, table + 4, nodes, low, steps, value)
                if outside > 0:
                    for v in range(n):
                        if (here[v] < low) | (here[v] > high):
                            value[v] = looked_up(here[v], constants, table + quick, nodes, signed)
            else:
                for v in range(n):
                    value[v] = looked_up(here[v], constants, table + quick, nodes, signed)
            weight = constants[k]
            if single or (k == 0 and how > 0):
                for v in range(n):
                    total[v] = value[v]
            elif k == 0:
                for v in range(n):
                    total[v] = weight * value[v]
            elif how == 0:
                for v in range(n):
                    total[v] += weight * value[v]
            elif how == 1:
                for v in range(n):
                    total[v] = value[v] if value[v] > total[v] else total[v]
            else:
                for v in range(n):
                    total[v] = value[v] if value[v] < total[v] else total[v]
        if turn == 0 and sides == 2:
            for v in range(n):
                best[v] = total[v]
    score = products[0]
    if sides == 2:
        for v in range(n):
            score[v] = best[v] if best[v] > total[v] else total[v]
    else:
        for v in range(n):
            score[v] = total[v]


def recipe(of: Numbers, how: int, sides: int, alike: int, *told: int) -> tuple[int, Any]:
    """Make scores as `combine_tabled` does of single precision, NaN where a table says what polynomials don't.

    Parameters
    ----------
    told
        Of each test its rows of interest, rows of moved nuisance, whether it is of t (1) or F (0), where its tables
        begin, the form of its polynomial, and whether correlations below 0 have one of their own.
    """
    tests = [told[i : i + 6] for i in range(0, len(told), 6)]
    parts, first = [], 0
    for s, moved, is_t, *_ in tests:
        part = of.row(first) if is_t else _sum([of.row(first + j) * of.row(first + j) for j in range(s)])
        if moved:
            left = 1.0 - _sum([of.row(first + j) * of.row(first + j) for j in range(s, s + moved)])
            left = of.where_less(left, _LITTLE, _LITTLE, left)
            part = part / (of.sqrt(left) if is_t else left)
        part = part if is_t else of.sqrt(part)
        parts.append(abs(part) if is_t and sides == BOTH else part)
        first += s + moved
    score = _one_side(of, parts, tests, how, alike)
    if sides == CONCORDANT:
        other = _one_side(of, [-part for part in parts], tests, how, alike)
        outside = score - score + (other - other)  # 0, or NaN if either is
        score = of.where_less(score, other, other, score) + outside
    return first, score


def _one_side(of: Numbers, parts: list[Any], tests: list[tuple[int, ...]], how: int, alike: int) -> Any:
    """What polynomials of partial tests come to."""
    outside: Any = 0.0
    if alike and how != SUM:  # of tests with one function the largest, or least, is that of their correlations
        for other in parts[1:]:
            parts[0] = of.where_less(parts[0], other, *((other, parts[0]) if how == LARGEST else (parts[0], other)))
        parts = parts[:1]
    score = None
    for k, (part, (_, _, _, table, form, signed)) in enumerate(zip(parts, tests, strict=False)):
        low, high, scale = of.constant(table), of.constant(table + 1), of.constant(table + 2)
        outside = of.where_less(part, low, np.nan, of.where_less(high, part, np.nan, outside))
        size, shift = abs(part), 1.0
        if form == 2:
            size, shift = of.sqrt(of.sqrt(size)), of.constant(table + 5 + DEGREE)
        u = size * scale - shift
        value = _polynomial(of, table + 4, u)
        if signed:
            value = of.where_less(part, 0.0, _polynomial(of, table + 5 + DEGREE, u), value)
        value = of.constant(k) * value if how == SUM else value
        if score is None:
            score = value
        elif how == SUM:
            score = score + value
        else:
            score = of.where_less(score, value, *((value, score) if how == LARGEST else (score, value)))
    return score + outside


def _polynomial(of: Numbers, start: int, u: Any) -> Any:
    value = of.constant(start + DEGREE)
    for power in reversed(range(DEGREE)):
        value = value * u + of.constant(start + power)
    return value


def _sum(terms: list[Any]) -> Any:
    return sum(terms[1:], start=terms[0])


_LITTLE = 1e-15
_vector_code = vector_code(recipe)


@kernel
def _by_tables(
    products: NDArray[np.floating], v: int, sizes: NDArray[np.int64], constants: NDArray[np.floating]
) -> float:
    """Score of one column, as `combine_tabled` makes it in double precision."""
    n_parts, how, sides, nodes, quick = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    score = -np.inf
    for turn in range(2 if sides == 2 else 1):
        total, first = 0.0, 0
        for k in range(n_parts):
            s, moved, is_t, table = sizes[6 + 4 * k], sizes[7 + 4 * k], sizes[8 + 4 * k] == 1, sizes[9 + 4 * k]
            share, left = 0.0, 1.0
            for j in range(s):
                share += products[first + j, v] ** 2
            for j in range(s, s + moved):
                left -= products[first + j, v] ** 2
            r = np.sqrt(share / max(left, _LITTLE))
            if is_t and sides != 1 and (products[first, v] < 0.0) == (turn == 0):
                r = -r
            value = looked_up(r, constants, table + quick, nodes, is_t and sides != 1)
            if how == 0:
                total += constants[k] * value
            else:
                total = value if k == 0 or (value > total) == (how == 1) else total
            first += s + moved
        score = max(score, total)
    return score


@kernel
def _look_up(
    products: NDArray[np.floating],
    n_rows: int,
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Put scores, which are behind the products, into their place; those that are NaN are found by tables."""
    score, found = products[0], products[n_rows]
    unknown = np.int32(0)
    for v in range(found.shape[0]):
        unknown += np.int32((found[v] != found[v]) & (score[v] == score[v]))
    if unknown > 0:
        for v in range(found.shape[0]):
            if found[v] != found[v] and score[v] == score[v]:
                found[v] = _by_tables(products, v, sizes, constants)
    for v in range(found.shape[0]):
        score[v] = found[v]


@cache
def straight_combination(n_rows: int, *sizes: int) -> Straight:
    """`combine_tabled` without loops, for single precision and some sizes (`recipe`), of so many rows in all."""
    words = in_words(sizes)

    def score(
        products: NDArray[np.floating],
        fixed: NDArray[np.floating],
        sizes: NDArray[np.int64],
        constants: NDArray[np.floating],
    ) -> None:
        _vector_code(products, constants, words)
        _look_up(products, n_rows, sizes, constants)

    def plain(products: Floats, fixed: Floats, told: NDArray[np.int64], constants: Floats) -> None:
        follow(recipe, sizes, products, constants)
        _look_up(products, n_rows, told, constants)

    return Straight(score, plain, straight_combination, (n_rows, *sizes), combine_tabled)


@dataclass(frozen=True)
class Combining:
    """A combining function.

    Attributes
    ----------
    part
        What a partial test adds: of the logarithm of its p, of that of 1 - p, of its z, and of degrees of freedom.
    how
        How these are put together.
    weight
        What partial tests count, of the number of variables and of degrees of freedom.
    value
        What its map shows, of a score and the number of variables.
    log_p
        Logarithm of the parametric p of a score, of so many independent variables.
    of_p
        Score of a parametric p, of so many variables.
    weighted
        Whether variables may have weights.
    bounded
        Whether what is added has a bound where p is 1.
    """

    name: str
    part: Callable[[Doubles, Doubles, Doubles, int], Doubles]
    how: int
    log_p: Callable[[Doubles, int], Doubles]
    of_p: Callable[[float, int], float]
    weight: Callable[[int, int], float] = lambda n, dof: 1.0
    value: Callable[[Doubles, int], Doubles] = lambda score, n: score
    weighted: bool = False
    bounded: bool = False


def _log_chi2(score: Doubles, n: int) -> Doubles:
    """log P(chi2 of 2 n degrees of freedom >= score): a Poisson sum."""
    half = np.maximum(score, 0.0) / 2
    return np.asarray(-half + np.log(sum(half**i / factorial(i) for i in range(n))))


def _log_normal(z: Doubles, n: int = 1) -> Doubles:
    return np.asarray(special.log_ndtr(-z))


def _of_normal(p: float, n: int = 1) -> float:
    return float(-special.ndtri(p))


def _log_least(score: Doubles, n: int) -> Doubles:
    """Of the least of n p, whose z is the score."""
    with np.errstate(divide="ignore"):
        inside = np.log(-np.expm1(n * special.log_ndtr(score)))
    return np.where(score > 8, np.log(n) + _log_normal(score), inside)


def _irwin_hall(total: Doubles, n: int) -> Doubles:
    """P of a sum of n uniform p being as small."""
    total = np.clip(total, 0.0, n)
    terms = [(-1) ** j * comb(n, j) * np.maximum(total - j, 0.0) ** n for j in range(n + 1)]
    return np.asarray(np.clip(np.sum(terms, axis=0) / factorial(n), 0.0, 1.0))


def _sum_of_p(p: float, n: int) -> float:
    return -float(optimize.brentq(lambda total: float(_irwin_hall(np.array(total), n)) - p, 0.0, n, xtol=1e-15))


def _logit_scale(n: int) -> float:
    return float(np.sqrt(3 * (5 * n + 4) / (n * (5 * n + 2))) / np.pi)


def _log(p: Doubles) -> Doubles:
    return np.asarray(np.log(np.maximum(p, np.finfo(float).tiny)))


COMBINING = {
    one.name: one
    for one in (
        Combining(
            "fisher",
            lambda p, q, z, dof: -2 * p,
            SUM,
            _log_chi2,
            lambda p, n: float(special.chdtri(2 * n, p)),
            bounded=True,
        ),
        Combining(
            "stouffer", lambda p, q, z, dof: z, SUM, _log_normal, _of_normal, lambda n, dof: n**-0.5, weighted=True
        ),
        Combining(
            "tippett",
            lambda p, q, z, dof: z,
            LARGEST,
            _log_least,
            lambda p, n: _of_normal(-float(np.expm1(np.log1p(-p) / n))),
            value=lambda score, n: special.ndtr(-score),
        ),
        Combining(
            "edgington",
            lambda p, q, z, dof: -np.exp(p),
            SUM,
            lambda score, n: _log(_irwin_hall(-score, n)),
            _sum_of_p,
            value=lambda score, n: -score,
            bounded=True,
        ),
        Combining(
            "mudholkar-george",
            lambda p, q, z, dof: q - p,
            SUM,
            lambda score, n: _log(special.stdtr(5 * n + 4, -_logit_scale(n) * score)),
            lambda p, n: float(-special.stdtrit(5 * n + 4, p)) / _logit_scale(n),
            value=lambda score, n: _logit_scale(n) * score,
        ),
        Combining(
            "winer",
            lambda p, q, z, dof: np.sign(q - p) * -special.stdtrit(dof, np.exp(np.maximum(np.minimum(p, q), -200.0))),
            SUM,
            _log_normal,
            _of_normal,
            lambda n, dof: (n * dof / (dof - 2)) ** -0.5,
        ),
        Combining(
            "conjunction",
            lambda p, q, z, dof: z,
            SMALLEST,
            _log_normal,
            _of_normal,
            value=lambda score, n: special.ndtr(-score),
        ),
    )
}
"""All of them, by name. The maps of Tippett, Edgington and the conjunction hold p, or their sum: small is extreme
there."""


@dataclass(frozen=True)
class Partial:
    """What a partial test of a score adds.

    Attributes
    ----------
    function
        A name in `COMBINING`.
    dof, n_rows
        Residual degrees of freedom; rows of interest of F, or None for t.
    sides
        Which count.
    doubled
        Whether p of two sides are: PALM leaves them as they are.
    """

    function: str
    dof: int
    n_rows: int | None
    sides: int
    doubled: bool

    def __call__(self, r: Doubles) -> Doubles:
        """Of correlations (roots of shares, for F), of as many variables."""
        r = np.asarray(r, dtype=np.float64)
        least = 0.0 if self.is_signed else NEAREST**2
        return self._of(np.sign(r), np.maximum(1.0 - r**2, LEAST), np.maximum(r**2, least))

    @property
    def is_signed(self) -> bool:
        """Whether correlations below 0 have p of their own."""
        return self.n_rows is None and self.sides != BOTH

    def _of(self, sign: Doubles, left: Doubles, share: Doubles) -> Doubles:
        """Of the share of variance and what it leaves."""
        if self.n_rows is None:
            t = sign * np.sqrt(share / left * self.dof)
            z = pvalues.to_z(t, self.dof)
            if self.sides != BOTH and self.function == "winer":
                return np.asarray(t)
        else:
            z = pvalues.to_z(share / left * self.dof / self.n_rows, self.dof, self.n_rows)
        z = np.abs(z) if self.sides == BOTH else z
        log_p, log_q = special.log_ndtr(-z), special.log_ndtr(z)
        if self.sides == BOTH and self.doubled:
            log_p = np.minimum(log_p + np.log(2.0), -1e-300)
            log_q = np.log(np.maximum(-np.expm1(log_p), np.finfo(float).tiny))
            z = -special.ndtri_exp(log_p)
        return np.asarray(COMBINING[self.function].part(log_p, log_q, z, self.dof), dtype=np.float64)

    @property
    def span(self) -> tuple[float, float]:
        """Correlations between which single precision takes the quick table."""
        root = np.sqrt(self.dof)
        top = min(SPLIT, float((_REACH + np.sqrt(self.n_rows or 1)) / root))
        if self.is_signed:
            return -top, top
        return 0.0 if self._is_smooth else float(_NEAR / root), top

    @property
    def _is_smooth(self) -> bool:
        """Whether what is added has a bound towards correlations of 0."""
        return COMBINING[self.function].bounded or (self.n_rows is None and not self.doubled)

    @cached_property
    def tables(self) -> Doubles:
        """What `combine_tabled` takes: first, for single precision, a polynomial, or lines where there is none.

        That is the span, the scale or steps a unit, and the form: 1 for a polynomial of the correlation, 2 of its
        fourth root, 0 for lines; and coefficients, of correlations below 0 last, or what is taken off the scaled root,
        or values and rises a step. Then there are the three tables of `numbaglm.kernels.tables.looked_up`.
        """
        told, quick = next((found for found in map(self._polynomial, _SURE) if found is not None), self._lines)
        return np.concatenate([told, quick, np.zeros(QUICK - 4 - quick.size), self._three])

    @property
    def _lines(self) -> tuple[list[float], Doubles]:
        low, high = self.span
        values = self(np.linspace(low, high, NODES))
        quick = np.column_stack([values, np.append(np.diff(values), 0.0)]).ravel()
        return [low, high, (NODES - 1) / (high - low), 0.0], quick

    def _polynomial(self, sure: float) -> tuple[list[float], Doubles] | None:
        """Span, scale, form and coefficients of a polynomial that holds up to a z, about; None for none."""
        top = min(SPLIT, float(np.sqrt(-np.expm1(-(sure**2) / self.dof))))
        if self.is_signed or self._is_smooth:
            signs = (1.0, -1.0) if self.is_signed else (1.0,)
            fits = [self._fitted(0.0, top, sign, 1.0) for sign in signs]
            found = [one for one in fits if one is not None]
            low = -top if self.is_signed else 0.0
            return None if len(found) < len(fits) else ([low, top, 2 / top, 1.0], np.concatenate(found))
        # What grows like a logarithm towards 0 is smooth in the fourth root.
        low = float(_NEAREST / np.sqrt(self.dof))
        a, b = low**0.25, top**0.25
        found_one = self._fitted(a, b, 1.0, 0.25)
        return None if found_one is None else ([low, top, 2 / (b - a), 2.0], np.append(found_one, (a + b) / (b - a)))

    def _fitted(self, a: float, b: float, sign: float, power: float) -> Doubles | None:
        """Coefficients over [a, b] of a power of the correlation; None where single precision strays too far.

        The polynomial is of what is scaled to [-1, 1], and ties allow for twice its error.
        """
        scale, shift = 2 / (b - a), (a + b) / (b - a)
        nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
        r = sign * ((nodes + shift) / scale) ** (1 / power)
        found = polynomials.cheb2poly(polynomials.chebfit(nodes, self(r), DEGREE))
        at = np.linspace(a, b, 1003)[1:-1] ** (1 / power)
        u = at.astype(np.float32) ** np.float32(power) * np.float32(scale) - np.float32(shift)
        value = np.zeros(u.size, np.float32)
        for coefficient in found[::-1].astype(np.float32):
            value = value * u + coefficient
        exact = self(sign * at)
        strays = np.abs(value - exact) > (self.slack(exact) + 1e-6 * (1.0 + np.abs(exact))) / 2
        return None if strays.any() else np.asarray(found)

    @cached_property
    def _three(self) -> Doubles:
        signed = self.is_signed
        inner = np.linspace(-SPLIT if signed else 1 - SPLIT, SPLIT, NODES)
        left = np.exp(np.linspace(np.log(1 - SPLIT**2), np.log(LEAST), NODES))
        one = np.ones(NODES)
        far = self._of(one, left, 1.0 - left)
        near = np.exp(np.linspace(np.log(1 - SPLIT), np.log(NEAREST), NODES)) ** 2
        third = self._of(-one, left, 1.0 - left) if signed else self._of(one, 1.0 - near, near)
        return np.concatenate([_tabled(values) for values in (self(inner), far, third)])

    @cached_property
    def _slopes(self) -> tuple[Doubles, Doubles]:
        """Values, and how fast they rise with the correlation."""
        r = np.tanh(np.linspace(0.0 if self.is_signed else 1e-3, 15.0, 3001))
        values = self(r)
        return values[1:], np.diff(values) / np.maximum(np.diff(r), 1e-15)

    @property
    def middle(self) -> float:
        """What is added by a p of one half."""
        half, none = np.full(1, np.log(0.5)), np.zeros(1)
        return float(COMBINING[self.function].part(half, half, none, self.dof)[0])

    def slack(self, value: Doubles) -> Doubles:
        """How far what is added goes as its correlation goes as far as what ties: where it is half of all, if less."""
        slope = np.interp(np.maximum(value, self.middle), *self._slopes)
        return np.asarray(slope * TIE_TOLERANCE["float32"], dtype=np.float64)


def _tabled(values: Doubles) -> Doubles:
    """Values at nodes a step apart, each with its slope a step."""
    spline = interpolate.CubicSpline(np.arange(values.size), values)
    return np.column_stack([values, spline(np.arange(values.size), 1)]).ravel()


@dataclass(frozen=True)
class Combined:
    """What combined scores mean: all that follows of one (clusters, TFCE) is of the z of its parametric p.

    That p holds for partial tests that are independent: it orders and scales, and no corrected p rests on it.

    Attributes
    ----------
    partials, weights
        Of each partial test, and what it counts.
    """

    function: str
    partials: tuple[Partial, ...]
    weights: tuple[float, ...]
    sides: int
    name: str = "z"

    @property
    def n_parts(self) -> int:
        """Partial tests."""
        return len(self.partials)

    def to_statistic(self, score: NDArray[np.floating]) -> Doubles:
        """z of a score."""
        return self.to_z(score)

    def fill_statistic(self, score: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        """z of a map, where it is above 0, which is all that clusters and TFCE look at."""
        above = score > self.to_score("z", 0.0, False)
        out[:] = 0.0
        out[above] = self.to_z(score[above])

    def to_score(self, kind: str, value: float, two_sided: bool) -> float:
        """Score of a threshold on z or p."""
        p = float(special.ndtr(-value)) if kind == "z" else value
        p = p / (1.0 + np.sqrt(1.0 - p)) if self.sides == CONCORDANT else p
        return COMBINING[self.function].of_p(p, self.n_parts)

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of the parametric p."""
        log_p = COMBINING[self.function].log_p(np.asarray(score, dtype=np.float64), self.n_parts)
        log_p = log_p + np.log(2.0 - np.exp(log_p)) if self.sides == CONCORDANT else log_p
        return np.asarray(np.clip(-special.ndtri_exp(np.minimum(log_p, -1e-300)), -38.0, 38.0))

    def _error(self, score: Doubles, precision: str) -> Doubles:
        """How far scores are from each other that are equal but for rounding, and tables."""
        score = np.asarray(score, dtype=np.float64)
        if precision == "float64":
            return np.asarray(1e-8 * (1.0 + np.abs(score)))
        # As if one partial test had all of it, where a score rises fastest, and the others p of about one half.
        how = COMBINING[self.function].how
        error = np.zeros(score.shape)
        for partial, weight in zip(self.partials, self.weights, strict=True):
            alone = score if how != SUM else score / weight - (self.n_parts - 1) * partial.middle
            rise = partial.slack(alone) + 1e-6 * (1.0 + np.abs(score))
            error = error + weight * rise if how == SUM else np.maximum(error, rise)
        return np.asarray(error)

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score, above the error of tables."""
        return np.asarray(height - self._error(height, precision))

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of z."""
        if precision == "float64":
            return np.full(np.shape(score), 1e-8)
        z = self.to_z(score)
        error = self.to_z(score + self._error(score, precision)) - z
        return np.asarray(np.minimum(np.divide(error, z, out=np.zeros(z.shape), where=z > 0.1), 0.01))


@dataclass(frozen=True, eq=False)
class ContrastRows:
    """A contrast that is tested of each variable.

    Attributes
    ----------
    rows
        What is shuffled: the rows of interest, then the nuisance that shuffling moves.
    interest, nuisance
        (n_rows, n_subjects) orthonormal rows.
    is_t
        Whether its tests are t; otherwise F.
    """

    rows: Rows
    interest: Doubles
    nuisance: Doubles
    is_t: bool


@dataclass(frozen=True, eq=False)
class Prepare:
    """Residuals of several variables, see `Family.prepare`.

    Attributes
    ----------
    others
        Names of the layers that hold the variables after the first.
    tested
        Contrasts of each variable.
    effect
        (n_effects, n_subjects) whose product with a variable is the contrasts of its parameter estimates.
    scale
        Of the partial tests, of the first variable all contrasts and so on.
    """

    others: tuple[str, ...]
    tested: tuple[ContrastRows, ...]
    effect: Doubles
    scale: Combined

    def __call__(self, given: Given) -> Prepared:
        """Of the variables of some elements."""
        found = [unit_residuals(given, self.others, one.nuisance) for one in self.tested]
        n = given.data.shape[1]
        lengths = np.stack([length for _, length in found], axis=1).reshape(-1, n)
        degenerate = (lengths == 0).any(axis=0)
        for E, _ in found:
            E[:, :, degenerate] = 0.0
        r = np.empty((self.scale.n_parts, n))
        for c, ((E, _), one) in enumerate(zip(found, self.tested, strict=True)):
            products = np.empty((len(E), len(one.interest), n))
            for e, of_e in zip(E, products, strict=True):
                glm.products_of_rows(one.interest, e, of_e)
            r[c :: len(self.tested)] = products[:, 0] if one.is_t else np.sqrt((products**2).sum(axis=1))
        of = COMBINING[self.scale.function]
        score = self._joined(r, of)
        if self.scale.sides == CONCORDANT:
            score = np.maximum(score, self._joined(-r, of))
        nothing = self._joined(np.zeros((self.scale.n_parts, 1)), of)
        score = np.where(degenerate, nothing, score)
        variables = [given.data, *(given.layers[name] for name in self.others)]
        effect = np.empty((len(variables), len(self.effect), n))
        for y, of_y in zip(variables, effect, strict=True):
            glm.products_of_rows(self.effect, y, of_y)
        return Prepared(
            layers=tuple(E[k] for k in range(len(variables)) for E, _ in found),
            score=score,
            statistic=of.value(score, self.scale.n_parts),
            effect=effect.reshape(-1, n),
            degenerate=degenerate,
            length=np.where(degenerate, 0.0, lengths[0]),
            fixed=np.empty((0, n)),
            more=np.where(degenerate, 1.0, 0.0)[None],
        )

    def _joined(self, r: Doubles, of: Combining) -> Doubles:
        parts = np.stack([partial(one) for partial, one in zip(self.scale.partials, r, strict=True)])
        if of.how == SUM:
            return np.asarray(np.einsum("k,kn->n", self.scale.weights, parts))
        return np.asarray(parts.max(axis=0) if of.how == LARGEST else parts.min(axis=0))


def combined(
    function: str,
    others: tuple[str, ...],
    tested: tuple[ContrastRows, ...],
    effect: Doubles,
    dof: int,
    sides: int,
    doubled: bool = True,
    weights: Doubles | None = None,
) -> Family:
    """Build a combination of the tests of every contrast of every variable.

    Parameters
    ----------
    function
        A name in `COMBINING`.
    others
        Layers that hold the variables after the first, which is the data.
    tested
        Contrasts that are tested of each variable.
    effect
        See `Prepare`.
    dof
        Residual degrees of freedom.
    sides
        Which sides of t count; of F the upper.
    doubled
        See `Partial`.
    weights
        (n_parts,) of the partial tests; None for equal ones.

    Raises
    ------
    InputError
    """
    parts, of = tested * (1 + len(others)), COMBINING[function]
    n = len(parts)
    if weights is not None and not of.weighted:
        raise InputError(invalid("combine", function, "'stouffer' where there are weights"))
    if function == "winer" and dof < 3:
        raise InputError(invalid("combine", function, "another function with 2 residual degrees of freedom or fewer"))
    share = np.full(n, of.weight(n, dof)) if weights is None else weights / np.sqrt((weights**2).sum())
    partials = tuple(
        Partial(function, dof, None, sides, doubled)
        if one.is_t
        else Partial(function, dof, len(one.interest), ONE, True)
        for one in parts
    )
    kinds = list(dict.fromkeys(partials))
    tables = [kind.tables for kind in kinds]
    starts = np.cumsum([n, *(table.size for table in tables)]).tolist()
    sizes = [n, of.how, sides, NODES, QUICK, int(len(kinds) == 1)]
    for one, partial in zip(parts, partials, strict=True):
        s = len(one.interest)
        sizes += [s, one.rows.shape[0] - s, int(one.is_t), starts[kinds.index(partial)]]
    scale = Combined(function, partials, tuple(share.tolist()), sides)
    score, forms = combine_tabled, [int(table[3]) for table in tables]
    if all(forms) and n <= _STRAIGHT:
        told = [of.how, sides, sizes[5]]
        for i, partial in enumerate(partials):
            told += [*sizes[6 + 4 * i : 10 + 4 * i], forms[kinds.index(partial)], int(partial.is_signed)]
        score = straight_combination(sum(one.rows.shape[0] for one in parts), *told)
    return Family(
        name=function.replace("-", "_"),
        layers=tuple(Layer(one.rows) for one in parts),
        score=score,
        scale=scale,
        observe=None,
        sizes=tuple(sizes),
        constants=np.concatenate([share, *tables]),
        n_scratch=5,
        pooled=False,
        prepare=Prepare(others, tested, effect, scale),
        needs=others,
        more=(REASON,),
        reasons=(FIXED,),
        p_holds=p_holds(function, 1, len(parts)),
    )
