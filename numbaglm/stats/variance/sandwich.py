"""Sandwich variances of contrasts of least squares, over clusters of maps that may depend on each other.

M (n, p) is an orthonormal basis of the design, what is tested first (s directions u_i); k numbers clusters; l are
leverages, and H_kk = M_k M_k' is the block of the hat matrix of a cluster. With r the residuals,

    S_ij = sum_k (u_ik' A_k r_k) (u_jk' A_k r_k)

is the covariance of the estimates u_i' y whatever goes on within clusters; A_k corrects for residuals being smaller
than errors. Where errors are independent and of one variance, "C2" makes it unbiased, with the degrees of freedom
of Satterthwaite for a single contrast (Bell and McCaffrey), and Hotelling's T2 of as many for several (HTZ).

References
----------
Liang and Zeger (1986), Biometrika 73:13-22. Bell and McCaffrey (2002), Survey Methodology 28:169-181. Guillaume et al.
(2014), NeuroImage 94:287-302. Pustejovsky and Tipton (2018), J. Bus. Econ. Stat. 36:672-683. MacKinnon and White
(1985), J. Econometrics 29:305-325, for HC2 and HC3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError

ALONE = 1e-10
"""Of 1 - leverage, below which a cluster, or a map, decides a coefficient by itself."""


@dataclass(frozen=True, eq=False)
class Clustered:
    """What sandwich variances need of a design in clusters; nothing of it depends on the data.

    Attributes
    ----------
    number
        (n_subjects,) number of each map's cluster, from 0.
    basis
        (n_subjects, p) orthonormal columns that span the design, those of interest first.
    adjusted
        (n_interest, n_subjects) A_k u_ik.
    loadings
        (n_interest, n_clusters, p) M_k' A_k u_ik: u_ik' A_k r_k is ``adjusted . e`` over the cluster, less the loading
        times M' e, for data e.
    naive_dof
        Clusters that tell of the contrast, less what is constant within them.
    """

    number: NDArray[np.intp]
    basis: Doubles
    adjusted: Doubles
    loadings: Doubles
    naive_dof: float

    @property
    def n_clusters(self) -> int:
        """Clusters."""
        return int(self.loadings.shape[1])

    @property
    def n_interest(self) -> int:
        """Directions that are tested."""
        return int(self.loadings.shape[0])

    @classmethod
    def build(cls, number: NDArray[np.intp], interest: Doubles, nuisance: Doubles, adjustment: str) -> Clustered:
        """Take a design apart into clusters.

        Parameters
        ----------
        number
            (n_subjects,) number of each map's cluster, from 0, none left out.
        interest, nuisance
            (n_subjects, n_interest) and (n_subjects, n_columns) orthonormal columns, orthogonal to each other.
        adjustment
            A name in `numbaglm.stats.variance.covariance.ADJUSTMENTS`.

        Raises
        ------
        DesignError
            A cluster decides by itself what is tested, so that no residual of it tells of its variance.
        """
        basis = np.ascontiguousarray(np.hstack([interest, nuisance]))
        n, s = interest.shape
        adjusted = np.empty((s, n))
        order = np.argsort(number, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
        loadings = np.empty((s, len(members), basis.shape[1]))
        alone = []
        for k, rows in enumerate(members):
            M_k = basis[rows]
            adjusted[:, rows], lost = _adjust(M_k, s, adjustment, n / (n - basis.shape[1]))
            loadings[:, k] = adjusted[:, rows] @ M_k
            if lost:
                alone.append(rows)
        if alone:
            raise DesignError(
                f"Cluster(s) of the maps in row(s) {', '.join(str(rows.tolist()[:3]) for rows in alone[:5])} (counted "
                "from 0) decide by themselves what the contrast tests, so that nothing tells their variance. Leave out "
                "the column that only they have, or merge it with another."
            )
        return cls(number, basis, adjusted, loadings, naive_dof(basis, s, members))

    def dof(self, which: str) -> float:
        """Degrees of freedom, by a name in `numbaglm.stats.variance.covariance.DEGREES_OF_FREEDOM`."""
        return self.naive_dof if which == "naive" else self.satterthwaite()

    def satterthwaite(self) -> float:
        """Degrees of freedom of the variance, where errors are independent and of one variance.

        With p_ik the vectors whose products with the data are u_ik' A_k r_k, S is a sum of products of these: its mean
        and variance follow of p_ik' p_jl = [k = l] |A_k u_k|_ij^2 - q_ik' q_jl, q the loadings. For several directions
        the degrees of freedom are those of the Wishart matrix of the same total variance.
        """
        s, n_clusters = self.n_interest, self.n_clusters
        own = np.empty((s, s, n_clusters))
        for i in range(s):
            for j in range(s):
                own[i, j] = np.bincount(self.number, weights=self.adjusted[i] * self.adjusted[j], minlength=n_clusters)
        return float(satterthwaite(own, self.loadings))


def satterthwaite(own: Doubles, q: Doubles) -> Doubles:
    """Degrees of freedom (...,) of S, see `Clustered.satterthwaite`; 0 where nothing tells a variance.

    Parameters
    ----------
    own
        (..., s, s, n_clusters) products of A_k u_ik and A_k u_jk.
    q
        (..., s, n_clusters, p) loadings.
    """
    s = own.shape[-2]
    mean = own.sum(axis=-1) - np.einsum("...ikp,...jkp->...ij", q, q)
    # In directions in which its mean is the identity.
    sizes, turned = np.linalg.eigh(mean)
    known = sizes[..., :1] > ALONE * sizes[..., -1:]
    whitener = turned / np.sqrt(np.where(known, sizes, 1.0))[..., None, :]
    own = np.einsum("...ia,...ijk,...jb->...abk", whitener, own, whitener)
    q = np.einsum("...ia,...ikp->...akp", whitener, q)
    total = np.zeros(own.shape[:-3])
    for i in range(s):
        for j in range(s):
            here, there = q[..., i, :, :], q[..., j, :, :]
            own_i, own_j, both = own[..., i, i, :], own[..., j, j, :], own[..., i, j, :]
            cross = np.einsum("...kp,...kr->...pr", here, there)
            total += (own_i * own_j + both**2).sum(axis=-1)
            total -= (own_i * (there**2).sum(axis=-1) + own_j * (here**2).sum(axis=-1)).sum(axis=-1)
            total -= 2 * (both * (here * there).sum(axis=-1)).sum(axis=-1)
            total += (cross**2).sum(axis=(-2, -1)) + np.einsum("...pr,...rp->...", cross, cross)
    known = known[..., 0] & (total > 0)
    return np.where(known, s * (s + 1) / np.where(known, total, 1.0), 0.0)


def corrections(basis: Doubles, members: list[NDArray[np.intp]], adjustment: str) -> scipy.sparse.csr_matrix:
    """A (n_subjects, n_subjects), a block a cluster.

    Parameters
    ----------
    basis
        (n_subjects, p) orthonormal columns that span the design.
    members
        Rows of each cluster.
    adjustment
        A name in `numbaglm.stats.variance.covariance.ADJUSTMENTS`.
    """
    n, p = basis.shape
    blocks = [_correct(np.eye(len(rows)), basis[rows], adjustment, n / (n - p)) for rows in members]
    left = np.concatenate([np.repeat(rows, len(rows)) for rows in members])
    right = np.concatenate([np.tile(rows, len(rows)) for rows in members])
    return scipy.sparse.csr_matrix((np.concatenate([one.ravel() for one in blocks]), (left, right)), (n, n))


def _adjust(M_k: Doubles, s: int, adjustment: str, inflation: float) -> tuple[Doubles, bool]:
    """A_k u_ik of a cluster (s, n_k), and whether it decides by itself what is tested."""
    u = M_k[:, :s].T
    if adjustment in ("HC2", "HC3"):
        alone = u[:, 1.0 - (M_k**2).sum(axis=1) < ALONE]
    else:
        turned, sizes, _ = np.linalg.svd(M_k, full_matrices=False)
        alone = u @ turned[:, 1.0 - sizes**2 < ALONE]
    return _correct(u, M_k, adjustment, inflation), bool(np.abs(alone).max(initial=0.0) > 1e-8)


def _correct(rows: Doubles, M_k: Doubles, adjustment: str, inflation: float) -> Doubles:
    """Rows (m, n_k) over the maps of a cluster, times A_k."""
    if adjustment in ("none", "n/(n-p)"):
        return rows * (1.0 if adjustment == "none" else np.sqrt(inflation))
    power = -0.5 if adjustment in ("HC2", "C2") else -1.0
    if adjustment in ("HC2", "HC3"):
        left, turned = 1.0 - (M_k**2).sum(axis=1), None
    else:
        turned, sizes, _ = np.linalg.svd(M_k, full_matrices=False)
        left = 1.0 - sizes**2
    alone = left < ALONE
    factor = np.where(alone, 0.0, np.where(alone, 1.0, left) ** power)
    return rows * factor if turned is None else rows + ((rows @ turned) * (factor - 1.0)) @ turned.T


def naive_dof(basis: Doubles, s: int, members: list[NDArray[np.intp]]) -> float:
    """Clusters with a part in what is tested, less the directions of their design that are constant within them."""
    involved = [rows for rows in members if np.abs(basis[rows, :s]).max() > 1e-10]
    means = np.stack([basis[rows].sum(axis=0) / np.sqrt(len(rows)) for rows in involved])
    inside = basis[np.concatenate(involved)]
    # Cosines between the design of these clusters and what is constant within clusters: 1 where they have it in common.
    _, sizes, directions = np.linalg.svd(inside, full_matrices=False)
    there = sizes > 1e-8
    cosines = np.linalg.svd(means @ (directions[there].T / sizes[there]), compute_uv=False)
    return float(len(involved) - np.sum(cosines > 1 - 1e-8))
