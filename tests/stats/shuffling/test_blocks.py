from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from numbaglm.errors import ShufflingError
from numbaglm.stats.shuffling.blocks import parse_blocks
from numbaglm.stats.shuffling.shufflings import plan_shufflings
from reference.exchangeability import X_of


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [1, 1, 2, 2], "block_scheme": "inside"}, "'block_scheme': got 'inside'.*'whole'"),
        ({"blocks": [1, 1, 2]}, r"shape \(3,\).*\(4,\)"),
        ({"blocks": [1, 1, np.nan, 2]}, "nan in row 2.*counted from 0"),
        ({"blocks": [1, 1.5, 1.5, 2]}, "1.5 in rows 1, 2"),
        ({"blocks": ["a", "a", np.nan, "b"]}, "nan in row 2.*Give every subject a label"),
        ({"blocks": pd.array([1, 1, None, 2], dtype="Int64")}, "nan in row 2.*Give every subject a label"),
        ({"block_scheme": "whole"}, "block_scheme.*Give exchangeability_blocks"),
        ({"blocks": [[-1, 1], [-1, 1], [-1, 2], [-1, 2]], "block_scheme": "whole"}, "block_scheme.*multi-level"),
        ({"blocks": [1, 1, -1, -1]}, "-1 in rows 2, 3.*missing"),
        ({"blocks": [7, 7, 7, 8], "block_scheme": "whole"}, "block [78] of [13].*equal size"),
        ({"blocks": [[1, 1], [1, 2], [2, 1], [2, 2]]}, r"\[1, 2\] in the first column.*-1 if not"),
        ({"blocks": [[-1, 0], [-1, 0], [-1, 2], [-1, 2]]}, "0 in rows 0, 1"),
        (
            {"blocks": [[-1, 2, 1], [-1, -2, 2], [-1, 1, 1], [-1, 1, 2]]},
            "column 1, rows 0, 1.*one sign",
        ),
        (
            {"blocks": [[1, 5, 1], [1, 5, 2], [1, 5, 3], [1, 6, 1]]},
            r"5 \(rows 0, 1, 2\) and 6 \(row 3\)",
        ),
        ({"blocks": [[1, 5, 1], [1, 5, 2], [1, -6, 1], [1, -6, 2]]}, r"-6 \(rows 2, 3\).*signs"),
    ],
)
def test_refused_blocks(options, message):
    with pytest.raises(ShufflingError, match=message):
        plan_shufflings(4, 9, 0, design_rows=np.arange(4.0)[:, None], **options)


def test_a_tree_is_in_the_order_of_its_labels():
    tree = parse_blocks(["b", "a", "b", "a"], "both", 4)
    assert tree.order.tolist() == [1, 3, 0, 2]
    blocks, subjects = tree.levels
    assert (blocks.parent.tolist(), blocks.offset.tolist(), blocks.shuffled.tolist()) == ([0, 0], [0, 2], [True, True])
    assert (subjects.parent.tolist(), subjects.offset.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])
    assert subjects.shuffled.all()
    assert not parse_blocks([0, 0, 1, 1], "within", 4).levels[0].shuffled.any()
    assert not parse_blocks([0, 0, 1, 1], "whole", 4).levels[1].shuffled.any()
