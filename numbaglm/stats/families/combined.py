"""Non-parametric combination: one statistic of the p of several variables, shuffled together.

In every shuffling each variable's t or F becomes its parametric p; a combining function makes one number of them, which
is judged against its own permutation distribution (Pesarin 2001; Winkler et al. 2016, the one-phase algorithm). So p
are exact whatever the variables have to do with each other.

All variables have one design, so one number of degrees of freedom: what a partial test adds to the sum is a function of
its score alone. It is tabled: on the correlation below 0.9, on the logarithm of the variance that is left beyond.

References
----------
Winkler et al. (2016), Hum. Brain Mapp. 37:1486-1511. Fisher (1932); Stouffer et al. (1949); Tippett (1931); Edgington
(1972), J. Psychol. 80:351-363; Mudholkar and George (1979); Winer (1962); Nichols et al. (2005), NeuroImage
25:653-660, for the conjunction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import comb, factorial

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from numbaglm.arrays import Doubles
from numbaglm.errors import InputError, invalid
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import REASON, Family, Given, Layer, Prepared, Rows
from numbaglm.stats.families.variables import FIXED, unit_residuals

SPLIT = 0.9
"""Correlation up to which the table is on the correlation."""

NODES = 4096
_LEAST = 1e-14
_DEEPEST = float(np.log(_LEAST))
_NEAREST = 1e-8  # to no correlation at all, where p are 1

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
    """Make scores of products, the rows of the first variable first, in each those of interest first.

    Parameters
    ----------
    sizes
        Variables, rows of interest, rows of moved nuisance, whether it is of t (1) or F (0), how partial tests are put
        together, their sides, nodes of a table.
    constants
        Weights of the variables; then three tables of values and slopes, see `Partial.tables`.
    """
    n_variables, s, moved, is_t, how, sides, nodes = (
        sizes[0],
        sizes[1],
        sizes[2],
        sizes[3] == 1,
        sizes[4],
        sizes[5],
        sizes[6],
    )
    n, rows = products.shape[1], s + moved
    for k in range(n_variables):
        part = products[k * rows]
        if not is_t:
            for v in range(n):
                part[v] *= part[v]
            for j in range(1, s):
                other = products[k * rows + j]
                for v in range(n):
                    part[v] += other[v] * other[v]
        if moved > 0:
            left = products[k * rows + s]
            for v in range(n):
                left[v] = 1.0 - left[v] * left[v]
            for j in range(s + 1, rows):
                other = products[k * rows + j]
                for v in range(n):
                    left[v] -= other[v] * other[v]
            for v in range(n):
                rest = left[v] if left[v] > 1e-15 else 1e-15
                part[v] /= np.sqrt(rest) if is_t else rest
        if not is_t:
            for v in range(n):
                part[v] = np.sqrt(part[v])
    signed = is_t and sides != 1
    lowest = -0.9 if signed else 0.1
    steps = (nodes - 1) / (0.9 - lowest)
    deep = (nodes - 1) / (-32.23619130191664 - np.log(0.19))
    near = (nodes - 1) / (-18.420680743952367 - np.log(0.1))
    for v in range(n):
        best = 0.0
        for sign in range(2 if sides == 2 else 1):
            total = 0.0 if how == 0 else (-np.inf if how == 1 else np.inf)
            for k in range(n_variables):
                r = np.float64(products[k * rows, v])
                r = abs(r) if sides == 1 else (-r if sign == 1 else r)
                if r != r:  # of a shuffling that is not there
                    total = r
                    break
                if lowest <= r <= 0.9:
                    place = (r - lowest) * steps
                    table = n_variables
                elif not signed and r < 0.1:
                    place = (np.log(max(r, 1e-8)) - np.log(0.1)) * near
                    table = n_variables + 4 * nodes
                else:
                    place = (np.log(max(1.0 - r * r, 1e-14)) - np.log(0.19)) * deep
                    table = n_variables + 2 * nodes * (1 if r > 0.0 else 2)
                i = min(int(place), nodes - 2)
                x = place - i
                here, there = constants[table + 2 * i], constants[table + 2 * i + 2]
                slope, next_slope = constants[table + 2 * i + 1], constants[table + 2 * i + 3]
                rise = there - here
                curve = slope + next_slope - 2.0 * rise
                value = here + x * (slope + x * (rise - slope - curve + x * curve))
                if how == 0:
                    total += constants[k] * value
                elif how == 1:
                    total = max(total, value)
                else:
                    total = min(total, value)
            best = total if sign == 0 or total > best else best
        products[0, v] = best


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
    """

    name: str
    part: Callable[[Doubles, Doubles, Doubles, int], Doubles]
    how: int
    log_p: Callable[[Doubles, int], Doubles]
    of_p: Callable[[float, int], float]
    weight: Callable[[int, int], float] = lambda n, dof: 1.0
    value: Callable[[Doubles, int], Doubles] = lambda score, n: score
    weighted: bool = False


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
        Combining("fisher", lambda p, q, z, dof: -2 * p, SUM, _log_chi2, lambda p, n: float(special.chdtri(2 * n, p))),
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
        least = 0.0 if self._signed else _NEAREST**2
        return self._of(np.sign(r), np.maximum(1.0 - r**2, _LEAST), np.maximum(r**2, least))

    @property
    def _signed(self) -> bool:
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

    @cached_property
    def tables(self) -> Doubles:
        """Values and slopes at the nodes of the three tables of `combine_tabled`, one after the other.

        The first is on the correlation, the second beyond it on the logarithm of what it leaves, the third the same for
        correlations below 0; or, where these have the p of those above, on the logarithm of a small correlation.
        """
        signed = self._signed
        inner = np.linspace(-SPLIT if signed else 1 - SPLIT, SPLIT, NODES)
        left = np.exp(np.linspace(np.log(1 - SPLIT**2), _DEEPEST, NODES))
        one = np.ones(NODES)
        far = self._of(one, left, 1.0 - left)
        near = np.exp(np.linspace(np.log(1 - SPLIT), np.log(_NEAREST), NODES)) ** 2
        third = self._of(-one, left, 1.0 - left) if signed else self._of(one, 1.0 - near, near)
        return np.concatenate([_tabled(values) for values in (self(inner), far, third)])


