r"""The game's rules for the file name of a portrait.

Owns `firstname_lastname_d_m_yyyy.png`, the letters that cannot stand in a file name and the longest
name. Does not know rosters, clashes between people, folders or pictures.

Kept: accents, spaces, hyphens, apostrophes, dots; NFC. Removed: the letters that Windows forbids
(`<>:"/\|?*`), control and invisible characters, dots at the very beginning and repeated dots, so
that a name is never a path. The game stores Latin-1 letters: others (ř, ł, Cyrillic) are written with
the nearest letters that it can have, and noted. Latin-1 letters always stay.

What a name without a first name is called by the game was not tried: by the pattern it is
`_lastname_d_m_yyyy`, and that is what is made.
"""

import datetime
import re
import unicodedata
from dataclasses import dataclass

from anyascii import anyascii

EXTENSION = ".png"
LONGEST_FILENAME = 150  # characters
LONGEST_FILENAME_BYTES = 250  # UTF-8; common file systems allow 255
_FORBIDDEN = frozenset('<>:"/\\|?*')
# Names of devices, which Windows takes whatever follows their first dot.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_LOST_LETTERS = frozenset("?\ufffd")


@dataclass(frozen=True)
class PortraitFilename:
    """The file name for a person.

    Attributes:
        name: With extension, without folder; empty when `trouble` says why there is none.
        notes: Phrases for the report about letters that were removed or may not match.
        trouble: A phrase why no file name is possible.
    """

    name: str = ""
    notes: tuple[str, ...] = ()
    trouble: str = ""


def portrait_filename(
    first_name: str,
    last_name: str,
    birth_date: datetime.date,
    *,
    zero_pad: bool = False,
    latin1: bool = True,
) -> PortraitFilename:
    """Return the game's file name for a person.

    Args:
        first_name: As in the roster; may be empty.
        last_name: As in the roster; may be empty.
        birth_date: Day and month are written without leading zeros.
        zero_pad: Write them with leading zeros all the same.
        latin1: Replace letters that the game cannot store; False keeps them.

    Example:
        >>> import datetime
        >>> portrait_filename("T.J.", "O'Dunnelly", datetime.date(2006, 3, 7)).name
        "T.J._O'Dunnelly_7_3_2006.png"
    """
    stored = [fold_to_latin1(name) if latin1 else name for name in (first_name, last_name)]
    first, last = map(clean_name, stored)
    if not any(char.isalnum() for char in first + last):
        return PortraitFilename(trouble="the name has no letter that can stand in a file name")
    day, month = (
        (f"{birth_date.day:02}", f"{birth_date.month:02}") if zero_pad else (birth_date.day, birth_date.month)
    )
    name = f"{first}_{last}_{day}_{month}_{birth_date.year:04}{EXTENSION}"
    if is_reserved(name):
        return PortraitFilename(trouble=f'Windows reserves file names like "{name[:40]}"')
    if len(name) > LONGEST_FILENAME or len(name.encode("utf-8")) > LONGEST_FILENAME_BYTES:
        return PortraitFilename(
            trouble=f"the file name would have {len(name)} letters, and at most {LONGEST_FILENAME} are "
            "possible; the game would not find a shortened one"
        )
    removal = _removal_notes(f"{first_name} {last_name}", " ".join(stored), f"{first} {last}")
    letters = _letter_notes(f"{first_name} {last_name}", is_folded=latin1)
    return PortraitFilename(name, (*removal, *letters, *_empty_name_notes(first, last)))


def clean_name(name: str) -> str:
    """Return a name as it stands in a file name.

    Example:
        >>> clean_name("Aleksandr/Sasha"), clean_name(" ..Ann  Mary ")
        ('AleksandrSasha', 'Ann Mary')
    """
    composed = unicodedata.normalize("NFC", name)
    spaced = " ".join(composed.split())
    kept = "".join(char for char in spaced if char not in _FORBIDDEN and _is_visible(char))
    single_dots = re.sub(r"\.{2,}", ".", unicodedata.normalize("NFC", kept))
    return " ".join(single_dots.lstrip(". ").split())


def is_reserved(filename: str) -> bool:
    """Tell whether a file name means a device on Windows.

    Example:
        >>> is_reserved("CON._Bee_1_2_2003.png"), is_reserved("Con_Bee_1_2_2003.png")
        (True, False)
    """
    return _DEVICES.fullmatch(filename) is not None


def fold_to_latin1(name: str) -> str:
    """Return a name in the letters that the game can store; what is Latin-1 stays as it is.

    Example:
        >>> fold_to_latin1("Jiří Łukasz"), fold_to_latin1("Аня Øst")
        ('Jirí Lukasz', 'Anya Øst')
    """
    composed = unicodedata.normalize("NFC", name)
    if composed.isascii():
        return composed
    return "".join(char if char <= "\u00ff" or not _is_visible(char) else anyascii(char) for char in composed)


def clash_key(path: str) -> str:
    """Return what is equal for two paths that are one file on Windows."""
    return unicodedata.normalize("NFC", path.lower())


def _is_visible(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] != "C" and category not in ("Zl", "Zp") and char != "\ufffd"


def _removal_notes(whole: str, stored: str, cleaned: str) -> tuple[str, ...]:
    if _LOST_LETTERS & set(whole):
        return (
            "letters of the name were lost when the roster was saved; the game may look for another name",
        )
    if " ".join(unicodedata.normalize("NFC", stored).split()) != cleaned.strip():
        return ("letters that cannot stand in a file name were removed; the game may look for another one",)
    return ()


def _letter_notes(whole: str, *, is_folded: bool) -> tuple[str, ...]:
    composed = unicodedata.normalize("NFC", whole)
    foreign = sorted({char for char in composed if char > "\u00ff" and _is_visible(char)})[:10]
    if not foreign:
        return ()
    if is_folded:
        written = ", ".join(f"{char} as {anyascii(char) or 'nothing'}" for char in foreign)
        return (f"the game stores only Latin-1 letters; written {written}",)
    letters = "".join(foreign)
    return (f"the game stores only Latin-1 letters; {letters} may stand as other letters in its name",)


def _empty_name_notes(first: str, last: str) -> tuple[str, ...]:
    if first and last:
        return ()
    which = "last" if first else "first"
    return (f"there is no {which} name; how the game names such a file is not known for certain",)
