"""Killed, torn, locked, full: the same call goes on and ends with the same bytes."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from ehmfaces.errors import FacepackError
from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.lock import locked
from ehmfaces.facepack.writer import iter_facepack, preview_facepack, write_facepack
from tests.facepack.drawn_packs import ROWS, make_colliding_worker, make_slow_worker, names, plan_of

ROOT = Path(__file__).resolve().parents[2]


def digest(pack):
    """Return one hash of a ZIP, or of every file in a folder."""
    files = [pack] if pack.is_file() else [pack / name for name in names(pack)]
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode() + file.read_bytes())
    return whole.hexdigest() if pack.is_dir() else hashlib.sha256(pack.read_bytes()).hexdigest()


def stop_after(plan, out, count, **options):
    """Break a run off as an error from outside does: nothing is tidied up by hand."""
    events = iter_facepack(plan, make_colliding_worker, out, options=PackOptions(**options))
    for _ in range(count):
        next(events)
    with pytest.raises(RuntimeError):
        events.throw(RuntimeError("out of the blue"))


@pytest.mark.parametrize("name", ["pack.zip", "pack"])
def test_killed_at_random_moments_and_resumed_is_the_unbroken_pack(tmp_path, name):
    whole = write_facepack(plan_of(), make_slow_worker, tmp_path / "whole" / name)
    assert whole.uniqueness["redrawn"] > 0
    out = tmp_path / "killed" / name
    rng = random.Random(7)
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.facepack.drawn_packs", str(out)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        work = out if name == "pack" else out.with_name("pack.zip.work")
        enough = time.monotonic() + 30
        target = len(list(work.rglob("*.png"))) + rng.randint(1, 9)
        while process.poll() is None and time.monotonic() < enough:
            if len(list(work.rglob("*.png"))) >= min(target, 24):
                break
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    result = write_facepack(plan_of(), make_slow_worker, out)
    assert digest(result.path) == digest(whole.path)
    assert (result.made, result.kept) == (24, 0)
    assert sorted(path.name for path in out.parent.iterdir()) == [name]


@pytest.mark.parametrize("name", ["pack.zip", "pack"])
@pytest.mark.parametrize("count", [1, 13, 24, 26])
def test_any_stop_is_resumed_to_the_same_bytes(tmp_path, name, count):
    drawn = []
    whole = write_facepack(
        plan_of(), make_colliding_worker, tmp_path / "whole" / name, progress=drawn.append
    ).path
    out = tmp_path / "broken" / name
    stop_after(plan_of(), out, count)
    events = []
    result = write_facepack(plan_of(ROWS[::-1]), make_colliding_worker, out, progress=events.append)
    again = write_facepack(plan_of(ROWS[::-1]), make_colliding_worker, tmp_path / "shuffled" / name).path
    assert digest(result.path) == digest(again)
    assert len(events) == len(drawn) - count
    for path in whole.rglob("*.png"):
        assert path.read_bytes() == (out / path.relative_to(whole)).read_bytes()


@pytest.mark.parametrize("name", ["pack.zip", "pack"])
def test_a_run_killed_between_publishing_and_tidying_is_finished(tmp_path, name):
    out = tmp_path / name
    work = tmp_path / "pack.zip.work" if name == "pack.zip" else out
    stop_after(plan_of(), out, 24)
    journal = (work / ".journal.jsonl").read_bytes()
    result = write_facepack(plan_of(), make_colliding_worker, out)
    before = digest(out)
    work.mkdir(exist_ok=True)
    (work / ".journal.jsonl").write_bytes(journal)
    again = write_facepack(plan_of(), make_colliding_worker, out)
    assert digest(out) == before
    assert again.report == result.report
    assert again.uniqueness == result.uniqueness
    work.mkdir(exist_ok=True)
    (work / ".journal.jsonl").write_bytes(journal)
    assert write_facepack(plan_of([*ROWS, "New,Man,1.1.1999,"]), make_colliding_worker, out).kept == 24


def test_torn_and_damaged_journals_and_files_cost_a_drawing_only(tmp_path):
    drawn = []
    result = write_facepack(plan_of(), make_colliding_worker, tmp_path / "whole.zip", progress=drawn.append)
    whole = digest(result.path)
    out = tmp_path / "p.zip"
    work = tmp_path / "p.zip.work"
    stop_after(plan_of(), out, 20)
    journal = work / ".journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[3] = b'{"path": "../../evil", "seed": 1}'
    lines[4] = b"\xff\x00[[["
    journal.write_bytes(b"\n".join(lines)[:-90])
    pictures = sorted(work.rglob("*.png"))
    pictures[-1].write_bytes(pictures[-1].read_bytes()[:-5])
    pictures[-2].unlink()
    events = []
    assert digest(write_facepack(plan_of(), make_colliding_worker, out, progress=events.append).path) == whole
    assert len(drawn) - 20 < len(events) <= len(drawn) - 20 + 5
    stop_after(plan_of(), tmp_path / "q.zip", 5)
    (tmp_path / "q.zip.work" / ".journal.jsonl").write_bytes(b'{"ehmfaces_pa')
    assert digest(write_facepack(plan_of(), make_colliding_worker, tmp_path / "q.zip").path) == whole


def test_other_settings_on_unfinished_work_are_refused_with_advice(tmp_path):
    out = tmp_path / "p.zip"
    stop_after(plan_of(), out, 3)
    with pytest.raises(FacepackError, match=r"unfinished run with other settings.*remove"):
        write_facepack(plan_of(background="game"), make_colliding_worker, out)
    assert len(list((tmp_path / "p.zip.work").rglob("*.png"))) == 3
    assert write_facepack(plan_of(games="ehm,fhm"), make_colliding_worker, out).made == 24
    with zipfile.ZipFile(out) as pack:
        assert sum(name.startswith("fhm/") for name in pack.namelist()) == 24


def test_two_runs_at_once_are_refused_and_dead_ones_do_not_count(tmp_path):
    out = tmp_path / "pack"
    lock = tmp_path / ".pack.lock"
    lock.write_text("left by a machine that lost its power")
    with locked(out), pytest.raises(FacepackError, match="Another run is writing"):
        write_facepack(plan_of(), make_colliding_worker, out)
    assert write_facepack(plan_of(), make_colliding_worker, out).made == 24
    assert not lock.exists()


def test_a_person_who_left_the_roster_meanwhile_leaves_no_stray_picture(tmp_path):
    out = tmp_path / "pack"
    stop_after(plan_of(), out, 24)
    result = write_facepack(plan_of(ROWS[:10]), make_colliding_worker, out)
    assert sum(name.endswith(".png") for name in names(out)) == result.made == 10


def test_a_preview_of_an_unfinished_run_writes_nothing(tmp_path):
    out = tmp_path / "pack"
    stop_after(plan_of(), out, 7)
    before = {name: os.stat(out / name).st_mtime_ns for name in names(out)}
    assert len(preview_facepack(plan_of(), out).of("new")) == 24
    assert {name: os.stat(out / name).st_mtime_ns for name in names(out)} == before
