"""Variance components of maps that depend on each other within clusters, by moments; and bins of their ratios.

The covariance of the maps is a sum V = sum_c s_c K_c of known matrices that reach no further than clusters do: ones
within a block ("family"), within a person ("subject"), a kinship matrix, and the identity ("error"). With e = R y the
residuals of least squares on the nuisance, E[e e'] = sum_c s_c R K_c R; regressed over all pairs of maps, the products
of residuals give the s_c of

    sum_d tr(R K_c R K_d) s_d = e' K_c e,        s >= 0,

whose right side has products within clusters alone. So neither they nor what follows of them changes where residuals
change sign by whole clusters. In a balanced one-way layout these are the estimates of the analysis of variance.

Each K_c has a mean diagonal of 1, so that s_c over the sum of all is a share of the variance. Elements whose shares lie
in one bin of a regular lattice over all shares are given the shares of its centre.

References
----------
Haseman and Elston (1972), Behavior Genetics 2:3-19, for regression of products of pairs; Rao (1970), J. Am. Stat.
Assoc. 65:161-172 (MINQUE), for the moments; Parekh et al. (2024), Hum. Brain Mapp. 45:e26579, for bins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import add, mul

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError, InputError, invalid, term
from numbaglm.kernels.components import quadratic_forms
from numbaglm.stats.variance.covariance import EFFECTS

RESAMPLINGS = 1000
"""Of the clusters, for intervals of shares."""

_SINGULAR = 1e-12  # determinant of moments of unit size, which clusters drawn anew may leave
_ALIKE = 1e-8  # of the moments of unit size, in no direction of which there may be less


@dataclass(frozen=True, eq=False)
class Kinship:
    """A known matrix of covariances, block by block.

    Attributes
    ----------
    blocks
        Of each cluster (n_maps, n_maps), in the order of its maps.
    """

    blocks: tuple[Doubles, ...]

    @classmethod
    def build(
        cls, blocks: Sequence[Doubles], parameter: str = "kinship", names: Sequence[str] | None = None
    ) -> Kinship:
        """Bring blocks to a mean diagonal of 1; ``names`` are what errors call them, by default their numbers.

        Raises
        ------
        InputError
            One is not symmetric, not of numbers, or not semi-definite.
        """
        for number, one in enumerate(blocks):
            called = f"block {number} (counted from 0)" if names is None else f"block {names[number]!r}"
            if not np.isfinite(one).all() or not np.allclose(one, one.T, rtol=1e-6, atol=1e-9):
                what = f"{called} that is not symmetric, or not of numbers"
                raise InputError(invalid(parameter, what, "symmetric matrices of finite numbers"))
            if (least := float(np.linalg.eigvalsh(one)[0])) < -1e-6 * max(1.0, float(np.trace(one))):
                what = f"{called} with an eigenvalue of {least:.3g}"
                raise InputError(invalid(parameter, what, "matrices of covariances, which have none below 0"))
        mean = float(np.concatenate([np.diag(one) for one in blocks]).mean())
        if mean <= 0:
            raise InputError(invalid(parameter, "a diagonal of 0", "matrices of covariances"))
        return cls(tuple(np.ascontiguousarray((one + one.T) / (2 * mean)) for one in blocks))

    @property
    def digest(self) -> str:
        """Hash of all numbers."""
        return hashlib.sha256(b"".join(one.tobytes() for one in self.blocks)).hexdigest()


@dataclass(frozen=True, eq=False)
class Components:
    """The matrices that a covariance is a sum of, cluster by cluster.

    Attributes
    ----------
    names
        Of the matrices.
    order
        (n_maps,) the maps, cluster after cluster.
    starts
        (n_clusters + 1,) where each cluster begins in that order, and the last ends.
    kind, begins
        (n_clusters,) number of those that each is built like, (n_kinds,) where the block of each kind begins.
    blocks
        (n_components, n_entries) of each matrix the block of each kind, row by row.
    """

    names: tuple[str, ...]
    order: NDArray[np.intp]
    starts: NDArray[np.int64]
    kind: NDArray[np.int64]
    begins: NDArray[np.int64]
    blocks: Doubles

    @property
    def n(self) -> int:
        """Matrices."""
        return len(self.names)

    @property
    def n_clusters(self) -> int:
        """Clusters."""
        return len(self.kind)

    @property
    def number(self) -> NDArray[np.intp]:
        """(n_maps,) number of the cluster of each map."""
        out = np.empty(len(self.order), np.intp)
        out[self.order] = np.repeat(np.arange(self.n_clusters), np.diff(self.starts))
        return out

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        number: NDArray[np.intp],
        subjects: NDArray[np.intp] | None = None,
        kinship: Kinship | None = None,
    ) -> Components:
        """Put the matrices together.

        Parameters
        ----------
        names
            In `EFFECTS`.
        number
            (n_maps,) the cluster of each map, from 0, none left out.
        subjects
            (n_maps,) the subject of each map, from 0; where "subject" is among the names.
        kinship
            Where "kinship" is.

        Raises
        ------
        DesignError
            A subject has maps in several clusters.
        """
        order = np.argsort(number, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(number))]).astype(np.int64)
        if subjects is not None:
            pairs = np.unique(np.column_stack([subjects, number]), axis=0)
            if len(pairs) > subjects.max() + 1:
                twice = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)[0]
                rows = np.flatnonzero(subjects == twice)[:5].tolist()
                raise DesignError(
                    f"Maps of one subject, in row(s) {rows} (counted from 0), are in several exchangeability blocks, "
                    "which are independent of each other. Give blocks that hold whole subjects."
                )
        kinds: dict[bytes, int] = {}
        kind = np.empty(len(starts) - 1, np.int64)
        blocks: list[Doubles] = []
        for k, rows in enumerate(np.split(order, starts[1:-1])):
            stacked = np.stack([_matrix(name, k, rows, subjects, kinship) for name in names])
            key = stacked.tobytes()
            if key not in kinds:
                kinds[key] = len(blocks)
                blocks.append(stacked.reshape(len(names), -1))
            kind[k] = kinds[key]
        begins = np.cumsum([0, *(one.shape[1] for one in blocks[:-1])]).astype(np.int64)
        return cls(tuple(names), order, starts, kind, begins, np.ascontiguousarray(np.hstack(blocks)))

    def clusters(self) -> list[tuple[NDArray[np.intp], slice, int]]:
        """Of each kind: the places (n_such, size) of the maps of its clusters, its entries, and its size."""
        found = []
        sizes = np.diff(self.starts)
        for number, begin in enumerate(self.begins):
            those = np.flatnonzero(self.kind == number)
            size = int(sizes[those[0]])
            found.append((self.starts[those][:, None] + np.arange(size), slice(begin, begin + size**2), size))
        return found

    def multiply(self, entries: Doubles, columns: Doubles) -> Doubles:
        """Product of a matrix of such blocks (n_entries,) with columns (n_maps, m) in the order of the clusters."""
        out = np.empty(columns.shape)
        for places, where, size in self.clusters():
            out[places] = entries[where].reshape(size, size) @ columns[places]
        return out

    def inverse(self, shares: Doubles) -> Doubles:
        """Entries of the inverse of the sum of the matrices, in these shares (n_components,)."""
        total, out = shares @ self.blocks, np.empty(self.blocks.shape[1])
        for _, where, size in self.clusters():
            out[where] = np.linalg.inv(total[where].reshape(size, size)).ravel()
        return out

    def forms(self, E: Doubles, entries: Doubles, apart: bool = False) -> Doubles:
        """e' B e of each element (n_maps, n_elements), of matrices (n_matrices, n_entries).

        Returns
        -------
        (n_matrices, n_elements); of each cluster (n_clusters, n_matrices, n_elements) where they are wanted apart.
        """
        into = np.arange(self.n_clusters) if apart else np.zeros(self.n_clusters, np.int64)
        out = np.zeros((self.n_clusters if apart else 1, len(entries), E.shape[1]))
        quadratic_forms(E, self.starts, self.kind, self.begins, entries, into, out)
        return np.asarray(out if apart else out[0])


def _matrix(
    name: str, k: int, rows: NDArray[np.intp], subjects: NDArray[np.intp] | None, kinship: Kinship | None
) -> Doubles:
    """What an effect has between the maps of cluster k, those in ``rows``."""
    if name == "subject":
        assert subjects is not None
        return np.asarray(subjects[rows, None] == subjects[rows], dtype=np.float64)
    if name == "kinship":
        assert kinship is not None
        return kinship.blocks[k]
    return np.ones((len(rows), len(rows))) if name == "family" else np.eye(len(rows))


@dataclass(frozen=True, eq=False)
class Moments:
    """What turns products of residuals into shares of the variance.

    Attributes
    ----------
    components
        The matrices.
    of_clusters
        (n_clusters, n_components, n_components) what each cluster adds to tr(R K_c R K_d).
    """

    components: Components
    of_clusters: Doubles

    @classmethod
    def build(cls, components: Components, nuisance: Doubles) -> Moments:
        """Work out what residuals on a nuisance have of each component.

        Parameters
        ----------
        nuisance
            (n_columns, n_maps) orthonormal rows, in the order of the maps.

        Raises
        ------
        DesignError
            Some of the components can't be told apart.
        """
        Z = np.ascontiguousarray(nuisance[:, components.order].T)
        W = np.stack([components.multiply(entries, Z) for entries in components.blocks])
        S = np.einsum("nq,cnr->cqr", Z, W)
        own = np.stack(
            [components.blocks[:, where] @ components.blocks[:, where].T for _, where, _ in components.clusters()]
        )
        rows = np.einsum("cnq,dnq->ncd", Z @ S, W) - 2 * np.einsum("cnq,dnq->ncd", W, W)
        of_clusters = own[components.kind] + np.add.reduceat(rows, components.starts[:-1], axis=0)
        of_clusters = (of_clusters + of_clusters.transpose(0, 2, 1)) / 2
        _require_different(components, of_clusters.sum(axis=0), own[components.kind].sum(axis=0))
        return cls(components, of_clusters)

    @property
    def gram(self) -> Doubles:
        """(n_components, n_components) tr(R K_c R K_d)."""
        return np.asarray(self.of_clusters.sum(axis=0))

    def shares(self, E: Doubles) -> Doubles:
        """Shares (n_components, n_elements) of the variance of residuals (n_maps, n_elements), by cluster.

        Equal ones where residuals are 0.
        """
        return as_shares(non_negative(self.gram, self.components.forms(E, self.components.blocks).T).T)

    def intervals(self, E: Doubles, coverage: float, drawn: NDArray[np.uint8]) -> tuple[Doubles, Doubles]:
        """Ends of intervals of the shares, (n_components, n_elements) each: percentiles over clusters drawn anew.

        Parameters
        ----------
        E
            (n_maps, n_elements) residuals, by cluster.
        drawn
            How often each cluster is drawn, see `draw_clusters`.
        """
        components, times = self.components, drawn.astype(np.float64)
        gram = (times @ self.of_clusters.reshape(len(self.of_clusters), -1)).reshape(-1, components.n, components.n)
        forms = np.ascontiguousarray(components.forms(E, components.blocks, apart=True).transpose(2, 0, 1))
        ends = np.empty((2, components.n, E.shape[1]))
        levels = (1 - coverage) / 2, (1 + coverage) / 2
        for v, of_clusters in enumerate(forms):
            ends[:, :, v] = np.quantile(as_shares(non_negative(gram, times @ of_clusters).T), levels, axis=1)
        return ends[0], ends[1]


def draw_clusters(n_clusters: int, seed: int) -> NDArray[np.uint8]:
    """Draw as many clusters as there are, with repetition, again and again.

    Returns
    -------
    (`RESAMPLINGS`, n_clusters) how often each was drawn.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLINGS, n_clusters), np.uint8)
    for one in drawn:
        one[:] = np.bincount(rng.integers(n_clusters, size=n_clusters), minlength=n_clusters)
    return drawn


