"""A rembg session behind our protocol. Optional extra "rembg".

Owns the list of sessions that are offered: only those that run on this machine. Two of rembg's session
types send pictures to a remote service; they are never loaded.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image as PILImage

from ehmfaces.errors import InputError, MissingExtraError, ModelError
from ehmfaces.types import Alpha, Pixels

SESSIONS = (
    "isnet-general-use",
    "u2net",
    "u2netp",
    "u2net_human_seg",
    "silueta",
    "birefnet-portrait",
    "birefnet-general-lite",
)


class RembgBackend:
    """Predict alpha with one of rembg's local models."""

    name = "rembg"

    def __init__(self, session: str = "isnet-general-use") -> None:
        """Open a session; rembg fetches its weights on first use.

        Raises:
            InputError: The session is not one of `SESSIONS`.
            MissingExtraError: rembg or onnxruntime is not installed.
            ModelError: The weights are not there and cannot be fetched.
        """
        if session not in SESSIONS:
            raise InputError(f'Unknown rembg session "{session[:40]}". Known: {", ".join(SESSIONS)}.')
        if find_spec("onnxruntime") is None or find_spec("rembg") is None:
            raise MissingExtraError("rembg", "The rembg cut-out")
        self.session = self._open(session)

    @staticmethod
    def _open(session: str) -> Any:
        from rembg import new_session

        try:
            return new_session(session)
        except Exception as error:  # rembg and its downloader raise many kinds
            raise ModelError(
                f'The rembg model "{session}" is not on this machine and could not be fetched '
                f"({type(error).__name__}). Go online once, or use the deeplab back-end."
            ) from error

    def predict_alpha(self, pixels: Pixels) -> Alpha:
        """Return alpha float32 [H, W] in [0, 1] for RGB uint8 [H, W, 3]."""
        masks = self.session.predict(PILImage.fromarray(pixels))
        mask = masks[0].convert("L").resize((pixels.shape[1], pixels.shape[0]), PILImage.Resampling.LANCZOS)
        alpha: Alpha = np.asarray(mask).astype(np.float32) / np.float32(255)
        return alpha
