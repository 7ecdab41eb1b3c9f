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


def pls(Y, design, contrast, index, sign, which=0):
    """Singular value of the correlations of residuals, of data (n, k) of one voxel, with columns of the contrast."""
    X = design @ np.linalg.pinv(contrast)
    Z = design - X @ contrast
    fit = Z @ np.linalg.pinv(Z)
    X = X - fit @ X
    shuffled = sign[:, None] * (Y - fit @ Y)[index]
    shuffled = shuffled - fit @ shuffled
    correlations = (X / np.linalg.norm(X, axis=0)).T @ (shuffled / np.linalg.norm(shuffled, axis=0))
    return np.linalg.svd(correlations, compute_uv=False)[which]


def loadings(name, Y, design, contrast):
    """Correlations of each variable of data (n, k) with the sum of them that goes with the contrast, nuisance apart."""
    X = design @ np.linalg.pinv(contrast)
    Z = design - X @ contrast
    fit = Z @ np.linalg.pinv(Z)
    X, E = X - fit @ X, Y - fit @ Y
    if name == "pls":
        E = E / np.linalg.norm(E, axis=0)
        weights = np.linalg.svd((X / np.linalg.norm(X, axis=0)).T @ E)[2][0]
    else:
        effect = X @ np.linalg.pinv(X) @ E
        found, vectors = np.linalg.eig(np.linalg.solve(E.T @ E, effect.T @ effect))
        weights = vectors[:, np.argmax(found.real)].real
    variate = E @ weights
    found = E.T @ variate / np.linalg.norm(E, axis=0) / np.linalg.norm(variate)
    along = X[:, 0] @ variate if len(contrast) == 1 else found[np.argmax(np.abs(found))]
    return found * np.sign(along)


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