def _tabled(values: Doubles) -> Doubles:
    """Values at nodes a step apart, each with its slope a step."""
    spline = interpolate.CubicSpline(np.arange(values.size), values)
    return np.column_stack([values, spline(np.arange(values.size), 1)]).ravel()


@dataclass(frozen=True)
class Combined:
    """What combined scores mean: all that follows of one (clusters, TFCE) is of the z of its parametric p.

    That p holds for variables that are independent: it orders and scales, and no corrected p rests on it.
    """

    function: str
    n_variables: int
    sides: int
    name: str = "z"

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
        return COMBINING[self.function].of_p(p, self.n_variables)

    def to_z(self, score: NDArray[np.floating]) -> Doubles:
        """z of the parametric p."""
        log_p = COMBINING[self.function].log_p(np.asarray(score, dtype=np.float64), self.n_variables)
        log_p = log_p + np.log(2.0 - np.exp(log_p)) if self.sides == CONCORDANT else log_p
        return np.asarray(np.clip(-special.ndtri_exp(np.minimum(log_p, -1e-300)), -38.0, 38.0))

    def least_equal(self, height: Doubles, precision: str) -> Doubles:
        """A tolerance below the score, above the error of tables."""
        return np.asarray(height - 1e-8 * (1.0 + np.abs(height)))

    def relative_error(self, score: Doubles, precision: str) -> Doubles:
        """Of tables."""
        return np.full(np.shape(score), 1e-8)


