"""p refined by tails, and intervals of p, through the whole test; the fits themselves: tests/stats/test_tails.py."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from numbaglm import PermutationResult, permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.runs.maps import MemoryMaps
from numbaglm.engine.permutation.records import ObservedBlock
from numbaglm.engine.permutation.run import run_test
from numbaglm.engine.permutation.voxels import Source, permute_block
from numbaglm.errors import InputError
from numbaglm.inference import running as runs
from numbaglm.kernels.tails import COUNTED, REFINED, REJECTED
from numbaglm.spaces.volume import Geometry
from numbaglm.stats import pvalues, tails
from numbaglm.stats.corrected import TAILS
from reference.tails import largest

GOLDEN = Path(__file__).parent / "golden" / "c8_tail_n10"
FWE = ("fwe_voxel", "fwe_tfce", "fwe_size", "fwe_mass")


@pytest.fixture(scope="module")
def golden():
    """One sample of ten: 1024 sign flips, all of which can be enumerated."""
    mask = nib.load(GOLDEN / "mask.nii.gz").get_fdata() > 0
    data = nib.load(GOLDEN / "data.nii.gz").get_fdata(dtype=np.float32)[mask].T
    return Cohort(CohortStore.from_array(data, Geometry(mask, np.eye(4))))


@pytest.fixture(scope="module")
def exact(golden):
    return permutation_test(golden, n_perm=2000, two_sided=False, cluster_forming_threshold=0.05, tfce=True)


def few(golden, seed=0, n_perm=200, **options):
    options = {"two_sided": False, "cluster_forming_threshold": 0.05, "tfce": True, **options}
    return permutation_test(golden, n_perm=n_perm, seed=seed, **options)


def rms_decades(p, truth):
    return np.sqrt(np.mean(np.log10(p / truth) ** 2))


def test_few_shufflings_and_tails_come_closer_to_the_exact_p_than_counts(golden, exact):
    assert exact.provenance["exhaustive"]
    found = few(golden, tail="pareto")
    truth = exact.maps["p_unc"]
    deep = truth < 0.005
    assert deep.sum() > 50
    refined = found.maps["source_unc"] == REFINED
    assert refined[deep].mean() > 0.8
    assert rms_decades(found.maps["p_unc"][deep], truth[deep]) < 0.75 * rms_decades(
        found.maps["p_unc_counted"][deep], truth[deep]
    )
    assert found.maps["p_unc"].min() >= 1 / 1024, "no shuffling can undercut that"


@pytest.mark.parametrize(("tail", "n_perm"), [("pareto", 300), ("gamma", 150)])
def test_refined_p_are_those_of_the_truth_far_beyond_the_counts(as_cohort, tail, n_perm):
    rng = np.random.default_rng(0)
    n_voxels = 2000
    Y = rng.normal(size=(24, n_voxels))
    Y[:, :150] += np.linspace(0.4, 1.6, 150)
    found = permutation_test(as_cohort(Y), n_perm=n_perm, cluster_forming_threshold=None, tail=tail).maps
    truth = stats.t.sf(np.abs(found["t"]), 23) * 2  # of normal data
    if tail == "pareto":
        deep = (truth < 1e-3) & (truth > 1e-4)
        assert deep.sum() > 15
        assert rms_decades(found["p_unc"][deep], truth[deep]) < 0.7
        assert rms_decades(found["p_unc_counted"][deep], truth[deep]) > 0.9
        np.testing.assert_array_equal(found["p_fdr"], pvalues.fdr(found["p_unc"]))
    else:
        assert not {"p_unc_counted", "source_unc"} & set(found)
    corrected = -np.expm1(n_voxels * np.log1p(-truth))  # of independent voxels
    deep = (corrected < 3e-3) & (corrected > 1e-5)
    assert deep.sum() > 5
    assert (found["source_fwe_voxel"][deep] == REFINED).all()
    assert rms_decades(found["p_fwe_voxel"][deep], corrected[deep]) < 0.7
    assert found["p_fwe_voxel"][deep].max() < 1 / (n_perm + 1)


@pytest.mark.parametrize("tail", ["pareto", "gamma"])
@pytest.mark.parametrize("two_sided", [False, True])
def test_tails_touch_small_p_alone_and_leave_the_rest_as_it_was(as_cohort, tail, two_sided):
    Y = np.random.default_rng(1).normal(size=(30, 400))
    Y[:, :30] += 0.8
    Y[:, -1] = 0  # nothing to test there
    options = {"n_perm": 250, "two_sided": two_sided, "cluster_forming_threshold": 0.05, "tfce": True}
    counted = permutation_test(as_cohort(Y), **options)
    found = permutation_test(as_cohort(Y), tail=tail, **options)
    names = FWE + (("unc",) if tail == "pareto" else ())
    assert {name[7:] for name in found.maps if name.startswith("source_")} == set(names)
    for name in counted.maps:
        if not any(name.endswith(f"p_{one}") for one in (*names, "fdr")):
            np.testing.assert_array_equal(found.maps[name], counted.maps[name], err_msg=name)
    for name in names:
        p, before, source = found.maps[f"p_{name}"], counted.maps[f"p_{name}"], found.maps[f"source_{name}"]
        np.testing.assert_array_equal(p[source != REFINED], before[source != REFINED], err_msg=name)
        assert (before[source != COUNTED] <= tails.REFINE_BELOW).all()
        assert (p > 0).all()
        assert p[-1] == 1
    assert (found.maps["source_fwe_voxel"] == REFINED).any()
    # The tail is that of the statistic, and a larger statistic never has a larger corrected p.
    height = np.abs(found.maps["t"]) if two_sided else found.maps["t"]
    fit_tail = tails.pareto_p if tail == "pareto" else tails.gamma_p
    expected, source, _ = fit_tail(height, found.h0["max_t"], 0.0, 2.0**-30)
    refined = source == REFINED
    np.testing.assert_allclose(found.maps["p_fwe_voxel"][refined], expected[refined], rtol=1e-6)
    assert (np.diff(found.maps["p_fwe_voxel"][np.argsort(height)]) <= 0).all()
    for null in counted.h0:
        np.testing.assert_array_equal(found.h0[null], counted.h0[null])
        fit = found.provenance["tail_fits"][null]
        name = f"source_fwe_{null[4:].replace('t', 'voxel') if null == 'max_t' else null[4:]}"
        expected = {COUNTED, REFINED} if fit["passed"] else {COUNTED, REJECTED}
        assert set(found.maps[name].tolist()) <= expected
    if tail == "pareto":
        np.testing.assert_array_equal(found.maps["p_unc_counted"], counted.maps["p_unc"])
        note = found.provenance["tail_fits"]["unc"]
        assert note["n_refined"] == (found.maps["source_unc"] == REFINED).sum() > 0
    table = found.clusters
    peak = np.searchsorted(found.geometry.coordinates(np.arange(400))[:, 0], table["peak_x"])
    for column in ("p_fwe_size", "p_fwe_mass", "p_fwe_voxel"):
        np.testing.assert_array_equal(table[column], found.maps[column][peak])


def test_voxels_of_an_f_test_and_of_variance_groups_are_refined_too(as_cohort):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(20, 300))
    Y[10:, :60] += 1.5
    design = pd.DataFrame({"b": np.arange(20) // 10, "age": rng.normal(size=20), "one": 1.0})
    options = {"n_perm": 300, "cluster_forming_threshold": None, "tail": "pareto"}
    for contrast, more in ((["b", "age"], {}), ("b", {"variance_groups": np.arange(20) // 10})):
        found = permutation_test(as_cohort(Y), design, contrast, **options, **more).maps
        refined = found["source_unc"] == REFINED
        assert refined.sum() > 20
        deep = refined & (found["p_parametric"] < 2e-3) & (found["p_parametric"] > 1e-6)
        assert deep.sum() > 8
        assert rms_decades(found["p_unc"][deep], found["p_parametric"][deep]) < 0.8


@pytest.mark.parametrize(
    "options",
    [{}, {"two_sided": False}, {"method": "ter-braak"}, {"variance_groups": np.arange(20) // 10, "contrast": "x"}],
)
def test_the_tails_are_the_largest_scores_of_the_random_shufflings(as_cohort, monkeypatch, options):
    Y = np.random.default_rng(0).normal(size=(20, 100)) + np.linspace(0, 1.5, 100)
    Y[:, 3] = 0
    design = pd.DataFrame({"x": np.random.default_rng(1).normal(size=20), "one": 1.0})
    asked = []
    monkeypatch.setattr(runs, "run_test", lambda *told: asked.append(told) or run_test(*told))
    options = {"contrast": "one", "n_perm": 300, "cluster_forming_threshold": None, **options}
    permutation_test(as_cohort(Y), design, tail="pareto", **options)
    ((store, spec, plan, work, _),) = asked
    scores = MemoryMaps(np.empty((301, 100), spec.precision))
    source = Source(store, work.share("", spec), plan, None, None)
    found = permute_block(source, 0, 100, 0, 301, work.ledger, "observed", (scores,))
    seen = work.ledger.get("observed", ObservedBlock)
    p = spec.parametric_p(seen.z)
    voxels = found.tail_voxels
    assert voxels.tolist() == [v for v in range(100) if p[v] <= tails.WATCH_BELOW and not seen.degenerate[v]]
    assert 3 not in voxels
    random = scores.array[1:]
    np.testing.assert_array_equal(found.tails, largest(random, tails.tail_length(300), spec.two_sided)[voxels])
    short = permute_block(source, 0, 100, 0, 20, work.ledger, None, (scores,))
    np.testing.assert_array_equal(short.tails[:, :19], largest(random[:19], 19, spec.two_sided)[voxels])
    assert (short.tails[:, 19:] == -np.inf).all()


def test_correction_over_contrasts_is_refined(as_cohort):
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(20, 200))
    Y[:, :20] += 1.4
    design = pd.DataFrame({"x": rng.normal(size=20), "one": 1.0})
    found = permutation_test(
        as_cohort(Y),
        design,
        {"x": "x", "one": "one"},
        errors="both",
        n_perm=300,
        cluster_forming_threshold=0.05,
        tfce=True,
        fwe_across_contrasts=True,
        tail="pareto",
    )["one"]
    assert (found.maps["source_fwe_voxel_contrasts"] == REFINED).sum() >= 10
    assert found.maps["p_fwe_voxel_contrasts"].min() < 1 / 301
    nulls = {"max_z_contrasts", "max_size_contrasts", "max_mass_contrasts", "max_tfce_contrasts"}
    assert nulls < set(found.provenance["tail_fits"])


def test_where_no_tail_is_fitted(as_cohort, caplog):
    Y = np.random.default_rng(0).normal(size=(8, 60)) + 1
    options = {"cluster_forming_threshold": 0.05, "tail": "pareto"}
    with caplog.at_level(logging.INFO, "numbaglm"):
        exhaustive = permutation_test(as_cohort(Y), n_perm=5000, **options)
    assert "p are exact, and no tail is fitted" in caplog.text
    assert exhaustive.provenance["tail_fits"] == {}
    assert exhaustive.provenance["tail"] == "pareto"
    assert not any(name.startswith("source_") for name in exhaustive.maps)
    Y = np.random.default_rng(0).normal(size=(12, 60)) + 1
    for tail in ("pareto", "gamma"):
        caplog.clear()
        found = permutation_test(as_cohort(Y), n_perm=TAILS[tail] - 1, **{**options, "tail": tail})
        assert f"A {tail} tail takes {TAILS[tail]} shufflings or more" in caplog.text
        assert set(found.maps["source_fwe_voxel"].tolist()) == {COUNTED, REJECTED}
        caplog.clear()
        permutation_test(as_cohort(Y), n_perm=TAILS[tail], **{**options, "tail": tail})
        assert "tail takes" not in caplog.text
    assert (tails.tail_length(119), tails.tail_length(120) > 0) == (0, True)
    pseudo = permutation_test(as_cohort(Y), n_perm=150, variance_smoothing_fwhm=6.0, **options).maps
    assert "source_unc" not in pseudo
    assert "source_fwe_voxel" in pseudo
    nilearn = permutation_test(as_cohort(Y), n_perm=150, conventions="nilearn", **options).maps
    assert "source_fwe_voxel" in nilearn
    assert "source_fwe_size" not in nilearn


def test_intervals_hold_the_exact_p_as_often_as_they_should(golden, exact):
    inside = {"unc": [], "fwe_voxel": [], "fwe_tfce": []}
    for seed in range(12):
        found = few(golden, seed, 150, p_interval=0.9).maps
        for name, hits in inside.items():
            p, lower, upper = (found[f"p_{name}{end}"] for end in ("", "_lower", "_upper"))
            assert (lower <= p).all()
            assert (p <= upper).all()
            truth = exact.maps[f"p_{name}"]
            # The observed is one of the shufflings in either, and Clopper and Pearson's p is that of the others.
            others = (truth * 1024 - 1) / 1023
            hits.append(np.mean((lower <= others) & (others <= upper)))
    for name, hits in inside.items():
        assert np.mean(hits) >= 0.9, name
    assert np.mean(inside["unc"]) < 0.985


def test_intervals_of_clusters_and_of_enumerated_p(golden, exact):
    found = few(golden, p_interval=0.95, tail="gamma")
    n, table = 201, found.clusters
    for kind in ("size", "mass"):
        observed = table["size_voxels" if kind == "size" else "mass"].to_numpy()
        counts = (found.h0[f"max_{kind}"][:, None] >= observed * (1 - 1e-5)).sum(axis=0)
        lower, upper = tails.clopper_pearson(counts, n, 0.95)
        np.testing.assert_allclose(table[f"p_fwe_{kind}_lower"], lower)
        np.testing.assert_allclose(table[f"p_fwe_{kind}_upper"], upper)
    assert not any(name.startswith("logp_") and name.endswith(("_lower", "_upper")) for name in found.maps)
    enumerated = few(golden, n_perm=2000, p_interval=0.95)
    for end in ("lower", "upper"):
        np.testing.assert_array_equal(enumerated.maps[f"p_unc_{end}"], exact.maps["p_unc"])
        np.testing.assert_array_equal(enumerated.clusters[f"p_fwe_size_{end}"], exact.clusters["p_fwe_size"])


def test_what_is_refined_is_saved(tmp_path, golden):
    found = few(golden, p_interval=0.95, tail="pareto")
    folder = found.save(tmp_path / "out")
    assert "not described" not in (folder / "README.md").read_text()
    loaded = PermutationResult.load(folder)
    assert set(loaded.maps) == set(found.maps)
    for name in found.maps:
        np.testing.assert_array_equal(loaded.maps[name], found.maps[name], strict=True)
    pd.testing.assert_frame_equal(loaded.clusters, found.clusters, check_exact=True)
    assert loaded.provenance == found.provenance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": "weibull"}, "'tail': got 'weibull'.*'gamma'"),
        ({"p_interval": 95}, "'p_interval': got 95.*between 0 and 1"),
        ({"p_interval": True}, "'p_interval': got True"),
        ({"two_sided": "no"}, "'two_sided': got 'no'.*True or False"),
        ({"tfce": "no"}, "'tfce': got 'no'"),
    ],
)
def test_options_that_make_no_sense_are_refused(as_cohort, options, message):
    with pytest.raises(InputError, match=message):
        permutation_test(as_cohort(np.ones((4, 2))), **options)
