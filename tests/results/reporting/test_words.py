from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
import scipy.stats

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.results import report
from numbaglm.results.reporting import words
from numbaglm.stats.variance.covariance import Binned, Sandwich
from reference.pages import Tags
from reference.reports import analysed, cube


def test_words_say_what_was_found_and_asked(result):
    found = " ".join(words.in_words(result))
    small = result.maps["p_fwe_voxel"] <= 0.05
    least = np.abs(result.maps["t"][small]).min()
    assert f"{small.sum()} voxels are significant (|t| \u2265 {least:.3f})" in found
    asked = dict(words.what_was_asked(result))
    assert asked["Test"] == "two-sided t test, 12 residual degrees of freedom"
    assert asked["Conventions"] == "numbaglm"
    assert asked["Cluster-forming threshold"].endswith("(uncorrected p 0.001, both tails)")


def test_thresholds_of_variance_groups_are_on_the_scale_of_z():
    one = analysed(n_perm=30, variance_groups=np.repeat([0, 1], 7))
    asked = dict(words.what_was_asked(one))
    assert asked["Cluster-forming threshold"].startswith("|z| \u2265 3.29")
    assert asked["Variances"] == "one for each of 2 groups, of 7, 7 subjects"
    assert words.display_threshold(one)[1] == "uncorrected p < 0.001"
    assert "variance of its own" in words.methods_paragraph(one)[0]


@pytest.mark.parametrize(
    ("options", "asked", "text"),
    [
        ({"weights": "variance"}, "restricted maximum likelihood; the standard errors", "Knapp & Hartung (2003)"),
        (
            {"weights": "variance", "between": 0, "test": "z"},
            "fixed effects; standard errors of known",
            "fixed effects",
        ),
        ({"weights": np.arange(14) + 1.0}, "given ones of the subjects", "given weights"),
    ],
)
def test_weights_are_told(options, asked, text):
    rng = np.random.default_rng(0)
    maps, v = (nib.Nifti1Image(one.astype(np.float32), np.eye(4)) for one in rng.uniform(0.5, 2, (2, 3, 3, 3, 14)))
    one = permutation_test(maps, layers={"variance": v}, n_perm=20, **options)
    assert asked in dict(words.what_was_asked(one))["Weights"]
    assert asked in words.summarise(one)["weights"]
    assert dict(words.what_was_asked(one))["Test"].startswith("two-sided weighted t test")
    assert text in words.methods_paragraph(one)[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, scipy.stats.t.isf(0.0005, 7)),
        ({"two_sided": False}, scipy.stats.t.isf(0.001, 7)),
        ({"contrast": np.eye(2), "design_matrix": np.c_[np.ones(8), np.arange(8)]}, scipy.stats.f.isf(0.001, 2, 6)),
    ],
)
def test_a_map_is_shown_at_an_uncorrected_p_of_0_001_whether_or_not_anything_reaches_it(options, expected):
    store = CohortStore.from_array(np.random.default_rng(0).normal(size=(8, 27)).astype(np.float32), cube())
    one = permutation_test(Cohort(store), n_perm=20, cluster_forming_threshold=None, **options)
    assert one.maps["p_parametric"].min() > 0.001
    assert words.display_threshold(one) == (pytest.approx(expected), "uncorrected p < 0.001")
    groups = permutation_test(Cohort(store), n_perm=20, variance_groups=[0, 1] * 4)
    assert words.display_threshold(groups)[1] == "the largest, as no uncorrected p is below 0.001"


@pytest.mark.parametrize(
    ("options", "cited", "not_cited", "text"),
    [
        ({}, ("Freedman", "Nichols", "Phipson", "Smith", "Winkler"), (), "60 random sign flips"),
        ({"tfce": False, "method": "kennedy"}, ("Kennedy",), ("Freedman", "Threshold-free"), "Kennedy (1995)"),
        (
            {"contrast": np.eye(2), "cluster_forming_threshold": None},
            ("Winkler",),
            ("Freedman",),
            "tested with an F test (12",
        ),
        ({"two_sided": False, "tail": "gamma", "n_perm": 150}, ("Faster permutation",), (), "one-sided t test"),
        ({"n_perm": 0}, (), ("Winkler", "Nichols"), "p-values are parametric."),
        ({"conventions": "palm", "exchangeability_blocks": np.repeat([0, 1], 7)}, ("block",), (), "exchangeability"),
    ],
)
def test_the_methods_cite_what_was_used(options, cited, not_cited, text):
    one = analysed(**({"n_perm": 20} | options if options else {}))
    paragraph, references = words.methods_paragraph(one)
    assert text in paragraph
    for name in cited:
        assert any(name in reference for reference in references)
    for name in not_cited:
        assert not any(name in reference for reference in references)
    for year in re.findall(r"\((?:19|20)\d\d\)", " ".join(references)):
        assert year[1:5] in paragraph, "every source is cited"
    Tags(report.make_page(one))


def test_a_summary_counts_what_is_significant(result):
    found = words.summarise(result)
    assert json.loads(json.dumps(found)) == found
    assert found["n_fwe_0.05"]["voxel"] == (result.maps["p_fwe_voxel"] <= 0.05).sum()
    assert found["n_fwe_0.05"]["clusters_by_mass"] == (result.clusters["p_fwe_mass"] <= 0.05).sum()
    assert found["observed_maximum"] == np.abs(result.maps["t"]).max()
    assert found["critical_statistic"] == result.critical("max_t")
    assert [row["cluster"] for row in found["clusters"]] == list(range(1, len(result.clusters) + 1))


