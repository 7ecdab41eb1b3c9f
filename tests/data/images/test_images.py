from __future__ import annotations

import errno
import gzip
import os
import pickle
import re
import tracemalloc
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from numbaglm.data.images import (
    grid_of,
    list_maps,
    load_mask,
    mask_image,
    read_map,
    read_maps,
    save_image,
    save_maps,
    to_image,
)
from numbaglm.errors import GridError, ImageError, InputError, MaskError, MissingFileError, OutputError
from numbaglm.spaces.smoothing import parse_fwhm, smooth
from numbaglm.spaces.volume import Geometry, Grid
from reference.maps import AFFINE, SHAPE, volumes, write_maps


def image(values, affine=AFFINE):
    return nib.Nifti1Image(np.asarray(values, np.float32), affine)


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


def broken(folder, kind):
    """A file that is no map, in one of many ways."""
    path = write_maps(folder, volumes(1))[0]
    whole = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "truncated gz":
        path.write_bytes(whole[:-100])
    elif kind == "flipped bit":
        # Stored without compression: nothing but the checksum can tell.
        plain = gzip.compress(gzip.decompress(whole), 0)
        path.write_bytes(plain[:-300] + bytes([plain[-300] ^ 1]) + plain[-299:])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not an image " * 40)
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind in ("no header", "no data"):
        pair = nib.Nifti1Pair(volumes(1)[0], AFFINE)
        nib.save(pair, folder / "a.img")
        gone, path = folder / "a.hdr", folder / "a.img"
        gone, path = (gone, path) if kind == "no header" else (path, gone)
        gone.unlink()
    elif kind == "not compressed":
        path.write_bytes(gzip.decompress(whole))
    elif kind == "huge":
        plain = bytearray(gzip.decompress(whole))
        plain[42:48] = np.full(3, 30_000, "<i2").tobytes()
        path.write_bytes(gzip.compress(plain))
    elif kind == "loop":
        path.unlink()
        path.symlink_to(path)
    elif kind == "long":
        path = folder / f"{'x' * 300}.nii.gz"
    elif kind == "truncated":
        path = write_maps(folder, volumes(1), suffix=".nii")[0]
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "gifti":
        path = folder / "sub-01.gii"
        nib.save(nib.gifti.GiftiImage(), path)
    elif kind == "complex":
        nib.save(nib.Nifti1Image(np.ones(SHAPE, np.complex64), AFFINE), path)
    elif kind == "rgb":
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), AFFINE), path)
    elif kind == "4D":
        nib.save(nib.Nifti1Image(np.ones((*SHAPE, 3), np.float32), AFFINE), path)
    elif kind == "2D":
        nib.save(nib.Nifti1Image(np.ones((4, 4), np.float32), AFFINE), path)
    return path


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("missing", MissingFileError, "does not exist"),
        ("truncated gz", ImageError, "truncated"),
        ("truncated", ImageError, "truncated"),
        ("flipped bit", ImageError, "can't be read"),
        ("empty", ImageError, "is empty.*no bytes"),
        ("no header", ImageError, r"without its header: .*a\.hdr does not exist"),
        ("no data", ImageError, r"can't be opened \(No such file or directory: .*a\.img\)"),
        ("not compressed", ImageError, "is not gzip.*Rename it"),
        ("huge", ImageError, "has 27,000,000,000,000 voxels, by its header"),
        ("text", ImageError, "neither NIfTI nor Analyze|not gzip"),
        ("folder", ImageError, "is a folder"),
        ("loop", ImageError, "can't be opened.*symbolic links"),
        ("long", ImageError, "can't be opened.*too long"),
        ("closed", ImageError, "may not be read.*Permission"),
        ("gifti", ImageError, "not supported yet"),
        ("complex", ImageError, "complex"),
        ("rgb", ImageError, "RGB"),
        ("4D", ImageError, "4D with 3 volumes.*Pass the 4D image alone"),
        ("2D", ImageError, "3 dimensions"),
    ],
)
def test_unreadable_maps_are_named(tmp_path, monkeypatch, kind, error, words):
    path = broken(tmp_path, kind)
    if kind == "closed":  # from root too
        refused = PermissionError(errno.EACCES, "Permission denied")
        monkeypatch.setattr("pathlib.Path.stat", Mock(side_effect=refused))
        monkeypatch.setattr("pathlib.Path.open", Mock(side_effect=refused))
    source = list_maps([path, path])[0][0]
    with pytest.raises(error, match=words) as caught:
        read_map(source)
    assert str(path) in str(caught.value)


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


def test_sources_of_files_travel_without_their_data(tmp_path):
    source = list_maps(write_maps(tmp_path, volumes(2)))[0][1]
    read_map(source)
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(read_map(pickle.loads(pickle.dumps(source))), volumes(2)[1])


@pytest.mark.parametrize("fwhm", [8.0, (6.0, 0.0, 10.0)])
def test_smoothing_equals_nilearn(fwhm):
    nilearn = pytest.importorskip("nilearn.image")
    values = volumes(1)[0]
    values[2, 2, 2], values[3, 3, 3] = np.nan, np.inf
    expected = nilearn.smooth_img(nib.Nifti1Image(values.copy(), AFFINE), fwhm).get_fdata()
    before = values.copy()
    np.testing.assert_allclose(smooth(values, fwhm, AFFINE), expected, atol=1e-6)
    np.testing.assert_array_equal(values, before)


def test_no_smoothing_and_refused_widths():
    values = volumes(1)[0]
    assert parse_fwhm(0) is None
    assert parse_fwhm((0, 0, 0)) is None
    assert smooth(values, None, AFFINE) is values
    for wrong in (-1, (1, 2), "fast", np.nan, (4, 4, -4)):
        with pytest.raises(InputError, match="smoothing_fwhm"):
            parse_fwhm(wrong)


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


def test_a_mask_is_what_is_finite_and_not_zero(tmp_path):
    values = np.zeros(SHAPE)
    values[1, 1, 1], values[2, 2, 2], values[3, 3, 3] = 0.2, np.nan, -1
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "mask.nii")
    geometry = load_mask(str(tmp_path / "mask.nii"))
    assert np.argwhere(geometry.mask).tolist() == [[1, 1, 1], [3, 3, 3]]
    assert load_mask(None) is None
    with pytest.raises(MaskError, match="holds no voxel"):
        load_mask(image(np.zeros(SHAPE)))
    with pytest.raises(InputError, match="'mask'"):
        load_mask(values)


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


@pytest.mark.parametrize("shape", [(642, 1, 1), (1, 1, 5000), (27307, 1, 6), (3414, 1, 3)])
def test_overlays_of_surfaces_are_no_volumes(tmp_path, shape):
    path = tmp_path / "lh.thickness.nii"
    nib.save(image(np.ones(shape)), path)
    for given in (path, nib.load(path), nib.MGHImage(np.ones(shape, np.float32), AFFINE)):
        with pytest.raises(ImageError, match=r"vertices of a surface.*not supported yet"):
            grid_of(list_maps([given, given])[0][0])


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path, kind, name):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    source = list_maps([path, path])[0][0]
    for read in (grid_of, read_map):
        with pytest.raises(ImageError, match=r"a pipe or a device"):
            read(source)


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
