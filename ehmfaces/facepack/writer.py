"""Makes the portraits of a plan and writes them into a pack: a folder, or a ZIP.

Owns the order of work, resuming, redrawing of look-alikes, and what happens on cancel, on a failed portrait
and on a full disk. Knows neither models nor pictures: a worker turns a seed into PNG bytes, and an engine
from outside runs the workers.

Pictures are written one by one, with a journal: into the pack itself where it is a folder, else into
NAME.zip.work beside the ZIP. Whatever ends a run, the same command goes on with it, and the pack is the same
byte for byte as that of an unbroken run, whatever the engine. A ZIP gets its name when it is complete.
"""

import errno
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from ehmfaces.engine.base import BatchEngine, TaskResult
from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import FacepackError
from ehmfaces.facepack.changes import Change, Changes, PackOptions, decide_changes
from ehmfaces.facepack.contents import NoPack, PackContents, open_contents
from ehmfaces.facepack.existing import find_existing
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.journal import MANIFEST_NAME, Draw, Papers, encode_manifest, file_hash, fingerprint
from ehmfaces.facepack.lock import locked
from ehmfaces.facepack.manifest import (
    REPORT_NAME,
    SETTINGS_NAME,
    Outcome,
    ReportRow,
    count_statuses,
    encode_report,
    encode_settings,
    read_report,
    report_rows,
)
from ehmfaces.facepack.plan import FaceJob, FacepackPlan, FacepackSettings
from ehmfaces.facepack.publish import (
    Paper,
    backup_path,
    is_backup,
    list_pictures,
    publish_folder,
    publish_zip,
)
from ehmfaces.facepack.uniqueness import (
    MAX_ATTEMPTS,
    Features,
    Nearest,
    choose_redrawn,
    find_alike,
    measure_face,
    summarize,
)
from ehmfaces.facepack.work import WorkFolder, read_journal
from ehmfaces.types import Seed

MakeWorker = Callable[[], Callable[[Seed], bytes]]
_CANCELLED = "Cancelled before its turn."
_NO_LOOK = ("limit", "games", "latin1_names", "fm_newgen_ids", "zengm_url", "zero_pad_dates", "model_id")


@dataclass(frozen=True)
class FacepackEvent:
    """One finished drawing. `png` is empty and `error` a phrase where it could not be made.

    `done` counts people whose first face is there; it stays where a look-alike is drawn again.
    """

    job: FaceJob
    png: bytes
    done: int
    total: int
    error: str = ""


@dataclass(frozen=True)
class FacepackResult:
    """What a run left behind.

    Attributes:
        path: The pack. After a cancelled run: where the pictures wait, or NAME.partial.zip.
        made: Portraits in it that were made by this run, or by its broken-off beginnings.
        kept: Portraits in it that were there before.
        skipped: Rows without a portrait for a reason of their own.
        not_made: Jobs that were not reached.
        cancelled: The run was asked to stop.
        report: One line for each row of the roster.
        uniqueness: As `uniqueness.summarize` gives it.
        notices: Sentences for the user.
    """

    path: Path
    made: int
    kept: int
    skipped: int
    not_made: int
    cancelled: bool
    report: tuple[ReportRow, ...]
    uniqueness: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def write_facepack(
    plan: FacepackPlan,
    make_worker: MakeWorker,
    out: str | Path,
    engine: BatchEngine | None = None,
    progress: Callable[[FacepackEvent], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    options: PackOptions | None = None,
) -> FacepackResult:
    """Make all portraits of a plan that are missing and write the pack.

    Args:
        plan: As `plan_facepack` gives it.
        make_worker: Gives a function from a seed to the bytes of a PNG.
        out: A ZIP by its ending, else a folder; made where it is missing.
        engine: None = in this process, one after another.
        progress: Called after each drawing.
        should_stop: Asked before each job; True ends the run and keeps what is done.
        options: What may change; None = newcomers are added, look-alikes drawn again.

    Raises:
        FacepackError: The pack cannot be written. What is done stays, and the same call goes on.
    """
    events = iter_facepack(plan, make_worker, out, engine, should_stop, options)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return cast(FacepackResult, end.value)
        if progress is not None:
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
    options: PackOptions | None = None,
) -> Generator[FacepackEvent, None, FacepackResult]:
    """Make the portraits one by one; the generator's return value is the FacepackResult.

    Closing the generator early is the same as cancelling. For the arguments see `write_facepack`.

    Raises:
        FacepackError: The pack cannot be written.
    """
    target, options = Path(out), options or PackOptions()
    with _held(target):
        finished = _finished(plan, target, options)
        if finished is not None:
            return finished
        with _opened(target, options) as old:
            run = _Run(plan, target, options, old)
            try:
                yield from run.draw_all(make_worker, engine or LocalEngine(), should_stop or (lambda: False))
                return run.finish()
            except GeneratorExit:
                run.is_stopped = True
                run.finish()
                raise
            finally:
                run.close()


