"""Workbooks, print-outs, JSON, several files and tables of titles."""

import datetime
import io
import json
import zipfile

import pytest
from openpyxl import Workbook

from ehmfaces.errors import RosterError
from ehmfaces.roster.reader import RosterLimits, read_roster, read_rosters
from ehmfaces.roster.titles import standard_titles

D = datetime.date
PEOPLE = [("Jiří", "Štěp", D(2003, 2, 13)), ("Åke", "Bee", D(2004, 3, 1))]


def people(roster):
    return [(e.first_name, e.last_name, e.birth_date) for e in roster.entries]


def workbook(*sheets, epoch=None):
    book = Workbook()
    book.remove(book.active)
    if epoch:
        book.epoch = epoch
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def repacked(data, **changes):
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            change = changes.get(name.rpartition("/")[2].partition(".")[0])
            target.writestr(name, change(source.read(name)) if change else source.read(name))
    return out.getvalue()


HEAD = ["Förnamn", "Efternamn", "Född", "Nat"]
ROWS = [[first, last, date, "SWE"] for first, last, date in PEOPLE]


# --- workbooks ---


@pytest.mark.parametrize("epoch", [None, datetime.datetime(1904, 1, 1)])
def test_workbook_with_real_dates_in_both_epochs(epoch):
    roster = read_roster(workbook(("Squad", [HEAD, *ROWS]), epoch=epoch), name="a.xlsx")
    assert people(roster) == PEOPLE
    assert (roster.reading.encoding, roster.reading.separator) == ('xlsx, sheet "Squad"', "")
    assert [entry.row_number for entry in roster.entries] == [2, 3]


def test_workbook_with_leading_lines_texts_numbers_and_formulas():
    rows = [
        [],
        ["Our squad"],
        [],
        ["UID", *HEAD],
        [2002075998.0, *ROWS[0]],
        ["x", "=1+1", "B", "1.2.2003", True],
    ]
    roster = read_roster(workbook(("S", rows)), name="a.xlsx", needs_birth_date=False)
    assert roster.entries[0].uid == "2002075998"
    assert people(roster) == [
        PEOPLE[0],
        ("", "B", D(2003, 2, 1)),
    ]  # a formula without a stored value is empty
    assert roster.reading.header_lines == 4


def test_the_first_sheet_with_anything_is_read_unless_one_is_named():
    data = workbook(("Empty", []), ("Staff", [HEAD, ROWS[1]]), ("Players", [HEAD, ROWS[0]]))
    roster = read_roster(data, name="a.xlsx")
    assert people(roster) == PEOPLE[1:]
    assert any(
        'Only the sheet "Staff" was read, not "Empty", "Players"' in note for note in roster.reading.notes
    )
    assert people(read_roster(data, name="a.xlsx", sheet="players")) == PEOPLE[:1]
    with pytest.raises(RosterError, match=r'no sheet "Other".*"Staff"'):
        read_roster(data, name="a.xlsx", sheet="Other")


def test_a_sheet_that_lies_about_its_size_is_read_as_it_is():
    data = workbook(("S", [HEAD, *ROWS]))
    lying = repacked(data, sheet1=lambda xml: xml.replace(b'ref="A1:D3"', b'ref="A1:XFD1048576"'))
    assert lying != data
    assert people(read_roster(lying, name="a.xlsx")) == PEOPLE


def entities(xml):
    return b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>' + xml.partition(b"?>")[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sheet1": entities}, "declares XML entities"),
        ({"workbook": entities}, "declares XML entities"),
        ({"sheet1": lambda xml: xml[:200]}, "damaged Excel workbook"),
    ],
)
def test_workbooks_that_are_bombs_or_damaged_are_refused(change, sentence):
    with pytest.raises(RosterError, match=sentence):
        read_roster(repacked(workbook(("S", [HEAD, *ROWS])), **change), name="a.xlsx")


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch):
    data = io.BytesIO(workbook(("S", [HEAD, *ROWS])))
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", b" " * (65 * 2**20))
    with pytest.raises(RosterError, match="unpacks to more than 64 MB"):
        read_roster(data.getvalue(), name="a.xlsx")
    monkeypatch.setattr("ehmfaces.roster.workbook.MAX_UNPACKED_BYTES", 5000)
    with pytest.raises(RosterError, match="unpacks to more than"):
        read_roster(workbook(("S", [HEAD, *ROWS])), name="a.xlsx")


