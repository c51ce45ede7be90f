"""Makes the portraits of a plan and writes them into a ZIP.

Owns the order of work, the temporary file beside the target, and what happens on cancel, on a failed
portrait and on a full disk. Knows neither models nor pictures: a worker turns a seed into PNG bytes, and
an engine from outside runs the workers.

The ZIP is in the order of the paths and the same for the same plan and worker, whatever the engine. It
gets its name only when it is complete. A run that ends early still leaves a valid ZIP of what is done;
where the target exists already, that ZIP is called NAME.partial.zip, so that no finished pack is lost.
"""

import errno
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ehmfaces.engine.base import BatchEngine, TaskResult
from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import FacepackError
from ehmfaces.facepack.archive import ArchiveWriter
from ehmfaces.facepack.manifest import (
    REPORT_NAME,
    SETTINGS_NAME,
    Outcome,
    ReportRow,
    count_statuses,
    encode_report,
    encode_settings,
    report_rows,
)
from ehmfaces.facepack.plan import FaceJob, FacepackPlan
from ehmfaces.types import Seed

MakeWorker = Callable[[], Callable[[Seed], bytes]]
_CANCELLED = "Cancelled before its turn."
_BROKEN_OFF = "The run broke off before its turn."
_DISK_FULL = "The disk was full."


@dataclass(frozen=True)
class FacepackEvent:
    """One finished job. `png` is empty and `error` a phrase where it could not be made."""

    job: FaceJob
    png: bytes
    done: int
    total: int
    error: str = ""


@dataclass(frozen=True)
class FacepackResult:
    """What a run left behind.

    Attributes:
        path: The ZIP; may be NAME.partial.zip when the run was cancelled.
        made: Portraits in it that were made now.
        kept: Portraits in it from an earlier run; always 0 so far.
        skipped: Rows without a portrait for a reason of their own.
        not_made: Jobs that were not reached.
        cancelled: The run was asked to stop.
        report: One line for each row of the roster.
    """

    path: Path
    made: int
    kept: int
    skipped: int
    not_made: int
    cancelled: bool
    report: tuple[ReportRow, ...]


