from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError
from numbaglm.results.regions import cluster_regions, regions_of, with_column
from numbaglm.results.report import _tables, make_page
from numbaglm.results.reporting import words
from numbaglm.results.reporting.elsewhere import cluster_table
from reference.pages import NASTY, Tags
from reference.reports import on_surfaces


@pytest.fixture
def atlas(tmp_path, result):
    """The right half of the head, and the left one."""
    geometry = result.geometry
    x = geometry.coordinates(np.arange(geometry.n))[:, 0]
    labels = geometry.unmask(np.where(x > 0, 1, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(labels, geometry.affine), tmp_path / "halves.nii.gz")
    return tmp_path / "halves.nii.gz", {1: NASTY, 2: "left"}


def test_clusters_have_the_region_of_their_peak_and_shares_of_all(result, atlas):
    table = result.regions(atlas)
    x = result.geometry.coordinates(np.arange(result.geometry.n))[:, 0]
    for one in table.itertuples():
        inside = result.maps["clusters"] == one.cluster
        assert one.region == (NASTY if one.peak_x > 0 else "left")
        share = (x[inside] > 0).mean()
        assert (f"{NASTY} {share:.0%}".replace("%", " %") in one.regions) == (share >= 0.05)
    assert list(table.columns[:-2]) == list(result.clusters.columns)


def test_tables_of_the_page_have_the_names_of_places(result, atlas):
    tags = Tags(make_page(result, atlas=atlas))
    assert not tags.open
    assert tags.text.count(NASTY) > Tags(make_page(result)).text.count(NASTY)
    assert "regions" in tags.text


def test_regions_are_kept_in_the_table_and_told(result, atlas, tmp_path):
    named = result.with_regions(atlas)
    assert list(named.clusters["region"]) == list(result.regions(atlas)["region"])
    again = type(named).load(named.save(tmp_path / "saved"))
    assert again.clusters["regions"].tolist() == named.clusters["regions"].tolist()
    assert words.summarise(named)["clusters"][0]["region"] == named.clusters["region"][0]
    assert "region" in words.describe(named).splitlines()[-len(named.clusters) - 1]
    assert "regions" in [title for title, _ in _tables(named)["clusters"].columns]
    assert list(named.with_regions(atlas).clusters) == list(named.clusters), "another atlas takes its place"


def test_regions_need_clusters_and_an_atlas_of_the_space(result, atlas):
    without = replace(result, maps={k: v for k, v in result.maps.stored.items() if k != "clusters"})
    with pytest.raises(InputError, match="No clusters were formed"):
        without.regions(atlas)
    surfaces = on_surfaces()
    with pytest.raises(InputError, match="of their space"):
        regions_of(surfaces, atlas)
    named = ["place"] * surfaces.space.n
    found = cluster_regions(surfaces, named)
    assert set(found["regions"]) == {"place 100 %"}
    table = with_column(cluster_table(surfaces), ("regions", "meaning"), [""] * len(surfaces.clusters))
    assert {row.cells[-1].text for row in table.rows} == {"\u2013"}
