import nibabel as nib
import numpy as np
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.images import codes_of, list_maps
from numbaglm.data.images.formats.afni import Brick, find_data_set, labels_of_bricks, pick_bricks, save_bricks
from numbaglm.errors import ImageError, InputError, MissingFileError
from numbaglm.spaces.volume import Geometry
from reference.afni import write_brik

SHAPE = (4, 5, 3)
LABELS = ("mean", "face#0_Coef", "face#0_Tstat")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Six data sets of three sub-bricks with factors of their own, and what their values are."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    values = {}
    for k in range(6):
        bricks = rng.normal(2.0, 1.0, (3, *SHAPE))
        factors = [1e-3 * (k + 1), 2e-3 * (k + 1), 3e-3]
        values[f"s{k}"] = write_brik(f"s{k}+tlrc", bricks, LABELS, factors)
    return values


def test_names_find_files_and_selectors(study, tmp_path):
    assert find_data_set("s0+tlrc") == (tmp_path / "s0+tlrc.HEAD", None)
    assert find_data_set("s0+tlrc.") == (tmp_path / "s0+tlrc.HEAD", None)
    assert find_data_set("s0+tlrc.HEAD[face#0_Coef]") == (tmp_path / "s0+tlrc.HEAD", "face#0_Coef")
    assert find_data_set("s9+tlrc[1]") is None
    nib.save(nib.Nifti1Image(np.ones(SHAPE), np.eye(4)), "a[1].nii")  # a file of that very name is that file
    assert find_data_set("a[1].nii") == (tmp_path / "a[1].nii", None)


def test_selectors_pick_by_number_label_and_range(study):
    image = nib.load("s0+tlrc.HEAD")
    for selector, picked in (
        ("1", [1]),
        ("$", [2]),
        ("face#0_Coef", [1]),
        ("0,face#0_Tstat", [0, 2]),
        ("0..$(2)", [0, 2]),
        ("2..0", [2, 1, 0]),
    ):
        assert pick_bricks(image, selector, "s0") == picked
    for selector, message in (
        ("3", "no sub-brick 3"),
        ("house", "no sub-brick 'house'.*face#0_Coef"),
        ("", "no sub-brick ''"),
    ):
        with pytest.raises(InputError, match=message):
            pick_bricks(image, selector, "s0")


@pytest.mark.parametrize("selector", ["[1]", "[face#0_Coef]"])
def test_a_sub_brick_of_each_subject_is_a_cohort_with_its_factors(study, selector):
    cohort = Cohort.from_maps([f"s{k}+tlrc{selector}" for k in range(6)], zero_is_missing=False)
    expected = np.stack([values[..., 1].ravel() for values in study.values()])
    np.testing.assert_allclose(cohort.store.read(0, cohort.n_voxels), expected, rtol=1e-6)
    assert list(cohort.store.subjects["subject_label"]) == list(study)
    assert cohort.store.geometry.codes == (4, 4)  # of MNI
    np.testing.assert_array_equal(np.diag(cohort.store.geometry.affine)[:3], [-3.0, -3.0, 3.0])


def test_one_data_set_of_all_subjects_and_some_of_its_bricks(study):
    whole = Cohort.from_maps("s1+tlrc", zero_is_missing=False).store.read(0, np.prod(SHAPE))
    np.testing.assert_allclose(whole, study["s1"].reshape(-1, 3).T, rtol=1e-6)
    some = Cohort.from_maps("s1+tlrc[2,0]", zero_is_missing=False).store.read(0, np.prod(SHAPE))
    np.testing.assert_array_equal(some, whole[[2, 0]])
    with pytest.raises(ImageError, match="picks 2 sub-bricks"):
        list_maps(["s1+tlrc[0,1]", "s2+tlrc[1]"])
    with pytest.raises(MissingFileError):
        Cohort.from_maps(["s1+orig", "s2+orig"])
    assert codes_of(list_maps("s1+tlrc")[0][0]) == (4, 4)


def test_bricks_are_a_nifti_file_with_labels_and_statistics(tmp_path):
    inside = np.zeros(SHAPE, bool)
    inside[1:3, 1:4, 1] = True
    geometry = Geometry(inside, np.diag([3.0, 3.0, 3.0, 1.0]), (4, 4))
    values = np.arange(12.0).reshape(2, 6)
    bricks = [Brick("A-B_mean", values[0]), Brick('A-B_"t"', values[1], "t", (11.0,))]
    image = nib.load(save_bricks(geometry, bricks, tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(image.get_fdata()[inside].T, values)
    (extension,) = image.header.extensions
    text = extension.get_content()
    text = text.decode() if isinstance(text, bytes) else str(text)
    assert extension.get_code() == 4
    assert 'atr_name="BRICK_STATAUX"' in text
    assert " 1 3 1 11\n" in text  # sub-brick 1 is t of 11 degrees of freedom
    assert labels_of_bricks(image)[0] == "A-B_mean"
    assert int(image.header["sform_code"]) == 4
