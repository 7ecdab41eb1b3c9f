"""Intervals and confidence sets of results."""

from __future__ import annotations

import dataclasses
import re

import matplotlib.text
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import numbaglm as ng
from numbaglm.errors import InputError
from numbaglm.results import confidence
from numbaglm.spaces.volume import Geometry
from numbaglm.stats.effects import confidence_interval, hedges_g
from reference.confidence import flipped_t
from reference.reports import analysed, asked
from reference.surfaces import surface

OF = {"effect": 1.0, "cohens_d": 0.8}


@pytest.fixture(scope="module")
def both():
    cohort, design = asked()
    return cohort, ng.permutation_test(cohort, design, "intercept", n_perm=20)


def test_pointwise_intervals_are_those_of_the_maps(both):
    _, result = both
    found = result.interval(0.95)
    np.testing.assert_allclose(found.lower, result.maps["effect_lower"])
    np.testing.assert_allclose(found.upper, result.maps["effect_upper"])
    wide = result.interval(0.99)
    assert (wide.lower < found.lower).all()
    assert wide.reach == pytest.approx(confidence_interval(np.zeros(1), np.ones(1), result.asked.dof, 0.99)[1][0])
    of_d = result.interval(0.95, of="cohens_d")
    np.testing.assert_allclose((of_d.lower + of_d.upper) / 2, hedges_g(result.maps["cohens_d"], result.asked.dof))


def test_simultaneous_intervals_reach_as_far_as_flipped_residuals(both):
    cohort, result = both
    found = result.interval(0.9, simultaneous=True, cohort=cohort, n_flips=200, seed=3)
    from numbaglm.results.confidence import _flips

    flips = _flips(result, "effect", cohort, 200, 3)
    assert len(flips.sign) == 200
    Y = cohort.store.read(0, cohort.n_voxels).astype(float)
    t = flipped_t(Y, result.asked.rows, result.asked.weights[0], flips.sign)
    assert found.reach == pytest.approx(np.quantile(t.max(axis=1), 0.9, method="higher"), rel=1e-5)
    np.testing.assert_allclose(found.upper - found.lower, 2 * found.reach * result.maps["effect_se"], rtol=1e-4)
    assert found.reach > 1.5 * result.interval(0.9).reach
    assert "90% simultaneous" in repr(found)
    again = result.interval(0.9, simultaneous=True, cohort=cohort, n_flips=200, seed=3, n_workers=1)
    assert again.reach == found.reach


