"""Every way to score, against what the data say directly."""

from __future__ import annotations

import numpy as np
import pytest

from numbaglm.data.cohort.store import CohortStore
from numbaglm.engine.permutation.plan import Plan
from numbaglm.engine.permutation.scorers import make_scorer
from numbaglm.engine.permutation.voxels import prepare_block
from numbaglm.spaces.volume import Geometry
from reference.specs import spec_of

N_VOXELS, BATCH = 300, 8
DATA = np.random.default_rng(0).normal(0.3, 1, (12, N_VOXELS))
STORE = CohortStore.from_array(DATA.astype(np.float32), Geometry(np.ones((N_VOXELS, 1, 1), bool), np.eye(4)))
PLAN = Plan(batch=BATCH, blocks=((0, N_VOXELS),), ranges=((0, 401),), resident=True)


def correlations(sign):
    """Correlation of the mean with flipped data: t of one sample is monotone in it."""
    flipped = sign[:, :, None] * DATA.astype(np.float32).astype(float)
    return flipped.sum(axis=1) / np.sqrt(12 * (flipped**2).sum(axis=1))


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("keep", [True, False])
def test_maxima_counts_picks_and_maps(two_sided, keep):
    spec = spec_of(two_sided=two_sided, threshold=0.6, precision="float64")
    block = prepare_block(STORE, spec, 100, N_VOXELS)
    scorer = make_scorer(block, spec, PLAN, keep)
    index, sign = spec.shufflings.draw(0, 2 * BATCH)
    height = correlations(sign)[:, 100:]
    counted = np.zeros(200, int)
    size = np.abs(height) if two_sided else height
    for first in (0, BATCH):
        some = slice(first, first + BATCH)
        found = scorer.batch(first, index[some], sign[some])
        np.testing.assert_allclose(found.maxima, size[some].max(axis=1), rtol=1e-12)
        bounds, voxel, value = found.picks
        for k in range(BATCH):
            above = np.flatnonzero(size[first + k] >= 0.6)
            here = slice(bounds[k], bounds[k + 1])
            np.testing.assert_array_equal(voxel[here], above + 100)
            np.testing.assert_allclose(value[here], height[first + k][above], rtol=1e-12)
        if keep:
            np.testing.assert_allclose(found.maps[0], height[some], atol=1e-13)
        counted += (size[some] >= size[0] - 1e-11).sum(axis=0)
        np.testing.assert_array_equal(scorer.counts, counted)
    assert counted.min() >= 1, "the observed reaches itself"


def test_fields_of_whole_maps_have_no_maxima_yet():
    spec = spec_of(pseudo=True)
    block = prepare_block(STORE, spec, 0, N_VOXELS)
    scorer = make_scorer(block, spec, PLAN, True)
    index, sign = spec.shufflings.draw(0, 3)
    found = scorer.batch(0, index, sign)
    assert (found.maxima.size, scorer.counts.size) == (0, 0)
    assert [one.shape for one in found.maps] == [(3, N_VOXELS)] * 2
