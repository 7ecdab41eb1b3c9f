"""Sentences of a report: what was asked, of which data, what was found, and a methods paragraph with its sources.

A part of `numbaglm.results.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbaglm.arrays import Floats
from numbaglm.display.maps.projection import decimals
from numbaglm.engine.quality import Quality
from numbaglm.results import discoveries
from numbaglm.results.provenance import SHUFFLES, STOPPED, TAILS, Provenance
from numbaglm.results.record import Record
from numbaglm.results.reporting import elsewhere
from numbaglm.results.reporting.tables import cluster_text, cubic, number, short, times
from numbaglm.results.vocabulary import DOMAINS, NULLS, OVER, label_of_null, map_of
from numbaglm.spaces.cifti import Structures
from numbaglm.spaces.surface import Surface
from numbaglm.stats import pvalues
from numbaglm.stats.conventions import CONVENTIONS
from numbaglm.stats.methods import METHODS
from numbaglm.stats.quality import MISSING_LIMIT, Z_LIMIT
from numbaglm.stats.variance.components import RESAMPLINGS
from numbaglm.stats.variance.covariance import ADJUSTMENTS, BETWEEN, EFFECTS, TESTS, Binned

Facts = list[tuple[str, str]]

_MOST_NAMED = 20

_METHODS_IN_TEXT = {"freedman-lane": "freedman"}
_SOURCES = {
    "winkler": "Winkler, A. M., Ridgway, G. R., Webster, M. A., Smith, S. M., & Nichols, T. E. (2014). Permutation "
    "inference for the general linear model. NeuroImage, 92, 381\u2013397. "
    "https://doi.org/10.1016/j.neuroimage.2014.01.060",
    "freedman": "Freedman, D., & Lane, D. (1983). A nonstochastic interpretation of reported significance levels. "
    "Journal of Business & Economic Statistics, 1(4), 292\u2013298. https://doi.org/10.1080/07350015.1983.10509354",
    "nichols": "Nichols, T. E., & Holmes, A. P. (2002). Nonparametric permutation tests for functional neuroimaging: "
    "A primer with examples. Human Brain Mapping, 15(1), 1\u201325. https://doi.org/10.1002/hbm.1058",
    "smith": "Smith, S. M., & Nichols, T. E. (2009). Threshold-free cluster enhancement: Addressing problems of "
    "smoothing, threshold dependence and localisation in cluster inference. NeuroImage, 44(1), 83\u201398. "
    "https://doi.org/10.1016/j.neuroimage.2008.03.061",
    "npc": "Winkler, A. M., Webster, M. A., Brooks, J. C., Tracey, I., Smith, S. M., & Nichols, T. E. (2016). "
    "Non-parametric combination and related permutation tests for neuroimaging. Human Brain Mapping, 37(4), "
    "1486\u20131511. https://doi.org/10.1002/hbm.23115",
    "phipson": "Phipson, B., & Smyth, G. K. (2010). Permutation p-values should never be zero: Calculating exact "
    "p-values when permutations are randomly drawn. Statistical Applications in Genetics and Molecular Biology, "
    "9(1), 39. https://doi.org/10.2202/1544-6115.1585",
    "blocks": "Winkler, A. M., Webster, M. A., Vidaurre, D., Nichols, T. E., & Smith, S. M. (2015). Multi-level block "
    "permutation. NeuroImage, 123, 253\u2013268. https://doi.org/10.1016/j.neuroimage.2015.05.092",
    "fischer": "Fischer, L., & Ramdas, A. (2024). Sequential Monte-Carlo testing by betting. arXiv:2401.07365.",
    "guillaume": "Guillaume, B., Hua, X., Thompson, P. M., Waldorp, L., & Nichols, T. E. (2014). Fast and accurate "
    "modelling of longitudinal and repeated measures neuroimaging data. NeuroImage, 94, 287\u2013302. "
    "https://doi.org/10.1016/j.neuroimage.2014.03.029",
    "bell": "Bell, R. M., & McCaffrey, D. F. (2002). Bias reduction in standard errors for linear regression with "
    "multi-stage samples. Survey Methodology, 28(2), 169\u2013181.",
    "pustejovsky": "Pustejovsky, J. E., & Tipton, E. (2018). Small-sample methods for cluster-robust variance "
    "estimation and hypothesis testing in fixed effects models. Journal of Business & Economic Statistics, 36(4), "
    "672\u2013683. https://doi.org/10.1080/07350015.2016.1247004",
    "haseman": "Haseman, J. K., & Elston, R. C. (1972). The investigation of linkage between a quantitative trait and "
    "a marker locus. Behavior Genetics, 2(1), 3\u201319. https://doi.org/10.1007/BF01066731",
    "parekh": "Parekh, P., Fan, C. C., Frei, O., Palmer, C. E., Smith, D. M., Makowski, C., ... Dale, A. M. (2024). "
    "FEMA: Fast and efficient mixed-effects algorithm for large sample whole-brain imaging data. Human Brain Mapping, "
    "45(2), e26579. https://doi.org/10.1002/hbm.26579",
    "cameron": "Cameron, A. C., Gelbach, J. B., & Miller, D. L. (2008). Bootstrap-based improvements for inference "
    "with clustered errors. The Review of Economics and Statistics, 90(3), 414\u2013427. "
    "https://doi.org/10.1162/rest.90.3.414",
    "iglewicz": "Iglewicz, B., & Hoaglin, D. C. (1993). How to detect and handle outliers. ASQC Quality Press.",
    "knapp": "Knapp, G., & Hartung, J. (2003). Improved tests for a random effects meta-regression with a single "
    "covariate. Statistics in Medicine, 22(17), 2693\u20132710. https://doi.org/10.1002/sim.1482",
    "mcintosh": "McIntosh, A. R., & Lobaugh, N. J. (2004). Partial least squares analysis of neuroimaging data: "
    "applications and advances. NeuroImage, 23, S250\u2013S263. https://doi.org/10.1016/j.neuroimage.2004.07.020",
    "tails": "Winkler, A. M., Ridgway, G. R., Douaud, G., Nichols, T. E., & Smith, S. M. (2016). Faster permutation "
    "inference in brain imaging. NeuroImage, 141, 502\u2013516. https://doi.org/10.1016/j.neuroimage.2016.05.068",
}


def display_threshold(result: Record) -> tuple[float, str]:
    """Threshold at which the statistic is shown, and where it comes from."""
    asked = result.asked
    given = asked.cluster_forming_statistic
    if given is not None and formed_clusters(result) and not result.asked.compares_z:  # these form clusters of z
        return float(given), "the cluster-forming threshold"
    values: Floats = result.maps[result.drawn]
    if not result.asked.compares_z:
        threshold = pvalues.statistic_threshold("p", 0.001, asked.dof, asked.n_rows, asked.two_sided)
        return threshold, "uncorrected p < 0.001"
    size = np.abs(values) if asked.two_sided else np.maximum(values, 0.0)
    p = result.maps.get("p_parametric", result.maps.get("p_unc"))
    below = size[:0] if p is None else size[p < 0.001]  # degrees of freedom differ between voxels
    if below.size:
        return float(below.min()), "uncorrected p < 0.001"
    return float(size.max()), "the largest, as no uncorrected p is below 0.001"


def are_modalities(results: Sequence[Record]) -> bool:
    """Whether results are of several modalities that were not combined."""
    return len({result.asked.modalities for result in results}) > 1


def names_of(results: Sequence[Record]) -> list[str]:
    """What tells results apart: contrasts, modalities, or both."""
    names = [result.asked.contrast for result in results]
    if not are_modalities(results):
        return names
    several = len(set(names)) > 1
    return [
        f"{one.asked.modalities[0]}{f' {name}' if several else ''}" for one, name in zip(results, names, strict=True)
    ]


def counted(results: Sequence[Record]) -> str:
    """How many results there are, by what they are of."""
    return f"{len(results)} {'results' if are_modalities(results) else 'contrasts'}"


def summarise(result: Record) -> dict[str, Any]:
    """Return what was found, as JSON types."""
    asked = result.asked
    n_reached = {
        name.removeprefix("p_fwe_"): int(np.sum(p <= result.alpha))
        for name, p in result.maps.items()
        if name in ("p_fwe_voxel", "p_fwe_tfce")
    }
    for kind in ("size", "mass"):
        if f"p_fwe_{kind}" in result.maps:
            n_reached[f"clusters_by_{kind}"] = int(np.sum(result.clusters[f"p_fwe_{kind}"] <= result.alpha))
    values = result.maps[result.drawn]
    critical, top = np.inf, np.max(np.abs(values) if asked.two_sided else values)
    if result.h0:
        critical, top = result.critical(result.max_statistic, result.alpha), result.h0[result.max_statistic][0]
    return {
        "contrast": asked.contrast,
        "n_subjects": asked.n_subjects,
        "n_voxels": asked.n_voxels,
        "n_shufflings": asked.n_shufflings,
        "exhaustive": asked.exhaustive,
        "shuffling": asked.shuffling,
        **({} if asked.own_shufflings is None else {"own_shufflings": asked.own_shufflings}),
        "statistic": asked.statistic,
        "dof": asked.dof,
        **({} if asked.weighted_by is None else {"weights": _weights(asked)}),
        "two_sided": asked.two_sided,
        "cluster_forming_statistic": asked.cluster_forming_statistic,
        "seed": asked.seed,
        "observed_maximum": float(top),
        "critical_statistic": critical if np.isfinite(critical) else None,
        f"n_fwe_{result.alpha:g}": n_reached,
        **(
            {f"n_voxels_fwe_across_contrasts_{result.alpha:g}": _n_across_contrasts(result)}
            if result.over_contrasts
            else {}
        ),
        "clusters": result.clusters.to_dict("records"),
        "cohort_fingerprint": asked.cohort_fingerprint,
        "left_out": list(asked.left_out),
    }


def _n_across_contrasts(result: Record) -> dict[str, int]:
    """How many voxels reach a p that is corrected over contrasts as well, by what it is of."""
    ends = "p_fwe_", "_contrasts"
    return {
        name.removeprefix(ends[0]).removesuffix(ends[1]): int(np.sum(p <= result.alpha))
        for name, p in result.maps.items()
        if name.startswith(ends[0]) and name.endswith(ends[1])
    }


def describe(result: Record, n_clusters: int = 10) -> str:
    """Return the summary as text, and the first rows of the cluster table."""
    text = result.summary()
    if formed_clusters(result):
        if result.space.is_volume:
            digits = decimals(result.geometry.voxel_sizes)
            table = cluster_text(result.clusters, result.statistic, n_clusters, digits)
        else:
            table = elsewhere.cluster_text(result.clusters, result.statistic, result.space.nouns, n_clusters)
        return f"{text}\n\n{table}"
    return text


def in_words(result: Record) -> list[str]:
    """Say in a few sentences what was found."""
    maps, noun = result.maps, result.space.noun
    name, label = result.drawn, map_of(result.drawn).label
    top = int(np.argmax(result.height))
    place = place_in_words(result, top)
    sentences = [f"{symbol(result)} is largest at {place}, where {label} is {number(maps[name][top])}."]
    if not result.h0:
        return [*sentences, "No shufflings were made: the maps are parametric."]
    if formed_clusters(result) and result.clusters.empty:
        sentences.append(f"No {noun} reaches the cluster-forming threshold.")
    sentences += _on_significance(result)
    sentences += discoveries.in_words(result)
    sentences.append(
        f"Significant means a p of {result.alpha:g} or less, corrected for family-wise error over the map."
    )
    sentences += [
        f"Corrected over all {what} too: {', '.join(result.found_over(over, result.alpha))}."
        for over, what in OVER.items()
        if f"p_fwe_voxel{over}" in result.maps
    ]
    return sentences


def _on_significance(result: Record) -> list[str]:
    """Count what is significant, by what; where nothing is, once for all."""
    noun, n_clusters = result.space.noun, len(result.clusters)
    by_element = {"the maximum statistic": int(np.sum(result.maps["p_fwe_voxel"] <= result.alpha))}
    if "p_fwe_tfce" in result.maps:
        by_element["threshold-free cluster enhancement"] = int(np.sum(result.maps["p_fwe_tfce"] <= result.alpha))
    by_cluster = {}
    if n_clusters:
        names = {"extent": "p_fwe_size", "mass": "p_fwe_mass"}
        by_cluster = {what: int(np.sum(result.clusters[name] <= result.alpha)) for what, name in names.items()}
    if not any((*by_element.values(), *by_cluster.values())):
        these = f", none of {n_clusters:,} {'cluster' if n_clusters == 1 else 'clusters'} by "
        of_clusters = f"{these}{' or '.join(by_cluster)}" if by_cluster else ""
        return [f"Nothing is significant: no {noun} by {' or '.join(by_element)}{of_clusters}."]
    sentences = [_on_elements(result)]
    for what, n in by_cluster.items():
        sentences.append(f"By cluster {what} {_are(n, 'cluster', 'clusters', n_clusters)} significant.")
    for what, n in list(by_element.items())[1:]:
        sentences.append(f"By {what} {_are(n, noun, result.space.nouns)} significant.")
    return sentences


def place_in_words(result: Record, element: int) -> str:
    """Say where an element lies: in mm, by its name, or both."""
    space, which = result.space, np.array([element])
    mm, name = space.coordinates(which)[0], space.places(which)[0]
    where = ""
    if np.isfinite(mm).all():
        digits = decimals(space.volume.voxel_sizes) if space.is_volume else 0
        where = f"({', '.join(number(round(one, digits) + 0.0, digits) for one in mm)}) mm"
    return ", ".join(filter(None, (name, where)))


def formed_clusters(result: Record) -> bool:
    """Whether clusters were formed."""
    return bool({"max_size", "min_p_size"} & set(result.h0))


def what_was_asked(result: Record) -> Facts:
    """List the test and how it was made."""
    asked = result.asked
    facts = [("Test", f"{_test(result)}, {asked.freedom}")]
    if asked.modalities and asked.combine is None:
        facts.append(("Modality", f"{asked.modalities[0]}, one of several that were tested together"))
    if asked.regressors:
        facts.append(("Own to each voxel", ", ".join(f"{name} ({one})" for name, one in asked.regressors.items())))
    if (sizes := asked.variance_groups) is not None:
        facts.append(("Variances", f"one for each of {len(sizes)} groups, of {', '.join(map(str, sizes))} subjects"))
    if asked.missing == "element":
        facts.append(("Missing data", f"each {result.space.noun} with the subjects that it has: {coverage(result)}"))
    if asked.weighted_by is not None:
        facts.append(("Weights", _weights(asked)))
    if asked.sandwich is not None:
        facts.append(("Covariance", _sandwich(asked)))
    if asked.gls is not None:
        facts.append(("Covariance", _gls(asked.gls, asked)))
        facts.append(("Shares of the variance", _shares(result, asked.gls)))
    if result.h0:
        kind = "all distinct ones" if asked.exhaustive else f"the data as they are, and {asked.n_random:,} random"
        how = f"{kind}), seed {asked.seed}"
        if asked.own_shufflings is not None:
            how = f"of the user's own{', all distinct ones' * asked.exhaustive})"
        facts.append(("Shufflings", f"{asked.n_shufflings:,} ({how}"))
        facts.append(("Why these", str(asked.shuffling)))
        facts.append(("Nuisance", METHODS[asked.method].reference if asked.has_nuisance else "none"))
    if formed_clusters(result):
        facts.append(("Cluster-forming threshold", _cluster_threshold(result)))
    if "tfce" in result.maps:
        facts.append(("TFCE", _tfce(result)))
    if asked.variance_smoothing_fwhm is not None:
        facts.append(("Pseudo-t", f"variances smoothed by {asked.variance_smoothing_fwhm:g} mm FWHM"))
    if asked.tail != "counts":
        facts.append(("Small p", f"refined by a {TAILS[asked.tail]} fit to the tail of their null"))
    if asked.p_interval:
        facts.append(("Intervals of p", f"{asked.p_interval:.0%}, of counted p"))
    if (ended := result.provenance.get(STOPPED)) is not None:
        how = "interrupted " if ended.get("interrupted") else ""
        facts.append(("Stopping", f"{how}after {ended['n_random']:,} of up to {ended['n_perm']:,} random shufflings"))
    return [*facts, ("Conventions", _conventions(asked.conventions))]


def coverage(result: Record) -> str:
    """How many subjects voxels or the like have."""
    n, whole = result.maps["n_subjects"], result.asked.n_subjects
    text = f"{int(np.sum(n == whole)):,} of {n.size:,} have all {whole}"
    return text if (n == whole).all() else f"{text}, the others {n.min()} to {n[n < whole].max()}"


def about_data(result: Record) -> Facts:
    """List what was analysed."""
    asked, fwhm = result.asked, result.asked.smoothing_fwhm
    if not result.space.is_volume:
        return _about_elements(result)
    geometry = result.geometry
    mm3 = geometry.n_voxels * geometry.voxel_volume
    return [
        ("Subjects", f"{asked.n_subjects:,}") if not asked.in_clusters else ("Maps", asked.data),
        ("Voxels", f"{geometry.n_voxels:,} of {geometry.mask.size:,} on a grid of {times(geometry.shape)}"),
        ("Voxel size", f"{times(geometry.voxel_sizes)} mm"),
        ("Volume", f"{number(mm3 / 1000, 0)} cm\u00b3" if mm3 >= 10_000 else f"{cubic(mm3)} mm\u00b3"),
        ("Smoothing", "none by numbaglm" if fwhm is None else f"Gaussian, {fwhm:g} mm FWHM"),
    ]


def _about_elements(result: Record) -> Facts:
    """List what was analysed, where it is no volume: what the files list, and what of it."""
    space, fwhm = result.space, result.asked.smoothing_fwhm
    listed = "" if space.template is None else f" of {space.template.n:,}"
    facts = [
        ("Subjects", f"{result.asked.n_subjects:,}"),
        (space.nouns.capitalize(), f"{space.n:,}{listed} on {space.label}"),
    ]
    for part in space.parts:
        if isinstance(part, Surface):
            area = f", {number(float(part.measure.sum()) / 100, 0)} cm\u00b2" if part.unit else ", without a mesh"
            name = f"{part.name} surface".strip().capitalize()
            facts.append((name, f"{part.n:,} of {part.n_vertices:,} vertices{area}"))
        elif isinstance(part, Structures):
            sizes = times(part.volume.voxel_sizes)
            facts.append(("Voxels", f"{part.n:,} of {sizes} mm, in {', '.join(part.names)}"))
    return [*facts, ("Smoothing", "none by numbaglm" if fwhm is None else f"Gaussian, {fwhm:g} mm FWHM, of voxels")]


def on_quality(found: Quality) -> list[str]:
    """Say which maps stand out, and what that means."""
    odd = found.table[found.table["outlier"]]
    named = [f"{label} ({reason})" for label, reason in odd["reason"].head(_MOST_NAMED).items()]
    more = f" and {len(odd) - _MOST_NAMED} more" if len(odd) > _MOST_NAMED else ""
    count = f"{len(odd)} of {len(found.table):,} maps stand{'s' if len(odd) == 1 else ''} out"
    return [
        f"{count}: {', '.join(named)}{more}. All of them are in this analysis."
        if named
        else f"None of {len(found.table):,} maps stands out.",
        f"A map stands out when its mean, its sd or its correlation with the median of all maps lies more than "
        f"{Z_LIMIT:g} robust standard deviations from the median over subjects, when it lacks more than "
        f"{MISSING_LIMIT:.0%} of the voxels, or when another map holds the same data. In a clean cohort of 30 about "
        "one map in 250 does, by each of the first three: look at such a map before you leave it out.",
    ]


def origins(result: Record) -> Facts:
    """List what makes the result again."""
    asked = result.asked
    versions = [(name, version) for name, version in asked.versions.items()]
    return [
        ("seed", str(asked.seed)),
        ("precision", asked.precision),
        ("cohort fingerprint", asked.cohort_fingerprint),
        *versions,
    ]


def null_in_words(name: str) -> str:
    """What a tail is that of: a null of a maximum, or each element's own."""
    return label_of_null(name) if name in NULLS else map_of(f"p_{name}").label


