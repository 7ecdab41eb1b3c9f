from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy import stats

from numbaglm.engine.permutation.records import ObservedBlock, Round
from reference.specs import spec_of


@pytest.mark.parametrize("two_sided", [True, False])
def test_heights_and_parametric_p_are_of_the_sides_that_count(two_sided):
    spec, z = spec_of(two_sided=two_sided), np.array([-2.0, 0.0, 3.0])
    assert spec.height(z).tolist() == ([2, 0, 3] if two_sided else [-2, 0, 3])
    expected = 2 * stats.norm.sf(np.abs(z)) if two_sided else stats.norm.sf(z)
    np.testing.assert_allclose(spec.parametric_p(z), expected)


def test_what_is_kept_of_each_shuffling():
    assert (spec_of().n_maps, spec_of(tfce=True).n_maps, spec_of(pseudo=True).n_maps) == (0, 1, 2)
    assert spec_of().tail_length == spec_of(tail="gamma").tail_length == 0
    assert 0 < spec_of(tail="pareto").tail_length < 400
    assert spec_of(tail="pareto", pseudo=True).tail_length == 0, "whole maps come first"


def test_what_was_observed_in_blocks_is_joined():
    parts = []
    for n, value in ((2, 1), (3, 2)):
        part = ObservedBlock.empty(2, n, 3)
        for one in fields(part):
            getattr(part, one.name)[...] = value
        parts.append(part)
    whole = ObservedBlock.joined(parts)
    assert whole.effect.tolist() == [[1, 1, 2, 2, 2]] * 2
    assert whole.degenerate.dtype == bool
    assert all(getattr(whole, one.name).shape[-1] == 5 for one in fields(whole))


def test_picks_of_a_round_are_its_bounds_voxels_and_scores():
    arrays = [np.arange(n) for n in range(1, 6)]
    found = Round(*arrays, None, None)
    assert found.picks == (arrays[2], arrays[3], arrays[4])
