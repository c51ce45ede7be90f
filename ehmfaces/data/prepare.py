"""Folders and ZIPs of pictures -> a training set: portraits, landmarks, labels, a packed file, a report, sheets.

Owns the run: which picture comes when, what is done already, and the files of the set. Does not know what is wrong
with a picture (`quality`), how one becomes a portrait (`candidate`), nor how containers are read: they are given,
and so is who finds look-alikes. Needs the "train" extra.

Layout: `portraits/ID.webp`, `landmarks.npz` and `labels.csv` as `recombine` reads them; `dataset.zip` as StyleGAN tools
do (class 0 = men, 1 = women); `report.csv`, one line for each file; `sheets/`; `settings.json`; and in `work/` what
the same call needs to go on. The ID comes from the picture's content.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from PIL import Image as PILImage

from ehmfaces.cutout.base import CutoutBackend
from ehmfaces.data.candidate import Candidate, PortraitMaker, PrepareOptions, encode_webp
from ehmfaces.data.datasets import PICTURE_SUFFIXES
from ehmfaces.data.pack import write_dataset_zip
from ehmfaces.data.quality import FACTS
from ehmfaces.engine.base import BatchEngine
from ehmfaces.errors import EHMFacesError, FacepackError, InputError
from ehmfaces.images import composite, encode_png, write_bytes_atomically
from ehmfaces.sheets import contact_sheet
from ehmfaces.types import Pixels

LABEL_FIELDS = (
    "id", "sex", "age", "expression", "skin_ita_deg", "hair_L", "hair_a", "hair_b", "hair_height", "source",
)  # fmt: skip
REPORT_FIELDS = ("source", "file", "verdict", "id", "reasons", "details", *FACTS)
SEXES = ("male", "female")  # class numbers of the packed file
SHEET_PICTURES, _SHEET_COLUMNS = 150, 15
_OUR_FILE = re.compile(r"p[0-9a-f]{16}\.webp")


class SourceFile(Protocol):
    """A file in a container."""

    @property
    def path(self) -> str:
        """Path in the container, with forward slashes."""
        ...


class Trouble(Protocol):
    """A file of a container that cannot be read safely."""

    @property
    def path(self) -> str:
        """Path in the container; empty for the container itself."""
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


@dataclass(frozen=True)
class PreparedFile:
    """A line of the report.

    Attributes:
        source: Folder or ZIP as it was given.
        file: Path in it.
        key: Hash of the content, first letters; empty when it was not read.
        verdict: "kept", "rejected", "broken" or "ignored" (no picture by its name).
        reasons: Codes of `quality.Reason`, or of the container's trouble.
        details: Sentences with numbers.
        facts: Measured values.
        labels: Of a portrait.
    """

    source: str
    file: str
    key: str = ""
    verdict: str = "kept"
    reasons: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Name of portrait and thumbnail without ending."""
        return f"p{self.key}"


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
    _check_same_run(out, {**asdict(options), **(settings or {})})
    book = _RecordBook(out / "work")
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
    lines = _leave_twins_out(lines, book, find_twins)
    lines.sort(key=lambda line: (line.source, line.file))
    write_set(lines, out, options)
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


