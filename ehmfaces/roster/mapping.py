"""From rows of cells to people.

Owns where each field stands, and what one row gives: a RosterEntry or a RowProblem with a sentence.
Does not know bytes, encodings, separators or file names of a game.

Columns come from the user's choice, else from the positions of the EHM Editor's sheet, else from the
titles, else from what the cells hold. Nothing is fallen back on silently: what is found is in the Reading.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ehmfaces.errors import RosterError
from ehmfaces.roster.dates import FIRST_YEAR, LAST_YEAR, DateOutcome, looks_like_date, parse_date
from ehmfaces.roster.entry import FIELDS, Column, DateOrder, Role, RosterEntry, RowProblem
from ehmfaces.roster.table import Row
from ehmfaces.roster.titles import TitleTable, is_plain_name_title, standard_titles

EDITOR_POSITIONS = {
    "first_name": 1,
    "last_name": 2,
    "birth_date": 3,
    "nation": 4,
    "second_nation": 5,
    "classification": 8,
}
_CONTENT_SAMPLE = 500
_LISTED = 8
_UID = re.compile(r"\s*(?:r-)?(\d{1,15})(?:\.0)?\s*", re.ASCII | re.IGNORECASE)
_YEAR = re.compile(r"\s*(\d{4})(?:\.0)?\s*", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")

Columns = dict[str, Column]


@dataclass(frozen=True)
class RowRules:
    """How the cells of every row of a file are to be read.

    Attributes:
        source_name: Name of the file, for sentences.
        columns: Field name -> column.
        date_order: Order of day and month.
        last_name_first: Names are written "Last, First".
        max_cell_chars: The longest cell that is read.
        max_columns: The widest row that is read.
        titles: Words that are known in titles and cells.
        needs_birth_date: A row without a birth date and without a unique id is a problem.
    """

    source_name: str
    columns: Mapping[str, Column]
    date_order: DateOrder
    last_name_first: bool = False
    max_cell_chars: int = 1000
    max_columns: int = 512
    titles: TitleTable = field(default_factory=standard_titles)
    needs_birth_date: bool = True

    def cell(self, row: Row, name: str) -> str:
        """Return the cell of a field in a row, NFC with single spaces."""
        column = self.columns.get(name)
        text = _SURROGATE.sub("\ufffd", row.cell(column.index)) if column else ""
        return " ".join(unicodedata.normalize("NFC", text).split())


@dataclass
class MappingNotes:
    """Row numbers that are worth a sentence, gathered while rows are read."""

    split_names: list[int] = field(default_factory=list)
    against_order: list[int] = field(default_factory=list)
    unknown_roles: list[int] = field(default_factory=list)
    stray_quotes: list[int] = field(default_factory=list)
    extra_cells: list[int] = field(default_factory=list)

    def sentences(self, date_order: DateOrder) -> list[str]:
        """Return one sentence for each kind of row that occurred."""
        kinds = (
            (self.split_names, "the name has three or more words; the first was taken as first name"),
            (self.against_order, f"the date is impossible as {date_order}; day and month were swapped"),
            (self.unknown_roles, "the classification is unknown and was taken as player"),
            (self.stray_quotes, "a quotation mark is never closed; it was read as a letter"),
            (self.extra_cells, "there are more cells than titles; the extra cells were ignored"),
        )
        return [f"In {list_rows(rows)} {what}." for rows, what in kinds if rows]


def list_rows(numbers: Sequence[int]) -> str:
    """Name some rows in words.

    Example:
        >>> list_rows([3, 5])
        '2 rows (3, 5)'
    """
    shown = ", ".join(map(str, numbers[:_LISTED])) + (", ..." if len(numbers) > _LISTED else "")
    return f"{len(numbers)} {'row' if len(numbers) == 1 else 'rows'} ({shown})"


def find_columns(
    rows: Sequence[Row],
    titles: Sequence[str],
    asked: Mapping[str, int | str],
    *,
    is_editor_sheet: bool,
    source_name: str,
    known: TitleTable | None = None,
    needs_birth_date: bool = True,
) -> Columns:
    """Find where each field stands.

    Args:
        rows: Rows of data.
        titles: Cells of the title line; empty when there is none.
        asked: Field name -> position from 0, or title, that the user chose.
        is_editor_sheet: The file begins with the EHM Editor's own first line.
        source_name: Name of the file, for sentences.
        known: Titles and words that are known; None = the standard ones.
        needs_birth_date: Birth dates are asked for, unless there is a column of unique ids.

    Raises:
        RosterError: A column asked for does not exist, or no birth date or no name was found.
    """
    known = known or standard_titles()
    chosen = {name: _asked_column(name, value, titles, rows, source_name) for name, value in asked.items()}
    sample = [row for row in rows if not row.is_blank][:_CONTENT_SAMPLE]
    by_title = _columns_by_title(titles, known)
    if is_editor_sheet and "birth_date" not in chosen and _share_of_dates(sample, 3) >= 0.5:
        found = {
            name: Column(i, titles[i] if i < len(titles) else "", "position")
            for name, i in EDITOR_POSITIONS.items()
        }
    else:
        found = by_title or _columns_by_content(sample, known)
    columns = {name: column for name, column in found.items() if name not in chosen} | chosen
    if "birth_date" not in columns:
        columns |= _date_column_by_content(sample, titles, columns)
    _check_columns(columns, titles, source_name, needs_birth_date=needs_birth_date)
    return {name: columns[name] for name in FIELDS if name in columns}


def _asked_column(
    name: str, value: int | str, titles: Sequence[str], rows: Sequence[Row], source_name: str
) -> Column:
    if name not in FIELDS:
        raise RosterError(f'Unknown field "{name}". Known: {", ".join(FIELDS)}.')
    width = max([len(titles), *(len(row.cells) for row in rows)], default=0)
    if isinstance(value, int):
        if 0 <= value < width:
            return Column(value, titles[value] if value < len(titles) else "", "asked")
        raise RosterError(f"{source_name} has no column {value} (counted from 0). It has {width} columns.")
    for index, title in enumerate(titles):
        if title.strip().casefold() == value.strip().casefold():
            return Column(index, title, "asked")
    known = ", ".join(f'"{title}"' for title in titles[:20] if title) or "none, as it has no title line"
    raise RosterError(f'{source_name} has no column titled "{value[:60]}". Its titles: {known}.')


def _columns_by_title(titles: Sequence[str], known: TitleTable) -> Columns:
    found: Columns = {}
    for index, title in enumerate(titles):
        name = known.field_of_title(title)
        if name and name not in found:
            found[name] = Column(index, title, "title")
    plain = found.get("name")
    if plain and is_plain_name_title(plain.title):
        if "first_name" in found and "last_name" not in found:
            found["last_name"] = found.pop("name")
        elif "last_name" in found and "first_name" not in found:
            found["first_name"] = found.pop("name")
    if "first_name" in found and "last_name" in found:
        found.pop("name", None)
    return found


def _share_of_dates(rows: Sequence[Row], index: int) -> float:
    filled = [row.cell(index) for row in rows if row.cell(index)]
    return sum(map(looks_like_date, filled)) / len(filled) if filled else 0.0


def _date_column_by_content(rows: Sequence[Row], titles: Sequence[str], columns: Columns) -> Columns:
    """Return the only column that mostly holds dates; two of them are for the user to choose from."""
    taken = {column.index for column in columns.values()}
    width = max((len(row.cells) for row in rows), default=0)
    likely = [i for i in range(width) if i not in taken and _share_of_dates(rows, i) >= 0.5]
    if len(likely) != 1:
        return {}
    title = titles[likely[0]] if likely[0] < len(titles) else ""
    return {"birth_date": Column(likely[0], title, "content")}


def _columns_by_content(rows: Sequence[Row], known: TitleTable) -> Columns:
    """Find first name, last name, birth date and nation in a list without titles.

    Names are the one or two columns of words before the birth date (or after it, when none is before).
    """
    width = max((len(row.cells) for row in rows), default=0)
    shares = [_share_of_dates(rows, i) for i in range(width)]
    likely = [i for i, share in enumerate(shares) if share >= 0.5]
    if not likely:
        return {}
    birth = likely[0]
    words = [i for i in range(width) if i not in likely and _mostly_words(rows, i)]
    before = [i for i in words if i < birth]
    names = before[-2:] if before else words[:2]
    rest = [i for i in words if i > max([birth, *names])]
    found = {"birth_date": birth}
    found |= dict(zip(("first_name", "last_name") if len(names) == 2 else ("name",), names, strict=False))
    for index in rest:
        if _is_classification(rows, index, known):
            found.setdefault("classification", index)
        else:
            found.setdefault("nation", index)
    return {name: Column(index, "", "content") for name, index in found.items()}


def _mostly_words(rows: Sequence[Row], index: int) -> bool:
    filled = [row.cell(index) for row in rows if row.cell(index)]
    wordy = sum(any(char.isalpha() for char in cell) for cell in filled)
    return 2 * wordy > len(filled)


def _is_classification(rows: Sequence[Row], index: int, known: TitleTable) -> bool:
    filled = [row.cell(index) for row in rows if row.cell(index)]
    return 2 * sum(known.role_of_cell(cell) is not None for cell in filled) > len(filled)


def _check_columns(
    columns: Columns, titles: Sequence[str], source_name: str, *, needs_birth_date: bool
) -> None:
    known = ", ".join(f'"{title[:40]}"' for title in titles[:20] if title)
    seen = f" Its titles: {known}." if known else ""
    if needs_birth_date and not {"birth_date", "uid"} & set(columns):
        raise RosterError(
            f"{source_name} has no column of birth dates.{seen} A picture's file name needs the birth date: "
            "export the list with it, or say which column holds it."
        )
    if not {"first_name", "last_name", "name"} & set(columns):
        raise RosterError(f"{source_name} has no column of names.{seen} Say which column holds the names.")


def names_are_last_first(rows: Sequence[Row], columns: Mapping[str, Column]) -> bool:
    """Tell whether one Name column is written "Last, First": nearly every name has one comma."""
    if "name" not in columns or {"first_name", "last_name"} & set(columns):
        return False
    names = [row.cell(columns["name"].index) for row in rows]
    filled = Counter(name.count(",") for name in names if name)
    return filled[1] >= 0.8 * filled.total() > 0


def map_row(row: Row, rules: RowRules, notes: MappingNotes) -> RosterEntry | RowProblem:
    """Read one row.

    Args:
        row: The cells.
        rules: How to read them.
        notes: Gathers what is worth a sentence.
    """
    if row.is_blank:
        return RowProblem(row.number, "Blank line.", is_blank=True)
    where = f"{rules.source_name}, row {row.number}"
    size_problem = _size_problem(row, rules, where)
    if size_problem:
        return RowProblem(row.number, size_problem)
    first, last, was_split = _read_names(row, rules)
    text, uid = rules.cell(row, "birth_date"), _read_uid(row, rules)

    def problem(reason: str) -> RowProblem:
        return RowProblem(row.number, f"{where}: {reason}", first, last, text)

    if not (first or last):
        return problem("there is no name.")
    outcome = parse_date(text, rules.date_order)
    trouble = "" if outcome.date else _date_sentence(text, outcome, rules.columns.get("birth_date"))
    if trouble and rules.needs_birth_date and not uid:
        return problem(trouble)
    role = _read_role(row, rules, notes)
    _note_row(row, notes, was_split=was_split, against_order=outcome.against_order)
    nations = (rules.cell(row, "nation"), rules.cell(row, "second_nation"))
    return RosterEntry(
        row.number,
        first,
        last,
        outcome.date,
        *nations,
        role,
        was_split,
        uid=uid,
        birth_year=_read_year(text, rules.cell(row, "birth_year")) if outcome.date is None else 0,
        date_problem=f"{where}: {trouble}" if trouble else "",
    )


def _read_uid(row: Row, rules: RowRules) -> str:
    """Return the digits of Football Manager's unique id, without the "r-" of newgens; else nothing."""
    match = _UID.fullmatch(rules.cell(row, "uid"))
    return match[1].lstrip("0") if match else ""


