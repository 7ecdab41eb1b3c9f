"""t and F where some regressors are each element's own: grey matter beside function, a lesion map, motion by element.

The model of an element is M = [S, c_1 .. c_q]: columns S that all share, and its own. With Q orthonormal rows of their
span, those of S first (the same for all elements) and then, one after the other, what is left of each c, the
directions that a contrast tests are a few rows R of coordinates in Q. A shuffling takes the products a = Q P E of what
is shuffled, E, and of these

- t: ``r = R a``, score ``r / sqrt(1 - |a|^2 + r^2)``;
- F: ``|R a|^2 / (1 - |a|^2 + |R a|^2)``,

the model fitted anew (Winkler et al. 2014, NeuroImage 92:381-397), whichever of its columns are tested. Products with S
are those of rows, as ever; products with an element's own c~ are a sum over subjects of c~ times E in another order,
which is gathered, or, under sign flips alone, a row of signs on the layer c~ E.

Where the model is shuffled, not the data (Draper and Stoneman, Dekker), x = Q' R moves: t has the score
``x' P E / sqrt(1 - |b|^2 + (R b)^2)`` with b = Q P' x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles, Floats
from numbaglm.errors import InputError, invalid
from numbaglm.kernels import glm
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats import effects
from numbaglm.stats.families.family import REASON, Family, Gathered, Given, Layer, Prepared, Shuffled
from numbaglm.stats.methods import Method
from numbaglm.stats.model.design import Contrast, Design, Regressor
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Scale, Share

NOTHING_NEW = 1e-13
"""Of a regressor's sum of squares: what is left of it where others span it. Maps are of single precision."""

REASONS = ("have a regressor of their own that is constant there, or follows from the others",)
"""Why elements are not tested, see `Family.reasons`."""

FITTED = ("freedman-lane", "manly", "draper-stoneman", "dekker")
"""Methods that go with regressors of elements' own."""


