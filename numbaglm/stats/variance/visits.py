"""Visits of clusters: covariances of visits that the clusters of a group share, and sandwich variances made of them.

The residuals r of clusters i that have visits k and l, corrected as ever, tell the covariance of these visits in a
group,

    V_kk = sum_i r_ik^2 / n_k,
    V_kl = sum_i r_ik r_il / sqrt(sum_i r_ik^2 sum_i r_il^2) sqrt(V_kk V_ll),

sums being over those who have both; where that is no covariance, its negative eigenvalues become 0. The covariance of
the estimates u_i' y is then

    S_ij = sum over groups and ordered pairs of visits of V_kl sum over clusters of u_ik u_jl.

References
----------
Guillaume et al. (2014), NeuroImage 94:287-302, the modified estimator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError, invalid
from numbaglm.stats.variance.sandwich import corrections, naive_dof

_KNOWN = 1e-9  # of an error's variance, what the residuals of a visit must keep of it on average


@dataclass(frozen=True, eq=False)
class Visits:
    """Which visit of which group each map is of.

    Attributes
    ----------
    visit, group
        (n_subjects,) numbers, from 0.
    visits, groups
        Their names.
    """

    visit: NDArray[np.intp]
    group: NDArray[np.intp]
    visits: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def parse(cls, visits: ArrayLike, groups: ArrayLike | None, clusters: NDArray[np.intp]) -> Visits:
        """Check labels of visits, and of groups of clusters; None is one group.

        Raises
        ------
        DesignError
            There are too many or too few, some are missing, a cluster has a visit twice, or is of two groups.
        """
        visit, names = _numbers(visits, "visits", len(clusters))
        group, kinds = _numbers(np.zeros(len(clusters)) if groups is None else groups, "groups", len(clusters))
        pairs, times = np.unique(np.column_stack([clusters, visit]), axis=0, return_counts=True)
        for k, v in pairs[times > 1][:1]:
            rows = np.flatnonzero((clusters == k) & (visit == v)).tolist()
            fix = "Every map of a cluster is of another visit."
            raise DesignError(
                invalid("visits", f"{names[v]!r} more than once in a cluster, in rows {rows}", "once", fix)
            )
        kept = np.unique(np.column_stack([clusters, group]), axis=0)
        for k in np.flatnonzero(np.bincount(kept[:, 0]) > 1)[:1]:
            rows, there = np.flatnonzero(clusters == k).tolist(), [kinds[g] for g in kept[kept[:, 0] == k, 1]]
            raise DesignError(invalid("groups", f"{there} in one cluster, of rows {rows}", "one group a cluster"))
        return cls(visit, group, names, kinds)


def _numbers(labels: ArrayLike, name: str, n: int) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Numbers of labels, and the labels."""
    values = np.asarray(labels)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values  # of a table
    if values.shape != (n,):
        raise DesignError(invalid(name, values.shape, f"one label for each of the {n} maps"))
    missing = np.flatnonzero(pd.isna(np.asarray(labels, dtype=object).reshape(-1))).tolist()
    if missing:
        raise DesignError(f"{name} have no label in row(s) {missing[:10]} (counted from 0). Give every map one.")
    there, number = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
    return number.astype(np.intp), tuple(map(str, there))


@dataclass(frozen=True, eq=False)
class Pair:
    """Two visits of a group, or one with itself.

    Attributes
    ----------
    cells
        Numbers of their maps, among `Visited.cells`.
    places
        Their numbers among the visits of the group.
    rows
        Maps of the clusters that have both, cluster by cluster.
    whole
        Whether all clusters that have one of them have both.
    """

    cells: tuple[int, int]
    places: tuple[int, int]
    rows: tuple[NDArray[np.intp], NDArray[np.intp]]
    whole: bool

    @property
    def n(self) -> int:
        """Clusters that have both."""
        return len(self.rows[0])


