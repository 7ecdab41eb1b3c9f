import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numbaglm.data.geometry import Geometry
from numbaglm.errors import InputError, OutputError
from numbaglm.faces import plotting

PNG = b"\x89PNG\r\n\x1a\n"
RIGHT_FRONT_TOP = np.array([20.0, 12.0, 16.0])
LEFT_BACK_LOW = np.array([-24.0, -16.0, -12.0])


def ball_geometry(signs=(1, 1, 1)):
    affine = np.diag([4.0 * signs[0], 4.0 * signs[1], 4.0 * signs[2], 1.0])
    affine[:3, 3] = [-40.0 * s for s in signs]
    ijk = np.indices((21, 21, 21)).reshape(3, -1).T
    xyz = ijk @ affine[:3, :3].T + affine[:3, 3]
    return Geometry((np.linalg.norm(xyz, axis=1) < 38).reshape(21, 21, 21), affine)


def blob(geometry, centre, height):
    distance = np.linalg.norm(geometry.coordinates(np.arange(geometry.n_voxels)) - centre, axis=1)
    return height * np.exp(-((distance / 8.0) ** 2))


def drawn(axes, sign=1):
    """Mean mm of the visible pixels of one sign in an axes."""
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    values = image.get_array()
    v, h = np.nonzero(~np.ma.getmaskarray(values) & (sign * values.filled(0.0) > 0))
    n_v, n_h = values.shape
    return np.array([left + (h.mean() + 0.5) * (right - left) / n_h, bottom + (v.mean() + 0.5) * (top - bottom) / n_v])


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_blobs_are_drawn_where_they_are_and_small_values_are_not(signs):
    geometry = ball_geometry(signs)
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0) + blob(geometry, LEFT_BACK_LOW, -5.0)
    vector += blob(geometry, [20.0, -20.0, 0.0], 2.9)
    figure = plotting.glass_brain(geometry, vector, threshold=3.0, title="Blobs", label="t")
    for axes, plane in zip(figure.axes, ([1, 2], [0, 2], [0, 1]), strict=False):
        np.testing.assert_allclose(drawn(axes), RIGHT_FRONT_TOP[plane], atol=1.0)
        np.testing.assert_allclose(drawn(axes, -1), LEFT_BACK_LOW[plane], atol=1.0)
        shown = axes.images[0].get_array().compressed()
        assert 3.0 <= np.abs(shown).min() < 3.5
    one_sided = plotting.glass_brain(geometry, vector, threshold=3.0, two_sided=False)
    assert min(axes.images[0].get_array().min() for axes in one_sided.axes[:3]) >= 3.0


