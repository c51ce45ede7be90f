"""What can be read from a face: age, sex and smile, the colours of skin and hair.

Owns a small network (in `weights/face-attributes`) and how the columns that `labels` reads are measured.
These are guesses from looks, for balancing and for leaving children out, and no statement about anybody.
Needs the "train" extra.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ehmfaces.data.face_detector import LEFT_IRIS, MOUTH_CORNERS, RIGHT_IRIS, Face
from ehmfaces.data.framing import face_square
from ehmfaces.types import FloatArray, Pixels

EMBEDDED_DIR = Path(__file__).resolve().parents[1] / "weights" / "face-attributes"
_CROP_PX, _MARGIN = 112, 1.25
_CHEEKS = (50, 205, 187, 280, 425, 411)
_FOREHEAD, _LIPS = 10, (13, 14)
_SMILE = 0.88  # tells "happy" from others in 93 % of 554 labelled portraits
_SOLID, _LEAST_HAIR = 0.8, 0.0025  # alpha of hair; share of the picture below which there is none to measure


@dataclass(frozen=True)
class Looks:
    """How old somebody looks, and how sure it is that it is a man.

    Attributes:
        age: Years.
        male: 0 to 1.
    """

    age: float
    male: float


class LooksEstimator:
    """Guess age and sex on the CPU, about 5 ms a face."""

    def __init__(self, directory: Path | str | None = None) -> None:
        """Load the network from a folder with age-sex.onnx; None takes the embedded one."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = Path(directory or EMBEDDED_DIR) / "age-sex.onnx"
        self._network = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def estimate(self, pixels: Pixels, face: Face) -> Looks:
        """Guess from RGB uint8 [H, W, 3] and a face in it."""
        crop = face_square(face, _MARGIN).cut(pixels, _CROP_PX)
        age, male = self._network.run(None, {"crop": crop[None].astype(np.float32) / 255})
        return Looks(float(age.item()), float(male.item()))


def is_smiling(points: FloatArray) -> bool:
    """Tell from mesh points [478, 2] of an upright face whether the mouth is wide and its corners high."""
    apart = max(float(np.linalg.norm(points[LEFT_IRIS] - points[RIGHT_IRIS])), 1e-6)
    corners = points[list(MOUTH_CORNERS)]
    width = float(np.linalg.norm(corners[1] - corners[0]))
    rise = float(points[list(_LIPS), 1].mean() - corners[:, 1].mean())
    return (width + rise) / apart > _SMILE


def skin_angle_deg(lab: FloatArray, points: FloatArray) -> float:
    """Return the individual typology angle of the cheeks, degrees; higher is lighter.

    Args:
        lab: CIELAB [S, S, 3].
        points: Mesh points [478, 2] in its pixels.
    """
    radius = max(1, round(0.018 * lab.shape[0]))
    patches = []
    for x, y in np.rint(points[list(_CHEEKS)]).astype(int).clip(radius, lab.shape[0] - radius - 1):
        patches.append(lab[y - radius : y + radius + 1, x - radius : x + radius + 1].reshape(-1, 3))
    lightness, _, yellow = np.median(np.concatenate(patches), axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, max(float(yellow), 1e-3))))


def hair_mask(
    alpha: FloatArray, face_mask: npt.NDArray[np.bool_], points: FloatArray
) -> npt.NDArray[np.bool_]:
    """Return what is solid, outside the face and no lower than just below its upper end, bool [S, S]."""
    side = alpha.shape[0]
    rows = np.arange(side)[:, None] < points[_FOREHEAD, 1] + 0.06 * side
    hair: npt.NDArray[np.bool_] = (alpha > _SOLID) & ~face_mask & rows
    return hair


def hair_color(lab: FloatArray, hair: npt.NDArray[np.bool_], points: FloatArray) -> FloatArray:
    """Return the median CIELAB [3] of the hair; the skin above the forehead where there is none."""
    if hair.mean() < _LEAST_HAIR:
        x, y = np.rint(points[_FOREHEAD]).astype(int).clip(0, lab.shape[0] - 1)
        return np.asarray(lab[y, x], np.float64)
    return np.asarray(np.median(lab[hair], axis=0), np.float64)


def hair_height(alpha: FloatArray, points: FloatArray) -> float:
    """Return how far the head reaches above the forehead's upper end, in sides of the frame."""
    rows = np.flatnonzero((alpha > 0.5).any(axis=1))
    top = float(rows[0]) if len(rows) else float(points[_FOREHEAD, 1])
    return max(0.0, float(points[_FOREHEAD, 1]) - top) / alpha.shape[0]
