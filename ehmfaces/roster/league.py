"""Rosters in JSON: a league or roster file of ZenGM's games, or a plain list of people.

Owns the way from JSON to rows of cells with a line of titles. Does not know people or dates.

A person is an object; objects in it are opened one level deep, so that `{"born": {"year": 1999}}` gives a
column "born.year". Lists in it (ratings, statistics) are left out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ehmfaces.errors import RosterError

_LIST_NAMES = ("players", "people", "persons", "staff", "roster")
_ADVICE = 'Give a list of people, or an object with a list called "players".'


def is_json(text: str) -> bool:
    """Tell whether a text begins as JSON of people does."""
    start = text.lstrip("\ufeff \t\r\n")[:200]
    return (start.startswith("{") and start[1:].lstrip()[:1] in ('"', "}")) or (
        start.startswith("[") and start[1:].lstrip()[:1] in ("{", "]")
    )


def json_rows(text: str, source_name: str, *, max_rows: int, max_columns: int) -> list[list[str]]:
    """Return a line of titles, then one row for each person.

    Args:
        text: The whole file.
        source_name: Name of the file, for sentences.
        max_rows: The most people that are accepted.
        max_columns: The most titles that are kept.

    Raises:
        RosterError: It is no JSON, holds no people, or too many.
    """
    try:
        document = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
        raise RosterError(f"{source_name} is no valid JSON: {what[:100]}. {_ADVICE}") from error
    people = _people(document)
    if not people:
        raise RosterError(f"{source_name} is JSON without a list of people. {_ADVICE}")
    if len(people) > max_rows:
        raise RosterError(
            f"{source_name} has {len(people)} people. At most {max_rows} are allowed. Split it."
        )
    flat = [_flatten(person) for person in people]
    titles = list(dict.fromkeys(_first(flat, max_columns)))
    return [titles, *([person.get(title, "") for title in titles] for person in flat)]


def _people(document: Any) -> list[Any]:
    if isinstance(document, Mapping):
        lists = (document.get(name) for name in _LIST_NAMES)
        document = next((value for value in lists if isinstance(value, list)), None)
    return document if isinstance(document, list) else []


def _flatten(person: Any) -> dict[str, str]:
    """Return the texts of a person by title; anything but an object gives none."""
    cells: dict[str, str] = {}
    for key, value in person.items() if isinstance(person, Mapping) else ():
        inner = value.items() if isinstance(value, Mapping) else ((None, value),)
        for name, cell in inner:
            title = key if name is None else f"{key}.{name}"
            if isinstance(cell, str | int | float) and not isinstance(cell, bool) and title:
                cells[title] = _text(cell)
    return cells


def _text(value: str | int | float) -> str:
    try:
        return value if isinstance(value, str) else str(value)
    except ValueError:  # a number of thousands of digits
        return ""


def _first(people: Iterable[Mapping[str, str]], count: int) -> Iterable[str]:
    seen: set[str] = set()
    for person in people:
        for title in person:
            if title not in seen and len(seen) < count:
                seen.add(title)
                yield title
