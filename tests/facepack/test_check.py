"""A pack with every kind of dirt, each found exactly once; and packs without dirt."""

import datetime
import io
import json
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ehmfaces.cli import main
from ehmfaces.errors import FacepackError
from ehmfaces.facepack.check import check_pack
from ehmfaces.facepack.finding import CODES
from ehmfaces.facepack.found_name import read_name
from ehmfaces.facepack.pack_files import is_safe_path
from ehmfaces.facepack.picture_look import look_at_picture, rim_shift
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.facepack.repair import repair_pack
from ehmfaces.facepack.writer import write_facepack
from ehmfaces.images import encode_png
from ehmfaces.provenance import Provenance
from ehmfaces.roster.reader import read_roster


def person(seed, size=(160, 200)):
    """A head of its own colours and pattern on a transparent ground, RGBA uint8."""
    width, height = size
    noise = np.random.RandomState(seed)
    y, x = np.mgrid[0:height, 0:width]
    distance = ((x - width / 2) / (0.35 * width)) ** 2 + ((y - height / 2) / (0.4 * height)) ** 2
    coarse = Image.fromarray(noise.randint(60, 200, (8, 8, 3)).astype(np.uint8))
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    pixels[..., 3] = np.rint(np.clip((1.06 - distance) / 0.12, 0, 1) * 255)
    return pixels


def png(pixels, mode="RGBA"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., :3]).save(buffer, "JPEG")
    return buffer.getvalue()