@Score
def mixed(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of products with all directions of the model, of which each element tests a mixture.

    Parameters
    ----------
    fixed
        (n_interest * n_rows, width) what each direction tested takes of each product, one after the other.
    sizes
        Products, directions tested, and whether the score is signed (1) or not (0).
    """
    n_rows, n_interest, is_t = sizes[0], sizes[1], sizes[2] == 1
    n, width = products.shape[1], fixed.shape[1]
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    if n_rows == 2 and is_t:  # the commonest, in one pass: what is left is that of the direction across
        one = products.dtype.type(1.0)
        along, across = fixed[0], fixed[1]
        for start in range(0, n, width):
            first, second = products[0, start : start + width], products[1, start : start + width]
            for v in range(width):
                other = across[v] * first[v] - along[v] * second[v]
                rest = one - other * other
                here = along[v] * first[v] + across[v] * second[v]
                first[v] = here / np.sqrt(rest if rest > tiny else tiny)
        return
    score, left, taken, direction = products[0], products[n_rows], products[n_rows + 1], products[n_rows + 2]
    for k in range(n_rows):
        row = products[k]
        if k == 0:
            for v in range(n):
                left[v] = products.dtype.type(1.0) - row[v] * row[v]
        else:
            for v in range(n):
                left[v] -= row[v] * row[v]
    for i in range(n_interest):
        for k in range(n_rows):
            share = fixed[i * n_rows + k]
            for start in range(0, n, width):  # of slices, which are what becomes vector code
                row, here = products[k, start : start + width], direction[start : start + width]
                if k == 0:
                    for v in range(width):
                        here[v] = share[v] * row[v]
                else:
                    for v in range(width):
                        here[v] += share[v] * row[v]
        if is_t:
            for v in range(n):
                rest = left[v] + direction[v] * direction[v]
                score[v] = direction[v] / np.sqrt(rest if rest > tiny else tiny)
        else:
            for v in range(n):
                taken[v] = direction[v] * direction[v] + (products.dtype.type(0.0) if i == 0 else taken[v])
    if not is_t:
        for v in range(n):
            rest = left[v] + taken[v]
            score[v] = taken[v] / (rest if rest > tiny else tiny)


@Score
def moved(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores where what is tested moves: of its product with E, then with all directions of the model.

    Parameters
    ----------
    fixed
        (n_rows, width) what the tested one takes of each direction.
    sizes
        Directions.
    """
    n_rows = sizes[0]
    n, width = products.shape[1], fixed.shape[1]
    tiny = products.dtype.type(64 * np.finfo(products.dtype).eps)
    score, left, itself = products[0], products[n_rows + 1], products[n_rows + 2]
    left[:] = 1
    itself[:] = 0
    for k in range(n_rows):
        row, share = products[k + 1], fixed[k]
        for start in range(0, n, width):
            part, here = row[start : start + width], itself[start : start + width]
            for v in range(width):
                here[v] += share[v] * part[v]
        for v in range(n):
            left[v] -= row[v] * row[v]
    for v in range(n):
        left[v] += itself[v] * itself[v]
        # What the nuisance explains has no direction of its own; of shufflings that are not there NaN stays.
        score[v] = products.dtype.type(0.0) if left[v] <= tiny else score[v] / np.sqrt(left[v])


@dataclass(frozen=True, eq=False)
class Against:
    """Rows that meet what is permuted and flipped: products of theirs with it, moved, are those of these with it."""

    basis: Doubles

    @property
    def shape(self) -> tuple[int, int]:
        """See `Rows`."""
        return self.basis.shape[0], self.basis.shape[1]

    def fill(self, index: NDArray[np.int32], sign: NDArray[np.int8], out: NDArray[Any]) -> None:
        """See `Rows`."""
        for row, there in zip(self.basis, out, strict=True):
            there[: len(index)] = sign * row[index]


@dataclass(frozen=True, eq=False)
class Model:
    """The model of each element, of which layers and what is observed are made: see `Family.prepare`.

    Attributes
    ----------
    still
        (k, n_subjects) orthonormal rows of the shared nuisance that no shuffling moves.
    others
        (p - k, n_subjects) orthonormal rows; with ``still`` they span the columns that all share.
    shared
        (n_interest, p - k) coordinates in ``others`` of what is tested, before regressors of elements' own are known.
    own
        (n_interest, q) weights of these in the contrast.
    regressors
        The regressors of elements' own.
    scale
        What scores mean.
    method
        What is shuffled.
    flipped
        Whether shufflings are sign flips alone.
    swing
        Of Cohen's d, see `numbaglm.stats.effects.swing`; None where what is tested is elements' own.
    dof
        Residual degrees of freedom.
    """

    still: Doubles
    others: Doubles
    shared: Doubles
    own: Doubles
    regressors: tuple[Regressor, ...]
    scale: Scale
    method: Method
    flipped: bool
    swing: float | None
    dof: int

    @classmethod
    def build(
        cls,
        design: Design,
        contrast: Contrast,
        still: Doubles,
        others: Doubles,
        scale: Scale,
        method: Method,
        flipped: bool,
    ) -> Model:
        """Take what all elements share of a contrast."""
        p = len(design.columns)
        weights, own = contrast.matrix[:, :p], contrast.matrix[:, p:]
        shared: Doubles = np.zeros((len(own), len(others)))
        if p:  # T' g' = C' of the columns that all share; what is tested has no part in what is still
            T = np.vstack([others, still]) @ (design.matrix / design.lengths)
            shared = np.asarray(np.linalg.solve(T.T, (weights / design.lengths).T).T[:, : len(others)], np.float64)
        swing = None
        if contrast.is_t and not own.any():
            swing = effects.swing(design.matrix, weights[0])
        return cls(still, others, shared, own, design.own, scale, method, flipped, swing, design.dof)

    @property
    def more(self) -> tuple[str, ...]:
        """Names of further maps, see `Family.more`."""
        nothing = np.zeros(0)
        return (*self._sizes(nothing, nothing, nothing, nothing), REASON)

    def _sizes(self, effect: Doubles, length: Doubles, score: Doubles, variance: Doubles) -> dict[str, Doubles]:
        """How large the effect is (n_voxels,), by the names of maps."""
        share = score**2 if self.is_t else score
        if not self.is_t:
            return {"partial_r2": share}
        sigma = effects.residual_sd(length, share, self.dof)
        maps = effects.effect_maps(effect, sigma, self.dof, variance, 1.0 if self.swing is None else self.swing)
        # What an element's own regressor spans differs between elements: no d compares them.
        left_out = ("cohens_d", "hedges_g") if self.swing is None else ()
        return {name: values for name, values in maps.items() if name not in left_out} | {"partial_r2": share}

    @property
    def is_t(self) -> bool:
        """Whether one direction is tested, so that the score has a sign."""
        return len(self.own) == 1

    def __call__(self, given: Given) -> Prepared:
        """Prepare a tile of elements."""
        S = np.vstack([self.still, self.others])
        directions, triangle, shares, dependent = self._directions(given.layers, S)
        # The contrast of the estimates is g Q y, Q' g' = M (M'M)^-1 C'.
        g = _coordinates(self.shared, self.own, triangle, shares)
        n_voxels = g.shape[2]
        y = np.empty(given.data.shape)
        glm.residuals(given.data, self.still, y)
        E = np.empty(given.data.shape)
        glm.residuals(given.data, S, E)
        a = np.concatenate([self.others @ y, np.einsum("ksv,sv->kv", directions, E)])
        assert a.shape == g.shape[1:]
        effect = np.einsum("ikv,kv->iv", g, a)
        R = _orthonormal(g)
        tested = np.einsum("ikv,kv->iv", R, a)
        for direction, share in zip(directions, a[len(self.others) :], strict=True):
            E -= direction * share
        x = np.einsum("ikv,ks->isv", R[:, : len(self.others)], self.others)
        x += np.einsum("ikv,ksv->isv", R[:, len(self.others) :], directions)
        E += np.einsum("isv,iv->sv", x, tested)  # residuals on the nuisance alone
        length = np.sqrt(np.einsum("sv,sv->v", E, E))
        total = np.sqrt(np.einsum("sv,sv->v", given.data, given.data, dtype=np.float64))
        degenerate = dependent | (length <= np.sqrt(SMALLEST_VARIANCE) * total)
        unit = _inverse(length, degenerate)
        tested *= unit
        score = tested[0] if self.is_t else (tested**2).sum(axis=0)
        score, length = np.where(degenerate, 0.0, score), np.where(degenerate, 0.0, length)
        variance = np.where(dependent, 0.0, (g[0] ** 2).sum(axis=0))
        sizes = self._sizes(np.where(dependent, 0.0, effect[0]), length, score, variance)
        if self.method.data == "raw":
            E = y
            unit = _inverse(np.sqrt(np.einsum("sv,sv->v", y, y)), degenerate)
        layers = self._layers(E * unit, directions, x)
        return Prepared(
            layers=tuple(np.where(degenerate, 0.0, layer) for layer in layers),
            fixed=np.where(degenerate, 0.0, R.reshape(-1, n_voxels)),
            score=score,
            statistic=np.where(degenerate, 0.0, self.scale.to_statistic(score)),
            effect=np.where(dependent, 0.0, effect),
            degenerate=degenerate,
            length=length,
            more=np.stack([*sizes.values(), np.where(dependent, 1.0, 0.0)]),
        )

    def _directions(
        self, layers: Mapping[str, Floats], S: Doubles
    ) -> tuple[Doubles, Doubles, Doubles, NDArray[np.bool_]]:
        """What each regressor adds to those before it.

        Returns
        -------
        Directions (q, n_subjects, n_voxels) of unit length; the triangle (q, q, n_voxels) of their products with the
        regressors; products (p - k, q, n_voxels) of these with ``others``; and where one adds nothing (n_voxels,).
        """
        q, (n, n_voxels) = len(self.regressors), next(iter(layers.values())).shape
        directions, triangle = np.empty((q, n, n_voxels)), np.zeros((q, q, n_voxels))
        shares = np.empty((len(self.others), q, n_voxels))
        dependent = np.zeros(n_voxels, bool)
        own, rest = np.empty((n, n_voxels)), np.empty((n, n_voxels))
        for k, regressor in enumerate(self.regressors):
            c = layers[regressor.layer]
            given = c if regressor.by is None else c * regressor.by[:, None]
            glm.residuals(given, self.still, own)
            shares[:, k] = self.others @ own
            glm.residuals(given, S, rest)
            for _ in range(2):  # once leaves what rounding makes of regressors that nearly follow from others
                for j in range(k):
                    share = np.einsum("sv,sv->v", directions[j], rest)
                    triangle[j, k] += share
                    rest -= directions[j] * share
            square = np.einsum("sv,sv->v", rest, rest)
            bad = square <= NOTHING_NEW * np.einsum("sv,sv->v", given, given, dtype=np.float64)
            dependent |= bad
            triangle[k, k] = np.where(bad, 1.0, np.sqrt(square))
            directions[k] = rest / triangle[k, k]
        return directions, triangle, shares, dependent

    def _layers(self, E: Doubles, directions: Doubles, x: Doubles) -> list[Doubles]:
        """Layers in the order of `elementwise`."""
        if self.method.refit:
            if self.flipped:
                return [x[0] * E, x[0], *(one * x[0] for one in directions)]
            return [E, x[0], x[0], *directions]
        return [E, *(one * E if self.flipped else one for one in directions)]


def _inverse(length: Doubles, degenerate: NDArray[np.bool_]) -> Doubles:
    return np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))


