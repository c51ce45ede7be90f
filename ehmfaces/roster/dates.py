"""Birth dates as rosters write them.

Owns the forms of a date, the order of day and month for a whole file, and the game's placeholder. Does
not know columns, rows or people.

Day and month are never guessed cell by cell: 4 dates in 10 could be either, but somewhere in a file a
day above 12 decides. A date that is possible in only one order is read in that order everywhere.
"""

import datetime
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ehmfaces.roster.entry import DateOrder

_SUFFIX = r"\.?\s*(?:[T ]\s*\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?Z?)?\s*(?:\(.*\))?\s*"
_NUMBERS = re.compile(r"\s*(\d{1,4})\s*([./-])\s*(\d{1,2})\s*\2\s*(\d{1,4})" + _SUFFIX, re.ASCII)
_DAY_MONTH_WORD = re.compile(
    r"\s*(\d{1,2})(?:st|nd|rd|th)?[\s.-]+([a-z]{3,9})[\s.,-]+(\d{4})" + _SUFFIX, re.I | re.A
)
_MONTH_WORD_DAY = re.compile(
    r"\s*([a-z]{3,9})[\s.]+(\d{1,2})(?:st|nd|rd|th)?[\s,]+(\d{4})" + _SUFFIX, re.I | re.A
)
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
FIRST_YEAR, LAST_YEAR = 1850, 2199
LONGEST_DATE = 60  # characters


@dataclass(frozen=True)
class DateOutcome:
    """A birth date, or why there is none.

    Attributes:
        date: None when `trouble` says why.
        trouble: "empty", "placeholder", "two-digit year", "year", "impossible" or "no date".
        against_order: The date is possible only in the other order of day and month.
    """

    date: datetime.date | None = None
    trouble: Literal["", "empty", "placeholder", "two-digit year", "year", "impossible", "no date"] = ""
    against_order: bool = False


@dataclass(frozen=True)
class OrderDecision:
    """The order of day and month in a file, why, and whether that is worth a note."""

    order: DateOrder
    reason: str
    is_doubtful: bool = False


def looks_like_date(text: str) -> bool:
    """Tell whether a cell has the form of a date, possible or not."""
    return len(text) <= LONGEST_DATE and bool(
        _NUMBERS.fullmatch(text) or _DAY_MONTH_WORD.fullmatch(text) or _MONTH_WORD_DAY.fullmatch(text)
    )


def parse_date(text: str, order: DateOrder) -> DateOutcome:
    """Read one date.

    Args:
        text: The cell.
        order: Order of day, month and year in dates whose year is not written first.

    Example:
        >>> parse_date("7.3.2006", "dmy").date
        datetime.date(2006, 3, 7)
        >>> parse_date("6/13/2005", "dmy")
        DateOutcome(date=datetime.date(2005, 6, 13), trouble='', against_order=True)
    """
    if not text.strip():
        return DateOutcome(trouble="empty")
    if len(text) > LONGEST_DATE:
        return DateOutcome(trouble="no date")
    match = _NUMBERS.fullmatch(text)
    if match is None:
        return _parse_month_word(text)
    first, second, third = match[1], match[3], match[4]
    if len(first) == 4:
        return _make(first, second, third)
    if len(third) != 4 or len(first) > 2:
        return DateOutcome(trouble="two-digit year" if len(third) == 2 else "no date")
    return _parse_day_and_month(first, second, third, order)


def _parse_day_and_month(first: str, second: str, year: str, order: DateOrder) -> DateOutcome:
    day_first, month_first = _make(year, second, first), _make(year, first, second)
    wanted, other = (month_first, day_first) if order == "mdy" else (day_first, month_first)
    if wanted.trouble == "impossible" and other.date is not None:
        return DateOutcome(other.date, against_order=True)
    return wanted


def _parse_month_word(text: str) -> DateOutcome:
    match = _DAY_MONTH_WORD.fullmatch(text)
    if match:
        day, word, year = match[1], match[2], match[3]
    else:
        match = _MONTH_WORD_DAY.fullmatch(text)
        if match is None:
            return DateOutcome(trouble="no date")
        word, day, year = match[1], match[2], match[3]
    months = [i for i, name in enumerate(_MONTHS, start=1) if name.startswith(word.lower())]
    if len(months) != 1:
        return DateOutcome(trouble="no date")
    return _make(year, str(months[0]), day)


def _make(year: str, month: str, day: str) -> DateOutcome:
    try:
        date = datetime.date(int(year), int(month), int(day))
    except ValueError:
        return DateOutcome(trouble="impossible")
    if date in (datetime.date(1900, 2, 1), datetime.date(1900, 1, 2)):
        return DateOutcome(trouble="placeholder")
    if not FIRST_YEAR <= date.year <= LAST_YEAR:
        return DateOutcome(trouble="year")
    return DateOutcome(date)


def decide_date_order(
    texts: Iterable[str], asked: DateOrder | None = None, declared: DateOrder | None = None
) -> OrderDecision:
    """Decide the order of day and month for a whole file.

    Args:
        texts: All cells of the birth-date column.
        asked: What the user chose.
        declared: What the file's first line says ("staff,dmy,metric").
    """
    if asked:
        return OrderDecision(asked, "as you chose")
    votes = Counter(map(_vote, texts))
    dmy, mdy = votes["dmy"], votes["mdy"]
    if declared and (votes[declared] or not (dmy or mdy)):
        return OrderDecision(declared, "the first line of the file says so")
    if dmy or mdy:
        order: DateOrder = "mdy" if mdy > dmy else "dmy"
        most, least = max(dmy, mdy), min(dmy, mdy)
        reason = f"{most} dates have a day above 12 there" + (f", {least} say the opposite" if least else "")
        return OrderDecision(order, reason, is_doubtful=bool(declared) or least > 0)
    if votes["ymd"]:
        return OrderDecision("ymd", "the year is written first")
    return OrderDecision("dmy", "no date has a day above 12, so day first is assumed", is_doubtful=True)


def _vote(text: str) -> DateOrder | str:
    """Return the only order in which a date is possible, or "" when both are or none is."""
    match = _NUMBERS.fullmatch(text) if len(text) <= LONGEST_DATE else None
    if match is None:
        return ""
    if len(match[1]) == 4:
        return "ymd"
    if len(match[4]) != 4 or len(match[1]) > 2:
        return ""
    day_first = _make(match[4], match[3], match[1]).trouble != "impossible"
    month_first = _make(match[4], match[1], match[3]).trouble != "impossible"
    if day_first == month_first:
        return ""
    return "dmy" if day_first else "mdy"
