import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehmfaces.roster.dates import decide_date_order, looks_like_date, parse_date

D = datetime.date


@pytest.mark.parametrize(
    ("text", "order", "date"),
    [
        ("7.3.2006", "dmy", D(2006, 3, 7)),
        ("07/03/2006", "mdy", D(2006, 7, 3)),
        ("7-3-2006", "ymd", D(2006, 3, 7)),
        (" 7. 3. 2006. ", "dmy", D(2006, 3, 7)),
        ("2006-03-07", "mdy", D(2006, 3, 7)),
        ("2006/3/7", "dmy", D(2006, 3, 7)),
        ("2006-03-07T00:00:00Z", "dmy", D(2006, 3, 7)),
        ("7/3/2006 (20 years old)", "dmy", D(2006, 3, 7)),
        ("7 March 2006", "mdy", D(2006, 3, 7)),
        ("7-Mar-2006", "dmy", D(2006, 3, 7)),
        ("March 7th, 2006", "dmy", D(2006, 3, 7)),
        ("29.2.2004", "dmy", D(2004, 2, 29)),
    ],
)
def test_forms_that_are_read(text, order, date):
    outcome = parse_date(text, order)
    assert (outcome.date, outcome.trouble, outcome.against_order) == (date, "", False)
    assert looks_like_date(text)


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("1.2.1900", "placeholder"),
        ("2/1/1900", "placeholder"),
        ("1900-02-01", "placeholder"),
        ("31.2.2004", "impossible"),
        ("29.2.2005", "impossible"),
        ("0.0.0000", "impossible"),
        ("13/13/2003", "impossible"),
        ("1.2.1066", "year"),
        ("1.2.9999", "year"),
        ("1.2.03", "two-digit year"),
        ("1.2.203", "no date"),
        ("123.2.2003", "no date"),
        ("1.2/2003", "no date"),
        ("7 Foo 2006", "no date"),
        ("soon", "no date"),
        ("٧.٣.٢٠٠٦", "no date"),
        ("1.2.2003" + " " * 60, "no date"),
    ],
)
def test_what_is_no_birth_date(text, trouble):
    outcome = parse_date(text, "dmy")
    assert (outcome.date, outcome.trouble) == (None, trouble)


def test_a_date_that_is_possible_in_one_order_only():
    assert parse_date("6/13/2005", "dmy").date == D(2005, 6, 13)
    assert parse_date("6/13/2005", "dmy").against_order
    assert parse_date("13.6.2005", "mdy").date == D(2005, 6, 13)
    assert not parse_date("6/13/2005", "mdy").against_order


@pytest.mark.parametrize(
    ("texts", "asked", "declared", "order", "is_doubtful"),
    [
        (["1/2/2003"], None, None, "dmy", True),
        (["1/2/2003", "13/2/2003"], None, None, "dmy", False),
        (["1/2/2003", "2/13/2003"], None, None, "mdy", False),
        (["13/2/2003", "2/13/2003"], None, None, "dmy", True),
        (["2/13/2003", "2/14/2003", "13/2/2003"], None, None, "mdy", True),
        (["2003-02-01"], None, None, "ymd", False),
        (["2/13/2003"], "dmy", None, "dmy", False),
        (["1/2/2003"], None, "mdy", "mdy", False),
        (["2/13/2003", "13/2/2003", "14/2/2003"], None, "mdy", "mdy", False),
        (["13/2/2003"], None, "mdy", "dmy", True),
        (["31.2.2003", "x", "", "1.2.03", "x" * 99, "7 March 2003"], None, None, "dmy", True),
    ],
)
def test_order_of_a_file(texts, asked, declared, order, is_doubtful):
    decision = decide_date_order(texts, asked, declared)
    assert (decision.order, decision.is_doubtful) == (order, is_doubtful)
    assert decision.reason


@given(st.dates(D(1901, 1, 1), D(2100, 1, 1)))
def test_every_date_comes_back_in_every_order(date):
    assert parse_date(f"{date.day}.{date.month}.{date.year}", "dmy").date == date
    assert parse_date(f"{date.month}/{date.day}/{date.year}", "mdy").date == date
    assert parse_date(date.isoformat(), "dmy").date == date


@given(st.text(max_size=80))
def test_any_text_gives_a_date_or_a_trouble(text):
    outcome = parse_date(text, "dmy")
    assert (outcome.date is None) == bool(outcome.trouble)
