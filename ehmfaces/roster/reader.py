"""Read a roster file.

Owns the way from a file to a Roster with no settings, the limits on its size, and the header lines.
Encodings are in `decoding`, separators in `table`, columns and rows in `mapping`. Does not know what a
roster is used for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ehmfaces.errors import RosterError
from ehmfaces.roster.contents import ContentOptions, read_contents
from ehmfaces.roster.dates import OrderDecision, decide_date_order, looks_like_date
from ehmfaces.roster.decoding import Decoded
from ehmfaces.roster.entry import Column, DateOrder, Reading, Roster, RosterEntry, RowProblem
from ehmfaces.roster.mapping import MappingNotes, RowRules, find_columns, map_row, names_are_last_first
from ehmfaces.roster.table import Row, Table
from ehmfaces.roster.titles import TitleTable, standard_titles

_DATE_ORDERS: tuple[DateOrder, ...] = ("dmy", "mdy", "ymd")
_TITLE_SEARCH_LINES = 10
_TITLE_SEARCH_CELLS = 2000


@dataclass(frozen=True)
class RosterLimits:
    """The most that is read: bytes of a file, rows, columns and characters of a cell."""

    max_bytes: int = 50 * 1024 * 1024
    max_rows: int = 100_000
    max_columns: int = 512
    max_cell_chars: int = 1000


@dataclass(frozen=True)
class _Header:
    """Leading lines that are no data."""

    line_count: int
    titles: tuple[str, ...] = ()
    is_editor_sheet: bool = False
    declared_order: DateOrder | None = None


DEFAULT_LIMITS = RosterLimits()


def read_roster(
    source: str | Path | bytes | IO[bytes],
    *,
    name: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    header: int | None = None,
    columns: Mapping[str, int | str] | None = None,
    date_order: DateOrder | None = None,
    limits: RosterLimits = DEFAULT_LIMITS,
    sheet: str | None = None,
    titles: TitleTable | None = None,
    needs_birth_date: bool = True,
) -> Roster:
    """Read a roster file; everything that is not given is found out and reported in the Reading.

    Text in columns, Excel workbooks, RTF and HTML print-outs and JSON are read.

    Args:
        source: Path, whole content, or an open binary file.
        name: Name of the file for sentences; None = the path's name.
        encoding: Python's name of the encoding.
        separator: One character.
        header: How many leading lines are no data; the last of them holds the titles.
        columns: Field name (see `entry.FIELDS`) -> position from 0, or title.
        date_order: Order of dates that do not begin with the year.
        limits: The most that is read.
        sheet: Title of the sheet of a workbook.
        titles: Titles of columns that are known; None = the standard ones.
        needs_birth_date: False for games that know people by other things: rows without a birth date are
            entries then. Rows with Football Manager's unique id always are.

    Returns:
        Every row after the header lines, either as an entry or as a problem.

    Raises:
        RosterError: The file as a whole cannot be read. One bad row is never a reason.
    """
    if date_order is not None and date_order not in _DATE_ORDERS:
        raise RosterError(f'Unknown date order "{date_order}". Known: {", ".join(_DATE_ORDERS)}.')
    data, source_name = _load(source, name, limits)
    known = titles or standard_titles()
    options = ContentOptions(encoding, separator, sheet, limits.max_rows, limits.max_columns, known)
    decoded, table = read_contents(data, source_name, options)
    found = _find_header(table, header, known)
    rows = [row for row in table.rows if row.number > found.line_count]
    _check_table(rows, found, source_name, limits)
    where = find_columns(
        rows,
        found.titles,
        dict(columns or {}),
        is_editor_sheet=found.is_editor_sheet,
        source_name=source_name,
        known=known,
        needs_birth_date=needs_birth_date,
    )
    birth = where.get("birth_date")
    if birth and needs_birth_date and "uid" not in where:
        _check_birth_dates(rows, birth, source_name)
    birth_texts = [row.cell(birth.index) for row in rows] if birth else []
    order = decide_date_order(birth_texts, date_order, found.declared_order)
    rules = RowRules(
        source_name,
        where,
        order.order,
        names_are_last_first(rows, where),
        limits.max_cell_chars,
        limits.max_columns,
        known,
        needs_birth_date,
    )
    reading = _make_reading(decoded, table, found, rules, order)
    return _map_rows(rows, rules, reading)


def read_rosters(
    sources: Sequence[str | Path | bytes | IO[bytes]], names: Sequence[str] = (), **options: Any
) -> Roster:
    """Read several roster files as one list; each is understood for itself.

    Row numbers of the later files are counted on, so that each is there once; an entry's `where` and a
    problem's sentence name file and row. `limits.max_rows` holds for all of them together.

    Args:
        sources: As in `read_roster`, at least one.
        names: Names of the files for sentences; empty = the paths' names.
        options: As in `read_roster`, for every file.

    Raises:
        RosterError: One of the files cannot be read, or there are too many rows.
    """
    if not sources:
        raise RosterError("No roster was given. Give at least one file.")
    given: Sequence[str | None] = names or [None] * len(sources)
    rosters = [read_roster(file, name=name, **options) for file, name in zip(sources, given, strict=True)]
    limits = options.get("limits", DEFAULT_LIMITS)
    if sum(roster.row_count for roster in rosters) > limits.max_rows:
        raise RosterError(f"The files have more than {limits.max_rows} rows together. Give them in parts.")
    return rosters[0] if len(rosters) == 1 else _join(rosters)


def _join(rosters: Sequence[Roster]) -> Roster:
    entries: list[RosterEntry] = []
    problems: list[RowProblem] = []
    offset = 0
    for roster in rosters:
        name = roster.reading.source_name
        for entry in roster.entries:
            where = f"{name}, row {entry.row_number}"
            entries.append(replace(entry, row_number=entry.row_number + offset, where=where))
        for problem in roster.problems:
            reason = f"{name}, row {problem.row_number}: blank line." if problem.is_blank else problem.reason
            problems.append(replace(problem, row_number=problem.row_number + offset, reason=reason))
        offset += max(
            [entry.row_number for entry in roster.entries] + [p.row_number for p in roster.problems]
        )
    return Roster(
        tuple(entries), tuple(problems), _join_readings(rosters), sum(roster.row_count for roster in rosters)
    )


def _join_readings(rosters: Sequence[Roster]) -> Reading:
    """Return the first file's reading with all counts; the others are told in its notes."""
    readings = [roster.reading for roster in rosters]
    names = ("row_count", "entry_count", "player_count", "staff_count", "problem_count", "blank_count")
    counts = {name: sum(getattr(reading, name) for reading in readings) for name in names}
    notes = [f"{len(readings)} files were read; what is said above is of {readings[0].source_name}."]
    for reading in readings[1:]:
        notes += [f"{reading.source_name}: {sentence}" for sentence in reading.describe()]
    joined = replace(readings[0], notes=(*readings[0].notes, *notes), **counts)
    return replace(joined, source_name=", ".join(reading.source_name for reading in readings)[:200])


