from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.data.images.formats.names import form_of, is_cifti, is_elements, side_of

FORMS = {
    "lh.thickness": ("mgh", "left"),
    "sub-01_hemi-R_thickness.func.gii": ("gifti", "right"),
    "sub-01.L.shape.gii.gz": ("gifti", "left"),
    "rh.area.fsaverage.mgz": ("mgh", "right"),
    "sub-01.dscalar.nii": ("cifti", None),
    "sub-01.mgz": ("", None),
    "lh.cope1.nii.gz": ("", "left"),
    "cope1.nii.gz": ("", None),
}


@pytest.mark.parametrize(("name", "expected"), FORMS.items())
def test_what_a_name_says(name, expected):
    path = Path("study") / name
    assert (form_of(path), side_of(path)) == expected
    assert is_cifti(path) == (expected[0] == "cifti")
    assert is_elements([path]) == is_elements(str(path)) == (expected[0] != "")


def test_what_types_say():
    volume, surface = nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), nib.GiftiImage()
    assert [is_elements(maps) for maps in (volume, [volume], [])] == [False] * 3
    assert [is_elements(maps) for maps in ([surface], {"left": [surface]}, "thickness.tsv")] == [True] * 3
    assert is_elements([volume], space="network")
    frame = pd.DataFrame({"subject_label": ["01"], "effects_map_path": ["con_0001.nii"]})
    assert not is_elements(frame)
    assert is_elements(frame.assign(effects_map_path="lh.thickness"))
    assert is_elements(pd.DataFrame({"amygdala": [1.0]}))
