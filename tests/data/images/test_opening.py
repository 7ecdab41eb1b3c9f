from __future__ import annotations

import bz2
import errno
import gzip
import os
import pickle
from unittest.mock import Mock

import nibabel as nib
import numpy as np
import pytest

from numbaglm.data.images import (
    grid_of,
    list_maps,
    read_map,
    statistic_of,
)
from numbaglm.data.images.opening import MapSource, open_image
from numbaglm.errors import ImageError, MissingFileError
from reference.maps import AFFINE, SHAPE, image, volumes, write_maps


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


def test_a_cohort_among_maps_is_told_to_be_opened(tmp_path):
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").touch()
    with pytest.raises(ImageError, match=r"c\.zarr is a folder.*It is a cohort: Cohort\.open\(path\) opens it"):
        read_map(list_maps([tmp_path / "c.zarr"] * 2)[0][0])


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
        ("text", ImageError, "of no format that is known|not gzip"),
        ("folder", ImageError, "is a folder"),
        ("loop", ImageError, "can't be opened.*symbolic links"),
        ("long", ImageError, "can't be opened.*too long"),
        ("closed", ImageError, "may not be read.*Permission"),
        ("gifti", ImageError, "go by themselves"),
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


def test_sources_of_files_travel_without_their_data(tmp_path):
    source = list_maps(write_maps(tmp_path, volumes(2)))[0][1]
    read_map(source)
    assert len(pickle.dumps(source)) < 1000
    np.testing.assert_array_equal(read_map(pickle.loads(pickle.dumps(source))), volumes(2)[1])


@pytest.mark.parametrize("shape", [(642, 1, 1), (1, 1, 5000), (27307, 1, 6), (3414, 1, 3)])
def test_overlays_of_surfaces_are_no_volumes(tmp_path, shape):
    path = tmp_path / "lh.thickness.nii"
    nib.save(image(np.ones(shape)), path)
    for given in (path, nib.load(path), nib.MGHImage(np.ones(shape, np.float32), AFFINE)):
        with pytest.raises(ImageError, match=r"vertices of a surface.*taken as a surface"):
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel leaves such a file open
def test_a_type_that_no_reader_knows_is_named(tmp_path):
    path = tmp_path / "map.mgh"
    nib.MGHImage(np.ones((4, 4, 4), np.float32), np.eye(4)).to_filename(path)
    data = bytearray(path.read_bytes())
    data[20:24] = (77).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"map\.mgh is damaged and can't be read \(KeyError: 77\)"):
        open_image(MapSource("map.mgh", path))


@pytest.mark.parametrize(("pack", "kind", "ending"), [(gzip.compress, "gzip", "gz"), (bz2.compress, "bzip2", "bz2")])
def test_compressed_data_under_a_plain_name_are_told(tmp_path, pack, kind, ending):
    path = write_maps(tmp_path, volumes(1), suffix=".nii")[0]
    path.write_bytes(pack(path.read_bytes()))
    with pytest.raises(ImageError, match=f"holds {kind} data, which .*Rename it to .*nii.{ending}"):
        open_image(MapSource(str(path), path))


@pytest.mark.parametrize(("intent", "expected"), [("t test", "t"), ("z score", "z"), ("f test", "f"), ("none", "")])
def test_headers_say_that_a_map_is_a_statistic(intent, expected):
    one = image(volumes(1)[0])
    one.header.set_intent(intent, {"t test": (9,), "f test": (2, 9)}.get(intent, ()))
    assert statistic_of(MapSource("a", image=one)) == expected
