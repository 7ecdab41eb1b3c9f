import atexit
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from distributed import Client, get_client
from threadpoolctl import threadpool_info

from numbaglm.engine import schedule
from numbaglm.engine.schedule import active_client, run_tasks
from numbaglm.errors import ThreadsError


def square(number):
    return number**2


def slow_when_small(number):
    time.sleep(0.02 / (1 + number))
    return number


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("n_workers", [1, 2, 5, None])
def test_results_come_in_the_order_of_the_arguments(n_workers):
    arguments = [(number,) for number in range(8)]
    assert run_tasks(slow_when_small, arguments, label="", n_workers=n_workers) == list(range(8))


def test_nothing_to_do():
    assert run_tasks(square, [], label="") == []


def test_each_result_is_told_as_it_comes():
    told = {}
    run_tasks(square, [(n,) for n in range(5)], label="", on_result=told.__setitem__)
    assert told == {n: n**2 for n in range(5)}


def test_the_caller_hears_in_its_own_thread():
    threads = []
    run_tasks(square, [(1,), (2,)], label="", on_result=lambda *_: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()] * 2


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("stop")])
def test_the_first_error_is_raised_when_the_tasks_beside_it_have_ended(error):
    running, both = [], threading.Barrier(2, timeout=10)

    def task(number):
        if number < 2:
            both.wait()
        if number == 0:
            raise error
        running.append(number)
        time.sleep(0.05)
        running.remove(number)

    with pytest.raises(type(error)) as caught:
        run_tasks(task, [(number,) for number in range(50)], label="", n_workers=2)
    assert caught.value is error
    assert running == []


def test_tasks_that_have_not_begun_are_not_run_after_an_error():
    begun = []

    def task(number):
        begun.append(number)
        raise ValueError

    with pytest.raises(ValueError):
        run_tasks(task, [(number,) for number in range(50)], label="", n_workers=1)
    assert len(begun) == 1


def test_an_error_of_the_listener_stops_everything():
    begun, ended = [], []

    def task(number):
        begun.append(number)
        time.sleep(0.01)
        ended.append(number)

    def listen(index, result):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_tasks(task, [(number,) for number in range(100)], label="", n_workers=2, on_result=listen)
    assert begun == ended or sorted(begun) == sorted(ended)
    assert len(begun) < 100


def test_blas_is_held_to_one_thread_while_tasks_run_and_released_after():
    before = blas_threads()
    assert run_tasks(blas_threads, [()], label="") == [{1}]
    assert blas_threads() == before


def test_calls_that_overlap_leave_blas_as_it_was():
    before = blas_threads()
    first, second = (schedule.single_threaded_blas() for _ in range(2))
    with ThreadPoolExecutor(2) as pool:  # one begins, the other begins, the one ends, the other ends
        for call in (first.__enter__, second.__enter__):
            pool.submit(call).result()
        assert blas_threads() == {1}
        for call in (first.__exit__, second.__exit__):
            assert blas_threads() == {1}
            pool.submit(call, None, None, None).result()
    assert blas_threads() == before


def test_a_call_leaves_no_thread_and_nothing_to_do_at_the_end():
    run_tasks(square, [(1,)], label="work", n_workers=2)
    before = threading.active_count(), atexit._ncallbacks()
    for _ in range(3):
        run_tasks(square, [(1,), (2,)], label="work", n_workers=2)
    assert (threading.active_count(), atexit._ncallbacks()) == before


def squares(numbers, given):
    """A call within a task of a worker."""
    client = get_client() if given else active_client(None)
    return client is None, run_tasks(square, [(n,) for n in numbers], label="work", client=client)


@pytest.mark.parametrize("given", [False, True])
def test_a_call_in_a_task_does_not_wait_for_its_own_thread(given):
    """One thread, which the calls hold: by themselves they use threads; a client that they are given gets it."""
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
        found = client.gather([client.submit(squares, [k, 3], given) for k in range(3)])
    assert found == [(not given, [k**2, 9]) for k in range(3)]


def test_progress_counts_the_weights(monkeypatch):
    from tqdm import auto

    bars = []

    class Bar(auto.tqdm):
        def __init__(self, **options):
            super().__init__(**options, file=io.StringIO())
            bars.append(self)

    monkeypatch.setattr(auto, "tqdm", Bar)
    run_tasks(square, [(1,), (2,), (3,)], label="work", weights=[5, 1, 4], progress=True)
    run_tasks(square, [(1,)], label="work")
    assert [(bar.total, bar.n, bar.desc) for bar in bars] == [(100, 100, "Work")]


def test_there_is_no_client_unless_one_is_given():
    assert active_client(None) is None
    client = object()
    assert active_client(client) is client


class FakeClient:
    """A client whose cluster has the workers that it is told of."""

    status = "running"
    scheduler = SimpleNamespace(address="tcp://127.0.0.1:8786")

    def __init__(self, *workers):
        self.workers = workers

    def nthreads(self):
        return dict.fromkeys(self.workers, 2)


def test_a_call_that_waits_for_workers_says_so_once_and_when_they_are_back(caplog):
    client = FakeClient()
    watch = schedule._Workers(client)
    for _ in range(3):
        watch.look()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("The Dask scheduler tcp://127.0.0.1:8786 has no workers: the call waits for some.")
    client.workers = ("tcp://127.0.0.1:1",)
    watch.look()
    watch.look()
    assert [record.getMessage() for record in caplog.records][1:] == ["There are workers again: the call goes on."]


@pytest.mark.parametrize(
    ("workers", "elsewhere"),
    [
        (["tcp://127.0.0.1:1", "inproc://10.9.8.7/1/2"], False),
        (["tls://[::1]:1"], False),
        (["tcp://127.0.0.1:1", "tcp://192.0.2.7:1"], True),
        ([], True),
    ],
)
def test_workers_of_other_machines_are_known_by_their_addresses(monkeypatch, workers, elsewhere):
    there = {"lo": [SimpleNamespace(address="127.0.0.1"), SimpleNamespace(address="::1%lo")]}
    monkeypatch.setattr("psutil.net_if_addrs", lambda: there)
    assert schedule.workers_elsewhere(FakeClient(*workers)) is elsewhere


def test_a_limit_of_threads_is_named(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ThreadsError, match=r"starts no more threads.*ulimit -u.*n_workers"):
        run_tasks(square, [(1,)], label="work")