def test_a_peak_before_a_trough_leaves_no_gap():
    geometry = ball_geometry()
    vector = blob(geometry, [20.0, 0.0, 0.0], 6.0) + blob(geometry, [-20.0, 0.0, 8.0], -6.0)
    image = plotting.glass_brain(geometry, vector, threshold=2.0).axes[0].images[0]
    column = np.ma.getmaskarray(image.get_array())[:, image.get_array().shape[1] // 2]
    visible = np.flatnonzero(~column)
    assert np.all(np.diff(visible) == 1)


def test_slices_cut_the_map_at_their_height():
    geometry = ball_geometry((-1, 1, 1))
    figure = plotting.slices(geometry, blob(geometry, RIGHT_FRONT_TOP, 6.0), cuts=[16.0, -16.0], threshold=3.0)
    at_blob, elsewhere = (axes.images[1] for axes in figure.axes[:2])
    assert np.ma.count(elsewhere.get_array()) == 0
    left, right, *_ = at_blob.get_extent()
    columns = np.nonzero(~np.ma.getmaskarray(at_blob.get_array()))[1]
    centre = left + (columns.mean() + 0.5) * (right - left) / at_blob.get_array().shape[1]
    assert centre == pytest.approx(20.0, abs=1.0)


def test_panels_share_one_scale_and_an_empty_one_says_so():
    geometry = ball_geometry()
    maps = np.stack([blob(geometry, RIGHT_FRONT_TOP, height) for height in (4.0, 8.0, 1.0)])
    grid = plotting.subject_grid(geometry, maps, ["a", "b", "c"], threshold=2.0, n_columns=2)
    assert {axes.images[0].norm.vmax for axes in grid.axes[:3]} == {maps.max()}
    panel = plotting.logp_panel(geometry, {"voxel": maps[0], "extent": maps[2]})
    assert {axes.images[0].norm.vmax for axes in panel.axes[:6]} == {maps[0].max()}
    texts = [text.get_text() for axes in panel.axes[3:6] for text in axes.texts]
    assert "nothing reaches 1.3" in texts


def test_the_critical_value_is_the_one_to_exceed():
    figure = plotting.null_histograms({"max_t": np.arange(1.0, 101.0)}, {"max_t": 100.0}, alpha=0.05)
    # 96 is reached by 5 of 100 shufflings: p = 0.05. 95 by 6 of them.
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [95.0, 100.0]
    assert figure.axes[0].get_xlabel() == "maximum t"
    # Ten shufflings can't reach 0.05.
    few = plotting.null_histograms({"mine": np.arange(10.0)}, {"mine": 9.0}, alpha=0.05)
    assert len(few.axes[0].lines) == 1


def test_design_columns_span_black_to_white():
    X = np.column_stack([[30.0, 40.0, 35.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    figure = plotting.design_matrix(X, ["age", "intercept", "empty"], ["s1", "s2", "s3"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0, 1, 0], [1, 1, 0], [0.5, 1, 0]])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["age", "intercept", "empty"]


def test_a_figure_shows_itself_in_a_notebook():
    geometry = ball_geometry()
    assert plotting.glass_brain(geometry, blob(geometry, RIGHT_FRONT_TOP, 1.0))._repr_png_().startswith(PNG)


def test_pyplot_is_never_imported():
    code = (
        "import sys, numpy as np\n"
        "from numbaglm.data.geometry import Geometry\n"
        "from numbaglm.faces.plotting import glass_brain\n"
        "glass_brain(Geometry(np.ones((3, 4, 5), bool), np.eye(4)), np.arange(60.0))._repr_png_()\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    root = Path(plotting.__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root)


@pytest.mark.parametrize(("suffix", "magic"), [("png", PNG), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_save_writes_the_kind_of_file_named(tmp_path, suffix, magic):
    path = tmp_path / "new" / f"design.{suffix}"
    plotting.design_matrix(np.ones((3, 1)), ["intercept"], save=path)
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failing_save_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "design.png"
    path.write_bytes(b"before")

    def disk_full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(OutputError, match="No space left on device"):
        plotting.design_matrix(np.ones((3, 1)), ["intercept"], save=path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="Can't write the figure"):
        plotting.design_matrix(np.ones((3, 1)), ["intercept"], save=tmp_path / "taken" / "x.png")


G = ball_geometry()
ONES = np.ones(G.n_voxels)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: plotting.glass_brain(G, ONES[:-1]), "vector"),
        (lambda: plotting.glass_brain(G, ONES, threshold=-1.0), "threshold"),
        (lambda: plotting.glass_brain(G, ONES, vmax=0.0), "vmax"),
        (lambda: plotting.glass_brain(G, ONES, save="brain.jpeg"), "save"),
        (lambda: plotting.subject_grid(G, ONES[None], ["a", "b"]), "labels"),
        (lambda: plotting.subject_grid(G, ONES[None], ["a"], n_columns=0), "n_columns"),
        (lambda: plotting.logp_panel(G, {}), "logp"),
        (lambda: plotting.slices(G, ONES, cuts=0), "cuts"),
        (lambda: plotting.null_histograms({"max_t": ONES}, {"max_f": 1.0}), "observed"),
        (lambda: plotting.null_histograms({"max_t": ONES}, {"max_t": 1.0}, alpha=5.0), "alpha"),
        (lambda: plotting.design_matrix(np.ones((3, 2)), ["one"]), "matrix"),
        (lambda: plotting.design_matrix(np.ones((3, 1)), ["one"], ["s1"]), "subjects"),
    ],
)
def test_what_is_not_allowed_is_named(call, named):
    with pytest.raises(InputError, match=f"'{named}'"):
        call()
