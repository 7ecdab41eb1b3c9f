from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import ImageError, MaskError, MissingFileError
from numbaglm.faces.spm.design import read_study
from numbaglm.faces.spm.volumes import find_images, labels, make_cohort
from reference.maps import AFFINE, SHAPE, volumes
from reference.spm_mat import design, save, write_images

N = 6
BORDER = volumes(1)[0] == 0
MEAN = design(H=(np.ones((N, 1)), ["mean"]))


@pytest.fixture
def place(tmp_path):
    write_images(tmp_path / "first", volumes(N, seed=3), AFFINE, outside=BORDER)
    (tmp_path / "group").mkdir()
    return tmp_path


def images(place):
    return sorted((place / "first").glob("s*/con_0001.nii"))


def cohort(place, files=None, mask=None, data_dir=None, **options):
    study = read_study(save(place / "group" / "SPM.mat", files or images(place), MEAN, **options))
    return make_cohort(study, find_images(study, data_dir), mask, data_dir)


def saved(path, values, affine=AFFINE):
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def rows(made):
    return made.store.read_subjects(0, N)


def test_a_mask_of_another_grid_counts_by_its_nearest_voxel(place):
    fine = AFFINE.copy()
    fine[:3, :3] /= 2
    inside = np.zeros(tuple(2 * k for k in SHAPE), np.float32)
    inside[2:8] = 0.2
    assert cohort(place, masks=[saved(place / "fine.nii", inside, fine)]).n_voxels == 3 * 5 * 3


def test_a_lost_mask_is_named_or_that_of_the_estimation_or_one_s_own(place, caplog):
    with pytest.raises(MissingFileError, match=r"explicit mask /gone/brain\.nii of .* is not there.*--mask"):
        cohort(place, masks=["/gone/brain.nii"])
    own = np.zeros(SHAPE, np.uint8)
    own[2:4, 2:4, 2:4] = 1
    mine = saved(place / "mine.nii", own[::-1])
    assert cohort(place, masks=["/gone/brain.nii"], mask=str(mine)).n_voxels == 8
    saved(place / "group" / "mask.nii", own)
    assert cohort(place, masks=["/gone/brain.nii"]).n_voxels == 8
    assert "that of SPM's estimation" in caplog.text
    with pytest.raises(MaskError, match="leave no voxel"):
        cohort(place, mask=str(mine), thresholds=np.full(N, 100.0))


def test_zeros_are_data_in_floats_and_missing_in_whole_numbers(place):
    values = np.stack([nib.load(file).get_fdata() for file in images(place)])
    values[0, 2, 2, 2] = 0
    saved(images(place)[0], np.float32(values[0]))
    assert cohort(place).n_voxels == 4 * 5 * 3
    whole = np.round(np.nan_to_num(values) * 3).astype(np.int16)
    for file, one in zip(images(place), whole, strict=True):
        saved(file, one)
    assert cohort(place).n_voxels == (whole != 0).all(axis=0).sum() < 60
    assert cohort(place, implicit=0).n_voxels == 60


def test_pairs_of_files_and_volumes_of_one_file_are_the_same(place):
    values = volumes(N, seed=3)
    values[:, BORDER] = np.nan
    pairs = write_images(place / "pairs", values, AFFINE, "s{:02d}/con_0001.img")
    saved(place / "all.nii", np.float32(np.moveaxis(values[::-1], 0, -1)))
    saved(place / "all.nii.gz", np.float32(np.moveaxis(values, 0, -1)))
    one = cohort(place, pairs)
    for files in ([(place / "all.nii", N - k) for k in range(N)], [(place / "all.nii.gz", k + 1) for k in range(N)]):
        other = cohort(place, files)
        np.testing.assert_array_equal(other.store.geometry.mask, one.store.geometry.mask)
        assert [other.subjects[0], other.subjects[-1]] == [f"all_{files[0][1]}", f"all_{files[-1][1]}"]
        np.testing.assert_array_equal(rows(other), rows(one))
    with pytest.raises(ImageError, match=r"has 6 volume\(s\), but number 40 is asked for"):
        cohort(place, [*files[:-1], (place / "all.nii.gz", 40)])


def test_global_scaling_multiplies(place):
    scaling = np.arange(1.0, N + 1)
    scaled, plain = cohort(place, scaling=scaling), cohort(place)
    np.testing.assert_allclose(rows(scaled), rows(plain) * scaling[:, None], rtol=1e-6)


def test_scans_are_called_by_their_folders(place):
    study = read_study(save(place / "group" / "SPM.mat", images(place), MEAN))
    assert labels(study, find_images(study, None)) == [f"s{k:02d}" for k in range(1, N + 1)]


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (["s{}/con_0001.nii", "s{}/con_0002.nii"], "s1_con_0002"),
        (["s{}/a/con.nii", "s{}/b/con.nii"], "scan-002"),
    ],
)
def test_scans_of_one_person_are_called_by_folder_and_file(place, names, second):
    files = [place / name.format(k) for k in (1, 2, 3) for name in names]
    study = SimpleNamespace(n_scans=N, volumes=[(str(file), 0) for file in files])
    found = labels(study, files)
    assert (found[1], len(set(found))) == (second, N)
