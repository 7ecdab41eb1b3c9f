"""The smallest p of each shuffling, beside those of shuffled data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import numbaglm as ng
from numbaglm.engine.permutation import smallest
from numbaglm.engine.permutation.smallest import listing
from numbaglm.errors import InputError
from numbaglm.inference import permutation_test as module
from numbaglm.inference.running import Running
from numbaglm.results.discoveries import as_kept, as_made
from numbaglm.results.provenance import WrongProvenanceError
from numbaglm.stats.discoveries import calibrate
from reference.reports import asked


def specified(monkeypatch, **options):
    """A cohort, and the specification that a call makes."""
    cohort, design = asked()
    found = []
    made = module._specify

    def specify(*args):
        found.append(made(*args))
        return found[-1]

    monkeypatch.setattr(module, "_specify", specify)
    ng.permutation_test(cohort, design[["intercept"]], dry_run=True, **options)
    return cohort, found[0]


def list_p(cohort, spec, **running):
    options = {"memory_limit": None, "client": None, "n_workers": None, "progress": False, "store": None} | running
    with Running.parse(**options).opened(cohort.store, dict, 1) as run:
        return run.smallest_p(spec, "test")


@pytest.mark.parametrize("two_sided", [True, False])
def test_they_are_those_of_flipped_data(monkeypatch, two_sided):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 40)
    cohort, spec = specified(monkeypatch, n_perm=200, two_sided=two_sided, tfce=True)
    got = list_p(cohort, spec)
    bare, n_listed = listing(spec, cohort.n_voxels)
    assert got.shape == (40, n_listed)
    assert (bare.tfce, bare.shufflings.n_shufflings) == (False, 40)
    _, sign = spec.shufflings.draw(0, 40)
    Y = cohort.store.read(0, cohort.n_voxels).astype(float)
    most = got.max()
    for row, flips in zip(got, sign, strict=True):
        t = stats.ttest_1samp(flips[:, None] * Y, 0).statistic
        p = np.sort(2 * stats.t.sf(np.abs(t), 13) if two_sided else stats.t.sf(t, 13))[:n_listed]
        there = p < most * (1 - 1e-4)
        np.testing.assert_allclose(row[there], p[there], rtol=2e-4)
        np.testing.assert_allclose(row[~there], most, rtol=2e-4)  # no smaller than what is beyond
    assert (np.diff(got, axis=1) >= 0).all()


def test_blocks_workers_and_a_folder_change_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 30)
    cohort, spec = specified(monkeypatch, n_perm=200)
    expected = list_p(cohort, spec)
    for running in ({"n_workers": 1}, {"n_workers": 2}, {"store": tmp_path / "run"}):
        np.testing.assert_array_equal(list_p(cohort, spec, **running), expected)


@pytest.mark.parametrize("template", ["simes", "beta"])
def test_a_result_is_bounded_by_what_its_shufflings_calibrate(tmp_path, template):
    cohort, design = asked()
    options = {"contrast": "intercept", "n_perm": 150, "discoveries": template, "store": tmp_path / "run"}
    result = ng.permutation_test(cohort, design, **options)
    kept = result.provenance["discoveries"]
    assert (kept["template"], kept["n_shufflings"], kept["n_elements"]) == (template, 151, cohort.n_voxels)
    region = np.abs(result.maps["z"]) > 2.5
    calibration = as_made(dict(kept))
    assert as_kept(calibration) == kept
    expected = calibration.bound(result.maps["p_parametric"]).of(region)
    assert result.true_discoveries(region) == expected
    assert expected.n_true > 0
    assert result.clusters["tdp"].tolist() == result.true_discoveries(result.maps["clusters"])["tdp"].tolist()
    again = ng.PermutationResult.load(result.save(tmp_path / "out"))
    assert again.true_discoveries(region) == expected
    # A folder goes on from where it is, whatever bounds are asked for.
    assert ng.permutation_test(cohort, design, **options).provenance["discoveries"] == kept
    plain = ng.permutation_test(cohort, design, **(options | {"discoveries": "ari"}))
    assert "discoveries" not in plain.provenance
    with pytest.raises(InputError, match="at which shufflings calibrated"):
        result.true_discoveries(region, alpha=0.1)


def test_the_level_is_that_of_the_listed_p(monkeypatch):
    cohort, spec = specified(monkeypatch, n_perm=99)
    listed = list_p(cohort, spec)
    result = ng.permutation_test(cohort, n_perm=99, discoveries="simes")
    listed[0] = np.sort(result.maps["p_parametric"])[: listed.shape[1]]
    assert result.provenance["discoveries"]["level"] == calibrate(listed, cohort.n_voxels).level


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discoveries": "best"}, "'discoveries': got 'best'"),
        ({"discoveries": "simes", "n_perm": 10}, "20 shufflings or more"),
        ({"discoveries": "simes", "n_perm": 0}, "20 shufflings or more"),
        ({"discoveries": "simes", "variance_smoothing_fwhm": 6.0}, "pseudo-t"),
    ],
)
def test_what_can_not_be_calibrated_is_refused(options, message):
    cohort, design = asked()
    with pytest.raises(InputError, match=message):
        ng.permutation_test(cohort, design, "intercept", **options)


def test_a_provenance_that_was_tampered_with_is_refused():
    kept = {"template": "simes", "level": 0.1, "n_thresholds": 5, "n_elements": 10, "alpha": 0.05, "n_shufflings": 20}
    assert as_made(kept).thresholds.shape == (5,)
    for wrong in ({"template": "best"}, {"level": -1}, {"n_thresholds": 11}, {"alpha": "high"}):
        with pytest.raises(WrongProvenanceError, match="not a calibration"):
            as_made(kept | wrong)
    with pytest.raises(WrongProvenanceError):
        as_made(None)


def test_where_nothing_varies_all_p_are_the_same(monkeypatch):
    _, spec = specified(monkeypatch, n_perm=100)
    score = spec.family.scale.to_score("p", 0.01, two_sided=True)
    np.testing.assert_allclose(smallest._p_of(spec, np.full((2, 3), score)), 0.01, rtol=1e-6)
