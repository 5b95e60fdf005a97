"""Maps a function over items in several processes, in order; no item can stop the others."""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")

Result = TypeVar("Result")

_ITEMS_IN_FLIGHT = 16  # a worker; results that are ready and wait for an earlier one are among them

_ITEMS_SENT = 2  # to a worker at once: the next one lies ready when it finishes one

_TRIES = 3  # of an item whose worker died, which may have been another's fault

_MOST_FAILED_STARTS = 5  # in a row

_THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

# A container's share of the processor: microseconds, of how many.
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Return the number of processor cores that this process, and its container, may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such limit
        quota, period = map(int, _CPU_MAX.read_text().split())
        cores = min(cores, max(1, -(-quota // period)))
    return cores


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    lost: Callable[[Item, str, str], Result],
    timeout_seconds: float | None = None,
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item, in order and with bounded memory.

    Processes are spawned, so that they hold nothing of what this one has loaded or which threads it
    runs, with one numerical thread each. With one worker and no time limit it runs in this process.

    Args:
        function: picklable; an exception that it raises ends the map.
        items: picklable.
        workers: processes.
        lost: gives the result for an item whose worker was stopped after `timeout_seconds` (item,
            "timeout", detail), or died three times over it (item, "crashed", detail). The worker is
            replaced.
        timeout_seconds: most time that an item may take; None: any.

    Raises:
        ValueError: if workers can't be started.
    """
    if workers == 1 and timeout_seconds is None:
        yield from map(function, items)
        return
    pool = _Pool(function, workers, lost, timeout_seconds)
    try:
        yield from pool.run(items)
    finally:
        pool.close()


class _Task(NamedTuple):
    """An item, its place among the items, and how often a worker died over it."""

    place: int
    item: Any
    tries: int = 0


class _Worker:
    """A process, and the tasks that were sent to it; it works on the first of them."""

    def __init__(self, function: Callable):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.tasks: collections.deque[_Task] = collections.deque()
        self.is_ready = False
        self.since = time.monotonic()
        with _one_thread_per_child():
            self.process.start()
        theirs.close()

    def send(self, task: _Task) -> None:
        """Give the worker one task more."""
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        with contextlib.suppress(OSError):  # it died; that is seen when its answer is read
            self.connection.send(task.item)

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Pool:
    """The workers of a map, and what is on its way; the arguments are those of `ordered_map`."""

    def __init__(
        self,
        function: Callable,
        workers: int,
        lost: Callable[[Any, str, str], Any],
        timeout_seconds: float | None,
    ):
        self._function = function
        self._lost = lost
        self._timeout = timeout_seconds
        self._workers = [_Worker(function) for _ in range(workers)]
        self._waiting: collections.deque[_Task] = collections.deque()  # of workers that are gone
        self._done: dict[int, Any] = {}
        self._failed_starts = 0

    def run(self, items: Iterable) -> Iterator:
        """Yield the results in the order of the items."""
        tasks = itertools.starmap(_Task, enumerate(items))
        started = 0
        for place in itertools.count():
            while place not in self._done:
                while started - place < len(self._workers) * _ITEMS_IN_FLIGHT or self._waiting:
                    worker = min(self._workers, key=lambda worker: len(worker.tasks))
                    if len(worker.tasks) >= _ITEMS_SENT:
                        break
                    task = self._waiting.popleft() if self._waiting else next(tasks, None)
                    if task is None:
                        break
                    started = max(started, task.place + 1)
                    worker.send(task)
                if place == started:  # nothing is left
                    return
                self._receive()
            yield self._done.pop(place)

    def _receive(self) -> None:
        """Wait until something happens: a result, a death, or a time limit."""
        now, limit = time.monotonic(), min(map(self._limit, self._workers))
        ready = wait(
            [worker.connection for worker in self._workers],
            None if limit == float("inf") else max(0.0, limit - now),
        )
        for index, worker in enumerate(self._workers):
            if worker.connection in ready:
                try:
                    self._take(worker, worker.connection.recv())
                except (EOFError, OSError):
                    self._replace(index, "crashed")
            elif time.monotonic() >= self._limit(worker):
                self._replace(index, "timeout")

    def _limit(self, worker: _Worker) -> float:
        """Return the time by which the worker's task must be done."""
        if self._timeout is None or not worker.tasks or not worker.is_ready:
            return float("inf")
        return worker.since + self._timeout

    def _take(self, worker: _Worker, answer: tuple[bool, Any] | None) -> None:
        """Note what a worker answered."""
        worker.since = time.monotonic()
        if answer is None:  # it has started
            worker.is_ready = True
            self._failed_starts = 0
            return
        succeeded, value = answer
        if not succeeded:
            raise value
        self._done[worker.tasks.popleft().place] = value

    def _replace(self, index: int, kind: str) -> None:
        """Start another process for a worker that died or was too slow, and settle its task."""
        worker = self._workers[index]
        if kind == "crashed":
            worker.process.join(1)  # for its own exit code
        worker.stop()
        code = worker.process.exitcode or 0
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts == _MOST_FAILED_STARTS:
                raise ValueError(
                    f"worker processes end before they begin to work (exit code {code})"
                )
        if worker.tasks and worker.is_ready:
            task = worker.tasks.popleft()
            end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            if kind == "timeout":
                detail = f"took more than {self._timeout:g} s"
                self._done[task.place] = self._lost(task.item, kind, detail)
            elif task.tries + 1 < _TRIES:
                self._waiting.append(task._replace(tries=task.tries + 1))
            else:
                detail = f"its worker process {end}, {_TRIES} times"
                self._done[task.place] = self._lost(task.item, kind, detail)
        self._waiting.extend(worker.tasks)
        self._workers[index] = _Worker(self._function)

    def close(self) -> None:
        """Stop all workers."""
        for worker in self._workers:
            worker.stop()


def _work(connection: Connection, function: Callable) -> None:
    """Answer (True, result) or (False, exception) to each item, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):  # the parent is gone
        connection.send(None)
        while True:
            item = connection.recv()
            try:
                answer = True, function(item)
            except Exception as error:
                answer = False, error
            connection.send(answer)


def _exit_with_parent() -> None:
    """Wait for the parent's end, and end."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _one_thread_per_child() -> Iterator[None]:
    """Keep NumPy in each of several processes from starting a thread for every core."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
