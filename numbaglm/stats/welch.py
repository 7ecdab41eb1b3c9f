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
    dof_factor
        What the degrees of freedom of v are multiplied by: 1, or PALM's 1/3.
    """

    groups: NDArray[np.bool_]
    basis: Floats
    n_interest: int
    residual_dof: Floats
    dof_factor: float = 1.0

    @classmethod
    def build(cls, labels: NDArray[np.intp], basis: Floats, n_interest: int, dof_factor: float) -> VarianceGroups:
        """Split subjects by label (n_subjects,)."""
        groups = np.unique(labels)[:, None] == labels
        free = 1.0 - (basis**2).sum(axis=0)
        return cls(groups, basis, n_interest, groups @ free, dof_factor)

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
        tiny = 1e-30  # of residuals of unit length: keeps weights of a voxel without variance finite
        weights = self.residual_dof[:, None] / np.maximum(squares, tiny)  # (n_groups, n_voxels)
        spread = np.einsum("kj,gj,lj->gkl", self.basis, self.groups, self.basis)
        covariance = np.linalg.inv(np.einsum("gv,gkl->vkl", weights, spread))[:, :s, :s]
        sizes = self.groups.sum(axis=1)[:, None]
        share = weights * sizes / (weights * sizes).sum(axis=0)
        excess = ((1.0 - share) ** 2 / self.residual_dof[:, None]).sum(axis=0)
        dof2 = s * (s + 2) / (3.0 * np.maximum(excess, tiny))
        interest = products[:s]
        if s == 1:
            return interest[0] / np.sqrt(np.maximum(covariance[:, 0, 0], tiny)), dof2 * self.dof_factor
        quadratic = np.einsum("kv,kv->v", interest, np.linalg.solve(covariance, interest.T[:, :, None])[:, :, 0].T)
        return quadratic / (s * (1.0 + 2.0 * (s - 1) / (s * (s + 2)) * excess)), dof2
