"""The page of a second-level model."""

import base64
import inspect
import json
import re
import shutil
import zlib

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import numbaglm as ng
from numbaglm.display.html_report import HTMLReport
from numbaglm.errors import (
    ContrastError,
    InputError,
    InputTypeError,
    MissingFileError,
    NumbaglmFutureWarning,
    NumbaglmWarning,
    OutputError,
)
from reference.pages import NASTY, Tags, browse
from reference.surfaces import surface

AFFINE = np.diag([-3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = [21.0, -21.0, -21.0]
HIGH, LOW = np.array([9.0, 6.0, 3.0]), np.array([-9.0, -6.0, -6.0])
N = 14
NOT_CORRECTED = "not corrected for the number of voxels"


def maps():
    """Maps in a ball of 3 mm voxels: a mean above 0 around one place, below 0 around another."""
    rng = np.random.default_rng(0)
    xyz = np.indices((15, 15, 15)).reshape(3, -1).T @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    Y = rng.normal(size=(N, len(xyz)))
    for place, sign in ((HIGH, 1), (LOW, -1)):
        Y += 4 * sign * np.exp(-((xyz - place) ** 2).sum(axis=1) / 72)
    Y[:, np.linalg.norm(xyz, axis=1) >= 19.5] = 0
    return [nib.Nifti1Image(y.reshape(15, 15, 15).astype("f4"), AFFINE) for y in Y]


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    design = pd.DataFrame({"intercept": 1.0, NASTY: rng.normal(size=N), "age": rng.normal(size=N)})
    return ng.SecondLevelModel(smoothing_fwhm=4.0).fit(maps(), design_matrix=design)


@pytest.fixture(scope="module")
def report(model):
    contrasts = {"mean": "intercept", NASTY: [0, 1, 0], "any": np.eye(3)[1:]}
    return model.generate_report(contrasts, title=NASTY, two_sided=True)


def viewed(page):
    """What the slice viewer holds."""
    return json.loads(re.search(r'id="volumes">(.*?)</script>', page, re.DOTALL)[1])


def rows(page):
    """Places in mm to which rows of the tables lead, and the map that they belong to."""
    found = [attrs for attrs in Tags(page).named("tr") if "data-mm" in attrs]
    return [([float(mm) for mm in one["data-mm"].split()], int(one["data-map"])) for one in found]


def test_the_page_holds_everything_and_fetches_nothing(report):
    tags = Tags(str(report))
    assert not tags.open
    urls = [attrs[key] for _, attrs in tags.tags for key in ("src", "href") if key in attrs]
    assert all(url.startswith(("data:", "#")) for url in urls)
    targets = {attrs["id"] for _, attrs in tags.tags if "id" in attrs}
    assert {url[1:] for url in urls if url.startswith("#")} <= targets
    (policy,) = (attrs["content"] for attrs in tags.named("meta") if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    assert len(tags.named("img")) == 3, "slices of the one contrast in which something was found, the design, the mask"
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in tags.named("img"))
    for words in (
        "Second Level Model",
        "3 contrasts",
        "smoothing_fwhm",
        "Gaussian of 4 mm FWHM",
        NOT_CORRECTED,
        "with an F test",
    ):
        assert words in tags.text


def test_names_are_text_and_never_markup(report):
    tags = Tags(str(report))
    assert tags.text.count(NASTY) > 5
    assert [tag for tag, _ in tags.tags].count("script") == 2


def test_tables_are_those_of_the_functions(model, report):
    z = model.compute_contrast("intercept")
    shown, threshold = ng.threshold_stats_img(z, model.mask_img_)
    table = ng.get_clusters_table(shown, threshold, two_sided=True)
    assert len(table) >= 2
    expected = [([one.X, one.Y, one.Z], 0) for one in table.itertuples()]
    assert [row for row in rows(str(report)) if row[1] == 0] == expected
    text = Tags(str(report)).text
    assert f"|z| ≥ {threshold:.3f}" in text
    assert all(f"{one:,.2f}".replace("-", "\u2212") in text for one in table["Peak Stat"])


def test_the_viewer_holds_the_z_of_every_contrast(model, report):
    data = viewed(str(report))
    assert [one["label"] for one in data["maps"]] == ["z: mean", f"z: {NASTY}", "z: any"]
    z = model.compute_contrast("intercept").get_fdata()
    assert data["maps"][0]["max"] == pytest.approx(np.abs(z).max())
    steps = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"][0]["data"])), "<i2")
    assert np.sort(steps * data["maps"][0]["unit"]) == pytest.approx(
        np.sort(z[model.mask_img_.get_fdata() > 0]), abs=data["maps"][0]["unit"]
    )


@pytest.mark.parametrize(
    ("given", "names", "kinds"),
    [
        ("age", ["age"], "t"),
        ("intercept - age", ["intercept - age"], "t"),
        ([0, 0, 1], ["[0, 0, 1]"], "t"),
        (np.array([0.0, 0, 1]), ["[0, 0, 1]"], "t"),
        (["age", "intercept"], ["age", "intercept"], "tt"),
        ([np.array([1, 0, 0]), [0, 0, 1]], ["[1, 0, 0]", "[0, 0, 1]"], "tt"),
        (np.eye(3), ["[1, 0, 0]", "[0, 1, 0]", "[0, 0, 1]"], "ttt"),
        ([np.eye(3)[1:]], ["[0, 1, 0]; [0, 0, 1]"], "F"),
        ({"a": "age", "b": np.eye(3)}, ["a", "b"], "tF"),
    ],
)
def test_contrasts_are_named_in_all_of_nilearns_ways(model, given, names, kinds):
    tags = Tags(str(model.generate_report(given)))
    assert [attrs["aria-label"] for attrs in tags.named("article")] == names
    assert re.findall(r"(t|F) contrast\b", tags.text) == list(kinds)


def test_short_weights_are_filled_up_once(model):
    with pytest.warns(NumbaglmWarning, match="1 weights for 3 columns") as raised:
        page = str(model.generate_report([1]))
    assert len(raised) == 1
    assert "[1, 0, 0]" in page


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.01}, ["z ≥ 2.326", "uncorrected p of 0.01, one tail", NOT_CORRECTED]),
        ({"height_control": "fdr", "alpha": 0.05}, ["false discovery rate of 0.05", "Benjamini, Y."]),
        ({"height_control": "bonferroni", "two_sided": True}, ["|z| ≥ ", "Bonferroni's correction", "both tails"]),
        ({"height_control": None, "threshold": 2.5}, ["z ≥ 2.500", NOT_CORRECTED]),
        ({"height_control": None, "threshold": -2.5}, ["z ≤ \u22122.500"]),
        ({"cluster_threshold": 20}, ["clusters of fewer than 20 voxels were left out"]),
    ],
)
def test_thresholds(model, options, words):
    page = str(model.generate_report("intercept", **options))
    text = Tags(page).text
    assert all(one in text for one in words), words
    peaks = [place for place, _ in rows(page)]
    negative = options.get("threshold", 0) < 0
    near = [np.linalg.norm(np.subtract(peaks, place), axis=1).min() < 7 for place in (HIGH, LOW)]
    assert near == [not negative, negative or "two_sided" in options]


