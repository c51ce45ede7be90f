"""Names for the types that cross file borders. Owns no behaviour."""

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

Image: TypeAlias = PILImage.Image
Pixels: TypeAlias = npt.NDArray[np.uint8]  # [H, W, 3] or [H, W, 4], sRGB, straight alpha
Alpha: TypeAlias = npt.NDArray[np.float32]  # [H, W], 0 = background, 1 = person
FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Seed: TypeAlias = int  # 0 to 2**32 - 1

NoiseMode = Literal["const", "random", "none"]
LatentSpace = Literal["z", "w", "w_plus"]
PngSize = Literal["full", "small", "palette"]
