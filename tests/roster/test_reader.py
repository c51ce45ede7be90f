import datetime
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehmfaces.errors import RosterError
from ehmfaces.roster.reader import RosterLimits, read_roster

D = datetime.date
HEAD = "First Name,Last Name,DOB,Nation\n"


def read(text, **options):
    return read_roster(text.encode("utf-8"), name="players.csv", **options)


def people(roster):
    return [(e.first_name, e.last_name, e.birth_date) for e in roster.entries]


def sentence(data, **options):
    with pytest.raises(RosterError) as caught:
        read_roster(data if isinstance(data, bytes) else data.encode(), name="players.csv", **options)
    return str(caught.value)


# --- where the file comes from ---


def test_path_text_path_bytes_and_open_file_give_the_same(tmp_path):
    data = (HEAD + "Ann,Bee,13.2.2003,Sweden\n").encode()
    path = tmp_path / "players.csv"
    path.write_bytes(data)
    with path.open("rb") as file:
        rosters = [
            read_roster(path),
            read_roster(str(path)),
            read_roster(data, name="players.csv"),
            read_roster(file, name="players.csv"),
        ]
    assert all(roster == rosters[0] for roster in rosters)


def test_file_that_does_not_exist_or_is_a_folder(tmp_path):
    for path in (tmp_path / "nothing.csv", tmp_path, "a\0b"):
        with pytest.raises(RosterError, match="cannot be opened"):
            read_roster(path)


def test_file_opened_as_text():
    with pytest.raises(RosterError, match="binary mode"):
        read_roster(io.StringIO("a,b"))


# --- sentences for whole files ---


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "is empty"),
        (b"\n \r\n", "is empty"),
        ("\ufeff".encode(), "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG picture"),
        (b"\xff\xd8\xff\xe0abc", "JPEG picture"),
        (b"PK\x03\x04abc", "Excel workbook"),
        (b"%PDF-1.4", "PDF"),
        (b"  <html><table>", "HTML page"),
        (bytes(range(256)) * 4, "binary file"),
        (b"\0" * 100, "is empty"),
        (b"a\0b\0\1\2\3c" * 10, "binary file"),
        (HEAD.encode(), "a header but no rows"),
        (HEAD.encode() + b",,,\n\n", "a header but no rows"),
        (b"First Name,Last Name\nAnn,Bee\n", "no column of birth dates"),
        (b"Ann,Bee\nCy,Dee\n", "no column of birth dates"),
        (b"DOB,Height\n13.2.2003,180\n", "no column of names"),
        (b"First Name,Last Name,DOB\nAnn,Bee,\n", 'no birth dates at all: column "DOB" is empty in every'),
        (b"First Name,Last Name,DOB\nAnn,Bee,soon\n", 'its first cell is "soon"'),
    ],
)
def test_a_bad_file_gets_a_sentence(data, part):
    text = sentence(data)
    assert part in text
    assert text.startswith("players.csv")


def test_limits_have_sentences():
    data = HEAD + "Ann,Bee,13.2.2003,Sweden\n" * 30
    assert "larger than" in sentence(data, limits=RosterLimits(max_bytes=100))
    assert "At most 20" in sentence(data, limits=RosterLimits(max_rows=20))
    assert "At most 25" in sentence(data, limits=RosterLimits(max_rows=25))
    assert "At most 3 are" in sentence(data, limits=RosterLimits(max_columns=3))


def test_too_large_file_is_not_read_whole(tmp_path):
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    with pytest.raises(RosterError, match="larger than 50 MB"):
        read_roster(path)


def test_three_hundred_columns_are_read():
    extra = "," * 296
    assert len(read(HEAD.strip() + extra + "\nAnn,Bee,13.2.2003,Sweden" + extra + "\n").entries) == 1


def test_one_too_wide_row_and_one_too_long_cell_are_problems_of_their_rows():
    text = HEAD + f"Ann,Bee,13.2.2003,X{',' * 600}\n{'x' * 1001},Bee,13.2.2003,X\nCy,Dee,13.2.2003,X\n"
    roster = read(text)
    assert people(roster) == [("Cy", "Dee", D(2003, 2, 13))]
    assert "603 cells" in roster.problems[0].reason or "604 cells" in roster.problems[0].reason
    assert "a cell has 1001 letters" in roster.problems[1].reason


