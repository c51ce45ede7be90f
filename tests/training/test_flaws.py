"""Flaws of portraits: what is seen, what marks teach, and the command that reads them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from ehmfaces.cli.train import train
from ehmfaces.errors import InputError, ModelError
from ehmfaces.metrics.features import LiteFeatures
from ehmfaces.training.flaws import FlawJudge, fit_flaws, load_flaws, read_marks, save_flaws, see_places


def faces(count: int) -> tuple[Tensor, list[int]]:
    """Return soft pictures [count, 3, 32, 32], of marks 0, 1 and 2: none, a faint or a dark streak."""
    source = torch.Generator().manual_seed(0)
    img = torch.rand(count, 3, 4, 4, generator=source)
    img = torch.nn.functional.interpolate(img, 32, mode="bilinear") - 0.5
    marks = [number % 3 for number in range(count)]
    for picture, mark in zip(img, marks, strict=True):
        picture[:, 14:16, 8:24] -= 0.4 * mark
    return img.clamp(-1, 1), marks


def test_marks_teach_to_see_a_streak() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    img, marks = faces(120)
    features = LiteFeatures()
    weight, bias, right_order = fit_flaws(see_places(features, img[:90]), marks[:90])
    assert right_order > 0.9
    judge = FlawJudge(weight, bias)
    flaws = judge(img[90:])  # not learned from
    by_mark = [float(flaws[torch.tensor(marks[90:]) == mark].mean()) for mark in (0, 1, 2)]
    assert by_mark[0] < by_mark[1] < by_mark[2]
    assert by_mark == pytest.approx([0, 0.5, 1], abs=0.35)
    assert torch.allclose(judge(img[95:96]), flaws[5:6], atol=1e-4)


def test_too_few_marks_or_one_kind_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 marks, 1 of them 2, are too few to learn from\. Mark 40"):
        fit_flaws(torch.randn(3, 8), [0, 1, 2])
    with pytest.raises(InputError, match=r"50 marks, 0 of them 2, are too few"):
        fit_flaws(torch.randn(50, 8), [0] * 50)
    with pytest.raises(InputError, match=r"A mark is 3\. Give 0 \(no flaw\), 1 \(a doubtful one\) or 2"):
        fit_flaws(torch.randn(50, 8), [0, 3] * 25)


def test_labels_are_marks_only_as_single_numbers() -> None:
    assert read_marks(np.eye(3, dtype=np.float32)[[2, 0, 1]]) == [2, 0, 1]
    with pytest.raises(InputError, match=r"are lists of numbers\. Give each picture one: 0, 1 or 2"):
        read_marks(np.array([[0.5, 0.5], [1, 0]], np.float32))


def test_what_was_learned_is_kept_with_its_marks(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    path = tmp_path / "flaws.safetensors"
    weight = torch.randn(19456) / 100
    save_flaws(weight, torch.tensor([0.25]), path, marks=torch.tensor([0, 2]))
    judge = load_flaws(path)
    assert torch.equal(judge.weight, weight)
    assert float(judge.bias) == 0.25
    save_flaws(weight[:9], torch.tensor([0.25]), path)
    with pytest.raises(ModelError, match=r"says nothing about flaws .* Make it again with train flaws"):
        load_flaws(path)
    path.write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r'"flaws\.safetensors" says nothing about flaws'):
        load_flaws(path)
    with pytest.raises(InputError, match=r"holds no none\.safetensors\. Give one that train flaws made"):
        load_flaws(tmp_path / "none.safetensors")


def test_the_command_reads_marks_as_labels(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    img, marks = faces(60)
    folder = tmp_path / "marked"
    folder.mkdir()
    pixels = ((img + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pixels):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{number:03}.png")
    labels = [[f"{number:03}.png", mark] for number, mark in enumerate(marks)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    out = tmp_path / "flaws.safetensors"
    command = ["flaws", "--data", str(folder), "--out", str(out), "--resolution", "32"]
    result = CliRunner().invoke(train, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "right_order_on_unseen" in result.output
    flaws = load_flaws(out)(img)
    assert float(flaws[2::3].mean()) > float(flaws[::3].mean()) + 0.4
