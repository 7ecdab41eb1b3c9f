from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from numbaglm.kernels.spatial.neighbours import new_volume
from numbaglm.kernels.spatial.tfce import Enhancement, new_scratch, tfce_count, tfce_map, tfce_max
from numbaglm.spaces.volume import Geometry
from reference.tfce import tfce

GOLDEN = Path(__file__).parents[2] / "golden" / "c1_onesample_n8"
CONNECTIVITIES = (6, 18, 26)


def enhance(volume, mask, connectivity, how, dtype=np.float64):
    """Enhance on scratch that another map has used, check the maximum, and return the map on its grid."""
    geometry = Geometry(mask, np.eye(4))
    neighbourhood = new_volume(geometry.padded_index, geometry.padded_shape, connectivity)
    scratch = new_scratch(neighbourhood)
    values = np.ascontiguousarray(volume[mask], dtype=dtype)
    out = np.full(values.size, np.nan)
    tfce_map(values[::-1] + dtype(0.5), neighbourhood, scratch, how._replace(two_sided=True), out)
    tfce_map(values, neighbourhood, scratch, how, out)
    np.testing.assert_allclose(tfce_max(values, neighbourhood, scratch, how), np.abs(out).max(), rtol=1e-14)
    return geometry.unmask(out)


def assert_right(volume, mask, connectivity, how=Enhancement(), dtype=np.float64):  # noqa: B008
    volume = np.where(mask, volume, 0).astype(dtype)
    expected = tfce(volume, connectivity, **how._asdict())
    np.testing.assert_allclose(
        enhance(volume, mask, connectivity, how, dtype),
        expected,
        rtol=1e-10,
        atol=1e-14 * np.abs(expected).max(),
    )


@st.composite
def maps(draw):
    """A masked volume: ties and plateaus, or all different, or of very different sizes."""
    shape = draw(array_shapes(min_dims=3, max_dims=3, max_side=4))
    mask = draw(arrays(bool, shape, elements=st.integers(0, 3).map(bool)))
    mask[tuple(draw(st.tuples(*(st.integers(0, side - 1) for side in shape))))] = True
    heights = draw(
        st.sampled_from(
            [
                st.integers(-2, 2).map(float),
                st.floats(-5, 5, width=32, allow_subnormal=False),
                st.sampled_from([-1e30, -1.0, -1e-30, -0.0, 1e-30, 1.0, 1.0000001, 1e30]),
            ]
        )
    )
    return draw(arrays(np.float64, shape, elements=heights)), mask


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(maps(), st.booleans(), st.sampled_from([np.float32, np.float64]))
@settings(deadline=None, max_examples=60)
def test_is_the_integral(connectivity, volume_and_mask, two_sided, dtype):
    assert_right(*volume_and_mask, connectivity, Enhancement(two_sided=two_sided), dtype)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [3, 30, None])
def test_noise_with_many_saddles(connectivity, dtype, levels):
    rng = np.random.default_rng(3)
    volume = rng.normal(size=(7, 8, 9))
    if levels:
        volume = np.round(volume * levels / 3) / levels
    assert_right(volume, rng.random(volume.shape) < 0.8, connectivity, dtype=dtype)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_ties_have_no_order(connectivity, axis):
    rng = np.random.default_rng(4)
    volume = rng.integers(-2, 3, (5, 6, 4)).astype(np.float64)
    mask = rng.random(volume.shape) < 0.7
    there = enhance(volume, mask, connectivity, Enhancement())
    back = enhance(np.flip(volume, axis), np.flip(mask, axis), connectivity, Enhancement())
    np.testing.assert_allclose(np.flip(back, axis), there, rtol=1e-12)


def test_float64_tells_apart_what_float32_does_not():
    volume = 1 + 1e-12 * np.random.default_rng(5).permutation(60).reshape(3, 4, 5)
    volume[1] = 1e-13  # between two peaks that differ in the last bits alone
    volume[0] *= 1 + 1e-11
    mask = np.ones(volume.shape, bool)
    assert_right(volume, mask, 6, Enhancement(E=1.0, H=0.0))
    # What exceeds 1 counts by itself, which a float32 would lose.
    excess = enhance(volume, mask, 6, Enhancement(E=0.0, H=0.0)) - 1
    np.testing.assert_allclose(excess[0], volume[0] - 1, rtol=1e-3)


def test_stretches_of_the_mask_longer_and_further_apart_than_a_buffer():
    rng = np.random.default_rng(6)
    mask = np.ones((2, 4, 700), bool)
    mask[1, :2, 100:300] = False
    assert_right(rng.normal(size=mask.shape).round(1), mask, 26, dtype=np.float32)


