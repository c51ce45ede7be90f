"""From an uploaded roster and the user's corrections to a plan, and to what is shown of it.

Owns the corrections, the sentences and the table of the first rows. Knows no widgets and no pictures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ehmfaces.errors import InputError, RosterError
from ehmfaces.facepack.games import get_games
from ehmfaces.facepack.plan import FacepackPlan
from ehmfaces.roster.entry import DateOrder, Reading, Roster, RosterEntry
from ehmfaces.roster.reader import RosterLimits, read_roster
from ehmfaces.ui.session import Limits

COLUMN_FIELDS = ("first_name", "last_name", "name", "birth_date", "nation", "classification")
CORRECTION_COUNT = 3 + len(COLUMN_FIELDS)  # encoding, separator, date order, columns
TABLE_TITLES = ["Row", "First name", "Last name", "Birth date", "Nation", "Role", "Picture"]
DEFAULT_GAMES = "ehm"
_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "bar": "|"}
_SHOWN_ROWS = 8
_SHOWN_SKIPPED = 5


@dataclass(frozen=True)
class Corrections:
    """What the user says about the file; empty = found out.

    Attributes:
        encoding: Python's name of the encoding.
        separator: One character, or tab, comma, semicolon, bar.
        date_order: "dmy", "mdy" or "ymd".
        columns: Field name -> position from 1, or title; empty texts are left out.
    """

    encoding: str = ""
    separator: str = ""
    date_order: str = ""
    columns: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_texts(
        cls, encoding: str | None, separator: str | None, date_order: str | None, *columns: str | None
    ) -> "Corrections":
        """Make corrections from the texts of the fields, columns in the order of COLUMN_FIELDS."""
        pairs = zip(COLUMN_FIELDS, columns, strict=True)
        chosen = [(name, str(text).strip()) for name, text in pairs if text]
        return cls((encoding or "").strip(), separator or "", (date_order or "").strip(), tuple(chosen))

    def column_map(self) -> dict[str, int | str]:
        """Return the columns as `read_roster` takes them: positions from 0, or titles.

        Raises:
            InputError: A position is 0.
        """
        columns: dict[str, int | str] = {}
        for name, text in self.columns:
            if text == "0":
                raise InputError(f'Column "0" for {name} does not exist. The first column is 1.')
            columns[name] = int(text) - 1 if text.isdecimal() else text
        return columns


def read_upload(
    path: str | None, corrections: Corrections, limits: Limits, games: str = DEFAULT_GAMES
) -> Roster:
    """Read an uploaded roster for the games that the pack is for.

    Raises:
        EHMFacesError: There is no file, or it cannot be read.
    """
    if not path:
        raise RosterError("No roster was given. Choose a file, or take the example.")
    return read_roster(
        Path(path),
        encoding=corrections.encoding or None,
        separator=_SEPARATORS.get(corrections.separator.strip(), corrections.separator) or None,
        columns=corrections.column_map() or None,
        date_order=cast("DateOrder | None", corrections.date_order or None),
        limits=RosterLimits(max_bytes=limits.max_upload_bytes, max_rows=limits.max_rows),
        needs_birth_date=all(game.needs_birth_date for game in get_games(games)),
    )


def describe_plan(reading: Reading, plan: FacepackPlan) -> str:
    """Say in Markdown how the roster was read and what would be made of it."""
    lines = [f"- {_plain(sentence)}" for sentence in reading.describe()]
    shown = [row for row in plan.skipped if row.reason][:_SHOWN_SKIPPED]
    lines += [f"- Row {row.row_number} gives no portrait: {_plain(row.reason)}" for row in shown]
    if len(plan.skipped) > len(shown):
        lines.append(f"- ... and {len(plan.skipped) - len(shown)} more rows; report.csv will list them all.")
    head = f"**{len(plan.jobs)} portraits** can be made; {len(plan.skipped)} rows give none."
    return "\n".join([head, "", *lines])


def _plain(text: str) -> str:
    """Return a text from a file so that Markdown shows it as it is."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#+!|~$" else letter for letter in text)


def table_rows(roster: Roster, plan: FacepackPlan) -> list[list[str]]:
    """Return the first people as the page shows them, with the picture's name in the pack."""
    files = {job.row_number: job.path for job in plan.jobs}
    return [
        [
            str(entry.row_number),
            entry.first_name,
            entry.last_name,
            _date_text(entry),
            entry.nation,
            entry.role,
            files.get(entry.row_number, "none"),
        ]
        for entry in roster.entries[:_SHOWN_ROWS]
    ]


def _date_text(entry: RosterEntry) -> str:
    date = entry.birth_date
    return f"{date.day}.{date.month}.{date.year}" if date else entry.birth_key


def column_choices(reading: Reading, field: str) -> list[tuple[str, str]]:
    """Return the choices for one field: automatic first, then every column by position and title."""
    found = reading.columns.get(field)
    automatic = f"automatic (column {found.index + 1})" if found else "automatic (none)"
    width = max([len(reading.titles), *(column.index + 1 for column in reading.columns.values())])
    titles = [*reading.titles, *[""] * (width - len(reading.titles))]
    return [(automatic, ""), *((f"{i + 1} {title}".strip(), str(i + 1)) for i, title in enumerate(titles))]
