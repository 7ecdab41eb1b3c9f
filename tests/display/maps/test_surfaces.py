from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from numbaglm.display.canvas import ColourScale
from numbaglm.display.maps.relief import axes_of, see
from numbaglm.display.maps.surfaces import coloured, sheets_of, side_of, views_of
from numbaglm.errors import GridError, InputError
from numbaglm.spaces.surface import Mesh, Surface
from reference.reports import OUTER, hemispheres


@pytest.fixture(scope="module")
def space():
    return hemispheres()


def near(space, place, value):
    """A map of a value around a place, and noise below 1."""
    xyz = space.coordinates(np.arange(space.n))
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, space.n)
    return np.where(np.linalg.norm(xyz - place, axis=1) < 20, value, noise)


def test_a_sheet_knows_its_values_and_what_is_not_analysed(space):
    left, right = sheets_of(space)
    assert (left.side, right.side) == ("left", "right")
    vector = np.arange(space.n, dtype=float)
    vector[3] = np.nan
    for sheet in (left, right):
        part = sheet.part
        expected = np.zeros(part.n_vertices)
        expected[part.vertices] = np.nan_to_num(vector[sheet.where])
        np.testing.assert_array_equal(sheet.values(vector), expected)
        outside = np.setdiff1d(np.arange(part.n_vertices), part.vertices)
        assert (sheet.grey[outside] == 0.93).all()


def test_a_background_is_darker_where_it_is_larger(space):
    depth = {part.name: part.mesh.coordinates[:, 2] for part in space.parts}
    for sheet in sheets_of(space, background=depth):
        inside = sheet.part.vertices
        order = np.argsort(depth[sheet.part.name][inside])
        assert (np.diff(sheet.grey[inside][order]) <= 0).all()
    with pytest.raises(InputError, match=r"background.*642 vertices"):
        sheets_of(space, background={"left": np.ones(5), "right": np.ones(642)})


def test_maps_are_drawn_on_another_mesh_of_as_many_vertices(space):
    larger = {part.name: (2 * part.mesh.coordinates, part.mesh.faces) for part in space.parts}
    one, other = sheets_of(space), sheets_of(space, larger)
    for small, large in zip(one, other, strict=True):
        np.testing.assert_array_equal(large.mesh.coordinates, 2 * small.mesh.coordinates)
        np.testing.assert_array_equal(large.grey, small.grey)
    coarse = {part.name: (part.mesh.coordinates[:3], [[0, 1, 2]]) for part in space.parts}
    with pytest.raises(GridError, match="642 vertices"):
        sheets_of(space, coarse)
    with pytest.raises(InputError, match="pass surface="):
        sheets_of(hemispheres(with_mesh=False))


def test_the_side_is_told_by_name_or_by_place(space):
    left, right = space.parts
    assert side_of(left, right.mesh) == "left"
    nameless = Surface("", left.n_vertices, left.vertices, left.mesh)
    assert side_of(nameless, left.mesh) == "left"
    assert side_of(nameless, right.mesh) == "right"


def test_views_go_from_the_left_of_the_left_to_the_right_of_the_right(space):
    sheets = sheets_of(space)
    names = [view.name for view in views_of(sheets, ("lateral", "medial"))]
    assert names == ["left, lateral", "left, medial", "right, medial", "right, lateral"]
    dorsal, ventral = views_of(sheets, ("dorsal", "ventral"))
    assert [one.side for one in dorsal.sheets] == ["left", "right"]
    assert [one.side for one in ventral.sheets] == ["right", "left"]
    for wrong in ((), ("above",), "lateral"):
        with pytest.raises(InputError, match="'views'"):
            views_of(sheets, wrong)


def test_a_pixel_is_coloured_where_its_nearest_vertex_is_shown(space):
    sheet = sheets_of(space)[0]
    values = sheet.values(near(space, OUTER["left"], 5.0))
    scale = ColourScale.of(values, 2.0, True)
    relief = see(sheet.mesh, axes_of("lateral", "left"), 1.0)
    colours = coloured(relief, sheet.grey, values, scale)
    nearest = relief.corners[np.arange(len(relief.corners)), relief.weights.argmax(axis=1)]
    grey = np.ptp(colours, axis=1) < 1e-9
    np.testing.assert_array_equal(~grey, values[nearest] >= 2)
    assert (colours[~grey, 0] > colours[~grey, 2]).all(), "red above 0"
    assert not (values[see(sheet.mesh, axes_of("medial", "left"), 2.0).corners] >= 2).any()


def test_signs_are_not_mixed_and_half_transparent_colours_let_the_grey_through():
    square = Mesh(np.array([[0, 0, 0], [0, -20, 0], [0, -20, 20], [0, 0, 20.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    relief = see(square, axes_of("lateral", "left"), 1.0)
    values, grey = np.array([4.0, 4.0, -4.0, -4.0]), np.full(4, 0.8)
    scale = ColourScale.of(values, 1.0, True)
    colours = coloured(relief, grey, values, scale)
    upper = relief.pixel // relief.shape[1] < relief.shape[0] // 2
    assert (colours[upper, 2] > colours[upper, 0]).mean() > 0.9, "blue above"
    assert len(np.unique(colours.round(6), axis=0)) == 2
    half = coloured(relief, grey, values, ColourScale(1.0, 4.0, True, 0.5))
    np.testing.assert_allclose(half, (colours + 0.8) / 2, atol=1e-6)


def test_a_view_holds_both_hemispheres_side_by_side(space):
    (view,) = views_of(sheets_of(space), ("dorsal",))
    ax = Figure().add_subplot()
    vector = near(space, OUTER["left"], 5.0)
    view.draw(ax, vector, ColourScale.of(vector, 2.0, True))
    left, right = ax.images
    assert left.get_extent()[1] < right.get_extent()[0]
    warm = [(image.get_array()[..., 0] > image.get_array()[..., 2] + 0.1).any() for image in (left, right)]
    assert warm == [True, False]
