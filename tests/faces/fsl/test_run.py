from __future__ import annotations

import pytest

from numbaglm.errors import InputError
from numbaglm.faces.fsl.run import FWHM_OF_SIGMA, image_name


def test_suffixes_may_be_left_out(tmp_path):
    for name in ("a.nii.gz", "b.nii", "c.hdr", "d"):
        (tmp_path / name).touch()
    for typed, name in (("a", "a.nii.gz"), ("b", "b.nii"), ("c", "c.hdr"), ("d", "d"), ("a.nii.gz", "a.nii.gz")):
        assert image_name(str(tmp_path / typed)) == str(tmp_path / name)
    assert image_name(str(tmp_path / "nothing")) == str(tmp_path / "nothing"), "who reads it refuses it"
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match=r"a may be .*a\.nii\.gz or .*a\.nii\. Name one"):
        image_name(str(tmp_path / "a"))


def test_a_sigma_is_a_full_width_at_half_maximum():
    assert pytest.approx(2.3548200450309493) == FWHM_OF_SIGMA
