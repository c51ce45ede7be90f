"""Runs tasks on actors of a Ray cluster, or of a Ray that is started here.

Owns the actors, their share of the machines, what happens when one dies, and the watchdog. The only file
that imports ray. Knows nothing of faces or files.

`make_worker` travels to each actor and is called there, so it should be small: settings and a model's name
rather than a model. A dead actor is replaced and its task runs again; a task that kills three actors is an
error of that task. When nothing comes back for a while, the run ends with a sentence instead of waiting
for ever.

Not covered: results must fit the memory of the caller one by one, and the machine of the caller is a
single point of failure (a stopped run is continued by starting it again).
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

from ehmfaces.engine.base import Result, Task, TaskResult, portable
from ehmfaces.errors import EngineError, InputError, MissingExtraError

DEFAULT_QUIET_SEC = 300.0
_DEATHS_OF_A_TASK = 3
_DEATHS_BEFORE_A_RESULT = 5
_AHEAD = 4  # tasks begun for each worker before the oldest result is there
_CPU_SHARE = 0.9  # of all; the rest is for Ray itself, so that no actor waits for a place for ever
_OBJECT_STORE_BYTES = 200 * 2**20  # of a Ray that is started here; Ray's default is 30 % of the memory


class RayEngine:
    """A BatchEngine on Ray actors, each with its own process, worker and memory."""

    def __init__(
        self,
        workers: int = 2,
        *,
        address: str | None = None,
        cpus_per_worker: float | None = None,
        gpus_per_worker: float = 0.0,
        quiet_sec: float = DEFAULT_QUIET_SEC,
    ) -> None:
        """Choose workers; nothing is started yet.

        Args:
            workers: Number of actors.
            address: Of a cluster, like "auto" on one of its machines; None = start Ray here.
            cpus_per_worker: Cores that an actor reserves; None = an equal share of nine tenths of all
                cores, at most 1. It is a reservation only, not a limit.
            gpus_per_worker: Fraction of a GPU that an actor reserves; 0.5 puts two on each.
            quiet_sec: Without any result for so long, the run is an error.

        Raises:
            InputError: A number is impossible.
            MissingExtraError: Ray is not installed.
        """
        if not 1 <= workers <= 10_000:
            raise InputError(f"{workers} workers are not possible. Give a number from 1 to 10000.")
        if gpus_per_worker < 0 or (cpus_per_worker is not None and cpus_per_worker < 0) or quiet_sec <= 0:
            raise InputError("Cores, GPUs and seconds cannot be negative. Leave them out for the usual ones.")
        if gpus_per_worker > 1 and gpus_per_worker != int(gpus_per_worker):
            raise InputError(f"{gpus_per_worker} GPUs a worker: above 1 only whole numbers are possible.")
        if find_spec("ray") is None:
            raise MissingExtraError("ray", "The Ray engine")
        self.workers = workers
        self.address = address
        self.cpus_per_worker = cpus_per_worker
        self.gpus_per_worker = gpus_per_worker
        self.quiet_sec = quiet_sec

    def map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task]
    ) -> Iterator[TaskResult[Result]]:
        """Yield one result for each task, in the order of the tasks (see BatchEngine).

        Raises:
            EngineError: No cluster, not enough room for the workers, or nothing comes back.
        """
        return self._map(make_worker, iter(tasks))

    def _map(
        self, make_worker: Callable[[], Callable[[Task], Result]], tasks: Iterator[Task]
    ) -> Generator[TaskResult[Result], None, None]:
        numbered = enumerate(tasks)
        first = next(numbered, None)
        if first is None:
            return
        is_ours = _connect(self.address)
        crew = None
        try:
            crew = _Crew(make_worker, self.workers, self._resources(), self.quiet_sec)
            yield from crew.run(_chain(first, numbered))
        finally:
            if crew is not None:
                crew.dismiss()
            if is_ours:
                import ray

                ray.shutdown()

    def _resources(self) -> dict[str, float]:
        """Return what each actor reserves, after checking that all of them find room."""
        import ray

        present = ray.cluster_resources()
        cores, gpus = present.get("CPU", 0.0), present.get("GPU", 0.0)
        share = self.cpus_per_worker
        if share is None:
            share = int(min(1.0, _CPU_SHARE * cores / self.workers) * 100) / 100
        needed = (self.workers * share, self.workers * self.gpus_per_worker)
        if needed[0] > cores or needed[1] > gpus:
            raise EngineError(
                f"{self.workers} workers with {share:g} cores and {self.gpus_per_worker:g} GPUs each need "
                f"{needed[0]:g} cores and {needed[1]:g} GPUs; the cluster has {cores:g} and {gpus:g}. Ask "
                "for fewer workers or smaller shares: waiting would never end."
            )
        return {"num_cpus": share, "num_gpus": self.gpus_per_worker}


def _chain(first: tuple[int, Task], rest: Iterator[tuple[int, Task]]) -> Iterator[tuple[int, Task]]:
    yield first
    yield from rest


def _connect(address: str | None) -> bool:
    """Connect to Ray; returns whether it has to be shut down afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        where = f'The Ray cluster "{address}" cannot be reached' if address else "Ray cannot be started here"
        raise EngineError(
            f"{where} ({str(error).splitlines()[0][:120]}). On a machine of a cluster the address is "
            '"auto"; "ray status" tells whether it runs.'
        ) from error
    return True


