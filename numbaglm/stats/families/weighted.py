"""Weighted least squares: values of different precision, whose variances are known up to what all share.

With the weights w of a voxel, E the residuals of its weighted nuisance fit and A = w E, shuffling P moves pairs (E, w).
With b = M'P A, and G the sums over subjects of products of two columns of M, moved by |P|, times w, a refit of M to the
shuffled pairs has G = R'R and q = R^-T b: the effect gains |q_x|^2, nuisance that was moved takes |q_z|^2, and
sum w E^2 is the same in all of them. Flips leave G as it is: E and M are brought to orthonormal columns once for each
voxel, and the products of these are q.

The variance between subjects that is part of w is that of the model without what is tested. Flips do not change it,
permutations take it along. What is told of the effect itself comes of the whole model.

A value that is missing has a weight of 0, and nothing else changes; degrees of freedom are those of the subjects that
an element has, so that scores are compared as z. Where permutations bring presence to places at which the design has
lost its rank, as `numbaglm.stats.families.incomplete` finds it for each pattern, nothing is tested and the score is 0.

References
----------
Knapp and Hartung (2003), Statistics in Medicine 22:2693-2710. Follmann and Proschan (1999), Biometrics 55:732-737.
Winkler et al. (2014), NeuroImage 92:381-397.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.kernels.panels.scores import Score
from numbaglm.stats.families.family import PRESENCE, REASON, Family, Given, Layer, OfPatterns, Prepared, Shuffled
from numbaglm.stats.families.incomplete import factor, grams_of, reasons_of
from numbaglm.stats.scales import SMALLEST_VARIANCE, Correlation, Graded, Grades, Known, Scale, Share
from numbaglm.stats.variance.between import between_variance, estimate, free_of, heterogeneity, left_of, whiten

_RATIO, _KNOWN, _AT_LEAST_KNOWN = 0, 1, 2
_ENDS = {"knapp-hartung": _RATIO, "ad-hoc": _AT_LEAST_KNOWN, "t": _KNOWN, "z": _KNOWN}

_NOTHING_NEW = 1e-13  # of a column, beside those before it, in weights of mean 1


@Score
def refitted(
    products: NDArray[np.floating],
    fixed: NDArray[np.floating],
    sizes: NDArray[np.int64],
    constants: NDArray[np.floating],
) -> None:
    """Make scores of a refit of the model to shuffled pairs of residuals and weights.

    Parameters
    ----------
    products
        q, of nuisance and then of interest; or b, and the lower triangle of G row by row, where G moves. Behind them,
        where it moves and values are missing, a triangle that ends with 0 where presence leaves the model no rank.
    fixed
        Root of sum w E^2, to which q and b are relative, and residual degrees of freedom.
    sizes
        Columns of the model, those of interest, whether G moves, whether the score is signed, what the effect is
        held against: 0 residuals, 1 the variances that are known, 2 whatever is more of both; and whether presence may
        leave the model no rank.
    constants
        What is nothing on the diagonal of G.
    """
    r, s, moves, signed, end, lacks = sizes[0], sizes[1], sizes[2] == 1, sizes[3] == 1, sizes[4], sizes[5] == 1
    n, width = products.shape[1], fixed.shape[1]
    one, zero = products.dtype.type(1.0), products.dtype.type(0.0)
    tiny = products.dtype.type(np.finfo(products.dtype).eps)
    if moves:
        triangle = products[r:]
        for i in range(r):
            here = products[i]
            for j in range(i + 1):
                to = triangle[i * (i + 1) // 2 + j]
                for m in range(j):
                    left, right = triangle[i * (i + 1) // 2 + m], triangle[j * (j + 1) // 2 + m]
                    for v in range(n):
                        to[v] -= left[v] * right[v]
                if i == j:
                    for v in range(n):
                        to[v] = one / np.sqrt(to[v]) if to[v] > constants[0] else zero
                else:
                    inverse, there = triangle[j * (j + 1) // 2 + j], products[j]
                    for v in range(n):
                        to[v] *= inverse[v]
                        here[v] -= to[v] * there[v]
            inverse = triangle[i * (i + 1) // 2 + i]
            for v in range(n):
                here[v] *= inverse[v]
    score, gain, rest = products[0], products[products.shape[0] - 2], products[products.shape[0] - 1]
    rest[:] = one
    for k in range(r - s):
        there = products[k]
        for v in range(n):
            rest[v] -= there[v] * there[v]
    gain[:] = zero
    for k in range(r - s, r):
        there = products[k]
        for v in range(n):
            gain[v] += there[v] * there[v]
    last = products[r - 1]
    for v in range(n):
        score[v] = last[v] if signed else gain[v]
    if lacks:
        there_is = products[r + r * (r + 1) - 1]
        for v in range(n):  # of shufflings that are not there NaN stays
            score[v] = score[v] if there_is[v] != zero else score[v] * zero
    if end == 0:
        for v in range(n):
            left_of = rest[v] if rest[v] > tiny else tiny
            score[v] /= np.sqrt(left_of) if signed else left_of
        return
    for first in range(0, n, width):
        for v in range(width):
            length = fixed[0, v]
            score[first + v] *= length if signed else length * length
            spread = (rest[first + v] - gain[first + v]) * length * length / fixed[1, v]
            rest[first + v] = spread if spread > one else one
    if end == 2:
        for v in range(n):
            score[v] /= np.sqrt(rest[v]) if signed else rest[v]


@dataclass(frozen=True, eq=False)
class Weighted:
    """What is made of the data and their weights, see `Family.prepare`.

    Attributes
    ----------
    nuisance, interest, effect
        As in `numbaglm.stats.model.hypothesis.Hypothesis`.
    weights
        (n_subjects,) weights of subjects; None where ``layer`` has the variances.
    layer
        Name of the layer of variances, or "".
    between
        How the variance between subjects is estimated, or 0; of variances alone.
    test
        A name in `numbaglm.stats.variance.covariance.TESTS`.
    moves
        Whether shuffling moves weights: permutations.
    lacks
        Whether elements are tested with the subjects that they have; else all have all.
    """

    nuisance: Doubles
    interest: Doubles
    effect: Doubles
    weights: Doubles | None
    layer: str
    between: str | int
    test: str
    moves: bool
    lacks: bool = False

    @cached_property
    def M(self) -> Doubles:
        """Rows of the model, those of interest last."""
        return np.vstack([self.nuisance, self.interest])

    @property
    def dof(self) -> int:
        """Residual degrees of freedom."""
        return int(self.M.shape[1]) - len(self.M)

    @property
    def asks_no_residuals(self) -> bool:
        """Whether what is tested, under flips, makes the score alone."""
        return not self.moves and _ENDS[self.test] == _KNOWN

    def _scale(self, dof: float) -> Correlation | Share | Known:
        """What scores of so many residual degrees of freedom mean."""
        several = None if len(self.interest) == 1 else len(self.interest)
        if self.test == "knapp-hartung":
            return Correlation(dof) if several is None else Share(dof, several)
        return Known(float(free_of(np.array([dof]), self.test)[0]), several)

    @cached_property
    def scales(self) -> Grades:
        """Of elements with all subjects, with one less, and so on."""
        made: Any = tuple(self._scale(dof) for dof in range(self.dof, 1, -1))
        scales: Grades = made[:1] if self.test == "z" else made
        return scales

    def grade(self, present: NDArray[np.bool_]) -> NDArray[np.intp]:
        """See `OfPatterns.grade`."""
        absent = len(present) - present.sum(axis=0)
        return np.asarray(np.minimum(absent, len(self.scales) - 1), np.intp)

    @property
    def scale(self) -> Scale:
        """What scores mean."""
        return Graded(scales=self.scales) if self.lacks else self._scale(self.dof)

    def __call__(self, given: Given) -> Prepared:
        """See `Family.prepare`."""
        y = given.data.astype(np.float64)
        n_voxels, n_nuisance = y.shape[1], len(self.nuisance)
        v, untold = self._variances(given)
        there, short = np.ones(y.shape, bool), np.zeros(n_voxels, np.intp)
        if self.lacks and given.present is not None:
            of, patterns = given.patterns
            short = grams_of(self.M, patterns.T)[1][of]
            there = given.present | (short > 0)  # whoever can't be tested is fitted as if all were there
            y = np.where(there, y, 0.0)
            v = None if v is None else np.where(there, v, np.inf)
        why = np.where(short > 0, short, np.where(untold, len(self.reasons), 0))
        if v is None:
            assert self.weights is not None
            w = np.where(there, self.weights[:, None], 0.0)
        else:
            w = 1.0 / (v + between_variance(y, v, self.nuisance, self.between))
        model = whiten(y, w, self.M)
        e = model.residuals(n_nuisance)
        length, total = (np.sqrt((one * one).sum(axis=0)) for one in (e, model.data))
        degenerate = (why > 0) | (length <= np.sqrt(SMALLEST_VARIANCE) * total)
        e *= np.where(degenerate, 0.0, 1.0 / np.where(degenerate, 1.0, length))
        length = np.where(degenerate, 0.0, length)
        dof = left_of(w, self.M)
        fixed = length
        if self.moves:
            size = w.mean(axis=0)
            layers: tuple[Doubles, ...] = (np.sqrt(w / size) * e, w / size)
        elif self.asks_no_residuals:
            layers, fixed = tuple(q * e * length for q in model.Q[n_nuisance:]), np.ones(n_voxels)
        else:
            layers = tuple(q * e for q in model.Q)
        score = self._score((model.Q * e).sum(axis=1), length, dof)
        statistic, z = self._graded(score, there) if self.lacks else (self.scale.to_statistic(score), score)
        n_there = np.sum(there if given.present is None else given.present, axis=0)
        effect, more = self._told(y, v, w, why, n_there)
        return Prepared(
            layers=layers,
            score=z,
            statistic=statistic,
            effect=effect,
            degenerate=degenerate,
            length=length,
            fixed=np.stack([fixed, dof]),
            more=more,
            number=score,
        )

    def _graded(self, score: Doubles, there: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
        """Statistics and z (n_voxels,) of scores, each with the degrees of freedom of its element."""
        grade = self.grade(there)
        statistic, z = np.empty((2, len(score)))
        for one in np.unique(grade):
            which, scale = np.flatnonzero(grade == one), self.scales[one]
            statistic[which], z[which] = scale.to_statistic(score[which]), scale.to_z(score[which])
        return statistic, z

    def _variances(self, given: Given) -> tuple[Doubles | None, NDArray[np.bool_]]:
        """Variances (n_subjects, n_voxels), and where one of them is none (n_voxels,): there they are 1."""
        if self.weights is not None:
            return None, np.zeros(given.data.shape[1], bool)
        v = given.layers[self.layer].astype(np.float64)
        if given.present is not None:
            v = np.where(given.present, v, 1.0)
        untold = np.asarray(~((v > 0) & np.isfinite(v)).all(axis=0))
        return np.where(untold, 1.0, v), untold

    def _score(self, q: Doubles, length: Doubles, dof: Doubles) -> Doubles:
        """Score (n_voxels,) of what is observed, as `refitted` makes it of q (n_columns, n_voxels)."""
        squares, n_nuisance = q * q, len(self.nuisance)
        left, gain = 1.0 - squares[:n_nuisance].sum(axis=0), squares[n_nuisance:].sum(axis=0)
        signed = len(self.interest) == 1
        score = q[-1] if signed else gain
        if _ENDS[self.test] == _RATIO:
            return np.asarray(score / (np.sqrt(left) if signed else left))
        known = score * (length if signed else length**2)
        if _ENDS[self.test] == _KNOWN:
            return np.asarray(known)
        spread = np.maximum((left - gain) * length**2 / dof, 1.0)
        return np.asarray(known / (np.sqrt(spread) if signed else spread))

    def _told(
        self, y: Doubles, v: Doubles | None, w: Doubles, why: NDArray[np.intp], n_there: NDArray[np.intp]
    ) -> tuple[Doubles, Doubles]:
        """Effect (n_interest, n_voxels) and what `more` names (n_more, n_voxels), by the whole model."""
        maps = {REASON: why.astype(np.float64), "n_subjects": n_there.astype(np.float64), "dof": left_of(w, self.M)}
        if v is not None:
            tau2 = between_variance(y, v, self.M, self.between)
            share, Q = heterogeneity(y, v, self.M, tau2, self.between)
            maps |= {"tau2": tau2, "i2": share, "cochran_q": Q}
            w = 1.0 / (v + tau2)
        found = estimate(y, w, self.nuisance, self.interest, self.effect, self.test)
        maps |= {"effect_p": found.p, "effect_se": found.error}
        maps |= {"effect_lower": found.lower, "effect_upper": found.upper}
        nothing: dict[str, Any] = {"effect_p": 1.0, REASON: maps[REASON], "n_subjects": maps["n_subjects"]}
        told = [np.where(why > 0, nothing.get(name, 0.0), maps[name]) for name in self.more]
        return np.where(why > 0, 0.0, found.effect), np.stack(told)

    @property
    def more(self) -> tuple[str, ...]:
        """See `Family.more`."""
        names = ("effect_se", "effect_lower", "effect_upper") if len(self.interest) == 1 else ()
        of_variances = ("tau2", "i2", "cochran_q") if self.layer else ()
        of_presence = ("n_subjects", "dof") if self.lacks else ()
        return (*names, "effect_p", *of_variances, *of_presence, *((REASON,) if self.reasons else ()))

    @property
    def reasons(self) -> tuple[str, ...]:
        """See `Family.reasons`."""
        of_variances = (f"have a {self.layer} that is 0, negative or not a number",) if self.layer else ()
        return (*(reasons_of(len(self.M)) if self.lacks else ()), *of_variances)

    def patterns(self, pairs: Doubles, sizes: tuple[int, ...]) -> OfPatterns:
        """What depends on which subjects an element has.

        Parameters
        ----------
        pairs
            (n_pairs, n_subjects) products of two columns of the model.
        sizes
            What the score kernel is told of elements that all subjects have.
        """
        if not self.moves:
            return OfPatterns(self.scales, self.grade)
        return OfPatterns(
            self.scales,
            self.grade,
            rows=Shuffled(pairs, flipped=False),
            factor=factor,
            n_kept=len(pairs),
            sizes=(len(self.M), 0, 0),
            n_scratch=len(self.M) + 1,
            whole=sizes,
        )


def weighted(plain: Family, made: Weighted) -> Family:
    """Build t or F of weighted least squares.

    Parameters
    ----------
    plain
        t or F of the same hypothesis.
    made
        Model and weights.
    """
    M, n, s = made.M, made.M.shape[1], len(made.interest)
    r = s if made.asks_no_residuals else len(M)
    signed, end = s == 1, _ENDS[made.test]
    pairs = np.stack([M[i] * M[j] for i in range(len(M)) for j in range(i + 1)])
    layers: tuple[Layer, ...] = tuple(Layer(Shuffled(np.ones((1, n)))) for _ in range(r))
    if made.moves:
        layers = Layer(Shuffled(M)), Layer(Shuffled(pairs, flipped=False))
    is_product = not made.moves and r == 1 and end != _AT_LEAST_KNOWN
    sizes = (r, s, int(made.moves), int(signed), end)
    return replace(
        plain,
        layers=layers,
        score=None if is_product else refitted,
        scale=made.scale,
        observe=None if made.lacks else plain.observe,
        sizes=(*sizes, int(made.lacks and made.moves)),
        constants=np.array([_NOTHING_NEW]),
        n_scratch=0 if is_product else 2,
        precision="float64" if made.moves or end != _RATIO else None,
        prepare=made,
        needs=(*((made.layer,) if made.layer else ()), *((PRESENCE,) if made.lacks else ())),
        more=made.more,
        reasons=made.reasons,
        patterns=made.patterns(pairs, (*sizes, 0)) if made.lacks else None,
    )
