from __future__ import annotations

import numpy as np
import pytest

from numbaglm.results.reporting import elsewhere
from numbaglm.results.reporting.words import about_data, describe, in_words, methods_paragraph, what_was_asked
from reference.pages import NASTY
from reference.reports import HIGH, OUTER, in_network, of_parcels, on_surfaces


@pytest.fixture(scope="module")
def surfaces():
    return on_surfaces()


@pytest.fixture(scope="module")
def grayordinates():
    return on_surfaces(with_voxels=True)


@pytest.fixture(scope="module")
def network():
    return in_network()


def column(table, name):
    (k,) = [k for k, (heading, _) in enumerate(table.columns) if heading == name]
    return [row.cells[k] for row in table.rows]


def test_clusters_on_surfaces_have_their_vertex_place_and_area(surfaces):
    table = elsewhere.cluster_table(surfaces)
    clusters = surfaces.clusters
    assert [cell.text for cell in column(table, "peak")] == clusters["peak"].tolist()
    assert [cell.value for cell in column(table, "x")] == clusters["peak_x"].tolist()
    assert [cell.value for cell in column(table, "vertices")] == clusters["size_elements"].tolist()
    assert all(cell.text.endswith(" mm\u00b2") for cell in column(table, "extent"))
    assert [row.element for row in table.rows] == clusters["peak_element"].tolist()
    assert all(row.mm == () for row in table.rows)
    for name, p in (("p extent", "p_fwe_size"), ("p mass", "p_fwe_mass"), ("p peak", "p_fwe_voxel")):
        assert [cell.significant for cell in column(table, name)] == (clusters[p] <= 0.05).tolist()


def test_rows_of_voxels_lead_to_slices_and_rows_of_vertices_to_surfaces(grayordinates):
    table = elsewhere.cluster_table(grayordinates)
    led = {
        one.structure: (row.mm, row.element)
        for one, row in zip(grayordinates.clusters.itertuples(), table.rows, strict=True)
    }
    (mm, element) = led["thalamus left"]
    assert element is None
    assert np.linalg.norm(np.array(mm) - HIGH) < 7
    assert led["left"][0] == ()
    assert led["left"][1] is not None
    units = {cell.text.split()[-1] for cell in column(table, "extent")}
    assert units == {"mm\u00b2", "mm\u00b3"}
    assert {"p extent", "p extent, domain"} <= {name for name, _ in table.columns} or len(table.columns) > 11


@pytest.mark.parametrize("clusters", [True, False])
def test_peaks_are_the_highest_of_their_neighbours_and_lie_apart(clusters):
    result = on_surfaces(with_voxels=True, **({} if clusters else {"cluster_forming_threshold": None}))
    found = elsewhere.find_peaks(result)
    t, space = result.maps["t"], result.space
    xyz = space.coordinates(np.arange(space.n))
    for place, sign in ((OUTER["left"], 1), (OUTER["right"], -1), (HIGH, 1)):
        near = [k for _, k in found if np.linalg.norm(xyz[k] - place) < 25 and sign * t[k] > 0]
        assert near, "each effect has a peak"
    for part, where in zip(space.parts, space.slices, strict=True):
        if part.kind == "surface":
            number_of = np.full(part.n_vertices, -1)
            number_of[part.vertices] = np.arange(part.n)
            for _, k in found:
                if where.start <= k < where.stop:
                    vertex = part.vertices[k - where.start]
                    touching = number_of[part.mesh.edges[(part.mesh.edges == vertex).any(axis=1)]]
                    heights = np.sign(t[k]) * t[where][touching[touching >= 0]]
                    assert abs(t[k]) == heights.max()
    for cluster in {cluster for cluster, _ in found}:
        mine = [k for one, k in found if one == cluster]
        assert len(mine) <= 3 * 2
        gaps = [np.linalg.norm(xyz[a] - xyz[b]) for a in mine for b in mine if a < b and t[a] * t[b] > 0]
        assert min(gaps, default=99.0) >= elsewhere.peak_distance(result)
    if clusters:
        assert all(result.maps["clusters"][k] == cluster for cluster, k in found)
    table = elsewhere.peak_table(result)
    assert [int(cell.text) for cell in column(table, "cluster")] == [cluster for cluster, _ in found]


def test_the_significant_parcels_stand_first_then_the_largest():
    result = of_parcels()
    assert not elsewhere.has_peaks(result)
    table = elsewhere.element_table(result)
    names = [cell.text for cell in column(table, "parcel")]
    assert set(names[:2]) == {NASTY, "$x$ left"}
    assert len(table.rows) == 50
    assert table.n_more == 10
    t = np.abs([cell.value for cell in column(table, "t")])
    assert (np.diff(t[2:]) <= 0).all()
    assert [cell.significant for cell in column(table, "p parcel")] == [True, True, *[False] * 48]
    assert not any(cell.significant for cell in column(table, "p uncorrected"))
    parametric = elsewhere.element_table(of_parcels(n_perm=0))
    assert "p, Bonferroni" in [name for name, _ in parametric.columns]


def test_clusters_of_a_network_tell_their_nodes(network):
    table = elsewhere.cluster_table(network)
    assert column(table, "nodes")[0].text == "node 0, node 4, node 8"
    assert "x" not in [name for name, _ in table.columns]
    assert [cell.value for cell in column(table, "TDP")] == network.clusters["tdp"].tolist()
    assert column(table, "edges")[0].value == 3
    text = elsewhere.cluster_text(network.clusters, "t", "edges", 1).splitlines()
    assert text[1].split() == ["cluster", "peak", "t", "p(peak)", "edges", "p(size)", "mass", "p(mass)", "TDP"]
    assert elsewhere.cluster_text(network.clusters.head(0), "t", "edges") == "No cluster at this threshold."


def test_words_are_those_of_the_space(surfaces, grayordinates, network):
    first, *others = in_words(surfaces)
    assert "vertex" in first
    assert "mm, where t is" in first
    assert any("vertices are significant" in one for one in others)
    assert not any("voxel" in one for one in others)
    assert "edges that share a node" in methods_paragraph(network)[0]
    paragraph = methods_paragraph(grayordinates)[0]
    assert "surfaces and the volume apart" in paragraph
    assert "elements of surfaces and volumes" in paragraph
    facts = dict(about_data(grayordinates))
    assert facts["Left surface"].endswith("cm\u00b2")
    assert "thalamus left" in facts["Voxels"]
    assert "share an edge of the mesh" in dict(what_was_asked(surfaces))["TFCE"]
    assert "mm2" in describe(surfaces)


def test_words_say_how_domains_were_combined_and_structures_kept_apart():
    result = on_surfaces(with_voxels=True, structures="apart", over_domains="sidak", n_perm=20)
    paragraph = methods_paragraph(result)[0]
    assert "corrected over them by Sidak's correction" in paragraph
    assert "26-connected within a structure" in paragraph