class _Actor:
    """What runs in each process: one worker, made at its first task."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._make_worker = make_worker
        self._worker: Callable[[Any], Any] | None = None

    def run(self, task: Any) -> tuple[str, Any]:
        """Return ("done", value), ("failed", error) or ("no worker", error)."""
        try:
            self._worker = self._worker or self._make_worker()
        except Exception as error:  # of every kind: the caller raises it
            return "no worker", portable(error)
        try:
            return "done", self._worker(task)
        except Exception as error:  # of every kind: one bad task must not stop the others
            return "failed", portable(error)


class _Crew:
    """The actors of one run, and what each is doing."""

    def __init__(
        self, make_worker: Callable[[], Any], workers: int, resources: dict[str, float], quiet_sec: float
    ) -> None:
        import ray

        self._ray = ray
        self._class = ray.remote(_Actor).options(
            max_restarts=0, scheduling_strategy="SPREAD", max_concurrency=1, **resources
        )
        self._make_worker = ray.put(make_worker)
        self._workers = workers
        self._quiet_sec = quiet_sec
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, int, Any]] = {}  # ref -> actor, index, task
        self._deaths: dict[int, int] = {}
        self._deaths_in_a_row = 0

    def run(self, tasks: Iterator[tuple[int, Any]]) -> Iterator[TaskResult[Any]]:
        """Yield the results in order."""
        results: dict[int, TaskResult[Any]] = {}
        wanted = begun = 0
        is_more = True
        while is_more or self._busy or results:
            while is_more and len(self._busy) < self._workers and begun - wanted < _AHEAD * self._workers:
                task = next(tasks, None)
                is_more = task is not None
                if task is not None:
                    begun += 1
                    self._start(*task)
            if self._busy:
                for result in self._collect():
                    results[result.index] = result
            while wanted in results:
                yield results.pop(wanted)
                wanted += 1

    def dismiss(self) -> None:
        """Stop all actors, and with them what they are doing."""
        for actor in [*self._idle, *(actor for actor, _, _ in self._busy.values())]:
            self._ray.kill(actor)
        self._idle.clear()
        self._busy.clear()

    def _start(self, index: int, task: Any) -> None:
        actor = self._idle.pop() if self._idle else self._class.remote(self._make_worker)
        self._busy[actor.run.remote(task)] = (actor, index, task)

    def _collect(self) -> list[TaskResult[Any]]:
        """Wait for at least one task to end; dead actors' tasks are begun again."""
        ended, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=self._quiet_sec)
        if not ended:
            raise EngineError(self._hang_sentence())
        return [result for ref in ended if (result := self._result_of(ref)) is not None]

    def _result_of(self, ref: Any) -> TaskResult[Any] | None:
        actor, index, task = self._busy.pop(ref)
        try:
            status, value = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:  # the task or its result cannot travel
            self._idle.append(actor)
            return TaskResult(index, error=EngineError(str(error).strip().splitlines()[-1][:500]))
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)
            return self._after_death(index, task, error)
        self._idle.append(actor)
        self._deaths_in_a_row = 0
        if status == "no worker":
            raise value
        return TaskResult(index, value) if status == "done" else TaskResult(index, error=value)

    def _after_death(self, index: int, task: Any, error: Exception) -> TaskResult[Any] | None:
        """Begin the task again on a new actor, unless it was what killed the others."""
        why = str(error).strip().splitlines()[0][:200]
        self._deaths_in_a_row += 1
        self._deaths[index] = self._deaths.get(index, 0) + 1
        if self._deaths_in_a_row > _DEATHS_BEFORE_A_RESULT * self._workers:
            raise EngineError(
                f"{self._deaths_in_a_row} workers died one after another without any result ({why}). They "
                "may have too little memory, or Python and packages of the machines differ."
            ) from error
        if self._deaths[index] >= _DEATHS_OF_A_TASK:
            return TaskResult(index, error=EngineError(f"{_DEATHS_OF_A_TASK} workers died of it ({why})"))
        self._start(index, task)
        return None

    def _hang_sentence(self) -> str:
        free = self._ray.available_resources()
        return (
            f"No worker has answered for {self._quiet_sec:g} seconds; {len(self._busy)} tasks are begun, "
            f"{free.get('CPU', 0):g} cores and {free.get('GPU', 0):g} GPUs are free. Look at it with "
            '"ray status", then run the same command again.'
        )
