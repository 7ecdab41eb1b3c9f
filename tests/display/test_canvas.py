from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps

from numbaglm.display.canvas import (
    BAR,
    ColourScale,
    colour_bar,
    even_steps,
    new_figure,
    planes,
    render,
    shortened,
    text_width,
)
from numbaglm.display.maps.projection import upright
from numbaglm.results.vocabulary import MAPS
from numbaglm.spaces.volume import Geometry

GRID = upright(Geometry(np.ones((5, 6, 7), bool), np.diag([2.0, 2, 2, 1])))


@pytest.mark.parametrize("two_sided", [True, False])
def test_what_reaches_the_threshold_is_shown(two_sided):
    values = np.array([-4.0, -3.0, 0.0, 2.0, 3.0, np.nan], np.float32)
    scale = ColourScale.of(values, 3.0, two_sided)
    assert scale.shown(values).tolist() == [two_sided, two_sided, False, False, True, False]
    assert scale.norm.vmax >= (4.0 if two_sided else 3.0)


def test_even_steps_give_each_whole_number_a_colour():
    three, two = even_steps(3, 3), even_steps(2, 3)
    shades = [ColourScale(0.5, top, False, colours=steps) for steps, top in ((three, 3.0), (two, 2.0))]
    of_three, of_two = ([scale.cmap(scale.norm(k))[:3] for k in (1.0, 2.0)] for scale in shades)
    assert of_three == of_two, "whatever the largest is that there is"
    assert len({shades[0].cmap(shades[0].norm(k))[:3] for k in (0.6, 1.0, 1.9, 2.0, 3.0)}) == 3


def test_slices_are_named_by_their_millimetres():
    shown, names = planes(GRID, "z", [2.0, 8.0])
    assert [view for view, _ in shown] == ["z", "z"]
    assert [GRID.origin[2] + k * GRID.step[2] for _, k in shown] == [2.0, 8.0]
    assert all(text in name for text, name in zip(("2", "8"), names, strict=True))
    assert len(planes(GRID, "z", 3)[0]) == 3


def test_long_names_are_shortened():
    assert shortened("x" * 44) == "x" * 44
    assert len(shortened("x" * 45)) <= 44
    assert shortened("abcdefgh", 5) != "abcdefgh"
    assert text_width("xx", 10) == pytest.approx(2 * text_width("x", 10), rel=0.2)


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_figure_is_of_the_kind_that_was_asked_for(kind, magic):
    assert render(new_figure(2, 1, "a $title"), kind).startswith(magic)


def test_a_picture_is_the_same_bytes_each_time():
    first, again = (render(new_figure(2, 1, "a $title"), "png") for _ in range(2))
    assert first == again


@pytest.mark.parametrize("two_sided", [True, False])
def test_other_colours_begin_at_the_threshold_and_are_grey_below(two_sided):
    scale = ColourScale(2.0, 4.0, two_sided, colours="viridis")
    cmap, given = scale.cmap, colormaps["viridis"]
    ends = [given(1.0)[:3], given(0.5 if two_sided else 0.0)[:3]]
    for value, expected in zip((4.0, 2.01), ends, strict=True):
        np.testing.assert_allclose(cmap(scale.norm(value))[:3], expected, atol=0.02)
    np.testing.assert_allclose(cmap(scale.norm(1.0))[:3], 0.9)
    if two_sided:
        np.testing.assert_allclose(cmap(scale.norm(-4.0))[:3], given(0.0)[:3], atol=0.02)


def test_every_name_of_a_map_fits_over_its_colour_bar():
    figure = new_figure(4.0, 4.0, None)
    figure.draw_without_rendering()
    for name in {one.label for one in MAPS.values()}:
        axes = figure.add_axes(((4.0 - BAR) / 4.0, 0.1, 0.03, 0.6))
        colour_bar(figure, axes, ColourScale(1.0, 2.0, False), name)
        assert axes.get_tightbbox().x1 <= figure.bbox.x1, name
        axes.remove()
