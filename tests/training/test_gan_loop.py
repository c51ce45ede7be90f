import json
from dataclasses import replace

import pytest
import torch

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.training.config import PRESETS, get_preset
from ehmfaces.training.ema import half_life_images, update_ema
from ehmfaces.training.gan_loop import CHECKPOINT, GANState, train_gan
from ehmfaces.training.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty
from ehmfaces.training.warm_start import (
    WarmStart,
    fit_gaussian,
    load_warm_start,
    run_warm_start,
    set_mapping,
    whitened_codes,
)

TINY = get_preset("tiny16")


@pytest.fixture(scope="module")
def images():
    return torch.randint(
        0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def weights(state):
    return {
        f"{kind}/{k}": v for kind in ("G", "D", "G_ema") for k, v in getattr(state, kind).state_dict().items()
    }


def test_stopped_and_resumed_equals_straight_through(images, tmp_path):
    config = replace(TINY, pl_weight=2.0, ada_target=0.0, ada_kimg=0.05)
    straight = train_gan(images, config, tmp_path / "a")
    train_gan(images, replace(config, total_kimg=0.02), tmp_path / "b")
    resumed = train_gan(images, config, tmp_path / "b")
    assert straight.cur_nimg == resumed.cur_nimg == 40
    assert float(straight.augment.p) == float(resumed.augment.p)
    for name, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert straight.opt_G.state_dict()["state"].keys() == resumed.opt_G.state_dict()["state"].keys()


def test_a_run_leaves_its_options_figures_faces_and_model(images, tmp_path):
    lines = []
    train_gan(images, TINY, tmp_path, report=lines.append)
    assert json.loads((tmp_path / "options.json").read_text())["resolution"] == 16
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == len(lines) == 3
    assert {"kimg", "D_loss", "G_loss", "augment_p"} <= set(lines[0])
    assert (tmp_path / "samples.png").stat().st_size > 1000
    assert (
        StyleGAN2Generator.from_pretrained(tmp_path / "generator", low_cpu_mem_usage=False).img_resolution
        == 16
    )


def test_growth_takes_over_what_fits(images, tmp_path):
    small = train_gan(images, TINY, tmp_path / "small")
    grown = GANState(replace(TINY, resolution=32))
    grown.adopt(tmp_path / "small" / CHECKPOINT)
    assert torch.equal(grown.G.synthesis.b8.conv0.weight, small.G.synthesis.b8.conv0.weight)
    assert torch.equal(grown.G.mapping.fc0.weight, small.G.mapping.fc0.weight)
    assert torch.equal(grown.D.b4.out.weight, small.D.b4.out.weight)


def test_a_foreign_checkpoint_gets_a_sentence(images, tmp_path):
    train_gan(images, replace(TINY, total_kimg=0.004), tmp_path)
    with pytest.raises(ModelError, match="another output folder"):
        train_gan(images, replace(TINY, w_dim=24), tmp_path)


def test_warm_start_feeds_the_adversarial_run(images, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    config = replace(TINY, reconstruction_weight=1.0, adversarial_weight=0.1, d_only_kimg=0.008)
    big = images.repeat_interleave(4, 2).repeat_interleave(4, 3)  # codes are made at 32 px
    warm = replace(config.warm_start, stages=((32, 0.016), (64, 0.016)))
    network = {**config.network, "img_resolution": 64}
    run_warm_start(big, network, warm, tmp_path / "warm", seconds_per_save=0)
    assert (tmp_path / "warm" / "samples.png").exists()
    config = replace(config, resolution=64, warm_start=warm)
    state = train_gan(big, config, tmp_path / "gan", warm_start=tmp_path / "warm")
    assert state.owned_ws.shape == (24, 16)
    line = json.loads((tmp_path / "gan" / "stats.jsonl").read_text().splitlines()[-1])
    assert line["reconstruction"] > 0


def test_warm_start_resumes_exactly(images, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    big = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    network = {**TINY.network, "img_resolution": 32}
    long = replace(TINY.warm_start, stages=((32, 0.032),))
    run_warm_start(big, network, long, tmp_path / "a")

    state = WarmStart(big, network, long, tmp_path / "b")
    for _ in range(4):
        state.step()
    state.save()
    run_warm_start(big, network, long, tmp_path / "b")
    first, ws = load_warm_start(tmp_path / "a")
    second, ws2 = load_warm_start(tmp_path / "b")
    assert torch.equal(ws, ws2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_mapping_is_the_gaussian_of_the_ws():
    torch.manual_seed(1)
    generator = StyleGAN2Generator(
        z_dim=8, w_dim=16, img_resolution=16, mapping_kwargs={"num_layers": 3},
        synthesis_kwargs={"channel_base": 64, "channel_max": 8},
    )  # fmt: skip
    ws = torch.randn(200, 8) @ torch.randn(8, 16) + torch.randn(16)
    z = torch.randn(6, 8)
    z = z * z.square().mean(dim=1, keepdim=True).rsqrt()
    mean, factor = fit_gaussian(ws, 8)
    wanted = generator.synthesis((mean + 0.5 * z @ factor)[:, None].expand(-1, generator.num_ws, -1), "none")
    before = generator.synthesis(ws[:3, None].expand(-1, generator.num_ws, -1), "none")
    moved = set_mapping(generator, ws, 0.5, room=20.0)
    assert torch.allclose(generator(z, noise_mode="none"), wanted, atol=1e-3)
    after = generator.synthesis(moved[:3, None].expand(-1, generator.num_ws, -1), "none")
    assert torch.allclose(before, after, atol=1e-3)
    with pytest.raises(ModelError, match="at least 24"):
        set_mapping(StyleGAN2Generator(z_dim=12, w_dim=16, img_resolution=8), ws, 0.5)


def test_codes_keep_similar_pictures_together():
    base = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(3)).float()
    pictures = torch.cat([base, base + torch.randn(base.shape) * 4]).clamp(0, 255).to(torch.uint8)
    codes = whitened_codes(pictures, 16)
    assert codes.shape == (8, 16)
    nearest = torch.cdist(codes, codes).fill_diagonal_(1e9).argmin(dim=1)
    assert nearest.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


def test_losses_against_closed_forms():
    zero = torch.zeros(4, 1)
    assert generator_loss(zero).item() == pytest.approx(0.6931, abs=1e-4)
    assert discriminator_loss(zero, zero).item() == pytest.approx(1.3863, abs=1e-4)
    img = torch.ones(2, 1, 2, 2, requires_grad=True)
    assert r1_penalty((img * 3).sum(dim=[1, 2, 3]), img).tolist() == [36.0, 36.0]
    ws = torch.ones(1, 2, 3, requires_grad=True)
    lengths = path_lengths((ws.sum() * torch.ones(1, 1, 4, 4)), ws, torch.ones(1, 1, 4, 4))
    assert lengths.item() == pytest.approx(4 * 3**0.5)


def test_ema_half_life():
    average, current = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        average.weight.fill_(0.0)
        current.weight.fill_(1.0)
    update_ema(average, current, 100, 100.0)
    assert average.weight.item() == pytest.approx(0.5)
    assert half_life_images(20, 0.05, 1000) == 50
    assert half_life_images(20, None, 1000) == 20000


def test_presets():
    assert {"portrait64", "portrait128", "portrait256-gpu"} <= set(PRESETS)
    assert get_preset("portrait64", batch_size=4, total_kimg=None).batch_size == 4
    with pytest.raises(InputError, match="Known: tiny16"):
        get_preset("huge")
