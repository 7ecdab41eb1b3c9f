"""t and F of generalised least squares, under sign flips of whole clusters.

The covariance of the maps is that of a mixed model, V_b = sum_c share_c K_c, in the shares of the bin b that an element
falls into (`numbaglm.stats.variance.components`). It reaches no further than clusters do, so that whitening by V_b^-1/2
and flips of whole clusters may change places. With e the residuals of the whitened data on the whitened nuisance, at
unit length, u_i orthonormal directions of what is tested beside it and z_j of the nuisance, a flip f leaves

    sum_k f_k (u_ik' e_k),        sum_k f_k (z_jk' e_k),

of which t and F are made as ever (`numbaglm.stats.families.t_f`). Each of these sums has a layer over clusters, which
an element has from the table of its own bin; the rows are the signs. So bins cost tables and nothing else, and neither
they nor the shares change with a flip. Nuisance whose part in each cluster is nuisance as well (a column for each site)
has nothing in common with residuals under any flip, and no layer.

References
----------
Parekh et al. (2024), Hum. Brain Mapp. 45:e26579; Winkler et al. (2014), NeuroImage 92:381-397.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import comb
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels.components import subtract_fit, sum_over_clusters
from numbaglm.stats.effects import confidence_interval, residual_sd
from numbaglm.stats.families.family import Family, Given, Layer, Prepared
from numbaglm.stats.families.sandwich import Flipped
from numbaglm.stats.families.t_f import combine
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Scale, Share
from numbaglm.stats.variance.components import Components, Moments, centre, draw_clusters, nearest_bin
from numbaglm.stats.variance.covariance import Binned

MOST_BYTES = 2**27
"""Of the tables of bins that a process keeps."""


@dataclass(frozen=True, eq=False)
class Table:
    """What elements of one bin need; maps cluster after cluster.

    Attributes
    ----------
    weights
        (n_maps, n_layers) V^-1/2 u_i, then V^-1/2 z_j of the nuisance that has layers.
    of_nuisance, fitted
        (n_maps, n_columns) V^-1/2 z_j and V^1/2 z_j of all nuisance.
    inverse
        (1, n_entries) of V^-1.
    turn
        (n_interest, n_interest): its product with the products of u_i and the whitened data is the estimated effect.
    """

    weights: Doubles
    of_nuisance: Doubles
    fitted: Doubles
    inverse: Doubles
    turn: Doubles

    @property
    def n_bytes(self) -> int:
        """Bytes."""
        return sum(one.nbytes for one in (self.weights, self.of_nuisance, self.fitted, self.inverse))


@dataclass(frozen=True, eq=False)
class Whitened:
    """What is left of residuals once each element is whitened by its bin; of unit length.

    Attributes
    ----------
    layers
        (n_layers, n_clusters, n_voxels).
    products
        (n_interest, n_voxels) with u_i.
    length
        (n_voxels,) before, of whitened data whose residuals had unit length.
    effect, unit
        (n_interest, n_voxels) the estimates of those data, and the variance of each that errors of unit variance make.
    """

    layers: Doubles
    products: Doubles
    length: Doubles
    effect: Doubles
    unit: Doubles


@dataclass(frozen=True, eq=False)
class Prepare:
    """Layers over clusters, and what is observed, of the data as they are; see `Family.prepare`.

    Attributes
    ----------
    moments
        What turns residuals into shares of the variance.
    asked
        Which bins, and intervals.
    basis
        (n_subjects, n_columns) columns that span the design, cluster after cluster: orthonormal ones of nuisance
        without layers, then with them, then what is tested.
    n_still
        Columns of nuisance without layers.
    effect
        (n_interest, n_subjects), cluster after cluster: its product with columns of the design is what the contrast
        makes of these.
    scale
        What scores mean.
    dof
        Residual degrees of freedom.
    drawn
        How often clusters are drawn for intervals; None for no intervals.
    tables
        Those of bins that this process has made.
    """

    moments: Moments
    asked: Binned
    basis: Doubles
    n_still: int
    effect: Doubles
    scale: Scale
    dof: float
    drawn: NDArray[np.uint8] | None
    tables: dict[tuple[int, ...], Table] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"tables": {}}  # others make their own

    @cached_property
    def nuisance(self) -> Doubles:
        """(n_subjects, n_columns) orthonormal columns of all nuisance, cluster after cluster."""
        return np.ascontiguousarray(self.basis[:, : self.basis.shape[1] - len(self.effect)])

    @property
    def n_layers(self) -> int:
        """Layers: one for each direction of what is tested, and of the nuisance that has any."""
        return int(self.basis.shape[1]) - self.n_still

    @property
    def held(self) -> int:
        """Bytes of all tables that may be kept at once."""
        n, p = self.basis.shape
        q = p - len(self.effect)
        one = 8 * (n * (self.n_layers + 2 * q) + self.moments.components.blocks.shape[1])
        return min(MOST_BYTES, int(one) * comb(self.asked.bins + self.moments.components.n - 2, self.asked.bins - 1))

    def __call__(self, given: Given) -> Prepared:
        """Of data (n_subjects, n_voxels)."""
        s = len(self.effect)
        E, length, degenerate = self._residuals(given.data)
        shares = self.moments.shares(E)
        white = self._whiten(E, shares)
        score = np.where(degenerate, 0.0, self._score(white.products))
        more = [shares]
        if self.drawn is not None and self.asked.interval is not None:
            more += self.moments.intervals(E, self.asked.interval, self.drawn)
        effect, left = white.effect * length, white.length * length
        if s == 1:
            error = residual_sd(left, score**2, self.dof) * np.sqrt(white.unit[0])
            more.insert(0, np.stack([error, *confidence_interval(effect[0], error, self.dof)]))
        return Prepared(
            layers=tuple(white.layers),
            score=score,
            statistic=self.scale.to_statistic(score),
            effect=effect,
            degenerate=degenerate,
            length=left,
            fixed=np.empty((0, len(score))),
            more=np.where(degenerate, 0.0, np.concatenate(more)),
        )

    def observe(self, E: Doubles) -> tuple[Doubles, Doubles]:
        """Score and statistic of residuals (n_subjects, n_voxels), see `Family.observe`."""
        E = np.ascontiguousarray(E[self.moments.components.order])
        score = self._score(self._whiten(E, self.moments.shares(E)).products)
        return score, self.scale.to_statistic(score)

    def _residuals(self, data: NDArray[np.floating[Any]]) -> tuple[Doubles, Doubles, NDArray[np.bool_]]:
        """As `numbaglm.stats.model.regression.unit_residuals`, by cluster, and the same bits in any company.

        What bin an element is in must not depend on how work is cut.
        """
        components = self.moments.components
        E = data[components.order].astype(np.float64)
        if (self.nuisance.sum(axis=0) ** 2).sum() > len(E) * (1 - 1e-12):  # which holds a constant
            E -= E[0].copy()
        subtract_fit(E, self.nuisance, self.nuisance, np.empty((self.nuisance.shape[1], E.shape[1])))
        length = np.sqrt(components.forms(E, components.blocks[[components.names.index("error")]])[0])
        total = np.sqrt(np.einsum("ij,ij->j", data, data, dtype=np.float64))
        degenerate = length <= np.sqrt(SMALLEST_VARIANCE) * total
        E *= np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))
        return E, np.where(degenerate, 0.0, length), degenerate

    def _score(self, products: Doubles) -> Doubles:
        return np.asarray(products[0] if isinstance(self.scale, Correlation) else (products**2).sum(axis=0))

    def _whiten(self, E: Doubles, shares: Doubles) -> Whitened:
        """Whiten residuals (n_maps, n_voxels), by cluster, each by the bin of its shares."""
        components, s, n_voxels = self.moments.components, len(self.effect), E.shape[1]
        layers = np.empty((self.n_layers, components.n_clusters, n_voxels))
        products, length = np.empty((s, n_voxels)), np.empty(n_voxels)
        effect, unit = np.empty((s, n_voxels)), np.empty((s, n_voxels))
        bins, of = np.unique(nearest_bin(shares, self.asked.bins), axis=1, return_inverse=True)
        for number, steps in enumerate(bins.T):
            which, table = np.flatnonzero(of.ravel() == number), self._table(steps)
            e = np.ascontiguousarray(E[:, which])
            subtract_fit(e, table.of_nuisance, table.fitted, np.empty((table.fitted.shape[1], len(which))))
            sums = np.empty((self.n_layers, components.n_clusters, len(which)))
            total = np.empty((self.n_layers, len(which)))
            sum_over_clusters(e, table.weights, components.starts, sums, total)
            long = np.sqrt(components.forms(e, table.inverse)[0])
            short = np.divide(1.0, long, out=np.zeros(long.shape), where=long > 0)
            layers[:, :, which], products[:, which], length[which] = sums * short, total[:s] * short, long
            effect[:, which] = np.einsum("ij,jv->iv", table.turn, total[:s])
            unit[:, which] = (table.turn**2).sum(axis=1)[:, None]
        return Whitened(layers, products, length, effect, unit)

    def _table(self, steps: NDArray[np.int64]) -> Table:
        """Return the table of a bin, made where it is not there."""
        key = tuple(steps.tolist())
        found = self.tables.get(key)
        if found is None:
            found = self._make(centre(steps, self.asked.bins))
            while self.tables and sum(one.n_bytes for one in list(self.tables.values())) + found.n_bytes > MOST_BYTES:
                self.tables.pop(next(iter(list(self.tables))), None)
            self.tables[key] = found
        return found

    def _make(self, shares: Doubles) -> Table:
        """Make the table of a bin of these shares."""
        components, q = self.moments.components, self.basis.shape[1] - len(self.effect)
        inverse = components.inverse(shares)
        weighted = components.multiply(inverse, self.basis)
        # V^-1/2 times the basis, made orthonormal in its order: what is tested comes last.
        root = np.linalg.cholesky(self.basis.T @ weighted)
        weights, fitted = (scipy.linalg.solve_triangular(root, one.T, lower=True).T for one in (weighted, self.basis))
        return Table(
            weights=np.hstack([weights[:, q:], weights[:, self.n_still : q]]),
            of_nuisance=np.ascontiguousarray(weights[:, :q]),
            fitted=np.ascontiguousarray(fitted[:, :q]),
            inverse=inverse[None],
            turn=self.effect @ fitted[:, q:],
        )


def gls(
    components: Components, interest: Doubles, nuisance: Doubles, effect: Doubles, asked: Binned, seed: int
) -> Family:
    """Build t (one direction of interest) or F of generalised least squares.

    Parameters
    ----------
    components
        What the covariance is a sum of.
    interest, nuisance
        (n_interest, n_subjects) and (n_columns, n_subjects) orthonormal rows.
    effect
        (n_interest, n_subjects): its product with the data is the contrast of the estimates of least squares.
    asked
        Which bins and intervals.
    seed
        Of the clusters that are drawn for intervals.

    Raises
    ------
    DesignError
        Components can't be told apart.
    """
    s, n = interest.shape
    dof = n - s - len(nuisance)
    moments = Moments.build(components, nuisance)
    still, moved = _part(components, nuisance[:, components.order].T)
    scale: Scale = Correlation(dof) if s == 1 else Share(dof, s)
    prepare = Prepare(
        moments=moments,
        asked=asked,
        basis=np.ascontiguousarray(np.hstack([still, moved, interest[:, components.order].T])),
        n_still=still.shape[1],
        effect=np.ascontiguousarray(effect[:, components.order]),
        scale=scale,
        dof=dof,
        drawn=None if asked.interval is None else draw_clusters(components.n_clusters, seed),
    )
    once = Flipped(np.ones((1, components.n_clusters)), components.order[components.starts[:-1]])
    of_effect = ("effect_se", "effect_lower", "effect_upper") if s == 1 else ()
    ends = ("",) if asked.interval is None else ("", "_lower", "_upper")
    return Family(
        name="t" if s == 1 else "f",
        layers=(Layer(once),) * prepare.n_layers,
        score=None if s == prepare.n_layers == 1 else combine,
        scale=scale,
        observe=prepare.observe,
        sizes=(prepare.n_layers, s, int(s == 1)),
        pooled=False,
        prepare=prepare,
        more=(*of_effect, *(f"share_{name}{end}" for end in ends for name in asked.effects)),
        held=prepare.held,
    )


def _part(components: Components, Z: Doubles) -> tuple[Doubles, Doubles]:
    """Part orthonormal columns (n_maps, n_columns) into those whose part in each cluster they span too, and others."""
    inside = np.empty(Z.shape)
    for places, _, _ in components.clusters():
        inside[places] = (Z[places] @ Z[places].transpose(0, 2, 1)) @ Z[places]
    sizes, turned = np.linalg.eigh(np.eye(Z.shape[1]) - Z.T @ inside)
    return Z @ turned[:, sizes < 1e-10], Z @ turned[:, sizes >= 1e-10]
