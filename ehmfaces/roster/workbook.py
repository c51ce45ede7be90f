"""Rosters in Excel workbooks (.xlsx).

Owns the choice of the sheet, the text of a cell, and the limits that keep a small file from becoming a
large one. Does not know titles, people or dates in text. Formulas are never evaluated: the value that
was stored with them is read.

Limits: what the parts of the file really unpack to is counted before anything is parsed, and a part that
declares a document type (the way to entities) is refused.
"""

import datetime
import io
import warnings
import zipfile
from typing import Any

from ehmfaces.errors import RosterError

MAX_UNPACKED_BYTES = 400 * 2**20
MAX_SHARED_BYTES = 64 * 2**20  # texts that are kept in memory at once
MAX_PARTS = 2000
_CHUNK = 2**18
_DOCTYPES = (b"<!DOCTYPE", "<!DOCTYPE".encode("utf-16-le"), "<!DOCTYPE".encode("utf-16-be"))
_ADVICE = "Save it as .xlsx or as CSV (UTF-8) and try again."


def is_workbook(data: bytes) -> bool:
    """Tell whether a file is a ZIP archive, as every .xlsx is."""
    return data.startswith(b"PK\x03\x04")


def read_workbook(
    data: bytes, source_name: str, *, sheet: str | None, max_rows: int, max_columns: int
) -> tuple[list[list[str]], str, tuple[str, ...]]:
    """Read one sheet.

    Args:
        data: The whole file.
        source_name: Name of the file, for sentences.
        sheet: Title of the sheet; None = the first visible one that holds anything.
        max_rows: The most rows that are accepted.
        max_columns: Cells beyond so many in a row are counted as one cell too many.

    Returns:
        Rows of cells as text, the first row of the sheet first; the sheet's title; sentences.

    Raises:
        RosterError: It is no workbook, has no such sheet, or is too large.
    """
    _check_parts(data, source_name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what styles and extensions the library leaves out
            return _read_sheet(data, source_name, sheet, max_rows, max_columns)
    except RosterError:
        raise
    except Exception as error:  # a damaged workbook makes the library fail in any way
        raise RosterError(
            f"{source_name} is a damaged Excel workbook or none at all ({type(error).__name__}). {_ADVICE}"
        ) from error


def _check_parts(data: bytes, source_name: str) -> None:
    """Unpack every part once, without keeping it, and refuse what no roster needs."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if len(parts) > MAX_PARTS or not any(part.filename == "[Content_Types].xml" for part in parts):
                raise RosterError(
                    f"{source_name} is a ZIP archive but not an Excel workbook (.xlsx). {_ADVICE}"
                )
            left = MAX_UNPACKED_BYTES
            for part in parts:
                limit = min(left, MAX_SHARED_BYTES) if "sharedstrings" in part.filename.lower() else left
                left -= _check_part(archive, part, limit, source_name)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError, NotImplementedError) as error:
        raise RosterError(f"{source_name} is a damaged Excel workbook ({error}). {_ADVICE}") from error
    except Exception as error:  # zlib.error, lzma.LZMAError, struct.error: damaged as well
        if isinstance(error, RosterError):
            raise
        raise RosterError(f"{source_name} is a damaged Excel workbook. {_ADVICE}") from error


def _check_part(archive: zipfile.ZipFile, part: zipfile.ZipInfo, limit: int, source_name: str) -> int:
    """Return how many bytes a part really has."""
    size, tail = 0, b""
    is_xml = part.filename.lower().endswith((".xml", ".rels", ".vml"))
    with archive.open(part) as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise RosterError(
                    f"{source_name} unpacks to more than {limit // 2**20} MB. "
                    "Split it, or export fewer columns."
                )
            if is_xml and any(mark in tail + chunk for mark in _DOCTYPES):
                raise RosterError(f"{source_name} declares XML entities, which no workbook needs. {_ADVICE}")
            tail = chunk[-32:]
    return size


def _read_sheet(
    data: bytes, source_name: str, wanted: str | None, max_rows: int, max_columns: int
) -> tuple[list[list[str]], str, tuple[str, ...]]:
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    try:
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or book.worksheets
        if wanted is not None:
            sheets = [sheet for sheet in book.worksheets if sheet.title.casefold() == wanted.casefold()]
        if not sheets:
            known = ", ".join(f'"{name}"' for name in book.sheetnames[:20]) or "none"
            raise RosterError(f'{source_name} has no sheet "{(wanted or "")[:40]}". Its sheets: {known}.')
        for sheet in sheets:
            rows = _rows(sheet, source_name, max_rows, max_columns)
            if any(any(row) for row in rows):
                return rows, sheet.title, _sheet_notes(sheet.title, book.sheetnames, wanted)
    finally:
        book.close()
    raise RosterError(f"{source_name} is empty. Give a roster with one person a line.")


def _sheet_notes(title: str, names: list[str], wanted: str | None) -> tuple[str, ...]:
    others = ", ".join(f'"{name}"' for name in names[:10] if name != title)
    if wanted is not None or not others:
        return ()
    return (f'Only the sheet "{title}" was read, not {others}. Choose another one with --sheet.',)


def _rows(sheet: Any, source_name: str, max_rows: int, max_columns: int) -> list[list[str]]:
    sheet.reset_dimensions()  # what the file says about its size is not believed
    rows: list[list[str]] = []
    filled = 0
    for values in sheet.iter_rows(max_row=max_rows + 11, max_col=max_columns + 1, values_only=True):
        rows.append(_cells(values))
        filled = len(rows) if rows[-1] else filled
        if filled > max_rows + 10:
            raise RosterError(
                f"{source_name} has more than {max_rows} rows, the most allowed. Split the file."
            )
    return rows[:filled]


def _cells(values: tuple[Any, ...]) -> list[str]:
    cells = [_text(value) for value in values]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _text(value: object) -> str:
    """Return the text of a cell as a CSV would have it; dates as YYYY-MM-DD."""
    if value is None or isinstance(value, bool | datetime.time | datetime.timedelta):
        return ""
    if isinstance(value, datetime.datetime | datetime.date):
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
