import numpy as np
import pytest
from PIL import Image

from ehmfaces.errors import InputError
from ehmfaces.portrait.compose import compose_portrait, frame_box
from ehmfaces.portrait.formats import FORMATS, get_format

SIZES = {
    "ehm": (160, 200),
    "ehm-157": (157, 200),
    "ehm-184": (184, 200),
    "ehm-200": (200, 200),
    "fm-180": (180, 180),
    "fm-250": (250, 250),
    "plain-256": (256, 256),
    "full": (128, 128),
}


@pytest.mark.parametrize("name", FORMATS)
def test_sizes_and_modes(name):
    cutout = Image.new("RGBA", (128, 128), (200, 150, 120, 255))
    assert compose_portrait(cutout, get_format(name), None).size == SIZES[name]
    assert compose_portrait(cutout, get_format(name), None).mode == "RGBA"
    filled = compose_portrait(cutout, get_format(name), (1, 2, 3))
    assert (filled.mode, filled.size) == ("RGB", SIZES[name])


def test_the_middle_stays_in_the_middle():
    pixels = np.zeros((200, 200, 4), np.uint8)
    pixels[90:110, 95:105] = 255
    alpha = np.asarray(compose_portrait(Image.fromarray(pixels), get_format("ehm"), None))[..., 3]
    columns = np.flatnonzero(alpha.max(axis=0) > 128)
    assert abs(columns.mean() - 79.5) <= 0.6


def test_a_wider_format_keeps_the_shoulders():
    assert frame_box((100, 200), (200, 200)) == (0, 100, 100, 200)


def test_background_shows_where_nobody_is():
    portrait = compose_portrait(Image.new("RGBA", (64, 64)), get_format("ehm"), (31, 44, 56))
    assert set(portrait.get_flattened_data()) == {(31, 44, 56)}


def test_unknown_format():
    with pytest.raises(InputError, match="Known: ehm"):
        get_format("fm")
