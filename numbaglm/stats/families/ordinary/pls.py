"""Partial least squares: how closely a sum of several variables goes with a sum of what is tested.

The columns of interest and the variables, residualised on the nuisance and brought to one length, have correlations B
(rows of interest by variables). Their largest singular value is the statistic: that of behavioural PLS correlation.
Unlike canonical correlations it inverts no covariance, so that it takes any number of variables and those that follow
from each other; and it depends on which columns and which variables there are. Where shuffling moves nuisance, N its
products with the variables, these keep 1 - |N|^2 of their variance, by which correlations are divided.

PALM's is another: the correlation of the first pair of scores, of covariances as they are.

References
----------
McIntosh and Lobaugh (2004), NeuroImage 23:S250-S263. Krishnan et al. (2011), NeuroImage 56:455-475. De Jong (1993),
Chemometr. Intell. Lab. Syst. 18:251-263, for scores of covariances (SIMPLS).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.kernels import glm
from numbaglm.kernels.eigen import directions_of, root
from numbaglm.kernels.panels.scores import Score
from numbaglm.kernels.panels.straight import Numbers, Straight, follow, in_words, vector_code
from numbaglm.stats.families.family import REASON, Family, Given, Layer, Prepared, Rows
from numbaglm.stats.families.variables import (
    FIXED,
    Heights,
    directions,
    loadings,
    named_loadings,
    unit_residuals,
)

_ROWS = 64  # of which scores are made without loops, at most: more take long to compile


@Score
def singular(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make squared singular values of products, the rows of the first variable first, in each those of interest first.

    Parameters
    ----------
    sizes
        Variables, rows of interest, rows of moved nuisance, and which singular value, from 0.
    """
    n_variables, s, moved, which = sizes[0], sizes[1], sizes[2], sizes[3]
    n, rows = products.shape[1], s + moved
    one, tiny = products.dtype.type(1.0), products.dtype.type(1e-14)
    scratch = n_variables * rows
    if moved > 0:
        left = products[scratch]
        for a in range(n_variables):
            for v in range(n):
                left[v] = one
            for j in range(s, rows):
                other = products[a * rows + j]
                for v in range(n):
                    left[v] -= other[v] * other[v]
            for v in range(n):
                left[v] = one / np.sqrt(tiny if left[v] < tiny else left[v])
            for j in range(s):
                x = products[a * rows + j]
                for v in range(n):
                    x[v] *= left[v]
    score, d = products[0], min(s, n_variables)
    if d == 1:
        for v in range(n):
            score[v] *= score[v]
        for j in range(s):
            for a in range(n_variables):
                if a + j > 0:
                    other = products[a * rows + j]
                    for v in range(n):
                        score[v] += other[v] * other[v]
        return
    # The smaller of B B' and B'B.
    for i in range(d):
        for j in range(i + 1):
            entry = products[scratch + i * (i + 1) // 2 + j]
            for v in range(n):
                entry[v] = products.dtype.type(0.0)
            for k in range(max(s, n_variables)):
                x = products[k * rows + i] if s <= n_variables else products[i * rows + k]
                y = products[k * rows + j] if s <= n_variables else products[j * rows + k]
                for v in range(n):
                    entry[v] += x[v] * y[v]
    if d == 2:
        half, first, beside, last = (
            products.dtype.type(0.5),
            products[scratch],
            products[scratch + 1],
            products[scratch + 2],
        )
        for v in range(n):
            apart = half * (first[v] - last[v])
            reach = np.sqrt(apart * apart + beside[v] * beside[v])
            score[v] = half * (first[v] + last[v]) + (reach if which == 0 else -reach)
        return
    for v in range(n):
        score[v] = root(products, scratch, d, which, v)


def recipe(of: Numbers, n_variables: int, s: int, moved: int, which: int) -> tuple[int, Any]:
    """Make scores as `singular` does, of one or two variables or rows of interest."""
    rows, tiny = s + moved, 1e-14
    B = [[of.row(a * rows + j) for j in range(s)] for a in range(n_variables)]
    for a in range(n_variables if moved else 0):
        left: Any = 1.0
        for j in range(s, rows):
            left = left - of.row(a * rows + j) * of.row(a * rows + j)
        factor = 1.0 / of.sqrt(of.where_less(left, tiny, tiny, left))
        B[a] = [product * factor for product in B[a]]
    B = [list(column) for column in zip(*B, strict=True)] if s <= n_variables else B  # the fewer first

    def product(i: int, j: int) -> Any:
        total = B[i][0] * B[j][0]
        for x, y in zip(B[i][1:], B[j][1:], strict=True):
            total = total + x * y
        return total

    if len(B) == 1:
        return 0, product(0, 0)
    first, beside, last = product(0, 0), product(1, 0), product(1, 1)
    apart = 0.5 * (first - last)
    reach = of.sqrt(apart * apart + beside * beside)
    return 0, 0.5 * (first + last) + (reach if which == 0 else -reach)


_vector_code = vector_code(recipe)


@cache
def straight_singular(n_variables: int, s: int, moved: int, which: int) -> Straight:
    """`singular` for some sizes, without loops."""
    sizes = n_variables, s, moved, which
    words = in_words(sizes)

    def score(products: Floats, fixed: Floats, told: NDArray[np.int64], constants: Floats) -> None:
        _vector_code(products, constants, words)

    def plain(products: Floats, fixed: Floats, told: NDArray[np.int64], constants: Floats) -> None:
        follow(recipe, sizes, products, constants)

    return Straight(score, plain, straight_singular, sizes)


@Score
def correlated_scores(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make squared correlations of the first pair of scores, of covariances of the rows of interest with the variables.

    Parameters
    ----------
    fixed
        (n_variables (n_variables + 1) / 2, width) the lower triangle of the covariance of the variables.
    sizes
        Variables and rows of interest.
    constants
        (s (s + 1) / 2,) the same of the rows of interest.
    """
    n_variables, s = sizes[0], sizes[1]
    n, width, d = products.shape[1], fixed.shape[1], min(s, n_variables)
    at = n_variables * s
    A, Q = products[at : at + d * d], products[at + d * d : at + 2 * d * d]
    r, u = at + 2 * d * d, at + 2 * d * d + n_variables  # directions of the variables, and of the rows
    for v in range(n):
        for i in range(d):
            for j in range(d):
                total = 0.0
                for k in range(max(s, n_variables)):
                    if s <= n_variables:
                        total += products[k * s + i, v] * products[k * s + j, v]
                    else:
                        total += products[i * s + k, v] * products[j * s + k, v]
                A[i * d + j, v] = total
        directions_of(A, Q, d, v)
        best = 0
        for i in range(1, d):
            best = i if A[i * d + i, v] > A[best * d + best, v] else best
        for a in range(n_variables):
            total = 0.0
            for j in range(s):
                total += products[a * s + j, v] * (Q[j * d + best, v] if s <= n_variables else 0.0)
            products[r + a, v] = total if s <= n_variables else Q[a * d + best, v]
        for j in range(s):
            total = 0.0
            for a in range(n_variables):
                total += products[a * s + j, v] * products[r + a, v]
            products[u + j, v] = total
        of_variables = of_rows = shared = 0.0
        for a in range(n_variables):
            for b in range(n_variables):
                place = a * (a + 1) // 2 + b if b <= a else b * (b + 1) // 2 + a
                of_variables += products[r + a, v] * fixed[place, v % width] * products[r + b, v]
        for i in range(s):
            for j in range(s):
                place = i * (i + 1) // 2 + j if j <= i else j * (j + 1) // 2 + i
                of_rows += products[u + i, v] * constants[place] * products[u + j, v]
            shared += products[u + i, v] * products[u + i, v]  # of r' B' u, as u = B r
        size = of_variables * of_rows
        products[0, v] = shared * shared / size if size > 0.0 else size


@dataclass(frozen=True, eq=False)
class Prepare:
    """Variables of one length, or as long as they are, see `Family.prepare`.

    Attributes
    ----------
    others
        Names of the layers that hold the maps after the first.
    interest
        (n_rows, n_subjects) what is tested, each row residualised.
    nuisance
        (n_columns, n_subjects) orthonormal rows.
    effect
        (n_effects, n_subjects) whose product with a variable is the contrast of its parameter estimates.
    which
        Which singular value, from 0.
    mix
        Sums of the maps that are the variables, see `variables_of`; None for the maps themselves.
    of_scores
        Whether the statistic is the correlation of the first pair of scores.
    """

    others: tuple[str, ...]
    interest: Doubles
    nuisance: Doubles
    effect: Doubles
    which: int
    mix: Doubles | None
    of_scores: bool

    def __call__(self, given: Given) -> Prepared:
        """Of the variables of some elements."""
        E, lengths = unit_residuals(given, self.others, self.nuisance, self.mix)
        k, n = lengths.shape
        degenerate = (lengths == 0).any(axis=0)
        effect = np.empty((k, len(self.effect), n))
        for e, found in zip(E, effect, strict=True):  # to which nuisance adds nothing
            glm.products_of_rows(self.effect, e, found)
        effect *= lengths[:, None]
        E[:, :, degenerate] = 0.0
        scaled, fixed = E, np.empty((0, n))
        if self.of_scores:  # of one size together, as only shares matter
            size = np.sqrt((lengths**2).sum(axis=0))
            scaled = E * np.divide(lengths, size, out=np.zeros(lengths.shape), where=size > 0)[:, None]
            fixed = np.stack([np.einsum("in,in->n", scaled[i], scaled[j]) for i in range(k) for j in range(i + 1)])
        products = np.empty((k, len(self.interest), n))
        for y, found in zip(scaled, products, strict=True):
            glm.products_of_rows(self.interest, y, found)
        B = np.ascontiguousarray(products.transpose(2, 1, 0))
        weights = directions(B, self.which)
        variate = np.einsum("nk,kin->in", weights, scaled)
        if self.of_scores:
            u = np.einsum("nsk,nk->ns", B, weights)
            gram = self.interest @ self.interest.T
            both = np.einsum("in,in->n", variate, variate) * np.einsum("ns,st,nt->n", u, gram, u)
            score = np.divide((u**2).sum(axis=1) ** 2, both, out=np.zeros(n), where=both > 0)
        elif min(B.shape[1:]) <= 2:
            of = Numbers(products.reshape(-1, n), np.empty(0))
            score = np.maximum(recipe(of, k, len(self.interest), 0, self.which)[1], 0.0)
        else:
            score = np.linalg.svd(B, compute_uv=False)[:, self.which] ** 2
        return Prepared(
            layers=tuple(scaled),
            score=score,
            statistic=np.sqrt(score),
            effect=effect.reshape(-1, n),
            degenerate=degenerate,
            length=np.where(degenerate, 0.0, lengths[0]),
            fixed=fixed,
            more=np.vstack(
                [np.where(degenerate, 1.0, 0.0)[None], loadings(E, variate, signed=len(self.interest) == 1)]
            ),
        )


def partial_least_squares(
    others: tuple[str, ...],
    rows: Rows,
    interest: Doubles,
    nuisance: Doubles,
    effect: Doubles,
    dof: int,
    which: int = 0,
    mix: Doubles | None = None,
    names: tuple[str, ...] | None = None,
    of_scores: bool = False,
) -> Family:
    """Build PLS of several variables.

    Parameters
    ----------
    others
        Layers that hold the maps after the first, which is the data.
    rows
        What is shuffled: the rows of interest, then the nuisance that shuffling moves.
    interest
        (n_rows, n_subjects) what is tested, each row residualised on the nuisance, and of unit length but where
        ``of_scores``.
    nuisance
        (n_columns, n_subjects) orthonormal rows.
    effect
        See `Prepare`.
    dof
        Residual degrees of freedom.
    which
        Which singular value, from 0.
    mix
        (n_variables, n_maps) sums of the maps that are the variables; None for the maps themselves.
    names
        Of the variables, by which the maps of their loadings are called; None for their numbers.
    of_scores
        Whether the statistic is PALM's: the correlation of the first pair of scores, of covariances, whose rows have no
        moved nuisance among them. It is compared by Fisher's transform as it is.
    """
    n_variables, s = 1 + len(others) if mix is None else len(mix), len(interest)
    d, moved = min(s, n_variables), rows.shape[0] - s
    sizes: tuple[int, ...] = (n_variables, s, moved, which)
    constants, n_scratch, scale = np.empty(0), max(1, d * (d + 1) // 2), _heights(n_variables * s, dof)
    score = straight_singular(*sizes) if d <= 2 and n_variables * rows.shape[0] <= _ROWS else singular
    if of_scores:
        gram = interest @ interest.T
        sizes, constants = (n_variables, s), gram[np.tril_indices(s)]
        n_scratch, scale = 2 * d * d + n_variables + s, Heights()
    return Family(
        name="pls",
        layers=(Layer(rows),) * n_variables,
        score=correlated_scores if of_scores else score,
        scale=scale,
        observe=None,
        sizes=sizes,
        constants=constants,
        n_scratch=n_scratch,
        # Rotations take double precision, and so do singular values but the largest, which are small.
        precision="float64" if of_scores or d > 2 or which > 0 else None,
        pooled=False,
        prepare=Prepare(others, interest, nuisance, effect, which, mix, of_scores),
        needs=others,
        more=(REASON, *named_loadings(names, n_variables)),
        reasons=(FIXED,),
        parametric=False,
    )


def _heights(most: int, dof: int) -> Heights:
    """Of squared singular values: as a share of all squared correlations, whose root is like a correlation."""
    return Heights(float(most), float(np.sqrt(max(dof - 1, 1))))