def test_signs_that_are_not_found_are_told(model):
    page = str(model.generate_report({"+": "intercept", "-": [-1, 0, 0]}, two_sided=True, cluster_threshold=40))
    peaks = [place for place, which in rows(page) if which == 0]
    assert len(peaks) > 0
    assert "none of them" not in page
    options = {"height_control": None, "threshold": 4.0, "two_sided": True}
    shifted = [nib.Nifti1Image(np.abs(one.get_fdata()), AFFINE) for one in maps()]
    positive = ng.SecondLevelModel().fit(shifted, design_matrix=pd.DataFrame({"mean": np.ones(N)}))
    text = Tags(str(positive.generate_report({"up": [1], "down": [-1]}, **options))).text
    assert text.index("none of them negative. The highest peak") < text.index("none of them positive. The lowest peak")


@pytest.mark.parametrize(
    "options",
    [
        {"height_control": "fdr", "alpha": 1e-6},
        {"height_control": "bonferroni", "alpha": 1e-6},
        {"cluster_threshold": 10_000},
    ],
)
def test_nothing_found_is_said_and_brings_no_warning(model, options):
    for plot_type in ("slice", "glass"):
        page = str(model.generate_report("age", plot_type=plot_type, **options))
        text = Tags(page).text
        assert "No suprathreshold cluster" in text
        assert ("no voxel is significant at this rate" in text) == ("fdr" in options.values())
        assert len(Tags(page).named("img")) == 2
        assert np.isfinite(viewed(page)["maps"][0]["threshold"])


def test_a_threshold_that_is_not_used_is_named(model):
    with pytest.warns(UserWarning, match="'threshold' was set to 'None'"):
        page = str(model.generate_report("age", threshold=4))
    assert "'threshold' was set to 'None'" in Tags(page).text
    with pytest.warns(FutureWarning, match="default 'threshold' will be set to") as raised:
        page = str(model.generate_report("intercept", height_control=None))
    assert [one.category for one in raised] == [NumbaglmFutureWarning]
    assert "z ≥ 3.090" in Tags(page).text