def _require_different(components: Components, gram: Doubles, whole: Doubles) -> None:
    """Refuse components of which the clusters, or the design, leave nothing, or nothing of their own."""
    left = np.diag(gram) / np.diag(whole)
    for name, share in zip(components.names, left, strict=True):
        if share < _ALIKE:
            raise DesignError(
                f"The design explains all that the effect {name!r} ({EFFECTS[name]}) could be told by: leave it out of "
                f"{term('effects')}, or the columns of each block or subject out of the design."
            )
    unit = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    sizes, turned = np.linalg.eigh(unit)
    if sizes[0] < _ALIKE:
        which = [repr(name) for name, part in zip(components.names, turned[:, 0], strict=True) if abs(part) > 0.1]
        raise DesignError(
            f"The effects {' and '.join(which)} can't be told apart: in these clusters they mean the same. Leave one "
            f"of them out of {term('effects')}."
        )


def non_negative(gram: Doubles, right: Doubles) -> Doubles:
    """Least x' G x / 2 - b' x of x >= 0.

    The solution is that of the equations of some of its entries, the others 0: the best of those that have no
    negative one.

    Parameters
    ----------
    gram, right
        (..., n, n) positive semi-definite, and (..., n). Entries that can't be told apart are not taken together.
    """
    n = right.shape[-1]
    shape = np.broadcast_shapes(gram.shape[:-2], right.shape[:-1])
    found, least = np.zeros((*shape, n)), np.zeros(shape)
    for size in range(1, n + 1):
        for some in map(list, combinations(range(n), size)):
            G, b = gram[..., some, :][..., some], [right[..., i] for i in some]
            sizes = np.sqrt(np.diagonal(G, axis1=-2, axis2=-1))
            sizes = np.where(sizes > 0, sizes, 1.0)
            regular = np.linalg.det(G / (sizes[..., :, None] * sizes[..., None, :])) > _SINGULAR
            inverse = np.linalg.inv(np.where(regular[..., None, None], G, np.eye(size)))
            # Written out, so that nothing depends on how many there are.
            x = [reduce(add, (inverse[..., i, j] * b[j] for j in range(size))) for i in range(size)]
            value = -reduce(add, map(mul, x, b))
            better = regular & np.all(np.stack(x) >= 0, axis=0) & (value < least)
            least[better] = value[better]
            found[better] = 0.0
            for i, one in zip(some, x, strict=True):
                found[better, i] = one[better]
    return found


def as_shares(variances: Doubles) -> Doubles:
    """Variances (n_components, n_elements) over their sum; equal ones where that is 0."""
    total = variances.sum(axis=0)
    return np.asarray(np.divide(variances, total, out=np.full(variances.shape, 1 / len(variances)), where=total > 0))


def nearest_bin(shares: Doubles, bins: int) -> NDArray[np.int64]:
    """Steps (n_components, n_elements) along each share to the nearest bin: whole numbers whose sum is ``bins`` - 1."""
    steps = shares * bins - 1 / len(shares)
    whole = np.floor(steps)
    rest = bins - 1 - whole.sum(axis=0)
    # The largest remainders are rounded up, those of what lies below 0 first.
    order = np.argsort(-(steps - whole + (whole < 0)), axis=0, kind="stable")
    up = np.arange(len(shares))[:, None] < rest
    np.put_along_axis(whole, order, np.take_along_axis(whole, order, axis=0) + up, axis=0)
    return whole.astype(np.int64)


def centre(steps: NDArray[np.int64], bins: int) -> Doubles:
    """Shares (n_components,) of the middle of a bin: none is 0."""
    return np.asarray((steps + 1 / len(steps)) / bins)