def test_where_an_effect_is_smaller_or_larger_than_a_size(both):
    cohort, result = both
    found = result.interval(0.95, simultaneous=True, cohort=cohort, of="cohens_d", n_flips=100)
    for size in (0.5, 2.0, 4.0):
        within, beyond = found.within(size), found.beyond(size)
        assert not (within & beyond).any()
        np.testing.assert_array_equal(within, np.maximum(np.abs(found.lower), np.abs(found.upper)) < size)
    assert found.within(4.0).any()
    assert found.beyond(0).any()
    assert found.to_image("upper").shape == result.geometry.shape
    absent = found.absent(4.0)
    np.testing.assert_array_equal(absent.elements, found.within(4.0))
    image = np.asarray(absent.to_image().dataobj)
    assert (image.sum(), image[result.geometry.mask].sum()) == (absent.elements.sum(),) * 2
    assert absent.plot(title="Absent") is not None
    assert "none of the voxels that are told has an effect of that size" in absent.promise
    assert "of many some do" in result.interval(0.95).absent(1.0).promise
    assert f"in {absent.elements.sum():,} of" in absent.found
    for call, message in (
        (lambda: found.within(0), "size"),
        (lambda: found.absent("2"), "size"),
        (lambda: found.beyond(-1), "size"),
        (lambda: found.to_image("middle"), "lower"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("of", OF)
def test_confidence_sets_are_nested_around_the_estimate(tmp_path, both, of):
    cohort, result = both
    found = result.confidence_set(OF[of], 0.9, of, cohort=cohort, n_flips=200)
    assert (found.inner <= found.estimate).all()
    assert (found.estimate <= found.outer).all()
    assert 0 < found.inner.sum() < found.estimate.sum() < found.outer.sum() < result.space.n
    value = result.maps["effect"] if of == "effect" else hedges_g(result.maps["cohens_d"], result.asked.dof)
    np.testing.assert_array_equal(found.estimate, value >= OF[of])
    # The boundary is a part of the map, over all of which the errors reach further.
    assert found.n_boundary > 0
    everywhere = result.interval(0.9, simultaneous=True, cohort=cohort, of=of, n_flips=200)
    assert 1.5 < found.reach < everywhere.reach
    assert np.bincount(found.shades, minlength=4).tolist()[3] == found.inner.sum()
    assert found.to_image().shape == result.geometry.shape
    assert "surely" in repr(found)
    assert found.plot(tmp_path / "set.png", cuts=3) is not None
    assert (tmp_path / "set.png").stat().st_size > 1000


def test_confidence_sets_on_surfaces_are_drawn_there(tmp_path):
    rng = np.random.default_rng(0)
    cohort = ng.Cohort.from_maps([surface(rng.normal(size=18).astype(np.float32) + 1) for _ in range(10)])
    found = ng.permutation_test(cohort, n_perm=20).confidence_set(1.0, cohort=cohort, n_flips=100)
    assert found.estimate.any()
    figure = found.plot(tmp_path / "set.png", title="sides")
    assert {text.get_text() for text in figure.findobj(matplotlib.text.Text)} >= {"left, lateral", "right, medial"}


def test_a_size_that_no_voxel_has_takes_all_of_them(both):
    cohort, result = both
    found = result.confidence_set(1e6, cohort=cohort, n_flips=100)
    assert found.n_boundary == 0
    assert not found.outer.any()
    assert found.reach == result.interval(simultaneous=True, cohort=cohort, n_flips=100).reach


def test_what_can_not_be_is_refused(both):
    cohort, result = both
    other = asked(tilt=0.3)[0]
    f = analysed(contrast=np.eye(2), tfce=False)
    v = analysed(variance_groups=np.repeat([0, 1], 7), tfce=False)
    cases = (
        (lambda: result.interval(simultaneous=True), "cohort="),
        (lambda: result.interval(simultaneous=True, cohort={"a": cohort}), "of one modality"),
        (lambda: result.confidence_set(1.0), "cohort="),
        (lambda: result.interval(simultaneous=True, cohort=other), "unchanged"),
        (lambda: result.interval(95), "coverage"),
        (lambda: result.interval(of="t"), "'effect' or 'cohens_d'"),
        (lambda: result.interval(simultaneous=True, cohort=cohort, n_flips=5), "n_flips"),
        (lambda: result.confidence_set(np.nan, cohort=cohort), "finite"),
        (lambda: f.interval(), "test of f"),
        (lambda: v.confidence_set(1.0, cohort=cohort), "test of v"),
    )
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_effects_of_another_fit_are_refused(both):
    cohort, result = both
    maps = {name: result.maps[name] for name in result.maps if not name.startswith("logp_")}
    for name in ("effect", "effect_lower", "effect_upper"):
        maps[name] = maps[name] + 0.1
    weighted = dataclasses.replace(result, maps=maps)
    for call in (
        lambda: weighted.interval(simultaneous=True, cohort=cohort, n_flips=100),
        lambda: weighted.confidence_set(1.0, cohort=cohort, n_flips=100),
    ):
        with pytest.raises(InputError, match="ordinary least squares"):
            call()
    maps["effect_upper"] = maps["effect_upper"] + 1
    with pytest.raises(InputError, match="Degrees of freedom differ"):
        dataclasses.replace(result, maps=maps).interval()


def test_blocks_are_flipped_as_wholes_where_the_test_had_them_so():
    cohort, design = asked()
    blocks = np.repeat(np.arange(7), 2)
    one = ng.permutation_test(
        cohort, design, "intercept", n_perm=20, exchangeability_blocks=blocks, block_scheme="whole", errors="ise"
    )
    from numbaglm.results.confidence import _flips

    sign = _flips(one, "effect", cohort, 100, 0).sign
    assert (sign[:, ::2] == sign[:, 1::2]).all()
    assert one.interval(simultaneous=True, cohort=cohort, n_flips=100).reach > 2


def test_parcels_have_no_boundary_and_surfaces_do():
    from reference.surfaces import surface

    rng = np.random.default_rng(0)
    table = ng.Cohort.from_maps(pd.DataFrame(rng.normal(size=(10, 4)) + 2, columns=list("abcd")))
    parcels = ng.permutation_test(table, n_perm=20)
    assert parcels.interval(simultaneous=True, cohort=table, n_flips=100).lower.shape == (4,)
    with pytest.raises(InputError, match="simultaneous intervals"):
        parcels.confidence_set(1.0, cohort=table)
    rise = np.linspace(0, 4, 18, dtype=np.float32)
    images = [surface(rng.normal(size=18).astype(np.float32) + rise) for _ in range(10)]
    cohort = ng.Cohort.from_maps(images)
    found = ng.permutation_test(cohort, n_perm=20).confidence_set(1.0, cohort=cohort, n_flips=100)
    assert found.n_boundary > 0
    assert set(found.to_image()) == {"left", "right"}


def test_pairs_of_a_volume_share_a_face():
    mask = np.ones((2, 2, 3), bool)
    mask[0, 0, 1] = False
    place = Geometry(mask, np.eye(4))
    pairs = place.pairs()
    distance = np.abs(place.ijk[pairs[:, 0]] - place.ijk[pairs[:, 1]]).sum(axis=1)
    assert (distance == 1).all()
    n = sum(int(np.abs(a - b).sum() == 1) for i, a in enumerate(place.ijk) for b in place.ijk[:i])
    assert len(np.unique(np.sort(pairs, axis=1), axis=0)) == len(pairs) == n


def test_elements_that_not_all_subjects_have_are_left_out_as_in_the_test():
    maps = np.random.default_rng(0).normal(size=(12, 30)).astype(np.float32) + 1
    maps[3, 5] = np.nan
    table = pd.DataFrame(maps, columns=[f"r{k}" for k in range(30)])
    cohort = ng.Cohort.from_maps(table, min_subjects=0.5)
    assert cohort.n_voxels == 30
    result = ng.permutation_test(cohort, n_perm=20)
    assert result.interval(simultaneous=True, cohort=cohort, n_flips=100).lower.shape == (29,)
    each = ng.permutation_test(cohort, n_perm=20, missing="element")
    pointwise = each.interval()
    np.testing.assert_array_equal(pointwise.lower, each.maps["effect_lower"])
    narrower = each.interval(0.8)
    t = stats.ttest_1samp(maps[:, 5], 0, nan_policy="omit").confidence_interval(0.8)
    np.testing.assert_allclose([narrower.lower[5], narrower.upper[5]], [t.low, t.high], rtol=1e-5)
    assert pointwise.reach == pytest.approx(stats.t.ppf(0.975, 10))  # of the element with a subject less


def fits_of_other_kinds():
    cohort, _ = asked()
    pairs, options = np.repeat(np.arange(7), 2), {"n_perm": 20}
    rng = np.random.default_rng(0)
    holed = cohort.store.read(0, cohort.n_voxels)[:, :40].copy()
    holed[3, 5] = np.nan
    table = ng.Cohort.from_maps(pd.DataFrame(holed, columns=[f"r{k}" for k in range(40)]), min_subjects=0.5)
    gls = {"covariance": "binned-gls", "effects": ["family", "error"]}
    yield "covariance='binned-gls'", cohort, gls | options | {"exchangeability_blocks": pairs}
    yield "covariance='sandwich'", cohort, {"covariance": "sandwich", "exchangeability_blocks": pairs} | options
    yield "weights", cohort, {"weights": rng.uniform(0.5, 1, 14)} | options
    yield "missing='element'", table, {"missing": "element"} | options


def test_simultaneous_ones_of_other_fits_are_refused_by_name_before_any_work(monkeypatch):
    monkeypatch.setattr(confidence, "flip_all", None)
    monkeypatch.setattr(confidence, "estimate_some", None)
    for name, cohort, options in fits_of_other_kinds():
        result = ng.permutation_test(cohort, **options)
        assert (result.interval().lower <= result.maps["effect"]).all()
        for of in ("effect", "cohens_d"):
            with pytest.raises(InputError, match=f"is of {re.escape(name)}"):
                result.interval(simultaneous=True, of=of, cohort=cohort)
