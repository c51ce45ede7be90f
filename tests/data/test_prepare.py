"""Photos become a training set: every file is in the report once, and the same call goes on from its stop."""

import csv
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from PIL import Image, ImageFilter

pytest.importorskip("cv2", reason="needs the train extra")
pytest.importorskip("onnxruntime", reason="needs the train extra")

from click.testing import CliRunner

from ehmfaces.cli import main
from ehmfaces.cutout.base import load_cutout_backend
from ehmfaces.data.attributes import is_smiling
from ehmfaces.data.candidate import PortraitMaker, PrepareOptions, age_on
from ehmfaces.data.datasets import load_dataset
from ehmfaces.data.face_detector import FaceDetector
from ehmfaces.data.framing import Square, portrait_square
from ehmfaces.data.prepare import count_reasons, prepare_dataset
from ehmfaces.data.quality import RULES, default_limits, find_reasons, judge_alpha
from ehmfaces.data.recombine import load_portraits
from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import InputError
from ehmfaces.facepack.found_name import read_name
from ehmfaces.facepack.pack_files import open_pack

# The embedded generator's faces are soft and small beside photos.
LIMITS = ["--reference-date", "2026-01-01", "--size", "128"]


@pytest.fixture(scope="module")
def photos(shared):
    """Six of the pictures that were kept by hand, as bytes."""
    folder = shared / "faces" / "raw"
    return [(folder / f"raw{number:03d}.jpg").read_bytes() for number in (3, 9, 13, 41, 81, 91)]


@pytest.fixture(scope="module")
def maker():
    return PortraitMaker(load_cutout_backend(), PrepareOptions(size_px=128))


