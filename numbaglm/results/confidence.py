"""Intervals and confidence sets of a result: how large the effect is, and where it is larger than a size."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.arrays import Doubles
from numbaglm.cohort import Cohort
from numbaglm.data.images import element_image, to_image
from numbaglm.engine.residuals import estimate_some, flip_all
from numbaglm.errors import InputError, invalid, term
from numbaglm.results.record import Record
from numbaglm.results.reporting.finding import Finding
from numbaglm.spaces.space import Space
from numbaglm.stats import effects
from numbaglm.stats.confidence import Flips, at_unit_length, boundary, reach
from numbaglm.stats.conventions import is_number, is_probability
from numbaglm.stats.model.design import Contrast, Design
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.shuffling.shufflings import plan_shufflings

ESTIMATES = ("effect", "cohens_d")
"""What intervals and sets may be of: the contrast in the units of the maps, or in residual standard deviations."""


@dataclass(frozen=True, eq=False)
class Intervals(Finding):
    """Confidence intervals of the effect at every element.

    Attributes
    ----------
    lower, upper
        (n_elements,).
    level, simultaneous
        With this probability the interval of an element holds what is true of it; those of all elements at once, where
        they are simultaneous.
    of
        "effect" or "cohens_d".
    reach
        How many standard errors they extend, at most where degrees of freedom differ; of t or, simultaneously, of the
        largest absolute t of flipped residuals.
    space
        Where the elements lie.
    """

    lower: Doubles
    upper: Doubles
    level: float
    simultaneous: bool
    of: str
    reach: float
    space: Space

    def within(self, size: float) -> NDArray[np.bool_]:
        """(n_elements,) where the whole interval lies between -size and size: the effect is smaller than that.

        Absence, as far as there can be evidence of it: with the intervals' probability no element that is told has an
        effect of that size, and where they are simultaneous, none of all that are told.
        """
        if not (is_number(size) and size > 0):
            raise InputError(invalid("size", size, "a size of the effect above 0"))
        return np.asarray((self.lower > -size) & (self.upper < size))

    def beyond(self, size: float) -> NDArray[np.bool_]:
        """(n_elements,) where the whole interval lies above size or below -size."""
        if not (is_number(size) and size >= 0):
            raise InputError(invalid("size", size, "a size of the effect, 0 or more"))
        return np.asarray((self.lower > size) | (self.upper < -size))

    def absent(self, size: float) -> Absence:
        """Where the effect is smaller than a size, see `within`: a map to draw, to tell in a report, to save."""
        return Absence(self.within(size), float(size), self.level, self.simultaneous, self.of, self.space)

    def to_image(self, which: str) -> Any:
        """Put "lower" or "upper" into the format that the maps of the cohort came in; see `Record.to_image`."""
        if which not in ("lower", "upper"):
            raise InputError(invalid("which", which, "'lower' or 'upper'"))
        return _image(self.space, getattr(self, which), f"{self.of}_{which}")

    @property
    def title(self) -> str:
        """What it is of, in words."""
        of = "Cohen's d" if self.of == "cohens_d" else "the effect"
        return f"{'Simultaneous' if self.simultaneous else 'Pointwise'} intervals of {of}"

    @property
    def promise(self) -> str:
        """How often they are right, in a sentence."""
        if self.simultaneous:
            nouns = self.space.nouns
            return f"With {self.level:.0%}, in large samples, the intervals of all {nouns} hold what is true of them."
        return (
            f"With {self.level:.0%} the interval of a {self.space.noun} holds what is true of it; of many some don't."
        )

    @property
    def found(self) -> str:
        """Where the effect is not 0, in a sentence."""
        n = int(self.beyond(0).sum())
        return (
            f"The intervals of {n:,} of {self.lower.size:,} {self.space.nouns} are without 0; they extend "
            f"{self.reach:.2f} standard errors either way. The picture shows their ends that are nearer to 0."
        )

    def plot(self, save: str | os.PathLike[str] | None = None, **how: Any) -> Any:
        """Draw how large the effect is at least: the end that is nearer to 0, of intervals without it.

        Parameters
        ----------
        save, how
            As in `ConfidenceSet.plot`.
        """
        from numbaglm import plotting  # see ConfidenceSet.plot

        least = np.where(self.lower > 0, self.lower, np.where(self.upper < 0, self.upper, 0.0))
        label = "d" if self.of == "cohens_d" else "effect"
        options: dict[str, Any] = {"label": label, "title": f"{self.title}: at least", "save": save} | how
        if self.space.is_volume:
            return plotting.slices(self.space.volume, least, **(_through(self.space, least != 0, how) | options))
        return plotting.maps(self.space, {"": least}, **options)

    def __repr__(self) -> str:
        kind = "simultaneous" if self.simultaneous else "pointwise"
        return (
            f"<{type(self).__name__} of {self.of}, {self.level:.0%} {kind}: {self.lower.size:,} {self.space.nouns}, "
            f"{self.reach:.3f} standard errors either way, {int(self.beyond(0).sum()):,} without 0>"
        )


@dataclass(frozen=True, eq=False)
class Absence(Finding):
    """Where the effect is smaller than a size, whatever its sign: equivalence, as far as there is evidence of it.

    Attributes
    ----------
    elements
        (n_elements,) booleans: whose whole interval lies between -size and size.
    size
        What was asked for.
    level, simultaneous, of, space
        Of the intervals.
    """

    elements: NDArray[np.bool_]
    size: float
    level: float
    simultaneous: bool
    of: str
    space: Space

    def to_image(self) -> Any:
        """Put `elements` into the format that the maps of the cohort came in; see `Record.to_image`."""
        return _image(self.space, self.elements, "absent")

    @property
    def title(self) -> str:
        """What it is of, in words."""
        of = "Cohen's d" if self.of == "cohens_d" else "the effect"
        return f"Where {of} is smaller than {self.size:g}"

    @property
    def promise(self) -> str:
        """How often it is right, in a sentence."""
        if self.simultaneous:
            sure = f"With {self.level:.0%}, in large samples,"
            return f"{sure} none of the {self.space.nouns} that are told has an effect of that size."
        return f"With {self.level:.0%} a {self.space.noun} that is told has no effect of that size; of many some do."

    @property
    def found(self) -> str:
        """How many there are, in a sentence."""
        n, n_all = int(self.elements.sum()), self.elements.size
        return f"It is smaller, whatever its sign, in {n:,} of {n_all:,} {self.space.nouns}."

    def plot(self, save: str | os.PathLike[str] | None = None, **how: Any) -> Any:
        """Draw it.

        Parameters
        ----------
        save, how
            As in `ConfidenceSet.plot`.
        """
        from numbaglm import plotting  # see ConfidenceSet.plot

        what = "|d|" if self.of == "cohens_d" else "|effect|"
        title = f"Absent ({self.level:.0%}): {what} < {self.size:g}"
        options: dict[str, Any] = {"threshold": 0.5, "two_sided": False, "title": title, "save": save} | how
        shown = self.elements.astype(np.float64)
        if self.space.is_volume:
            return plotting.slices(self.space.volume, shown, **(_through(self.space, self.elements, how) | options))
        return plotting.maps(self.space, {"": shown}, **options)

    def __repr__(self) -> str:
        where = f"{int(self.elements.sum()):,} {self.space.nouns}"
        return f"<{type(self).__name__} |{self.of}| < {self.size:g}, {self.level:.0%}: {where}>"


@dataclass(frozen=True, eq=False)
class ConfidenceSet(Finding):
    """Where the effect is at least so large: what surely is, what may be, and the estimate between them.

    With probability ``level`` the inner set lies within the true region {effect >= size}, and that within the outer
    set.

    Attributes
    ----------
    inner, estimate, outer
        (n_elements,) booleans, each within the next.
    size, level
        What was asked for.
    of
        "effect" or "cohens_d".
    reach
        How many standard errors lie between the estimate and either set.
    n_boundary
        Crossings of the size between neighbours, over which the errors were bounded; 0 where there was none, and all
        elements were taken.
    space
        Where the elements lie.
    """

    inner: NDArray[np.bool_]
    estimate: NDArray[np.bool_]
    outer: NDArray[np.bool_]
    size: float
    level: float
    of: str
    reach: float
    n_boundary: int
    space: Space

    @property
    def shades(self) -> NDArray[np.uint8]:
        """(n_elements,) 3 in the inner set, 2 where the estimate alone is, 1 in the outer set alone, 0 elsewhere."""
        return np.asarray(self.inner.astype(np.uint8) + self.estimate + self.outer, dtype=np.uint8)

    def to_image(self) -> Any:
        """Put `shades` into the format that the maps of the cohort came in; see `Record.to_image`."""
        return _image(self.space, self.shades, "confidence_set")

    @property
    def title(self) -> str:
        """What it is of, in words."""
        of = "Cohen's d" if self.of == "cohens_d" else "the effect"
        return f"Where {of} is {self.size:g} or more"

    @property
    def promise(self) -> str:
        """How often it is right, in a sentence."""
        return (
            f"With {self.level:.0%}, in large samples, the effect is so large in all of the inner set (3), and nowhere "
            "outside the outer set (1, 2 and 3)."
        )

    @property
    def found(self) -> str:
        """How large the sets are, in a sentence."""
        n_inner, n, n_outer = (int(one.sum()) for one in (self.inner, self.estimate, self.outer))
        return f"It is in {n_inner:,} {self.space.nouns} surely, in {n:,} by the estimate and in {n_outer:,} at most."

    def plot(self, save: str | os.PathLike[str] | None = None, **how: Any) -> Any:
        """Draw in three shades the inner set, the rest of the estimate, and the rest of the outer set.

        Parameters
        ----------
        save
            File to write as well.
        how
            Of a volume, which is drawn in slices, background, view, cuts, title as in `numbaglm.plotting.slices`; of
            other spaces surface, background, views, title and so on as in `numbaglm.plotting.maps`.
        """
        from numbaglm import plotting  # matplotlib takes longer to load than many a set takes to make
        from numbaglm.display.canvas import even_steps

        what = f"{self.of.replace('cohens_d', 'd')} \u2265 {self.size:g}"
        title = f"{what} ({self.level:.0%}): 3 surely, 2 by the estimate, 1 at most"
        options: dict[str, Any] = {"threshold": 0.5, "two_sided": False, "title": title, "save": save} | how
        everywhere: dict[str, Any] = {"vmax": 3.0, "cmap": even_steps(3, 3)}
        shades = self.shades.astype(np.float64)
        if self.space.is_volume:  # whose scale ends with the largest shade that there is
            top = max(1, int(shades.max(initial=0)))
            options.setdefault("cmap", even_steps(top, 3))
            return plotting.slices(self.space.volume, shades, **(_through(self.space, shades == top, how) | options))
        return plotting.maps(self.space, {"": shades}, **(everywhere | options))

    def __repr__(self) -> str:
        n_inner, n, n_outer = (int(one.sum()) for one in (self.inner, self.estimate, self.outer))
        return (
            f"<{type(self).__name__} {self.of} >= {self.size:g}, {self.level:.0%}: {n_inner:,} {self.space.nouns} "
            f"surely, {n:,} by the estimate, {n_outer:,} at most>"
        )


def interval(
    result: Record,
    level: float,
    simultaneous: bool,
    of: str,
    cohort: Cohort | None,
    n_flips: int,
    seed: int,
    **how: Any,
) -> Intervals:
    """Make intervals; see `numbaglm.PermutationResult.interval`."""
    _check(result, level, of)
    if not simultaneous:
        return _pointwise(result, level, of)
    whole = _same(result, cohort, "simultaneous intervals")
    flips = _flips(result, of, whole, n_flips, seed)
    value, error, maxima = flip_all(whole.store, flips, **how)
    _check_estimates(*_estimates(result, of), value, error)
    q = reach(maxima, level)
    return Intervals(value - q * error, value + q * error, level, True, of, q, result.space)


def confidence_set(
    result: Record, size: float, level: float, of: str, cohort: Cohort | None, n_flips: int, seed: int, **how: Any
) -> ConfidenceSet:
    """Make a confidence set; see `numbaglm.PermutationResult.confidence_set`."""
    _check(result, level, of)
    if isinstance(size, bool) or not isinstance(size, int | float | np.number) or not np.isfinite(size):
        raise InputError(invalid("effect", size, "a finite number, in the units of the estimate"))
    pairs = _pairs(result.space)
    whole = _same(result, cohort, "confidence sets")
    flips = _flips(result, of, whole, n_flips, seed)
    value, error = _estimates(result, of)
    elements, crossing, weight = boundary(value, pairs, float(size))
    if elements.size:
        found = estimate_some(whole.store, flips, elements, **how)
        _check_estimates(value[elements], error[elements], found.value, found.error)
        rows, maxima = found.rows, np.zeros(len(flips.sign))
        for k in range(0, len(crossing), _AT_ONCE):
            high, low = crossing[k : k + _AT_ONCE].T
            w = weight[k : k + _AT_ONCE]
            between = at_unit_length(w * rows[:, high] + (1 - w) * rows[:, low])
            np.maximum(maxima, flips.heights(between).max(axis=1), out=maxima)
    else:
        *found_all, maxima = flip_all(whole.store, flips, **how)
        _check_estimates(value, error, *found_all)
    q = reach(maxima, level)
    return ConfidenceSet(
        inner=value - q * error >= size,
        estimate=value >= size,
        outer=value + q * error >= size,
        size=float(size),
        level=level,
        of=of,
        reach=q,
        n_boundary=len(crossing),
        space=result.space,
    )


_AT_ONCE = 1024


def _through(space: Space, shown: NDArray[np.bool_], how: Mapping[str, Any]) -> dict[str, Any]:
    """Axial slices through some voxels, from the lowest to the highest, unless others are asked for."""
    if not shown.any() or {"view", "cuts"} & how.keys():
        return {}
    z = np.unique(space.coordinates(np.flatnonzero(shown))[:, 2])
    return {"cuts": z[np.unique(np.linspace(0, z.size - 1, _MOST_SLICES).round().astype(int))].tolist()}


_MOST_SLICES = 8


def _image(space: Space, values: NDArray[Any], name: str) -> Any:
    if space.is_volume:
        return to_image(space.volume, values, dtype=np.uint8 if values.dtype.kind in "bu" else np.float32)
    return element_image(space, values, 0.0, name)


def _check(result: Record, level: float, of: str) -> None:
    if not is_probability(level):
        raise InputError(invalid("level", level, "a coverage between 0 and 1"))
    if of not in ESTIMATES:
        raise InputError(invalid("of", of, " or ".join(map(repr, ESTIMATES))))
    if result.statistic != "t" or "effect_lower" not in result.maps:
        asked = result.asked
        fix = "Test the rows of an F contrast one by one, without variance groups."
        if asked.combine is not None:
            fix = f"Test what was combined ({term(f'combine={asked.combine!r}')}) one by one."
        raise InputError(
            "Intervals and confidence sets are of t contrasts with one variance for all subjects, and this is a test "
            f"of {result.statistic}. {fix}"
        )
    if of == "cohens_d" and result.asked.dof <= 1:
        raise InputError(invalid("of", of, "'effect' where there is one residual degree of freedom"))


def _same(result: Record, cohort: Cohort | None, what: str) -> Cohort:
    if cohort is None:
        raise InputError(
            f"The result keeps no residuals, and {what} are made of their flips: pass cohort=, the Cohort that was "
            "analysed. It runs over it again."
        )
    if not isinstance(cohort, Cohort):
        raise InputError(
            invalid("cohort", f"a {type(cohort).__name__}", "the Cohort that was analysed, of one modality")
        )
    for one in (cohort, cohort.complete()):  # a test leaves elements out that not all subjects have
        if one.fingerprint == result.asked.cohort_fingerprint:
            return one
    raise InputError(invalid("cohort", repr(cohort), "the cohort of which the result is, unchanged"))


def _estimates(result: Record, of: str) -> tuple[Doubles, Doubles]:
    """Estimate and standard error of each element, of what a result keeps."""
    value, error = (np.asarray(result.maps[name], np.float64) for name in ("effect", "effect_se"))
    if of == "effect":
        return value, error
    _refuse_own(result, "intervals of Cohen's d")
    asked = result.asked
    d, c = np.asarray(result.maps["cohens_d"], np.float64), asked.weights[0]
    a, w = c @ np.linalg.pinv(asked.rows), effects.swing(asked.rows, c)
    there = np.sqrt(w**2 * (a @ a) + d**2 / (2 * asked.dof))
    return effects.hedges_g(d, asked.dof), np.where(error > 0, there, 0.0)


def _pointwise(result: Record, level: float, of: str) -> Intervals:
    value, error = _estimates(result, of)
    dof = np.full(value.shape, result.asked.dof)
    if "dof" in result.maps:  # those of each element
        dof = np.where(error > 0, result.maps["dof"], 1.0)
    nothing, one = np.zeros(value.shape), np.ones(value.shape)
    its, t = result.maps["effect_upper"] - result.maps["effect"], effects.confidence_interval(nothing, one, dof)[1]
    if (np.abs(its - t * result.maps["effect_se"]) > 1e-6 * its).any():
        raise InputError(
            "Degrees of freedom differ between the elements of this result, which keeps none: effect_lower and "
            "effect_upper among its maps are the intervals that there are."
        )
    lower, upper = effects.confidence_interval(value, error, dof, level)
    q = effects.confidence_interval(nothing, one, dof, level)[1]
    return Intervals(lower, upper, level, False, of, float(q[error > 0].max(initial=q.min())), result.space)


def _flips(result: Record, of: str, cohort: Cohort, n_flips: int, seed: int) -> Flips:
    """Build the flips of a result's contrast."""
    _refuse_own(result, "simultaneous intervals and confidence sets")
    asked = result.asked
    if isinstance(n_flips, bool) or not isinstance(n_flips, int | np.integer) or n_flips < _LEAST_FLIPS:
        raise InputError(invalid("n_flips", n_flips, f"a whole number of {_LEAST_FLIPS} or more"))
    design = Design.parse(pd.DataFrame(asked.rows, columns=pd.Index(asked.columns)), cohort.n_subjects)
    contrast = Contrast.parse(asked.weights, design, asked.contrast)
    kept = result.provenance
    shufflings = plan_shufflings(
        cohort.n_subjects,
        int(n_flips),
        seed,
        design_rows=design.matrix @ contrast.matrix.T,
        errors="ise",
        blocks=kept["exchangeability_blocks"],
        block_scheme=kept["block_scheme"],
    )
    hypothesis = Hypothesis.build(design, contrast, "ise", np.arange(cohort.n_subjects), "ter-braak")
    _, sign = shufflings.draw(1, shufflings.n_shufflings)  # the data as they are come first
    return Flips(hypothesis, sign, of == "cohens_d")


