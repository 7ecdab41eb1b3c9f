"""Statistics of several variables by their definitions: refitted, one shuffling and one voxel at a time."""

from __future__ import annotations

import numpy as np
from scipy import special


def roots(Y, design, contrast, index, sign):
    """Roots of H (E + H)^-1, the largest first, of data (n, k) of one voxel, shuffled after Freedman and Lane."""
    X = design @ np.linalg.pinv(contrast)
    Z = design - X @ contrast
    fit = Z @ np.linalg.pinv(Z)
    shuffled = sign[:, None] * (Y - fit @ Y)[index]
    full = shuffled - design @ np.linalg.pinv(design) @ shuffled
    reduced = shuffled - fit @ shuffled
    error, total = full.T @ full, reduced.T @ reduced
    return np.clip(np.sort(np.linalg.eigvals(np.linalg.solve(total, total - error)).real)[::-1], 0, 1)


def statistic(name, roots, which=0):
    """A number that grows with the statistic."""
    return {
        "hotelling": roots.sum(),
        "pillai": roots.sum(),
        "wilks": 1 - np.prod(1 - roots),
        "lawley-hotelling": (roots / (1 - roots)).sum(),
        "roy": roots[0],
        "roy-theta": roots[0],
        "cca": roots[which],
    }[name]


def partial_p(y, design, contrast, index, sign, two_sided):
    """Parametric p of t (or F) of data (n,) of one voxel and variable, shuffled after Freedman and Lane."""
    X = design @ np.linalg.pinv(contrast)
    Z = design - X @ contrast
    shuffled = sign * (y - Z @ np.linalg.pinv(Z) @ y)[index]
    beta = np.linalg.pinv(design) @ shuffled
    dof = len(y) - np.linalg.matrix_rank(design)
    residual = shuffled - design @ beta
    variance = residual @ residual / dof
    effect, unit = contrast @ beta, contrast @ np.linalg.pinv(design.T @ design) @ contrast.T
    if len(contrast) > 1:
        f = effect @ np.linalg.solve(unit, effect) / len(contrast) / variance
        return special.fdtrc(len(contrast), dof, f)
    t = effect[0] / np.sqrt(variance * unit[0, 0])
    return 2 * special.stdtr(dof, -abs(t)) if two_sided else special.stdtr(dof, -t)


def combined(name, p):
    """A number that grows with the combination of p (k,)."""
    z = -special.ndtri(p)
    return {
        "fisher": -2 * np.log(p).sum(),
        "stouffer": z.sum() / np.sqrt(len(p)),
        "tippett": z.max(),
        "edgington": -p.sum(),
        "mudholkar-george": np.log((1 - p) / p).sum(),
        "conjunction": z.min(),
    }[name]
