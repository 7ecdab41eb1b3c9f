from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from numbaglm.faces.nilearn.model import words as words
from numbaglm.faces.nilearn.model.options import Asked
from numbaglm.faces.nilearn.model.record import ModelRecord
from reference.maps import SHAPE, image

ASKED = Asked(None, None, 0.001, 0.0, "fpr", True, 8.0, False, None, "z")


@pytest.mark.parametrize(
    ("asked", "threshold", "expected"),
    [
        (ASKED, 3.2905, "|z| \u2265 3.291"),
        (replace(ASKED, two_sided=False), 3.0902, "z \u2265 3.090"),
        (replace(ASKED, two_sided=False), -2.0, "z \u2264 \u22122.000"),
        (ASKED, np.inf, "out of reach: no voxel is significant at this rate"),
    ],
)
def test_what_a_value_has_to_reach(asked, threshold, expected):
    assert words.reach(asked, threshold) == expected
    assert dict(words.about_threshold(asked, threshold, "voxels"))["Threshold"] == expected


def test_how_a_map_was_thresholded():
    told = dict(words.about_threshold(replace(ASKED, cluster_threshold=10.0), 3.0, "vertices"))
    assert told["\u03b1"] == "0.001"
    assert (told["Sides"], told["Least size of a cluster"]) == ("both", "10 vertices")
    assert "Least distance of peaks" not in told, "of volumes alone"
    assert "\u03b1" not in dict(words.about_threshold(replace(ASKED, height_control=None), 3.0, "voxels"))


@pytest.mark.parametrize(
    ("peaks", "two_sided", "expected"),
    [
        ([], True, "No suprathreshold cluster."),
        ([4.0], True, "1 cluster is listed, none of them negative. The highest peak has a z of 4.00."),
        ([-3.5, -5], True, "2 clusters are listed, none of them positive. The lowest peak has a z of \u22125.00."),
        ([4.0, -5], True, "2 clusters are listed. The lowest peak has a z of \u22125.00."),
        ([4.0], False, "1 cluster is listed. The highest peak has a z of 4.00."),
    ],
)
def test_what_was_found(peaks, two_sided, expected):
    table = pd.DataFrame({"Peak Stat": peaks})
    assert words.what_was_found(replace(ASKED, two_sided=two_sided), table, len(peaks)) == expected


def test_parameters_are_a_line_each():
    given = {"mask_img": image(np.ones(SHAPE)), "memory": "x" * 500, "verbose": 0}
    told = dict(words.parameters(ModelRecord("Model", "Model()", given, True, None)))
    assert told["mask_img"] == "Nifti1Image of shape (6, 7, 5)"
    assert told["memory"] == "x" * 200 + "\u2026"
    assert told["verbose"] == "0"
