import os
import subprocess
import sys

import numpy as np
import pytest

from ehmfaces.cutout.base import load_cutout_backend
from ehmfaces.errors import ImageError, InputError, UnsupportedModelError
from ehmfaces.facepack.plan import FacepackSettings
from ehmfaces.facepack.render import (
    PortraitRenderer,
    color_text,
    compose_grid,
    mixing_grid,
    remake,
    renderer_for,
)
from ehmfaces.hub import load_pipeline
from ehmfaces.images import encode_png, open_image, parse_color
from ehmfaces.latents.directions import Wishes
from ehmfaces.pipeline import FacePipeline
from ehmfaces.portrait.formats import get_format
from ehmfaces.provenance import Provenance


@pytest.fixture(scope="module")
def renderer(tiny_pipeline):
    return PortraitRenderer(
        tiny_pipeline, load_cutout_backend(), get_format("ehm-157"), (9, 8, 7), 0.5, "none", 3
    )


def test_a_portrait_says_how_it_was_made(renderer, tiny_pipeline):
    record = Provenance.read(renderer.render(11))
    assert (record.seed, record.truncation_psi, record.truncation_cutoff, record.noise_mode) == (
        11,
        0.5,
        3,
        "none",
    )
    assert (record.model_id, record.model_hash) == ("tests/tiny", tiny_pipeline.model_hash)
    assert (record.cutout, record.portrait_format, record.background) == ("deeplab", "ehm-157", "#090807")
    assert record.synthetic is True


def test_the_record_makes_the_same_bytes_again(renderer, tiny_pipeline):
    png = renderer.render(11)
    assert png == renderer(11) == remake(tiny_pipeline, png)
    assert png != renderer.render(12)


def test_what_cannot_be_made_again_gets_a_sentence(renderer, tiny_pipeline):
    image = open_image(renderer.render(1))
    with pytest.raises(ImageError, match="mix of faces"):
        remake(tiny_pipeline, renderer.encode(image, None, {"row_seeds": [1]}))
    other = FacePipeline(tiny_pipeline.generator, "tests/other")
    other.__dict__["model_hash"] = "f" * 16
    with pytest.raises(UnsupportedModelError, match="Load that model"):
        remake(other, renderer.render(1))
    with pytest.raises(ImageError, match="no ehmfaces record"):
        remake(tiny_pipeline, encode_png(image))


def test_settings_of_a_pack_become_a_renderer(tiny_pipeline):
    made = renderer_for(tiny_pipeline, FacepackSettings(portrait_format="plain-256", background="game"))
    assert open_image(made.render(1)).size == (256, 256)
    with pytest.raises(InputError, match="Unknown portrait format"):
        renderer_for(tiny_pipeline, FacepackSettings(portrait_format="poster"))
    for text in ("none", "#1f2c38"):
        assert color_text(parse_color(text)) == text


def test_the_grid_shows_rows_columns_and_crosses(tiny_pipeline):
    layers = list(range(tiny_pipeline.num_ws))
    grid = np.asarray(mixing_grid(tiny_pipeline, [1, 2], [3], layers))
    face = np.asarray(tiny_pipeline([3]).images[0])
    assert np.array_equal(grid[:16, 18:34], face)  # on top
    assert np.array_equal(grid[18:34, 18:34], face)  # all layers come from the column
    assert (grid[:16, :16] == 255).all()
    images = tiny_pipeline([1, 2]).images
    assert compose_grid(images[:1], images[1:], images[:1]).size == (36, 36)


def test_wishes_are_in_the_record_and_made_again():
    pipeline = load_pipeline()
    renderer = renderer_for(pipeline, FacepackSettings())
    renderer.wishes = Wishes("men", smile=1.5)
    png = renderer.render(4)
    assert Provenance.read(png).wishes == {"sex": "men", "smile": 1.5}
    assert remake(pipeline, png) == png
    renderer.wishes = Wishes()
    plain = renderer.render(4)
    assert Provenance.read(plain).wishes is None
    assert plain != png


def test_a_portrait_does_not_depend_on_the_number_of_threads(tmp_path):
    portraits = []
    for threads in ("1", "2"):
        out = tmp_path / threads
        environment = os.environ | {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "ehmfaces", "generate", "--seeds", "0-29", "--out", str(out)]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        portraits.append([path.read_bytes() for path in sorted(out.iterdir())])
    assert len(portraits[0]) == 30
    assert portraits[0] == portraits[1]
