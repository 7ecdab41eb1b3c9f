from __future__ import annotations

import numpy as np
import pytest
import zarr

from numbaglm.data.cohort.chunks import ChunkedArray, ChunkError, checksum, codecs
from numbaglm.data.storage.places import Place

SHAPE, CHUNKS = (7, 11), (3, 4)
FILL = {"<f4": np.nan, "|u1": 0}
VALUES = np.random.default_rng(0).integers(0, 200, SHAPE)


def lay(folder, dtype="<f4", path=None):
    """An array that Zarr has laid out, and what it holds."""
    made = zarr.create_array(
        str(folder), shape=SHAPE, chunks=CHUNKS, dtype=dtype, fill_value=FILL[dtype], compressors=codecs(dtype)
    )
    array, values = ChunkedArray.of(Place.parse(folder), made, path), VALUES.astype(dtype)
    for start in range(0, 7, 3):
        array.write(start, values[start : start + 3])
    return array, values


@pytest.mark.parametrize("path", [None, "data"])
@pytest.mark.parametrize("dtype", FILL)
@pytest.mark.parametrize("part", [(0, 7, 0, 11), (2, 5, 3, 9), (6, 7, 10, 11), (0, 3, 4, 8), (1, 1, 2, 5)])
def test_any_block_is_what_was_written(tmp_path, dtype, part, path):
    array, values = lay(tmp_path / "a", dtype, path)
    rows, columns = slice(*part[:2]), slice(*part[2:])
    block = array.read(rows, columns)
    assert block.dtype == dtype
    np.testing.assert_array_equal(block, values[rows, columns])
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[:], values)


def test_a_chunk_that_is_gone_or_damaged_is_named_with_what_it_holds(tmp_path):
    array, _ = lay(tmp_path / "a")
    last = tmp_path / "a" / "c" / "2" / "2"
    whole = last.read_bytes()
    foreign = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
    short = foreign[:10] + checksum(foreign[:10])
    for data, reason in ((whole[:-1], "checksum differs"), (b"", "checksum differs"), (short, "of another array")):
        last.write_bytes(data)
        with pytest.raises(ChunkError) as caught:
            array.read(slice(0, 7), slice(0, 11))
        assert reason in caught.value.reason
    last.unlink()
    with pytest.raises(ChunkError) as caught:
        array.read(slice(6, 7), slice(9, 11))
    error = caught.value
    assert (error.name, error.rows, error.columns, error.reason) == ("c/2/2", slice(6, 7), slice(8, 11), "is gone")
    array.read(slice(0, 7), slice(0, 8))  # the others are there


def test_arrays_of_another_making_are_refused(tmp_path):
    plain = zarr.create_array(str(tmp_path / "a"), shape=SHAPE, chunks=CHUNKS, dtype="<f4", compressors=None)
    double = zarr.create_array(str(tmp_path / "b"), shape=SHAPE, chunks=CHUNKS, dtype="<f8", compressors=codecs("<f8"))
    for array in (plain, double):
        with pytest.raises(ValueError, match="array of float"):
            ChunkedArray.of(Place.parse(tmp_path), array, None)


def test_the_checksum_is_castagnolis():
    assert checksum(b"123456789") == 0xE3069283.to_bytes(4, "little")
