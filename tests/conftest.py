"""Tiny real models, shared by all tests."""

import time
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


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A fresh Hub and an empty cache; the client's settings are those that HF_ENDPOINT and HF_HOME set."""
    from huggingface_hub import constants

    from tests.hub_server import HubServer

    monkeypatch.delenv("HF_TOKEN", raising=False)
    sleep = time.sleep  # the client waits seconds between its tries
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: sleep(min(seconds, 0.01)))
    with HubServer() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # this Hub is on loopback
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # what breaks off is kept in these steps
        yield server
    assert not server.crashes
