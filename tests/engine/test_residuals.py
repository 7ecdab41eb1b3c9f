"""Flips of the residuals of a cohort, block by block."""

from __future__ import annotations

import numpy as np

from numbaglm.engine import residuals
from numbaglm.results.confidence import _flips
from reference.reports import analysed, asked


def test_blocks_change_nothing(monkeypatch):
    cohort, _ = asked()
    flips = _flips(analysed(tfce=False), "effect", cohort, 100, 0)
    whole = residuals.flip_all(cohort.store, flips)
    elements = np.arange(0, cohort.n_voxels, 3)
    some = residuals.estimate_some(cohort.store, flips, elements)
    monkeypatch.setattr(residuals, "_TILE", 100)
    monkeypatch.setattr(residuals, "_BLOCK_BYTES", 1)
    for workers in (1, 2):
        for one, other in zip(whole, residuals.flip_all(cohort.store, flips, n_workers=workers), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10)
    again = residuals.estimate_some(cohort.store, flips, elements, n_workers=2)
    for name in ("value", "error", "rows"):
        np.testing.assert_allclose(getattr(some, name), getattr(again, name), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(some.value, whole[0][elements])
    assert (flips.heights(some.rows).max(axis=1) <= whole[2] * (1 + 1e-12)).all()
