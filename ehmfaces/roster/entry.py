"""What a roster is once it is read: people, rows that gave none, and how the file was understood.

Owns the records only. Does not know files, encodings, dates in text or file names of a game.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ehmfaces.seeds import normalize_name

Role = Literal["player", "staff"]
DateOrder = Literal["dmy", "mdy", "ymd"]
FIELDS = (
    "uid",
    "first_name",
    "last_name",
    "name",
    "birth_date",
    "birth_year",
    "nation",
    "second_nation",
    "classification",
)
_SEPARATOR_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar", "": "none, cells"}
_FIELD_WORDS = {
    "uid": "unique id",
    "first_name": "first name",
    "last_name": "last name",
    "name": "whole name",
    "birth_date": "birth date",
    "birth_year": "birth year",
    "nation": "nation",
    "second_nation": "second nation",
    "classification": "player or staff",
}


@dataclass(frozen=True)
class RosterEntry:
    """One person.

    Attributes:
        row_number: Line in the file where the row begins; the first line is 1. Where several files were
            read together, the numbers of the later ones are counted on (see `where`).
        first_name: May be empty, when `last_name` is not. NFC, single spaces.
        last_name: May be empty, when `first_name` is not. NFC, single spaces.
        birth_date: Never the game's placeholder 1.2.1900. None where `date_problem` says why; such people
            are read only where they have a `uid`, or where birth dates are not asked for.
        nation: As written in the file; empty when there is none.
        second_nation: As written in the file; empty when there is none.
        role: "player" also for somebody who is both player and staff.
        name_was_split: The file has one name field and this one has three or more words, so that
            "first word = first name" is a guess.
        uid: The number by which Football Manager knows a person; digits, or empty.
        birth_year: Where the file has no date but a year; 0 = not known.
        date_problem: A sentence why there is no birth date; empty where there is one.
        where: File and row of this person, where several files were read together; else empty.
    """

    row_number: int
    first_name: str
    last_name: str
    birth_date: datetime.date | None
    nation: str = ""
    second_nation: str = ""
    role: Role = "player"
    name_was_split: bool = False
    uid: str = ""
    birth_year: int = 0
    date_problem: str = ""
    where: str = ""

    @property
    def birth_key(self) -> str:
        """Return what tells namesakes apart: the birth date, else the unique id, else the birth year."""
        if self.birth_date is not None:
            return self.birth_date.isoformat()
        return f"uid {self.uid}" if self.uid else str(self.birth_year or "")

    @property
    def player_key(self) -> str:
        """Return the text that tells people apart: name without case, and `birth_key`."""
        return "|".join((normalize_name(self.first_name), normalize_name(self.last_name), self.birth_key))


@dataclass(frozen=True)
class RowProblem:
    """One row that gives no person, and why.

    Attributes:
        row_number: Line in the file where the row begins; the first line is 1.
        reason: A whole sentence for the user.
        first_name: As far as it could be read.
        last_name: As far as it could be read.
        birth_date: The text of the cell.
        is_blank: The row is empty; nothing is lost with it.
    """

    row_number: int
    reason: str
    first_name: str = ""
    last_name: str = ""
    birth_date: str = ""
    is_blank: bool = False


@dataclass(frozen=True)
class Column:
    """Where one field was found: `index` from 0, the `title` (or "") and `how` it was recognized."""

    index: int
    title: str
    how: Literal["title", "position", "content", "asked"]


@dataclass(frozen=True)
class Reading:
    """How a roster file was understood. Everything here can be overridden in `read_roster`.

    Attributes:
        source_name: Name of the file, for sentences.
        encoding: Python's name of the encoding, or what kind of file it is ("xlsx, sheet ...").
        separator: The character between two cells; empty where the file has cells of its own.
        header_lines: How many leading lines are no data.
        layout: "EHM Editor", "titles" or "no titles".
        titles: Cells of the title line; empty when there is none.
        columns: Field name -> where it was found.
        date_order: The order of dates that do not begin with the year.
        date_order_reason: How the order was decided, as a phrase.
        row_count: Rows after the header lines, blank ones too.
        entry_count: Rows that gave a person.
        player_count: Of these, players.
        staff_count: Of these, staff.
        problem_count: Rows that gave none, blank ones too.
        blank_count: Of these, blank ones.
        notes: Whole sentences about everything that was decided or repaired.
    """

    source_name: str
    encoding: str
    separator: str
    header_lines: int
    layout: str
    titles: tuple[str, ...]
    columns: Mapping[str, Column]
    date_order: DateOrder
    date_order_reason: str
    row_count: int = 0
    entry_count: int = 0
    player_count: int = 0
    staff_count: int = 0
    problem_count: int = 0
    blank_count: int = 0
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> list[str]:
        """Say in plain sentences how the file was read."""
        separator = _SEPARATOR_WORDS.get(self.separator, f'"{self.separator}"')
        dates = [f"Date order: {self.date_order} ({self.date_order_reason})."]
        return [
            f"Encoding: {self.encoding}. Separator: {separator}. Lines before the data: {self.header_lines}.",
            f"Columns ({self.layout}): {'; '.join(self._column_phrases())}.",
            *(dates if "birth_date" in self.columns else ["There are no birth dates."]),
            f"{_count(self.row_count, 'row')}: {_count(self.player_count, 'player')}, "
            f"{self.staff_count} staff, {self.problem_count} without a usable person "
            f"(of these {self.blank_count} blank).",
            *self.notes,
        ]

    def _column_phrases(self) -> list[str]:
        return [
            f"{_FIELD_WORDS[name]} = column {column.index + 1}"
            + (f' "{column.title}"' if column.title else "")
            + f" (by {'your choice' if column.how == 'asked' else column.how})"
            for name, column in self.columns.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the reading as plain JSON types."""
        columns = {
            name: {"index": column.index, "title": column.title, "how": column.how}
            for name, column in self.columns.items()
        }
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {"columns": columns, "titles": list(self.titles), "notes": list(self.notes)}


@dataclass(frozen=True)
class Roster:
    """A roster: every row of the file is either in `entries` or in `problems`, in the file's order."""

    entries: tuple[RosterEntry, ...]
    problems: tuple[RowProblem, ...]
    reading: Reading
    row_count: int


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