def _read_year(*texts: str) -> int:
    """Return the first text that is a year somebody can be born in, else 0."""
    years = [int(match[1]) for match in map(_YEAR.fullmatch, texts) if match]
    return next((year for year in years if FIRST_YEAR <= year <= LAST_YEAR), 0)


def _note_row(row: Row, notes: MappingNotes, *, was_split: bool, against_order: bool) -> None:
    kinds = (
        (was_split, notes.split_names),
        (against_order, notes.against_order),
        (row.has_stray_quote, notes.stray_quotes),
    )
    for happened, numbers in kinds:
        if happened:
            numbers.append(row.number)


def _size_problem(row: Row, rules: RowRules, where: str) -> str:
    if len(row.cells) > rules.max_columns:
        return f"{where}: it has {len(row.cells)} cells. At most {rules.max_columns} are read."
    for column in rules.columns.values():
        length = len(row.cell(column.index))
        if length > rules.max_cell_chars:
            return f"{where}: a cell has {length} letters. At most {rules.max_cell_chars} are read."
    return ""


def _read_names(row: Row, rules: RowRules) -> tuple[str, str, bool]:
    """Return first name, last name and whether a name of three or more words was split by rule."""
    first, last = rules.cell(row, "first_name"), rules.cell(row, "last_name")
    if first or last or "name" not in rules.columns:
        return first, last, False
    name = rules.cell(row, "name")
    if rules.last_name_first and "," in name:
        last, _, first = (part.strip() for part in name.partition(","))
        return first, last, False
    words = name.split(" ")
    if len(words) == 1:
        return "", name, False
    return words[0], " ".join(words[1:]), len(words) > 2


