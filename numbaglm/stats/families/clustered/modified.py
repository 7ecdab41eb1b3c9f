"""t and F with the modified sandwich variance, whose visits have covariances that the clusters of a group share.

Signs f of whole clusters leave corrected residuals of map k of cluster i

    r_ik = f_i e_ik - l_ik' d,        d = sum_i f_i M_i' y_i,

e being those of the residuals y on the nuisance, and l the loadings (`numbaglm.stats.variance.visits`). Every sum of
products of residuals that covariances of visits are made of follows of a few products: of visits k and j,

    sum_i r_ik r_ij = sum_i e_ik e_ij - sum_i f_i (e_ik l_ij + e_ij l_ik)' d + d' (sum_i l_ik l_ij') d,

over those who have both. Its first part no flip changes. The second is made of a row for each direction that the
loadings of the visits have over the clusters of a cell, a visit in a group. Covariances are made of these sums, and the
statistic of the covariances, for each flip, in the score kernel: as if all data were flipped and fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError
from numbaglm.kernels import sandwich
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.effects import confidence_interval
from numbaglm.stats.families.family import Family, Given, Layer, Prepared
from numbaglm.stats.families.sandwich import Flipped, quotient
from numbaglm.stats.model.regression import unit_residuals
from numbaglm.stats.scales import Correlation, Scale, Share
from numbaglm.stats.variance.covariance import Sandwich
from numbaglm.stats.variance.visits import Pair, Visited

_FEW = 12  # clusters with a pair of visits: of sums that nearly cancel out too little is left in single precision


@Score
def of_visits(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of d and of the products with each cell, see `numbaglm.kernels.sandwich`.

    Parameters
    ----------
    products
        d (p rows), then those of each cell.
    fixed
        What variances of d are measured by, as a lower triangle; then what no flip changes of the sums of products.
    sizes
        Directions tested, and products; then as `numbaglm.kernels.sandwich.of_visits` has them.
    constants
        The degrees of freedom; then the same.
    """
    s, n_rows = sizes[0], sizes[1]
    triangle = s * (s + 1) // 2
    S = products[n_rows : n_rows + triangle]
    sandwich.of_visits(products, fixed[triangle:], sizes[2:], constants[1:], S, products[n_rows + triangle :])
    sandwich.wald(products, S, fixed, s, constants[0])


@dataclass(frozen=True, eq=False)
class Prepare:
    """Layers over clusters and cells, and what is observed, of the data as they are; see `Family.prepare`.

    Attributes
    ----------
    nuisance
        (n_columns, n_subjects) orthonormal rows.
    design
        Pairs of visits, and their weights.
    sums
        (p n_clusters + n_subjects, n_subjects) sparse: its product with residuals are the layers, one below the other.
    bounds
        Where layers begin and end.
    loadings
        (n_subjects, p) what d takes of corrected residuals.
    place
        (n_subjects,) where each map stands among those of the cells.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the estimates.
    scale, dof
        What scores mean, and the degrees of freedom of S.
    """

    nuisance: Doubles
    design: Visited
    sums: scipy.sparse.csr_matrix
    bounds: tuple[int, ...]
    loadings: Doubles
    place: NDArray[np.intp]
    effect: Doubles
    scale: Scale
    dof: float

    def __call__(self, given: Given) -> Prepared:
        """Of data (n_subjects, n_voxels)."""
        s = self.design.n_interest
        E, length, degenerate = unit_residuals(given.data, self.nuisance)
        layers, e, d, S = self._parts(E)
        score = np.where(degenerate, 0.0, quotient(d, S, self.dof))
        effect = self.effect @ given.data.astype(np.float64)
        return Prepared(
            layers=layers,
            score=score,
            statistic=self.scale.to_statistic(score),
            effect=effect,
            degenerate=degenerate,
            length=length,
            fixed=self._fixed(e),
            more=self._more(effect[0], S[0, 0], length) if s == 1 else np.empty((0, len(score))),
        )

    def _more(self, effect: Doubles, S: Doubles, length: Doubles) -> Doubles:
        """Standard error of the effect, and the ends of its interval."""
        error = np.linalg.norm(self.effect[0]) * np.sqrt(S) * length
        return np.stack([error, *confidence_interval(effect, error, self.dof)])

    def observe(self, E: Doubles) -> tuple[Doubles, Doubles]:
        """Score and statistic of residuals (n_subjects, n_voxels), see `Family.observe`."""
        _, _, d, S = self._parts(E)
        score = quotient(d, S, self.dof)
        return score, self.scale.to_statistic(score)

    def _parts(self, E: Doubles) -> tuple[tuple[Doubles, ...], Doubles, Doubles, Doubles]:
        """Layers, corrected residuals on the nuisance (n_subjects, n_voxels), d of what is tested, and S."""
        made = np.asarray(self.sums @ E)
        layers = tuple(made[first:last] for first, last in zip(self.bounds[:-1], self.bounds[1:], strict=True))
        p, s = self.loadings.shape[1], self.design.n_interest
        d = np.array([layer.sum(axis=0) for layer in layers[:p]])
        e = made[self.bounds[p] :][self.place]
        return layers, e, d[:s], self._covariance(e - self.loadings @ d)

    def _covariance(self, residual: Doubles) -> Doubles:
        """S (n_interest, n_interest, n_voxels) of corrected residuals of the whole model."""
        s, n_voxels = self.design.n_interest, residual.shape[1]
        S = np.zeros((s, s, n_voxels))
        for pairs in self.design.groups:
            n_visits = max(pair.places[0] for pair in pairs) + 1
            V = np.zeros((n_voxels, n_visits, n_visits))
            for pair in pairs:
                if pair.n:
                    k, j = pair.places
                    V[:, k, j] = V[:, j, k] = _mean(residual, pair, V[:, k, k], V[:, j, j])
            if not all(pair.whole for pair in pairs):
                sizes, turned = np.linalg.eigh(V)
                V = np.einsum("vik,vk,vjk->vij", turned, np.maximum(sizes, 0.0), turned)
            for pair in pairs:
                k, j = pair.places
                S += self.design.weights(pair)[:, :, None] * V[:, k, j]
        return S

    def _fixed(self, e: Doubles) -> Doubles:
        """What no flip changes: what variances are measured by, and sums of products of residuals on the nuisance."""
        s = self.design.n_interest
        i, j = np.tril_indices(s)
        scale, sums = np.zeros((len(i), e.shape[1])), []
        for pair in self.design.pairs:
            if not pair.n:
                continue
            sums.append(_products(e, *pair.rows))
            if pair.cells[0] == pair.cells[1]:
                scale += (self.design.weights(pair)[i, j] * (i == j))[:, None] * sums[-1] / pair.n
            if not pair.whole:
                sums += [_products(e, rows, rows) for rows in pair.rows]
        return np.vstack([scale, *sums])