@dataclass(frozen=True, eq=False)
class Visited:
    """What sandwich variances by covariances of visits need of a design; nothing of it depends on the data.

    Attributes
    ----------
    number
        (n_subjects,) number of each map's cluster, from 0.
    basis
        (n_subjects, p) orthonormal columns that span the design, those of interest first.
    n_interest
        How many these are.
    correction
        (n_subjects, n_subjects) sparse A, what makes residuals of a cluster as large as errors.
    loadings
        (n_subjects, p) A M: corrected residuals are A y, less these times M' y, for data y.
    cells
        Maps of each visit in each group, cluster by cluster.
    groups
        The pairs of visits of each group: of each with itself, then of the second with the first, and so on.
    naive_dof
        As of the classic estimator.
    """

    number: NDArray[np.intp]
    basis: Doubles
    n_interest: int
    correction: scipy.sparse.csr_matrix
    loadings: Doubles
    cells: tuple[NDArray[np.intp], ...]
    groups: tuple[tuple[Pair, ...], ...]
    naive_dof: float

    @classmethod
    def build(
        cls, number: NDArray[np.intp], visits: Visits, interest: Doubles, nuisance: Doubles, adjustment: str
    ) -> Visited:
        """Take a design apart into visits of groups of clusters.

        Parameters
        ----------
        number
            (n_subjects,) number of each map's cluster, from 0, none left out.
        visits
            Which visit, and which group, each map is of.
        interest, nuisance
            (n_subjects, n_interest) and (n_subjects, n_columns) orthonormal columns, orthogonal to each other.
        adjustment
            A name in `numbaglm.stats.variance.covariance.ADJUSTMENTS`.

        Raises
        ------
        DesignError
            The design leaves no residual of a visit that the contrast takes part in.
        """
        basis = np.ascontiguousarray(np.hstack([interest, nuisance]))
        order = np.argsort(number, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
        correction = corrections(basis, members, adjustment)
        cells: list[NDArray[np.intp]] = []
        groups = []
        for group in range(len(visits.groups)):
            there = order[visits.group[order] == group]
            own = [there[visits.visit[there] == visit] for visit in np.unique(visits.visit[there])]
            groups.append(tuple(_pairs(own, number, len(cells))))
            cells += own
        loadings = np.asarray(correction @ basis)
        made = cls(
            number,
            basis,
            interest.shape[1],
            correction,
            loadings,
            tuple(cells),
            tuple(groups),
            naive_dof(basis, interest.shape[1], members),
        )
        left = np.asarray(correction.multiply(correction).sum(axis=1)).ravel() - (loadings**2).sum(axis=1)
        for rows in made.cells:
            if left[rows].mean() < _KNOWN and np.abs(basis[rows, : made.n_interest]).max() > 1e-8:
                group, visit = visits.groups[visits.group[rows[0]]], visits.visits[visits.visit[rows[0]]]
                where = f" in group {group!r}" if len(visits.groups) > 1 else ""
                raise DesignError(
                    f"The design explains all of visit {visit!r}{where}, {len(rows)} map(s): no residual is left that "
                    "would tell its variance. Merge groups or visits, or leave columns out."
                )
        return made

    @property
    def pairs(self) -> Iterator[Pair]:
        """All of them, group by group."""
        return (pair for group in self.groups for pair in group)

    def weights(self, pair: Pair) -> Doubles:
        """(n_interest, n_interest) weight of the covariance of a pair in S."""
        left, right = (self.basis[rows, : self.n_interest] for rows in pair.rows)
        return left.T @ left if pair.cells[0] == pair.cells[1] else left.T @ right + right.T @ left

    def dof(self, which: str) -> float:
        """Degrees of freedom, by a name in `numbaglm.stats.variance.covariance.DEGREES_OF_FREEDOM`."""
        return self.naive_dof if which == "naive" else self.satterthwaite()

    def satterthwaite(self) -> float:
        """Degrees of freedom of the variance, where errors are independent and of one variance.

        Near that, covariances of visits are means over those who have both, and S is a quadratic form of the data: its
        mean and variance are traces. For several directions as in `numbaglm.stats.variance.sandwich.Clustered`.
        """
        s, A, M = self.n_interest, self.correction, self.basis
        forms = [[A @ self._of_residuals(i, j) @ A for j in range(s)] for i in range(s)]
        mean = np.array([[N.diagonal().sum() - np.sum(M * (N @ M)) for N in row] for row in forms])
        sizes, turned = np.linalg.eigh(mean)
        if sizes[0] <= 1e-12 * sizes[-1]:
            raise DesignError("The design leaves no residuals that would tell the variance of what the contrast tests.")
        whitener = turned / np.sqrt(sizes)
        total = 0.0
        for a in range(s):
            for b in range(s):
                N: Any = sum(whitener[i, a] * whitener[j, b] * forms[i][j] for i in range(s) for j in range(s))
                NM = N @ M
                inside = M.T @ NM
                total += N.multiply(N.T).sum() - 2 * np.sum(NM * (N.T @ M)) + np.sum(inside * inside.T)
        return float(s * (s + 1) / (2 * total))

    def _of_residuals(self, i: int, j: int) -> scipy.sparse.csr_matrix:
        """The form (n_subjects, n_subjects) that makes S_ij of corrected residuals."""
        n = len(self.number)
        values, left, right = [], [], []
        for pair in self.pairs:
            if not pair.n:
                continue
            own = pair.cells[0] == pair.cells[1]
            weight = self.weights(pair)[i, j] / pair.n
            for rows in (pair.rows,) if own else (pair.rows, pair.rows[::-1]):
                values.append(np.full(pair.n, weight if own else weight / 2))
                left.append(rows[0])
                right.append(rows[1])
        where = np.concatenate(left), np.concatenate(right)
        return scipy.sparse.csr_matrix((np.concatenate(values), where), (n, n))


def _pairs(own: list[NDArray[np.intp]], number: NDArray[np.intp], first: int) -> Iterator[Pair]:
    """The pairs of the visits of a group, whose maps are given."""
    for k, rows in enumerate(own):
        yield Pair((first + k, first + k), (k, k), (rows, rows), True)
    for k in range(1, len(own)):
        for j in range(k):
            both = np.intersect1d(number[own[k]], number[own[j]])
            left, right = (one[np.isin(number[one], both)] for one in (own[k], own[j]))
            yield Pair((first + k, first + j), (k, j), (left, right), len(both) == len(own[k]) == len(own[j]))