def test_a_cell_beyond_the_limit_of_the_csv_module_is_a_problem_of_its_row():
    text = HEAD + f'"{"x" * 200_000}",Bee,13.2.2003,X\nCy,Dee,13.2.2003,X\n'
    roster = read(text)
    assert len(roster.entries) == len(roster.problems) == 1


# --- header lines and columns ---


def test_one_title_line_in_other_languages():
    for titles in (
        "Förnamn;Efternamn;Födelsedatum;Nationalitet",
        "Etunimi;Sukunimi;Syntymäaika;Kansallisuus",
        "Jméno;Příjmení;Datum narození;Národnost",
        "Vorname;Name;Geburtsdatum;Nationalität",
        "Prénom;Nom;Date de naissance;Nationalité",
        "Имя;Фамилия;Дата рождения;Гражданство",
    ):
        roster = read(f"{titles}\nAnn;Bee;13.2.2003;Sweden\n")
        assert people(roster) == [("Ann", "Bee", D(2003, 2, 13))], titles
        assert roster.entries[0].nation == "Sweden"
        assert {column.how for column in roster.reading.columns.values()} == {"title"}


def test_titles_in_an_unknown_language_are_no_row():
    roster = read("Foo;Bar;Baz\nAnn;Bee;13.2.2003\nCy;Dee;14.2.2003\n")
    assert roster.reading.header_lines == 1
    assert roster.row_count == 2
    assert [c.how for c in roster.reading.columns.values()] == ["content"] * 3


def test_lines_before_the_titles_and_excels_separator_line():
    roster = read(f"sep=;\nExported on Monday\n\n{HEAD.replace(',', ';')}Ann;Bee;13.2.2003;Sweden\n")
    assert people(roster) == [("Ann", "Bee", D(2003, 2, 13))]
    assert roster.reading.header_lines == 4


def test_separator_line_without_titles():
    roster = read("sep=;\nAnn;Bee;13.2.2003\n")
    assert roster.reading.header_lines == 1
    assert len(roster.entries) == 1
    assert "no rows" in sentence("sep=;\n")


def test_first_row_without_a_date_is_data_when_its_cell_is_empty():
    roster = read("Ann,Bee,,Sweden\nCy,Dee,13.2.2003,Sweden\n")
    assert roster.row_count == 2
    assert "birth date is empty (column 3)" in roster.problems[0].reason


def test_editor_sheet_without_titles_and_with_moved_columns():
    without = read("staff,dmy,metric\n,Ann,Bee,1.2.2003,Sweden,,,,Non-Player\n")
    assert without.reading.header_lines == 1
    assert without.entries[0].role == "staff"
    moved = read("staff,mdy,metric\nNation,First Name,Last Name,Club,DOB\nX,Ann,Bee,Y,1/2/2003\n")
    assert people(moved) == [("Ann", "Bee", D(2003, 1, 2))]
    assert moved.reading.columns["birth_date"].how == "title"


def test_list_without_titles_finds_columns_by_content():
    roster = read("7,Ann,Bee,13.2.2003,Sweden,Non-Player\n8,Cy,Dee,14.2.2003,Norway,Player\n")
    assert people(roster)[0] == ("Ann", "Bee", D(2003, 2, 13))
    assert (roster.entries[0].nation, roster.entries[0].role) == ("Sweden", "staff")
    one = read("Ann Bee\t13.2.2003\nCy Dee\t14.2.2003\n")
    assert people(one)[0] == ("Ann", "Bee", D(2003, 2, 13))
    behind = read("13.2.2003|Ann|Bee\n14.2.2003|Cy|Dee\n")
    assert people(behind)[0] == ("Ann", "Bee", D(2003, 2, 13))


def test_an_untitled_column_of_dates_is_found_and_two_of_them_are_asked_about():
    one = read("First Name,Last Name,When\nAnn,Bee,13.2.2003\n")
    assert one.reading.columns["birth_date"].how == "content"
    text = sentence("First Name,Last Name,When,Then\nAnn,Bee,13.2.2003,13.2.2023\n")
    assert "no column of birth dates" in text
    assert '"When", "Then"' in text


