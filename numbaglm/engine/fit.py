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


@dataclass(frozen=True, eq=False)
class ModelFit:
    """Estimates of a whole model.

    Attributes
    ----------
    beta
        (n_terms, n_voxels), in the order of `Design.terms`.
    variance
        (n_voxels,) of the residuals; where maps are weighted, with weights whose square roots have the mean 1.
    """

    beta: NDArray[np.float64]
    variance: NDArray[np.float64]


def fit_model(store: CohortStore, design: Design, variances: str | None = None, **running: Any) -> ModelFit:
    """Estimate all coefficients of a model at every voxel.

    Parameters
    ----------
    store, design
        Data and model, with the regressors that each voxel has for itself.
    variances
        Layer of the variances that maps are weighted by the inverse of; None for maps that count alike.
    running
        client, n_workers, progress, as in `schedule.run_tasks`.
    """
    n_terms = len(design.terms)
    wide = n_terms if design.own or variances else 1  # each voxel has a design of its own then
    step = max(1, _BLOCK_BYTES // (12 * store.n_subjects * TILE * wide)) * TILE
    spans = [(v, min(v + step, store.n_voxels)) for v in range(0, store.n_voxels, step)]
    parts = schedule.run_tasks(
        fit_model_block,
        [(store, design, variances, *span) for span in spans],
        label="Fitting",
        weights=[stop - start for start, stop in spans],
        **running,
    )
    beta, variance = (np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("beta", "variance"))
    return ModelFit(beta, variance)


def fit_model_block(store: CohortStore, design: Design, variances: str | None, start: int, stop: int) -> ModelFit:
    """Estimate a model at the voxels ``start`` to ``stop``; 0 where a voxel's own design has not its rank."""
    Y = store.read(start, stop).astype(np.float64)
    if not design.own and variances is None:
        beta = design.pseudo_inverse @ Y
        return ModelFit(beta, ((Y - design.matrix @ beta) ** 2).sum(axis=0) / design.dof)
    own = [store.read(start, stop, one.layer) * (1.0 if one.by is None else one.by[:, None]) for one in design.own]
    shared = np.broadcast_to(design.matrix, (stop - start, *design.matrix.shape))
    X = np.concatenate([shared, *(regressor.T[:, :, None] for regressor in own)], axis=2)
    weights = np.ones_like(Y)
    if variances is not None:
        known = store.read(start, stop, variances).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = 1 / np.sqrt(known)
            weights *= len(Y) / weights.sum(axis=0)
    usable = np.isfinite(weights).all(axis=0)
    weights = np.where(usable, weights, 0.0)
    X, Y = X * weights.T[:, :, None], (Y * weights).T[:, :, None]
    sizes = np.linalg.norm(X, axis=1, keepdims=True)
    usable &= (sizes > 0).all(axis=(1, 2))
    X = X / np.where(sizes > 0, sizes, 1.0)
    usable &= np.linalg.matrix_rank(X) == X.shape[2]
    beta = np.linalg.pinv(X) @ Y
    variance = ((Y - X @ beta) ** 2).sum(axis=(1, 2)) / design.dof
    beta = (beta / np.where(sizes > 0, sizes, 1.0).transpose(0, 2, 1))[:, :, 0].T
    assert beta.shape == (len(design.terms), stop - start)
    return ModelFit(np.where(usable, beta, 0.0), np.where(usable, variance, 0.0))
