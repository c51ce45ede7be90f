"""The refining stage: what it writes, that all networks learn, and that it goes on from its weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ehmfaces.errors import InputError, ModelError
from ehmfaces.models.patch import FeatureHeads, PatchDiscriminator
from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.training.refine_loop import FIGURES, JUDGES, RefineConfig, RefineRun, run_refining
from ehmfaces.training.warm_start import load_warm_start, write_warm_start

pytest.importorskip("efficientnet_lite_pytorch")

PEOPLE = 6
CONFIG = RefineConfig(
    resolution=32, kimg=0.024, channel_base=256, batch_size=4, d_only_kimg=0.004, ramp_kimg=0.004, tie_px=8,
    r1_interval=4, measure_interval=8, remember_kimg=0.008, ema_kimg=0.01, tower_width=8, head_width=8,
    half=False,
)  # fmt: skip


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        z_dim=40,
        w_dim=16,
        img_resolution=32,
        mapping_kwargs={"people": 2 * PEOPLE},
        synthesis_kwargs={"channel_base": 128, "channel_max": 16},
    )
    write_warm_start(generator, torch.randn(2 * PEOPLE, 16), tmp_path / "warm")
    return tmp_path / "warm"


@pytest.fixture
def images() -> torch.Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (PEOPLE, 3, 32, 32), generator=source, dtype=torch.uint8)


def weights(run: RefineRun) -> dict[str, torch.Tensor]:
    modules = {"G": run.G.synthesis, "ema": run.ema.synthesis, "judges": run.judges}
    flat = {
        f"{name}.{key}": value.detach().clone()
        for name, module in modules.items()
        for key, value in module.named_parameters()
    }
    return {**flat, "table": run.table.detach().clone()}


def test_a_run_writes_a_model_and_goes_on_from_it(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    lines: list[dict[str, float]] = []
    run = run_refining(
        images, images[:3], warm, CONFIG, tmp_path / "run", "cpu", seconds_per_save=0, report=lines.append
    )
    assert (run.cur_nimg, len(lines)) == (24, 6)
    assert set(FIGURES) < set(lines[-1])
    assert lines[-1]["pixels"] > 0
    model = StyleGAN2Generator.from_pretrained(tmp_path / "run" / "generator", low_cpu_mem_usage=False)
    assert model.config.mapping_kwargs["people"] == 2 * PEOPLE  # noise is no face: then all stay
    assert (tmp_path / "run" / "samples.png").exists()
    _, ws = load_warm_start(tmp_path / "run" / "owned")
    assert torch.allclose(ws, run.table, atol=2e-3)
    longer = replace(CONFIG, kimg=0.028)
    again = run_refining(images, images[:3], warm, longer, tmp_path / "run", "cpu")
    assert again.cur_nimg == 28
    assert json.loads((tmp_path / "run" / "refine.json").read_text())["cur_nimg"] == 28


def test_all_networks_learn_once_the_judges_have_begun(warm: Path, images: torch.Tensor) -> None:
    run = RefineRun(images, images[:0], warm, CONFIG, "cpu")
    start = weights(run)
    run.step()
    judged = weights(run)
    for key, value in judged.items():
        if not key.endswith(".bias"):  # both sides of a new judge push its last one equally
            assert torch.equal(value, start[key]) is not key.startswith("judges."), key
    for _ in range(4):
        run.step()
    moved = weights(run)
    for key in ("G.b16.conv1.weight", "ema.b16.conv1.weight", "judges.D.towers.0.layers.0.weight", "table"):
        assert not torch.equal(moved[key], judged[key]), key
    assert run.measured
    assert bool((run.lengths > 0).all())


def test_each_judge_pulls_with_its_share(warm: Path, images: torch.Tensor) -> None:
    run = RefineRun(images, images[:0], warm, CONFIG, "cpu")
    img = torch.randn(2, 3, 8, 8, requires_grad=True)
    asked = torch.stack([scale * (img.sin().mean() + scale) for scale in range(1, len(run.lengths) + 1)])
    hold = img.square().mean()
    run._measure(hold, asked, img)
    (holding,) = torch.autograd.grad(hold, img, retain_graph=True)
    lengths = [torch.autograd.grad(one, img, retain_graph=True)[0].norm() for one in run.lengths * asked]
    assert torch.allclose(torch.stack(lengths), run.shares * holding.norm(), rtol=1e-4)
    assert float(run.shares.square().sum()) == pytest.approx(1)


def test_drawn_people_vary_and_some_are_mixed(warm: Path, images: torch.Tensor) -> None:
    config = replace(CONFIG, batch_size=64, mixed=0.5)
    ws = RefineRun(images, images[:0], warm, config, "cpu")._draw_people()
    assert ws.shape[0] == config.drawn_count == 48
    mixed = (ws[:, 0] != ws[:, -1]).any(dim=1).float().mean()
    assert 0.25 < float(mixed) < 0.75
    assert float(ws[:, 0].std(dim=0).mean()) > 0.05


def test_new_portraits_start_near_themselves(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    few = images[:4]
    with pytest.raises(InputError, match=r"The warm start is of 6 portraits, the data of 4\."):
        RefineRun(few, few[:0], warm, CONFIG, "cpu")
    run = RefineRun(few, few[:0], warm, CONFIG, "cpu", new_portraits=True)
    assert run.table.shape == (8, 16)
    assert bool(torch.isfinite(run.table).all())


def test_damaged_judges_are_told(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    (warm / JUDGES).write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"holds no such discriminators .* Delete that file"):
        RefineRun(images, images[:0], warm, CONFIG, "cpu")


def test_rates_fall_at_the_end(warm: Path, images: torch.Tensor) -> None:
    run = RefineRun(images, images[:0], warm, replace(CONFIG, decay_share=0.5), "cpu")
    rates = []
    for run.cur_nimg in (0, 12, 18, 24):
        rates.append(run.rate())
    assert rates == pytest.approx([1, 1, 0.525, 0.05])


def test_what_cannot_be_is_told(tmp_path: Path, warm: Path, images: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"A batch of 1 pictures .* Give 2 or more\."):
        replace(CONFIG, batch_size=1)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"no CUDA device here"):
            run_refining(images, images[:0], warm, CONFIG, tmp_path / "run")


def test_towers_see_what_a_blur_takes_away() -> None:
    seen = PatchDiscriminator(detail=5.0, view_px=64)._view(torch.full((1, 3, 32, 32), 0.5))
    assert seen.shape == (1, 8, 32, 32)
    assert torch.allclose(seen[:, 3:6], torch.zeros(1, 3, 32, 32), atol=1e-6)  # a flat picture has no detail
    assert torch.equal(seen[:, :3], torch.full((1, 3, 32, 32), 0.5))
    dot = torch.zeros(1, 3, 32, 32)
    dot[:, :, 16, 16] = 1
    seen = PatchDiscriminator(detail=5.0, view_px=64)._view(dot)
    assert float(seen[0, 3, 16, 16]) == pytest.approx(5 * 24 / 25)


def test_deep_heads_are_told_the_place() -> None:
    torch.manual_seed(0)
    flat = [torch.ones(1, 4, 16, 16)]
    (plain,) = FeatureHeads((4,), 8)(flat)
    (deep,) = FeatureHeads((4,), 8, deep=True)(flat)
    assert (plain.shape, deep.shape) == ((1, 1, 16, 16), (1, 1, 8, 8))
    assert float(plain.detach()[0, 0, 2:-2, 2:-2].std()) < 1e-6 < float(deep.detach()[0, 0, 2:-2, 2:-2].std())
