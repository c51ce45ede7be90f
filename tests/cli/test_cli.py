import csv
import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ehmfaces.cli import COMMANDS, main
from ehmfaces.provenance import Provenance

ROOT = Path(__file__).resolve().parents[2]


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def roster(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(
        "Tobias,Havelskov,7.3.2006,Denmark\nJiří,Štěpnohorský,19.9.2003,Czechia\nNo,Date,,Norway\n"
    )
    return path


def test_help_is_fast_and_lists_everything():
    output = run("--help")
    for name in ("generate", "mix", "facepack", "cutout", "serve", "model", "dataset", "train", "bench"):
        assert f"  {name}" in output
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "ehmfaces", "--help"], check=True, capture_output=True, cwd=ROOT)
    assert time.perf_counter() - started < 2.5  # 0.3 s on an idle machine


@pytest.mark.parametrize(
    "path",
    [
        *((name,) for name in COMMANDS),
        ("model", "info"),
        ("dataset", "recombine"),
        ("train", "gan"),
        ("train", "cutout"),
    ],
)
def test_every_command_has_help(path):
    assert "Usage:" in run(*path, "--help")


def test_generate_and_make_again(tmp_path):
    run("generate", "--seeds", "3,4", "--trunc", "0.6", "--out", tmp_path / "a", "--background", "#204060")
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["seed0000000003.png", "seed0000000004.png"]
    record = Provenance.read(files[0])
    assert (record.seed, record.truncation_psi, record.background, record.synthetic) == (
        3,
        0.6,
        "#204060",
        True,
    )
    run("generate", "--from", files[0], "--out", tmp_path / "b")
    assert (tmp_path / "b" / files[0].name).read_bytes() == files[0].read_bytes()


def test_generate_wants_seeds_or_a_portrait(tmp_path):
    assert "either --seeds" in run("generate", "--out", tmp_path, code=2)
    assert "not a seed" in run("generate", "--seeds", "one", "--out", tmp_path, code=2)
    assert "Truncation 9" in run("generate", "--seeds", "1", "--trunc", "9", "--out", tmp_path, code=1)
    assert "is no background" in run(
        "generate", "--seeds", "1", "--background", "sky", "--out", tmp_path, code=2
    )


def test_mix_draws_a_grid(tmp_path):
    output = run(
        "mix",
        "--row-seeds",
        "1,2,3",
        "--col-seeds",
        "10,11",
        "--col-styles",
        "coarse",
        "--out",
        tmp_path / "g.png",
    )
    assert "[0, 1, 2, 3]" in output
    with Image.open(tmp_path / "g.png") as grid:
        assert (grid.width // 3, grid.height // 4) == (258, 258)
    assert "style layers" in run(
        "mix",
        "--row-seeds",
        "1",
        "--col-seeds",
        "2",
        "--col-styles",
        "99",
        "--out",
        tmp_path / "h.png",
        code=1,
    )


def test_facepack_accounts_for_every_row(roster, tmp_path):
    output = run("facepack", roster, "--out", tmp_path / "pack.zip")
    assert "2 made, 0 kept, 1 skipped" in output
    with zipfile.ZipFile(tmp_path / "pack.zip") as pack:
        names = set(pack.namelist())
        assert names == {
            "players/Tobias_Havelskov_7_3_2006.png",
            "players/Jirí_Stepnohorský_19_9_2003.png",
            "report.csv",
            "settings.json",
            "manifest.jsonl",
        }
        rows = list(csv.DictReader(io.StringIO(pack.read("report.csv").decode("utf-8-sig"))))
        assert [row["status"] for row in rows] == ["made", "made", "skipped"]
        assert json.loads(pack.read("settings.json"))["synthetic"] is True
        portrait = Image.open(io.BytesIO(pack.read("players/Tobias_Havelskov_7_3_2006.png")))
        assert (portrait.size, portrait.mode) == ((160, 200), "RGBA")
        alpha = np.asarray(portrait)[..., 3]
        assert (alpha.min(), alpha.max()) == (0, 255)


def test_a_shuffled_roster_gives_identical_pictures(roster, tmp_path):
    run("facepack", roster, "--out", tmp_path / "a.zip")
    lines = roster.read_text().splitlines()
    roster.write_text("\n".join(reversed(lines)))
    run("facepack", roster, "--out", tmp_path / "b.zip", "--workers", "2")
    with zipfile.ZipFile(tmp_path / "a.zip") as a, zipfile.ZipFile(tmp_path / "b.zip") as b:
        pictures = [name for name in a.namelist() if name.endswith(".png")]
        assert len(pictures) == 2
        for name in pictures:
            assert a.read(name) == b.read(name)


def test_dry_run_writes_nothing(roster, tmp_path):
    output = run("facepack", roster, "--out", tmp_path / "pack.zip", "--dry-run", "--column", "last_name=2")
    assert "Would make 2 portraits, keep 0 and skip 1 rows" in output
    assert not (tmp_path / "pack.zip").exists()
    assert "not FIELD=COLUMN" in run("facepack", roster, "--out", "x.zip", "--column", "nonsense", code=2)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(50), b"First Name,Last Name,Date of Birth\n"]
)
def test_a_bad_roster_is_one_line(content, tmp_path):
    (tmp_path / "bad.csv").write_bytes(content)
    output = run("facepack", tmp_path / "bad.csv", "--out", tmp_path / "p.zip", code=1)
    assert output.startswith("Error: ")
    assert len(output.strip().splitlines()) == 1


def test_cutout_skips_bad_pictures(tmp_path, head):
    head[0].save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    output = run("cutout", tmp_path / "good.png", tmp_path / "bad.png", "--out", tmp_path / "o", code=1)
    assert "Cut out 1 of 2" in output
    with Image.open(tmp_path / "o" / "good.png") as image:
        assert image.mode == "RGBA"


def test_model_info_bench_and_training_options():
    output = run("model", "info")
    assert "ehmfaces/embedded" in output
    assert "Hash:" in output
    assert "a second" in run("bench", "--count", "2")
    assert json.loads(run("train", "gan", "--data", ".", "--outdir", "x", "--dry-run"))["resolution"] == 128
    assert "Known: tiny16" in run(
        "train", "gan", "--data", ".", "--outdir", "x", "--preset", "no", "--dry-run", code=1
    )


def test_an_unknown_model_is_one_line(tmp_path):
    (tmp_path / "m").mkdir()
    assert "holds no model" in run("model", "info", "--model", tmp_path / "m", code=1)
