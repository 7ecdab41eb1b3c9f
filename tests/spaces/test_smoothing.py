from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError
from numbaglm.spaces.smoothing import parse_fwhm, smooth
from reference.maps import AFFINE, volumes


@pytest.mark.parametrize("fwhm", [8.0, (6.0, 0.0, 10.0)])
def test_smoothing_equals_nilearn(fwhm):
    nilearn = pytest.importorskip("nilearn.image")
    values = volumes(1)[0]
    values[2, 2, 2], values[3, 3, 3] = np.nan, np.inf
    expected = nilearn.smooth_img(nib.Nifti1Image(values.copy(), AFFINE), fwhm).get_fdata()
    before = values.copy()
    np.testing.assert_allclose(smooth(values, fwhm, AFFINE), expected, atol=1e-6)
    np.testing.assert_array_equal(values, before)


def test_no_smoothing_and_refused_widths():
    values = volumes(1)[0]
    assert parse_fwhm(0) is None
    assert parse_fwhm((0, 0, 0)) is None
    assert smooth(values, None, AFFINE) is values
    for wrong in (-1, (1, 2), "fast", np.nan, (4, 4, -4)):
        with pytest.raises(InputError, match="smoothing_fwhm"):
            parse_fwhm(wrong)
