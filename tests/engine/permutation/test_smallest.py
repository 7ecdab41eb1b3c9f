"""The smallest p of each shuffling, beside those of shuffled data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import numbaglm as ng
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation import smallest
from numbaglm.engine.permutation.smallest import lists_on_its_way
from numbaglm.errors import InputError
from numbaglm.inference import permutation_test as module
from numbaglm.inference.running import Running
from numbaglm.results.discoveries import as_kept, as_made, in_words
from numbaglm.results.provenance import WrongProvenanceError
from numbaglm.stats.discoveries import calibrate
from reference.reports import asked


def specified(monkeypatch, **options):
    """A cohort, and the specification that a call makes."""
    cohort, design = asked()
    found = []
    made = module._listing

    def listing(*args):
        found.extend(made(*args))
        return found

    monkeypatch.setattr(module, "_listing", listing)
    ng.permutation_test(cohort, design[["intercept"]], dry_run=True, **options)
    return cohort, found[0]


def list_alone(cohort, spec, **running):
    """What a run that does nothing else lists, of `spec` with a listing."""
    options = {"memory_limit": None, "client": None, "n_workers": None, "progress": False, "store": None} | running
    with Running.parse(**options).opened(cohort.store, dict, 1) as run:
        return run.smallest(spec, "test")


def list_on_its_way(cohort, spec, **running):
    options = {"memory_limit": None, "client": None, "n_workers": None, "progress": False, "store": None} | running
    with Running.parse(**options).opened(cohort.store, dict, 1) as run:
        return run.test(spec, "test")


@pytest.mark.parametrize("two_sided", [True, False])
def test_they_are_those_of_flipped_data(monkeypatch, two_sided):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 40)
    cohort, spec = specified(monkeypatch, n_perm=200, two_sided=two_sided, discoveries="simes-step-down")
    got = list_on_its_way(cohort, spec).smallest
    assert got.p.shape == got.voxel.shape == (40, spec.listing.n_listed)
    _, sign = spec.shufflings.draw(0, 40)
    Y = cohort.store.read(0, cohort.n_voxels).astype(float)
    most = got.p.max()
    for row, voxel, flips in zip(got.p, got.voxel, sign, strict=True):
        t = stats.ttest_1samp(flips[:, None] * Y, 0).statistic
        p = 2 * stats.t.sf(np.abs(t), 13) if two_sided else stats.t.sf(t, 13)
        there = np.sort(p)[: row.size] < most * (1 - 1e-4)
        np.testing.assert_allclose(row[there], np.sort(p)[: row.size][there], rtol=2e-4)
        np.testing.assert_allclose(row[there], p[voxel[there]], rtol=2e-4)
        np.testing.assert_allclose(row[~there], most, rtol=2e-4)  # no smaller than what is beyond
    assert (np.diff(got.p, axis=1) >= 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"tfce": True},
        {"cluster_forming_threshold": 0.01, "two_sided": False},
        {"cluster_forming_threshold": 0.4},  # lower than what is listed takes
        {"cluster_forming_threshold": None},
        {"conventions": "nilearn"},  # above the threshold, not at it
        {"variance_groups": [0] * 6 + [1] * 8},
        {"tail": "pareto"},
    ],
)
def test_a_test_lists_on_its_way_what_it_would_alone_and_finds_the_same(monkeypatch, options):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 70)  # within a batch
    cohort, spec = specified(monkeypatch, n_perm=200, discoveries="beta-step-down", **options)
    assert lists_on_its_way(spec)
    raw, bare = list_on_its_way(cohort, spec), list_on_its_way(cohort, replace(spec, listing=None))
    alone = list_alone(cohort, spec)
    np.testing.assert_array_equal(raw.smallest.p, alone.p)
    here, there = (np.sort(np.where(one.p < one.p.max(), one.voxel, -1)) for one in (raw.smallest, alone))
    np.testing.assert_array_equal(here, there)
    assert bare.smallest is None
    for name in ("counts", "max_score", "max_size", "max_mass", "max_tfce"):
        np.testing.assert_array_equal(getattr(raw, name), getattr(bare, name), err_msg=name)
    without = list_on_its_way(cohort, replace(spec, listing=replace(spec.listing, elements=False))).smallest
    assert without.voxel is None
    np.testing.assert_array_equal(without.p, raw.smallest.p)


def test_blocks_workers_and_a_folder_change_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 30)
    cohort, spec = specified(monkeypatch, n_perm=200, discoveries="simes")
    expected = list_on_its_way(cohort, spec).smallest.p
    for running in ({"n_workers": 1}, {"n_workers": 2}, {"store": tmp_path / "run"}):
        np.testing.assert_array_equal(list_on_its_way(cohort, spec, **running).smallest.p, expected)


@pytest.mark.parametrize("template", ["simes", "shifted-5", "beta", "learned", "simes-step-down", "learned-step-down"])
def test_a_result_is_bounded_by_what_its_shufflings_calibrate(tmp_path, template):
    cohort, design = asked()
    options = {"contrast": "intercept", "n_perm": 150, "discoveries": template, "store": tmp_path / "run"}
    result = ng.permutation_test(cohort, design, **options)
    kept = result.provenance["discoveries"]
    n_shufflings = 101 if "learned" in template else 151
    assert (kept["template"], kept["n_shufflings"], kept["n_elements"]) == (template, n_shufflings, cohort.n_voxels)
    region = np.abs(result.maps["z"]) > 2.5
    calibration = as_made(dict(kept))
    assert json.loads(json.dumps(as_kept(calibration))) == json.loads(json.dumps(dict(kept), default=list))
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


def test_a_folder_without_lists_gets_them(tmp_path):
    cohort, _ = asked()
    expected = ng.permutation_test(cohort, n_perm=99, discoveries="learned-step-down").provenance["discoveries"]
    for before in ("ari", "simes", "learned-step-down"):
        store = tmp_path / before
        ng.permutation_test(cohort, n_perm=99, discoveries=before, store=store)
        after = ng.permutation_test(cohort, n_perm=99, discoveries="learned-step-down", store=store)
        assert after.provenance["discoveries"] == expected


def test_another_level_than_that_of_the_calibration_is_refused():
    cohort, _ = asked()
    with pytest.raises(InputError, match="at which shufflings calibrated"):
        ng.permutation_test(cohort, n_perm=99, discoveries="simes").true_discoveries([0, 1], alpha=0.1)


def test_where_scores_become_z_afterwards_or_shuffling_stops_they_are_listed_alone(monkeypatch):
    cohort, spec = specified(monkeypatch, n_perm=99, discoveries="simes", missing="element")
    assert not lists_on_its_way(spec)
    options = {"n_perm": 800, "discoveries": "simes"}
    stopped = ng.permutation_test(cohort, stop="decided", **options)
    assert stopped.provenance["discoveries"] == ng.permutation_test(cohort, **options).provenance["discoveries"]


def test_learned_shufflings_are_others_unless_all_are_enumerated():
    cohort, _ = asked()
    drawn = ng.permutation_test(cohort, n_perm=299, discoveries="learned").provenance["discoveries"]
    assert drawn["n_shufflings"] == 200
    few = Cohort(CohortStore.from_array(cohort.store.read(0, cohort.n_voxels)[:7], cohort.geometry))
    every = ng.permutation_test(few, discoveries="learned").provenance["discoveries"]
    assert every["n_shufflings"] == 128


def test_of_shufflings_of_the_user_s_own_all_are_listed(monkeypatch):
    monkeypatch.setattr(smallest, "N_SHUFFLINGS", 30)
    cohort, design = asked()
    rng = np.random.default_rng(0)
    own = np.array([1 + np.arange(14), *(1 + rng.permutation(14) for _ in range(59))])
    for name in ("simes", "learned"):
        found = ng.permutation_test(cohort, design, design.columns[-1], shufflings=own, discoveries=name)
        assert found.provenance["discoveries"]["n_shufflings"] == 60


def test_bounds_of_several_contrasts_hold_together():
    cohort, design = asked()
    contrasts = {"a": "intercept", "b": design.columns[-1]}
    options = {"n_perm": 199, "discoveries": "simes", "errors": "ise"}
    apart = ng.permutation_test(cohort, design, contrasts, **options)
    joint = ng.permutation_test(cohort, design, contrasts, fwe_across_contrasts=True, **options)
    levels = {one.provenance["discoveries"]["level"] for one in joint.values()}
    assert len(levels) == 1
    assert levels.pop() <= min(one.provenance["discoveries"]["level"] for one in apart.values())
    assert "over 2 contrasts at once" in in_words(joint["a"])[0]


def test_the_level_is_that_of_the_listed_p(monkeypatch):
    cohort, spec = specified(monkeypatch, n_perm=99, discoveries="simes")
    listed = list_on_its_way(cohort, spec).smallest.p
    result = ng.permutation_test(cohort, n_perm=99, discoveries="simes")
    listed[0] = np.sort(result.maps["p_parametric"])[: listed.shape[1]]
    assert result.provenance["discoveries"]["level"] == calibrate(listed, cohort.n_voxels).level


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"discoveries": "best"}, "'discoveries': got 'best'"),
        ({"discoveries": 3}, "'discoveries': got 3"),
        ({"discoveries": "shifted-0"}, "'discoveries': got 'shifted-0'"),
        ({"discoveries": "shifted-step-down"}, "'shifted-100' for another shift"),
        ({"discoveries": "shifted-100000"}, "a shift below"),
        ({"discoveries": "learned", "n_perm": 25}, "29 shufflings or more"),
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
    kept = as_kept(calibrate(np.linspace(0.01, 0.1, 100).reshape(20, 5), 10))
    assert as_made(kept).thresholds.shape == (5,)
    learned = kept | {"template": "learned", "thresholds": [0.1, 0.1, 0.2, 0.3, 0.4]}
    assert as_made(learned).thresholds.tolist() == learned["thresholds"]
    for one, wrong in (
        (kept, {"template": "best"}),
        (kept, {"level": -1}),
        (kept, {"n_thresholds": 11}),
        (kept, {"alpha": "high"}),
        (kept, {"tie": 2}),
        (learned, {"thresholds": None}),
        (learned, {"thresholds": [0.5, 0.1, 0.2, 0.3, 0.4]}),
    ):
        with pytest.raises(WrongProvenanceError, match="not a calibration"):
            as_made(one | wrong)
    with pytest.raises(WrongProvenanceError):
        as_made(None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("elements", [True, False])
def test_the_largest_of_all_blocks_are_listed(dtype, elements):
    rng = np.random.default_rng(3)
    sizes = rng.integers(0, 9, (2, 6))
    sizes[:, 2] = 0
    parts = []
    for number, size in enumerate(sizes):
        value = (rng.integers(5, 12, size.sum()) * rng.choice([-1, 1], size.sum())).astype(dtype)  # some are equal
        parts.append(
            (np.concatenate([[0], np.cumsum(size)]), np.arange(size.sum(), dtype=np.int32) + 50 * number, value)
        )
    scores, voxels = np.full((4, 8), 4.0, dtype), np.full((4, 8), 100, np.int32)
    smallest._list(parts, 1, True, scores, voxels[: 3 * elements])
    height = {int(v): abs(float(x)) for _, voxel, value in parts for v, x in zip(voxel, value, strict=True)}
    for i, (row, whose) in enumerate(zip(scores, voxels, strict=True), start=1):
        there = np.abs(np.concatenate([value[bounds[i] : bounds[i + 1]] for bounds, _, value in parts]))
        expected = np.sort(there)[::-1][:8].tolist()
        assert row.tolist() == expected + [4.0] * (8 - len(expected))
        if elements and i < 4:  # whose the last are is not asked
            assert [height[v] for v in whose[: len(expected)].tolist()] == expected
            assert len(set(whose[: len(expected)].tolist())) == len(expected)
            assert (whose[len(expected) :] == 100).all()


def test_p_by_interpolation_are_those_of_the_scores_even_where_the_model_fits(monkeypatch):
    _, spec = specified(monkeypatch, n_perm=100, discoveries="simes")
    scores = np.concatenate([[1.0], 1 - np.geomspace(1e-9, 0.4, 3000)])[None]
    p = np.clip(spec.parametric_p(spec.family.scale.to_z(scores)), np.finfo(float).tiny, 1.0)
    np.testing.assert_allclose(smallest._p_of(spec, scores), p, rtol=smallest.LISTED_TO / 10)


def test_where_nothing_varies_all_p_are_the_same(monkeypatch):
    _, spec = specified(monkeypatch, n_perm=100, discoveries="simes")
    score = spec.family.scale.to_score("p", 0.01, two_sided=True)
    np.testing.assert_allclose(smallest._p_of(spec, np.full((2, 3), score)), 0.01, rtol=1e-6)