def fit_in_words(fit: Mapping[str, Any], nouns: str = "voxels") -> Facts:
    """List what became of a fit to a tail, or of many."""
    if fit.get("n_exceedances") == 0:
        return [("passed the test of goodness", "no: p stay counted")]
    told = {
        "passed": "passed the test of goodness",
        "n_exceedances": "exceedances",
        "n_refined": f"{nouns} refined",
        "n_rejected": f"{nouns} whose fit did not pass",
        "threshold": "threshold",
        "shape": "shape",
        "distance": "distance of the fit from the tail",
        "critical": "its critical value",
    }
    return [(told.get(name, name), _fact(value)) for name, value in fit.items() if value is not None]


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def methods_paragraph(result: Record, found: Quality | None = None) -> tuple[str, list[str]]:
    """Write the paragraph for a paper, and the sources that it cites, in the order of their authors.

    Parameters
    ----------
    result
        What to describe.
    found
        Quality of its maps, if they were looked at.
    """
    asked = result.asked
    columns = asked.terms
    regressors = "one regressor" if len(columns) == 1 else f"{len(columns)} regressors"
    cited: set[str] = set()
    test = _test(result)
    smoothing = (
        "" if asked.smoothing_fwhm is None else f", smoothed with a Gaussian of {asked.smoothing_fwhm:g} mm FWHM"
    )
    sentences = [
        f"Group-level inference was made with numbaglm {asked.versions['numbaglm']} on "
        f"{'the maps of ' * asked.data.endswith('subjects')}{asked.data} ({_elements(result)}{smoothing}).",
        *_on_outliers(found, cited),
        f"A general linear model with {regressors} ({', '.join(columns)}) was fitted at each {result.space.noun}, and "
        "the contrast "
        f"\u201c{asked.contrast}\u201d was tested with {_article(test)} ({asked.freedom}).",
    ]
    if asked.combine is not None:
        cited.add("npc")
        together = "The maps of a subject were shuffled together, and in" if len(asked.modalities) > 1 else "In"
        sentences.append(
            f"{together} each shuffling {_joined_tests(asked)} became one (Winkler et al., 2016){_combined(asked)}."
        )
    if result.statistic == "pls":
        cited.add("mcintosh")
        sentences.append(_on_pls(asked))
    if asked.regressors:
        one = len(asked.regressors) == 1
        sentences.append(
            f"{' and '.join(asked.regressors)} {'was a regressor' if one else 'were regressors'} of each voxel's own, "
            "and the model was fitted anew at each voxel to each shuffling."
        )
    if asked.variance_smoothing_fwhm is not None:
        cited.add("nichols")
        sentences.append(
            f"Residual variances were smoothed with a Gaussian of {asked.variance_smoothing_fwhm:g} mm FWHM, which "
            "makes t a pseudo-t (Nichols & Holmes, 2002)."
        )
    if result.asked.variance_groups is not None:
        sentences.append(
            "Each variance group had a variance of its own, and statistics were compared as z of the same p, as their "
            f"degrees of freedom differ between {result.space.nouns} (Winkler et al., 2014)."
        )
        cited.add("winkler")
    if asked.missing == "element":
        sentences.append(
            f"Each {result.space.noun} was tested with the subjects that have a value there ({coverage(result)}), "
            "whose data and presence were shuffled together; statistics were compared as z of the same p, as their "
            f"degrees of freedom differ between {result.space.nouns}."
        )
    sentences += _on_weights(result, cited)
    sentences += _on_sandwich(result, cited)
    sentences += _on_gls(result, cited)
    if result.h0:
        sentences += [*_on_shuffling(result, cited), *_on_correction(result, cited)]
    else:
        sentences.append("p-values are parametric.")
    references = [_SOURCES[name] for name in cited if name in _SOURCES]
    if result.h0 and asked.has_nuisance and asked.method not in _METHODS_IN_TEXT:
        references.append(METHODS[asked.method].reference)
    return " ".join(sentences), sorted(references)