def test_other_zip_archives_and_long_workbooks_are_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(RosterError, match="not an Excel workbook"):
        read_roster(file.getvalue(), name="a.xlsx")
    with pytest.raises(RosterError, match="more than 20 rows"):
        read_roster(workbook(("S", [HEAD, *ROWS * 30])), limits=RosterLimits(max_rows=20))
    with pytest.raises(RosterError, match="is empty"):
        read_roster(workbook(("S", [])), name="a.xlsx")


# --- print-outs ---

FM = """| UID            | Nat | 2nd Nat | Name            | Hair   |
| -------------- | --- | ------- | --------------- | ------ |
| 2002075998     | CZE |         | Jiří Štěp       | Blond  |
| -------------- | --- | ------- | --------------- | ------ |
| r-2002075999   | SWE | FIN     | Åke Bee         | Brown  |
|                | SWE |         | Nobody Known    | Brown  |
"""


def check_fm(roster):
    assert [(e.uid, e.first_name, e.last_name, e.nation) for e in roster.entries] == [
        ("2002075998", "Jiří", "Štěp", "CZE"),
        ("2002075999", "Åke", "Bee", "SWE"),
    ]
    assert all(entry.birth_date is None for entry in roster.entries)
    assert roster.entries[0].date_problem.endswith("the roster has no birth dates.")
    lost = [problem.first_name for problem in roster.problems if not problem.is_blank]
    assert lost == ["Nobody"]


def test_football_managers_text_print_out():
    roster = read_roster(FM.encode(), name="fm.rtf")
    check_fm(roster)
    assert roster.reading.separator == "|"
    assert "There are no birth dates." in roster.reading.describe()


def test_football_managers_print_out_as_a_real_rtf_document():
    body = "".join(c if ord(c) < 128 else f"\\u{ord(c)}?" for c in FM).replace("\n", "\\par\n")
    check_fm(read_roster(("{\\rtf1\\ansi{\\fonttbl{\\f0\\fcharset0 Arial;}}\\f0 " + body + "}").encode()))


def test_football_managers_html_print_out():
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in FM.splitlines()]
    rows = "".join("<tr>" + "".join(f"<td><b>{c}</b></td>" for c in row) + "</tr>" for row in cells)
    page = (
        f"<!DOCTYPE html><html><body><table><tr><td>menu</td></tr></table><table>{rows}</table></body></html>"
    )
    roster = read_roster(page.encode(), name="fm.html")
    check_fm(roster)
    assert roster.reading.encoding == "utf-8, HTML"


def test_markup_in_a_name_is_text_or_left_out():
    page = "<table><tr><td>Name<td>DOB</tr><tr><td>&lt;b&gt; Ann<script>x</script></td><td>1.2.2003</td>"
    entry = read_roster(page.encode(), name="x.html").entries[0]
    assert (entry.first_name, entry.last_name) == ("<b>", "Annx")
    entry = read_roster(b"First Name,Last Name,DOB\n<b>Ann</b>,Bee,13.2.2003\n").entries[0]
    assert entry.first_name == "<b>Ann</b>"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"<html><body>no</body></html>", "HTML page without a table"),
        (b"<html>" + b"<table><tr><td>" * 3000, "HTML page|no column"),
        (b"{\\rtf1 }", "is empty"),
        (b"{\\rtf1 \\u99999999 x}", "damaged RTF"),
        (b"{\\rtf1{\\fonttbl" + b"\\f1" * 9000 + b"}}", "too many fonts"),
        (b"[" * 100_000, "."),
        (b'{"players": 3}', "without a list of people"),
        (b'{"players": [', "no valid JSON"),
        (b'[{"a":' + b"[" * 50_000, "nested too deeply"),
        (b'[{"a": 1' + b"0" * 9000 + b"}]", "no valid JSON|no column|nested"),
    ],
)
def test_damaged_print_outs_and_json_get_a_sentence(data, sentence):
    with pytest.raises(RosterError, match=sentence):
        read_roster(data, name="x")


