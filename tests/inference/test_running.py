from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from numbaglm.data.cohort.store import CohortStore
from numbaglm.data.storage.places import Place
from numbaglm.engine.memory import Limit
from numbaglm.engine.permutation.size import BATCH
from numbaglm.errors import InputError
from numbaglm.inference.running import Running, plan_tests, size_of
from numbaglm.spaces.volume import Geometry
from reference.specs import spec_of

STORE = CohortStore.from_array(
    np.random.default_rng(0).normal(size=(12, 500)).astype(np.float32), Geometry(np.ones((500, 1, 1), bool), np.eye(4))
)


def running(store=None, **options):
    return Running.parse(
        **{"memory_limit": "8GB", "client": None, "n_workers": 1, "progress": False} | options, store=store
    )


@pytest.mark.parametrize("n_workers", [0, -1, 1.5, "2"])
def test_threads_are_counted_from_one(n_workers):
    with pytest.raises(InputError, match="'n_workers'"):
        running(n_workers=n_workers)
    assert running(n_workers=np.int64(3)).workers == (3, 1)
    assert running(n_workers=None).workers[0] >= 1


def test_a_plan_is_told_of_the_test():
    spec = spec_of(tfce=True, threshold=0.5)
    size = size_of(STORE, spec)
    assert (size.n_subjects, size.n_voxels, size.n_shufflings, size.n_rows) == (12, 500, 401, 1)
    assert (size.n_maps, size.itemsize) == (1, 4)
    t = 0.5 * np.sqrt(11 / 0.75)
    assert size.pick_share == pytest.approx(4 * stats.t.sf(t, 11))  # both tails, and twice that
    assert size_of(STORE, spec_of()).pick_share == 0


def test_planning_leaves_nothing_behind(tmp_path):
    (plan,) = plan_tests(STORE, running(tmp_path / "run"), [spec_of()])
    assert list(tmp_path.iterdir()) == []
    assert plan.ranges[-1][1] == 401
    assert plan.blocks[-1][1] == 500


def test_a_limit_that_is_too_small_is_refused_once_with_one_that_would_do():
    with pytest.raises(InputError, match=r"'memory_limit': got 10000\. Allowed: [0-9,]+ MB or more") as caught:
        plan_tests(STORE, running(memory_limit=10_000), [spec_of(n_perm=100 * BATCH)])
    needed = str(caught.value).split("Allowed: ")[1].split(" MB")[0].replace(",", "")
    (plan,) = plan_tests(STORE, running(memory_limit=f"{int(needed) + 5}MB"), [spec_of(n_perm=100 * BATCH)])
    assert plan.memory <= plan.limit


def test_a_plan_says_what_memory_there_is_and_from_where(monkeypatch):
    (plan,) = plan_tests(STORE, running(), [spec_of()])
    assert plan.limit_source == "memory_limit"
    assert f"MB a process at the peak of {plan.limit / 1e6:,.0f} MB (memory_limit)" in plan.describe()
    monkeypatch.setattr("numbaglm.engine.memory.free_memory", lambda: Limit(2 * 10**9, "the cgroup /job"))
    (plan,) = plan_tests(STORE, running(memory_limit=None), [spec_of()])
    assert (plan.limit, plan.limit_source) == (10**9, "50% of what the cgroup /job leaves")


def test_a_durable_run_keeps_its_cuts(tmp_path):
    spec, place = spec_of(threshold=0.5), Place.parse(tmp_path / "run")
    found = []
    for limit in ("8GB", "6GB"):  # whatever the tests before have left in this process
        with running(str(tmp_path / "run"), memory_limit=limit).opened(STORE, lambda: {"of": "this"}, 1) as run:
            assert run.durable
            found.append(run.test(spec, "x"))
            kept = place.read_bytes("plans/x.json")
            if len(found) == 1:
                first = kept
    assert kept == first
    np.testing.assert_array_equal(found[0].counts, found[1].counts)
    np.testing.assert_array_equal(found[0].max_size, found[1].max_size)


def test_a_plan_that_is_damaged_is_made_again_with_its_records(tmp_path, caplog):
    spec = spec_of()
    where = running(str(tmp_path / "run"))
    with where.opened(STORE, dict, 1) as run:
        before = run.test(spec, "x")
    file = tmp_path / "run" / "plans" / "x.json"
    file.write_text(file.read_text().replace('"batch": ', '"batch": 1'))
    with where.opened(STORE, dict, 1) as run:
        again = run.test(spec, "x")
    assert "is gone or damaged" in caplog.text
    np.testing.assert_array_equal(before.counts, again.counts)


def test_a_call_without_a_place_leaves_none(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with running().opened(STORE, dict, 1) as run:
        assert not run.durable
        run.test(spec_of(), "x")
    assert list(tmp_path.iterdir()) == []
