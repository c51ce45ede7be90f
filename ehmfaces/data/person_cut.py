"""A cut-out for photos of any background: a network's person, bounded by the picture's own colours.

Owns GrabCut about one known face. Does not know the network, nor how edges are refined. Needs the "train"
extra (OpenCV).

Not covered: backgrounds in the colours of hair or clothes, and hair that reaches the frame's sides above the
shoulders, which ends there.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from ehmfaces.cutout.base import CutoutBackend
from ehmfaces.types import Alpha, Pixels

_WORK_PX, _ROUNDS = 256, 3
_SURE_EMPTY, _LIKELY = 0.1, 0.5  # alpha of the network
_MARGIN, _SHOULDERS_AT = 0.05, 0.35  # of the side: strip beside the head, and how far down it goes
_SOFT_PX = 1.5


class PersonCut:
    """A cut-out back-end for one portrait frame, with the help of another one."""

    name = "person-cut"

    def __init__(self, backend: CutoutBackend, face: npt.NDArray[np.bool_]) -> None:
        """Take the back-end that finds the person, and what surely is face, bool [S, S]."""
        self.backend, self.face = backend, face

    def predict_alpha(self, pixels: Pixels) -> Alpha:
        """Return alpha float32 [H, W] for a frame RGB uint8 [H, W, 3]: the lesser of both opinions."""
        alpha = self.backend.predict_alpha(pixels)
        size = (pixels.shape[1], pixels.shape[0])
        allowed = np.asarray(PILImage.fromarray(self._find_person(pixels, alpha)).resize(size))
        lesser: Alpha = np.minimum(alpha, allowed)
        return lesser

    def _find_person(self, pixels: Pixels, alpha: Alpha) -> Alpha:
        """Return float32 [_WORK_PX, _WORK_PX], 1 on the person.

        Source: Rother et al., "GrabCut" (2004).
        """
        import cv2

        side = (_WORK_PX, _WORK_PX)
        small = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA)
        hint = cv2.resize(alpha, side, interpolation=cv2.INTER_AREA)
        mask = np.where(hint > _LIKELY, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        mask[hint < _SURE_EMPTY] = cv2.GC_BGD
        strip, down = round(_MARGIN * _WORK_PX), round(_SHOULDERS_AT * _WORK_PX)
        mask[:down, :strip] = mask[:down, -strip:] = cv2.GC_BGD
        mask[cv2.resize(self.face.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0] = cv2.GC_FGD
        if not (mask == cv2.GC_FGD).any():
            return hint
        cv2.setRNGSeed(0)  # of this thread: the same picture, the same cut
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, mask, None, *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
        person = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.float32)
        soft: Alpha = cv2.GaussianBlur(person, (0, 0), _SOFT_PX)
        return soft
