from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from numbaglm.errors import InputError, ShufflingError
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import X_of, shufflings_as_pairs

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


def test_all_but_one_of_the_distinct_shufflings():
    plan = plan_shufflings(8, 68, 3, design_rows=X_of(0, 0, 1, 0, 1, 1, 0, 1))
    assert (plan.n_distinct, plan.n_shufflings, plan.exhaustive) == (70, 69, False)
    assert len(np.unique(plan.draw(0, 69)[0], axis=0)) == 69


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


def test_rows_that_differ_by_rounding_are_equal():
    X = X_of(0.1 + 0.2, 0.3, 0.6, 0.3, 0.6, 2 * 0.3)
    assert plan_shufflings(6, 100, 0, design_rows=X).n_distinct == 20
    assert plan_shufflings(3, 100, 0, design_rows=1.7e9 + X_of(0.0, 0.1, 0.2)).n_distinct == 6


@pytest.mark.parametrize(("n_perm", "n_shufflings", "exhaustive"), [(0, 1, False), (4, 5, False), (5, 6, True)])
def test_when_all_are_enumerated(n_perm, n_shufflings, exhaustive):
    plan = plan_shufflings(3, n_perm, 0, design_rows=X_of(1, 2, 3))
    assert (plan.n_distinct, plan.n_shufflings, plan.exhaustive) == (6, n_shufflings, exhaustive)


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
    ],
)
def test_refusals(n_perm, seed, options, message):
    with pytest.raises(ShufflingError, match=message):
        plan_shufflings(4, n_perm, seed, **{"design_rows": FOUR} | options)


def test_draw_refuses_numbers_beyond_the_plan():
    plan = plan_shufflings(4, 9, 0, design_rows=FOUR)
    with pytest.raises(InputError, match="stop <= 10"):
        plan.draw(0, 11)


def test_whole_blocks_of_any_size_change_sign():
    blocks = ["b", "a", "a", "b", "c", "a"]
    found = plan_shufflings(
        6, 100, 0, design_rows=np.ones((6, 1)), errors="ise", blocks=blocks, block_scheme="whole", why="as it must be"
    )
    index, sign = found.draw(0, 8)
    assert (index == np.arange(6)).all()
    assert len({tuple(row) for row in sign.tolist()}) == 8
    np.testing.assert_array_equal(sign[:, [0, 1]], sign[:, [3, 2]])
    np.testing.assert_array_equal(sign[:, 1], sign[:, 5])
    assert found.flip_units().tolist() == [1, 0, 0, 1, 2, 0]
    assert "of whole exchangeability blocks, as it must be" in found.reason
    with pytest.raises(ShufflingError, match="equal size"):
        plan_shufflings(6, 100, 0, design_rows=np.ones((6, 1)), errors="both", blocks=blocks, block_scheme="whole")


def test_permutations_change_no_sign():
    assert (plan_shufflings(3, 100, 0, design_rows=np.eye(3)).flip_units() == -1).all()


@pytest.mark.parametrize("n", [6, 40])
def test_a_part_is_the_identity_and_those_that_are_asked_for(n):
    """Few that are ranked, and many that are drawn."""
    whole = plan_shufflings(n, 300, 1, design_rows=np.arange(float(n))[:, None], errors="ee")
    assert not whole.exhaustive
    index, sign = whole.draw(0, 301)
    for first, last in ((1, 101), (101, 201), (250, 301)):
        part = whole.part(first, last)
        assert part.n_shufflings == 1 + last - first
        rows = [0, *range(first, last)]
        for start, stop in ((0, part.n_shufflings), (0, 1), (1, 5), (3, 20), (0, 0)):
            got = part.draw(start, stop)
            np.testing.assert_array_equal(got[0], index[rows][start:stop])
            np.testing.assert_array_equal(got[1], sign[rows][start:stop])
