"""What was asked, of which data, and how it was answered: the typed record behind a result's ``provenance``."""

from __future__ import annotations

import platform
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from numbaglm.errors import InputError
from numbaglm.results.vocabulary import STATISTICS
from numbaglm.spaces.volume import CONNECTIVITIES
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.methods import METHODS, p_holds
from numbaglm.stats.variance import covariance
from numbaglm.stats.variance.covariance import (
    ADJUSTMENTS,
    BETWEEN,
    DEGREES_OF_FREEDOM,
    EFFECTS,
    TESTS,
    Binned,
    Sandwich,
)
from numbaglm.version import __version__

if TYPE_CHECKING:
    from numbaglm.cohort import Cohort
    from numbaglm.engine.permutation.records import Spec

Kind = TypeVar("Kind")


SHUFFLES = {"ee": "permutations", "ise": "sign flips", "both": "permutations with sign flips"}
"""What data are shuffled by, of the errors that are assumed."""

TAILS = {"counts": "", "pareto": "generalised Pareto", "gamma": "gamma"}
"""What a tail is fitted with."""


STOPPED = "stopped"
"""What is kept of how a test ended that might stop early."""


class WrongProvenanceError(InputError):
    """A provenance is not what a test writes."""


MISSING = ("leave", "element")
"""What becomes of elements that some subjects lack: they leave, or are tested with the subjects that they have."""


SIDES = ("one", "both", "concordant")
"""Which sides of t count where p are combined: the upper; both; both, where they are of one sign in all modalities."""


