"""The short version of validity.py, as a test: schemes that hold their level are not seen to break it."""

from __future__ import annotations

import validity


def test_error_rates():
    n_runs, n_voxels, n_perm, n_maps = validity.SIZES["small"]
    table = validity.error_table(n_runs, n_voxels, n_perm)
    broken = {(row["data"], row["scheme"]) for _, row in table.iterrows() if row["_low"] > 0.06}
    # Each of these is known, and documented next to its option.
    assert broken <= {
        ("one sample, skewed, n = 16", "sign flips"),
        ("samples of 8 and 24, first 3 times as noisy", "permutations, t"),
        ("12 confounds, n = 30, Gaussian", "still-white"),
        ("12 confounds, n = 30, skewed", "still-white"),
        ("12 confounds, n = 30, Gaussian", "kennedy"),
        ("12 confounds, n = 30, skewed", "kennedy"),
    }
    assert ("samples of 8 and 24, first 3 times as noisy", "permutations, t") in broken
    assert ("12 confounds, n = 30, Gaussian", "still-white") in broken
    families = validity.familywise_table(n_maps, 2 * n_perm)
    assert (families[["_voxel", "_size", "_tfce"]].to_numpy() < 0.05).all()
