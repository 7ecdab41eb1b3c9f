import numpy as np
import pytest

from numbaglm import plotting


@pytest.mark.parametrize("n_columns", [1, 4, 70, 300])
def test_names_of_a_design_stay_on_the_page(n_columns):
    names = [f"C(a_long_name_of_a_covariate ($))[T.level-{k} ($)]" for k in range(n_columns)]
    figure = plotting.design_matrix(np.eye(5, n_columns), names, title="Design")
    figure.canvas.draw()
    (axes,), page = figure.axes, figure.bbox
    labels = axes.get_xticklabels()
    for label in labels:
        box = label.get_window_extent()
        assert page.x0 < box.x0 < box.x1 < page.x1
        assert page.y0 < box.y0 < box.y1 < figure.texts[0].get_window_extent().y0
    assert figure.get_figwidth() < 16
    assert len(labels) <= 70
    assert labels[0].get_text().startswith("C(a_long_name")


def test_design_columns_span_black_to_white():
    X = np.column_stack([[30.0, 40.0, 35.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    figure = plotting.design_matrix(X, ["age", "intercept", "empty"], ["s1", "s2", "s3"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0, 1, 0], [1, 1, 0], [0.5, 1, 0]])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["age", "intercept", "empty"]