def test_columns_can_be_chosen_by_position_and_title():
    text = "First Name,Last Name,When,Then\nAnn,Bee,13.2.2003,14.2.2004\n"
    for choice in (3, "then"):
        roster = read(text, columns={"birth_date": choice})
        assert roster.entries[0].birth_date == D(2004, 2, 14)
        assert roster.reading.columns["birth_date"].how == "asked"
    assert "Unknown field" in sentence(text, columns={"colour": 1})
    assert "no column 9" in sentence(text, columns={"birth_date": 9})
    assert 'no column titled "Born"' in sentence(text, columns={"birth_date": "Born"})
    assert "no title line" in sentence("Ann,Bee,13.2.2003\n", columns={"nation": "Born"})
    untitled = read("Ann,Bee,13.2.2003\n", columns={"first_name": 1, "last_name": 0})
    assert people(untitled) == [("Bee", "Ann", D(2003, 2, 13))]


def test_header_lines_can_be_chosen():
    text = "x,y,z\nFirst Name,Last Name,DOB\nAnn,Bee,13.2.2003\n"
    assert read(text, header=2).reading.titles == ("First Name", "Last Name", "DOB")
    assert read(text + "Cy,Dee,13.2.2003\n" * 3, header=0).row_count == 6
    assert read("staff,dmy,metric\n,Ann,Bee,1.2.2003\n", header=1).reading.layout == "EHM Editor"
    assert "Give 0 or more" in sentence(text, header=-1)


def test_first_and_last_name_win_over_a_whole_name():
    roster = read("Name,First Name,Last Name,DOB\nX Y,Ann,Bee,13.2.2003\n")
    assert people(roster)[0][:2] == ("Ann", "Bee")


def test_names_in_one_column():
    roster = read("Name,DOB\nAnn Bee,13.2.2003\nSolo,13.2.2003\nAnn van der Bee,13.2.2003\n ,13.2.2003\n")
    assert people(roster) == [
        ("Ann", "Bee", D(2003, 2, 13)),
        ("", "Solo", D(2003, 2, 13)),
        ("Ann", "van der Bee", D(2003, 2, 13)),
    ]
    assert [entry.name_was_split for entry in roster.entries] == [False, False, True]
    assert roster.problems[0].reason == "players.csv, row 5: there is no name."


def test_last_comma_first():
    roster = read("Name;DOB\nBee, Ann;13.2.2003\nvan Dee, Cy;14.2.2003\n")
    assert [entry.first_name for entry in roster.entries] == ["Ann", "Cy"]
    assert any("turned round" in note for note in roster.reading.notes)


def test_unknown_classification_is_a_player_with_a_note():
    roster = read("First Name,Last Name,DOB,Classification\nAnn,Bee,13.2.2003,Mascot\nCy,Dee,13.2.2003,\n")
    assert [entry.role for entry in roster.entries] == ["player", "player"]
    assert any("In 1 row (2) the classification is unknown" in note for note in roster.reading.notes)


# --- separators, quotes and rows ---


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found_in_short_files(separator):
    assert read(separator.join(["Ann", "Bee", "13.2.2003", "Sweden"])).reading.separator == separator


def test_commas_inside_cells_of_a_semicolon_file():
    roster = read("Name;DOB;Positions\nAnn Bee;13.2.2003;LW, C, RW\nCy Dee;14.2.2003;G, D, D\n")
    assert roster.reading.separator == ";"


def test_separator_can_be_chosen():
    text = "Ann:Bee:13.2.2003\n"
    assert len(read(text, separator=":").entries) == 1
    assert len(read("Ann\tBee\t13.2.2003\n", separator="tab").entries) == 1
    for wrong in ("::", "", '"', "\n", "a"):
        assert "separator" in sentence(text, separator=wrong)


def test_table_drawn_with_bars():
    text = "| Nat | Name | DOB |\n| --- | --- | --- |\n| SWE | Ann Bee | 13.2.2003 |\n"
    roster = read(text)
    assert people(roster) == [("Ann", "Bee", D(2003, 2, 13))]
    assert roster.problems[0].is_blank


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines_count(line_end):
    text = (HEAD + "Ann,Bee,13.2.2003,X\n\n,,,\nCy,Dee,13.2.2003,X\n").replace("\n", line_end)
    roster = read(text)
    assert [entry.row_number for entry in roster.entries] == [2, 5]
    assert [problem.row_number for problem in roster.problems] == [3, 4]
    assert roster.reading.blank_count == 2


