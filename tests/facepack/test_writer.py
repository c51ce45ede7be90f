import csv
import io
import json
import resource
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ehmfaces.engine.local_engine import LocalEngine
from ehmfaces.errors import FacepackError, ModelError
from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.manifest import encode_report, neutralize_formula
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.facepack.writer import iter_facepack, write_facepack
from ehmfaces.roster.reader import read_roster

ROWS = [f"Zed{n:02},Bee,{n % 27 + 1}.2.2003,{'Non-Player' if n % 5 == 0 else 'Player'}" for n in range(20)]


def make_worker():
    """A tiny real worker: the seed becomes the colour of a PNG."""

    def render(seed):
        file = io.BytesIO()
        Image.new("RGB", (4, 5), (seed & 255, seed >> 8 & 255, seed >> 16 & 255)).save(file, "PNG")
        return file.getvalue()

    return render


def make_large_worker():
    return lambda seed: seed.to_bytes(4, "big") * 2500


def make_plan(rows=ROWS, **options):
    text = "First Name,Last Name,DOB,Classification\n" + "\n".join(rows) + "\n"
    return plan_facepack(read_roster(text.encode(), name="players.csv"), FacepackSettings(**options))


def contents(path):
    with zipfile.ZipFile(path) as pack:
        assert pack.testzip() is None
        return {name: pack.read(name) for name in pack.namelist()}


def report(path):
    return list(csv.DictReader(io.StringIO(contents(path)["report.csv"].decode("utf-8-sig"), newline="")))


def test_pack_holds_portraits_report_and_settings(tmp_path):
    plan = make_plan([*ROWS, "Zed01,Bee,2.2.2003,Player", "No,Date,,", ""], pack_key="k")
    result = write_facepack(plan, make_worker, tmp_path / "new" / "pack.zip")
    assert (result.made, result.kept, result.skipped, result.not_made, result.cancelled) == (
        20,
        0,
        3,
        0,
        False,
    )
    files = contents(result.path)
    papers = ["report.csv", "settings.json", "manifest.jsonl"]
    assert list(files) == [*sorted(job.path for job in plan.jobs), *papers]
    for job in plan.jobs:
        color = Image.open(io.BytesIO(files[job.path])).getpixel((0, 0))
        assert color == (job.seed & 255, job.seed >> 8 & 255, job.seed >> 16 & 255)
    lines = report(result.path)
    assert [int(line["row_number"]) for line in lines] == list(range(2, 25))
    assert [line["status"] for line in lines] == ["made"] * 20 + ["skipped"] * 3
    assert lines[20]["reason"] == "Same file as row 3."
    settings = json.loads(files["settings.json"])
    assert settings["synthetic"] is True
    assert settings["settings"]["pack_key"] == "k"
    assert settings["counts"] == {"rows": 23, "made": 20, "kept": 0, "skipped": 3, "not made": 0}
    assert settings["reading"]["columns"]["birth_date"]["title"] == "DOB"
    assert "SHA-256" in settings["seed_rule"]


def test_zip_is_the_same_whatever_the_engine(tmp_path):
    def make_uneven_worker():
        render = make_worker()

        def uneven(seed):
            time.sleep(seed % 5 / 1000)
            return render(seed)

        return uneven

    one = write_facepack(make_plan(), make_worker, tmp_path / "1.zip")
    many = write_facepack(make_plan(), make_uneven_worker, tmp_path / "2.zip", LocalEngine(4))
    assert one.path.read_bytes() == many.path.read_bytes()


def test_shuffled_roster_gives_the_same_pictures(tmp_path):
    packs = [
        contents(write_facepack(make_plan(rows), make_worker, tmp_path / name).path)
        for name, rows in (("1.zip", ROWS), ("2.zip", ROWS[::-1]))
    ]
    for pack in packs:
        del pack["report.csv"]
    assert packs[0] == packs[1]


def test_events_tell_the_progress(tmp_path):
    events = []
    write_facepack(make_plan(ROWS[:3]), make_worker, tmp_path / "p.zip", progress=events.append)
    assert [(event.done, event.total, event.error) for event in events] == [
        (1, 3, ""),
        (2, 3, ""),
        (3, 3, ""),
    ]
    assert all(event.png.startswith(b"\x89PNG") for event in events)


def test_one_failing_face_stops_no_other(tmp_path):
    plan = make_plan(ROWS[:4])
    bad, empty, silent = (job.seed for job in plan.jobs[:3])

    def make_bad_worker():
        def render(seed):
            if seed == bad:
                raise ValueError("no nose")
            if seed == silent:
                raise KeyError
            return b"" if seed == empty else make_worker()(seed)

        return render

    events = []
    result = write_facepack(plan, make_bad_worker, tmp_path / "p.zip", progress=events.append)
    assert (result.made, result.skipped) == (1, 3)
    reasons = [line["reason"] for line in report(result.path)]
    assert reasons[0] == "Could not be made: no nose"
    assert reasons[1] == "Could not be made: no picture"
    assert sum(bool(event.error) for event in events) == 3


