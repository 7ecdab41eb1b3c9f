"""From raw nulls and counts to corrected maps, the cluster table and provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numbaglm.cohort import Cohort
from numbaglm.engine.permutation.maps import MAP_TOLERANCE, map_tolerance
from numbaglm.engine.permutation.records import RunResult, Spec
from numbaglm.inference.observed_clusters import ObservedClusters, domain_of
from numbaglm.results.cluster_table import no_clusters
from numbaglm.results.discoveries import CALIBRATED, as_kept, best_tdp
from numbaglm.results.provenance import STOPPED, provenance
from numbaglm.results.result import PermutationResult
from numbaglm.results.vocabulary import ALPHA, ELSEWHERE, EVERY_TABLE, MAPS, is_loading
from numbaglm.spaces.space import Space
from numbaglm.stats import effects, pvalues
from numbaglm.stats.anytime import anytime_p, losses_of
from numbaglm.stats.corrected import Corrected, from_null, interval
from numbaglm.stats.discoveries import Bound, Calibration, ari
from numbaglm.stats.families.family import REASON, Family
from numbaglm.stats.model.hypothesis import Hypothesis
from numbaglm.stats.scales import Graded, Scale

Arrays = dict[str, NDArray[Any]]
Judge = Callable[[NDArray[Any], NDArray[np.bool_] | slice], Corrected]


@dataclass(frozen=True)
class Tests:
    """What the tests of one cohort leave.

    Attributes
    ----------
    cohort
        What was analysed.
    names
        Of the contrasts.
    asked
        Arguments to note in the provenance.
    outcomes
        Specification and raw results of each contrast.
    calibrations
        Of each contrast, where shufflings bound its true discoveries; none where parametric p do.
    ends
        How the test of each contrast ended, as provenance keeps it, where it may have stopped early; None where not.
    """

    cohort: Cohort
    names: list[str]
    asked: dict[str, Any]
    outcomes: list[tuple[Spec, RunResult]] = field(default_factory=list)
    calibrations: list[Calibration] = field(default_factory=list)
    ends: list[dict[str, Any] | None] = field(default_factory=list)

    @property
    def calibrated(self) -> list[Calibration | None]:
        """Calibration of each contrast; None for none."""
        return [*self.calibrations] if self.calibrations else [None] * len(self.outcomes)


def assemble(
    tests: Sequence[Tests],
    *,
    joint: bool,
    p_interval: float | None,
) -> list[list[PermutationResult]]:
    """Correct raw results for multiple testing, and name everything.

    Parameters
    ----------
    tests
        Of each modality, of the same contrasts under the same shufflings.
    joint
        Whether to correct over the contrasts as well; over modalities it is done wherever there are several.
    p_interval
        Coverage of the intervals of p; None for none.
    """
    corrected, raw = [], []
    for one in tests:
        found = []
        for outcome, calibration, end in zip(one.outcomes, one.calibrated, one.ends, strict=True):
            found.append(_correct(one.cohort, *outcome, p_interval, calibration))
            if end is not None:
                _make_anytime(found[-1], end["alpha"])
        corrected.append(found)
        raw.append([its for _, its in one.outcomes])
    if raw[0][0].max_score.size > 1:
        if joint:
            for ones, theirs in zip(corrected, raw, strict=True):
                _correct_jointly(ones, theirs, "_contrasts", p_interval)
        if len(tests) > 1:
            for across, its in zip(zip(*corrected, strict=True), zip(*raw, strict=True), strict=True):
                _correct_jointly(across, its, "_modalities", p_interval)
        if len(tests) > 1 and joint:
            _correct_jointly(sum(corrected, []), sum(raw, []), "_modalities_contrasts", p_interval)  # noqa: RUF017
    return [
        [
            PermutationResult(
                one.maps,
                one.h0,
                one.table,
                test.cohort.store.space,
                provenance(test.cohort, one.spec, test.asked, one.fits)
                | ({} if how is None else {CALIBRATED: as_kept(how)})
                | ({} if end is None else {STOPPED: end}),
            )
            for one, how, end in zip(ones, test.calibrated, test.ends, strict=True)
        ]
        for ones, test in zip(corrected, tests, strict=True)
    ]


def corrected_p(cohort: Cohort, spec: Spec, raw: RunResult) -> list[NDArray[np.float64]]:
    """Counted p, corrected over the map, of voxels and clusters: one array of each kind that was asked for."""
    one = _correct(cohort, spec, raw, None, None, discoveries=False)
    maps = [one.maps[f"p_fwe_{kind}"] for kind in ("voxel", "tfce") if f"p_fwe_{kind}" in one.maps]
    tables = [one.table[f"p_fwe_{kind}"].to_numpy(float) for kind in ("size", "mass")] if one.clusters else []
    return maps + tables


def _make_anytime(one: _Contrast, alpha: float) -> None:
    """Turn corrected p into ones that hold though the test stopped by what it had found."""
    n_random = one.spec.shufflings.n_shufflings - 1

    def held(p: Any) -> NDArray[np.float64]:
        return anytime_p(losses_of(np.asarray(p, np.float64), n_random), n_random, alpha)

    for name in [name for name in one.maps if name.startswith("p_fwe_")]:
        one.maps[name] = held(one.maps[name])
    columns = [name for name in one.table if str(name).startswith("p_fwe_")]
    one.table = one.table.assign(**{str(name): held(one.table[name]) for name in columns})


@dataclass(eq=False)
class _Contrast:
    """Maps, nulls and clusters of one contrast, and the fits to the tails of its nulls, as they are made.

    Of each kind of maximum that domains have for themselves, ``nulls`` has the nulls (n_domains, n_shufflings).
    """

    spec: Spec
    space: Space
    maps: Arrays
    table: pd.DataFrame
    h0: Arrays = field(default_factory=dict)
    clusters: ObservedClusters | None = None
    nulls: Arrays = field(default_factory=dict)
    fits: dict[str, Any] = field(default_factory=dict)
    bound: Bound | None = None

    def add(self, name: str, null: str, found: Corrected, level: float | None = None) -> None:
        """Add p_<name> of each voxel, where it comes from, its interval, and the fit to the null."""
        self.maps[f"p_{name}"] = found.p
        if found.source is not None:
            self.maps[f"source_{name}"] = found.source
            if found.fit is not None:
                self.fits[null] = found.fit
        if level is not None:
            bounds = interval(self.spec.shufflings, found.counted, level)
            self.maps[f"p_{name}_lower"], self.maps[f"p_{name}_upper"] = bounds

    def add_clusters(self, name: str, null: str, found: Corrected, level: float | None) -> None:
        """Add p_<name> of each cluster to its voxels, and to the table with its interval."""
        assert self.clusters is not None
        source = None if found.source is None else self.clusters.as_map(found.source, 0).astype(np.uint8)
        self.add(name, null, Corrected(self.clusters.p_map(found.p), found.counted, source, found.fit))
        columns = {f"p_{name}": found.p}
        if level is not None:
            columns[f"p_{name}_lower"], columns[f"p_{name}_upper"] = interval(
                self.spec.shufflings, found.counted, level
            )
        self.table = self.table.assign(**{column: p[self.clusters.ranked] for column, p in columns.items()})

    def correct(self, kind: str, over: str, nulls: NDArray[Any], judge: Judge, level: float | None) -> None:
        """Add p of what domains have nulls for (n_domains, n_shufflings), within each and over them, and the nulls.

        Where there is one domain it is all there is. Otherwise p within domains, ``p_fwe_<kind>_domain``, become one
        by the null of the least of them: counted, since a rank has no tail. Or by Sidak's correction, if asked for.

        Parameters
        ----------
        kind, over
            "size", "mass" or "tfce"; and what nulls are over beside the map, see `numbaglm.results.vocabulary.OVER`,
            or "".
        judge
            Gives p of those of the values that are in a domain, against its null.
        """
        add = self.add if kind == "tfce" else self.add_clusters
        if len(nulls) == 1:
            self.h0[f"max_{kind}{over}"] = nulls[0]
            add(f"fwe_{kind}{over}", f"max_{kind}{over}", judge(nulls[0], slice(None)), level)
            return
        domain = self.domain if kind == "tfce" or self.clusters is None else self.clusters.domain
        counted, p, source = np.empty(domain.size), np.empty(domain.size), np.zeros(domain.size, np.uint8)
        refined = False
        for number, (name, null) in enumerate(zip(self.space.domains, nulls, strict=True)):
            which, title = domain == number, f"max_{kind}_{name}{over}"
            self.h0[title] = null
            found = judge(null, which)
            counted[which], p[which] = found.counted, found.p
            if found.source is not None:
                refined, source[which], self.fits[title] = True, found.source, found.fit
        tolerance = MAP_TOLERANCE["float64" if kind == "size" else self.spec.precision]
        least = self.h0[f"min_p_{kind}{over}"] = pvalues.least_over_domains(nulls, tolerance)
        if self.spec.conventions.over_domains == "sidak":  # of what it is made the intervals are those within domains
            corrected = pvalues.sidak(p, len(nulls))
            add(f"fwe_{kind}{over}", f"min_p_{kind}{over}", Corrected(corrected, corrected), None)
        else:
            corrected = pvalues.from_least(counted, least)
            add(f"fwe_{kind}{over}", f"min_p_{kind}{over}", Corrected(corrected, corrected), level)
        within = Corrected(p, counted, source if refined else None)
        add(f"fwe_{kind}_domain{over}", "", within, level)

    @cached_property
    def domain(self) -> NDArray[np.int64]:
        """(n_voxels,) number of the domain of each voxel."""
        return domain_of(self.space, np.arange(self.space.n))


def observed_p(spec: Spec, raw: RunResult, some: Any = slice(None)) -> NDArray[np.float64]:
    """Parametric p (n_voxels,) of what was observed, or of some voxels."""
    p = np.clip(spec.parametric_p(raw.z[some]), np.finfo(float).tiny, 1.0)
    return np.asarray(np.where(raw.degenerate[some], 1.0, p))


def _correct(
    cohort: Cohort,
    spec: Spec,
    raw: RunResult,
    level: float | None,
    calibration: Calibration | None,
    discoveries: bool = True,
) -> _Contrast:
    """Correct one contrast over the map."""
    hypothesis = spec.hypothesis
    maps: Arrays = {
        hypothesis.statistic_name: raw.statistic,
        "z": raw.z,
        "effect": raw.effect[0] if hypothesis.is_t and len(raw.effect) == 1 else raw.effect,
        **(_effect_sizes(hypothesis, raw) if hypothesis.family.prepare is None else _more(hypothesis.family, raw)),
    }
    if hypothesis.family.parametric:
        p = observed_p(spec, raw)
        maps |= {
            "p_parametric": p,
            "p_fdr_parametric": pvalues.FDR[spec.conventions.fdr](p),
            "p_bonferroni": pvalues.bonferroni(p),
        }
    if raw.tfce is not None:
        maps["tfce"] = raw.tfce
    space = cohort.store.space
    one = _Contrast(spec, space, maps, table=no_clusters(EVERY_TABLE if space.is_volume else ELSEWHERE))
    bounded = spec.family.parametric and (calibration is not None or spec.family.p_holds)
    if discoveries and spec.family.whole is None and bounded:  # pseudo-t has no p of its own
        _add_discoveries(one, calibration)
    if spec.shufflings.n_shufflings == 1:
        return one
    _add_voxels(one, raw, level)
    if raw.tfce is not None and raw.max_tfce is not None:
        one.nulls["tfce"] = _headed(raw.max_tfce, np.abs(raw.tfce), one.domain)
        one.correct("tfce", "", one.nulls["tfce"], _tfce(spec, raw), level)
        if raw.tfce_counts is not None:
            counted = pvalues.from_counts(raw.tfce_counts, spec.shufflings.n_shufflings)
            one.add("unc_tfce", "unc_tfce", Corrected(counted, counted), level)
            one.maps["p_fdr_tfce"] = pvalues.FDR[spec.conventions.fdr](counted)
    if raw.max_size is not None and raw.max_mass is not None:
        one.clusters = ObservedClusters.find(spec, one.space, raw)
        mass = _headed(raw.max_mass, one.clusters.mass, one.clusters.domain)
        one.nulls |= {"size": raw.max_size, "mass": mass}
        _add_clusters(one, level)
    return one


def _add_discoveries(one: _Contrast, calibration: Calibration | None) -> None:
    """Bound the true discoveries of all sets, and of all clusters at all thresholds."""
    spec, p = one.spec, one.maps["p_parametric"]
    one.bound = ari(p, ALPHA) if calibration is None else calibration.bound(p)
    tdp = best_tdp(one.bound, one.space, one.maps["z"], asdict(spec.conventions), spec.two_sided)
    if tdp is not None:
        one.maps["tdp"] = tdp


def _headed(
    nulls: NDArray[np.float64], observed: NDArray[np.float64], domain: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Nulls with the largest of what was observed at their head: kernels round large statistics to single precision."""
    largest = np.zeros(len(nulls))
    np.maximum.at(largest, domain, observed)
    return np.concatenate([largest[:, None], nulls[:, 1:]], axis=1)


