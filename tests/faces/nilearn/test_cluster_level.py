"""Shares of true discoveries in clusters of a map of z."""

import nibabel as nib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage, stats

import numbaglm as ng
from numbaglm.errors import InputError, NumbaglmFutureWarning, NumbaglmWarning
from numbaglm.stats.discoveries import true_discoveries
from reference.surfaces import surface

SHAPE = (9, 10, 11)


def image(values):
    return nib.Nifti1Image(np.asarray(values, np.float32), np.eye(4))


def z_map(seed=0):
    z = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1) * 6
    z[1:4, 1:4, 1:4] += 6
    return z.astype(np.float32)


def test_each_cluster_has_the_bound_of_its_voxels():
    z = z_map()
    got = ng.cluster_level_inference(image(z), threshold=2.5).get_fdata()
    labels, n_labels = ndimage.label(z > 2.5)
    found = true_discoveries(stats.norm.sf(z.ravel().astype(float)), labels.ravel())
    assert n_labels > 1
    for number in range(1, n_labels + 1):
        assert_array_equal(got[labels == number], np.float32(found[number].tdp))
    assert not got[labels == 0].any()
    assert got.max() > 0.2


def test_of_several_thresholds_the_highest_tells():
    z = z_map()
    low, high = (ng.cluster_level_inference(image(z), threshold=t).get_fdata() for t in (2.5, 3.5))
    both = ng.cluster_level_inference(image(z), threshold=[3.5, 2.5]).get_fdata()
    assert_array_equal(both, np.where(z > 3.5, high, low))


def test_what_is_tested_is_what_is_in_the_mask():
    z = z_map()
    mask = np.zeros(SHAPE)
    mask[:5] = 1
    got = ng.cluster_level_inference(image(z), image(mask), threshold=2.5).get_fdata()
    labels, _ = ndimage.label((z > 2.5) & (mask > 0))
    inside = mask > 0
    found = true_discoveries(stats.norm.sf(z[inside].astype(float)), labels[inside])
    assert got.max() == np.float32(max(one.tdp for one in found.values()))
    assert not got[5:].any()


def test_on_surfaces_hemispheres_are_apart_and_triangles_join():
    values = [5, 4, 0, 0, 7, 0, 0, -6, 6, 0, 0, -5, -4.5, 0, 0, 0, 0, 4]
    got = ng.cluster_level_inference(surface(values), threshold=3.5)
    assert {name: np.count_nonzero(part) for name, part in got.data.parts.items()} == {"left": 3, "right": 2}
    found = true_discoveries(stats.norm.sf(np.array([5.0, 4, 7, -6])), np.array([0, 1]))
    assert got.data.parts["left"][0] == np.float32(found.tdp)


def test_no_share_is_above_1():
    z = np.full(SHAPE, 40.0)
    assert ng.cluster_level_inference(image(z), threshold=3.5).get_fdata().max() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2}, "alpha should be between 0 and 1"),
        ({"threshold": -1}, "'threshold' cannot be negative"),
        ({"threshold": [2.5, -1]}, "'threshold' cannot be negative"),
        ({"threshold": "high"}, "threshold"),
        ({"threshold": []}, "threshold"),
        ({"compatibility": "spm"}, "compatibility"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        ng.cluster_level_inference(image(z_map()), **({"threshold": 2.5} | options))


def test_warnings():
    with pytest.warns(NumbaglmFutureWarning, match="3.0"):
        ng.cluster_level_inference(image(z_map()))
    z = z_map()
    z[0, 0, 0] = np.nan
    with pytest.warns(NumbaglmWarning, match="1 values are NaN"):
        ng.cluster_level_inference(image(z), threshold=2.5)


def test_nilearn_finds_the_same():
    nilearn = pytest.importorskip("nilearn", minversion="0.14.1")
    glm = pytest.importorskip("nilearn.glm")
    assert nilearn is not None
    mask = image(np.ones(SHAPE))
    for seed in range(3):
        for threshold in (2.0, 3.1, [2.5, 3.0, 3.5]):
            options = {"mask_img": mask, "threshold": threshold, "alpha": 0.05}
            mine = ng.cluster_level_inference(image(z_map(seed)), **options).get_fdata()
            theirs = glm.cluster_level_inference(image(z_map(seed)), **options).get_fdata()
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_nilearn_finds_the_same_on_surfaces_where_neighbours_are_its():
    glm = pytest.importorskip("nilearn.glm")
    datasets = pytest.importorskip("nilearn.datasets")
    stat = datasets.load_fsaverage_data(mesh="fsaverage5", data_type="curvature", mesh_type="inflated")
    for part, values in stat.data.parts.items():
        stat.data.parts[part] = (values.ravel() * 20).astype(np.float32)
    everywhere = {part: np.ones(values.shape) for part, values in stat.data.parts.items()}
    options = {"mask_img": type(stat)(stat.mesh, everywhere), "threshold": [3.5, 5.0], "alpha": 0.05}
    mine = ng.cluster_level_inference(stat, compatibility="nilearn", **options)
    theirs = glm.cluster_level_inference(stat, **options)
    for part in ("left", "right"):
        np.testing.assert_allclose(mine.data.parts[part].ravel(), theirs.data.parts[part].ravel(), atol=1e-6)
    assert mine.data.parts["left"].max() > 0
