"""Who already has a picture in other packs, by name and birth date.

Owns the match, which forgives accents, case, apostrophes and zeros in dates. Does not open pictures.
"""

import datetime
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from anyascii import anyascii

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.contents import MAX_ENTRIES, PICTURE_SUFFIXES, FolderContents

_STEM = re.compile(r"(.*)_(\d{1,2})_(\d{1,2})_(\d{4})")


def person_key(name: str, birth_date: datetime.date | None) -> str:
    """Return what is equal for one person in different spellings; empty where there is no birth date.

    Example:
        >>> import datetime
        >>> born = datetime.date(1990, 2, 1)
        >>> person_key("Jiří  O'Novák", born) == person_key("JIRI_ONOVAK", born)
        True
    """
    plain = folded_name(name)
    return f"{plain} {birth_date.isoformat()}" if plain and birth_date else ""


def folded_name(name: str) -> str:
    """Return a name without accents, case, spaces and marks.

    Example:
        >>> folded_name("Åke Sjö-Ström"), folded_name("T.J. Oshie")
        ('akesjostrom', 'tjoshie')
    """
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return "".join(char for char in anyascii(plain).casefold() if char.isalnum())


def find_existing(places: Iterable[str | Path]) -> dict[str, str]:
    """Return person -> place of the first picture, for all folders and ZIPs.

    Args:
        places: Folders, with all below them, and ZIPs, also those in the folders.

    Raises:
        FacepackError: A place is neither.
    """
    found: dict[str, str] = {}
    for place in map(Path, places):
        for name in _picture_names(place):
            key = _key_of_file(name.rpartition("/")[2])
            if key:
                found.setdefault(key, f"{place}/{name}")
    return found


def _picture_names(place: Path) -> Iterator[str]:
    if place.is_dir():
        yield from FolderContents(place).pictures.values()
        for path in sorted(place.rglob("*.zip")):
            if zipfile.is_zipfile(path):
                yield from (f"{path.relative_to(place).as_posix()}/{name}" for name in _names_in_zip(path))
    elif place.is_file() and zipfile.is_zipfile(place):
        yield from _names_in_zip(place)
    else:
        raise FacepackError(f'"{place}" is neither a folder nor a ZIP. Give one with pictures.')


def _names_in_zip(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()[:MAX_ENTRIES]
    return [name for name in names if name.lower().endswith(PICTURE_SUFFIXES)]


def _key_of_file(name: str) -> str:
    match = _STEM.fullmatch(Path(name).stem)
    if match is None:
        return ""
    person, day, month, year = match.groups()
    try:
        return person_key(person, datetime.date(int(year), int(month), int(day)))
    except ValueError:
        return ""