def test_that_nothing_is_significant_is_said_once():
    rng = np.random.default_rng(0)
    cohort = Cohort(CohortStore.from_array(rng.normal(size=(8, 27)).astype(np.float32), cube()))
    one = permutation_test(cohort, cluster_forming_threshold=0.2, tfce=True)
    told = words.in_words(one)
    n = len(one.clusters)
    assert told[1] == (
        "Nothing is significant: no voxel by the maximum statistic or threshold-free cluster enhancement, "
        f"none of {n} clusters by extent or mass."
    )
    assert sum("significant" in sentence.casefold() for sentence in told) == 2


def test_fits_are_told_in_words():
    assert words.fit_in_words({"passed": False, "n_exceedances": 0, "critical": -1.0}) == [
        ("passed the test of goodness", "no: p stay counted")
    ]
    assert words.fit_in_words({"n_refined": 7}, "vertices") == [("vertices refined", "7")]
    fit = {"passed": False, "n_exceedances": 1234, "shape": -0.12345, "distance": None, "new": "yes"}
    assert words.fit_in_words(fit) == [
        ("passed the test of goodness", "no"),
        ("exceedances", "1,234"),
        ("shape", "\u22120.123"),
        ("new", "yes"),
    ]


def test_origins_make_the_result_again(result):
    told = dict(words.origins(result))
    assert told["seed"] == "0"
    assert told["cohort fingerprint"] == result.provenance["cohort_fingerprint"]
    assert told["numpy"] == np.__version__


def test_the_letter_of_a_two_sided_statistic_is_between_bars(result):
    assert (words.symbol(result), words.symbol(result, "z")) == ("|t|", "|z|")
    assert words.null_in_words("max_t") != words.null_in_words("max_size")


def test_a_mixed_model_is_told_and_cited(tmp_path):
    blocks = np.repeat(np.arange(6), [1, 2, 3, 3, 3, 2])
    asked = {"exchangeability_blocks": blocks, "component_interval": 0.9, "n_perm": 40}
    one = analysed(covariance="binned-gls", **asked)
    facts = dict(words.what_was_asked(one))
    assert facts["Covariance"] == (
        "generalised least squares in 6 clusters: family, error, in 20 bins along each share"
    )
    assert re.fullmatch(r"median over voxels: family [\d.]+, error [\d.]+", facts["Shares of the variance"])
    paragraph, references = words.methods_paragraph(one)
    for name, year in (("Haseman", "1972"), ("Parekh", "2024")):
        assert any(reference.startswith(name) for reference in references)
        assert year in paragraph
    assert "(90%)" in paragraph
    assert "14 maps in 6 clusters" in paragraph
    assert "14 maps in 6 clusters" in one.summary()
    again = type(one).load(one.save(tmp_path / "results"))
    assert again.asked.gls == one.asked.gls == Binned(("family", "error"), 20, 0.9)
    assert words.methods_paragraph(again)[0] == paragraph


@pytest.mark.parametrize("blocks", [None, np.repeat(np.arange(6), [1, 2, 3, 3, 3, 2])])
def test_a_sandwich_is_told_and_cited(blocks, tmp_path):
    one = analysed(covariance="sandwich", exchangeability_blocks=blocks, n_perm=40)
    facts = dict(words.what_was_asked(one))
    assert facts["Covariance"].startswith(
        "sandwich of independent maps" if blocks is None else "sandwich of 6 clusters"
    )
    assert "degrees of freedom" in facts["Test"]
    assert "residual" not in facts["Test"]
    assert one.provenance["dof"] < 13
    paragraph, references = words.methods_paragraph(one)
    for name in ("Guillaume", "Bell", "Pustejovsky"):
        assert any(reference.startswith(name) for reference in references)
    assert any(reference.startswith("Cameron") for reference in references) == (blocks is not None)
    for year in re.findall(r"\((?:19|20)\d\d\)", " ".join(references)):
        assert year[1:5] in paragraph, "every source is cited"
    assert ("14 maps in 6 clusters" in paragraph) == (blocks is not None)
    assert ("14 maps in 6 clusters" in one.summary()) == (blocks is not None)
    again = type(one).load(one.save(tmp_path / "results"))
    assert again.asked.sandwich == one.asked.sandwich == Sandwich("C2", "satterthwaite")
    assert words.methods_paragraph(again)[0] == paragraph


@pytest.mark.parametrize("groups", [None, np.repeat([0, 0, 0, 1, 1, 1], [1, 2, 3, 3, 3, 2])])
def test_shared_covariances_of_visits_are_told(groups, tmp_path):
    sizes = [1, 2, 3, 3, 3, 2]
    visits = {"visits": np.concatenate([np.arange(size) for size in sizes]), "groups": groups}
    asked = {"covariance": "sandwich", "exchangeability_blocks": np.repeat(np.arange(6), sizes)}
    one = analysed(estimator="modified", n_perm=40, **asked, **visits)
    shared = "shared by all clusters" if groups is None else "shared by the clusters of each of 2 groups"
    assert f"covariances of 3 visits {shared}, C2" in dict(words.what_was_asked(one))["Covariance"]
    assert shared in words.methods_paragraph(one)[0]
    again = type(one).load(one.save(tmp_path / "results"))
    assert again.asked.sandwich.estimator == "modified"
    assert words.methods_paragraph(again)[0] == words.methods_paragraph(one)[0]
