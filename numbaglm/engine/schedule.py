"""The one user of Dask: independent tasks on threads or on a cluster, with progress."""

from __future__ import annotations

import logging
import pickle
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from threadpoolctl import ThreadpoolController

from numbaglm.engine.memory import n_cores
from numbaglm.engine.progress import one_bar
from numbaglm.errors import InputError, StoreError, ThreadsError, invalid, term

log = logging.getLogger("numbaglm")


def active_client(client: Any | None) -> Any | None:
    """The client given, or the `distributed` client that is active, or None for threads.

    In a task of a worker none is active: its tasks would wait for the thread that waits for them.
    """
    if client is not None or "distributed" not in sys.modules:  # who has a client has loaded it
        return client
    from distributed import default_client

    if _in_task():
        return None
    try:
        return default_client()
    except ValueError:
        return None


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a running Dask scheduler, for the length of a with block.

    Raises
    ------
    InputError
        Nothing answers at the address within 10 seconds, or it is no address.
    """
    from distributed import Client

    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        fix = "Start one with 'dask scheduler', and workers with 'dask worker ADDRESS'."
        raise InputError(
            invalid("scheduler", address, f"the address of a running Dask scheduler ({error})", fix)
        ) from error
    try:
        yield client
    finally:
        client.close()


def checkpoint() -> None:
    """Give up this task if its run has ended: long tasks call it between steps."""
    stop = getattr(_task, "stop", None)
    if stop is not None and stop.is_set():
        raise _Stopped


class _Stopped(BaseException):
    """The run that a task belongs to has ended, by an error or by the user."""


_task = threading.local()


def run_tasks(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    *,
    label: str,
    weights: Sequence[int] | None = None,
    seconds: float = 0.0,
    client: Any | None = None,
    n_workers: int | None = None,
    progress: bool = False,
    on_result: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Call ``function(*arguments[i])`` for every i, in parallel, and return the results in order.

    Parameters
    ----------
    function
        What to run. It must be importable by name where a cluster's workers are to run it, and must release
        the GIL to gain from threads.
    arguments
        One tuple of arguments a task.
    label, weights, seconds, progress
        Of the bar of the call (`numbaglm.engine.progress`): what the stage is called, how much each task is worth, how
        long it was predicted to take, and whether to show a bar where no caller does.
    client
        A `distributed` client; None runs on Dask's threads.
    n_workers
        Threads to use without a client; all cores by default.
    on_result
        Called in this process as ``on_result(i, result)`` as each task ends.

    Raises
    ------
    StoreError
        Workers or their scheduler were lost for good.
    ThreadsError
        The system starts no more threads.
    Whatever the first failing task raised; tasks that have not begun are then not run.
    """
    weights = [1] * len(arguments) if weights is None else list(weights)
    results: list[Any] = [None] * len(arguments)
    with one_bar(progress) as bar:
        if bar is not None:
            bar.begin(label, max(1, sum(weights)), seconds)
        runner = _on_threads(n_workers) if client is None else _on_cluster(client)
        for index, result in runner(function, arguments):
            results[index] = result
            if on_result is not None:
                on_result(index, result)
            if bar is not None:
                bar.advance(weights[index])
        if bar is not None:
            bar.end()
    return results


def tasks_at_once(client: Any | None, n_workers: int | None) -> int:
    """How many tasks run at once, as far as is known now."""
    return n_workers or n_cores() if client is None else sum(client.nthreads().values())


class _OneThread:
    """BLAS at one thread as long as anybody wants it so: the number of its threads is the whole process's.

    Of calls that overlap, the first sets it, and the last to end gives back what the first had found.
    """

    def __init__(self) -> None:
        self._lock, self._n, self._limits = threading.Lock(), 0, ExitStack()
        self._found: tuple[int, ThreadpoolController] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._n == 0:
                self._limits.enter_context(self._controller().limit(limits=1, user_api="blas"))
            self._n += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n -= 1
            if self._n == 0:
                self._limits.close()

    def _controller(self) -> ThreadpoolController:
        """Of the libraries that are loaded. To look for them takes 1 ms: it is done anew when a module came since."""
        n_modules = len(sys.modules)
        if self._found is None or self._found[0] != n_modules:
            self._found = n_modules, ThreadpoolController()
        return self._found[1]


_one_thread = _OneThread()


def single_threaded_blas() -> AbstractContextManager[None]:
    """Hold BLAS to one thread: the parallelism is ours, over tasks."""
    return _one_thread


Runner = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[tuple[int, Any]]]