def _coordinates(shared: Doubles, own: Doubles, triangle: Doubles, shares: Doubles) -> Doubles:
    """Coordinates (n_interest, p - k + q, n_voxels) of what is tested: T'^-1 C', where M = Q T."""
    n_voxels = triangle.shape[-1]
    g = np.empty((len(own), shared.shape[1] + own.shape[1], n_voxels))
    g[:, : shared.shape[1]] = shared[:, :, None]
    for k in range(own.shape[1]):
        left = own[:, k, None] - np.einsum("ij,jv->iv", shared, shares[:, k])
        for j in range(k):
            left -= triangle[j, k] * g[:, shared.shape[1] + j]
        g[:, shared.shape[1] + k] = left / triangle[k, k]
    return g


def _orthonormal(g: Doubles) -> Doubles:
    """Orthonormal rows of each element that span those of g (n_rows, n, n_voxels)."""
    R = np.empty(g.shape)
    for i in range(len(g)):
        row = g[i] / np.sqrt((g[i] ** 2).sum(axis=0))
        for _ in range(2 * int(i > 0)):
            for before in R[:i]:
                row = row - before * (before * row).sum(axis=0)
        R[i] = row / np.sqrt((row**2).sum(axis=0))
    return R


def elementwise(
    design: Design, contrast: Contrast, still: Doubles, others: Doubles, method: Method, errors: str
) -> Family:
    """Build t or F of a design with regressors that each element has for itself.

    Parameters
    ----------
    still, others
        As in `Model`.
    errors
        "ee", "ise" or "both".

    Raises
    ------
    InputError
        The method does not go with them.
    """
    check_method(method, contrast)
    n = design.n_subjects
    scale: Scale = Correlation(design.dof) if contrast.is_t else Share(design.dof, len(contrast.matrix))
    flipped = errors == "ise"
    model = Model.build(design, contrast, still, others, scale, method, flipped)
    signs = Shuffled(np.ones((1, n)))
    if method.refit:
        layers = (
            *((Layer(signs),) if flipped else (Layer(Shuffled(np.empty((0, n)))), Layer(Gathered(n, 0)))),
            Layer(Against(others)),
            *(Layer(signs if flipped else Gathered(n, 2, inverse=True)) for _ in design.own),
        )
        n_rows = len(others) + len(design.own)
    else:
        layers = (Layer(Shuffled(others)), *(Layer(signs if flipped else Gathered(n, 0)) for _ in design.own))
        n_rows = len(others) + len(design.own)
    return Family(
        name="t" if contrast.is_t else "f",
        layers=layers,
        score=moved if method.refit else mixed,
        scale=scale,
        observe=None,
        sizes=(n_rows, len(contrast.matrix), int(contrast.is_t)),
        n_scratch=2 if method.refit else 3,
        prepare=model,
        needs=tuple(dict.fromkeys(one.layer for one in design.own)),
        more=model.more,
        reasons=REASONS,
    )


def check_method(method: Method, contrast: Contrast) -> None:
    """Refuse methods that don't go with regressors of elements' own.

    Raises
    ------
    InputError
    """
    if method.name not in FITTED or (method.refit and not contrast.is_t):
        allowed = "'freedman-lane' or 'manly' with regressors of each element's own"
        more = "; 'dekker' and 'draper-stoneman' too for t" if method.name not in FITTED else ""
        raise InputError(invalid("method", method.name, allowed + more))
