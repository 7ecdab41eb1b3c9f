"""True discoveries of a result: regions, the table of clusters, maps."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

import numbaglm as ng
from numbaglm.errors import ImageError, InputError, NumbaglmWarning
from numbaglm.results import discoveries
from numbaglm.results.discoveries import elements_of, in_words
from numbaglm.results.reporting.tables import cluster_table, cluster_text
from numbaglm.stats import discoveries as of_p
from reference.reports import analysed, asked
from reference.surfaces import surface


def test_a_region_has_the_bound_of_its_p(result):
    p, region = result.maps["p_parametric"], np.abs(result.maps["z"]) > 2.5
    found = result.true_discoveries(region)
    assert found == of_p.true_discoveries(p, region)
    assert 0 < found.n_true < found.n_elements
    assert result.true_discoveries(region, alpha=0.5).n_true > found.n_true
    everywhere = result.true_discoveries(np.ones(p.size, bool))
    assert everywhere.n_true >= found.n_true


def test_a_region_may_be_an_image_a_file_an_array_or_numbers(tmp_path, result):
    region = np.abs(result.maps["z"]) > 2.5
    expected = result.true_discoveries(region)
    volume = np.asarray(result.geometry.unmask(region.astype(np.uint8)))
    image = nib.Nifti1Image(volume, result.geometry.affine)
    nib.save(image, tmp_path / "region.nii.gz")
    ways = image, tmp_path / "region.nii.gz", str(tmp_path / "region.nii.gz"), volume, volume.astype(float)
    for given in (*ways, region.astype(int), pd.Series(region), np.flatnonzero(region), list(np.flatnonzero(region))):
        assert result.true_discoveries(given) == expected


def test_labels_give_a_row_each(result):
    labels = np.where(np.arange(result.space.n) % 2, 7, 12)
    labels[:5] = 0
    table = result.true_discoveries(np.asarray(result.geometry.unmask(labels)))
    assert list(table.index) == [7, 12]
    assert list(table.columns) == ["n_elements", "n_true", "tdp"]
    for label in (7, 12):
        one = result.true_discoveries(labels == label)
        assert table.loc[label].tolist() == [one.n_elements, one.n_true, one.tdp]


def test_a_region_on_another_grid_goes_by_its_nearest_voxels(result):
    place = result.geometry
    fine = np.repeat(np.repeat(np.repeat(np.ones(place.shape, np.int16), 2, 0), 2, 1), 2, 2)
    fine[: fine.shape[0] // 2] = 4
    affine = place.affine.copy()
    affine[:3, :3] /= 2
    affine[:3, 3] -= affine[:3, :3].sum(axis=1) / 2
    with pytest.warns(NumbaglmWarning, match="another grid"):
        table = result.true_discoveries(nib.Nifti1Image(fine, affine))
    assert table.index.tolist() == [1, 4]
    assert table["n_elements"].sum() == place.n_voxels


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (np.full(3, 0.5), "fraction"),
        (np.full(3, np.nan), "not finite"),
        (np.array(["left", "right"]), "values of type"),
        (np.zeros((2, 2)), r"array of shape \(2, 2\)"),
        ({1, 2}, "set"),
        (np.ones(3, bool), "a mask of 3"),
        ([-1, 3], "-1"),
    ],
)
def test_what_is_no_region_is_refused(result, region, message):
    with pytest.raises(InputError, match=message):
        result.true_discoveries(region)


def test_what_is_no_image_is_refused(tmp_path, result):
    (tmp_path / "no.nii").write_text("nothing")
    with pytest.raises((ImageError, InputError)):
        result.true_discoveries(tmp_path / "no.nii")
    for alpha in (0, "0.05", None):
        with pytest.raises(InputError, match="alpha"):
            result.true_discoveries(np.ones(result.space.n, bool), alpha=alpha)
    with pytest.raises(InputError, match=r"'tdp'.*'0\.7'"):
        result.discovery_map(tdp="0.7")
    with pytest.raises(InputError, match=r"'level'.*'95%'"):
        result.interval("95%")


def test_clusters_of_the_table_have_the_bounds_of_their_voxels(result):
    assert len(result.clusters) > 1
    expected = result.true_discoveries(result.maps["clusters"])
    assert result.clusters["tdp"].tolist() == expected["tdp"].tolist()
    assert result.clusters["tdp"].max() > 0
    assert cluster_text(result.clusters, "t").splitlines()[1].split()[-1] == "TDP"
    table = cluster_table(result)
    assert [name for name, _ in table.columns][-1] == "TDP"
    assert [row.cells[-1].value for row in table.rows] == result.clusters["tdp"].tolist()


def test_each_voxel_has_the_best_share_of_the_clusters_that_hold_it(result):
    """Of some thresholds, which can't be better than the best of all."""
    z, best = result.maps["z"], np.zeros(result.space.n)
    bound = of_p.ari(result.maps["p_parametric"])
    for height in np.sort(np.abs(z))[-60:]:
        for sign in (1, -1):
            inside = np.asarray(result.geometry.unmask(sign * z >= height))
            labels = ndimage.label(inside.astype(bool), np.ones((3, 3, 3)))[0][result.geometry.mask]
            for number, one in bound.of_labels(labels).items():
                best = np.where(labels == number, np.maximum(best, one.tdp), best)
    reached = np.abs(z) >= np.sort(np.abs(z))[-60]
    np.testing.assert_array_equal(result.maps["tdp"][reached], best[reached])
    assert ((result.maps["tdp"] >= 0) & (result.maps["tdp"] <= 1)).all()


