from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.cohort.stored_maps import StoredMaps
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, volumes

MASK = volumes(1)[0] != 0
ROWS = volumes(3)[:, MASK]


@pytest.fixture(scope="module")
def maps():
    table = pd.DataFrame({"subject_label": ["a", "b", "c"], "source": "x", "age": [20.0, 30.0, 40.0]})
    return StoredMaps(CohortStore.from_array(ROWS, Geometry(MASK, AFFINE), subjects=table, smoothing_fwhm=6.0))


def test_what_there_is_to_know(maps):
    facts = maps.info()
    expected = {"n_subjects": 3, "n_voxels": 60, "grid": (6, 7, 5), "smoothing_fwhm": 6.0, "location": None}
    assert {name: facts[name] for name in expected} == expected
    assert facts["voxel_sizes_mm"] == (3.0, 3.0, 4.0)
    assert (facts["bytes"], facts["bytes_on_disk"]) == (720, None)
    assert facts["covariates"] == list(maps.covariates) == ["age"]
    assert maps.covariates.index.tolist() == maps.subjects == ["a", "b", "c"]
    assert "3 subjects x 60 voxels" in repr(maps)
    assert "in memory" in repr(maps)


@pytest.mark.parametrize(("subject", "row"), [("b", 1), (1, 1), (-1, 2), (np.int64(0), 0)])
def test_a_map_is_found_by_number_or_label(maps, subject, row):
    image = maps.to_nifti(subject)
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_fdata()[MASK], ROWS[row])
    assert not image.get_fdata()[~MASK].any()


@pytest.mark.parametrize(("subject", "allowed"), [("d", "'a'"), (3, "below 3"), (-4, "below 3")])
def test_others_are_refused(maps, subject, allowed):
    with pytest.raises(InputError, match=f"'subject': got .*{allowed}"):
        maps.to_nifti(subject)


def test_the_mask_is_an_image(maps):
    np.testing.assert_array_equal(maps.mask_img.get_fdata(), MASK)


def test_values_are_no_subject(maps):
    for given, told in (
        (np.zeros(3), "'a ndarray'.*geometry.unmask"),
        (None, "'a NoneType'"),
        (1.0, "1.0"),
        (True, "True"),
    ):
        for method in (maps.to_nifti, maps.to_image):
            with pytest.raises(InputError, match=f"'subject': got {told}"):
                method(given)
