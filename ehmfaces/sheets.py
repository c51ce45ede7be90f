"""Contact sheets: many pictures in rows, with words below them. Owns layout; knows PIL and nothing else."""

from collections.abc import Sequence

from PIL import Image as PILImage
from PIL import ImageDraw

from ehmfaces.types import Image

GAP_PX, LINE_PX = 2, 14
PAPER, INK = (255, 255, 255), (0, 0, 0)


def contact_sheet(images: Sequence[Image], columns: int, captions: Sequence[str] = ()) -> Image:
    """Set pictures of one size into rows.

    Args:
        images: At least one.
        columns: Pictures in a row, at least 1.
        captions: Words below each picture, as many as pictures; empty = none. What is too long is cut off.
    """
    columns = min(columns, len(images))
    width, height = images[0].size
    step_x, step_y = width + GAP_PX, height + GAP_PX + (LINE_PX if captions else 0)
    rows = -(-len(images) // columns)
    sheet = PILImage.new("RGB", (step_x * columns - GAP_PX, step_y * rows - GAP_PX), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        x, y = number % columns * step_x, number // columns * step_y
        if captions:
            draw.text((x + 2, y + height), _shorten(draw, captions[number], width - 2), fill=INK)
        sheet.paste(image.convert("RGB"), (x, y))
    return sheet


def add_heading(sheet: Image, words: str) -> Image:
    """Return a sheet with a line of words above it."""
    whole = PILImage.new("RGB", (sheet.width, sheet.height + LINE_PX), PAPER)
    draw = ImageDraw.Draw(whole)
    draw.text((2, 1), _shorten(draw, words, sheet.width - 2), fill=INK)
    whole.paste(sheet, (0, LINE_PX))
    return whole


def _shorten(draw: ImageDraw.ImageDraw, words: str, width_px: int) -> str:
    while words and draw.textlength(words) > width_px:
        words = words[:-1]
    return words
