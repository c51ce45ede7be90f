"""What was drawn for whom: one JSON line for each picture.

Owns the form of the lines, the journal of a run that has not ended, and the manifest of a pack, which is
the same lines in order of paths. Does not know how pictures are made or when they are alike.

A journal is only ever appended to. A line that was torn when the process was killed is passed over.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.uniqueness import Features
from ehmfaces.types import Seed

MANIFEST_NAME = "manifest.jsonl"
JOURNAL_NAME = "journal.jsonl"
FORMAT = 1
MAX_MANIFEST_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Draw:
    """One picture that was drawn.

    Attributes:
        path: In the pack.
        seed: Of the face as it was drawn.
        reroll: How often somebody asked for a new face.
        attempt: How often the face was too much like another one, since the last reroll.
        earlier: Attempts of the faces before each reroll, so that a reroll can be taken back.
        sha256: Of the file.
        features: As `measure_face` gives them; None = not measured.
        look: Fingerprint of the settings that it was drawn with.
        run: Number of the run that drew it.
    """

    path: str
    seed: Seed
    reroll: int = 0
    attempt: int = 0
    earlier: tuple[int, ...] = ()
    sha256: str = ""
    features: Features | None = field(default=None, compare=False)
    look: str = ""
    run: int = 0

    def to_line(self) -> bytes:
        """Return the line, with its end."""
        record = {
            "path": self.path,
            "seed": self.seed,
            "reroll": self.reroll,
            "attempt": self.attempt,
            "earlier": list(self.earlier),
            "sha256": self.sha256,
            "features": "" if self.features is None else base64.b64encode(self.features.tobytes()).decode(),
            "look": self.look,
            "run": self.run,
        }
        return _line(record)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Draw":
        """Read a line's record.

        Raises:
            ValueError, TypeError, KeyError: It is damaged.
        """
        features = base64.b64decode(record["features"], validate=True)
        return cls(
            str(record["path"]),
            int(record["seed"]),
            int(record["reroll"]),
            int(record["attempt"]),
            tuple(int(number) for number in record["earlier"]),
            str(record["sha256"]),
            np.frombuffer(features, np.int8) if features else None,
            str(record["look"]),
            int(record["run"]),
        )


@dataclass(frozen=True)
class Papers:
    """The head and the lines of a journal or manifest; without a file both are empty."""

    head: Mapping[str, Any] = field(default_factory=dict)
    draws: tuple[Draw, ...] = ()

    @property
    def run(self) -> int:
        """Return the number of the run that wrote them; 0 = none."""
        return int(self.head.get("run", 0))


def read_papers(data: bytes) -> Papers:
    """Read a journal or manifest; damaged lines are passed over, a damaged head leaves nothing."""
    lines = data.split(b"\n")
    head = _record(lines[0])
    if head.get("ehmfaces_pack") != FORMAT or not isinstance(head.get("run"), int):
        return Papers()
    draws = []
    for line in lines[1:]:
        try:
            draws.append(Draw.from_record(_record(line)))
        except (ValueError, TypeError, KeyError, binascii.Error):
            continue
    return Papers(head, tuple(draws))


def encode_manifest(head: Mapping[str, Any], draws: Iterable[Draw]) -> bytes:
    """Return the manifest of a pack, in order of paths."""
    ordered = sorted(draws, key=lambda draw: draw.path)
    return _line({"ehmfaces_pack": FORMAT, **head}) + b"".join(draw.to_line() for draw in ordered)


class Journal:
    """The journal of a run, open for appending.

    Args:
        path: The file; a torn last line is ended.
        head: Written when the file is new.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)
        if self._file.tell() == 0:
            self._file.write(_line({"ehmfaces_pack": FORMAT, **head}))
        else:
            self._file.write(b"\n")

    def add(self, draw: Draw) -> None:
        """Append one line.

        Raises:
            OSError: The disk is full; a torn line is harmless.
        """
        line = draw.to_line()
        if self._file.write(line) != len(line):
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def file_hash(data: bytes) -> str:
    """Return the SHA-256 of a picture in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that differ where the values do."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_bounded(path: Path) -> bytes:
    """Return a journal or manifest; nothing where there is none.

    Raises:
        FacepackError: It is larger than any that ehmfaces writes.
    """
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise FacepackError(f'"{path}" is too large to be a list of pictures. Remove it.')
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
