"""What is used of a mask or a masker."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from numbaglm.data.geometry import Geometry
from numbaglm.errors import InputError, NumbaglmWarning
from numbaglm.inputs.maskers import MaskChoice, Masker, choose_for_model, choose_for_test
from reference.maps import AFFINE, SHAPE, volumes

MASK = nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)


def masker(**attributes):
    return SimpleNamespace(inverse_transform=None, mask_img=MASK, **attributes)


def test_plain_masks_are_left_as_they_are():
    for mask in (None, MASK, "mask.nii"):
        assert choose_for_model(MaskChoice(mask, 4.0)) == MaskChoice(mask, 4.0)
        assert choose_for_test(mask, 4.0) == MaskChoice(mask, 4.0)


def test_masker_goes_before_the_model():
    given = masker(smoothing_fwhm=4.0, target_affine=np.eye(3))
    chosen = choose_for_model(MaskChoice(given, 4.0))
    assert (chosen.mask, chosen.smoothing_fwhm) == (MASK, 4.0)
    assert chosen.target_affine is given.target_affine
    for own in (4.0, None):
        with pytest.warns(NumbaglmWarning, match=rf"smoothing_fwhm=5.0 of the model gives way to the masker's {own}"):
            assert choose_for_model(MaskChoice(masker(smoothing_fwhm=own), 5.0)).smoothing_fwhm == own


def test_smoothing_of_a_test_goes_before_the_masker():
    assert choose_for_test(masker(smoothing_fwhm=4.0), None).smoothing_fwhm == 4.0
    assert choose_for_test(masker(smoothing_fwhm=None), 5.0).smoothing_fwhm == 5.0
    with pytest.warns(NumbaglmWarning, match="smoothing_fwhm.*overridden"):
        assert choose_for_test(masker(smoothing_fwhm=4.0), 5.0).smoothing_fwhm == 5.0


def test_fitted_masker_lies_on_its_grid_already():
    fitted = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    chosen = choose_for_test(masker(mask_img_=fitted, target_affine=np.eye(3)), None)
    assert chosen == MaskChoice(fitted)


@pytest.mark.parametrize("name", ["standardize", "detrend", "low_pass", "high_pass", "high_variance_confounds"])
def test_what_else_a_masker_does_is_refused(name):
    assert choose_for_test(masker(**{name: False}), None).mask is MASK
    with pytest.raises(InputError, match=name):
        choose_for_test(masker(**{name: 0.1}), None)


def test_transform():
    """A row an image; of one 3D image a vector; what lies on another grid is brought to this one."""
    values = volumes(2)
    ours = Masker(Geometry(values[0] != 0, AFFINE))
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    rows = ours.transform(images)
    np.testing.assert_array_equal(rows, values[:, values[0] != 0])
    np.testing.assert_array_equal(ours.transform(images[0]), rows[0])
    flip = AFFINE @ np.diag([-1, 1, 1, 1]) + np.outer(AFFINE[:, 0], [0, 0, 0, SHAPE[0] - 1])
    np.testing.assert_allclose(ours.transform(nib.Nifti1Image(values[0, ::-1], flip)), rows[0], atol=1e-5)