_SIDES = {
    "one": "one-sided p",
    "both": "two-sided p, whatever the signs",
    "concordant": "p of both sides, where all maps have one sign",
}


def _joined_tests(asked: Provenance) -> str:
    """Say of what one test was made."""
    if asked.combine_contrasts is None:
        return "their tests"
    contrasts = f"the tests of {len(asked.combine_contrasts)} contrasts"
    return contrasts if len(asked.modalities) < 2 else f"{contrasts} of each"


def _on_pls(asked: Provenance) -> str:
    """Say what partial least squares are made of."""
    if asked.conventions["pls_scores"]:
        what = "the correlation of the first pair of scores, of covariances"
    else:
        number = (asked.combine or "")[3:]
        which = "largest" if number in ("", "1") else f"{_ordinal(int(number))} largest"
        what = f"the {which} singular value of the correlations"
    return (
        f"The statistic is {what} of {'what is tested of ' * (asked.modality_contrast is not None)}the maps with the "
        "regressors of interest, both without the nuisance (partial least squares; McIntosh & Lobaugh, 2004)."
    )


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _sums(asked: Provenance) -> str:
    """Contrasts of the maps of a subject, as they are read."""
    assert asked.modality_contrast is not None
    return "; ".join(_expression(row, asked.modalities) for row in asked.modality_contrast)


