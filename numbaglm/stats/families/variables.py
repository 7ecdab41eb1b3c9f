"""Several variables an element: residuals of each, as what several families begin with."""

from __future__ import annotations

import numpy as np

from numbaglm.arrays import Doubles
from numbaglm.kernels import glm
from numbaglm.stats.families.family import Given
from numbaglm.stats.scales import SMALLEST_VARIANCE

FIXED = "have a variable that varies with the nuisance alone"
"""A reason: nothing is left of a variable to test."""


def unit_residuals(given: Given, names: tuple[str, ...], nuisance: Doubles) -> tuple[Doubles, Doubles]:
    """Residuals of each variable on the nuisance, of unit length or 0, and their lengths.

    Parameters
    ----------
    given
        The first variable is the data, the others its layers.
    names
        Of the others.
    nuisance
        (n_columns, n_subjects) orthonormal rows.

    Returns
    -------
    (n_variables, n_subjects, n_voxels) and (n_variables, n_voxels).
    """
    variables = [given.data, *(given.layers[name] for name in names)]
    E = np.empty((len(variables), *given.data.shape))
    lengths = np.empty((len(variables), given.data.shape[1]))
    for y, e, length in zip(variables, E, lengths, strict=True):
        glm.residuals(y, nuisance, e)
        length[:] = np.sqrt(np.einsum("ij,ij->j", e, e))
        total = np.sqrt(np.einsum("ij,ij->j", y, y, dtype=np.float64))
        length[length <= np.sqrt(SMALLEST_VARIANCE) * total] = 0.0
        e *= np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    return E, lengths
