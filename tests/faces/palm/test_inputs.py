import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError, MaskError
from numbaglm.faces.palm.flags import read_words
from numbaglm.faces.palm.inputs import read_inputs
from numbaglm.faces.palm.request import Request
from reference.maps import AFFINE, SHAPE, volumes


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two images of 6 maps: of the first a voxel lacks a value, another is constant; and a mask."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        values = np.moveaxis(volumes(6, seed=seed), 0, -1)
        if name == "a":
            values[1, 1, 1, 2], values[2, 2, 2] = np.nan, 3.0
        else:
            values[3, 3, 3] = 0.0
        nib.save(nib.Nifti1Image(values, AFFINE), f"{name}.nii.gz")
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 1:4, 1:4] = 1
    nib.save(nib.Nifti1Image(mask, AFFINE), "mask.nii")
    return tmp_path


def inputs(text):
    return read_inputs(Request.parse(read_words(f"{text} -d d -t t".split())), progress=False)


def test_masks_are_palms(place):
    one, two = inputs("-i a.nii.gz -i b.nii.gz -m mask.nii")
    assert [each.cohort.n_voxels for each in (one, two)] == [25, 26]
    assert (one.unit, one.ending, one.whole.n) == ("vox", ".nii.gz", 27)
    (alone,) = inputs("-i b.nii.gz")
    assert alone.cohort.n_voxels == 59  # what varies


def test_joint_tests_are_of_what_all_have(place):
    one, two = inputs("-i a.nii.gz -i b.nii.gz -m mask.nii -npc")
    assert one.cohort.n_voxels == two.cohort.n_voxels == 24
    np.testing.assert_array_equal(one.cohort.store.space.mask, two.cohort.store.space.mask)
    assert (one.tested.sum(), two.tested.sum()) == (25, 26)


def test_outside_the_mask_maps_are_0_and_what_was_not_tested_is_told_apart(place):
    (one,) = inputs("-i a.nii.gz -m mask.nii")
    written = nib.load(one.save(np.full(25, 0.5), "x", 1.0)).get_fdata()
    assert written[0, 0, 0] == 0
    assert written[1, 1, 1] == written[2, 2, 2] == 1
    assert (written == 0.5).sum() == 25
    mask = nib.load(one.save_mask("m", shared=False)).get_fdata()
    np.testing.assert_array_equal(mask, written == 0.5)


def test_tables(place):
    values = np.arange(12.0).reshape(6, 2) ** 2
    np.savetxt("t.csv", values, delimiter=",")
    np.savetxt("across.csv", values.T, delimiter=",")
    for text in ("-i t.csv", "-i across.csv -transposedata"):
        (one,) = inputs(text)
        assert (one.unit, one.ending) == ("dat", ".csv")
        np.testing.assert_array_equal(one.cohort.store.read(0, 2), values.astype(np.float32))
    file = one.save(np.array([0.25, 1e-9]), "x", 1.0)
    np.testing.assert_allclose(np.loadtxt(file, delimiter=","), [0.25, 1e-9])


def test_overlays_of_freesurfer(place):
    values = np.random.default_rng(0).normal(size=(5, 1, 1, 6)).astype(np.float32)
    nib.save(nib.MGHImage(values, np.eye(4)), "lh.thickness.mgz")
    (one,) = inputs("-i lh.thickness.mgz")
    assert (one.unit, one.ending) == ("dpv", ".mgz")
    file = one.save(np.arange(5.0), "x", 1.0)
    np.testing.assert_array_equal(nib.load(file).get_fdata().ravel(), np.arange(5.0))


def test_what_can_not_be_tested_is_refused(place):
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 6), np.float32), AFFINE), "flat.nii")
    with pytest.raises(MaskError, match="the same value in every map"):
        inputs("-i flat.nii")
    nib.save(nib.Nifti1Image(np.moveaxis(volumes(5), 0, -1), AFFINE), "five.nii")
    with pytest.raises(InputError, match="different numbers of subjects"):
        inputs("-i a.nii.gz -i five.nii")
    np.savetxt("t.csv", np.arange(12.0).reshape(6, 2), delimiter=",")
    with pytest.raises(InputError, match="different spaces"):
        inputs("-i a.nii.gz -i t.csv -npc")