def bomb_header(side=30_000):
    """A PNG of a few bytes that announces a picture of this side."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    ) + b"\0\0\0\0IEND\xaeB`\x82"


def with_old_background(pixels, color):
    alpha = pixels[..., 3:] / 255
    pixels[..., :3] = np.rint(pixels[..., :3] * alpha + np.array(color) * (1 - alpha))
    return pixels


def with_alpha(pixels, alpha):
    pixels[..., 3] = alpha(pixels[..., 3])
    return pixels


DECOMPOSED = unicodedata.normalize("NFD", "Zoë_Berg_2_4_1991")
DIRT = {
    "Thumbs.db": (b"x", {"odd-file"}),
    "__MACOSX/players/._Ann_Berg_1_1_1990.png": (b"x", {"odd-file"}),
    "players/data.bin": (b"x", {"unknown-file"}),
    "players/more/Ivo_Deep_3_3_1993.png": (png(person(1)), {"nested-folder"}),
    "other/Eve_Lost_4_3_1993.png": (png(person(2)), set()),  # reported for the folder
    "players/Lea_Case_5_5_1995.png": (png(person(3)), set()),
    "players/lea_case_5_5_1995.png": (png(person(4)), {"case-clash"}),
    "players/Ann Nodate.png": (png(person(5)), {"no-date"}),
    "players/Ann_Wrong_31_2_1990.png": (png(person(6)), {"no-date"}),
    "players/Ann_Place_1_2_1900.png": (png(person(7)), {"placeholder-date"}),
    "players/Ann_Padded_07_03_1992.png": (png(person(8)), {"padded-date"}),
    "players/Ann_Copy_6_6_1996 (2).png": (png(person(9)), {"numbered-name"}),
    "players/Single_6_7_1996.png": (png(person(10)), {"one-name"}),
    "players/JÃ¸rn_Berg_8_8_1998.png": (png(person(11)), {"damaged-letters"}),
    "players/J?rn_Lost_8_9_1998.png": (png(person(12)), {"lost-letters"}),
    "players/Ann_Pipe|_8_9_1998.png": (png(person(13)), {"forbidden-letter"}),
    "players/Jiří_Dal_8_9_1999.png": (png(person(14)), {"foreign-letter"}),
    f"players/{DECOMPOSED}.png": (png(person(15)), {"decomposed-letters"}),
    "players/Ann _Blank_9_9_1999.png": (png(person(16)), {"stray-space"}),
    "players/Ann_Jpeg_1_9_1999.png": (jpeg(person(17)), {"wrong-extension", "no-alpha"}),
    "players/Ann_Text_2_9_1999.png": (b"hello", {"not-a-picture"}),
    "players/Ann_Half_3_9_1999.png": (png(person(18))[:3000], {"damaged-picture"}),
    "players/Ann_Bomb_4_9_1999.png": (bomb_header(), {"image-bomb"}),
    "players/Ann_Second_4_9_1998.png": (bomb_header(5_000), {"image-bomb"}),
    "players/Ann_Large_5_9_1999.png": (png(person(19, (240, 300))), {"too-many-pixels"}),
    "players/Ann_Small_6_9_1999.png": (png(person(20, (100, 120))), {"unusual-size"}),
    "players/Ann_Rgb_7_9_1999.png": (png(person(21), "RGB"), {"no-alpha"}),
    "players/Ann_Box_8_9_1999.png": (png(with_alpha(person(22), lambda a: a * 0 + 255)), {"opaque"}),
    "players/Ann_Weak_9_9_1998.png": (png(with_alpha(person(23), lambda a: a // 2)), {"weak-alpha"}),
    "players/Ann_Empty_1_9_1998.png": (png(with_alpha(person(24), lambda a: a * 0)), {"empty-picture"}),
    "players/Ann_Green_2_9_1998.png": (png(with_old_background(person(25), (0, 200, 0))), {"coloured-rim"}),
    "players/Bob_One_1_1_1991.png": (png(person(26)), set()),
    "players/Bob_Two_1_1_1992.png": (png(person(26)), {"same-picture"}),
    "players/Cid_One_1_1_1991.png": (png(person(27)), set()),
    "players/Cid_Two_1_1_1992.png": (png(np.maximum(person(27), 3) - 2), {"similar-picture", "weak-alpha"}),
    "players/Zero_Good_1_1_1990.png": (png(person(28)), set()),
    "nonplayers/_Good_1_1_1990.png": (png(person(29, (157, 200))), set()),
    "nonplayers/Anne-Marie_Van der O'Good_11_10_1970.png": (png(person(30, (184, 200))), set()),
}


@pytest.fixture
def dirty_folder(tmp_path):
    root = tmp_path / "dirty"
    for path, (data, _) in DIRT.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "players" / "link.png").symlink_to("Zero_Good_1_1_1990.png")
    return root


def found(result):
    codes = {}
    for one in result.findings:
        codes.setdefault(one.file, []).append(one.code)
    return codes


def test_every_kind_of_dirt_is_found_once_and_nothing_clean_is_reported(dirty_folder):
    result = check_pack(dirty_folder)
    wanted = {path: sorted(codes) for path, (_, codes) in DIRT.items() if codes}
    wanted |= {"other": ["wrong-folder"], "players/link.png": ["link"]}
    assert {path: sorted(codes) for path, codes in found(result).items()} == wanted
    assert result.pictures == sum(path.endswith(".png") for path in DIRT) - 1  # not the one of macOS


def test_a_zip_is_judged_like_a_folder(dirty_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "dirty.zip", "w") as archive:
        for path, (data, _) in DIRT.items():
            archive.writestr(path, data)
    inside, outside = found(check_pack(tmp_path / "dirty.zip")), found(check_pack(dirty_folder))
    outside.pop("players/link.png")
    assert inside == outside


def zip_with(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, options in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = options.get("compress", zipfile.ZIP_STORED)
            info.external_attr = options.get("attr", 0o100644 << 16)
            archive.writestr(info, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip(tmp_path):
    good = png(person(1))
    path = zip_with(
        tmp_path / "bad.zip",
        [
            ("../up_a_1_1_1990.png", good, {}),
            ("/etc/a_b_1_1_1990.png", good, {}),
            ("C:/a_b_1_1_1990.png", good, {}),
            ("players/a\\..\\b_c_1_1_1990.png", good, {}),
            ("players/link.png", b"/etc/passwd", {"attr": 0o120777 << 16}),
            ("players/Zip_Bomb_1_1_1990.png", bytes(3_000_000), {"compress": zipfile.ZIP_DEFLATED}),
            ("players/Huge_File_1_1_1990.png", bytes(21_000_000), {}),
            ("players/Ann_Twice_1_1_1990.png", good, {}),
            ("players/Ann_Twice_1_1_1990.png", good, {}),
            ("players/Ann_Crc_1_1_1990.png", png(person(2)), {}),
        ],
    )
    data = bytearray(path.read_bytes())
    data[data.rindex(b"IDAT") + 20] ^= 0xFF
    path.write_bytes(data)
    codes = found(check_pack(path))
    assert codes == {
        "../up_a_1_1_1990.png": ["unsafe-path"],
        "/etc/a_b_1_1_1990.png": ["unsafe-path"],
        "C:/a_b_1_1_1990.png": ["unsafe-path"],
        "players/a\\..\\b_c_1_1_1990.png": ["unsafe-path"],
        "players/link.png": ["link"],
        "players/Zip_Bomb_1_1_1990.png": ["too-large"],
        "players/Huge_File_1_1_1990.png": ["too-large"],
        "players/Ann_Twice_1_1_1990.png": ["repeated-entry"],
        "players/Ann_Crc_1_1_1990.png": ["damaged-entry"],
    }


def test_what_is_no_pack_is_one_sentence(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK nothing")
    for path in (tmp_path / "x.zip", tmp_path / "missing"):
        with pytest.raises(FacepackError, match="Give a folder or a ZIP"):
            check_pack(path)


@pytest.mark.parametrize(
    ("path", "is_safe"),
    [("a/b.png", True), ("a//b", False), ("./a", False), ("a/..", False), ("a\0b", False), ("", False)],
)
def test_safe_paths(path, is_safe):
    assert is_safe_path(path) is is_safe


@pytest.mark.parametrize(
    ("stem", "repaired"),
    [
        ("Ann_Berg_07_03_2006", "Ann_Berg_7_3_2006"),
        ("JÃ¸rn_MÃ¼ller_07_3_2006", "Jørn_Müller_7_3_2006"),
        ("  Ann _ Van  der Berg_1_1_1990", "Ann_Van der Berg_1_1_1990"),
        ("Ann_Berg_1_1_1990 (2)", "Ann_Berg_1_1_1990 (2)"),
        ("Ann_Berg_1_1_1990", "Ann_Berg_1_1_1990"),
        ("Ann_Berg_31_2_1990", "Ann_Berg_31_2_1990"),
    ],
)
def test_repaired_names(stem, repaired):
    assert read_name(stem).repaired == repaired


def test_a_name_gives_back_its_person():
    name = read_name("T.J._O'Dunnelly_7_3_2006")
    assert (name.first_name, name.last_name, name.birth_date) == (
        "T.J.",
        "O'Dunnelly",
        datetime.date(2006, 3, 7),
    )
    assert name.troubles == ()


def test_the_rim_is_measured_in_known_numbers():
    clean = np.zeros((200, 160, 4), np.uint8)
    clean[40:160, 40:120] = (100, 100, 100, 255)
    assert rim_shift(clean) == (0.0, 0.0)
    clean[40, 40:120, :3] = clean[159, 40:120, :3] = (100, 160, 100)
    clean[40:160, 40, :3] = clean[40:160, 119, :3] = (100, 160, 100)
    color, grey = rim_shift(clean)
    assert color == pytest.approx(60 * (2 / 3) ** 0.5, abs=0.1)
    assert grey == pytest.approx(20, abs=0.1)


ROSTER = (
    "First name,Last name,Born,Nation,Classification\n"
    "Zero,Good,1.1.1990,Norway,Player\nJørn,Berg,8.8.1998,Norway,Player\n"
    "Nobody,Seen,3.4.1997,Norway,Player\nIvan,Coach,5.6.1970,Norway,Non-Player\nNo,Date,,Norway,Player\n"
)


def test_against_a_roster(tmp_path):
    root = tmp_path / "pack" / "players"
    root.mkdir(parents=True)
    for seed, name in enumerate(
        ("Zero_Good_1_1_1990", "Jorn_Bergh_8_8_1998", "Ivan_Coach_5_6_1970", "Who_Is_1_2_1980")
    ):
        (root / f"{name}.png").write_bytes(png(person(seed)))
    result = check_pack(tmp_path / "pack", [read_roster(ROSTER.encode())])
    texts = {(one.code, one.file): one.text for one in result.findings}
    assert set(found(result)) - {""} == {
        f"players/{name}.png" for name in ("Jorn_Bergh_8_8_1998", "Ivan_Coach_5_6_1970", "Who_Is_1_2_1980")
    }
    assert (
        "meant for row 3, Jørn_Berg_8_8_1998.png?"
        in texts["not-in-roster", "players/Jorn_Bergh_8_8_1998.png"]
    )
    assert "Nobody in the roster has this" in texts["not-in-roster", "players/Who_Is_1_2_1980.png"]
    assert ("wrong-folder", "players/Ivan_Coach_5_6_1970.png") in texts
    assert result.moves == {"players/Ivan_Coach_5_6_1970.png": "nonplayers/Ivan_Coach_5_6_1970.png"}
    missing = [one.text for one in result.findings if one.code == "no-portrait"]
    assert len(missing) == 2
    assert any("Nobody Seen" in text for text in missing)


def test_a_folder_is_mended_and_can_be_undone(dirty_folder):
    before = {path: path.read_bytes() for path in dirty_folder.rglob("*") if path.is_file()}
    result = check_pack(dirty_folder)
    backup = repair_pack(result)
    again = check_pack(dirty_folder)
    assert not {"padded-date", "damaged-letters", "decomposed-letters", "stray-space", "nested-folder",
                "wrong-extension", "odd-file"} & {one.code for one in again.findings}  # fmt: skip
    assert again.moves == {}
    assert again.leftovers == ()
    assert (dirty_folder / "players" / "Jørn_Berg_8_8_1998.png").is_file()
    assert (dirty_folder / "players" / "Ann_Jpeg_1_9_1999.jpg").is_file()
    after = [
        path.read_bytes() for root in (dirty_folder, backup) for path in root.rglob("*") if path.is_file()
    ]
    after.remove((backup / "repairs.csv").read_bytes())
    assert sorted(after) == sorted(before.values())  # nothing is lost or changed
    assert "Jørn" in (backup / "repairs.csv").read_text("utf-8-sig")


def test_mending_never_overwrites(tmp_path):
    root = tmp_path / "players"
    root.mkdir()
    (root / "Ann_Berg_07_03_2006.png").write_bytes(png(person(1)))
    (root / "Ann_Berg_7_3_2006.png").write_bytes(png(person(2)))
    result = check_pack(root)
    assert [(one.code, one.fix) for one in result.findings] == [("padded-date", "")]
    assert result.moves == {}
    (root / "Bo_Li_01_1_1990.png").write_bytes(png(person(3)))
    result = check_pack(root)
    (root / "Bo_Li_1_1_1990.png").write_bytes(b"came meanwhile")
    with pytest.raises(FacepackError, match="nothing is overwritten"):
        repair_pack(result)
    assert (root / "Bo_Li_1_1_1990.png").read_bytes() == b"came meanwhile"


ENTRIES = "First name,Last name,Born,Nation\n" + "".join(
    f"Ann,Berg{n},{n + 1}.3.1990,Norway\n" for n in range(12)
)


def record_for(seed, settings):
    return Provenance("0.1.0", settings.model_id, settings.model_hash, seed, settings.truncation_psi, None,
                      settings.noise_mode, None, settings.cutout, settings.portrait_format,
                      settings.background)  # fmt: skip


def write_pack(path, **options):
    settings = FacepackSettings(**({"model_id": "m", "model_hash": "0123456789abcdef"} | options))

    def draw(seed):
        pixels = person(seed % 2**31)
        return encode_png(Image.fromarray(pixels), record_for(seed, settings).to_text())

    plan = plan_facepack(read_roster(ENTRIES.encode()), settings)
    write_facepack(plan, lambda: draw, path)
    return path


def test_our_own_packs_are_clean(tmp_path):
    roster = read_roster(ENTRIES.encode())
    for name, options in (("a", {}), ("b", {"limit": 5}), ("own", {"games": "ehm,fhm"})):
        result = check_pack(write_pack(tmp_path / f"{name}.zip", **options), [roster] if not options else [])
        assert result.findings == ()
    with zipfile.ZipFile(tmp_path / "own.zip") as archive:
        archive.extractall(tmp_path / "own")
    assert check_pack(tmp_path / "own").findings == ()


def rewrite(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        entries = {name: old.read(name) for name in old.namelist()}
        change(entries)
        for name, data in entries.items():
            new.writestr(name, data)
    return target


def test_our_own_pack_with_changes(tmp_path):
    own = write_pack(tmp_path / "own.zip")

    def change(entries):
        del entries["players/Ann_Berg0_1_3_1990.png"]
        entries["players/New_Face_1_1_1999.png"] = entries["players/Ann_Berg1_2_3_1990.png"].replace(b"", b"")
        entries["players/Ann_Berg2_3_3_1990.png"] = png(person(77))
        other = FacepackSettings(model_id="x", model_hash="f" * 16, truncation_psi=0.5)
        entries["players/Ann_Berg3_4_3_1990.png"] = encode_png(
            Image.fromarray(person(78)), record_for(4, other).to_text()
        )
        document = json.loads(entries["settings.json"])
        document["counts"]["made"] = 99
        entries["settings.json"] = json.dumps(document).encode()

    codes = found(check_pack(rewrite(own, tmp_path / "changed.zip", change)))
    assert {path: sorted(names) for path, names in codes.items()} == {
        "players/Ann_Berg0_1_3_1990.png": ["missing-file"],
        "players/New_Face_1_1_1999.png": ["same-picture", "unlisted-file"],
        "players/Ann_Berg2_3_3_1990.png": ["no-provenance"],
        "players/Ann_Berg3_4_3_1990.png": ["other-model", "other-settings"],
        "settings.json": ["wrong-count"],
    }
    for name, data in (
        ("report.csv", b"nothing"),
        ("report.csv", None),
        ("settings.json", b'{"ehmfaces_version":"1"}'),
    ):
        broken = rewrite(own, tmp_path / "broken.zip",
                         lambda entries, name=name, data=data: entries.pop(name) if data is None
                         else entries.update({name: data}))  # fmt: skip
        assert "damaged-paper" in {one.code for one in check_pack(broken).findings}


def run(*args):
    result = CliRunner().invoke(main, ["check", *map(str, args)], catch_exceptions=False)
    return result.exit_code, result.output


def test_the_command(dirty_folder, tmp_path):
    code, text = run(dirty_folder, "--report", tmp_path / "out.csv")
    assert code == 1
    assert "JÃ¸rn_Berg" in text
    rows = (tmp_path / "out.csv").read_text("utf-8-sig").splitlines()
    assert rows[0] == "severity,code,file,text,fix"
    assert any(
        row.startswith("error,padded-date,") and "becomes players/Ann_Padded_7_3_1992.png" in row
        for row in rows
    )
    code, text = run(dirty_folder, "--fix", "--dry-run")
    assert "Nothing was changed" in text
    assert (dirty_folder / "Thumbs.db").exists()
    code, text = run(dirty_folder, "--format", "json")
    document = json.loads(text)
    assert {one["code"] for one in document["findings"]} <= set(CODES)
    code, text = run(dirty_folder, "--fix")
    assert "Backup and record" in text
    assert not (dirty_folder / "Thumbs.db").exists()


def test_exit_codes(tmp_path):
    own = write_pack(tmp_path / "own.zip")
    assert run(own, "--strict")[0] == 0
    folder = tmp_path / "p" / "players"
    folder.mkdir(parents=True)
    (folder / "Ann_Rgb_7_9_1999.png").write_bytes(png(person(21), "RGB"))
    assert run(tmp_path / "p")[0] == 0
    assert run(tmp_path / "p", "--strict")[0] == 1


def test_a_zip_is_mended_in_a_copy(tmp_path):
    path = zip_with(
        tmp_path / "a.zip", [("players/Ann_Berg_07_03_2006.png", png(person(1)), {}), ("Thumbs.db", b"x", {})]
    )
    before = path.read_bytes()
    assert "Give --out" in run(path, "--fix")[1]
    assert "Mended copy" in run(path, "--fix", "--out", tmp_path / "b.zip")[1]
    assert path.read_bytes() == before
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.namelist() == ["players/Ann_Berg_7_3_2006.png"]
    assert "nothing is overwritten" in run(path, "--fix", "--out", tmp_path / "b.zip")[1]
    assert check_pack(tmp_path / "b.zip").findings == ()


def test_a_text_in_a_name_never_moves_the_cursor(tmp_path):
    path = zip_with(tmp_path / "a.zip", [("players/\x1b[2J_B_1_1_1990.png", png(person(1)), {})])
    assert "\x1b" not in run(path)[1]


def test_looking_at_what_other_games_take():
    assert look_at_picture(png(person(1, (250, 250))), ".png", is_for_ehm=False).troubles == ()


def test_every_code_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "checking.md").read_text("utf-8")
    assert [code for code in CODES if f"`{code}`" not in text] == []
