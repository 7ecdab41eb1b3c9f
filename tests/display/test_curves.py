import numpy as np

from numbaglm.display.curves import shares


def test_each_curve_has_its_intervals(tmp_path):
    x, y = np.array([10.0, 20, 40]), np.array([0.1, 0.5, 0.9])
    lines = {"anything": (y, y - 0.1, np.minimum(y + 0.2, 1)), "share": (y / 2, y / 2, y / 2)}
    figure = shares(x, lines, across="subjects", title="Power", save=tmp_path / "curve.png")
    (ax,) = figure.axes
    assert ax.get_xlabel() == "subjects"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["anything", "share"]
    first, _ = ax.containers
    np.testing.assert_allclose([line[:, 1] for line in first[2][0].get_segments()], np.stack(lines["anything"][1:]).T)
    assert (tmp_path / "curve.png").exists()
