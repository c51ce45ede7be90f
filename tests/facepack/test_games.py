"""Names and lists for other games, alone and together in one pack."""

import datetime
import io
import json
import xml.etree.ElementTree as ET
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.filenames import clash_key, fold_to_latin1
from ehmfaces.facepack.games import GAMES, NamedFace, NamingRules, game_lists, get_games, plain_name
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.facepack.writer import write_facepack
from ehmfaces.portrait.formats import FORMATS
from ehmfaces.roster.entry import RosterEntry
from ehmfaces.roster.reader import read_roster, read_rosters

BORN = datetime.date(2003, 2, 13)
FM = "|UID|Nat|Name|\n|2002075998|CZE|Jiří Ek|\n| 7 | SWE | Ann Bee |\n| | SWE | No Id |\n".encode()


def plan(data, games, names=(), **options):
    needs = all(game.needs_birth_date for game in get_games(games))
    files = data if isinstance(data, list) else [data]
    roster = read_rosters(files, names, needs_birth_date=needs)
    return plan_facepack(roster, FacepackSettings(games=games, **options))


def paths(found):
    return [(job.path, *job.copies) for job in found.jobs]


def test_football_manager_knows_people_by_their_unique_id():
    found = plan(FM, "fm")
    assert paths(found) == [("fm/2002075998.png",), ("fm/7.png",)]
    assert "no unique id" in found.skipped[0].reason


def test_config_of_football_manager_maps_every_picture_with_and_without_the_prefix():
    for kind, prefixes in (("both", ["", "r-"]), ("r", ["r-"]), ("plain", [""])):
        found = plan(FM, "fm", fm_newgen_ids=kind)
        ((path, data),) = found.game_lists(found.jobs)
        root = ET.fromstring(data)
        assert path == "fm/config.xml"
        assert {b.get("id"): b.get("value") for b in root.iter("boolean")} == {
            "preload": "false",
            "amap": "false",
        }
        records = [(r.get("from"), r.get("to")) for r in root.find("list[@id='maps']")]
        assert records == [
            (uid, f"graphics/pictures/person/{prefix}{uid}/portrait")
            for uid in ("2002075998", "7")
            for prefix in prefixes
        ]


def test_without_a_birth_date_the_unique_id_tells_namesakes_apart():
    found = plan(b"UID,Name\n1,Ann Bee\n2,Ann Bee\n", "fm")
    assert len({job.seed for job in found.jobs}) == 2
    again = plan(b"Name,UID\nAnn Bee,2\n", "fm")
    assert again.jobs[0].seed == found.jobs[1].seed


def test_a_birth_date_gives_the_same_face_in_every_game():
    data = b"UID,First Name,Last Name,DOB\n5,Ann,Bee,13.2.2003\n"
    faces = {plan(data, games).jobs[0].seed for games in ("ehm", "fm", "zengm", "ootp,ehm")}
    assert len(faces) == 1


def test_ootp_and_fhm_names_are_small_with_underlines_and_without_dots():
    data = "First Name,Last Name\nJorge,De la Rosa\nT.J.,O'Neil Jr.\nÉric,Ek\n".encode()
    names = ["jorge_de_la_rosa.png", "tj_o'neil_jr.png", "éric_ek.png"]
    assert paths(plan(data, "ootp")) == [(f"ootp/{name}",) for name in names]
    assert paths(plan(data, "fhm")) == [(f"fhm/{name}",) for name in names]


def test_names_that_windows_reserves_and_empty_names_give_no_picture():
    for game, first in (("ootp", ""), ("ehm", "CON."), ("ehm", "Lpt1 .x")):
        entry = RosterEntry(1, first, "" if first else "Con", BORN)
        assert "reserves" in GAMES[game].name_picture(entry, NamingRules()).trouble
    assert "no letter" in GAMES["fhm"].name_picture(RosterEntry(1, "?", "..", BORN), NamingRules()).trouble
    assert (
        "too long" in GAMES["ootp"].name_picture(RosterEntry(1, "x" * 200, "y", BORN), NamingRules()).trouble
    )


def test_zengm_list_names_people_and_their_pictures():
    league = {"players": [{"firstName": "Jiří", "lastName": "Ek", "born": {"year": 1999}}]}
    for url, picture in (("", "jiri_ek_1999.png"), ("https://x.org/p/", "https://x.org/p/jiri_ek_1999.png")):
        found = plan(json.dumps(league).encode(), "zengm", zengm_url=url)
        assert paths(found) == [("zengm/jiri_ek_1999.png",)]
        ((path, data),) = found.game_lists(found.jobs)
        assert path == "zengm/players.json"
        player = {"firstName": "Jiří", "lastName": "Ek", "born": {"year": 1999}, "imgURL": picture}
        assert json.loads(data) == {"players": [player]}


