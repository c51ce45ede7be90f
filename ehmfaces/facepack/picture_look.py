"""Looks at one picture of a pack: what is wrong with it, and what it can be compared by.

Owns the judgement of content, size, transparency and rim. The header is read before any pixel, so that a
small file cannot become a large picture. Does not know packs, names or rosters.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass, field

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from ehmfaces.images import FORMATS as KINDS
from ehmfaces.portrait.formats import FORMATS
from ehmfaces.types import FloatArray, Image, Pixels

LARGEST_PX = 200
MOST_PIXELS = 16_000_000  # more is a bomb: a portrait has 32,000
THUMB_PX = 16
_EXTENSIONS = {"PNG": (".png",), "JPEG": (".jpg", ".jpeg")}
_USUAL_SIZES = frozenset(
    (row.width_px, row.height_px) for row in FORMATS.values() if row.name.startswith("ehm")
)
_RIM_REACH_PX = 9
_FEWEST_RIM_PIXELS = 60
_FEWEST_INNER_PIXELS = 3
# Mean differences between the rim and the person beside it, 0 to 255; see docs/checking.md.
RIM_COLOR_LIMIT = 24.0
RIM_LIGHT_LIMIT = 60.0


@dataclass(frozen=True)
class PictureLook:
    """What one look at a picture gives.

    Attributes:
        troubles: Code and sentence of everything that is wrong.
        right_extension: The extension that the content should have; empty when the present one is right.
        digest: SHA-256 of the visible pixels; empty when the picture cannot be opened.
        thumb: float32 [16 * 16 * 3], the picture laid over grey and made small, 0 to 255.
        text: Text chunks of a PNG.
    """

    troubles: tuple[tuple[str, str], ...]
    right_extension: str = ""
    digest: bytes = b""
    thumb: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    text: dict[str, str] = field(default_factory=dict)


def look_at_picture(
    data: bytes, extension: str, *, wants_alpha: bool = True, is_for_ehm: bool = True
) -> PictureLook:
    """Look at a picture file.

    Args:
        data: Content of the file.
        extension: As the file has it, like ".png".
        wants_alpha: A background on purpose is no trouble when this is False.
        is_for_ehm: Sizes are judged by what this game takes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = PILImage.open(io.BytesIO(data), formats=KINDS)
            if image.width * image.height > MOST_PIXELS:
                text = f"The header announces {image.width} x {image.height} pixels. Leave the file out."
                return PictureLook((("image-bomb", text),))
            image.load()
    except UnidentifiedImageError:
        return PictureLook((("not-a-picture", "The content is no picture that is known. Leave it out."),))
    except PILImage.DecompressionBombError:
        text = "The header announces hundreds of millions of pixels. Leave the file out."
        return PictureLook((("image-bomb", text),))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        text = f"The picture cannot be opened ({str(error)[:60]}). Get it again from where it came from."
        return PictureLook((("damaged-picture", text),))
    return _judge(image, extension, wants_alpha, is_for_ehm)


def _judge(image: Image, extension: str, wants_alpha: bool, is_for_ehm: bool) -> PictureLook:
    troubles: list[tuple[str, str]] = []
    right = _check_extension(image, extension, troubles)
    if is_for_ehm:
        _check_size(image, troubles)
    has_alpha = image.has_transparency_data
    rgba = image.convert("RGBA")
    if max(rgba.size) > 4 * LARGEST_PX:
        rgba.thumbnail((4 * LARGEST_PX, 4 * LARGEST_PX))
    pixels = np.array(rgba)
    if wants_alpha and not has_alpha:
        text = "Without a transparency channel the game shows a box round the head. Cut the person out."
        troubles.append(("no-alpha", text))
    elif has_alpha:
        _check_alpha(pixels, wants_alpha, troubles)
    pixels[pixels[..., 3] == 0] = 0
    text_chunks = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    digest = hashlib.sha256(repr(image.size).encode() + pixels.tobytes()).digest()
    return PictureLook(tuple(troubles), right, digest, make_thumb(pixels), text_chunks)


def _check_extension(image: Image, extension: str, troubles: list[tuple[str, str]]) -> str:
    fitting = _EXTENSIONS.get(image.format or "", ())
    if extension.lower() in fitting:
        return ""
    if fitting:
        text = f"The content is {image.format}. Rename the file to {fitting[0]}."
    else:
        text = f"The content is {image.format}, which the game does not read. Save it as PNG."
    troubles.append(("wrong-extension", text))
    return fitting[0] if fitting else ""


