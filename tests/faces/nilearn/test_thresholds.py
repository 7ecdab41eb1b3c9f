"""Thresholded maps and tables of clusters."""

from contextlib import nullcontext

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

import numbaglm as ng
from numbaglm.errors import InputError, NumbaglmFutureWarning, NumbaglmWarning
from reference.surfaces import surface

SHAPE = (9, 10, 11)


def image(values, size=1.0):
    return nib.Nifti1Image(np.asarray(values, np.float32), np.diag([size, size, size, 1]))


def two_clusters():
    """A cube of 8 voxels at 5 and another at -5, without contact."""
    values = np.zeros(SHAPE)
    values[1:3, 1:3, 1:3] = 5
    values[6:8, 6:8, 6:8] = -5
    return values


@pytest.mark.parametrize(
    ("options", "n_positive", "n_negative"),
    [
        ({"threshold": 4}, 8, 8),
        ({"threshold": 5}, 8, 8),
        ({"threshold": 5.1}, 0, 0),
        ({"threshold": 4, "cluster_threshold": 8}, 8, 8),
        ({"threshold": 4, "cluster_threshold": 9}, 0, 0),
        ({"threshold": 4, "two_sided": False}, 8, 0),
        ({"threshold": -4, "two_sided": False}, 0, 8),
    ],
)
def test_threshold(options, n_positive, n_negative):
    values = two_clusters()
    values[0, 0, 0] = 1.0
    nothing = n_positive + n_negative == 0 and "cluster_threshold" not in options
    with pytest.warns(NumbaglmWarning, match="must not exceed 5") if nothing else nullcontext():
        got = ng.threshold_stats_img(image(values), height_control=None, **options)[0].get_fdata()
    assert (np.sum(got > 0), np.sum(got < 0)) == (n_positive, n_negative)
    assert_array_equal(got[got != 0], values[got != 0])


def test_height_controls():
    """Of 1000 z of noise and 20 large ones."""
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=1000), np.full(20, 4.5)]).reshape(10, 6, 17)
    assert ng.threshold_stats_img(alpha=0.05)[1] == pytest.approx(stats.norm.isf(0.025))
    assert ng.threshold_stats_img(alpha=0.05, two_sided=False)[1] == pytest.approx(stats.norm.isf(0.05))
    _, bonferroni = ng.threshold_stats_img(image(z), alpha=0.05, height_control="bonferroni")
    assert bonferroni == pytest.approx(stats.norm.isf(0.025 / 1020))
    _, fdr = ng.threshold_stats_img(image(z), alpha=0.05, height_control="fdr")
    p = np.sort(2 * stats.norm.sf(np.abs(z.astype(np.float32).ravel())))
    least = p[p <= 0.05 * np.arange(1, p.size + 1) / p.size].max()
    assert fdr == pytest.approx(stats.norm.isf(least / 2), abs=1e-6)
    with pytest.warns(NumbaglmWarning, match="threshold=inf"):
        nothing, height = ng.threshold_stats_img(image(rng.normal(size=SHAPE)), alpha=1e-6, height_control="fdr")
    assert height == np.inf
    assert not nothing.get_fdata().any()


