"""From the arguments of a call to hypotheses and the shufflings that test them.

A family but t and F is imported where it is asked for: together they take as long to load as a small test takes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from numbaglm.arrays import Doubles
from numbaglm.errors import DesignError, InputError, ShufflingError, invalid, term
from numbaglm.spaces.smoothing import WIDEST
from numbaglm.stats import effects
from numbaglm.stats.conventions import is_number
from numbaglm.stats.methods import Method, find_method
from numbaglm.stats.model.design import Contrast, Design, orthonormal, partition, shared_nuisance, tested_regressors
from numbaglm.stats.model.hypothesis import Hypothesis, complement
from numbaglm.stats.shuffling.shufflings import FLIPS, PERMUTATIONS, Shufflings, plan_shufflings
from numbaglm.stats.variance.covariance import BETWEEN, TESTS, Binned, Sandwich

if TYPE_CHECKING:
    from numbaglm.stats.shuffling.own import Signed
    from numbaglm.stats.variance.components import Components

log = logging.getLogger("numbaglm")

ClusterThreshold = float | tuple[str, float]

_BY_ELEMENT, _CORRELATION = term("missing='element'"), term("correlation=True")
_VARIANCE = term("weights='variance'")
_FEW = 500  # shufflings, of which 24 (four groups relabelled) may be the same


def build_hypothesis(
    design: Design,
    contrast: Contrast,
    tested: Sequence[Contrast],
    method: str,
    shuffling: dict[str, Any],
    variance: dict[str, Any],
    own: Signed | None = None,
) -> tuple[Shufflings, Hypothesis]:
    """Decide on the shufflings, which tell all ``tested`` contrasts apart, and build what they act on.

    A set of the user's ``own`` is taken as it is.
    """
    record = find_method(method)
    if record.data == "rotated" and shuffling["blocks"] is not None:
        raise InputError(
            f"The method {method!r} rotates subjects into each other, so that exchangeability blocks mean nothing "
            "to it. Use 'freedman-lane' with blocks."
        )
    rows = np.hstack([shuffled_design(design, one, record) for one in tested])
    rules = {default_errors(design, one) for one in tested}
    if shuffling["errors"] is None and len(rules) > 1 and own is None:
        raise InputError(
            "Some of the contrasts test means, by sign flips, and others differences, by permutations: no null spans "
            f"both. Test them apart, or {term('name the errors')}."
        )
    rule = next(iter(rules)) if shuffling["errors"] is None else None
    if variance.get("weights") is not None:
        _check_weights(variance["weights"], len(rows))
    if variance.get("sandwich") is not None:
        shuffling = shuffling | {"why": "as a sandwich variance asks for"}
    if len(tested) > 1:  # a contrast that has nothing to shuffle by itself has no use for what others have
        _planned(shuffled_design(design, contrast, record), rule, shuffling, own)
    shufflings = _planned(rows, rule, shuffling, own)
    orbits = shufflings.orbits()
    groups = variance.get("variance_groups")
    if shuffling["errors"] is None and own is None and groups is not None and _mixes(orbits, groups):
        flips = shuffling | {"errors": "ise", "why": "since maps of unlike variance do not change places"}
        shufflings = _planned(rows, None, flips, None)
        orbits = shufflings.orbits()
    clusters = shufflings.flip_units() if variance.get("sandwich") is not None else None
    hypothesis = Hypothesis.build(design, contrast, shufflings.errors, orbits, method, **variance, clusters=clusters)
    if shufflings.errors == "ee" and shufflings.n_shufflings > 1:
        _require_change(hypothesis, orbits)
    return shufflings, hypothesis


def _planned(rows: Doubles, rule: str | None, shuffling: dict[str, Any], own: Signed | None) -> Shufflings:
    if own is None:
        return plan_shufflings(len(rows), design_rows=rows, rule=rule, **shuffling)
    kept = {name: value for name, value in shuffling.items() if name != "n_perm"}
    from numbaglm.stats.shuffling.own import plan_own  # where they are given

    return plan_own(own, design_rows=rows, **kept)


def _mixes(orbits: NDArray[np.intp], groups: ArrayLike) -> bool:
    """Whether permutations bring maps of one variance group to the rows of another.

    Errors of unlike variance are not exchangeable. Studentized statistics forgive that at each voxel, and not in the
    largest of many: groups of 12 with three times the deviation in one have 25 % of errors at 5 % (G).
    """
    labels = np.asarray(groups, dtype=object).ravel()
    if labels.size != orbits.size:
        return False  # which is refused by name where groups are looked at
    return len(set(zip(orbits.tolist(), map(str, labels), strict=True))) > len(np.unique(orbits))


def shuffled_design(design: Design, contrast: Contrast, method: Method) -> Doubles:
    """Rows (n_shuffled, k) that tell shufflings apart: the tested regressors, rotated where the data are."""
    if method.data != "rotated" or design.own:
        return tested_regressors(design, contrast)
    X, Z = partition(design, contrast)
    return complement(Z).T @ X


def default_errors(design: Design, contrast: Contrast) -> str:
    """The rule for errors: "ise" where the contrast tests a mean, else "ee".

    It does where the design holds a constant that the nuisance does not: permutations leave a mean as it is, so that
    they could say nothing of it.
    """
    Z = shared_nuisance(design, contrast) if design.own else partition(design, contrast)[1]
    one = np.full(design.n_subjects, 1.0 / np.sqrt(design.n_subjects))
    M = orthonormal(design.matrix / design.lengths)
    held, nuisance = np.linalg.norm(M.T @ one), np.linalg.norm(Z.T @ one)
    return "ise" if held > 1 - 1e-10 and nuisance < 1 - 1e-10 else "ee"


def smallest_p(hypothesis: Hypothesis, shufflings: Shufflings, two_sided: bool) -> float:
    """The smallest p that a test can reach.

    Where few shufflings are enumerated, some give the observed statistic again, whatever the data are: all signs
    flipped, or two groups of one size exchanged, if both signs count; labels of groups exchanged under F.
    """
    n_shufflings = shufflings.n_shufflings
    told = hypothesis.family.observe is not None and hypothesis.method.name == "freedman-lane"
    if not (shufflings.exhaustive and n_shufflings <= _FEW and told):
        return 1 / n_shufflings
    y = np.random.default_rng(0).normal(size=(hypothesis.design.n_subjects, 2))
    y -= hypothesis.nuisance.T @ (hypothesis.nuisance @ y)
    index, sign = shufflings.draw(0, n_shufflings)
    shuffled = (sign[:, :, None] * y[index]).transpose(1, 0, 2).reshape(len(y), -1)
    score = hypothesis.observe(shuffled.astype(np.float32)).score.reshape(n_shufflings, 2)
    score = np.abs(score) if two_sided else score
    again = (np.abs(score - score[0]) < 1e-5).all(axis=1)  # float32's rounding, which chance doesn't meet twice
    return float(again.sum() / n_shufflings)


def _require_change(hypothesis: Hypothesis, orbits: NDArray[np.intp]) -> None:
    """Refuse permutations that all leave what is tested as it is, such as the mean of two groups."""
    if hypothesis.design.own and hypothesis.contrast.matrix[:, len(hypothesis.design.columns) :].any():
        return  # each element's own regressor changes
    tested, size = hypothesis.basis[: hypothesis.n_interest], np.bincount(orbits)
    means = np.stack([np.bincount(orbits, weights=row) / size for row in tested])
    if np.linalg.norm(tested - means[:, orbits]) < 1e-8:
        raise ShufflingError(
            f"Permutations leave what the contrast {hypothesis.contrast.name!r} tests as it is, a mean over those who "
            f"change places: under {PERMUTATIONS} nothing is left to test. Use {FLIPS} if the errors "
            "are symmetric around zero."
        )


def make_pseudo(hypothesis: Hypothesis, fwhm: float) -> Hypothesis:
    """Make pseudo-t of a t hypothesis."""
    if not (is_number(fwhm) and 0 < fwhm <= WIDEST):
        raise InputError(invalid("variance_smoothing_fwhm", fwhm, f"a width in mm above 0, up to {WIDEST:g}, or None"))
    if hypothesis.family.name != "t" or hypothesis.method.name != "freedman-lane" or hypothesis.design.own:
        raise InputError(
            f"{term('variance_smoothing_fwhm=')} {fwhm} makes a pseudo-t: it goes with t contrasts, the method "
            "'freedman-lane', no variance groups and no regressors of elements' own."
        )
    from numbaglm.stats.families.smoothed import pseudo_t

    return replace(hypothesis, family=pseudo_t(hypothesis.family, fwhm, hypothesis.design.dof))


def make_correlation(hypothesis: Hypothesis, shufflings: Shufflings) -> Hypothesis:
    """Make a part correlation, or R2, of a t or F hypothesis.

    Raises
    ------
    InputError
        The mean is not what correlations are about, or is no constant of shuffling.
    """
    plain = hypothesis.family.name in ("t", "f") and hypothesis.family.prepare is None
    if not plain or hypothesis.method.name != "freedman-lane" or hypothesis.family.whole is not None:
        raise InputError(
            f"{_CORRELATION} goes with t and F, the method 'freedman-lane', and maps that all subjects have: leave the "
            "other options out."
        )
    one = np.full(hypothesis.design.n_subjects, 1.0 / np.sqrt(hypothesis.design.n_subjects))
    if np.linalg.norm(hypothesis.nuisance @ one) < 1 - 1e-10 or shufflings.errors != "ee":
        raise InputError(
            f"{_CORRELATION} is about the mean: give the design a constant that is not tested, and {PERMUTATIONS}."
        )
    if len(hypothesis.nuisance) > 1:
        log.warning(
            "Correlations do not hold their level beside nuisance: 5.8 % were measured at 5 % with 1 confound and 20 "
            "subjects, 13 % with 12 and 30. t does."
        )
    from numbaglm.stats.families.ordinary.correlated import correlated

    family, s = hypothesis.family, hypothesis.n_interest
    interest = hypothesis.interest
    made = correlated(
        family.layers[0].rows,
        interest,
        hypothesis.nuisance,
        hypothesis.basis[s:],
        hypothesis.effect,
        hypothesis.design.dof,
    )
    return replace(hypothesis, family=made)


def make_incomplete(hypothesis: Hypothesis, shufflings: Shufflings, sandwich: Sandwich | None = None) -> Hypothesis:
    """Make a test of each element with the subjects that it has of a t or F hypothesis.

    Raises
    ------
    InputError
        Nobody has worked out what else was asked for.
    """
    if hypothesis.family.whole is not None:
        raise InputError(
            f"{_BY_ELEMENT} goes with t, F, v and G, not with {term('variance_smoothing_fwhm')}: leave it out."
        )
    if hypothesis.method.name != "freedman-lane":
        raise InputError(invalid("method", hypothesis.method.name, f"'freedman-lane' with {_BY_ELEMENT}"))
    _require_two_dof(hypothesis.design)
    if sandwich is not None:
        return _make_incomplete_clusters(hypothesis, sandwich)
    if hypothesis.design.own:
        from numbaglm.stats.families.ordinary.incomplete_own import IncompleteOwn

        flips = shufflings.errors == "ise"
        own = IncompleteOwn.build(hypothesis.design, hypothesis.contrast, flips)
        return replace(hypothesis, family=own.family())
    from numbaglm.stats.families.incomplete import Incomplete
    from numbaglm.stats.families.ordinary.incomplete_groups import IncompleteGroups
    from numbaglm.stats.families.welch import VarianceGroups

    if isinstance(groups := hypothesis.family.finish, VarianceGroups):
        rows = np.ascontiguousarray(np.vstack([hypothesis.nuisance, hypothesis.interest]))
        of_rows = hypothesis.effect @ rows.T
        made = IncompleteGroups(rows, hypothesis.n_interest, of_rows, groups.groups, groups.dof_factor)
        return replace(hypothesis, family=made.family())
    moved = hypothesis.basis[hypothesis.n_interest :]
    still = complement(hypothesis.nuisance @ moved.T).T @ hypothesis.nuisance
    rows = np.vstack([hypothesis.basis, still])
    incomplete = Incomplete(
        rows=np.ascontiguousarray(rows),
        n_interest=hypothesis.n_interest,
        n_moved=len(moved),
        is_t=hypothesis.is_t,
        effect=hypothesis.effect @ rows.T,
        swing=effects.swing(hypothesis.design.matrix, hypothesis.contrast.matrix[0]),
        flips=shufflings.errors == "ise",
    )
    return replace(hypothesis, family=incomplete.family())


def _require_two_dof(design: Design) -> None:
    """Refuse designs that leave elements with all their subjects too few to be tested."""
    if design.dof < 2:
        n = design.n_subjects
        raise DesignError(
            f"The design leaves {design.dof} degree of freedom of {n} subjects. Allowed with {_BY_ELEMENT}: 2 or more, "
            "as an element with a subject less has one less. Use more subjects or fewer regressors."
        )


def _make_incomplete_clusters(hypothesis: Hypothesis, sandwich: Sandwich) -> Hypothesis:
    from numbaglm.stats.families.clustered.incomplete import IncompleteClusters

    assert hypothesis.clusters is not None
    rows = np.ascontiguousarray(np.vstack([hypothesis.interest, hypothesis.nuisance]))
    made = IncompleteClusters(
        rows=rows,
        n_interest=hypothesis.n_interest,
        effect=hypothesis.effect @ rows.T,
        number=hypothesis.clusters,
        asked=sandwich,
        whole_dof=hypothesis.dof + hypothesis.n_interest - 1,
    )
    return replace(hypothesis, family=made.family())


def read_weights(weights: Any, between: str | int, test: str, apart: Sequence[str]) -> str | Doubles | None:
    """Weights as they are asked for: the name of a layer of variances, or weights (n_subjects,) of subjects.

    Parameters
    ----------
    apart
        Options that were given too and that weights don't go with.

    Raises
    ------
    InputError
    """
    if isinstance(between, bool) or (between != 0 and between not in tuple(BETWEEN)):
        raise InputError(invalid("between", between, f"one of {sorted(BETWEEN)}, or 0 for fixed effects"))
    if test not in tuple(TESTS):
        raise InputError(invalid("test", test, f"one of {sorted(TESTS)}"))
    own = (f"between={between!r}" if between != "reml" else "", f"test={test!r}" if test != "knapp-hartung" else "")
    asked = [term(one) for one in own if one]
    if weights is None:
        if asked:
            raise InputError(f"{' and '.join(asked)} go with {_VARIANCE}, the variances of the maps: name them.")
        return None
    if apart:
        raise InputError(f"{term('weights')} don't go with {' and '.join(apart)}: leave one of them out.")
    if isinstance(weights, str):
        return weights
    if asked:
        raise InputError(
            f"{' and '.join(asked)} take variances that are known, and weights of subjects are none: "
            f"leave it out, or give {_VARIANCE} and a layer of variances."
        )
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values  # of a table
    if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values > 0)).all():
        allowed = "the name of a layer of variances, or numbers (n_subjects,) above 0"
        fix = "Leave out subjects that are not to count."
        received, is_wrong = weights, ~(np.isfinite(values) & (values > 0))
        wrong = np.flatnonzero(is_wrong) if values.ndim == 1 else np.empty(0, np.intp)
        if len(wrong):
            several = f"rows {', '.join(map(str, wrong[:5]))}" if len(wrong) > 1 else f"row {wrong[0]}"
            received = f"{values[wrong[0]]:g} in {several}{', ...' if len(wrong) > 5 else ''} (counted from 0)"
        elif values.ndim == 2:
            received = f"a {type(weights).__name__} of shape {values.shape}"
        elif not values.size and isinstance(weights, list | tuple) and weights:
            received = f"a list of {type(weights[0]).__name__}"
            layers = term('layers={"variance": maps}')
            fix = f"Maps of variances are a layer: {layers}, and {_VARIANCE}."
        raise InputError(invalid("weights", received, allowed, fix))
    return values


def make_weighted(
    hypothesis: Hypothesis,
    shufflings: Shufflings,
    weights: str | Doubles,
    between: str | int,
    test: str,
    lacks: bool = False,
) -> Hypothesis:
    """Make weighted least squares of a hypothesis; ``lacks`` tests each element with the subjects that it has."""
    from numbaglm.stats.families.weighted import Weighted, weighted

    if lacks:
        _require_two_dof(hypothesis.design)
    if not isinstance(weights, str):
        _check_weights(weights, hypothesis.design.n_subjects)
    made = Weighted(
        nuisance=hypothesis.nuisance,
        interest=hypothesis.interest,
        effect=hypothesis.effect,
        weights=None if isinstance(weights, str) else weights,
        layer=weights if isinstance(weights, str) else "",
        between=between,
        test=test,
        moves=shufflings.errors != "ise",
        lacks=lacks,
    )
    return replace(hypothesis, family=weighted(hypothesis.family, made))


def _check_weights(weights: Doubles, n: int) -> None:
    if weights.shape != (n,):
        raise InputError(invalid("weights", weights.shape, f"one for each of the {n} subjects"))


def make_gls(hypothesis: Hypothesis, components: Components, asked: Binned, seed: int) -> Hypothesis:
    """Make generalised least squares of a hypothesis; ``seed`` draws the clusters that intervals are made of."""
    from numbaglm.stats.families.clustered.gls import gls

    family = gls(components, hypothesis.interest, hypothesis.nuisance, hypothesis.effect, asked, seed)
    return replace(hypothesis, family=family, clusters=components.number)


def read_variance_groups(labels: ArrayLike | str | None, blocks: ArrayLike | None) -> ArrayLike | None:
    """Variance groups as they are; "auto" takes the exchangeability blocks, at the level below the root of a tree."""
    if not isinstance(labels, str):
        return labels
    if labels != "auto" or blocks is None:
        raise InputError(
            invalid("variance_groups", labels, f"labels (n_subjects,), or 'auto' with {term('exchangeability_blocks')}")
        )
    values = np.asarray(blocks)
    return values if values.ndim == 1 else values[:, min(1, values.shape[1] - 1)]


def read_threshold(threshold: ClusterThreshold | None, hypothesis: Hypothesis, two_sided: bool) -> float | None:
    """Score of a cluster-forming threshold."""
    if threshold is None:
        return None
    own = hypothesis.scale.name
    kinds = ("p", "z") if own == "z" else ("p", own, "z")
    pairs = " or ".join(f'("{kind}", value)' for kind in kinds[1:])
    highest = 1 if two_sided or not hypothesis.is_t else 0.5  # beyond it t is below 0
    kind, value = threshold if isinstance(threshold, tuple | list) and len(threshold) == 2 else ("p", threshold)
    try:
        valid = kind in kinds and 0 < float(value) < (highest if kind == "p" else np.inf)
    except (TypeError, ValueError):
        valid = False
    if valid and kind == "p" and not hypothesis.family.parametric:
        fix = "Clusters are of Fisher's transform of it; or leave them out."
        allowed = f"{pairs}, as {hypothesis.statistic_name} has no parametric p"
        raise InputError(invalid("cluster_forming_threshold", threshold, allowed, fix))
    if not valid:
        given = not isinstance(threshold, tuple | list) and is_number(threshold) and threshold > 1
        hint = f"If {threshold} is a statistic, write it as {pairs.replace('value', str(threshold))}." if given else ""
        allowed = f"a p between 0 and {highest}, or {pairs} with a value above 0"
        raise InputError(invalid("cluster_forming_threshold", threshold, allowed, hint))
    with np.errstate(all="ignore"):  # what is beyond reach becomes infinite on the way
        score = hypothesis.scale.to_score(kind, float(value), two_sided)
        reached = np.isfinite(np.float32(score))
        if reached:  # where scores end, statistics end: it would be another threshold
            asked = float(value)
            if kind == "p":
                asked = float(-special.ndtri(asked / 2 if two_sided else asked))
            again = hypothesis.scale.to_statistic if kind == own else hypothesis.scale.to_z
            reached = np.isclose(float(again(np.array([score]))[0]), asked, rtol=1e-3, atol=1e-3)
    if not reached:
        raise InputError(invalid("cluster_forming_threshold", threshold, "a value that this statistic can reach"))
    return score
