"""Statistics for groups of subjects with different variances: v (Aspin-Welch) and its F counterpart G.

Both are made of products of a few rows with the residuals and with their squares. With B orthonormal rows that span
the design, e what is shuffled, and the part of each in group g: the rows B_g span r_g directions, V_g orthonormal ones.
With s_g = V_g e_g, B_g = L_g V_g and p = sum_g L_g s_g the residual sum of squares of a group is

    |e_g - B_g' p|^2 = |e_g|^2 - |s_g|^2 + |s_g - L_g' p|^2,

and of these the weights and the statistic follow. The data themselves are not shuffled.

Their degrees of freedom change from voxel to voxel and from shuffling to shuffling, so the score is the z of the same
p: only on a common scale can statistics of different degrees of freedom share one null. z is dear: it is made where
neither the least nor the largest degrees of freedom tell whether a score counts, or whether it is the maximum.

For two groups the degrees of freedom are Welch's. PALM gives v (one row of interest) a third of them, so that its z
and p are too cautious; that is reproduced under ``conventions="palm"`` alone.

References
----------
Winkler et al. (2014), NeuroImage 92:381-397, section "Generalised statistic" and Appendix. Welch (1951),
Biometrika 38:330-336.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # its linalg is loaded where it is used
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import pvalues
from numbaglm.stats.families.family import Family, Layer, Shuffled
from numbaglm.stats.scales import Standard

LEAST_GROUP = 1e-4
"""Residual sum of squares of a group, of residuals of unit length, from which on it is made of products. Their
difference is known to 1e-16 or so: below it, v would be off by more than ties are (1e-11), and residuals are squared
as they are. Groups of equal values are there."""

_SPAN, _STEPS = 64.0, 128
"""Statistics whose z are bounded by a table, and its steps for each unit of them."""

_ROUNDING = 1e-9  # of z, from which the bounds keep away


@dataclass(frozen=True, eq=False)
class VarianceGroups:
    """Groups of subjects, each with a variance of its own.

    Attributes
    ----------
    groups
        (n_groups, n_subjects) bool, disjoint, covering all.
    basis
        (n_rows, n_subjects) orthonormal rows spanning the design, those of interest first.
    n_interest
        Rows of interest.
    residual_dof
        (n_groups,) the share of the residual degrees of freedom that each group holds.
    root
        (n, n_rows) rows T such that T'T over the rows of a group is its part of B B', B the basis with its rows of
        interest last.
    root_group
        (n,) the group that each row of it belongs to.
    dof_factor
        What the degrees of freedom of v are multiplied by: 1, or PALM's 1/3.
    """

    groups: NDArray[np.bool_]
    basis: Doubles
    n_interest: int
    residual_dof: Doubles
    root: Doubles
    root_group: NDArray[np.intp]
    dof_factor: float = 1.0

    @classmethod
    def build(cls, labels: NDArray[np.intp], basis: Doubles, n_interest: int, dof_factor: float) -> VarianceGroups:
        """Split subjects by label (n_subjects,)."""
        groups = np.unique(labels)[:, None] == labels
        free = 1.0 - (basis**2).sum(axis=0)
        interest_last = np.roll(basis, -n_interest, axis=0)
        roots = []
        for group in groups:
            directions, sizes, _ = np.linalg.svd(interest_last[:, group], full_matrices=False)
            roots.append((directions * sizes).T[sizes > 1e-10])
        root_group = np.repeat(np.arange(len(groups)), [len(root) for root in roots])
        return cls(groups, basis, n_interest, groups @ free, np.vstack(roots), root_group, dof_factor)

    def statistics(self, E: Doubles, index: NDArray[np.int32], sign: NDArray[np.int8]) -> tuple[Doubles, Doubles]:
        """v or G, and the z of the same p, of a batch of shufflings on a tile of voxels.

        Parameters
        ----------
        E
            (n_subjects, n_voxels) residuals on the nuisance, of unit length or 0.
        index, sign
            (n_batch, n_subjects) shufflings.

        Returns
        -------
        Two arrays (n_batch, n_voxels).
        """
        statistic, z = np.empty((2, index.shape[0], E.shape[1]))
        for b in range(len(index)):
            statistic[b], more = self.directly(sign[b][:, None] * E[index[b]])
            z[b] = self.score(statistic[b], more)
        return statistic, z

    def observe(self, E: Doubles) -> tuple[Doubles, Doubles]:
        """Score and statistic, see `Family.observe`."""
        statistic, more = self.directly(E)
        return self.score(statistic, more), statistic

    def score(self, number: NDArray[np.floating[Any]], more: NDArray[np.floating[Any]]) -> Doubles:
        """z of v or G and its degrees of freedom, see `Finish.score`."""
        dof = np.asarray(more, np.float64)
        return pvalues.to_z(np.asarray(number, np.float64), dof, None if self.n_interest == 1 else self.n_interest)

    @cached_property
    def bounds(self) -> tuple[Doubles, Doubles, Doubles]:
        """See `Finish.bounds`."""
        s, free = self.n_interest, self.residual_dof
        whole = s * (s + 2) / 3.0 * (self.dof_factor if s == 1 else 1.0)
        inverse = 1.0 / free
        # What divides the degrees of freedom is convex in the shares of the groups: largest where one has them all.
        least, largest = whole / (inverse.sum() - inverse.min()), whole * free.sum() / (len(free) - 1) ** 2
        return bounds_of(self.score, s, least, largest)

    def directly(self, E: NDArray[np.floating[Any]]) -> tuple[Doubles, Doubles]:
        """v or G (n_voxels,) and its degrees of freedom, of residuals that have been shuffled."""
        s = self.n_interest
        products = self.basis @ E
        residual = E - self.basis.T @ products
        squares = self.groups @ residual**2
        tiny = 1e-20  # of residuals of unit length: a voxel that the model fits exactly has rounding alone
        weights = self.residual_dof[:, None] / np.maximum(squares, tiny)  # (n_groups, n_voxels)
        R = self._whitener(weights)
        sizes = self.groups.sum(axis=1)[:, None]
        share = weights * sizes / (weights * sizes).sum(axis=0)
        excess = ((1.0 - share) ** 2 / self.residual_dof[:, None]).sum(axis=0)
        dof2 = s * (s + 2) / (3.0 * np.maximum(excess, tiny))
        interest = products[:s]
        if s == 1:
            return interest[0] * np.abs(R[:, 0, 0]), dof2 * self.dof_factor
        quadratic = (np.einsum("vkl,lv->vk", R, interest) ** 2).sum(axis=1)
        return quadratic / (s * (1.0 + 2.0 * (s - 1) / (s * (s + 2)) * excess)), dof2

    def _whitener(self, weights: Doubles) -> Doubles:
        """Matrices (n_voxels, n_interest, n_interest) that bring what is tested to unit variance.

        R'R = B W B' has the last block of R for it. A group of equal values (all 0, say) has nearly infinite weight:
        B W B' would be singular, but the triangle of its root is exact, heavy rows first.
        """
        s, n_voxels = self.n_interest, weights.shape[1]
        step = max(1, 2**18 // self.root.size)  # voxels, as many as stay in the cache
        found = np.empty((n_voxels, s, s))
        for v in range(0, n_voxels, step):
            heavy = np.sqrt(weights[:, v : v + step]).T[:, self.root_group]  # (step, n)
            order = np.argsort(-heavy, axis=1, kind="stable")
            rows = np.take_along_axis(heavy, order, axis=1)[:, :, None] * self.root[order]
            found[v : v + step] = np.asarray(np.linalg.qr(rows, mode="r"))[:, -s:, -s:]
        return found


def bounds_of(
    score: Callable[[Doubles, Doubles], Doubles], n_interest: int, least: float, largest: float
) -> tuple[Doubles, Doubles, Doubles]:
    """Bounds of z of v or G whose degrees of freedom lie between two numbers, see `Finish.bounds`."""
    numbers = np.arange(-_SPAN * (n_interest == 1), _SPAN, 1 / _STEPS)
    # z falls or rises with the degrees of freedom, but for small G of three rows or more: hardly, and between two.
    at = np.geomspace(least, largest, 2 if n_interest < 3 else 17)
    z = np.stack([score(numbers, np.full(numbers.shape, dof)) for dof in at])
    margin = _ROUNDING if n_interest < 3 else 1e-3
    return numbers, z.min(axis=0) - margin, z.max(axis=0) + margin


@Score
def welch(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make v or G, and its degrees of freedom, of products; NaN where a group's sum of squares is not known well.

    Parameters
    ----------
    products
        Those of the rows V_g but for the ones that follow from the others, then the sums of squares of all groups but
        the last.
    sizes
        Rows of interest s, groups, directions k, rows on the residuals, rows V_g in all; of each group its directions;
        and where the products of each V_g stand: rows of their own come first, those that follow from them after.
    constants
        One after the other, see `v_or_g`.
    """
    s, n_groups, k, n_own, n_all = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    n = products.shape[1]
    one = products.dtype.type(1.0)
    n_first = n_own + n_groups - 1
    followers = products[n_first : n_first + n_all - n_own]
    fitted = products[n_first + n_all - n_own :][:k]
    triangle = products[n_first + n_all - n_own + k :]
    weight = triangle[k * (k + 1) // 2 :]
    work, excess = weight[n_groups], weight[n_groups + 1]
    c = 0
    for d in range(n_all - n_own):
        to = followers[d]
        to[:] = 0
        for j in range(n_own):
            factor, there = constants[c], products[j]
            c += 1
            if factor != 0:
                for v in range(n):
                    to[v] += factor * there[v]
    # p
    fitted[:] = 0
    loadings = c
    row = 0
    for g in range(n_groups):
        for _ in range(sizes[5 + g]):
            place = sizes[5 + n_groups + row]
            there = products[place] if place < n_own else followers[place - n_own]
            row += 1
            for a in range(k):
                factor, to = constants[c], fitted[a]
                c += 1
                if factor != 0:
                    for v in range(n):
                        to[v] += factor * there[v]
    # Residual sums of squares, and weights of them.
    last = weight[n_groups - 1]
    last[:] = 1
    free, count, least = c, c + n_groups, constants[c + 2 * n_groups]
    c = loadings
    row = 0
    for g in range(n_groups):
        here = weight[g]
        if g < n_groups - 1:
            squares = products[n_own + g]
            for v in range(n):
                here[v] = squares[v]
                last[v] -= squares[v]
        for _ in range(sizes[5 + g]):
            place = sizes[5 + n_groups + row]
            there = products[place] if place < n_own else followers[place - n_own]
            row += 1
            for v in range(n):
                work[v] = there[v]
            for a in range(k):
                factor, to = constants[c], fitted[a]
                c += 1
                if factor != 0:
                    for v in range(n):
                        work[v] -= factor * to[v]
            for v in range(n):
                here[v] += work[v] * work[v] - there[v] * there[v]
        dof = constants[free + g]
        for v in range(n):
            here[v] = dof / here[v] if here[v] >= least else np.nan
    # sum_g W_g L_g L_g', its lower triangle, and the degrees of freedom.
    c = count + n_groups + 1
    for i in range(k * (k + 1) // 2):
        to = triangle[i]
        to[:] = 0
        for g in range(n_groups):
            factor, there = constants[c], weight[g]
            c += 1
            if factor != 0:
                for v in range(n):
                    to[v] += factor * there[v]
    work[:] = 0
    for g in range(n_groups):
        factor, there = constants[count + g], weight[g]
        for v in range(n):
            work[v] += factor * there[v]
    for v in range(n):
        work[v] = one / work[v]
    excess[:] = 0
    for g in range(n_groups):
        factor, inverse, there = constants[count + g], one / constants[free + g], weight[g]
        for v in range(n):
            rest = one - factor * there[v] * work[v]
            excess[v] += rest * rest * inverse
    # Its root, in place, row by row: what is tested stands last.
    for i in range(k):
        for j in range(i + 1):
            to = triangle[i * (i + 1) // 2 + j]
            for m in range(j):
                left, right = triangle[i * (i + 1) // 2 + m], triangle[j * (j + 1) // 2 + m]
                for v in range(n):
                    to[v] -= left[v] * right[v]
            if i == j:
                for v in range(n):
                    to[v] = np.sqrt(to[v])
            else:
                root = triangle[j * (j + 1) // 2 + j]
                for v in range(n):
                    to[v] /= root[v]
    number, more = products[0], products[1]
    whole = products.dtype.type(s * (s + 2)) / products.dtype.type(3.0) * constants[c]
    tiny = products.dtype.type(1e-20)
    if s == 1:
        root, there = triangle[k * (k + 1) // 2 - 1], fitted[k - 1]
        for v in range(n):
            number[v] = root[v] * there[v]
    else:
        number[:] = 0
        for j in range(k - s, k):
            work[:] = 0
            for i in range(j, k):
                root, there = triangle[i * (i + 1) // 2 + j], fitted[i]
                for v in range(n):
                    work[v] += root[v] * there[v]
            for v in range(n):
                number[v] += work[v] * work[v]
        bend = products.dtype.type(2 * (s - 1)) / products.dtype.type(s * (s + 2))
        for v in range(n):
            number[v] /= s * (one + bend * excess[v])
    for v in range(n):
        more[v] = whole / (excess[v] if excess[v] > tiny else tiny)


def squared(E: Doubles) -> Doubles:
    """Squares of residuals; where there are none, what gives no group all of the variance."""
    squares = E**2
    squares[:, ~squares.any(axis=0)] = 1.0 / len(E)
    return squares


def v_or_g(groups: VarianceGroups, still: Doubles) -> Family:
    """Build v (one row of interest) or G.

    Parameters
    ----------
    groups
        Variance groups, and the rows that span the design.
    still
        (n_still, n_subjects) rows of the nuisance that no shuffling moves: residuals have no product with them.
    """
    n_groups, s, k = len(groups.groups), groups.n_interest, len(groups.basis)
    interest_last = np.roll(groups.basis, -s, axis=0)
    directions, loadings = [], []
    for group in groups.groups:
        left, sizes, right = np.linalg.svd(interest_last * group, full_matrices=False)
        there = sizes > 1e-10
        directions.append(right[there])
        loadings.append((left * sizes)[:, there])  # (k, r_g)
    rows = np.vstack(directions)
    # Rows that others lead to: A rows e = 0, for what is still lies in their span.
    own, follow = _independent(still @ rows.T)
    place = np.empty(len(rows), np.int64)
    place[own] = np.arange(len(own))
    place[np.setdiff1d(np.arange(len(rows)), own)] = np.arange(len(own), len(rows))
    grams = np.stack([one @ one.T for one in loadings], axis=-1)  # (k, k, n_groups)
    lower = np.tril_indices(k)
    return Family(
        name="v" if s == 1 else "g",
        layers=(
            Layer(Shuffled(np.ascontiguousarray(rows[own]))),
            Layer(Shuffled(groups.groups[:-1].astype(np.float64), flipped=False), squared),
        ),
        score=welch,
        scale=Standard(),
        observe=groups.observe,
        sizes=(s, n_groups, k, len(own), len(rows), *(len(one) for one in directions), *place.tolist()),
        constants=np.concatenate(
            [
                follow.ravel(),
                *(one.T.ravel() for one in loadings),
                groups.residual_dof,
                groups.groups.sum(axis=1),
                [LEAST_GROUP],
                grams[lower].ravel(),
                [groups.dof_factor if s == 1 else 1.0],
            ]
        ),
        n_scratch=len(follow) + k + k * (k + 1) // 2 + n_groups + 2,
        finish=groups,
        precision="float64",
        pooled=False,
        p_holds=False,  # far out, where a small group varies most
    )


def _independent(relations: Doubles) -> tuple[NDArray[np.intp], Doubles]:
    """Which of some numbers x to keep, where ``relations @ x`` is 0, and how the others follow from those.

    Returns
    -------
    Places (n_kept,) of those to keep, ascending; and (n_others, n_kept), whose product with them is the others.
    """
    n = relations.shape[1]
    if not len(relations):
        return np.arange(n), np.empty((0, n))
    _, triangle, order = scipy.linalg.qr(relations, mode="economic", pivoting=True)
    sizes = np.abs(np.diag(triangle))
    rank = int(np.sum(sizes > 1e-8))
    others, kept = np.sort(order[:rank]), np.sort(order[rank:])
    follow = -np.linalg.lstsq(relations[:, others], relations[:, kept], rcond=None)[0]
    return np.asarray(kept, np.intp), np.asarray(follow)