def _refuse_own(result: Record, what: str) -> None:
    if result.asked.regressors:
        raise InputError(
            f"This result has regressors of elements' own ({', '.join(result.asked.regressors)}), and {what} are not "
            "there with them. Ask for interval(simultaneous=False)."
        )
    kept = result.provenance
    others = {
        "covariance='sandwich'": kept.get("sandwich"),
        "covariance='binned-gls'": kept.get("gls"),
        "weights": kept.get("weights"),
        "missing='element'": "dof" in result.maps,  # where all subjects have all elements it changes nothing
    }
    if asked := [term(name) for name, given in others.items() if given is not None and given is not False]:
        raise InputError(
            f"{what[0].upper()}{what[1:]} are of ordinary least squares, and this result is of {' and '.join(asked)}. "
            "Ask for interval(simultaneous=False) of the effect."
        )


_LEAST_FLIPS = 100


def _check_estimates(kept: Doubles, its_error: Doubles, value: Doubles, error: Doubles) -> None:
    """Refuse a result whose estimates are not those of least squares: flips of its residuals say nothing of them."""
    size = np.maximum(np.abs(its_error), np.abs(its_error).mean())
    if (np.abs(value - kept) > 1e-3 * size).any() or (np.abs(error - its_error) > 1e-3 * size).any():
        raise InputError(
            "The effects of this result are not those of ordinary least squares: there are no flips of its residuals "
            "yet. Ask for interval(simultaneous=False)."
        )


def _pairs(space: Space) -> NDArray[np.int64]:
    """Elements that touch, as pairs."""
    found = []
    for part, where in zip(space.parts, space.slices, strict=True):
        pairs = part.pairs()
        if pairs is None:
            raise InputError(
                f"Confidence sets are bounded where the effect crosses a size between neighbours, and of these "
                f"{part.noun}s it is not known which lie beside each other. Ask for simultaneous intervals."
            )
        found.append(pairs + where.start)
    return np.concatenate(found)