@dataclass(frozen=True, eq=False)
class Provenance:
    """What determined a result, as pages, sidecars and summaries read it.

    Attributes
    ----------
    contrast, weights
        Name of the contrast, and its (n_rows, n_regressors) weights.
    statistic, dof, two_sided
        What was tested, with how many residual degrees of freedom, and whether both tails count.
    variance_groups
        How many subjects each group has that has a variance of its own; None where all share one.
    missing
        What became of elements that some subjects lack: "leave", or "element" where each was tested with those it has.
    weighted_by, between, test
        The layer of variances, or "subjects" for weights of subjects; how the variance between subjects was estimated;
        and what effects were held against. None where nothing was weighted.
    sandwich
        Which sandwich variance statistics have; None where errors were taken for independent.
    n_visits, n_groups
        Visits and groups of clusters whose covariances a modified sandwich variance has; None for none.
    gls
        Of which components the covariance is a sum, where statistics are those of generalised least squares; or None.
    columns, rows
        Names of the regressors that all elements share, and the (n_subjects, n_regressors) design matrix.
    regressors
        Those that each element has for itself: by name, the layer of the cohort that each is, or "column:layer".
    method
        How nuisance was dealt with; a key of `numbaglm.stats.methods.METHODS`.
    errors, n_shufflings, exhaustive, n_blocks, shuffling, seed
        How data were shuffled; how many exchangeability blocks restricted that, None for none; and why so, in a
        sentence.
    own_shufflings
        SHA-256 of a set of the user's own; None where shufflings were planned.
    cluster_forming_threshold, cluster_forming_statistic
        As it was given, and as the statistic (z with variance groups); None for no clusters.
    tail, tail_fits, p_interval
        How small p were refined, what became of each fit, and the coverage of intervals; None for none.
    variance_smoothing_fwhm, smoothing_fwhm
        mm; None for none.
    combine, modalities, combine_contrasts
        How several maps of each subject, or contrasts, were put together; names of the maps, none for one; and rows of
        the contrasts by name, None where each was tested for itself.
    modality_contrast
        (n_rows, n_modalities) weights of what of the maps was tested; None for the maps themselves.
    sides, combine_weights
        Which sides of t counted in a combination of p, and what each modality did; None for no such thing.
    conventions, precision
        As `numbaglm.stats.conventions.Conventions`, by name; type of the arithmetic.
    n_subjects, n_voxels, subjects, left_out, cohort_fingerprint
        The data: sizes, labels, what was left out in sentences, and the hash of all of it.
    versions
        Package -> version.
    """

    contrast: str
    weights: NDArray[np.float64]
    statistic: str
    dof: float
    two_sided: bool
    variance_groups: tuple[int, ...] | None
    missing: str
    weighted_by: str | None
    between: str | int | None
    test: str | None
    sandwich: Sandwich | None
    n_visits: int | None
    n_groups: int | None
    gls: Binned | None
    columns: tuple[str, ...]
    rows: NDArray[np.float64]
    regressors: Mapping[str, str]
    method: str
    errors: str
    n_shufflings: int
    exhaustive: bool
    n_blocks: int | None
    shuffling: str
    own_shufflings: str | None
    seed: int
    cluster_forming_threshold: float | tuple[str, float] | None
    cluster_forming_statistic: float | None
    tail: str
    tail_fits: Mapping[str, Any]
    p_interval: float | None
    variance_smoothing_fwhm: float | None
    smoothing_fwhm: float | tuple[float, ...] | None
    combine: str | None
    modalities: tuple[str, ...]
    modality_contrast: NDArray[np.float64] | None
    combine_contrasts: Mapping[str, int] | None
    sides: str | None
    combine_weights: tuple[float, ...] | None
    conventions: Mapping[str, Any]
    precision: str
    n_subjects: int
    n_voxels: int
    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    cohort_fingerprint: str
    versions: Mapping[str, str]

    @classmethod
    def parse(cls, kept: Any) -> Provenance:
        """Read what a result keeps, JSON types.

        Raises
        ------
        WrongProvenanceError
            Something is missing, or of another type or size than it must be.
        """
        asked = _Checked(kept, "")
        contrast, design = asked.inner("contrast"), asked.inner("design")
        sandwich = asked.later("sandwich", _sandwich)
        one = cls(
            contrast=contrast.text("name"),
            weights=contrast.matrix("weights"),
            statistic=asked.text("statistic", tuple(STATISTICS)),
            dof=asked.whole("dof", 1) if sandwich is None else asked.freedom("dof"),
            two_sided=asked.flag("two_sided"),
            variance_groups=asked.optional("variance_groups", _group_sizes),
            missing=asked.text("missing", MISSING) if "missing" in kept else MISSING[0],  # as results of 0.1 are
            weighted_by=asked.later("weights", _weighted_by),
            between=asked.later("between", _between),
            test=asked.later("test", _test),
            sandwich=sandwich,
            n_visits=asked.later("visits", _blocks),
            n_groups=asked.later("groups", _blocks),
            gls=asked.later("gls", _gls),
            columns=asked.inner("design").texts("columns"),
            rows=design.matrix("rows"),
            regressors=asked.names("regressors"),
            method=asked.text("method", tuple(METHODS)),
            errors=asked.text("errors", tuple(SHUFFLES)),
            n_shufflings=asked.whole("n_shufflings", 1),
            exhaustive=asked.flag("exhaustive"),
            n_blocks=asked.optional("exchangeability_blocks", _blocks),
            shuffling=asked.text("shuffling"),
            own_shufflings=asked.later("own_shufflings", _digest),
            seed=asked.whole("seed", 0),
            cluster_forming_threshold=asked.optional("cluster_forming_threshold", _threshold),
            cluster_forming_statistic=asked.optional("cluster_forming_statistic", _number),
            tail=asked.text("tail", tuple(TAILS)),
            tail_fits=asked.fits("tail_fits"),
            p_interval=asked.optional("p_interval", _number),
            variance_smoothing_fwhm=asked.optional("variance_smoothing_fwhm", _number),
            smoothing_fwhm=asked.optional("smoothing_fwhm", _widths),
            combine=asked.since("combine", lambda value: None if value is None else _of(str, value), None),
            modalities=asked.since("modalities", lambda value: tuple(_of(str, one) for one in _of(list, value)), ()),
            modality_contrast=asked.later("modality_contrast", _matrix),
            combine_contrasts=asked.later("combine_contrasts", _row_counts),
            sides=asked.later("sides", _side),
            combine_weights=asked.later("combine_weights", _shares),
            conventions=_conventions(asked.mapping("conventions")),
            precision=asked.text("precision"),
            n_subjects=asked.whole("n_subjects", 1),
            n_voxels=asked.whole("n_voxels", 1),
            subjects=asked.texts("subjects"),
            left_out=asked.texts("left_out"),
            cohort_fingerprint=asked.text("cohort_fingerprint"),
            versions={name: asked.inner("versions").text(name) for name in asked.mapping("versions")},
        )
        sizes = {
            "subjects": (len(one.subjects), one.n_subjects),
            "rows of the design": (len(one.rows), one.n_subjects),
            "columns of the design": (one.rows.shape[1], len(one.columns)),
            "weights of a contrast": (one.weights.shape[1], len(one.terms)),
        }
        if one.modality_contrast is not None:
            sizes["weights of modalities"] = (one.modality_contrast.shape[1], len(one.modalities))
        for what, (n, expected) in sizes.items():
            if n != expected:
                raise WrongProvenanceError(f"{n} {what}, not {expected}")
        if "numbaglm" not in one.versions:
            raise WrongProvenanceError("'versions' tells none of numbaglm")
        return one

    @property
    def compares_z(self) -> bool:
        """Whether voxels are compared as z: their degrees of freedom differ, or several maps became one test."""
        differ = self.variance_groups is not None or self.missing != "leave"
        return differ or STATISTICS[self.statistic] == "max_z"

    @property
    def has_nuisance(self) -> bool:
        """Whether the contrast leaves a part of the design out."""
        return int(np.linalg.matrix_rank(self.weights)) < len(self.terms)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names that contrasts give weights to."""
        return (*self.columns, *self.regressors)

    @property
    def in_blocks(self) -> bool:
        """Whether exchangeability blocks restricted shuffling."""
        return self.n_blocks is not None

    @property
    def in_clusters(self) -> bool:
        """Whether blocks are clusters of maps that depend on each other, and change sign as wholes."""
        return self.sandwich is not None or self.gls is not None

    @property
    def data(self) -> str:
        """What was analysed, in words: maps of subjects, or maps in clusters."""
        if not self.in_clusters or self.n_blocks is None:
            return f"{self.n_subjects} subjects"
        return f"{self.n_subjects} maps in {self.n_blocks} clusters"

    @property
    def freedom(self) -> str:
        """Degrees of freedom, in words."""
        if self.sandwich is None:
            return f"{self.dof} residual degrees of freedom"
        return f"{self.dof:.1f} degrees of freedom"

    @property
    def n_random(self) -> int:
        """Shufflings beside the data as they are."""
        return self.n_shufflings - 1

    @property
    def n_rows(self) -> int | None:
        """Rows of an F contrast; None for one of t."""
        if self.combine_contrasts is not None:
            return None if set(self.combine_contrasts.values()) == {1} else len(self.weights)
        one_row = self.statistic in ("t", "v", "r") or (self.combine is not None and len(self.weights) == 1)
        return None if one_row else len(self.weights)

    @property
    def n_effects(self) -> int | None:
        """Maps that the effect has: of each row, and of each modality where they are combined; None for one alone."""
        if self.combine is not None:
            n = len(self.weights) * self.n_variables
            return n if n > 1 else None
        return self.n_rows

    @property
    def n_variables(self) -> int:
        """How many numbers of a subject each element has: maps, or contrasts of them."""
        return max(1, len(self.modalities)) if self.modality_contrast is None else len(self.modality_contrast)

    @property
    def has_parametric_p(self) -> bool:
        """Whether the statistic has a distribution of its own, or one that stands in for it."""
        of_rank = self.statistic == "cca" and bool(self.conventions["cca_fisher"])
        return not (self.statistic == "pls" or of_rank)

    @property
    def p_holds(self) -> bool:
        """Whether parametric p have their level, see `numbaglm.stats.methods.p_holds`; v and G lose it far out."""
        return self.statistic not in ("v", "g") and p_holds(self.combine, len(self.weights), self.n_variables)


@dataclass(frozen=True)
class _Checked:
    """Values of a mapping, each checked as it is taken."""

    kept: Any
    where: str

    def _take(self, name: str) -> Any:
        if not isinstance(self.kept, dict):
            raise WrongProvenanceError(f"{self.where or 'it'} is no mapping")
        if name not in self.kept:
            raise WrongProvenanceError(f"{self._called(name)} is missing")
        return self.kept[name]

    def _called(self, name: str) -> str:
        return repr(f"{self.where}{name}")

    def _read(self, name: str, read: Callable[[Any], Kind], what: str) -> Kind:
        value = self._take(name)
        try:
            return read(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise WrongProvenanceError(f"{self._called(name)} is {str(value)[:60]!r}, not {what}") from error

    def inner(self, name: str) -> _Checked:
        return _Checked(self.mapping(name), f"{self.where}{name}.")

    def mapping(self, name: str) -> Mapping[str, Any]:
        return self._read(name, lambda value: _of(dict, value), "a mapping")

    def names(self, name: str) -> dict[str, str]:
        """Texts by name; none where an older result does not say."""
        if isinstance(self.kept, dict) and name not in self.kept:
            return {}
        return self._read(name, lambda value: {key: _of(str, one) for key, one in _of(dict, value).items()}, "texts")

    def fits(self, name: str) -> dict[str, dict[str, Any] | None]:
        def read(value: Any) -> dict[str, dict[str, Any] | None]:
            return {null: None if fit is None else _of(dict, fit) for null, fit in _of(dict, value).items()}

        return self._read(name, read, "fits by null")

    def text(self, name: str, allowed: tuple[str, ...] = ()) -> str:
        what = f"one of {list(allowed)}" if allowed else "a text"
        return self._read(name, lambda value: _among(_of(str, value), allowed), what)

    def texts(self, name: str) -> tuple[str, ...]:
        return self._read(name, lambda value: tuple(_of(str, one) for one in _of(list, value)), "a list of texts")

    def flag(self, name: str) -> bool:
        return self._read(name, lambda value: _of(bool, value), "true or false")

    def whole(self, name: str, least: int) -> int:
        return self._read(name, lambda value: _at_least(least, _whole(value)), f"a whole number of {least} or more")

    def freedom(self, name: str) -> float:
        return self._read(name, _freedom, "degrees of freedom")

    def number(self, name: str) -> float:
        return self._read(name, _number, "a number")

    def among(self, name: str, allowed: tuple[int, ...]) -> int:
        return self._read(name, lambda value: allowed[allowed.index(_whole(value))], f"one of {list(allowed)}")

    def matrix(self, name: str) -> NDArray[np.float64]:
        return self._read(name, _matrix, "rows of numbers")

    def optional(self, name: str, read: Callable[[Any], Kind]) -> Kind | None:
        return self._read(name, lambda value: None if value is None else read(value), read.__doc__ or "allowed")

    def since(self, name: str, read: Callable[[Any], Kind], before: Kind) -> Kind:
        """What older versions do not keep: ``before`` there."""
        return self._read(name, read, "allowed") if name in self.kept else before

    def later(self, name: str, read: Callable[[Any], Kind]) -> Kind | None:
        """What results of before have nothing of."""
        return None if name not in self.kept else self.optional(name, read)


def _weighted_by(value: Any) -> str:
    """a layer, weights of subjects, or null"""  # noqa: D400
    if isinstance(value, str):
        return value
    for one in _of(list, value):
        _number(one)
    return "subjects"


def _between(value: Any) -> str | int:
    """an estimator, 0, or null"""  # noqa: D400
    return 0 if value == 0 else _among(_of(str, value), tuple(BETWEEN))


def _test(value: Any) -> str:
    """a test of weighted effects, or null"""  # noqa: D400
    return _among(_of(str, value), tuple(TESTS))


def _of(kind: type[Kind], value: Any) -> Kind:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _among(value: str, allowed: tuple[str, ...]) -> str:
    if allowed and value not in allowed:
        raise ValueError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _at_least(least: int, value: int) -> int:
    if value < least:
        raise ValueError
    return value


def _number(value: Any) -> float:
    """a number, or null"""  # noqa: D400 - read in a sentence
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise TypeError
    return float(value)


def _digest(value: Any) -> str:
    """a hash, or null"""  # noqa: D400
    return _of(str, value)


def _freedom(value: Any) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError
    return number


def _gls(value: Any) -> Binned:
    """components of a covariance, bins and an interval, or null"""  # noqa: D400
    read = _Checked(value, "gls.")
    effects = read.texts("effects")
    return Binned(
        tuple(_among(one, tuple(EFFECTS)) for one in effects),
        read.whole("bins", 1),
        read.optional("interval", _number),
    )


def _sandwich(value: Any) -> Sandwich:
    """a correction, degrees of freedom and an estimator, or null"""  # noqa: D400
    read = _Checked(value, "sandwich.")
    estimator = read.text("estimator", tuple(covariance.ESTIMATORS)) if "estimator" in value else Sandwich().estimator
    return Sandwich(read.text("adjustment", tuple(ADJUSTMENTS)), read.text("dof", tuple(DEGREES_OF_FREEDOM)), estimator)


def _side(value: Any) -> str:
    """a side, or null"""  # noqa: D400
    return _among(_of(str, value), SIDES)


def _row_counts(value: Any) -> dict[str, int]:
    """rows of contrasts by name, or null"""  # noqa: D400
    return {_of(str, name): _at_least(1, _whole(n)) for name, n in _of(dict, value).items()}


def _shares(value: Any) -> tuple[float, ...]:
    """numbers, or null"""  # noqa: D400
    return tuple(map(_number, _of(list, value)))


def _group_sizes(value: Any) -> tuple[int, ...] | None:
    """a label for each subject, or null"""  # noqa: D400
    sizes = Counter(_label(one) for one in _of(list, value))
    return tuple(sizes[label] for label in sorted(sizes)) if len(sizes) > 1 else None


def _label(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError
    return str(value)


def _blocks(value: Any) -> int:
    """blocks of subjects, or null"""  # noqa: D400
    return len({str(one) for one in _of(list, value)})


def _threshold(value: Any) -> float | tuple[str, float]:
    """a p, a kind with a value, or null"""  # noqa: D400
    if isinstance(value, list):
        kind, height = value
        return _of(str, kind), _number(height)
    return _number(value)


def _widths(value: Any) -> float | tuple[float, ...]:
    """one width or three, or null"""  # noqa: D400
    return tuple(map(_number, value)) if isinstance(value, list) else _number(value)


def _matrix(value: Any) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = np.array([[_number(one) for one in _of(list, row)] for row in _of(list, value)])
    if rows.ndim != 2:
        raise ValueError
    return rows


def _conventions(kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check options against a record of today; one that came later has the value of the package's own."""
    model = CONVENTIONS["numbaglm"]
    own = model.as_used(["volume"])
    read = _Checked(own | dict(kept), "conventions.")
    for name, value in own.items():
        if isinstance(value, bool):
            read.flag(name)
        elif isinstance(value, str):
            read.text(name)
        elif name.endswith("connectivity"):
            read.among(name, CONNECTIVITIES)
        elif name in ("tfce_E", "tfce_H") and isinstance(read.kept[name], dict):
            for domain in read.mapping(name):
                read.inner(name).number(domain)
        else:
            read.number(name)
    return {name: read.kept[name] for name in own}


