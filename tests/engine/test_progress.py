from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from numbaglm import permutation_test
from numbaglm.engine import progress
from numbaglm.engine.progress import Estimate, in_one_bar, in_words, one_bar
from numbaglm.engine.schedule import run_tasks


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_time_left_is_that_of_all_stages_at_the_pace_that_was_learnt():
    clock = Clock()
    one = Estimate(clock)
    one.expect(30.0)
    one.begin(total=4, seconds=10.0)
    assert one.left is None, "predictions are right in their proportions alone"
    clock.now = 10.0
    one.advance(2)  # twice as slow as predicted
    assert one.left == pytest.approx(10 + 2 * 20)
    assert one.share == pytest.approx(5 / 30)
    clock.now = 20.0
    one.advance(2)
    one.end()
    one.begin(total=1, seconds=20.0)
    assert one.left == pytest.approx(40)
    assert one.share == pytest.approx(1 / 3)
    clock.now = 60.0
    one.advance(1)
    assert (one.left, one.share) == (0.0, 0.99)


def test_of_stages_that_nobody_predicted_each_is_by_itself():
    clock = Clock()
    one = Estimate(clock)
    one.begin(10)
    clock.now = 3.0
    one.advance(6)
    assert (one.share, one.left) == pytest.approx((0.6, 2.0))
    one.end()
    one.begin(10)
    assert (one.share, one.left) == (0.0, None)


def test_what_prepares_takes_the_first_part_and_guesses_no_time():
    one = Estimate(Clock())
    one.preparing = True
    one.begin(10)
    one.advance(5)
    assert (one.share, one.left) == (0.1, None)
    one.end()
    one.preparing = False
    one.expect(10.0)
    one.begin(10, 10.0)
    one.advance(5)
    assert one.share == pytest.approx(0.1 + 0.9 / 2)


@pytest.fixture
def bars(monkeypatch):
    """All bars that are shown."""
    from tqdm import auto

    made = []

    class Bar(auto.tqdm):
        def __init__(self, **options):
            super().__init__(**options, file=io.StringIO())
            made.append(self)

    monkeypatch.setattr(auto, "tqdm", Bar)
    return made


def test_one_call_has_one_bar_whatever_its_stages(bars, as_cohort):
    Y = np.random.default_rng(0).normal(size=(8, 3000))
    mask = np.ones((10, 15, 20), bool)
    permutation_test(as_cohort(Y, mask), tfce=True, n_perm=400, progress=True)
    assert [(bar.total, round(bar.n)) for bar in bars] == [(100, 100)]
    with one_bar(True):
        for _ in range(2):
            permutation_test(as_cohort(Y[:, :20]), n_perm=20, progress=True)
    assert len(bars) == 2
    permutation_test(as_cohort(Y[:, :20]), n_perm=20)
    assert len(bars) == 2, "nobody asked for one"


def test_a_call_that_fails_leaves_its_bar_where_it_was(bars):
    @in_one_bar
    def call(progress=False):
        run_tasks(int, [("1",), ("2",)], label="reading", n_workers=1)
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        call(progress=True)
    assert [(bar.desc, round(bar.n)) for bar in bars] == [("Reading", 99)]
    assert progress._current.get() is None


def test_lines_and_the_outcome_have_room_beside_the_bar(bars):
    with one_bar(True) as bar:
        bar.begin("work", 2, 0.0)
        bar.advance(1)
        with progress.aside():
            pass
        progress.finish()
        bar.advance(1)
        with progress.aside():
            pass
    assert len(bars) == 1
    assert round(bars[0].n) == 100
    progress.finish()
    progress.expect(1.0)
    with progress.within(1.0), progress.preparing(), progress.aside():
        pass  # without a bar all of it does nothing


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (75.4, "75 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_read(seconds, text):
    assert in_words(seconds) == text


class FakeDisplay:
    """What a notebook shows, and in how many places."""

    def __init__(self):
        self.shown, self.places = [], 0

    def HTML(self, html):
        return html

    def display(self, html, display_id):
        assert display_id is True
        self.places += 1
        self.update(html)
        return self

    def update(self, html):
        self.shown.append(html)


def test_a_notebook_has_room_beneath_the_bar_and_nothing_else_has(monkeypatch):
    fake, shell = FakeDisplay(), type("Shell", (), {})()
    assert not progress.has_room()
    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: shell)}))
    monkeypatch.setitem(sys.modules, "IPython.display", fake)
    with one_bar():
        assert not progress.has_room(), "a terminal"
        progress.show("nothing")
        shell.kernel = object()
        assert progress.has_room()
        progress.show("one")
        progress.show("two")
    assert not progress.has_room()
    progress.show("nothing")
    with one_bar():
        progress.show("three")
    assert (fake.shown, fake.places) == (["one", "two", "three"], 2)


def test_steps_move_the_bar_whatever_is_begun_within(monkeypatch):
    with progress.steps("cohorts", 4) as done:
        done(1)
    with one_bar() as bar:
        monkeypatch.setattr(bar, "_closed", True)
        with progress.steps("cohorts", 4) as done:
            run_tasks(abs, [(1,)], label="within", progress=True)
            done(3)
            assert bar.estimate.share == 0.75
        assert progress.has_room() is False
