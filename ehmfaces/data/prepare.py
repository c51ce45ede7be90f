"""Folders and ZIPs of pictures -> portraits, landmarks, labels, a packed file, a report and sheets.

Owns the run: which picture comes when, what is done already, and who is a double. Does not know what is
wrong with a picture (`quality`), how one becomes a portrait (`candidate`), the files of the set
(`prepared_set`), or how containers are read: they are given, and so is who finds look-alikes. Needs the
"train" extra.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from ehmfaces.cutout.base import CutoutBackend
from ehmfaces.data.candidate import Candidate, PortraitMaker, PrepareOptions
from ehmfaces.data.datasets import PICTURE_SUFFIXES
from ehmfaces.data.prepared_set import PreparedFile, RecordBook, write_set
from ehmfaces.engine.base import BatchEngine
from ehmfaces.errors import EHMFacesError, FacepackError, InputError
from ehmfaces.images import write_bytes_atomically


class SourceFile(Protocol):
    """A file in a container."""

    @property
    def path(self) -> str:
        """Path in the container, with forward slashes."""
        ...


class Trouble(Protocol):
    """A file of a container that cannot be read safely."""

    @property
    def file(self) -> str:
        """Path in the container; empty for the container itself."""
        ...

    @property
    def code(self) -> str:
        """Kind of trouble."""
        ...

    @property
    def text(self) -> str:
        """What is wrong."""
        ...


class Source(Protocol):
    """A folder or ZIP that was looked through, such as `facepack.pack_files.open_pack` gives."""

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    @property
    def files(self) -> Sequence[Any]:
        """What can be read, a `SourceFile` each."""
        ...

    @property
    def findings(self) -> Sequence[Any]:
        """What cannot, a `Trouble` each."""
        ...

    def read(self, file: Any) -> bytes:
        """Return a file's content; raises FacepackError."""
        ...


ReadBirthDate = Callable[[str], date | None]  # of a file name without its ending
# Files and ranks, the lower of which stays -> position of a portrait to leave out: position of its look-alike
FindTwins = Callable[[Sequence[Path], Sequence[object]], Mapping[int, int]]


def prepare_dataset(
    sources: Sequence[Source],
    out: Path,
    make_backend: Callable[[], CutoutBackend],
    engine: BatchEngine,
    options: PrepareOptions,
    *,
    settings: Mapping[str, object] | None = None,
    read_birth_date: ReadBirthDate = lambda _name: None,
    find_twins: FindTwins = lambda _files, _ranks: {},
    progress: Callable[[int, int], None] | None = None,
) -> list[PreparedFile]:
    """Make a training set; the same call goes on where the last one stopped.

    Args:
        sources: Folders and ZIPs that were looked through.
        out: Folder of the set. With more sources than before, what is new is added.
        make_backend: Loads the cut-out back-end, once for each worker.
        engine: Runs the pictures.
        options: What may vary; the same as before when the folder is there.
        settings: Further values that must be the same as before, such as the back-end's name.
        read_birth_date: From a file name without its ending.
        find_twins: Who leaves look-alikes out.
        progress: Called with the number of pictures done and of all.

    Returns:
        The lines of the report.

    Raises:
        InputError: The folder holds a set that was made with other options, or no source is given.
        FacepackError: The folder cannot be written.
    """
    if not sources:
        raise InputError("There is nothing to prepare. Give at least one folder or ZIP of pictures.")
    sources = list({source.path.resolve(): source for source in sources}.values())
    for source in sources:
        if out.resolve().is_relative_to(source.path.resolve()):
            raise InputError(
                f'"{out}" lies in "{source.path}", whose pictures are read. Choose a folder beside it.'
            )
    _check_same_run(out, {**asdict(options), **(settings or {})})
    book = RecordBook(out / "work")
    lines = [*_list_troubles(sources)]
    pictures = []
    for source in sources:
        for file in source.files:
            name = str(source.path), str(file.path)
            if _is_picture(file.path):
                pictures.append((source, file))
            else:
                lines.append(PreparedFile(*name, verdict="ignored", details=("no picture by its name",)))
    run = _Run(out, book, make_backend, engine, options, read_birth_date)
    for number, line in enumerate(run.work_off(pictures), 1):
        lines.append(line)
        if progress is not None:
            progress(number, len(pictures))
    lines.sort(key=lambda line: (line.source, line.file))
    lines = _leave_twins_out(lines, book, find_twins)
    write_set(lines, out, book, options.background)
    return lines


