from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from numbaglm.cohort import Cohort
from numbaglm.data.cohort.complete import CompleteStore, complete, select
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import MaskError
from numbaglm.spaces.volume import Geometry

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(8, 3000)).astype(np.float32)
MAPS[RNG.integers(0, 8, 200), RNG.integers(0, 3000, 200)] = np.nan
KEEP = np.isfinite(MAPS).all(axis=0)
TABLE = pd.DataFrame(MAPS, columns=[f"parcel-{number}" for number in range(3000)])


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_elements_that_all_have_are_a_cohort(tmp_path, on_disk):
    options = {"min_subjects": 0.5}
    cohort = Cohort.create(tmp_path / "c.zarr", TABLE, **options) if on_disk else Cohort.from_maps(TABLE, **options)
    found = cohort.complete().store
    assert (cohort.n_voxels, found.n_voxels) == (3000, KEEP.sum())
    assert found.space.n == found.n_voxels
    assert isinstance(found, CompleteStore) == on_disk
    expected = Cohort.from_maps(TABLE).store
    assert found.space.same(expected.space)
    np.testing.assert_array_equal(found.read(0, found.n_voxels), expected.read(0, expected.n_voxels))
    np.testing.assert_array_equal(found.read(5, 1500), MAPS[:, KEEP][:, 5:1500])
    pieces = np.vstack([piece for _, piece in found.pieces(100, 2000)])
    np.testing.assert_array_equal(pieces, MAPS[:, KEEP][:, 100:2000])
    np.testing.assert_array_equal(found.read_subjects(2, 4), MAPS[2:4, KEEP])
    assert found.all_present
    assert found.present(0, 7).all()
    assert found.patterns.n == 1
    assert found.presence_of(0, 8) is None
    again = pickle.loads(pickle.dumps(found))
    assert again.fingerprint == found.fingerprint != cohort.fingerprint
    np.testing.assert_array_equal(again.read(7, 900), found.read(7, 900))
    assert f"{(~KEEP).sum():,} of 3,000" in found.report[-1]


def test_what_all_have_or_counts_as_0_is_whole_already():
    whole = Cohort.from_maps(TABLE)
    assert complete(whole.store) is whole.store
    filled = Cohort.from_maps(TABLE, min_coverage=0.5)
    assert complete(filled.store) is filled.store


def test_nothing_that_all_have_is_told():
    present = ~np.eye(3, dtype=bool)
    where = Geometry(np.ones((3, 1, 1), bool), np.eye(4))
    store = CohortStore.from_array(np.where(present, 1.0, 0), where, present=present)
    with pytest.raises(MaskError, match="No voxel is there in all of the 3 maps"):
        complete(store)


def test_some_elements_of_a_cohort_in_memory():
    whole = Cohort.from_maps(TABLE).store
    keep = np.arange(whole.n_voxels) % 3 == 0
    found = select(whole, keep, "a third of them")
    np.testing.assert_array_equal(found.read(0, found.n_voxels), whole.read(0, whole.n_voxels)[:, keep])
    assert found.space.same(whole.space.select(keep))
    assert found.report[-1] == "a third of them"
