import numpy as np
import pytest

from numbaglm.display.maps.projection import VIEWS, upright
from numbaglm.errors import InputError
from numbaglm.spaces.volume import Geometry

SHAPE = (13, 17, 11)


def affine_of(linear):
    """Affine that puts the middle of the box at (5, -20, 10) mm."""
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = [5, -20, 10] - affine[:3, :3] @ (np.array(SHAPE) // 2)
    return affine


TILT = np.deg2rad(25)
AFFINES = {
    "RAS": np.diag([3.0, 3.0, 3.0]),
    "LAS": np.diag([-3.0, 3.0, 3.0]),
    "LPI, anisotropic": np.diag([-2.0, -3.0, -4.5]),
    "PIR": np.array([[0, 0, 3.0], [-3.0, 0, 0], [0, -3.0, 0]]),
    "SLA": np.array([[0, -2.0, 0], [0, 0, 3.0], [4.0, 0, 0]]),
    "tilted": 3.0 * np.array([[np.cos(TILT), -np.sin(TILT), 0], [np.sin(TILT), np.cos(TILT), 0], [0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("voxel", [(2, 13, 8), (10, 3, 4)])
def test_a_voxel_is_projected_to_its_own_millimetres(name, voxel):
    affine = affine_of(AFFINES[name])
    geometry = Geometry(np.ones(SHAPE, bool), affine)
    volume = np.zeros(SHAPE)
    volume[voxel] = 5.0
    mm = affine[:3, :3] @ voxel + affine[:3, 3]
    grid = upright(geometry)
    # Resampling a tilted grid moves a voxel by up to half a step on each axis.
    tolerance = np.full(3, 1e-6) if name != "tilted" else 0.51 * grid.step
    for view, (_, right, up) in VIEWS.items():
        image = grid.project(volume[geometry.mask], view)
        left, end, bottom, top = grid.extent(view)
        pixels = np.argwhere(image == 5.0)
        size = np.array([end - left, top - bottom]) / image.shape
        seen = [left, bottom] + (pixels + 0.5) * size
        assert len(pixels)
        assert np.all(np.abs(seen.mean(axis=0) - mm[[right, up]]) <= tolerance[[right, up]])


def test_the_larger_magnitude_wins_with_its_sign_and_nan_is_nothing():
    mask = np.zeros((3, 4, 5), bool)
    mask[1, 1, 1:4] = True
    mask[1, 2, 1] = True
    grid = upright(Geometry(mask, np.eye(4)), margin=0)
    # C order of the mask: z = 1, 2, 3 at y = 1, then z = 1 at y = 2.
    image = grid.project(np.array([2.0, -3.0, 1.0, np.nan]), "z")
    np.testing.assert_array_equal(image, [[-3.0, 0.0]])
    np.testing.assert_array_equal(grid.depth("z"), [[3.0, 1.0]])


def test_slices_are_found_by_their_height():
    geometry = Geometry(np.ones(SHAPE, bool), affine_of(AFFINES["LPI, anisotropic"]))
    grid = upright(geometry)
    heights = geometry.coordinates(np.arange(geometry.n_voxels))[:, 2]
    plane = grid.volume(heights)[..., grid.slice_at("z", 10.0 + 4.5)]
    assert set(np.unique(plane)) == {0.0, 14.5}
    cuts = grid.spread("z", 3)
    np.testing.assert_allclose(cuts, np.linspace(heights.min(), heights.max(), 5)[1:-1])
    slices = [grid.slice_at("z", mm) for mm in grid.spread("z", 100)]
    assert slices == sorted(set(slices)), "none is there twice"


def test_a_map_of_another_mask_is_refused():
    grid = upright(Geometry(np.ones(SHAPE, bool), np.eye(4)))
    with pytest.raises(InputError, match=r"'vector': got \(7,\)"):
        grid.project(np.zeros(7), "z")