def load_reference_date(out: Path) -> date | None:
    """Return the reference date of a set that was begun, so that the same command goes on on another day."""
    try:
        text = json.loads((out / "settings.json").read_text(encoding="utf-8"))["reference_date"]
        return date.fromisoformat(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def count_reasons(lines: Iterable[PreparedFile]) -> Counter[str]:
    """Count verdicts, and of what is not kept the reasons, as "rejected: glasses"."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts[line.verdict] += 1
        counts.update(f"{line.verdict}: {reason}" for reason in line.reasons)
    return counts


# --- the run -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    out: Path
    book: RecordBook
    make_backend: Callable[[], CutoutBackend]
    engine: BatchEngine
    options: PrepareOptions
    read_birth_date: ReadBirthDate

    def work_off(self, pictures: Sequence[tuple[Source, Any]]) -> Iterator[PreparedFile]:
        """Yield a line for each picture, known ones first."""
        todo = []
        for source, file in pictures:
            line = self._look_up(source, file)
            if isinstance(line, PreparedFile):
                yield line
            else:
                todo.append((source, file))

        def make_worker() -> Callable[[tuple[Source, Any]], tuple[str, Candidate]]:
            maker = PortraitMaker(self.make_backend(), self.options)
            return lambda task: self._make(maker, *task)

        results = self.engine.map(make_worker, todo)
        for (source, file), result in zip(todo, results, strict=True):
            if result.error is not None and not isinstance(result.error, EHMFacesError):
                raise result.error
            if result.error is not None or result.value is None:
                yield _broken(source, file, str(result.error))
                continue
            key, candidate = result.value
            line = _line_of(source, file, key, candidate)
            self.book.add(line, candidate)
            yield line

    def _look_up(self, source: Source, file: Any) -> PreparedFile | None:
        if not self.book.known:
            return None
        try:
            key = _hash(source.read(file))
        except FacepackError:
            return None
        return self.book.known.get((str(source.path), str(file.path), key))

    def _make(self, maker: PortraitMaker, source: Source, file: Any) -> tuple[str, Candidate]:
        data = source.read(file)
        birth_date = self.read_birth_date(PurePosixPath(file.path).stem)
        return _hash(data), maker.make(data, birth_date)


def _line_of(source: Source, file: Any, key: str, candidate: Candidate) -> PreparedFile:
    verdict = "kept"
    if candidate.reasons:
        verdict = "broken" if "broken" in candidate.reasons else "rejected"
    return PreparedFile(
        str(source.path),
        file.path,
        key,
        verdict,
        candidate.reasons,
        candidate.phrases,
        {name: round(value, 4) for name, value in candidate.facts.items()},
        candidate.labels,
    )


def _broken(source: Source, file: Any, why: str) -> PreparedFile:
    return PreparedFile(
        str(source.path), file.path, verdict="broken", reasons=("broken",), details=(why[:200],)
    )


def _list_troubles(sources: Sequence[Source]) -> Iterator[PreparedFile]:
    for source in sources:
        for trouble in source.findings:
            yield PreparedFile(
                str(source.path),
                trouble.file,
                verdict="broken",
                reasons=(trouble.code,),
                details=(trouble.text,),
            )


def _is_picture(path: str) -> bool:
    name = PurePosixPath(path).name
    return name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith(".")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _check_same_run(out: Path, settings: Mapping[str, object]) -> None:
    """Write the settings beside the results, or raise if other ones are there."""
    path = out / "settings.json"
    text = json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n"
    if path.exists():
        before = path.read_text(encoding="utf-8")
        if before != text:
            raise InputError(
                f'"{out}" was prepared with other options ({_differences(before, text)}). '
                "Give the same options, or another folder."
            )
        return
    write_bytes_atomically(path, text.encode())


def _differences(before: str, after: str) -> str:
    """Name the options that are different, with both values."""
    try:
        old, new = _flat(json.loads(before)), _flat(json.loads(after))
    except (ValueError, AttributeError):
        return "settings.json cannot be read"
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(f"{name}: {old.get(name)} before, {new.get(name)} now" for name in names[:4])


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, **settings.get("limits", {}), "limits": None}


def _leave_twins_out(
    lines: Sequence[PreparedFile], book: RecordBook, find_twins: FindTwins
) -> list[PreparedFile]:
    """Reject files that come twice, and then look-alikes; of two the one with the larger face stays."""
    result = list(lines)
    first: dict[str, int] = {}
    for index, line in enumerate(result):
        if line.verdict == "kept" and first.setdefault(line.key, index) != index:
            result[index] = _as_twin(line, result[first[line.key]], "the same file as")
    kept = sorted(first.values())
    ranks = [(-result[index].facts["eyes_px"], result[index].id) for index in kept]
    twins = find_twins([book.file(result[index], ".webp") for index in kept], ranks)
    for loser, winner in sorted(twins.items()):
        result[kept[loser]] = _as_twin(result[kept[loser]], result[kept[winner]], "looks like")
    return result


def _as_twin(line: PreparedFile, other: PreparedFile, words: str) -> PreparedFile:
    return replace(
        line, verdict="rejected", reasons=("duplicate",), details=(f"{words} {other.file}",), labels={}
    )
