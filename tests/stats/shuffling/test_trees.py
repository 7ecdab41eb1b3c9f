from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from numbaglm.stats.shuffling import trees
from numbaglm.stats.shuffling.blocks import parse_blocks
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import TREES, X_of, allowed, blocks_of, distinct, flips, group, shufflings_as_pairs


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


def test_places_of_children_are_unranked_once_each():
    """Three children of class 0, two of class 1, one of class 2: 6! / (3! 2! 1!) sequences."""
    classes = np.array([0, 1, 0, 2, 1, 0], np.int32)
    choice = trees.Choice(0, 0, classes, 60)
    places = trees.arrange(choice, np.arange(60))
    assert_array_equal(places[0], np.arange(6))
    assert_array_equal(np.sort(places, axis=1), np.tile(np.arange(6), (60, 1)))
    landed = np.empty_like(places)
    np.put_along_axis(landed, places, np.broadcast_to(classes, places.shape), axis=1)
    assert len({tuple(row) for row in landed.tolist()}) == 60
    for k in range(3):  # children of one class keep their order
        assert (np.diff(places[:, classes == k], axis=1) > 0).all()
    assert_array_equal(trees.arrange(choice, np.arange(60, 70)), places[:10])


def test_choices_multiply_to_the_distinct_arrangements():
    classes = np.array([0, 0, 1, 1, 1], np.int32)
    (free,) = trees.choices(trees.free_tree(5), classes)
    assert (free.n_arrangements, free.classes.tolist()) == (10, [0, 0, 1, 1, 1])
    assert trees.choices(trees.free_tree(5), np.zeros(5, np.int32)) == []
    pairs = parse_blocks([1, 1, 2, 2, 2, 2], "within", 6)
    found = trees.choices(pairs, np.array([0, 1, 0, 0, 0, 1], np.int32))
    assert sorted(one.n_arrangements for one in found) == [2, 4]


@pytest.mark.parametrize("tree", TREES)
def test_units_of_flips_against_brute_force(tree):
    eb = np.array(TREES[tree])
    units = trees.flip_units(parse_blocks(eb, "within", len(eb)))
    signs = np.array(sorted(flips(eb)))
    assert len(signs) == 2 ** len(set(units[units >= 0].tolist()))
    assert (signs[:, units == -1] == 1).all()
    for unit in range(units.max() + 1):
        assert (signs[:, units == unit] == signs[:, units == unit][:, :1]).all()


def test_places_of_nodes_are_carried_down_to_subjects():
    """Two blocks of two, whose subjects stand in turn in the table, change places."""
    tree = parse_blocks([1, 2, 1, 2], "whole", 4)
    slots = [np.array([[0, 1], [1, 0]], np.int32), None]
    assert trees.place(tree, slots, 2).tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert trees.families(tree.levels[1]) == [(0, 2), (2, 4)]