def preview_facepack(plan: FacepackPlan, out: str | Path, options: PackOptions | None = None) -> Changes:
    """Return what `write_facepack` would change, and write nothing.

    Raises:
        FacepackError: The pack cannot be read, or an option names nobody.
    """
    target, options = Path(out), options or PackOptions()
    journal = read_journal(_work_path(target))
    with open_contents(target) as old:
        drawn = {draw.path for draw in journal.draws}
        return _decide(plan, target, options, old, drawn)


def look_of(settings: FacepackSettings) -> str:
    """Return a fingerprint of the settings that change pictures."""
    values = {name: value for name, value in vars(settings).items() if name not in _NO_LOOK}
    return fingerprint(values)


def _is_zip(target: Path) -> bool:
    return target.suffix.lower() == ".zip" and not target.is_dir()


def _work_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.work") if _is_zip(target) else target


def _request_of(plan: FacepackPlan, options: PackOptions) -> str:
    """Return a fingerprint of all that decides the pack, to recognize the same command."""
    jobs = [(job.row_number, job.path, job.seed) for job in plan.jobs]
    return fingerprint({"settings": vars(plan.settings), "options": vars(options), "jobs": jobs})


def _decide(
    plan: FacepackPlan, target: Path, options: PackOptions, old: PackContents, unfinished: Iterable[str]
) -> Changes:
    own = tuple(f"{path}/" for path in (target, _work_path(target)))
    existing = {
        person: place
        for person, place in find_existing(options.existing).items()
        if not f"{place}/".startswith(own) and not is_backup(place, target)
    }
    return decide_changes(
        plan, old, options, existing=existing, unfinished=set(unfinished), look=look_of(plan.settings)
    )


@contextmanager
def _held(target: Path) -> Iterator[None]:
    """Make the place of a pack and hold its lock."""
    try:
        if not target.name:
            raise FacepackError(f'"{target}" is no name for a pack. Give a folder or a ZIP file.')
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and not _is_zip(target):
            raise FacepackError(f'"{target}" is a file. Give a folder, or a name that ends in .zip.')
        lock = locked(target)
        lock.__enter__()
    except (OSError, ValueError) as error:
        raise FacepackError(_cannot_write(target, error)) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def _opened(target: Path, options: PackOptions) -> Iterator[PackContents]:
    """Open the pack that is there; one that is to be overwritten counts as empty, but for its rerolls."""
    with open_contents(target) as old:
        if options.mode != "overwrite":
            yield old
            return
        journal = read_journal(_work_path(target))
        papers = old.papers
        if journal.head.get("mode") == "overwrite":
            papers = _with_rerolls(journal)
        elif target.is_dir() and any(target.iterdir()):
            target.rename(backup_path(target))
        old.close()
        yield NoPack(papers)


def _with_rerolls(journal: Papers) -> Papers:
    """Return the rerolls of a pack that is being overwritten, as its journal notes them."""
    draws = [
        Draw(path, 0, int(reroll), int(attempt), tuple(earlier))
        for path, reroll, attempt, earlier in journal.head.get("rerolls", [])
    ]
    return Papers({"run": journal.run - 1}, tuple(draws))


def _finished(plan: FacepackPlan, target: Path, options: PackOptions) -> FacepackResult | None:
    """Clean up behind a run that was killed after it had published; return its result if it is this one."""
    journal = read_journal(_work_path(target))
    if not journal.head:
        return None
    with open_contents(target) as pack:
        if pack.papers.run != journal.run:
            return None
        report = pack.read(REPORT_NAME)
        uniqueness = pack.papers.head.get("uniqueness", {})
    WorkFolder(_work_path(target), journal.head, owns_folder=_is_zip(target)).end()
    if journal.head.get("request") != _request_of(plan, options):
        return None
    return _result(target, read_report(report), uniqueness)


