"""Parametric maps of a contrast: the model as it is fitted, without a shuffling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.fit import fit_contrast
from numbaglm.stats import pvalues
from numbaglm.stats.model.design import Contrast, Design

_P_FLOOR = float(np.finfo(np.float32).tiny)  # images hold float32, and p is never 0


def parametric_maps(
    cohort: Cohort, design: Design, contrast: Contrast, *, n_workers: int | None = None, progress: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Fit a model to a cohort.

    Parameters
    ----------
    cohort
        The maps.
    design, contrast
        The model, and a contrast over its columns: t of one row, F of more.
    n_workers, progress
        As in `numbaglm.permutation_test`.

    Returns
    -------
    (n_voxels,) maps by the names of `numbaglm.results.vocabulary.MAPS`; p are of one tail. The effect of an F contrast
    is (n_rows, n_voxels), whitened by its covariance, and its variance that of the residuals.
    """
    fit = fit_contrast(cohort.store, design, contrast, contrast.is_t, n_workers=n_workers, progress=progress)
    n_rows = None if contrast.is_t else len(contrast.matrix)
    p = np.maximum(pvalues.parametric(fit.statistic, design.dof, n_rows), _P_FLOOR)
    bonferroni = pvalues.bonferroni(p)
    return {
        "t" if contrast.is_t else "f": fit.statistic,
        "z": pvalues.to_z(fit.statistic, design.dof, n_rows),
        "effect": fit.effect[0] if contrast.is_t else fit.effect,
        "variance": fit.variance,
        "p_parametric": p,
        "logp_parametric": pvalues.logp(p),
        "p_bonferroni": bonferroni,
        "logp_bonferroni": pvalues.logp(bonferroni),
    }
