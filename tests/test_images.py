import io

import numpy as np
import pytest
from PIL import Image

from ehmfaces.errors import FacepackError, ImageError, InputError
from ehmfaces.images import (
    GAME_BACKGROUND,
    composite,
    encode_png,
    open_image,
    parse_color,
    premultiply,
    resize,
    unpremultiply,
    write_bytes_atomically,
)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_opens_rgb_rgba_and_turned_pictures(tmp_path):
    assert open_image(png(Image.new("L", (3, 2)))).mode == "RGB"
    assert open_image(png(Image.new("RGBA", (3, 2)))).mode == "RGBA"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (2, 3)


@pytest.mark.parametrize("data", [b"", b"not a picture", png(Image.new("RGB", (64, 64), (9, 8, 7)))[:60]])
def test_broken_pictures_get_a_sentence(data):
    with pytest.raises(ImageError, match="cannot be opened as a picture"):
        open_image(data)


def test_a_missing_file_and_a_bomb_get_a_sentence(tmp_path):
    with pytest.raises(ImageError, match="is not there"):
        open_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="at most 40 million"):
        open_image(png(Image.new("1", (9000, 9000))))
    with pytest.raises(ImageError, match=r"cannot be opened|at most 40"):
        open_image(png(Image.new("1", (20000, 20000))))


def test_colors():
    assert parse_color("game") == GAME_BACKGROUND == (31, 44, 56)
    for wrong in ("blue", "#12345", "#12345g", "#-12345", ""):
        with pytest.raises(InputError, match="is no background"):
            parse_color(wrong)


def test_composite_by_hand():
    half = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    expected = np.array([200, 100, 0]) * 128 / 255 + np.array([0, 0, 255]) * 127 / 255
    assert np.abs(np.asarray(composite(half, (0, 0, 255)))[0, 0] - expected).max() <= 0.5


def test_premultiply_and_back():
    pixels = np.array([[[10, 20, 30, 255], [40, 50, 60, 0], [200, 100, 50, 128]]], np.uint8)
    back = unpremultiply(premultiply(pixels))
    assert back[0, 0].tolist() == [10, 20, 30, 255]
    assert back[0, 1].tolist() == [0, 0, 0, 0]
    assert np.abs(back[0, 2].astype(int) - [200, 100, 50, 128]).max() <= 1


def test_resize_has_no_dark_fringe():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, 20:] = (250, 240, 230, 255)  # the transparent half is black
    small = np.asarray(resize(Image.fromarray(pixels), (10, 10)))
    seen = small[small[..., 3] > 8]
    assert seen[:, :3].min() >= 225
    assert resize(Image.new("RGB", (4, 4)), (2, 3)).size == (2, 3)
    assert resize(Image.new("RGBA", (4, 4)), (4, 4)).size == (4, 4)


def test_png_is_deterministic_and_keeps_text():
    image = Image.new("RGBA", (4, 4), (1, 2, 3, 4))
    first = encode_png(image, {"A": "plain", "B": "Jiří"})
    assert first == encode_png(image, {"A": "plain", "B": "Jiří"})
    with Image.open(io.BytesIO(first)) as opened:
        opened.load()
        assert opened.info["A"] == "plain"
        assert opened.info["B"] == "Jiří"


def test_atomic_write(tmp_path):
    write_bytes_atomically(tmp_path / "a" / "b.png", b"1")
    write_bytes_atomically(tmp_path / "a" / "b.png", b"2")
    assert (tmp_path / "a" / "b.png").read_bytes() == b"2"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.png"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FacepackError, match="cannot be written"):
        write_bytes_atomically(tmp_path / "file" / "c.png", b"3")


def test_small_pngs_keep_alpha_and_stay_close():
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (8, 8, 4)), np.ones((8, 8, 1))).astype(np.uint8)
    pixels[..., :3] ^= rng.integers(0, 4, (64, 64, 3), dtype=np.uint8)
    sizes = {}
    for size in ("full", "small", "palette"):
        data = encode_png(Image.fromarray(pixels), {"seed": "7"}, size)
        sizes[size] = len(data)
        made = Image.open(io.BytesIO(data))
        assert made.info["seed"] == "7"
        if size != "palette":
            got = np.asarray(made).astype(int)
            assert (got[..., 3] == pixels[..., 3]).all()
            assert np.abs(got[..., :3] - pixels[..., :3]).max() <= (0 if size == "full" else 2)
    assert sizes["palette"] < sizes["small"] < sizes["full"]