def _result(
    path: Path,
    rows: Iterable[ReportRow],
    uniqueness: Mapping[str, Any],
    notices: tuple[str, ...] = (),
    *,
    is_cancelled: bool = False,
) -> FacepackResult:
    rows = tuple(rows)
    counts = count_statuses(rows)
    numbers = (counts["made"], counts["kept"], counts["skipped"], counts["not made"])
    return FacepackResult(path, *numbers, is_cancelled, rows, uniqueness, notices)


class _Run:
    """One run: what is to be drawn, what was drawn, and what it ends as."""

    def __init__(self, plan: FacepackPlan, target: Path, options: PackOptions, old: PackContents) -> None:
        self.is_stopped = False
        self._is_zip = _is_zip(target)
        self._plan = plan
        self._target = target
        self._options = options
        self._old = old
        self._look = look_of(plan.settings)
        folder = _work_path(target)
        journal = read_journal(folder)
        self._changes = _decide(plan, target, options, old, {draw.path for draw in journal.draws})
        try:
            self._work = WorkFolder(folder, self._head(), owns_folder=self._is_zip)
        except OSError as error:
            raise FacepackError(_cannot_write(folder, error)) from error
        self._drawn = [change for change in self._changes.people if change.is_drawn]
        self._attempts = {change.job.path: change.attempt for change in self._drawn}
        self._failed: dict[str, str] = {}
        self._nearest: Nearest | None = None
        self._compared: list[str] = []
        self._still_alike = 0
        self._old_faces: list[tuple[str, Features]] | None = None

    def _head(self) -> dict[str, Any]:
        rerolls = [
            (draw.path, draw.reroll, draw.attempt, draw.earlier)
            for draw in self._old.papers.draws
            if draw.reroll
        ]
        return {
            "run": self._old.papers.run + 1,
            "look": self._look,
            "mode": self._options.mode,
            "request": _request_of(self._plan, self._options),
            "rerolls": rerolls if self._options.mode == "overwrite" else [],
        }

    def draw_all(
        self, make_worker: MakeWorker, engine: BatchEngine, should_stop: Callable[[], bool]
    ) -> Generator[FacepackEvent, None, None]:
        """Draw what is missing, then look-alikes again until there are none, then what is damaged."""
        draw = _Drawing(self, make_worker, engine, should_stop)
        yield from draw.people([change for change in self._drawn if self._find(change) is None])
        while not self.is_stopped and self._options.threshold is not None:
            alike = self._find_look_alikes(self._options.threshold)
            if not alike:
                break
            for change in alike:
                self._attempts[change.job.path] += 1
            yield from draw.people([change for change in alike if self._find(change) is None])
        if not self.is_stopped:
            yield from draw.people([change for change in self._drawn if self._is_damaged(change)])

    @property
    def done(self) -> int:
        """Return how many people have a face."""
        return len(self._failed) + sum(self._find(change) is not None for change in self._drawn)

    @property
    def total(self) -> int:
        """Return how many people are to get one."""
        return len(self._drawn)

    def seed(self, change: Change) -> Seed:
        """Return the seed of a person's face as things stand."""
        return change.seed(self._attempts[change.job.path])

    def add(self, change: Change, result: TaskResult[bytes]) -> str:
        """Store a picture; the phrase that is returned says why there is none."""
        path = change.job.path
        if result.error is not None or not result.value:
            what = str(result.error or "no picture") or type(result.error).__name__
            self._failed[path] = what[:300]
            return what[:300]
        draw = Draw(
            path,
            self.seed(change),
            change.reroll,
            self._attempts[path],
            change.earlier,
            file_hash(result.value),
            measure_face(result.value) if self._options.threshold is not None else None,
            self._look,
            self._work.run,
        )
        try:
            self._work.add(draw, result.value, change.job.copies)
        except (OSError, FacepackError) as error:
            raise self._out_of_space(error) from error
        return ""

    def finish(self) -> FacepackResult:
        """Write the pack, or leave what is done for the next run."""
        rows = report_rows(self._plan, self._outcomes(), _CANCELLED)
        if not self.is_stopped:
            return self._publish(rows, self._target)
        if self._options.is_partial_published and self._is_zip:
            path = self._target
            if path.exists():
                path = path.with_name(f"{path.stem}.partial{path.suffix}")
            return self._publish(rows, path)
        return _result(self._work.folder, rows, {}, self._notices(), is_cancelled=True)

    def close(self) -> None:
        """Let go of the files."""
        self._work.close()

    def _find(self, change: Change) -> Draw | None:
        attempt = self._attempts[change.job.path]
        return self._work.find(change.job.path, change.reroll, attempt, change.seed(attempt))

    def _is_damaged(self, change: Change) -> bool:
        draw = self._find(change)
        return draw is not None and not self._work.is_whole(draw, change.job.copies)

    def _find_look_alikes(self, threshold: float) -> list[Change]:
        """Return who has to be drawn again, and note the nearest two of all."""
        faces = self._faces_that_stay()
        people: list[Change | None] = [None] * len(faces)
        for change in self._drawn:
            draw = self._find(change)
            if draw is not None and draw.features is not None:
                faces.append((change.job.path, draw.features))
                people.append(change)
        self._compared = [path for path, _ in faces]
        if len(faces) < 2:
            return []
        pairs, self._nearest = find_alike(np.stack([features for _, features in faces]), threshold)
        worn_out = {index for index, change in enumerate(people) if self._is_worn_out(change)}
        self._still_alike = sum(not worn_out.isdisjoint(pair) for pair in pairs)
        pairs = [pair for pair in pairs if worn_out.isdisjoint(pair)]
        is_fixed = [change is None or change.is_fixed for change in people]
        chosen = choose_redrawn(pairs, [self._rank(change) for change in people], is_fixed)
        return [person for index in chosen if (person := people[index]) is not None]

    def _rank(self, change: Change | None) -> tuple[int, Seed, str]:
        """Return who stays: whoever has the first face, then by a number that is the person's own."""
        return (self._attempts[change.job.path], change.job.seed, change.job.path) if change else (0, 0, "")

    def _is_worn_out(self, change: Change | None) -> bool:
        return change is not None and self._attempts[change.job.path] >= MAX_ATTEMPTS

    def _faces_that_stay(self) -> list[tuple[str, Features]]:
        """Return the faces of pictures that are there already: kept ones, and of people not in the roster."""
        if self._old_faces is None:
            drawn = {clash_key(change.job.path) for change in self._drawn}
            known = {clash_key(draw.path): draw.features for draw in self._old.papers.draws}
            kept = {clash_key(change.job.path) for change in self._changes.of("kept")}
            self._old_faces = []
            for key in sorted(((kept | set(known)) - drawn) & set(self._old.pictures)):
                path = self._old.pictures[key]
                features = known.get(key)
                features = measure_face(self._old.read(path)) if features is None else features
                if features is not None:
                    self._old_faces.append((path, features))
        return list(self._old_faces)

    def _outcomes(self) -> dict[int, Outcome]:
        outcomes = {}
        for change in self._changes.people:
            row = change.job.row_number
            if change.action == "kept":
                outcomes[row] = Outcome("kept")
            elif change.action == "skipped":
                outcomes[row] = Outcome("skipped", change.reason)
            elif change.job.path in self._failed:
                outcomes[row] = Outcome("skipped", f"Could not be made: {self._failed[change.job.path]}")
            elif self._find(change) is not None:
                outcomes[row] = Outcome("made")
        return outcomes

    def _publish(self, rows: list[ReportRow], path: Path) -> FacepackResult:
        made = [change for change in self._drawn if self._find(change) is not None]
        made = [change for change in made if change.job.path not in self._failed]
        kept = {change.job.path: change.job.copies for change in self._changes.of("kept")}
        drawn = {change.job.path: change.job.copies for change in made}
        pictures = list_pictures(drawn, kept, self._old)
        draws = self._draws_of(made)
        redrawn = sum(draw.attempt > 0 for draw in draws)
        uniqueness = summarize(self._compared, self._nearest, self._options.threshold, redrawn)
        papers = self._papers(rows, draws, uniqueness, {*drawn, *kept})
        try:
            if self._is_zip:
                is_backed_up = self._options.mode == "overwrite" and not self.is_stopped
                publish_zip(path, pictures, papers, self._work.folder, self._old, backup=is_backed_up)
            else:
                self._drop_strays({*drawn, *kept})
                publish_folder(path, pictures, papers, self._old)
        except (OSError, FacepackError) as error:
            raise self._out_of_space(error) from error
        if not self.is_stopped:
            self._work.end()
        return _result(path, rows, uniqueness, self._notices(), is_cancelled=self.is_stopped)

    def _drop_strays(self, wanted: set[str]) -> None:
        """Remove pictures that a broken-off run with another roster drew into this folder."""
        known = {draw.path for draw in self._old.papers.draws}
        copies = {job.path: job.copies for job in self._plan.jobs}
        for path in self._work.paths - wanted - known:
            self._work.drop(path, copies.get(path, ()))

    def _draws_of(self, made: list[Change]) -> list[Draw]:
        """Return the lines of the manifest: what was drawn, and what is known of pictures that stay."""
        draws = {clash_key(draw.path): draw for draw in self._old.papers.draws}
        lost = set(draws) - set(self._old.pictures)
        wanted = {clash_key(job.path) for job in self._plan.jobs}
        draws = {key: draw for key, draw in draws.items() if key not in lost - wanted}
        for change in made:
            draw = self._find(change)
            if draw is not None:
                draws[clash_key(draw.path)] = replace(draw, earlier=change.earlier)
        return list(draws.values())

    def _papers(
        self, rows: list[ReportRow], draws: list[Draw], uniqueness: Mapping[str, Any], done: set[str]
    ) -> list[Paper]:
        jobs = sorted((job for job in self._plan.jobs if job.path in done), key=lambda job: job.path)
        settings = encode_settings(self._plan, count_statuses(rows), _version(), uniqueness)
        head = {"run": self._work.run, "uniqueness": uniqueness}
        return [
            *self._plan.game_lists(jobs),
            (REPORT_NAME, encode_report(rows)),
            (SETTINGS_NAME, settings),
            (MANIFEST_NAME, encode_manifest(head, draws)),
        ]

    def _notices(self) -> tuple[str, ...]:
        text = f"{self._still_alike} pairs of faces are still alike after {MAX_ATTEMPTS} attempts."
        return (*self._changes.notices, text) if self._still_alike else self._changes.notices

    def _out_of_space(self, error: Exception) -> FacepackError:
        cause = error if isinstance(error, OSError) else error.__cause__
        count = self.done - len(self._failed)
        what = _cannot_write(self._target, cause) if isinstance(cause, OSError) else str(error)
        return FacepackError(
            f'{what} {count} of {self.total} portraits are in "{self._work.folder}" and stay there: '
            "run the same command again to go on."
        )


