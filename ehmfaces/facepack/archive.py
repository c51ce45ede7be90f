"""A ZIP file that is the same for the same content.

Owns the bytes of a ZIP: entries are stored (PNG is compressed already), with fixed time stamps, in the
order they come; more than 4 GB or 65,535 entries use ZIP64. The bytes depend on nothing but the entries, on
no version of a library either. Does not know what is in the entries.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

_DATE = 1 << 5 | 1  # 1980-01-01, the first day that a ZIP can hold
_UTF8_NAMES = 0x800
_MADE_BY_UNIX = 3 << 8 | 45
_FILE_MODE = 0o100644 << 16
_U32 = 0xFFFFFFFF
_U16 = 0xFFFF


@dataclass(frozen=True)
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int


class ArchiveWriter:
    """Writes a ZIP to an open file, entry by entry.

    Args:
        file: Opened for writing in binary mode and without a buffer, at its start.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[_Entry] = []
        self._end = 0

    def add(self, name: str, data: bytes) -> None:
        """Append one entry.

        Args:
            name: Path with forward slashes.
            data: Content, below 4 GB.

        Raises:
            OSError: The disk is full or gone.
        """
        entry = _Entry(name.encode("utf-8"), zlib.crc32(data), len(data), self._end)
        self._write(_local_header(entry))
        self._write(data)
        self._entries.append(entry)
        self._end = entry.offset + 30 + len(entry.name) + entry.size

    def finish(self) -> None:
        """Write the directory of entries.

        Raises:
            OSError: The disk is full or gone.
        """
        directory = b"".join(map(_directory_entry, self._entries))
        self._write(directory + _end_records(len(self._entries), len(directory), self._end))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def _local_header(entry: _Entry) -> bytes:
    fields = (0x04034B50, 20, _UTF8_NAMES, 0, 0, _DATE, entry.crc, entry.size, entry.size, len(entry.name), 0)
    return struct.pack("<IHHHHHIIIHH", *fields) + entry.name


def _directory_entry(entry: _Entry) -> bytes:
    is_far = entry.offset >= _U32
    extra = struct.pack("<HHQ", 1, 8, entry.offset) if is_far else b""
    needed = 45 if is_far else 20
    return (
        struct.pack("<IHHHHHH", 0x02014B50, _MADE_BY_UNIX, needed, _UTF8_NAMES, 0, 0, _DATE)
        + struct.pack("<IIIHHHH", entry.crc, entry.size, entry.size, len(entry.name), len(extra), 0, 0)
        + struct.pack("<HII", 0, _FILE_MODE, _U32 if is_far else entry.offset)
        + entry.name
        + extra
    )


def _end_records(count: int, directory_size: int, directory_offset: int) -> bytes:
    """Return the end of the archive, with the ZIP64 records where the numbers need them."""
    zip64 = b""
    if count >= _U16 or directory_offset >= _U32:
        end = directory_offset + directory_size
        fields = (0x06064B50, 44, _MADE_BY_UNIX, 45, 0, 0, count, count, directory_size, directory_offset)
        zip64 = struct.pack("<IQHHIIQQQQ", *fields) + struct.pack("<IIQI", 0x07064B50, 0, end, 1)
    short = min(count, _U16)
    plain = (0x06054B50, 0, 0, short, short, min(directory_size, _U32), min(directory_offset, _U32), 0)
    return zip64 + struct.pack("<IHHHHIIH", *plain)
