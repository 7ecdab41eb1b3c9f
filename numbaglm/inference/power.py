"""Power: how often a test would find an effect with so many subjects, by cohorts that are drawn and tested."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, optimize, special, stats

from numbaglm.arrays import Doubles, Floats
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import element_image, grid_of, is_image, list_maps, load_mask, read_map, save_maps, to_image
from numbaglm.data.storage.folders import whole_folder
from numbaglm.engine import memory, schedule
from numbaglm.engine.progress import in_one_bar, steps
from numbaglm.errors import InputError, invalid, term
from numbaglm.inference.permutation_test import permutation_test
from numbaglm.results.discoveries import elements_of
from numbaglm.results.record import Record
from numbaglm.results.reporting.finding import Finding
from numbaglm.results.vocabulary import ALPHA, write_readme
from numbaglm.spaces.space import Space
from numbaglm.stats.conventions import Conventions, is_probability

log = logging.getLogger("numbaglm")

INFERENCE = ("voxel", "size", "mass", "tfce")
"""What p of a test may be of: those corrected for family-wise error by each."""

LEVEL = 0.95
"""Coverage of the intervals of power."""

MARKER = "power.tsv"
"""The file by which a folder of `Power.save` is known."""

_LEAST_COHORTS, _LEAST_SHUFFLINGS, _DRAWS = 10, 99, 100
_LEAST_IN_BLOCK = 5  # subjects: a block of fewer is visits or a family, whose noise hangs together
_SHARE_OF_MEMORY = 0.5  # of what is free


@dataclass(frozen=True, eq=False)
class Power(Finding):
    """How often an effect is found, by the number of subjects.

    Attributes
    ----------
    maps
        (n_sizes, n_elements) share of the cohorts of each size in which an element was found.
    curve
        A row a size: ``n_subjects``; ``any``, the share of cohorts in which anything of the region was found, with
        ``any_lower`` and ``any_upper``; ``share``, the mean share of the region that was found, with ``share_lower``
        and ``share_upper``. Intervals of 95 % are of the cohorts that were drawn; what the pilot does not know is not
        in them.
    by, alpha
        What was found: p corrected for family-wise error by voxel, size, mass or TFCE, of at most alpha.
    n_cohorts, n_perm
        Cohorts of each size, and random shufflings of each.
    space
        Where the elements lie.
    of_pilot
        Whether the effect is the one that the pilot estimates, which is larger than the true one where it looks large.
    """

    maps: Doubles
    curve: pd.DataFrame
    by: str
    alpha: float
    n_cohorts: int
    n_perm: int
    space: Space
    of_pilot: bool = False

    def needed(self, power: float = 0.8, of: str = "any") -> int | None:
        """Fewest subjects, of the numbers that were tried, with that power; None where none has it.

        Parameters
        ----------
        power
            Above 0, below 1.
        of
            "any" or "share", see `curve`.
        """
        if not is_probability(power):
            raise InputError(invalid("power", power, "a share between 0 and 1"))
        if of not in ("any", "share"):
            raise InputError(invalid("of", of, "'any' or 'share'"))
        enough = self.curve["n_subjects"][self.curve[of] >= power]
        return None if enough.empty else int(enough.min())

    def to_image(self, n_subjects: int) -> Any:
        """Put the map of a number of subjects into the format that the maps of the cohort came in."""
        sizes = self.curve["n_subjects"].tolist()
        if n_subjects not in sizes:
            raise InputError(invalid("n_subjects", n_subjects, f"one of {sizes}"))
        values = self.maps[sizes.index(n_subjects)]
        if self.space.is_volume:
            return to_image(self.space.volume, values, dtype=np.float32)
        return element_image(self.space, values, 0.0, "power")

    def plot(self, title: str | None = None, save: str | os.PathLike[str] | None = None) -> Any:
        """Draw both curves with their intervals.

        Parameters
        ----------
        title, save
            As in `numbaglm.plotting.null_histograms`.
        """
        from numbaglm.display.curves import shares  # matplotlib takes longer to load than many a power to find

        names = {"any": "anything found", "share": "share of the region found"}
        lines = {
            label: tuple(self.curve[f"{name}{end}"].to_numpy(float) for end in ("", "_lower", "_upper"))
            for name, label in names.items()
        }
        return shares(self.curve["n_subjects"].to_numpy(float), lines, across="subjects", title=title, save=save)

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write the curve as a table and a picture, and a map for each number of subjects.

        Parameters
        ----------
        folder
            Appears whole or not at all.
        overwrite
            Whether one that this wrote before is replaced. Nothing else ever is.

        Raises
        ------
        OutputExistsError, OutputError
            The folder exists, or can't be written.
        """
        with whole_folder(folder, MARKER, overwrite) as part:
            self.curve.to_csv(part / MARKER, sep="\t", index=False)
            self.plot(save=part / "power.png")
            sizes = self.curve["n_subjects"].tolist()
            save_maps(self.space, {f"power_n{n}": values for n, values in zip(sizes, self.maps, strict=True)}, part)
            write_readme(part, "Power", f"```text\n{self.in_words()}\n```", self.space)
        return Path(folder).expanduser()

    @property
    def title(self) -> str:
        """What it is of, in words."""
        return "How many subjects"

    @property
    def promise(self) -> str:
        """What it is worth, in a sentence."""
        stated, warning = "that was stated", ""
        if self.of_pilot:
            stated = "that the pilot estimates"
            warning = " It mostly is smaller, and power too: state an effect of a size that matters."
        return (
            f"If the effect is the one {stated}, and noise is like the pilot's, power is what is told, within "
            f"its {LEVEL:.0%} interval: of {self.n_cohorts} studies of each size, p corrected by {self.by} at "
            f"{self.alpha:g}.{warning}"
        )

    @property
    def found(self) -> str:
        """How many subjects are enough, in a sentence."""
        need = self.needed()
        told = "More subjects than were tried are needed" if need is None else f"{need} subjects are enough"
        return f"{told} to find something in 80 % of studies."

    def in_words(self) -> str:
        """Say what was asked and found, as a table, and what it is worth."""
        return f"{self!r}\n{self.found}\n{self.promise}"

    def __repr__(self) -> str:
        head = f"<{type(self).__name__} by {self.by}, alpha = {self.alpha:g}, {self.n_cohorts} cohorts of each size"
        return f"{head}\n{self.curve.to_string(index=False, float_format='{:.2f}'.format)}>"


