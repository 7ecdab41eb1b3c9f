"""Statistics for groups of subjects with different variances: v (Aspin-Welch) and its F counterpart G.

Both are products of a few rows with the shuffled residuals and with their squares. Their degrees of freedom
change from voxel to voxel and from shuffling to shuffling, so the score is the z of the same p: only on a common
scale can statistics of different degrees of freedom share one null.

For two groups the degrees of freedom are Welch's. PALM gives v (one row of interest) a third of them, so that its z
and p are too cautious; that is reproduced under ``conventions="palm"`` alone.

References
----------
Winkler et al. (2014), NeuroImage 92:381-397, section "Generalised statistic" and Appendix. Welch (1951),
Biometrika 38:330-336.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from numbaglm.stats import pvalues

Floats = NDArray[np.float64]


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
    basis: Floats
    n_interest: int
    residual_dof: Floats
    root: Floats
    root_group: NDArray[np.intp]
    dof_factor: float = 1.0

    @classmethod
    def build(cls, labels: NDArray[np.intp], basis: Floats, n_interest: int, dof_factor: float) -> VarianceGroups:
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

    def statistics(self, E: Floats, index: NDArray[np.int32], sign: NDArray[np.int8]) -> tuple[Floats, Floats]:
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
        n_batch, n_voxels = index.shape[0], E.shape[1]
        statistic, z = np.empty((n_batch, n_voxels)), np.empty((n_batch, n_voxels))
        for b in range(n_batch):
            shuffled = sign[b][:, None] * E[index[b]]
            statistic[b], dof2 = self._one(shuffled)
            if self.n_interest == 1:
                z[b] = pvalues.to_z(statistic[b], dof2)
            else:
                z[b] = pvalues.to_z(statistic[b], dof2, self.n_interest)
        return statistic, z

    def _one(self, E: Floats) -> tuple[Floats, Floats]:
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

    def _whitener(self, weights: Floats) -> Floats:
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
