"""Which pictures may go into a training set: facts about one picture, each with a limit and a reason code.

Owns the table of rules and how its facts are measured. Does not know files, the cut-out or what is trained.
What a face looks like is measured in the portrait frame at 256 px, so that it hardly depends on the picture's
resolution.

Not covered: hats and hoods that leave the face free, closed eyes, hands beside the face, sunglasses without
an edge across the nose, make-up and face paint, hair dyed in a colour that hair can have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ehmfaces.data.face_detector import Face
from ehmfaces.types import FloatArray, Pixels

Reason = Literal[
    "broken", "no-face", "several-faces", "no-alpha", "fake-alpha", "age", "child", "aged", "small",
    "profile", "turned", "tilted", "unsure", "cut-off", "covered", "background", "glasses", "odd-hair",
    "grey", "dark", "blurred", "grainy", "duplicate",
]  # fmt: skip
Mask = npt.NDArray[np.bool_]

LOOK_PX = 256
_INNER_EYES, _BROWS_BETWEEN = (133, 362), 168
_ODD_CHROMA, _ODD_HUES = 14.0, (15.0, 100.0)  # CIELAB; hair that grows is between these hues, degrees
_ALPHA_EMPTY, _ALPHA_FULL = 8, 247  # of 255
_ALPHA_SHARES = (0.05, 0.2)  # least share of a cut-out that is empty, and that is full
_OVAL_POINTS = 468


@dataclass(frozen=True)
class Rule:
    """One filter.

    Attributes:
        option: Name of the number, as on the command line.
        reason: What is written when a picture is outside.
        fact: What is measured.
        limit: As it is without a word from the user.
        is_most: Whether the limit is the highest that is allowed, or the lowest.
        words: What the fact is, and its unit.
    """

    option: str
    reason: Reason
    fact: str
    limit: float
    is_most: bool
    words: str


RULES: tuple[Rule, ...] = (
    Rule(
        "max-age", "age", "age", 43, True, "age at the reference date, years, by the birth date in the name"
    ),
    Rule("min-look-age", "child", "look_age", 14.5, False, "age by looks, years"),
    Rule("max-look-age", "aged", "look_age", 54, True, "age by looks, years"),
    Rule("min-eyes-px", "small", "eyes_px", 36, False, "distance of the irises, pixels"),
    Rule("max-yaw", "profile", "yaw_deg", 25, True, "turn of the head to a side, degrees"),
    Rule("max-pitch", "turned", "pitch_deg", 24, True, "turn of the head downwards, degrees"),
    Rule("min-pitch", "turned", "pitch_deg", -11.5, False, "turn of the head downwards, degrees"),
    Rule("max-roll", "tilted", "roll_deg", 18, True, "tilt of the eye line, degrees"),
    Rule("min-score", "unsure", "score", 0.8, False, "how sure the face detector is, 0 to 1"),
    Rule("min-covered-frame", "cut-off", "frame", 0.6, False, "share of the frame that the picture fills"),
    Rule(
        "min-bare-face", "covered", "bare", 0.97, False, "share of the face that the cut-out takes for person"
    ),
    Rule(
        "max-left-over", "background", "left_over", 0.2, True, "alpha beside the head, where none should be"
    ),
    Rule(
        "max-nose-edge", "glasses", "nose_edge", 0.4, True, "edge across the nose between the eyes, contrasts"
    ),
    Rule("max-odd-hair", "odd-hair", "odd_hair", 0.4, True, "share of the hair of no natural colour"),
    Rule("min-colour", "grey", "chroma", 4, False, "mean chroma of the face, CIELAB"),
    Rule("min-light", "dark", "light", 17, False, "median lightness of the face, CIELAB"),
    Rule("min-sharpness", "blurred", "sharpness", 0.1, False, "finest detail of the face, contrasts"),
    Rule("max-grain", "grainy", "grain", 8, True, "noise on the face, levels of 255"),
)
FACTS = tuple(dict.fromkeys(rule.fact for rule in RULES))
MAX_SECOND_FACE = 0.5  # of the first face's size, between the irises


def default_limits() -> dict[str, float]:
    """Return all limits by option."""
    return {rule.option: rule.limit for rule in RULES}


def find_reasons(
    facts: Mapping[str, float], limits: Mapping[str, float]
) -> tuple[tuple[Reason, ...], tuple[str, ...]]:
    """Compare facts with limits.

    Args:
        facts: Values by name; what is missing is not judged.
        limits: By option, all of them.

    Returns:
        Reasons without doubles in the order of `RULES`, and for each broken rule a phrase with both numbers.

    Example:
        >>> find_reasons({"age": 51.0}, default_limits())
        (('age',), ('age 51 above 43',))
    """
    reasons: dict[Reason, None] = {}
    phrases = []
    for rule in RULES:
        value, limit = facts.get(rule.fact), limits[rule.option]
        if value is None or (value <= limit if rule.is_most else value >= limit):
            continue
        reasons[rule.reason] = None
        phrases.append(f"{rule.fact} {value:.4g} {'above' if rule.is_most else 'below'} {limit:g}")
    return tuple(reasons), tuple(phrases)


# --- facts ---------------------------------------------------------------------------------


def judge_faces(faces: Sequence[Face], max_second: float = MAX_SECOND_FACE) -> Reason | None:
    """Tell whether there is no face, or more than one; faces far smaller than the largest do not count."""
    if not faces:
        return "no-face"
    largest = max(face.interocular_px for face in faces)
    count = sum(face.interocular_px > max_second * largest for face in faces)
    return "several-faces" if count > 1 else None


def judge_alpha(pixels: Pixels) -> Reason | None:
    """Tell whether a picture, uint8 [H, W, 3 or 4], has no alpha, or one that cuts nobody out."""
    if pixels.shape[2] == 3:
        return "no-alpha"
    alpha = pixels[..., 3]
    empty, full = (alpha <= _ALPHA_EMPTY).mean(), (alpha >= _ALPHA_FULL).mean()
    return None if empty >= _ALPHA_SHARES[0] and full >= _ALPHA_SHARES[1] else "fake-alpha"


def measure_pose(face: Face) -> dict[str, float]:
    """Return size and turn of a face; to which side it turns does not count."""
    return {
        "eyes_px": face.interocular_px,
        "yaw_deg": abs(face.yaw_deg),
        "pitch_deg": face.pitch_deg,
        "roll_deg": abs(face.roll_deg),
        "score": face.score,
    }


def face_mask(points: FloatArray, side_px: int) -> Mask:
    """Return what lies within the hull of mesh points [478, 2], bool [side_px, side_px]."""
    import cv2

    mask = np.zeros((side_px, side_px), np.uint8)
    hull = cv2.convexHull(points[:_OVAL_POINTS].astype(np.float32))
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    return mask.astype(bool)


def measure_light(lab: FloatArray, face: Mask) -> dict[str, float]:
    """Return lightness and chroma of the face in CIELAB [S, S, 3]."""
    skin = lab[face]
    return {
        "light": float(np.median(skin[:, 0])),
        "chroma": float(np.hypot(skin[:, 1], skin[:, 2]).mean()),
    }


def measure_detail(pixels: Pixels, face: Mask) -> dict[str, float]:
    """Return sharpness and grain of the face in RGB uint8 [S, S, 3].

    Source: Immerkaer, "Fast Noise Variance Estimation" (1996), with the median for the mean.
    """
    import cv2

    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    contrast = max(float(gray[face].std()), 1.0)
    edges = cv2.Laplacian(gray, cv2.CV_32F)[face]
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    noise = np.abs(cv2.filter2D(gray, cv2.CV_32F, kernel))[face]
    return {
        "sharpness": float(np.sqrt((edges**2).mean())) / contrast,
        "grain": float(np.median(noise)) / (0.6745 * 6),  # of a normal distribution; the kernel's length is 6
    }


def measure_nose_edge(pixels: Pixels, face: Mask, points: FloatArray) -> float:
    """Return the strongest level edge between the inner corners of the eyes, in contrasts of the face.

    Frames of glasses cross there, and next to nothing else does.
    """
    import cv2

    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    left, right = (int(points[corner, 0]) for corner in _INNER_EYES)
    left, right = left + 3, right - 3
    if right - left < 4:
        middle = int(points[_BROWS_BETWEEN, 0])
        left, right = middle - 4, middle + 5
    eyes = int(points[list(_INNER_EYES), 1].mean())
    band = gray[max(eyes - 28, 0) : eyes + 22, max(left, 0) : max(right, 1)]
    if band.shape[0] < 2 or not band.shape[1]:
        return 0.0
    steps = np.abs(np.diff(cv2.GaussianBlur(band, (3, 3), 0), axis=0)).mean(axis=1)
    return float(steps.max()) / max(float(gray[face].std()), 8.0)


def measure_odd_hair(lab: FloatArray, hair: Mask) -> float:
    """Return the share of the hair that is green, blue, violet or pink; 0 where there is hardly any."""
    if hair.mean() < 0.0025:
        return 0.0
    colors = lab[hair]
    hue = np.degrees(np.arctan2(colors[:, 2], colors[:, 1]))
    chroma = np.hypot(colors[:, 1], colors[:, 2])
    low, high = _ODD_HUES
    return float(((chroma > _ODD_CHROMA) & ((hue < low) | (hue > high))).mean())


def measure_left_over(alpha: FloatArray) -> float:
    """Return the mean alpha, float32 [S, S], along the frame's upper end and its sides above the chin."""
    side = alpha.shape[0]
    band = np.zeros(alpha.shape, bool)
    wide, high, down = round(0.055 * side), round(0.03 * side), round(0.45 * side)
    band[:down, :wide] = band[:down, -wide:] = band[:high] = True
    return float(alpha[band].mean())