def test_mask():
    mask = np.zeros(SHAPE, np.uint8)
    mask[:5] = 1
    got, height = ng.threshold_stats_img(image(two_clusters()), image(mask), alpha=0.05, height_control="bonferroni")
    assert height == pytest.approx(stats.norm.isf(0.025 / mask.sum()))
    assert (got.get_fdata() > 0).sum() == 8
    assert not (got.get_fdata() < 0).any()
    coarse = image(np.ones((3, 5, 6)), size=2.0)
    with pytest.warns(NumbaglmWarning, match="another grid"):
        got, height = ng.threshold_stats_img(image(two_clusters()), coarse, alpha=0.05, height_control="bonferroni")
    assert height == pytest.approx(stats.norm.isf(0.025 / (5 * 9 * 11)))  # the map's voxels up to 2 * 2 + 0.5 mm
    assert ((got.get_fdata() > 0).sum(), (got.get_fdata() < 0).sum()) == (8, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height_control": "fwe"}, "height_control"),
        ({"height_control": "fdr"}, "stat_img"),
        ({"alpha": 5}, "alpha"),
        ({"height_control": None, "threshold": -1, "stat_img": image(two_clusters())}, "negative"),
        ({"height_control": None, "threshold": np.nan}, "threshold"),
        ({"height_control": None, "threshold": "95%"}, "threshold"),
        ({"stat_img": two_clusters()}, "stat_img.*ndarray"),
        ({"stat_img": image(two_clusters()), "mask_img": two_clusters()}, "mask_img.*ndarray"),
        ({"cluster_threshold": -1, "stat_img": image(two_clusters())}, "cluster_threshold"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        ng.threshold_stats_img(**options)


def test_unused_threshold():
    with pytest.warns(NumbaglmWarning, match="not used"):
        ng.threshold_stats_img(threshold=2)


def test_table():
    values = two_clusters()
    values[1, 1, 1] = 6.0
    table, labels = ng.get_clusters_table(image(values, 2.0), 4, two_sided=True, return_label_maps=True)
    assert table.to_numpy().tolist() == [[1, 2.0, 2.0, 2.0, 6.0, 64], [2, 12.0, 12.0, 12.0, -5.0, 64]]
    assert [int(one.get_fdata().sum()) for one in labels] == [8, 8]
    assert len(ng.get_clusters_table(image(values), 4)) == 1


def test_negative_threshold():
    values = two_clusters()
    values[6, 6, 6], values[0, 9, 10] = -7.0, -8.0
    table = ng.get_clusters_table(image(values), -4)
    assert table["Peak Stat"].tolist() == [-8.0, -7.0]
    table = ng.get_clusters_table(image(values), -4, compatibility="nilearn")
    assert table["Peak Stat"].tolist() == [7.0, 8.0]


def test_numbers_of_negative_clusters():
    """They go on from the rows, sub-peaks among them."""
    values = two_clusters()
    values[1:3, 1:3, 1:9] = 5
    values[1, 1, 1], values[1, 1, 8] = 7, 6
    table = ng.get_clusters_table(image(values), 4, two_sided=True, min_distance=5)
    assert table["Cluster ID"].tolist() == [1, "1a", 3]


@pytest.mark.parametrize("dtype", ["float32", ">f8", "int16"])
@pytest.mark.parametrize("suffix", [None, ".nii", ".nii.gz", ".img"])
def test_precision_is_the_map_s(tmp_path, dtype, suffix):
    """Of a file or an image: float32 would round two values to one."""
    values = two_clusters().astype(dtype)
    values[1, 1, 1] += np.array(1e-9, dtype) if dtype == ">f8" else 1
    given = nib.Nifti1Image(values, np.eye(4))
    if suffix is not None:
        nib.save(given, tmp_path / f"z{suffix}")
        given = tmp_path / f"z{suffix}"
    got, height = ng.threshold_stats_img(given, height_control=None, threshold=values.max())
    assert got.get_fdata().sum() == values.max() == height
    table = ng.get_clusters_table(given, 4)
    assert got.get_data_dtype() == table["Peak Stat"].dtype == np.dtype(dtype).newbyteorder("=")


def test_scaled_integers(tmp_path):
    image = nib.Nifti1Image(np.where(two_clusters() > 0, 100, 0).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.01, 2.0)
    image.to_filename(tmp_path / "z.nii")
    for given in (tmp_path / "z.nii", nib.load(tmp_path / "z.nii")):
        with pytest.warns(NumbaglmWarning, match="must not exceed 3"):
            got, _ = ng.threshold_stats_img(given, height_control=None, threshold=3.1)
        assert not got.get_fdata().any()
        got, _ = ng.threshold_stats_img(given, height_control=None, threshold=2.9)
        assert got.get_fdata().sum() == pytest.approx(8 * 3.0)


def test_sub_peaks():
    """Kept if far enough from all stronger ones: the third is near the first, though far from the second."""
    values = np.zeros((30, 3, 3))
    values[1:29, 1, 1] = 1.0
    values[[5, 20, 9, 14], 1, 1] = [9, 8, 7, 6]
    table = ng.get_clusters_table(image(values), 0.5, min_distance=5)
    assert table["Cluster ID"].tolist() == [1, "1a", "1b"]
    assert table["X"].tolist() == [5.0, 20.0, 14.0]
    assert table["Cluster Size (mm3)"].tolist() == [28, "", ""]
    assert len(ng.get_clusters_table(image(values), 0.5, min_distance=1)) == 4
    table = ng.get_clusters_table(image(values), 0.5, min_distance=5, compatibility="nilearn")
    assert table["X"].tolist()[:3] == [5.0, 20.0, 9.0]
    with pytest.raises(InputError, match="min_distance"):
        ng.get_clusters_table(image(values), 0.5, min_distance=0)


def test_flat_ring():
    """The centre of a ring lies outside: the nearest voxel of it is the peak."""
    values = np.zeros((9, 9, 3))
    values[2:7, 2:7, 1] = 3.0
    values[3:6, 3:6, 1] = 0.0
    with pytest.warns(NumbaglmWarning, match="falls outside of the cluster body"):
        x, y, _ = ng.get_clusters_table(image(values), 1).loc[0, ["X", "Y", "Z"]]
    assert values[int(x), int(y), 1] == 3.0
    assert (x - 4) ** 2 + (y - 4) ** 2 == 4


def test_nothing_found(tmp_path):
    path = tmp_path / "z.nii.gz"
    nib.save(image(two_clusters()), path)
    with pytest.warns(NumbaglmWarning, match="No clusters found with stat higher than 5"):
        table = ng.get_clusters_table(path, 5)
    assert len(table) == 0
    assert list(table.columns) == ["Cluster ID", "X", "Y", "Z", "Peak Stat", "Cluster Size (mm3)"]


def test_what_a_table_warns_of():
    values = two_clusters()
    with (
        pytest.warns(NumbaglmWarning, match=r"No clusters.*higher than 6"),
        pytest.warns(NumbaglmWarning, match=r"must not exceed 5, .* threshold=6"),
    ):
        ng.get_clusters_table(image(values), 6)
    with (
        pytest.warns(NumbaglmWarning, match=r"No clusters.*lower than -6"),
        pytest.warns(NumbaglmWarning, match=r"must not be less than -5, .* threshold=-6"),
    ):
        ng.get_clusters_table(image(values), -6)
    values[0, 0, 0] = np.inf
    with pytest.warns(NumbaglmWarning, match="1 values are NaN or infinite"):
        assert len(ng.get_clusters_table(image(values), 4)) == 1
    with pytest.warns(NumbaglmWarning, match="1 values are NaN or infinite"):
        ng.threshold_stats_img(image(values))


def test_default_threshold():
    for threshold in (None, 3.0):
        with pytest.warns(NumbaglmFutureWarning, match="3.0"):
            assert ng.threshold_stats_img(height_control=None, threshold=threshold)[1] == 3.0


ON_SURFACE = [5, 4, 0, 0, 7, 0, 0, -6, 6, 0, 0, -5, -4.5, 0, 0, 0, 0, 4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [["1", "left", 5, 2], ["2", "left", 7, 1], ["3", "right", 6, 1], ["4", "right", 4, 1]]),
        ({"cluster_threshold": 2}, [["1", "left", 5, 2]]),
        (
            {"two_sided": True, "cluster_threshold": 2},
            [["1", "left", 5, 2], ["2", "right", -5, 2]],
        ),
        ({"stat_threshold": -4}, [["1", "left", -6, 1], ["2", "right", -5, 2]]),
    ],
)
def test_table_of_a_surface(options, expected):
    table, labels = ng.get_clusters_table(
        surface(ON_SURFACE), **{"stat_threshold": 4, **options}, return_label_maps=True
    )
    assert list(table.columns) == ["Cluster ID", "Hemisphere", "Peak Stat", "Cluster Size (vertices)"]
    assert table.to_numpy().tolist() == expected
    numbers = np.concatenate([one.values() for one in labels])
    assert sorted(set(numbers)) == [0, *range(1, len(expected) + 1)]
    assert [int(np.sum(numbers == k)) for k in range(1, len(expected) + 1)] == table.iloc[:, 3].tolist()


