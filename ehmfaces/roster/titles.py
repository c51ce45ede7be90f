"""What the titles of a roster's columns mean, in many languages, and the words for players and staff.

Owns the reading of title tables: `titles.csv` beside this file, and a table of the user's own in the same
form, two columns `meaning,word`. Does not know where a column stands, what it holds or how a file is stored.

A meaning is a field of `entry.FIELDS`, or `player` or `staff` for words in cells.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from ehmfaces.errors import RosterError
from ehmfaces.roster.entry import FIELDS, Role

MEANINGS: Final = (*FIELDS, "player", "staff")
MAX_TABLE_BYTES = 1024 * 1024
_NEITHER_FIRST_NOR_LAST: Final = frozenset(
    ("name", "namn", "nimi", "jmeno", "meno", "nom", "navn", "nombre", "имя", "nome", "ime")
)


@lru_cache(maxsize=8192)
def fold_title(text: str) -> str:
    """Return a title without case, accents and punctuation.

    Example:
        >>> fold_title(" Date_of-Birth: ")
        'date of birth'
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(re.findall(r"[^\W_]+", plain.replace("ł", "l").replace("ø", "o")))


@dataclass(frozen=True)
class TitleTable:
    """Folded words -> what they mean, for titles of columns and for cells."""

    field_of: Mapping[str, str]
    role_of: Mapping[str, Role]

    def field_of_title(self, title: str) -> str | None:
        """Return the field that a title names, or None.

        Example:
            >>> table = standard_titles()
            >>> table.field_of_title("Date Of Birth"), table.field_of_title("Birth Town")
            ('birth_date', None)
        """
        folded = fold_title(title[:100])
        if folded in self.field_of or ("(" not in title and "[" not in title):
            return self.field_of.get(folded)
        return self.field_of.get(fold_title(re.sub(r"[(\[].*", "", title[:100])))

    def role_of_cell(self, text: str) -> Role | None:
        """Return the role that a cell names; None = not understood. Both a player and staff is a player.

        Example:
            >>> table = standard_titles()
            >>> table.role_of_cell("Player/Non-Player"), table.role_of_cell("Head Coach")
            ('player', 'staff')
        """
        roles = {self.role_of.get(fold_title(part[:100])) for part in re.split(r"[/,;&+]", text[:300])}
        return "player" if "player" in roles else "staff" if "staff" in roles else None

    def extended(self, path: str | Path) -> "TitleTable":
        """Return this table with the words of a file of the user's; the file's meanings win.

        Raises:
            RosterError: The file cannot be read, or a line of it is not `meaning,word`.
        """
        more = _read_table(_load(Path(path)), Path(path).name)
        return TitleTable({**self.field_of, **more.field_of}, {**self.role_of, **more.role_of})


@cache
def standard_titles() -> TitleTable:
    """Return the table that comes with the package."""
    return _read_table(files("ehmfaces.roster").joinpath("titles.csv").read_text("utf-8"), "titles.csv")


def is_plain_name_title(title: str) -> bool:
    """Tell whether a title says just "name", which beside a first name means the last name."""
    return fold_title(title) in _NEITHER_FIRST_NOR_LAST


def _load(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TABLE_BYTES + 1)
        if len(data) > MAX_TABLE_BYTES:
            raise RosterError(f"The title table {path.name} is larger than 1 MB. Give a list of words.")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or "it is not UTF-8"
        raise RosterError(
            f'The title table "{path}" cannot be read: {what}. Give a CSV in UTF-8 with "meaning,word" lines.'
        ) from error


def _read_table(text: str, source_name: str) -> TitleTable:
    field_of: dict[str, str] = {}
    role_of: dict[str, Role] = {}
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error as error:
        raise RosterError(
            f'{source_name} is no table of titles: {error}. Write "meaning,word" lines.'
        ) from error
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or cells[:2] == ["meaning", "word"]:
            continue
        meaning, word = cells[0], fold_title(cells[1]) if len(cells) > 1 else ""
        if meaning not in MEANINGS or not word:
            raise RosterError(
                f'{source_name}, line {number}: "{",".join(cells)[:60]}" is not "meaning,word". '
                f"Meanings: {', '.join(MEANINGS)}."
            )
        if meaning == "player" or meaning == "staff":
            role_of[word] = "player" if meaning == "player" else "staff"
        else:
            field_of[word] = meaning
    return TitleTable(field_of, role_of)