def _expression(weights: Floats, names: Sequence[str]) -> str:
    """A sum of names, the plain ones without a weight: "after - before"."""
    text = ""
    for weight, name in sorted(zip(weights, names, strict=True), key=lambda one: one[0] < 0):
        if weight:
            sign = f" {'-' if weight < 0 else '+'} " if text else "-" if weight < 0 else ""
            text += f"{sign}{'' if abs(weight) == 1 else f'{abs(weight):g} * '}{name}"
    return text


def _combined(asked: Provenance) -> str:
    """Say of what a combination of p was made, where it was asked of t, and how modalities counted."""
    of = [f"of {_SIDES[asked.sides]}"] if asked.sides is not None and asked.n_rows is None else []
    if asked.combine_weights is not None:
        of.append(f"with weights {', '.join(f'{one:g}' for one in asked.combine_weights)}")
    return f", {', '.join(of)}" if of else ""


def _weights(asked: Provenance) -> str:
    """Say how values were weighted."""
    if asked.between is None or asked.test is None:
        return "given ones of the subjects"
    shared = "fixed effects" if asked.between == 0 else f"variance between subjects by {_estimator(asked.between)}"
    return f"inverse of the {asked.weighted_by}; {shared}; {TESTS[asked.test]}"


def _estimator(between: str | int) -> str:
    return BETWEEN[str(between)]