def test_limits_of_print_outs(monkeypatch):
    monkeypatch.setattr("ehmfaces.roster.printout.MAX_HTML_BYTES", 10)
    monkeypatch.setattr("ehmfaces.roster.printout.MAX_RTF_BYTES", 10)
    for data in (b"<table><tr><td>x</td></tr></table>", b"{\\rtf1 abc def ghi}"):
        with pytest.raises(RosterError, match="Split the list"):
            read_roster(data)


def test_wide_and_long_html_tables_are_refused():
    page = b"<table>" + b"<tr><td>a</td></tr>" * 50
    with pytest.raises(RosterError, match="At most 20"):
        read_roster(page, limits=RosterLimits(max_rows=20))


# --- JSON ---


def test_league_file_of_zengm():
    players = [
        {
            "firstName": "Ann",
            "lastName": "Bee",
            "born": {"year": 1999, "loc": "Oslo, Norway"},
            "ratings": [{"hgt": 5}],
        },
        {
            "firstName": "Cy",
            "lastName": "\ud83d",
            "born": {"year": "x"},
            "imgURL": "a.png",
            "injury": {"type": "Knee"},
        },
        7,
    ]
    data = json.dumps({"version": 60, "players": players}).encode()
    roster = read_roster(data, name="league.json", needs_birth_date=False)
    ann, cy = roster.entries
    assert (ann.first_name, ann.birth_year, ann.nation, ann.birth_key) == (
        "Ann",
        1999,
        "Oslo, Norway",
        "1999",
    )
    assert (cy.last_name, cy.birth_year, cy.birth_key) == ("\ufffd", 0, "")
    assert len(roster.problems) == 1
    with pytest.raises(RosterError, match="no column of birth dates"):
        read_roster(data, name="league.json")
    with pytest.raises(RosterError, match="At most 2"):
        read_roster(data, limits=RosterLimits(max_rows=2))


def test_plain_list_of_people_with_dates():
    data = b'[{"name": "Ann Bee", "dob": "2003-02-13"}, {"name": "Cy Dee", "dob": null}]'
    roster = read_roster(data)
    assert people(roster) == [("Ann", "Bee", D(2003, 2, 13))]
    assert "birth date is empty" in roster.problems[0].reason


# --- encodings and separators ---


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("separator", ["\t", "|", ";", ","])
def test_wide_encodings_with_and_without_mark_and_all_separators(encoding, separator):
    lines = [("Příjmení", "Jméno", "Narozen"), ("Štěp", "Jiří", "13.2.2003"), ("Bee", "Åke", "1.3.2004")]
    data = "\r\n".join(separator.join(line) for line in lines).encode(encoding)
    assert people(read_roster(data)) == PEOPLE


def test_pythons_own_notations_are_no_encodings():
    for name in ("unicode_escape", "Raw-Unicode Escape", "idna", "rot13", "nonsense"):
        with pytest.raises(RosterError, match="no encoding"):
            read_roster(b"a\\,b,c", encoding=name)


# --- titles ---


