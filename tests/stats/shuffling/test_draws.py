from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from numbaglm.stats.shuffling import draws
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import TREES, X_of

RANDOM = {
    "ranked flips": ((12, 200), {"errors": "ise"}),
    "ranked permutations": ((10, 200), {}),
    "ranked permutations, near the limit": ((20, 200), {}),
    "ranked groups, many more subjects": ((300, 200), {"X": X_of(*[0.0] * 296, *[1.0] * 4)}),
    "ranked both in a tree": ((6, 300), {"errors": "both", "blocks": TREES["twins, siblings fixed"]}),
    "unranked flips": ((100, 200), {"errors": "ise"}),
    "unranked permutations": ((40, 200), {}),
    "unranked both, whole": (
        (120, 200),
        {"errors": "both", "blocks": np.arange(120) // 3, "block_scheme": "whole"},
    ),
    "unranked within": ((200, 200), {"blocks": np.arange(200) % 100}),
}


def random_plan(name, n_perm=None, seed=5):
    (n_subjects, default), options = RANDOM[name]
    X = options.get("X", np.arange(float(n_subjects))[:, None] ** 2)
    options = {key: value for key, value in options.items() if key != "X"}
    return X, plan_shufflings(n_subjects, n_perm or default, seed, design_rows=X, **options)


@pytest.mark.parametrize("name", RANDOM)
def test_random_shufflings_depend_on_seed_and_number_alone(name):
    _, plan = random_plan(name)
    assert not plan.exhaustive
    n = plan.n_shufflings
    index, sign = plan.draw(0, n)
    assert (index.dtype, sign.dtype, index.shape) == (np.int32, np.int8, (n, plan.n_subjects))
    copy = pickle.loads(pickle.dumps(plan))
    for start, stop in [(0, 1), (0, 7), (1, 2), (63, 150), (n - 1, n), (9, 9)]:
        got = copy.draw(start, stop)
        assert_array_equal(got[0], index[start:stop])
        assert_array_equal(got[1], sign[start:stop])
    more = random_plan(name, n_perm=n + 20)[1].draw(0, n)
    assert_array_equal(more[0], index)
    assert_array_equal(more[1], sign)
    other = random_plan(name, seed=6)[1].draw(0, n)
    assert not (np.array_equal(other[0], index) and np.array_equal(other[1], sign))


@pytest.mark.parametrize("name", RANDOM)
def test_random_shufflings_are_distinct_with_the_identity_first(name):
    X, plan = random_plan(name)
    index, sign = plan.draw(0, plan.n_shufflings)
    assert_array_equal(np.sort(index, axis=1), np.tile(np.arange(plan.n_subjects), (len(index), 1)))
    assert_array_equal(np.abs(sign), 1)
    assert_array_equal(index[0], np.arange(plan.n_subjects))
    assert_array_equal(sign[0], 1)
    landed = np.empty(index.shape)
    np.put_along_axis(landed, index.astype(int), np.broadcast_to(X[:, 0], index.shape), axis=1)
    assert len(np.unique(np.hstack([landed, sign]), axis=0)) == plan.n_shufflings


@pytest.mark.parametrize("blocks", [None, np.arange(60) // 6])
def test_unranked_permutations_are_uniform(blocks):
    X = np.arange(60.0)[:, None]
    plan = plan_shufflings(60, 6000, 11, design_rows=X, errors="both", blocks=blocks)
    index, sign = plan.draw(1, 6001)
    places = 60 if blocks is None else 6
    for subject in (0, 5):
        assert stats.chisquare(np.bincount(index[:, subject], minlength=places)).pvalue > 1e-3
    order = index[:, 0] * 60 + index[:, 1]
    seen = np.unique(order, return_counts=True)[1]
    assert len(seen) <= places * (places - 1)
    assert stats.chisquare(np.pad(seen, (0, places * (places - 1) - len(seen)))).pvalue > 1e-3
    flips = (sign == 1).sum(axis=0)
    assert stats.chi2.sf(((flips - 3000) ** 2 / 1500).sum(), 60) > 1e-3


@pytest.mark.parametrize("values", [(0, 0, 1), (0, 0, 1, 1), (0, 1, 2, 3)])
def test_sampled_ranks_are_uniform_over_seeds(values):
    every = plan_shufflings(len(values), 100, 0, design_rows=X_of(*values))

    def arranged(indices):
        return [tuple(np.array(values)[np.argsort(index)]) for index in indices]

    number = {arrangement: k for k, arrangement in enumerate(arranged(every.draw(0, every.n_distinct)[0]))}
    pairs = np.zeros((every.n_distinct, every.n_distinct))
    for seed in range(600):
        plan = plan_shufflings(len(values), min(2, every.n_distinct - 2), seed, design_rows=X_of(*values))
        first, *second = (number[one] for one in arranged(plan.draw(1, plan.n_shufflings)[0]))
        pairs[first, second[0] if second else 0] += 1
    possible = ~np.eye(len(pairs), dtype=bool)
    possible[0] = possible[:, 0] = False
    if every.n_distinct == 3:
        possible = np.zeros_like(possible)
        possible[1:, 0] = True
    assert pairs[~possible].sum() == 0
    assert stats.chisquare(pairs[possible]).pvalue > 1e-3


def test_draws_are_what_they_were():
    # A null must be what it was in an earlier version: update these only with a line in the changelog.
    X = np.arange(40.0)[:, None]
    ranked = plan_shufflings(9, 10, 42, design_rows=X[:9], errors="both").draw(3, 5)
    unranked = plan_shufflings(40, 10, 42, design_rows=X, errors="both").draw(3, 5)
    assert (ranked[0] * ranked[1]).tolist() == [
        [-5, -1, 0, 6, 4, 7, 2, 8, 3],
        [-4, -7, -8, -3, -5, -6, -1, -2, 0],
    ]
    assert (unranked[0] * unranked[1])[:, :12].tolist() == [
        [15, 3, 5, -24, 34, -19, 39, 11, 26, 4, -7, 32],
        [0, 8, -11, -39, -9, -32, 7, -5, 6, -30, -20, -22],
    ]


def test_siblings_are_sorted_by_their_keys_within_their_family():
    parent, nodes = np.array([0, 0, 0, 1, 1, 2], np.int32), np.array([0, 1, 2, 3, 4])
    digits = np.random.default_rng(0).integers(0, 3, (50, 15), dtype=np.uint16)  # many ties in the first digits
    slots = draws.shuffle_siblings(parent, nodes, digits)
    for row, slot in zip(digits.reshape(50, 3, 5), slots, strict=True):
        expected = sorted(range(5), key=lambda n: (parent[n], *row[::-1, n], n))
        assert slot.tolist() == [*expected, 5]


def test_digits_of_a_shuffling_are_its_own():
    whole = draws.random_digits(7, 0, 9, 40)
    assert (whole.shape, whole.dtype) == ((9, 40), np.uint16)
    assert_array_equal(draws.random_digits(7, 4, 6, 40), whole[4:6])
    assert len({row.tobytes() for row in whole}) == 9
    assert not np.array_equal(draws.random_digits(8, 0, 9, 40), whole)


@pytest.mark.parametrize("size", [1, 2, 1000, 2**16, 2**16 + 1, 100_003])
def test_bijections_reach_every_number_once(size):
    numbers = np.arange(size)
    found = draws.keyed_bijection(numbers, size, 3)
    assert_array_equal(np.sort(found), numbers)
    assert_array_equal(draws.keyed_bijection(numbers[::-7], size, 3), found[::-7])
    if size > 2:
        assert not np.array_equal(found, numbers)
        assert not np.array_equal(draws.keyed_bijection(numbers, size, 4), found)
