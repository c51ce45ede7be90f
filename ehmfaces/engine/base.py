"""What every way of running many tasks promises.

Owns the protocol and the record of a result. Knows nothing of faces, files or where the work is done.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ehmfaces.errors import EngineError, MissingExtraError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TaskResult(Generic[Result]):
    """What became of one task: either `value`, or the `error` that its worker raised."""

    index: int
    value: Result | None = None
    error: Exception | None = None


class BatchEngine(Protocol):
    """Runs tasks on workers that are dear to make, such as a model in memory."""

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[TaskResult[Result]]:
        """Yield one result for each task, in the order of the tasks.

        An exception of a task is carried in its result and stops no other task. An exception of
        `make_worker` is raised. Closing the iterator stops the work: tasks that have begun are
        finished, the others are dropped. Tasks are taken only a little ahead of the results.

        Args:
            make_worker: Called once for each worker; a worker is never used by two threads at a time.
            tasks: May be endless.
        """
        ...  # pragma: no cover


def portable(error: Exception) -> Exception:
    """Return an error that can travel between processes: a plain one as it is, others as their sentence."""
    is_known = type(error).__module__ in ("builtins", "ehmfaces.errors")
    is_plain = all(isinstance(value, str | int) for value in error.args)
    if is_known and is_plain and not isinstance(error, MissingExtraError):
        return error.with_traceback(None)
    return EngineError((str(error) or type(error).__name__)[:500])
