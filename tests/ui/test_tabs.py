"""The handlers behind the tabs, called as plain functions."""

import io
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from ehmfaces.facepack.plan import plan_facepack
from ehmfaces.facepack.render import compose_grid
from ehmfaces.provenance import Provenance
from ehmfaces.roster.reader import read_roster
from ehmfaces.seeds import SEED_MAX
from ehmfaces.ui.about_tab import about_text, model_text
from ehmfaces.ui.cutout_tab import make_cutout
from ehmfaces.ui.facepack_tab import EXAMPLE, PackRun, make_facepack, make_reader
from ehmfaces.ui.generate_tab import draw_seed, make_generate, restore_settings
from ehmfaces.ui.mix_tab import make_blend, make_mix
from ehmfaces.ui.roster_reading import Corrections, column_choices, describe_plan

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def test_generate_names_every_seed_and_keeps_the_record(session):
    faces = make_generate(session)("7", 2, 0.5, "none", "ehm", "game")
    assert [caption for _, caption in faces] == ["Seed 7", "Seed 8"]
    for path, caption in faces:
        record = Provenance.read(Path(path))
        assert caption == f"Seed {record.seed}"
        assert (record.truncation_psi, record.noise_mode, record.model_id) == (0.5, "none", "tests/tiny")
        with Image.open(path) as image:
            assert image.size == (160, 200)


def test_generate_is_the_same_alone_and_in_a_list(session):
    generate = make_generate(session)
    alone = Path(generate("5", 1)[0][0]).read_bytes()
    assert Path(generate("3,5", 1)[1][0]).read_bytes() == alone


def test_generate_takes_lists_once_and_stops_at_the_last_seed(session):
    generate = make_generate(session)
    assert [c for _, c in generate("9,1-3,9", 50)] == ["Seed 9", "Seed 1", "Seed 2", "Seed 3"]
    assert len(generate(str(SEED_MAX), 5)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("seven", 1), "is not a whole number"),
        (("", 1), "is not a whole number"),
        (("-4", 1), "is not a whole number"),
        ((None, 1), "is not a whole number"),
        (("1,x", 1), "not a seed"),
        (("0-999", 1), "more than 64"),
        (("1", 65), "from 1 to 64"),
        (("1", 1, 9.0), "9"),
        (("1", 1, 0.7, "loud"), "loud"),
        (("1", 1, 0.7, "const", "poster"), "poster"),
        (("1", 1, 0.7, "const", "ehm", "blueish"), "blueish"),
        (("1", 1, 0.7, "const", "ehm", "none", "u2"), "u2"),
    ],
)
def test_generate_answers_bad_input_with_a_sentence(session, arguments, sentence):
    with pytest.raises(gr.Error) as caught:
        make_generate(session)(*arguments)
    assert sentence in caught.value.message
    assert "inside the program" not in caught.value.message


def test_settings_come_back_from_a_picture(session):
    path = make_generate(session)("42", 1, 0.35, "none", "ehm-157", "#ffffff")[0][0]
    *settings, sentence = restore_settings(path)
    assert settings == ["42", 1, 0.35, "none", "ehm-157", "#ffffff", "deeplab"]
    assert "seed 42" in sentence
    again = make_generate(session)(*settings)[0][0]
    assert Path(again).read_bytes() == Path(path).read_bytes()


def test_a_foreign_or_mixed_picture_is_refused(session, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(gr.Error, match="no ehmfaces record"):
        restore_settings(str(tmp_path / "plain.png"))
    with pytest.raises(gr.Error, match="mixed"):
        restore_settings(make_mix(session)("1", "2", "coarse"))
    with pytest.raises(gr.Error, match="No picture"):
        restore_settings(None)


def test_the_dice_gives_a_seed():
    assert 0 <= int(draw_seed()) <= SEED_MAX


def test_the_grid_puts_every_picture_in_its_place():
    def plain(value):
        return Image.new("RGB", (2, 2), (value, 0, 0))

    grid = compose_grid(
        [plain(10), plain(20)], [plain(1), plain(2), plain(3)], [plain(100 + i) for i in range(6)]
    )
    reds = np.asarray(grid)[::4, ::4, 0]
    assert reds.tolist() == [[255, 1, 2, 3], [10, 100, 101, 102], [20, 103, 104, 105]]


def test_mix_shows_the_originals_and_records_the_seeds(session):
    path = make_mix(session)("1,2", "3", "0-1", 0.7, "const")
    record = Provenance.read(Path(path))
    assert record.mixing == {"row_seeds": [1, 2], "col_seeds": [3], "col_styles": [0, 1]}
    with Image.open(path) as grid:
        first_row_face = grid.convert("RGB").crop((0, 18, 16, 34))
    assert first_row_face.tobytes() == session.pipeline([1]).images[0].tobytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a", "1", "coarse"), "not a seed"),
        (("1", "2", "99"), "no style layers"),
        (("1-10", "1-10", "coarse"), "At most 64"),
        (("1", "2", "coarse", 9.0), "9"),
    ],
)
def test_mix_answers_bad_input_with_a_sentence(session, arguments, sentence):
    with pytest.raises(gr.Error) as caught:
        make_mix(session)(*arguments)
    assert sentence in caught.value.message
    assert "inside the program" not in caught.value.message


