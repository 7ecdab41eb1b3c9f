from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from numbaglm.errors import InputError, ShufflingError
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import allowed, arrangement, blocks_of, distinct, group

GOLDEN = Path(__file__).parents[2] / "golden"

CASES = {
    "c1_onesample_n8": (256, {}),
    "c2_twosample_4v4": (70, {}),
    "c3_corr_n6": (720, {}),
    "c4a_paired_within": (64, {"block_scheme": "within"}),
    "c4b_wholeblock": (20, {"block_scheme": "whole"}),
    "c4c_wholewithin": (1296, {"block_scheme": "both"}),
    "c5_F_3groups": (1680, {}),
    "c6_freedmanlane_n7": (5040, {}),
    "c6b_twosample_nuisance_4v4": (70, {}),
    "c7_welch_vg_5v4": (126, {}),
    "c8_tail_n10": (1024, {}),
    "c9_multilevel_n10": (1152, {}),
}

TREES = {
    "free": [[1, 1], [1, 2], [1, 3], [1, 4], [1, 5]],
    "within, sizes 2 and 3": [[-1, 1, 1], [-1, 2, 1], [-1, 1, 2], [-1, 2, 3], [-1, 2, 2]],
    "whole, rows interleaved": [[1, -1, 1], [1, -2, 1], [1, -3, 1], [1, -2, 2], [1, -1, 2], [1, -3, 2]],
    "both": [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2], [1, 3, 1], [1, 3, 2]],
    "pairs and a trio": [
        [-1, 1, 1, 1],
        [-1, 1, 1, 2],
        [-1, 1, 2, 1],
        [-1, 1, 2, 2],
        [-1, 2, 1, 1],
        [-1, 2, 1, 2],
        [-1, 2, 1, 3],
    ],
    "twins, siblings fixed": [
        [1, -1, 1, 1],
        [1, -1, 1, 2],
        [1, -1, -2, 1],
        [1, -2, 1, 1],
        [1, -2, 1, 2],
        [1, -2, -2, 1],
    ],
}


def X_of(*values):
    return np.asarray(values, float)[:, None]


def shufflings_as_pairs(index, sign, rows):
    """What `reference.distinct` returns, in order."""
    return [(arrangement(i, rows), tuple(s)) for i, s in zip(index.tolist(), sign.tolist(), strict=True)]


def read(name, file):
    return np.loadtxt(GOLDEN / name / file, delimiter=",", ndmin=2)


@pytest.mark.parametrize("name", CASES)
def test_golden_sets(name):
    count, scheme = CASES[name]
    design, contrasts = read(name, "design.csv"), read(name, "contrasts.csv")
    X = design[:, (contrasts != 0).any(axis=0)]
    blocks = read(name, "eb.csv") if (GOLDEN / name / "eb.csv").exists() else None
    plan = plan_shufflings(len(X), count - 1, 0, design_rows=X, blocks=blocks, **scheme)
    assert (plan.n_distinct, plan.n_shufflings, plan.exhaustive) == (count, count, True)

    # PALM permutes the data by P', so that X arrives as P X.
    golden = read(name, "shufflings.csv").astype(int)
    rows = [tuple(row) for row in X.tolist()]
    ours = shufflings_as_pairs(*plan.draw(0, count), rows)
    assert set(ours) == {(tuple(rows[abs(j) - 1] for j in P), tuple(np.sign(P))) for P in golden.tolist()}
    assert len(set(ours)) == count
    assert ours[0] == (tuple(rows), (1,) * len(rows))


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


def test_sampled_subjects_with_equal_rows_keep_their_order():
    plan = plan_shufflings(6, 10, 0, design_rows=X_of(0, 1, 0, 1, 0, 1))
    index, _ = plan.draw(0, 11)
    assert (np.diff(index[:, ::2], axis=1) > 0).all()
    assert (np.diff(index[:, 1::2], axis=1) > 0).all()


@pytest.mark.parametrize("case", ["c2_twosample_4v4", "c5_F_3groups", "c6b_twosample_nuisance_4v4"])
def test_enumerated_permutations_are_palms_in_its_order(case):
    """Which of the subjects with equal rows goes where changes p where there is nuisance."""
    rows = np.loadtxt(GOLDEN / case / "design.csv", delimiter=",")[:, : 3 if "c5" in case else 2]
    theirs = np.abs(np.loadtxt(GOLDEN / case / "shufflings.csv", delimiter=",").astype(int)) - 1
    plan = plan_shufflings(len(rows), 2000, 0, design_rows=rows)
    np.testing.assert_array_equal(plan.draw(0, len(theirs))[0], np.argsort(theirs, axis=1))


