"""Finds faces, their 478 mesh points and the turn of the head, offline, the same on every call.

Owns the three networks of MediaPipe's face mesh (Apache-2.0, in `weights/face-detector`) and the way from
a picture to points. Does not know what a good portrait is. Needs the "train" extra (OpenCV, onnxruntime).

Not covered: faces below about 30 px, faces upside down, backs of heads; on drawings and animals it guesses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ehmfaces.errors import MissingExtraError
from ehmfaces.types import FloatArray, Pixels

EMBEDDED_DIR = Path(__file__).resolve().parents[1] / "weights" / "face-detector"
MIN_SCORE = 0.5
RIGHT_IRIS, LEFT_IRIS = 468, 473  # the person's right, so on the left of the picture
MOUTH_CORNERS = (61, 291)

_DETECTION_PX, _MESH_PX, _IRIS_PX = 128, 192, 64
_ANCHOR_GRIDS = ((16, 2), (8, 6))  # side of the grid, boxes at each place
_OVERLAP = 0.3  # two boxes that share more are one face
_BOX_TO_CROP, _EYE_TO_CROP = 1.5, 2.3
_REFINEMENTS = 2  # each looks again where the last points were
_EYES = ((33, 133, False, RIGHT_IRIS), (362, 263, True, LEFT_IRIS))  # corners, whether it is the left one
_ZOOMS = (1.0, 0.6, 1.8)  # parts of the picture's side to look at: whole, middle, with a margin around
_EYE_CORNERS = (33, 263)


@dataclass(frozen=True, eq=False)
class Face:
    """One face.

    Attributes:
        box: Left, top, right, bottom of all mesh points, pixels of the picture; may reach beyond it.
        score: How sure the detector is, 0 to 1.
        presence: How sure the mesh is that it lies on a face, 0 to 1.
        points: float32 [478, 3] of the MediaPipe face mesh and irises: x, y in pixels and depth in the same
            unit, smaller = nearer; irises have no depth of their own (0).
        yaw_deg: Turn of the head; above 0 the nose points to the right of the picture.
        pitch_deg: Above 0 the nose points down.
        roll_deg: Tilt of the eye line; above 0 clockwise in the picture.
    """

    box: tuple[float, float, float, float]
    score: float
    presence: float
    points: npt.NDArray[np.float32]
    yaw_deg: float
    pitch_deg: float
    roll_deg: float

    @property
    def interocular_px(self) -> float:
        """Distance of the irises in pixels."""
        return float(np.linalg.norm(self.points[LEFT_IRIS, :2] - self.points[RIGHT_IRIS, :2]))


class FaceDetector:
    """Detect faces on the CPU, about 10 ms a picture with one face.

    Source: Bazarevsky et al., "BlazeFace" (2019); Kartynnik et al., "Real-time Facial Surface Geometry from
    Monocular Video on Mobile GPUs" (2019); Ablavatski et al., "Real-time Pupil Tracking" (2020).
    """

    def __init__(self, directory: Path | str | None = None) -> None:
        """Load the networks.

        Args:
            directory: Folder with detection.onnx, landmarks.onnx and iris.onnx. None takes the embedded one.

        Raises:
            MissingExtraError: OpenCV or onnxruntime is not installed.
        """
        if find_spec("cv2") is None or find_spec("onnxruntime") is None:
            raise MissingExtraError("train", "Finding faces")
        folder = Path(directory or EMBEDDED_DIR)
        self._detection, self._mesh, self._iris = (
            _load_network(folder / f"{name}.onnx") for name in ("detection", "landmarks", "iris")
        )

    def detect(self, pixels: Pixels, min_score: float = MIN_SCORE) -> list[Face]:
        """Find all faces.

        Args:
            pixels: RGB uint8 [H, W, 3].
            min_score: Least score of the detector and least presence of the mesh, 0 to 1.

        Returns:
            The faces, largest first; empty when there is none.
        """
        for zoom in _ZOOMS:
            boxes = self._find_boxes(pixels, zoom, min_score)
            faces = [self._fit_mesh(pixels, *box) for box in boxes]
            found = _without_doubles([face for face in faces if face.presence >= min_score])
            if found:
                return sorted(found, key=lambda face: -_area(face.box))
        return []

    def _find_boxes(
        self, pixels: Pixels, zoom: float, min_score: float
    ) -> list[tuple[FloatArray, float, float, float]]:
        """Return centre, side and turn (radians) of the squares to look at, and their scores."""
        import cv2

        height, width = pixels.shape[:2]
        side, centre = zoom * max(height, width), np.array([width / 2, height / 2])
        to_picture = _square_matrix(centre, side, 0.0, _DETECTION_PX)
        crop = _cut(pixels, to_picture, side, _DETECTION_PX)
        raw, logits = _run(self._detection, crop * 2 - 1)  # [1, 896, 16], [1, 896, 1]
        scores = 1 / (1 + np.exp(-logits[0, :, 0].clip(-80, 80)))
        sure = np.flatnonzero(scores >= min_score)
        values = raw[0, sure].reshape(-1, 8, 2)
        values[:, [0, *range(2, 8)]] += _anchors()[sure][:, None] * _DETECTION_PX
        corner, size = values[:, 0] - values[:, 1] / 2, values[:, 1]
        boxes = [[float(v) for v in row] for row in np.hstack([corner, size])]
        found = []
        for place in cv2.dnn.NMSBoxes(boxes, scores[sure].tolist(), min_score, _OVERLAP) if boxes else ():
            spots = _apply(to_picture, values[place])
            eyes = spots[3] - spots[2]
            crop_side = float(size[place].max()) * side / _DETECTION_PX * _BOX_TO_CROP
            turn = float(np.arctan2(eyes[1], eyes[0]))
            found.append((spots[0], crop_side, turn, float(scores[sure][place])))
        return found

    def _fit_mesh(self, pixels: Pixels, centre: FloatArray, side: float, turn: float, score: float) -> Face:
        for _ in range(_REFINEMENTS):
            to_picture = _square_matrix(centre, side, turn, _MESH_PX)
            flat, logit = _run(self._mesh, _cut(pixels, to_picture, side, _MESH_PX))
            mesh = flat.reshape(468, 3)
            points = np.hstack([_apply(to_picture, mesh[:, :2]), mesh[:, 2:] * (side / _MESH_PX)])
            centre, side, turn = _crop_around(points)
        irises = [self._fit_iris(pixels, points, *eye[:3]) for eye in _EYES]
        whole = np.vstack([points, *irises]).astype(np.float32)  # [478, 3]
        low, high = whole[:, :2].min(axis=0), whole[:, :2].max(axis=0)
        yaw, pitch = _turn_of(points, turn)
        return Face(
            box=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
            score=score,
            presence=float(1 / (1 + np.exp(-logit.item()))),
            points=whole,
            yaw_deg=yaw,
            pitch_deg=pitch,
            roll_deg=float(np.degrees(turn)),
        )

    def _fit_iris(
        self, pixels: Pixels, points: FloatArray, outer: int, inner: int, is_left: bool
    ) -> FloatArray:
        """Return the centre and four rim points of an iris [5, 3]."""
        first, second = points[outer, :2], points[inner, :2]
        way = second - first
        side = float(np.linalg.norm(way)) * _EYE_TO_CROP
        turn = float(np.arctan2(way[1], way[0]))
        to_picture = _square_matrix((first + second) / 2, side, turn, _IRIS_PX)
        crop = _cut(pixels, to_picture, side, _IRIS_PX)
        flat = _run(self._iris, crop if is_left else crop[:, ::-1])[1]
        iris = flat.reshape(5, 3)[:, :2].copy()
        if not is_left:  # the network knows left eyes only
            iris[:, 0] = _IRIS_PX - iris[:, 0]
        return np.hstack([_apply(to_picture, iris), np.zeros((5, 1))])


# --- networks ------------------------------------------------------------------------------


def _load_network(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(network: Any, crop: FloatArray) -> list[npt.NDArray[np.float32]]:
    name = network.get_inputs()[0].name
    results: list[npt.NDArray[np.float32]] = network.run(
        None, {name: np.ascontiguousarray(crop[None], np.float32)}
    )
    return results


@lru_cache(maxsize=1)
def _anchors() -> FloatArray:
    """Return the places [896, 2] that BlazeFace's outputs are relative to, as shares of the side."""
    places = []
    for side, boxes in _ANCHOR_GRIDS:
        y, x = np.mgrid[0:side, 0:side]
        grid = np.stack([x, y], axis=2).reshape(-1, 2)
        places.append((np.repeat(grid, boxes, axis=0) + 0.5) / side)
    return np.concatenate(places)


