"""The example rosters, read with no settings."""

import datetime
from pathlib import Path

import pytest

from ehmfaces.roster.reader import read_roster

ROSTERS = Path(__file__).resolve().parents[2] / ".." / "shared" / "rosters"
pytestmark = pytest.mark.skipif(not ROSTERS.is_dir(), reason="the shared rosters are not beside the checkout")

FILES = {
    "01": "01_ehm_editor_staff_comma_utf8bom_crlf.csv",
    "02": "02_ehm_editor_staff_semicolon_latin1_crlf.csv",
    "03": "03_ehm_assistant_export_utf8_crlf.csv",
    "04": "04_short_noheader_comma_utf8_lf.csv",
    "06": "06_nasty_utf8bom_crlf.csv",
    "large": "large_17176.csv",
}


def read(key):
    return read_roster(ROSTERS / FILES[key])


@pytest.mark.parametrize(
    ("key", "rows", "players", "staff", "problems", "encoding", "separator", "header", "order"),
    [
        ("01", 18, 16, 1, 1, "utf-8-sig", ",", 2, "dmy"),
        ("02", 18, 16, 1, 1, "cp1252", ";", 2, "dmy"),
        ("03", 21, 20, 0, 1, "utf-8", ";", 1, "mdy"),
        ("04", 18, 17, 0, 1, "utf-8", ",", 0, "dmy"),
        ("06", 21, 14, 1, 6, "utf-8-sig", ",", 1, "dmy"),
        ("large", 17176, 16524, 593, 59, "utf-8-sig", ",", 2, "dmy"),
    ],
)
def test_counts_and_reading(key, rows, players, staff, problems, encoding, separator, header, order):
    roster = read(key)
    reading = roster.reading
    assert (roster.row_count, reading.player_count, reading.staff_count) == (rows, players, staff)
    assert len(roster.problems) == reading.problem_count == problems
    assert len(roster.entries) == players + staff
    assert (reading.encoding, reading.separator, reading.header_lines) == (encoding, separator, header)
    assert reading.date_order == order


@pytest.mark.parametrize("key", FILES)
def test_every_row_is_accounted_for_once(key):
    roster = read(key)
    numbers = [entry.row_number for entry in roster.entries] + [p.row_number for p in roster.problems]
    first = roster.reading.header_lines + 1
    assert sorted(numbers) == list(range(first, first + roster.row_count))


@pytest.mark.parametrize("key", ["01", "03", "04"])
def test_the_same_people_come_out_of_every_layout(key):
    people = {(e.first_name, e.last_name, e.birth_date) for e in read(key).entries}
    for person in (
        ("Tobias", "Havelskov", datetime.date(2006, 3, 7)),
        ("Jiří", "Štěpnohorský", datetime.date(2003, 9, 9)),
        ("Cormac", "O'Dunnelly", datetime.date(2004, 8, 14)),
        ("T.J.", "Wrenfield", datetime.date(2002, 12, 11)),
        ("Willem", "Van der Houtkamp", datetime.date(2000, 2, 28)),
        ("Anders", "Lindqvärn", datetime.date(1971, 2, 3)),
    ):
        assert person in people


def test_one_name_column_says_which_names_were_split_by_rule():
    split = [entry.row_number for entry in read("03").entries if entry.name_was_split]
    assert split == [3, 8, 9, 11, 13, 14]
    assert any("6 rows (3, 8, 9, 11, 13, 14)" in note for note in read("03").reading.notes)


def test_dashes_are_empty():
    assert {e.second_nation for e in read("03").entries} == {"", "France", "Ireland", "Kazakhstan", "Germany"}


def test_a_quote_in_the_middle_of_a_name_stays():
    assert read("03").entries[7].last_name == '"Bruno" Oldřichovec'


def test_nasty_rows_are_read_one_by_one():
    roster = read("06")
    problems = {problem.row_number: problem.reason for problem in roster.problems}
    assert set(problems) == {5, 6, 7, 18, 20, 22}
    assert "birth date is empty" in problems[5]
    assert problems[6] == (
        '06_nasty_utf8bom_crlf.csv, row 6: birth date "31.2.2004" is not a date (column "date of birth"). '
        "Use DD.MM.YYYY or pass --date-format."
    )
    assert "no file name can match" in problems[7]
    assert problems[20] == "Blank line."
    entries = {entry.row_number: entry for entry in roster.entries}
    assert entries[3].birth_date == datetime.date(2005, 6, 13)
    assert entries[4].birth_date == datetime.date(2005, 4, 3)
    assert (entries[9].first_name, entries[9].last_name) == ("", "Mononymov")
    assert entries[16].first_name == "Éric"
    assert entries[13].role == "staff"
    assert entries[14].role == "player"


def test_editor_columns_are_found_by_position():
    columns = read("01").reading.columns
    assert {name: column.index for name, column in columns.items()} == {
        "first_name": 1,
        "last_name": 2,
        "birth_date": 3,
        "nation": 4,
        "second_nation": 5,
        "classification": 8,
    }
    assert {column.how for column in columns.values()} == {"position"}
