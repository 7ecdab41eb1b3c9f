from __future__ import annotations

import pickle

import nibabel as nib
import numpy as np
import pytest

from numbaglm import permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort import writer
from numbaglm.data.cohort.arranged import ArrangedStore, arrange
from numbaglm.errors import InputError

RNG = np.random.default_rng(0)
VALUES, VARIANCE = RNG.normal(size=(2, 7, 9, 5, 3)).astype(np.float32)
VALUES[2, :4] = np.nan
VALUES[5, 3:6] = np.nan
LABELS = [f"sub-{k}" for k in range(7)]
ORDERS = {"turned": [6, 2, 4, 0, 5, 1, 3], "some": [5, 1, 2], "in order": [0, 4, 5], "those that have all": [6, 0, 3]}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(writer, "choose_chunks", lambda *_: (2, 32))


def make(rows, path=None):
    """A cohort of some maps with a layer, in memory or on disk; of the mask of all."""
    images = [[nib.Nifti1Image(block[k], np.eye(4)) for k in rows] for block in (VALUES, VARIANCE)]
    options = {
        "mask": nib.Nifti1Image(np.ones(VALUES.shape[1:], np.uint8), np.eye(4)),
        "layers": {"variance": images[1]},
        "subjects": [LABELS[k] for k in rows],
        "min_subjects": 1,
    }
    return (Cohort.from_maps(images[0], **options) if path is None else Cohort.create(path, images[0], **options)).store


@pytest.mark.parametrize("rows", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_maps_layers_and_presence_move_together(tmp_path, on_disk, rows):
    whole = make(range(7), tmp_path / "c.zarr" if on_disk else None)
    found, n = arrange(whole, np.array(rows)), whole.n_voxels
    assert isinstance(found, ArrangedStore) == on_disk
    assert list(found.subjects["subject_label"]) == [LABELS[k] for k in rows]
    assert (found.n_subjects, found.n_voxels, found.layers) == (len(rows), n, ("data", "variance"))
    flat = VALUES.reshape(7, -1)[rows]
    there = np.isfinite(flat)
    np.testing.assert_array_equal(found.read(0, n), np.where(there, flat, 0))
    layer = np.where(there, VARIANCE.reshape(7, -1)[rows], 0)
    np.testing.assert_array_equal(found.read(3, 50, "variance"), layer[:, 3:50])
    np.testing.assert_array_equal(np.vstack([piece for _, piece in found.pieces(7, 90)]), found.read(7, 90))
    np.testing.assert_array_equal(found.read_subjects(1, 3), found.read(0, n)[1:3])
    np.testing.assert_array_equal(found.present(0, n), there)
    assert found.all_present == there.all()
    every = found.patterns.every
    np.testing.assert_array_equal(every[found.patterns.of].T, there)
    assert len(np.unique(every, axis=0)) == len(every)
    if (bits := found.presence_of(1, 3)) is not None:
        np.testing.assert_array_equal(bits, np.packbits(there[1:3], axis=1, bitorder="little"))
    np.testing.assert_array_equal(found.read_hashes_anew(0, 2), found.row_hashes[:2])


def test_each_order_has_its_own_fingerprint_and_survives_pickling(tmp_path):
    whole = make(range(7), tmp_path / "c.zarr")
    found = [arrange(whole, np.array(rows)) for rows in ORDERS.values()]
    assert len({whole.fingerprint, *(one.fingerprint for one in found)}) == 5
    again = pickle.loads(pickle.dumps(found[0]))
    assert again.fingerprint == found[0].fingerprint
    np.testing.assert_array_equal(again.read(4, 60), found[0].read(4, 60))


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_test_without_some_subjects_is_that_of_the_others(tmp_path, on_disk):
    whole, design = Cohort(make(range(7), tmp_path / "c.zarr" if on_disk else None)), np.eye(5)[:, :1] + 0.5
    few = whole.without(["5", "sub-2"])
    assert few.subjects == ["sub-0", "sub-1", "sub-3", "sub-4", "sub-6"]
    expected = permutation_test(Cohort(make([0, 1, 3, 4, 6])), n_perm=20)
    found = permutation_test(few, n_perm=20)
    assert list(found.maps) == list(expected.maps)
    for name, values in expected.maps.items():
        np.testing.assert_array_equal(found.maps[name], values, err_msg=name)
    assert len(few.quality()) == 5
    assert whole.without([]) is whole
    permutation_test(few, design, [1], n_perm=20, missing="element")
    few.verify()


def test_subjects_who_are_not_there_are_refused():
    whole = Cohort(make(range(3)))
    with pytest.raises(InputError, match=r"'subjects': got 'sub-9'.*sub-0, sub-1, sub-2"):
        whole.without(["sub-1", "sub-9"])
    with pytest.raises(InputError, match=r"'subjects': got 'a int'.*a label, or a list of them"):
        whole.without(1)
    with pytest.raises(InputError, match=r"2 of 3 subjects.*two or more"):
        whole.without(["sub-1", "sub-2"])
