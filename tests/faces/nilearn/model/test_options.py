from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import InputError, InputTypeError, NumbaglmFutureWarning
from numbaglm.faces.nilearn.model.options import Asked, contrasts_of

USUAL = {
    "bg_img": "MNI152TEMPLATE", "threshold": None, "alpha": 0.001, "cluster_threshold": 0, "height_control": "fpr",
    "two_sided": False, "min_distance": 8.0, "plot_type": "slice", "display_mode": None, "cut_coords": None,
}  # fmt: skip


def parse(**given):
    return Asked.parse(USUAL | given)


def test_the_usual_is_asked_without_a_word():
    asked, notes = parse()
    assert notes == []
    assert (asked.threshold, asked.views, asked.cuts, asked.glass, asked.bg_img) == (None, "z", None, False, None)


@pytest.mark.parametrize(
    ("given", "views", "cuts"),
    [
        ({"display_mode": "ortho"}, "xyz", None),
        ({"display_mode": "xz", "cut_coords": [3, 4.5]}, "xz", (3.0, 4.5)),
        ({"cut_coords": 5}, "z", 5),
        ({"cut_coords": (1, 2, 3)}, "z", (1.0, 2.0, 3.0)),
        ({"plot_type": "glass"}, "xyz", None),
        ({"plot_type": "glass", "display_mode": "lyrz"}, "xyz", None),
    ],
)
def test_views_and_cuts(given, views, cuts):
    asked, _ = parse(**given)
    assert (asked.views, asked.cuts) == (views, cuts)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"threshold": 3.0}, "'threshold=3.0' is not used with height_control='fpr'"),
        ({"plot_type": "glass", "cut_coords": [1]}, "is not used with plot_type='glass'"),
        ({"plot_type": "glass", "display_mode": "lr"}, "'x' takes its place and shows both"),
    ],
)
def test_what_plays_no_part_is_said(given, words):
    _, (note,) = parse(**given)
    assert words in note


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"height_control": "fwe"}, InputError, "'height_control'"),
        ({"plot_type": "brain"}, InputError, "'plot_type'"),
        ({"alpha": 1.0}, InputError, "'alpha'"),
        ({"alpha": "0.05"}, InputTypeError, "'alpha'"),
        ({"cluster_threshold": -1}, InputError, "'cluster_threshold' must be > 0"),
        ({"min_distance": 0}, InputError, "'min_distance' must be > 0"),
        ({"height_control": None, "threshold": -1, "two_sided": True}, InputError, "negative value"),
        ({"display_mode": "lr"}, InputError, "'display_mode'"),
        ({"cut_coords": []}, InputError, "'cut_coords'"),
        ({"display_mode": "ortho", "cut_coords": 3}, InputError, "3 places in mm, of x, y, z"),
        ({"cut_coords": "front"}, InputTypeError, "'cut_coords'"),
    ],
)
def test_what_is_not_allowed(given, error, words):
    with pytest.raises(error, match=words):
        parse(**given)


def test_a_threshold_of_z_has_a_default_that_will_change():
    with pytest.warns(NumbaglmFutureWarning, match=r"3\.0902"):
        assert parse(height_control=None)[0].threshold == 3.09
    assert parse(height_control=None, threshold=2)[0].threshold == 2.0


def test_contrasts_of_every_form():
    rows = np.eye(2)
    assert contrasts_of(None) == []
    assert contrasts_of("a - b") == [(None, "a - b")]
    assert contrasts_of({"x": "a", "y": [0, 1]}) == [("x", "a"), ("y", [0, 1])]
    assert contrasts_of([1, 0]) == [(None, [1, 0])]
    assert contrasts_of(["a", "b"]) == [(None, "a"), (None, "b")]
    assert [one.tolist() for _, one in contrasts_of(rows)] == rows.tolist()
    with pytest.raises(InputTypeError, match="names that are text"):
        contrasts_of({1: "a"})