def test_where_nothing_is_found_no_tree_is_grown(monkeypatch, result):
    z, conventions = result.maps["z"], result.asked.conventions
    nothing, little = of_p.ari(np.ones(z.size)), of_p.ari(result.maps["p_parametric"], 1e-4)
    tree = discoveries.tree_of(result.space, z, conventions, True)
    assert nothing.n_true == 0
    assert little.n_true == little.of(np.ones(z.size, bool)).n_true > 0
    for bound in (nothing, little):
        expected = bound.of_clusters(tree).best_tdp()
        found = discoveries.best_tdp(bound, result.space, z, conventions, True)
        np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(discoveries, "tree_of", None)
    assert not discoveries.best_tdp(nothing, result.space, z, conventions, True).any()


def test_the_map_is_saved_and_loaded(tmp_path, result):
    again = ng.PermutationResult.load(result.save(tmp_path / "out"))
    np.testing.assert_array_equal(again.maps["tdp"], result.maps["tdp"])
    pd.testing.assert_frame_equal(again.clusters, result.clusters, check_exact=True)
    assert (tmp_path / "out" / "tdp.nii.gz").exists()
    assert "`tdp.nii.gz`: share of true discoveries" in (tmp_path / "out" / "README.md").read_text()
    pd.testing.assert_frame_equal(again.discovery_map(0.5).clusters, result.discovery_map(0.5).clusters)


def test_the_largest_clusters_with_a_share(result):
    found = result.discovery_map(tdp=0.5)
    table = found.clusters
    assert len(table) > 1
    assert (table["tdp"] >= 0.5).all()
    assert (np.diff(table["n_elements"]) <= 0).all()
    z = result.maps["z"]
    for row in table.itertuples():
        inside = found.labels == row.cluster
        one = result.true_discoveries(inside)
        assert (one.n_elements, one.n_true, one.tdp) == (row.n_elements, row.n_true, row.tdp)
        assert np.abs(z[inside]).min() == row.threshold
        assert row.peak_stat == result.maps["t"][inside][np.argmax(np.abs(z[inside]))]
        assert (np.sign(z[inside]) == (1 if row.sign == "+" else -1)).all()
    assert "TDP >= 0.5" in repr(found)
    image = found.to_image()
    assert image.shape == result.geometry.shape
    np.testing.assert_array_equal(np.asarray(image.dataobj)[result.geometry.mask], found.labels)
    with pytest.raises(InputError, match="tdp"):
        result.discovery_map(tdp=0)


def test_one_sided_tests_and_merged_signs():
    one = analysed(two_sided=False, tfce=False)
    assert (one.discovery_map(0.5).clusters["sign"] == "+").all()
    assert (one.maps["tdp"][one.maps["z"] < 0] == 0).all()
    merged = analysed(conventions="palm", tfce=False)
    assert len(merged.clusters) == len(merged.clusters["tdp"])


def test_pseudo_t_is_refused_and_has_none():
    pseudo = analysed(variance_smoothing_fwhm=6.0, tfce=False)
    assert "tdp" not in pseudo.maps
    assert "tdp" not in pseudo.clusters
    with pytest.raises(InputError, match="pseudo-t"):
        pseudo.true_discoveries(np.ones(pseudo.space.n, bool))
    with pytest.raises(InputError, match="pseudo-t"):
        pseudo.discovery_map()


