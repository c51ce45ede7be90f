"""Reads the file name of a portrait that somebody made: its parts, and what is wrong with it.

Owns the way back from `firstname_lastname_d_m_yyyy` to a person, and the repaired name. How a name is
made for a person is in `filenames`. Does not know folders, pictures or rosters.
"""

import datetime
import re
import unicodedata
from dataclasses import dataclass

from anyascii import anyascii

from ehmfaces.facepack.filenames import fold_to_latin1
from ehmfaces.facepack.finding import Finding

_DATE = re.compile(r"^(?P<name>.*?)_(?P<day>\d{1,2})_(?P<month>\d{1,2})_(?P<year>\d{4})$", re.S)
_NUMBERED = re.compile(r"^(?P<name>.*\S)\s*\((?P<number>\d{1,3})\)$", re.S)
_FORBIDDEN = frozenset('<>:"\\|*')  # "/" parts a path, "?" is a lost letter
_FIRST_YEAR, _LAST_YEAR = 1850, 2150
_CODE_PAGES = ("cp1252", "latin-1", "cp1250", "cp850", "cp437")
PLACEHOLDER = datetime.date(1900, 2, 1)


@dataclass(frozen=True)
class FoundName:
    """What a file name says.

    Attributes:
        first_name: Repaired.
        last_name: Repaired.
        birth_date: None where there is no valid one.
        repaired: The stem as the game expects it, as far as that is certain; the stem itself otherwise.
        troubles: Code, sentence and whether `repaired` mends it.
    """

    first_name: str
    last_name: str
    birth_date: datetime.date | None
    repaired: str
    troubles: tuple[tuple[str, str, bool], ...]

    def findings(self, path: str, new_path: str) -> list[Finding]:
        """Return the troubles of a file, with the new name where that mends them."""
        fix = f"is renamed to {new_path}" if new_path and new_path != path else ""
        return [Finding(code, path, text, fix if mends else "") for code, text, mends in self.troubles]


def read_name(stem: str) -> FoundName:
    """Read a file name without its extension.

    Example:
        >>> read_name("JÃ¸rn_Berg_07_03_2006").repaired
        'Jørn_Berg_7_3_2006'
    """
    troubles: list[tuple[str, str, bool]] = []
    name = _mend_letters(stem, troubles)
    numbered = _NUMBERED.match(name)
    if numbered:
        text = "The game never shows a numbered picture. Keep one of them, without a number."
        troubles.append(("numbered-name", text, False))
    whole = numbered["name"] if numbered else name
    dated = _DATE.match(whole.strip())
    date = _date_of(dated)
    if dated is None or date is None:
        text = "The name has no valid birth date. The game expects firstname_lastname_day_month_year."
        return FoundName("", "", None, name, (*troubles, ("no-date", text, False)))
    people = _mend_spaces(dated["name"], whole, troubles)
    _check_date(dated, date, troubles)
    _check_letters(people, troubles)
    first, underscore, last = people.partition("_")
    if not underscore or "_" in last:
        text = "Write first and last name with one underscore between them, and spaces inside a name."
        troubles.append(("one-name", text, False))
    repaired = f"{people}_{date.day}_{date.month}_{date.year}"
    return FoundName(first, last, date, stem if numbered else repaired, tuple(troubles))


def undo_code_page(text: str) -> str:
    """Return a text whose UTF-8 was once read as another code page as it was; others stay.

    Example:
        >>> undo_code_page("JÃ¸rn"), undo_code_page("Jørn"), undo_code_page("MÃ¼ller")
        ('Jørn', 'Jørn', 'Müller')
    """
    if text.isascii():
        return text
    for page in _CODE_PAGES:
        try:
            back = text.encode(page).decode("utf-8")
        except UnicodeError:
            continue
        if back != text and all(char.isprintable() for char in back):
            return back
    return text


def _mend_letters(stem: str, troubles: list[tuple[str, str, bool]]) -> str:
    composed = unicodedata.normalize("NFC", stem)
    undone = undo_code_page(composed)
    if undone != composed:
        troubles.append(("damaged-letters", f'The letters are damaged; it should be "{undone}".', True))
        return unicodedata.normalize("NFC", undone)
    if composed != stem:
        text = "Letters and accents are separate signs, as macOS writes them; the game looks for joined ones."
        troubles.append(("decomposed-letters", text, True))
    return composed


def _mend_spaces(people: str, whole: str, troubles: list[tuple[str, str, bool]]) -> str:
    tidy = "_".join(" ".join(part.split()) for part in people.split("_"))
    if tidy != people or whole != whole.strip():
        troubles.append(
            ("stray-space", "There are blanks too many; the game looks for the exact name.", True)
        )
    return tidy


def _date_of(dated: "re.Match[str] | None") -> datetime.date | None:
    if dated is None:
        return None
    try:
        date = datetime.date(int(dated["year"]), int(dated["month"]), int(dated["day"]))
    except ValueError:
        return None
    return date if _FIRST_YEAR <= date.year <= _LAST_YEAR else None


def _check_date(dated: "re.Match[str]", date: datetime.date, troubles: list[tuple[str, str, bool]]) -> None:
    if dated["day"].startswith("0") or dated["month"].startswith("0"):
        text = f"The game writes the date without leading zeros: {date.day}_{date.month}_{date.year}."
        troubles.append(("padded-date", text, True))
    if date == PLACEHOLDER:
        text = "1.2.1900 means that the birth date is not known; the game draws one, and no name can match."
        troubles.append(("placeholder-date", text, False))


def _check_letters(people: str, troubles: list[tuple[str, str, bool]]) -> None:
    forbidden = sorted(
        {char for char in people if char in _FORBIDDEN or unicodedata.category(char)[0] == "C"}
    )
    if forbidden:
        shown = " ".join(char if char.isprintable() else f"U+{ord(char):04X}" for char in forbidden[:10])
        text = f"Windows forbids, or nobody sees, {shown} in a name. Leave it out."
        troubles.append(("forbidden-letter", text, False))
    if "?" in people or "\ufffd" in people:
        text = "Letters were lost on the way; the game looks for the right ones. Name the file again."
        troubles.append(("lost-letters", text, False))
    foreign = sorted({char for char in people if char > "\u00ff" and char != "\ufffd" and char.isprintable()})
    if foreign:
        letters = ", ".join(f"{char} (perhaps {anyascii(char) or 'nothing'})" for char in foreign[:10])
        text = f"The game stores only Latin-1 letters, not {letters}. Look up how the game writes the name."
        troubles.append(("foreign-letter", text, False))


def match_key(name: str) -> str:
    """Return what is equal for two spellings of a name: no case, accents, hyphens or further blanks.

    Example:
        >>> match_key("Jiří O'Neil-Smith") == match_key("jiri oneil smith")
        True
    """
    base = unicodedata.normalize("NFKD", fold_to_latin1(name).casefold())
    plain = anyascii("".join(char for char in base if not unicodedata.combining(char)))
    return " ".join(re.sub(r"[^a-z0-9 _]", "", plain.lower().replace("-", " ")).split())