@dataclass(frozen=True, eq=False)
class Prepare:
    """Residuals of several variables, see `Family.prepare`.

    Attributes
    ----------
    others
        Names of the layers that hold the variables after the first.
    interest, nuisance
        (n_rows, n_subjects) orthonormal rows.
    effect
        (n_effects, n_subjects) whose product with a variable is the contrast of its parameter estimates.
    weights
        (n_variables,) of the partial tests.
    """

    others: tuple[str, ...]
    interest: Doubles
    nuisance: Doubles
    effect: Doubles
    weights: Doubles
    partial: Partial

    def __call__(self, given: Given) -> Prepared:
        """Of the variables of some elements."""
        E, lengths = unit_residuals(given, self.others, self.nuisance)
        reason = np.where((lengths == 0).any(axis=0), 1.0, 0.0)
        degenerate = reason > 0
        E[:, :, degenerate] = 0.0
        products = np.einsum("si,kin->ksn", self.interest, E)
        r = products[:, 0] if self.partial.n_rows is None else np.sqrt((products**2).sum(axis=1))
        of = COMBINING[self.partial.function]
        score = self._joined(self.partial(r), of)
        if self.partial.sides == CONCORDANT:
            score = np.maximum(score, self._joined(self.partial(-r), of))
        n = len(lengths)
        nothing = self._joined(self.partial(np.zeros((n, 1))), of)
        score = np.where(degenerate, nothing, score)
        variables = [given.data, *(given.layers[name] for name in self.others)]
        effect = np.concatenate([np.einsum("ei,in->en", self.effect, y, dtype=np.float64) for y in variables])
        return Prepared(
            layers=tuple(E),
            score=score,
            statistic=of.value(score, n),
            effect=effect,
            degenerate=degenerate,
            length=np.where(degenerate, 0.0, lengths[0]),
            fixed=np.empty((0, r.shape[1])),
            more=reason[None],
        )

    def _joined(self, parts: Doubles, of: Combining) -> Doubles:
        if of.how == SUM:
            return np.asarray(np.einsum("k,kn->n", self.weights, parts))
        return np.asarray(parts.max(axis=0) if of.how == LARGEST else parts.min(axis=0))


def combined(
    function: str,
    others: tuple[str, ...],
    rows: Rows,
    interest: Doubles,
    nuisance: Doubles,
    effect: Doubles,
    dof: int,
    is_t: bool,
    sides: int,
    doubled: bool = True,
    weights: Doubles | None = None,
) -> Family:
    """Build a combination.

    Parameters
    ----------
    function
        A name in `COMBINING`.
    others
        Layers that hold the variables after the first, which is the data.
    rows
        What is shuffled: the rows of interest, then the nuisance that shuffling moves.
    interest, nuisance
        (n_rows, n_subjects) orthonormal rows.
    effect
        See `Prepare`.
    dof
        Residual degrees of freedom.
    is_t
        Whether partial tests are t; otherwise F.
    sides
        Which sides of t count; of F the upper.
    doubled
        See `Partial`.
    weights
        (n_variables,) of the variables; None for equal ones.

    Raises
    ------
    InputError
    """
    n, of = 1 + len(others), COMBINING[function]
    if weights is not None and not of.weighted:
        raise InputError(invalid("combine", function, "'stouffer' where variables have weights"))
    if function == "winer" and dof < 3:
        raise InputError(invalid("combine", function, "another function with 2 residual degrees of freedom or fewer"))
    share = np.full(n, of.weight(n, dof)) if weights is None else weights / np.sqrt((weights**2).sum())
    partial = Partial(function, dof, None if is_t else len(interest), sides, doubled)
    moved = rows.shape[0] - len(interest)
    return Family(
        name=function.replace("-", "_"),
        layers=(Layer(rows),) * n,
        score=combine_tabled,
        scale=Combined(function, n, sides),
        observe=None,
        sizes=(n, len(interest), moved, int(is_t), of.how, sides, NODES),
        constants=np.concatenate([share, partial.tables]),
        precision="float64",
        pooled=False,
        prepare=Prepare(others, interest, nuisance, effect, share, partial),
        needs=others,
        more=(REASON,),
        reasons=(FIXED,),
    )
