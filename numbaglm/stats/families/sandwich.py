"""t and F of least squares with a sandwich variance, under sign flips of whole clusters.

e are the residuals on the nuisance, f the signs of the clusters, u_i orthonormal directions of what is tested, M an
orthonormal basis of the whole design, u_i first, and A_k the correction of cluster k (`stats.variance.sandwich`). A
flip leaves estimates and residuals

    d = sum_k f_k M_k' e_k,        r_k = f_k e_k - M_k d,

so that the parts of the sandwich are, of h_ik = u_ik' A_k e_k and loadings q_ik = M_k' A_k u_ik,

    u_ik' A_k r_k = f_k h_ik - q_ik' d.

With Q_i = U R_i, U orthonormal columns that span all loadings, S_ij follows of a few products, v_i = U' (f h_i):

    S_ij = sum_k h_ik h_jk - v_i' R_j d - v_j' R_i d + (R_i d)' R_j d,

whose first part no flip changes. Rows run over clusters: the maps themselves are neither flipped nor fitted again.

References
----------
Guillaume et al. (2014), NeuroImage 94:287-302; Cameron, Gelbach and Miller (2008), Rev. Econ. Stat. 90:414-427, for
flips of the residuals of clusters under the hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError
from numbaglm.kernels import sandwich
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.effects import confidence_interval
from numbaglm.stats.families.family import Family, Given, Layer, Prepared
from numbaglm.stats.model.regression import unit_residuals
from numbaglm.stats.scales import Correlation, Scale, Share
from numbaglm.stats.variance.covariance import Sandwich
from numbaglm.stats.variance.sandwich import Clustered


@dataclass(frozen=True, eq=False)
class Flipped:
    """Rows over clusters, which change sign as wholes.

    Attributes
    ----------
    basis
        (n_rows, n_clusters).
    member
        (n_clusters,) a map of each cluster.
    """

    basis: Doubles
    member: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, int]:
        """See `Rows`."""
        return self.basis.shape[0], self.basis.shape[1]

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[np.floating[Any]]) -> None:
        """See `Rows`."""
        of_cluster = sign[:, self.member].astype(out.dtype)
        for row, there in zip(self.basis.astype(out.dtype), out, strict=True):
            np.multiply(of_cluster, row, out=there[: len(of_cluster)])


@Score
def wald(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of d and of v_i: d / sqrt(d^2 + dof S), or the share d' (d d' + dof S)^-1 d.

    Parameters
    ----------
    products
        d (p rows), then v_i (r rows each).
    fixed
        sum_k h_ik h_jk, the lower triangle row by row.
    sizes
        p, directions tested s, r.
    constants
        R_i, (r, p) row by row, one after the other; and the degrees of freedom.
    """
    p, s, r = sizes[0], sizes[1], sizes[2]
    n, width = products.shape[1], fixed.shape[1]
    fitted = products[p + s * r :]  # R_i d
    triangle = products[p + 2 * s * r :]
    dof = constants[s * r * p]
    for k in range(s * r):
        to = fitted[k]
        to[:] = 0
        for m in range(p):
            factor, there = constants[k * p + m], products[m]
            if factor != 0:
                for v in range(n):
                    to[v] += factor * there[v]
    for i in range(s):
        for j in range(i + 1):
            to, own = triangle[i * (i + 1) // 2 + j], fixed[i * (i + 1) // 2 + j]
            for first in range(0, n, width):
                for v in range(width):
                    to[first + v] = own[v]
            for k in range(r):
                here, there = fitted[i * r + k], fitted[j * r + k]
                left, right = products[p + i * r + k], products[p + j * r + k]
                for v in range(n):
                    to[v] += here[v] * there[v] - left[v] * there[v] - right[v] * here[v]
    sandwich.wald(products, triangle, fixed, s, dof)


@dataclass(frozen=True, eq=False)
class Prepare:
    """Layers over clusters, and what is observed, of the data as they are; see `Family.prepare`.

    Attributes
    ----------
    nuisance
        (n_columns, n_subjects) orthonormal rows.
    sums
        (n_layers n_clusters, n_subjects) sparse: its product with residuals are the layers, one below the other.
    turns
        R_i (n_interest, n_rows, p), see the module.
    left
        (n_clusters, n_rows) U.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the estimates.
    scale
        What scores mean.
    dof
        Degrees of freedom of S.
    root
        (n_subjects,) roots of weights, which design and data are multiplied with; None for none.
    """

    nuisance: Doubles
    sums: scipy.sparse.csr_matrix
    turns: Doubles
    left: Doubles
    effect: Doubles
    scale: Scale
    dof: float
    root: Doubles | None = None

    def __call__(self, given: Given) -> Prepared:
        """Of data (n_subjects, n_voxels)."""
        s = len(self.turns)
        data = given.data if self.root is None else given.data * self.root[:, None]
        E, length, degenerate = unit_residuals(data, self.nuisance)
        layers, d, S = self._parts(E)
        score = np.where(degenerate, 0.0, quotient(d, S, self.dof))
        effect = self.effect @ data.astype(np.float64)
        return Prepared(
            layers=tuple(layers),
            score=score,
            statistic=self.scale.to_statistic(score),
            effect=effect,
            degenerate=degenerate,
            length=length,
            fixed=np.einsum("ikv,jkv->ijv", layers[-s:], layers[-s:])[np.tril_indices(s)],
            more=self._more(effect[0], S[0, 0], length) if s == 1 else np.empty((0, len(score))),
        )

    def _more(self, effect: Doubles, S: Doubles, length: Doubles) -> Doubles:
        """Standard error of the effect, and the ends of its interval."""
        error = np.linalg.norm(self.effect[0]) * np.sqrt(S) * length
        return np.stack([error, *confidence_interval(effect, error, self.dof)])

    def observe(self, E: Doubles) -> tuple[Doubles, Doubles]:
        """Score and statistic of residuals (n_subjects, n_voxels), see `Family.observe`."""
        _, d, S = self._parts(E)
        score = quotient(d, S, self.dof)
        return score, self.scale.to_statistic(score)

    def _parts(self, E: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Layers (n_layers, n_clusters, n_voxels), d of what is tested, and S."""
        s, (n_clusters, _) = len(self.turns), self.left.shape
        layers = np.asarray(self.sums @ E).reshape(-1, n_clusters, E.shape[1])
        d = layers[:-s].sum(axis=1)
        parts = [layers[i - s] - self.left @ (turn @ d) for i, turn in enumerate(self.turns)]
        return layers, d[:s], np.einsum("ikv,jkv->ijv", parts, parts)


def quotient(d: Doubles, S: Doubles, dof: float | Doubles) -> Doubles:
    """d / sqrt(d^2 + dof S), or d' (d d' + dof S)^-1 d; 0 where both are 0.

    Parameters
    ----------
    d, S
        (s, n_voxels) estimates, and (s, s, n_voxels) their covariance.
    dof
        Degrees of freedom of S; one, or (n_voxels,).
    """
    whole = dof * S + d[:, None] * d[None]
    if len(d) == 1:
        root = np.sqrt(whole[0, 0])
        return np.asarray(np.divide(d[0], root, out=np.zeros(root.shape), where=root > 0))
    inverse = np.linalg.pinv(whole.transpose(2, 0, 1), hermitian=True)
    return np.asarray(np.einsum("iv,vij,jv->v", d, inverse, d))


def t_or_f(design: Clustered, effect: Doubles, asked: Sandwich, root: Doubles | None = None) -> Family:
    """Build t (one direction of interest) or F with a sandwich variance.

    Parameters
    ----------
    design
        The design in clusters, its residuals corrected.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the estimates.
    asked
        Which degrees of freedom.
    root
        (n_subjects,) roots of weights, which the design has been multiplied with; None for none. Errors are then
        supposed to have variances of one over the weights, where anything is supposed of them.

    Raises
    ------
    DesignError
        There are too few clusters for an F of so many rows.
    """
    s, n_clusters, n = design.n_interest, design.n_clusters, len(design.number)
    dof = design.dof(asked.dof)
    if dof <= s - 1:
        raise DesignError(
            f"The clusters leave {dof:.3g} degrees of freedom, and a sandwich variance of {s} rows takes more than "
            f"{s - 1}. Test fewer rows at once, or use more clusters."
        )
    left, sizes, right = np.linalg.svd(np.hstack(list(design.loadings)), full_matrices=False)
    there = sizes > 1e-10 * sizes[0]
    left = np.ascontiguousarray(left[:, there])
    turns = (sizes[there, None] * right[there]).reshape(-1, s, design.basis.shape[1]).transpose(1, 0, 2)
    # Nuisance that no loading has a part in: nothing of it is ever needed.
    _, sizes, right = np.linalg.svd(turns[:, :, s:].reshape(s * len(left.T), design.basis.shape[1] - s), False)
    kept = right[sizes > 1e-10].T
    basis = np.hstack([design.basis[:, :s], design.basis[:, s:] @ kept])
    turns = np.concatenate([turns[:, :, :s], turns[:, :, s:] @ kept], axis=2)
    p, r = basis.shape[1], left.shape[1]
    weights = np.vstack([basis.T, design.adjusted])
    rows = (np.arange(len(weights))[:, None] * n_clusters + design.number).ravel()
    columns = np.tile(np.arange(n), len(weights))
    sums = scipy.sparse.csr_matrix((weights.ravel(), (rows, columns)), (len(weights) * n_clusters, n))
    member = np.unique(design.number, return_index=True)[1]
    once, loaded = Flipped(np.ones((1, n_clusters)), member), Flipped(np.ascontiguousarray(left.T), member)
    scale = Correlation(dof) if s == 1 else Share(dof - s + 1, s)
    nuisance = np.ascontiguousarray(design.basis[:, s:].T)
    prepare = Prepare(nuisance, sums, turns, left, effect, scale, dof, root)
    return Family(
        name="t" if s == 1 else "f",
        layers=(*(Layer(once),) * p, *(Layer(loaded),) * s),
        score=wald,
        scale=scale,
        observe=prepare.observe,
        sizes=(p, s, r),
        constants=np.concatenate([turns.ravel(), [dof]]),
        n_scratch=s * r + s * (s + 1) // 2,
        pooled=False,
        prepare=prepare,
        more=("effect_se", "effect_lower", "effect_upper") if s == 1 else (),
        dof=scale.dof,
    )
