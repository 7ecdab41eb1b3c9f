import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.contour import ContourSet

from numbaglm import SecondLevelModel, permutation_test, plotting
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.display.maps.projection import upright
from numbaglm.errors import InputError, OutputError
from numbaglm.spaces.volume import Geometry

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
    """Mean mm of the visible pixels of one sign in an axes, of what lies on top."""
    image = axes.images[-1]
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


def test_several_views_stand_side_by_side():
    geometry = ball_geometry()
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    planes = {"x": [1, 2], "y": [0, 2], "z": [0, 1]}
    for figure in (
        plotting.glass_brain(geometry, vector, threshold=3.0, views="zx"),
        plotting.slices(geometry, vector, view="zx", cuts=[16.0, 20.0], threshold=3.0, label="z"),
    ):
        for axes, view in zip(figure.axes, "zx", strict=False):
            np.testing.assert_allclose(drawn(axes), RIGHT_FRONT_TOP[planes[view]], atol=1.0)
        assert len(figure.axes) == 3
    assert "z = 16 mm, x = 20 mm" in [text.get_text() for text in figure.texts]
    assert figure.axes[-1].get_title(loc="left") == "z"


def test_slices_cut_the_map_at_their_height():
    geometry = ball_geometry((-1, 1, 1))
    figure = plotting.slices(geometry, blob(geometry, RIGHT_FRONT_TOP, 6.0), cuts=[16.0, -16.0], threshold=3.0)
    at_blob, elsewhere = (axes.images[1] for axes in figure.axes[:2])
    assert np.ma.count(elsewhere.get_array()) == 0
    left, right, *_ = at_blob.get_extent()
    columns = np.nonzero(~np.ma.getmaskarray(at_blob.get_array()))[1]
    centre = left + (columns.mean() + 0.5) * (right - left) / at_blob.get_array().shape[1]
    assert centre == pytest.approx(20.0, abs=1.0)


@pytest.mark.parametrize(("view", "plane"), [("x", [1, 2]), ("y", [0, 2]), ("z", [0, 1])])
def test_an_anatomy_of_another_grid_lies_beneath_the_map(view, plane):
    geometry = ball_geometry((-1, 1, 1))
    affine = np.array([[0, 1.5, 0, -45.0], [1.5, 0, 0, -45.0], [0, 0, -1.5, 45.0], [0, 0, 0, 1.0]])
    xyz = np.indices((60, 60, 60)).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    anatomy = 100 * np.exp(-((xyz - RIGHT_FRONT_TOP) ** 2).sum(axis=1) / 100).reshape(60, 60, 60)
    image = nib.Nifti1Image(anatomy.astype(np.float32), affine)
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    cut = RIGHT_FRONT_TOP["xyz".index(view)]
    figure = plotting.slices(geometry, vector, image, view=view, cuts=[cut], threshold=3.0)
    under, over = figure.axes[0].images
    left, right, bottom, top = under.get_extent()
    values = under.get_array()
    v, h = np.unravel_index(values.argmax(), values.shape)
    brightest = [
        left + (h + 0.5) * (right - left) / values.shape[1],
        bottom + (v + 0.5) * (top - bottom) / values.shape[0],
    ]
    np.testing.assert_allclose(brightest, RIGHT_FRONT_TOP[plane], atol=1.0)
    assert over.get_extent() == under.get_extent()
    assert np.ma.count(over.get_array())


def test_a_background_on_the_grid_is_drawn_in_the_mask_alone():
    geometry = ball_geometry()
    under = plotting.slices(geometry, ONES, geometry.coordinates(np.arange(geometry.n_voxels))[:, 0], cuts=[0.0])
    values = under.axes[0].images[0].get_array()
    grid = upright(geometry)
    plane = grid.index[:, :, grid.slice_at("z", 0.0)].T
    np.testing.assert_array_equal(np.ma.getmaskarray(values), plane == geometry.n_voxels)
    assert (np.diff(values, axis=1).compressed() > 0).all(), "x grows to the right"


