"""Runs tasks in this process, one after another or on a few threads.

Owns threads, their workers and the look-ahead. Knows nothing of faces or files.
"""

import itertools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ehmfaces.engine.base import Result, Task, TaskResult
from ehmfaces.errors import InputError


class LocalEngine:
    """A BatchEngine on threads of this process.

    With one worker everything runs in the thread of the caller. With more, at most
    `2 * workers` tasks have begun or are waiting to be handed over, so that memory stays flat.
    """

    def __init__(self, workers: int = 1) -> None:
        """Choose how many workers there are, each with its own thread and memory."""
        if not 1 <= workers <= 256:
            raise InputError(f"{workers} workers are not possible. Give a number from 1 to 256.")
        self.workers = workers

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[TaskResult[Result]]:
        """Yield one result for each task, in the order of the tasks (see BatchEngine)."""
        if self.workers == 1:
            return _map_here(make_worker, tasks)
        return _map_threads(make_worker, tasks, self.workers)


def _map_here(
    make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
) -> Iterator[TaskResult[Result]]:
    worker = None
    for index, task in enumerate(tasks):
        worker = worker or make_worker()
        yield _run(worker, index, task)


def _map_threads(
    make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task], workers: int
) -> Iterator[TaskResult[Result]]:
    numbered = enumerate(tasks)
    first = list(itertools.islice(numbered, workers))
    if not first:
        return
    idle: queue.SimpleQueue[Callable[[Task], Result]] = queue.SimpleQueue()
    for _ in first:
        idle.put(make_worker())

    def run_on_idle_worker(index: int, task: Task) -> TaskResult[Result]:
        worker = idle.get()
        try:
            return _run(worker, index, task)
        finally:
            idle.put(worker)

    pool = ThreadPoolExecutor(len(first), thread_name_prefix="ehmfaces-worker")
    waiting: deque[Future[TaskResult[Result]]] = deque()
    try:
        for index, task in itertools.chain(first, numbered):
            waiting.append(pool.submit(run_on_idle_worker, index, task))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _run(worker: Callable[[Task], Result], index: int, task: Task) -> TaskResult[Result]:
    try:
        return TaskResult(index, worker(task))
    except Exception as error:  # every kind: one bad task must not stop the others
        return TaskResult(index, error=error)