def test_quoted_cells_may_hold_separators_quotes_and_line_ends():
    roster = read(HEAD + '"Ann, Jr.","Bee ""B""",13.2.2003,"Swe\nden"\nCy,Dee,13.2.2003,X\n')
    assert people(roster)[0][:2] == ("Ann, Jr.", 'Bee "B"')
    assert [entry.row_number for entry in roster.entries] == [2, 4]
    assert roster.entries[0].nation == "Swe den"


def test_a_quote_that_is_never_closed_swallows_nothing():
    roster = read(HEAD + 'Ann,"Bee,13.2.2003,X\nCy,Dee,13.2.2003,X\nEli,Foe,"13.2.2003",X\n')
    assert [entry.row_number for entry in roster.entries] == [2, 3, 4]
    assert roster.entries[0].last_name == '"Bee'
    assert any("never closed" in note for note in roster.reading.notes)


def test_sideways_letters_are_no_line_ends():
    assert read(HEAD + "Ann\u2028x,B\x0bee,13.2.2003,X\n").entries[0].first_name == "Ann x"


# --- encodings ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings(encoding):
    text = HEAD + "Jiří,Štěpnohorský,13.2.2003,Czech Republic\n"
    data = text.encode(encoding)
    assert people(read_roster(data))[0][:2] == ("Jiří", "Štěpnohorský")


@pytest.mark.parametrize(
    ("encoding", "row"),
    [
        ("cp1252", "Jörn,Brattvåg,13.2.2003,Sweden"),
        ("cp1252", "Jørn,Næss,13.2.2003,Norway"),
        ("cp1252", "Étienne,Beaurivière,13.2.2003,Canada"),
        ("latin-1", "Ville,Mäkitörmä,13.2.2003,Finland"),
        ("cp1252", "Sigurður,Þórsson,13.2.2003,Iceland"),
        ("cp1250", "Jiří,Štěpnohorský,13.2.2003,Czech Republic"),
        ("cp1250", "Łukasz,Wiśniewski,13.2.2003,Poland"),
        ("cp1250", "Tomáš,Kučera,13.2.2003,Czech Republic"),
        ("cp1250", "Gergő,Szűcs,13.2.2003,Hungary"),
        ("cp1251", "Дмитрий,Снегопадов,13.2.2003,Россия"),
    ],
)
def test_code_pages_of_one_short_row(encoding, row):
    roster = read_roster((HEAD + row + "\n").encode(encoding))
    assert list(people(roster)[0][:2]) == row.split(",")[:2]
    assert any("not UTF-8" in note for note in roster.reading.notes)


def test_bytes_that_the_guessed_code_page_does_not_have():
    roster = read_roster(
        (HEAD + "Jörn,Ek,13.2.2003,Sweden\n").encode("cp1252") + b"\x81\x90,x,13.2.2003,Sweden\n"
    )
    assert roster.reading.encoding == "latin-1"


def test_encoding_can_be_chosen():
    data = (HEAD + "Jiří,Ek,13.2.2003,Sweden\n").encode("iso-8859-2")
    assert read_roster(data, encoding="ISO-8859-2").entries[0].first_name == "Jiří"
    assert "not in the encoding utf-8" in sentence(data, encoding="utf-8")
    assert 'no encoding "klingon"' in sentence(data, encoding="klingon")


def test_letters_encoded_twice_are_repaired_with_a_note():
    data = (HEAD + "Jørn,Brattvåg,13.2.2003,Norway\n").encode().decode("cp1252").encode()
    roster = read_roster(data)
    assert people(roster)[0][:2] == ("Jørn", "Brattvåg")
    assert any("encoded twice" in note for note in roster.reading.notes)


@pytest.mark.parametrize("name", ["BjörÅ", "Âé", "Ã", "Ã¤¤", "Ä\u2603"])
def test_what_only_looks_encoded_twice_stays(name):
    assert read(HEAD + f"{name},Bee,13.2.2003,X\n").entries[0].first_name == name


