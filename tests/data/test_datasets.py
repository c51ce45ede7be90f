"""Training pictures in memory: every source gives the same pixels, and the order can be resumed."""

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from ehmfaces.data.datasets import (
    EndlessSampler,
    PortraitDataset,
    iter_batches,
    load_dataset,
    reduce_by_area,
)
from ehmfaces.errors import ImageError, InputError


def make_pixels(count: int = 4, size: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_folder(folder: Path, pixels: np.ndarray) -> None:
    (folder / "sub").mkdir(parents=True)
    for index, picture in enumerate(pixels):
        PILImage.fromarray(picture).save(folder / "sub" / f"{index}.png")


def test_every_source_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = make_pixels()
    write_folder(tmp_path / "folder", pixels)
    np.savez(tmp_path / "a.npz", rgb=pixels, parent_a=np.array(["x"] * 4))
    np.save(tmp_path / "a.npy", pixels)
    (tmp_path / "packed").mkdir()
    np.save(tmp_path / "packed" / "pixels.npy", pixels)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for index in range(4):
            archive.write(tmp_path / "folder" / "sub" / f"{index}.png", f"00000/{index}.png")
        archive.writestr("__MACOSX/._0.png", b"no picture")
    for name in ("folder", "a.npz", "a.npy", "packed", "a.zip"):
        assert np.array_equal(load_dataset(tmp_path / name).pixels, pixels), name


def test_transparent_pictures_lie_over_the_background(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (200, 100, 50, 255)
    rgba[0, 1] = (200, 100, 50, 0)
    rgba[1, 0] = (255, 255, 255, 51)  # a fifth
    PILImage.fromarray(rgba).save(tmp_path / "a.png")
    pixels = load_dataset(tmp_path, background=(10, 20, 30)).pixels[0]
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[0, 1].tolist() == [10, 20, 30]
    assert pixels[1, 0].tolist() == [59, 67, 75]


def test_flip_adds_the_mirrored_pictures_and_their_labels() -> None:
    pixels, labels = make_pixels(), np.eye(4, dtype=np.float32)
    data = PortraitDataset(pixels, labels, xflip=True)
    assert len(data) == 8
    straight, mirrored = data[1], data[5]
    assert np.array_equal(straight[0].transpose(1, 2, 0), pixels[1])
    assert np.array_equal(mirrored[0], straight[0][:, :, ::-1])
    assert np.array_equal(mirrored[1], labels[1])
    with pytest.raises(IndexError):
        data[8]


def test_batch_is_scaled_to_minus_one_and_one() -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[1] = 255
    img, c = PortraitDataset(pixels).batch([0, 1])
    assert img.shape == (2, 3, 4, 4)
    assert c.shape == (2, 0)
    assert img.amin() == -1
    assert img.amax() == 1
    assert img.dtype is torch.float32


def test_reduction_is_the_exact_mean() -> None:
    pixels = make_pixels(3, 12)
    reduced = reduce_by_area(pixels, 4)
    means = pixels.astype(np.float64).reshape(3, 4, 3, 4, 3, 3).mean(axis=(2, 4))
    assert np.array_equal(reduced, np.floor(means + 0.5).astype(np.uint8))
    assert PortraitDataset(pixels).reduced(6).resolution == 6


def test_reduction_to_no_divisor_counts_parts_of_pixels() -> None:
    line = np.array([0, 90, 180], np.uint8)
    pixels = np.broadcast_to(line[None, None, :, None], (1, 3, 3, 3)).copy()
    assert reduce_by_area(pixels, 2)[0, 0, :, 0].tolist() == [30, 150]


def test_enlarging_is_refused() -> None:
    with pytest.raises(InputError, match="Allowed: 1 to 8"):
        PortraitDataset(make_pixels(), resolution=9)


def test_labels_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, make_pixels(3))
    names = [f"sub/{index}.png" for index in range(3)]
    (tmp_path / "dataset.json").write_text(
        json.dumps({"labels": [[names[2], [3.0, 0.5]], [names[0], [1.0, 0.5]], [names[1], [2.0, 0.5]]]})
    )
    assert load_dataset(tmp_path, use_labels=True).labels[:, 0].tolist() == [1, 2, 3]
    assert load_dataset(tmp_path).c_dim == 0
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [[names[0], 1]]}))
    with pytest.raises(InputError, match="no label for"):
        load_dataset(tmp_path, use_labels=True)


def test_bad_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no data set"):
        load_dataset(tmp_path / "nowhere")
    with pytest.raises(InputError, match="There is no picture"):
        load_dataset(tmp_path)
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(InputError, match=r'holds other\. It must hold "rgb"'):
        load_dataset(tmp_path / "a.npz")
    (tmp_path / "b.zip").write_bytes(b"PK no")
    with pytest.raises(InputError, match="not a ZIP"):
        load_dataset(tmp_path / "b.zip")
    with pytest.raises(InputError, match="shape"):
        PortraitDataset(np.zeros((2, 4, 5, 3), np.uint8))


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"broken\.png"):
        load_dataset(tmp_path)
    (tmp_path / "broken.png").unlink()
    PILImage.new("RGB", (8, 9)).save(tmp_path / "tall.png")
    with pytest.raises(ImageError, match="8 x 9"):
        load_dataset(tmp_path)


def test_each_round_has_every_item_once_in_a_new_order() -> None:
    sampler = EndlessSampler(10, seed=3)
    rounds = [sampler.take(10) for _ in range(3)]
    assert all(Counter(part) == Counter(range(10)) for part in rounds)
    assert rounds[0] != rounds[1]
    assert EndlessSampler(10, seed=3).take(10) == rounds[0]
    assert EndlessSampler(10, seed=4).take(10) != rounds[0]


@pytest.mark.parametrize("taken", [0, 1, 6, 7, 8, 20])
def test_a_restored_sampler_goes_on_exactly(taken: int) -> None:
    sampler = EndlessSampler(7, seed=1)
    sampler.take(taken)
    state = json.loads(json.dumps(sampler.state_dict()))
    other = EndlessSampler(7, seed=99)
    other.load_state_dict(state)
    assert other.take(15) == sampler.take(15)


def test_a_state_of_another_data_set_is_refused() -> None:
    with pytest.raises(InputError, match="of 7 pictures, the data set has 8"):
        EndlessSampler(8).load_state_dict(EndlessSampler(7).state_dict())


def test_processes_share_one_order() -> None:
    single = EndlessSampler(9, seed=2).take(12)
    shares = [EndlessSampler(9, seed=2, rank=rank, num_replicas=3).take(4) for rank in range(3)]
    assert [index for group in zip(*shares, strict=True) for index in group] == single


def test_batches_resume_where_they_stopped() -> None:
    data = PortraitDataset(make_pixels(5), xflip=True)
    straight = EndlessSampler(len(data), seed=5)
    batches = iter_batches(data, straight, 4)
    next(batches)
    state = straight.state_dict()
    expected = next(batches)[0]
    resumed = EndlessSampler(len(data))
    resumed.load_state_dict(state)
    assert torch.equal(next(iter_batches(data, resumed, 4))[0], expected)