# --- geometry ------------------------------------------------------------------------------


def _square_matrix(centre: FloatArray, side: float, turn: float, size_px: int) -> FloatArray:
    """Return the 2 x 3 matrix from a square crop's pixels to the picture's."""
    scale, cos, sin = side / size_px, np.cos(turn), np.sin(turn)
    linear = scale * np.array([[cos, -sin], [sin, cos]])
    return np.hstack([linear, (centre - linear @ np.full(2, size_px / 2))[:, None]])


def _apply(matrix: FloatArray, points: FloatArray) -> FloatArray:
    moved: FloatArray = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _cut(pixels: Pixels, to_picture: FloatArray, side: float, size_px: int) -> FloatArray:
    """Cut a square out, float32 [size_px, size_px, 3], 0 to 1; black where the picture ends."""
    import cv2

    matrix, shrink = to_picture, side / size_px
    if shrink >= 2:  # blur first what the sampling would leave out
        factor = 1 / shrink
        size = tuple(max(1, round(length * factor)) for length in pixels.shape[1::-1])
        ratio = np.array(size) / pixels.shape[1::-1]
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = to_picture * ratio[:, None]
    # OpenCV counts from the middle of the first pixel, points here from its corner
    shifted = matrix.copy()
    shifted[:, 2] += matrix[:, :2] @ np.full(2, 0.5) - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop: FloatArray = cv2.warpAffine(pixels, shifted, (size_px, size_px), flags=flags)
    return crop.astype(np.float32) / 255


