"""What each game wants: where its pictures lie, how they are called, and the list that goes with them.

Owns one table of games. Does not know pictures, ZIPs or how rosters are read.

Sources, and what was not found, are in docs/formats.md. Nothing here was tried inside a game.
"""

import json
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.filenames import (
    EXTENSION,
    LONGEST_FILENAME,
    LONGEST_FILENAME_BYTES,
    PortraitFilename,
    clean_name,
    fold_to_latin1,
    is_reserved,
    portrait_filename,
)
from ehmfaces.roster.entry import RosterEntry

NewgenIds = Literal["both", "r", "plain"]
NEWGEN_IDS: tuple[NewgenIds, ...] = ("both", "r", "plain")


@dataclass(frozen=True)
class NamingRules:
    """What users may choose about names and lists.

    Attributes:
        zero_pad_dates: EHM: 07_03_2006 where the game expects 7_3_2006.
        latin1_names: EHM: replace letters that the game cannot store.
        fm_newgen_ids: FM: write each person's id with "r-" (newgens since FM 24.2), without, or both.
        zengm_url: ZenGM: what stands before a picture's name in `imgURL`; empty = a relative path.
    """

    zero_pad_dates: bool = False
    latin1_names: bool = True
    fm_newgen_ids: NewgenIds = "both"
    zengm_url: str = ""

    def __post_init__(self) -> None:
        """Check what has few values.

        Raises:
            FacepackError: A value is unknown.
        """
        if self.fm_newgen_ids not in NEWGEN_IDS:
            raise FacepackError(
                f'Unknown kind of newgen ids "{self.fm_newgen_ids}". Known: {", ".join(NEWGEN_IDS)}.'
            )


@dataclass(frozen=True)
class NamedFace:
    """One finished portrait as a game's list needs it: its path in the pack, and whose it is."""

    path: str
    first_name: str
    last_name: str
    birth_year: int = 0


@dataclass(frozen=True)
class Game:
    """One game.

    Attributes:
        name: As users write it.
        title: As users read it.
        needs_birth_date: A person without a birth date can have no picture.
        name_picture: Gives the path in the pack, or the trouble, for a person.
        write_list: Gives path and bytes of the list that goes with the pictures; None = there is none.
        portrait_format: The usual size.
    """

    name: str
    title: str
    needs_birth_date: bool
    name_picture: Callable[[RosterEntry, NamingRules], PortraitFilename]
    write_list: Callable[[Sequence[NamedFace], NamingRules], tuple[str, bytes]] | None = None
    portrait_format: str = "ehm"


def _name_for_ehm(entry: RosterEntry, rules: NamingRules) -> PortraitFilename:
    if entry.birth_date is None:
        return PortraitFilename(trouble=entry.date_problem.rstrip(".") or "there is no birth date")
    found = portrait_filename(
        entry.first_name,
        entry.last_name,
        entry.birth_date,
        zero_pad=rules.zero_pad_dates,
        latin1=rules.latin1_names,
    )
    folder = "players" if entry.role == "player" else "nonplayers"
    return PortraitFilename(f"{folder}/{found.name}" if found.name else "", found.notes, found.trouble)


def _name_for_fm(entry: RosterEntry, rules: NamingRules) -> PortraitFilename:
    del rules
    if not entry.uid:
        return PortraitFilename(
            trouble="there is no unique id (column UID), by which the game finds pictures"
        )
    return PortraitFilename(f"fm/{entry.uid}{EXTENSION}")


def _list_for_fm(faces: Sequence[NamedFace], rules: NamingRules) -> tuple[str, bytes]:
    """Return config.xml: one record for each picture and each way of writing its person's id."""
    root = ET.Element("record")
    for name in ("preload", "amap"):
        ET.SubElement(root, "boolean", id=name, value="false")
    maps = ET.SubElement(root, "list", id="maps")
    prefixes = {"both": ("", "r-"), "r": ("r-",), "plain": ("",)}[rules.fm_newgen_ids]
    for uid in (face.path.removeprefix("fm/").removesuffix(EXTENSION) for face in faces):
        for prefix in prefixes:
            target = f"graphics/pictures/person/{prefix}{uid}/portrait"
            ET.SubElement(maps, "record", {"from": uid, "to": target})
    ET.indent(root, "\t")
    return "fm/config.xml", ET.tostring(root, encoding="utf-8") + b"\n"


