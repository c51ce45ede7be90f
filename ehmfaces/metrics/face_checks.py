"""What a well-formed frontal portrait is: facts measured on one face, each with a limit.

Owns the facts, their limits and the reason codes. Does not know where pictures come from or how many there
are. Everything about the look of a face is measured at the size that the game shows (irises 36 px apart), so
that it hardly depends on the resolution of the picture.

The limits lie outside what 554 hand-picked portraits have (docs/metrics.md), so that 99 % of them pass all.

Not covered: two faces laid over each other, patches and stains that are no stronger than the shadows, locks
and highlights of real portraits, teeth, ears, hair, neck and clothes, and whether anybody would believe it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ehmfaces.data.face_detector import LEFT_IRIS, MOUTH_CORNERS, RIGHT_IRIS, Face, FaceDetector
from ehmfaces.types import FloatArray, Pixels

Reason = Literal[
    "not-one-face", "unsure", "turned", "frame", "askew", "eyes", "mouth", "nose", "soft", "stain", "unsteady"
]

# fact -> reason, lowest, highest; None = no limit on that side
LIMITS: Mapping[str, tuple[Reason, float | None, float | None]] = {
    "score": ("unsure", 0.87, None),
    "presence": ("unsure", 0.999998, None),
    "yaw_deg": ("turned", -30.0, 30.0),
    "pitch_deg": ("turned", -13.0, 26.0),
    "roll_deg": ("frame", -3.0, 3.0),
    "eyes_x": ("frame", 0.45, 0.55),
    "eyes_y": ("frame", 0.46, 0.52),
    "scale": ("frame", 0.205, 0.27),
    "skew_corners_deg": ("askew", None, 3.7),
    "skew_brows_deg": ("askew", None, 5.0),
    "skew_nose_deg": ("askew", None, 6.0),
    "skew_mouth_deg": ("askew", None, 8.0),
    "eye_contrast": ("eyes", 8.5, None),
    "eye_contrast_gap": ("eyes", None, 1.6),
    "eye_detail": ("eyes", 1.55, None),
    "eye_detail_gap": ("eyes", None, 1.3),
    "eye_opening": ("eyes", 0.165, None),
    "eye_opening_gap": ("eyes", None, 0.32),
    "squint": ("eyes", None, 0.53),
    "mouth_contrast": ("mouth", 16.0, None),
    "mouth_detail": ("mouth", 2.2, None),
    "mouth_edge": ("mouth", 12.5, None),
    "nose_contrast": ("nose", 12.0, None),
    "nose_detail": ("nose", 1.65, None),
    "detail": ("soft", 1.65, None),
    "detail_gap": ("soft", None, 1.1),
    "skin_lightness": ("stain", None, 37.0),
    "skin_red": ("stain", None, 13.5),
    "skin_green": ("stain", None, 13.3),
    "skin_yellow": ("stain", None, 17.5),
    "skin_blue": ("stain", None, 20.5),
    "unsteadiness": ("unsteady", None, 0.115),
}

# Indices into the 478 points of the MediaPipe face mesh; one side means the person's right.
_OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
_OVAL += [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
_EYE = [33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7]
_BROW = [70, 63, 105, 66, 107, 55, 65, 52, 53, 46]
_LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
_NOSE = [129, 98, 97, 2, 326, 327, 358, 4]
_EYE_CORNERS, _UPPER_LID, _LOWER_LID, _NOSE_TIP, _BROW_TOP = (33, 133), 159, 145, 1, 105
_CHIN, _FOREHEAD = 152, 10
# What is level in a level face, from the person's right to the left, and its fact.
_LEVELS = {"corners": (33, 263), "brows": (105, 334), "nose": (129, 358), "mouth": MOUTH_CORNERS}
# The same places of the person's two sides.
_TWINS = [(RIGHT_IRIS, LEFT_IRIS), (33, 263), (133, 362), MOUTH_CORNERS, (129, 358), (234, 454), (58, 288)]
_TWINS += [(index, index) for index in (_NOSE_TIP, 0, 17, _CHIN, _FOREHEAD)]

_SIDE_PX, _EYES_APART_PX, _EYES_AT_PX = 160, 36.0, (80.0, 78.4)  # eyes where the portraits' frame has them
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a picture.

    Attributes:
        reasons: Without doubles, in the order of `LIMITS`; empty for a well-formed face.
        facts: Measured values by name; empty when there is not exactly one face.
    """

    reasons: tuple[Reason, ...]
    facts: Mapping[str, float]


class FaceChecker:
    """Checks portraits, about 80 ms each on one core."""

    def __init__(self, detector: FaceDetector | None = None) -> None:
        """Load the detector.

        Raises:
            MissingExtraError: OpenCV or onnxruntime is not installed.
        """
        self.detector = detector or FaceDetector()

    def check(self, pixels: Pixels) -> Verdict:
        """Check a portrait RGB uint8 [S, S, 3] in the frame of the game's packs."""
        mirrored = np.ascontiguousarray(pixels[:, ::-1])
        found, twins = self.detector.detect(pixels), self.detector.detect(mirrored)
        if len(found) != 1 or len(twins) != 1:
            return Verdict(("not-one-face",), {})
        facts = measure_face(pixels, found[0], twins[0])
        return Verdict(find_reasons(facts), facts)


