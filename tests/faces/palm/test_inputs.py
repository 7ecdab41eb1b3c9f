import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError, MaskError
from numbaglm.faces.palm.flags import read_words
from numbaglm.faces.palm.inputs import read_inputs, who_stays
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


def asked(text, design="d"):
    return Request.parse(read_words(f"{text} -d {design} -t t".split()))


def inputs(text):
    return read_inputs(asked(text), progress=False)


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


def test_who_is_missing_in_an_input_has_no_part_in_it(place):
    np.savetxt("gone.csv", [0, 0, 1, 0, 0, -1])
    (one,) = read_inputs(asked("-i a.nii.gz -m mask.nii -imiss gone.csv -mcar"), False)
    assert one.cohort.n_voxels == 26  # what lacks a value only in who is missing, but not what is constant
    present = one.cohort.store.present(0, 26)
    np.testing.assert_array_equal(present, np.broadcast_to(np.array([[1, 1, 0, 1, 1, 0]]).T == 1, (6, 26)))
    assert (one.cohort.store.read(0, 26)[[2, 5]] == 0).all()
    gone = "-imiss gone.csv -imiss gone.csv -mcar -forceintersectionmask"
    both = read_inputs(asked(f"-i a.nii.gz -i b.nii.gz -m mask.nii {gone}"), False)
    assert [each.cohort.n_voxels for each in both] == [25, 25]
    assert not both[0].cohort.store.present(0, 25)[2].any()


def test_who_lacks_part_of_a_design_leaves(place):
    np.savetxt("design.csv", np.arange(12.0).reshape(6, 2), delimiter=",")
    np.savetxt("lacks.csv", [[0, 0], [0, 1], [0, 0], [0, 0], [1, 0], [0, 0]], delimiter=",")
    request = asked("-i b.nii.gz -m mask.nii -dmiss lacks.csv -mcar", "design.csv")
    kept = who_stays(request)
    assert kept.tolist() == [True, False, True, True, False, True]
    (one,) = read_inputs(request, False, kept)
    (whole,) = inputs("-i b.nii.gz -m mask.nii")
    assert one.cohort.n_subjects == 4
    assert one.cohort.store.all_present
    np.testing.assert_array_equal(one.cohort.store.read(0, 26), whole.cohort.store.read(0, 26)[kept])


@pytest.mark.parametrize(
    ("rows", "flag", "message"),
    [
        ([[0], [1]], "-imiss", "-imiss of b.nii.gz has 2 rows, but there are 6 maps"),
        ([[0, 1], [1, 0]], "-imiss", "of shape .2, 2.. Allowed: a number a subject"),
        ([[1]] * 6, "-imiss", "Nobody is there in b.nii.gz"),
        ([[0], [1]], "-dmiss", "is of shape .2, 1., and design.csv of shape .6, 2."),
    ],
)
def test_tables_of_who_is_missing_are_checked(place, rows, flag, message):
    np.savetxt("design.csv", np.arange(12.0).reshape(6, 2), delimiter=",")
    np.savetxt("gone.csv", rows, delimiter=",")
    request = asked(f"-i b.nii.gz -m mask.nii {flag} gone.csv -mcar", "design.csv")
    with pytest.raises(InputError, match=message):
        read_inputs(request, False, who_stays(request))