@pytest.fixture(scope="module")
def source(photos, tmp_path_factory):
    """A pack of good pictures and of everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("pack")
    deep = folder / "players" / "more"
    deep.mkdir(parents=True)
    (folder / "Ann_Berg_7_3_2000.jpg").write_bytes(photos[0])
    (deep / "Bo_Dahl_1_12_1999.jpg").write_bytes(photos[1])
    (deep / "Old_Man_1_12_1950.jpg").write_bytes(photos[2])
    (folder / "=twice.jpg").write_bytes(photos[0])
    (folder / "broken.png").write_bytes(photos[3][:500])
    (folder / "readme.txt").write_text("a pack")
    smaller = Image.open(io.BytesIO(photos[1]))
    smaller.resize((smaller.width * 9 // 10, smaller.height * 9 // 10)).save(folder / "alike.png")
    Image.new("RGB", (300, 300), (90, 120, 60)).save(folder / "nobody.png")
    with zipfile.ZipFile(folder.parent / "more.zip", "w") as archive:
        archive.writestr("players/Cy_Falk_2_2_2001.jpg", photos[4])
        archive.writestr("../outside.jpg", photos[4])
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["dataset", "prepare", *map(str, arguments)])


def content_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines_of(folder):
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("set")
    result = run(source, source.parent / "more.zip", "--out", out, *LIMITS)
    assert result.exit_code == 0, result.output
    return out


def test_every_file_is_accounted_for_once(prepared):
    lines = lines_of(prepared)
    said = {name: (line["verdict"], line["reasons"]) for name, line in lines.items()}
    assert said == {
        "Ann_Berg_7_3_2000.jpg": ("rejected", "duplicate"),
        "players/more/Bo_Dahl_1_12_1999.jpg": ("kept", ""),
        "players/Cy_Falk_2_2_2001.jpg": ("kept", ""),
        "players/more/Old_Man_1_12_1950.jpg": ("rejected", "age"),
        "'=twice.jpg": ("kept", ""),
        "alike.png": ("rejected", "duplicate"),
        "nobody.png": ("rejected", "no-face"),
        "broken.png": ("broken", "broken"),
        "../outside.jpg": ("broken", "unsafe-path"),
        "readme.txt": ("ignored", ""),
    }
    assert lines["players/more/Old_Man_1_12_1950.jpg"]["details"] == "age 75 above 43"
    assert lines["Ann_Berg_7_3_2000.jpg"]["details"] == "the same file as =twice.jpg"
    assert lines["alike.png"]["details"] == "looks like players/more/Bo_Dahl_1_12_1999.jpg"


def test_the_set_is_what_the_next_steps_read(prepared):
    portraits = load_portraits(prepared, 128)
    assert len(portraits) == 3
    for portrait in portraits:
        eyes = portrait.landmarks[[468, 473]]
        assert np.abs(eyes.mean(axis=0) - [64, 0.49 * 128]).max() < 0.04 * 128
        assert abs(eyes[0, 1] - eyes[1, 1]) < 1.0  # upright
        assert portrait.pixels[:8, :8, 3].max() == 0
        assert portrait.pixels[60:70, 60:70, 3].min() == 255
    labelled = load_dataset(prepared / "dataset.zip", use_labels=True)
    assert np.array_equal(labelled.pixels, load_dataset(prepared).pixels)  # in one order, over one colour
    assert tuple(labelled.pixels[0, 0, 0]) == (31, 44, 56)
    sexes = [portrait.sex for portrait in portraits]
    assert [("male", "female")[label.argmax()] for label in labelled.labels] == sexes
    assert sorted(path.name for path in (prepared / "sheets").iterdir()) == [
        "kept-001.png",
        "rejected-001.png",
    ]


def test_begun_work_goes_on_and_gives_the_same_bytes(source, prepared, tmp_path):
    """Cut off in the middle of a line, with fewer sources, and on two threads."""
    assert run(source / "players", "--out", tmp_path, *LIMITS).exit_code == 0
    sources = source, source.parent / "more.zip"
    assert run(*sources, "--out", tmp_path, *LIMITS, "--workers", "2").exit_code == 0
    done = tmp_path / "work" / "done.jsonl"
    text = done.read_text(encoding="utf-8")
    done.write_text(text[: int(len(text) * 0.7)], encoding="utf-8")
    stray = tmp_path / "portraits" / "p0123456789abcdef.webp"
    stray.write_bytes(b"of an earlier run")
    assert run(*sources, "--out", tmp_path, *LIMITS[2:]).exit_code == 0  # the date is remembered
    mine, whole = content_of(tmp_path), content_of(prepared)
    assert {name: value for name, value in mine.items() if not name.startswith("work")} == {
        name: value for name, value in whole.items() if not name.startswith("work")
    }


def test_other_options_are_refused(source, prepared):
    result = run(source, "--out", prepared, *LIMITS, "--max-yaw", "12")
    assert result.exit_code == 1
    assert "max-yaw: 25.0 before, 12.0 now" in result.output
    result = run(source, "--out", prepared, "--background", "none")
    assert result.exit_code == 2
    assert "needs a colour" in result.output


def test_nothing_to_prepare(tmp_path):
    with pytest.raises(InputError, match="at least one folder"):
        prepare_dataset([], tmp_path, load_cutout_backend, LocalEngine(), PrepareOptions())
    (tmp_path / "pack").mkdir()
    result = run(tmp_path / "pack", "--out", tmp_path / "pack" / "out")
    assert result.exit_code == 1
    assert "Choose a folder beside it" in result.output
    result = run(tmp_path / "pack", tmp_path / "pack", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "0 portraits from 0 files" in result.output


def test_every_rule_has_its_number_and_its_side():
    limits = default_limits()
    for rule in RULES:
        beyond = rule.limit + (1 if rule.is_most else -1) * 1e-3
        assert rule.reason in find_reasons({rule.fact: beyond}, limits)[0]
        assert find_reasons({rule.fact: rule.limit}, {rule.option: rule.limit} | limits) == ((), ())
        loose = limits | {rule.option: beyond}
        assert rule.reason not in find_reasons({rule.fact: beyond}, loose)[0]
    help_text = run("--help").output
    assert all(f"--{rule.option}" in help_text for rule in RULES)


def edited(photo, change):
    buffer = io.BytesIO()
    change(Image.open(io.BytesIO(photo)).convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()


def with_noise(image):
    noise = np.random.default_rng(0).normal(0, 40, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def beside_itself(image):
    pair = Image.new("RGB", (image.width * 2, image.height))
    pair.paste(image, (0, 0))
    pair.paste(image, (image.width, 0))
    return pair


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("blurred", lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 60))),
        ("grainy", with_noise),
        ("grey", lambda image: image.convert("L").convert("RGB")),
        ("dark", lambda image: image.point(lambda value: value // 8)),
        ("small", lambda image: image.resize((90, 90))),
        ("tilted", lambda image: image.rotate(28, resample=Image.Resampling.BICUBIC)),
        ("several-faces", beside_itself),
        ("cut-off", lambda image: image.crop(tuple(np.array([0.2, 0.25, 0.8, 0.85]) * image.width))),
    ],
)
def test_what_is_done_to_a_good_picture_is_told(maker, photos, reason, change):
    assert maker.make(photos[2]).reasons == ()
    assert reason in maker.make(edited(photos[2], change)).reasons


def test_alpha_that_is_there_is_kept_and_asked_for(maker, photos):
    plain = maker.make(photos[2])
    own = np.array(plain.portrait)
    buffer = io.BytesIO()
    plain.portrait.save(buffer, "PNG")
    again = replace(maker.options, limits=maker.options.limits | {"min-eyes-px": 20.0})
    kept = PortraitMaker(maker.backend, replace(again, needs_alpha=True, sex="female"))
    portrait = kept.make(buffer.getvalue())
    assert portrait.reasons == ()
    assert portrait.labels["sex"] == "female"
    difference = np.abs(np.array(portrait.portrait)[..., 3].astype(int) - own[..., 3])
    assert difference.mean() < 8  # the same cut-out, hardly moved
    assert kept.make(photos[2]).reasons == ("no-alpha",)
    own[..., 3] = 255
    assert judge_alpha(own) == "fake-alpha"
    assert judge_alpha(np.array(plain.portrait)) is None


def test_frame_of_a_turned_picture(shared):
    image = Image.open(shared / "faces" / "raw" / "raw013.jpg").convert("RGB")
    turned = image.rotate(-12, resample=Image.Resampling.BICUBIC, expand=True)
    detector = FaceDetector()
    looks = []
    for picture in (image, turned):
        pixels = np.asarray(picture)
        square = portrait_square(detector.detect(pixels)[0])
        looks.append(square.cut(pixels, 128).astype(int)[40:100, 40:88])
    assert np.abs(looks[0] - looks[1]).mean() < 12


def test_squares_beyond_the_picture():
    pixels = np.full((40, 40, 3), 200, np.uint8)
    square = Square(np.array([20.0, 40.0]), 40.0, 0.0)  # its lower half is below the picture
    assert square.inside((40, 40), 40).mean() == 0.5
    assert square.cut(pixels, 20).min() == 200
    assert square.fade((40, 40), 40).min() == 1  # what stands below goes on
    aside = Square(np.array([0.0, 20.0]), 40.0, 0.0).fade((40, 40), 40)
    assert aside[:, :20].max() == 0
    assert aside[:, 30:].min() == 1
    points = np.array([[20.0, 40.0], [0.0, 20.0]])
    assert np.allclose(square.to_own(points, 80), [[40, 40], [0, 0]])


def test_ages_and_smiles(shared):
    assert age_on(date(2000, 2, 29), date(2026, 2, 28)) == 25
    with (shared / "faces" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with np.load(shared / "faces" / "landmarks.npz") as points:
        right = [
            is_smiling(points[row["id"]].astype(float)) == (row["expression"] == "happy") for row in rows
        ]
    assert np.mean(right) > 0.9


@pytest.mark.slow
def test_hand_picked_verdicts_are_met(shared, tmp_path):
    """At most a tenth of what was kept by hand is lost, and more than 6 in 10 of the rest are caught."""
    with (shared / "faces" / "raw.csv").open(encoding="utf-8") as file:
        verdicts = {row["file"]: row["verdict"] for row in csv.DictReader(file)}
    with open_pack(shared / "faces" / "raw") as pack:
        lines = prepare_dataset(
            [pack],
            tmp_path,
            load_cutout_backend,
            LocalEngine(),
            PrepareOptions(),
            read_birth_date=lambda stem: read_name(stem).birth_date,
        )
    assert sorted(line.file for line in lines) == sorted(verdicts)
    assert sum(count_reasons(lines)[verdict] for verdict in ("kept", "rejected")) == 300
    lost = [line.file for line in lines if line.verdict != "kept" and verdicts[line.file] == "keep"]
    caught = [line.file for line in lines if line.verdict != "kept" and verdicts[line.file] == "reject"]
    assert len(lost) <= 15
    assert len(caught) >= 90
    assert json.loads((tmp_path / "settings.json").read_text())["size_px"] == 256
