from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.data.images import (
    list_maps,
    load_mask,
    read_maps,
    weighted_sum,
)
from numbaglm.errors import GridError, InputError, MaskError
from numbaglm.spaces.volume import Grid
from reference.maps import AFFINE, SHAPE, image, volumes, write_maps


def test_every_form_of_maps_reads_the_same(tmp_path):
    values = volumes(3)
    paths = write_maps(tmp_path, values)
    stacked = nib.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE)
    nib.save(stacked, tmp_path / "all.nii.gz")
    frame = pd.DataFrame({"subject_label": ["c", "a", "b"], "effects_map_path": [paths[2], paths[0], paths[1]]})
    forms = [
        paths,
        tuple(str(path) for path in paths),
        pd.Series(paths),
        [nib.load(path) for path in paths],
        [image(volume) for volume in values],
        [nib.Nifti1Image(volume[..., None], AFFINE) for volume in values],
        tmp_path / "all.nii.gz",
        stacked,
        frame,
    ]
    for form in forms:
        sources, labels, _ = list_maps(form)
        read = np.stack(list(read_maps(sources, Grid(SHAPE, AFFINE, "the grid"))))
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, values)
        assert len(labels) == 3
    assert list_maps(frame)[1] == ["a", "b", "c"]
    read = [np.array(volume) for volume in read_maps(list_maps(stacked)[0][::-1])]
    np.testing.assert_array_equal(read, values[::-1])


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["sub-01_con.nii", "sub-02_con.nii"], ["sub-01", "sub-02"]),
        (["sub-A/con.nii", "sub-B/con.nii"], ["sub-A", "sub-B"]),
        (["sub-01_x.nii", "sub-01_y.nii"], ["sub-01_x", "sub-01_y"]),
        (["ann.nii", "bob.nii"], ["ann", "bob"]),
        (["ann/c.nii", "bob/c.nii"], ["ann", "bob"]),
    ],
)
def test_labels_come_from_file_names(tmp_path, names, labels):
    assert list_maps([tmp_path / name for name in names])[1] == labels


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ("data/*.nii.gz", ["glob.glob('data/*.nii.gz')"]),
        (["data/*.nii.gz", "x"], ["glob.glob"]),
        ({"a": 1}, ["'maps'", "dict", "DataFrame"]),
        ([1, 2], ["a int as map 1", "paths"]),
        (["", "x"], ["an empty path as map 1"]),
        ([], ["0 map(s)", "at least 2"]),
        (["one.nii"], ["1 map(s)", "at least 2"]),
        (pd.DataFrame({"subject_label": ["a"]}), ["effects_map_path", "Add"]),
    ],
)
def test_refused_maps(maps, words):
    with pytest.raises(InputError) as error:
        list_maps(maps)
    for word in words:
        assert word in str(error.value)


def test_a_mask_is_what_is_finite_and_not_zero(tmp_path):
    values = np.zeros(SHAPE)
    values[1, 1, 1], values[2, 2, 2], values[3, 3, 3] = 0.2, np.nan, -1
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "mask.nii")
    geometry = load_mask(str(tmp_path / "mask.nii"))
    assert np.argwhere(geometry.mask).tolist() == [[1, 1, 1], [3, 3, 3]]
    assert load_mask(None) is None
    with pytest.raises(MaskError, match="holds no voxel"):
        load_mask(image(np.zeros(SHAPE)))
    with pytest.raises(MaskError, match="4D with 2 volumes, but a mask is one volume for all"):
        load_mask(image(np.ones((*SHAPE, 2))))
    assert load_mask(image(np.ones((*SHAPE, 1)))).n == np.prod(SHAPE)
    with pytest.raises(InputError, match="'mask'"):
        load_mask(values)


@pytest.mark.parametrize("maps", [np.zeros((5, 4, 4)), [np.zeros((4, 4))] * 5])
def test_arrays_are_asked_where_they_lie(maps):
    with pytest.raises(InputError, match=r"an array of shape .*space='network' for matrices"):
        list_maps(maps)


def test_a_weighted_sum_is_read_when_it_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    for name, one in zip("ab", values, strict=True):
        nib.save(nib.Nifti1Image(one, np.diag([2.0, 2, 2, 1])), tmp_path / f"{name}.nii")
    image = weighted_sum([(1.0, tmp_path / "a.nii"), (-0.5, tmp_path / "b.nii")])
    np.testing.assert_allclose(np.asarray(image.dataobj), values[0] - 0.5 * values[1], rtol=1e-6)
    nib.save(nib.Nifti1Image(values[0], np.eye(4)), tmp_path / "c.nii")
    with pytest.raises(GridError, match="different affines"):
        weighted_sum([(1.0, tmp_path / "a.nii"), (-1.0, tmp_path / "c.nii")])
