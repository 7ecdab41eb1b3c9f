"""Least squares of a whole cohort: tasks over voxel blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine import schedule
from numbaglm.errors import InputError, term
from numbaglm.kernels import glm
from numbaglm.kernels.panels.shuffle import TILE
from numbaglm.stats.model.design import Contrast, Design, orthonormal

_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class ContrastFit:
    """Parametric maps of a contrast.

    Attributes
    ----------
    effect
        (n_rows, n_voxels). t: the contrast of the parameter estimates. F: the same, whitened by its covariance.
    variance
        (n_voxels,). t: of the contrast. F: of the residuals.
    statistic
        (n_voxels,) t or F; 0 where nothing varies.
    """

    effect: NDArray[np.float64]
    variance: NDArray[np.float64]
    statistic: NDArray[np.float64]


def fit_contrast(store: CohortStore, design: Design, contrast: Contrast, is_t: bool, **running: Any) -> ContrastFit:
    """Fit a contrast at every voxel.

    Parameters
    ----------
    store, design, contrast
        Data and model.
    is_t
        Whether the statistic is t; else F, also of a single row.
    running
        client, n_workers, progress, as in `schedule.run_tasks`.
    """
    if store.header.keeps_missing and not store.all_present:
        raise InputError(
            f"Some {store.space.nouns} are not there in all maps of the cohort, and a fit takes those that are: "
            f"{term('take cohort.complete()')}."
        )
    step = max(1, _BLOCK_BYTES // (12 * store.n_subjects * TILE)) * TILE
    spans = [(v, min(v + step, store.n_voxels)) for v in range(0, store.n_voxels, step)]
    parts = schedule.run_tasks(
        fit_block,
        [(store, design, contrast, is_t, *span) for span in spans],
        label="Fitting",
        unit="voxel",
        weights=[stop - start for start, stop in spans],
        **running,
    )
    return ContrastFit(
        np.concatenate([part.effect for part in parts], axis=1),
        np.concatenate([part.variance for part in parts]),
        np.concatenate([part.statistic for part in parts]),
    )


def fit_block(store: CohortStore, design: Design, contrast: Contrast, is_t: bool, start: int, stop: int) -> ContrastFit:
    """Fit a contrast to voxels ``start`` to ``stop``."""
    Y = store.read(start, stop)
    C, covariance = contrast.matrix, design.pseudo_inverse @ design.pseudo_inverse.T
    E = np.empty(Y.shape)
    glm.residuals(Y, np.ascontiguousarray(orthonormal(design.matrix / design.lengths).T), E)
    dispersion = np.einsum("ij,ij->j", E, E) / design.dof
    effect = (C @ design.pseudo_inverse) @ Y.astype(np.float64)
    covariance = C @ covariance @ C.T
    assert effect.shape == (C.shape[0], stop - start)
    if is_t:
        variance = covariance[0, 0] * dispersion
        return ContrastFit(effect, variance, _ratio(effect[0], np.sqrt(variance)))
    whitened = np.real(sqrtm(np.linalg.inv(covariance))) @ effect
    return ContrastFit(whitened, dispersion, _ratio((whitened**2).sum(axis=0) / C.shape[0], dispersion))


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