def _on_weights(result: Record, cited: set[str]) -> list[str]:
    asked = result.asked
    if asked.weighted_by is None:
        return []
    if asked.between is None or asked.test is None:
        return ["Subjects had given weights, and the model was fitted by weighted least squares."]
    sentence = "Values were weighted by the inverse of their variances "
    if asked.between == 0:
        sentence += "(fixed effects)"
    else:
        estimator = f"estimated at each {result.space.noun} by {_estimator(asked.between)}"
        sentence += f"and a variance between subjects, {estimator} (random effects)"
    sentence += f", and effects held against {TESTS[asked.test]}"
    if asked.test in ("knapp-hartung", "ad-hoc"):
        cited.add("knapp")
        sentence = sentence.replace("Knapp and Hartung", "Knapp & Hartung (2003)")
    sentences = [f"{sentence}."]
    if asked.between != 0 and result.h0:
        sentences.append(
            "Shuffled statistics, and the one that they were compared with, took the variance between subjects of the "
            "model without what was tested."
        )
    return sentences


def _elements(result: Record) -> str:
    """How many elements there are, and what they are."""
    space = result.space
    if space.is_volume:
        return f"{space.n:,} voxels of {times(result.geometry.voxel_sizes)} mm"
    return f"{space.n:,} {space.nouns} of {space.label}"


