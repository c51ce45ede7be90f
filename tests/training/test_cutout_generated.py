import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageFilter

from ehmfaces.cli.train import train
from ehmfaces.cutout.deeplab_backend import CutoutConfig, CutoutNetwork, DeepLabBackend, save_cutout_network
from ehmfaces.errors import InputError
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.training.cutout_loop import (
    CutoutTrainingConfig,
    cutout_loss,
    draw_generated,
    draw_mixed_batch,
    evaluate_generated,
    is_held_out,
    read_portraits,
    train_cutout,
)
from ehmfaces.training.generated_portraits import fit_size, solve_target
from ehmfaces.training.warm_start import write_warm_start

SMALL = CutoutConfig(input_size_px=32, coarse_channels=4, decoder_channels=(4, 4, 4))
GAME = (31, 44, 56)
NAMES = [f"p{index:03d}" for index in range(12)]
HELD_OUT = [name for name in NAMES if is_held_out(name)]


@pytest.fixture(scope="module")
def faces(tmp_path_factory, head):
    folder = tmp_path_factory.mktemp("generated-faces")
    image, alpha = head
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    for name in NAMES:
        rgba.save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def owned(tmp_path_factory):
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        z_dim=8,
        w_dim=16,
        img_resolution=32,
        mapping_kwargs={"num_layers": 2},
        synthesis_kwargs={"channel_base": 64, "channel_max": 8},
    )
    folder = tmp_path_factory.mktemp("owned")
    write_warm_start(generator, torch.randn(2 * len(NAMES), 16), folder)
    return folder


def test_a_solved_target_is_the_alpha_of_a_bright_person_whatever_the_network_says(head):
    image, alpha = head
    blunt = np.asarray(
        Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(4)), np.float32
    )
    target, belief = solve_target(np.asarray(image), alpha, blunt / 255)
    assert np.abs(target - alpha).mean() < 0.015
    assert np.abs(target - alpha).mean() < np.abs(blunt / 255 - alpha).mean() / 2
    assert belief[alpha == 1].mean() > 0.98


def test_drift_of_the_background_is_background(head):
    image, alpha = head
    drifted = np.asarray(image).copy()
    drifted[20:60, 2:10] += np.array([3, 6, 10], np.uint8)
    claimed = alpha.copy()
    claimed[20:60, 2:10] = 0.3
    target, _ = solve_target(drifted, alpha, claimed)
    assert target[24:56, 4:8].max() == 0


def test_what_neither_witness_saw_is_not_believed(head):
    image, alpha = head
    ghost = np.asarray(image).copy()
    ghost[30:50, 2:10] = (180, 150, 120)
    _, belief = solve_target(ghost, alpha, alpha)
    assert belief[33:47, 4:8].max() == 0


def test_dark_hair_takes_the_witnesses_and_is_doubted_where_they_disagree():
    pixels = np.full([64, 64, 3], GAME, np.uint8)
    pixels[:, :32] = (33, 42, 52)
    known = np.zeros([64, 64], np.float32)
    known[:, :32] = 1
    target, belief = solve_target(pixels, known, known)
    assert target[:, :28].min() == 1
    assert belief[:, :28].min() == 1
    _, doubted = solve_target(pixels, known, known * (np.arange(64) < 16))
    assert doubted[:, 22:28].max() < 0.2


def test_held_out_people_are_drawn_for_figures_only(faces, owned):
    trained, held = (draw_generated(faces, owned, None, part) for part in (False, True))
    assert trained.shape == (2 * (len(NAMES) - len(HELD_OUT)), 5, 32, 32)
    assert held.shape == (len(HELD_OUT), 5, 32, 32)
    assert torch.equal(trained, draw_generated(faces, owned, None, False))
    seen = {picture[:3].numpy().tobytes() for picture in trained}
    assert not seen & {picture[:3].numpy().tobytes() for picture in held}


def test_ws_of_other_portraits_get_a_sentence(faces, owned, tmp_path):
    (tmp_path / "p000.png").write_bytes((faces / "p000.png").read_bytes())
    with pytest.raises(InputError, match="owns 24 ws, but the folder holds 1 portraits, which need 2"):
        draw_generated(tmp_path, owned, None, False)


def test_portraits_with_a_flawed_alpha_are_left_out(faces, owned, tmp_path):
    for name in NAMES:
        with Image.open(faces / f"{name}.png") as image:
            image.putalpha(128)
            image.save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="all with a flawed alpha"):
        draw_generated(tmp_path, owned, None, False)


