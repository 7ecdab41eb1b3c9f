from __future__ import annotations

import pickle

import numpy as np
import pytest

from numbaglm.data.cohort.presence import pack, unpack
from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.images import list_maps
from numbaglm.engine.conversion.coverage import MaskRule
from numbaglm.engine.conversion.tasks import Reader, SubjectBlock, SubjectRows, check_block, scout_block
from numbaglm.spaces.volume import Geometry, Grid
from reference.maps import AFFINE, SHAPE, image, volumes

GRID = Grid(SHAPE, AFFINE, "first")
RNG = np.random.default_rng(0)


def rows(k, present=True):
    bits = RNG.random((k, 11)) < 0.7 if present else None
    return SubjectRows(
        RNG.normal(size=(k, 11)).astype("f4"),
        None if bits is None else pack(bits),
        {"se": RNG.normal(size=(k, 11)).astype("f4")},
    )


@pytest.mark.parametrize("present", [True, False])
def test_rows_are_kept_within_voxels_that_stay(present):
    whole, keep = rows(3, present), RNG.random(11) < 0.5
    few = whole.kept(keep)
    np.testing.assert_array_equal(few.values, whole.values[:, keep])
    np.testing.assert_array_equal(few.layers["se"], whole.layers["se"][:, keep])
    if present:
        np.testing.assert_array_equal(unpack(few.present, keep.sum()), unpack(whole.present, 11)[:, keep])
    else:
        assert few.present is None
    assert whole.kept(np.ones(11, bool)) is whole


def test_rows_of_which_some_lack_nothing_are_joined():
    parts = [rows(2), rows(1, False), rows(3)]
    both = SubjectRows.joined(parts)
    np.testing.assert_array_equal(both.values, np.vstack([part.values for part in parts]))
    np.testing.assert_array_equal(both.layers["se"], np.vstack([part.layers["se"] for part in parts]))
    flags = unpack(both.present, 11)
    assert flags[2].all()
    np.testing.assert_array_equal(flags[3:], unpack(parts[2].present, 11))
    assert SubjectRows.joined(parts[1:2]) is parts[1]
    assert SubjectRows.joined([rows(2, False), rows(1, False)]).present is None


def test_a_reader_of_a_block_reads_its_maps():
    values = volumes(3)
    sources = list_maps([image(one) for one in values])[0]
    block, maps = Reader(SubjectBlock(4, 7, sources, 0, {}), GRID)()
    assert (block.start, block.stop) == (4, 7)
    for raw, one in zip(maps, values, strict=True):
        np.testing.assert_array_equal(raw.volume(), one)


@pytest.mark.parametrize("zero_is_missing", [True, False])
def test_a_scout_finds_where_any_map_has_a_value(zero_is_missing):
    values = volumes(2)
    values[0, 2, 2, 2] = np.nan
    values[:, 3, 3, 3] = 0
    values[:, 4, 4, 2] = np.inf
    sources = list_maps([image(one) for one in values])[0]
    found = scout_block(sources, GRID, MaskRule(zero_is_missing, 0.5))
    expected = (np.isfinite(values) & ((values != 0) | (not zero_is_missing))).any(axis=0)
    np.testing.assert_array_equal(found, expected)


def test_rows_that_are_not_what_was_stored_are_numbered():
    store = CohortStore.from_array(RNG.normal(size=(5, 60)).astype("f4"), Geometry(volumes(1)[0] != 0, AFFINE))
    assert check_block(store, 1, 5) == []
    store.arrays.data.flags.writeable = True
    store.arrays.data[3, 7] += 1
    assert check_block(store, 1, 5) == [3]
    assert check_block(pickle.loads(pickle.dumps(store)), 0, 3) == []
