import logging

import numpy as np
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.peers.first_levels import find_first_levels
from numbaglm.errors import InputError, MissingFileError
from reference.maps import AFFINE, volumes
from reference.spm_mat import write_images

VALUES = volumes(4, seed=1)


@pytest.fixture
def place(tmp_path):
    """First levels of four subjects: images of two forms, at two depths."""
    write_images(tmp_path / "first", VALUES[:2], AFFINE, "sub-{:02d}/con_0001.nii", outside=VALUES[0] == 0)
    write_images(tmp_path / "first", VALUES[:3], AFFINE, "sub-{:02d}/con_0002.nii")
    write_images(tmp_path / "first" / "x", VALUES[2:], AFFINE, "sub-{:02d}/stats/nback/con_0001.img")
    for number in (1, 2):
        (tmp_path / "first" / "x" / f"sub-{number:02d}").rename(tmp_path / "first" / f"sub-{number + 20}")
    (tmp_path / "first" / "logs").mkdir()
    (tmp_path / "first" / "notes.txt").touch()
    return tmp_path / "first"


def test_an_image_a_folder_with_its_name_as_label(place, caplog):
    caplog.set_level(logging.INFO, "numbaglm")
    table = find_first_levels(place, 1)
    assert list(table["subject_label"]) == ["sub-01", "sub-02", "sub-21", "sub-22"]
    assert [path.rsplit("/", 1)[1] for path in table["effects_map_path"]] == ["con_0001.nii"] * 2 + ["con_0001.img"] * 2
    assert "con_0001 of 4 subjects: 'faces > houses'" in caplog.text
    cohort = Cohort.from_maps(table)
    assert cohort.n_voxels == 4 * 5 * 3
    np.testing.assert_allclose(cohort.store.read_subjects(0, 4), VALUES[:, VALUES[0] != 0])
    assert list(find_first_levels(place, 1, "stats/nback")["subject_label"]) == ["sub-21", "sub-22"]


def test_a_contrast_that_has_two_names_brings_a_warning(place, caplog):
    import nibabel as nib

    image = nib.load(place / "sub-02" / "con_0001.nii")
    image.header["descrip"] = b"SPM contrast - 1: houses"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), place / "sub-02" / "con_0001.nii")
    find_first_levels(place, 1)
    assert "con_0001 is called 'faces > houses' in 3 of 4 subjects, and otherwise in sub-02 ('houses')" in caplog.text


def test_what_is_none_or_several_is_refused_or_told(place, caplog):
    with pytest.raises(MissingFileError, match="nowhere is not a folder"):
        find_first_levels(place / "nowhere", 1)
    with pytest.raises(MissingFileError, match=r"No con_0009\.nii .* is in any folder of"):
        find_first_levels(place, 9)
    with pytest.raises(MissingFileError, match="holds one itself: name the folder above"):
        find_first_levels(place / "sub-01", 1)
    (place / "sub-03" / "SPM.mat").touch()
    assert len(find_first_levels(place, 1)) == 4
    assert "1 subject(s) have a first level without con_0001: sub-03" in caplog.text
    write_images(place, VALUES[:1], AFFINE, "sub-{:02d}/again/con_0001.nii")
    with pytest.raises(InputError, match=r"sub-01 has 2 images con_0001: sub-01/con_0001\.nii, sub-01/again"):
        find_first_levels(place, 1)
