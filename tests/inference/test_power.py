"""Power by cohorts that are drawn and tested."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import numbaglm as ng
from numbaglm.engine.progress import Bar
from numbaglm.errors import InputError, OutputExistsError
from numbaglm.inference.power import Pilot, _moderated
from reference.reports import analysed, asked

FEW = {"n_cohorts": 10, "n_perm": 99, "n_workers": 1}


@pytest.fixture(scope="module")
def pilot():
    return analysed(n_perm=20)


def parcels(n, n_parcels=1, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, n_parcels))
    return ng.Cohort.from_maps(pd.DataFrame(noise, columns=[f"r{k}" for k in range(n_parcels)]))


def test_power_of_one_parcel_is_that_of_t():
    cohort = parcels(60)
    groups = pd.DataFrame({"patient": np.arange(60) % 2, "intercept": 1.0})
    pilot = ng.permutation_test(cohort, groups, "patient", n_perm=99)
    deviation = np.sqrt(np.sum(pilot.maps["effect_se"] ** 2) / (4 / 60))
    found = ng.power(pilot, 30, cohort=cohort, effect=deviation, n_cohorts=60, n_perm=99, n_workers=1)
    far, beyond = np.sqrt(30) / 2, stats.t.isf(0.025, 28)
    expected = stats.nct.sf(beyond, 28, far) + stats.nct.cdf(-beyond, 28, far)
    (row,) = found.curve.itertuples()
    assert row.any == row.share == found.maps[0, 0]
    assert row.any_lower < expected < row.any_upper
    none = ng.power(pilot, 20, cohort=cohort, effect=0, n_cohorts=30, n_perm=99, n_workers=1)
    assert none.curve["any_lower"][0] < 0.05
    assert none.curve["any"][0] < 0.2


def test_power_of_f_is_that_of_f():
    cohort = parcels(60, seed=1)
    site = np.arange(60) % 3
    groups = pd.DataFrame({f"site {k}": (site == k).astype(float) for k in range(3)})
    pilot = ng.permutation_test(cohort, groups, [[1, -1, 0], [0, 1, -1]], n_perm=99)
    residual = parcels(60, seed=1).store.read(0, 1)
    residual = residual - groups.to_numpy() @ np.linalg.pinv(groups.to_numpy()) @ residual
    deviation = np.sqrt(np.sum(residual**2) / 57)
    effect = np.array([0.9, -0.9]) * deviation  # means 0.6, -0.3 and 0.6 deviations from what they share
    found = ng.power(pilot, 30, cohort=cohort, effect=effect, n_cohorts=60, n_perm=99, n_workers=1)
    means = np.linalg.pinv(np.array([[1.0, -1, 0], [0, 1, -1]])) @ effect / deviation
    expected = stats.ncf.sf(stats.f.isf(0.05, 2, 27), 2, 27, 10 * np.sum((means - means.mean()) ** 2))
    (row,) = found.curve.itertuples()
    assert row.any_lower < expected < row.any_upper
    with pytest.raises(InputError, match="2 numbers, a row of the contrast each"):
        ng.power(pilot, 30, cohort=cohort, effect=0.5)


def test_it_logs_a_line_for_each_number_of_subjects_and_none_for_each_study(caplog):
    cohort = parcels(20)
    pilot = ng.permutation_test(cohort, n_perm=20)
    caplog.set_level("INFO", "numbaglm")
    caplog.clear()
    ng.power(pilot, [10, 12], cohort=cohort, effect=1.0, **FEW)
    assert [line.partition(":")[0] for line in caplog.messages] == ["10 subjects", "12 subjects"]


def test_an_effect_of_the_pilot_itself_is_told_to_be_one_and_too_few_shufflings_are_refused():
    cohort = parcels(20)
    pilot = ng.permutation_test(cohort, n_perm=20)
    own = ng.power(pilot, 12, cohort=cohort, **FEW)
    stated = ng.power(pilot, 12, cohort=cohort, effect=pilot.maps["effect"], **FEW)
    assert own.curve.equals(stated.curve)
    assert "that the pilot estimates" in own.promise
    assert "It mostly is smaller, and power too" in own.in_words()
    assert "that was stated" in stated.in_words()
    assert "smaller" not in stated.promise
    with pytest.raises(InputError, match=r"99, of which no p is 0.009 or less.* 111 or more"):
        ng.power(pilot, 12, cohort=cohort, alpha=0.009, **FEW)


def test_groups_and_sites_keep_their_noise():
    noise = np.random.default_rng(3).normal(size=(40, 50))
    group, site = np.arange(40) % 2, np.arange(40) // 20
    noise[group == 1] *= 5
    noise[site == 1] *= 3
    cohort = ng.Cohort.from_maps(pd.DataFrame(noise))
    design = pd.DataFrame({"patient": group, "one": site == 0, "two": site == 1}, dtype=float)
    how = {"variance_groups": group, "exchangeability_blocks": site}
    pilot = ng.permutation_test(cohort, design, "patient", n_perm=99, **how)
    _, Y, labels = Pilot.build(pilot, cohort, 0.0, 60).draw(60, np.random.default_rng(0))
    assert set(labels) == set(how)
    spread = [Y[(labels["variance_groups"] == k) & (labels["exchangeability_blocks"] == s)].std() for k, s in KINDS]
    np.testing.assert_allclose(spread, [1, 3, 5, 15], rtol=0.2)
    few, many = (ng.power(pilot, 60, cohort=cohort, effect=size, **FEW).curve["share"][0] for size in (1.0, 20.0))
    assert few < 0.2 < 0.9 < many


KINDS = ((0, 0), (0, 1), (1, 0), (1, 1))


def test_noise_has_the_variance_of_errors_and_designs_their_rows(pilot):
    result, (cohort, design) = pilot, asked()
    pilot = Pilot.build(result, cohort, None, 20)
    np.testing.assert_allclose(pilot.effect, result.maps["effect"][None], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((pilot.noise**2).mean(axis=0).mean(), np.mean(_variance(result, design)), rtol=0.05)
    rows, Y, labels = pilot.draw(20, np.random.default_rng(0))
    assert labels == {}
    assert Y.shape == (20, result.space.n)
    assert {tuple(row) for row in rows} == {tuple(row) for row in design.to_numpy()}
    with pytest.raises(InputError, match="more subjects: 2 rows"):
        pilot.draw(2, np.random.default_rng(0))


@pytest.mark.parametrize("prior", [np.inf, 6.0])
def test_variances_lie_as_far_apart_as_they_do_but_for_chance(prior):
    rng, dof, n = np.random.default_rng(0), 16, 20_000
    true = np.full(n, 3.0) if np.isinf(prior) else 3.0 * prior / rng.chisquare(prior, n)
    found = true * rng.chisquare(dof, n) / dof
    moderated = found * _moderated(np.append(found, 0.0), dof)[:-1]
    best = 3.0 if np.isinf(prior) else (prior * 3.0 + dof * found) / (prior + dof)  # the mean of what is true, given it
    np.testing.assert_allclose(moderated, best, rtol=0.05)
    assert _moderated(np.array([2.0]), dof) == 1


def _variance(result, design):
    return result.maps["effect_se"] ** 2 / np.linalg.inv(design.T.to_numpy() @ design.to_numpy())[0, 0]


@pytest.mark.parametrize("by", ["voxel", "size", "mass", "tfce"])
def test_more_subjects_find_more(by, pilot, tmp_path):
    cohort, _ = asked()
    strong = np.abs(pilot.maps["effect"]) > 3
    found = ng.power(pilot, [24, 8], cohort=cohort, effect=0.3 * pilot.maps["effect"], region=strong, by=by, **FEW)
    assert found.curve["n_subjects"].tolist() == [8, 24]
    assert found.curve["share"].is_monotonic_increasing
    assert found.curve["share"][1] > found.curve["share"][0]
    np.testing.assert_allclose(found.maps[:, strong].mean(axis=1), found.curve["share"])
    assert (found.curve["share_lower"] <= found.curve["share"]).all()
    assert f"by {by}" in repr(found)
    image = found.to_image(24)
    np.testing.assert_allclose(image.get_fdata()[pilot.space.mask], found.maps[1], rtol=1e-6)
    again = ng.power(pilot, 24, cohort=cohort, effect=0.3 * pilot.maps["effect"], by=by, **(FEW | {"n_workers": 2}))
    np.testing.assert_array_equal(again.maps[0], found.maps[1])
    if by == "voxel":
        found.plot(save=tmp_path / "power.png")
        assert (tmp_path / "power.png").exists()


def test_needed_is_the_least_that_was_tried(pilot):
    found = ng.power(pilot, [6, 40], cohort=asked()[0], **FEW)
    assert found.needed(0.95) == 40
    assert found.needed(0.99, of="share") is None
    with pytest.raises(InputError, match="'power'"):
        found.needed(1.0)
    with pytest.raises(InputError, match="'of'"):
        found.needed(of="all")
    with pytest.raises(InputError, match="one of"):
        found.to_image(7)


def test_an_effect_may_be_an_image_or_an_array(pilot):
    cohort, _ = asked()
    volume = np.zeros(pilot.space.mask.shape)
    volume[pilot.space.mask] = pilot.maps["effect"]
    image = nib.Nifti1Image(volume, pilot.space.volume.affine)
    for effect in (volume, image, pilot.maps["effect"]):
        np.testing.assert_allclose(Pilot.build(pilot, cohort, effect, 9).effect[0], pilot.maps["effect"], rtol=1e-5)
    with pytest.raises(InputError, match="on the grid of the maps"):
        Pilot.build(pilot, cohort, nib.Nifti1Image(volume, np.eye(4)), 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": []}, "'n'"),
        ({"n": [20, 20]}, "'n'"),
        ({"n": 20.5}, "'n'"),
        ({"alpha": 0}, "'alpha'"),
        ({"n_cohorts": 3}, "'n_cohorts'"),
        ({"n_perm": 20}, "'n_perm'"),
        ({"by": "extent"}, "'by'"),
        ({"effect": [1.0, 2.0]}, "'effect'"),
        ({"effect": np.nan}, "'effect'"),
        ({"region": np.zeros(3)}, "region"),
        ({"cohort": "cohort.zarr"}, "'cohort'"),
        ({"cohort": parcels(14)}, "'cohort'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message, pilot):
    with pytest.raises(InputError, match=message):
        ng.power(pilot, **({"n": 20, "cohort": asked()[0]} | options))


@pytest.mark.parametrize(
    "options",
    [
        {"weights": np.ones(14)},
        {"variance_smoothing_fwhm": 4.0, "tfce": False},
        {"covariance": "sandwich"},
    ],
)
def test_pilots_of_other_tests_are_refused(options):
    with pytest.raises(InputError, match="ordinary least squares"):
        ng.power(analysed(**({"n_perm": 0, "tfce": False} | options)), 20, cohort=asked()[0])


@pytest.mark.parametrize("options", [{}, {"exchangeability_blocks": np.arange(14) // 7, "block_scheme": "whole"}])
def test_families_and_visits_are_refused(options):
    blocks = {"exchangeability_blocks": np.arange(14) // 2, "n_perm": 0, "tfce": False} | options
    with pytest.raises(InputError, match="Power in blocks"):
        ng.power(analysed(**blocks), 20, cohort=asked()[0])


def test_it_is_saved_as_a_table_a_picture_and_maps(pilot, tmp_path):
    found = ng.power(pilot, [8, 24], cohort=asked()[0], **FEW)
    out = found.save(tmp_path / "power")
    kept = pd.read_csv(out / "power.tsv", sep="\t")
    pd.testing.assert_frame_equal(kept, found.curve)
    image = nib.load(out / "power_n24.nii.gz")
    np.testing.assert_allclose(image.get_fdata()[pilot.space.mask], found.maps[1], rtol=1e-6)
    names = {"README.md", "mask.nii.gz", "power.png", "power.tsv", "power_n24.nii.gz", "power_n8.nii.gz"}
    assert {path.name for path in out.iterdir()} == names
    told = (out / "README.md").read_text()
    assert "in 80 % of studies" in told
    assert "`power_n*`: share of studies" in told
    with pytest.raises(OutputExistsError):
        found.save(out)
    found.save(out, overwrite=True)


def test_one_bar_moves_by_the_subjects_of_cohorts(pilot, monkeypatch):
    seen = []
    monkeypatch.setattr(Bar, "begin", lambda bar, label, total, seconds: seen.append((label, total)))
    monkeypatch.setattr(Bar, "advance", lambda bar, done: seen.append(done))
    ng.power(pilot, [8, 24], cohort=asked()[0], progress=True, **FEW)
    assert seen == [("cohorts", 10 * 32), *[8] * 10, *[24] * 10]


def test_clusters_must_have_been_formed():
    with pytest.raises(InputError, match="has none"):
        ng.power(analysed(n_perm=20, cluster_forming_threshold=None), 20, cohort=asked()[0], by="size")


def test_without_a_pilot_an_effect_and_noise_are_stated():
    inside = np.ones((4, 4, 4), np.uint8)
    mask, d = (nib.Nifti1Image(one, np.diag([3.0, 3, 3, 1])) for one in (inside, np.where(inside, 0.8, 0.0)))
    how = {"mask": mask, "noise_fwhm": 60.0, "n_cohorts": 60, "n_perm": 99, "n_workers": 1}
    found = ng.power(d, [10, 20], **how)
    for row in found.curve.itertuples():  # so smooth that the map is one voxel
        far, beyond = 0.8 * np.sqrt(row.n_subjects), stats.t.isf(0.025, row.n_subjects - 1)
        expected = stats.nct.sf(beyond, row.n_subjects - 1, far)
        assert row.any_lower - 0.05 < expected < row.any_upper + 0.05
    assert found.to_image(20).shape == (4, 4, 4)
    for options in ({"mask": None}, {"noise_fwhm": None}, {"noise_fwhm": -1}):
        with pytest.raises(InputError, match="Without a pilot"):
            ng.power(d, 10, **(how | options))
    with pytest.raises(InputError, match="map of Cohen's d alone"):
        ng.power(d, 10, effect=1.0, **how)


def test_with_a_pilot_nothing_else_is_stated(pilot):
    with pytest.raises(InputError, match="None with a pilot"):
        ng.power(pilot, 10, cohort=asked()[0], noise_fwhm=8.0)
    with pytest.raises(InputError, match="'cohort'"):
        ng.power(pilot, 10)
