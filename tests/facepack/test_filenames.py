import datetime
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehmfaces.facepack.filenames import clash_key, clean_name, portrait_filename

BORN = datetime.date(2006, 3, 7)


@pytest.mark.parametrize(
    ("first", "last", "filename"),
    [
        ("Tobias", "Havelskov", "Tobias_Havelskov_7_3_2006.png"),
        ("T.J.", "Wrenfield", "T.J._Wrenfield_7_3_2006.png"),
        ("Cormac", "O'Dunnelly", "Cormac_O'Dunnelly_7_3_2006.png"),
        ("Willem", "Van der Houtkamp", "Willem_Van der Houtkamp_7_3_2006.png"),
        ("Marc-André", "De la Villardière", "Marc-André_De la Villardière_7_3_2006.png"),
        ("E\u0301ric", "B", "Éric_B_7_3_2006.png"),
        ("  Ann \t May ", "B\u00a0C", "Ann May_B C_7_3_2006.png"),
    ],
)
def test_letters_that_the_game_keeps(first, last, filename):
    outcome = portrait_filename(first, last, BORN)
    assert (outcome.name, outcome.notes, outcome.trouble) == (filename, (), "")


@pytest.mark.parametrize(
    ("first", "last", "filename", "note"),
    [
        ("Aleksandr/Sasha", "Voro:nkin*", "AleksandrSasha_Voronkin_7_3_2006.png", "cannot stand"),
        ("..", "../../etc/passwd", "_etcpasswd_7_3_2006.png", "cannot stand"),
        ("A\0nn\u202e", "B\u200b", "Ann_B_7_3_2006.png", "cannot stand"),
        ("Ji?í", "X", "Jií_X_7_3_2006.png", "were lost"),
        ("Ji\ufffdí", "X", "Jií_X_7_3_2006.png", "were lost"),
        ("Jiří", "Ek", "Jirí_Ek_7_3_2006.png", "Latin-1 letters; written ř as r"),
        ("Łukasz", "Kőszegi", "Lukasz_Koszegi_7_3_2006.png", "written Ł as L, ő as o"),
        ("Işıl", "Ðór", "Isil_Ðór_7_3_2006.png", "written ı as i, ş as s"),
        ("Александр", "Ж", "Aleksandr_Zh_7_3_2006.png", "Latin-1 letters"),
        ("A⅓", "D’Arc", "A13_D'Arc_7_3_2006.png", "cannot stand"),
        ("", "Mononymov", "_Mononymov_7_3_2006.png", "no first name"),
        ("Solo", "", "Solo__7_3_2006.png", "no last name"),
    ],
)
def test_what_is_changed_or_doubtful_is_noted(first, last, filename, note):
    outcome = portrait_filename(first, last, BORN)
    assert outcome.name == filename
    assert any(note in text for text in outcome.notes)


def test_names_that_give_no_file():
    for first, last in (("", ""), ("?", "***"), ("...", "-")):
        assert "no letter" in portrait_filename(first, last, BORN).trouble
    for long in ("x" * 150, "Ж" * 120):
        assert "at most 150" in portrait_filename("A", long, BORN).trouble


def test_dates_are_padded_only_on_demand():
    assert portrait_filename("A", "B", BORN, zero_pad=True).name == "A_B_07_03_2006.png"


def test_clash_key_takes_capital_and_small_letters_as_one():
    assert clash_key("players/ÉRIC_x") == clash_key("players/éric_X")
    assert clash_key("Strauß") != clash_key("Strauss")


NAMES = st.one_of(st.text(max_size=40), st.text("./\\:*?\"<>| \0\u202eaÉ'-", max_size=20))


@given(NAMES, NAMES, st.dates())
def test_a_file_name_is_never_a_path(first, last, date):
    name = portrait_filename(first, last, date).name
    if not name:
        return
    assert name.endswith(".png")
    assert not set(name) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(char).startswith("C") for char in name)
    assert ".." not in name
    assert not name.startswith((".", " "))
    assert len(name) <= 150
    assert unicodedata.is_normalized("NFC", name)


@given(NAMES)
def test_cleaning_twice_changes_nothing(name):
    assert clean_name(clean_name(name)) == clean_name(name)
