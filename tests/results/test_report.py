from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from numbaglm import PermutationResult, permutation_test
from numbaglm.cohort import Cohort
from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.quality import examine
from numbaglm.errors import InputError, OutputError, OutputExistsError
from numbaglm.faces.commands import commands
from numbaglm.results import report
from numbaglm.results.reporting import figures
from numbaglm.results.reporting.tables import cluster_table, discovery_table, find_peaks, peak_distance, peak_table
from reference.maps import image
from reference.pages import NASTY, TURN, Tags, browse
from reference.reports import HIGH, LOW, analysed, asked, ball, cube, in_network, of_parcels, on_surfaces


@pytest.fixture(scope="module")
def page(result):
    return report.make_page(result)


@pytest.fixture(scope="module")
def quality_page(result):
    return report.make_page(result, asked()[0])


def volumes(viewer):
    """The viewer's maps on its grid, as its script unpacks them; NaN outside the mask."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(viewer["mask"])), np.uint8)
    inside = np.unpackbits(bits, count=int(np.prod(viewer["shape"]))).astype(bool).reshape(viewer["shape"])
    found = {}
    for one in viewer["maps"]:
        found[one["name"]] = np.full(viewer["shape"], np.nan)
        steps = np.frombuffer(zlib.decompress(base64.b64decode(one["data"])), "<i2")
        found[one["name"]][inside] = steps * one["unit"]
    return found


def embedded(page):
    return json.loads(re.search(r'id="volumes">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_everything_and_fetches_nothing(page):
    tags = Tags(page)
    assert not tags.open
    urls = [attrs[key] for _, attrs in tags.tags for key in ("src", "href") if key in attrs]
    assert urls
    assert all(url.startswith(("data:", "#")) for url in urls)
    targets = {attrs["id"] for _, attrs in tags.tags if "id" in attrs}
    assert {url[1:] for url in urls if url.startswith("#")} <= targets
    assert len(tags.named("img")) == 5
    for shown in tags.named("img"):
        assert shown["alt"]
        assert base64.b64decode(shown["src"].partition(",")[2]).startswith(b"\x89PNG")
    assert all(attrs["scope"] in ("col", "row") for attrs in tags.named("th"))


def test_names_are_text_and_never_markup(page):
    tags = Tags(page)
    assert NASTY in tags.text
    assert f"3 voxels of {NASTY} are left out." in tags.text
    assert [tag for tag, _ in tags.tags].count("script") == 2
    assert "patients" not in page.split("<body>")[0]


def test_the_viewer_shows_the_maps_where_they_are(page, result):
    viewer = embedded(page)
    maps = volumes(viewer)
    assert list(maps) == ["t", *(f"logp_fwe_{kind}" for kind in ("voxel", "size", "mass", "tfce")), "tfce", "tdp"]
    ijk = np.indices(viewer["shape"]).reshape(3, -1).T
    xyz = ijk * viewer["step"] + viewer["origin"]
    at = np.rint((xyz - result.geometry.affine[:3, 3]) @ np.linalg.inv(result.geometry.affine[:3, :3]).T).astype(int)
    on_grid = np.all((at >= 0) & (at < 15), axis=1)
    for one in viewer["maps"]:
        truth = np.full(len(at), np.nan)
        truth[on_grid] = np.where(
            result.geometry.mask, result.geometry.unmask(result.maps[one["name"]].astype(float)), np.nan
        )[tuple(at[on_grid].T)]
        np.testing.assert_allclose(maps[one["name"]].ravel(), truth, rtol=0, atol=0.51 * one["unit"])
        assert one["max"] == pytest.approx(np.nanmax(np.abs(truth)))
    assert viewer["start"] == pytest.approx(
        result.geometry.coordinates(np.array([np.argmax(np.abs(result.maps["t"]))]))[0]
    )


def test_a_tilted_grid_is_turned_upright():
    viewer = report.viewer(analysed(tilt=0.4, n_perm=5))
    t = volumes(viewer)["t"]
    for place, peak in ((HIGH, np.nanargmax(t)), (LOW, np.nanargmin(t))):
        mm = np.array(np.unravel_index(peak, t.shape)) * viewer["step"] + viewer["origin"]
        assert np.linalg.norm(mm - place) < 7


def test_colours_of_both_signs_are_those_of_the_figures(page):
    viewer = embedded(page)
    for (red, _, blue), warm in [(viewer[side][k], side == "hot") for side in ("hot", "cold") for k in (0, 4, 8, 12)]:
        assert (red > blue) == warm
    assert all(sum(viewer[side][0]) > sum(viewer[side][-1]) for side in ("hot", "cold"))


def test_tables_hold_every_cluster_and_peaks_in_them(page, result):
    rows = [attrs["data-mm"] for attrs in Tags(page).named("tr") if "data-mm" in attrs]
    clusters = [f"{row.peak_x} {row.peak_y} {row.peak_z}" for row in result.clusters.itertuples()]
    assert rows[: len(clusters)] == clusters
    t, size = result.maps["t"], result.maps["size"]
    peaks = find_peaks(result)
    assert {cluster for cluster, _ in peaks} == set(result.clusters["cluster"])
    xyz = result.geometry.coordinates(np.arange(result.geometry.n_voxels))
    for row in result.clusters.itertuples():
        voxels = [voxel for cluster, voxel in peaks if cluster == row.cluster]
        assert 1 <= len(voxels) <= 3
        assert t[voxels[0]] == row.peak_stat
        assert all(size[voxel] == row.size_voxels for voxel in voxels)
        gaps = [np.linalg.norm(xyz[a] - xyz[b]) for a in voxels for b in voxels if a < b]
        assert min(gaps, default=8.0) >= peak_distance(result.geometry)
        for voxel in voxels:
            near = np.abs(xyz - xyz[voxel]).max(axis=1) < 3.5
            assert abs(t[voxel]) == np.abs(t[near & (size == row.size_voxels) & (t * t[voxel] > 0)]).max()


def test_the_quality_of_the_maps_is_told_where_it_is_known(result, page, quality_page):
    assert "Quality of the maps" not in page
    before, after = Tags(page), Tags(quality_page)
    assert not after.open
    assert len(after.named("img")) == len(before.named("img")) + 1
    assert "of 14 maps stand" in after.text
    assert "Hoaglin" in after.text
    assert "Hoaglin" not in before.text
    kept = replace(result, quality=examine(asked()[0].store))
    with_kept = Tags(report.make_page(kept))
    assert with_kept.text == after.text, "also where the result itself holds it"
    other = Cohort(CohortStore.from_array(np.ones((14, ball().n_voxels)), ball()))
    with pytest.raises(InputError, match="'cohort'"):
        report.make_page(result, other)


def test_significant_p_are_marked_and_no_other(page, result):
    marked = []
    for row, one in zip(cluster_table(result).rows, result.clusters.itertuples(), strict=True):
        small = {6: one.p_fwe_voxel <= 0.05, 9: one.p_fwe_size <= 0.05, 11: one.p_fwe_mass <= 0.05}
        assert [cell.significant for cell in row.cells] == [small.get(k, False) for k in range(13)]
        marked += list(small.values())
    assert 0 < sum(marked) < len(marked)
    assert page.count('class="significant"') >= sum(marked)


def test_a_page_of_a_loaded_result_is_the_same_page(tmp_path, result, page):
    assert report.make_page(PermutationResult.load(result.save(tmp_path / "out"))) == page


def test_a_report_is_written_whole_and_replaces_reports_alone(tmp_path, result, page, monkeypatch):
    target = result.report(tmp_path / "deep" / "report.html")
    assert target.read_text(encoding="utf-8") == page
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        result.report(target)
    result.report(target, overwrite=True)
    other = tmp_path / "thesis.html"
    other.write_text("<p>mine</p>")
    with pytest.raises(OutputExistsError, match="left alone"):
        result.report(other, overwrite=True)
    assert other.read_text() == "<p>mine</p>"
    with pytest.raises(InputError, match=r"\.html"):
        result.report(tmp_path / "report.pdf")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        result.report(tmp_path / "file" / "report.html")


def test_the_command_writes_the_page_beside_the_result(tmp_path, result):
    folder = result.save(tmp_path / "out")
    run = CliRunner().invoke(commands, ["report", str(folder), "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout) == {"output": str(folder / "report.html")}
    again = CliRunner().invoke(commands, ["report", str(folder)])
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr
    elsewhere = tmp_path / "page.html"
    assert CliRunner().invoke(commands, ["report", str(folder), "-o", str(elsewhere)]).exit_code == 0
    assert elsewhere.is_file()


# What a reader does, done by a script in a copy of the page: it leaves what it saw in the page.
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize(("size", "dark"), [("1280,900", False), ("500,900", True)])
def test_a_browser_shows_and_sorts_everything_without_complaint(tmp_path, result, quality_page, size, dark):
    flags = [f"--window-size={size}", *(["--force-dark-mode"] if dark else [])]
    seen, log = browse(quality_page, tmp_path, *flags)
    assert seen["complaints"] == []
    assert "CONSOLE" not in log
    assert seen["wide"] <= 0, "nothing is wider than the window"
    assert (sum(map(int, re.findall(r"\d+", seen["page"]))) < 200) == dark
    assert seen["maps"] == 7
    top = result.geometry.coordinates(np.array([np.argmax(np.abs(result.maps["t"]))]))[0]
    np.testing.assert_allclose(seen["start"], top, atol=0.01)
    assert seen["before"] > 2 * seen["after"], "a higher threshold leaves less"
    assert seen["threshold"] == pytest.approx(-np.log10(0.05), rel=1e-3)
    np.testing.assert_allclose(seen["jumped"], seen["asked"], atol=0.01)
    np.testing.assert_allclose(np.subtract(seen["moved"], seen["jumped"]), [3, 0, 0], atol=0.01)
    assert len(seen["sorted"]) == 5
    for up, down in (pair for table in seen["sorted"] for pair in table):
        assert (up[0], down[0]) == ("ascending", "descending")
        try:
            numbers = [[float(value) for value in values[1:]] for values in (up, down)]
        except ValueError:
            continue  # words
        assert numbers == [sorted(numbers[0]), sorted(numbers[0], reverse=True)]


@pytest.fixture(scope="module")
def on_mesh():
    result = on_surfaces(with_voxels=True)
    return result, report.make_page(result)


def unpacked(text, kind):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind)


def test_surfaces_are_in_the_page_as_they_are(on_mesh):
    result, page = on_mesh
    data = json.loads(re.search(r'id="surfaces">(.*?)</script>', page, re.DOTALL)[1])
    assert [one["name"] for one in data["surfaces"]] == ["left", "right"]
    for one, part, where in zip(data["surfaces"], result.space.parts, result.space.slices, strict=False):
        steps = unpacked(one["vertices"], np.uint8).reshape(2, 3, -1)
        steps = np.cumsum(steps[0] + 256 * steps[1].astype(np.int64), axis=1) % 65536
        xyz = np.array(one["low"])[:, None] + steps * np.array(one["step"])[:, None]
        np.testing.assert_allclose(xyz.T, part.mesh.coordinates, atol=0.51 * max(one["step"]))
        bits = unpacked(one["faces"], np.uint8).reshape(4, -1).astype(np.int64)
        faces = np.cumsum(bits[0] + (bits[1] << 8) + (bits[2] << 16) + (bits[3] << 24)) % 2**32
        np.testing.assert_array_equal(faces.reshape(-1, 3), part.mesh.faces)
        inside = np.unpackbits(unpacked(one["inside"], np.uint8), count=one["n"])
        np.testing.assert_array_equal(np.flatnonzero(inside), part.vertices)
        assert one["first"] == where.start
    n = sum(part.n for part in result.space.parts[:2])
    t = unpacked(data["maps"][0]["data"], "<i2") * data["maps"][0]["unit"]
    np.testing.assert_allclose(t, result.maps["t"][:n], atol=0.51 * data["maps"][0]["unit"])
    voxels = volumes(embedded(page))["t"]
    assert np.isfinite(voxels).sum() == result.space.n - n


@pytest.mark.parametrize(("make", "noun"), [(of_parcels, "parcels"), (in_network, "edges"), (on_surfaces, "vertices")])
def test_pages_of_other_spaces_speak_of_their_elements(make, noun):
    result = make()
    tags = Tags(report.make_page(result))
    assert not tags.open
    assert f"{result.space.n:,} {noun}" in tags.text
    assert "voxel" not in tags.text.partition("Provenance")[0].partition("Everything, as JSON")[0]
    assert len(tags.named("img")) == 3
    assert tags.named("img")[0]["alt"].split()[0] in ("Bars", "Networks", "Surfaces")
    targets = {attrs["id"] for _, attrs in tags.tags if "id" in attrs}
    assert "viewer" not in targets
    assert ("turner" in targets) == (noun == "vertices")


def test_what_maps_have_no_use_for_is_refused(result):
    for one, name, given in ((result, "surface", {"left": "L.surf.gii"}), (of_parcels(), "background", "T1.nii.gz")):
        with pytest.raises(
            InputError, match=rf"'{name}': got '\w+'\. Allowed: None, as it is not for {one.space.nouns}"
        ):
            report.make_page(one, **{name: given})


def test_maps_on_surfaces_without_a_mesh_have_tables_and_no_pictures():
    space = on_surfaces().space
    bare = replace(space, parts=tuple(replace(part, mesh=None) for part in space.parts))
    Y = np.random.default_rng(0).normal(size=(8, space.n)).astype(np.float32)
    result = permutation_test(Cohort(CohortStore.from_array(Y, bare)), n_perm=20)
    tags = Tags(report.make_page(result))
    assert not tags.open
    assert "carry no mesh" in tags.text
    assert "left vertex" in tags.text
    assert len(tags.named("img")) == 1, "the nulls"


WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_turns_surfaces_and_follows_the_tables(tmp_path, on_mesh):
    result, page = on_mesh
    seen, log = browse(page, tmp_path, *WEBGL, "--window-size=900,900", act=TURN)
    assert seen["complaints"] == []
    if not seen["drawn"]:
        pytest.skip("this browser has no WebGL")
    assert [line for line in log.splitlines() if "CONSOLE" in line and "ReadPixels" not in line] == []
    assert seen["wide"] <= 0
    assert seen["maps"] == 7
    top = int(np.argmax(np.abs(result.maps["t"][: sum(part.n for part in result.space.parts[:2])])))
    assert result.space.places(np.array([top]))[0] in seen["readout"]
    assert seen["left"][0] > 50 > seen["left"][1], "above 0 at the left"
    assert seen["right"][1] > 50 > seen["right"][0], "below 0 at the right"
    assert seen["grey"] > 1000
    assert seen["turned"]
    assert seen["back"]
    assert seen["larger"] > seen["smaller"]
    assert sum(seen["high"]) < 50
    assert seen["threshold"] == pytest.approx(-np.log10(0.05), rel=1e-3)
    assert seen["kept"]
    assert len(seen["jumped"]) >= 4
    assert all(seen["jumped"])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_without_webgl_the_page_says_so_and_has_its_pictures(tmp_path, on_mesh):
    seen, _ = browse(on_mesh[1], tmp_path, "--disable-3d-apis", act=TURN)
    assert seen["complaints"] == []
    assert seen["fallback"]
    assert not seen["drawn"]


def test_an_anatomy_lies_beneath_the_maps_of_a_volume(result):
    values = np.zeros((20, 20, 20), np.float32)
    values[2:18, 2:18, 2:18] = np.linspace(50, 100, 16)[:, None, None]
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -38.0
    page = report.make_page(result, background=image(values, affine))
    anatomy = embedded(page)["anatomy"]
    shades = unpacked(anatomy["data"], np.uint8).reshape(anatomy["shape"])
    assert shades[-1, 8, 8] > shades[0, 8, 8] > 100
    assert "over the anatomy, through the highest peaks" in page
    assert "The grey shape is the mask" not in page
    without = report.make_page(result)
    assert embedded(without)["anatomy"] is None
    assert "The grey shape is the mask" in without


def test_what_is_significant_nowhere_is_not_drawn(result):
    nothing = replace(result, maps={**dict(result.maps.stored), "p_fwe_voxel": np.ones(result.space.n)})
    shown = figures.corrected(nothing)
    titles = [text.get_text() for text in shown.texts]
    assert "Nothing is significant by maximum statistic" in titles
    assert "\u2212log10 p, FWE: cluster extent" in titles
    assert "\u2212log10 p, FWE: maximum statistic" not in titles
    ones = {name: np.ones(result.space.n) for name in result.maps.stored if name.startswith("p_fwe_")}
    none = replace(result, maps={**dict(result.maps.stored), **ones})
    assert len(figures.corrected(none).axes) == 4, "one brain, and the colour bar"
    assert len(Tags(report.make_page(none)).named("img")) == 4


def test_modalities_are_named_and_have_p_over_all_of_them():
    cohort = asked()[0]
    other = Cohort(CohortStore.from_array(0.5 * cohort.store.read(0, cohort.n_voxels), cohort.store.space))
    one = permutation_test({"bold": cohort, "flow": other}, n_perm=60)["bold"]
    shown = report.viewer(one)
    assert {"logp_fwe_voxel", "logp_fwe_voxel_modalities", "logp_fwe_mass_modalities"} <= {
        each["name"] for each in shown["maps"]
    }
    page = report.make_page(one)
    assert "Group analysis of bold" in page
    assert "bold, one of several that were tested together" in page
    assert "corrected for family-wise error, over all modalities, where" in page
    titles = [title for title, _ in cluster_table(one).columns]
    assert "p extent, modalities" in titles
    assert "p voxel, modalities" in [title for title, _ in peak_table(one).columns]


def test_clusters_with_true_discoveries_have_a_table_of_their_own(result):
    table, found = discovery_table(result, 0.7), result.discovery_map(0.7).clusters
    assert len(table.rows) == len(found) > 0
    assert [row.cells[-2].value for row in table.rows] == found["tdp"].tolist()
    assert table.rows[0].mm == tuple(found.loc[0, ["peak_x", "peak_y", "peak_z"]])
    assert 'id="discoveries"' in report.make_page(result)
    nothing = replace(result, maps={**dict(result.maps.stored), "tdp": np.zeros(result.space.n)})
    assert discovery_table(nothing) is None
    assert 'id="discoveries"' not in report.make_page(nothing)


def test_a_large_design_is_not_the_most_of_the_page():
    rng = np.random.default_rng(0)
    cohort = Cohort(CohortStore.from_array(rng.normal(size=(600, 27)).astype(np.float32), cube()))
    one = permutation_test(cohort, rng.normal(size=(600, 10)), np.eye(1, 10), n_perm=20)
    page = report.make_page(one)
    assert "600 rows of 10 numbers: see design.tsv" in page
    assert json.dumps(one.provenance["design"]["rows"][5][3]) not in page


def test_several_contrasts_stand_on_one_page(tmp_path):
    results = list(analysed(contrast={"mean": "intercept", NASTY: [0.0, 1.0]}, n_perm=20).values())
    target = report.write_index(results, ["mean/report.html", "other/report.html"], tmp_path / "report.html")
    tags = Tags(target.read_text(encoding="utf-8"))
    assert not tags.open
    assert NASTY in tags.text
    for one in results:
        assert report.words.in_words(one)[0] in tags.text
    assert len(tags.named("img")) == 2
    links = [attrs["href"] for attrs in tags.named("a")]
    assert {"mean/report.html", "other/report.html"} <= set(links)
    assert not any("data-mm" in attrs for attrs in tags.named("tr")), "there is no viewer to lead to"
    assert "Weight of each regressor" in tags.text
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        report.check_free(target, False)


@pytest.mark.parametrize("where", ["voxels", "parcels"])
def test_the_page_shows_who_lacks_what(where):
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 4)), columns=["a", "b", "c", "d"])
    store = asked()[0].store if where == "voxels" else Cohort.from_maps(values).store
    present = np.random.default_rng(1).random(store.data.shape) < 0.9
    data = np.where(present, store.data, 0)
    each = Cohort(CohortStore.from_array(data, store.space, present=present))
    page = report.make_page(permutation_test(each, n_perm=20, missing="element"))
    section = page.partition('id="coverage"')[2].partition("<details>")[0]
    assert "with the subjects that it has" in section
    assert "subjects that they have" in section
    assert section.count("data:image/png") == 1
    assert not Tags(page).open
    whole = report.make_page(permutation_test(Cohort(store), n_perm=20, missing="element"))
    assert 'id="coverage"' not in whole


@pytest.mark.parametrize("combine", ["tippett", "edgington", "conjunction", "wilks", "fisher"])
def test_where_small_values_are_extreme_z_is_ranked_and_drawn(combine):
    cohort, design = asked()
    noise = np.random.default_rng(1).normal(size=(14, cohort.n_voxels)).astype(np.float32)
    other = Cohort(CohortStore.from_array(cohort.store.read(0, cohort.n_voxels) + noise, cohort.store.space))
    options = {"contrast": "intercept", "n_perm": 60, "two_sided": False, "combine": combine}
    one = permutation_test({"first": cohort, "second": other}, design, **options)
    top = int(np.argmin(one.maps["p_parametric"]))
    place = one.geometry.coordinates(np.array([top]))[0]
    assert (one.drawn == "z") == (combine != "fisher")
    assert one.maps[one.drawn][top] == one.maps[one.drawn].max()
    assert find_peaks(one)[0][1] == top
    viewer = report.viewer(one)
    assert viewer["start"] == place.tolist()
    assert viewer["maps"][0]["name"] == one.drawn
    label = "z" if one.drawn == "z" else "Fisher"
    assert f"{label} is largest at" in re.sub("<[^>]+>", "", report.make_page(one))