def find_reasons(facts: Mapping[str, float]) -> tuple[Reason, ...]:
    """Return the reasons why facts are outside `LIMITS`, without doubles."""
    reasons: dict[Reason, None] = {}
    for name, (reason, low, high) in LIMITS.items():
        value = facts[name]
        if not ((low is None or value >= low) and (high is None or value <= high)):  # also not a number
            reasons[reason] = None
    return tuple(reasons)


def measure_face(pixels: Pixels, face: Face, twin: Face) -> dict[str, float]:
    """Measure all facts of a face.

    Args:
        pixels: RGB uint8 [S, S, 3].
        face: What the detector finds in it.
        twin: What it finds in its mirror image; the person's left side is measured there.
    """
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    right, left = _Aligned(pixels, face), _Aligned(mirrored, twin)
    sides = _measure_side(right), _measure_side(left)
    return {
        **_measure_pose(face, pixels.shape[1]),
        **_measure_skew(right.points),
        **_join_sides(*sides),
        **_measure_middle(right),
        "unsteadiness": _measure_unsteadiness(face, twin, pixels.shape[1]),
    }


class _Aligned:
    """A face moved, turned and scaled so that its irises lie where the frame has them.

    Attributes:
        lab: CIELAB float32 [160, 160, 3].
        points: float64 [478, 2] in its pixels.
    """

    def __init__(self, pixels: Pixels, face: Face) -> None:
        import cv2

        height, width = pixels.shape[:2]
        shrink = min(1.0, _EYES_APART_PX / max(face.interocular_px, 1e-6))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
        points = face.points[:, :2].astype(np.float64) * (np.array(size) / (width, height))
        first, second = points[RIGHT_IRIS], points[LEFT_IRIS]
        way = (second - first) / max(float(np.linalg.norm(second - first)), 1e-6)
        scale = _EYES_APART_PX / max(float(np.linalg.norm(second - first)), 1e-6)
        linear = scale * np.array([[way[0], way[1]], [-way[1], way[0]]])
        shift = np.array(_EYES_AT_PX) - linear @ ((first + second) / 2)
        self.points = points @ linear.T + shift
        # OpenCV counts from the middle of the first pixel, points here from its corner
        matrix = np.hstack([linear, (shift + linear @ np.full(2, 0.5) - 0.5)[:, None]])
        moved = cv2.warpAffine(
            small, matrix, (_SIDE_PX, _SIDE_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        self.lab: Any = cv2.cvtColor(moved.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)

    @property
    def lightness(self) -> FloatArray:
        """L* [160, 160]."""
        values: FloatArray = self.lab[..., 0]
        return values

    def inside(self, outline: list[int], grow_px: int = 0) -> _Mask:
        """Return what lies within an outline of mesh points, made wider or (below 0) narrower."""
        import cv2

        mask = np.zeros((_SIDE_PX, _SIDE_PX), np.uint8)
        cv2.fillPoly(mask, [np.rint(self.points[outline]).astype(np.int32)], 1)
        kernel = np.ones((2 * abs(grow_px) + 1,) * 2, np.uint8)
        changed = cv2.dilate(mask, kernel) if grow_px > 0 else cv2.erode(mask, kernel)
        return changed.astype(bool)

    def right_half(self) -> _Mask:
        """Return what lies left of the nose's tip in the picture."""
        columns: _Mask = np.arange(_SIDE_PX)[None] <= self.points[_NOSE_TIP, 0] + 2
        return np.broadcast_to(columns, (_SIDE_PX, _SIDE_PX))


def _measure_pose(face: Face, side_px: int) -> dict[str, float]:
    eyes = face.points[[RIGHT_IRIS, LEFT_IRIS], :2].mean(axis=0) / side_px
    mouth = face.points[list(MOUTH_CORNERS), :2].mean(axis=0) / side_px
    return {
        "score": face.score,
        "presence": face.presence,
        "yaw_deg": face.yaw_deg,
        "pitch_deg": face.pitch_deg,
        "roll_deg": face.roll_deg,
        "eyes_x": float(eyes[0]),
        "eyes_y": float(eyes[1]),
        # as the portraits' frame defines it, in sides of the picture
        "scale": max(face.interocular_px / side_px, 0.95 * float(np.linalg.norm(mouth - eyes))),
    }


def _measure_skew(points: FloatArray) -> dict[str, float]:
    """Return by how many degrees brows, eye corners, nose and mouth are not level with the irises."""
    skew = {}
    for name, (right, left) in _LEVELS.items():
        x, y = points[left] - points[right]
        skew[f"skew_{name}_deg"] = abs(float(np.degrees(np.arctan2(y, x))))
    return skew


def _measure_side(face: _Aligned) -> dict[str, float]:
    """Measure the person's right side."""
    eye = face.inside(_EYE, 2)
    outer, inner = (face.points[corner] for corner in _EYE_CORNERS)
    width = max(float(np.linalg.norm(inner - outer)), 1e-6)
    iris = (face.points[RIGHT_IRIS] - (outer + inner) / 2) @ (inner - outer) / width**2
    fine = face.lightness - _blur(face.lightness, 2.0)
    half = face.inside(_OVAL, -2) & (np.arange(_SIDE_PX)[None] < face.points[_NOSE_TIP, 0])
    return {
        "eye_contrast": _spread(face.lightness, eye, 5, 95),
        "eye_detail": float((face.lightness - _blur(face.lightness, 1.5))[eye].std()) if eye.any() else 0.0,
        "eye_opening": float(np.linalg.norm(face.points[_UPPER_LID] - face.points[_LOWER_LID])) / width,
        "iris": float(iris),  # above 0 towards the nose, in widths of the eye
        "detail": float(fine[half].std()) if half.any() else 0.0,
        **_measure_skin(face),
    }


def _measure_skin(face: _Aligned) -> dict[str, float]:
    """Return how far spots of some pixels' width stand out of the skin around them, in CIELAB."""
    oval = face.inside(_OVAL)
    parts = face.inside(_EYE, 3) | face.inside(_LIPS, 3) | face.inside(_BROW, 2)
    weight = (oval & ~parts).astype(np.float32)
    blurred = [
        _blur(face.lab * weight[..., None], width) / (_blur(weight, width) + 1e-3)[..., None]
        for width in (2.5, 9.0)
    ]
    below_brow = np.arange(_SIDE_PX)[:, None] > face.points[_BROW_TOP, 1]
    skin = face.inside(_OVAL, -4) & ~parts & below_brow & face.right_half()
    spots = (blurred[0] - blurred[1])[skin]  # [N, 3]
    if len(spots) < 20:  # hardly any half of a face
        return dict.fromkeys(("skin_lightness", "skin_red", "skin_green", "skin_yellow", "skin_blue"), 0.0)
    low, high = np.percentile(spots, 1, axis=0), np.percentile(spots, 99, axis=0)
    return {
        "skin_lightness": float(max(-low[0], high[0])),
        "skin_red": float(high[1]),
        "skin_green": float(-low[1]),
        "skin_yellow": float(high[2]),
        "skin_blue": float(-low[2]),
    }


def _join_sides(right: dict[str, float], left: dict[str, float]) -> dict[str, float]:
    """Take the worse side, and how different they are (natural logarithm of the ratio)."""
    facts = {"squint": abs(right["iris"] + left["iris"])}  # eyes that look one way have opposite signs
    for name in ("eye_contrast", "eye_detail", "eye_opening", "detail"):
        worse, better = sorted((right[name], left[name]))
        facts[name] = worse
        facts[f"{name}_gap"] = float(np.log(max(better, 1e-3) / max(worse, 1e-3)))
    for name in right:
        if name.startswith("skin_"):
            facts[name] = max(right[name], left[name])
    return facts


def _measure_middle(face: _Aligned) -> dict[str, float]:
    import cv2

    lips, nose = face.inside(_LIPS, 2), face.inside(_NOSE, 2)
    fine = face.lightness - _blur(face.lightness, 1.5)
    slope = np.abs(cv2.Sobel(_blur(face.lightness, 1.0), cv2.CV_32F, 0, 1, ksize=3))
    return {
        "mouth_contrast": _spread(face.lightness, lips, 5, 95),
        "mouth_detail": float(fine[lips].std()) if lips.any() else 0.0,
        "mouth_edge": float(slope[lips].mean()) if lips.any() else 0.0,
        "nose_contrast": _spread(face.lightness, nose, 5, 90),
        "nose_detail": float(fine[nose].std()) if nose.any() else 0.0,
    }


def _measure_unsteadiness(face: Face, twin: Face, side_px: int) -> float:
    """Return how far the detector's points of the mirror image lie from the picture's, at most.

    In distances of the irises. On a face that is clear it is small; on one that is not the networks guess.
    """
    back = twin.points[:, :2] * [-1, 1] + [side_px, 0]
    ways = [face.points[a, :2] - back[b] for pair in _TWINS for a, b in (pair, pair[::-1])]
    return float(np.linalg.norm(ways, axis=1).max()) / max(face.interocular_px, 1e-6)


def _blur(values: FloatArray, width_px: float) -> FloatArray:
    import cv2

    blurred: FloatArray = cv2.GaussianBlur(values, (0, 0), width_px)
    return blurred


def _spread(values: FloatArray, where: _Mask, low: float, high: float) -> float:
    """Return the difference of two percentiles, 0 where there is next to nothing."""
    if where.sum() < 5:
        return 0.0
    bottom, top = np.percentile(values[where], [low, high])
    return float(top - bottom)