def _own_scale(spec: Spec, raw: RunResult) -> Scale:
    """The scale of the scores, with the degrees of freedom of each voxel where they differ."""
    scale = spec.family.scale
    if isinstance(scale, Graded) and raw.more is not None:
        return replace(scale, dof=raw.more[spec.family.more.index("dof")])
    return scale


def _add_voxels(one: _Contrast, raw: RunResult, level: float | None) -> None:
    """Add p of the voxels, uncorrected and corrected."""
    spec, scale = one.spec, one.spec.hypothesis.scale
    one.h0[f"max_{scale.name}"] = scale.to_statistic(raw.max_score)
    if spec.conventions.statistic == "z":
        one.h0["max_z"] = scale.to_z(raw.max_score)
    counted = np.where(raw.degenerate, 1.0, pvalues.from_counts(raw.counts, spec.shufflings.n_shufflings))
    uncorrected = Corrected(counted, counted)
    if raw.refined is not None:
        from numbaglm.kernels.tails import REFINED, REJECTED  # where something is refined

        p, source = raw.refined
        note = {"n_refined": int((source == REFINED).sum()), "n_rejected": int((source == REJECTED).sum())}
        uncorrected = Corrected(np.where(source == REFINED, p, counted), counted, source, note)
        one.maps["p_unc_counted"] = counted
    one.add("unc", "unc", uncorrected, level)
    one.maps["p_fdr"] = pvalues.FDR[spec.conventions.fdr](uncorrected.p)
    # Ties are told apart by the score; tails are those of the statistic.
    height = spec.height(raw.score)
    tolerance = height - _own_scale(spec, raw).least_equal(height, spec.precision)
    counted = pvalues.from_maxima(height, raw.max_score, tolerance)
    null = one.h0[f"max_{scale.name}"]
    found = from_null(
        spec.tail, spec.shufflings, scale.to_statistic(height), null, 0.0, np.where(raw.degenerate, 1.0, counted)
    )
    one.add("fwe_voxel", f"max_{scale.name}", found, level)


