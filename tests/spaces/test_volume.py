from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from numbaglm.errors import GridError, InputError, MaskError
from numbaglm.spaces.volume import Geometry, Grid

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -5], [0, 0, 4, 1], [0, 0, 0, 1]])
MASK = np.random.default_rng(0).random((4, 3, 5)) < 0.5
VOLUME = Geometry(MASK, AFFINE)
N = int(MASK.sum())


def test_voxels_follow_the_order_of_the_mask():
    assert (VOLUME.n_voxels, VOLUME.n, VOLUME.shape) == (N, N, (4, 3, 5))
    np.testing.assert_array_equal(VOLUME.ijk, np.argwhere(MASK))
    assert VOLUME.voxel_sizes.tolist() == [2, 3, 4]
    assert VOLUME.voxel_volume == pytest.approx(24)
    i, j, k = VOLUME.ijk[3]
    assert VOLUME.coordinates(np.array([3]))[0].tolist() == [10 - 2 * i, -5 + 3 * j, 1 + 4 * k]
    assert not VOLUME.mask.flags.writeable
    assert not VOLUME.affine.flags.writeable


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_neighbours_are_offsets_away_in_the_padded_grid(connectivity):
    reach = {6: 1, 18: 2, 26: 3}[connectivity]
    offsets = VOLUME.neighbour_offsets(connectivity)
    assert len(offsets) == connectivity
    assert (offsets[: connectivity // 2] < 0).all()
    padded = np.pad(MASK, 1)
    for p, cell in zip(VOLUME.padded_index.tolist(), np.argwhere(padded), strict=True):
        steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= reach]
        there = sum(padded[tuple(cell + step)] for step in steps)
        assert padded.ravel()[p + offsets].sum() == there
    with pytest.raises(InputError, match="'connectivity': got 8"):
        VOLUME.neighbour_offsets(8)


def test_vectors_go_back_on_the_grid():
    rows = np.arange(2.0 * N).reshape(2, N)
    one = VOLUME.unmask(rows[0], np.nan)
    np.testing.assert_array_equal(one[MASK], rows[0])
    assert np.isnan(one[~MASK]).all()
    np.testing.assert_array_equal(VOLUME.unmask(rows)[MASK], rows.T)
    with pytest.raises(InputError, match="'vector'"):
        VOLUME.unmask(rows[:, 1:])


def test_selecting_and_telling_itself():
    keep = np.arange(N) % 2 == 0
    few = VOLUME.select(keep)
    np.testing.assert_array_equal(few.ijk, VOLUME.ijk[keep])
    description, arrays = Geometry(MASK, AFFINE, (4, 1)).describe()
    again = Geometry.build(json.loads(json.dumps(description)), arrays)
    assert again.same(VOLUME)
    assert again.codes == (4, 1)
    assert again.token() == VOLUME.token() != few.token()
    assert not VOLUME.same(few)
    assert not VOLUME.same(Geometry(MASK, AFFINE + 0.01))
    assert VOLUME.same_grid((4, 3, 5), AFFINE + 5e-4)


@pytest.mark.parametrize(
    ("mask", "affine", "error", "message"),
    [
        (np.ones((2, 2)), AFFINE, MaskError, "3 dimensions"),
        (np.zeros((2, 2, 2)), AFFINE, MaskError, "holds no voxel"),
        (np.ones((2, 2, 2)), np.eye(3), InputError, "'affine'"),
    ],
)
def test_what_is_no_volume_is_refused(mask, affine, error, message):
    with pytest.raises(error, match=message):
        Geometry(mask, affine)


def test_maps_that_lie_elsewhere_are_told_by_how_much():
    grid = Grid((4, 3, 5), AFFINE, "first.nii")
    grid.check((4, 3, 5), AFFINE + 1e-4, "second.nii")
    with pytest.raises(GridError, match=r"second\.nii has shape \(4, 3, 6\), but first\.nii has \(4, 3, 5\)"):
        grid.check((4, 3, 6), AFFINE, "second.nii")
    with pytest.raises(GridError, match=r"different affines \(largest difference 0\.5 mm\)"):
        grid.check((4, 3, 5), AFFINE + 0.5, "second.nii")


@pytest.mark.parametrize(("connectivity", "n"), [(6, 3), (18, 2), (26, 1)])
def test_groups_of_neighbours_touch_by_faces_edges_or_corners(connectivity, n):
    whole = Geometry(np.ones((4, 4, 4), bool), np.eye(4))
    inside = np.zeros((4, 4, 4), bool)
    inside[0, 0, 0] = inside[0, 1, 1] = inside[1, 2, 2] = True  # an edge, and a corner
    numbers, n_groups = whole.groups(inside[whole.mask], connectivity)
    assert n_groups == n
    np.testing.assert_array_equal(numbers > 0, inside)
    assert set(np.unique(numbers)) == set(range(n + 1))
