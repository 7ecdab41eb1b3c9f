from __future__ import annotations

import errno
import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.images import (
    load_mask,
    mask_image,
    save_image,
    save_maps,
    save_values,
    to_image,
)
from numbaglm.errors import InputError, OutputError
from numbaglm.spaces.volume import Geometry
from reference.maps import AFFINE, SHAPE, image, volumes


def test_vectors_and_masks_become_images():
    mask = volumes(1)[0] != 0
    geometry = Geometry(mask, AFFINE)
    vector = np.arange(geometry.n_voxels, dtype=np.float64)
    made = to_image(geometry, vector, fill=np.nan)
    assert made.get_data_dtype() == np.float32
    np.testing.assert_array_equal(made.get_fdata()[mask], vector)
    assert np.isnan(made.get_fdata()[~mask]).all()
    assert to_image(geometry, np.stack([vector, vector])).shape == (*SHAPE, 2)
    assert mask_image(geometry).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(load_mask(mask_image(geometry)).mask, mask)


def test_images_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "out.nii.gz"
    save_image(image(volumes(1)[0]), target)
    before = target.read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"out\.nii\.gz.*No space left") as error:
        save_image(image(volumes(1, 1)[0]), target)
    assert isinstance(error.value, OSError)
    assert target.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.nii.gz"]
    monkeypatch.undo()
    with pytest.raises(OutputError, match="could not be written"):
        save_image(image(volumes(1)[0]), target / "under" / "a_file.nii")
    with pytest.raises(InputError, match=r"\.nii or \.nii\.gz"):
        save_image(image(volumes(1)[0]), tmp_path / "out.img")


def test_maps_are_written_by_their_names_and_read_back_by_others(tmp_path):
    mask = np.asarray(volumes(1)[0] != 0)
    geometry = Geometry(mask, AFFINE)
    rng = np.random.default_rng(0)
    maps = {name: rng.random(geometry.n_voxels) for name in ("t", "p_unc", "p_fdr", "z", "effect", "f")}
    save_maps(geometry, maps, tmp_path)
    for name, values in maps.items():
        read = nib.load(tmp_path / f"{name}.nii.gz").get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(read[mask], values.astype(np.float32))
        assert (read[~mask] == (1 if name.startswith("p_") else 0)).all()
    np.testing.assert_array_equal(nib.load(tmp_path / "mask.nii.gz").get_fdata(), mask)
    assert len(list(tmp_path.iterdir())) == 7
    before = (tmp_path / "t.nii.gz").read_bytes()
    save_maps(geometry, maps, tmp_path)
    assert (tmp_path / "t.nii.gz").read_bytes() == before, "a file holds no time"
    with pytest.raises(OutputError, match="could not be written"):
        save_maps(geometry, maps, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_values_are_written_in_the_format_that_their_name_tells(tmp_path, name):
    mask = np.asarray(volumes(1)[0] != 0)
    values = np.arange(mask.sum(), dtype=np.float64)
    read = nib.load(save_values(Geometry(mask, AFFINE), values, 2.0, tmp_path / name)).get_fdata()
    np.testing.assert_array_equal(read[mask], values)
    assert (read[~mask] == 2).all()


def test_values_of_elements_are_written_as_their_maps_came(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 6)).astype(np.float32)
    gifti = nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(row) for row in rows])
    nib.save(gifti, tmp_path / "lh.func.gii")
    nib.save(nib.MGHImage(np.ascontiguousarray(rows.T[:, None, None]), np.eye(4)), tmp_path / "lh.thickness.mgz")
    for maps, name in (("lh.func.gii", "x.gii"), ("lh.thickness.mgz", "x.mgz"), (None, "x.csv")):
        given = pd.DataFrame(rows, columns=list("abcdef")) if maps is None else tmp_path / maps
        file = save_values(Cohort.from_maps(given).store.space, rows[1], 0.0, tmp_path / name)
        if name == "x.csv":
            read = np.loadtxt(file, delimiter=",")
        else:
            image = nib.load(file)
            read = image.darrays[0].data if name == "x.gii" else image.get_fdata().ravel()
        np.testing.assert_allclose(read, rows[1], rtol=1e-6)
    both = Cohort.from_maps({"left": rows, "right": rows}).store.space
    with pytest.raises(InputError, match="a file for each surface"):
        save_values(both, np.zeros(12), 0.0, tmp_path / "y.gii")
