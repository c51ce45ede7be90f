import itertools
import threading
import time

import pytest

from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import InputError


def square_maker():
    return lambda number: number * number


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(workers):
    def make_worker():
        def slow_first(number):
            time.sleep(0.02 if number % 3 == 0 else 0)
            return number * 10

        return slow_first

    results = list(LocalEngine(workers).map(make_worker, range(12)))
    assert [result.index for result in results] == list(range(12))
    assert [result.value for result in results] == [number * 10 for number in range(12)]


@pytest.mark.parametrize("workers", [1, 3])
def test_one_failing_task_stops_no_other(workers):
    def make_worker():
        return lambda number: 12 // number

    results = list(LocalEngine(workers).map(make_worker, [3, 0, 4]))
    assert [result.value for result in results] == [4, None, 3]
    assert isinstance(results[1].error, ZeroDivisionError)
    assert results[0].error is None


@pytest.mark.parametrize("workers", [1, 3])
def test_no_tasks_make_no_worker(workers):
    def make_worker():
        raise RuntimeError("must not be called")

    assert list(LocalEngine(workers).map(make_worker, [])) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_cannot_be_made_is_an_error_of_the_whole_run(workers):
    def make_worker():
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model"):
        list(LocalEngine(workers).map(make_worker, [1, 2]))


@pytest.mark.parametrize("workers", [1, 3])
def test_tasks_may_be_endless_and_are_taken_only_a_little_ahead(workers):
    taken = []

    def tasks():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = LocalEngine(workers).map(square_maker, tasks())
    assert [next(results).value for _ in range(4)] == [0, 1, 4, 9]
    results.close()
    assert len(taken) <= 4 + 2 * workers
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("ehmfaces-worker") for thread in threading.enumerate()
    )


def test_a_worker_is_never_used_by_two_threads_at_a_time():
    made = []

    class Worker:
        def __init__(self):
            made.append(self)
            self.busy = False

        def __call__(self, number):
            assert not self.busy
            self.busy = True
            time.sleep(0.001)
            self.busy = False
            return number

    results = list(LocalEngine(3).map(Worker, range(40)))
    assert [result.error for result in results] == [None] * 40
    assert len(made) == 3


def test_no_more_workers_than_tasks():
    made = []

    def make_worker():
        made.append(1)
        return str

    assert len(list(LocalEngine(8).map(make_worker, [1, 2]))) == 2
    assert len(made) == 2


@pytest.mark.parametrize("workers", [0, -1, 1000])
def test_an_impossible_number_of_workers_is_refused(workers):
    with pytest.raises(InputError, match="from 1 to 256"):
        LocalEngine(workers)