def _add_clusters(one: _Contrast, level: float | None) -> None:
    """Add what is known of the clusters, as maps and as a table."""
    clusters = one.clusters
    assert clusters is not None
    one.table = clusters.table(one.maps[one.spec.hypothesis.statistic_name], one.maps["p_fwe_voxel"])
    numbers = one.maps["clusters"] = clusters.numbers()
    for kind in ("size", "mass"):
        one.maps[kind] = clusters.as_map(getattr(clusters, kind), 0.0)
        one.correct(kind, "", one.nulls[kind], partial(clusters.corrected, kind), level)
    if one.bound is not None:
        found = one.bound.of_labels(numbers)
        one.table = one.table.assign(tdp=np.array([found[number].tdp for number in one.table["cluster"]], float))
    if loadings := [name for name in one.maps if is_loading(name)]:
        peaks = clusters.peak[clusters.ranked]
        one.table = one.table.assign(**{name: one.maps[name][peaks] for name in loadings})


def _correct_jointly(
    corrected: Sequence[_Contrast], found: Sequence[RunResult], over: str, level: float | None
) -> None:
    """Add p corrected over several tests of the same shufflings: each null becomes the maximum over them.

    Voxels are compared as z, which statistics of different kinds share; extents, masses and TFCE where all maps have
    them in the same domains.

    Parameters
    ----------
    over
        What the tests differ in, see `numbaglm.results.vocabulary.OVER`.
    """
    alike = len({tuple(one.space.domains) for one in corrected}) == 1
    kinds = [kind for kind in ("size", "mass", "tfce") if alike and all(kind in one.nulls for one in corrected)]
    nulls = {kind: np.max([one.nulls[kind] for one in corrected], axis=0) for kind in kinds}
    scores = zip(corrected, found, strict=True)
    null_z = np.max([one.spec.hypothesis.scale.to_z(raw.max_score) for one, raw in scores], axis=0)
    for kind in ("", "_tfce"):
        if all(f"p_fdr{kind}" in one.maps for one in corrected):
            pooled = np.concatenate([one.maps[f"p_unc{kind}"] for one in corrected])
            adjusted = pvalues.FDR[corrected[0].spec.conventions.fdr](pooled)
            ends = np.cumsum([one.space.n for one in corrected])[:-1]
            for one, p in zip(corrected, np.split(adjusted, ends), strict=True):
                one.maps[f"p_fdr{kind}{over}"] = p
    for one, raw in zip(corrected, found, strict=True):
        spec = one.spec
        z = spec.height(one.maps["z"])
        tolerance = map_tolerance(spec, raw.score, _own_scale(spec, raw)) * np.maximum(1.0, np.abs(z))
        counted = np.where(raw.degenerate, 1.0, pvalues.from_maxima(z, null_z, tolerance))
        name = f"max_z{over}"
        one.add(f"fwe_voxel{over}", name, from_null(spec.tail, spec.shufflings, z, null_z, tolerance, counted), level)
        one.h0[name] = null_z
        for kind, null in nulls.items():
            if kind == "tfce":
                one.correct(kind, over, null, _tfce(spec, raw), level)
            elif one.clusters is not None:
                one.correct(kind, over, null, partial(one.clusters.corrected, kind), level)
        if one.clusters is not None:
            peaks = one.clusters.peak[one.clusters.ranked]
            one.table = one.table.assign(**{f"p_fwe_voxel{over}": one.maps[f"p_fwe_voxel{over}"][peaks]})


