"""What a pack holds already, be it a folder or a ZIP, ours or not.

Owns reading: which pictures there are, their bytes, the manifest. Writes nothing. A ZIP may come from
anywhere: names that could leave a folder, entries that are no pictures and sizes that no portrait has are
refused or passed over.
"""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.filenames import clash_key
from ehmfaces.facepack.journal import MANIFEST_NAME, MAX_MANIFEST_BYTES, Papers, read_bounded, read_papers

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PICTURE_BYTES = 8 * 2**20
MAX_ENTRIES = 400_000
MAX_PACK_BYTES = 16 * 2**30
MAX_RATIO = 10  # unpacked to packed; pictures hardly shrink
_SMALL_BYTES = 64 * 2**20


class PackContents(Protocol):
    """The pictures of a pack."""

    papers: Papers
    pictures: dict[str, str]  # clash key -> path as it is written

    def read(self, path: str) -> bytes:
        """Return one file; the path as it is written in `pictures`."""
        ...  # pragma: no cover

    def close(self) -> None:
        """Close what is open; nothing can be read afterwards."""
        ...  # pragma: no cover


class NoPack:
    """A pack that does not exist, or not any more; its manifest may be known."""

    def __init__(self, papers: Papers | None = None) -> None:
        self.papers = papers or Papers()
        self.pictures: dict[str, str] = {}

    def read(self, path: str) -> bytes:
        """Raise: there is nothing."""
        raise FileNotFoundError(path)

    def close(self) -> None:
        """Do nothing."""


class FolderContents:
    """The pictures in a folder and the folders below it."""

    def __init__(self, folder: Path) -> None:
        """Look at the names; a picture is read when it is asked for."""
        self._folder = folder
        self.papers = read_papers(read_bounded(folder / MANIFEST_NAME))
        self.pictures = {clash_key(name): name for name in _walk(folder)}

    def read(self, path: str) -> bytes:
        """Return one file."""
        return (self._folder / path).read_bytes()

    def close(self) -> None:
        """Do nothing."""


class ZipContents:
    """The pictures in a ZIP."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        """Look at the directory; a picture is read when it is asked for.

        Raises:
            FacepackError: It has more or larger entries than any pack.
        """
        entries = [info for info in archive.infolist() if _is_safe_name(info.filename)]
        _check_sizes(archive, name)
        self._archive = archive
        self.pictures = {
            clash_key(info.filename): info.filename
            for info in entries
            if info.filename.lower().endswith(PICTURE_SUFFIXES) and info.file_size <= MAX_PICTURE_BYTES
        }
        manifest = next((info for info in entries if info.filename == MANIFEST_NAME), None)
        is_readable = manifest is not None and manifest.file_size <= MAX_MANIFEST_BYTES
        self.papers = read_papers(archive.read(MANIFEST_NAME)) if is_readable else Papers()

    def read(self, path: str) -> bytes:
        """Return one file.

        Raises:
            FacepackError: The entry is damaged.
        """
        try:
            return self._archive.read(path)
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise FacepackError(f'"{path[:120]}" in the existing ZIP is damaged ({error}).') from error

    def close(self) -> None:
        """Close the ZIP."""
        self._archive.close()


@contextmanager
def open_contents(target: Path) -> Iterator[PackContents]:
    """Open a pack for reading; a missing one is empty.

    Raises:
        FacepackError: It is neither a folder nor a readable ZIP.
    """
    if target.is_dir():
        yield FolderContents(target)
    elif not target.exists():
        yield NoPack()
    else:
        try:
            archive = zipfile.ZipFile(target)
        except (zipfile.BadZipFile, OSError) as error:
            raise FacepackError(
                f'"{target}" is there and is no readable ZIP ({error}). Choose another name, or remove it.'
            ) from error
        with archive:
            yield ZipContents(archive, target.name)


def _walk(folder: Path) -> Iterator[str]:
    """Yield pictures below a folder, with forward slashes; links to elsewhere are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(PICTURE_SUFFIXES) and not name.startswith("."):
                yield Path(parent, name).relative_to(folder).as_posix()


def _is_safe_name(name: str) -> bool:
    parts = name.split("/")
    return not ("\\" in name or ":" in name or "\0" in name or any(part in ("", ".", "..") for part in parts))


def _check_sizes(archive: zipfile.ZipFile, name: str) -> None:
    entries = archive.infolist()
    total = sum(info.file_size for info in entries)
    packed = sum(info.compress_size for info in entries)
    if len(entries) > MAX_ENTRIES or total > min(MAX_PACK_BYTES, _SMALL_BYTES + MAX_RATIO * packed):
        raise FacepackError(
            f'"{name}" has {len(entries)} entries, {total / 1e6:.0f} MB unpacked and {packed / 1e6:.0f} MB '
            f"packed. At most {MAX_ENTRIES} entries, {MAX_PACK_BYTES // 2**30} GB and {MAX_RATIO} times the "
            "packed size are allowed. Is it a pack of portraits?"
        )
