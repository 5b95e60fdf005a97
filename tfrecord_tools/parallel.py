"""A function over many items in several processes, in order and with bounded memory."""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_IN_FLIGHT = 8  # a worker; results that are ready and wait for an earlier one are among them
_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def available_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yields `function(item)` for each item, in order.

    With one worker it runs in this process. Otherwise `function` must be picklable; processes are spawned, so that they
    hold nothing of what this one has loaded or which threads it runs, with one numerical thread each.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if a worker process dies.
    """
    if workers == 1:
        yield from map(function, items)
        return
    items = iter(items)
    context = multiprocessing.get_context("spawn")
    with _one_thread_per_child():
        pool = ProcessPoolExecutor(workers, context, _start_worker)
        try:
            futures = collections.deque(
                pool.submit(function, item) for item in itertools.islice(items, workers * _ITEMS_IN_FLIGHT)
            )
            while futures:
                yield futures.popleft().result()
                futures.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends this process when the parent is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread_per_child() -> Iterator[None]:
    """NumPy in each of several processes would otherwise start a thread for every core."""
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