def _tfce(spec: Spec, raw: RunResult) -> Judge:
    assert raw.tfce is not None
    height = np.abs(raw.tfce)
    tolerance = height * map_tolerance(spec, raw.score, _own_scale(spec, raw))
    return lambda null, which: from_null(spec.tail, spec.shufflings, height[which], null, tolerance[which])


def _more(family: Family, raw: RunResult) -> Arrays:
    """Further maps of a family; that of reasons where there are any."""
    found = {} if raw.more is None else dict(zip(family.more, raw.more, strict=True))
    return {
        name: one.astype(np.int32) if MAPS[name].kind is int else one
        for name, one in found.items()
        if name != REASON or one.any()
    }


def _effect_sizes(hypothesis: Hypothesis, raw: RunResult) -> Arrays:
    """How large the effect is, of the data as they are."""
    dof, square = hypothesis.design.dof, raw.length**2
    unit = hypothesis.effect @ hypothesis.effect.T  # C (M' M)^+ C'
    scale = np.sqrt(np.diag(unit))[:, None]  # whatever the units of the columns
    gain = np.einsum("iv,ij,jv->v", raw.effect / scale, np.linalg.inv(unit / scale / scale.T), raw.effect / scale)
    share = np.minimum(np.divide(gain, square, out=np.zeros(gain.shape), where=square > 0), 1.0)
    if not hypothesis.is_t:
        return {"partial_r2": share}
    effect, sigma = raw.effect[0], effects.residual_sd(raw.length, share, dof)
    swing = effects.swing(hypothesis.design.matrix, hypothesis.contrast.matrix[0])
    maps = effects.effect_maps(effect, sigma, dof, float(unit[0, 0]), swing) | {"partial_r2": share}
    if hypothesis.family.pooled:
        return dict(maps)
    # The error of v, each group with its variance. Its degrees of freedom, which an interval needs, are not kept.
    error = np.divide(np.abs(effect), np.abs(raw.statistic), out=np.zeros(effect.shape), where=raw.statistic != 0)
    return {name: values for name, values in maps.items() if name not in ("effect_lower", "effect_upper")} | {
        "effect_se": error
    }