class _Drawing:
    """Hands people to the engine and their pictures to the run."""

    def __init__(
        self, run: _Run, make_worker: MakeWorker, engine: BatchEngine, should_stop: Callable[[], bool]
    ) -> None:
        self._run = run
        self._make_worker = make_worker
        self._engine = engine
        self._should_stop = should_stop

    def people(self, changes: list[Change]) -> Generator[FacepackEvent, None, None]:
        """Draw one face for each, in order; a run that is to stop takes no further one."""
        if not changes:
            return
        results = cast(
            "Generator[TaskResult[bytes], None, None]",
            self._engine.map(self._make_worker, self._seeds(changes)),
        )
        done = self._run.done
        try:
            for change in changes:
                result = None if self._should_stop() else next(results, None)
                if result is None:
                    self._run.is_stopped = True
                    return
                error = self._run.add(change, result)
                done = min(done + 1, self._run.total)
                yield FacepackEvent(change.job, result.value or b"", done, self._run.total, error)
        finally:
            results.close()

    def _seeds(self, changes: list[Change]) -> Iterator[Seed]:
        for change in changes:
            if self._should_stop():
                return
            yield self._run.seed(change)


def _cannot_write(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f'The disk is full: "{path}" cannot be finished ({error.strerror}). Free some space.'
    what = getattr(error, "strerror", None) or str(error)
    return f'The pack "{path}" cannot be written: {what}. Choose a folder that you may write to.'


def _version() -> str:
    import ehmfaces

    return str(getattr(ehmfaces, "__version__", "0.1.0"))
