from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest

from numbaglm.engine.permutation.maps import MAP_TOLERANCE, as_bytes, map_tolerance, merge_blocks, on_scale, slice_picks
from numbaglm.stats.conventions import CONVENTIONS
from reference.specs import spec_of


def random_picks(rng, n_shufflings, first, last):
    """Voxels ``first`` to ``last``, a few of them in each shuffling."""
    voxels = [np.flatnonzero(rng.random(last - first) < 0.3) + first for _ in range(n_shufflings)]
    bounds = np.concatenate([[0], np.cumsum([one.size for one in voxels])])
    voxel = np.concatenate(voxels).astype(np.int32)
    return bounds, voxel, rng.normal(size=voxel.size).astype("f4")


def listed(picks):
    """{voxel: score} of each shuffling, in order."""
    bounds, voxel, value = picks
    pairs = list(zip(voxel.tolist(), value.tolist(), strict=True))
    return [pairs[start:stop] for start, stop in pairwise(bounds)]


def test_blocks_are_merged_shuffling_by_shuffling():
    rng = np.random.default_rng(0)
    parts = [random_picks(rng, 5, first, last) for first, last in ((0, 10), (10, 13), (13, 30))]
    merged = merge_blocks(parts)
    assert listed(merged) == [list(chain(*several)) for several in zip(*map(listed, parts), strict=True)]
    for bounds, (start, stop) in ((merged[0], (1, 4)), (merged[0], (0, 5)), (merged[0], (2, 2))):
        some = slice_picks(merged, start, stop)
        assert listed(some) == listed(merged)[start:stop]
        assert some[0][-1] == bounds[stop] - bounds[start]


@pytest.mark.parametrize("precision", MAP_TOLERANCE)
def test_sums_are_equal_to_within_rounding(precision):
    found = map_tolerance(spec_of(precision=precision), np.array([0.1, 0.9999999]))
    assert found[0] == MAP_TOLERANCE[precision]
    assert found[0] < found[1] <= 0.01


def test_scores_on_the_scale_of_a_convention():
    score = np.array([-0.5, 0.1, 0.8])
    t = score * np.sqrt(11 / (1 - score**2))
    np.testing.assert_allclose(on_scale(spec_of(), score), t)
    z = on_scale(spec_of(conventions=CONVENTIONS["palm"]), score)
    np.testing.assert_allclose(z, spec_of().family.scale.to_z(score))
    assert (np.abs(z) < np.abs(t)).all()


def test_counts_of_a_few_maps_are_bytes():
    assert as_bytes(np.array([0, 255], np.int32)).dtype == np.uint8
    with pytest.raises(AssertionError):
        as_bytes(np.array([256], np.int32))
