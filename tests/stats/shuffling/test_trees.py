from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import TREES, X_of, allowed, blocks_of, distinct, group, shufflings_as_pairs


@pytest.mark.parametrize("errors", ["ee", "ise", "both"])
@pytest.mark.parametrize("values", [(3, 1, 2, 5, 4, 7, 6), (1, 0, 0, 1, 0, 1, 1), (0, 2, 1, 1, 0, 2, 2)])
@pytest.mark.parametrize("tree", TREES)
def test_exhaustive_sets_against_brute_force(tree, values, errors):
    eb = np.array(TREES[tree])
    values = values[: len(eb)]
    want = distinct(eb, values, errors)
    plan = plan_shufflings(len(eb), 10**5, 0, design_rows=X_of(*values), errors=errors, blocks=eb)
    index, sign = plan.draw(0, plan.n_shufflings)
    got = shufflings_as_pairs(index, sign, values)
    assert plan.exhaustive
    assert plan.n_distinct == len(got) == len(want)
    assert set(got) == want
    assert all(allowed(i, blocks_of(eb)) for i in np.unique(index, axis=0).tolist())
    assert_array_equal(index[0], np.arange(len(eb)))
    assert_array_equal(sign[0], 1)


@pytest.mark.parametrize("tree", TREES)
def test_orbits_against_brute_force(tree):
    eb = np.array(TREES[tree])
    X = np.arange(float(len(eb)))[:, None]
    orbit = plan_shufflings(len(eb), 10, 0, design_rows=X, blocks=eb).orbits()
    exchanged = {(r, place) for index in group(eb) for r, place in enumerate(index)}
    assert exchanged == {(i, j) for i in range(len(eb)) for j in range(len(eb)) if orbit[i] == orbit[j]}
    flips = plan_shufflings(len(eb), 10, 0, design_rows=X, blocks=eb, errors="ise")
    assert len(set(flips.orbits())) == len(eb)


def test_flips_of_blocks_around_subjects_add_nothing():
    # A pair whose subjects flip alone flips as a whole, too: 2**4, not 2**(4 + 2).
    X = X_of(1, 2, 3, 4)
    plan = plan_shufflings(4, 100, 0, design_rows=X, errors="ise", blocks=[1, 1, 2, 2], block_scheme="both")
    assert plan.n_distinct == 16
