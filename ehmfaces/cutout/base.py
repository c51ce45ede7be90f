"""What a cut-out back-end is, the table of them, and the whole job of cutting a person out.

Owns the order predict -> refine -> clean colours. Does not know any back-end's network.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from PIL import Image as PILImage

from ehmfaces.cutout.matting import decontaminate, refine_alpha, solve_known_background
from ehmfaces.errors import InputError
from ehmfaces.types import Alpha, Image, Pixels

BACKENDS: Mapping[str, str] = {
    "deeplab": "ehmfaces.cutout.deeplab_backend:DeepLabBackend",
    "rembg": "ehmfaces.cutout.rembg_backend:RembgBackend",
}


class CutoutBackend(Protocol):
    """Finds the person in a picture."""

    name: str

    def predict_alpha(self, pixels: Pixels) -> Alpha:
        """Return alpha float32 [H, W] in [0, 1] for RGB uint8 [H, W, 3]."""
        ...


def load_cutout_backend(name: str = "deeplab", **options: Any) -> CutoutBackend:
    """Load a back-end by name.

    Args:
        name: A key of `BACKENDS`.
        options: For the back-end's constructor.

    Raises:
        InputError: The name is unknown.
        MissingExtraError: Its packages are not installed.
        ModelError: Its weights are not there.
    """
    if name not in BACKENDS:
        raise InputError(
            f'Unknown cut-out backend "{name[:40]}". Known: {", ".join(BACKENDS)}. '
            'Install rembg with: pip install "ehmfaces[rembg]"'
        )
    module, _, class_name = BACKENDS[name].partition(":")
    return cast(CutoutBackend, getattr(import_module(module), class_name)(**options))


def cut_out(
    image: Image, backend: CutoutBackend, background_color: tuple[int, int, int] | None = None
) -> Image:
    """Cut the person out of a picture.

    Args:
        image: RGB; or RGBA, which keeps what was already transparent.
        backend: Finds the person.
        background_color: The plain colour behind the person when it is known, 0 to 255.

    Returns:
        RGBA of the same size, straight alpha, without the background's colour in the edge.
    """
    pixels = np.asarray(image.convert("RGB"))
    alpha = backend.predict_alpha(pixels)
    if background_color is not None:
        foreground, alpha = solve_known_background(pixels, alpha, background_color)
    else:
        alpha = refine_alpha(pixels, alpha)
        foreground = decontaminate(pixels, alpha)
    if image.mode == "RGBA":
        alpha = np.minimum(alpha, np.asarray(image)[..., 3].astype(np.float32) / 255)
    opacity = np.rint(alpha * 255).astype(np.uint8)
    return PILImage.fromarray(np.dstack([foreground, opacity]))
