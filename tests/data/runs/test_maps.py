from __future__ import annotations

import numpy as np
import pytest

from numbaglm.data.runs.maps import DamagedMapsError, MemoryMaps, ScratchMaps
from numbaglm.data.storage.places import Place

VALUES = np.random.default_rng(0).normal(size=(6, 10)).astype("f4")
BLOCKS = [(0, 4), (4, 8), (8, 10)]


def scratch(folder):
    return ScratchMaps(Place.parse(folder), (6, 10), (2, 4), "<f4")


@pytest.fixture(params=["memory", "folder"])
def maps(request, tmp_path):
    return MemoryMaps(np.empty((6, 10), "f4")) if request.param == "memory" else scratch(tmp_path)


def fill(maps):
    for start, stop in BLOCKS:
        for row in (0, 4):
            maps.write(row, start, VALUES[row : row + 4, start:stop])


def test_whole_maps_come_of_blocks(maps):
    fill(maps)
    for first in (0, 2, 4):
        np.testing.assert_array_equal(maps.rows(first, first + 2), VALUES[first : first + 2])


def test_blocks_that_an_earlier_process_left_are_known(tmp_path):
    maps = scratch(tmp_path)
    assert maps.columns(6) == set()
    maps.write(0, 4, VALUES[:4, 4:8])
    assert maps.columns(4) == {4}
    assert maps.columns(6) == set()
    fill(maps)
    assert scratch(tmp_path).columns(6) == {0, 4, 8}
    assert MemoryMaps(VALUES).columns(6) == set()


@pytest.mark.parametrize("harm", ["gone", "short", "changed"])
def test_damage_is_found_and_says_what_to_do(tmp_path, harm):
    maps = scratch(tmp_path)
    fill(maps)
    file = tmp_path / "1" / "2"
    data = file.read_bytes()
    file.unlink()
    if harm != "gone":
        file.write_bytes(data[:-1] if harm == "short" else bytes([data[0] ^ 1]) + data[1:])
    np.testing.assert_array_equal(maps.rows(0, 2), VALUES[:2])
    with pytest.raises(DamagedMapsError, match=r"1/2 is .*Repeat the call"):
        maps.rows(2, 4)
