from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from numbaglm.errors import InputError
from numbaglm.spaces.smoothing import HeatKernel, parse_fwhm, smooth
from numbaglm.spaces.surface import Mesh
from reference.maps import AFFINE, volumes
from reference.meshes import icosphere


@pytest.mark.parametrize("fwhm", [8.0, (6.0, 0.0, 10.0)])
def test_smoothing_equals_nilearn(fwhm):
    nilearn = pytest.importorskip("nilearn.image")
    values = volumes(1)[0]
    values[2, 2, 2], values[3, 3, 3] = np.nan, np.inf
    expected = nilearn.smooth_img(nib.Nifti1Image(values.copy(), AFFINE), fwhm).get_fdata()
    before = values.copy()
    np.testing.assert_allclose(smooth(values, fwhm, AFFINE), expected, atol=1e-6)
    np.testing.assert_array_equal(values, before)


def test_no_smoothing_and_refused_widths():
    values = volumes(1)[0]
    assert parse_fwhm(0) is None
    assert parse_fwhm((0, 0, 0)) is None
    assert smooth(values, None, AFFINE) is values
    for wrong in (-1, (1, 2), "fast", np.nan, (4, 4, -4)):
        with pytest.raises(InputError, match="smoothing_fwhm"):
            parse_fwhm(wrong)


def test_heat_spreads_as_a_gaussian_on_a_flat_sheet():
    """The variance is that of the width, in every direction, though triangles differ; sums by area stay."""
    side = np.arange(61.0)
    x, y = np.meshgrid(side, side, indexing="ij")
    coordinates = np.stack([1.3 * x.ravel() + 0.3 * y.ravel(), 0.9 * y.ravel(), np.zeros(x.size)], axis=1)
    number = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (one.ravel() for one in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    mesh = Mesh(coordinates, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))
    fwhm, middle = 9.0, number[30, 30]
    spread = HeatKernel(mesh.coordinates, mesh.faces, fwhm).smooth(np.eye(1, mesh.n, middle)[0])
    weight = spread * mesh.areas
    np.testing.assert_allclose(weight.sum(), mesh.areas[middle], rtol=1e-9)
    away = coordinates[:, :2] - coordinates[middle, :2]
    variance = (away.T * weight) @ away / weight.sum()
    np.testing.assert_allclose(variance, np.eye(2) * fwhm**2 / (8 * np.log(2)), rtol=0.01, atol=0.05)
    assert spread.min() > -1e-6 * spread.max()


def test_heat_leaves_a_constant_and_takes_maps_together():
    coordinates, faces = icosphere(2)
    kernel = HeatKernel(coordinates, faces, 40.0)
    np.testing.assert_allclose(kernel.smooth(np.full(len(coordinates), 3.0)), 3.0, rtol=1e-9)
    maps = np.random.default_rng(0).normal(size=(3, len(coordinates)))
    together = kernel.smooth(maps)
    for row, found in zip(maps, together, strict=True):
        np.testing.assert_allclose(kernel.smooth(row), found, rtol=1e-9)
    assert together.std() < 0.7 * maps.std()
