"""The StyleGAN ZIP: what is written comes back, and the same pictures give the same bytes."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ehmfaces.data.datasets import load_dataset
from ehmfaces.data.pack import write_dataset_zip
from ehmfaces.errors import InputError


def make_pixels(count: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_pictures_and_class_labels_come_back(tmp_path: Path) -> None:
    pixels = make_pixels(5)
    labels = [0, 2, 1, 2, 0]
    assert write_dataset_zip(zip(pixels, labels, strict=True), tmp_path / "a.zip") == 5
    data = load_dataset(tmp_path / "a.zip", use_labels=True)
    assert np.array_equal(data.pixels, pixels)
    assert np.array_equal(data.labels.argmax(axis=1), labels)
    assert data.c_dim == 3


def test_without_labels_the_json_says_so(tmp_path: Path) -> None:
    write_dataset_zip([(make_pixels(1)[0], None)], tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["00000/img00000000.png", "dataset.json"]
        assert json.loads(archive.read("dataset.json")) == {"labels": None}
    with pytest.raises(InputError, match="has no labels"):
        load_dataset(tmp_path / "a.zip", use_labels=True)


def test_same_pictures_same_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_dataset_zip([(pixels, [0.5, 1.5]) for pixels in make_pixels(3)], tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    ("pictures", "text"),
    [
        ([], "at least one picture"),
        ([(make_pixels(1)[0], 1), (make_pixels(1)[0], None)], "1 of 2 pictures have labels"),
        ([(make_pixels(1)[0], None), (make_pixels(1, 4)[0], None)], "same size"),
    ],
)
def test_refuses_and_leaves_nothing(tmp_path: Path, pictures: list, text: str) -> None:
    with pytest.raises(InputError, match=text):
        write_dataset_zip(pictures, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []
