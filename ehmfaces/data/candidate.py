"""One picture of unknown origin -> an aligned, cut-out portrait with labels, or reasons why not.

Owns the order of the steps for one picture. Does not know files, other pictures or the training set. Needs
the "train" extra.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.cutout.base import CutoutBackend, cut_out
from ehmfaces.data.attributes import (
    Looks,
    LooksEstimator,
    hair_color,
    hair_height,
    hair_mask,
    is_smiling,
    skin_angle_deg,
)
from ehmfaces.data.face_detector import Face, FaceDetector
from ehmfaces.data.framing import Square, portrait_square
from ehmfaces.data.person_cut import PersonCut
from ehmfaces.data.quality import (
    LOOK_PX,
    Reason,
    default_limits,
    face_mask,
    find_reasons,
    judge_alpha,
    judge_faces,
    measure_detail,
    measure_left_over,
    measure_light,
    measure_nose_edge,
    measure_odd_hair,
    measure_pose,
)
from ehmfaces.errors import ImageError
from ehmfaces.images import GAME_BACKGROUND, composite, open_image, resize
from ehmfaces.types import FloatArray, Image, Pixels

Sex = Literal["auto", "male", "female"]
THUMBNAIL_PX = 96


@dataclass(frozen=True)
class PrepareOptions:
    """What the preparation of a training set may vary.

    Attributes:
        size_px: Side of the portraits.
        background: Colour under cut-outs, sRGB, in thumbnails and the packed file.
        reference_date: The day on which people are as old as `max-age` asks.
        sex: For everybody; "auto" = by looks.
        needs_alpha: Whether pictures without a cut-out are left out; else they are cut out.
        limits: By option of `quality.RULES`, all of them.
    """

    size_px: int = 256
    background: tuple[int, int, int] = GAME_BACKGROUND
    reference_date: date = date(2026, 1, 1)
    sex: Sex = "auto"
    needs_alpha: bool = False
    limits: Mapping[str, float] = field(default_factory=default_limits)


@dataclass(frozen=True, eq=False)
class Candidate:
    """What became of one picture.

    Attributes:
        reasons: Why it is left out; empty for a portrait.
        phrases: The same with numbers.
        facts: What was measured until it was clear.
        thumbnail: Image RGB of THUMBNAIL_PX; None where there is no picture.
        portrait: RGBA, size_px square, straight alpha; None when it is left out.
        points: float16 [478, 2] in the portrait's pixels.
        labels: Columns of labels.csv.
    """

    reasons: tuple[Reason, ...] = ()
    phrases: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)
    thumbnail: Image | None = None
    portrait: Image | None = None
    points: npt.NDArray[np.float16] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class PortraitMaker:
    """Makes portraits of pictures; the same picture gives the same portrait."""

    def __init__(self, backend: CutoutBackend, options: PrepareOptions) -> None:
        """Load the networks.

        Args:
            backend: Cuts out the people of pictures without alpha.
            options: What may vary.

        Raises:
            MissingExtraError: OpenCV or onnxruntime is not installed.
        """
        self.backend, self.options = backend, options
        self.detector, self.looks = FaceDetector(), LooksEstimator()

    def make(self, picture: bytes, birth_date: date | None = None) -> Candidate:
        """Make a portrait of a picture file.

        Args:
            picture: Content of the file.
            birth_date: Of the person, when it is known.
        """
        try:
            pixels = np.asarray(open_image(picture))
        except ImageError as error:
            return Candidate(("broken",), (str(error),))
        years = None if birth_date is None else age_on(birth_date, self.options.reference_date)
        facts: dict[str, float] = {} if years is None else {"age": float(years)}
        no_alpha = judge_alpha(pixels)
        seen = _flatten(pixels, self.options.background)
        faces = self.detector.detect(seen)
        wrong = (no_alpha if self.options.needs_alpha else None, judge_faces(faces))
        first = tuple(reason for reason in wrong if reason is not None)
        if not faces or first:
            reasons, phrases = find_reasons(facts, self.options.limits)
            return Candidate((*first, *reasons), phrases, facts, _shrink(seen))
        return self._make_of_face(pixels if no_alpha is None else seen, seen, faces[0], facts)

    def _make_of_face(self, pixels: Pixels, seen: Pixels, face: Face, facts: dict[str, float]) -> Candidate:
        """Judge what is cheap to measure first; only what passes is cut out."""
        looks = self.looks.estimate(seen, face)
        square = portrait_square(face)
        shape = (pixels.shape[0], pixels.shape[1])
        look = square.cut(seen, LOOK_PX)
        points = square.to_own(face.points[:, :2].astype(np.float64), LOOK_PX)
        lab, inside, mask = _lab(look), square.inside(shape, LOOK_PX), face_mask(points, LOOK_PX)
        facts |= measure_pose(face) | {"look_age": looks.age, "frame": float(inside.mean())}
        facts |= measure_light(lab, mask) | measure_detail(look, mask)
        facts["nose_edge"] = measure_nose_edge(look, mask, points)
        reasons, phrases = find_reasons(facts, self.options.limits)
        if reasons:
            return Candidate(reasons, phrases, facts, _shrink(look))
        portrait = self._cut_out(pixels, square, mask)
        alpha = np.asarray(resize(portrait, (LOOK_PX, LOOK_PX)))[..., 3].astype(np.float32) / 255
        hair = hair_mask(alpha, mask, points) & inside
        facts |= {
            "bare": float(alpha[mask].mean()),
            "left_over": measure_left_over(alpha),
            "odd_hair": measure_odd_hair(lab, hair),
        }
        reasons, phrases = find_reasons(facts, self.options.limits)
        if reasons:
            return Candidate(reasons, phrases, facts, _shrink(look))
        labels = self._label(lab, alpha, hair, points, looks, facts)
        own = square.to_own(face.points[:, :2].astype(np.float64), self.options.size_px).astype(np.float16)
        flat = np.asarray(composite(portrait, self.options.background))
        return Candidate((), (), facts, _shrink(flat), portrait, own, labels)

    def _cut_out(self, pixels: Pixels, square: Square, face: npt.NDArray[np.bool_]) -> Image:
        """Return the portrait; where the picture ends at the sides or above, so does the person, softly."""
        size = self.options.size_px
        image = PILImage.fromarray(square.cut(pixels, size))
        if image.mode == "RGB":
            image = cut_out(image, PersonCut(self.backend, face))
        values = np.array(image)
        fade = square.fade((pixels.shape[0], pixels.shape[1]), size)
        values[..., 3] = np.rint(values[..., 3] * fade).astype(np.uint8)
        return PILImage.fromarray(values)

    def _label(
        self,
        lab: FloatArray,
        alpha: FloatArray,
        hair: npt.NDArray[np.bool_],
        points: FloatArray,
        looks: Looks,
        facts: Mapping[str, float],
    ) -> dict[str, str]:
        color = hair_color(lab, hair, points)
        sex = self.options.sex
        return {
            "sex": sex if sex != "auto" else "male" if looks.male >= 0.5 else "female",
            "age": f"{facts.get('age', looks.age):.0f}",
            "expression": "happy" if is_smiling(points) else "neutral",
            "skin_ita_deg": f"{skin_angle_deg(lab, points):.1f}",
            **{f"hair_{channel}": f"{value:.1f}" for channel, value in zip("Lab", color, strict=True)},
            "hair_height": f"{hair_height(alpha, points):.3f}",
        }


def age_on(birth_date: date, day: date) -> int:
    """Return a person's age in whole years.

    Example:
        >>> age_on(date(2000, 3, 2), date(2026, 3, 1)), age_on(date(2000, 3, 2), date(2026, 3, 2))
        (25, 26)
    """
    return day.year - birth_date.year - ((day.month, day.day) < (birth_date.month, birth_date.day))


def encode_webp(image: Image) -> bytes:
    """Return a lossless WebP that keeps the colours under what is transparent."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, exact=True, quality=60, method=3)
    return buffer.getvalue()


def _flatten(pixels: Pixels, background: tuple[int, int, int]) -> Pixels:
    if pixels.shape[2] == 3:
        return pixels
    return np.asarray(composite(PILImage.fromarray(pixels), background))


def _shrink(pixels: Pixels) -> Image:
    """Return a picture as a square of THUMBNAIL_PX, with white beside or above what is not square."""
    image = PILImage.fromarray(pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), PILImage.Resampling.LANCZOS)
    sheet = PILImage.new("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), (255, 255, 255))
    sheet.paste(image, ((THUMBNAIL_PX - image.width) // 2, (THUMBNAIL_PX - image.height) // 2))
    # a small portrait is made larger, or it could not be seen on the sheet
    if max(image.size) < THUMBNAIL_PX:
        return resize(PILImage.fromarray(pixels), (THUMBNAIL_PX, THUMBNAIL_PX))
    return sheet


def _lab(pixels: Pixels) -> Any:
    """Return CIELAB float32 [H, W, 3] of RGB uint8."""
    import cv2

    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
