import numpy as np
import pytest
from PIL import Image

from ehmfaces.cutout import rembg_backend
from ehmfaces.cutout.base import BACKENDS, cut_out, load_cutout_backend
from ehmfaces.cutout.deeplab_backend import (
    EMBEDDED_DIR,
    CutoutConfig,
    CutoutNetwork,
    DeepLabBackend,
    save_cutout_network,
)
from ehmfaces.errors import InputError, MissingExtraError, ModelError
from ehmfaces.metrics.matting import iou


@pytest.fixture(scope="module")
def embedded():
    return load_cutout_backend("deeplab")


def test_the_embedded_network_finds_heads_it_never_saw(embedded, shared):
    from ehmfaces.training.cutout_loop import evaluate_cutout

    figures = evaluate_cutout(embedded, shared / "faces" / "portraits", 160)
    assert figures["iou_game"] >= 0.97
    assert figures["iou_texture"] >= 0.93
    assert figures["rim_blue_after"] < figures["rim_blue_before"]
    assert sum(path.stat().st_size for path in EMBEDDED_DIR.iterdir()) < 4_000_000


def test_cut_out_works_at_any_size_and_mode(embedded, head):
    image, truth = head
    for size in ((96, 96), (96, 120), (300, 200), (33, 17)):
        rgba = cut_out(image.resize(size), embedded)
        assert (rgba.mode, rgba.size) == ("RGBA", size)
    rgba = np.asarray(cut_out(image, embedded, (31, 44, 56)))
    assert rgba.shape == (96, 96, 4)
    already = image.convert("RGBA")
    already.putalpha(Image.fromarray((truth * 0).astype(np.uint8)))
    assert np.asarray(cut_out(already, embedded))[..., 3].max() == 0


def test_the_same_picture_gives_the_same_alpha(embedded, head):
    pixels = np.asarray(head[0])
    first = embedded.predict_alpha(pixels)
    assert np.array_equal(first, embedded.predict_alpha(pixels))
    assert first.dtype == np.float32
    assert first.shape == (96, 96)
    assert 0 <= first.min() <= first.max() <= 1


def test_unknown_backend():
    with pytest.raises(InputError, match=r'Unknown cut-out backend "u2"\. Known: deeplab, rembg'):
        load_cutout_backend("u2")
    assert set(BACKENDS) == {"deeplab", "rembg"}


def test_saved_network_is_read_back_and_damage_is_told(tmp_path):
    config = CutoutConfig(input_size_px=32, coarse_channels=4, decoder_channels=(4, 4, 4))
    save_cutout_network(CutoutNetwork(config).eval(), tmp_path / "net")
    backend = DeepLabBackend(tmp_path / "net")
    assert backend.predict_alpha(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)
    (tmp_path / "net" / "config.json").write_text('{"input_size_px": 32}')
    with pytest.raises(ModelError, match=r"cannot be read|can be read|do not fit"):
        DeepLabBackend(tmp_path / "net")
    with pytest.raises(ModelError, match="holds no cut-out network"):
        DeepLabBackend(tmp_path)


def test_rembg_offers_local_sessions_only():
    with pytest.raises(InputError, match="Known: isnet-general-use"):
        rembg_backend.RembgBackend("bria-rmbg-2.0-remote")


def test_rembg_without_its_packages(monkeypatch):
    monkeypatch.setattr(rembg_backend, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "ehmfaces\[rembg\]"'):
        load_cutout_backend("rembg")


def test_rembg_alpha_comes_from_its_session(head):
    image, truth = head

    class Session:
        def predict(self, picture):
            return [
                Image.fromarray((truth * 255).astype(np.uint8)).resize(
                    (picture.width * 2, picture.height * 2)
                )
            ]

    backend = object.__new__(rembg_backend.RembgBackend)
    backend.session = Session()
    assert iou(backend.predict_alpha(np.asarray(image)), truth) > 0.97
