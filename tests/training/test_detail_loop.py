"""The detail stage: widening keeps pictures, a run resumes exactly, sharpens, and writes what others read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.ops import upsample2d
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.training.detail_loop import DetailConfig, DetailRun, run_detail, widen_into
from ehmfaces.training.people_map import draw_only
from ehmfaces.training.stats import Stats
from ehmfaces.training.warm_start import load_warm_start, write_warm_start

pytest.importorskip("efficientnet_lite_pytorch")

PEOPLE = 6


def tiny(size: int, base: int, people: int = 2 * PEOPLE) -> StyleGAN2Generator:
    return StyleGAN2Generator(
        z_dim=40,
        w_dim=16,
        img_resolution=size,
        mapping_kwargs={"people": people},
        synthesis_kwargs={"channel_base": base, "channel_max": 16},
    )


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    write_warm_start(tiny(32, 128), torch.randn(2 * PEOPLE, 16), tmp_path / "warm")
    return tmp_path / "warm"


@pytest.fixture
def images() -> torch.Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (PEOPLE, 3, 64, 64), generator=source, dtype=torch.uint8)


CONFIG = DetailConfig(
    stages=((32, 0.008), (64, 0.008)), channel_base=256, ramp_kimg=0.001, tie_px=8, compiled=False
)


def test_widened_network_makes_the_same_pictures() -> None:
    torch.manual_seed(0)
    small, large = tiny(16, 64), tiny(32, 256)
    widen_into(small.synthesis, large.synthesis)
    w = torch.randn(3, 16)
    before = small.synthesis(w[:, None].expand(-1, small.num_ws, -1), "none")
    after = large.synthesis(w[:, None].expand(-1, large.num_ws, -1), "none")
    upsampled = large.synthesis.b32  # an empty block: only the picture's own filter is in between
    assert torch.allclose(after, upsample2d(before, upsampled.resample_filter), atol=1e-4)


def test_widened_channels_learn() -> None:
    torch.manual_seed(0)
    small, large = tiny(16, 64), tiny(16, 256)
    widen_into(small.synthesis, large.synthesis)
    ws = torch.randn(3, large.num_ws, 16)
    large.synthesis(ws, "none").square().sum().backward()
    weight = large.synthesis.b16.conv1.weight
    assert weight.shape[0] > small.synthesis.b16.conv1.weight.shape[0]
    assert weight.grad is not None
    assert float(weight.grad[: small.synthesis.b16.conv1.weight.shape[0], -1].abs().sum()) > 0


def test_run_resumes_exactly_and_writes_a_generator(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    whole = run_detail(images, images[:0], warm, CONFIG, tmp_path / "whole", seconds_per_save=1e9)
    stopped = DetailRun(images, images[:0], warm, CONFIG, tmp_path / "parts")
    stats = Stats(tmp_path / "stats.jsonl")
    while stopped.cur_nimg < stopped.stage_end():
        stopped.step(stats)
    stopped.save()
    stopped.grow()
    stopped.save()
    resumed = run_detail(images, images[:0], warm, CONFIG, tmp_path / "parts", seconds_per_save=1e9)
    assert resumed.cur_nimg == whole.cur_nimg == 16
    for mine, other in zip(resumed.ema.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(mine, other)
    loaded = StyleGAN2Generator.from_pretrained(tmp_path / "whole" / "generator", low_cpu_mem_usage=False)
    assert loaded.img_resolution == 64
    assert loaded.config.mapping_kwargs["people"] == 2 * PEOPLE
    _, ws = load_warm_start(tmp_path / "whole" / "owned")
    assert torch.allclose(ws, whole.table.weight, atol=2e-3)


def test_all_networks_move(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    run = DetailRun(images, images.flip(2), warm, CONFIG, tmp_path / "run")
    before = {name: [p.clone() for p in module.parameters()] for name, module in run._modules().items()}
    stats = Stats(tmp_path / "stats.jsonl")
    for _ in range(3):
        run.step(stats)
    for name in ("G", "G_ema", "D", "heads", "table"):
        changed = [
            not torch.equal(a, b)
            for a, b in zip(before[name], run._modules()[name].parameters(), strict=True)
        ]
        assert any(changed), name
    line = stats.write(cur_nimg=run.cur_nimg)
    assert {"pixels", "features", "tie", "G_patches", "G_heads", "D0", "r1", "balance"} <= set(line)


def test_new_portraits_start_near_themselves(tmp_path: Path, warm: Path) -> None:
    generator, ws = load_warm_start(warm)
    with torch.no_grad():
        made = generator.synthesis(ws[:PEOPLE, None].expand(-1, generator.num_ws, -1), "none")
    pixels = ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    config = DetailConfig(stages=((32, 0.004),), channel_base=128, tie_px=8, compiled=False)
    run = DetailRun(pixels[:4], pixels[:0], warm, config, tmp_path / "run", new_portraits=True)
    distance = torch.cdist(run.table.weight[:4].detach(), ws)
    assert distance.argmin(dim=1).tolist() == [0, 1, 2, 3]


def test_other_portraits_are_refused(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"of 6 portraits, the data of 4.*--new-portraits"):
        DetailRun(images[:4], images[:0], warm, CONFIG, tmp_path / "run")


def test_smaller_stage_is_refused(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    config = DetailConfig(stages=((16, 1.0),), compiled=False)
    with pytest.raises(InputError, match="16 px is below the warm start's 32 px"):
        DetailRun(images, images[:0], warm, config, tmp_path / "run")


def test_folder_without_warm_start_is_refused(tmp_path: Path, images: torch.Tensor) -> None:
    with pytest.raises(ModelError, match=r"holds no finished warm start"):
        DetailRun(images, images[:0], tmp_path, CONFIG, tmp_path / "run")


@pytest.mark.parametrize("batch", [3, 26])
def test_batch_that_cannot_be_halved_is_refused(
    tmp_path: Path, warm: Path, images: torch.Tensor, batch: int
) -> None:
    with pytest.raises(InputError, match=r"Give an even number, 2 to 24"):
        DetailRun(images, images[:0], warm, replace(CONFIG, batch_size=batch), tmp_path / "run")


def test_spread_draws_people_further_apart(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    z = torch.randn(64, 40, generator=torch.Generator().manual_seed(0))
    found = []
    for spread in (1.0, 1.5):
        config = replace(CONFIG, spread=spread)
        mapping = DetailRun(images, images[:0], warm, config, tmp_path / str(spread)).ema.mapping
        with torch.inference_mode():
            found.append(mapping(z)[:, 0] - mapping.centre)
    assert torch.allclose(found[1], 1.5 * found[0], atol=1e-5)


def test_next_run_goes_on_with_the_discriminators(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    config = replace(CONFIG, stages=((32, 0.008),))
    run = run_detail(images, images[:0], warm, config, tmp_path / "first")
    owned = tmp_path / "first" / "owned"
    same = DetailRun(images, images[:0], owned, config, tmp_path / "same")
    for mine, other in zip(same.D.parameters(), run.D.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=2e-3)
    larger = DetailRun(images, images[:0], owned, replace(config, stages=((64, 0.008),)), tmp_path / "larger")
    fresh = [torch.equal(a, b) for a, b in zip(larger.D.parameters(), same.D.parameters(), strict=True)]
    assert not all(fresh)  # they know another scale
    (owned / "judges.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"holds no such discriminators .* Delete that file"):
        DetailRun(images, images[:0], owned, config, tmp_path / "broken")


def test_only_well_formed_people_are_drawn(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    run = DetailRun(images, images[:0], warm, CONFIG, tmp_path / "run")
    fit = torch.arange(2 * PEOPLE) % 3 > 0
    ws, looks = run.table.weight.detach(), torch.full((2 * PEOPLE, 3), 0.5)
    everybody = draw_only(run.ema, ws, ~fit, looks, spread=1.0)  # hardly anybody is a face: then all stay
    assert everybody.config.mapping_kwargs["people"] == 2 * PEOPLE
    generator = draw_only(run.ema, ws, fit, looks, spread=1.0)
    assert generator.config.mapping_kwargs["people"] == int(fit.sum()) == 8
    assert torch.allclose(generator.mapping.centre, run.table.weight[fit].mean(dim=0))
    finer = draw_only(run.ema, ws, fit, looks, ("coarse", "middle", "fine", "finest"), edges=(1, 2, 3))
    assert finer.mapping.finest.shape == finer.mapping.coarse.shape
    for mine, other in zip(generator.synthesis.parameters(), run.ema.synthesis.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_rates_fall_at_the_end_of_the_plan(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    run = DetailRun(images, images[:0], warm, replace(CONFIG, decay_share=0.5), tmp_path / "run")
    rates = []
    for run.cur_nimg in (0, 8, 12, 16):
        rates.append(run.rate())
    assert rates == pytest.approx([1, 1, 0.55, 0.1])


def test_people_are_drawn_at_several_truncations(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    run = DetailRun(images, images[:0], warm, replace(CONFIG, least_psi=0.0), tmp_path / "run")
    full = DetailRun(images, images[:0], warm, replace(CONFIG, least_psi=1.0), tmp_path / "full")
    near, far = (
        (each._draw_people(64, np.random.default_rng(0)) - each.G.mapping.w_avg).norm(dim=(1, 2))
        for each in (run, full)
    )
    share = near / far
    assert float(share.min()) < 0.1 < 0.9 < float(share.max()) <= 1.0001