def write_facepack(
    plan: FacepackPlan,
    make_worker: MakeWorker,
    out: str | Path,
    engine: BatchEngine | None = None,
    progress: Callable[[FacepackEvent], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FacepackResult:
    """Make all portraits of a plan and write the ZIP.

    Args:
        plan: As `plan_facepack` gives it.
        make_worker: Gives a function from a seed to the bytes of a PNG.
        out: The ZIP to write; its folder is made where it is missing.
        engine: None = in this process, one after another.
        progress: Called after each job.
        should_stop: Asked before each job; True ends the run and keeps what is done.

    Raises:
        FacepackError: The ZIP cannot be written. What is done stays in a valid ZIP where possible.
    """
    events = iter_facepack(plan, make_worker, out, engine, should_stop)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return cast(FacepackResult, end.value)
        if progress is not None:
            _report_progress(progress, event, events)


def _report_progress(
    progress: Callable[[FacepackEvent], None],
    event: FacepackEvent,
    events: Generator[FacepackEvent, None, FacepackResult],
) -> None:
    try:
        progress(event)
    except BaseException:
        events.close()
        raise


def iter_facepack(
    plan: FacepackPlan,
    make_worker: MakeWorker,
    out: str | Path,
    engine: BatchEngine | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Generator[FacepackEvent, None, FacepackResult]:
    """Make the portraits one by one; the generator's return value is the FacepackResult.

    Closing the generator early is the same as cancelling: what is done stays in a valid ZIP. For the
    arguments see `write_facepack`.

    Raises:
        FacepackError: The ZIP cannot be written.
    """
    target = Path(out)
    jobs = sorted(plan.jobs, key=lambda job: job.path)
    pack = _PackFile(plan, target)
    results = _start(make_worker, jobs, engine, should_stop)
    try:
        for number, job in enumerate(jobs):
            result = None if should_stop is not None and should_stop() else next(results, None)
            if result is None:
                return pack.finish(_CANCELLED, is_cancelled=True)
            yield pack.add(job, result, number + 1)
        return pack.finish("")
    except GeneratorExit:
        pack.finish(_CANCELLED, is_cancelled=True)
        raise
    except FacepackError:
        raise
    except BaseException:
        pack.rescue()
        raise
    finally:
        results.close()
        pack.discard()


def _start(
    make_worker: MakeWorker,
    jobs: list[FaceJob],
    engine: BatchEngine | None,
    should_stop: Callable[[], bool] | None,
) -> Generator[TaskResult[bytes], None, None]:
    """Hand the seeds to the engine; it takes no further one when the run is to stop."""

    def seeds() -> Iterator[Seed]:
        for job in jobs:
            if should_stop is not None and should_stop():
                return
            yield job.seed

    yield from (engine or LocalEngine()).map(make_worker, seeds())


class _PackFile:
    """The ZIP while it is being written, and what became of each job so far."""

    def __init__(self, plan: FacepackPlan, target: Path) -> None:
        self._plan = plan
        self._target = target
        self._outcomes: dict[int, Outcome] = {}
        self._added: list[FaceJob] = []  # in the order of the entries
        self._part, self._file = _open_part(target)
        self._archive = ArchiveWriter(self._file)

    def add(self, job: FaceJob, result: TaskResult[bytes], done: int) -> FacepackEvent:
        """Store a portrait, or why there is none."""
        total = len(self._plan.jobs)
        if result.error is not None or not result.value:
            what = str(result.error or "no picture") or type(result.error).__name__
            self._outcomes[job.row_number] = Outcome("skipped", f"Could not be made: {what[:300]}")
            return FacepackEvent(job, b"", done, total, what[:300])
        entries_before = self._archive.entry_count
        try:
            for path in (job.path, *job.copies):
                self._archive.add(path, result.value)
        except OSError as error:
            self._archive.drop_last(self._archive.entry_count - entries_before)
            raise self._out_of_space(error) from error
        self._outcomes[job.row_number] = Outcome("made")
        self._added.append(job)
        return FacepackEvent(job, result.value, done, total)

    def finish(self, missing: str, *, is_cancelled: bool = False) -> FacepackResult:
        """Write report and settings, close the ZIP and give it its name."""
        try:
            rows = self._write_papers(missing)
        except OSError as error:
            raise self._out_of_space(error) from error
        counts = count_statuses(rows)
        path = self._publish(is_whole=counts["not made"] == 0)
        numbers = (counts["made"], counts["kept"], counts["skipped"], counts["not made"])
        return FacepackResult(path, *numbers, is_cancelled, tuple(rows))

    def rescue(self) -> None:
        """Leave a valid ZIP after an error from outside, if there is anything to leave."""
        if self._added:
            self.finish(_BROKEN_OFF)

    def discard(self) -> None:
        """Close the temporary file, and remove it where it did not become the pack."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _write_papers(self, missing: str) -> list[ReportRow]:
        rows = report_rows(self._plan, self._outcomes, missing)
        entries_before = self._archive.entry_count
        try:
            for path, data in self._plan.game_lists(self._added):
                self._archive.add(path, data)
            self._archive.add(REPORT_NAME, encode_report(rows))
            self._archive.add(SETTINGS_NAME, encode_settings(self._plan, count_statuses(rows), _version()))
            self._archive.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._archive.drop_last(self._archive.entry_count - entries_before)
            raise
        return rows

    def _publish(self, *, is_whole: bool) -> Path:
        path = self._target
        if not is_whole and path.exists():
            path = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._file.close()
        try:
            self._part.replace(path)
        except OSError as error:
            raise FacepackError(_cannot_write(path, error)) from error
        return path

    def _out_of_space(self, error: OSError) -> FacepackError:
        """Finish the ZIP without its last portraits, which frees the space for report and directory."""
        count = 0
        while self._added:
            try:
                self._write_papers(_DISK_FULL)
            except OSError:
                count = 2 * count or 1
                self._take_back(count)
                continue
            kept = len(self._added)
            path = self._publish(is_whole=False)
            return FacepackError(
                f"{_cannot_write(path, error)} {kept} of {len(self._plan.jobs)} portraits are in {path}, "
                "which is a valid ZIP. Free some space and start again."
            )
        return FacepackError(_cannot_write(self._target, error) + " Nothing was written.")

    def _take_back(self, count: int) -> None:
        lost = self._added[-count:]
        for job in lost:
            del self._outcomes[job.row_number]
        del self._added[-count:]
        self._archive.drop_last(sum(1 + len(job.copies) for job in lost))


def _open_part(target: Path) -> tuple[Path, BinaryIO]:
    """Open the temporary file beside the target."""
    try:
        if target.is_dir() or not target.name:
            raise FacepackError(f'"{target}" is a folder. Give the name of a ZIP file.')
        part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        return part, cast(BinaryIO, part.open("xb", buffering=0))
    except (OSError, ValueError) as error:
        raise FacepackError(_cannot_write(target, error)) from error


def _cannot_write(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f'The disk is full: "{path}" cannot be finished ({error.strerror}).'
    what = getattr(error, "strerror", None) or str(error)
    return f'The pack "{path}" cannot be written: {what}. Choose a folder that you may write to.'


def _version() -> str:
    import ehmfaces

    return str(getattr(ehmfaces, "__version__", "0.1.0"))
