"""What is used of a mask or a masker."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError, InputTypeError, NumbaglmWarning
from numbaglm.faces.nilearn.maskers import MaskChoice, Masker, choose_for_model, choose_for_test
from numbaglm.spaces.volume import Geometry
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
    for own in (4.0, 5.0, None):
        with pytest.warns(NumbaglmWarning, match=r"masker parameters.*smoothing_fwhm=4.0"):
            chosen = choose_for_model(MaskChoice(given, own))
        assert (chosen.mask, chosen.smoothing_fwhm) == (MASK, 4.0)
        assert chosen.target_affine is given.target_affine


def test_smoothing_of_a_test_goes_before_the_masker():
    assert choose_for_test(masker(smoothing_fwhm=4.0), None).smoothing_fwhm == 4.0
    assert choose_for_test(masker(smoothing_fwhm=None), 5.0).smoothing_fwhm == 5.0
    assert choose_for_test(masker(smoothing_fwhm=None), 5.0, as_nilearn=True).smoothing_fwhm is None
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


@pytest.mark.parametrize("mask", [3, MASK.get_fdata(), masker(labels_img=MASK)])
def test_what_is_no_mask(mask):
    with pytest.raises(InputTypeError, match="mask"):
        choose_for_model(MaskChoice(mask))


@pytest.mark.parametrize(
    ("given", "expected"), [("f4", "f4"), ("f8", "f8"), ("i8", "i4"), ("i2", "i4"), ("?", "u1"), ("f2", "f4")]
)
def test_types_of_images(given, expected):
    ours = Masker(Geometry(np.ones((2, 2, 1), bool), AFFINE))
    for shape in ((4,), (3, 4)):
        image = ours.inverse_transform(np.ones(shape, given))
        assert image.get_data_dtype() == np.dtype(expected)
        assert image.shape == (2, 2, 1, *shape[:-1])


def test_transform(tmp_path):
    """A row an image; of one that is 3D a vector; what lies on another grid is brought to this one."""
    values = volumes(2)
    ours = Masker(Geometry(values[0] != 0, AFFINE))
    images = [nib.Nifti1Image(volume, AFFINE) for volume in values]
    rows = ours.transform(images)
    np.testing.assert_array_equal(rows, values[:, values[0] != 0])
    images[0].to_filename(tmp_path / "map.nii")
    for one in (images[0], tmp_path / "map.nii", str(tmp_path / "map.nii")):
        np.testing.assert_array_equal(ours.transform(one), rows[0])
    assert ours.transform(images[:1]).shape == ours.transform(images[0].slicer[..., None]).shape == (1, rows.shape[1])
    flip = AFFINE @ np.diag([-1, 1, 1, 1]) + np.outer(AFFINE[:, 0], [0, 0, 0, SHAPE[0] - 1])
    np.testing.assert_allclose(ours.transform(nib.Nifti1Image(values[0, ::-1], flip)), rows[0], atol=1e-5)
