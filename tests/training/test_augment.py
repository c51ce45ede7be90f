"""The augmentation pipe: equal to the public vectors, harmless at p = 0, differentiable twice."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ehmfaces.training.augment import BGC, AugmentPipe, build_filter_bank

VECTORS = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity" / "ada_augment_32.npz"
CASES = [
    "xflip@0.2", "rotate90@0.8", "xint@0.8", "scale@0.8", "rotate@0.8", "aniso@0.8", "xfrac@0.8",
    "brightness@0.8", "contrast@0.8", "lumaflip@0.8", "hue@0.8", "saturation@0.8", "imgfilter@0.8",
    "cutout@0.2", "bgc@0.2", "bgc@0.45", "bgc@0.8",
]  # fmt: skip


def make_pipe(p: float = 1.0, **strengths: float) -> AugmentPipe:
    pipe = AugmentPipe(**strengths)
    pipe.p.fill_(p)
    return pipe


def make_images(count: int = 2, size: int = 32, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    noise = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3), dtype=dtype)
    return noise * 2 - 1


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared parity vectors are not here")
@pytest.mark.parametrize("case", CASES)
def test_equals_the_public_vectors(case: str) -> None:
    name, percentile = case.split("@")
    with np.load(VECTORS) as vectors:
        x = torch.from_numpy(vectors["x_uint8"]).float() / 127.5 - 1
        expected = torch.from_numpy(vectors[case])
    strengths = BGC if name == "bgc" else {name: 1.0}
    result = make_pipe(**strengths)(x, debug_percentile=float(percentile))
    assert (result - expected).abs().max() < 1e-4
    if case != "xflip@0.2":  # that percentile draws no flip
        assert (x - expected).abs().max() > 0.05  # the vector does test something


def test_probability_zero_returns_the_input_itself() -> None:
    images = make_images()
    assert make_pipe(0.0, **BGC)(images) is images


def test_no_strength_changes_nothing() -> None:
    images = make_images()
    assert torch.equal(make_pipe(1.0)(images), images)


def test_neutral_draws_give_the_picture_back() -> None:
    """At a tiny p every gate stays shut, so only the resampling there and back is left."""
    images = make_images()
    result = make_pipe(1e-12, **BGC, imgfilter=1, noise=1, cutout=1)(images)
    assert (result - images).abs().max() < 1e-5


def test_mirror_turns_left_and_right_round() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    result = make_pipe(xflip=1)(ramp, debug_percentile=0.7)
    # The low-pass filter is not symmetric, so at the mirrored edges it is only nearly exact.
    assert torch.allclose(result[..., 4:-4], ramp.flip(3)[..., 4:-4], atol=0.02)


def test_whole_pixel_shift_moves_the_inside() -> None:
    images = make_images()
    result = make_pipe(xint=1)(images, debug_percentile=1.0)  # 0.125 * 32 = 4 pixels right and down
    assert torch.allclose(result[:, :, 4:, 4:], images[:, :, :-4, :-4], atol=1e-5)


def test_the_probability_is_the_share_of_changed_pictures() -> None:
    images = make_images(400, 8)
    result = make_pipe(0.3, brightness=1)(images, generator=torch.Generator().manual_seed(1))
    share = ((result - images).abs().amax(dim=(1, 2, 3)) > 1e-6).float().mean()
    assert abs(float(share) - 0.3) < 3.5 * math.sqrt(0.3 * 0.7 / 400)


def test_a_generator_decides_everything() -> None:
    pipe, images = make_pipe(0.8, **BGC, imgfilter=1, noise=1, cutout=1), make_images(4)
    runs = [pipe(images, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_colours_mix_within_a_picture_only() -> None:
    pipe = make_pipe(hue=1, contrast=1, brightness=1)
    images = make_images(3)
    whole = pipe(images, debug_percentile=0.8)
    alone = torch.cat([pipe(images[i : i + 1], debug_percentile=0.8) for i in range(3)])
    assert torch.allclose(whole, alone, atol=1e-6)


def test_gradients_of_first_and_second_order() -> None:
    pipe = make_pipe(rotate=1, scale=1, xfrac=1, hue=1)
    taps = torch.randn(3, generator=torch.Generator().manual_seed(0))

    def score(images: torch.Tensor) -> torch.Tensor:
        seen = pipe(images, debug_percentile=0.6)
        return (seen.pow(3) * taps[:, None, None]).sum()

    x = make_images(1, 12).requires_grad_()
    (gradient,) = torch.autograd.grad(score(x), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))

    def gradient_at(step: float) -> torch.Tensor:
        y = (x.detach() + step * way).requires_grad_()
        return torch.autograd.grad(score(y), y)[0]

    slope = (gradient_at(1e-2).square().sum() - gradient_at(-1e-2).square().sum()) / 2e-2
    assert float((second * way).sum()) == pytest.approx(float(slope), rel=2e-3)


def test_keeps_dtype_and_accepts_channels_last() -> None:
    pipe, images = make_pipe(**BGC, imgfilter=1), make_images()
    expected = pipe(images, debug_percentile=0.6)
    last = pipe(images.contiguous(memory_format=torch.channels_last), debug_percentile=0.6)
    assert torch.allclose(last, expected, atol=1e-5)
    assert pipe(images.bfloat16(), debug_percentile=0.6).dtype is torch.bfloat16


def test_one_channel_is_allowed() -> None:
    gray = make_images()[:, :1]
    result = make_pipe(**BGC)(gray, debug_percentile=0.6)
    assert result.shape == gray.shape


def test_filter_bands_add_up_to_the_identity() -> None:
    total = build_filter_bank().sum(dim=0)
    impulse = torch.zeros_like(total)
    impulse[total.numel() // 2] = 1
    assert torch.allclose(total, impulse, atol=1e-12)


def test_only_the_probability_is_saved() -> None:
    assert set(AugmentPipe(**BGC).state_dict()) == {"p"}
