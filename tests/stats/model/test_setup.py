from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from numbaglm.errors import InputError, ShufflingError
from numbaglm.stats.methods import find_method
from numbaglm.stats.model import setup
from numbaglm.stats.model.design import Contrast, Design

GROUPS = pd.DataFrame({"a": [1.0, 1, 1, 0, 0, 0], "b": [0.0, 0, 0, 1, 1, 1]})
THREE = pd.DataFrame(np.repeat(np.eye(3), 2, axis=0), columns=["a", "b", "c"])
SLOPE = pd.DataFrame({"x": [3.0, 1, 4, 1, 5, 9], "intercept": 1.0})


def of(table, contrast):
    design = Design.parse(table, len(table))
    return design, Contrast.parse(contrast, design)


def build(table, contrast, method="freedman-lane", more=(), variance=(), **shuffling):
    design, one = of(table, contrast)
    shuffling = {"n_perm": 10_000, "seed": 0, "errors": None, "blocks": None, "block_scheme": "within"} | shuffling
    tested = [one, *(Contrast.parse(other, design) for other in more)]
    return setup.build_hypothesis(design, one, tested, method, shuffling, dict(variance))


@pytest.mark.parametrize(
    ("table", "contrast", "expected"),
    [
        (SLOPE, "x", "ee"),
        (SLOPE, "intercept", "ise"),
        (SLOPE, ["x", "intercept"], "ise"),
        (GROUPS, "a - b", "ee"),
        (GROUPS, "a + b", "ise"),
        (GROUPS, "a", "ise"),
        (SLOPE[["x"]], "x", "ee"),  # no constant is in the design
    ],
)
def test_means_are_tested_by_flips_and_differences_by_permutations(table, contrast, expected):
    assert setup.default_errors(*of(table, contrast)) == expected


def test_all_contrasts_are_told_apart_by_the_shufflings():
    one, _ = build(GROUPS.assign(x=SLOPE["x"]), "a - b")
    both, hypothesis = build(GROUPS.assign(x=SLOPE["x"]), "a - b", more=["x"])
    assert one.n_distinct == 20
    assert both.n_distinct == 720
    assert hypothesis.contrast.name == "a - b"
    with pytest.raises(InputError, match="no null spans both"):
        build(SLOPE, "x", more=["intercept"])


