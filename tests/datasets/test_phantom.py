"""The brain that is not there looks like one, and its noise is what was asked for."""

import numpy as np
import pytest

from numbaglm.datasets import phantom
from numbaglm.spaces.volume import Geometry


def test_the_mask_is_a_brain_around_its_commissure():
    geometry = phantom.brain_geometry()
    assert geometry.shape == (61, 73, 61)
    assert 44_000 <= geometry.n_voxels <= 46_000
    assert np.array_equal(geometry.mask, geometry.mask[::-1])
    assert np.linalg.solve(geometry.affine, [0, 0, 0, 1])[:3].tolist() == [30, 42, 24]
    coarse = phantom.brain_geometry(6.0)
    assert coarse.n_voxels * 8 == pytest.approx(geometry.n_voxels, rel=0.05)


def test_noise_has_unit_variance_and_the_smoothness_asked_for():
    geometry = Geometry(np.ones((40, 40, 40), bool), np.diag([3.0, 3.0, 4.0, 1.0]))
    maps = phantom.simulate_maps(geometry, 3, seed=1, fwhm=9.0)
    assert maps.shape == (3, 64_000)
    assert maps.dtype == np.float32
    assert maps.var() == pytest.approx(1.0, abs=0.04)
    volume = maps.reshape(3, 40, 40, 40)
    # Two points d apart in noise smoothed by a Gaussian of sigma correlate exp(-d^2 / (4 sigma^2)).
    sigma = 9.0 / 2.3548
    for axis, step in ((1, 3.0), (3, 4.0)):
        correlation = (volume * np.roll(volume, 1, axis=axis)).mean()
        assert correlation == pytest.approx(np.exp(-((step / (2 * sigma)) ** 2)), abs=0.04)


def test_an_effect_is_added_to_the_noise():
    geometry = Geometry(np.ones((4, 4, 4), bool), np.eye(4))
    effect = np.arange(64.0)
    noise = phantom.simulate_maps(geometry, 2, seed=5)
    np.testing.assert_allclose(phantom.simulate_maps(geometry, 2, seed=5, effect=effect), noise + effect, rtol=1e-5)


def test_signal_peaks_where_it_was_put_and_halves_at_half_its_width():
    geometry = phantom.brain_geometry(4.0)
    image = phantom.signal(geometry, [((36.0, -24.0, 56.0), 2.0, 16.0), ((-36.0, -24.0, 56.0), -1.0, 8.0)])
    xyz = geometry.coordinates(np.arange(geometry.n_voxels)).tolist()
    assert image[xyz.index([36, -24, 56])] == pytest.approx(2.0)
    assert image[xyz.index([36, -16, 56])] == pytest.approx(1.0)
    assert image[xyz.index([-36, -24, 56])] == pytest.approx(-1.0)