def _crop_around(points: FloatArray) -> tuple[FloatArray, float, float]:
    """Return centre, side and turn (radians) of the upright square about a mesh."""
    right, left = points[_EYE_CORNERS[0], :2], points[_EYE_CORNERS[1], :2]
    turn = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    cos, sin = np.cos(turn), np.sin(turn)
    upright = points[:, :2] @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(axis=0), upright.max(axis=0)
    centre = np.array([[cos, -sin], [sin, cos]]) @ ((low + high) / 2)
    return centre, float((high - low).max()) * _BOX_TO_CROP, turn


def _turn_of(points: FloatArray, roll: float) -> tuple[float, float]:
    """Return yaw and pitch in degrees from the mesh's depths, in a picture turned upright."""
    cos, sin = np.cos(roll), np.sin(roll)
    upright = np.hstack([points[:, :2] @ np.array([[cos, -sin], [sin, cos]]), points[:, 2:]])
    across = upright[454] - upright[234]  # from one ear to the other
    down = upright[152] - upright[10]  # from forehead to chin
    yaw = np.degrees(np.arctan2(across[2], across[0]))
    pitch = np.degrees(np.arctan2(down[2], down[1]))
    return float(yaw), float(pitch)


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Leave out meshes that came to lie on a face that is there already; surer ones stay."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.presence * face.score):
        if all(_overlap(face.box, other.box) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the shared area as a share of the smaller box."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    smaller = min(_area(first), _area(second))
    return float(np.prod((high - low).clip(0, None)) / smaller) if smaller else 0.0