@dataclass
class _RecordBook:
    """What is done: one line of JSON for each picture, and portraits, points and thumbnails beside it."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "done.jsonl"
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        write_bytes_atomically(self.path, "".join(whole).encode())  # the last line may be half written
        records = [PreparedFile(**json.loads(line)) for line in whole]
        self.known = {(line.source, line.file, line.key): line for line in records}

    def file(self, line: PreparedFile, ending: str) -> Path:
        return self.folder / "pictures" / line.key[:2] / f"{line.id}{ending}"

    def add(self, line: PreparedFile, candidate: Candidate) -> None:
        if candidate.thumbnail is not None:
            buffer = io.BytesIO()
            candidate.thumbnail.save(buffer, "PNG")
            write_bytes_atomically(self.file(line, ".png"), buffer.getvalue())
        if candidate.portrait is not None and candidate.points is not None:
            write_bytes_atomically(self.file(line, ".webp"), encode_webp(candidate.portrait))
            write_bytes_atomically(self.file(line, ".npy"), _encode_array(candidate.points))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")


@dataclass(frozen=True)
class _Run:
    out: Path
    book: _RecordBook
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
                str(source.path), trouble.path, verdict="broken", reasons=("broken",), details=(trouble.text,)
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
    lines: Sequence[PreparedFile], book: _RecordBook, find_twins: FindTwins
) -> list[PreparedFile]:
    """Reject files that come twice, and then look-alikes; of two the one with the larger face stays."""
    result = list(lines)
    first: dict[str, int] = {}
    for index, line in enumerate(result):
        if line.verdict == "kept" and first.setdefault(line.key, index) != index:
            result[index] = _as_twin(line, result[first[line.key]], "the same file as")
    kept = sorted(first.values(), key=lambda index: (result[index].source, result[index].file))
    ranks = [(-result[index].facts["eyes_px"], result[index].id) for index in kept]
    twins = find_twins([book.file(result[index], ".webp") for index in kept], ranks)
    for loser, winner in sorted(twins.items()):
        result[kept[loser]] = _as_twin(result[kept[loser]], result[kept[winner]], "looks like")
    return result


def _as_twin(line: PreparedFile, other: PreparedFile, words: str) -> PreparedFile:
    return replace(
        line, verdict="rejected", reasons=("duplicate",), details=(f"{words} {other.file}",), labels={}
    )


# --- the set -------------------------------------------------------------------------------


def write_set(lines: Sequence[PreparedFile], out: Path, options: PrepareOptions) -> None:
    """Write all files of the set from the lines of the report and from `work/`."""
    work = _RecordBook(out / "work")
    kept = sorted((line for line in lines if line.verdict == "kept"), key=lambda line: line.id)
    _write_report(out / "report.csv", lines)
    _write_portraits(out / "portraits", kept, work)
    _write_table(out / "labels.csv", LABEL_FIELDS, [_label_row(line) for line in kept])
    _write_landmarks(out / "landmarks.npz", kept, work)
    packed = out / "dataset.zip"
    packed.unlink(missing_ok=True)
    if kept:
        write_dataset_zip(_iter_packed(kept, work, options), packed)
    _write_sheets(out / "sheets", "kept", kept, work)
    rejected = [line for line in lines if line.verdict == "rejected" or (line.verdict == "broken")]
    _write_sheets(out / "sheets", "rejected", rejected, work)


def _write_report(path: Path, lines: Sequence[PreparedFile]) -> None:
    rows = [
        {
            "source": line.source,
            "file": line.file,
            "verdict": line.verdict,
            "id": line.id if line.verdict == "kept" else "",
            "reasons": " ".join(line.reasons),
            "details": "; ".join(line.details),
            **line.facts,
        }
        for line in lines
    ]
    _write_table(path, REPORT_FIELDS, rows)


def _write_table(path: Path, fields: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes_atomically(path, buffer.getvalue().encode("utf-8", "backslashreplace"))


def _label_row(line: PreparedFile) -> dict[str, str]:
    return {"id": line.id, **line.labels, "source": f"{PurePosixPath(line.source).name}/{line.file}"}


def _write_portraits(folder: Path, kept: Sequence[PreparedFile], work: _RecordBook) -> None:
    """Put the kept portraits there and take away our own ones of an earlier run that are kept no more."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{line.id}.webp" for line in kept}
    for path in folder.iterdir():
        if path.name not in names and _OUR_FILE.fullmatch(path.name):
            path.unlink()
    for line in kept:
        write_bytes_atomically(folder / f"{line.id}.webp", work.file(line, ".webp").read_bytes())


def _write_landmarks(path: Path, kept: Sequence[PreparedFile], work: _RecordBook) -> None:
    """Write an .npz with fixed times: the same points, the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for line in kept:
            entry = zipfile.ZipInfo(f"{line.id}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, work.file(line, ".npy").read_bytes())
    write_bytes_atomically(path, buffer.getvalue())


def _iter_packed(
    kept: Sequence[PreparedFile], work: _RecordBook, options: PrepareOptions
) -> Iterator[tuple[Pixels, int]]:
    for line in kept:
        with PILImage.open(work.file(line, ".webp")) as image:
            pixels = np.asarray(composite(image, options.background))
        yield pixels, SEXES.index(line.labels["sex"])


def _write_sheets(folder: Path, name: str, lines: Sequence[PreparedFile], work: _RecordBook) -> None:
    """Write sheets of SHEET_PICTURES thumbnails each, with reasons below what was rejected."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [line for line in lines if line.key and work.file(line, ".png").exists()]
    parts = range(0, len(shown), SHEET_PICTURES)
    for number, start in enumerate(parts, 1):
        part = shown[start : start + SHEET_PICTURES]
        images = []
        for line in part:
            with closing(PILImage.open(work.file(line, ".png"))) as image:
                images.append(image.convert("RGB"))
        captions = [" ".join(line.reasons) or line.labels["sex"] + " " + line.labels["age"] for line in part]
        sheet = contact_sheet(images, _SHEET_COLUMNS, captions)
        write_bytes_atomically(folder / f"{name}-{number:03d}.png", encode_png(sheet))
    for path in folder.glob(f"{name}-[0-9][0-9][0-9]*.png"):
        if int(path.stem.rpartition("-")[2]) > len(parts):
            path.unlink()


def _encode_array(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