def test_small_brains_have_mm_with_digits_and_whole_outlines():
    affine = np.diag([0.2, 0.2, 0.2, 1.0])
    xyz = (np.indices((60, 60, 60)).reshape(3, -1).T - 29.5) * 0.2
    mouse = Geometry((((xyz / [4.5, 5.8, 3.5]) ** 2).sum(axis=1) < 1).reshape(60, 60, 60), affine)
    figure = plotting.slices(mouse, np.ones(mouse.n_voxels), cuts=[6.0, 6.2])
    assert [text.get_text() for text in figure.texts] == ["z = 6.0 mm", "z = 6.2 mm"]
    for axes in plotting.glass_brain(mouse, np.ones(mouse.n_voxels)).axes[:3]:
        (edge,) = axes.collections[-1].get_paths()
        (x0, y0), (x1, y1) = edge.get_extents().min, edge.get_extents().max
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left < x0 < x1 < right, "an outline that touches the edge is cut off"
        assert bottom < y0 < y1 < top


def test_panels_share_one_scale_and_an_empty_one_says_so():
    geometry = ball_geometry()
    maps = np.stack([blob(geometry, RIGHT_FRONT_TOP, height) for height in (4.0, 8000.0, 1.0)])
    grid = plotting.subject_grid(geometry, maps, ["a", "b", "c"], threshold=2.0, n_columns=2)
    assert {axes.images[0].norm.vmax for axes in grid.axes[:3]} == {maps[0].max()}, "an odd map stretches nothing"
    given = plotting.subject_grid(geometry, maps, ["a", "b", "c"], vmax=9.0)
    assert given.axes[0].images[0].norm.vmax == 9.0
    panel = plotting.logp_panel(geometry, {"voxel": maps[0], "extent": maps[2]})
    assert {axes.images[0].norm.vmax for axes in panel.axes[:6]} == {maps[0].max()}
    texts = [text.get_text() for axes in panel.axes[3:6] for text in axes.texts]
    assert "nothing reaches 1.3" in texts


def test_a_figure_shows_itself_in_a_notebook():
    geometry = ball_geometry()
    assert plotting.glass_brain(geometry, blob(geometry, RIGHT_FRONT_TOP, 1.0))._repr_png_().startswith(PNG)


def test_threads_draw_the_same_picture():
    geometry = ball_geometry()
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    alone = plotting.glass_brain(geometry, vector)._repr_png_()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: plotting.glass_brain(geometry, vector)._repr_png_(), range(8))) == {alone}


def test_pyplot_is_never_imported():
    code = (
        "import sys, numpy as np\n"
        "from numbaglm.spaces.volume import Geometry\n"
        "from numbaglm.display.maps.brains import glass_brain\n"
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
        (lambda: plotting.slices(G, ONES, view="t"), "view"),
        (lambda: plotting.slices(G, ONES, view="xx", cuts=[0.0, 1.0]), "view"),
        (lambda: plotting.slices(G, ONES, view="xyz"), "cuts"),
        (lambda: plotting.slices(G, ONES, view="xyz", cuts=[0.0, 1.0]), "cuts"),
        (lambda: plotting.slices(G, ONES, cuts=[]), "cuts"),
        (lambda: plotting.glass_brain(G, ONES, views="lr"), "views"),
        (lambda: plotting.slices(G, ONES, nib.Nifti1Image(np.ones((3, 3, 3, 2)), np.eye(4))), "background"),
        (lambda: plotting.null_histograms({"max_t": ONES}, {"max_f": 1.0}), "observed"),
        (lambda: plotting.null_histograms({"max_t": ONES}, {"max_t": 1.0}, alpha=5.0), "alpha"),
        (lambda: plotting.design_matrix(np.ones((3, 2)), ["one"]), "matrix"),
        (lambda: plotting.design_matrix(np.ones((3, 1)), ["one"], ["s1"]), "subjects"),
    ],
)
def test_what_is_not_allowed_is_named(call, named):
    with pytest.raises(InputError, match=f"'{named}'"):
        call()