@pytest.mark.parametrize(
    ("blocks", "same"),
    [
        ({"blocks": [0, 0, 1, 1, 1]}, [[-1, 1, 1], [-1, 1, 2], [-1, 2, 1], [-1, 2, 2], [-1, 2, 3]]),
        ({"blocks": [0, 0, 1, 1, 1]}, [[-1, 1], [-1, 1], [-1, 2], [-1, 2], [-1, 2]]),
        ({"blocks": [3, 3, 1, 1], "block_scheme": "whole"}, [[1, 1], [1, 1], [1, 2], [1, 2]]),
        ({"blocks": [3, 3, 1, 1], "block_scheme": "whole"}, [[1, -2, 1], [1, -2, 2], [1, -1, 7], [1, -1, 9]]),
        ({"blocks": [3, 3, 1, 1], "block_scheme": "both"}, [[1, 1, 1], [1, 1, 2], [1, 2, 3], [1, 2, 4]]),
        ({}, [[1, 4], [1, 3], [1, 2], [1, 1]]),
    ],
)
def test_schemes_are_trees(blocks, same):
    X = np.arange(float(len(same)))[:, None]
    plans = [plan_shufflings(len(X), 1000, 0, design_rows=X, **b) for b in (blocks, {"blocks": same})]
    drawn = [{tuple(i) for i in plan.draw(0, plan.n_shufflings)[0].tolist()} for plan in plans]
    assert drawn[0] == drawn[1]


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


def test_all_but_one_of_the_distinct_shufflings():
    plan = plan_shufflings(8, 68, 3, design_rows=X_of(0, 0, 1, 0, 1, 1, 0, 1))
    assert (plan.n_distinct, plan.n_shufflings, plan.exhaustive) == (70, 69, False)
    assert len(np.unique(plan.draw(0, 69)[0], axis=0)) == 69


def test_large_blocks_are_respected():
    block = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    X = np.random.default_rng(1).standard_normal((150, 1))
    within = plan_shufflings(150, 50, 0, design_rows=X, blocks=block, errors="both")
    index, sign = within.draw(1, 51)
    assert_array_equal(block[index], np.tile(block, (50, 1)))
    assert (sign[:, block == 7].std(axis=1) > 0).any()

    whole = plan_shufflings(150, 50, 0, design_rows=X, blocks=block, block_scheme="whole", errors="both")
    index, sign = whole.draw(1, 51)
    members = np.argsort(block, kind="stable").reshape(50, 3)
    moved = index[:, members]
    assert_array_equal(moved, members[block[moved[..., 0]]])
    assert (sign[:, members] == sign[:, members[:, :1]]).all()
    assert 0.4 < (sign == 1).mean() < 0.6

    both = plan_shufflings(150, 50, 0, design_rows=X, blocks=block, block_scheme="both")
    moved = both.draw(1, 51)[0][:, members]
    assert (block[moved] == block[moved[..., :1]]).all()
    assert (np.diff(moved, axis=2) < 0).any()


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


def test_errors_are_chosen_by_the_tested_regressors():
    assert plan_shufflings(4, 10, 0, design_rows=np.ones((4, 1))).errors == "ise"
    assert plan_shufflings(4, 10, 0, design_rows=np.ones((4, 2)) * [1, 0]).errors == "ise"
    plan = plan_shufflings(4, 10, 0, design_rows=X_of(1, 1, 1, 2))
    assert plan.errors == "ee"
    assert "exchangeable errors" in plan.reason
    assert "all 4 distinct" in plan.reason


def test_reasons_tell_what_is_shuffled():
    def reason(n_perm=9, **options):
        return plan_shufflings(4, n_perm, 0, design_rows=X_of(0, 1, 2, 3), **options).reason

    pairs, tree = [1, 1, 2, 2], [[1, 1, 1], [1, 1, 2], [1, 2, 1], [1, 2, 2]]
    assert "within the exchangeability blocks, since" in reason(blocks=pairs)
    assert "of whole exchangeability blocks, since" in reason(blocks=pairs, block_scheme="whole")
    assert "of whole exchangeability blocks and within them, since" in reason(blocks=pairs, block_scheme="both")
    assert "along the tree of exchangeability blocks, since" in reason(blocks=tree)
    assert reason(1).endswith("1 random one of 24 distinct shufflings.")
    assert reason(0).endswith("none was asked for.")


def test_labels_of_blocks_may_be_text():
    X = X_of(0, 1, 2, 3)
    text = plan_shufflings(4, 99, 0, design_rows=X, blocks=["b", "b", "a", "a"])
    numbers = plan_shufflings(4, 99, 0, design_rows=X, blocks=[2, 2, 1, 1])
    assert text.n_distinct == 4
    np.testing.assert_array_equal(text.draw(0, 4)[0], numbers.draw(0, 4)[0])


@pytest.mark.parametrize("labels", [["b", "b", "a", "a"], [2, 2, 1, 1]])
def test_a_column_of_labels_is_labels(labels):
    plan = plan_shufflings(4, 99, 0, design_rows=X_of(0, 1, 2, 3), blocks=pd.DataFrame({"site": labels}))
    assert plan.n_distinct == 4
    assert "within the exchangeability blocks" in plan.reason


def test_rows_that_differ_by_rounding_are_equal():
    X = X_of(0.1 + 0.2, 0.3, 0.6, 0.3, 0.6, 2 * 0.3)
    assert plan_shufflings(6, 100, 0, design_rows=X).n_distinct == 20
    assert plan_shufflings(3, 100, 0, design_rows=1.7e9 + X_of(0.0, 0.1, 0.2)).n_distinct == 6


