"""Reads any folder or ZIP as a list of files, safely.

Owns what an unknown container may do: nothing is unpacked to the disk, no link is followed, and counts,
sizes and ratios have limits. Does not know pictures or names of a game.

Not covered: ZIPs inside ZIPs are files like others and are not opened.
"""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.finding import Finding

MAX_FILES = 400_000
MAX_FILE_BYTES = 20_000_000
MAX_WHOLE_BYTES = 100_000_000_000
MAX_RATIO = 200  # unpacked to packed; PNG and JPEG stay near 1
_SMALL_BYTES = 100_000  # below this a high ratio is harmless
_ENCRYPTED = 1


@dataclass(frozen=True)
class PackFile:
    """One file: path in the pack with forward slashes, and its size in bytes."""

    path: str
    size: int
    entry: int = -1  # index in the ZIP's directory


@dataclass
class PackFiles:
    """A folder or ZIP that was looked through. Close it, or use it with `with`.

    Attributes:
        path: The folder or ZIP.
        files: What can be read.
        findings: What is wrong with the container.
    """

    path: Path
    files: list[PackFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _zip: zipfile.ZipFile | None = None

    @property
    def is_zip(self) -> bool:
        """Tell whether this is a ZIP."""
        return self._zip is not None

    def read(self, file: PackFile) -> bytes:
        """Return a file's content; safe from several threads.

        Raises:
            FacepackError: It cannot be read, or is larger than it says.
        """
        try:
            if self._zip is None:
                with (self.path / file.path).open("rb") as opened:
                    data = opened.read(MAX_FILE_BYTES + 1)
            else:
                with self._zip.open(self._zip.infolist()[file.entry]) as opened:
                    data = opened.read(MAX_FILE_BYTES + 1)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise FacepackError(f"it cannot be read ({str(error)[:80]})") from error
        if len(data) > max(file.size, 0) or len(data) > MAX_FILE_BYTES:
            raise FacepackError("it is longer than it says")
        return data

    def close(self) -> None:
        """Close the ZIP."""
        if self._zip is not None:
            self._zip.close()

    def __enter__(self) -> "PackFiles":
        """Use as `with open_pack(path) as pack`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def open_pack(path: str | Path) -> PackFiles:
    """Look through a folder or ZIP.

    Raises:
        FacepackError: It is neither, or cannot be read.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _look_through_folder(path)
        return _look_through_zip(path, zipfile.ZipFile(path))
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise FacepackError(
            f'"{path.name or path}" cannot be read as a facepack ({why[:80]}). Give a folder or a ZIP file.'
        ) from error


def _look_through_folder(root: Path) -> PackFiles:
    pack = PackFiles(root)
    for path, size, is_link in _walk(root, ""):
        if is_link:
            text = "A link is not followed, and not every game or system does. Put the file itself there."
            pack.findings.append(Finding("link", path, text))
        elif len(pack.files) >= MAX_FILES:
            text = f"The folder has more than {MAX_FILES} files; the rest is not looked at. Split it."
            pack.findings.append(Finding("too-large", "", text))
            break
        elif _fits(pack, path, size):
            pack.files.append(PackFile(path, size))
    return pack


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int, bool]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            yield prefix + entry.name, 0, True
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size, False


def _look_through_zip(path: Path, archive: zipfile.ZipFile) -> PackFiles:
    pack = PackFiles(path, _zip=archive)
    whole = 0
    names: set[str] = set()
    for number, info in enumerate(archive.infolist()):
        if number >= MAX_FILES:
            text = f"The ZIP has more than {MAX_FILES} entries; the rest is not looked at. Split it."
            pack.findings.append(Finding("too-large", "", text))
            break
        if info.is_dir() and is_safe_path(info.filename.rstrip("/")):
            continue
        finding = _entry_finding(info, names)
        names.add(info.filename)
        whole += info.file_size
        if finding is None and whole > MAX_WHOLE_BYTES:
            finding = Finding(
                "too-large", "", f"Unpacked, the ZIP has more than {MAX_WHOLE_BYTES >> 30} GiB."
            )
        if finding is not None:
            pack.findings.append(finding)
            if whole > MAX_WHOLE_BYTES:
                break
        elif _fits(pack, info.filename, info.file_size):
            pack.files.append(PackFile(info.filename, info.file_size, number))
    return pack


def _fits(pack: PackFiles, path: str, size: int) -> bool:
    if size > MAX_FILE_BYTES:
        text = f"The file has {size / 1e6:.0f} MB; {MAX_FILE_BYTES // 10**6} are allowed. Leave it out."
        pack.findings.append(Finding("too-large", path, text))
        return False
    return True


def _entry_finding(info: zipfile.ZipInfo, names: set[str]) -> Finding | None:
    name = info.orig_filename
    if not is_safe_path(name.rstrip("/") if info.is_dir() else name):
        text = "The path leads out of the pack or cannot stand on every system. Pack the files again."
        return Finding("unsafe-path", name, text)
    if stat.S_ISLNK(info.external_attr >> 16):
        return Finding("link", name, "A link in a ZIP is not followed. Pack the file itself.")
    if info.filename in names:
        text = "The ZIP holds two entries of this name; which one counts depends on the program."
        return Finding("repeated-entry", name, text)
    if info.flag_bits & _ENCRYPTED:
        return Finding("damaged-entry", name, "The entry has a password. Pack it without one.")
    if info.file_size > _SMALL_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        ratio = info.file_size // max(info.compress_size, 1)
        return Finding(
            "too-large", name, f"It unpacks to {ratio} times its size, as a ZIP bomb does. Leave it out."
        )
    return None


def is_safe_path(path: str) -> bool:
    r"""Tell whether a path stays inside the folder that it is unpacked into, on every system.

    Example:
        >>> is_safe_path("players/Ann_Berg_7_3_2006.png"), is_safe_path("../x"), is_safe_path("C:\\x")
        (True, False, False)
    """
    if not path or "\\" in path or "\0" in path or path.startswith("/") or re.match("[A-Za-z]:", path):
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))
