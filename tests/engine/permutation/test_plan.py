from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from numbaglm.engine.permutation.plan import make_plan, refit
from numbaglm.engine.permutation.size import BATCH, Size
from numbaglm.errors import InputError
from numbaglm.kernels.panels.shuffle import TILE

SIZES = st.builds(
    Size,
    n_subjects=st.integers(2, 50_000),
    n_voxels=st.integers(1, 300_000),
    n_shufflings=st.integers(1, 20_000),
    n_rows=st.integers(1, 20),
    itemsize=st.sampled_from([4, 8]),
    n_maps=st.just(0),
    tail_length=st.sampled_from([0, 31, 251]),
)


def plan_or_none(size, limit, n_workers):
    try:
        return make_plan(size, limit, n_workers)
    except InputError:
        return None


@given(size=SIZES, limit=st.integers(10**6, 10**11), n_workers=st.integers(1, 64))
def test_blocks_and_rounds_cover_everything_once(size, limit, n_workers):
    plan = plan_or_none(size, limit, n_workers)
    assume(plan is not None)
    for spans, total, unit in (
        (plan.blocks, size.n_voxels, TILE),
        (plan.ranges, size.n_shufflings, plan.batch),
    ):
        assert spans[0][0] == 0
        assert spans[-1][1] == total
        assert all(stop == start for (_, stop), (start, _) in pairwise(spans))
        assert all(start < stop and start % unit == 0 for start, stop in spans)


@given(size=SIZES, limit=st.integers(10**6, 10**11), n_workers=st.integers(1, 64))
def test_what_is_predicted_fits_the_limit(size, limit, n_workers):
    plan = plan_or_none(size, limit, n_workers)
    assume(plan is not None)
    assert 0 < plan.memory <= limit
    residuals = size.n_subjects * size.n_voxels * size.itemsize
    assert not plan.resident or plan.memory >= residuals
    tails = size.tail_length > 0  # they take room too
    assert plan.resident or residuals > 0.3 * limit - 10**6 * n_workers or size.n_subjects > 1000 or tails


@given(size=SIZES, limits=st.lists(st.integers(10**6, 10**11), min_size=2, max_size=4), n_workers=st.integers(1, 8))
def test_the_batch_depends_on_the_design_alone(size, limits, n_workers):
    plans = [plan for limit in limits if (plan := plan_or_none(size, limit, n_workers)) is not None]
    assert {plan.batch for plan in plans} <= {BATCH}


def test_a_larger_limit_never_reads_more_often():
    size = Size(1000, 200_000, 10_000, 1, 4, n_maps=0)
    plans = [make_plan(size, limit * 10**8, 2) for limit in (2, 3, 5, 10, 100)]
    assert [plan.resident for plan in plans] == [False, False, False, False, True]
    n_blocks = [len(plan.blocks) for plan in plans[:-1]]
    assert n_blocks == sorted(n_blocks, reverse=True)


def test_too_small_a_limit_is_refused_with_what_is_needed():
    size = Size(10_000, 200_000, 1000, 2, 4, n_maps=0)
    with pytest.raises(InputError, match="10,000 subjects with 2 worker") as caught:
        make_plan(size, 10**8, 2)
    need = int(str(caught.value).split("take ")[1].split(" MB")[0].replace(",", ""))
    assert make_plan(size, (need + 1) * 10**6, 2).memory <= (need + 1) * 10**6
    with pytest.raises(InputError):
        make_plan(size, (need - 1) * 10**6, 2)


def test_whole_maps_that_do_not_fit_are_spilled_once():
    size = Size(40_000, 230_000, 10_001, 1, 4, n_maps=1, pick_share=0.004, chunk=(512, 4096))
    plan = make_plan(size, 3 * 10**9, 2, disk=20 * 10**9)
    assert not plan.resident
    assert plan.ranges == ((0, 10_001),)
    assert plan.disk == 10_001 * 230_000 * 4
    assert (plan.blocks[0][1] - plan.blocks[0][0]) % 4096 == 0
    rounds = make_plan(size, 3 * 10**9, 2, disk=5 * 10**9)
    assert rounds.disk <= 5 * 10**9
    assert len(rounds.ranges) == 2
    with pytest.raises(InputError, match="200 MB of free disk are too few"):
        make_plan(size, 3 * 10**9, 2, disk=2 * 10**8)


def test_a_plan_that_goes_on_keeps_its_cuts():
    size = Size(1000, 50_000, 1001, 1, 4, n_maps=1)
    plan = make_plan(size, 10**9, 2)
    assert plan.resident
    assert refit(plan, size, 10**9, 2) == plan
    smaller = refit(plan, size, plan.memory // 2, 2)
    assert not smaller.resident
    assert (smaller.blocks, smaller.ranges) == (plan.blocks, plan.ranges)
    assert not refit(plan, size, 10**9, 2, keep=False).resident
    alone = refit(plan, size, refit(plan, size, 10**9, 1, keep=False).memory, 4)
    assert (alone.n_workers, smaller.n_workers) == (1, None)
    assert "1 at a time, as more would not fit" in alone.describe()
    with pytest.raises(InputError, match="use workers of fewer threads"):
        refit(plan, size, alone.memory, 4, keep=False)
    with pytest.raises(InputError, match="cut up for more memory"):
        refit(plan, size, 2 * 10**7, 2)


def test_a_plan_says_what_it_is():
    plan = make_plan(Size(20, 5000, 1001, 3, 4, n_maps=0), 10**9, 2)
    text = plan.describe()
    assert "1,001 shufflings in batches of 256" in text
    assert "residuals stay in memory" in text
    assert "read in its turn" in make_plan(Size(5000, 50_000, 10, 1, 4, n_maps=0), 4 * 10**8, 1).describe()


@pytest.mark.parametrize("n_workers", [2, 3])
def test_workers_end_together(n_workers):
    for n_tiles in range(50 * n_workers, 60 * n_workers):
        plan = make_plan(Size(30, n_tiles * TILE, 1000, 1, 4, n_maps=0), 10**11, n_workers)
        busy = [0] * n_workers
        for start, stop in plan.blocks:
            busy[busy.index(min(busy))] += stop - start
        assert max(busy) < 1.05 * sum(busy) / n_workers


def test_shufflings_are_drawn_once_where_a_process_takes_several_blocks():
    size = Size(100_000, 1_000_000, 10_001, n_rows=1, itemsize=4, n_maps=0)
    few, many = (make_plan(size, 8 * 2**30, 1, n_processes=n, keep=False) for n in (10, 1000))
    assert len(few.blocks) > 20
    assert few.tabled
    assert 1000 > len(many.blocks) > 500
    assert not many.tabled
    assert refit(many, size, 8 * 2**30, 1, n_processes=2, keep=False).tabled
