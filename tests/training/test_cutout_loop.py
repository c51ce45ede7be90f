import numpy as np
import pytest
import torch
from PIL import Image

from ehmfaces.cutout.deeplab_backend import CutoutConfig
from ehmfaces.errors import InputError
from ehmfaces.training.cutout_loop import (
    CutoutTrainingConfig,
    draw_batch,
    is_held_out,
    read_portraits,
    train_cutout,
)

SMALL = CutoutConfig(input_size_px=32, coarse_channels=4, decoder_channels=(4, 4, 4))


@pytest.fixture(scope="module")
def faces(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("faces")
    image, alpha = head
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    for index in range(40):
        rgba.save(folder / f"p{index:03d}.png")
    return folder


def test_held_out_people_are_never_trained_on(faces):
    held = [path for path in faces.iterdir() if is_held_out(path.stem)]
    assert 1 <= len(held) <= 12
    assert len(read_portraits(faces, 32, True)) == len(held)
    assert len(read_portraits(faces, 32, False)) == 40 - len(held)


def test_batches_are_pictures_with_their_alpha(faces):
    portraits = read_portraits(faces, 32, False)
    img, alpha = draw_batch(portraits, CutoutTrainingConfig(batch_size=16), torch.Generator().manual_seed(1))
    assert img.shape == (16, 3, 32, 32)
    assert alpha.shape == (16, 1, 32, 32)
    assert -1 <= img.min() < img.max() <= 1
    assert alpha.min() == 0
    assert alpha.max() == pytest.approx(1)
    again, _ = draw_batch(portraits, CutoutTrainingConfig(batch_size=16), torch.Generator().manual_seed(1))
    assert torch.equal(img, again)


def test_stopped_and_resumed_equals_straight_through(faces, tmp_path):
    short = CutoutTrainingConfig(steps=4, batch_size=2, steps_per_save=2)
    lines = []
    straight = train_cutout(faces, tmp_path / "a", short, SMALL, lines.append)
    assert [line["step"] for line in lines] == [2, 4]

    class StopError(Exception):
        pass

    def stop(line):
        raise StopError

    with pytest.raises(StopError):
        train_cutout(faces, tmp_path / "b", short, SMALL, stop)
    resumed = train_cutout(faces, tmp_path / "b", short, SMALL)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_an_empty_folder_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match="holds no portraits"):
        read_portraits(tmp_path, 32, True)
