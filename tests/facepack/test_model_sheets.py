"""Contact sheets of a tiny generator: what is on them, and that they come out the same."""

from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ehmfaces.cli import main
from ehmfaces.errors import InputError
from ehmfaces.facepack.model_sheets import AGES, largest_jump, model_sheets
from ehmfaces.hub import save_pipeline
from ehmfaces.latents.directions import Directions
from ehmfaces.pipeline import FacePipeline
from ehmfaces.provenance import Provenance
from ehmfaces.sheets import GAP_PX, LINE_PX, add_heading, contact_sheet


@dataclass
class EverythingIsHead:
    """A back-end that cuts nothing away."""

    name: str = "all"

    def predict_alpha(self, pixels):
        return np.ones(pixels.shape[:2], np.float32)


@pytest.fixture
def directed(tiny_pipeline):
    """The tiny generator with directions of sex and age."""
    pipeline = FacePipeline(tiny_pipeline.generator, "tests/tiny", (31, 44, 56))
    axes = np.eye(2, 16, dtype=np.float32)
    pipeline.directions = Directions(("sex", "age"), axes, axes, np.zeros(2, np.float32))
    return pipeline


def draw(pipeline, seeds=range(5)):
    return {sheet.name: sheet for sheet in model_sheets(pipeline, EverythingIsHead(), list(seeds))}


def test_all_sheets_with_their_records(directed, tmp_path):
    sheets = draw(directed)
    groups = {f"{sex}-{age}" for sex in ("men", "women") for age in AGES}
    assert set(sheets) == {"seeds-256", "seeds-160x200", "mixing-coarse", "walk"} | groups
    for sheet in sheets.values():
        record = Provenance.read(sheet.png)
        assert record.synthetic
        assert record.model_hash == directed.model_hash
        assert record.mixing["sheet"] == sheet.name
    path = tmp_path / "a.png"
    path.write_bytes(sheets["seeds-160x200"].png)
    with Image.open(path) as image:
        assert image.size == (5 * 162 - GAP_PX, 200 + 2 * LINE_PX)
    older = Provenance.read(sheets["women-older"].png)
    assert older.wishes == {"sex": "women", "age": AGES["older"]}
    assert older.background == "#1f2c38"
    assert draw(directed) == sheets


def test_without_directions_there_are_no_groups(tiny_pipeline):
    sheets = draw(tiny_pipeline, range(2))
    assert set(sheets) == {"seeds-256", "seeds-160x200", "mixing-coarse", "walk"}
    assert sheets["mixing-coarse"].words == "rows give layers 0-3, columns 4-5"  # no fine ones at 16 px
    with pytest.raises(InputError, match="at least 2 seeds, not 1"):
        draw(tiny_pipeline, [3])


def test_the_largest_jump_is_relative_to_the_mean():
    walk = [Image.new("L", (4, 4), value) for value in (0, 10, 20, 60)]
    assert largest_jump(walk) == pytest.approx(40 / 20)
    assert largest_jump(walk[:3]) == pytest.approx(1)
    assert largest_jump([walk[0]] * 3) == 0


def test_pictures_stand_in_rows_with_words_below():
    red, blue = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
    plain = contact_sheet([red, blue, red], 2)
    assert plain.size == (82, 62)
    assert plain.getpixel((60, 10)) == (0, 0, 255)
    assert plain.getpixel((10, 50)) == (255, 0, 0)
    long = contact_sheet([red, blue], 5, ["a very long caption indeed", ""])
    assert long.size == (82, 30 + LINE_PX)
    assert np.asarray(long)[30:, 41:].min() == 255  # cut off before the next picture
    assert add_heading(plain, "x").size == (82, 62 + LINE_PX)


def test_the_command_writes_them(tiny_pipeline, tmp_path):
    save_pipeline(tiny_pipeline, tmp_path / "model")
    words = ["model", "sheets", "--model", tmp_path / "model", "--out", tmp_path / "out", "--seeds", "0-3"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "largest step between two pictures" in result.output
    assert "No sheets of sex and age" in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "mixing-coarse.png",
        "seeds-160x200.png",
        "seeds-256.png",
        "walk.png",
    ]