def _sandwich(asked: Provenance) -> str:
    """Say which sandwich variance."""
    assert asked.sandwich is not None
    dof = {"satterthwaite": "degrees of freedom of Satterthwaite", "naive": "naive degrees of freedom"}
    clusters = "of independent maps" if asked.n_blocks is None else f"of {asked.n_blocks:,} clusters"
    kind = asked.sandwich
    shared = f", {_shared_visits(asked)}" if kind.estimator == "modified" else ""
    return f"sandwich {clusters}{shared}, {kind.adjustment}: {ADJUSTMENTS[kind.adjustment]}; {dof[kind.dof]}"


def _shared_visits(asked: Provenance) -> str:
    """Say which clusters share covariances of visits."""
    groups = "all clusters" if asked.n_groups in (None, 1) else f"the clusters of each of {asked.n_groups} groups"
    return f"covariances of {asked.n_visits} visits shared by {groups}"


def _on_sandwich(result: Record, cited: set[str]) -> list[str]:
    asked = result.asked
    if asked.sandwich is None:
        return []
    cited.add("guillaume")
    units = "maps" if asked.n_blocks is None else "maps of a cluster (a block of maps that may depend on each other)"
    vary = "leaves open how they vary"
    if asked.sandwich.estimator == "modified":
        vary = f"has {_shared_visits(asked)}, whatever they are"
    sentences = [
        f"Its variance was that of a sandwich estimator, which supposes that {units} are independent of all others and "
        f"{vary} (Guillaume et al., 2014), corrected by {asked.sandwich.adjustment} "
        f"({ADJUSTMENTS[asked.sandwich.adjustment]})."
    ]
    if asked.sandwich.dof == "satterthwaite":
        cited.update({"bell", "pustejovsky"})
        sentences.append(
            "Degrees of freedom were those of Satterthwaite for this estimator (Bell & McCaffrey, 2002; Pustejovsky & "
            "Tipton, 2018)."
        )
    if asked.n_blocks is not None and result.h0:
        cited.add("cameron")
        sentences.append(
            "Residuals of the model without what was tested changed sign by whole clusters, a wild bootstrap (Cameron "
            "et al., 2008)."
        )
    return sentences


def _gls(kind: Binned, asked: Provenance) -> str:
    """Say which mixed model."""
    blocks = f"{asked.n_blocks:,} clusters" if asked.n_blocks is not None else "clusters"
    return f"generalised least squares in {blocks}: {', '.join(kind.effects)}, in {kind.bins} bins along each share"