@pytest.mark.slow
def test_nilearn_draws_what_calls_return(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    theirs = pytest.importorskip("nilearn.plotting")
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(6, G.n_voxels)) + blob(G, RIGHT_FRONT_TOP, 3.0)
    cohort = Cohort(CohortStore.from_array(Y.astype(np.float32), G))
    result = permutation_test(cohort, n_perm=5)
    z = SecondLevelModel().fit(cohort).compute_contrast(output_type="z_score")
    for image in (result.to_nifti("t"), result.to_nifti("logp_unc"), cohort.to_nifti(0), cohort.mask_img, z):
        theirs.plot_glass_brain(image).close()
        theirs.plot_stat_map(image, bg_img=None, display_mode="z", cut_coords=[0.0]).close()


@pytest.mark.parametrize("draw", [plotting.glass_brain, plotting.slices])
def test_a_line_goes_around_what_reaches_the_threshold(draw):
    geometry, options = ball_geometry(), {"threshold": 3.0, "two_sided": False}
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    plain, lined = (draw(geometry, vector, alpha=0.4, contours=contours, **options) for contours in (False, True))
    lines = [one for ax in lined.axes for one in ax.collections if isinstance(one, ContourSet)]
    assert lines
    assert not [one for ax in plain.axes for one in ax.collections if isinstance(one, ContourSet)]
    for line in lines:
        inside = np.vstack([path.vertices for path in line.get_paths() if len(path.vertices)])
        assert (np.abs(inside.mean(axis=0)) < 24).all()
    assert {image.get_alpha() for ax in plain.axes for image in ax.images} >= {0.4}


def test_labels_of_a_colour_bar_keep_apart():
    geometry, vector = Geometry(np.ones((3, 3, 3), bool), np.eye(4)), np.linspace(0, 1.32, 27)
    for threshold, expected in ((1.3, ["0", "1.3"]), (0.7, ["0", "0.7", "1.32"]), (0.0, ["0", "1.32"])):
        bar = plotting.glass_brain(geometry, vector, threshold=threshold, two_sided=False).axes[-1]
        assert [label.get_text() for label in bar.get_yticklabels()] == expected


def test_the_name_of_a_colour_bar_stays_within_the_figure():
    geometry, vector = Geometry(np.ones((3, 3, 3), bool), np.eye(4)), np.linspace(0, 12, 27)
    for draw in (plotting.glass_brain, plotting.slices):
        figure = draw(geometry, vector, two_sided=False, label="subjects missing")
        name = figure.axes[-1].get_title(loc="left")
        assert name == "subjects\nmissing"
        figure.draw_without_rendering()
        extent = figure.axes[-1]._left_title.get_window_extent()
        assert extent.x1 <= figure.bbox.width
        assert extent.y1 <= figure.bbox.height


def test_dollars_are_no_formulas(tmp_path):
    geometry = ball_geometry()
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    price = "$a_1$ or $\\frac{$"
    plotting.glass_brain(geometry, vector, title=price, label=price, save=tmp_path / "title.svg")
    plotting.subject_grid(geometry, np.stack([vector, vector]), [price, "b"], save=tmp_path / "label.png")
    cohort = Cohort(
        CohortStore.from_array(np.stack([vector] * 3).astype(np.float32), geometry, subjects=[price, "b", "c"])
    )
    plotting.quality(cohort, save=tmp_path / "quality.png")


def test_long_names_stay_within_their_cell_and_figure():
    geometry = ball_geometry()
    vector = blob(geometry, RIGHT_FRONT_TOP, 6.0)
    figure = plotting.subject_grid(geometry, np.stack([vector] * 3), ["sub-" + "x" * 76] * 3, title="y" * 400)
    title, *names = [text.get_window_extent() for text in figure.texts]
    assert title.height > 8
    assert 0 <= title.x0 < title.x1 <= figure.bbox.width
    assert all(left.x1 < right.x0 for left, right in pairwise(names))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_voxel_that_just_reaches_the_threshold_is_drawn(sign):
    geometry = ball_geometry()
    vector = np.zeros(geometry.n_voxels)
    vector[geometry.n_voxels // 2] = 3.0 * sign
    for axes in plotting.glass_brain(geometry, vector, threshold=3.0).axes[:3]:
        (image,) = axes.images
        shown = image.get_array().compressed()
        assert shown.size >= (image.get_array().shape[0] / upright(geometry).index.shape[0]) ** 2 / 5
        np.testing.assert_array_equal(shown, np.float32(3 * sign))
