"""How good an alpha or a cut-out is. Math on arrays only.

Owns IoU, mean differences and the rim error. Does not know who made the alpha.
"""

import numpy as np
import numpy.typing as npt

from ehmfaces.types import Alpha, Pixels


def iou(alpha: Alpha, truth: Alpha, threshold: float = 0.5) -> float:
    """Return intersection over union of the pixels above the threshold; 1 when both are empty."""
    a, b = alpha > threshold, truth > threshold
    union = int((a | b).sum())
    return 1.0 if union == 0 else float((a & b).sum() / union)


def mean_difference(alpha: Alpha, truth: Alpha) -> float:
    """Return the mean absolute difference of two alphas, 0 to 1 (SAD divided by the number of pixels)."""
    return float(np.abs(alpha - truth).mean())


def edge_band(truth: Alpha, radius_px: int = 2) -> npt.NDArray[np.bool_]:
    """Return the pixels within `radius_px` (in squares) of both person and background."""
    person, empty = truth > 0.5, truth <= 0.5
    for _ in range(radius_px):
        person, empty = _grow(person), _grow(empty)
    band: npt.NDArray[np.bool_] = person & empty
    return band


def _grow(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(region, 1, mode="edge")
    grown = np.zeros_like(region)
    for y in range(3):
        for x in range(3):
            grown |= padded[y : y + region.shape[0], x : x + region.shape[1]]
    return grown


def rim_error(
    foreground: Pixels,
    alpha: Alpha,
    true_foreground: Pixels,
    true_alpha: Alpha,
    color: tuple[int, int, int],
) -> float:
    """Return the mean absolute colour difference at the edge when both cut-outs lie on a colour.

    Args:
        foreground: RGB uint8 [H, W, 3].
        alpha: float32 [H, W].
        true_foreground: RGB uint8 [H, W, 3].
        true_alpha: float32 [H, W].
        color: Background, 0 to 255.

    Returns:
        0 to 255.
    """
    band = edge_band(true_alpha)
    made = _over(foreground, alpha, color)[band]
    true = _over(true_foreground, true_alpha, color)[band]
    return float(np.abs(made - true).mean()) if len(made) else 0.0


def _over(foreground: Pixels, alpha: Alpha, color: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    a = alpha[..., None]
    over: npt.NDArray[np.float32] = foreground * a + np.array(color, np.float32) * (1 - a)
    return over
