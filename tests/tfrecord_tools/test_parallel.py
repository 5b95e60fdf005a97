import itertools
import operator
import os
import signal
import time

import pytest

from tfrecord_tools import parallel


def lost(item, kind, detail):
    return item, kind, detail


def run(function, items, workers=2, **options) -> list:
    return list(parallel.ordered_map(function, items, workers, lost, **options))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("timeout_seconds", [None, 60])
def test_results_are_in_order(workers, timeout_seconds):
    options = {"workers": workers, "timeout_seconds": timeout_seconds}
    assert run(operator.neg, range(100), **options) == [-i for i in range(100)]
    assert run(operator.neg, [], **options) == []


def test_few_items_are_in_flight():
    items = itertools.count()
    results = parallel.ordered_map(operator.neg, items, 2, lost)
    assert [next(results) for _ in range(10)] == [-i for i in range(10)]
    results.close()
    assert next(items) <= 10 + 2 * 16


def test_workers_have_one_numerical_thread_and_this_process_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    assert run(os.getenv, names) == ["1", "1"]
    assert [os.getenv(name) for name in names] == ["7", None]


def test_an_error_of_the_function_is_raised():
    with pytest.raises(TypeError):
        run(operator.neg, ["text"])


def exit_at_3(item: int) -> int:
    return os._exit(9) if item == 3 else -item


def test_an_item_that_ends_its_worker_is_lost_and_no_other():
    expected = [-i for i in range(20)]
    expected[3] = (3, "crashed", "its worker process ended with exit code 9, 3 times")
    assert run(exit_at_3, range(20)) == expected


def kill_itself_once(path: str) -> str:
    """Kill this process, as the system does when memory runs out, through no fault of the item."""
    if not os.path.exists(f"{path}.tried"):
        os.mkdir(f"{path}.tried")
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def test_items_of_a_worker_that_is_killed_are_tried_again(tmp_path):
    paths = [str(tmp_path / str(index)) for index in range(10)]
    assert run(kill_itself_once, paths) == paths


def hang_at_3(item: int) -> int:
    while item == 3:
        time.sleep(1)
    return -item


@pytest.mark.parametrize("workers", [1, 2])
def test_an_item_that_hangs_is_lost_and_no_other(workers):
    expected = [-i for i in range(10)]
    expected[3] = (3, "timeout", "took more than 0.5 s")
    assert run(hang_at_3, range(10), workers, timeout_seconds=0.5) == expected


class NotForWorkers:
    """A function that can't be loaded in another process."""

    def __call__(self, item):
        return item

    def __reduce__(self):
        return os._exit, (5,)


def test_workers_that_can_t_start_are_an_error():
    with pytest.raises(
        ValueError, match=r"worker processes end before they begin to work \(exit code 5\)"
    ):
        run(NotForWorkers(), range(10))


def test_available_cores():
    assert 1 <= parallel.available_cores() <= os.cpu_count()


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1)]
)
def test_a_container_s_limit_counts(monkeypatch, tmp_path, limit, cores):
    monkeypatch.setattr(parallel, "_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert parallel.available_cores() == 8
    (tmp_path / "cpu.max").write_text(limit)
    assert parallel.available_cores() == cores
