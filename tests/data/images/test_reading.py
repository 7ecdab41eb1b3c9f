from __future__ import annotations

import gzip
import re
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from numbaglm.data.images import (
    list_maps,
    read_map,
    read_maps,
)
from numbaglm.errors import GridError, ImageError
from numbaglm.spaces.volume import Grid
from reference.maps import AFFINE, SHAPE, image, volumes, write_maps


def test_different_grids_tell_which_and_by_how_much(tmp_path):
    shifted = AFFINE.copy()
    shifted[0, 3] += 1.5
    grid = Grid(SHAPE, AFFINE, "sub-01.nii")
    source = list_maps(write_maps(tmp_path, volumes(2), shifted))[0][1]
    with pytest.raises(GridError, match=r"sub-02_con.*sub-01\.nii.*1\.5 mm"):
        read_map(source, grid)
    smaller = list_maps(write_maps(tmp_path / "small", volumes(2)[:, :-1]))[0][1]
    with pytest.raises(
        GridError, match=re.escape("sub-02_con.nii.gz has shape (5, 7, 5), but sub-01.nii has (6, 7, 5)")
    ):
        read_map(smaller, grid)


def test_scaled_integers_and_analyze_pairs(tmp_path):
    values = volumes(2)
    scaled = nib.Nifti1Image(values[0], AFFINE)
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, tmp_path / "a.nii.gz")
    nib.save(nib.Spm99AnalyzeImage(values[1], AFFINE), tmp_path / "b.img")
    first, second = list_maps([tmp_path / "a.nii.gz", tmp_path / "b.img"])[0]
    np.testing.assert_allclose(read_map(first), values[0], atol=2e-4)
    np.testing.assert_array_equal(read_map(second), values[1])


def test_images_of_other_formats_are_read_by_nibabel(tmp_path):
    """AFNI scales each volume by a factor of its own; bzip2 and MGH are packed in ways that are not read here."""
    values = volumes(2)
    for number, volume in enumerate(values):
        nib.save(image(volume), tmp_path / f"{number}.nii.bz2")
        nib.MGHImage(volume, AFFINE).to_filename(tmp_path / f"{number}.mgz")
    packed = [tmp_path / f"{number}.nii.bz2" for number in range(2)]
    for maps in (packed, [nib.load(path) for path in packed], [nib.load(tmp_path / f"{i}.mgz") for i in range(2)]):
        np.testing.assert_array_equal(list(read_maps(list_maps(maps)[0])), values)

    class Scaled(nib.arrayproxy.ArrayProxy):
        """Values times a factor of its own, as AFNI has it."""

        def _get_scaled(self, dtype, slicer):
            return super()._get_scaled(dtype, slicer) * 4

    nib.save(image(values[0]), tmp_path / "a.nii")
    proxy = Scaled(str(tmp_path / "a.nii"), (SHAPE, np.float32, 352))
    scaled = nib.Nifti1Image(proxy, AFFINE)
    np.testing.assert_array_equal(read_map(list_maps([scaled, scaled])[0][0]), values[0] * 4)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_memory_is_asked_for_what_a_file_can_hold_alone(tmp_path, name):
    """By its header a map takes 4 GB; by its last four bytes the stream does."""
    whole = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), AFFINE).to_bytes()
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_sform(AFFINE)
    data = header.binaryblock + whole[348:]
    (tmp_path / name).write_bytes(gzip.compress(data)[:-4] + b"\xff\xff\xff\xff" if name.endswith("gz") else data)
    source = list_maps([tmp_path / name] * 2)[0][0]
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"a\.nii.* is (truncated|damaged)"):
        read_map(source)
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()
