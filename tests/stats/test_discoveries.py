import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage, stats

from numbaglm.errors import InputError, NumbaglmWarning
from numbaglm.kernels.discoveries import component_tree
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.stats.discoveries import (
    NAMES,
    RULES,
    SHIFT,
    Beta,
    Learned,
    Lists,
    Simes,
    TrueDiscoveries,
    Way,
    ari,
    calibrate,
    calibrate_together,
    hommel_value,
    least_levels,
    true_discoveries,
)
from reference import discoveries as reference

ALPHAS = st.sampled_from([0.05, 0.1, 0.2, 0.5])


def some_p(n_max):
    """Few p: fine ones, small and large; or those of 20 shufflings, with ties among them and with alpha."""
    fine = st.floats(-6, 0).map(lambda x: float(10.0**x)) | st.sampled_from([0.0, 1.0])
    coarse = st.integers(0, 20).map(lambda k: k / 20)
    return (st.lists(fine, min_size=1, max_size=n_max) | st.lists(coarse, min_size=1, max_size=n_max)).map(np.array)


@given(some_p(25), ALPHAS)
def test_hommel_value_is_the_largest_set_that_simes_keeps(p, alpha):
    assert hommel_value(p, alpha) == reference.hommel_value(p, alpha)


@given(some_p(7), ALPHAS, st.data())
def test_ari_is_closed_testing(p, alpha, data):
    region = np.array(data.draw(st.lists(st.booleans(), min_size=p.size, max_size=p.size)))
    assume(region.any())
    expected = reference.closed_testing(p, np.flatnonzero(region).tolist(), alpha)
    assert true_discoveries(p, region, alpha) == TrueDiscoveries(int(region.sum()), expected, alpha)


def test_a_region_is_a_mask_or_numbers_or_labels():
    rng = np.random.default_rng(0)
    p = np.where(rng.random(500) < 0.3, 1e-5, 1) * rng.random(500)
    label = rng.integers(-1, 4, 500)
    found = true_discoveries(p, label)
    assert list(found) == [-1, 1, 2, 3]
    for number, of_label in found.items():
        assert of_label == true_discoveries(p, label == number) == true_discoveries(p, np.flatnonzero(label == number))
        assert of_label.n_elements == (label == number).sum()
        assert 0 < of_label.tdp == of_label.n_true / of_label.n_elements < 1
    assert true_discoveries(p, []) == TrueDiscoveries(0, 0, 0.05)
    assert true_discoveries(p, []).tdp == 0


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ([True, False], "a mask of 2"),
        ([0, 5], "got 5"),
        ([-1], "got -1"),
        ([1, 1], "more than once"),
        ([0.0, 1.0], "float64"),
        (np.zeros((2, 2), int), r"\(2, 2\)"),
        ([4, 2, 1, 3, 0], "give a mask"),
    ],
)
def test_regions_that_are_refused(region, message):
    with pytest.raises(InputError, match=f"'region'.*{message}"):
        true_discoveries(np.full(5, 0.5), region)


@pytest.mark.parametrize(
    ("p", "alpha", "message"),
    [
        ([0.1, np.nan, 2], 0.05, r"nan at \[1\]"),
        ([0.1, 0.2, -0.5], 0.05, r"-0.5 at \[2\]"),
        ([0.1, np.inf], 0.05, r"inf at \[1\]"),
        ([[0.1]], 0.05, "one dimension"),
        ([], 0.05, "one dimension"),
        (["a"], 0.05, "numbers"),
        ([0.1], 1.0, "'alpha'"),
        ([0.1], np.nan, "'alpha'"),
    ],
)
def test_p_that_are_refused(p, alpha, message):
    with pytest.raises(InputError, match=message):
        true_discoveries(p, [], alpha)