@pytest.mark.parametrize(
    ("options", "captions"),
    [
        ({}, ["over the mask, in slices through the highest peaks"]),
        ({"display_mode": "y", "cut_coords": [-6, 6]}, ["over the mask. Left"]),
        ({"display_mode": "x", "cut_coords": 5}, ["over the mask. Left"]),
        ({"display_mode": "ortho"}, ["in slices through the highest peaks"]),
        ({"display_mode": "yx", "cut_coords": (6, 9)}, ["over the mask. Left"]),
        ({"bg_img": maps()[0]}, ["over the background", "outlined over the background"]),
        ({"bg_img": None}, ["over the mask"]),
        ({"bg_img": type("_MNI152Template", (), {})()}, ["over the mask"]),
        ({"plot_type": "glass"}, ["seen through the brain"]),
        ({"plot_type": "glass", "display_mode": "xz"}, ["seen through the brain"]),
    ],
)
def test_pictures(model, options, captions):
    page = str(model.generate_report("intercept", **options))
    assert all(caption in Tags(page).text for caption in captions)
    assert len(Tags(page).named("img")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plot_type": "glass", "cut_coords": [1.0, 2.0, 3.0], "display_mode": "z"}, "'cut_coords' was set to None"),
        ({"plot_type": "glass", "display_mode": "lyrz"}, "hemispheres are not projected apart"),
    ],
)
def test_what_a_picture_can_not_do_is_named(model, options, words):
    with pytest.warns(NumbaglmWarning, match=words):
        page = str(model.generate_report("intercept", **options))
    assert words in Tags(page).text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height_control": "knights_of_ni"}, "'height_control' must be one of"),
        ({"min_distance": -8}, "'min_distance' must be > 0"),
        ({"cluster_threshold": -10}, "'cluster_threshold' must be > 0"),
        ({"plot_type": "junk", "display_mode": "glass"}, "'plot_type' must be one of"),
        ({"alpha": 2}, "'alpha'"),
        ({"display_mode": "lr"}, "'display_mode'"),
        ({"display_mode": "mosaic"}, "'display_mode'"),
        ({"cut_coords": [1, 2], "display_mode": "ortho"}, "'cut_coords'"),
        ({"cut_coords": 0}, "'cut_coords'"),
        ({"height_control": None, "threshold": -3, "two_sided": True}, "negative"),
        ({"report_dims": 800}, "'report_dims'"),
    ],
)
def test_what_is_not_allowed_is_refused(model, options, words):
    for one in (model, ng.SecondLevelModel()):
        with pytest.raises(InputError, match=words):
            one.generate_report("intercept", **options)


def test_types_are_checked(model):
    for options in ({"title": 3}, {"alpha": "small"}, {"cut_coords": "here"}, {"contrasts": {1: "age"}}):
        with pytest.raises(InputTypeError):
            model.generate_report(**options)


def test_what_can_not_be_used_is_refused_before_anything_is_computed(model, monkeypatch):
    monkeypatch.setattr(ng.SecondLevelModel, "compute_contrast", lambda *_: pytest.fail("computed"))
    for contrasts in (["intercept", "height"], ["intercept", [0, 0, 0]], {"long": [1, 0, 0, 0]}, [[1, "age"]]):
        with pytest.raises(ContrastError):
            model.generate_report(contrasts)
    with pytest.raises(MissingFileError):
        model.generate_report("intercept", bg_img="nowhere.nii.gz")


def test_what_is_missing_brings_a_warning_and_a_page(model):
    with pytest.warns(NumbaglmWarning, match="No contrast passed during report generation"):
        tags = Tags(str(model.generate_report()))
    assert "No statistical map was provided." in tags.text
    assert len(tags.named("img")) == 2
    with pytest.warns(NumbaglmWarning, match="This estimator has not been fit yet") as raised:
        tags = Tags(str(ng.SecondLevelModel().generate_report("age")))
    assert len(raised) == 1
    assert "No mask was provided." in tags.text
    assert not tags.named("img")
    assert {attrs["href"] for attrs in tags.named("a")} == {"#model", "#mask"}


def test_a_model_without_reports_warns():
    model = ng.SecondLevelModel(reports=False).fit(maps(), design_matrix=pd.DataFrame({"mean": np.ones(N)}))
    with pytest.warns(NumbaglmWarning, match="Report generation not enabled"):
        page = str(model.generate_report("mean"))
    assert "nothing in it to see" in page, "of a design whose rows are the same"


