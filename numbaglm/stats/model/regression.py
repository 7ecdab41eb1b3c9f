"""A least-squares fit of all columns of a design: parameters, residuals, predictions, R^2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels import glm
from numbaglm.stats.scales import SMALLEST_VARIANCE


@dataclass(frozen=True, eq=False)
class Regression:
    """Ordinary least squares of Y on M, each part computed when it is first asked for.

    Names are those of nilearn's RegressionResults.

    Attributes
    ----------
    read
        Gives Y (n_subjects, n_voxels).
    design
        M (n_subjects, n_regressors), of any rank.
    rank
        Of M.
    """

    read: Callable[[], NDArray[np.floating[Any]]]
    design: Doubles
    rank: int

    @property
    def df_residuals(self) -> int:
        """Residual degrees of freedom."""
        return len(self.design) - self.rank

    @property
    def Y(self) -> Doubles:
        """(n_subjects, n_voxels) data."""
        return np.asarray(self.read(), dtype=np.float64)

    @cached_property
    def theta(self) -> Doubles:
        """(n_regressors, n_voxels) parameter estimates, the shortest where M leaves a choice."""
        return np.asarray(np.linalg.pinv(self.design) @ self.Y)

    @property
    def predicted(self) -> Doubles:
        """(n_subjects, n_voxels) M theta."""
        return np.asarray(self.design @ self.theta)

    @property
    def residuals(self) -> Doubles:
        """(n_subjects, n_voxels) Y - M theta."""
        return self.Y - self.predicted

    @property
    def SSE(self) -> Doubles:
        """(n_voxels,) sum of squared residuals."""
        return np.asarray((self.residuals**2).sum(axis=0))

    @property
    def MSE(self) -> Doubles:
        """(n_voxels,) residual variance."""
        return np.asarray(self.SSE / self.df_residuals)

    @property
    def r_square(self) -> Doubles:
        """(n_voxels,) variance of the prediction over that of the data, as in nilearn; 0 where nothing varies."""
        varying = self.Y.var(axis=0)
        share = np.divide(self.predicted.var(axis=0), varying, out=np.zeros_like(varying), where=varying > 0)
        return np.asarray(share)


def unit_residuals(y: NDArray[np.floating[Any]], nuisance: Doubles) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
    """Residuals on a nuisance, at unit length.

    Parameters
    ----------
    y
        (n_subjects, n_voxels) data.
    nuisance
        (n_columns, n_subjects) orthonormal rows.

    Returns
    -------
    E (n_subjects, n_voxels), 0 where the nuisance explains all; their length (n_voxels,), 0 there; and whether it does.
    """
    E = np.empty(y.shape)
    glm.residuals(y, nuisance, E)
    length = np.sqrt(np.einsum("ij,ij->j", E, E))
    total = np.sqrt(np.einsum("ij,ij->j", y, y, dtype=np.float64))
    degenerate = length <= np.sqrt(SMALLEST_VARIANCE) * total
    E *= np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))
    return E, np.where(degenerate, 0.0, length), degenerate
