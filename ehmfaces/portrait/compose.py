"""From a cut-out square to the finished portrait. Owns framing and background; knows no model."""

from ehmfaces.images import composite, resize
from ehmfaces.portrait.formats import PortraitFormat
from ehmfaces.types import Image


def compose_portrait(
    cutout: Image, portrait_format: PortraitFormat, background: tuple[int, int, int] | None
) -> Image:
    """Frame a cut-out person.

    Args:
        cutout: RGBA in the generator's frame, any size.
        portrait_format: Size of the result.
        background: Colour behind the person, 0 to 255, or None for transparent.

    Returns:
        RGBA when the background is None, otherwise RGB, of exactly the format's size.
    """
    width = portrait_format.width_px or cutout.width
    height = portrait_format.height_px or cutout.height
    framed = resize(cutout.convert("RGBA").crop(frame_box(cutout.size, (width, height))), (width, height))
    return framed if background is None else composite(framed, background)


def frame_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest middle part (left, top, right, bottom) of a picture with the target's aspect.

    Example:
        >>> frame_box((256, 256), (160, 200))
        (26, 0, 231, 256)
    """
    width, height = size
    aspect = target[0] / target[1]
    if width > height * aspect:
        part = round(height * aspect)
        left = (width - part + 1) // 2
        return left, 0, left + part, height
    part = round(width / aspect)
    return 0, height - part, width, height  # shoulders stay, empty space above the head goes
