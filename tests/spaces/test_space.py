from __future__ import annotations

import json

import numpy as np
import pytest

from numbaglm.data.images import to_image
from numbaglm.errors import InputError, StoreError
from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.spaces.smoothing import smooth
from numbaglm.spaces.space import Space
from numbaglm.spaces.volume import Geometry

AFFINE = np.array([[2.0, 0, 0, -4], [0, 3, 0, 1], [0, 0, 4, 0], [0, 0, 0, 1]])
MASK = np.random.default_rng(0).random((5, 4, 3)) < 0.6
ONE, TWO = Geometry(MASK, AFFINE), Geometry(~MASK, AFFINE)


@pytest.mark.parametrize("parts", [(ONE,), (ONE, TWO)])
def test_a_space_is_built_again_of_what_it_says_of_itself(parts):
    space = Space(parts)
    descriptions, arrays = space.describe()
    again = Space.build(json.loads(json.dumps(descriptions)), arrays)
    assert again.same(space)
    assert (again.n, again.digest) == (space.n, space.digest)


def test_elements_are_numbered_through_the_parts():
    space = Space((ONE, TWO))
    assert space.n == 60
    assert [(where.start, where.stop) for where in space.slices] == [(0, ONE.n), (ONE.n, 60)]
    some = np.array([59, 0, ONE.n, 3])
    expected = [
        TWO.coordinates([TWO.n - 1])[0],
        ONE.coordinates([0])[0],
        TWO.coordinates([0])[0],
        ONE.coordinates([3])[0],
    ]
    np.testing.assert_array_equal(space.coordinates(some), expected)
    assert space.places(some) == [""] * 4
    np.testing.assert_allclose(space.measure, 24.0)
    assert (space.noun, space.domains) == ("voxel", {"volume": (0, 1)})


def test_what_is_selected_are_the_elements_that_were_kept():
    space = Space((ONE, TWO))
    keep = np.arange(60) % 3 == 0
    few = space.select(keep)
    assert few.n == 20
    np.testing.assert_array_equal(few.coordinates(np.arange(20)), space.coordinates(np.flatnonzero(keep)))
    keep[ONE.n :] = False
    assert len(space.select(keep).parts) == 1, "a part without elements is none"


def test_spaces_are_told_apart():
    spaces = [
        Space.of(ONE),
        Space.of(TWO),
        Space((ONE, TWO)),
        Space((TWO, ONE)),
        Space.of(Geometry(MASK, AFFINE + 1e-2)),
    ]
    assert len({space.digest for space in spaces}) == 5
    assert [one.same(other) for one in spaces for other in spaces] == np.eye(5, dtype=bool).ravel().tolist()


def test_one_volume_is_asked_for_and_something_else_is_refused():
    assert Space.of(ONE).volume is ONE
    with pytest.raises(InputError, match=r"one volume, but these lie on: volume, volume"):
        _ = Space((ONE, TWO)).volume
    with pytest.raises(StoreError, match=r"'torus'.*volume"):
        Space.build([{"kind": "torus"}], {})


def test_the_topology_of_a_volume_is_the_kernels():
    made, expected = ONE.topology(18), new_volume(ONE.padded_index, ONE.padded_shape, 18)
    np.testing.assert_array_equal(made.position, expected.position)
    assert (made.n_positions, made.strides, made.connectivity) == (expected.n_positions, expected.strides, 18)
    with pytest.raises(InputError, match="'connectivity'"):
        ONE.topology(7)


def test_smoothing_is_each_part_s_own():
    values = np.random.default_rng(1).normal(size=60).astype(np.float32)
    smoothed = Space((ONE, TWO)).smooth(values, 6.0)
    expected = smooth(to_image(ONE, values[: ONE.n]).get_fdata(dtype=np.float32), 6.0, AFFINE)[MASK]
    np.testing.assert_allclose(smoothed[: ONE.n], expected, rtol=1e-6)
    np.testing.assert_array_equal(Space.of(ONE).smooth(values[: ONE.n], None), values[: ONE.n])
