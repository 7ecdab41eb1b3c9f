import copy

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.errors import InputError
from reference.maps import AFFINE, volumes


def test_parameters():
    """What scikit-learn's clone does: new object from get_params, each parameter the same object."""
    mask = nib.Nifti1Image(np.ones((6, 7, 5), np.uint8), AFFINE)
    model = ng.SecondLevelModel(mask_img=mask, smoothing_fwhm=6.0)
    assert model.get_params()["mask_img"] is mask
    twin = type(model)(**{name: copy.copy(value) for name, value in model.get_params(deep=False).items()})
    assert twin.get_params().keys() == model.get_params().keys()
    assert twin.set_params(smoothing_fwhm=8.0) is twin
    assert (twin.smoothing_fwhm, model.smoothing_fwhm) == (8.0, 6.0)
    assert repr(ng.SecondLevelModel(smoothing_fwhm=6.0)) == "SecondLevelModel(smoothing_fwhm=6.0)"
    with pytest.raises(InputError, match="fwhm"):
        model.set_params(fwhm=6.0)


def test_parameters_of_a_masker():
    """By the names that scikit-learn gives them."""

    class Given:
        def get_params(self):
            return {"smoothing_fwhm": 4.0}

        def set_params(self, **params):
            self.changed = params

    model = ng.SecondLevelModel(mask_img=Given())
    assert model.get_params()["mask_img__smoothing_fwhm"] == 4.0
    assert "mask_img__smoothing_fwhm" not in model.get_params(deep=False)
    assert model.set_params(mask_img__smoothing_fwhm=5.0).mask_img.changed == {"smoothing_fwhm": 5.0}
    with pytest.raises(InputError, match="memory__location"):
        model.set_params(memory__location="x")
    assert str(model) == "Second Level Model"


def test_clone():
    clone = pytest.importorskip("sklearn.base").clone
    images = [nib.Nifti1Image(volume, AFFINE) for volume in volumes(9)]
    model = ng.SecondLevelModel(smoothing_fwhm=6.0).fit(images, design_matrix=pd.DataFrame({"mean": np.ones(9)}))
    twin = clone(model)
    assert twin.smoothing_fwhm == 6.0
    assert not hasattr(twin, "design_matrix_")
