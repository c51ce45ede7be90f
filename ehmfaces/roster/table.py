"""From text to rows of cells.

Owns the separator, quotes, line ends and row numbers. Does not know what a column means beyond counting
cells that look like dates or known titles, by which a separator is chosen.

A row number is the number of the line where the row begins; the first line of the file is 1. A quoted
cell may run over several lines; a quote that is never closed is an ordinary letter.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ehmfaces.errors import RosterError
from ehmfaces.roster.dates import looks_like_date
from ehmfaces.roster.titles import TitleTable, standard_titles

SEPARATORS = (";", ",", "\t", "|")
_SAMPLE_LINES = 200
_SAMPLE_LETTERS = 20_000  # of a line
_MAX_LINES_OF_A_ROW = 20
_EXCEL_HINT = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)
_NO_CELL = re.compile(r"[-–—_=\s]*")


@dataclass(frozen=True)
class Row:
    """Cells of one row, stripped; cells that only hold dashes are empty. `number` is its line."""

    number: int
    cells: tuple[str, ...]
    has_stray_quote: bool = False

    @property
    def is_blank(self) -> bool:
        """Tell whether no cell holds anything."""
        return not any(self.cells)

    def cell(self, index: int | None) -> str:
        """Return a cell, or "" when the row is too short or there is no such column."""
        return self.cells[index] if index is not None and index < len(self.cells) else ""


@dataclass(frozen=True)
class Table:
    """All rows of a file, the separator, and whether Excel's "sep=;" line came first."""

    rows: tuple[Row, ...]
    separator: str
    has_separator_line: bool = False


def read_table(
    text: str,
    source_name: str,
    separator: str | None = None,
    max_rows: int = 100_000,
    titles: TitleTable | None = None,
) -> Table:
    """Split the text of a roster into rows.

    Args:
        text: The whole file.
        source_name: Name of the file, for sentences.
        separator: One character; None = find it out.
        max_rows: The most lines that are accepted.
        titles: Titles that are known; None = the standard ones.

    Raises:
        RosterError: The separator is no single character, or there are too many rows.
    """
    lines = re.split(r"\r\n|\n|\r", text)
    if lines[-1] == "":
        lines.pop()
    if len(lines) > max_rows + 10:
        raise RosterError(
            f"{source_name} has {len(lines)} rows. At most {max_rows} are allowed. Split the file."
        )
    hint = _EXCEL_HINT.fullmatch(lines[0])
    chosen = _check_separator(separator) if separator is not None else None
    chosen = chosen or (hint[1] if hint else None) or find_separator(lines, titles)
    return Table(tuple(_rows(lines, chosen)), chosen, hint is not None)


def table_of_cells(rows: Iterable[Sequence[str]]) -> Table:
    """Return rows that came as cells, numbered from 1; the first is row 1 of a sheet or printed table."""
    return Table(
        tuple(Row(number, tuple(map(_clean_cell, cells))) for number, cells in enumerate(rows, start=1)), ""
    )


def _check_separator(separator: str) -> str:
    named = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}.get(separator, separator)
    if len(named) != 1 or named in '"\r\n' or named.isalnum():
        raise RosterError(
            f'The separator "{separator[:20]}" cannot be used. Give one of , ; | or tab, or leave it out.'
        )
    return named


def find_separator(lines: Sequence[str], titles: TitleTable | None = None) -> str:
    """Return the separator that gives the most sensible cells.

    Dates and known titles as whole cells count first, then rows of the same width; csv.Sniffer decides
    where these say nothing.
    """
    sample = [line[:_SAMPLE_LETTERS] for line in lines[:_SAMPLE_LINES] if line.strip()]
    scores = {separator: _score(sample, separator, titles or standard_titles()) for separator in SEPARATORS}
    best = max(scores.values())
    tied = [separator for separator in SEPARATORS if scores[separator] == best]
    if len(tied) == 1:
        return tied[0]
    try:
        return csv.Sniffer().sniff("\n".join(sample)[:2000], "".join(tied)).delimiter
    except csv.Error:
        return ","


def _score(sample: Sequence[str], separator: str, known: TitleTable) -> tuple[int, int, int]:
    rows = [row.cells for row in _rows(sample, separator)]
    widths = Counter(len(cells) for cells in rows if len(cells) > 1)
    same_width = max(widths.values(), default=0)
    dates = sum(any(looks_like_date(cell) for cell in cells) for cells in rows if len(cells) > 1)
    titles = max(
        (sum(known.field_of_title(cell) is not None for cell in set(cells)) for cells in rows[:10]), default=0
    )
    return dates, titles if titles > 1 else 0, same_width


def _rows(lines: Sequence[str], separator: str) -> Iterator[Row]:
    usual_width = Counter(line.count(separator) + 1 for line in lines).most_common(1)[0][0] if lines else 1
    start = 0
    while start < len(lines):
        cells, used, is_stray = _read_row(lines[start : start + _MAX_LINES_OF_A_ROW], separator, usual_width)
        yield Row(start + 1, tuple(map(_clean_cell, cells)), is_stray)
        start += used


def _read_row(lines: Sequence[str], separator: str, usual_width: int) -> tuple[list[str], int, bool]:
    """Return the cells of the first row, how many lines it takes, and whether it has a stray quote."""
    first = lines[0]
    if '"' not in first:
        return first.split(separator), 1, False
    reader = csv.reader([f"{line}\n" for line in lines] + ["\n"], delimiter=separator)
    try:
        cells = next(reader)
    except csv.Error:
        return first.split(separator), 1, True
    if reader.line_num == 1 or (reader.line_num <= len(lines) and len(cells) == usual_width):
        return cells, reader.line_num, False
    return first.split(separator), 1, True


def _clean_cell(text: str) -> str:
    stripped = text.strip()
    if not stripped or stripped[0].isalnum():
        return stripped
    stripped = stripped.removeprefix("\ufeff")
    return "" if _NO_CELL.fullmatch(stripped) else stripped