def test_one_pack_for_several_games(tmp_path):
    data = b"UID,First Name,Last Name,DOB\n5,Ann,Bee,13.2.2003\n,Cy,Dee,14.2.2003\n6,Ed,Fox,\n"
    found = plan(data, "ehm,fm")
    assert paths(found) == [
        ("players/Ann_Bee_13_2_2003.png", "fm/5.png"),
        ("players/Cy_Dee_14_2_2003.png",),
        ("fm/6.png",),
    ]
    assert "no picture for Football Manager: there is no unique id" in found.jobs[1].note
    assert "no picture for Eastside Hockey Manager" in found.jobs[2].note
    result = write_facepack(found, lambda: lambda seed: str(seed).encode(), tmp_path / "pack.zip")
    with zipfile.ZipFile(result.path) as pack:
        assert set(pack.namelist()) == {
            "players/Ann_Bee_13_2_2003.png", "players/Cy_Dee_14_2_2003.png", "fm/5.png", "fm/6.png",
            "fm/config.xml", "report.csv", "settings.json", "manifest.jsonl",
        }  # fmt: skip
        assert pack.read("fm/5.png") == pack.read("players/Ann_Bee_13_2_2003.png")
        assert pack.read("fm/config.xml").count(b"<record from") == 4
    assert result.made == 3


def test_a_pack_that_is_cancelled_lists_only_what_is_in_it(tmp_path):
    found = plan(FM, "fm")
    made = []
    result = write_facepack(
        found,
        lambda: lambda seed: b"x",
        tmp_path / "p.zip",
        progress=made.append,
        should_stop=lambda: bool(made),
        options=PackOptions(is_partial_published=True),
    )
    with zipfile.ZipFile(result.path) as pack:
        assert pack.read("fm/config.xml").count(b'from="2002075998"') == 2
        assert b'from="7"' not in pack.read("fm/config.xml")


def test_the_same_person_in_two_files_is_one_portrait_and_said():
    found = plan(
        [b"Ann,Bee,13.2.2003\n", b"Ann;Bee;13.2.2003\nCy;Dee;14.2.2003\n"], "ehm", ["a.csv", "b.csv"]
    )
    assert [job.note for job in found.jobs] == ["from a.csv, row 1", "from b.csv, row 2"]
    assert found.skipped[0].reason == "Same file as a.csv, row 1 (b.csv, row 1)."


def test_unknown_games_and_kinds_of_ids_get_a_sentence():
    for text in ("nhl", "", " , "):
        with pytest.raises(FacepackError, match="Known: ehm, fm, ootp, fhm, zengm"):
            FacepackSettings(games=text)
    with pytest.raises(FacepackError, match="Known: both, r, plain"):
        FacepackSettings(fm_newgen_ids="x")


def test_every_game_has_a_known_format_and_no_list_without_pictures():
    assert {game.portrait_format for game in GAMES.values()} <= set(FORMATS)
    assert game_lists(GAMES.values(), [], NamingRules()) == []
    faces = [NamedFace("players/a.png", "A", "B")]
    assert game_lists(GAMES.values(), faces, NamingRules()) == []


def test_latin1_letters_stay_and_others_can_be_kept_on_demand():
    latin1 = "".join(chr(code) for code in range(0xC0, 0x100))
    assert fold_to_latin1(latin1) == latin1
    data = "Jiří,Ek,13.2.2003\n".encode()
    assert paths(plan(data, "ehm")) == [("players/Jirí_Ek_13_2_2003.png",)]
    assert paths(plan(data, "ehm", latin1_names=False)) == [("players/Jiří_Ek_13_2_2003.png",)]
    both = "Jiří,Ek,13.2.2003\nJirí,Ek,13.2.2003\n".encode()
    assert [row.reason for row in plan(both, "ehm").skipped] == ["Same file as row 1."]


NAMES = st.one_of(
    st.text(max_size=30), st.sampled_from(["CON", "nul", "..", "a/b", "\ud800", "Жё", "İ", "É", "con.x"])
)
ENTRIES = st.builds(
    lambda first, last, date, uid, year, role: (first, last, date, uid, year, role),
    NAMES, NAMES, st.none() | st.dates(datetime.date(1850, 1, 1), datetime.date(2199, 12, 31)),
    st.sampled_from(["", "1", "2002075998"]), st.sampled_from([0, 1999]),
    st.sampled_from(["player", "staff"]),
)  # fmt: skip
REPORT = read_roster(b"A,B,13.2.2003\n")


@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRIES, max_size=6), st.sampled_from([*GAMES, "ehm,fm", ",".join(GAMES)]))
def test_every_entry_is_planned_once_under_safe_and_different_paths(people, games):
    entries = [
        RosterEntry(number, first, last, date, role=role, uid=uid, birth_year=year)
        for number, (first, last, date, uid, year, role) in enumerate(people, start=1)
    ]
    roster = type(REPORT)(tuple(entries), (), REPORT.reading, len(entries))
    found = plan_facepack(roster, FacepackSettings(games=games))
    numbers = [row.row_number for row in (*found.jobs, *found.skipped)]
    assert sorted(numbers) == [entry.row_number for entry in entries]
    everything = [path for job in found.jobs for path in (job.path, *job.copies)]
    assert len(set(map(clash_key, everything))) == len(everything)
    for path in everything:
        folder, _, name = path.partition("/")
        assert folder in {"players", "nonplayers", *GAMES}
        assert not set(name) & set('<>:"/\\|?*')
        assert not name.startswith((".", " "))
        assert name.partition(".")[0].lower() not in {"con", "nul", "aux", "prn"}
        name.encode("utf-8")
    for path, data in found.game_lists(found.jobs):
        assert path in ("fm/config.xml", "zengm/players.json")
        json.loads(data) if path.endswith("json") else ET.parse(io.BytesIO(data))


@given(st.text(max_size=60), st.text(max_size=60))
def test_plain_names_are_small_and_stay_so(first, last):
    name = plain_name(first, last)
    assert "." not in name
    assert " " not in name
    assert plain_name(name, "") == name
