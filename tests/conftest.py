"""Tiny real models, shared by all tests."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ehmfaces.models.stylegan2 import StyleGAN2Generator
from ehmfaces.pipeline import FacePipeline

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def tiny_pipeline():
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        z_dim=8,
        w_dim=16,
        img_resolution=16,
        mapping_kwargs={"num_layers": 2},
        synthesis_kwargs={"channel_base": 64, "channel_max": 8},
    )
    generator.mapping.w_avg.normal_()
    return FacePipeline(generator, "tests/tiny", (31, 44, 56))


@pytest.fixture(scope="session")
def head():
    """A plain head: an ellipse of skin on the game's colour, RGB 96 x 96, and its true alpha."""
    y, x = np.mgrid[0:96, 0:96]
    distance = ((x - 48) / 26) ** 2 + ((y - 52) / 36) ** 2
    alpha = np.clip((1.06 - distance) / 0.12, 0, 1).astype(np.float32)
    color = np.array([205, 160, 135]) * alpha[..., None] + np.array([31, 44, 56]) * (1 - alpha[..., None])
    return Image.fromarray(np.rint(color).astype(np.uint8)), alpha


@pytest.fixture(scope="session")
def shared():
    if not SHARED.is_dir():
        pytest.skip("the shared data is not beside the checkout")
    return SHARED
