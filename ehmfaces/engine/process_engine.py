"""Runs tasks on processes of this machine: Python itself then uses every core.

Owns the processes and what happens when one dies. Knows nothing of faces or files. `make_worker` travels to
each process and is called there, so it should be small: settings and a model's name rather than a model.

Not covered: a dead process ends the run (what is done is done; starting the run again goes on from there).
"""

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ehmfaces.engine.base import Result, Task, TaskResult, portable
from ehmfaces.errors import EngineError, InputError

_AHEAD = 4  # tasks handed over for each process before the oldest result is there

_make_worker: Callable[[], Callable[[Any], Any]] | None = None  # one per process
_worker: Callable[[Any], Any] | None = None


class ProcessEngine:
    """A BatchEngine on processes of this machine, each with its own worker and memory."""

    def __init__(self, workers: int = 2) -> None:
        """Choose how many processes there are; nothing is started yet."""
        if not 1 <= workers <= 256:
            raise InputError(f"{workers} workers are not possible. Give a number from 1 to 256.")
        self.workers = workers

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[TaskResult[Result]]:
        """Yield one result for each task, in the order of the tasks (see BatchEngine).

        Raises:
            EngineError: A process was ended from outside, as when memory runs out.
        """
        return self._map(make_worker, enumerate(tasks))

    def _map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterator[tuple[int, Task]]
    ) -> Generator[TaskResult[Result], None, None]:
        first = list(itertools.islice(tasks, self.workers))
        if not first:
            return
        context = multiprocessing.get_context("spawn")  # threads of torch do not survive a fork
        pool = ProcessPoolExecutor(len(first), context, _start, (make_worker,))
        waiting: deque[tuple[int, Future[tuple[str, Any]]]] = deque()
        try:
            for index, task in itertools.chain(first, tasks):
                waiting.append((index, pool.submit(_run, task)))
                if len(waiting) >= _AHEAD * self.workers:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        except BrokenProcessPool as error:
            raise EngineError(
                "A worker process was ended from outside, perhaps because memory ran out. What is done is "
                "kept: run the same command again, with fewer workers if it happens again."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start(make_worker: Callable[[], Callable[[Any], Any]]) -> None:
    global _make_worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _make_worker = make_worker


def _end_with_parent() -> None:
    """Leave no process behind when the one that waits for it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _run(task: Any) -> tuple[str, Any]:
    """Return ("done", value), ("failed", error) or ("no worker", error)."""
    global _worker
    assert _make_worker is not None
    try:
        _worker = _worker or _make_worker()
    except Exception as error:  # of every kind: the caller raises it
        return "no worker", portable(error)
    try:
        return "done", _worker(task)
    except Exception as error:  # of every kind: one bad task must not stop the others
        return "failed", portable(error)


def _result(index: int, future: Future[tuple[str, Any]]) -> TaskResult[Any]:
    kind, value = future.result()
    if kind == "no worker":
        raise value
    return TaskResult(index, value) if kind == "done" else TaskResult(index, error=value)
