"""Turns drawn and kept pictures into the pack that users see: a folder with its papers, or one ZIP.

Owns the order and the atomicity of what is written at the end, and backups. Does not draw.
"""

import datetime
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ehmfaces.facepack.archive import ArchiveWriter
from ehmfaces.facepack.contents import PackContents
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.journal import MANIFEST_NAME
from ehmfaces.images import write_bytes_atomically

Paper = tuple[str, bytes]


@dataclass(frozen=True)
class Picture:
    """A path in the pack, and where its bytes are: in the old pack, or in the folder of the run."""

    path: str
    source: str
    is_old: bool


def list_pictures(
    drawn: Mapping[str, Iterable[str]], kept: Mapping[str, Iterable[str]], old: PackContents
) -> list[Picture]:
    """Return every picture of the new pack, in order of paths.

    Args:
        drawn: Paths that the run drew -> their copies.
        kept: Paths that stay -> their copies, some of which may not be there yet.
        old: The pack as it was; what is in it and is not drawn stays.
    """
    pictures: dict[str, Picture] = {}
    for path, copies in drawn.items():
        for name in (path, *copies):
            pictures[clash_key(name)] = Picture(name, path, is_old=False)
    for key, path in old.pictures.items():
        pictures.setdefault(key, Picture(path, path, is_old=True))
    for path, copies in kept.items():
        for name in copies:
            pictures.setdefault(clash_key(name), Picture(name, old.pictures[clash_key(path)], is_old=True))
    return sorted(pictures.values(), key=lambda picture: picture.path)


def publish_zip(
    target: Path,
    pictures: Iterable[Picture],
    papers: Iterable[Paper],
    folder: Path,
    old: PackContents,
    *,
    backup: bool = False,
) -> None:
    """Write a ZIP beside its name and give it the name when it is whole.

    Args:
        target: The ZIP.
        pictures: In order; read one at a time.
        papers: Path and bytes of what follows.
        folder: Of the run.
        old: The pack that is there.
        backup: Keep the old ZIP under a dated name.

    Raises:
        OSError: The disk is full, or the place cannot be written.
    """
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        with cast(BinaryIO, part.open("xb", buffering=0)) as file:
            archive = ArchiveWriter(file)
            for path, data in _entries(pictures, papers, folder, old):
                archive.add(path, data)
            archive.finish()
            os.fsync(file.fileno())
        old.close()  # some systems replace no open file
        if backup and target.exists():
            os.replace(target, backup_path(target))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _entries(
    pictures: Iterable[Picture], papers: Iterable[Paper], folder: Path, old: PackContents
) -> Iterator[Paper]:
    for picture in pictures:
        data = old.read(picture.source) if picture.is_old else (folder / picture.source).read_bytes()
        yield picture.path, data
    yield from papers


def publish_folder(
    folder: Path, pictures: Iterable[Picture], papers: Iterable[Paper], old: PackContents
) -> None:
    """Write copies that are missing and the papers; the manifest comes last.

    Raises:
        FacepackError: The disk is full, or the place cannot be written.
    """
    for picture in pictures:
        if picture.is_old and picture.path != picture.source:
            write_bytes_atomically(folder / picture.path, old.read(picture.source))
    for path, data in sorted(papers, key=lambda paper: paper[0] == MANIFEST_NAME):
        write_bytes_atomically(folder / path, data)


def backup_path(target: Path) -> Path:
    """Return a dated name beside the pack that is free."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    suffix = target.suffix if target.suffix.lower() == ".zip" else ""
    stem = target.name.removesuffix(suffix) if suffix else target.name
    for number in range(1000):
        path = target.with_name(f"{stem}.backup-{stamp}{f'-{number}' if number else ''}{suffix}")
        if not path.exists():
            return path
    raise FileExistsError(str(path))


def is_backup(path: str, target: Path) -> bool:
    """Tell whether a path lies in a backup of a pack."""
    stem = target.name.removesuffix(target.suffix) if target.suffix.lower() == ".zip" else target.name
    return f"/{stem}.backup-" in f"/{path}"