PARTIAL = PackOptions(is_partial_published=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_cancelling_keeps_what_is_done(tmp_path, workers):
    done = []
    result = write_facepack(
        make_plan(),
        make_worker,
        tmp_path / "p.zip",
        LocalEngine(workers),
        progress=done.append,
        should_stop=lambda: len(done) >= 3,
        options=PARTIAL,
    )
    assert result.cancelled
    assert result.path == tmp_path / "p.zip"
    assert result.made == len(done)
    assert 3 <= result.made < 20
    assert result.made + result.not_made == 20
    assert {line["reason"] for line in report(result.path) if line["status"] == "not made"} == {
        "Cancelled before its turn."
    }
    assert len(contents(result.path)) == result.made + 3


def test_closing_the_generator_keeps_what_is_done_and_an_earlier_pack(tmp_path):
    out = tmp_path / "pack.zip"
    earlier = write_facepack(make_plan(ROWS[:2]), make_worker, out).path.read_bytes()
    events = iter_facepack(make_plan(), make_worker, out, options=PARTIAL)
    for _ in range(4):
        next(events)
    events.close()
    assert out.read_bytes() == earlier
    assert len(contents(tmp_path / "pack.partial.zip")) == 4 + 2 + 3
    assert write_facepack(make_plan(), make_worker, out).made == 18


def test_an_error_in_progress_keeps_what_is_done(tmp_path):
    def interrupt(event):
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_facepack(make_plan(), make_worker, tmp_path / "p.zip", progress=interrupt)
    assert len(list((tmp_path / "p.zip.work").rglob("*.png"))) == 2
    events = []
    assert write_facepack(make_plan(), make_worker, tmp_path / "p.zip", progress=events.append).made == 20
    assert len(events) == 18


def test_a_model_that_cannot_be_loaded_leaves_nothing(tmp_path):
    def make_no_worker():
        raise ModelError("no weights")

    for out in (tmp_path / "p.zip", tmp_path / "folder"):
        with pytest.raises(ModelError, match="no weights"):
            write_facepack(make_plan(), make_no_worker, out)
    assert list(tmp_path.iterdir()) == []


def test_plan_without_jobs_gives_a_pack_with_a_report(tmp_path):
    result = write_facepack(make_plan(["Ann,Bee,1.2.1900,"]), make_worker, tmp_path / "p.zip")
    assert list(contents(result.path)) == ["report.csv", "settings.json", "manifest.jsonl"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for out, sentence in (
        (tmp_path / "file" / "p.zip", "cannot be written"),
        (tmp_path / "file", "is a file"),
        (Path(), "no name"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / "a\0b.zip", "cannot be written"),
    ):
        with pytest.raises(FacepackError, match=sentence):
            write_facepack(make_plan(ROWS[:1]), make_worker, out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_target_that_became_a_folder_meanwhile(tmp_path):
    out = tmp_path / "p.zip"
    with pytest.raises(FacepackError, match="cannot be written"):
        write_facepack(make_plan(ROWS[:1]), make_worker, out, progress=lambda event: out.mkdir())


@pytest.mark.parametrize("limit_bytes", [9_000, 45_000, 108_000, 200_500])
def test_full_disk_is_said_and_the_run_goes_on_later(tmp_path, limit_bytes):
    """The largest file size that the system allows stands for the space on the disk."""
    whole = write_facepack(make_plan(), make_large_worker, tmp_path / "whole.zip").path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        with pytest.raises(FacepackError, match=r"The disk is full.* stay there") as caught:
            write_facepack(make_plan(), make_large_worker, tmp_path / "p.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "p.zip").exists()
    drawn = []
    result = write_facepack(make_plan(), make_large_worker, tmp_path / "p.zip", progress=drawn.append)
    assert result.path.read_bytes() == whole
    assert f"{20 - len(drawn)} of 20 portraits" in str(caught.value) or limit_bytes == 9_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.zip", "whole.zip"]


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "\tx", "\rx", " =1", "＝1"])
def test_formulas_are_neutralized(text):
    assert neutralize_formula(text) == f"'{text}"


def test_report_opens_in_a_spreadsheet(tmp_path):
    plan = make_plan(["=cmd|x,Bee,13.2.2003,", "Jiří,Ek,13.2.2003,"])
    result = write_facepack(plan, make_worker, tmp_path / "p.zip")
    data = encode_report(result.report)
    assert data.startswith(b"\xef\xbb\xbfrow_number,first_name,last_name,birth_date,file,status,reason\r\n")
    assert data.count(b"\n") == data.count(b"\r\n") == 3
    lines = report(result.path)
    assert lines[0]["first_name"] == "'=cmd|x"
    assert lines[1]["first_name"] == "Jiří"
    assert lines[1]["reason"].startswith("The game stores only Latin-1 letters")
