"""Maps on another grid: affine maps of coordinates, gaps, and the grids that are asked for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from numbaglm.errors import InputError
from numbaglm.spaces.resampling import Prepared, nearest, resample, target_grid

AFFINE = np.array([[2.0, 0, 0, -5], [0, 2, 0, -6], [0, 0, 3, -7], [0, 0, 0, 1]])
SHAPE = (9, 10, 8)


def ramp(affine=AFFINE, shape=SHAPE):
    """x + 2 y - z of each voxel's place in mm, away from 0."""
    ijk = np.moveaxis(np.indices(shape), 0, -1)
    xyz = ijk @ affine[:3, :3].T + affine[:3, 3]
    return (xyz @ [1.0, 2.0, -1.0] + 100).astype(np.float32)


@pytest.mark.parametrize("zero_is_missing", [True, False])
def test_linear_functions_of_place_are_kept(zero_is_missing):
    """On a finer grid, turned, in the middle: splines bend a ramp at the border."""
    wide = AFFINE.copy()
    wide[:3, 3] = [-50, -55, -60]
    turn = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    inner = np.eye(4)
    inner[:3, :3], inner[:3, 3] = turn @ np.diag([1.5, 1.5, 2.0]), [0.5, 1, 1]
    moved = resample(ramp(wide, (50, 50, 40)), wide, (3, 4, 3), inner, zero_is_missing=zero_is_missing)
    assert_allclose(moved, ramp(inner, (3, 4, 3)), rtol=1e-5)
    assert moved.dtype == np.float32


def test_outside_is_0():
    far = AFFINE + np.outer([1000.0, 0, 0, 0], [0, 0, 0, 1])
    assert not resample(ramp(), AFFINE, SHAPE, far, zero_is_missing=True).any()


def test_gaps():
    """What is beside NaN is NaN; zeros don't ring."""
    volume = ramp()
    volume[4, 5, 4], volume[:3] = np.nan, 0
    half = AFFINE + np.outer([1.0, 0, 0, 0], [0, 0, 0, 1])  # half a voxel along x
    moved = resample(volume, AFFINE, SHAPE, half, zero_is_missing=False)
    assert_array_equal(np.argwhere(np.isnan(moved)), [[3, 5, 4], [4, 5, 4]])
    assert_array_equal(moved[:2], 0)
    assert moved[2].all()
    quarter = AFFINE + np.outer([0.5, 0, 0, 0], [0, 0, 0, 1])
    assert_array_equal(resample(volume, AFFINE, SHAPE, quarter, zero_is_missing=True)[:3], 0)


def test_nearest():
    mask = np.zeros(SHAPE, bool)
    mask[2:5] = True
    quarter = AFFINE + np.outer([0.5, 0, 0, 0], [0, 0, 0, 1])
    assert_array_equal(nearest(mask, AFFINE, SHAPE, quarter), mask)


def test_target_grids():
    shape, affine = target_grid(SHAPE, AFFINE, np.diag([4.0, 4, 3]))
    assert shape == (5, 6, 8)
    assert_allclose(affine[:, 3], AFFINE[:, 3])
    shape, affine = target_grid(SHAPE, AFFINE, np.diag([-4.0, 4, 3]))
    assert shape == (5, 6, 8)
    assert affine[0, 3] == -5 + 16
    assert target_grid(SHAPE, AFFINE, np.diag([4.0, 4, 3, 1]))[0] == (4, 4, 6)  # from 0 mm on
    assert target_grid(SHAPE, AFFINE, AFFINE, (2, 3, 4))[0] == (2, 3, 4)


@pytest.mark.parametrize(
    ("affine", "shape", "message"),
    [
        (np.eye(2), None, "target_affine"),
        (np.zeros((3, 3)), None, "target_affine"),
        (np.eye(4), (2, 2), "target_shape"),
        (np.eye(4), (2, 2, 2.5), "target_shape"),
        (np.eye(4), (2, 2, 0), "target_shape"),
        (np.eye(4) + np.outer([99.0, 0, 0, 0], [0, 0, 0, 1]), None, "holds some of the maps"),
    ],
)
def test_refused_grids(affine, shape, message):
    with pytest.raises(InputError, match=message):
        target_grid(SHAPE, AFFINE, affine, shape)


def test_values_are_made_when_they_are_asked_for():
    read = []

    def reader():
        read.append(1)
        return np.where(ramp() > 100, ramp(), np.nan)

    values = Prepared(reader, AFFINE, SHAPE, AFFINE, zero_is_missing=False, fill=True)
    assert values.shape == SHAPE
    assert not read
    assert_array_equal(np.asarray(values, np.float64), np.where(ramp() > 100, ramp(), 0))
    assert_array_equal(values[2], np.asarray(values)[2])
