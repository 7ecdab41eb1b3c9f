from __future__ import annotations

import numpy as np
import pytest

from numbaglm.display.maps.relief import LOOKS, axes_of, curvature_of, extent_of, normals_of, see
from numbaglm.spaces.surface import Mesh
from reference.meshes import icosphere


def sphere(n_splits=3, bump=0.0, flipped=False):
    coordinates, faces = icosphere(n_splits, bump=bump)
    a, b, c = coordinates[faces].transpose(1, 0, 2)
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0  # the hull's triangles turn either way
    faces = np.where((inward ^ flipped)[:, None], faces[:, ::-1], faces)
    return Mesh(coordinates, faces)


def slowly(mesh, axes, mm):
    """(height, width) vertex that is nearest to each fine pixel in the triangle in front, a triangle at a time."""
    relief = see(mesh, axes, mm)
    height, width = relief.shape
    placed, fine = mesh.coordinates @ axes.T, mm / 2
    centre = (placed[:, :2].min(axis=0) + placed[:, :2].max(axis=0)) / 2
    x, y = (placed[:, 0] - centre[0]) / fine + width / 2, height / 2 - (placed[:, 1] - centre[1]) / fine
    nearest, found = np.full((height, width), -np.inf), np.full((height, width), -1)
    v, u = np.mgrid[:height, :width] + 0.5
    for face in mesh.faces:
        (xa, xb, xc), (ya, yb, yc), (za, zb, zc) = x[face], y[face], placed[face, 2]
        area = (yb - yc) * (xa - xc) + (xc - xb) * (ya - yc)
        if abs(area) < 1e-12:
            continue
        one = ((yb - yc) * (u - xc) + (xc - xb) * (v - yc)) / area
        two = ((yc - ya) * (u - xc) + (xa - xc) * (v - yc)) / area
        weights = np.stack([one, two, 1 - one - two])
        near = (weights * np.array([za, zb, zc])[:, None, None]).sum(axis=0)
        wins = (weights >= -1e-9).all(axis=0) & (near > nearest)
        nearest[wins], found[wins] = near[wins], face[weights.argmax(axis=0)[wins]]
    return found


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("flipped", [False, True])
def test_the_triangle_in_front_is_seen_from_every_side(look, flipped):
    mesh, axes = sphere(1, bump=0.3, flipped=flipped), axes_of(look, "left")
    relief = see(mesh, axes, 5.0)
    found = np.full(relief.shape, -1)
    found.flat[relief.pixel] = relief.corners[np.arange(len(relief.pixel)), relief.weights.argmax(axis=1)]
    expected = slowly(mesh, axes, 5.0)
    assert (found == expected).mean() > 0.995, "but for pixels on an edge"
    assert ((found < 0) == (expected < 0)).mean() > 0.999
    np.testing.assert_allclose(relief.weights.sum(axis=1), 1.0, rtol=1e-6)


def test_what_lies_at_the_left_of_a_view():
    for look, side, right, up in (
        ("lateral", "left", (0, -1, 0), (0, 0, 1)),
        ("medial", "left", (0, 1, 0), (0, 0, 1)),
        ("lateral", "right", (0, 1, 0), (0, 0, 1)),
        ("dorsal", "left", (1, 0, 0), (0, 1, 0)),
        ("ventral", "left", (-1, 0, 0), (0, 1, 0)),
        ("anterior", "left", (-1, 0, 0), (0, 0, 1)),
        ("posterior", "left", (1, 0, 0), (0, 0, 1)),
    ):
        axes = axes_of(look, side)
        np.testing.assert_array_equal(axes[:2], [right, up])
        np.testing.assert_allclose(np.cross(axes[0], axes[1]), axes[2])


def test_a_flat_mesh_is_seen_from_either_side():
    square = Mesh(np.array([[0, 0, 0], [0, 20, 0], [0, 20, 20], [0, 0, 20.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    for look in ("lateral", "medial"):
        axes = axes_of(look, "left")
        relief = see(square, axes, 1.0)
        assert len(relief.pixel) == np.prod(relief.shape)
        np.testing.assert_allclose(relief.light, 1.0)
        assert extent_of(square, axes) == (20.0, 20.0)


def test_a_picture_is_transparent_beside_the_mesh_and_smooth_at_its_edge():
    mesh = sphere()
    relief = see(mesh, axes_of("lateral", "left"), 1.0)
    image = relief.image(np.full((len(relief.pixel), 3), 0.5))
    assert image.shape == (*(length // 2 for length in relief.shape), 4)
    assert image[0, 0, 3] == 0
    assert 0.7 < image[..., 3].mean() < np.pi / 4
    half = (image[..., 3] > 0) & (image[..., 3] < 1)
    assert half.any()
    np.testing.assert_allclose(image[half][:, :3], 0.5, atol=1e-5)


def test_a_ball_faces_outward_and_is_lit_in_the_middle():
    mesh = sphere()
    unit = mesh.coordinates / np.linalg.norm(mesh.coordinates, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", normals_of(mesh), unit).min() > 0.98
    relief = see(mesh, axes_of("dorsal", "left"), 1.0)
    middle = np.ravel_multi_index((relief.shape[0] // 2, relief.shape[1] // 2), relief.shape)
    assert relief.light[relief.pixel == middle] > 0.99
    assert relief.light.min() < 0.3


@pytest.mark.parametrize("flipped", [False, True])
def test_sulci_curve_inward(flipped):
    mesh = sphere(4, flipped=flipped)
    assert np.abs(curvature_of(mesh)).max() < 0.5, "a ball has none"
    groove = np.exp(-((mesh.coordinates[:, 2] / 8) ** 2))
    folded = Mesh(mesh.coordinates * (1 - 0.2 * groove)[:, None], mesh.faces)
    depth = curvature_of(folded)
    assert depth[groove > 0.95].mean() > 1.0
    assert depth[groove > 0.95].mean() > depth[groove < 0.05].mean() + 1.0