def smooth_z(shape, seed, effect=2.0):
    """z of smooth noise, with an effect in one corner, and its mask."""
    z = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1)
    z = z / z.std()
    z[tuple(slice(side // 2) for side in shape)] += effect
    mask = np.ones(shape, bool)
    mask[-1, -1] = False
    return np.where(mask, z, 0), mask


@pytest.mark.parametrize("effect", [0.0, 2.0, 4.0])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_same_as_nilearn(effect, alpha):
    thresholding = pytest.importorskip("nilearn.glm.thresholding")
    z, mask = smooth_z((12, 12, 12), 3, effect)
    values = z[mask]
    p = stats.norm.sf(values)
    h = thresholding._compute_hommel_value(values, alpha)
    assert hommel_value(p, alpha) == h
    for threshold in (1.0, 2.0, 3.0):
        labels = ndimage.label((z > threshold) & mask)[0]
        assert labels.max() > 0
        for label, found in true_discoveries(p, labels[mask], alpha).items():
            assert found.tdp == thresholding._true_positive_fraction(z[labels == label], h, alpha)


def test_clusters_at_all_thresholds_as_nilearn_at_some():
    thresholding = pytest.importorskip("nilearn.glm.thresholding")
    nibabel = pytest.importorskip("nibabel")
    z, mask = smooth_z((10, 10, 10), 4)
    image, mask_image = (nibabel.Nifti1Image(array.astype(float), np.eye(4)) for array in (z, mask))
    clusters = bounds_of_clusters(z, mask)
    values = np.sort(z[mask])[::-1]
    for n_above in (20, 100, 300):
        threshold = float(values[n_above - 1 : n_above + 1].mean())
        expected = thresholding.cluster_level_inference(image, mask_image, threshold=threshold).get_fdata()[mask]
        labels, n_labels = ndimage.label(z > threshold)
        for label in range(1, n_labels + 1):
            inside = labels[mask] == label
            lowest = np.flatnonzero(inside)[z[mask][inside].argmin()]
            (node,) = np.flatnonzero(clusters.tree.element == lowest)
            assert clusters.n_elements[node] == inside.sum()
            assert clusters.n_true[node] / inside.sum() == expected[lowest]


def bounds_of_clusters(z, mask, alpha=0.05):
    shape = tuple(side + 2 for side in mask.shape)
    volume = new_volume(np.flatnonzero(np.pad(mask, 1)).astype(np.int32), shape, 6)
    return ari(stats.norm.sf(z[mask]), alpha).of_clusters(component_tree(z[mask], volume, False))


@pytest.mark.parametrize("decimals", [1, 7])
def test_the_largest_clusters_are_those_of_some_threshold(decimals):
    z, mask = smooth_z((10, 10, 10), 5)
    z = z.round(decimals)
    clusters = bounds_of_clusters(z, mask)
    p, best = stats.norm.sf(z[mask]), np.zeros(mask.sum())
    for threshold in np.unique(z[z > 0]):
        labels = ndimage.label((z >= threshold) & mask)[0][mask]
        for label, found in true_discoveries(p, labels).items():
            best[labels == label] = np.maximum(best[labels == label], found.tdp)
    np.testing.assert_array_equal(clusters.best_tdp(), best)
    assert 0 < best.max() <= 1

    for tdp in (0.3, 0.7, 1.0):
        found = clusters.largest(tdp)
        np.testing.assert_array_equal(found.labels > 0, best >= tdp)
        sizes = [cluster.n_elements for cluster in found.clusters]
        assert sizes == sorted(sizes, reverse=True) == np.bincount(found.labels)[1:].tolist()
        for number, cluster in enumerate(found.clusters, 1):
            assert cluster == true_discoveries(p, found.labels == number)
            assert cluster.tdp >= tdp
            inside = np.zeros(mask.shape, bool)
            inside[mask] = found.labels == number
            assert ndimage.label(inside)[1] == 1
    with pytest.raises(InputError, match="'tdp'"):
        clusters.largest(0)


def shuffled_p(seed, n_shufflings, n_elements, n_listed=None, effect=0.0):
    """One-sided p of t under sign flips of 12 subjects, smallest first, whose they are, and all p of the observed."""
    rng = np.random.default_rng(seed)
    Y = rng.normal(size=(12, n_elements)) + 0.3 * rng.normal(size=(12, 1))
    Y[:, : n_elements // 5] += effect
    signs = rng.choice([-1.0, 1.0], size=(n_shufflings, 12))
    signs[0] = 1
    mean = signs @ Y / 12
    p = stats.t.sf(mean / np.sqrt(((Y**2).mean(axis=0) - mean**2) / 11), 11)
    elements = np.argsort(p, axis=1)[:, :n_listed]
    return np.take_along_axis(p, elements, axis=1), elements, p[0]


def templates(n_listed, n_elements):
    training = shuffled_p(99, 200, n_elements, n_listed)[0]
    return {"simes": Simes(), "shifted": Simes(shift=4), "beta": Beta(), "learned": Learned.learn(training)}


@pytest.mark.parametrize("name", ["simes", "shifted", "beta", "learned"])
@pytest.mark.parametrize("alpha", [0.05, 0.33])
def test_the_level_is_the_largest_at_which_alpha_of_the_shufflings_err(name, alpha):
    p, _, observed = shuffled_p(1, 100, 60, 20, effect=0.5)
    template = templates(20, 60)[name]
    found = calibrate(p, 60, template, alpha)
    np.testing.assert_array_equal(found.thresholds, template.thresholds(found.level, 20, 60))
    higher = found.level + 1e-3 * abs(found.level)
    n_allowed = round(100 * alpha)
    assert reference.n_erring(p, found.thresholds) <= n_allowed
    assert reference.n_erring(p, template.thresholds(higher, 20, 60)) > n_allowed

    bound = found.bound(observed)
    for region in (observed < 0.01, np.arange(60) % 2 == 0, np.ones(60, bool)):
        false = reference.false_discoveries(observed[region], found.thresholds * (1 - 1e-10))
        assert bound.of(region) == TrueDiscoveries(int(region.sum()), int(region.sum()) - false, alpha)


def test_templates_are_what_they_are_named_after():
    k = np.arange(1, 21)
    np.testing.assert_allclose(Simes().thresholds(0.3, 20, 60), 0.3 * k / 60)
    np.testing.assert_allclose(Simes(shift=4).thresholds(0.3, 20, 60), 0.3 * np.maximum(k - 4, 0) / 56)
    np.testing.assert_allclose(Beta().thresholds(0.3, 20, 60), stats.beta.ppf(0.3, k, 61 - k))
    np.testing.assert_allclose([Beta().level(0.3, j, 60) for j in k], stats.beta.cdf(0.3, k, 61 - k))
    training = shuffled_p(99, 200, 60, 20)[0]
    for level in (50, 50.3):
        expected = np.quantile(training, level / 199, axis=0)
        np.testing.assert_allclose(Learned.learn(training).thresholds(level, 20, 60), expected)


@pytest.mark.parametrize("name", ["simes", "shifted", "beta", "learned"])
@pytest.mark.parametrize("n_listed", [8, 60, 300])
def test_levels_are_exact_where_they_are_needed(name, n_listed):
    p, template = shuffled_p(2, 200, 300, n_listed)[0], templates(n_listed, 300)[name]
    expected = np.sort([min(template.level(row[k - 1], k, 300) for k in range(1, n_listed + 1)) for row in p])
    for n_least in (1, 13, 200):
        found = least_levels(template, p, 300, n_least)
        np.testing.assert_array_equal(np.sort(found)[:n_least], expected[:n_least])
        assert (np.sort(found) >= expected).all()


@pytest.mark.parametrize(("name", "n_listed"), [("simes", 30), ("simes", 60), ("beta", 30)])
def test_stepping_down_is_calibration_without_what_was_found(name, n_listed):
    p, elements, observed = shuffled_p(3, 100, 60, n_listed, effect=3.0)
    template = templates(n_listed, 60)[name]
    once, down = calibrate(p, 60, template), calibrate(p, 60, template, elements=elements)
    assert 0 < down.n_left_out < 60
    assert down.level > once.level
    assert (down.thresholds >= once.thresholds).all()
    everything = shuffled_p(3, 100, 60, effect=3.0)
    out = np.zeros(60, bool)
    while True:
        left = np.array([row[~out[whose]] for row, whose in zip(*everything[:2], strict=True)])[:, :n_listed]
        padded = np.pad(left, ((0, 0), (0, n_listed - left.shape[1])), constant_values=1.0)
        level = np.sort(least_levels(template, padded, 60, 100))[5]
        found = observed < template.thresholds(level, n_listed, 60)[0] * (1 - 1e-12)
        if (found == out).all():
            break
        out = found
    if n_listed == 60:
        assert (down.level, down.n_left_out) == (level, out.sum())
    else:  # the lists that became shorter say less
        assert once.level < down.level <= level


def test_what_fills_a_list_up_is_no_element():
    p, elements, _ = shuffled_p(2, 100, 60, 30, effect=1.5)
    filled, lacks = p.copy(), elements.copy()
    filled[1::2, 20:], lacks[1::2, 20:] = p[1::2, 19:20], 60
    down = calibrate(filled, 60, elements=lacks)
    assert down.n_left_out > 0
    assert calibrate(filled, 60).level < down.level <= calibrate(p, 60, elements=elements).level


@given(st.integers(0, 10**6), st.sampled_from(["simes", "beta", "learned"]), st.booleans())
def test_maps_that_are_calibrated_together_err_as_one(seed, name, steps_down):
    found = [shuffled_p(seed + k, 60, 40, 20, effect=1.0 * k) for k in range(2)]
    lists = []
    for p, elements, _ in found:
        template = Learned.learn(shuffled_p(seed + 9, 50, 40, 20)[0]) if name == "learned" else name
        lists.append(Lists(p, template, elements if steps_down else None))
    both = calibrate_together(lists, 40, 0.1)
    assert both[0].level == both[1].level
    assert {one.n_together for one in both} == {2}
    if not steps_down:
        alone = [calibrate(one.sorted_p, 40, one.template, 0.1) for one in lists]
        assert both[0].level <= min(one.level for one in alone)
        below = [(one.sorted_p < its.thresholds * (1 - 1e-9)).any(axis=1) for one, its in zip(lists, both, strict=True)]
        above = [
            (one.sorted_p <= its.thresholds * (1 + 1e-9)).any(axis=1) for one, its in zip(lists, both, strict=True)
        ]
        assert np.logical_or(*below).sum() <= 6 < np.logical_or(*above).sum()


def test_maps_of_other_shufflings_are_not_calibrated_together():
    with pytest.raises(InputError, match="100, 60 shufflings"):
        calibrate_together([Lists(shuffled_p(1, n, 40, 20)[0]) for n in (100, 60)], 40)


def test_ways_have_names():
    for name in (*NAMES, "shifted-5"):
        way = Way.parse(name)
        assert way.name == name + f"-{SHIFT}" * (name == "shifted")
        assert ("stepping down" in way.words) == way.steps_down == name.endswith("step-down")
    assert (Way.parse("learned").template, Way.parse("shifted-5").shift, Way.parse("beta").shift) == (None, 5, 0)
    for name in ("ari", "shifted-0", "shifted-5-step-down", "simes-step-down-step-down", "learned-5", ""):
        assert Way.parse(name) is None


def test_a_shifted_template_does_not_step_down():
    p, elements, _ = shuffled_p(3, 100, 60, 30, effect=1.5)
    down = calibrate(p, 60, Simes(shift=3), elements=elements)
    assert down.n_left_out == 0
    assert (down.thresholds[:3] == 0).all()
    assert down.thresholds[3] > 0


def test_below_the_lowest_curve_thresholds_go_on_down_to_0():
    p = shuffled_p(4, 100, 60, 20, effect=1.0)[0]
    template = Learned.learn(np.sort(np.random.default_rng(0).uniform(0.5, 1, (50, 20)), axis=1))
    found = calibrate(p, 60, template)
    assert -1 < found.level < 0
    np.testing.assert_allclose(found.thresholds, (found.level + 1) * template.curves[:, 0])
    assert reference.n_erring(p, found.thresholds) == 5
    # notip has nothing there, and draws a line.
    with pytest.warns(NumbaglmWarning, match="No curve"):
        line = calibrate(p, 60, template, rule="notip")
    assert isinstance(line.template, Simes)
    assert line.level == calibrate(p, 60, rule="sanssouci").level


def test_above_the_highest_curve_thresholds_go_no_further():
    p = shuffled_p(4, 100, 60, 20)[0]
    found = calibrate(p, 60, Learned.learn(p[:30] * 1e-6))
    assert found.level == 29
    np.testing.assert_array_equal(found.thresholds, p[:30].max(axis=0) * 1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.29])
def test_rules_of_others(alpha):
    p = shuffled_p(5, 101, 60, 20)[0]
    levels = least_levels(Simes(), p, 60, 101)
    found = {rule: calibrate(p, 60, alpha=alpha, rule=rule).level for rule in RULES}
    assert found["exact"] == reference.lower_quantile(levels, alpha)
    assert found["pari"] == np.sort(levels)[int(np.floor(alpha * 101))]
    assert found["sanssouci"] == found["notip"] == np.quantile(levels[1:], alpha)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.333, 0.9])
@pytest.mark.parametrize("n_training", [30, 200])
def test_the_same_as_sanssouci(alpha, n_training):
    sanssouci = pytest.importorskip("sanssouci")
    p, _, observed = shuffled_p(6, 101, 60, effect=0.7)
    training = shuffled_p(99, n_training, 60)[0]
    for ours, its, inverse in (
        (Simes(), sanssouci.linear_template, sanssouci.inverse_linear_template),
        (Beta(), sanssouci.beta_template, sanssouci.inverse_beta_template),
    ):
        level = np.quantile(sanssouci.get_pivotal_stats(p[1:], inverse, K=20), alpha)
        found = calibrate(p[:, :20], 60, ours, alpha, rule="sanssouci")
        np.testing.assert_allclose(found.level, level, rtol=1e-10)
        np.testing.assert_allclose(found.thresholds, its(level, 20, 60), rtol=1e-9)
        for region in (observed < 0.05, np.arange(60) % 3 == 0):
            expected = sanssouci.min_tp(observed[region], found.thresholds)
            assert found.bound(observed).of(region).n_true == expected
    level = np.quantile(sanssouci.get_pivotal_stats_shifted(p[1:], K=20, k_min=3), alpha)
    shifted = calibrate(p[:, :20], 60, Simes(shift=3), alpha, rule="sanssouci")
    np.testing.assert_allclose(shifted.thresholds, sanssouci.shifted_linear_template(level, 20, 60, 3), rtol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few curves: it falls back, and so do we
        learned = calibrate(p[:, :20], 60, Learned.learn(training[:, :20]), alpha, rule="notip")
        expected = sanssouci.calibrate_jer(alpha, np.sort(training, axis=0), p[1:], 20)
    np.testing.assert_array_equal(learned.thresholds, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sorted_p": [[0.1, 0.3], [0.2, 0.1]]}, "0.2 before 0.1 in row 1"),
        ({"sorted_p": [[0.1, 0.3], [0.2, np.nan]]}, r"nan at \[1, 1\]"),
        ({"sorted_p": [0.1, 0.2]}, "n_shufflings, n_thresholds"),
        ({"sorted_p": np.full((10, 2), 0.5)}, "at least 20 shufflings"),
        ({"n_elements": 1}, "'n_elements'"),
        ({"template": "gamma"}, "'gamma'. Allowed: simes, beta"),
        ({"template": Simes(shift=2)}, "'shift'"),
        ({"template": Learned(np.ones((3, 5)))}, "as many as the template was learned from"),
        ({"rule": "median"}, "'rule'"),
        ({"elements": np.zeros((20, 3), int)}, "integers of shape"),
        ({"elements": np.full((20, 2), 6)}, "0 to 5"),
        ({"alpha": 0}, "'alpha'"),
    ],
)
def test_calibrations_that_are_refused(changes, message):
    arguments = {"sorted_p": np.full((20, 2), 0.5), "n_elements": 5} | changes
    with pytest.raises(InputError, match=message):
        calibrate(**arguments)


def test_p_of_other_elements_are_refused():
    with pytest.raises(InputError, match="4 of them"):
        calibrate(np.full((20, 2), 0.5), 5).bound(np.full(4, 0.5))