def test_f_and_parametric_maps_alone_have_them():
    cohort, design = asked()
    one = ng.permutation_test(cohort, design, np.eye(2), n_perm=0)
    assert one.maps["tdp"].max() > 0
    assert one.true_discoveries(one.maps["z"] > 3).n_true > 0


def test_surfaces_networks_and_parcels():
    rng = np.random.default_rng(0)
    images = [surface(rng.normal(size=18).astype(np.float32) + 2) for _ in range(10)]
    one = ng.permutation_test(images, n_perm=50, surfaces=None)
    found = one.discovery_map(0.5)
    assert {"left", "right"} >= set(found.clusters["structure"])
    assert one.maps["tdp"].max() > 0
    sides = np.repeat([1, 2], [8, 10])
    for labels in (surface(sides), sides):
        assert one.true_discoveries(labels).index.tolist() == [1, 2]
    assert one.true_discoveries(one.maps["z"] > 2).n_true > 0
    assert one.discovery_map(1.0, alpha=1e-9).clusters.empty
    edges = [np.corrcoef(rng.normal(size=(6, 20)) + rng.normal(size=20)) for _ in range(10)]
    net = ng.permutation_test(edges, n_perm=50, space="network")
    assert net.discovery_map(0.5).clusters["tdp"].min() >= 0.5
    table = pd.DataFrame(rng.normal(size=(10, 4)) + 2, columns=list("abcd"))
    parcels = ng.permutation_test(table, n_perm=50)
    assert "tdp" not in parcels.maps
    assert "tdp" not in ng.permutation_test(table - 2, n_perm=50).maps
    assert parcels.true_discoveries([0, 1, 3]).n_true > 0
    with pytest.raises(InputError, match="which parcels touch"):
        parcels.discovery_map()


def test_regions_of_maps_that_came_from_no_files():
    from numbaglm.spaces.parcels import Parcels
    from numbaglm.spaces.space import Space

    space = Space.of(Parcels(("a", "b", "c")))
    assert elements_of(space, [True, False, True]).tolist() == [True, False, True]
    with pytest.raises(InputError, match="dict"):
        elements_of(space, {})


def test_a_report_says_how_much_has_an_effect(result):
    n = result.true_discoveries(np.ones(result.space.n, bool)).n_true
    (sentence,) = in_words(result)
    assert sentence.startswith(f"At least {n} of the {result.space.n:,} voxels have an effect, and of each cluster")
    assert "all-resolution inference" in sentence
    assert "calibrated by shufflings" in in_words(analysed(discoveries="simes", tfce=False))[0]
    assert in_words(analysed(variance_smoothing_fwhm=6.0, tfce=False)) == []
    volume, design = asked()
    both = {"one": "intercept", "two": design.columns[1]}
    how = {"n_perm": 60, "errors": "ise", "fwe_across_contrasts": True}
    for options, told in (
        ({}, "inference; of this contrast alone)"),
        ({"discoveries": "simes"}, "2 contrasts at once)"),
    ):
        assert told in in_words(ng.permutation_test(volume, design, both, **how, **options)["one"])[0]
    cohort, design = asked()
    nothing = ng.permutation_test(cohort, design, [0, 1], n_perm=20)
    assert in_words(nothing)[0].startswith("How many voxels have an effect can't be said")


def test_v_and_g_take_a_template():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [6, 8, 10])
    maps = pd.DataFrame(rng.normal(size=(24, 30))).add_prefix("r")
    for contrast, name in (([1.0, -1, 0], "v"), ([[1.0, -1, 0], [0, 1, -1]], "G")):
        options = {"contrast": contrast, "variance_groups": groups, "n_perm": 60, "cluster_forming_threshold": None}
        result = ng.permutation_test(maps, np.eye(3)[groups], **options)
        with pytest.raises(InputError, match=f"those of {name} are too small where a small group varies most.*'simes'"):
            result.true_discoveries(np.ones(30, bool))
        assert any(f"parametric p of {name} are too small" in one for one in in_words(result))
        calibrated = ng.permutation_test(maps, np.eye(3)[groups], discoveries="simes", **options)
        assert calibrated.true_discoveries(np.ones(30, bool)).n_elements == 30
