"""The sheet of made pictures beside the training pictures that they are most like.

Owns the choice of the pairs and their layout. Does not know what likeness is: it gets distances.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from ehmfaces.types import FloatArray, Image

_CELL_PX, _LINE_PX, _COLUMNS = 160, 16, 5


def nearest_pairs(distances: FloatArray, count: int = 10) -> list[int]:
    """Return the positions of the smallest distances [N], smallest first."""
    return [int(index) for index in np.argsort(distances, kind="stable")[:count]]


def pair_sheet(pairs: Sequence[tuple[Image, Image, str]]) -> Image:
    """Set pairs (made, real, words below) into rows of five, each made picture left of the real one."""
    rows = -(-len(pairs) // _COLUMNS)
    width, height = 2 * _CELL_PX + 8, _CELL_PX + _LINE_PX
    sheet = PILImage.new("RGB", (width * _COLUMNS, height * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (made, real, words) in enumerate(pairs):
        x, y = number % _COLUMNS * width, number // _COLUMNS * height
        for column, image in enumerate((made, real)):
            small = image.convert("RGB").resize((_CELL_PX, _CELL_PX), PILImage.Resampling.LANCZOS)
            sheet.paste(small, (x + column * _CELL_PX, y))
        draw.text((x + 4, y + _CELL_PX + 2), words, fill="black")
    return sheet
