from __future__ import annotations

import numpy as np
import pytest

from numbaglm.stats import quality
from numbaglm.stats.quality import Z_LIMIT, measures, robust_z, tally
from reference import quality as reference


def maps(n_subjects=9, n_voxels=400, seed=0):
    rng = np.random.default_rng(seed)
    Y = rng.normal(size=(n_subjects, n_voxels)) + rng.normal(size=n_voxels) + 1000.0
    Y[2, :30] = 0.0
    Y[3, 30:40] = 1e-5  # a zero that was interpolated
    return Y.astype(np.float32)


@pytest.mark.parametrize("tile", [2**20, 64])
@pytest.mark.parametrize("n_subjects", [2, 8, 9])
def test_a_tally_is_that_of_all_voxels_at_once(monkeypatch, tile, n_subjects):
    monkeypatch.setattr(quality, "_TILE_VALUES", tile)
    Y = maps()[:n_subjects]
    columns, rows = np.random.default_rng(1).integers(0, 5, Y.shape[1]), np.arange(n_subjects)
    found = tally(Y[:, :150], columns[:150], 5, rows)
    found.merge(tally(Y[:, 150:], columns[150:], 5, rows))
    for name, expected in reference.look(Y).items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, err_msg=name)
    assert found.n_voxels == Y.shape[1]
    sums = np.stack([Y[:, columns == column].sum(axis=1, dtype=float) for column in range(5)], axis=1)
    np.testing.assert_allclose(found.sums, sums, rtol=1e-12)


def test_rows_of_a_carpet_are_sums_of_subjects():
    Y = maps()
    found = tally(Y, np.zeros(Y.shape[1], int), 1, np.array([0, 4, 5]))
    each = Y.sum(axis=1, dtype=float)
    np.testing.assert_allclose(found.sums[:, 0], [each[:4].sum(), each[4], each[5:].sum()], rtol=1e-12)


def test_a_constant_map_is_like_nothing():
    Y = maps()
    Y[4] = 3.0
    found = tally(Y, np.zeros(Y.shape[1], int), 1, np.arange(len(Y)))
    assert found.correlation[4] == 0
    one = measures(found.mean, found.sd, found.correlation, np.zeros(len(Y)))
    assert one["sd"].odd[4]
    assert np.isfinite(one["sd"].z).all()


def test_robust_z():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    np.testing.assert_allclose(robust_z(values), (values - 3) / 1.4826)
    np.testing.assert_allclose(robust_z(np.c_[values, -values]), np.c_[robust_z(values), -robust_z(values)])
    np.testing.assert_array_equal(robust_z(np.full(5, 7.0)), 0)
    # Most are equal: the mean absolute deviation, 0.2.
    np.testing.assert_allclose(robust_z(np.array([0.0, 0, 0, 0, 1])), [0, 0, 0, 0, 1 / (1.2533 * 0.2)])


def test_limits_part_what_is_odd_from_what_is_not():
    rng = np.random.default_rng(0)
    even = rng.permuted(np.tile(np.linspace(-1, 1, 200), (3, 1)), axis=1)  # none is far out by chance
    mean, sd, correlation = even[0], np.exp(even[1]), np.tanh(even[2])
    mean[0], sd[1], sd[2], correlation[3], correlation[4] = 9.0, 1e4, 1e-4, -0.99999, 0.99999
    missing = np.where(np.arange(200) == 5, 0.051, 0.049)
    found = measures(mean, sd, correlation, missing)
    assert {name: np.flatnonzero(one.odd).tolist() for name, one in found.items()} == {
        "mean": [0],
        "sd": [1, 2],
        "correlation": [3],  # being very like the others is nothing odd
        "missing": [5],
    }
    for one in found.values():
        np.testing.assert_array_equal(one.odd, (one.values < one.low) | (one.values > one.high))
    np.testing.assert_allclose(found["mean"].z, reference.robust_z(mean))
    np.testing.assert_allclose(found["sd"].z, reference.robust_z(np.log(sd)))
    np.testing.assert_allclose(found["correlation"].z, reference.robust_z(np.arctanh(correlation)))
    assert (np.abs(found["mean"].z[found["mean"].odd]) > Z_LIMIT).all()


def test_equal_maps_are_not_odd():
    found = measures(np.full(6, 0.1), np.full(6, 0.3), np.full(6, 1.0), np.zeros(6))
    assert not any(one.odd.any() for one in found.values())


def test_maps_that_were_scaled_to_one_sd_do_not_stand_out_by_rounding():
    rng = np.random.default_rng(0)
    Y = rng.normal(size=(32, 4000)) + rng.normal(size=4000)
    Y = ((Y - Y.mean(axis=1, keepdims=True)) / Y.std(axis=1, keepdims=True)).astype(np.float32)
    Y[5] *= 1.2
    found = tally(Y, np.zeros(4000, int), 1, np.arange(32))
    judged = measures(found.mean, found.sd, found.correlation, np.zeros(32))
    assert {name: np.flatnonzero(one.odd).tolist() for name, one in judged.items()} == {
        "mean": [],
        "sd": [5],
        "correlation": [],
        "missing": [],
    }
