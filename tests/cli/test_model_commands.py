"""`ehmfaces model pull` and `push`, over a real process boundary to a Hub on loopback."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from ehmfaces.cli import main
from tests.hub_server import OWNER_TOKEN, HubServer


@pytest.fixture(scope="module")
def tiny_dir(tiny_pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    tiny_pipeline.save_pretrained(folder)
    (folder / "metrics.json").write_text('{"fid5k": 20.5}')
    return folder


def run(*words):
    return CliRunner().invoke(main, ["model", *words])


def test_what_would_be_pushed_can_be_looked_at(tiny_dir, tmp_path):
    (tmp_path / "data.md").write_text("Drawn by a machine.")
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "z_to_image.onnx").write_bytes(b"onnx")
    out = tmp_path / "out"
    words = ["--license", "mit", "--data", str(tmp_path / "data.md"), "--onnx", str(tmp_path / "graphs")]
    done = run("push", "org/tiny", "--model", str(tiny_dir), *words, "--to-folder", str(out))
    assert done.exit_code == 0, done.output
    card = (out / "README.md").read_text()
    for text in ("license: mit", "Drawn by a machine.", "| fid5k | 20.5 |", "there is one in `onnx/`"):
        assert text in card
    assert (out / "onnx" / "z_to_image.onnx").read_bytes() == b"onnx"
    assert json.loads((out / "model_index.json").read_text())["model_id"] == "org/tiny"
    shown = run("info", "--model", str(out), "--device", "cpu")
    assert "Licence:     mit" in shown.output


def test_texts_that_cannot_be_read_are_told(tiny_dir, tmp_path):
    done = run("push", "org/tiny", "--model", str(tiny_dir), "--data", str(tmp_path / "none.md"))
    assert done.exit_code == 1
    assert "cannot be read" in done.output


@pytest.mark.slow
def test_push_and_pull_from_the_command_line(tiny_dir, tmp_path):
    """Two real processes with HF_ENDPOINT and HF_HOME, as a person would set them."""
    with HubServer() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **settings, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": OWNER_TOKEN}

        def ehmfaces(*words):
            command = [sys.executable, "-m", "ehmfaces", "model", *words]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

        pushed = ehmfaces("push", "org/tiny", "--model", str(tiny_dir), "--private", "--branch", "first")
        assert pushed.returncode == 0, pushed.stderr
        repo = hub.repos["org/tiny"]
        assert repo.private
        assert pushed.stdout == f"Published:   {hub.url}/org/tiny/commit/{repo.branches['first']}\n"
        pulled = ehmfaces("pull", "org/tiny@first", "--out", str(tmp_path / "copy"))
        assert pulled.returncode == 0, pulled.stderr
        assert "Resolution:  16 x 16" in pulled.stdout
    weights = "generator/diffusion_pytorch_model.safetensors"
    assert not (tmp_path / "copy" / weights).is_symlink()
    assert (tmp_path / "copy" / weights).read_bytes() == (tiny_dir / weights).read_bytes()