@in_one_bar
def power(
    result: Any,
    n: int | Sequence[int],
    alpha: float = ALPHA,
    *,
    cohort: Cohort | None = None,
    effect: Any = None,
    mask: Any = None,
    noise_fwhm: float | None = None,
    region: Any = None,
    by: str = "voxel",
    n_cohorts: int = 100,
    n_perm: int = 500,
    seed: int = 0,
    n_workers: int | None = None,
    progress: bool = False,
) -> Power:
    """Say how often a test of other numbers of subjects would find an effect, corrected for family-wise error.

    Cohorts of each size are drawn: subjects with the residuals of the pilot's, whole maps of them, with replacement, so
    that voxels hang together as they do there; rows of its design; and an effect. Each is tested by shuffling as the
    pilot was, and power is the share of cohorts that find something.

    The pilot's own estimates as the effect make power that is right for an effect like that, but not for the true one,
    which is smaller where you look since it was large there by chance as well. Give an ``effect`` of the size that
    matters to you, or of another study. With few residual maps to draw from there are fewer patterns of noise than
    there will be: a pilot of 20 subjects or more is what the table of error rates was made with. The variances of
    elements are drawn towards each other as far as chance has them apart (Smyth, 2004): otherwise most is found where
    the pilot's noise was small by chance.

    Without a pilot, say what is expected as a map of Cohen's d: noise is then normal, of the smoothness that you say,
    and studies have one sample of which the mean is tested, two-sided, by sign flips.

    Parameters
    ----------
    result
        Of the pilot: t or F by ordinary least squares, with variance groups too (subjects then draw noise of their own
        group), and within blocks of 5 subjects or more, such as sites, which keep their noise as well. Or a map of
        Cohen's d without a pilot: an image of a volume, or a number, with ``mask`` and ``noise_fwhm``.
    n
        Numbers of subjects, one or several.
    alpha
        Family-wise error rate.
    cohort
        The `Cohort` that the pilot analysed: a result keeps no residuals.
    effect
        Of the contrast, in the units of the maps: a number, a vector of the elements, or an image of a volume; of F a
        row of the contrast each, (n_rows, n_elements) or n_rows numbers. By default what the pilot estimates.
    mask, noise_fwhm
        Without a pilot: an image of the voxels that would be analysed, and the smoothness of maps in mm.
    region
        Where the effect is looked for, a mask as `PermutationResult.true_discoveries` takes it; by default everywhere.
        p are corrected over all elements, whatever it is.
    by
        "voxel", "size", "mass" (of clusters formed as the pilot's were) or "tfce".
    n_cohorts
        Cohorts of each size, 10 or more.
    n_perm
        Random shufflings of each, 99 or more: power hardly grows with more.
    seed
        Of cohorts and shufflings.
    n_workers, progress
        As in `permutation_test`.

    Returns
    -------
    Power

    Raises
    ------
    InputError
        The pilot is of another test, or of another cohort; an argument is out of range; or memory lacks room for the
        pilot and the largest cohort.

    Examples
    --------
    >>> import numbaglm as ng
    >>> cohort = ng.Cohort.from_maps(ng.simulate_button_press("maps", n_subjects=16, voxel_size=10.0).maps)
    >>> pilot = ng.permutation_test(cohort, n_perm=99)
    >>> found = ng.power(pilot, [10, 40], cohort=cohort, effect=0.5 * pilot.maps["effect"], n_cohorts=10, n_perm=99)
    >>> list(found.curve["n_subjects"]), bool((found.maps[1].sum() > found.maps[0].sum()))
    ([10, 40], True)
    """
    sizes = _sizes(n)
    for name, value, least in (("n_cohorts", n_cohorts, _LEAST_COHORTS), ("n_perm", n_perm, _LEAST_SHUFFLINGS)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(invalid(name, value, f"a whole number of {least} or more"))
    if not is_probability(alpha):
        raise InputError(invalid("alpha", alpha, "a rate between 0 and 1"))
    if alpha * (n_perm + 1) < 1:
        received = f"{n_perm}, of which no p is {alpha:g} or less"
        raise InputError(invalid("n_perm", received, f"{int(np.ceil(1 / alpha)) - 1} or more"))
    of_pilot = isinstance(result, Record) and effect is None
    if not isinstance(result, Record):
        if cohort is not None or effect is not None:
            fix = "Give one of them, or the result of a pilot with its cohort."
            raise InputError(invalid("result", f"a {type(result).__name__}", "a map of Cohen's d alone", fix))
        result, cohort, effect = _imagined(result, mask, noise_fwhm, by, seed)
    elif mask is not None or noise_fwhm is not None:
        raise InputError(invalid("mask", "a mask, or noise_fwhm", "None with a pilot, which has both"))
    options = _options(result, by)
    where = _region(result.space, region)
    pilot = Pilot.build(result, cohort, effect, max(sizes))
    asked, maps, rows = result.asked, np.empty((len(sizes), result.space.n)), []
    with steps("cohorts", n_cohorts * sum(sizes)) as done:
        for number, size in enumerate(sizes):
            found = np.empty((n_cohorts, result.space.n), bool)
            for k in range(n_cohorts):
                design, Y, labels = pilot.draw(size, np.random.default_rng([seed, size, k]))
                with _quietly():
                    its = permutation_test(
                        Cohort(CohortStore.from_array(Y, result.space)),
                        pd.DataFrame(design, columns=pd.Index(asked.columns)),
                        asked.weights if len(asked.weights) > 1 else asked.weights[0],
                        n_perm=n_perm,
                        seed=seed * n_cohorts + k,
                        n_workers=n_workers,
                        **labels,
                        **options,
                    )
                found[k] = its.maps[f"p_fwe_{by}"] <= alpha
                done(size)
            maps[number] = found.mean(axis=0)
            rows.append({"n_subjects": size, **_summary(found[:, where])})
            log.info("%d subjects: something found in %.0f %% of %d cohorts.", size, 100 * rows[-1]["any"], n_cohorts)
    return Power(maps, pd.DataFrame(rows), by, alpha, n_cohorts, n_perm, result.space, of_pilot)


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave plans of single cohorts out of the log, hundreds of which nobody reads, but where all is logged."""
    level = log.level
    if log.getEffectiveLevel() > logging.DEBUG:
        log.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        log.setLevel(level)


@dataclass(frozen=True, eq=False)
class Pilot:
    """What cohorts are drawn of.

    Attributes
    ----------
    rows
        (n_subjects, n_columns) of the design.
    of_effect
        (n_columns, n_rows) parameters of an effect of 1 in each row of the contrast, and of nothing else.
    noise
        (n_maps, n_elements) residuals, each of the variance that errors have but for chance, see `_moderated`.
    effect
        (n_rows, n_elements).
    labels
        By the argument of `permutation_test` that they are given as, labels (n_subjects,) of groups whose subjects
        draw noise of their own: of variances, and blocks.
    kind, kind_of_noise
        (n_subjects,) and (n_maps,) which of these groups, all told, a subject and a residual is of.
    """

    rows: Doubles
    of_effect: Doubles
    noise: Floats
    effect: Doubles
    labels: dict[str, NDArray[Any]] = field(default_factory=dict)
    kind: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    kind_of_noise: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))

    @classmethod
    def build(cls, result: Record, cohort: Cohort | None, effect: Any, n_most: int) -> Pilot:
        """Fit the model of a result to its cohort, anew."""
        asked, whole = result.asked, _same(result, cohort)
        n, n_elements = whole.n_subjects, whole.n_voxels
        needed = 8 * n * n_elements + 12 * n_most * n_elements
        room = memory.memory_room(None, _SHARE_OF_MEMORY, None)
        if needed > room.n_bytes:
            raise room.refusal(needed, f"{n} subjects of the pilot and {n_most} of a cohort take", "Mask a region.")
        X, C = asked.rows, asked.weights
        labels = _labels(result)
        together = np.stack([np.zeros(n).astype(str), *(one.astype(str) for one in labels.values())], axis=1)
        kind = np.unique(together, axis=0, return_inverse=True)[1].ravel()
        with schedule.single_threaded_blas():
            Y = whole.store.read(0, n_elements)
            inverse = np.linalg.pinv(X)
            estimate = (C @ inverse) @ Y.astype(np.float64)
            noise = (Y - X @ (inverse @ Y)).astype(np.float32)
        left = 1.0 - np.einsum("ij,ji->i", X, inverse)  # of the variance of each subject
        variance = np.einsum("ij,ij->j", noise, noise, dtype=np.float64) / (n - np.linalg.matrix_rank(X))
        error = np.sqrt(np.outer(np.sum((C @ inverse) ** 2, axis=1), variance))
        _check_estimates(result, estimate, error)
        there = left > _LEAST_LEFT
        noise, its = noise[there] / np.sqrt(left[there, None]).astype(np.float32), kind[there]
        for one in np.unique(kind):
            if not (its == one).any():
                raise InputError(
                    "A group of the pilot has no residuals: the model fits each of its subjects whatever there is. "
                    "Take a pilot with more subjects in each group."
                )
            noise[its == one] -= noise[its == one].mean(axis=0)
        given = estimate if effect is None else _effect(result.space, effect, len(C))
        noise *= np.sqrt(_moderated(variance, n - int(np.linalg.matrix_rank(X)))).astype(np.float32)
        of_effect = np.asarray(np.linalg.pinv(C), np.float64)
        return cls(X, of_effect, np.ascontiguousarray(noise), given, labels, kind, its)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Doubles, NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Design, maps and labels of n subjects: the pilot's rows as often as they go into n, some once more."""
        n_rows, rank = len(self.rows), np.linalg.matrix_rank(self.rows)
        for _ in range(_DRAWS):
            rest = rng.permutation(n_rows)[: n % n_rows]
            taken = np.concatenate([np.tile(np.arange(n_rows), n // n_rows), rest])
            if n > rank and np.linalg.matrix_rank(self.rows[taken]) == rank:
                break
        else:
            raise InputError(
                invalid("n", n, f"more subjects: {n} rows of the pilot's design don't hold its {rank} regressors")
            )
        design, kind, source = self.rows[taken], self.kind[taken], np.empty(n, np.intp)
        for one in np.unique(kind):
            its = np.flatnonzero(self.kind_of_noise == one)
            source[kind == one] = its[rng.integers(its.size, size=np.count_nonzero(kind == one))]
        Y = self.noise[source]
        Y += (design @ self.of_effect @ self.effect).astype(np.float32)
        return design, Y, {name: labels[taken] for name, labels in self.labels.items()}


_LEAST_LEFT = 1e-6  # of the variance of a subject whom the model does not fit whatever he has


def _moderated(variance: Doubles, dof: int) -> Doubles:
    """What variances (n_elements,) are multiplied with to lie no further apart than they do but for chance.

    Whoever draws from a pilot finds most where its noise was small, by chance as well: power would be told too high.

    References
    ----------
    Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3(1):3: an inverse chi-squared distribution of variances, by moments of
    their logarithms.
    """
    factor, there = np.ones(variance.size), variance > 0
    if np.count_nonzero(there) < 2:
        return factor
    log = np.log(variance[there]) - special.digamma(dof / 2) + np.log(dof / 2)
    apart = log.var(ddof=1) - special.polygamma(1, dof / 2)
    if apart <= special.polygamma(1, _ALIKE / 2):  # no further apart than chance has them
        factor[there] = np.exp(log.mean()) / variance[there]
        return factor
    prior = 2 * np.exp(optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - apart, -20.0, np.log(_ALIKE)))
    middle = np.exp(log.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    factor[there] = (prior * middle / variance[there] + dof) / (prior + dof)
    return factor


_ALIKE = 1e6  # degrees of freedom of variances that are the same everywhere


def _imagined(d: Any, mask: Any, fwhm: float | None, by: str, seed: int) -> tuple[Record, Cohort, Doubles]:
    """A pilot of simulated noise of deviation 1, and a map of Cohen's d as its effect."""
    geometry = load_mask(mask)
    if geometry is None or fwhm is None or not 0 <= fwhm < np.inf:
        needs = f"{term('mask')}, the voxels to analyse, and {term('noise_fwhm')}, 0 mm or more"
        raise InputError(f"Without a pilot, power needs {needs}.")
    sigma = (0.0, *(fwhm / (_FWHM_PER_SIGMA * geometry.voxel_sizes)))
    noise = np.random.default_rng([seed, _N_IMAGINED]).standard_normal((_N_IMAGINED, *geometry.shape), np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, mode="wrap")  # the same deviation everywhere
    cohort = Cohort(CohortStore.from_array(np.ascontiguousarray(noise[:, geometry.mask] / noise.std()), geometry))
    formed: Any = None if by in ("voxel", "tfce") else 0.001
    pilot = permutation_test(cohort, n_perm=0, cluster_forming_threshold=formed)
    return pilot, cohort, _effect(pilot.space, d, 1)[0]


_N_IMAGINED = 100  # maps of noise: studies draw from them
_FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def _sizes(n: int | Sequence[int]) -> list[int]:
    sizes = list(n) if isinstance(n, Sequence | np.ndarray) else [n]
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) and one > 1 for one in sizes)
    if not sizes or not whole or len(set(sizes)) < len(sizes):
        raise InputError(invalid("n", n, "one or several different numbers of subjects, such as [20, 40, 80]"))
    return sorted(int(one) for one in sizes)


def _options(result: Record, by: str) -> dict[str, Any]:
    """How the pilot was tested, and what is asked for now."""
    asked = result.asked
    if by not in INFERENCE:
        raise InputError(invalid("by", by, f"one of {INFERENCE}"))
    plain = asked.statistic in ("t", "f", "v", "g") and asked.combine is None and not asked.in_clusters
    plain = plain and asked.variance_smoothing_fwhm is None and asked.weighted_by is None
    if not plain or asked.regressors or asked.own_shufflings or asked.missing != "leave":
        raise InputError(
            "Power is of t and F contrasts by ordinary least squares: test the pilot without weights, smoothed "
            "variances, clusters of subjects, combinations, regressors of elements' own, shufflings of your own and "
            "missing='element'."
        )
    if by in ("size", "mass") and asked.cluster_forming_threshold is None:
        raise InputError(f"by={by!r} is of clusters, of which the pilot has none: give it a cluster_forming_threshold.")
    kept = {name: _one_exponent(value) for name, value in asked.conventions.items()}
    return {
        "two_sided": asked.two_sided,
        "cluster_forming_threshold": asked.cluster_forming_threshold if by in ("size", "mass") else None,
        "tfce": by == "tfce",
        "errors": asked.errors,
        "method": asked.method,
        "conventions": Conventions(**kept),
    }


def _labels(result: Record) -> dict[str, NDArray[Any]]:
    """Labels of the pilot's subjects, by the argument of `permutation_test` that they are."""
    kept, labels = result.provenance, {}
    if result.asked.variance_groups is not None:
        labels["variance_groups"] = np.array(kept["variance_groups"])
    if result.asked.in_blocks:
        blocks = np.array(kept["exchangeability_blocks"])
        several = blocks.ndim == 1 and np.unique(blocks, return_counts=True)[1].min() >= _LEAST_IN_BLOCK
        if not several or kept["block_scheme"] != "within":
            raise InputError(
                f"Power in blocks is of subjects that are shuffled within blocks of {_LEAST_IN_BLOCK} or more, such as "
                "sites: of families and visits nobody knows how many a study of another size would have. Make one map "
                "of each person's visits, such as their difference."
            )
        labels["exchangeability_blocks"] = blocks
    return labels


def _one_exponent(value: Any) -> Any:
    """An exponent that domains share, or None for the one that each has; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return next(iter(value.values())) if len(set(value.values())) == 1 else None


def _same(result: Record, cohort: Cohort | None) -> Cohort:
    if not isinstance(cohort, Cohort):
        raise InputError(invalid("cohort", f"a {type(cohort).__name__}", "the Cohort that the pilot analysed"))
    for one in (cohort, cohort.complete()):  # a test leaves elements out that not all subjects have
        if one.fingerprint == result.asked.cohort_fingerprint:
            return one
    raise InputError(invalid("cohort", repr(cohort), "the cohort that the pilot analysed, unchanged"))


def _check_estimates(result: Record, estimate: Doubles, error: Doubles) -> None:
    """Refuse a pilot whose estimates, or t, are not those of least squares."""
    kept, its_t = np.asarray(result.maps["effect"], np.float64), result.maps.get("t")
    size = np.maximum(error, error.mean())
    wrong = (np.abs(kept - estimate) > 1e-3 * size).any()
    if wrong or (its_t is not None and (np.abs(its_t * error - estimate) > 1e-2 * size).any()):
        raise InputError(
            "The estimates of this result are not those of ordinary least squares (weights, clusters of subjects or "
            "the like), of which alone power is simulated."
        )


def _effect(space: Space, effect: Any, n_rows: int) -> Doubles:
    """Read an effect (n_rows, n_elements).

    Of one row a number, a vector of the elements, an array as images have it, or an image of a volume; of several a
    number or a vector each.
    """
    if n_rows == 1 and space.is_volume and (is_image(effect) or isinstance(effect, str | os.PathLike)):
        source = list_maps([effect], minimum=1)[0][0]
        if not space.volume.same_grid(*grid_of(source)):
            raise InputError(invalid("effect", str(effect)[:60], "an image on the grid of the maps"))
        values = np.asarray(read_map(source)[space.mask], dtype=np.float64)
    else:
        try:
            values = np.asarray(effect, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.empty((0, 0))
        if n_rows == 1 and space.is_volume and values.shape == space.mask.shape:
            values = values[space.mask]
    if values.shape == (() if n_rows == 1 else (n_rows,)):
        values = np.repeat(np.reshape(values, (n_rows, 1)), space.n, axis=1)
    if n_rows == 1 and values.ndim == 1:
        values = values[None]
    if values.shape != (n_rows, space.n) or not np.isfinite(values).all():
        received = f"values of shape {values.shape}" if np.isfinite(values).all() else "values that are not finite"
        one = f"a number, {space.n} of them, or an image of a volume"
        several = f"{n_rows} numbers, a row of the contrast each, or values of shape {(n_rows, space.n)}"
        raise InputError(invalid("effect", received, one if n_rows == 1 else several))
    return values


def _region(space: Space, region: Any) -> NDArray[np.bool_]:
    """Elements of a region, which has some."""
    if region is None:
        return np.ones(space.n, bool)
    chosen = elements_of(space, region)
    if chosen.dtype.kind != "b" or not chosen.any():
        raise InputError(invalid("region", "labels, numbers, or nothing", "a mask of 0 and 1 that holds an element"))
    return np.asarray(chosen)


def _summary(found: NDArray[np.bool_]) -> dict[str, float]:
    """Power of cohorts (n_cohorts, n_elements), with intervals."""
    n, any_found, share = len(found), found.any(axis=1), found.mean(axis=1)
    low, high = stats.binomtest(int(any_found.sum()), n).proportion_ci(LEVEL)
    reach = stats.t.ppf(0.5 + LEVEL / 2, n - 1) * share.std(ddof=1) / np.sqrt(n)
    return {
        "any": any_found.mean(),
        "any_lower": low,
        "any_upper": high,
        "share": share.mean(),
        "share_lower": max(0.0, share.mean() - reach),
        "share_upper": min(1.0, share.mean() + reach),
    }