def test_a_batch_holds_the_wanted_share_of_generated_pictures(faces, owned):
    portraits, made = read_portraits(faces, 32, False), draw_generated(faces, owned, 32, False)
    config = CutoutTrainingConfig(batch_size=10, generated_share=0.4)
    img, alpha, belief = draw_mixed_batch(portraits, made, config, torch.Generator().manual_seed(0))
    assert img.shape == (10, 3, 32, 32)
    assert alpha.shape == belief.shape == (10, 1, 32, 32)
    assert (belief[:6] == 1).all()
    assert (belief[6:].flatten(1).min(dim=1).values < 1).all()
    for share, sure in ((0.0, True), (1.0, False)):
        config = CutoutTrainingConfig(batch_size=4, generated_share=share)
        belief = draw_mixed_batch(portraits, made, config, torch.Generator().manual_seed(0))[2]
        assert bool((belief == 1).all()) is sure


def test_pixels_without_belief_teach_nothing():
    torch.manual_seed(0)
    fine, coarse, alpha = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 2, 2), torch.rand(1, 1, 32, 32)
    belief = torch.ones(1, 1, 32, 32)
    belief[..., 16:] = 0
    other = alpha.clone()
    other[..., 16:] = 1 - other[..., 16:]
    assert torch.equal(cutout_loss(fine, coarse, alpha, belief), cutout_loss(fine, coarse, other, belief))


def test_scaling_keeps_a_plain_picture():
    plane = torch.full([1, 5, 64, 64], 77, dtype=torch.uint8)
    assert (fit_size(plane, 32) == 77).all()


def test_a_start_from_a_network_resumes_exactly(faces, owned, tmp_path):
    save_cutout_network(CutoutNetwork(SMALL), tmp_path / "first")
    config = CutoutTrainingConfig(steps=2, batch_size=2, steps_per_save=1, generated_share=0.5)
    further = {"generated": owned, "start_from": tmp_path / "first"}
    straight = train_cutout(faces, tmp_path / "a", config, **further)
    assert straight.config == SMALL

    class StopError(Exception):
        pass

    def stop(line):
        raise StopError

    with pytest.raises(StopError):
        train_cutout(faces, tmp_path / "b", config, report=stop, **further)
    resumed = train_cutout(faces, tmp_path / "b", config, **further)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_with_a_rate_of_nothing_the_start_comes_out_again(faces, tmp_path):
    save_cutout_network(CutoutNetwork(SMALL), tmp_path / "first")
    config = CutoutTrainingConfig(steps=1, batch_size=2, lr=0.0)
    train_cutout(faces, tmp_path / "run", config, start_from=tmp_path / "first")
    pixels = np.random.default_rng(0).integers(0, 256, [32, 32, 3]).astype(np.uint8)
    before = DeepLabBackend(tmp_path / "first").network.to_alpha.weight
    assert torch.equal(before, DeepLabBackend(tmp_path / "run" / "network").network.to_alpha.weight)
    assert DeepLabBackend(tmp_path / "run" / "network").predict_alpha(pixels).shape == (32, 32)


def test_figures_of_generated_pictures_tell_good_back_ends_from_bad_ones(faces, owned):
    class Plain:
        name = "plain"

        def __init__(self, value):
            self.value = value

        def predict_alpha(self, pixels):
            return np.full(pixels.shape[:2], self.value, np.float32)

    class Knowing:
        name = "knowing"
        answers: ClassVar = {
            planes[:3].permute(1, 2, 0).contiguous().numpy().tobytes(): planes[3].numpy() / np.float32(255)
            for planes in draw_generated(faces, owned, None, held_out=True)
        }

        def predict_alpha(self, pixels):
            return self.answers[pixels.tobytes()]

    backends = (Knowing(), Plain(1.0), Plain(0.0))
    right, full, empty = (evaluate_generated(backend, faces, owned) for backend in backends)
    assert set(full) == {"iou_generated", "difference_generated", "left_over"}
    assert full["left_over"] > 0
    assert empty["left_over"] == 0
    assert right["difference_generated"] < min(full["difference_generated"], empty["difference_generated"])
    assert right["left_over"] < full["left_over"]


def test_the_command_prints_both_networks_figures(faces, owned, tmp_path):
    save_cutout_network(CutoutNetwork(SMALL), tmp_path / "first")
    words = f"cutout --data {faces} --outdir {tmp_path / 'run'} --generated {owned} --steps 1"
    words += f" --batch-size 2 --threads {torch.get_num_threads()} --start-from {tmp_path / 'first'}"
    result = CliRunner().invoke(train, words.split(), catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.count("left_over") == 2
    assert "embedded" in result.output
    assert json.loads((tmp_path / "run" / "options.json").read_text())["lr"] == 0.0008
