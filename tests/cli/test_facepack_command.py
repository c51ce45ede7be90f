"""`ehmfaces facepack` on packs that are there, and when it is stopped."""

import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from ehmfaces.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["facepack", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def write_roster(path, count):
    lines = [f"Ann{n},Berg,{n % 27 + 1}.3.1990" for n in range(count)]
    path.write_text("\n".join(["First Name,Last Name,Date of Birth", *lines]))
    return path


def test_a_folder_is_extended_rerolled_and_previewed(tmp_path):
    out = tmp_path / "pack"
    assert "1 made, 0 kept" in run(write_roster(tmp_path / "a.csv", 1), "--out", out)
    first = (out / "players" / "Ann0_Berg_1_3_1990.png").read_bytes()
    more = write_roster(tmp_path / "b.csv", 2)
    preview = run(more, "--out", out, "--dry-run", "--reroll", "ann0 berg")
    assert "new: players/Ann1_Berg_2_3_1990.png  seed " in preview
    assert "rerolled: players/Ann0_Berg_1_3_1990.png  seed " in preview
    assert "Would make 2 portraits, keep 0 and skip 0 rows; 0 pictures belong to nobody" in preview
    output = run(more, "--out", out)
    assert "1 made, 1 kept" in output
    assert "the two most alike faces (players/Ann0_Berg_1_3_1990.png and players/Ann1" in output.replace(
        "The", "the"
    )
    assert (out / "players" / "Ann0_Berg_1_3_1990.png").read_bytes() == first
    (tmp_path / "a.csv").write_text("First Name,Last Name,Date of Birth\nNew,Man,1.1.2000\n")
    preview = run(tmp_path / "a.csv", "--out", out, "--dry-run", "--existing", out)
    assert "not in the roster: players/Ann0_Berg_1_3_1990.png" in preview
    assert "nobody is called" in run(more, "--out", out, "--only", "Nils Nobody", code=1)


def start(roster, out):
    return subprocess.Popen(
        [sys.executable, "-m", "ehmfaces", "facepack", str(roster), "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_pictures(process, folder, count):
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end:
        if len(list(folder.rglob("*.png"))) >= count:
            return
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_and_kill_with_the_real_model_end_in_the_unbroken_zip(tmp_path):
    roster = write_roster(tmp_path / "r.csv", 30)
    run(roster, "--out", tmp_path / "whole.zip")
    out, work = tmp_path / "p.zip", tmp_path / "p.zip.work"
    process = start(roster, out)
    wait_for_pictures(process, work, 3)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "Run the same command again to go on" in text
    assert not out.exists()
    for count in (10, 17, 25):
        process = start(roster, out)
        wait_for_pictures(process, work, count)
        process.kill()
        process.communicate()
    run(roster, "--out", out)
    assert out.read_bytes() == (tmp_path / "whole.zip").read_bytes()
    assert not work.exists()
    with zipfile.ZipFile(out) as pack:
        assert len(pack.namelist()) == 33