def _shares(result: Record, kind: Binned) -> str:
    """Say how large shares of the variance are at most elements."""
    tested = np.sum([result.maps[f"share_{name}"] for name in kind.effects], axis=0) > 0
    medians = [f"{name} {number(float(np.median(result.maps[f'share_{name}'][tested])), 2)}" for name in kind.effects]
    return f"median over {result.space.nouns}: {', '.join(medians)}" if tested.any() else "none"


def _on_gls(result: Record, cited: set[str]) -> list[str]:
    kind = result.asked.gls
    if kind is None:
        return []
    cited.update({"haseman", "parekh"})
    parts = [f"{EFFECTS[name]} ({name})" for name in kind.effects]
    sentences = [
        f"Variances were taken for sums of {', '.join(parts[:-1])} and {parts[-1]}. Their shares were estimated at "
        f"each {result.space.noun} by moments, from products of residuals of the model without what was tested "
        f"(Haseman & Elston, 1972), as non-negative numbers; {result.space.nouns} of like shares, in {kind.bins} bins "
        "along each, were fitted by generalised least squares with the covariance of the middle of their bin (after "
        "Parekh et al., 2024)."
    ]
    if kind.interval is not None:
        sentences.append(
            f"Intervals of shares ({kind.interval:.0%}) are percentiles over {RESAMPLINGS:,} samples of clusters, "
            "drawn with repetition."
        )
    if result.h0:
        sentences.append(
            "Whitened residuals of the model without what was tested changed sign by whole clusters, which leaves the "
            "shares as they are."
        )
    return sentences


def _on_outliers(found: Quality | None, cited: set[str]) -> list[str]:
    if found is None:
        return []
    cited.add("iglewicz")
    n = int(found.table["outlier"].sum())
    kept = "none stood out" if n == 0 else f"{n} stood out and {'was' if n == 1 else 'were'} kept in the analysis"
    return [
        "Maps were screened for outliers by their mean, standard deviation and spatial correlation with the median map "
        f"(robust z beyond {Z_LIMIT:g}; Iglewicz & Hoaglin, 1993), for missing voxels (more than {MISSING_LIMIT:.0%}) "
        f"and for duplicates: {kept}."
    ]


def _on_shuffling(result: Record, cited: set[str]) -> list[str]:
    asked = result.asked
    shuffles = SHUFFLES[asked.errors]
    cited.add("winkler")
    n = f"all {asked.n_shufflings:,} distinct" if asked.exhaustive else f"{asked.n_random:,} random"
    if asked.own_shufflings is not None:
        n = f"{asked.n_shufflings:,}"
        shuffles += f", shufflings of the user's own{' (all distinct ones)' * asked.exhaustive}"
    text = f"Its significance was assessed by {n} {shuffles} (Winkler et al., 2014)"
    if asked.in_blocks and not asked.in_clusters:
        cited.add("blocks")
        text += ", restricted to exchangeability blocks (Winkler et al., 2015)"
    if asked.has_nuisance:
        if asked.method in _METHODS_IN_TEXT:
            cited.add(_METHODS_IN_TEXT[asked.method])
        text += f", with the method of {_method_source(asked.method)} for nuisance regressors"
    sentences = [f"{text}."]
    if not asked.exhaustive:
        cited.add("phipson")
        sentences.append(
            "The unshuffled data count among the shufflings, so that no p-value is zero (Phipson & Smyth, 2010)."
        )
    return sentences


def _on_correction(result: Record, cited: set[str]) -> list[str]:
    asked, conventions = result.asked, result.asked.conventions
    cited.add("nichols")
    sentences = [
        "p-values were corrected for family-wise error over the map by the null distribution of the maximum statistic "
        "(Nichols & Holmes, 2002)."
    ]
    if formed_clusters(result):
        sentences.append(
            f"Clusters ({_touching(result, conventions['cluster_connectivity'])}) were formed at "
            f"{_cluster_threshold(result)}, and their extent and mass were corrected by the null distributions of the "
            "maximum extent and mass."
        )
    if {"max_tfce", "min_p_tfce"} & set(result.h0):
        cited.add("smith")
        sentences.append(
            f"Threshold-free cluster enhancement (Smith & Nichols, 2009; {_tfce(result)}) was corrected in the "
            "same way."
        )
    if any(name.startswith("min_p_") for name in result.h0):
        by_rule = conventions.get("over_domains") == "sidak"  # which 0.1 did not have
        how = "Sidak's correction" if by_rule else "the null distribution of the least p"
        sentences.append(
            "What is compared by extent, mass or enhancement was compared within "
            f"{' and '.join(DOMAINS[name] for name in result.space.domains)} apart, and corrected over them by "
            f"{how}."
        )
    sentences += [
        f"p-values were also corrected over {what}, by the maximum over them."
        for over, what in OVER.items()
        if f"p_fwe_voxel{over}" in result.maps
    ]
    if asked.tail != "counts":
        cited.add("tails")
        sentences.append(
            f"Small p-values were refined by fitting a {TAILS[asked.tail]} distribution to the null (Winkler et "
            "al., 2016)."
        )
    if (ended := result.provenance.get(STOPPED)) is not None:
        cited.add("fischer")
        when = "was interrupted before all" if ended.get("interrupted") else "stopped once"
        sentences.append(
            f"Shuffling, of up to {ended['n_perm']:,} times, {when} p-values were decided against "
            f"{ended['alpha']:g}; corrected p-values are anytime-valid (Fischer & Ramdas, 2024)."
        )
    return [*sentences, f"Results with a corrected p of {result.alpha:g} or less are called significant."]


