import itertools
import operator
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from tfrecord_tools import parallel


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order(workers):
    assert list(parallel.ordered_map(operator.neg, range(100), workers)) == [-i for i in range(100)]
    assert list(parallel.ordered_map(operator.neg, [], workers)) == []


def test_few_items_are_in_flight():
    items = itertools.count()
    results = parallel.ordered_map(operator.neg, items, 2)
    assert [next(results) for _ in range(10)] == [-i for i in range(10)]
    results.close()
    assert next(items) <= 10 + 2 * 8


def test_workers_have_one_numerical_thread_and_this_process_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"]
    assert list(parallel.ordered_map(os.getenv, names, 2)) == ["1", "1"]
    assert [os.getenv(name) for name in names] == ["7", None]


def test_an_error_of_the_function_is_raised():
    with pytest.raises(TypeError):
        list(parallel.ordered_map(operator.neg, ["text"], 2))


def test_a_dead_worker_is_an_error():
    with pytest.raises(BrokenProcessPool):
        list(parallel.ordered_map(os._exit, [1], 2))


def test_available_cores():
    assert 1 <= parallel.available_cores() <= os.cpu_count()