def test_first_level_contrasts_choose_the_maps(tmp_path):
    for k, image in enumerate(maps()):
        nib.save(image, tmp_path / f"{k}.nii.gz")
    table = pd.DataFrame(
        {
            "subject_label": [f"{k:02d}" for k in range(N)] * 2,
            "map_name": ["all"] * N + ["twice"] * N,
            "effects_map_path": [str(tmp_path / f"{k}.nii.gz") for k in range(N)] * 2,
        }
    )
    model = ng.SecondLevelModel().fit(table, design_matrix=pd.DataFrame({"mean": np.ones(N)}))
    assert rows(str(model.generate_report("mean", first_level_contrast="twice")))
    with pytest.raises(ContrastError):
        model.generate_report("mean", first_level_contrast="thrice")


def test_dependent_columns():
    design = pd.DataFrame({"a": np.arange(N) % 2.0, "b": 1 - np.arange(N) % 2.0, "mean": np.ones(N)})
    with pytest.warns(NumbaglmWarning, match="rank deficient"):
        model = ng.SecondLevelModel().fit(maps(), design_matrix=design)
    page = str(model.generate_report("a - b"))
    assert re.search(r"a</th><td>1</td>.*b</th><td>\u22121</td>.*mean</th><td>0</td>", page, re.DOTALL)


def test_surfaces_are_drawn_and_turn():
    rng = np.random.default_rng(0)
    model = ng.SecondLevelModel().fit(
        [surface(rng.normal(3, 1, 18)) for _ in range(8)], design_matrix=pd.DataFrame({"mean": np.ones(8)})
    )
    tags = Tags(str(model.generate_report("mean", alpha=0.01, bg_img=surface(rng.normal(size=18)))))
    assert not tags.open
    assert "18 vertices" in tags.text
    assert "Hemisphere" in tags.text
    (shown,) = tags.named("img")
    assert "18 vertices reach the threshold" in shown["alt"]
    assert "turner" in {attrs.get("id") for _, attrs in tags.tags}
    nothing = Tags(str(model.generate_report("mean", threshold=1e9, height_control=None)))
    assert not nothing.named("img")
    with pytest.raises(TypeError, match="'bg_img' must a SurfaceImage instance"):
        model.generate_report("mean", bg_img=maps()[0])


def test_a_surface_lies_beneath_no_volume(model):
    with pytest.raises(InputTypeError, match="'bg_img'"):
        model.generate_report("age", bg_img=surface(np.ones(18)))


def test_the_signature_is_nilearns():
    second_level = pytest.importorskip("nilearn.glm.second_level")
    theirs = inspect.signature(second_level.SecondLevelModel.generate_report).parameters
    ours = inspect.signature(ng.SecondLevelModel.generate_report).parameters
    assert [(one.name, one.default) for one in ours.values()] == [(one.name, one.default) for one in theirs.values()]


def test_a_report_is_saved_whole_or_not_at_all(report, tmp_path, monkeypatch):
    target = tmp_path / "new" / "report.html"
    for _ in range(2):
        assert report.save_as_html(target) is None
        assert target.read_text(encoding="utf-8") == str(report) == report.html == report.get_standalone()
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(InputError, match=r"\.html"):
        report.save_as_html(tmp_path / "report.nii.gz")
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(OutputError, match=r"taken\.html"):
        report.save_as_html(tmp_path / "taken.html")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new", "taken.html"]


def test_a_report_has_a_frame_and_a_size(report):
    assert (report.width, report.height) == (1600, 800)
    frame = report.get_iframe(width=300)
    assert frame.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert '" width="300" height="800"' in frame
    (only,) = Tags(frame).named("iframe")
    assert only["srcdoc"] == str(report)
    small = HTMLReport(str(report))
    assert small.resize("640", 480.0) is small
    assert (small.width, small.height) == (640, 480)
    assert small._repr_html_() == small.body == small.get_iframe(640, 480)
    with pytest.warns(UserWarning, match="Using default instead"):
        small.width = "wide"
    assert small.width == 800


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize(("size", "dark"), [("1280,900", False), ("500,900", True)])
def test_a_browser_shows_everything_without_complaint(tmp_path, model, report, size, dark):
    flags = [f"--window-size={size}", *(["--force-dark-mode"] if dark else [])]
    seen, log = browse(str(report), tmp_path, *flags)
    assert seen["complaints"] == []
    assert "CONSOLE" not in log
    assert seen["wide"] <= 0, "nothing is wider than the window"
    assert (sum(map(int, re.findall(r"\d+", seen["page"]))) < 200) == dark
    assert seen["maps"] == 3
    assert seen["before"] > 2 * seen["after"], "a higher threshold leaves less"
    np.testing.assert_allclose(seen["jumped"], seen["asked"], atol=0.01)
    assert seen["chosen"] == 0, "a row leads to the map of its contrast"