def _method_source(name: str) -> str:
    """Authors and year as a sentence cites them."""
    authors, _, rest = METHODS[name].reference.partition(" (")
    return f"{authors} ({rest.partition(')')[0]})"


def _test(result: Record) -> str:
    label = map_of(result.statistic).label
    name = {"v": "Aspin-Welch v", "g": "G"}.get(result.statistic, label)
    if result.asked.variance_smoothing_fwhm is not None:
        name = "pseudo-t"
    if result.asked.combine is not None:
        parts = []
        if result.asked.combine_contrasts is not None:
            parts.append(f"{len(result.asked.combine_contrasts)} contrasts")
        if len(result.asked.modalities) > 1:
            names = ", ".join(result.asked.modalities)
            sums = "" if result.asked.modality_contrast is None else f": {_sums(result.asked)}"
            parts.append(f"{len(result.asked.modalities)} maps a subject ({names}{sums})")
        return f"{name} test of {' of '.join(parts)}"
    if result.asked.weighted_by is not None:
        name = f"weighted {name}"
    if result.statistic in ("f", "g", "r2"):
        return f"{name} test"
    return f"{'two' if result.provenance['two_sided'] else 'one'}-sided {name} test"


def _on_elements(result: Record) -> str:
    """Count the significant voxels, vertices or the like, and say how high they are.

    The least of them is told: a critical value is one of the null's own, and can lie far above it where shufflings
    are few or p are refined.
    """
    found = result.maps["p_fwe_voxel"] <= result.alpha
    text = f"By the maximum statistic {_are(int(found.sum()), result.space.noun, result.space.nouns)} significant"
    if not found.any():
        return f"{text}."
    name = result.max_statistic.removeprefix("max_")
    height = result.maps[name][found]
    least = float((np.abs(height) if result.asked.two_sided else height).min())
    return f"{text} ({symbol(result, name)} \u2265 {number(least, 3)})."


def _article(noun: str) -> str:
    return f"{'an' if noun.startswith(('A', 'F ')) else 'a'} {noun}"


def symbol(result: Record, name: str | None = None) -> str:
    """The letter of a statistic, by default of the one that is drawn, between bars where both signs count."""
    label = map_of(name or result.drawn).label
    return f"|{label}|" if result.asked.two_sided else label


def _cluster_threshold(result: Record) -> str:
    asked = result.asked
    relation = ">" if asked.conventions["strict"] else "\u2265"
    name = "z" if asked.compares_z else result.statistic
    given, height = asked.cluster_forming_threshold, asked.cluster_forming_statistic
    assert given is not None and height is not None  # noqa: PT018 - clusters were formed
    text = f"{symbol(result, name)} {relation} {number(height)}"
    if isinstance(given, float):
        return f"{text} (uncorrected p {given:g}{', both tails' if asked.two_sided else ''})"
    return text if given[0] == name else f"{text} ({given[0]} = {given[1]:g})"


def _touching(result: Record, connectivity: int) -> str:
    """Which elements touch."""
    apart = result.asked.conventions.get("structures") == "apart"
    told = {
        "volume": f"{connectivity}-connected{' within a structure' if apart else ''}",
        "surface": "vertices that share an edge of the mesh",
        "network": "edges that share a node",
        "graph": "neighbours in the given graph",
    }
    return " and ".join(told[name] for name in result.space.domains if name in told)


def _tfce(result: Record) -> str:
    conventions = result.asked.conventions
    steps = "exact integral"
    if conventions["tfce_dh"]:
        steps = f"steps of {conventions['tfce_dh']:g}"
    elif conventions["tfce_steps"]:
        steps = f"{conventions['tfce_steps']} steps"
    E, H = (_by_domain(conventions[name]) for name in ("tfce_E", "tfce_H"))
    return f"E = {E}, H = {H}, {_touching(result, conventions['tfce_connectivity'])}, {steps}"


def _by_domain(exponent: float | Mapping[str, float]) -> str:
    if isinstance(exponent, Mapping):
        return ", ".join(f"{value:g} ({domain})" for domain, value in exponent.items())
    return f"{exponent:g}"


def _conventions(used: Mapping[str, Any]) -> str:
    """Name of the conventions, and where they were overridden."""
    record = CONVENTIONS.get(used["name"])
    if record is None:
        return str(used["name"])
    exponent = used["tfce_E"]
    own = record.as_used(exponent if isinstance(exponent, Mapping) else ["volume"])
    return "; ".join([used["name"], *(f"{key} = {value}" for key, value in used.items() if own[key] != value)])


def _are(n: int, noun: str, nouns: str, of: int | None = None) -> str:
    if n == 0:
        return f"no {noun} is" if of is None else f"none of {of:,} {nouns} is"
    share = "" if of is None else f" of {of:,}"
    return f"{n:,}{share} {nouns if (of or n) != 1 else noun} {'is' if n == 1 else 'are'}"