def _read_role(row: Row, rules: RowRules, notes: MappingNotes) -> Role:
    text = rules.cell(row, "classification")
    role = rules.titles.role_of_cell(text) if text else "player"
    if role is None:
        notes.unknown_roles.append(row.number)
    return role or "player"


_DATE_SENTENCES: Mapping[str, Callable[[str, str], str]] = {
    "empty": lambda text, column: f"the birth date is empty ({column}).",
    "placeholder": lambda text, column: (
        f'birth date "{text}" is the game\'s sign for "not known"; '
        "the game draws a date of its own, so that no file name can match."
    ),
    "two-digit year": lambda text, column: (
        f'birth date "{text}" has a year of two digits ({column}). Write all four.'
    ),
    "year": lambda text, column: f'birth date "{text}" has a year that nobody is born in ({column}).',
}


def _date_sentence(text: str, outcome: DateOutcome, column: Column | None) -> str:
    if column is None:
        return "the roster has no birth dates."
    where = f'column "{column.title}"' if column.title else f"column {column.index + 1}"
    sentence = _DATE_SENTENCES.get(outcome.trouble)
    if sentence:
        return sentence(text[:60], where)
    return f'birth date "{text[:60]}" is not a date ({where}). Use DD.MM.YYYY or pass --date-format.'