def test_blend_ends_are_the_two_faces(session):
    blend = make_blend(session)
    faces = blend("1", "2", 0.0, 0.7, "ehm", "game")
    assert [caption for _, caption in faces] == ["Seed 1", "100% / 0%", "Seed 2"]
    first, average, second = (np.asarray(Image.open(io.BytesIO(Path(p).read_bytes()))) for p, _ in faces)
    assert np.array_equal(first, average)
    assert not np.array_equal(first, second)


def test_blend_of_a_face_with_itself_shows_three_pictures(session):
    assert len(make_blend(session)("4", "4", 0.5, 0.7, "ehm", "none")) == 3


def test_cutout_shows_three_backgrounds(session, head, tmp_path):
    head[0].save(tmp_path / "head.jpg")
    person, previews = make_cutout(session)(str(tmp_path / "head.jpg"))
    with Image.open(person) as image:
        assert (image.mode, image.size) == ("RGBA", (96, 96))
    assert [caption for _, caption in previews] == ["On dark", "On light", "On game blue"]


def test_cutout_shrinks_large_photos(session, tmp_path):
    Image.new("RGB", (2600, 100), (90, 80, 70)).save(tmp_path / "wide.png")
    person, _ = make_cutout(session)(str(tmp_path / "wide.png"))
    with Image.open(person) as image:
        assert image.width == 2048


def test_cutout_answers_broken_pictures_with_a_sentence(session, tmp_path):
    broken, bomb = tmp_path / "broken.png", tmp_path / "bomb.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    Image.new("1", (20_000, 20_000)).save(bomb)
    for path in (broken, bomb, None):
        with pytest.raises(gr.Error) as caught:
            make_cutout(session)(path and str(path))
        assert "inside the program" not in caught.value.message


def test_the_example_is_read_and_shown(session):
    text, table, *choices = make_reader(session)(str(EXAMPLE), *[""] * 9)
    assert "**24 portraits**" in text
    assert "birth date" in text
    assert table["value"][0][-1].startswith("players/")
    assert choices[0]["choices"][0] == ("automatic (column 1)", "")


def test_corrections_are_followed(session, tmp_path):
    roster = tmp_path / "r.csv"
    roster.write_text("Last;First;Born\nDoe;Jane;3.4.2001\n", "utf-8")
    text, table, *_ = make_reader(session)(
        str(roster), "utf-8", "semicolon", "mdy", "2", "Last", "", "3", "", ""
    )
    assert table["value"][0][:4] == ["2", "Jane", "Doe", "4.3.2001"]
    assert "your choice" in text


def test_choices_name_columns_by_position_and_title(session):
    roster = read_roster(b"First Name,Last Name,Date Of Birth\nA,B,1.2.1999\n")
    choices = column_choices(roster.reading, "nation")
    assert choices == [
        ("automatic (none)", ""),
        ("1 First Name", "1"),
        ("2 Last Name", "2"),
        ("3 Date Of Birth", "3"),
    ]


def test_text_of_a_roster_is_not_read_as_markdown():
    roster = read_roster(b"First Name,Last Name,Date Of Birth,<img src=x>\nA,B,1.2.1999,\nC,*D*,31.2.2004,\n")
    text = describe_plan(roster.reading, plan_facepack(roster))
    assert "<img" not in text
    assert "Row 3 gives no portrait" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (bytes(range(256)) * 40, "oster"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "oster"),
        (b"First Name,Last Name,Date Of Birth\n", "no rows"),
        (b"First Name,Last Name\nA,B\n", "birth date"),
        (b"First Name,Last Name,Date Of Birth\n" + b"A,B,1.1.2000\n" * 30, "At most 20"),
    ],
)
def test_bad_rosters_get_a_sentence(make_session, tmp_path, content, sentence):
    session = make_session(max_rows=20)
    (tmp_path / "roster.csv").write_bytes(content)
    with pytest.raises(gr.Error) as caught:
        make_reader(session)(str(tmp_path / "roster.csv"), *[""] * 9)
    assert sentence in caught.value.message
    assert "inside the program" not in caught.value.message