def _products(values: Doubles, left: NDArray[np.intp], right: NDArray[np.intp]) -> Doubles:
    """Sums over maps of the products of their values."""
    return np.asarray(np.einsum("iv,iv->v", values[left], values[right]))


def _mean(residual: Doubles, pair: Pair, first: Doubles, second: Doubles) -> Doubles:
    """Covariance of a pair, given the variances of both."""
    mean = _products(residual, *pair.rows) / pair.n
    if pair.whole:
        return mean
    some = np.prod([_products(residual, rows, rows) / pair.n for rows in pair.rows], axis=0)
    there = (some > 0) & (first > 0) & (second > 0)
    return np.where(there, mean * np.sqrt(first * second / np.where(there, some, 1.0)), 0.0)


def modified(design: Visited, effect: Doubles, asked: Sandwich) -> Family:
    """Build t (one direction of interest) or F with a modified sandwich variance.

    Parameters
    ----------
    design
        The design in visits of groups of clusters.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the estimates.
    asked
        Which degrees of freedom.

    Raises
    ------
    DesignError
        There are too few clusters for an F of so many rows.
    """
    s, n = design.n_interest, len(design.number)
    dof = design.dof(asked.dof)
    if dof <= s - 1:
        raise DesignError(
            f"The clusters leave {dof:.3g} degrees of freedom, and a sandwich variance of {s} rows takes more than "
            f"{s - 1}. Test fewer rows at once, or use more clusters."
        )
    # Nuisance that no loading has a part in: nothing of it is ever needed.
    _, sizes, right = np.linalg.svd(design.loadings[:, s:], full_matrices=False)
    kept = right[sizes > 1e-10].T
    basis, loadings = (np.hstack([one[:, :s], one[:, s:] @ kept]) for one in (design.basis, design.loadings))
    p = basis.shape[1]
    sums = {pair: _sums(design, loadings, pair) for pair in design.pairs}
    lefts = _rows(len(design.cells), [one for those in sums.values() for one in those])
    told, constants = _told(design, sums, lefts, p)
    order, n_clusters = np.concatenate(design.cells), int(design.number.max()) + 1
    rows = (np.arange(p)[:, None] * n_clusters + design.number).ravel()
    of_clusters = scipy.sparse.csr_matrix((basis.T.ravel(), (rows, np.tile(np.arange(n), p))), (p * n_clusters, n))
    once = Flipped(np.ones((1, n_clusters)), np.unique(design.number, return_index=True)[1])
    of_cells = [
        Layer(Flipped(np.ascontiguousarray(left.T), cell)) for left, cell in zip(lefts, design.cells, strict=True)
    ]
    layers = (*(Layer(once),) * p, *of_cells)
    most = max(pair.places[0] + 1 for pair in design.pairs)
    scale = Correlation(dof) if s == 1 else Share(dof - s + 1, s)
    prepare = Prepare(
        nuisance=np.ascontiguousarray(design.basis[:, s:].T),
        design=design,
        sums=scipy.sparse.vstack([of_clusters, design.correction[order]]).tocsr(),
        bounds=tuple(np.cumsum([0, *(layer.rows.shape[1] for layer in layers)]).tolist()),
        loadings=loadings,
        place=np.argsort(order),
        effect=effect,
        scale=scale,
        dof=dof,
    )
    return Family(
        name="t" if s == 1 else "f",
        layers=layers,
        score=of_visits,
        scale=scale,
        observe=prepare.observe,
        sizes=(s, p + sum(left.shape[1] for left in lefts), *told),
        constants=np.concatenate([[dof], constants]),
        n_scratch=(s * (s + 1) + p * (p + 1) + most * (most + 1)) // 2 + 3 + 2 * most**2,
        precision="float64" if min(pair.n for pair in design.pairs if pair.n) < _FEW else None,
        pooled=False,
        prepare=prepare,
        more=("effect_se", "effect_lower", "effect_upper") if s == 1 else (),
        dof=scale.dof,
    )


