from __future__ import annotations

import base64
import gzip
import os
import tracemalloc
import zlib

import nibabel as nib
import numpy as np
import pytest

import numbaglm as ng
from numbaglm.data.images.elements import gifti_rows, opening
from numbaglm.data.images.gifti import load_gifti
from numbaglm.errors import ImageError

VALUES = np.random.default_rng(0).normal(size=300).astype(np.float32)


def written(path, encoding="GIFTI_ENCODING_B64GZ", values=VALUES):
    nib.save(nib.GiftiImage(darrays=[nib.gifti.GiftiDataArray(values, encoding=encoding)]), path)
    return path


@pytest.mark.parametrize("encoding", ["ASCII", "B64BIN", "B64GZ"])
@pytest.mark.parametrize("ending", [".func.gii", ".func.gii.gz"])
def test_values_come_as_they_are(tmp_path, encoding, ending):
    path = written(tmp_path / f"a{ending}", f"GIFTI_ENCODING_{encoding}")
    np.testing.assert_allclose(load_gifti(path).darrays[0].data, VALUES, atol=1e-6)


@pytest.mark.parametrize("packed", ["values", "file"])
def test_what_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path, packed):
    encoding = "GIFTI_ENCODING_B64GZ" if packed == "values" else "GIFTI_ENCODING_B64BIN"
    path, text = tmp_path / "a.func.gii", written(tmp_path / "b.func.gii", encoding).read_text()
    start, stop = text.index("<Data>") + 6, text.index("</Data>")
    if packed == "values":
        path.write_text(text[:start] + base64.b64encode(zlib.compress(bytes(2**27))).decode() + text[stop:])
    else:
        path = path.with_name("a.func.gii.gz")
        path.write_bytes(gzip.compress((text[:start] + "A" * 2**25 + text[stop:]).encode(), 1))
    tracemalloc.start()
    with pytest.raises(ImageError, match="unpacks to more than its header says"):
        opening(str(path), path, gifti_rows)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_values_in_a_file_beside_it_are_read_and_elsewhere_are_not(tmp_path):
    """As SPM writes surfaces; who sends such a file could have any file of this machine read, or a pipe waited for."""
    (tmp_path / "of").mkdir()
    for folder in (tmp_path, tmp_path / "of"):
        (folder / "a.dat").write_bytes(VALUES.tobytes())
    path = written(tmp_path / "of" / "a.func.gii", "GIFTI_ENCODING_B64BIN")
    text = path.read_text()
    text = text.replace("Base64Binary", "ExternalFileBinary").replace('ExternalFileName=""', 'ExternalFileName="a.dat"')
    path.write_text(text)
    maps = ng.Cohort.from_maps([path, written(tmp_path / "b.func.gii", values=2 * VALUES)])
    np.testing.assert_array_equal(maps.store.read(0, 300)[0], VALUES)
    for elsewhere in ("../a.dat", "/etc/passwd", "..\\a.dat"):
        path.write_text(text.replace("a.dat", elsewhere))
        with pytest.raises(ImageError, match="its values are in the file"):
            opening(str(path), path, gifti_rows)
    (path.parent / "a.dat").unlink()
    os.mkfifo(path.parent / "a.dat")
    path.write_text(text)
    with pytest.raises(ImageError, match="a pipe or a device"):
        opening(str(path), path, gifti_rows)