def test_no_roster_and_bad_limits_get_a_sentence(session):
    facepack = make_facepack(session)
    with pytest.raises(gr.Error, match="No roster"):
        list(facepack(None))
    with pytest.raises(gr.Error, match="limit"):
        list(facepack(str(EXAMPLE), limit=-2))
    with pytest.raises(gr.Error, match="does not exist"):
        list(facepack(str(EXAMPLE), first_name_column="0"))


def test_a_facepack_shows_faces_as_they_are_made(session):
    views = list(make_facepack(session)(str(EXAMPLE), limit=3))
    assert [len(faces) for _, faces, _, _ in views] == [0, 1, 2, 3, 3]
    assert [bool(pack) for *_, pack, _ in views] == [False] * 4 + [True]
    status, _, pack, report = views[-1]
    assert "3 portraits made" in status
    with zipfile.ZipFile(pack) as archive:
        assert archive.testzip() is None
        assert sum(name.endswith(".png") for name in archive.namelist()) == 3
        assert archive.read("report.csv") == Path(report).read_bytes()
    assert len(Path(report).read_text("utf-8-sig").splitlines()) == 1 + 24


def test_the_gallery_is_capped_with_the_newest_first(make_session):
    session = make_session(gallery_faces=2, refresh_sec=0.0)
    views = list(make_facepack(session)(str(EXAMPLE), limit=4))
    assert [len(faces) for _, faces, _, _ in views] == [0, 1, 2, 2, 2, 2]
    assert views[3][1][1] == views[2][1][0]


def test_cancel_keeps_what_is_done(session):
    plan = plan_facepack(read_roster(EXAMPLE))
    views = PackRun(session, plan, "me").watch(lambda seed: b"png")
    next(views), next(views)
    assert session.cancel_job("me")
    status, _, pack, _ = list(views)[-1]
    assert "Cancelled: 1 portraits made" in status
    assert "23 not made" in status
    with zipfile.ZipFile(pack) as archive:
        assert archive.testzip() is None
    assert not session.cancel_job("me")


def test_a_late_pack_stops_and_says_so(make_session):
    session = make_session(job_time_sec=-1.0)
    views = list(PackRun(session, plan_facepack(read_roster(EXAMPLE)), "late").watch(lambda seed: b"png"))
    assert "time for one pack is used up" in views[-1][0]


def test_a_shuffled_roster_gives_the_same_pictures(session, tmp_path):
    lines = EXAMPLE.read_text("utf-8-sig").splitlines()[:6]
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]), "utf-8")
    short = tmp_path / "short.csv"
    short.write_text("\n".join(lines), "utf-8")
    packs = [list(make_facepack(session)(str(path)))[-1][2] for path in (short, shuffled)]
    pictures = []
    for pack in packs:
        with zipfile.ZipFile(pack) as archive:
            pictures.append({n: archive.read(n) for n in archive.namelist() if n.endswith(".png")})
    assert len(pictures[0]) == 5
    assert pictures[0] == pictures[1]


def test_corrections_leave_out_what_is_empty():
    corrections = Corrections.from_texts(None, None, "", "", None, "Name", "4", "", "")
    assert corrections.column_map() == {"name": "Name", "birth_date": 3}


def test_about_names_limits_and_model(session):
    assert "20,000 rows" in about_text(session)
    assert "tests/tiny" in model_text(session)


def test_an_earlier_pack_is_extended_and_one_face_changed(session):
    facepack = make_facepack(session)
    first = list(facepack(str(EXAMPLE), limit=2))[-1][2]
    with zipfile.ZipFile(first) as archive:
        before = {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
    rerolled = sorted(before)[0]
    name = rerolled.partition("/")[2]
    status, _, second, _ = list(facepack(str(EXAMPLE), limit=4, pack=first, reroll=f"{name}, "))[-1]
    assert "3 portraits made, 1 kept" in status
    with zipfile.ZipFile(second) as archive:
        after = {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
    assert len(after) == 4
    assert after[rerolled] != before[rerolled]
    assert {key for key in before if after[key] == before[key]} == set(before) - {rerolled}
    with pytest.raises(gr.Error, match="nobody is called"):
        list(facepack(str(EXAMPLE), limit=4, pack=first, only="Nobody\nAt all"))
    with pytest.raises(gr.Error, match="no readable ZIP"):
        list(facepack(str(EXAMPLE), limit=4, pack=str(EXAMPLE)))
