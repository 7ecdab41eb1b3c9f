from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError, InputTypeError, NumbaglmWarning
from numbaglm.faces.nilearn.stat_maps import read_stat_map
from reference.maps import AFFINE, SHAPE, image, volumes
from reference.surfaces import surface


def test_a_volume_with_gaps_is_0_there():
    values = volumes(1)[0].astype(np.float64)
    values[2, 2, 2], values[3, 3, 3] = np.nan, np.inf
    found = read_stat_map(nib.Nifti1Image(values, AFFINE))
    assert (found.n_nonfinite, found.dtype, found.hemispheres) == (2, np.float64, None)
    np.testing.assert_array_equal(found.values, np.where(np.isfinite(values), values, 0))
    np.testing.assert_array_equal(found.inside, found.values != 0)
    made = found.image(found.values, np.float32)
    np.testing.assert_array_equal(made.affine, AFFINE)
    assert made.get_data_dtype() == np.float32


def test_a_mask_says_what_is_counted_and_may_lie_on_another_grid():
    inside = np.zeros(SHAPE, np.uint8)
    inside[:3] = 1
    found = read_stat_map(image(volumes(1)[0]), image(inside))
    assert not found.values[3:].any()
    np.testing.assert_array_equal(found.inside, inside)
    shifted = AFFINE.copy()
    shifted[0, 3] += 0.5
    with pytest.warns(NumbaglmWarning, match="another grid"):
        again = read_stat_map(image(volumes(1)[0]), image(inside, shifted))
    np.testing.assert_array_equal(again.inside, found.inside)


def test_integers_keep_their_type_and_scaled_ones_do_not(tmp_path):
    whole = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    nib.save(whole, tmp_path / "a.nii")
    assert read_stat_map(tmp_path / "a.nii").dtype == np.int16
    scaled = image(np.linspace(0, 1, 8).reshape(2, 2, 2))
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, tmp_path / "b.nii")
    found = read_stat_map(tmp_path / "b.nii")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.values.ravel(), np.linspace(0, 1, 8), atol=1e-4)


def test_a_surface_is_read_by_its_hemispheres():
    found = read_stat_map(surface(np.arange(18.0)))
    assert found.values.tolist() == list(range(18))
    assert sum(part.stop - part.start for part in found.hemispheres.values()) == 18
    label, n = found.label(found.values > -1)
    assert (label.size, n) == (18, len(found.hemispheres))


@pytest.mark.parametrize(
    ("stat", "mask", "error", "message"),
    [
        (3, None, InputTypeError, "'stat_img'"),
        (image(np.ones(SHAPE)), 3, InputTypeError, "'mask_img'"),
        (image(np.ones(SHAPE)), surface(np.ones(18)), InputTypeError, "compatible types"),
        (surface(np.ones(18)), image(np.ones(SHAPE)), InputTypeError, "compatible types"),
        (surface(np.ones((18, 2))), None, InputError, "2 maps"),
    ],
)
def test_refused(stat, mask, error, message):
    with pytest.raises(error, match=message):
        read_stat_map(stat, mask)