def test_rotated_data_have_rows_in_the_space_that_the_nuisance_leaves():
    design, contrast = of(SLOPE, "x")
    as_they_are = setup.shuffled_design(design, contrast, find_method("freedman-lane"))
    np.testing.assert_array_equal(as_they_are, SLOPE[["x"]])
    rotated = setup.shuffled_design(design, contrast, find_method("huh-jhun"))
    assert rotated.shape == (5, 1)
    # A rotation keeps lengths: that of x without its mean.
    centred = SLOPE["x"] - SLOPE["x"].mean()
    scale = np.linalg.norm(rotated) / np.linalg.norm(centred)
    again = setup.shuffled_design(*of(SLOPE.assign(x=2 * SLOPE["x"]), "x"), find_method("huh-jhun"))
    assert np.linalg.norm(again) == pytest.approx(2 * np.linalg.norm(centred) * scale)
    with pytest.raises(InputError, match="rotates subjects into each other"):
        build(SLOPE, "x", "huh-jhun", blocks=[0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("table", "contrast", "two_sided", "options", "expected"),
    [
        (GROUPS, "a - b", False, {}, 1 / 20),
        (GROUPS, "a - b", True, {}, 2 / 20),  # the groups exchanged
        (SLOPE, "intercept", True, {}, 2 / 64),  # all signs flipped
        (SLOPE, "intercept", False, {}, 1 / 64),
        (GROUPS, "a - b", True, {"n_perm": 9}, 1 / 10),  # random ones
        (THREE, ["a - c", "b - c"], False, {}, 6 / 90),  # labels of the groups exchanged
    ],
)
def test_the_smallest_p_counts_all_that_are_the_observed_one_again(table, contrast, two_sided, options, expected):
    shufflings, hypothesis = build(table, contrast, **options)
    assert setup.smallest_p(hypothesis, shufflings, two_sided) == pytest.approx(expected)


def test_permutations_that_leave_the_contrast_as_it_is_are_refused():
    with pytest.raises(ShufflingError, match="a mean over those who change places"):
        build(GROUPS, "a + b", errors="ee")


def test_pseudo_t_is_of_t_alone():
    _, hypothesis = build(SLOPE, "x")
    pseudo = setup.make_pseudo(hypothesis, 8.0)
    assert pseudo.family.whole is not None
    assert pseudo.family.n_rows == hypothesis.family.n_rows
    with pytest.raises(InputError, match=r"'variance_smoothing_fwhm'.*above 0"):
        setup.make_pseudo(hypothesis, 0.0)
    for other in (build(SLOPE, ["x", "intercept"])[1], build(SLOPE, "x", "kennedy")[1]):
        with pytest.raises(InputError, match="makes a pseudo-t"):
            setup.make_pseudo(other, 8.0)


def test_variance_groups_may_be_the_blocks():
    tree = np.array([[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2]])
    assert setup.read_variance_groups(None, tree) is None
    assert setup.read_variance_groups([1, 2], None) == [1, 2]
    np.testing.assert_array_equal(setup.read_variance_groups("auto", ["a", "a", "b"]), ["a", "a", "b"])
    np.testing.assert_array_equal(setup.read_variance_groups("auto", tree), [1, 1, 2, 2])
    for labels, blocks in (("auto", None), ("sex", tree)):
        with pytest.raises(InputError, match="'variance_groups'"):
            setup.read_variance_groups(labels, blocks)


def test_thresholds_in_every_unit_are_scores():
    _, hypothesis = build(SLOPE, "x")
    t = 2.7764451  # of p 0.05, both tails, and 4 degrees of freedom
    rho = t / np.sqrt(4 + t**2)
    assert setup.read_threshold(None, hypothesis, True) is None
    for threshold, two_sided in ((0.05, True), (0.025, False), (("t", t), True), (("z", 1.959964), True)):
        assert setup.read_threshold(threshold, hypothesis, two_sided) == pytest.approx(rho, rel=1e-6)


@pytest.mark.parametrize(
    ("threshold", "two_sided", "message"),
    [
        (3.1, True, r'write it as \("t", 3.1\)'),
        (0.6, False, "between 0 and 0.5"),
        (("f", 3.1), True, "cluster_forming_threshold"),
        ("high", True, "cluster_forming_threshold"),
        (("z", 40.0), True, "can reach"),
    ],
)
def test_refused_thresholds(threshold, two_sided, message):
    _, hypothesis = build(SLOPE, "x")
    with pytest.raises(InputError, match=message):
        setup.read_threshold(threshold, hypothesis, two_sided)


@pytest.mark.parametrize(
    ("contrast", "threshold"),
    [("x", ("t", 1e308)), ("x", ("t", 1e9)), ("x", ("z", 1e308)), ("x", 1e-300), (["x", "intercept"], ("f", 1e300))],
)
def test_thresholds_beyond_what_scores_tell_apart_are_refused(contrast, threshold):
    """t of 1e308 was taken for 3e7, where the score is 1."""
    _, hypothesis = build(SLOPE, contrast, errors="ise")
    with pytest.raises(InputError, match="a value that this statistic can reach"):
        setup.read_threshold(threshold, hypothesis, two_sided=True)
    kind = "f" if len(contrast) > 1 else "t"
    score = setup.read_threshold((kind, 1000.0), hypothesis, two_sided=True)
    assert hypothesis.scale.to_statistic(np.array([score]))[0] == pytest.approx(1000.0)


@pytest.mark.parametrize("fwhm", [0, -1.0, 1e308, np.inf, "8"])
def test_refused_widths_of_smoothed_variances(fwhm):
    with pytest.raises(InputError, match="a width in mm above 0, up to 1000"):
        setup.make_pseudo(build(SLOPE, "x")[1], fwhm)


def test_maps_of_unlike_variance_do_not_change_places_unless_asked_to():
    groups = {"variance_groups": [1, 1, 1, 2, 2, 2], "v_dof_factor": 1.0}
    flipped, hypothesis = build(GROUPS, "a - b", variance=groups)
    assert (flipped.errors, hypothesis.family.name) == ("ise", "v")
    assert "since maps of unlike variance do not change places" in flipped.reason
    assert build(GROUPS, "a - b", variance=groups, errors="ee")[0].errors == "ee"
    alike = groups | {"variance_groups": [1] * 6}
    assert build(GROUPS, "a - b", variance=alike)[0].errors == "ee"


def test_maps_change_places_within_blocks_of_one_variance():
    blocks = np.array([1, 1, 1, 2, 2, 2])
    of_blocks = {"variance_groups": blocks, "v_dof_factor": 1.0}
    assert build(SLOPE, "x", variance=of_blocks, blocks=blocks)[0].errors == "ee"
    across = of_blocks | {"variance_groups": [1, 2, 1, 2, 1, 2]}
    assert build(SLOPE, "x", variance=across, blocks=blocks)[0].errors == "ise"
