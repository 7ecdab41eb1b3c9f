"""Clusters at rising thresholds, beside what connected components of each threshold are."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from numbaglm.results import report
from numbaglm.results.reporting import icicle
from reference.pages import Tags, browse
from reference.reports import analysed, in_network, of_parcels, on_surfaces

TOUCHES = ndimage.generate_binary_structure(3, 3)


@pytest.fixture(scope="module")
def result():
    return analysed()


@pytest.fixture(scope="module")
def found(result):
    return icicle.icicle(result)


def inside(result, piece, found):
    """Elements of a piece, by labelling its threshold anew around its peak."""
    z, geometry = result.maps["z"], result.geometry
    peak = np.linalg.norm(geometry.coordinates(np.arange(result.space.n)) - piece.mm, axis=1).argmin()
    over = np.sign(z[peak]) * z >= found.levels[piece.level]
    label = ndimage.label(geometry.unmask(over.astype(np.uint8)), TOUCHES)[0][geometry.mask]
    return label == label[peak], peak


def test_each_piece_is_a_cluster_with_its_bound(result, found):
    assert len(found.pieces) > 20
    single = [piece for piece in found.pieces if piece.n_clusters == 1]
    for piece in single[::3]:
        region, peak = inside(result, piece, found)
        assert piece.found == result.true_discoveries(np.flatnonzero(region))
        assert np.abs(result.maps["t"][region]).max() == np.abs(result.maps["t"][peak])
        assert np.abs(result.maps["t"][region]).min() == piece.threshold
        assert f"{piece.found.n_elements:,} voxel" in piece.told
        last = found.levels[piece.level + piece.n_levels - 1]
        assert np.abs(result.maps["z"][region]).min() >= last, "it stays as long as it is the same"


def test_all_that_reaches_a_threshold_has_a_place_in_its_row(result, found):
    z = np.abs(result.maps["z"])
    for k, level in enumerate(found.levels):
        row = [piece for piece in found.pieces if piece.level <= k < piece.level + piece.n_levels]
        assert sum(piece.found.n_elements for piece in row) == np.sum(z >= level)
        ends = sorted((piece.left, piece.left + piece.width) for piece in row)
        assert all(right <= left + 1e-9 for (_, right), (left, _) in pairwise(ends))
        assert ends[0][0] >= -1e-9
        assert ends[-1][1] <= 1 + 1e-9


@pytest.mark.parametrize(
    ("levels", "ticks"),
    [
        (np.arange(0.5, 8.1, 0.25), ["1", "2", "3", "4", "5", "6", "7", "8"]),
        (np.arange(2.0, 3.01, 0.1), ["2", "2.2", "2.4", "2.6", "2.8", "3"]),
        (np.array([1.0]), ["1"]),
        (np.array([1.37]), ["1.37"]),
        (np.arange(1.37, 60, 1.37), ["1.37", "58.91"]),
    ],
)
def test_round_thresholds_are_written(levels, ticks):
    assert [text for _, text in icicle._ticks(np.round(levels, 10))] == ticks
    assert all(f"{levels[k]:g}" == text for k, text in icicle._ticks(np.round(levels, 10)))


def test_parts_lie_within_what_they_are_part_of(found):
    assert found.n_small == sum(piece.n_clusters > 1 for piece in found.pieces)
    for piece in found.pieces:
        assert piece.width > 0.9 * icicle._LEAST, "wide enough to be seen"
        if piece.parent >= 0:
            whole = found.pieces[piece.parent]
            assert whole.level + whole.n_levels == piece.level
            assert whole.left - 1e-9 <= piece.left < piece.left + piece.width <= whole.left + whole.width + 1e-9
            assert piece.found.n_true <= whole.found.n_true


def test_small_clusters_are_bounded_together(found):
    some = [piece for piece in found.pieces if piece.n_clusters > 1]
    assert some
    for piece in some:
        assert piece.told.split(": ")[1].startswith(f"{piece.n_clusters} small clusters of {piece.found.n_elements}")


def test_nothing_to_find_or_no_neighbours_have_none(result):
    nothing = replace(result, maps={**dict(result.maps.stored), "tdp": np.zeros(result.space.n)})
    assert icicle.icicle(nothing) is None
    assert icicle.icicle(of_parcels()) is None
    one = analysed(two_sided=False)
    shown = icicle.icicle(one)
    assert shown.sides == ()
    assert all(one.maps["t"][inside(one, piece, shown)[1]] > 0 for piece in shown.pieces if piece.n_clusters == 1)


def test_surfaces_lead_to_vertices_and_networks_nowhere():
    on_mesh = on_surfaces(with_voxels=True)
    shown = icicle.icicle(on_mesh)
    assert {(piece.element is None, piece.mm == ()) for piece in shown.pieces} == {(True, False), (False, True)}
    net = icicle.icicle(in_network())
    assert net.pieces
    assert all(piece.element is None and not piece.mm for piece in net.pieces)
    assert "node 0" in net.pieces[-1].told or "node 4" in net.pieces[-1].told


def test_the_page_has_it_without_scripts(result, found):
    tags = Tags(report.make_page(result))
    pieces = [attrs for attrs in tags.named("rect") if "data-parent" in attrs]
    assert len(pieces) == len(found.pieces)
    assert found.pieces[0].told in tags.text
    assert [float(one["fill-opacity"]) for one in pieces] == pytest.approx(
        [0.1 + 0.9 * piece.found.tdp for piece in found.pieces], abs=0.006
    )


CLICK = """<script>
const the = (id) => document.getElementById(id);
function act() {
  const pieces = [...document.querySelectorAll("#icicle rect[data-parent]")], top = pieces.at(-1);
  const key = (name) => the("icicle").dispatchEvent(new KeyboardEvent("keydown", {key: name, cancelable: true}));
  const told = () => the("icicle-told").textContent;
  const seen = {complaints, wide: document.documentElement.scrollWidth - innerWidth};
  top.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  seen.told = [told(), top.querySelector("title").textContent];
  seen.place = ["x", "y", "z"].map((axis) => Number(the("place-" + axis).value));
  seen.asked = top.dataset.mm.split(" ").map(Number);
  seen.threshold = [Number(the("threshold").value), Number(top.dataset.threshold)];
  seen.jump = the("icicle-jump").hidden ? "" : the("icicle-jump").hash;
  key("ArrowDown");
  seen.below = [told(), pieces[top.dataset.parent].querySelector("title").textContent];
  key("ArrowUp");
  seen.above = told();
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify(seen);
  document.body.append(outcome);
}
(function wait() { the("viewer").hidden ? setTimeout(wait, 20) : setTimeout(act, 100); })();
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_click_tells_the_cluster_and_moves_the_viewer(tmp_path, result):
    seen, log = browse(report.make_page(result), tmp_path, "--window-size=500,900", act=CLICK)
    assert seen["complaints"] == []
    assert "CONSOLE" not in log
    assert seen["wide"] <= 0
    assert len(set(seen["told"])) == 1
    assert re.match(r"z \u2265 .* with an effect, at least\. Peak: t = ", seen["told"][0])
    np.testing.assert_allclose(seen["place"], seen["asked"], atol=0.01)
    assert seen["threshold"][0] == pytest.approx(seen["threshold"][1], rel=1e-4)
    assert seen["jump"] == "#viewer"
    assert len(set(seen["below"])) == 1
    assert seen["above"] != seen["below"][0]
