"""Squares of any place, size and turn in a picture, and the one that a portrait shows.

Owns the portrait frame (side S, eye line level at 0.49 S, face in the middle, s = 0.225 S, where s is the
larger of the irises' distance and 0.95 of the way from eyes to mouth), and cutting it out. Does not know who
is in the picture or what the background is. Needs the "train" extra (OpenCV).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.data.face_detector import LEFT_IRIS, MOUTH_CORNERS, RIGHT_IRIS, Face
from ehmfaces.images import premultiply, resize, unpremultiply
from ehmfaces.types import Alpha, FloatArray, Pixels

EYES_AT, FACE_SIZE, EYES_TO_MOUTH = 0.49, 0.225, 0.95
_EARS = (234, 454)
_FEATHER, _TOLERANCE = 0.02, 0.01  # of the side: soft rim where the picture ends, and what counts as its end


@dataclass(frozen=True, eq=False)
class Square:
    """A square part of a picture, which may reach beyond it.

    Attributes:
        centre: float64 [2], x and y in the picture's pixels.
        side_px: In the picture's pixels.
        turn: Radians; above 0 clockwise.
    """

    centre: FloatArray
    side_px: float
    turn: float

    def cut(self, pixels: Pixels, size_px: int) -> Pixels:
        """Cut out and turn upright at the picture's own scale, then resize with Lanczos.

        Args:
            pixels: uint8 [H, W, 3] or [H, W, 4] (straight alpha).
            size_px: Side of the result.

        Returns:
            uint8 [size_px, size_px, C]. Beyond the picture its border goes straight on.
        """
        import cv2

        own = max(1, round(self.side_px))
        matrix = self._matrix(own)
        # OpenCV counts from the middle of the first pixel, points here from its corner
        matrix[:, 2] += matrix[:, :2] @ np.full(2, 0.5) - 0.5
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        has_alpha = pixels.shape[2] == 4
        values = premultiply(pixels) if has_alpha else pixels
        cut = cv2.warpAffine(values, matrix, (own, own), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        cut = unpremultiply(cut.clip(0, 1)) if has_alpha else cut
        return np.asarray(resize(PILImage.fromarray(cut), (size_px, size_px)))

    def to_own(self, points: FloatArray, size_px: int) -> FloatArray:
        """Return points [N, 2] of the picture in the pixels of a cut of that size."""
        matrix = self._matrix(size_px)
        moved: FloatArray = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        return moved

    def inside(self, shape: tuple[int, int], size_px: int) -> npt.NDArray[np.bool_]:
        """Tell which pixels [size_px, size_px] of a cut are within a picture of height and width `shape`."""
        x, y = self._places(size_px)
        within: npt.NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= shape[1]) & (y <= shape[0])
        return within

    def fade(self, shape: tuple[int, int], size_px: int) -> Alpha:
        """Return float32 [size_px, size_px]: 1 inside, 0 beyond the picture's left, right and upper end.

        The end is soft, and only there where it lies within the square. Below, what stands there goes on.
        """
        x, y = self._places(size_px)
        alpha = np.ones((size_px, size_px), np.float32)
        for depth in (x, shape[1] - x, y):
            if depth.min() < -_TOLERANCE * self.side_px:
                alpha *= (depth / (_FEATHER * self.side_px)).clip(0, 1).astype(np.float32)
        return alpha

    def _matrix(self, size_px: int) -> FloatArray:
        """Return the 2 x 3 matrix from a cut's pixels to the picture's."""
        scale, cos, sin = self.side_px / size_px, np.cos(self.turn), np.sin(self.turn)
        linear = scale * np.array([[cos, -sin], [sin, cos]])
        return np.hstack([linear, (self.centre - linear @ np.full(2, size_px / 2))[:, None]])

    def _places(self, size_px: int) -> FloatArray:
        """Return x and y in the picture [2, size_px, size_px] of the middle of each pixel of a cut."""
        y, x = np.mgrid[0:size_px, 0:size_px] + 0.5
        matrix = self._matrix(size_px)
        places: FloatArray = np.tensordot(matrix[:, :2], np.stack([x, y]), 1) + matrix[:, 2, None, None]
        return places


def portrait_square(face: Face) -> Square:
    """Return the square that a portrait of this face shows."""
    points = face.points[:, :2].astype(np.float64)
    eyes = points[[RIGHT_IRIS, LEFT_IRIS]].mean(axis=0)
    way = points[LEFT_IRIS] - points[RIGHT_IRIS]
    turn = float(np.arctan2(way[1], way[0]))
    right, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    mouth = points[list(MOUTH_CORNERS)].mean(axis=0)
    side = max(face.interocular_px, EYES_TO_MOUTH * float(np.linalg.norm(mouth - eyes)), 1.0) / FACE_SIZE
    middle = points[list(_EARS)].mean(axis=0)
    centre = eyes + right * float((middle - eyes) @ right) + down * (0.5 - EYES_AT) * side
    return Square(centre, side, turn)


def face_square(face: Face, margin: float) -> Square:
    """Return an upright square about a face's box, `margin` times as large."""
    left, top, right, bottom = face.box
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    return Square(centre, max(right - left, bottom - top, 1.0) * margin, float(np.radians(face.roll_deg)))
