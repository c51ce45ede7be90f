import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models import ops
from ehmfaces.models.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from ehmfaces.training.augment import BGC, AugmentPipe, SteadyAugmentPipe
from ehmfaces.training.config import PRESETS
from ehmfaces.training.graph_loop import GraphRun, Pace, check_gpu_run, train_gan_on_gpu

TINY = replace(PRESETS["tiny16"], batch_size=8, total_kimg=0.08, kimg_per_tick=0.032, D_reg_interval=4)
PACE = Pace(half=False, g_ramp_kimg=0.02)


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (12, 3, 16, 16), generator=torch.manual_seed(3)).to(torch.uint8)


def test_a_run_writes_what_it_made_and_goes_on_from_it(pictures, tmp_path):
    lines = []
    run = train_gan_on_gpu(pictures, pictures[:5], TINY, tmp_path, PACE, report=lines.append, device="cpu")
    assert run.cur_nimg == 80
    assert [line["kimg"] for line in lines] == [0.032, 0.064, 0.08]
    assert StyleGAN2Generator.from_pretrained(tmp_path / "generator").img_resolution == 16
    assert (tmp_path / "samples.png").exists()
    assert len((tmp_path / "stats.jsonl").read_text().splitlines()) == 3
    longer = replace(TINY, total_kimg=0.112)
    again = train_gan_on_gpu(pictures, None, longer, tmp_path, PACE, device="cpu")
    assert (again.cur_nimg, again.batch_idx) == (112, 4)


def test_both_networks_and_the_average_learn(pictures):
    run = GraphRun(pictures, TINY, PACE, "cpu")
    before = {key: value.clone() for key, value in run.weights().items()}
    for _ in range(6):
        run.step()
    after = run.weights()
    for key in (
        "G.synthesis.b8.conv1.weight",
        "G.mapping.fc0.weight",
        "D.b8.conv0.weight",
        "G_ema.mapping.w_avg",
    ):
        assert not torch.equal(before[key], after[key]), key
    assert run.figures()["r1"] > 0


def test_the_generator_rests_while_the_discriminator_trains_alone(pictures):
    run = GraphRun(pictures, replace(TINY, d_only_kimg=0.016), PACE, "cpu")
    before = run.G.synthesis.b8.conv1.weight.clone()
    run.step()
    run.step()
    assert torch.equal(before, run.G.synthesis.b8.conv1.weight)
    run.step()
    run.step()
    assert not torch.equal(before, run.G.synthesis.b8.conv1.weight)


def test_growth_keeps_the_pictures_of_before(pictures, tmp_path):
    train_gan_on_gpu(pictures, None, TINY, tmp_path, PACE, device="cpu")
    wide = torch.nn.functional.interpolate(pictures.float(), scale_factor=2).to(torch.uint8)
    run = GraphRun(wide, replace(TINY, resolution=32), replace(PACE, capacity=12), "cpu")
    run.grow_from(tmp_path / "weights.safetensors")
    small = StyleGAN2Generator(**TINY.network)
    small.load_state_dict(
        {
            k.removeprefix("G."): v
            for k, v in load_file(tmp_path / "weights.safetensors").items()
            if k[:2] == "G."
        }
    )
    ws = torch.randn(2, 1, TINY.w_dim)
    made = run.G.synthesis(ws.expand(-1, run.G.num_ws, -1), "const")
    wanted = ops.upsample2d(
        small.synthesis(ws.expand(-1, small.num_ws, -1), "const"), ops.setup_filter([1, 3, 3, 1])
    )
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-3)


def test_weights_of_other_networks_are_refused(pictures, tmp_path):
    train_gan_on_gpu(pictures, None, replace(TINY, total_kimg=0.008), tmp_path, PACE, device="cpu")
    run = GraphRun(pictures, replace(TINY, w_dim=24), replace(PACE, capacity=12), "cpu")
    with pytest.raises(ModelError, match="other networks"):
        run.grow_from(tmp_path / "weights.safetensors")


def test_a_broken_loss_stops_the_run_and_leaves_the_weights(pictures, tmp_path):
    train_gan_on_gpu(pictures, None, replace(TINY, total_kimg=0.032), tmp_path, PACE, device="cpu")
    kept = (tmp_path / "weights.safetensors").read_bytes()
    broken = replace(TINY, d_lr=1e30)
    with pytest.raises(FloatingPointError, match="last weights"):
        train_gan_on_gpu(pictures, None, broken, tmp_path, PACE, device="cpu")
    assert (tmp_path / "weights.safetensors").read_bytes() == kept
    assert json.loads((tmp_path / "options.json").read_text())["d_lr"] == 1e30


def test_what_the_loop_cannot_do_is_said():
    with pytest.raises(InputError, match="--device cpu"):
        check_gpu_run(PRESETS["stylegan3-tiny"], False)
    with pytest.raises(InputError, match="warm start"):
        check_gpu_run(PRESETS["portrait128-gpu"], True)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            check_gpu_run(PRESETS["portrait128-gpu"], False)


def test_folded_filters_give_the_same_networks(monkeypatch):
    widths = {"channel_base": 256, "channel_max": 16}
    generator = StyleGAN2Generator(8, 0, 16, 32, 3, {"num_layers": 2}, widths)
    discriminator = StyleGAN2Discriminator(img_resolution=32, **widths)
    z = torch.randn(4, 8)
    img, logits = generator(z), discriminator(generator(z))
    monkeypatch.setattr(ops, "folds_filters", lambda x: True)
    torch.testing.assert_close(generator(z), img, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(discriminator(img), logits, atol=2e-5, rtol=1e-4)


def test_half_precision_stays_near_and_ends_in_float32():
    widths = {"channel_base": 256, "channel_max": 16}
    generator = StyleGAN2Generator(8, 0, 16, 32, 3, {"num_layers": 2}, widths)
    discriminator = StyleGAN2Discriminator(img_resolution=32, **widths)
    z = torch.randn(2, 8)
    img, logits = generator(z), discriminator(generator(z))
    generator.synthesis.half_dtype = discriminator.half_dtype = torch.bfloat16
    near = generator(z)
    assert near.dtype == discriminator(near).dtype == torch.float32
    assert 0 < float((near - img).detach().abs().max()) < 0.1 * float(img.detach().abs().max())
    assert float((discriminator(img) - logits).detach().abs().max()) < 0.2


def test_steady_augmentation_draws_as_the_other_one_does():
    img = torch.nn.functional.interpolate(torch.rand(4, 3, 4, 4) * 2 - 1, size=[32, 32], mode="bicubic")
    colours = {key: BGC[key] for key in ("brightness", "contrast", "lumaflip", "hue", "saturation")}
    pipes = [kind(**colours, xflip=1.0, rotate90=1.0) for kind in (AugmentPipe, SteadyAugmentPipe)]
    for pipe in pipes:
        pipe.p.fill_(1.0)
    ours, steady = (pipe(img, debug_percentile=0.6) for pipe in pipes)
    torch.testing.assert_close(steady, ours, atol=5e-2, rtol=0)
    off = SteadyAugmentPipe(**BGC)
    torch.testing.assert_close(off(img), img, atol=1e-4, rtol=0)
