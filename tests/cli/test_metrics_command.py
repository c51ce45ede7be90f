"""`ehmfaces metrics`: the files it leaves, and what it refuses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ehmfaces.cli import main
from ehmfaces.hub import save_pipeline
from ehmfaces.model_card import read_metrics


@pytest.fixture
def measured(tiny_pipeline, tmp_path):
    save_pipeline(tiny_pipeline, tmp_path / "model")
    (tmp_path / "real").mkdir()
    for seed, image in tiny_pipeline.iter_images(range(20), truncation_psi=1.0):
        image.save(tmp_path / "real" / f"{seed:02}.png")
    return tmp_path


def run(folder, *more):
    words = ["metrics", "--model", folder / "model", "--data", folder / "real", "--out", folder / "out"]
    words += ["--count", 12, "--people", 8, "--paths", 2, "--faces", 3, *more]
    return CliRunner().invoke(main, [str(word) for word in words])


def test_metrics_leaves_figures_for_the_card_and_a_sheet(measured):
    result = run(measured)
    assert result.exit_code == 0, result.output
    figures = read_metrics(measured / "out" / "metrics.json")
    assert {"fd_lite0", "fd_lite0_floor", "precision_lite0", "same_person_pairs", "ppl_lite0"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())
    assert "fd_lite0_multiple" in result.output
    assert "face_rate_1.0: 3 of 3 are no well-formed face, not-one-face 3" in result.output
    faces = json.loads((measured / "out" / "faces.json").read_text())
    assert faces["face_rate_0.7"]["failures"] == {str(seed): ["not-one-face"] for seed in range(3)}
    with Image.open(measured / "out" / "faces.png") as sheet:
        assert sheet.width == 8 * 162 - 2
    with Image.open(measured / "out" / "nearest.png") as sheet:
        assert sheet.width == 5 * 328
    before = json.loads((measured / "out" / "metrics.json").read_text())
    assert run(measured, "--training", measured / "real").exit_code == 0
    assert json.loads((measured / "out" / "metrics.json").read_text()) == before


def test_metrics_leaves_the_face_rate_out_when_told_to(measured):
    assert run(measured).exit_code == 0
    result = run(measured, "--faces", 0)
    assert result.exit_code == 0, result.output
    assert "face_rate" not in result.output
    assert {file.name for file in (measured / "out").iterdir()} == {"metrics.json", "nearest.png"}


def test_metrics_says_what_is_wrong(measured):
    result = run(measured, "--size", 64)
    assert result.exit_code == 1
    assert "--size 64 is above what the model makes. Give at most 16" in result.output
    for file in list((measured / "real").iterdir())[3:]:
        file.unlink()
    assert "holds 3 pictures" in run(measured).output