def _on_threads(n_workers: int | None) -> Runner:
    def run(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        from dask.threaded import get

        done: queue.SimpleQueue[tuple[int, Any] | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()

        def one(index: int) -> None:
            if stop.is_set():
                return
            _task.stop = stop
            try:
                done.put((index, function(*arguments[index])))
            except _Stopped:
                return
            except BaseException as error:  # told to the caller, once the tasks beside it have ended
                stop.set()
                done.put(error)

        def drive() -> None:
            try:
                # A graph as it is: to make, and to optimise, delayed ones takes 4 ms, which small calls feel.
                tasks = {f"task-{index}": (partial(one, index),) for index in range(len(arguments))}
                # Dask would keep a pool of its own for each thread that calls, and what ends it until Python ends.
                with ThreadPoolExecutor(n_workers or n_cores()) as pool:
                    try:
                        get(tasks, list(tasks), pool=pool)
                    except BaseException:
                        stop.set()  # the pool ends when its tasks have
                        raise
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)

        with single_threaded_blas():
            driver = threading.Thread(target=drive, name="numbaglm-tasks", daemon=True)
            try:
                with _telling_of_threads():
                    driver.start()
                while (item := done.get()) is not None:
                    if isinstance(item, BaseException):
                        with _telling_of_threads():
                            raise item
                    yield item
            finally:
                stop.set()
                if driver.is_alive():  # not where it could not start, or an interrupt met it as it did
                    driver.join()

    return run


@contextmanager
def _telling_of_threads() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if str(error) != _NO_THREAD:
            raise
        raise ThreadsError(
            "The system starts no more threads: the limit of this user, container or batch job is reached (ulimit -u, "
            f"or pids.max of its cgroup). Use fewer with {term('n_workers')}, end other programs, or have it raised."
        ) from error


_NO_THREAD = "can't start new thread"
"""What Python says where the system starts no more of them."""


def _in_task() -> bool:
    """Whether this is called by a task on a Dask worker."""
    if "distributed.worker" not in sys.modules:
        return False
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


@contextmanager
def _seceded() -> Iterator[None]:
    """Leave the threads of a worker to others while a task on it waits for tasks."""
    from distributed import rejoin, secede
    from distributed.threadpoolexecutor import thread_state

    if not _in_task() or not getattr(thread_state, "proceed", False):  # it has left them already
        yield
        return
    secede()
    try:
        yield
    finally:
        rejoin()


def _call_on_worker(task: bytes) -> Any:
    with single_threaded_blas():
        function, arguments = pickle.loads(task)
        return function(*arguments)


def _on_cluster(client: Any) -> Runner:
    def run(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # An argument that can't be unpickled is then the task's error: a worker that met it earlier would hang.
        tasks = [pickle.dumps((function, some)) for some in arguments]
        futures = [client.submit(_call_on_worker, task, pure=False) for task in tasks]
        number = {future.key: index for index, future in enumerate(futures)}
        workers = _Workers(client)
        try:
            for future in futures:
                future.add_done_callback(done.put)
            with _seceded():
                while number:
                    try:
                        future = done.get(timeout=_LISTEN)
                    except queue.Empty:
                        _require_scheduler(client)
                        workers.look()
                    else:
                        yield number.pop(future.key), _result(client, future)
        finally:
            if client.status == "running":
                client.cancel(futures)

    return run


_LISTEN = 1.0  # seconds between looks at whether the scheduler is there
_REPEAT = "What is done is kept where a store was named: repeat the call to go on."


class _Workers:
    """Tells once when a call waits for workers, and when there are some again."""

    def __init__(self, client: Any) -> None:
        self.client, self.alone = client, False

    def look(self) -> None:
        """See whether there are workers."""
        try:
            alone = not self.client.nthreads()
        except (OSError, TimeoutError, CancelledError):  # whether the scheduler is lost, the next look tells
            return
        if alone and not self.alone:
            log.warning(
                "The Dask scheduler %s has no workers: the call waits for some. Start them, with 'dask worker ADDRESS' "
                "or cluster.scale(), or end it. %s",
                self.client.scheduler.address,
                _REPEAT,
            )
        elif self.alone and not alone:
            log.warning("There are workers again: the call goes on.")
        self.alone = alone


def workers_elsewhere(client: Any) -> bool:
    """Whether workers may be on other machines than this process, and so see none of its folders."""
    import psutil

    here = {one.address.partition("%")[0] for some in psutil.net_if_addrs().values() for one in some} | {"localhost"}
    workers = list(client.nthreads())
    hosts = {urlsplit(address).hostname for address in workers if not address.startswith("inproc://")}
    return not workers or not hosts <= here


def _result(client: Any, future: Any) -> Any:
    from distributed.scheduler import KilledWorker

    if future.status == "error":
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise StoreError(
                f"Workers died over and over at the same task ({error.last_worker.address} the last): most often "
                f"they have too little memory. Set {term('memory_limit')} to what one may take. {_REPEAT}"
            ) from error
        raise error
    if future.status != "finished":
        raise StoreError(_scheduler_lost(client))
    try:
        return future.result(timeout=60)
    except (OSError, TimeoutError, CancelledError) as error:  # a task's own errors came with the status
        raise StoreError(_scheduler_lost(client)) from error


def _require_scheduler(client: Any) -> None:
    if client.status not in ("running", "connecting"):
        raise StoreError(_scheduler_lost(client))


def _scheduler_lost(client: Any) -> str:
    return f"The Dask scheduler was lost, or the client was closed (its status: {client.status}). {_REPEAT}"