def _check_size(image: Image, troubles: list[tuple[str, str]]) -> None:
    if max(image.size) > LARGEST_PX:
        text = f"{image.width} x {image.height} pixels; the game takes at most 200 x 200. Make it smaller."
        troubles.append(("too-many-pixels", text))
    elif image.size not in _USUAL_SIZES:
        text = f"{image.width} x {image.height} pixels; usual are 160 x 200, 157 x 200 and 184 x 200."
        troubles.append(("unusual-size", text))


def _check_alpha(pixels: Pixels, wants_alpha: bool, troubles: list[tuple[str, str]]) -> None:
    alpha = pixels[..., 3]
    highest = int(alpha.max())
    if highest == 0:
        troubles.append(("empty-picture", "Every pixel is transparent. Make the picture again."))
    elif int(alpha.min()) == 255:
        if wants_alpha:
            text = "The transparency channel hides nothing, so that a box shows. Cut the person out."
            troubles.append(("opaque", text))
    elif highest < 255:
        text = f"The alpha never goes above {highest} of 255, so that the person is see-through. Raise it."
        troubles.append(("weak-alpha", text))
    else:
        color, light = rim_shift(pixels)
        if color > RIM_COLOR_LIMIT or light > RIM_LIGHT_LIMIT:
            text = (
                f"The rim differs from the head beside it by {color:.0f} in colour and {light:.0f} in "
                "brightness (of 255), as where an old background shows through. Cut the person out again."
            )
            troubles.append(("coloured-rim", text))


def rim_shift(pixels: Pixels) -> tuple[float, float]:
    """Return how far the rim's colour is from that of the person beside it, as (colour, brightness).

    Each see-through or outermost pixel is compared with the mean of the opaque inner pixels within nine
    pixels. The differences are averaged with their sign, so that hair and ears, which differ in all
    directions, cancel out, and an old background, which pulls everywhere the same way, does not.

    Args:
        pixels: uint8 [H, W, 4], straight alpha.

    Returns:
        Length of the mean difference without its grey part, and the grey part as an absolute value,
        both 0 to 255; (0, 0) where there is too little rim.
    """
    alpha = pixels[..., 3]
    outside = alpha < 16
    rim = ~outside & ((alpha < 200) | _grow(outside))
    inner = (alpha == 255) & ~_grow(_grow(alpha < 255))
    rows, columns = np.nonzero(rim)
    if len(rows) < _FEWEST_RIM_PIXELS:
        return 0.0, 0.0
    weights = np.empty(pixels.shape, np.int32)
    weights[..., :3] = pixels[..., :3] * inner[..., None]
    weights[..., 3] = inner
    sums = _box_sums(weights, rows, columns, _RIM_REACH_PX)  # [R, 4]
    known = sums[:, 3] >= _FEWEST_INNER_PIXELS
    if known.sum() < _FEWEST_RIM_PIXELS:
        return 0.0, 0.0
    beside = sums[known, :3] / sums[known, 3:]
    mean = (pixels[rows[known], columns[known], :3] - beside).mean(axis=0)
    grey = float(mean.mean())
    return float(np.linalg.norm(mean - grey)), abs(grey)


def _grow(mask: "np.ndarray") -> "np.ndarray":
    """Return a mask with its four neighbours."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _box_sums(values: "np.ndarray", rows: "np.ndarray", columns: "np.ndarray", reach: int) -> "np.ndarray":
    """Return the sums over squares of side 2 * reach + 1 round some places; [R, C].

    Args:
        values: int32 [H, W, C].
        rows: [R].
        columns: [R].
        reach: Pixels on each side.
    """
    height, width, channels = values.shape
    whole = np.zeros((height + 1, width + 1, channels), np.int32)
    values.cumsum(axis=0, out=whole[1:, 1:])
    whole[1:, 1:].cumsum(axis=1, out=whole[1:, 1:])
    top, bottom = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, height)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
    return whole[bottom, right] - whole[top, right] - whole[bottom, left] + whole[top, left]


def make_thumb(pixels: Pixels) -> FloatArray:
    """Return a small copy over grey for comparison, float32 [16 * 16 * 3].

    Args:
        pixels: uint8 [H, W, 4], straight alpha.
    """
    over = PILImage.new("RGBA", (pixels.shape[1], pixels.shape[0]), (128, 128, 128, 255))
    over.alpha_composite(PILImage.fromarray(pixels))
    small = over.convert("RGB").resize((THUMB_PX, THUMB_PX), PILImage.Resampling.BOX)
    thumb: FloatArray = np.asarray(small, dtype=np.float32).reshape(-1)
    return thumb
