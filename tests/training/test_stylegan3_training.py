"""StyleGAN3 in the adversarial loop."""

from dataclasses import replace

import pytest
import torch

from ehmfaces.errors import InputError
from ehmfaces.models.stylegan3 import StyleGAN3Generator
from ehmfaces.training.config import PRESETS, GANConfig, get_preset
from ehmfaces.training.gan_loop import GANState, _blur, train_gan

TINY = get_preset("stylegan3-tiny")


@pytest.fixture(scope="module")
def images():
    return torch.randint(
        0, 256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_stopped_and_resumed_equals_straight_through(images, tmp_path):
    config = replace(TINY, blur_init_sigma=2.0, blur_fade_kimg=0.02, total_kimg=0.016, ticks_per_snapshot=9)
    straight = train_gan(images, config, tmp_path / "a")
    train_gan(images, replace(config, total_kimg=0.008), tmp_path / "b")
    resumed = train_gan(images, config, tmp_path / "b")
    assert isinstance(straight.G, StyleGAN3Generator)
    for kind in ("G", "G_ema", "D"):
        other = getattr(resumed, kind).state_dict()
        for name, value in getattr(straight, kind).state_dict().items():
            assert torch.equal(value, other[name]), (kind, name)
    layer = straight.G_ema.synthesis.L0_36_8
    assert float(layer.magnitude_ema) != 1  # the magnitudes moved, and the average has them
    assert straight.G_ema.mapping.w_avg.any()
    loaded = StyleGAN3Generator.from_pretrained(tmp_path / "a" / "generator", low_cpu_mem_usage=False)
    assert loaded.config.magnitude_ema_beta == pytest.approx(0.5 ** (4 / 20_000))


def test_presets_are_the_published_settings():
    t, r = PRESETS["stylegan3-t64"], PRESETS["stylegan3-r64"]
    assert t.r1_gamma == r.r1_gamma == 0.025
    assert (t.style_mixing_prob, t.pl_weight, t.blur_init_sigma) == (0, 0, 0)
    assert (r.blur_init_sigma, r.blur_fade_kimg) == (10, 200)
    assert r.network["channel_base"] == 2 * t.network["channel_base"]
    assert r.network["use_radial_filters"]
    assert r.network["conv_kernel"] == 1
    assert {"stylegan3-t128", "stylegan3-r128", "stylegan3-t256", "stylegan3-r256"} <= set(PRESETS)


def test_the_blur_fades():
    state = GANState(replace(TINY, blur_init_sigma=2.0, blur_fade_kimg=1.0))
    img = torch.zeros(1, 3, 16, 16)
    img[..., 8, 8] = 1.0
    strong = _blur(state, img)
    assert strong.sum() == pytest.approx(3, abs=1e-4)
    assert strong.max() < 0.1
    assert torch.allclose(strong, strong.transpose(2, 3), atol=1e-6)
    state.cur_nimg = 800
    assert strong.max() < _blur(state, img).max() < 1
    state.cur_nimg = 1000
    assert _blur(state, img) is img


def test_what_does_not_fit_gets_a_sentence(images, tmp_path):
    with pytest.raises(InputError, match="Known: stylegan2, stylegan3-t"):
        GANConfig(generator="stylegan4")
    with pytest.raises(InputError, match="A warm start makes a StyleGAN2 generator"):
        train_gan(images, TINY, tmp_path, warm_start=tmp_path)