@pytest.mark.parametrize("E", [0.5, 1.0, 0.7, 0.0])
@pytest.mark.parametrize("H", [2.0, 1.0, 0.0, 1.3])
def test_exponents(E, H):
    volume = np.random.default_rng(7).normal(size=(5, 5, 5))
    assert_right(volume, np.ones(volume.shape, bool), 18, Enhancement(E=E, H=H))


@pytest.mark.parametrize("steps", [{"n_steps": 100}, {"n_steps": 1}, {"dh": 0.1}, {"dh": 50.0}])
@pytest.mark.parametrize("times_step", [True, False])
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps(steps, times_step, two_sided, dtype):
    rng = np.random.default_rng(8)
    volume = rng.normal(size=(5, 6, 5)).round(2)
    how = Enhancement(two_sided=two_sided, times_step=times_step, **steps)
    assert_right(volume, rng.random(volume.shape) < 0.8, 6, how, dtype)


def test_many_steps_approach_the_integral():
    volume = np.abs(np.random.default_rng(9).normal(size=(5, 5, 5)))
    mask = np.ones(volume.shape, bool)
    exact = enhance(volume, mask, 26, Enhancement())
    stepped = enhance(volume, mask, 26, Enhancement(n_steps=20_000))
    np.testing.assert_allclose(stepped, exact, atol=2e-3 * exact.max())


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_are_those_of_the_maps(two_sided, dtype):
    rng = np.random.default_rng(10)
    mask = rng.random((6, 7, 8)) < 0.8
    geometry = Geometry(mask, np.eye(4))
    volume = new_volume(geometry.padded_index, geometry.padded_shape, 18)
    scratch, how = new_scratch(volume), Enhancement(two_sided=two_sided)
    maps = rng.normal(size=(20, geometry.n_voxels)).round(1).astype(dtype)
    enhanced = np.empty(maps.shape)
    for values, out in zip(maps, enhanced, strict=True):
        tfce_map(values, volume, scratch, how, out)
    reference, counts = np.abs(enhanced[0]), np.full(geometry.n_voxels, 3, np.int32)
    assert (reference == 0).any(), "some voxels are reached by every map"
    largest = [tfce_count(values, volume, scratch, how, reference, counts) for values in maps]
    np.testing.assert_array_equal(counts, 3 + (np.abs(enhanced) >= reference).sum(axis=0))
    np.testing.assert_array_equal(largest, np.abs(enhanced).max(axis=1))


@pytest.mark.parametrize("how", [Enhancement(two_sided=False), Enhancement(two_sided=False, n_steps=10)])
def test_nothing_above_zero(how):
    volume = -np.ones((2, 3, 2))
    assert not enhance(volume, np.ones(volume.shape, bool), 26, how).any()


@pytest.mark.parametrize(
    ("tag", "connectivity", "changes"),
    [
        ("A_extent_tfce", 6, {}),
        ("F_tfceC26", 26, {}),
        ("G_tfce_dh0.1", 6, {"dh": 0.1}),
        ("H_tfce_E1H1", 6, {"E": 1.0, "H": 1.0}),
    ],
)
def test_steps_as_palm(tag, connectivity, changes):
    mask = np.asarray(nib.load(GOLDEN / "mask.nii.gz").dataobj) > 0
    volume = np.zeros(mask.shape)
    with np.load(GOLDEN / "ref.npz") as ref, np.load(GOLDEN / "palm.npz") as palm:
        volume[mask] = ref["one_z"]
        expected, recount = palm[f"{tag}/tfce_tstat_c1"], ref["one_tfce"]
    how = Enhancement(two_sided=False, n_steps=100)._replace(**changes)
    found = enhance(volume, mask, connectivity, how)[mask]
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    if tag == "A_extent_tfce":
        np.testing.assert_allclose(found, recount, rtol=1e-12)


@pytest.mark.parametrize("two_sided", [True, False])
def test_steps_as_nilearn(two_sided):
    utils = pytest.importorskip("nilearn.mass_univariate._utils")
    from scipy.ndimage import generate_binary_structure

    volume = np.random.default_rng(10).normal(size=(6, 6, 6))
    expected = utils.calculate_tfce(volume[..., None], generate_binary_structure(3, 1), two_sided_test=two_sided)[
        ..., 0
    ]
    how = Enhancement(two_sided=two_sided, n_steps=100, times_step=False)
    found = enhance(volume, np.ones(volume.shape, bool), 6, how)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
