"""The files of a prepared training set, and the book of what is done.

Owns `portraits/ID.webp`, `landmarks.npz` and `labels.csv` as `recombine` reads them; `dataset.zip` as
StyleGAN tools do (class 0 = men, 1 = women); `report.csv`, one line for each file; `sheets/`; and in `work/`
what the same run needs to go on. The ID comes from the picture's content. Does not know how a portrait is
made.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image as PILImage

from ehmfaces.data.candidate import Candidate, encode_webp
from ehmfaces.data.pack import write_dataset_zip
from ehmfaces.data.quality import FACTS
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


@dataclass
class RecordBook:
    """What is done: one line of JSON for each picture, and portraits, points and thumbnails beside it."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "done.jsonl"
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        write_bytes_atomically(self.path, "".join(whole).encode())  # the last line may be half written
        records = [_read_record(line) for line in whole]
        self.known = {(line.source, line.file, line.key): line for line in records}

    def file(self, line: PreparedFile, ending: str) -> Path:
        """Return where the portrait (.webp), its points (.npy) or thumbnail (.png) is."""
        return self.folder / "pictures" / line.key[:2] / f"{line.id}{ending}"

    def add(self, line: PreparedFile, candidate: Candidate) -> None:
        """Write down what became of a picture, its files first."""
        if candidate.thumbnail is not None:
            buffer = io.BytesIO()
            candidate.thumbnail.save(buffer, "PNG")
            write_bytes_atomically(self.file(line, ".png"), buffer.getvalue())
        if candidate.portrait is not None and candidate.points is not None:
            write_bytes_atomically(self.file(line, ".webp"), encode_webp(candidate.portrait))
            write_bytes_atomically(self.file(line, ".npy"), _encode_array(candidate.points))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")


def write_set(
    lines: Sequence[PreparedFile], out: Path, work: RecordBook, background: tuple[int, int, int]
) -> None:
    """Write all files of the set.

    Args:
        lines: Of the report.
        out: Folder of the set.
        work: Where portraits, points and thumbnails are.
        background: Colour beneath the portraits of the packed file, sRGB.
    """
    kept = sorted((line for line in lines if line.verdict == "kept"), key=lambda line: line.id)
    _write_report(out / "report.csv", lines)
    _write_portraits(out / "portraits", kept, work)
    _write_table(out / "labels.csv", LABEL_FIELDS, [_label_row(line) for line in kept])
    _write_landmarks(out / "landmarks.npz", kept, work)
    packed = out / "dataset.zip"
    packed.unlink(missing_ok=True)
    if kept:
        write_dataset_zip(_iter_packed(kept, work, background), packed)
    _write_sheets(out / "sheets", "kept", kept, work)
    rejected = [line for line in lines if line.verdict == "rejected" or (line.verdict == "broken")]
    _write_sheets(out / "sheets", "rejected", rejected, work)


def _write_report(path: Path, lines: Sequence[PreparedFile]) -> None:
    rows = [
        {
            "source": _plain_text(line.source),
            "file": _plain_text(line.file),
            "verdict": line.verdict,
            "id": line.id if line.verdict == "kept" else "",
            "reasons": " ".join(line.reasons),
            "details": _plain_text("; ".join(line.details)),
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
    return {
        "id": line.id,
        **line.labels,
        "source": _plain_text(f"{PurePosixPath(line.source).name}/{line.file}"),
    }


def _write_portraits(folder: Path, kept: Sequence[PreparedFile], work: RecordBook) -> None:
    """Put the kept portraits there and take away our own ones of an earlier run that are kept no more."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{line.id}.webp" for line in kept}
    for path in folder.iterdir():
        if path.name not in names and _OUR_FILE.fullmatch(path.name):
            path.unlink()
    for line in kept:
        write_bytes_atomically(folder / f"{line.id}.webp", work.file(line, ".webp").read_bytes())


def _write_landmarks(path: Path, kept: Sequence[PreparedFile], work: RecordBook) -> None:
    """Write an .npz with fixed times: the same points, the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for line in kept:
            entry = zipfile.ZipInfo(f"{line.id}.npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, work.file(line, ".npy").read_bytes())
    write_bytes_atomically(path, buffer.getvalue())


def _iter_packed(
    kept: Sequence[PreparedFile], work: RecordBook, background: tuple[int, int, int]
) -> Iterator[tuple[Pixels, int]]:
    for line in kept:
        with PILImage.open(work.file(line, ".webp")) as image:
            pixels = np.asarray(composite(image, background))
        yield pixels, SEXES.index(line.labels["sex"])


def _write_sheets(folder: Path, name: str, lines: Sequence[PreparedFile], work: RecordBook) -> None:
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


def _read_record(line: str) -> PreparedFile:
    values = json.loads(line)
    for name in ("reasons", "details"):
        values[name] = tuple(values[name])
    return PreparedFile(**values)


def _plain_text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _encode_array(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()
