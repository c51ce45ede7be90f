"""Our StyleGAN3 against vectors of the official networks, and its design on its own."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ehmfaces.models.ops import fir_down, fir_up, insert_zeros
from ehmfaces.models.stylegan3 import (
    StyleGAN3Generator,
    design_lowpass_filter,
    make_transform,
    plan_signals,
)

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
ATOL = 1e-4
TINY = {
    "z_dim": 8,
    "w_dim": 12,
    "img_resolution": 16,
    "channel_base": 128,
    "channel_max": 8,
    "mapping_kwargs": {"num_layers": 1},
}


def close(actual, expected, atol=ATOL):
    scale = max(1.0, float(np.abs(expected).max()))
    assert np.abs(actual.detach().numpy() - expected).max() <= atol * scale


@pytest.fixture(scope="module", params=["sg3t_32", "sg3r_32"])
def case(request):
    if not PARITY.is_dir():
        pytest.skip("the parity vectors are not beside the checkout")
    config = json.loads((PARITY / f"{request.param}_G.json").read_text())["init_kwargs"]
    G = StyleGAN3Generator(**config)
    state = load_file(PARITY / f"{request.param}_G.safetensors")
    designed = {key: value.clone() for key, value in G.state_dict().items()}
    G.load_state_dict(state)
    layers = json.loads((PARITY / f"{request.param}_layers.json").read_text())
    return G.eval(), dict(np.load(PARITY / f"{request.param}.npz")), state, designed, layers


def test_the_design_is_the_official_one(case):
    G, _, state, designed, layers = case
    assert list(layers) == G.synthesis.layer_names
    for name, expected in layers.items():
        layer = getattr(G.synthesis, name)
        expected["down_radial"] = expected.pop("radial")
        expected["is_critically_sampled"] = expected.pop("critical")
        for key, value in expected.items():
            assert getattr(layer, key) == pytest.approx(value, abs=1e-9), (name, key)
    filters = [key for key in state if key.endswith("_filter")]
    assert len(filters) == 28
    for key in filters:
        assert torch.allclose(designed[key], state[key], atol=1e-7), key


def test_mapping_and_truncation(case):
    G, v, *_ = case
    z = torch.from_numpy(v["z"])
    close(G.mapping(z), v["w"], 1e-5)
    close(G.mapping(z, truncation_psi=0.7), v["w_psi07"], 1e-5)
    close(G.mapping(z, truncation_psi=0.5, truncation_cutoff=4), v["w_psi05_cut4"], 1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_features_and_pictures(case, grad):
    G, v, *_ = case
    with torch.set_grad_enabled(grad):
        ws = torch.from_numpy(v["w"])
        close(G.synthesis.input(ws[:, 0])[:, :8], v["input_features"], 1e-5)
        close(G.synthesis(ws), v["img_const"])
        close(G.synthesis(ws, "none"), v["img_none"])
        close(G.synthesis(ws[:1]), v["img_const"][:1])
        close(G.synthesis(torch.from_numpy(v["w_psi07"])), v["img_const_psi07"])
        close(G.synthesis(torch.from_numpy(v["mix_w_row0_col1_layers0to2"])), v["img_mix_const"])


def test_transforms_turn_and_shift_the_picture(case):
    G, v, *_ = case
    transform = make_transform(25, (0.2, -0.1))
    assert np.abs(transform.numpy() - v["transform_rot25_tx0.2_ty-0.1"]).max() < 1e-6
    ws = torch.from_numpy(v["w"])[:2]
    with torch.no_grad():
        close(G.synthesis(ws, transform=transform), v["img_transformed"])
        each = torch.stack([transform, torch.eye(3)])
        close(G.synthesis(ws, transform=each)[1:], v["img_const"][1:2])


def test_a_shift_by_whole_pixels_moves_the_picture():
    torch.manual_seed(3)
    G = StyleGAN3Generator(**{**TINY, "img_resolution": 32}).eval()
    with torch.no_grad():
        ws = G.mapping(torch.randn(1, 8))
        still = G.synthesis(ws)
        moved = G.synthesis(ws, transform=make_transform(0, (4 / 32, -2 / 32)))
    # Right by 4 and up by 2; what enters at the rims and the margins' rest is left out.
    error = (moved[:, :, 8:-8, 8:-8] - still[:, :, 10:-6, 4:-12]).square().mean()
    assert error < 1e-3 * still.var()


def test_a_quarter_turn_turns_the_picture_of_the_rotation_network():
    torch.manual_seed(3)
    G = StyleGAN3Generator(
        **{**TINY, "img_resolution": 32, "conv_kernel": 1, "use_radial_filters": True}
    ).eval()
    with torch.no_grad():
        ws = G.mapping(torch.randn(1, 8))
        still, turned = G.synthesis(ws), G.synthesis(ws, transform=make_transform(90))
    errors = [float((turned - still.rot90(k, (2, 3))).square().mean() / still.var()) for k in (1, 2, 3)]
    assert errors[0] < 1e-3 < 0.05 < min(errors[1:])


def test_filters_are_those_of_scipy():
    signal = pytest.importorskip("scipy.signal")
    for taps, cutoff, width, rate in [(12, 2.0, 12.0, 32), (24, 4.0, 8.0, 64), (6, 16.0, 2.0, 40)]:
        ours = design_lowpass_filter(taps, cutoff, width, rate)
        theirs = signal.firwin(taps, cutoff, width=width, fs=rate)
        assert np.abs(ours.numpy() - theirs).max() < 1e-6
    assert design_lowpass_filter(1, 2.0, 1.0, 8) is None


@pytest.mark.parametrize("taps", [7, 12])
def test_a_radial_filter_is_round_and_passes_the_mean(taps):
    kernel = design_lowpass_filter(taps, 4.0, 8.0, 64, radial=True)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(kernel, kernel.t())
    assert torch.allclose(kernel, kernel.flip(0))
    middle = kernel[taps // 2, taps // 2]
    assert kernel.max() == middle
    assert torch.isfinite(kernel).all()


@pytest.mark.parametrize("padding", [(9, 8), (-3, -2), (14, 15), (11, 10), (0, 5)])
@pytest.mark.parametrize("ndim", [1, 2])
def test_upsampling_is_zero_insertion_padding_and_filtering(padding, ndim):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 9)
    kernel = torch.rand(8) if ndim == 1 else torch.rand(8, 8)
    square = torch.outer(kernel, kernel) if ndim == 1 else kernel
    low, high = padding
    wide = torch.nn.functional.pad(insert_zeros(x, 2), (low, high, low, high))
    weight = square.flip(0, 1).expand(3, 1, 8, 8)
    expected = torch.nn.functional.conv2d(wide, weight, groups=3) * 4
    assert torch.allclose(fir_up(x, kernel, 2, padding, 4.0), expected, atol=1e-5)
    down = torch.nn.functional.conv2d(x, weight, groups=3, stride=2)
    assert torch.allclose(fir_down(x, kernel, 2), down, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"conv_kernel": 1, "use_radial_filters": True},
        {"filter_size": 4, "margin_size": 6},
        {"num_layers": 8, "num_critical": 1, "first_cutoff": 1.5, "first_stopband": 3.0},
        {"last_stopband_rel": 2**0.4, "conv_clamp": None, "output_scale": 1},
        {"lrelu_upsampling": 1},
        {"lrelu_upsampling": 4, "filter_size": 3},
        {"img_resolution": 32, "img_channels": 4, "c_dim": 3},
    ],
)
def test_every_option_builds_a_network_whose_gradients_flow(options):
    torch.manual_seed(0)
    config = {**TINY, **options}
    G = StyleGAN3Generator(**config)
    c = torch.eye(3)[:2] if config.get("c_dim") else None
    img = G(torch.randn(2, 8), c)
    assert img.shape == (2, G.img_channels, G.img_resolution, G.img_resolution)
    img.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in G.parameters())
    with torch.no_grad():
        assert torch.allclose(G(torch.zeros(2, 8), c)[1:], G(torch.zeros(1, 8), None if c is None else c[1:]),
                              atol=1e-5)  # fmt: skip
    assert dict(StyleGAN3Generator.from_config(G.config).config) == dict(G.config)


def test_averages_move_only_when_asked():
    torch.manual_seed(0)
    G = StyleGAN3Generator(**{**TINY, "magnitude_ema_beta": 0.5})
    z = torch.randn(4, 8)
    layer = G.synthesis.L0_36_8
    G(z)
    assert float(layer.magnitude_ema) == 1
    assert not G.mapping.w_avg.any()
    G(z, update_emas=True)
    with torch.no_grad():
        power = G.synthesis.input(G.mapping(z)[:, 0]).square().mean()
    assert float(layer.magnitude_ema) == pytest.approx(float(1 + power) / 2, rel=1e-5)
    assert G.mapping.w_avg.any()


def test_filters_and_frequencies_stay_float32_in_a_half_precision_network():
    G = StyleGAN3Generator(**TINY)
    freqs = G.synthesis.input.freqs.clone()
    z = torch.randn(1, 8)
    with torch.no_grad():
        exact = G(z)
        G.to(torch.bfloat16)
        rough = G(z)
    assert torch.equal(G.synthesis.input.freqs, freqs)
    assert G.synthesis.L0_36_8.up_filter.dtype == torch.float32
    assert G.synthesis.L0_36_8.weight.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()
    assert not torch.equal(rough.float(), exact)


def test_the_plan_doubles_rates_and_ends_at_the_picture():
    signals = plan_signals(256, 3, 32768, 512, 14, 2, 2, 2**2.1, 2**0.3, 10)
    rates = [s.sampling_rate for s in signals]
    assert rates[0] == 16
    assert rates[-1] == 256
    assert all(after in (before, 2 * before) for before, after in pairwise(rates))
    assert [s.size for s in signals[-2:]] == [256, 256]
    assert signals[0].channels == 512
    assert signals[-1].channels == 3