@dataclass(frozen=True, eq=False)
class _Sum:
    """A sum of products of residuals: what no flip changes of it is made of data, the rest of this.

    Attributes
    ----------
    cells
        Whose residuals it has, one or two.
    turns
        (n_units, p) loadings that those of each are multiplied with.
    form
        (p, p) what d and d make of it.
    """

    cells: tuple[int, ...]
    turns: tuple[Doubles, ...]
    form: Doubles


def _sums(design: Visited, loadings: Doubles, pair: Pair) -> list[_Sum]:
    """Sums that the covariance of a pair is made of: of products, and of squares where some lack one of both."""
    if not pair.n:
        return []

    def turn(which: int, rows: NDArray[np.intp], times: float) -> Doubles:
        """Loadings of some maps, each at the unit of its cluster in a cell."""
        cell = design.cells[pair.cells[which]]
        made = np.zeros((len(cell), loadings.shape[1]))
        made[np.isin(cell, pair.rows[which])] = times * loadings[rows]
        return made

    one, other = (loadings[rows] for rows in pair.rows)
    if pair.cells[0] == pair.cells[1]:
        return [_Sum(pair.cells[:1], (turn(0, pair.rows[0], 2.0),), one.T @ one)]
    crossed = one.T @ other
    made = [_Sum(pair.cells, (turn(0, pair.rows[1], 1.0), turn(1, pair.rows[0], 1.0)), (crossed + crossed.T) / 2)]
    if not pair.whole:
        made += [
            _Sum((pair.cells[k],), (turn(k, pair.rows[k], 2.0),), mine.T @ mine) for k, mine in enumerate((one, other))
        ]
    return made


def _rows(n_cells: int, sums: list[_Sum]) -> list[Doubles]:
    """Orthonormal columns (n_units, n_rows) of each cell that span all that its residuals are multiplied with."""
    lefts = []
    for cell in range(n_cells):
        mine = [turn for one in sums for which, turn in zip(one.cells, one.turns, strict=True) if which == cell]
        left, sizes, _ = np.linalg.svd(np.hstack(mine), full_matrices=False)
        lefts.append(np.ascontiguousarray(left[:, sizes > max(1e-10 * sizes[0], 1e-12)]))
    return lefts


def _told(design: Visited, sums: dict[Pair, list[_Sum]], lefts: list[Doubles], first: int) -> tuple[list[int], Doubles]:
    """Sizes and constants, see `numbaglm.kernels.sandwich.of_visits`; rows of the first cell begin at ``first``."""
    n_rows = [left.shape[1] for left in lefts]
    begins = np.cumsum([first, *n_rows]).tolist()
    i, j = np.tril_indices(first)
    a, b = np.tril_indices(design.n_interest)
    sizes, constants = [first, len(design.groups)], list[Doubles]()
    for pairs in design.groups:
        sizes.append(max(pair.places[0] for pair in pairs) + 1)
        for pair in pairs:
            kind = 0 if not pair.n else 1 if pair.whole else 2
            left, right = pair.cells
            sizes += [
                *pair.places,
                kind,
                begins[left],
                n_rows[left],
                begins[right],
                0 if left == right else n_rows[right],
            ]
            constants += [np.array([1 / pair.n])] if pair.n else []
            for one in sums[pair]:
                for cell, turn in zip(one.cells, one.turns, strict=True):
                    constants.append((lefts[cell].T @ turn).ravel())
                constants.append(np.where(i == j, 1.0, 2.0) * one.form[i, j])
        constants += [design.weights(pair)[a, b] for pair in pairs]
    return sizes, np.concatenate(constants)
