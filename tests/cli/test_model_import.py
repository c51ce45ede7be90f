"""`ehmfaces model import` from file to portrait."""

import os

import pytest
from click.testing import CliRunner

from ehmfaces.cli import main
from ehmfaces.pipeline import FacePipeline
from tests.convert.foreign_files import as_persistent, dumps


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def pickle_file(tiny_pipeline, tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(dumps({"G": None, "D": None, "G_ema": as_persistent(tiny_pipeline.generator)}))
    return path


def test_import_verify_and_generate(pickle_file, tiny_pipeline, tmp_path):
    folder = tmp_path / "imported"
    result = run("model", "import", pickle_file, "--out", folder, "--verify")
    assert result.exit_code == 0, result.output
    assert "NVIDIA StyleGAN2 pickle, G_ema" in result.output
    assert "Resolution:  16 x 16" in result.output
    assert f"Hash:        {tiny_pipeline.model_hash}" in result.output
    assert "mapping.fc0.weight [16, 8]" in result.output
    assert "Verified:" in result.output
    info = run("model", "info", "--model", folder)
    assert f"Hash:        {tiny_pipeline.model_hash}" in info.output
    imported = FacePipeline.from_pretrained(folder)
    assert imported([7]).images[0].tobytes() == tiny_pipeline([7]).images[0].tobytes()


def test_what_goes_wrong_is_one_line(pickle_file, tmp_path):
    result = run("model", "import", pickle_file, "--out", tmp_path / "x", "--network", "D")
    assert result.exit_code == 1
    assert result.output.strip() == "Error: network.pkl holds no D. It holds G_ema: choose with --network."
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    result = run("model", "import", evil, "--out", tmp_path / "y")
    assert result.exit_code == 1
    assert "found the name os.system" in result.output
    assert len(result.output.splitlines()) == 1
    assert not os.path.exists(tmp_path / "y")
    assert run("model", "import", tmp_path / "none.pkl", "--out", tmp_path / "z").exit_code == 1


def test_a_pickle_is_never_taken_for_a_model(pickle_file):
    result = run("model", "info", "--model", pickle_file)
    assert result.exit_code == 1
    assert "ehmfaces model import" in result.output