def _load(
    source: str | Path | bytes | IO[bytes], name: str | None, limits: RosterLimits
) -> tuple[bytes, str]:
    """Return the whole content and the name for sentences, without reading more than is allowed."""
    if isinstance(source, bytes | bytearray):
        data, source_name = bytes(source), name or "The roster"
    elif isinstance(source, str | Path):
        data, source_name = _load_path(Path(source), name, limits)
    else:
        data, source_name = source.read(limits.max_bytes + 1), name or "The roster"
        if not isinstance(data, bytes):
            raise RosterError(f"{source_name} was opened as text. Open it in binary mode.")
    if len(data) > limits.max_bytes:
        raise RosterError(_too_large(source_name, limits))
    return data, source_name


def _load_path(path: Path, name: str | None, limits: RosterLimits) -> tuple[bytes, str]:
    source_name = name or path.name or str(path)
    try:
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1), source_name
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise RosterError(
            f'The roster "{path}" cannot be opened: {what}. Give the path of a file.'
        ) from error


def _too_large(source_name: str, limits: RosterLimits) -> str:
    return (
        f"{source_name} is larger than {limits.max_bytes / 2**20:g} MB, which is the most that is read. "
        "Split it, or export fewer columns."
    )


def _check_table(rows: Sequence[Row], header: _Header, source_name: str, limits: RosterLimits) -> None:
    if all(row.is_blank for row in rows):
        raise RosterError(f"{source_name} has a header but no rows. Give a roster with one person a line.")
    if len(rows) > limits.max_rows:
        raise RosterError(
            f"{source_name} has {len(rows)} rows. At most {limits.max_rows} are allowed. Split it."
        )
    width = max(len(header.titles), min(len(row.cells) for row in rows if not row.is_blank))
    if width > limits.max_columns:
        raise RosterError(
            f"{source_name} has {width} columns. At most {limits.max_columns} are allowed. "
            "Export fewer columns."
        )


def _check_birth_dates(rows: Sequence[Row], column: Column, source_name: str) -> None:
    cells = [row.cell(column.index) for row in rows]
    if any(looks_like_date(cell) for cell in cells):
        return
    label = f'column "{column.title}"' if column.title else f"column {column.index + 1}"
    example = next((cell for cell in cells if cell), None)
    what = f'holds no dates; its first cell is "{example[:40]}"' if example else "is empty in every row"
    raise RosterError(
        f"{source_name} has no birth dates at all: {label} {what}. A picture's file name needs the birth "
        "date: export the list with it, or say which column holds it."
    )