def test_a_file_pasted_together_from_two_encodings():
    data = (HEAD + "Jiří,Ek,13.2.2003,X\nŁuk,Ek,13.2.2003,X\n").encode() + "Jörn,Ek,13.2.2003,X\n".encode(
        "cp1252"
    )
    roster = read_roster(data)
    assert [entry.first_name for entry in roster.entries] == ["Jiří", "Łuk", "Jörn"]
    assert any("1 lines are not UTF-8" in note for note in roster.reading.notes)


def test_damage_behind_a_byte_order_mark_is_noted():
    roster = read_roster(b"\xef\xbb\xbf" + HEAD.encode() + b"J\xf6rn,Ek,13.2.2003,X\n")
    assert any("1 characters are damaged" in note for note in roster.reading.notes)


def test_one_nul_in_a_name_stops_nothing():
    assert len(read(HEAD + "Ann\0e,Bee,13.2.2003,X\n" + "Cy,Dee,14.2.2003,X\n").entries) == 2


# --- dates ---


def test_one_day_above_twelve_decides_for_the_file():
    assert read("Ann,Bee,2/3/2003\nCy,Dee,2/13/2003\n").entries[0].birth_date == D(2003, 2, 3)
    assert read("Ann,Bee,2/3/2003\nCy,Dee,13/2/2003\n").entries[0].birth_date == D(2003, 3, 2)


def test_no_day_above_twelve_is_read_day_first_with_a_note():
    roster = read("Ann,Bee,2/3/2003\n")
    assert roster.entries[0].birth_date == D(2003, 3, 2)
    assert any("not certain" in note for note in roster.reading.notes)


def test_date_order_can_be_chosen():
    assert read("Ann,Bee,2/3/2003\n", date_order="mdy").entries[0].birth_date == D(2003, 2, 3)
    assert "Unknown date order" in sentence("Ann,Bee,2/3/2003\n", date_order="dym")


def test_a_first_line_that_every_date_contradicts_is_not_followed():
    roster = read("staff,dmy,metric\n,Ann,Bee,2/13/2003\n,Cy,Dee,1/2/2003\n")
    assert roster.entries[1].birth_date == D(2003, 1, 2)
    assert any("not certain" in note for note in roster.reading.notes)


def test_iso_dates():
    roster = read("Ann,Bee,2003-03-02\nCy,Dee,2003-12-31 00:00:00\n")
    assert [entry.birth_date for entry in roster.entries] == [D(2003, 3, 2), D(2003, 12, 31)]
    assert roster.reading.date_order == "ymd"


# --- the reading ---


def test_reading_describes_itself_and_is_json():
    reading = read(HEAD + "Ann,Bee,13.2.2003,Sweden\n\n").reading
    text = "\n".join(reading.describe())
    assert 'birth date = column 3 "DOB" (by title)' in text
    assert "2 rows: 1 player, 0 staff, 1 without a usable person (of these 1 blank)." in text
    assert "Separator: comma" in text
    assert json.loads(json.dumps(reading.to_dict()))["columns"]["birth_date"] == {
        "index": 2,
        "title": "DOB",
        "how": "title",
    }
    chosen = read("Ann:Bee:13.2.2003\n", separator=":", columns={"nation": 1}).reading
    assert "nation = column 2 (by your choice)" in "\n".join(chosen.describe())


def test_player_key_tells_father_and_son_apart():
    keys = {e.player_key for e in read("Ann,Bee,13.2.1973\nAnn,Bee,13.2.2003\nANN,bee,13.2.2003\n").entries}
    assert len(keys) == 2


# --- whatever comes in ---

CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["Ann", "13.2.2003", "2/3/2003", "DOB", "Name", "staff", "dmy", '"', "---", "sep=;", ""]),
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_roster_or_a_sentence(data):
    try:
        roster = read_roster(data)
    except RosterError:
        return
    assert roster.row_count == len(roster.entries) + len(roster.problems)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=1, max_size=6), min_size=1, max_size=12),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
def test_any_table_gives_a_roster_or_a_sentence(table, separator, encoding):
    text = "\n".join(separator.join(cells) for cells in table)
    try:
        roster = read_roster(text.encode(encoding, errors="replace"))
    except RosterError:
        return
    numbers = [e.row_number for e in roster.entries] + [p.row_number for p in roster.problems]
    assert len(numbers) == len(set(numbers)) == roster.row_count
    assert roster.reading.row_count == roster.row_count
    json.dumps(roster.reading.to_dict())
    roster.reading.describe()