@pytest.mark.parametrize(
    "titles",
    [
        "Efternamn,Förnamn,Födelsedatum,Nationalitet",
        "Sukunimi,Etunimi,Syntymäaika,Kansallisuus",
        "Příjmení,Jméno,Datum narození,Národnost",
        "Фамилия,Имя,Дата рождения,Гражданство",
        "Nachname,Vorname,Geburtsdatum,Nationalität",
        "Nom de famille,Prénom,Date de naissance,Nationalité",
        "Priezvisko,Meno,Dátum narodenia,Národnosť",
        "Etternavn,Fornavn,Fødselsdato,Nasjonalitet",
        "Efternavn,Fornavn,Født,Land",
        "SURNAME,forename,D.O.B.,Country",
    ],
)
def test_titles_in_other_languages_in_any_order(titles):
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        rows = [titles.split(","), ["Štěp", "Jiří", "13.2.2003", "X"], ["Bee", "Åke", "1.3.2004", "Y"]]
        text = "\n".join(",".join(row[i] for i in order) for row in rows)
        roster = read_roster(text.encode())
        assert people(roster) == PEOPLE
        assert [entry.nation for entry in roster.entries] == ["X", "Y"]


def test_titles_of_the_users_own(tmp_path):
    table = tmp_path / "my.csv"
    table.write_text(
        "meaning,word\n# Estonian\nlast_name,Suguvõsa\nfirst_name,Hüüd\nbirth_date,Sünd\nstaff,Treenerid\n"
    )
    titles = standard_titles().extended(table)
    data = "Suguvõsa;Sünd;Hüüd;Classification\nBee;13.2.2003;Ann;Treenerid\n".encode()
    entry = read_roster(data, titles=titles).entries[0]
    assert (entry.first_name, entry.last_name, entry.role) == ("Ann", "Bee", "staff")
    assert standard_titles().field_of_title("Suguvõsa") is None


@pytest.mark.parametrize("text", ["oops,x", "name", "name,...", '"' + "x" * 200_000])
def test_damaged_tables_of_titles_get_a_sentence(tmp_path, text):
    table = tmp_path / "my.csv"
    table.write_text(text)
    with pytest.raises(RosterError, match="meaning,word"):
        standard_titles().extended(table)


def test_tables_of_titles_that_cannot_be_read(tmp_path):
    table = tmp_path / "my.csv"
    for data, sentence in ((b"\xff\xfe\xff", "not UTF-8"), (b"x" * (2**20 + 1), "larger than 1 MB")):
        table.write_bytes(data)
        with pytest.raises(RosterError, match=sentence):
            standard_titles().extended(table)
    with pytest.raises(RosterError, match="cannot be read"):
        standard_titles().extended(tmp_path / "nothing.csv")


# --- several files ---


def test_several_files_are_one_roster_and_every_row_is_there_once():
    files = [
        b'First Name,Last Name,DOB\n"Ann\n",Bee,13.2.2003\n\nCy,Dee,soon\n',
        b"Ann;Bee;13.2.2003\nEd;Fox;1.3.2004\n",
    ]
    roster = read_rosters(files, ["a.csv", "b.csv"])
    assert [(e.row_number, e.where) for e in roster.entries] == [
        (2, "a.csv, row 2"),
        (6, "b.csv, row 1"),
        (7, "b.csv, row 2"),
    ]
    assert [p.row_number for p in roster.problems] == [4, 5]
    assert [p.reason.startswith("a.csv, row ") for p in roster.problems] == [True, True]
    assert roster.row_count == 5
    sentences = roster.reading.describe()
    assert any(s.startswith("2 files were read") for s in sentences)
    assert any(s.startswith("b.csv: Encoding: utf-8. Separator: semicolon") for s in sentences)


def test_several_files_have_limits_together():
    with pytest.raises(RosterError, match="at least one"):
        read_rosters([])
    with pytest.raises(RosterError, match="more than 3 rows together"):
        read_rosters([b"A,B,13.2.2003\nC,D,13.2.2003\n"] * 2, limits=RosterLimits(max_rows=3))
    one = read_rosters([b"A,B,13.2.2003\n"], ["a.csv"])
    assert one == read_roster(b"A,B,13.2.2003\n", name="a.csv")
