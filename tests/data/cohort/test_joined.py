import numpy as np
import pytest

from numbaglm.data.cohort.joined import align, join
from numbaglm.data.cohort.store import CohortStore
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry

AFFINE = np.diag([2.0, 2, 2, 1])


def store(labels, mask=(True, True, True, True), offset=0.0, affine=AFFINE):
    mask = np.array(mask).reshape(4, 1, 1)
    Y = offset + 10 * np.array([int(label) for label in labels])[:, None] + np.arange(4)[mask.ravel()]
    return CohortStore.from_array(Y, Geometry(mask, affine), subjects=list(labels))


def test_shared_elements_of_the_same_subjects_in_the_order_of_the_first():
    joined = join({"a": store("123", [True, True, True, False]), "b": store("312", [False, True, True, True], 100.0)})
    assert joined.layers == ("data", "b")
    np.testing.assert_array_equal(joined.read(0, 2), [[11, 12], [21, 22], [31, 32]])
    np.testing.assert_array_equal(joined.read(0, 2, "b"), [[111, 112], [121, 122], [131, 132]])
    assert joined.space.mask.ravel().tolist() == [False, True, True, False]


def test_each_in_a_space_of_its_own():
    aligned = align({"a": store("123"), "b": store("231", [True, False, True, True])})
    np.testing.assert_array_equal(aligned["b"].read(0, 3)[:, 0], [10, 20, 30])
    assert list(aligned["b"].subjects["subject_label"]) == ["1", "2", "3"]


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(InputError, match=r"1 in 'a' alone \(3\); 1 in 'b' alone \(4\)"):
        join({"a": store("123"), "b": store("124")})
    with pytest.raises(InputError, match="cohorts in one space where they are combined"):
        join({"a": store("123"), "b": store("123", affine=np.diag([3.0, 3, 3, 1]))})
    with pytest.raises(InputError, match="no voxel in common"):
        join({"a": store("12", [True, False, False, False]), "b": store("12", [False, True, True, True])})