def test_surfaces():
    values = np.array(ON_SURFACE, float)
    got, height = ng.threshold_stats_img(surface(values), alpha=0.05, height_control="bonferroni", cluster_threshold=2)
    assert height == pytest.approx(stats.norm.isf(0.025 / 8))
    assert got.values().tolist() == [5, 4, *[0] * 9, -5, -4.5, *[0] * 5]
    mask = surface(np.arange(18) < 9)
    got, height = ng.threshold_stats_img(surface(values), mask, alpha=0.05, height_control="bonferroni")
    assert height == pytest.approx(stats.norm.isf(0.025 / 9))
    assert not got.values()[9:].any()
    with pytest.warns(NumbaglmWarning, match="min_distance"):
        ng.get_clusters_table(surface(ON_SURFACE), 4, min_distance=5)
    with pytest.warns(NumbaglmWarning, match="No clusters found with stat higher than 4 of 3 or more"):
        assert ng.get_clusters_table(surface(ON_SURFACE), 4, cluster_threshold=3).empty
    for stat, where in ((surface(values), image(two_clusters())), (image(two_clusters()), mask)):
        with pytest.raises(TypeError, match="compatible types"):
            ng.threshold_stats_img(stat, where)
    with pytest.raises(InputError, match="2 maps"):
        ng.threshold_stats_img(surface(np.ones((18, 2))))