def _find_header(table: Table, asked: int | None, known: TitleTable) -> _Header:
    rows = table.rows
    if asked is not None:
        if asked < 0:
            raise RosterError(f"{asked} header lines are impossible. Give 0 or more.")
        titles = rows[asked - 1].cells if 0 < asked <= len(rows) else ()
        editor = _declared_order(rows[0]) if asked else None
        return _Header(asked, titles if asked > 1 or editor is None else (), editor is not None, editor)
    skip = 1 if table.has_separator_line else 0
    start = next((i for i, row in enumerate(rows) if i >= skip and not row.is_blank), len(rows))
    if start == len(rows):
        return _Header(skip)
    declared = _declared_order(rows[start])
    if declared is None:
        return _find_titles(rows, start, skip, known)
    has_titles = start + 1 < len(rows) and not any(map(looks_like_date, rows[start + 1].cells))
    titles = rows[start + 1].cells if has_titles else ()
    return _Header(rows[start].number + has_titles, titles, True, declared)


def _declared_order(row: Row) -> DateOrder | None:
    """Return the date order in the EHM Editor's first line, "staff,dmy,metric"; None = another line."""
    words = [cell.casefold() for cell in row.cells if cell]
    if len(words) > 4 or not words:
        return None
    return next((order for order in _DATE_ORDERS if order in words[1:]), None)


def _find_titles(rows: Sequence[Row], start: int, skip: int, known: TitleTable) -> _Header:
    """Find the title line among the first lines: it names a field or stands over a column of dates."""
    for row in rows[start : start + _TITLE_SEARCH_LINES]:
        cells = row.cells[:_TITLE_SEARCH_CELLS]
        if any(map(looks_like_date, cells)):
            break
        fields = {known.field_of_title(cell) for cell in cells if cell} - {None}
        if len(fields) >= 2 or {"birth_date", "uid"} & fields:
            return _Header(row.number, row.cells)
    first = rows[start]
    if _stands_over_dates(first, rows[start + 1 :]):
        return _Header(first.number, first.cells)
    return _Header(skip)


def _stands_over_dates(first: Row, rest: Sequence[Row]) -> bool:
    """Tell whether a line in an unknown language is a title line: words where the others have dates."""
    cells = first.cells[:_TITLE_SEARCH_CELLS]
    if any(map(looks_like_date, cells)):
        return False
    sample = [row for row in rest[:50] if not row.is_blank]
    for index, cell in enumerate(cells):
        dates = sum(looks_like_date(row.cell(index)) for row in sample)
        if cell and cell[0].isalpha() and sample and dates >= 0.6 * len(sample):
            return True
    return False


def _make_reading(
    decoded: Decoded, table: Table, header: _Header, rules: RowRules, order: OrderDecision
) -> Reading:
    notes = list(decoded.notes)
    if order.is_doubtful and "birth_date" in rules.columns:
        notes.append(
            f"The order of day and month is not certain: read as {order.order}, because {order.reason}. "
            "Choose it yourself if dates are wrong."
        )
    if rules.last_name_first:
        notes.append('Names are written "Last, First" and were turned round.')
    layout = "EHM Editor" if header.is_editor_sheet else "titles" if header.titles else "no titles"
    if "classification" not in rules.columns:
        notes.append("No column tells players from staff: everybody counts as a player.")
    return Reading(
        rules.source_name,
        decoded.encoding,
        table.separator,
        header.line_count,
        layout,
        header.titles,
        rules.columns,
        order.order,
        order.reason,
        notes=tuple(notes),
    )


def _map_rows(rows: Sequence[Row], rules: RowRules, reading: Reading) -> Roster:
    notes = MappingNotes()
    if reading.titles:
        width = len(reading.titles)
        notes.extra_cells.extend(row.number for row in rows if any(row.cells[width:]))
    outcomes = [map_row(row, rules, notes) for row in rows]
    entries = tuple(outcome for outcome in outcomes if isinstance(outcome, RosterEntry))
    problems = tuple(outcome for outcome in outcomes if isinstance(outcome, RowProblem))
    players = sum(entry.role == "player" for entry in entries)
    complete = replace(
        reading,
        row_count=len(rows),
        entry_count=len(entries),
        player_count=players,
        staff_count=len(entries) - players,
        problem_count=len(problems),
        blank_count=sum(problem.is_blank for problem in problems),
        notes=(*reading.notes, *notes.sentences(reading.date_order)),
    )
    return Roster(entries, problems, complete, len(rows))
