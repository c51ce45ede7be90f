"""Whether two warped faces go together: seams, hair over the forehead, doubled brows, bright patches.

Owns the checks, their limits and their reason codes. Does not know how faces are warped or paired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ehmfaces.types import FloatArray

Reason = Literal["shape", "seam", "fringe", "doubled-brow", "bright-patch"]
REASONS: tuple[Reason, ...] = ("shape", "seam", "fringe", "doubled-brow", "bright-patch")

# Indices into the 478 points of the MediaPipe face mesh.
BROW_TOPS = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))
EYE_TOPS = ((33, 160, 159, 158, 133), (263, 387, 386, 385, 362))

SEAM_LIMIT_L = 10.5
FRINGE_LIMIT_L = 13.5
BRIGHT_LIMIT_L = 8.0


@dataclass(frozen=True)
class Rejection:
    """A pair that gave no plausible portrait, and why."""

    reason: Reason
    value: float
    limit: float


def check_quality(
    lab_a: npt.NDArray[np.float32],
    lab_b: npt.NDArray[np.float32],
    matched: npt.NDArray[np.float32],
    mask: npt.NDArray[np.float32],
    target: npt.NDArray[np.float64],
) -> Rejection | None:
    """Return why the two warped faces do not go together, or None.

    Args:
        lab_a: CIELAB of A, float32 [S, S, 3].
        lab_b: CIELAB of B before its light was matched.
        matched: CIELAB of B after.
        mask: Inner face, float32 [S, S] in [0, 1].
        target: Landmarks of the common shape, [478, 2].
    """
    for reason, value, limit in _measure(lab_a, lab_b, matched, mask, target):
        if value > limit:
            return Rejection(reason, value, limit)
    return None


def _measure(
    lab_a: npt.NDArray[np.float32],
    lab_b: npt.NDArray[np.float32],
    matched: npt.NDArray[np.float32],
    mask: npt.NDArray[np.float32],
    target: npt.NDArray[np.float64],
) -> Iterator[tuple[Reason, float, float]]:
    ring = (mask > 0.1) & (mask < 0.9)
    gap = np.abs(lab_a[..., 0] - matched[..., 0])
    forehead = (mask > 0.1) & (np.arange(mask.shape[0])[:, None] < brow_top(target))
    yield "seam", _mean(gap, ring), SEAM_LIMIT_L
    local: npt.NDArray[np.float32] = blur_widely(lab_a - matched, 0.02 * mask.shape[0])
    strange = np.abs(local[..., 0]) + 0.5 * np.hypot(local[..., 1], local[..., 2])
    yield "fringe", _percentile(strange, forehead, 95), FRINGE_LIMIT_L
    inner = mask > 0.5
    most = max(_percentile(lab[..., 0], inner, 99) for lab in (lab_a, lab_b))
    yield "bright-patch", _percentile(matched[..., 0], inner, 99.5) - most, BRIGHT_LIMIT_L
    mixed = lab_a[..., 0] * (1 - mask) + matched[..., 0] * mask
    yield "doubled-brow", float(count_dark_bands(mixed, target)), 1.0


def _mean(values: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def _percentile(values: FloatArray, where: npt.NDArray[np.bool_], percent: float) -> float:
    return float(np.percentile(values[where], percent)) if where.any() else 0.0


def count_dark_bands(
    lightness: npt.NDArray[np.float32], target: npt.NDArray[np.float64], depth_l: float = 9.0
) -> int:
    """Count the dark bands above an eye; 1 is a brow, 2 a brow and what was left of another.

    Args:
        lightness: L* [S, S].
        target: Landmarks [478, 2].
        depth_l: How much darker than its surroundings a band must be.

    Returns:
        The greater count of the two sides, each the median over three columns.
    """
    size = lightness.shape[0]
    counts = []
    for brow, eye in zip(BROW_TOPS, EYE_TOPS, strict=True):
        per_column = []
        for brow_point, eye_point in zip(brow[1:4], eye[1:4], strict=True):
            x = int(np.clip(np.rint(target[brow_point, 0]), 1, size - 2))
            top = int(max(0, target[brow_point, 1] - 0.09 * size))
            bottom = int(target[eye_point, 1] - 0.025 * size)
            column = lightness[top : max(bottom, top + 1), x - 1 : x + 2].mean(axis=1)
            per_column.append(_count_valleys(column, depth_l))
        counts.append(int(np.median(per_column)))
    return max(counts)


def _count_valleys(values: FloatArray, depth: float) -> int:
    """Count the minima that are `depth` below a higher point on both sides."""
    count, high, low, is_falling = 0, -np.inf, np.inf, False
    for value in values:
        if is_falling:
            low = min(low, float(value))
            if value > low + depth:
                count, high, is_falling = count + 1, float(value), False
        else:
            high = max(high, float(value))
            if value < high - depth:
                low, is_falling = float(value), True
    return count


def brow_top(target: npt.NDArray[np.float64]) -> float:
    """Return the y of the highest brow point, in pixels."""
    return float(target[[index for side in BROW_TOPS for index in side], 1].min())


def blur_widely(values: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Blur widely: through a quarter-size copy, which nobody can tell at these widths."""
    import cv2

    size = values.shape[0]
    small = cv2.resize(values, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    wide: npt.NDArray[np.float32] = cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return wide
