from __future__ import annotations

import numpy as np
import pytest

from numbaglm.errors import ShufflingError
from numbaglm.stats.shuffling.own import digest, parse_rows, plan_own
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import TREES, X_of, allowed, blocks_of, flips, group


def rows_of(plan):
    """The rows that shufflings of the data are: those of the inverse permutation of the design."""
    index, sign = plan.draw(0, plan.n_shufflings)
    return np.take_along_axis(sign, np.argsort(index, axis=1), axis=1) * (np.argsort(index, axis=1) + 1)


@pytest.mark.parametrize("errors", ["ee", "ise", "both"])
@pytest.mark.parametrize("tree", TREES)
def test_planned_ones_are_drawn_again_as_they_were(tree, errors):
    eb, options = np.array(TREES[tree]), {"design_rows": X_of(*range(len(TREES[tree]))), "blocks": TREES[tree]}
    plan = plan_shufflings(len(eb), 100, 0, errors=errors, **options)
    rows = rows_of(plan)
    own = plan_own(rows, 0, **options)
    for a, b in zip(own.draw(0, plan.n_shufflings), plan.draw(0, plan.n_shufflings), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (own.errors, own.n_distinct, own.exhaustive) == (plan.errors, plan.n_distinct, plan.exhaustive)
    np.testing.assert_array_equal(own.flip_units(), plan.flip_units())
    together = own.orbits()[:, None] == own.orbits()
    assert (plan.orbits()[:, None] == plan.orbits())[together].all()


@pytest.mark.parametrize("tree", [one for one in TREES if one != "free"])
def test_what_blocks_do_not_allow_is_refused_with_its_row(tree):
    eb, rng = np.array(TREES[tree]), np.random.default_rng(0)
    n, X = len(eb), X_of(*range(len(eb)))
    fine = [tuple(one) for one in group(eb) if list(one) != list(range(n))][:1]
    refused = 0
    for _ in range(40):
        one = rng.permutation(n)
        rows = np.array([*fine, one]) + 1
        if allowed(one.tolist(), blocks_of(eb)):
            plan_own(rows, 0, design_rows=X, blocks=eb)
        else:
            refused += 1
            with pytest.raises(ShufflingError, match="row 2, which moves"):
                plan_own(rows, 0, design_rows=X, blocks=eb)
    signs, order = set(map(tuple, flips(eb))), np.arange(1, n + 1)
    for _ in range(40):
        one = rng.choice([-1, 1], n)
        if tuple(one.tolist()) in signs:
            continue
        refused += 1
        with pytest.raises(ShufflingError, match="row 2, which changes signs"):
            plan_own(np.array([order, one * order]), 0, design_rows=X, blocks=eb, errors="ise")
    assert refused > 20


def test_the_data_as_they_are_come_first_and_once():
    X, rows = X_of(0, 1, 2), np.array([[2, 1, 3], [1, 2, 3], [3, 1, 2], [1, 2, 3]])
    own = plan_own(rows, 5, design_rows=X)
    assert (own.n_shufflings, own.errors, own.exhaustive, own.seed) == (4, "ee", False, 5)
    assert own.draw(0, 4)[0].tolist() == [[0, 1, 2], [1, 0, 2], [1, 2, 0], [0, 1, 2]], "those of the data are inverse"
    assert own.reason.endswith("as given: 4 of the user's own, the data as they are among them.")
    added = plan_own(rows[[0, 2]], 0, design_rows=X)
    assert added.draw(0, 3)[0].tolist() == [[0, 1, 2], [1, 0, 2], [1, 2, 0]]
    assert added.reason.endswith("3 of the user's own, the data as they are added to them.")
    assert added.draw(1, 2)[0].tolist() == [[1, 0, 2]]


def test_orbits_are_those_of_the_rows():
    own = plan_own(np.array([[2, 1, 3, 4], [1, 2, 4, 3]]), 0, design_rows=X_of(0, 1, 2, 3))
    assert own.orbits().tolist() == [0, 0, 1, 1]
    assert plan_own(np.array([[-1, 2, 3]]), 0, design_rows=X_of(1, 1, 1)).orbits().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([[1, 2, 3]], {}, "1 row.*each the identity"),
        ([[1, 2, 3], [2, 1, 3]], {"errors": "ise"}, "row 2, which changes places.*sign flips.*Rows count from 1"),
        ([[-1, 2, 3]], {"errors": "ee"}, "row 1, which changes signs.*permutations"),
        ([[2, 1, 3]], {"errors": "ise", "why": "as a sandwich variance asks for"}, "as a sandwich variance asks for"),
        ([[2, 1, 3]], {"design_rows": X_of(1, 1, 1)}, "nothing is left to test"),
    ],
)
def test_sets_that_test_nothing_or_go_beyond_the_errors_are_refused(rows, options, message):
    with pytest.raises(ShufflingError, match=message):
        plan_own(np.array(rows), 0, **{"design_rows": X_of(0, 1, 2), **options})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [2, 1]], r"shape \(2, 2\).*shape \(n_shufflings, 3\)"),
        (np.ones((3, 5)), "Transpose"),
        ("words", "a str"),
        ([[1, 2, 3], [0, 1, 2]], "0 in row 2.*count from 1.*add 1"),
        ([[1, 2.5, 3]], "2.5 in row 1"),
        ([[1, 2, 4]], "4 in row 1"),
        ([[1, 2, np.nan]], "nan in row 1"),
        ([[1, 2, 3], [1, -3, 3]], "3 in row 2 more than once"),
        ([[1, -1, 1]], r"s \* \[1, 2"),
    ],
)
def test_rows_that_are_no_signed_permutations(values, message):
    with pytest.raises(ShufflingError, match=message):
        parse_rows(values, 3)


def test_a_digest_tells_sets_apart():
    rows = parse_rows([[1, 2, 3], [2.0, -1, 3]], 3)
    assert digest(rows) == digest(rows.astype(np.int64)) != digest(rows[::-1])
    assert digest(rows) != digest(-rows)
    assert len(parse_rows([3, 1, 2], 3)) == 1
