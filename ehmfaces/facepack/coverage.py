"""Compares the names in a pack with a roster: who has no picture, and which picture nobody has.

Owns the comparison and the guess whom a picture is meant for. Does not know pictures or files on a disk.
"""

import datetime
import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ehmfaces.facepack.filenames import clash_key, portrait_filename
from ehmfaces.facepack.finding import Finding
from ehmfaces.facepack.found_name import FoundName, match_key
from ehmfaces.roster.entry import RosterEntry

_ALIKE = 0.75  # share of equal letters of two names that may be one


def compare_with_roster(
    entries: Iterable[RosterEntry], names: Mapping[str, FoundName], roles: Mapping[str, str]
) -> list[Finding]:
    """Return who has no picture, which pictures nobody has, and which are in the folder of the others.

    Args:
        entries: People of the rosters.
        names: Path -> what its file name says, for all pictures of the game.
        roles: Path -> "players", "nonplayers" or "" where the folder is not known.
    """
    wanted: dict[str, list[RosterEntry]] = defaultdict(list)
    for entry in entries:
        wanted[_key_of(entry)].append(entry)
    present = defaultdict(list)
    for path in names:
        present[clash_key(path.rpartition("/")[2].rpartition(".")[0])].append(path)
    missing = [entry for key, people in wanted.items() if key not in present for entry in people[:1]]
    found = _wrong_folders(wanted, present, roles)
    unused = [path for key, paths in present.items() if key not in wanted for path in paths]
    guesses = _Guesses(missing)
    found += [Finding("not-in-roster", path, guesses.sentence(names[path])) for path in unused]
    meant = {id(entry) for path in unused for entry in guesses.people(names[path])}
    for entry in missing:
        close = " A picture with nearly this name is there." if id(entry) in meant else ""
        who = " ".join(part for part in (entry.first_name, entry.last_name) if part)
        born = entry.birth_date.isoformat() if entry.birth_date else "no birth date, so that none is possible"
        found.append(Finding("no-portrait", "", f"Row {entry.row_number}: {who}, {born}.{close}"))
    return found


def _key_of(entry: RosterEntry) -> str:
    """Return the game's file name without extension as `clash_key`; for people without one, the row."""
    if entry.birth_date is not None:
        name = portrait_filename(entry.first_name, entry.last_name, entry.birth_date).name
        if name:
            return clash_key(name.rpartition(".")[0])
    return f"/{entry.row_number}"


def _wrong_folders(
    wanted: Mapping[str, list[RosterEntry]], present: Mapping[str, list[str]], roles: Mapping[str, str]
) -> list[Finding]:
    found = []
    for key, paths in present.items():
        folders = {"players" if entry.role == "player" else "nonplayers" for entry in wanted.get(key, ())}
        there = {roles.get(path, "") for path in paths}
        for path in paths:
            if folders and roles.get(path) and roles[path] not in folders and not folders & there:
                right = folders.pop()
                text = f"By the roster this is one of the {right}. Move it to the folder {right}."
                found.append(Finding("wrong-folder", path, text, f"is moved to {right}"))
                break
    return found


class _Guesses:
    """Whom a picture that nobody has may be meant for, among people without a picture."""

    def __init__(self, missing: Sequence[RosterEntry]) -> None:
        self._by_date: dict[datetime.date, list[RosterEntry]] = defaultdict(list)
        self._by_name: dict[str, list[RosterEntry]] = defaultdict(list)
        for entry in missing:
            if entry.birth_date is not None:
                self._by_date[entry.birth_date].append(entry)
            self._by_name[match_key(f"{entry.first_name} {entry.last_name}")].append(entry)

    def people(self, name: FoundName) -> list[RosterEntry]:
        """Return the likeliest people: same date and a like name, or the same name and another date."""
        key = match_key(f"{name.first_name} {name.last_name}")
        same_date = self._by_date.get(name.birth_date, []) if name.birth_date else []
        alike = [
            (difflib.SequenceMatcher(None, key, match_key(f"{one.first_name} {one.last_name}")).ratio(), one)
            for one in same_date
        ]
        close = [pair for pair in alike if pair[0] >= _ALIKE]
        if close:
            return [max(close, key=lambda pair: pair[0])[1]]
        return self._by_name.get(key, [])[:1] if key else []

    def sentence(self, name: FoundName) -> str:
        """Say whom a picture is meant for, as far as that can be guessed."""
        people = self.people(name)
        if not people:
            return "Nobody in the roster has this name and birth date."
        one = people[0]
        born = one.birth_date
        right = portrait_filename(one.first_name, one.last_name, born).name if born else ""
        return f"Nobody in the roster has it; meant for row {one.row_number}, {right}?"