@pytest.mark.parametrize(("n_perm", "n_shufflings", "exhaustive"), [(0, 1, False), (4, 5, False), (5, 6, True)])
def test_when_all_are_enumerated(n_perm, n_shufflings, exhaustive):
    plan = plan_shufflings(3, n_perm, 0, design_rows=X_of(1, 2, 3))
    assert (plan.n_distinct, plan.n_shufflings, plan.exhaustive) == (6, n_shufflings, exhaustive)


def test_flips_of_blocks_around_subjects_add_nothing():
    # A pair whose subjects flip alone flips as a whole, too: 2**4, not 2**(4 + 2).
    X = X_of(1, 2, 3, 4)
    plan = plan_shufflings(4, 100, 0, design_rows=X, errors="ise", blocks=[1, 1, 2, 2], block_scheme="both")
    assert plan.n_distinct == 16


def test_counts_beyond_what_python_prints():
    plan = plan_shufflings(3000, 10, 0, design_rows=np.arange(3000.0)[:, None])
    assert "about 10^9131" in plan.reason
    assert plan.n_distinct_text == "about 10^9131"
    assert "n_shufflings=11" in repr(plan)


ONE = np.ones((4, 1))
FOUR = np.arange(4.0)[:, None]


@pytest.mark.parametrize(
    ("n_perm", "seed", "options", "message"),
    [
        (-1, 0, {}, "'n_perm': got -1"),
        (2.5, 0, {}, "'n_perm': got 2.5"),
        (9, None, {}, "'seed': got None"),
        (9, -3, {}, "'seed': got -3"),
        (9, 0, {"errors": "iid"}, "'errors': got 'iid'.*'ise'"),
        (9, 0, {"design_rows": FOUR[:3]}, r"'design_rows': got 'shape \(3, 1\)'"),
        (9, 0, {"design_rows": ONE, "errors": "ee"}, "rows are all equal.*errors='ise'"),
        (9, 0, {"design_rows": X_of(0, 0, 1, 1), "blocks": [1, 1, 2, 2]}, "the blocks allow.*other blocks"),
        (
            9,
            0,
            {"errors": "ise", "blocks": [[-1, -1, 1], [-1, -1, 2], [-1, -1, 3], [-1, -1, 4]]},
            "change sign",
        ),
        (9, 0, {"blocks": [1, 1, 2, 2], "block_scheme": "inside"}, "'block_scheme': got 'inside'.*'whole'"),
        (9, 0, {"blocks": [1, 1, 2]}, r"shape \(3,\).*\(4,\)"),
        (9, 0, {"blocks": [1, 1, np.nan, 2]}, "nan in row 2.*counted from 0"),
        (9, 0, {"blocks": [1, 1.5, 1.5, 2]}, "1.5 in rows 1, 2"),
        (9, 0, {"blocks": ["a", "a", np.nan, "b"]}, "nan in row 2.*Give every subject a label"),
        (9, 0, {"blocks": pd.array([1, 1, None, 2], dtype="Int64")}, "nan in row 2.*Give every subject a label"),
        (9, 0, {"block_scheme": "whole"}, "block_scheme.*Give exchangeability_blocks"),
        (9, 0, {"blocks": [[-1, 1], [-1, 1], [-1, 2], [-1, 2]], "block_scheme": "whole"}, "block_scheme.*multi-level"),
        (9, 0, {"blocks": [1, 1, -1, -1]}, "-1 in rows 2, 3.*missing"),
        (9, 0, {"blocks": [7, 7, 7, 8], "block_scheme": "whole"}, "block [78] of [13].*equal size"),
        (9, 0, {"blocks": [[1, 1], [1, 2], [2, 1], [2, 2]]}, r"\[1, 2\] in the first column.*-1 if not"),
        (9, 0, {"blocks": [[-1, 0], [-1, 0], [-1, 2], [-1, 2]]}, "0 in rows 0, 1"),
        (
            9,
            0,
            {"blocks": [[-1, 2, 1], [-1, -2, 2], [-1, 1, 1], [-1, 1, 2]]},
            "column 1, rows 0, 1.*one sign",
        ),
        (
            9,
            0,
            {"blocks": [[1, 5, 1], [1, 5, 2], [1, 5, 3], [1, 6, 1]]},
            r"5 \(rows 0, 1, 2\) and 6 \(row 3\)",
        ),
        (9, 0, {"blocks": [[1, 5, 1], [1, 5, 2], [1, -6, 1], [1, -6, 2]]}, r"-6 \(rows 2, 3\).*signs"),
    ],
)
def test_refusals(n_perm, seed, options, message):
    with pytest.raises(ShufflingError, match=message):
        plan_shufflings(4, n_perm, seed, **{"design_rows": FOUR} | options)


def test_draw_refuses_numbers_beyond_the_plan():
    plan = plan_shufflings(4, 9, 0, design_rows=FOUR)
    with pytest.raises(InputError, match="stop <= 10"):
        plan.draw(0, 11)
