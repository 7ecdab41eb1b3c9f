from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex

from numbaglm.display.canvas import ColourScale
from numbaglm.display.maps.elements import bars, networks
from numbaglm.spaces.network import Connectome

NODES = tuple(f"n{k}" for k in range(6))


def drawn(ax):
    """Length and colour of each bar by its name."""
    names = [label.get_text() for label in ax.get_yticklabels()]
    return {
        name: (bar.get_width(), to_hex(bar.get_facecolor()))
        for name, bar in zip(names, (one for one in ax.patches), strict=True)
    }


def test_bars_are_sorted_and_grey_below_the_threshold():
    names = ["$a$", "b", "c", "d"]
    scale = ColourScale.of(np.array([-5.0, 5.0]), 2.0, True)
    figure = bars(names, {"": np.array([1.0, 4.0, -5.0, np.nan])}, scale, "Title", "t")
    found = drawn(figure.axes[0])
    assert list(found) == ["c", "d", "$a$", "b"], "the largest above"
    assert [found[name][0] for name in found] == [-5.0, 0.0, 1.0, 4.0]
    assert found["$a$"][1] == "#cfcfcf"
    assert found["b"][1] != "#cfcfcf"
    assert sorted(line.get_xdata()[0] for line in figure.axes[0].lines) == [-2.0, 0.0, 2.0]
    figure.canvas.draw()


def test_the_longest_forty_are_drawn_and_the_others_counted():
    values = np.arange(1.0, 101.0)
    figure = bars([f"p{k}" for k in range(100)], {"a": values, "b": -values}, ColourScale(0.0, 100.0, True), None, "t")
    assert list(drawn(figure.axes[0])) == [f"p{k}" for k in range(60, 100)]
    assert [bar.get_width() for bar in figure.axes[1].patches] == [-float(k) for k in range(61, 101)]
    assert any("60 more" in text.get_text() for text in figure.texts)
    nearly_all_zero = np.where(values > 98, values, 0.0)
    few = bars([f"p{k}" for k in range(100)], {"": nearly_all_zero}, ColourScale(0.0, 100.0, False), None, "t")
    assert len(few.axes[0].patches) == 5


def test_a_network_is_a_symmetric_matrix_and_a_circle_of_what_reaches_the_threshold():
    network = Connectome.of_matrix(NODES)
    values = np.zeros(network.n)
    edge = {tuple(ends): k for k, ends in enumerate(network.ends.tolist())}
    values[edge[0, 1]], values[edge[2, 5]], values[edge[3, 4]] = 4.0, -5.0, 1.0
    figure = networks(network, {"one": values, "two": np.zeros(network.n)}, ColourScale(2.0, 5.0, True), None, "t")
    matrix, circle, _, empty, bar = figure.axes
    square = matrix.images[0].get_array()
    np.testing.assert_array_equal(square.filled(0), square.filled(0).T)
    assert (square[0, 1], square[5, 2], square[4, 3]) == (4.0, -5.0, 1.0)
    assert np.ma.getmaskarray(square).diagonal().all()
    curves = circle.collections[0].get_paths()
    assert len(curves) == 2
    angle = np.pi / 2 - 2 * np.pi * np.array([2, 5]) / 6
    np.testing.assert_allclose(curves[1].vertices[[0, 2]], np.column_stack([np.cos(angle), np.sin(angle)]), atol=1e-12)
    assert [text.get_text() for text in circle.texts] == list(NODES)
    assert empty.texts[-1].get_text() == "no edge reaches 2"
    assert bar.get_title(loc="left") == "t"
    figure.canvas.draw()


def test_the_strongest_of_very_many_edges_are_drawn():
    network = Connectome.of_matrix(tuple(f"n{k}" for k in range(120)))
    figure = networks(network, {"": np.arange(network.n) + 1.0}, ColourScale(0.0, network.n, False), None, None)
    circle = figure.axes[1]
    assert len(circle.collections[0].get_paths()) == 400
    assert circle.texts[-1].get_text().startswith("the 400 strongest of 7,140")
    assert len(circle.texts) == 1, "no names where there is no room"
    assert figure.axes[0].get_xlabel() == "120 nodes"