def provenance(cohort: Cohort, spec: Spec, asked: dict[str, Any], fits: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines the result, and the fits to its nulls, as JSON types."""
    hypothesis, shufflings = spec.hypothesis, spec.shufflings
    return {
        "contrast": {"name": hypothesis.contrast.name, "weights": hypothesis.contrast.matrix.tolist()},
        "statistic": hypothesis.statistic_name,
        "dof": hypothesis.dof,
        "two_sided": spec.two_sided,
        "cluster_forming_statistic": None
        if spec.threshold is None
        else float(hypothesis.scale.to_statistic(np.array([spec.threshold]))[0]),
        **asked,
        "n_shufflings": shufflings.n_shufflings,
        "exhaustive": shufflings.exhaustive,
        "errors": shufflings.errors,
        "shuffling": shufflings.reason,
        "seed": shufflings.seed,
        "method": hypothesis.method.name,
        "tail_fits": fits,
        "conventions": spec.conventions.as_used(cohort.store.space.domains),
        "precision": spec.precision,
        "n_subjects": cohort.n_subjects,
        "n_voxels": cohort.n_voxels,
        "smoothing_fwhm": cohort.store.smoothing_fwhm,
        "cohort_fingerprint": cohort.fingerprint,
        "subjects": list(cohort.subjects),
        "left_out": list(cohort.report),
        "design": {
            "columns": list(hypothesis.design.columns),
            "rows": hypothesis.design.matrix.tolist(),
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("numba", "numpy", "scipy", "dask", "zarr", "nibabel")
    ours = {"python": platform.python_version(), "numbaglm": __version__}
    return ours | {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    if isinstance(told := getattr(sys.modules.get(package), "__version__", None), str):
        return told  # to look into all that is installed takes a millisecond and a half for each
    try:
        told = metadata.distribution(package).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return "not installed"
    # The one line of it: to parse the whole, a page of prose, takes as long as loading a module of statistics.
    found = re.search(r"^Version: *(\S+)", told, re.MULTILINE)
    return found[1] if found else metadata.version(package)