def plain_name(first_name: str, last_name: str) -> str:
    """Return a name as OOTP's manual writes it: small letters, "_" for spaces, no dots.

    Example:
        >>> plain_name("Jorge", "De la Rosa Jr.")
        'jorge_de_la_rosa_jr'
    """
    parts = (clean_name(name).lower().replace(".", "") for name in (first_name, last_name))
    whole = unicodedata.normalize("NFC", " ".join(parts))
    return "_".join(whole.split()).strip("_")


def _name_by_person(folder: str, entry: RosterEntry, *, ascii_only: bool = False) -> PortraitFilename:
    name = plain_name(entry.first_name, entry.last_name)
    if ascii_only:
        name = plain_name(_ascii(entry.first_name), _ascii(entry.last_name))
        name = "_".join(part for part in (name, entry.birth_key.replace(" ", "_")) if part)
    if not any(char.isalnum() for char in name):
        return PortraitFilename(trouble="the name has no letter that can stand in a file name")
    whole = name + EXTENSION
    if is_reserved(whole):
        return PortraitFilename(trouble=f'Windows reserves file names like "{whole}"')
    if len(whole) > LONGEST_FILENAME or len(whole.encode("utf-8")) > LONGEST_FILENAME_BYTES:
        return PortraitFilename(trouble=f"the file name would have {len(whole)} letters, which is too long")
    return PortraitFilename(f"{folder}/{whole}")


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", fold_to_latin1(name))
    return "".join(char for char in plain if char < "\x7f")


def _name_for_ootp(entry: RosterEntry, rules: NamingRules) -> PortraitFilename:
    del rules
    return _name_by_person("ootp", entry)


def _name_for_fhm(entry: RosterEntry, rules: NamingRules) -> PortraitFilename:
    del rules
    return _name_by_person("fhm", entry)


def _name_for_zengm(entry: RosterEntry, rules: NamingRules) -> PortraitFilename:
    del rules
    return _name_by_person("zengm", entry, ascii_only=True)


def _list_for_zengm(faces: Sequence[NamedFace], rules: NamingRules) -> tuple[str, bytes]:
    """Return a JSON of players with `imgURL`, in the form of a league file's list."""
    players = []
    for face in faces:
        player = {"firstName": face.first_name, "lastName": face.last_name}
        born = {"born": {"year": face.birth_year}} if face.birth_year else {}
        picture = face.path.removeprefix("zengm/")
        base = rules.zengm_url.rstrip("/")
        players.append({**player, **born, "imgURL": f"{base}/{picture}" if base else picture})
    text = json.dumps({"players": players}, ensure_ascii=False, indent=1) + "\n"
    return "zengm/players.json", text.encode("utf-8", errors="replace")


GAMES: dict[str, Game] = {
    game.name: game
    for game in (
        Game("ehm", "Eastside Hockey Manager", True, _name_for_ehm),
        Game("fm", "Football Manager", False, _name_for_fm, _list_for_fm, "fm-180"),
        Game("ootp", "Out of the Park Baseball", False, _name_for_ootp),
        Game("fhm", "Franchise Hockey Manager", False, _name_for_fhm),
        Game("zengm", "ZenGM (Basketball GM, ZenGM Hockey ...)", False, _name_for_zengm, _list_for_zengm),
    )
}


def get_games(text: str) -> tuple[Game, ...]:
    """Return the games that are named in a text, in its order, each once.

    Raises:
        FacepackError: A name is unknown, or there is none.

    Example:
        >>> [game.name for game in get_games("ehm, FM,ehm")]
        ['ehm', 'fm']
    """
    names = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in GAMES]
    if unknown or not names:
        raise FacepackError(
            f'Unknown game "{(unknown or [text])[0][:40]}". Known: {", ".join(GAMES)}; several with commas.'
        )
    return tuple(GAMES[name] for name in names)


def game_lists(
    games: Iterable[Game], faces: Sequence[NamedFace], rules: NamingRules
) -> list[tuple[str, bytes]]:
    """Return path and bytes of every list that the games need for these portraits.

    Args:
        games: As `get_games` gives them.
        faces: All finished portraits, each path once; those of other games are passed over.
        rules: What users chose.
    """
    lists = []
    for game in games:
        own = [face for face in faces if face.path.startswith(f"{game.name}/")]
        if game.write_list is not None and own:
            lists.append(game.write_list(sorted(own, key=lambda face: face.path), rules))
    return lists
